//! From messages to bytes, as far as the peer has room for them.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use distfun_core::payload::Section;

use super::{
    Health, Heard, SessionError, SessionLimits, Slices, StreamId, heartbeat::Heartbeat, may_begin, queue::Queue, weight,
};
use crate::{
    frame,
    message::{Message, SectionHeader},
};

/// What a message that waits for credit counts beside its bytes, in what may be queued.
const WAITING_BYTES: usize = 256;

/// The side of a session that writes. It also keeps time, because it is the one that asks whether the peer is alive.
#[derive(Debug)]
pub struct Writer {
    limits: SessionLimits,
    queue: Queue,
    /// Messages with sections that wait for credit, and what they count in what may be queued.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    last_stream: u64,
    /// Weight of what the peer has not let go of.
    out: u64,
    /// Weight of what this side has not let go of; the reader adds to it.
    held: Arc<AtomicU64>,
    /// Weight of what this side has let go of and not told.
    credit: u64,
    ping: Option<u64>,
    pong: Option<u64>,
    heartbeat: Heartbeat,
    has_ended: bool,
}

#[derive(Debug)]
struct Waiting {
    stream: u64,
    frame: Vec<u8>,
    sections: VecDeque<Bytes>,
    weight: u64,
}

impl Writer {
    pub(super) fn new(limits: SessionLimits, now: Duration) -> Self {
        Self {
            limits,
            queue: Queue::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            last_stream: 0,
            out: 0,
            held: Arc::default(),
            credit: 0,
            ping: None,
            pong: None,
            heartbeat: Heartbeat::new(limits, now),
            has_ended: false,
        }
    }

    pub(super) fn held(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.held)
    }

    /// Queues a message and its sections. It is on its way at once if it has no sections, or as soon as there is credit
    /// for them.
    ///
    /// # Errors
    /// The message is too large in one way or another, or too much is queued; it is not queued.
    pub fn send(&mut self, message: &Message, sections: Vec<Section>) -> Result<StreamId, SessionError> {
        if self.has_ended {
            return Err(SessionError::Ended);
        }
        let bytes = self.queue.message_bytes() + self.waiting_bytes;
        if bytes > self.limits.max_queued_bytes {
            return Err(SessionError::PeerDoesNotRead { bytes, max_queued_bytes: self.limits.max_queued_bytes });
        }
        if sections.is_empty() {
            self.queue.push_message(|run| frame::encode(message, &[], 0, run))?;
            return Ok(StreamId::NONE);
        }
        let headers = sections.iter().map(header).collect::<Result<Vec<_>, _>>()?;
        let bytes = sections.iter().map(|section| section.bytes.len() as u64).sum();
        let max_item_bytes = self.limits.max_item_bytes;
        if bytes > max_item_bytes {
            return Err(SessionError::ItemTooLarge { bytes, max_item_bytes });
        }
        let stream = self.last_stream + 1;
        let mut frame = Vec::new();
        frame::encode(message, &headers, stream, &mut frame)?;
        let weight =
            weight(frame.len(), sections.len(), bytes).ok_or(SessionError::ItemTooLarge { bytes, max_item_bytes })?;
        self.last_stream = stream;
        self.waiting_bytes += WAITING_BYTES + frame.len();
        let sections = sections.into_iter().map(|section| section.bytes).filter(|bytes| !bytes.is_empty()).collect();
        self.waiting.push_back(Waiting { stream, frame, sections, weight });
        self.begin_streams();
        Ok(StreamId(stream))
    }

    /// Drops what is not written of a message with sections, and with it the owners of their bytes. True if the peer
    /// will not deliver it; false if it will, because all of it is written or half-way, or small enough to travel with
    /// the messages; or if there is no such stream.
    pub fn abandon(&mut self, stream: StreamId) -> bool {
        if let Ok(index) = self.waiting.binary_search_by_key(&stream.0, |waiting| waiting.stream) {
            let waiting = self.waiting.remove(index);
            self.waiting_bytes -= waiting.map_or(0, |waiting| WAITING_BYTES + waiting.frame.len());
            self.begin_streams();
            return true;
        }
        self.queue.abandon(stream.0)
    }

    /// Takes note that bytes of [`Incoming`](super::Incoming) are let go of: the peer may send as many more.
    pub fn consumed(&mut self, bytes: u64) {
        let mut taken = 0;
        // More than there is would be a peer's undeserved credit.
        let _ = self.held.fetch_update(Relaxed, Relaxed, |held| {
            taken = bytes.min(held);
            Some(held - taken)
        });
        self.credit += taken;
    }

    /// Takes what the reader heard.
    ///
    /// # Errors
    /// The peer gave credit that it does not have. The session is over.
    pub fn hear(&mut self, heard: Heard, now: Duration) -> Result<(), SessionError> {
        if heard.anything {
            self.heartbeat.heard(now);
        }
        self.pong = heard.ping.or(self.pong);
        if let Some(sent_us) = heard.pong {
            self.heartbeat.answered(sent_us, now);
        }
        self.consumed(heard.abandoned);
        let Some(out) = self.out.checked_sub(heard.credit) else {
            return Err(SessionError::CreditUnfounded { bytes: heard.credit, out: self.out });
        };
        self.out = out;
        self.begin_streams();
        Ok(())
    }

    /// What to write next, as many bytes as one likes of it. Nothing else is to be called before
    /// [`wrote`](Self::wrote).
    pub fn outgoing(&mut self) -> Slices<'_> {
        if self.wants_to_write() && self.queue.takes_urgent() {
            let credit = std::mem::take(&mut self.credit);
            let due = [
                (credit > 0).then_some(Message::Credit { bytes: credit }),
                self.pong.take().map(|sent_us| Message::Pong { sent_us }),
                self.ping.take().map(|sent_us| Message::Ping { sent_us }),
            ];
            for message in due.iter().flatten() {
                frame::encode(message, &[], 0, self.queue.urgent()).expect("it is a few bytes long");
            }
        }
        self.queue.outgoing()
    }

    /// Takes note that the first `bytes` of [`outgoing`](Self::outgoing) were written.
    pub fn wrote(&mut self, bytes: usize) {
        self.queue.wrote(bytes);
    }

    /// Whether something should be written now. Credit alone is no reason while the peer has more than half of its
    /// window: it travels with whatever is said next, so that answers cost one write.
    #[must_use]
    pub fn wants_to_write(&self) -> bool {
        !self.queue.is_empty() || self.ping.is_some() || self.pong.is_some() || self.is_credit_urgent()
    }

    /// Whether something waits until the peer lets go of what it has.
    #[must_use]
    pub fn waits_for_credit(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Asks whether the peer is alive if it is time to, and says what is known.
    pub fn tick(&mut self, now: Duration) -> Health {
        if self.heartbeat.asks(now, self.waits_for_credit()) {
            self.ping = Some(now.as_micros() as u64);
        }
        self.health(now)
    }

    /// When [`tick`](Self::tick) is to be called next, at the latest; `now` if it is time.
    #[must_use]
    pub fn next_tick(&self, now: Duration) -> Duration {
        self.heartbeat.next(now, self.waits_for_credit())
    }

    /// What is known of the peer.
    #[must_use]
    pub fn health(&self, now: Duration) -> Health {
        self.heartbeat.health(now)
    }

    /// For how long nothing has come from the peer.
    #[must_use]
    pub fn silence(&self, now: Duration) -> Duration {
        self.heartbeat.silence(now)
    }

    /// Smoothed time from a question to its answer, once there was one. It includes what waits in buffers.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.heartbeat.round_trip()
    }

    /// Says goodbye: drops all sections, and takes nothing more.
    pub fn end(&mut self, reason: &str) {
        if self.has_ended {
            return;
        }
        self.has_ended = true;
        self.waiting.clear();
        self.queue.drop_sections();
        // Longer than anyone reads would not fit.
        let reason = reason.chars().take(4096).collect();
        let _ = self.queue.push_message(|run| frame::encode(&Message::Goodbye { reason }, &[], 0, run));
    }

    /// Drops everything, and takes nothing more.
    pub fn abort(&mut self) {
        self.has_ended = true;
        self.waiting.clear();
        self.queue = Queue::default();
        (self.ping, self.pong, self.credit) = (None, None, 0);
    }

    /// Begins what there is credit for, in the order in which it was sent: a large message is not overtaken by small
    /// ones for ever.
    fn begin_streams(&mut self) {
        while let Some(next) = self.waiting.front()
            && may_begin(self.out, next.weight, self.limits.window_bytes)
            && let Some(next) = self.waiting.pop_front()
        {
            self.out += next.weight;
            self.waiting_bytes -= WAITING_BYTES + next.frame.len();
            self.queue.push_stream(next.stream, &next.frame, next.sections);
        }
    }

    fn is_credit_urgent(&self) -> bool {
        self.credit > 0 && self.credit.saturating_add(self.held.load(Relaxed)) > self.limits.window_bytes / 2
    }
}

fn header(section: &Section) -> Result<SectionHeader, SessionError> {
    let (element, bytes) = (section.element, section.bytes.len());
    if bytes % element.size() != 0 {
        return Err(SessionError::PartialElement { element, bytes });
    }
    Ok(SectionHeader { element, count: (bytes / element.size()) as u64 })
}
