//! How links end.

use std::{io, time::Duration};

use crate::session::SessionError;

/// Why a link has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkEnd {
    /// The other side ended the stream of bytes without a word: its process has ended, most likely.
    #[error("the other side closed the connection")]
    Closed,
    /// The other side said goodbye.
    #[error("the other side said goodbye: {0}")]
    Goodbye(String),
    /// Nothing came for so long.
    #[error("nothing came from the other side for {0:?}")]
    Silent(Duration),
    /// The other side does not keep to the protocol, or there is no memory.
    #[error("the connection is broken")]
    Broken(#[source] SessionError),
    /// The system ended the connection.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// [`close`](super::Link::close) was called here.
    #[error("the connection was closed here")]
    ClosedHere,
}
