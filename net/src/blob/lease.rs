//! Blobs in use.

use std::{
    fmt,
    fs::{File, FileTimes},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::SystemTime,
};

use super::platform;
use crate::message::Digest;

/// A whole blob, for use. It is not evicted as long as a clone is there, or shared data that was made of it.
#[derive(Clone)]
#[must_use = "the blob may be evicted when this is dropped"]
pub struct Lease(Arc<Held>);

pub(super) struct Held {
    digest: Digest,
    /// Open for reading, and locked for others to see.
    file: File,
    path: PathBuf,
    len: u64,
}

/// Tells a file from others, and from itself before it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity([u64; 5]);

impl Lease {
    pub(super) fn take(path: &Path, digest: &Digest) -> io::Result<Self> {
        let lease = Self::open(path, digest)?;
        lease.lock();
        Ok(lease)
    }

    /// Without a lock.
    pub(super) fn open(path: &Path, digest: &Digest) -> io::Result<Self> {
        let file = platform::options().read(true).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self(Arc::new(Held { digest: *digest, file, path: path.to_owned(), len: metadata.len() })))
    }

    /// Notes its name. Only before others have the lease.
    pub(super) fn renamed(self, path: PathBuf) -> Self {
        let mut held = self.0;
        if let Some(held) = Arc::get_mut(&mut held) {
            held.path = path;
        }
        Self(held)
    }

    /// Where it can't be locked, it may be evicted by another process: then it only has no name any more.
    pub(super) fn lock(&self) {
        platform::lock_shared(&self.0.file);
    }

    /// The hash that names it.
    pub fn digest(&self) -> &Digest {
        &self.0.digest
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.0.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it is, as long as nobody deletes it.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The file, open for reading. It stays what it is, and in use, when it has lost its name.
    ///
    /// # Errors
    ///
    /// The process has no more descriptors to give.
    pub fn file(&self) -> io::Result<File> {
        self.0.file.try_clone()
    }

    pub(super) fn identity(&self) -> io::Result<Identity> {
        self.0.file.metadata().map(|metadata| Identity(platform::identity(&metadata)))
    }

    /// The hash of its bytes. Only before others have the lease: it moves the file's position.
    pub(super) fn hash(&self) -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&self.0.file)?;
        Ok(hasher.finalize())
    }

    /// Notes that it is used now, by its time of last access. That of the last change stays: it is part of what the
    /// file is known by.
    pub(super) fn touch(&self) {
        // Who may not set it is no worse off than with a cache in which all is equally old.
        let _ = self.0.file.set_times(FileTimes::new().set_accessed(SystemTime::now()));
    }

    pub(super) fn weak(&self) -> Weak<Held> {
        Arc::downgrade(&self.0)
    }

    /// The lease that somebody still has, if it is of the same file.
    pub(super) fn again(weak: &Weak<Held>, identity: Identity) -> Option<Self> {
        weak.upgrade().map(Self).filter(|lease| lease.identity().ok() == Some(identity))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease of {} with {} bytes", self.path().display(), self.len())
    }
}
