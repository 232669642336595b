//! The task of a link.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{Arc, PoisonError},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use tokio::time::{Instant, Sleep, timeout};

use super::{Link, LinkEnd};
use crate::{
    message::Message,
    session::{Health, Incoming, Reader},
};

/// What is read, and how much delivered, before other tasks of the runtime get their turn.
const READ_BYTES: usize = 4 << 20;
const DELIVERIES: usize = 256;

/// How much more is read, in such turns, from a connection that can't be written to: what was on its way.
const LAST_TURNS: usize = 16;
const LAST_WORDS_PATIENCE: Duration = Duration::from_millis(100);

/// How far reading came.
enum Progress {
    /// The wire has nothing more for now.
    Dry,
    /// There is more.
    More,
}

/// What is to be done after a turn.
enum After {
    /// Another one, after others had theirs.
    Turn,
    /// Nothing until something happens, which is at this time at the latest.
    Wait { until: Instant, for_room: bool },
}

impl Link {
    /// Serves the link until it ends: hands every message to `deliver` (except a goodbye, which is the end), writes what
    /// [`send`](Self::send) could not, and keeps time. `deliver` should be quick, as nothing is read meanwhile; it may
    /// send. A link is run once: another run ends at once, as [`LinkEnd::ClosedHere`].
    ///
    /// # Cancel safety
    /// Dropping the future ends the link without a goodbye.
    pub async fn run(self: Arc<Self>, mut deliver: impl FnMut(Incoming) + Send) -> LinkEnd {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut reader) = reader else { return LinkEnd::ClosedHere };
        let _ends = EndsWithTask(&self);
        let mut timer = pin!(tokio::time::sleep_until(self.origin));
        loop {
            match self.turn(&mut reader, &mut deliver) {
                Ok(After::Turn) => tokio::task::yield_now().await,
                Ok(After::Wait { until, for_room }) => {
                    timer.as_mut().reset(until);
                    if let Err(error) = self.wait(timer.as_mut(), for_room).await {
                        return LinkEnd::Io(error);
                    }
                }
                Err(end) => return self.last_words(end, &mut reader, &mut deliver).await,
            }
        }
    }

    /// Reads, then writes, then looks at the clock: whoever was kept from running finds what came meanwhile before it
    /// takes the peer for dead.
    fn turn(&self, reader: &mut Reader, deliver: &mut impl FnMut(Incoming)) -> Result<After, LinkEnd> {
        let progress = self.read(reader, deliver);
        let now = self.now();
        let mut writing = self.writing();
        match progress {
            // The other side was told, and has ended it first.
            Err(_) if writing.closes.is_some() => return Err(LinkEnd::ClosedHere),
            // Says more than a write that failed.
            Err(LinkEnd::Goodbye(reason)) => return Err(LinkEnd::Goodbye(reason)),
            _ => {}
        }
        if let Some(end) = writing.end.take() {
            return Err(end);
        }
        let heard = reader.take_heard();
        if !heard.is_nothing() {
            writing.writer.hear(heard, now).map_err(LinkEnd::Broken)?;
        }
        writing.rests = writing.rests.filter(|until| *until > now);
        let progress = progress?;
        if writing.writer.tick(now) == Health::Dead {
            return Err(LinkEnd::Silent(writing.writer.silence(now)));
        }
        writing.write(&*self.wire);
        if let Some(end) = writing.end.take() {
            return Err(end);
        }
        let has_more = writing.wants_to_write();
        if let Some(closes) = writing.closes
            && (!has_more || now >= closes)
        {
            return Err(LinkEnd::ClosedHere);
        }
        writing.told = writing.todo();
        if matches!(progress, Progress::More) || (has_more && !writing.is_full) {
            return Ok(After::Turn);
        }
        let tick = writing.writer.next_tick(now);
        let until = [writing.closes, writing.rests].into_iter().flatten().fold(tick, Duration::min);
        Ok(After::Wait { until: self.origin + until, for_room: has_more })
    }

    /// Reads and delivers as much as a turn may.
    fn read(&self, reader: &mut Reader, deliver: &mut impl FnMut(Incoming)) -> Result<Progress, LinkEnd> {
        let (mut bytes, mut deliveries) = (0, 0);
        reader.read_into(self.spares.lock().unwrap_or_else(PoisonError::into_inner).clone());
        loop {
            if let Some(first) = reader.next() {
                // Answers that `deliver` sends are written together.
                self.writing().delivers_in = Some(thread::current().id());
                let result = hand_over(first, reader, deliver, &mut deliveries);
                let mut writing = self.writing();
                writing.delivers_in = None;
                self.write_through(&mut writing);
                drop(writing);
                result?;
                if deliveries >= DELIVERIES {
                    return Ok(Progress::More);
                }
            }
            if bytes >= READ_BYTES {
                return Ok(Progress::More);
            }
            match self.wire.try_read(reader.incoming()) {
                Ok(0) => return Err(LinkEnd::Closed),
                Ok(read) => {
                    bytes += read;
                    reader.received(read).map_err(LinkEnd::Broken)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Dry),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LinkEnd::Io(error)),
            }
        }
    }

    /// Waits until there is something to do.
    async fn wait(&self, mut timer: Pin<&mut Sleep>, for_room: bool) -> io::Result<()> {
        let mut changed = pin!(self.changed.notified());
        poll_fn(|context: &mut Context<'_>| {
            // All of them are asked, so that each of them wakes this task.
            let mut is_time = timer.as_mut().poll(context).is_ready();
            is_time |= changed.as_mut().poll(context).is_ready();
            if let Poll::Ready(result) = self.wire.poll_read_ready(context) {
                result?;
                is_time = true;
            }
            if for_room && let Poll::Ready(result) = self.wire.poll_write_ready(context) {
                result?;
                self.writing().is_full = false;
                is_time = true;
            }
            if is_time { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// Tells a peer that can be told why, and looks whether a peer that is gone has said why.
    async fn last_words(&self, end: LinkEnd, reader: &mut Reader, deliver: &mut impl FnMut(Incoming)) -> LinkEnd {
        match &end {
            LinkEnd::Broken(error) => {
                let mut writing = self.writing();
                writing.writer.end(&error.to_string());
                writing.rests = None;
                writing.write(&*self.wire);
            }
            // What was written to a peer that has closed fails before its goodbye is read.
            LinkEnd::Io(_) => {
                let rest = timeout(LAST_WORDS_PATIENCE, self.read_rest(reader, deliver)).await;
                return rest.ok().flatten().unwrap_or(end);
            }
            _ => {}
        }
        end
    }

    /// Reads what is left in a connection that failed; the goodbye if there is one.
    async fn read_rest(&self, reader: &mut Reader, deliver: &mut impl FnMut(Incoming)) -> Option<LinkEnd> {
        for _ in 0..LAST_TURNS {
            match self.read(reader, deliver) {
                Ok(Progress::More) => tokio::task::yield_now().await,
                Ok(Progress::Dry) => poll_fn(|context| self.wire.poll_read_ready(context)).await.ok()?,
                Err(end @ LinkEnd::Goodbye(_)) => return Some(end),
                Err(_) => return None,
            }
        }
        None
    }
}

/// Delivers what is there, as far as a turn goes.
fn hand_over(
    first: Incoming,
    reader: &mut Reader,
    deliver: &mut impl FnMut(Incoming),
    deliveries: &mut usize,
) -> Result<(), LinkEnd> {
    let mut next = Some(first);
    while let Some(incoming) = next {
        match incoming.message {
            Message::Goodbye { reason } => return Err(LinkEnd::Goodbye(reason)),
            _ => deliver(incoming),
        }
        *deliveries += 1;
        if *deliveries >= DELIVERIES {
            break;
        }
        next = reader.next();
    }
    Ok(())
}

/// Ends the link when its task ends, in whatever way.
struct EndsWithTask<'a>(&'a Link);

impl Drop for EndsWithTask<'_> {
    fn drop(&mut self) {
        self.0.writing().writer.abort();
        self.0.wire.shut();
    }
}
