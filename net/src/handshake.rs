//! How a Manager and a node learn who the other is, before anything else is read.
//!
//! ```text
//! Manager  →  preamble, hello: build, how it is trusted, nonce, instance, program
//!          ←  preamble, hello: build, how it is trusted, nonce, proof          node
//! Manager  →  0, proof
//!          ←  0                                                                node
//! ```
//!
//! A proof is HMAC-SHA256, under the cookie, of who makes it, the version, and the hellos so far (the node's without
//! the proof itself). Nonces make it worthless for any other connection, the role for the other direction. Instead of
//! any of its parts, each side may send a refusal: a code, and a text for people of at most 127 bytes.
//!
//! ```text
//! offset  size
//!      0     8  magic: "distfun" and a zero byte
//!      8     2  version of the protocol
//!     10     2  size of the hello, at most 4084 bytes
//!     12        the hello; first of all the build: its length in one byte, then UTF-8
//! ```
//!
//! Numbers are little-endian. This much stays as it is in all versions, so that peers of different versions can tell
//! each other. A side that is told another version reads nothing but the build. All that one side reads is at most
//! [`MAX_HANDSHAKE_BYTES`], all that it waits [`HANDSHAKE_TIME`], and not a byte of what follows the handshake is read.
//!
//! The handshake says who the other is at its begin. What follows is as safe as the way it takes: on loopback and on
//! local sockets, as safe as the system. On a network all of it is within TLS, which has certificates say who the other
//! is; a side that expects TLS and meets something else hears what it is, and sends it away.

use std::{
    future::{pending, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

#[cfg(feature = "tls")]
use crate::tls::{Credentials, Shaken};
use crate::{identity::Cookie, transport::Wire};

mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hello;
mod machine;
mod preamble;
mod proof;
#[cfg(test)]
mod tests;

pub use error::{HandshakeError, Refusal, Side};

use machine::{Cut, Machine};

/// The most that is read of a peer before it is known, in bytes.
pub const MAX_HANDSHAKE_BYTES: usize = 4096;

/// The most that the whole handshake takes. A peer that sends its bytes one by one has no more.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Longest name of a program in bytes; a longer one is cut.
pub const MAX_PROGRAM_BYTES: usize = 64;

/// How long to wait for the rest of the line by which something that is no distfun shows what it is.
const FOREIGN_TIME: Duration = Duration::from_millis(200);

/// How each side shows that the other may trust it. Both must have the same.
#[derive(Debug, Clone)]
pub enum Trust {
    /// By the secret that both have.
    Cookie(Cookie),
    /// The transport has asked the system for the user at the other end, and it is ours.
    PeerChecked,
    /// By certificates, in TLS.
    #[cfg(feature = "tls")]
    Certificates(Arc<Credentials>),
}

/// What a Manager says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Tells this run of the process from all others.
    pub instance: [u8; 16],
    /// Name of the program, for people.
    pub program: String,
}

/// What a node has been told, by a Manager that has proved itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManagerHello {
    /// Version of distfun there.
    pub build: String,
    /// Tells that run of the process from all others.
    pub instance: [u8; 16],
    /// Name of the program, for people.
    pub program: String,
    /// Its machine, if it has a certificate.
    pub machine: Option<Certified>,
}

/// What a Manager has been told, by a node that has proved itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeHello {
    /// Version of distfun there.
    pub build: String,
    /// Its machine, if it has a certificate.
    pub machine: Option<Certified>,
}

/// A machine, as its certificate has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certified {
    /// Its name.
    pub name: String,
    /// Of the certificate, in hexadecimal digits.
    pub serial: String,
}

/// Meets a node. On success both know each other, and the node waits for frames, by the wire that is returned.
///
/// # Errors
/// If the other side is not a node that is trusted. The wire is shut then.
///
/// # Cancel safety
/// Dropped before its end, it shuts the wire.
pub async fn as_manager(
    wire: Arc<dyn Wire>,
    trust: &Trust,
    hello: &Hello,
) -> Result<(Arc<dyn Wire>, NodeHello), HandshakeError> {
    let machine = Machine::manager(machine::Me::new(trust, wire.peer())?, hello);
    let (wire, met) = Meeting::of(wire, Side::Node, trust).meet(machine, pending()).await?;
    Ok((wire, NodeHello { build: met.build, machine: met.machine }))
}

/// Meets a Manager. On success both know each other, and the Manager waits for frames, by the wire that is returned. Gives
/// up, saying so, when `evicted` is over: that of a [`Pass`](crate::gate::Pass), or [`pending`] where no gate is.
///
/// # Errors
/// If the other side is not a Manager that is trusted. It has been told why, as far as it listens, and the wire is shut.
///
/// # Cancel safety
/// Dropped before its end, it shuts the wire.
pub async fn as_node(
    wire: Arc<dyn Wire>,
    trust: &Trust,
    evicted: impl Future<Output = ()>,
) -> Result<(Arc<dyn Wire>, ManagerHello), HandshakeError> {
    let machine = Machine::node(machine::Me::new(trust, wire.peer())?);
    let (wire, met) = Meeting::of(wire, Side::Manager, trust).meet(machine, evicted).await?;
    let machine::Met { build, instance, program, machine } = met;
    Ok((wire, ManagerHello { build, instance, program, machine }))
}

/// Sends a peer away that is not even listened to, as a node that is full does. Never waits: the peer is told if there
/// is room for a few bytes, and the wire is shut in any case.
pub fn turn_away(wire: &dyn Wire, refusal: Refusal) {
    // A new connection has room for a hundred bytes; one that has none is not worth waiting for.
    let _ = wire.try_write_vectored(&[IoSlice::new(&hello::refusal_of_a_stranger(refusal))]);
    wire.shut();
}

/// The first words of a Manager whose connection is within TLS, without it.
#[cfg(all(test, feature = "authority"))]
pub(crate) fn claims_certificates(hello: &Hello) -> Vec<u8> {
    let me = machine::Me::new(&Trust::PeerChecked, String::new()).expect("random numbers");
    Machine::manager(machine::Me { mode: hello::Mode::Certificates, ..me }, hello).take_output()
}

/// A handshake that goes on. Dropped, it shuts the wire: nobody may use one whose other end is not known.
struct Meeting<'t> {
    /// None once it is known.
    wire: Option<Arc<dyn Wire>>,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "for what TLS says"))]
    wanted: Side,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "for TLS"))]
    trust: &'t Trust,
    deadline: Instant,
}

impl<'t> Meeting<'t> {
    fn of(wire: Arc<dyn Wire>, wanted: Side, trust: &'t Trust) -> Self {
        Self { wire: Some(wire), wanted, trust, deadline: Instant::now() + HANDSHAKE_TIME }
    }

    async fn meet(
        mut self,
        mut machine: Machine,
        evicted: impl Future<Output = ()>,
    ) -> Result<(Arc<dyn Wire>, machine::Met), HandshakeError> {
        let mut evicted = pin!(evicted);
        #[cfg_attr(not(feature = "tls"), expect(unused_mut, reason = "nothing else can take its place"))]
        let (mut wire, mut certified) = (self.wire.clone().expect("it is there until it is known"), None);
        #[cfg(feature = "tls")]
        if let Trust::Certificates(credentials) = self.trust {
            match self.shake(&wire, credentials, evicted.as_mut()).await? {
                Shaken::Encrypted { wire: encrypted, facts } => {
                    certified = Some(Certified { name: facts.name, serial: facts.serial });
                    wire = encrypted;
                    self.wire = Some(wire.clone());
                }
                Shaken::Foreign(bytes) => machine.without_tls(&bytes),
            }
        }
        let mut deadline = self.deadline;
        let mut is_foreign = false;
        let met = loop {
            if machine.is_foreign() && !is_foreign {
                is_foreign = true;
                deadline = deadline.min(Instant::now() + FOREIGN_TIME);
            }
            let cut = bounded(deadline, evicted.as_mut(), step(&wire, &mut machine)).await.err();
            if let Some(cut) = cut {
                machine.cut(cut);
                let _ = wire.try_write_vectored(&[IoSlice::new(&machine.take_output())]);
            }
            if let Some(outcome) = machine.take_outcome() {
                break outcome.map_err(|error| self.explained(error))?;
            }
        };
        self.wire = None;
        Ok((wire, machine::Met { machine: certified, ..met }))
    }

    #[cfg(feature = "tls")]
    async fn shake(
        &self,
        wire: &Arc<dyn Wire>,
        credentials: &Credentials,
        evicted: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Shaken, HandshakeError> {
        let (peer, wanted) = (wire.peer(), self.wanted);
        match bounded(self.deadline, evicted, crate::tls::shake(wire, credentials)).await {
            Ok(Ok(Shaken::Encrypted { facts, .. })) if facts.role != wanted => Err(HandshakeError::Credentials {
                peer,
                problem: format!("has a certificate, but not that of a {wanted}"),
            }),
            Ok(Ok(shaken)) => Ok(shaken),
            Ok(Err(cause)) if machine::is_closed(&cause) => {
                let has_begun = cause.kind() != io::ErrorKind::NotConnected;
                Err(HandshakeError::Closed { peer, has_begun })
            }
            Ok(Err(cause)) => Err(self.explained(HandshakeError::Io { peer, cause })),
            Err(Cut::TimedOut) => Err(HandshakeError::TimedOut { peer, wanted }),
            Err(Cut::Evicted) => Err(HandshakeError::Evicted { peer }),
        }
    }

    /// What TLS says comes by way of the wire.
    fn explained(&self, error: HandshakeError) -> HandshakeError {
        match error {
            #[cfg(feature = "tls")]
            HandshakeError::Io { peer, cause } => match crate::tls::within(&cause) {
                Some(error) => HandshakeError::Credentials { peer, problem: crate::tls::problem(error, self.wanted) },
                None if cause.kind() == io::ErrorKind::InvalidData => HandshakeError::Credentials {
                    peer,
                    problem: format!("does not speak TLS as distfun does: {cause}"),
                },
                None => HandshakeError::Io { peer, cause },
            },
            other => other,
        }
    }
}

impl Drop for Meeting<'_> {
    fn drop(&mut self) {
        if let Some(wire) = &self.wire {
            wire.shut();
        }
    }
}

/// The same, unless there is no more time for it.
async fn bounded<T>(
    deadline: Instant,
    mut evicted: Pin<&mut impl Future<Output = ()>>,
    body: impl Future<Output = T>,
) -> Result<T, Cut> {
    let mut body = pin!(timeout_at(deadline, body));
    poll_fn(|context| match body.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(done.map_err(|_| Cut::TimedOut)),
        Poll::Pending => evicted.as_mut().poll(context).map(|()| Err(Cut::Evicted)),
    })
    .await
}

/// Writes all that there is to say, and reads once unless it is over.
async fn step(wire: &Arc<dyn Wire>, machine: &mut Machine) {
    let output = machine.take_output();
    if let Err(cause) = write(wire, &output).await {
        // Who refuses and closes may have said why: what it wrote is read before the end is believed.
        machine.not_written(cause);
    }
    let mut buffer = [0; 512];
    let wanted = machine.wanted().min(buffer.len());
    if wanted > 0 {
        match read(wire, &mut buffer[..wanted]).await {
            Ok(0) => machine.ended(),
            Ok(got) => machine.feed(&buffer[..got.min(wanted)]),
            Err(cause) => machine.failed(cause),
        }
    }
}

/// Writes all of it, and sends it.
pub(crate) async fn write(wire: &Arc<dyn Wire>, mut bytes: &[u8]) -> io::Result<()> {
    loop {
        let wrote = match bytes {
            [] => wire.try_flush().map(|()| None),
            _ => wire.try_write_vectored(&[IoSlice::new(bytes)]).map(Some),
        };
        match wrote {
            Ok(None) => return Ok(()),
            Ok(Some(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(Some(wrote)) => bytes = bytes.get(wrote..).unwrap_or_default(),
            Err(again) if again.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|context| wire.poll_write_ready(context)).await?;
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
}

/// Reads what is there, as soon as something is; 0 is the end.
pub(crate) async fn read(wire: &Arc<dyn Wire>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match wire.try_read(buffer) {
            Err(again) if again.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|context| wire.poll_read_ready(context)).await?;
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
