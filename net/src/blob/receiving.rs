//! Blobs on their way in.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{
    BlobCache,
    dir::{Dir, hex},
    error::{CacheError, is_full},
    lease::Lease,
    platform::{self, Lock},
};
use crate::message::Digest;

/// How often a `.part` that somebody has locked is tried: who only looks at it has it for some microseconds.
const LOCK_TRIES: u32 = 4;
/// How many names are tried for a file that nobody else should know.
const TEMPORARY_TRIES: u32 = 16;

/// A blob that is being received. What is dropped before it is finished can be resumed, unless somebody else is receiving
/// the same blob.
#[must_use = "nothing is kept before `finish()`"]
pub struct Receiving {
    cache: BlobCache,
    digest: Digest,
    total: u64,
    /// Locked as long as it is open.
    file: File,
    path: PathBuf,
    written: u64,
    /// Nobody can resume it.
    is_temporary: bool,
    /// It has been sent before, and had another hash.
    is_again: bool,
    /// It has another name by now, or none.
    is_gone: bool,
}

/// What came of a blob that was received.
#[derive(Debug)]
#[must_use = "it may have to be sent again"]
pub enum Finished {
    /// It is kept.
    There(Lease),
    /// It is not what its name says, perhaps because of what was there from an earlier try. All of it is deleted, and
    /// to be sent once more, from its first byte.
    Again(Receiving),
}

/// How much of a blob is there to go on with. None if it is nothing, or somebody is at it.
pub(super) fn resumable(dir: &Dir, digest: &Digest) -> Option<u64> {
    let file = platform::options().read(true).write(true).open(dir.part(digest)).ok()?;
    if platform::lock_exclusive(&file) != Lock::Held {
        return None;
    }
    Some(file.metadata().ok()?.len()).filter(|len| *len > 0)
}

impl Receiving {
    pub(super) fn begin(cache: BlobCache, digest: Digest, total: u64) -> Result<Self, CacheError> {
        let limit = cache.0.limits.bytes;
        if total > limit {
            return Err(CacheError::TooLarge { needed: total, limit });
        }
        if let Some(limit) = platform::file_limit().filter(|limit| total > *limit) {
            return Err(CacheError::FileLimit { needed: total, limit });
        }
        let (file, path, is_temporary) = open(&cache.0.dir, &digest)?;
        let mut this =
            Self { cache, digest, total, file, path, written: 0, is_temporary, is_again: false, is_gone: false };
        this.prepare()?;
        Ok(this)
    }

    /// Finds what is there from an earlier try, and makes room for the rest.
    fn prepare(&mut self) -> Result<(), CacheError> {
        let refused = |cause| CacheError::io("look at", &self.path, cause);
        let mut metadata = self.file.metadata().map_err(refused)?;
        if metadata.len() > self.total {
            // Another blob cannot have this name, so somebody was lied to; the hash will tell who.
            self.file.set_len(0).map_err(refused)?;
            metadata = self.file.metadata().map_err(refused)?;
        }
        self.written = metadata.len();
        self.cache.make_room(self.total.saturating_sub(platform::disk_bytes(&metadata)))?;
        let mut reserved = platform::reserve(&self.file, self.total);
        if reserved.as_ref().is_err_and(is_full) && self.cache.free_on_disk(self.total) {
            reserved = platform::reserve(&self.file, self.total);
        }
        match reserved {
            Err(cause) if is_full(&cause) => Err(self.failed("reserve space for", cause)),
            // Filesystems that can't reserve say so in many ways; what can't be written will be noticed then.
            _ => Ok(()),
        }
    }

    /// The hash that names it.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Size of the whole in bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that are there, from the first on: where the next piece belongs.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes a piece. It follows what is there, or repeats some of it.
    ///
    /// # Errors
    ///
    /// It does not belong there, or can't be written. If the disk is full, all of it is deleted.
    pub fn write_at(&mut self, offset: u64, piece: &[u8]) -> Result<(), CacheError> {
        let (len, written, total) = (piece.len() as u64, self.written, self.total);
        let end = offset.checked_add(len).filter(|end| offset <= written && *end <= total);
        let end = end.ok_or(CacheError::Misplaced { offset, len, written, total })?;
        if self.is_gone {
            return Err(self.full());
        }
        let write = |mut file: &File| file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(piece));
        if let Err(cause) = write(&self.file) {
            // The length says how much is there.
            let _ = self.file.set_len(written);
            return Err(self.failed("write to", cause));
        }
        self.written = written.max(end);
        Ok(())
    }

    /// Takes the piece that follows what is there.
    ///
    /// # Errors
    ///
    /// As [`write_at`](Self::write_at).
    pub fn append(&mut self, piece: &[u8]) -> Result<(), CacheError> {
        self.write_at(self.written, piece)
    }

    /// Writes everything to the disk, reads it once to hash it (about 0.25 s per GiB), and gives it its name.
    ///
    /// # Errors
    ///
    /// It is not complete, has another hash for the second time, or can't be written to the disk.
    pub fn finish(mut self) -> Result<Finished, CacheError> {
        if self.written < self.total {
            return Err(CacheError::Incomplete { written: self.written, total: self.total });
        }
        if self.is_gone {
            return Err(self.full());
        }
        let sealed = self.file.sync_all().and_then(|()| platform::set_kept(&self.file, true));
        sealed.map_err(|cause| self.failed("complete", cause))?;
        let read = self.read_back();
        let (lease, found) = read.map_err(|cause| self.failed("read", cause))?;
        if found != self.digest {
            return self.again(found);
        }
        let entry = self.cache.0.dir.entry(&self.digest);
        fs::rename(&self.path, &entry).map_err(|cause| self.failed("rename", cause))?;
        self.is_gone = true;
        let lease = lease.renamed(entry);
        // Without this the name, though not the blob, could be lost in a power failure.
        let _ = File::open(self.cache.dir()).and_then(|dir| dir.sync_all());
        let cache = self.cache.clone();
        // Nobody else has had it open for writing: only whoever has the lock keeps it open.
        drop(self);
        lease.lock();
        lease.touch();
        cache.received(&lease);
        Ok(Finished::There(lease))
    }

    fn read_back(&self) -> io::Result<(Lease, blake3::Hash)> {
        let lease = Lease::open(&self.path, &self.digest)?;
        if !platform::is_at(&self.file, &self.path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let hash = lease.hash()?;
        Ok((lease, hash))
    }

    fn again(mut self, found: blake3::Hash) -> Result<Finished, CacheError> {
        if self.is_again {
            self.discard();
            return Err(CacheError::Mismatch { name: hex(&self.digest), found: found.to_hex().to_string() });
        }
        self.is_again = true;
        let emptied = platform::set_kept(&self.file, false).and_then(|()| self.file.set_len(0));
        emptied.map_err(|cause| self.failed("empty", cause))?;
        self.prepare()?;
        Ok(Finished::Again(self))
    }

    /// What it means, and what is left. A full disk is left to others.
    fn failed(&mut self, doing: &'static str, cause: io::Error) -> CacheError {
        if is_full(&cause) {
            self.discard();
            return self.full();
        }
        CacheError::io(doing, &self.path, cause)
    }

    fn full(&self) -> CacheError {
        let dir = self.cache.dir().to_owned();
        CacheError::Full { free: platform::free_bytes(&dir), dir, needed: self.total }
    }

    fn discard(&mut self) {
        if !self.is_gone {
            let _ = fs::remove_file(&self.path);
            let _ = self.file.set_len(0);
            (self.is_gone, self.written) = (true, 0);
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if self.is_temporary || self.written == 0 {
            self.discard();
        }
    }
}

impl fmt::Debug for Receiving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiving {}, {} of {} bytes", hex(&self.digest), self.written, self.total)
    }
}

/// A file to receive in, and whether it is one that nobody can resume.
fn open(dir: &Dir, digest: &Digest) -> Result<(File, PathBuf, bool), CacheError> {
    let part = dir.part(digest);
    let failed = |cause| CacheError::io("make a file in", dir.path(), cause);
    if let Some(file) = open_part(&part).map_err(failed)? {
        return Ok((file, part, false));
    }
    for _ in 0..TEMPORARY_TRIES {
        let path = dir.temporary(digest);
        match platform::options().read(true).write(true).create_new(true).open(&path) {
            // Somebody who sweeps may have been quicker than this lock.
            Ok(file) if platform::lock_exclusive(&file) == Lock::Busy || !platform::is_at(&file, &path) => {}
            Ok(file) => return Ok((file, path, true)),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(failed(cause)),
        }
    }
    Err(failed(io::ErrorKind::AlreadyExists.into()))
}

/// The `.part`, locked; none if somebody else has it, or it can't be locked.
///
/// The lock belongs to the file and not to its name. Who had it may have given the file another name in the meantime,
/// and then it must not be written to: a whole blob is mapped by others.
fn open_part(path: &Path) -> io::Result<Option<File>> {
    for _ in 0..LOCK_TRIES {
        let file = match platform::options().read(true).write(true).create(true).truncate(false).open(path) {
            // One that was complete when its process ended, so nobody may write to it. It is easier sent again.
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied && fs::remove_file(path).is_ok() => continue,
            other => other?,
        };
        match platform::lock_exclusive(&file) {
            Lock::Held if platform::is_at(&file, path) => {
                platform::set_kept(&file, false)?;
                return Ok(Some(file));
            }
            Lock::Held => {}
            Lock::Busy => thread::sleep(Duration::from_millis(1)),
            Lock::Unsupported => {
                if file.metadata()?.len() == 0 {
                    let _ = fs::remove_file(path);
                }
                return Ok(None);
            }
        }
    }
    Ok(None)
}
