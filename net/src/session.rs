//! What one side of a connection does once both know who the other is, without sockets, clock or threads.
//!
//! A session turns messages into bytes and bytes into messages. It knows nothing of what they mean, except of those
//! that are about the connection itself:
//!
//! - **Order of what is written.** Messages go before bulk sections, also between two pieces of one section; streams of
//!   sections take turns, a piece each. So a message with sections may be overtaken by any message sent later; messages
//!   without sections keep their order among each other, and so do the beginnings of streams.
//! - **Credit.** Messages with sections that the other side has not let go of weigh at most
//!   [`window_bytes`](SessionLimits::window_bytes) together. One that is heavier goes when nothing else is out. What
//!   has to wait begins in the order in which it was sent.
//! - **Memory.** A length that a peer announces allocates nothing: sections grow as their bytes arrive. What is queued
//!   for a peer that does not read is bounded, and so is what has to be answered at its wish.
//! - **Heartbeats.** Each side says something every half second. See [`Health`].
//!
//! [`Session`] is the whole; it splits into a [`Reader`] and a [`Writer`], so that one thread may read while others
//! write. What the reader learns that concerns the writer is a [`Heard`].

mod assembly;
mod error;
mod heartbeat;
mod queue;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

use std::{io::IoSlice, time::Duration};

use distfun_core::payload::{RawVec, Section};
use smallvec::SmallVec;

pub use error::SessionError;
pub use heartbeat::Health;
pub use reader::{Heard, Reader};
pub use writer::Writer;

use crate::message::Message;

/// What is written at once.
pub type Slices<'a> = SmallVec<[IoSlice<'a>; MAX_SLICES]>;

/// Most slices of one write: with sections of 16 KiB that is a megabyte.
pub const MAX_SLICES: usize = 64;

/// What a message with sections weighs at least, whatever is in it: what it takes to remember one that is unfinished.
const STREAM_WEIGHT: u64 = 512;

/// What a section weighs beside its bytes.
const SECTION_WEIGHT: u64 = 64;

/// A message on its way out, by the number of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub(crate) u64);

impl StreamId {
    /// Of messages without sections, which can't be abandoned.
    pub const NONE: Self = Self(0);
}

/// What a session may hold, and how patient it is. Both sides of a connection have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// How much, in messages with sections, may be out until the other side lets go of some of it. Default: 64 MiB.
    /// Less than a round trip's worth slows a connection down; the receiver may need as much memory.
    pub window_bytes: u64,
    /// Largest message with sections, in bytes of its sections. Default: 1 GiB.
    pub max_item_bytes: u64,
    /// What may be queued in messages (sections not counted) for a peer that does not read. Default: 64 MiB.
    pub max_queued_bytes: usize,
    /// How often each side says something. Default: 500 ms.
    pub heartbeat: Duration,
    /// The peer is suspect after so long without a byte from it. Default: 1.5 s, three heartbeats.
    pub suspect_after: Duration,
    /// The peer is dead after so long without a byte from it. Default: 3 s. Too short, and a busy machine is taken for
    /// a dead one.
    pub dead_after: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            window_bytes: 64 << 20,
            max_item_bytes: 1 << 30,
            max_queued_bytes: 64 << 20,
            heartbeat: Duration::from_millis(500),
            suspect_after: Duration::from_millis(1500),
            dead_after: Duration::from_secs(3),
        }
    }
}

/// A message that arrived, with all its sections.
#[derive(Debug, PartialEq)]
#[must_use = "its weight is to be given back with `consumed` once it is let go of"]
pub struct Incoming {
    /// The message.
    pub message: Message,
    /// What came with it.
    pub sections: Vec<RawVec>,
    /// What it weighs: to be given to [`consumed`](Session::consumed), in parts or as a whole, once its sections are
    /// dropped. 0 without sections; else somewhat more than their bytes.
    pub bytes: u64,
}

/// One side of a connection. See the [module](self).
#[derive(Debug)]
pub struct Session {
    reader: Reader,
    writer: Writer,
}

impl Session {
    /// A session that begins at `now`, which is a time since any moment that the caller likes.
    #[must_use]
    pub fn new(limits: SessionLimits, now: Duration) -> Self {
        let writer = Writer::new(limits, now);
        Self { reader: Reader::new(limits, writer.held()), writer }
    }

    /// The side that reads and the side that writes. Whoever has them hands what is
    /// [heard](Reader::take_heard) by the one to [the other](Writer::hear).
    #[must_use]
    pub fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }

    /// See [`Writer::send`].
    ///
    /// # Errors
    /// See there.
    pub fn send(&mut self, message: &Message, sections: Vec<Section>) -> Result<StreamId, SessionError> {
        self.writer.send(message, sections)
    }

    /// See [`Writer::abandon`].
    pub fn abandon(&mut self, stream: StreamId) -> bool {
        self.writer.abandon(stream)
    }

    /// See [`Writer::consumed`].
    pub fn consumed(&mut self, bytes: u64) {
        self.writer.consumed(bytes);
    }

    /// See [`Reader::incoming`].
    pub fn incoming(&mut self) -> &mut [u8] {
        self.reader.incoming()
    }

    /// See [`Reader::received`].
    ///
    /// # Errors
    /// See there.
    pub fn received(&mut self, bytes: usize, now: Duration) -> Result<(), SessionError> {
        self.reader.received(bytes)?;
        self.writer.hear(self.reader.take_heard(), now)
    }

    /// See [`Reader::next`].
    // Not an iterator: it goes on after `None`.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Incoming> {
        self.reader.next()
    }

    /// See [`Writer::outgoing`].
    pub fn outgoing(&mut self) -> Slices<'_> {
        self.writer.outgoing()
    }

    /// See [`Writer::wrote`].
    pub fn wrote(&mut self, bytes: usize) {
        self.writer.wrote(bytes);
    }

    /// See [`Writer::wants_to_write`].
    #[must_use]
    pub fn wants_to_write(&self) -> bool {
        self.writer.wants_to_write()
    }

    /// See [`Writer::tick`].
    pub fn tick(&mut self, now: Duration) -> Health {
        self.writer.tick(now)
    }

    /// See [`Writer::next_tick`].
    #[must_use]
    pub fn next_tick(&self, now: Duration) -> Duration {
        self.writer.next_tick(now)
    }

    /// See [`Writer::round_trip`].
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.writer.round_trip()
    }
}

/// What a message counts against the window: what it takes to hold it. None if no number is that large.
fn weight(frame_bytes: usize, section_count: usize, section_bytes: u64) -> Option<u64> {
    section_bytes.checked_add(STREAM_WEIGHT + frame_bytes as u64 + SECTION_WEIGHT * section_count as u64)
}

/// Whether something of this weight may begin while `out` is out: it fits, or it is alone.
fn may_begin(out: u64, weight: u64, window: u64) -> bool {
    out == 0 || out.checked_add(weight).is_some_and(|total| total <= window)
}
