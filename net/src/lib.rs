//! What distfun's managers and nodes say to each other.
//!
//! It carries bytes and knows no actors: an `actix` here would be a bug that a test reports.

pub mod blob;
pub mod frame;
pub mod gate;
pub mod handshake;
pub mod identity;
pub mod link;
pub mod message;
pub mod resolve;
pub mod session;
#[cfg(feature = "tls")]
pub mod tls;
pub mod transport;

pub use distfun_core::options::DEFAULT_PORT;

/// Version of the protocol. Peers of different versions refuse each other and say so.
pub const VERSION: u16 = 4;
