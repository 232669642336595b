//! What carries bytes: TCP, local sockets, and memory for tests, behind one trait.

pub mod local;
pub mod memory;
pub mod tcp;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::Future,
    io::{self, IoSlice},
    sync::Arc,
    task::{Context, Poll},
};

/// A connected stream of bytes. All methods take `&self`, so that any thread may write while another reads.
///
/// `try_*` never wait: they return `WouldBlock`, and then `poll_*_ready` wakes the task once it is worth trying again.
/// They need no runtime around them, so a compute thread may write an answer itself.
pub trait Wire: Send + Sync + 'static {
    /// Reads what is there; 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there yet.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes as much as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends what was written and waits in the wire itself, as where it has been encrypted.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room for all of it; it is to be tried again when there is.
    fn try_flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Waits until there may be something to read. Called by one task at a time.
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Waits until there may be room to write. Called by one task at a time.
    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends both directions; who reads or writes on either side learns of it.
    fn shut(&self);

    /// The other side, for people.
    fn peer(&self) -> String;
}

impl fmt::Debug for dyn Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire to {}", self.peer())
    }
}

/// Where peers come in.
pub trait Listener: Send + Sync + 'static {
    /// Waits for the next peer.
    ///
    /// # Errors
    /// One peer could not be let in, or there are too few file descriptors just now. The listener goes on: log it, wait
    /// a little, call again.
    ///
    /// # Cancel safety
    /// No peer is lost by dropping the future.
    fn accept(&self) -> impl Future<Output = io::Result<Arc<dyn Wire>>> + Send;

    /// Where it listens, for people.
    fn place(&self) -> String;
}
