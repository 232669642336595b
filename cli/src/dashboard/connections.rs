//! Connections of browsers, and of whoever else there is on this machine: not too many, and none that takes nothing.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{Instant, Sleep, sleep, sleep_until},
};

/// Beyond these, a new connection ends the one that has got nothing for longest.
const MOST: usize = 256;

/// A connection that takes nothing for so long is ended: events say something more often.
const SILENT_FOR: Duration = Duration::from_secs(30);

pub(super) struct Connections {
    listener: TcpListener,
    open: Arc<Mutex<Open>>,
    most: usize,
    silent_for: Duration,
}

#[derive(Default)]
struct Open {
    next: u64,
    /// By number: whether it has got anything, when that was or when it came, and how to end it.
    all: BTreeMap<u64, (bool, Instant, oneshot::Sender<()>)>,
}

impl Connections {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, open: Arc::default(), most: MOST, silent_for: SILENT_FOR }
    }

    fn admit(&self, stream: TcpStream) -> Connection {
        let (end, ended) = oneshot::channel();
        let mut open = lock(&self.open);
        if open.all.len() >= self.most {
            // Whoever has not even got one answer goes first.
            let oldest = open.all.iter().min_by_key(|(_, (has_got, since, _))| (*has_got, *since)).map(|(&id, _)| id);
            let oldest = oldest.and_then(|id| open.all.remove(&id));
            drop(oldest); // which ends it
        }
        let id = open.next;
        open.next += 1;
        open.all.insert(id, (false, Instant::now(), end));
        drop(open);
        Connection {
            stream,
            id,
            ended,
            is_over: false,
            silent: Box::pin(sleep(self.silent_for)),
            silent_for: self.silent_for,
            open: self.open.clone(),
        }
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let _ = stream.set_nodelay(true);
                    return (self.admit(stream), address);
                }
                // Whoever came may have left again. If there are too many files, some will be closed.
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

pub(super) struct Connection {
    stream: TcpStream,
    id: u64,
    ended: oneshot::Receiver<()>,
    is_over: bool,
    silent: Pin<Box<Sleep>>,
    silent_for: Duration,
    open: Arc<Mutex<Open>>,
}

impl Connection {
    /// Whether it may go on.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.is_over = self.is_over
            || Pin::new(&mut self.ended).poll(context).is_ready()
            || self.silent.as_mut().poll(context).is_ready();
        if self.is_over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    fn has_got(&mut self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) {
            let now = Instant::now();
            self.silent = Box::pin(sleep_until(now + self.silent_for));
            if let Some((has_got, since, _)) = lock(&self.open).all.get_mut(&self.id) {
                (*has_got, *since) = (true, now);
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.open).all.remove(&self.id);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.has_got(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.has_got(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn who_gets_nothing_is_ended_after_a_while_and_first_when_there_are_too_many() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let silent_for = Duration::from_millis(300);
            let mut connections = Connections { most: 2, silent_for, ..Connections::new(listener) };
            let mut clients = Vec::new();
            let mut come = async || {
                clients.push(std::net::TcpStream::connect(address).unwrap());
                connections.accept().await.0
            };
            let since = Instant::now();
            let (mut first, mut second) = (come().await, come().await);
            tokio::io::AsyncWriteExt::write_all(&mut first, b"answer").await.unwrap();
            let third = come().await;
            let ended = second.read_u8().await.unwrap_err();
            assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
            assert!(since.elapsed() < silent_for, "at once, as the third came");
            drop((second, third));
            assert_eq!(first.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert!(since.elapsed() >= silent_for);
            assert_eq!(first.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut, "and stays so");
            assert_eq!(lock(&first.open).all.len(), 1);
            clients[0].read_exact(&mut [0; 6]).unwrap();
        });
    }
}
