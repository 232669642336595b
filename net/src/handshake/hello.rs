//! What the first bytes after the preamble say.

use serde::{Deserialize, Serialize};

use super::{
    MAX_PROGRAM_BYTES, Refusal, Trust,
    preamble::{MAX_HELLO_BYTES, Preamble},
    proof::Proof,
};

/// Version of distfun of this build, for people.
pub(super) const BUILD: &str = env!("CARGO_PKG_VERSION");

/// Longest build in bytes that is shown.
const MAX_BUILD_BYTES: usize = 32;

/// Longest text of a refusal in bytes, so that its length is one byte.
pub(super) const MAX_REASON_BYTES: usize = 127;

pub(super) type Nonce = [u8; 32];

/// A hello. Only `build` is the same in all versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Greeting<'b> {
    pub(super) build: &'b str,
    #[serde(borrow)]
    pub(super) opening: Opening<'b>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Opening<'b> {
    Manager {
        mode: Mode,
        nonce: Nonce,
        instance: [u8; 16],
        program: &'b str,
    },
    /// The proof is last: it is about all bytes before it.
    Node {
        mode: Mode,
        nonce: Nonce,
        proof: Proof,
    },
    Refused {
        code: u8,
        reason: &'b str,
    },
}

/// How a side wants to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mode {
    Cookie,
    PeerChecked,
    Certificates,
}

impl Mode {
    pub(super) fn of(trust: &Trust) -> Self {
        match trust {
            Trust::Cookie(_) => Self::Cookie,
            Trust::PeerChecked => Self::PeerChecked,
            #[cfg(feature = "tls")]
            Trust::Certificates(_) => Self::Certificates,
        }
    }
}

impl<'b> Greeting<'b> {
    pub(super) fn bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a hello has nothing that postcard can't write")
    }

    /// None unless it is a hello of this version, to its last byte.
    pub(super) fn read(bytes: &'b [u8]) -> Option<Self> {
        let (greeting, rest) = postcard::take_from_bytes::<Self>(bytes).ok()?;
        let is_short = match greeting.opening {
            Opening::Manager { program, .. } => program.len() <= MAX_PROGRAM_BYTES,
            Opening::Node { .. } => true,
            Opening::Refused { reason, .. } => reason.len() <= MAX_REASON_BYTES,
        };
        (rest.is_empty() && is_short && greeting.build.len() <= MAX_BUILD_BYTES).then_some(greeting)
    }
}

/// The build of a hello of any version, for people.
pub(super) fn build_of(hello: &[u8]) -> Option<String> {
    let (length, rest) = hello.split_first()?;
    let build = str::from_utf8(rest.get(..(*length).into())?).ok()?;
    Some(printable(build, MAX_BUILD_BYTES))
}

/// The preamble and the hello behind it.
pub(super) fn framed(version: u16, hello: &[u8]) -> Vec<u8> {
    debug_assert!(hello.len() <= MAX_HELLO_BYTES);
    let mut bytes = Preamble { version, size: hello.len() as u16 }.bytes().to_vec();
    bytes.extend(hello);
    bytes
}

/// A refusal from who has not said hello.
pub(super) fn refused(version: u16, build: &str, refusal: Refusal) -> Vec<u8> {
    let opening = Opening::Refused { code: refusal.code(), reason: refusal.text() };
    framed(version, &Greeting { build, opening }.bytes())
}

pub(super) fn refusal_of_a_stranger(refusal: Refusal) -> Vec<u8> {
    refused(crate::VERSION, BUILD, refusal)
}

/// The start of a text from a peer, with all that could move a terminal's cursor written as an escape.
pub(super) fn printable(text: &str, max_bytes: usize) -> String {
    let mut shown = String::new();
    for c in prefix(text, max_bytes).chars() {
        if c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric() {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
    }
    shown
}

/// As many whole characters as fit.
pub(super) fn prefix(text: &str, max_bytes: usize) -> &str {
    let ends = text.char_indices().map(|(start, c)| start + c.len_utf8());
    &text[..ends.take_while(|end| *end <= max_bytes).last().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hellos_of_version_1_are_as_published() {
        let manager = Opening::Manager { mode: Mode::Cookie, nonce: [1; 32], instance: [2; 16], program: "fit" };
        let bytes = Greeting { build: "0.1.0", opening: manager }.bytes();
        assert_eq!(bytes, [b"\x050.1.0\x00\x00", &[1; 32][..], &[2; 16], b"\x03fit"].concat());
        let node = Opening::Node { mode: Mode::PeerChecked, nonce: [3; 32], proof: [4; 32] };
        let bytes = Greeting { build: "0.1.0", opening: node }.bytes();
        assert_eq!(bytes, [b"\x050.1.0\x01\x01", &[3; 32][..], &[4; 32]].concat());
        let bytes = Greeting { build: "0.1.0", opening: Opening::Refused { code: 6, reason: "full" } }.bytes();
        assert_eq!(bytes, b"\x050.1.0\x02\x06\x04full");
    }

    #[test]
    fn the_build_is_read_in_hellos_of_all_versions() {
        assert_eq!(build_of(b"\x050.9.1 and what version 7 has to say").as_deref(), Some("0.9.1"));
        assert_eq!(build_of(b"\x03\x1b[m").as_deref(), Some(r"\u{1b}[m"));
        for unreadable in [&b""[..], b"\x05.", b"\xff0.1", b"\x02\xff\xff"] {
            assert_eq!(build_of(unreadable), None);
        }
    }
}
