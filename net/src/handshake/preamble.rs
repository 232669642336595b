//! The first twelve bytes of each side, the same in all versions.

use super::MAX_HANDSHAKE_BYTES;

pub(super) const MAGIC: [u8; 8] = *b"distfun\0";
pub(super) const PREAMBLE_BYTES: usize = 12;

/// Longest hello in bytes, in any version.
pub(super) const MAX_HELLO_BYTES: usize = MAX_HANDSHAKE_BYTES - PREAMBLE_BYTES;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Preamble {
    pub(super) version: u16,
    /// Of the hello that follows, in bytes.
    pub(super) size: u16,
}

impl Preamble {
    pub(super) fn bytes(self) -> [u8; PREAMBLE_BYTES] {
        let mut bytes = [0; PREAMBLE_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&self.version.to_le_bytes());
        bytes[10..].copy_from_slice(&self.size.to_le_bytes());
        bytes
    }

    /// None if it does not start as distfun does.
    pub(super) fn read(bytes: [u8; PREAMBLE_BYTES]) -> Option<Self> {
        let [magic @ .., v0, v1, s0, s1] = bytes;
        let preamble = Self { version: u16::from_le_bytes([v0, v1]), size: u16::from_le_bytes([s0, s1]) };
        (magic == MAGIC).then_some(preamble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preamble_never_changes() {
        let golden = *b"distfun\0\x01\x00\x34\x12";
        assert_eq!(Preamble { version: 1, size: 0x1234 }.bytes(), golden);
        assert_eq!(Preamble::read(golden), Some(Preamble { version: 1, size: 0x1234 }));
        assert_eq!(Preamble::read(*b"distfun1\x01\x00\x34\x12"), None);
        assert_eq!(MAX_HELLO_BYTES, 4084);
    }
}
