//! TCP.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    net::{Shutdown, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{Listener, Wire};

/// How long one address is given before the next is tried beside it (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// A connected socket.
#[derive(Debug)]
pub struct TcpWire {
    stream: TcpStream,
    peer: SocketAddr,
}

impl TcpWire {
    fn wire(stream: TcpStream) -> io::Result<Arc<dyn Wire>> {
        // Answers are small, and each is one write: waiting for more to send is never right.
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        Ok(Arc::new(Self { stream, peer }))
    }
}

impl Wire for TcpWire {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(buffer)
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.try_write_vectored(slices)
    }

    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(context)
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(context)
    }

    fn shut(&self) {
        // It fails if the other side was first.
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Both);
    }

    fn peer(&self) -> String {
        self.peer.to_string()
    }
}

/// Connects to `host`, a name or an address, within `patience`. Of several addresses, each is tried a quarter of a
/// second after the one before it, or as soon as that one fails; IPv6 and IPv4 take turns, and the first that answers is
/// taken.
///
/// # Errors
/// No address could be found or reached; the text names each and what became of it.
pub async fn connect(host: &str, port: u16, patience: Duration) -> io::Result<Arc<dyn Wire>> {
    let mut tries = Tries::default();
    let attempt = async {
        let found = tokio::net::lookup_host((host, port)).await?;
        tries.first_of(take_turns(found)).await
    };
    match timeout(patience, attempt).await {
        Ok(Ok(stream)) => TcpWire::wire(stream),
        Ok(Err(error)) => {
            Err(io::Error::new(error.kind(), format!("no connection to {host}:{port}: {}", tries.with(&error))))
        }
        Err(_) => {
            let text = format!("no answer from {host}:{port} within {patience:?}{}", tries.listed());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        }
    }
}

/// Addresses that failed, and why.
#[derive(Debug, Default)]
struct Tries(Vec<(SocketAddr, io::Error)>);

impl Tries {
    async fn first_of(&mut self, mut addresses: VecDeque<SocketAddr>) -> io::Result<TcpStream> {
        let mut running = JoinSet::new();
        let mut next_at = Instant::now();
        loop {
            if (running.is_empty() || Instant::now() >= next_at)
                && let Some(address) = addresses.pop_front()
            {
                running.spawn(async move { (address, TcpStream::connect(address).await) });
                next_at = Instant::now() + STAGGER;
            }
            if running.is_empty() {
                return Err(self.last());
            }
            let wait = if addresses.is_empty() { Duration::MAX } else { next_at - Instant::now() };
            match timeout(wait, running.join_next()).await {
                Ok(Some(Ok((_, Ok(stream))))) => return Ok(stream),
                Ok(Some(Ok((address, Err(error))))) => {
                    self.0.push((address, error));
                    next_at = Instant::now();
                }
                Ok(Some(Err(error))) => return Err(io::Error::other(error)),
                // It is the next one's turn.
                Ok(None) | Err(_) => {}
            }
        }
    }

    fn last(&self) -> io::Error {
        let kind = self.0.last().map_or(io::ErrorKind::NotFound, |(_, error)| error.kind());
        io::Error::new(kind, "the name has no address")
    }

    /// What to say of an end with this error.
    fn with(&self, error: &io::Error) -> String {
        if self.0.is_empty() { error.to_string() } else { self.list() }
    }

    fn listed(&self) -> String {
        if self.0.is_empty() { String::new() } else { format!(" ({})", self.list()) }
    }

    fn list(&self) -> String {
        let tries: Vec<_> = self.0.iter().map(|(address, error)| format!("{address}: {error}")).collect();
        tries.join(", ")
    }
}

/// The addresses in the order in which they are tried: both families in turn, beginning with what the resolver has
/// first.
fn take_turns(found: impl IntoIterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let mut found = found.into_iter().peekable();
    let begins_with_v6 = found.peek().is_some_and(SocketAddr::is_ipv6);
    let (mut one, mut other): (VecDeque<_>, VecDeque<_>) =
        found.partition(|address| address.is_ipv6() == begins_with_v6);
    let mut turns = VecDeque::new();
    while !one.is_empty() || !other.is_empty() {
        turns.extend(one.pop_front());
        turns.extend(other.pop_front());
    }
    turns
}

/// A listening socket.
#[derive(Debug)]
pub struct TcpDoor {
    listener: TcpListener,
    address: SocketAddr,
}

impl TcpDoor {
    /// Listens at `address`, with port 0 at any port that is free.
    ///
    /// # Errors
    /// The system says no: mostly because another process listens there.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("can't listen at {address}: {error}")))?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Listener for TcpDoor {
    async fn accept(&self) -> io::Result<Arc<dyn Wire>> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            // One that is gone already is nobody's trouble.
            if let Ok(wire) = TcpWire::wire(stream) {
                return Ok(wire);
            }
        }
    }

    fn place(&self) -> String {
        self.address.to_string()
    }
}
