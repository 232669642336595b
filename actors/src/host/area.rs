//! An island of `unsafe`: memory that a process and its host process share, to hand over items and results.
//!
//! It is only ever copied from and to, by raw pointers, and never seen as a slice: the other side may write at any time,
//! though it does so only in its turn. What is copied out is bytes that are checked like those of any other process. The
//! words at the start are atomics. The file is sealed against being cut, so that no access lies beyond its end; it may grow, and
//! each side maps it anew when it is told that it has.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    ptr,
    sync::atomic::AtomicBool,
};

use distfun_core::function::Watch;
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};

/// What lies before the bytes that are handed over: a page for words that both sides look at.
pub(crate) const WORDS: usize = 4096;

/// An area begins with this much; most chunks fit, and what is not touched takes no memory.
const FIRST: usize = 1 << 20;

/// A file of shared memory, mapped by both sides.
#[derive(Debug)]
pub(crate) struct Area {
    file: File,
    map: MmapRaw,
}

impl Area {
    /// # Errors
    /// There is no memory, or too many files are open.
    pub(crate) fn create() -> io::Result<Self> {
        let file: File =
            rustix::fs::memfd_create("distfun-area", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?.into();
        file.set_len((WORDS + FIRST) as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK)?;
        Self::open(file)
    }

    /// Maps what the other side has created.
    ///
    /// # Errors
    /// It can't be mapped, or could be cut.
    pub(crate) fn open(file: File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if len < WORDS || !rustix::fs::fcntl_get_seals(&file)?.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an area of shared memory is not as it was made"));
        }
        let map = MmapOptions::new().len(len).map_raw(&file)?;
        Ok(Self { file, map })
    }

    /// The words at its start.
    ///
    /// # Errors
    /// They can't be mapped.
    pub(crate) fn words(&self) -> io::Result<Words> {
        Ok(Words(MmapOptions::new().len(WORDS).map_raw(&self.file)?))
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Bytes that can be handed over.
    pub(crate) fn room(&self) -> usize {
        self.map.len() - WORDS
    }

    /// Makes room for `bytes`, if there is less. The other side must [`follow`](Self::follow).
    ///
    /// # Errors
    /// There is no memory; nothing has changed.
    pub(crate) fn grow(&mut self, bytes: usize) -> io::Result<()> {
        if bytes <= self.room() {
            return Ok(());
        }
        // Half as much again, so that slowly growing items do not map it anew each time.
        let len =
            bytes.checked_add(bytes / 2).and_then(|len| len.checked_add(WORDS)).ok_or(io::ErrorKind::OutOfMemory)?;
        // Allocated now: a page that can't be had later would end the process by a signal.
        rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len as u64)?;
        self.map = MmapOptions::new().len(len).map_raw(&self.file)?;
        Ok(())
    }

    /// Maps what the other side has grown.
    ///
    /// # Errors
    /// It has not grown to hold `bytes`.
    pub(crate) fn follow(&mut self, bytes: usize) -> io::Result<()> {
        if bytes <= self.room() {
            return Ok(());
        }
        let len = usize::try_from(self.file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if len < WORDS || len - WORDS < bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more was handed over than there is"));
        }
        self.map = MmapOptions::new().len(len).map_raw(&self.file)?;
        Ok(())
    }

    /// Copies `bytes` to `at`.
    ///
    /// # Panics
    /// If there is no room.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        self.check(at, bytes.len());
        // SAFETY: `check` saw that the range lies inside the mapping, which lives as long as `self` and can't be cut. No
        // reference to these bytes exists, in this process or another: they are only copied.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_mut_ptr().add(WORDS + at), bytes.len()) };
    }

    /// Fills `bytes` from `at` on.
    ///
    /// # Panics
    /// If there are fewer.
    pub(crate) fn read(&self, at: usize, bytes: &mut [u8]) {
        self.check(at, bytes.len());
        // SAFETY: as in `write`. Should the other side write meanwhile, which it does not in this side's turn, the bytes
        // are any bytes; whoever reads them checks them.
        unsafe { ptr::copy_nonoverlapping(self.map.as_mut_ptr().add(WORDS + at), bytes.as_mut_ptr(), bytes.len()) };
    }

    fn check(&self, at: usize, count: usize) {
        assert!(
            at.checked_add(count).is_some_and(|end| end <= self.room()),
            "{count} bytes at {at} of {}",
            self.room()
        );
    }
}

/// The words at the start of an area, which stay where they are when it grows.
#[derive(Debug)]
pub(crate) struct Words(MmapRaw);

impl Words {
    /// What the host is running; in the area that the host writes.
    pub(crate) fn watch(&self) -> &Watch {
        const { assert!(size_of::<Watch>() <= WORDS && align_of::<Watch>() <= WORDS) };
        // SAFETY: the first page of a mapping is aligned and larger than a `Watch`, which is atomics: any bytes are a
        // value, and other threads and processes may write them. The result borrows the mapping.
        unsafe { &*self.0.as_mut_ptr().cast::<Watch>() }
    }

    /// Whether the call has ended; in the area that the host reads.
    pub(crate) fn stop(&self) -> &AtomicBool {
        // SAFETY: as above. Only the owner of the area writes here, by `AtomicBool::store`, and it begins as zero.
        unsafe { &*self.0.as_mut_ptr().cast::<AtomicBool>() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    fn pair() -> (Area, Area) {
        let ours = Area::create().unwrap();
        let theirs = Area::open(ours.file.try_clone().unwrap()).unwrap();
        (ours, theirs)
    }

    #[test]
    fn what_one_side_writes_the_other_reads_also_after_it_has_grown() {
        let (mut ours, mut theirs) = pair();
        ours.write(5, b"items");
        let mut read = [0; 5];
        theirs.read(5, &mut read);
        assert_eq!(&read, b"items");
        let large = 3 * FIRST;
        ours.grow(large).unwrap();
        ours.write(large - 5, b"large");
        theirs.follow(large).unwrap();
        theirs.read(large - 5, &mut read);
        assert_eq!(&read, b"large");
        theirs.read(5, &mut read);
        assert_eq!(&read, b"items");
        assert!(theirs.follow(1 << 30).is_err());
    }

    #[test]
    fn words_are_seen_by_both() {
        let words = || {
            let (ours, theirs) = pair();
            (ours.words().unwrap(), theirs.words().unwrap())
        };
        let (ours, theirs) = words();
        assert_eq!(ours.watch().items().len(), 0);
        theirs.watch().note(7..9);
        assert_eq!(ours.watch().items(), 7..9);
        let (ours, theirs) = words();
        ours.stop().store(true, Relaxed);
        assert!(theirs.stop().load(Relaxed));
    }

    #[test]
    fn nobody_can_cut_it() {
        let (ours, _) = pair();
        assert!(ours.file.set_len(1).is_err());
        let unsealed: File = rustix::fs::memfd_create("x", MemfdFlags::CLOEXEC).unwrap().into();
        unsealed.set_len(1 << 20).unwrap();
        assert!(Area::open(unsealed).is_err());
    }

    #[test]
    #[should_panic(expected = "2 bytes at")]
    fn beyond_its_end_there_is_nothing() {
        let (ours, _) = pair();
        ours.write(ours.room() - 1, b"ab");
    }
}
