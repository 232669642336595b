//! What distfun's managers and nodes say to each other.
//!
//! Today this crate fixes the one fact that every later part agrees on, the port; frames, handshake and sessions
//! arrive with other machines. It knows no actors: an `actix` here would be a bug that a test reports.

/// The TCP port a node listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 2718;
