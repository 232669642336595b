//! How a cache can't keep a blob.

use std::{
    io,
    path::{Path, PathBuf},
};

/// A blob can't be kept in the cache. What was there before is as it was, except where eviction made room; the blob can
/// be received in a [`BlobFile`](distfun_core::shared_data::BlobFile) instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The disk is full, or the user's share of it. What had come of the blob is deleted.
    #[error(
        "the cache needs {needed} bytes in {}, where {} free: make space there, or name another directory with \
         DISTFUN_CACHE", .dir.display(), .free.map_or("less is".to_owned(), |free| format!("{free} are"))
    )]
    Full {
        /// Of the cache.
        dir: PathBuf,
        /// Size of the blob.
        needed: u64,
        /// What is free, where the system tells.
        free: Option<u64>,
    },
    /// The directory is on a filesystem that can't be written to.
    #[error("could not {doing} {}, which is on a read-only filesystem: name another directory with DISTFUN_CACHE", .path.display())]
    ReadOnly {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
    },
    /// This user may not use the directory, or a file in it.
    #[error(
        "could not {doing} {}, since permission is missing: allow it, or name another directory with DISTFUN_CACHE",
        .path.display()
    )]
    Denied {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
    },
    /// Others could replace files in the directory, which are mapped and run.
    #[error("the cache can't be in {}: {why}", .dir.display())]
    NotPrivate {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another machine could delete or change what is mapped here, and locks may not reach it.
    #[error("the cache can't be in {}, a network filesystem: name a directory on a local disk with DISTFUN_CACHE", .dir.display())]
    Network {
        /// The directory.
        dir: PathBuf,
    },
    /// The blob alone is larger than the limit.
    #[error("a blob of {needed} bytes is more than the cache may hold in all, which is {limit}: raise its limit")]
    TooLarge {
        /// Size of the blob.
        needed: u64,
        /// [`CacheLimits::bytes`](super::CacheLimits::bytes).
        limit: u64,
    },
    /// What is in use leaves too little. It may fit later.
    #[error(
        "a blob of {needed} bytes does not fit into a cache of {limit}, of which {in_use} are in use: raise its limit"
    )]
    InUse {
        /// What is still needed.
        needed: u64,
        /// [`CacheLimits::bytes`](super::CacheLimits::bytes).
        limit: u64,
        /// What can't be evicted now.
        in_use: u64,
    },
    /// The process may not make files of this size.
    #[error(
        "the cache needs a file of {needed} bytes and this process may make files of up to {limit}: raise the limit \
         (`ulimit -f`)"
    )]
    FileLimit {
        /// Size of the blob.
        needed: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A piece leaves a gap or reaches past the end. Nothing has changed.
    #[error("a piece of {len} bytes at {offset} does not belong behind {written} of {total}")]
    Misplaced {
        /// Where it was to go.
        offset: u64,
        /// Its size in bytes.
        len: u64,
        /// Bytes that are there.
        written: u64,
        /// Size of the whole.
        total: u64,
    },
    /// The blob is not complete. What is there is kept, and can be resumed.
    #[error("{written} of {total} bytes of a blob are there")]
    Incomplete {
        /// Bytes that are there.
        written: u64,
        /// Size of the whole.
        total: u64,
    },
    /// What came was twice not what its name says. It is deleted.
    #[error("what was sent as blob {name} had another hash twice, in the end {found}")]
    Mismatch {
        /// The hash by which it was named.
        name: String,
        /// That of what came.
        found: String,
    },
    /// The operating system refused something else.
    #[error("could not {doing} {}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
}

impl CacheError {
    pub(super) fn io(doing: &'static str, path: &Path, cause: io::Error) -> Self {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { doing, path },
            io::ErrorKind::PermissionDenied => Self::Denied { doing, path },
            _ => Self::Io { doing, path, cause },
        }
    }
}

pub(super) fn is_full(cause: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(cause.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
