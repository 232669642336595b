//! What waits to be written, and in which order.
//!
//! Whatever was begun is finished first. Then come urgent messages (about the connection itself), then messages, then
//! pieces. A message that is queued while a piece is half-way therefore waits for that piece only.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

use super::{MAX_SLICES, Slices};
use crate::frame::{HEADER_BYTES, Header, Kind, MAX_PIECE_BYTES};

/// Messages are gathered in runs of about this size; between two runs something urgent may go.
const RUN_BYTES: usize = 64 << 10;

/// Sections that are not longer than this together are copied behind their message.
const INLINE_BYTES: usize = 4 << 10;

/// Within a piece, sections shorter than this are copied together: a slice each would cost more.
const GATHER_BYTES: usize = 2 << 10;

/// Pieces are cut when they are about to be written, no more than this ahead.
const AHEAD_BYTES: usize = 512 << 10;

#[derive(Debug, Default)]
pub(super) struct Queue {
    urgent: Run,
    messages: VecDeque<Run>,
    message_bytes: usize,
    /// An empty run, kept for its memory.
    spare: Run,
    /// Streams of which not all is cut, in the order of their turns.
    streams: VecDeque<Stream>,
    pieces: VecDeque<Piece>,
    /// What is half-way: the first run or piece of its kind.
    begun: Option<What>,
}

/// Messages, one behind the other.
#[derive(Debug, Default)]
struct Run {
    bytes: Vec<u8>,
    written: usize,
}

#[derive(Debug)]
struct Stream {
    stream: u64,
    sections: VecDeque<Bytes>,
    left: usize,
}

/// What is left of a piece.
#[derive(Debug)]
struct Piece {
    stream: u64,
    header: [u8; HEADER_BYTES],
    header_written: usize,
    /// None is empty.
    parts: VecDeque<Bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Urgent,
    Message,
    Piece,
}

impl Queue {
    /// Messages that wait, in bytes.
    pub(super) fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.front().is_none() && self.streams.is_empty()
    }

    /// Whether urgent messages may be put into [`urgent`](Self::urgent).
    pub(super) fn takes_urgent(&self) -> bool {
        self.urgent.bytes.is_empty()
    }

    pub(super) fn urgent(&mut self) -> &mut Vec<u8> {
        &mut self.urgent.bytes
    }

    /// Calls `write` to append a message.
    pub(super) fn push_message<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        if self.messages.back().is_none_or(|run| run.bytes.len() >= RUN_BYTES) {
            let spare = std::mem::take(&mut self.spare);
            self.messages.push_back(spare);
        }
        let run = self.messages.back_mut().expect("one was put there if there was none");
        let before = run.bytes.len();
        let result = write(&mut run.bytes);
        self.message_bytes += run.bytes.len() - before;
        if run.bytes.is_empty() {
            self.messages.pop_back();
        }
        result
    }

    /// Appends a message of which the frame is there already, and what follows it.
    pub(super) fn push_stream(&mut self, stream: u64, frame: &[u8], sections: VecDeque<Bytes>) {
        let left = sections.iter().map(Bytes::len).sum();
        let result: Result<(), ()> = self.push_message(|run| {
            run.extend_from_slice(frame);
            if (1..=INLINE_BYTES).contains(&left) {
                run.extend_from_slice(&piece_header(stream, left));
                sections.iter().for_each(|section| run.extend_from_slice(section));
            }
            Ok(())
        });
        result.expect("it returned Ok");
        if left > INLINE_BYTES {
            self.streams.push_back(Stream { stream, sections, left });
        }
    }

    /// Drops what is left of a stream and tells the peer; false if nothing is left, or all that is left is half-way.
    pub(super) fn abandon(&mut self, stream: u64) -> bool {
        let is_begun = self.begun == Some(What::Piece);
        let before = self.streams.len() + self.pieces.len();
        self.streams.retain(|other| other.stream != stream);
        let mut index = 0;
        self.pieces.retain_mut(|piece| {
            let is_half_way = is_begun && index == 0;
            index += 1;
            if is_half_way && piece.stream == stream {
                piece.detach();
            }
            is_half_way || piece.stream != stream
        });
        let is_cut = self.streams.len() + self.pieces.len() < before;
        if is_cut {
            // Behind the message that announced the stream, and behind the piece that is half-way.
            let result: Result<(), ()> = self.push_message(|run| {
                run.extend_from_slice(&piece_header(stream, 0));
                Ok(())
            });
            result.expect("it returned Ok");
        }
        is_cut
    }

    /// Drops everything but messages and what is half-way.
    pub(super) fn drop_sections(&mut self) {
        self.streams.clear();
        self.pieces.truncate(usize::from(self.begun == Some(What::Piece)));
        self.pieces.iter_mut().for_each(Piece::detach);
    }

    /// What to write next.
    pub(super) fn outgoing(&mut self) -> Slices<'_> {
        self.cut_pieces();
        let mut slices = Slices::new();
        let half_way = usize::from(self.begun == Some(What::Piece));
        self.pieces.iter().take(half_way).for_each(|piece| piece.slices(&mut slices));
        // No urgent message goes into the middle of another.
        let first = usize::from(self.begun == Some(What::Message));
        let runs = self.messages.iter().take(first).chain([&self.urgent]).chain(self.messages.iter().skip(first));
        for run in runs {
            push(&mut slices, &run.bytes[run.written..]);
        }
        self.pieces.iter().skip(half_way).for_each(|piece| piece.slices(&mut slices));
        slices
    }

    /// Takes note of what was written of [`outgoing`](Self::outgoing).
    pub(super) fn wrote(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let Some(what) = self.front() else { return };
            let (step, is_done) = match what {
                What::Urgent => self.urgent.wrote(bytes),
                What::Message => self.messages[0].wrote(bytes),
                What::Piece => self.pieces[0].wrote(bytes),
            };
            bytes -= step;
            self.message_bytes -= if what == What::Message { step } else { 0 };
            self.begun = (!is_done).then_some(what);
            match what {
                _ if !is_done => {}
                What::Urgent => self.urgent.clear(),
                What::Message => {
                    self.spare = self.messages.pop_front().unwrap_or_default();
                    self.spare.clear();
                }
                What::Piece => drop(self.pieces.pop_front()),
            }
        }
    }

    /// What the next byte belongs to.
    fn front(&self) -> Option<What> {
        self.begun
            .or_else(|| (!self.urgent.bytes.is_empty()).then_some(What::Urgent))
            .or_else(|| (!self.messages.is_empty()).then_some(What::Message))
            .or_else(|| (!self.pieces.is_empty()).then_some(What::Piece))
    }

    /// Cuts pieces off the streams in turn, until there is enough for a write.
    fn cut_pieces(&mut self) {
        let mut bytes: usize = self.pieces.iter().flat_map(|piece| &piece.parts).map(Bytes::len).sum();
        while bytes < AHEAD_BYTES && self.pieces.len() < MAX_SLICES / 2 {
            let Some(mut stream) = self.streams.pop_front() else { return };
            bytes += stream.left.min(MAX_PIECE_BYTES);
            self.pieces.push_back(stream.cut());
            if stream.left > 0 {
                self.streams.push_back(stream);
            }
        }
    }
}

impl Run {
    fn wrote(&mut self, bytes: usize) -> (usize, bool) {
        let step = bytes.min(self.bytes.len() - self.written);
        self.written += step;
        (step, self.written == self.bytes.len())
    }

    fn clear(&mut self) {
        self.written = 0;
        self.bytes.clear();
        // One long message is no reason to keep its memory.
        self.bytes.shrink_to(2 * RUN_BYTES);
    }
}

impl Stream {
    fn cut(&mut self) -> Piece {
        let len = self.left.min(MAX_PIECE_BYTES);
        self.left -= len;
        let mut parts = VecDeque::new();
        let mut gathered = Vec::new();
        let mut wants = len;
        while wants > 0 {
            let Some(section) = self.sections.front_mut() else { break };
            let part = section.split_to(section.len().min(wants));
            if section.is_empty() {
                self.sections.pop_front();
            }
            wants -= part.len();
            if part.len() < GATHER_BYTES {
                gathered.extend_from_slice(&part);
            } else {
                parts.extend(take_gathered(&mut gathered));
                parts.push_back(part);
            }
        }
        parts.extend(take_gathered(&mut gathered));
        Piece { stream: self.stream, header: piece_header(self.stream, len), header_written: 0, parts }
    }
}

impl Piece {
    fn slices<'a>(&'a self, slices: &mut Slices<'a>) {
        push(slices, &self.header[self.header_written..]);
        self.parts.iter().for_each(|part| push(slices, part));
    }

    fn wrote(&mut self, bytes: usize) -> (usize, bool) {
        let mut left = bytes;
        let step = left.min(HEADER_BYTES - self.header_written);
        self.header_written += step;
        left -= step;
        while let Some(part) = self.parts.front_mut() {
            let step = left.min(part.len());
            part.advance(step);
            left -= step;
            if !part.is_empty() {
                break;
            }
            // Its owner is let go of as soon as may be.
            self.parts.pop_front();
        }
        (bytes - left, self.header_written == HEADER_BYTES && self.parts.is_empty())
    }

    /// Copies what is left, so that its owners are let go of.
    fn detach(&mut self) {
        let mut copy = Vec::new();
        self.parts.drain(..).for_each(|part| copy.extend_from_slice(&part));
        self.parts.extend(take_gathered(&mut copy));
    }
}

fn piece_header(stream: u64, bytes: usize) -> [u8; HEADER_BYTES] {
    // At most MAX_PIECE_BYTES.
    Header { kind: Kind::Piece, bytes: bytes as u32, stream }.to_bytes()
}

fn take_gathered(gathered: &mut Vec<u8>) -> Option<Bytes> {
    (!gathered.is_empty()).then(|| Bytes::from(std::mem::take(gathered)))
}

fn push<'a>(slices: &mut Slices<'a>, bytes: &'a [u8]) {
    if slices.len() < MAX_SLICES && !bytes.is_empty() {
        slices.push(IoSlice::new(bytes));
    }
}
