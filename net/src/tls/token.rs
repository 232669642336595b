//! The text by which a machine joins.

use std::{fmt, str::FromStr};

use super::certificate::digits;

/// What all tokens of this kind begin with.
const PREFIX: &str = "dfj1";

/// Where to join, whom to believe there, and what to show: `dfj1.ADDRESS.AUTHORITY.ID.SECRET`.
///
/// The authority is the SHA-256 of its public key: who joins checks it before it shows the secret. Only
/// [`text`](Self::text) shows that.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Host and port.
    pub address: String,
    pub(super) fingerprint: [u8; 32],
    pub(super) id: [u8; 4],
    pub(super) secret: [u8; 16],
}

impl Token {
    /// With its secret: who has it can join.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { address, fingerprint, id, secret } = self;
        format!("{PREFIX}.{address}.{}.{}.{}", digits(fingerprint), digits(id), digits(secret))
    }

    /// Name of the cluster.
    #[must_use]
    pub fn cluster(&self) -> String {
        super::certificate::cluster(&self.fingerprint)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("address", &self.address).field("id", &digits(&self.id)).finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let rest = text.trim().strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('.')).ok_or(TokenError)?;
        // An address may have dots.
        let mut parts = rest.rsplitn(4, '.');
        let mut part = || parts.next().ok_or(TokenError);
        let (secret, id, fingerprint, address) = (part()?, part()?, part()?, part()?);
        let is_address =
            address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !is_address {
            return Err(TokenError);
        }
        Ok(Self {
            address: address.to_owned(),
            fingerprint: bytes(fingerprint)?,
            id: bytes(id)?,
            secret: bytes(secret)?,
        })
    }
}

fn bytes<const N: usize>(digits: &str) -> Result<[u8; N], TokenError> {
    if digits.len() != 2 * N || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(TokenError);
    }
    let mut bytes = [0; N];
    for (byte, place) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&digits[place..place + 2], 16).map_err(|_| TokenError)?;
    }
    Ok(bytes)
}

/// A text is no token. It is not shown, since it may be one but for a letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no token: one begins with {PREFIX}. and is what `distfun token` says, to its last letter")]
pub struct TokenError;
