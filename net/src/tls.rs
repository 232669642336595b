//! Connections beyond this machine: TLS 1.3, with certificates that both sides show.
//!
//! One authority, of the user's own, signs them all. A certificate is for one role: that of a Manager is for clients, that of
//! a node for servers, and rustls lets neither be used as the other. A node is known by its role (the name
//! `node.<cluster>.distfun`), not by its address; what it calls itself is for people. All checks are those of rustls and
//! its webpki; that a certificate says what it is for, which they do not insist on, is asked here.
//!
//! ```text
//! ca.pem         certificate of the authority, whose hash is the cluster's name
//! ca-key.pem     its key, on the machine of `distfun init` only
//! manager.pem    certificate and key of this machine's Managers
//! node.pem       certificate and key of its nodes
//! revoked.pem    list of certificates that are not to be believed any more
//! issued         what the authority has signed, a line each; on its machine only
//! ```

#[cfg(feature = "authority")]
pub mod authority;
mod certificate;
mod credentials;
mod files;
#[cfg(feature = "authority")]
pub mod join;
mod problem;
#[cfg(all(test, feature = "authority"))]
pub(crate) mod tests;
#[cfg(feature = "authority")]
pub mod token;
mod wire;

pub use certificate::Facts;
pub use credentials::{Credentials, Watched};
pub use files::{CredentialsError, Files, Learned};

pub(crate) use problem::{problem, within};
pub(crate) use wire::{Shaken, shake};

/// What both sides say that they speak. Something that is no distfun and has TLS is told from it by that.
const PROTOCOL: &[u8] = b"distfun/1";
