//! How a handshake fails, and what to do about it.

use std::{fmt, io};

use super::{HANDSHAKE_TIME, MAX_HANDSHAKE_BYTES};
use crate::{DEFAULT_PORT, identity::COOKIE_VARIABLE};

/// A side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who connects.
    Manager,
    /// Who is connected to.
    Node,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Manager => Self::Node,
            Self::Node => Self::Manager,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manager => "manager",
            Self::Node => "node",
        })
    }
}

/// What a peer is told that is sent away. New ones come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Its protocol is another one.
    Version,
    /// Its proof does not fit the cookie.
    WrongCookie,
    /// It wants to be trusted otherwise.
    TrustDiffers,
    /// What it said can't be read.
    Unreadable,
    /// It did not finish in time.
    TooSlow,
    /// Others that have not finished their handshakes were many.
    Busy,
    /// From its address came too many that failed.
    TooManyFailures,
    /// It speaks without TLS where others than this machine could listen.
    NeedsTls,
    /// Our own credentials can't be used.
    NoCredentials,
}

impl Refusal {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Version => 1,
            Self::WrongCookie => 2,
            Self::TrustDiffers => 3,
            Self::Unreadable => 4,
            Self::TooSlow => 5,
            Self::Busy => 6,
            Self::TooManyFailures => 7,
            Self::NeedsTls => 8,
            Self::NoCredentials => 9,
        }
    }

    /// Tells nothing but itself.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Version => "it speaks another version of the protocol",
            Self::WrongCookie => "the cookies differ",
            Self::TrustDiffers => {
                "one side has a cookie, the other relies on certificates or on the user of a local socket"
            }
            Self::Unreadable => "it could not read the hello",
            Self::TooSlow => "the handshake took too long",
            Self::Busy => "too many connections have not finished their handshake; try again",
            Self::TooManyFailures => "too many handshakes from this address failed; wait a minute",
            Self::NeedsTls => "it wants TLS from other machines; name it by an address that is not loopback",
            Self::NoCredentials => "its own credentials can't be used; `distfun doctor` there says why",
        }
    }
}

/// The handshake failed; the connection is closed, and nothing but its bytes was read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Something else listens, or asks, there.
    #[error("{peer} is not a distfun {wanted}; it says: {said}{}", hint(*.wanted))]
    NotDistfun {
        /// The other side.
        peer: String,
        /// What it should have been.
        wanted: Side,
        /// How it begins, fit to be printed.
        said: String,
    },
    /// The protocols differ.
    #[error(
        "{peer} speaks protocol {theirs}{}, this program speaks {ours} ({our_build}): use one release on both",
        release(.their_build)
    )]
    Version {
        /// The other side.
        peer: String,
        /// Our protocol.
        ours: u16,
        /// Our version of distfun.
        our_build: String,
        /// Its protocol.
        theirs: u16,
        /// Its version of distfun, if it could be told.
        their_build: Option<String>,
    },
    /// One of the two has another cookie.
    #[error(
        "{peer} has another cookie: run both programs as one user, or copy the cookie file of one to the other \
         ($HOME/.local/state/distfun/cookie unless {COOKIE_VARIABLE} says otherwise)"
    )]
    WrongCookie {
        /// The other side.
        peer: String,
    },
    /// One side has a cookie, the other relies on what the system says about a local socket.
    #[error("{peer} and this program differ in how they trust each other: {}", Refusal::TrustDiffers.text())]
    TrustDiffers {
        /// The other side.
        peer: String,
    },
    /// Certificates do not make the two known to each other.
    #[error("{peer} {problem}")]
    Credentials {
        /// The other side.
        peer: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// It speaks without TLS, over a network that others may listen to.
    #[error("{peer} speaks distfun without TLS: {}", without_tls(*.wanted))]
    WithoutTls {
        /// The other side.
        peer: String,
        /// What it should have been.
        wanted: Side,
    },
    /// It begins as distfun does, and what follows is something else.
    #[error("{peer} speaks distfun, but {what}")]
    Malformed {
        /// The other side.
        peer: String,
        /// What is wrong.
        what: &'static str,
    },
    /// It said more than a handshake has.
    #[error("{peer} announced a hello of {bytes} bytes, and a whole handshake has at most {MAX_HANDSHAKE_BYTES}")]
    TooLong {
        /// The other side.
        peer: String,
        /// Size of its hello.
        bytes: usize,
    },
    /// It did not finish in time.
    #[error("{peer} did not finish the handshake within {} s: {}", HANDSHAKE_TIME.as_secs(), slow(*.wanted))]
    TimedOut {
        /// The other side.
        peer: String,
        /// What it should have been.
        wanted: Side,
    },
    /// Others wanted its place; it is told to try again.
    #[error("{peer} had not finished the handshake when others wanted its place")]
    Evicted {
        /// The other side.
        peer: String,
    },
    /// It closed the connection.
    #[error("{peer} closed the connection during the handshake")]
    Closed {
        /// The other side.
        peer: String,
        /// After it had said something.
        has_begun: bool,
    },
    /// It sent this program away.
    #[error("{peer} refused: {reason}")]
    Refused {
        /// The other side.
        peer: String,
        /// As it said, fit to be printed.
        reason: String,
    },
    /// The system failed.
    #[error("the connection to {peer} failed during the handshake")]
    Io {
        /// The other side.
        peer: String,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
}

impl HandshakeError {
    /// Whether to count it against the peer's address. A program of another release, or one that only has to be told of
    /// a local socket, may ask as often as it likes: it should go on to hear why. One that goes away without a word has guessed nothing, and
    /// may be whoever looks whether somebody listens.
    #[must_use]
    pub fn counts_against_peer(&self) -> bool {
        use HandshakeError::{Closed, Credentials, Malformed, NotDistfun, TimedOut, TooLong, WithoutTls, WrongCookie};
        matches!(
            self,
            NotDistfun { .. }
                | Closed { has_begun: true, .. }
                | WrongCookie { .. }
                | Credentials { .. }
                | WithoutTls { .. }
                | Malformed { .. }
                | TooLong { .. }
                | TimedOut { .. }
        )
    }
}

fn hint(wanted: Side) -> String {
    match wanted {
        Side::Manager => String::new(),
        Side::Node => format!(" (a node listens on port {DEFAULT_PORT} unless told otherwise)"),
    }
}

fn without_tls(wanted: Side) -> &'static str {
    match wanted {
        Side::Manager => "its machine needs credentials of this cluster, by `distfun join`",
        Side::Node => "it listens for its own machine only; start it with --listen and an address that others reach",
    }
}

fn slow(wanted: Side) -> &'static str {
    match wanted {
        Side::Manager => "it is slow, or not a distfun manager",
        Side::Node => "it is overloaded, or not a distfun node",
    }
}

fn release(build: &Option<String>) -> String {
    build.as_ref().map(|build| format!(" (distfun {build})")).unwrap_or_default()
}
