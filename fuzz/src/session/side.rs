//! One of the two sessions, and what is known about it.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Read,
    sync::LazyLock,
    time::Duration,
};

use bytes::Bytes;
use distfun_core::payload::Section;
use distfun_net::{
    message::{Chunk, Message},
    session::{Incoming, Reader, Session, SessionLimits, StreamId, Writer},
};

use super::{is_fair, size};
use crate::{input::Input, samples::ELEMENTS};

/// What is sent of each side, in bytes of sections and of messages: enough for all that can happen.
const MAX_SENT_BYTES: usize = 2 << 20;

/// What sections are cut from: an odd period, so that no piece looks like another.
static PATTERN: LazyLock<Bytes> =
    LazyLock::new(|| (0..2 << 20).map(|at: u32| (at % 251) as u8).collect::<Vec<_>>().into());

pub(super) struct Side {
    reader: Reader,
    writer: Writer,
    limits: SessionLimits,
    /// What it wrote that the other has not read.
    pub(super) wire: VecDeque<u8>,
    pub(super) wrote: usize,
    sent: Vec<Sent>,
    sent_bytes: usize,
    has_ended: bool,
    /// What came, with its weight as far as it is not let go of.
    came: Vec<(Incoming, u64)>,
    numbers: BTreeMap<u64, usize>,
    goodbyes: usize,
}

/// A message that was taken.
struct Sent {
    stream: StreamId,
    message: Message,
    sections: Vec<Section>,
    arrives: Arrives,
}

#[derive(Clone, Copy, PartialEq)]
enum Arrives {
    Surely,
    Never,
    Perhaps,
}

impl Side {
    pub(super) fn new(limits: SessionLimits) -> Self {
        let (reader, writer) = Session::new(limits, Duration::ZERO).split();
        Self {
            reader,
            writer,
            limits,
            wire: VecDeque::new(),
            wrote: 0,
            sent: Vec::new(),
            sent_bytes: 0,
            has_ended: false,
            came: Vec::new(),
            numbers: BTreeMap::new(),
            goodbyes: 0,
        }
    }

    pub(super) fn send_plain(&mut self, input: &mut Input<'_>) {
        let bytes = size(input.short());
        self.send(bytes.min(200_000), Vec::new());
    }

    pub(super) fn send_sections(&mut self, input: &mut Input<'_>, limits: SessionLimits) {
        let count = input.byte();
        // Seldom many: each takes as much work as a large one.
        let count = if count < 240 { 1 + usize::from(count % 8) } else { 1 + usize::from(count - 240) * 60 };
        let mut sections = Vec::new();
        for index in 0..count {
            let (element, bytes) = (ELEMENTS[usize::from(input.byte()) % ELEMENTS.len()], size(input.short()));
            let bytes = bytes / element.size() * element.size();
            if bytes as u64 > limits.max_item_bytes + 100 {
                return;
            }
            let from = (self.sent.len() * 7 + index) % 1000;
            sections.push(Section { element, bytes: PATTERN.slice(from..from + bytes) });
        }
        self.send(usize::from(count as u8), sections);
    }

    fn send(&mut self, head_bytes: usize, sections: Vec<Section>) {
        let bytes = head_bytes + sections.iter().map(|section| section.bytes.len()).sum::<usize>();
        if self.sent_bytes + bytes > MAX_SENT_BYTES {
            return;
        }
        let head = PATTERN[..head_bytes].to_vec();
        let call = self.sent.len() as u64;
        let message = Message::Chunk(Chunk {
            lane: 0,
            turn: 0,
            call,
            start: 0,
            count: 0,
            attempt: 0,
            budget_us: 0,
            is_for_gpu: false,
            head,
        });
        match self.writer.send(&message, sections.clone()) {
            Ok(stream) => {
                assert!(!self.has_ended);
                assert_eq!(stream == StreamId::NONE, sections.is_empty());
                self.sent_bytes += bytes;
                self.sent.push(Sent { stream, message, sections, arrives: Arrives::Surely });
            }
            Err(error) => assert!(is_fair(&error), "{error}"),
        }
    }

    /// Abandons one of the last that were sent.
    pub(super) fn abandon(&mut self, back: usize) {
        let Some(sent) = self.sent.iter_mut().rev().nth(back) else { return };
        let is_cut = self.writer.abandon(sent.stream);
        assert!(!is_cut || sent.stream != StreamId::NONE && sent.arrives != Arrives::Never);
        if is_cut {
            sent.arrives = Arrives::Never;
        }
    }

    /// Lets go of at most `max` of the weight of something that came.
    pub(super) fn let_go(&mut self, index: usize, max: u64) {
        if let Some(index) = index.checked_rem(self.came.len()) {
            let left = &mut self.came[index].1;
            let now = max.min(*left);
            *left -= now;
            self.writer.consumed(now);
        }
    }

    pub(super) fn let_go_of_all(&mut self) {
        let all: u64 = self.came.iter_mut().map(|(_, left)| std::mem::take(left)).sum();
        self.writer.consumed(all);
    }

    pub(super) fn hear(&mut self, now: Duration) {
        self.writer.hear(self.reader.take_heard(), now).expect("an honest peer");
    }

    pub(super) fn tick(&mut self, now: Duration) {
        self.writer.tick(now);
        assert!(self.writer.next_tick(now) >= now);
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.writer.waits_for_credit()
    }

    /// Says goodbye. What has sections arrives if it was written by then.
    pub(super) fn end(&mut self) {
        self.writer.end("enough");
        self.has_ended = true;
        let open = self.sent.iter_mut().filter(|sent| sent.arrives == Arrives::Surely && sent.stream != StreamId::NONE);
        open.for_each(|sent| sent.arrives = Arrives::Perhaps);
    }

    fn take(&mut self) {
        while let Some(incoming) = self.reader.next() {
            assert_eq!(self.goodbyes, 0, "goodbye comes last");
            match &incoming.message {
                Message::Chunk(chunk) => *self.numbers.entry(chunk.call).or_default() += 1,
                Message::Goodbye { .. } => self.goodbyes += 1,
                other => panic!("nobody sent {other:?}"),
            }
            let weight = incoming.bytes;
            self.came.push((incoming, weight));
        }
        let heavy = self.came.iter().filter(|(_, left)| *left > 0);
        let held: u64 = heavy.clone().map(|(_, left)| left).sum();
        assert!(held <= self.limits.window_bytes || heavy.count() == 1, "{held} bytes are out");
    }

    /// That what this side sent is what came to the other.
    pub(super) fn check_arrived_at(&self, other: &Side) {
        assert!(self.wire.is_empty());
        assert_eq!(other.goodbyes, usize::from(self.has_ended));
        let mut plain = Vec::new();
        for (incoming, _) in &other.came {
            let Message::Chunk(chunk) = &incoming.message else { continue };
            let sent = &self.sent[chunk.call as usize];
            assert!(incoming.message == sent.message);
            assert_eq!(incoming.sections.len(), sent.sections.len());
            for (came, sent) in incoming.sections.iter().zip(&sent.sections) {
                assert_eq!(came.element(), sent.element);
                assert!(came.bytes() == &sent.bytes[..], "a section has changed");
            }
            if sent.sections.is_empty() {
                plain.push(chunk.call);
            }
        }
        assert!(plain.is_sorted(), "messages without sections keep their order");
        for (call, sent) in (0..).zip(&self.sent) {
            let times = other.numbers.get(&call).copied().unwrap_or_default();
            let is_right = match sent.arrives {
                Arrives::Surely => times == 1,
                Arrives::Never => times == 0,
                Arrives::Perhaps => times <= 1,
            };
            assert!(is_right, "message {call} came {times} times");
        }
    }
}

/// Writes up to `max` bytes onto the wire.
pub(super) fn write(side: &mut Side, max: usize) {
    let mut written = 0;
    for slice in side.writer.outgoing() {
        let part = &slice[..slice.len().min(max - written)];
        side.wire.extend(part);
        written += part.len();
    }
    side.writer.wrote(written);
    side.wrote += written;
}

/// Lets `to` read up to `max` bytes of what the other wrote.
pub(super) fn deliver(sides: &mut [Side; 2], to: usize, mut max: usize) {
    let [one, other] = sides;
    let (from, to) = if to == 1 { (one, other) } else { (other, one) };
    while max > 0 && !from.wire.is_empty() {
        let place = to.reader.incoming();
        assert!(!place.is_empty());
        let count = place.len().min(max);
        let count = from.wire.read(&mut place[..count]).expect("memory can be read");
        max -= count;
        to.reader.received(count).expect("an honest peer");
        to.take();
    }
}
