//! Between those who say something and the thread that writes it: bounded, and nobody waits but that thread.

use std::{
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use distfun_core::event::{LogDropped, SupervisionEvent, TARGET, capped};
use tracing::Level;

use super::line;

/// Memory for each line that may wait, on average.
const LINE_BYTES: usize = 1 << 10;

/// One call of the writer gets whole lines of about this size: so processes that append to one file do not mix lines.
const WRITE_BYTES: usize = 64 << 10;

/// After a failure, the next attempt to report it; twice as long after each further one, up to a minute or so.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Queue {
    state: Mutex<State>,
    /// There is something to write.
    news: Condvar,
    /// Something has been written.
    written: Condvar,
    lines: usize,
    /// The end of the first line, and of the others, up to the number.
    first: Vec<u8>,
    rest: Vec<u8>,
}

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    /// Lines in the buffer.
    count: usize,
    /// The number of the next line.
    seq: u64,
    /// All lines below this number are written or lost.
    settled: u64,
    lost: Lost,
    is_first_told: bool,
    is_writer_asleep: bool,
    is_closed: bool,
}

/// Lines that are missing and not reported yet.
#[derive(Default)]
struct Lost {
    since: Option<Instant>,
    debug: u64,
    info: u64,
    warn: u64,
    unwritten: u64,
    error: Option<String>,
}

impl Lost {
    fn note(&mut self, level: Level) {
        self.since.get_or_insert_with(Instant::now);
        match level {
            Level::ERROR | Level::WARN => self.warn += 1,
            Level::INFO => self.info += 1,
            _ => self.debug += 1,
        }
    }

    /// What could not be reported, once more.
    fn take_back(&mut self, earlier: Self) {
        self.since = earlier.since.or(self.since);
        self.debug += earlier.debug;
        self.info += earlier.info;
        self.warn += earlier.warn;
        self.unwritten += earlier.unwritten;
        self.error = self.error.take().or(earlier.error);
    }
}

impl Queue {
    pub(super) fn new(lines: usize, first: Vec<u8>, rest: Vec<u8>) -> Self {
        Self { state: Mutex::default(), news: Condvar::new(), written: Condvar::new(), lines, first, rest }
    }

    /// Takes a line, or counts it as lost.
    pub(super) fn push(&self, level: Level, line: &[u8]) {
        let mut state = self.lock();
        // The share of the queue that is open to this level: the rest is kept for graver ones.
        let eighths = match level {
            Level::ERROR | Level::WARN => 8,
            Level::INFO => 6,
            _ => 4,
        };
        let room = self.lines * eighths / 8;
        if state.count < room && state.buffer.len() < room * LINE_BYTES {
            self.append(&mut state, line);
            if state.is_writer_asleep {
                state.is_writer_asleep = false;
                drop(state);
                self.news.notify_one();
            }
        } else {
            state.seq += 1;
            state.lost.note(level);
        }
    }

    fn append(&self, state: &mut State, line: &[u8]) {
        state.buffer.extend_from_slice(line);
        let end = if std::mem::replace(&mut state.is_first_told, true) { &self.rest } else { &self.first };
        state.buffer.extend_from_slice(end);
        line::number(&mut state.buffer, "distfun.seq", state.seq);
        state.buffer.extend_from_slice(b"}\n");
        state.seq += 1;
        state.count += 1;
    }

    /// What is there to write, with a line about what is missing; none at the end.
    ///
    /// After `failures` in a row, what is missing is not reported at once.
    fn take(&self, buffer: &mut Vec<u8>, failures: u32) -> Option<Batch> {
        let mut state = self.lock();
        let mut has_waited = failures == 0;
        while state.buffer.is_empty() && (state.lost.since.is_none() || !has_waited) {
            if state.is_closed {
                return None;
            }
            state.is_writer_asleep = true;
            if failures > 0 {
                let after = RETRY_AFTER * 2u32.pow(failures.min(7) - 1);
                (state, _) = self.news.wait_timeout(state, after).unwrap_or_else(PoisonError::into_inner);
                has_waited = true;
            } else {
                state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        state.is_writer_asleep = false;
        let lost = std::mem::take(&mut state.lost);
        if lost.since.is_some() {
            let line = dropped(&lost);
            self.append(&mut state, &line);
        }
        buffer.clear();
        std::mem::swap(buffer, &mut state.buffer);
        state.count = 0;
        Some(Batch { lost, end: state.seq })
    }

    /// The batch is written, but for `failed` lines.
    fn settle(&self, batch: Batch, failed: Option<(u64, String)>) {
        let mut state = self.lock();
        state.settled = batch.end;
        if let Some((lines, error)) = failed {
            if batch.lost.since.is_some() {
                state.lost.take_back(batch.lost); // the report was the last line, and is lost itself
            }
            state.lost.since.get_or_insert_with(Instant::now);
            state.lost.unwritten += lines;
            state.lost.error = Some(error);
        }
        drop(state);
        self.written.notify_all();
    }

    /// Waits until everything said so far is written or lost.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let limit = Instant::now() + within;
        let mut state = self.lock();
        let target = state.seq;
        while state.settled < target {
            self.news.notify_one();
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (state, _) = self.written.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Nobody says anything any more.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the writer has taken.
struct Batch {
    lost: Lost,
    /// The number of the first line after it.
    end: u64,
}

/// `distfun.log.dropped`, written past `tracing`, where it would come back to this queue.
fn dropped(lost: &Lost) -> Vec<u8> {
    let since = lost.since.map_or(Duration::ZERO, |since| since.elapsed());
    let event = LogDropped {
        since_s: since.as_micros() as f64 / 1e6,
        dropped_debug: lost.debug,
        dropped_info: lost.info,
        dropped_warn: lost.warn,
        dropped_unwritten: lost.unwritten,
        dropped_total: lost.debug + lost.info + lost.warn + lost.unwritten,
        error_message: lost.error.as_deref(),
    };
    let mut line = Vec::new();
    line::open(&mut line, SystemTime::now(), Level::WARN, TARGET);
    line::text(&mut line, "message", &event.to_string());
    line::text(&mut line, "otel.event.name", LogDropped::SPEC.name);
    line::float(&mut line, "distfun.since_s", event.since_s);
    for (name, count) in [
        ("distfun.dropped.debug", event.dropped_debug),
        ("distfun.dropped.info", event.dropped_info),
        ("distfun.dropped.warn", event.dropped_warn),
        ("distfun.dropped.unwritten", event.dropped_unwritten),
        ("distfun.dropped.total", event.dropped_total),
    ] {
        line::number(&mut line, name, count);
    }
    if let Some(error) = event.error_message {
        line::text(&mut line, "error.message", error);
    }
    line
}

/// Starts the thread that writes, until the layer is gone and all is written.
pub(super) fn start(queue: Arc<Queue>, writer: Box<dyn Write + Send>) -> io::Result<()> {
    let run = move || {
        let mut writer = Writer { writer, is_torn: false, has_panicked: false };
        let mut buffer = Vec::new();
        let mut failures = 0;
        while let Some(batch) = queue.take(&mut buffer, failures) {
            let failed = writer.write(&buffer).err();
            failures = if failed.is_some() { failures + 1 } else { 0 };
            // Whose words these are, nobody knows: they are put together outside of the lock, and cut.
            queue.settle(batch, failed.map(|(lines, error)| (lines, capped(&error.to_string()).to_owned())));
        }
    };
    thread::Builder::new().name("distfun-log".into()).spawn(run).map(drop)
}

struct Writer {
    writer: Box<dyn Write + Send>,
    /// The last line was written in part.
    is_torn: bool,
    has_panicked: bool,
}

impl Writer {
    /// Writes all lines.
    ///
    /// # Errors
    /// How many lines were not written whole, and why.
    fn write(&mut self, lines: &[u8]) -> Result<(), (u64, io::Error)> {
        let mut done = 0;
        let result = if self.has_panicked {
            Err(panicked())
        } else {
            let body = AssertUnwindSafe(|| self.write_from(lines, &mut done));
            catch_unwind(body).unwrap_or_else(|payload| {
                if !payload.is::<&str>() && !payload.is::<String>() {
                    std::mem::forget(payload); // dropping it could panic again
                }
                self.has_panicked = true;
                Err(panicked())
            })
        };
        result.map_err(|error| {
            self.is_torn = done > 0 && lines[done - 1] != b'\n';
            (lines[done..].iter().filter(|&&byte| byte == b'\n').count() as u64, error)
        })
    }

    fn write_from(&mut self, lines: &[u8], done: &mut usize) -> io::Result<()> {
        if self.is_torn {
            self.writer.write_all(b"\n")?;
            self.is_torn = false;
        }
        while *done < lines.len() {
            let left = &lines[*done..];
            let piece = match left.get(..WRITE_BYTES).and_then(|piece| piece.iter().rposition(|&byte| byte == b'\n')) {
                Some(last) => &left[..=last],
                None => left, // the rest, or one line that is longer than that
            };
            match self.writer.write(piece) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *done += count.min(piece.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
                Err(error) => return Err(error),
            }
        }
        self.writer.flush()
    }
}

fn panicked() -> io::Error {
    io::Error::other("the log's writer panicked and is not used any more")
}

#[cfg(test)]
mod tests;
