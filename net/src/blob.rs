//! What a node keeps of the blobs that Managers sent it: files, each under the hash of its content.
//!
//! ```text
//! <dir>/<hash>                a whole blob, mode 0400; it is never written to or cut again, only unlinked
//! <dir>/<hash>.part           one that is being received, or was until the connection broke
//! <dir>/<hash>.<pid>-<n>.tmp  the same, while another process or thread has the `.part`; it can't be resumed
//! ```
//!
//! A blob's name is the BLAKE3 hash of its bytes, so it does not matter who sent it or when, and nothing is ever out of
//! date. A blob gets its name only once it is complete, on the disk, and has this hash. A process hashes what it finds
//! before it uses it for the first time, and again if it is another file by then.
//!
//! **Several processes may use one directory.** Who writes a file, or uses one, holds the system's lock on it (`flock`),
//! which ends with the process, however that ends. What nobody has locked can be resumed, swept or evicted. At worst two
//! receive the same blob at the same time. Where a filesystem has no such locks nothing is resumed, and the rest holds.
//! Network filesystems are refused: there another machine could delete what is mapped here, and that ends the process.
//!
//! **Eviction** makes room for what is received, the longest unused first, by the time of last access, which every use
//! sets. It unlinks and does nothing else, so who has the file mapped or open keeps it. The budget counts what is in the
//! directory, parts included.
//!
//! Everything here may wait for a disk, and looking up a blob for the first time hashes it: call from a thread that may
//! block. Without a cache nothing is lost but time: receive in a [`BlobFile`](distfun_core::shared_data::BlobFile).

mod dir;
mod error;
mod evict;
mod lease;
mod platform;
mod receiving;
mod slots;
#[cfg(all(test, unix))]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use distfun_core::shared_data::{SharedData, SharedDataError};

use self::{
    dir::Dir,
    slots::{Slot, Slots},
};
pub use self::{
    dir::default_dir,
    error::CacheError,
    lease::Lease,
    receiving::{Finished, Receiving},
};
use crate::message::Digest;

/// What a cache may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheLimits {
    /// Size of everything in the directory, in bytes: 4 GiB unless told otherwise. A blob that is larger is refused.
    /// What is too little is noticed as blobs that are sent again and again; what is too much, as a full disk.
    pub bytes: u64,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { bytes: 4 << 30 }
    }
}

/// What is there of a blob.
#[derive(Debug)]
pub enum Found {
    /// All of it, and its hash is right.
    Whole(Lease),
    /// Its first bytes, which nobody is receiving right now. [`BlobCache::receive`] goes on behind them, and
    /// [`Receiving::written`] then says where: by then others may have been there.
    Partial {
        /// How many.
        offset: u64,
    },
    /// Nothing that could be used.
    Missing,
}

/// What happened so far, in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheCounts {
    /// Whole blobs found not to be what their name says, and deleted.
    pub damaged_count: u64,
    /// Blobs and parts deleted to make room.
    pub evicted_count: u64,
    /// Blobs received.
    pub received_count: u64,
}

/// A directory of blobs. A clone is another handle of the same.
#[derive(Clone)]
pub struct BlobCache(Arc<Inner>);

struct Inner {
    dir: Dir,
    limits: CacheLimits,
    slots: Slots,
    damaged: AtomicU64,
    evicted: AtomicU64,
    received: AtomicU64,
}

impl BlobCache {
    /// Opens a directory of blobs, by default [`default_dir`], and makes it if it is not there. Deletes what processes
    /// that are gone have left, and what is beyond the limits.
    ///
    /// # Errors
    ///
    /// The directory can't be made, others could write to it, or it is on a network filesystem.
    pub fn open(dir: impl Into<PathBuf>, limits: CacheLimits) -> Result<Self, CacheError> {
        let dir = Dir::open(dir.into())?;
        let zero = AtomicU64::default;
        let cache = Self(Arc::new(Inner {
            dir,
            limits,
            slots: Slots::default(),
            damaged: zero(),
            evicted: zero(),
            received: zero(),
        }));
        cache.sweep()?;
        // What is in use may be more than the budget; that is an error only for who wants to add to it.
        let _ = cache.make_room(0);
        Ok(cache)
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        self.0.dir.path()
    }

    /// What is there of a blob. What can't be read, or is not what its name says, is deleted and as good as not there.
    ///
    /// The first time that this process finds a whole blob it reads all of it, 0.25 s and more per GiB.
    pub fn lookup(&self, digest: &Digest) -> Found {
        let slot = self.0.slots.get(digest);
        if let Some(lease) = self.whole(digest, &slot) {
            return Found::Whole(lease);
        }
        drop(slot);
        self.0.slots.forget(digest);
        match receiving::resumable(&self.0.dir, digest) {
            Some(offset) => Found::Partial { offset },
            None => Found::Missing,
        }
    }

    /// Begins to receive a blob of `total` bytes, or goes on: [`Receiving::written`] says from which byte.
    ///
    /// Makes room for all of it, on the disk too where the filesystem can reserve it, so that a blob which does not fit
    /// is refused before it is sent.
    ///
    /// # Errors
    ///
    /// There is no room for it, by the limits or on the disk, or the directory can't be written to. Receive it elsewhere
    /// then.
    pub fn receive(&self, digest: Digest, total: u64) -> Result<Receiving, CacheError> {
        Receiving::begin(self.clone(), digest, total)
    }

    /// The shared data in a blob: the same for all who ask while somebody has it, so that a process maps it once. The
    /// blob stays in use as long as the data.
    ///
    /// # Errors
    ///
    /// It is no shared data, or of a machine of another byte order, or it can't be mapped. Only on Linux can it.
    pub fn shared_data(&self, lease: &Lease) -> Result<SharedData, SharedDataError> {
        let slot = self.0.slots.get(lease.digest());
        let mut state = slot.lock();
        if let Some(shared) = state.shared.upgrade() {
            return Ok(shared);
        }
        let refused =
            |cause: std::io::Error| SharedDataError::Damaged { reason: format!("it can't be opened: {cause}") };
        let shared = SharedData::from_kept_file(lease.file().map_err(refused)?, *lease.digest())?;
        state.shared = shared.downgrade();
        Ok(shared)
    }

    /// What happened so far.
    pub fn counts(&self) -> CacheCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CacheCounts {
            damaged_count: read(&self.0.damaged),
            evicted_count: read(&self.0.evicted),
            received_count: read(&self.0.received),
        }
    }

    /// The whole blob, if it is there and what its name says. Others who want this blob wait meanwhile.
    fn whole(&self, digest: &Digest, slot: &Slot) -> Option<Lease> {
        let path = self.0.dir.entry(digest);
        let mut state = slot.lock();
        let lease = Lease::take(&path, digest).ok()?;
        let identity = lease.identity().ok()?;
        if state.verified != Some(identity) {
            state.verified = None;
            if lease.hash().ok() != Some(blake3::Hash::from_bytes(*digest)) {
                let _ = std::fs::remove_file(&path);
                self.0.damaged.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            state.verified = Some(identity);
        }
        lease.touch();
        let lease = Lease::again(&state.leased, identity).unwrap_or(lease);
        state.leased = lease.weak();
        Some(lease)
    }

    /// Notes that a file which was just received has been verified.
    fn received(&self, lease: &Lease) {
        let slot = self.0.slots.get(lease.digest());
        let mut state = slot.lock();
        state.verified = lease.identity().ok();
        state.leased = lease.weak();
        self.0.received.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for BlobCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobCache").field("dir", &self.dir()).field("limits", &self.0.limits).finish_non_exhaustive()
    }
}
