//! What a certificate says.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{CertificateRevocationList, FromDer, GeneralName, X509Certificate};

use crate::handshake::Side;

/// What begins the name of a machine in a certificate.
pub(super) const NAME_SCHEME: &str = "distfun:";

/// Letters of a cluster's name: so many bits of a hash nobody meets twice by chance.
const CLUSTER_DIGITS: usize = 16;

/// What a certificate says of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// The machine, as its owner calls it.
    pub name: String,
    /// What it may be.
    pub role: Side,
    /// In hexadecimal digits.
    pub serial: String,
    /// When it begins to be valid,
    pub not_before: SystemTime,
    /// and ends.
    pub not_after: SystemTime,
}

impl Facts {
    /// None if it is no certificate, or says not what it is for.
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let purposes = certificate.extended_key_usage().ok()??.value;
        let role = match (purposes.client_auth, purposes.server_auth, purposes.any) {
            (true, false, false) => Side::Manager,
            (false, true, false) => Side::Node,
            _ => return None,
        };
        let names = &certificate.subject_alternative_name().ok()??.value.general_names;
        let name = names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(NAME_SCHEME),
            _ => None,
        })?;
        let validity = certificate.validity();
        Some(Self {
            name: name.to_owned(),
            role,
            serial: digits(certificate.raw_serial()),
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
        })
    }

    /// What a certificate says that can't be read.
    #[cfg(test)]
    pub(super) fn nobody(role: Side) -> Self {
        let (not_before, not_after) = (SystemTime::UNIX_EPOCH, SystemTime::now() + Duration::from_secs(3600));
        Self { name: "nobody".into(), role, serial: String::new(), not_before, not_after }
    }

    /// What is left of its time.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.not_after.duration_since(SystemTime::now()).unwrap_or_default()
    }
}

fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0))
}

pub(super) fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of the public key of an authority, with its kind: what a cluster is known by. None if it is no certificate.
pub(super) fn fingerprint(authority: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (_, certificate) = X509Certificate::from_der(authority).ok()?;
    Some(Sha256::digest(certificate.public_key().raw).into())
}

/// Whether it is an authority's own word about itself.
#[cfg(feature = "authority")]
pub(super) fn is_self_signed(authority: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(authority).is_ok_and(|(rest, one)| rest.is_empty() && one.verify_signature(None).is_ok())
}

/// The name of the cluster of such an authority.
pub(super) fn cluster(fingerprint: &[u8; 32]) -> String {
    let mut digits = digits(fingerprint);
    digits.truncate(CLUSTER_DIGITS);
    digits
}

/// What a list of certificates that are not to be believed is called, if the authority has signed it: it counts them up.
pub(super) fn list_number(list: &CertificateRevocationListDer<'_>, authority: &CertificateDer<'_>) -> Option<u64> {
    let (_, authority) = X509Certificate::from_der(authority).ok()?;
    let (rest, list) = CertificateRevocationList::from_der(list).ok()?;
    let is_signed = rest.is_empty() && list.verify_signature(authority.public_key()).is_ok();
    if !is_signed {
        return None;
    }
    list.crl_number()?.to_u64_digits().first().copied().or(Some(0))
}

/// Those on such a list, by their serials.
pub(super) fn listed(list: &CertificateRevocationListDer<'_>) -> HashSet<String> {
    let parsed = CertificateRevocationList::from_der(list).ok();
    let serials = |(_, list): (_, CertificateRevocationList<'_>)| {
        list.iter_revoked_certificates().map(|revoked| digits(revoked.raw_serial())).collect()
    };
    parsed.map(serials).unwrap_or_default()
}
