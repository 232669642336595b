//! Wires that lead nowhere: for tests, and for a node in the same process.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::Wire;

/// One end of a pair. It can also be made to misbehave.
#[derive(Debug)]
pub struct MemoryWire {
    reads: Arc<Pipe>,
    writes: Arc<Pipe>,
}

/// Bytes on their way, in one direction.
#[derive(Debug)]
struct Pipe {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes: VecDeque<u8>,
    capacity: usize,
    is_shut: bool,
    is_cut: bool,
    is_frozen: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Two ends of a connection that holds up to `capacity` bytes each way.
#[must_use]
pub fn pair(capacity: usize) -> (Arc<MemoryWire>, Arc<MemoryWire>) {
    let [there, back] = [(); 2].map(|()| Arc::new(Pipe::new(capacity.max(1))));
    let first = MemoryWire { reads: Arc::clone(&back), writes: Arc::clone(&there) };
    let second = MemoryWire { reads: there, writes: back };
    (Arc::new(first), Arc::new(second))
}

impl MemoryWire {
    /// Lets nothing through, either way, until it is called with `false`: both sides wait, neither learns of it.
    pub fn freeze(&self, is_frozen: bool) {
        for pipe in [&self.reads, &self.writes] {
            pipe.change(|state| state.is_frozen = is_frozen);
        }
    }

    /// Breaks the connection: both sides get an error, what was on its way is lost.
    pub fn cut(&self) {
        for pipe in [&self.reads, &self.writes] {
            pipe.change(|state| {
                state.is_cut = true;
                state.bytes.clear();
            });
        }
    }
}

impl Wire for MemoryWire {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.reads.lock();
        if !state.is_readable() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if state.is_cut {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let len = buffer.len().min(state.bytes.len());
        let (front, back) = state.bytes.as_slices();
        let split = len.min(front.len());
        buffer[..split].copy_from_slice(&front[..split]);
        buffer[split..len].copy_from_slice(&back[..len - split]);
        state.bytes.drain(..len);
        wake(&mut state.writer);
        Ok(len)
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.writes.lock();
        if !state.is_writable() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if state.is_cut {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if state.is_shut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let before = state.bytes.len();
        for slice in slices {
            let room = state.capacity - state.bytes.len();
            state.bytes.extend(&slice[..slice.len().min(room)]);
        }
        wake(&mut state.reader);
        Ok(state.bytes.len() - before)
    }

    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.reads.lock();
        if state.is_readable() {
            return Poll::Ready(Ok(()));
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.writes.lock();
        if state.is_writable() {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }

    fn shut(&self) {
        for pipe in [&self.reads, &self.writes] {
            pipe.change(|state| state.is_shut = true);
        }
    }

    fn peer(&self) -> String {
        "memory".into()
    }
}

impl Drop for MemoryWire {
    fn drop(&mut self) {
        self.shut();
    }
}

impl Pipe {
    fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::new(State {
                bytes: VecDeque::new(),
                capacity,
                is_shut: false,
                is_cut: false,
                is_frozen: false,
                reader: None,
                writer: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        wake(&mut state.reader);
        wake(&mut state.writer);
    }
}

impl State {
    fn is_readable(&self) -> bool {
        !self.is_frozen && (self.is_cut || self.is_shut || !self.bytes.is_empty())
    }

    fn is_writable(&self) -> bool {
        !self.is_frozen && (self.is_cut || self.is_shut || self.bytes.len() < self.capacity)
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
