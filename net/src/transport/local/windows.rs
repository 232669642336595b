//! Named pipes. Written for Windows and never run there by us: reports are welcome.
//!
//! A pipe does not say who is at its other end; the handshake that follows does. The system lets other machines in only
//! where it is told to, and it is not.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    net::windows::named_pipe::{ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions},
    sync::Mutex,
    time::sleep,
};

use super::check_name;
use crate::transport::{Listener, Wire};

/// `ERROR_PIPE_BUSY`: every instance is taken just now.
const PIPE_BUSY: i32 = 231;

/// A connected pipe.
#[derive(Debug)]
pub struct LocalWire {
    end: End,
    path: PathBuf,
    is_shut: AtomicBool,
}

#[derive(Debug)]
enum End {
    Client(NamedPipeClient),
    Server(NamedPipeServer),
}

impl LocalWire {
    fn wire(end: End, path: &Path) -> Arc<dyn Wire> {
        Arc::new(Self { end, path: path.to_owned(), is_shut: AtomicBool::new(false) })
    }
}

impl Wire for LocalWire {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_shut.load(Relaxed) {
            return Ok(0);
        }
        let result = match &self.end {
            End::Client(pipe) => pipe.try_read(buffer),
            End::Server(pipe) => pipe.try_read(buffer),
        };
        match result {
            // Where a socket has an end, a pipe is broken.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            result => result,
        }
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_shut.load(Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match &self.end {
            End::Client(pipe) => pipe.try_write_vectored(slices),
            End::Server(pipe) => pipe.try_write_vectored(slices),
        }
    }

    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.end {
            End::Client(pipe) => pipe.poll_read_ready(context),
            End::Server(pipe) => pipe.poll_read_ready(context),
        }
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.end {
            End::Client(pipe) => pipe.poll_write_ready(context),
            End::Server(pipe) => pipe.poll_write_ready(context),
        }
    }

    /// A client's end closes when it is dropped; until then this side alone knows.
    fn shut(&self) {
        self.is_shut.store(true, Relaxed);
        if let End::Server(pipe) = &self.end {
            let _ = pipe.disconnect();
        }
    }

    fn peer(&self) -> String {
        self.path.display().to_string()
    }
}

/// What the pipe of this name is called: `\\.\pipe\distfun-NAME`.
///
/// # Errors
/// The name is none that a pipe should have.
pub fn path_of(name: &str) -> io::Result<PathBuf> {
    check_name(name)?;
    Ok(PathBuf::from(format!(r"\\.\pipe\distfun-{name}")))
}

/// Connects to the pipe at `path`.
///
/// # Errors
/// Nobody listens there.
pub async fn connect(path: &Path) -> io::Result<Arc<dyn Wire>> {
    for _ in 0..100 {
        match ClientOptions::new().open(path) {
            Err(error) if error.raw_os_error() == Some(PIPE_BUSY) => sleep(Duration::from_millis(20)).await,
            result => return Ok(LocalWire::wire(End::Client(result?), path)),
        }
    }
    Err(io::Error::from_raw_os_error(PIPE_BUSY))
}

/// A pipe that others connect to.
#[derive(Debug)]
pub struct LocalDoor {
    /// The instance that the next client gets.
    next: Mutex<NamedPipeServer>,
    path: PathBuf,
}

impl LocalDoor {
    /// Makes the pipe.
    ///
    /// # Errors
    /// Another process has it, or the system says no.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let next = ServerOptions::new().first_pipe_instance(true).reject_remote_clients(true).create(path)?;
        Ok(Self { next: Mutex::new(next), path: path.to_owned() })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Listener for LocalDoor {
    async fn accept(&self) -> io::Result<Arc<dyn Wire>> {
        let mut next = self.next.lock().await;
        next.connect().await?;
        let fresh = ServerOptions::new().reject_remote_clients(true).create(&self.path)?;
        let connected = std::mem::replace(&mut *next, fresh);
        Ok(LocalWire::wire(End::Server(connected), &self.path))
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}
