//! The directory of credentials.

use std::{
    collections::HashSet,
    fs::File,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use data_encoding::BASE64;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject};

use super::certificate::{cluster, fingerprint, list_number, listed};
use crate::{
    handshake::Side,
    identity::{IdentityError, Secret, secret},
};

/// A list of 20,000 certificates is not larger; everything else is a few kilobytes.
const MAX_FILE_BYTES: usize = 1 << 20;

/// A directory of credentials, whatever is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// Those of a directory, which need not be there.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where they are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The authority's certificate.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Its key, where it is.
    #[must_use]
    pub fn authority_key(&self) -> PathBuf {
        self.dir.join("ca-key.pem")
    }

    /// Certificate and key of this machine in a role.
    #[must_use]
    pub fn own(&self, role: Side) -> PathBuf {
        self.dir.join(format!("{role}.pem"))
    }

    /// The list of certificates that are not to be believed.
    #[must_use]
    pub fn revoked(&self) -> PathBuf {
        self.dir.join("revoked.pem")
    }

    /// When the files that a side uses were changed, as far as the system tells.
    pub(super) fn changed(&self, role: Side) -> [Option<SystemTime>; 3] {
        let changed = |path: PathBuf| path.metadata().and_then(|found| found.modified()).ok();
        [self.authority(), self.own(role), self.revoked()].map(changed)
    }

    /// The authority's certificate. None if there is none.
    ///
    /// # Errors
    /// If others may read it, or it is no certificate.
    pub(super) fn read_authority(&self) -> Result<Option<CertificateDer<'static>>, CredentialsError> {
        self.read(self.authority(), "certificate", |pem| CertificateDer::from_pem_slice(pem).ok())
    }

    /// The name of the cluster that this machine is part of. None if it is in none.
    ///
    /// # Errors
    /// The authority's certificate can't be read.
    pub fn cluster(&self) -> Result<Option<String>, CredentialsError> {
        let Some(authority) = self.read_authority()? else { return Ok(None) };
        let malformed = || CredentialsError::Malformed { path: self.authority(), what: "certificate" };
        fingerprint(&authority).map(|print| Some(cluster(&print))).ok_or_else(malformed)
    }

    /// Certificate and key of this machine in a role. None if it has none.
    pub(super) fn read_own(
        &self,
        role: Side,
    ) -> Result<Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>, CredentialsError> {
        self.read(self.own(role), "certificate with its key", |pem| {
            Some((CertificateDer::from_pem_slice(pem).ok()?, PrivateKeyDer::from_pem_slice(pem).ok()?))
        })
    }

    /// The list of certificates that are not to be believed; it must be the authority's.
    pub(super) fn read_revoked(
        &self,
        authority: &CertificateDer<'_>,
    ) -> Result<Option<CertificateRevocationListDer<'static>>, CredentialsError> {
        self.read(self.revoked(), "list of this authority's", |pem| {
            let list = CertificateRevocationListDer::from_pem_slice(pem).ok()?;
            list_number(&list, authority).map(|_| list)
        })
    }

    /// The list of certificates that are not to be believed, for others to learn. None if there is none.
    ///
    /// # Errors
    /// It can't be read.
    pub fn revocations(&self) -> Result<Option<Vec<u8>>, CredentialsError> {
        let Some(authority) = self.read_authority()? else { return Ok(None) };
        Ok(self.read_revoked(&authority)?.map(|list| list.to_vec()))
    }

    /// Keeps the list that another machine has, if this authority has signed it and it is newer than ours. Whoever has it
    /// may send it, since nobody else can make one.
    ///
    /// # Errors
    /// Ours can't be read, or it can't be written.
    pub fn learn(&self, list: &[u8]) -> Result<Learned, CredentialsError> {
        let Some(authority) = self.read_authority()? else { return Ok(Learned::Nothing) };
        let theirs = CertificateRevocationListDer::from(list);
        let Some(number) = list_number(&theirs, &authority) else { return Ok(Learned::Nothing) };
        let ours = || -> Result<Option<u64>, CredentialsError> {
            Ok(self.read_revoked(&authority)?.and_then(|list| list_number(&list, &authority)))
        };
        // Most say nothing new, and need not wait for anybody.
        match ours()? {
            Some(ours) if ours > number => return Ok(Learned::IsOlder),
            Some(ours) if ours == number => return Ok(Learned::Nothing),
            _ => {}
        }
        let _locked = self.lock()?;
        if ours()?.is_some_and(|ours| ours >= number) {
            return Ok(Learned::Nothing); // another one was quicker
        }
        secret::replace(Secret::Credential, &self.revoked(), &pem("X509 CRL", list))?;
        Ok(Learned::Newer)
    }

    /// Serials of the certificates on the list, as the file has it now.
    pub(super) fn listed(&self) -> Result<HashSet<String>, CredentialsError> {
        let Some(authority) = self.read_authority()? else { return Ok(HashSet::new()) };
        Ok(self.read_revoked(&authority)?.as_ref().map(listed).unwrap_or_default())
    }

    /// Until it is dropped, nobody else makes another list of the one that is there.
    pub(super) fn lock(&self) -> Result<File, CredentialsError> {
        let path = self.dir.join(".lock");
        if !path.exists() {
            secret::create(Secret::Credential, &path, b"")?;
        }
        let locked = File::open(&path).and_then(|file| lock(&file).map(|()| file));
        locked.map_err(|cause| IdentityError::io(Secret::Credential, "lock", &path, cause).into())
    }

    fn read<T>(
        &self,
        path: PathBuf,
        what: &'static str,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, CredentialsError> {
        match secret::read(Secret::Credential, &path, MAX_FILE_BYTES)? {
            None => Ok(None),
            Some(pem) => parse(&pem).map(Some).ok_or(CredentialsError::Malformed { path, what }),
        }
    }
}

/// What became of a list from another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// It is kept from now on.
    Newer,
    /// Ours is newer: it should be sent there.
    IsOlder,
    /// It says nothing new, or is not this authority's.
    Nothing,
}

#[cfg(unix)]
fn lock(file: &File) -> io::Result<()> {
    use rustix::fs::{FlockOperation, flock};
    Ok(rustix::io::retry_on_intr(|| flock(file, FlockOperation::LockExclusive))?)
}

#[cfg(not(unix))]
fn lock(_: &File) -> io::Result<()> {
    Ok(())
}

pub(super) fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let text = BASE64.encode(der);
    let lines = text.as_bytes().chunks(64).flat_map(|line| [line, b"\n"]).flatten().copied();
    let (begin, end) = (format!("-----BEGIN {label}-----\n"), format!("-----END {label}-----\n"));
    begin.bytes().chain(lines).chain(end.bytes()).collect()
}

/// Credentials can't be used. Files are left as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A file is not this user's alone, or can't be read.
    #[error(transparent)]
    File(#[from] IdentityError),
    /// A file has something else in it.
    #[error("{} is no {what}: {}", .path.display(), anew())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
    /// A file that belongs to the others is not there.
    #[error("{} is missing, and belongs to what is there: {}", .path.display(), anew())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Its time is over, or has not begun.
    #[error("the certificate {} of this machine is not valid {}: {}", .path.display(), when(*.is_over), anew())]
    OutOfTime {
        /// The file.
        path: PathBuf,
        /// Whether it is over; else this machine's clock is behind.
        is_over: bool,
    },
    /// The certificate is for another role than the file's name says, or not the authority's.
    #[error("{} does not fit the authority beside it: {}", .path.display(), anew())]
    Unfit {
        /// The file.
        path: PathBuf,
    },
}

fn anew() -> &'static str {
    "run `distfun join` here, with what `distfun token` says on the machine of `distfun init` (there, `distfun init`)"
}

fn when(is_over: bool) -> &'static str {
    if is_over { "any more" } else { "yet (look at the clock)" }
}
