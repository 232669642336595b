//! What can go wrong in a session.

use distfun_core::shared_data::ElementType;

use crate::frame::FrameError;

/// A message that can't be sent, or bytes that no peer of this version sends.
///
/// Errors of [`send`](super::Writer::send) leave the session as it was, except [`PeerDoesNotRead`](Self::PeerDoesNotRead):
/// that one, and every error of reading, ends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A message does not fit into a frame, or what arrived is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The sections of a message are too large together.
    #[error(
        "a message with {bytes} bytes of arrays is larger than max_item_bytes {max_item_bytes}; cut it, or raise the limit on both sides"
    )]
    ItemTooLarge {
        /// Of its sections.
        bytes: u64,
        /// See [`SessionLimits`](super::SessionLimits).
        max_item_bytes: u64,
    },
    /// A section ends within an element. It was not sent.
    #[error("a section of {bytes} bytes is not a whole number of {element}")]
    PartialElement {
        /// What it is said to be made of.
        element: ElementType,
        /// Its size.
        bytes: usize,
    },
    /// Too much is queued for the other side. The connection is of no use any more.
    #[error(
        "{bytes} bytes of messages wait for the other side, more than max_queued_bytes {max_queued_bytes}: it does not read, or keeps all it got"
    )]
    PeerDoesNotRead {
        /// How many are queued.
        bytes: usize,
        /// See [`SessionLimits`](super::SessionLimits).
        max_queued_bytes: usize,
    },
    /// The session has ended: nothing can be sent.
    #[error("the connection has ended")]
    Ended,
    /// The peer sent more than it has credit for.
    #[error("the other side sent a message that weighs {weight} bytes while {held} of {window_bytes} are in use here")]
    CreditExceeded {
        /// Of the message.
        weight: u64,
        /// What is not let go of.
        held: u64,
        /// See [`SessionLimits`](super::SessionLimits).
        window_bytes: u64,
    },
    /// The peer gave credit for what was not sent.
    #[error("the other side let go of {bytes} bytes while it has {out}")]
    CreditUnfounded {
        /// That it gave.
        bytes: u64,
        /// What it has.
        out: u64,
    },
    /// A stream began that is not new.
    #[error("stream {stream} begins after stream {last}")]
    StreamNotNew {
        /// Its number.
        stream: u64,
        /// The one that began before it.
        last: u64,
    },
    /// A piece belongs to nothing.
    #[error("a piece of {bytes} bytes came for stream {stream}, which is not open")]
    StreamNotOpen {
        /// Its number.
        stream: u64,
        /// Of the piece.
        bytes: u32,
    },
    /// A piece is longer than the rest of its message.
    #[error("a piece of {bytes} bytes came for stream {stream}, which lacks {left}")]
    PieceTooLong {
        /// Its number.
        stream: u64,
        /// Of the piece.
        bytes: u32,
        /// What the stream lacks.
        left: u64,
    },
    /// There is no memory for what arrives.
    #[error("there is no memory for {bytes} bytes that arrive")]
    OutOfMemory {
        /// How much was asked for.
        bytes: u64,
    },
}
