//! Who signs certificates: a key on one machine.

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use super::{
    CredentialsError, Files,
    certificate::{Facts, NAME_SCHEME, cluster, digits, fingerprint, list_number, listed},
    credentials::node_name,
};
use crate::{
    handshake::Side,
    identity::{IdentityError, Secret, random_bytes, secret},
};

/// How long the authority itself is valid.
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);

/// How long a machine's certificate is valid unless told otherwise.
pub const LIFE: Duration = Duration::from_secs(365 * 86_400);

/// So much the clocks of machines may differ.
const SKEW: Duration = Duration::from_secs(300);

/// Longest name of a machine.
const MAX_NAME_BYTES: usize = 64;

/// The file with a line for each certificate that was signed.
const RECORD: &str = "issued";

/// Of that file: a line has about 100 bytes.
const MAX_RECORD_BYTES: usize = 32 << 20;

/// The key that signs certificates, and the record of what it has signed.
pub struct Authority {
    files: Files,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    fingerprint: [u8; 32],
}

/// A certificate that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// In hexadecimal digits.
    pub serial: String,
    /// What it is for.
    pub role: Side,
    /// The machine's name.
    pub name: String,
    /// Until when it is valid.
    pub not_after: String,
    /// Whether it is not to be believed any more.
    pub is_revoked: bool,
}

/// A certificate's key, and the request for it.
pub(super) struct Request {
    key: KeyPair,
    pub(super) der: Vec<u8>,
}

impl Request {
    pub(super) fn new() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let der = CertificateParams::default().serialize_request(&key)?.der().to_vec();
        Ok(Self { key, der })
    }

    /// What is kept of a certificate that was signed for it.
    pub(super) fn with(&self, certificate_pem: &str) -> String {
        format!("{certificate_pem}{}", self.key.serialize_pem())
    }
}

impl Authority {
    /// A new authority, whose files are made.
    ///
    /// # Errors
    /// There is one already, or this machine is part of another's cluster.
    pub fn create(files: Files) -> Result<Self, AuthorityError> {
        if files.cluster()?.is_some() {
            return Err(AuthorityError::ThereAlready { path: files.authority() });
        }
        // The key first: all else is made of it where it is missing, as after a process was killed.
        let key = KeyPair::generate()?.serialize_pem();
        let there_already = || AuthorityError::ThereAlready { path: files.authority_key() };
        if !secret::create(Secret::Credential, &files.authority_key(), key.as_bytes())? {
            return Err(there_already());
        }
        Self::open(files.clone())?.ok_or_else(there_already)
    }

    /// The authority of this machine. None if it is elsewhere, or nowhere.
    ///
    /// # Errors
    /// Its files can't be used.
    pub fn open(files: Files) -> Result<Option<Self>, AuthorityError> {
        let path = files.authority_key();
        let Some(pem) = secret::read(Secret::Credential, &path, MAX_RECORD_BYTES)? else { return Ok(None) };
        let malformed = || CredentialsError::Malformed { path: path.clone(), what: "key" };
        let pem = String::from_utf8(pem).map_err(|_| malformed())?;
        let key = KeyPair::from_pem(&pem).map_err(|_| malformed())?;
        let is_new = files.read_authority()?.is_none();
        if is_new {
            secret::create(Secret::Credential, &files.dir().join(RECORD), b"")?;
            secret::replace(Secret::Credential, &files.authority(), certify(&key)?.as_bytes())?;
        }
        let missing = || CredentialsError::Missing { path: files.authority() };
        let certificate = files.read_authority()?.ok_or_else(missing)?;
        let unfit = || CredentialsError::Unfit { path: files.authority() };
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        let fingerprint = fingerprint(&certificate).ok_or_else(unfit)?;
        let authority = Self { files, issuer, certificate, fingerprint };
        if is_new {
            authority.publish_revoked()?;
        }
        Ok(Some(authority))
    }

    /// The cluster's name.
    #[must_use]
    pub fn cluster(&self) -> String {
        cluster(&self.fingerprint)
    }

    pub(super) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// Where it is kept.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Gives this machine a certificate for a role, for this long.
    ///
    /// # Errors
    /// The name is none, or the files can't be written.
    pub fn issue_here(&self, role: Side, name: &str, life: Duration) -> Result<(), AuthorityError> {
        let request = Request::new()?;
        let certificate = self.sign(&request.der, role, name, life)?;
        secret::replace(Secret::Credential, &self.files.own(role), request.with(&certificate).as_bytes())?;
        Ok(())
    }

    /// Signs a request, of which nothing but its key is taken. As PEM.
    pub(super) fn sign(
        &self,
        request: &[u8],
        role: Side,
        name: &str,
        life: Duration,
    ) -> Result<String, AuthorityError> {
        check_name(name)?;
        let request = CertificateSigningRequestParams::from_der(&request.into())?;
        let mut params = leaf(name, life)?;
        params.subject_alt_names.push(SanType::URI(format!("{NAME_SCHEME}{name}").try_into()?));
        params.extended_key_usages.push(match role {
            Side::Manager => ExtendedKeyUsagePurpose::ClientAuth,
            Side::Node => ExtendedKeyUsagePurpose::ServerAuth,
        });
        if role == Side::Node {
            params.subject_alt_names.push(SanType::DnsName(node_name(&self.cluster()).try_into()?));
        }
        let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes).unwrap_or_default();
        let not_after = humantime::format_rfc3339_seconds(SystemTime::now() + life);
        // What is not written down could not be revoked.
        self.record(&format!("issued {} {role} {name} {not_after}", digits(&serial)))?;
        Ok(params.signed_by(&request.public_key, &self.issuer)?.pem())
    }

    /// A certificate for who lets others join, with its key.
    pub(super) fn for_joining(
        &self,
        life: Duration,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = leaf("join", life)?;
        params.subject_alt_names.push(SanType::DnsName(join_name(&self.cluster()).try_into()?));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        Ok((certificate, key))
    }

    /// What was signed, the oldest first.
    ///
    /// # Errors
    /// The record can't be read.
    pub fn issued(&self) -> Result<Vec<Issued>, AuthorityError> {
        let missing = || AuthorityError::NoRecord { path: self.record_path() };
        let record = secret::read(Secret::Credential, &self.record_path(), MAX_RECORD_BYTES)?.ok_or_else(missing)?;
        let record = String::from_utf8_lossy(&record);
        let mut issued: Vec<Issued> = Vec::new();
        for line in record.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["issued", serial, role, name, not_after] => issued.push(Issued {
                    serial: serial.to_owned(),
                    role: if role == Side::Manager.to_string() { Side::Manager } else { Side::Node },
                    name: name.to_owned(),
                    not_after: not_after.to_owned(),
                    is_revoked: false,
                }),
                ["revoked", serial, ..] => {
                    issued.iter_mut().filter(|known| known.serial == serial).for_each(|known| known.is_revoked = true);
                }
                _ => return Err(AuthorityError::Record { path: self.record_path(), line: line.to_owned() }),
            }
        }
        Ok(issued)
    }

    /// Names of this machine itself, as its own certificates have them.
    #[must_use]
    pub fn own_names(&self) -> Vec<String> {
        let names = [Side::Manager, Side::Node].into_iter().filter_map(|role| own_name(&self.files, role));
        names.collect()
    }

    /// Takes all certificates of a machine back, in one role or in both, and says which.
    ///
    /// # Errors
    /// There are none that are valid, or files can't be written.
    pub fn revoke(&self, name: &str, role: Option<Side>) -> Result<Vec<Issued>, AuthorityError> {
        let issued = self.issued()?;
        let is_it = |known: &&Issued| known.name == name && role.is_none_or(|role| known.role == role);
        let (before, meant): (Vec<_>, Vec<_>) =
            issued.iter().filter(is_it).cloned().partition(|known| known.is_revoked);
        if meant.is_empty() {
            // It may have been interrupted before the list was written.
            if !before.is_empty() && !self.is_published()? {
                self.publish_revoked()?;
                return Ok(before);
            }
            let known: BTreeSet<_> =
                issued.iter().filter(|known| !known.is_revoked).map(|known| &*known.name).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(AuthorityError::Unknown { name: name.to_owned(), known });
        }
        let now = humantime::format_rfc3339_seconds(SystemTime::now());
        for Issued { serial, .. } in &meant {
            self.record(&format!("revoked {serial} {now}"))?;
        }
        self.publish_revoked()?;
        Ok(meant)
    }

    /// Writes the list of what is not to be believed, as the record and the list before have it.
    ///
    /// # Errors
    /// Files can't be read or written.
    pub fn publish_revoked(&self) -> Result<(), AuthorityError> {
        let _locked = self.files.lock()?;
        let last = self.files.read_revoked(&self.certificate)?;
        // What is on the last list stays on it, whatever became of the record.
        let mut serials: BTreeSet<String> = last.iter().flat_map(listed).collect();
        serials.extend(self.issued()?.into_iter().filter(|known| known.is_revoked).map(|known| known.serial));
        let now = SystemTime::now();
        // Larger than any that was given before, also if what is here was brought back from an old copy.
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_secs());
        let number =
            last.and_then(|last| list_number(&last, &self.certificate)).map_or(0, |number| number + 1).max(seconds);
        let entry = |serial: &String| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&bytes(serial)),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: (now - SKEW).into(),
            next_update: (now + AUTHORITY_LIFE).into(),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(entry).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let pem = list.signed_by(&self.issuer)?.pem()?;
        secret::replace(Secret::Credential, &self.files.revoked(), pem.as_bytes())?;
        Ok(())
    }

    fn record_path(&self) -> PathBuf {
        self.files.dir().join(RECORD)
    }

    fn record(&self, line: &str) -> Result<(), AuthorityError> {
        Ok(secret::append(Secret::Credential, &self.record_path(), line)?)
    }

    /// Whether all that is recorded as revoked is on the list that others believe.
    ///
    /// # Errors
    /// Files can't be read.
    pub fn is_published(&self) -> Result<bool, AuthorityError> {
        let Some(list) = self.files.read_revoked(&self.certificate)? else { return Ok(false) };
        let listed = listed(&list);
        Ok(self.issued()?.iter().all(|known| !known.is_revoked || listed.contains(&known.serial)))
    }

    #[cfg(test)]
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    #[cfg(test)]
    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }
}

/// The certificate of an authority, by its own key.
fn certify(key: &KeyPair) -> Result<String, AuthorityError> {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - SKEW).into();
    params.not_after = (now + AUTHORITY_LIFE).into();
    // Another one for each authority, so that none is taken for another before its signature is looked at.
    let cluster = cluster(&Sha256::digest(key.subject_public_key_info()).into());
    params.distinguished_name = named(&format!("distfun {cluster}"));
    Ok(params.self_signed(key)?.pem())
}

/// How one that joins knows that it speaks to the authority.
pub(super) fn join_name(cluster: &str) -> String {
    format!("join.{cluster}.distfun")
}

fn leaf(name: &str, life: Duration) -> Result<CertificateParams, AuthorityError> {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_before = (now - SKEW).into();
    params.not_after = (now + life).into();
    // Positive, and no shorter than it seems.
    let mut serial = random_bytes::<16>()?;
    serial[0] = serial[0] & 0x3f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// Of digits that [`digits`] has written.
fn bytes(digits: &str) -> Vec<u8> {
    let pair = |place: usize| u8::from_str_radix(digits.get(place..place + 2)?, 16).ok();
    (0..digits.len()).step_by(2).filter_map(pair).collect()
}

/// The name that this machine has in a role, if it has a certificate for that.
#[must_use]
pub fn own_name(files: &Files, role: Side) -> Option<String> {
    let (certificate, _) = files.read_own(role).ok()??;
    Facts::read(&certificate).map(|facts| facts.name)
}

/// Checks the name of a machine.
///
/// # Errors
/// If it could be taken for something else where it is shown or kept.
pub fn check_name(name: &str) -> Result<(), AuthorityError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.starts_with('-') || !name.chars().all(is_plain) {
        return Err(AuthorityError::Name { name: name.to_owned() });
    }
    Ok(())
}

/// The authority can't do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// Its files can't be used.
    #[error(transparent)]
    Files(#[from] CredentialsError),
    /// This machine has an authority, or knows one.
    #[error("{} is there already, so this machine is part of a cluster", .path.display())]
    ThereAlready {
        /// What is there.
        path: PathBuf,
    },
    /// It is no name for a machine.
    #[error(
        "{name:?} is no name for a machine; use up to {MAX_NAME_BYTES} letters, digits, '.', '_' and '-', not beginning with '-'"
    )]
    Name {
        /// As given.
        name: String,
    },
    /// It has given no certificate to such a machine, or none that is still valid.
    #[error("no machine {name} has a certificate that could be revoked; those that have one are {known}")]
    Unknown {
        /// As given.
        name: String,
        /// Names of machines.
        known: String,
    },
    /// Its record of what was issued is gone, without which revoking is not possible.
    #[error("{} is missing, which says what was issued: bring it back from a copy, or make a new authority in another directory", .path.display())]
    NoRecord {
        /// The record.
        path: PathBuf,
    },
    /// Its record has been written by somebody else.
    #[error("{} has a line that can't be read: {line:?}", .path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// As it is.
        line: String,
    },
    /// Signing failed, or there was nothing that could be signed.
    #[error("a certificate could not be made")]
    Signing(#[from] rcgen::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[from] io::Error),
}

impl From<IdentityError> for AuthorityError {
    fn from(error: IdentityError) -> Self {
        Self::Files(error.into())
    }
}
