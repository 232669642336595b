//! Shared data that comes from another machine, as the [image](super::Image) of it there.

use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::{
    Inner, SharedData,
    builder::read,
    error::{self, SharedDataError},
    layout,
    map::{Filling, Map},
    storage::{PrivateFile, SealedFile, Storage, Wish},
};

/// A private file that an image is received in. What is dropped before it is finished leaves nothing behind.
#[must_use = "nothing is shared before `finish()`"]
pub struct BlobFile {
    filling: Filling,
    storage: Storage,
    dir: PathBuf,
    written: usize,
}

impl BlobFile {
    /// Makes a place of `total` bytes, in memory or on a disk by the same rules as [`SharedDataBuilder`] does: see
    /// [`Storage`] and [`dir`](super::SharedDataBuilder::dir). On a disk all of it is allocated now, so a `total` that a
    /// peer names should be held against a limit first.
    ///
    /// [`SharedDataBuilder`]: super::SharedDataBuilder
    ///
    /// # Errors
    ///
    /// There is not enough memory or disk, the operating system refuses something, or no image is that small.
    pub fn create(total: u64, storage: Option<Storage>, dir: Option<PathBuf>) -> Result<Self, SharedDataError> {
        let too_large = SharedDataError::TooLarge { needed: total, available: isize::MAX as u64 };
        let len = usize::try_from(total).ok().filter(|len| isize::try_from(*len).is_ok()).ok_or(too_large)?;
        check_len(len)?;
        let file = PrivateFile::create(len, &Wish { storage, dir })?;
        let (storage, dir) = (file.storage(), file.path().to_owned());
        let filling = Filling::map(file).map_err(|cause| SharedDataError::io("map a file in", &dir, cause))?;
        Ok(Self { filling, storage, dir, written: 0 })
    }

    /// Size of the whole in bytes.
    pub fn total(&self) -> u64 {
        self.filling.len() as u64
    }

    /// Bytes that are there, from the first on: where the next piece belongs, also after an interruption.
    pub fn written(&self) -> u64 {
        self.written as u64
    }

    /// Takes a piece. It follows what is there, or repeats some of it.
    ///
    /// # Errors
    ///
    /// The piece leaves a gap or reaches past the end; nothing has changed.
    pub fn write_at(&mut self, offset: u64, piece: &[u8]) -> Result<(), SharedDataError> {
        let (written, total) = (self.written, self.filling.len());
        let from = usize::try_from(offset).ok().filter(|from| *from <= written);
        let place = from.and_then(|from| {
            let end = from.checked_add(piece.len()).filter(|end| *end <= total)?;
            Some(from..end)
        });
        let Some(place) = place else {
            let len = piece.len();
            return Err(damaged(format!("{len} bytes at {offset} do not belong behind {written} of {total}")));
        };
        self.written = written.max(place.end);
        self.filling.bytes()[place].copy_from_slice(piece);
        Ok(())
    }

    /// Seals the file, if it is what `digest` (BLAKE3) names, whatever is in it.
    ///
    /// # Errors
    ///
    /// It is not complete or other bytes than those named.
    pub fn finish_bytes(self, digest: [u8; 32]) -> Result<File, SharedDataError> {
        let Self { filling, dir, written, .. } = self;
        if written < filling.len() {
            return Err(damaged(format!("{written} of {} bytes are there", filling.len())));
        }
        let file = filling.into_file().seal()?;
        let map = Map::sealed(&file).map_err(|cause| SharedDataError::io("map a file in", &dir, cause))?;
        let found = blake3::hash(map.bytes());
        if found != digest {
            let named = blake3::Hash::from_bytes(digest);
            return Err(damaged(format!("its hash is {found} and it was named {named}")));
        }
        drop(map);
        Ok(file.into_file())
    }

    /// Seals the file and reads what is in it, if it is what `digest` (BLAKE3) names. This takes about 0.25 s per GiB.
    ///
    /// # Errors
    ///
    /// It is not complete or other bytes than those named, it was made on a machine of another byte order, or it is no
    /// shared data.
    pub fn finish(self, digest: [u8; 32]) -> Result<SharedData, SharedDataError> {
        let Self { filling, storage, dir, written } = self;
        if written < filling.len() {
            return Err(damaged(format!("{written} of {} bytes are there", filling.len())));
        }
        let file = filling.into_file().seal()?;
        let map = Map::sealed(&file);
        let map = map.map_err(|cause| SharedDataError::io("map a file in", &dir, cause))?;
        let found = blake3::hash(map.bytes());
        if found != digest {
            let named = blake3::Hash::from_bytes(digest);
            return Err(damaged(format!("its hash is {found} and it was named {named}")));
        }
        received(map, storage, digest, file.into_file())
    }
}

impl SharedData {
    /// Maps the image in a file with a name, as a cache keeps them, without a copy. The file is kept open, and with it
    /// every lock on it, until the last handle of the data is gone; it may be unlinked meanwhile.
    ///
    /// `digest` is what the caller has found the file to hold; it is believed. The file must be this user's, and without
    /// permission to write for anybody, which is checked. **It must never be written to or cut again**, only unlinked:
    /// keep it in a directory that nobody else can write to, write to another name, and rename. Changing it would change
    /// elements while they are read, which no Rust program is prepared for; only this user and root can.
    ///
    /// Where the system is not Linux this is an error: receive the bytes in a [`BlobFile`].
    ///
    /// # Errors
    ///
    /// The file can't be mapped or somebody may write to it, it was made on a machine of another byte order, or it is no
    /// shared data.
    pub fn from_kept_file(file: File, digest: [u8; 32]) -> Result<Self, SharedDataError> {
        let refused = |cause| SharedDataError::io("map", Path::new("a kept file"), cause);
        let file = SealedFile::kept(file).map_err(refused)?;
        check_len(file.len())?;
        let map = Map::sealed(&file).map_err(refused)?;
        received(map, Storage::File, digest, file.into_file())
    }
}

fn received(map: Map, storage: Storage, digest: [u8; 32], file: File) -> Result<SharedData, SharedDataError> {
    let mut inner = Inner::new(read(&map, storage)?, storage, Some((map, file)));
    inner.digest = OnceLock::from(digest);
    Ok(SharedData::publish(inner))
}

/// Nothing can be mapped of a file without bytes.
fn check_len(len: usize) -> Result<(), SharedDataError> {
    if len < layout::HEADER {
        return Err(damaged(format!("it has {len} bytes and its header alone {}", layout::HEADER)));
    }
    Ok(())
}

fn damaged(reason: String) -> SharedDataError {
    SharedDataError::Damaged { reason }
}

impl fmt::Debug for BlobFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobFile with {} of {}", error::Bytes(self.written()), error::Bytes(self.total()))
    }
}

#[cfg(test)]
mod tests;
