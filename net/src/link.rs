//! A session over a wire.
//!
//! Any thread sends; the thread that has an answer writes it itself, because waking a runtime costs more than a write.
//! One task, [`Link::run`], reads, writes what the wire had no room for, and keeps time. The reading half of the session
//! is that task's own; the writing half is behind a lock that is held for a write that does not wait, never longer.

mod end;
mod run;

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, ThreadId},
    time::Duration,
};

use distfun_core::payload::{Section, Spares};
use tokio::{sync::Notify, time::Instant};

pub use end::LinkEnd;

use crate::{
    message::Message,
    session::{Health, Reader, Session, SessionError, SessionLimits, StreamId, Writer},
    transport::Wire,
};

/// What one call of [`Link::send`] writes at most; the rest is the task's.
const WRITE_BYTES: usize = 1 << 20;

/// How long a message that may wait for the next one does so, about.
const MOMENT: Duration = Duration::from_millis(1);

/// How long a goodbye may take to leave.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);

/// A connection to a peer that is known. It ends by itself ([`run`](Self::run) says why) or by [`close`](Self::close);
/// then nothing can be sent any more, and nothing that was given to it is kept.
pub struct Link {
    wire: Arc<dyn Wire>,
    origin: Instant,
    writing: Mutex<Writing>,
    /// Until the task takes it.
    reader: Mutex<Option<Reader>>,
    /// Memory for what comes.
    spares: Mutex<Weak<Mutex<Spares>>>,
    /// Tells the task that [`Writing`] is not as it left it.
    changed: Notify,
}

/// What is left to the task, in no order: to end the link, to wait for room, to ask for credit.
type Todo = [bool; 3];

/// What is behind the lock.
#[derive(Debug)]
struct Writing {
    writer: Writer,
    /// The wire had no room; the task waits for it.
    is_full: bool,
    /// Nothing that was written waits in the wire.
    is_flushed: bool,
    /// What the task knows that it has to do, or was just told.
    told: Todo,
    /// The thread in which messages are being delivered: what it sends is written when it is through.
    delivers_in: Option<ThreadId>,
    /// All that is queued may wait for what is sent next, until then.
    rests: Option<Duration>,
    /// Why the task is to end the link.
    end: Option<LinkEnd>,
    /// Until when a goodbye may leave.
    closes: Option<Duration>,
}

impl Link {
    /// A session over `wire`, as whose peer someone is known. Both sides have the same limits.
    #[must_use]
    pub fn new(wire: Arc<dyn Wire>, limits: SessionLimits) -> Arc<Self> {
        let (reader, writer) = Session::new(limits, Duration::ZERO).split();
        let writing = Writing {
            writer,
            is_full: false,
            is_flushed: true,
            told: Todo::default(),
            delivers_in: None,
            rests: None,
            end: None,
            closes: None,
        };
        Arc::new(Self {
            wire,
            origin: Instant::now(),
            writing: Mutex::new(writing),
            reader: Mutex::new(Some(reader)),
            spares: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Sends a message, from any thread. What the wire has room for is written before this returns, up to a megabyte;
    /// it never waits for more. An `Ok` does not mean that it arrives. What is sent while a message is
    /// [delivered](Self::run) is written when the messages that came together are.
    ///
    /// # Errors
    /// It can't be sent; see [`SessionError`]. If the peer does not read, the link ends.
    pub fn send(&self, message: &Message, sections: Vec<Section>) -> Result<StreamId, SessionError> {
        let mut writing = self.writing();
        writing.rests = None;
        let sent = writing.send(message, sections);
        self.write_through(&mut writing);
        sent
    }

    /// Sends a message that nobody waits for: it is written with what is sent next, which keeps its place behind it. If
    /// nothing is, it goes a millisecond after the [delivery](Self::run) in which it was sent, or with the next
    /// heartbeat: waking the task for it would cost more than a write.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub fn send_idly(&self, message: &Message) -> Result<(), SessionError> {
        let mut writing = self.writing();
        if !writing.writer.wants_to_write() {
            writing.rests = Some(self.now() + MOMENT);
        }
        let sent = writing.send(message, Vec::new());
        self.write_through(&mut writing);
        sent.map(|_| ())
    }

    /// Sends many messages with one write, if they are small. The result tells which can't be sent.
    ///
    /// # Errors
    /// As for [`send`](Self::send), for each by itself.
    pub fn send_all<'m>(
        &self,
        messages: impl IntoIterator<Item = (&'m Message, Vec<Section>)>,
    ) -> Vec<Result<StreamId, SessionError>> {
        let mut writing = self.writing();
        writing.rests = None;
        let sent = messages.into_iter().map(|(message, sections)| writing.send(message, sections)).collect();
        self.write_through(&mut writing);
        sent
    }

    /// See [`Writer::abandon`].
    pub fn abandon(&self, stream: StreamId) -> bool {
        let mut writing = self.writing();
        writing.rests = None;
        let is_cut = writing.writer.abandon(stream);
        self.write_through(&mut writing);
        is_cut
    }

    /// Takes note that bytes of an [`Incoming`](crate::session::Incoming) are let go of. The peer learns of it with
    /// what is sent next, or at once if it may be waiting: so call it before the answer is sent.
    pub fn consumed(&self, bytes: u64) {
        let mut writing = self.writing();
        if bytes > 0 {
            writing.rests = None; // the peer may wait for it
        }
        writing.writer.consumed(bytes);
        self.write_through(&mut writing);
    }

    /// Reads large sections of the messages that come next into memory of these, as long as somebody has them.
    pub fn read_into(&self, spares: &Arc<Mutex<Spares>>) {
        *self.spares.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(spares);
    }

    /// Says goodbye and ends the link: messages that were sent still go, sections do not.
    pub fn close(&self, reason: &str) {
        let mut writing = self.writing();
        if writing.closes.is_none() {
            writing.closes = Some(self.now() + GOODBYE_PATIENCE);
            writing.writer.end(reason);
            writing.rests = None;
            self.write_through(&mut writing);
        }
        let is_said = writing.is_flushed && !writing.writer.wants_to_write();
        drop(writing);
        self.changed.notify_one();
        if is_said && self.reader.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            // No task has begun that would.
            self.wire.shut();
        }
    }

    /// Whether all that was sent is with the system, which carries on by itself.
    #[must_use]
    pub fn is_written(&self) -> bool {
        let Writing { writer, is_flushed, .. } = &*self.writing();
        *is_flushed && !writer.wants_to_write() && !writer.waits_for_credit()
    }

    /// What is known of the peer.
    #[must_use]
    pub fn health(&self) -> Health {
        self.writing().writer.health(self.now())
    }

    /// Smoothed time from a question to its answer, once there was one.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.writing().writer.round_trip()
    }

    /// The other side, for people.
    #[must_use]
    pub fn peer(&self) -> String {
        self.wire.peer()
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        // A panic can't happen while it is locked; if it does, the connection is of more use than a second panic.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what the wire takes; what is left, the task is told of.
    fn write_through(&self, writing: &mut Writing) {
        if writing.delivers_here() {
            return;
        }
        writing.write(&*self.wire);
        let todo = writing.todo();
        if todo.iter().zip(writing.told).any(|(todo, told)| *todo && !told) {
            writing.told = todo;
            self.changed.notify_one();
        }
    }
}

impl Writing {
    fn delivers_here(&self) -> bool {
        self.delivers_in.is_some_and(|thread| thread == thread::current().id())
    }

    /// Whether something is to be written, or at least sent, now.
    fn wants_to_write(&self) -> bool {
        !self.is_flushed || self.has_words()
    }

    fn has_words(&self) -> bool {
        self.rests.is_none() && self.writer.wants_to_write()
    }

    fn send(&mut self, message: &Message, sections: Vec<Section>) -> Result<StreamId, SessionError> {
        let sent = self.writer.send(message, sections);
        if let Err(error @ SessionError::PeerDoesNotRead { .. }) = &sent {
            self.end.get_or_insert_with(|| LinkEnd::Broken(error.clone()));
        }
        sent
    }

    /// Writes until the wire is full, or for long enough.
    fn write(&mut self, wire: &dyn Wire) {
        let mut written = 0;
        while written < WRITE_BYTES && !self.is_full && self.end.is_none() && self.has_words() {
            let result = wire.try_write_vectored(&self.writer.outgoing());
            match result {
                Ok(0) => self.end = Some(LinkEnd::Io(io::ErrorKind::WriteZero.into())),
                Ok(bytes) => {
                    self.writer.wrote(bytes);
                    written += bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_full = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.end = Some(LinkEnd::Io(error)),
            }
        }
        self.is_flushed = !self.is_full && self.end.is_none() && self.flush(wire);
    }

    fn flush(&mut self, wire: &dyn Wire) -> bool {
        match wire.try_flush() {
            Ok(()) => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_full = true,
            Err(error) => self.end = Some(LinkEnd::Io(error)),
        }
        false
    }

    fn todo(&self) -> Todo {
        [self.end.is_some(), self.wants_to_write(), self.writer.waits_for_credit()]
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("peer", &self.peer()).finish_non_exhaustive()
    }
}
