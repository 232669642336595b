//! That who says hello has the key.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{Side, Trust};

pub(super) type Proof = [u8; 32];

/// What both sides make their proofs with.
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    pub(super) fn new(trust: &Trust) -> Self {
        let none = [0; 32];
        let secret = match trust {
            Trust::Cookie(cookie) => cookie.bytes(),
            Trust::PeerChecked => &none,
            // Nobody else is in the connection.
            #[cfg(feature = "tls")]
            Trust::Certificates(_) => &none,
        };
        Self(Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"))
    }

    pub(super) fn prove(&self, prover: Side, version: u16, manager: &[u8], node: &[u8]) -> Proof {
        self.mac(prover, version, manager, node).finalize().into_bytes().into()
    }

    /// In a time that does not depend on where they differ.
    pub(super) fn is_proved(&self, proof: &[u8], prover: Side, version: u16, manager: &[u8], node: &[u8]) -> bool {
        self.mac(prover, version, manager, node).verify_slice(proof).is_ok()
    }

    /// Each part has a fixed length, or its length before it, so that no two ways to cut the bytes read the same.
    fn mac(&self, prover: Side, version: u16, manager: &[u8], node: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(match prover {
            Side::Manager => b"distfun manager\0",
            Side::Node => b"distfun node\0\0\0\0",
        });
        mac.update(&version.to_le_bytes());
        for hello in [manager, node] {
            mac.update(&(hello.len() as u64).to_le_bytes());
            mac.update(hello);
        }
        mac
    }
}
