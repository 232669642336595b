//! Where shared data is kept: a private file, in memory or on a disk where all of it is allocated before it is mapped,
//! and sealed before anything reads it. What came from another machine may also be kept as a file with a name.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use super::{available, error::SharedDataError};

/// Where the arrays and values of shared data are kept. Either way they are there once per machine, every process that
/// gets them maps the same pages, and nothing is left when the last one lets go, however it ends.
///
/// Without a choice it is `Memory` for what is small, and `File` from 256 MiB on, whose pages are large and so quicker to
/// read in jumps; if there is no disk, or no room on it, that is `Memory` too. What is larger than half of the memory that is
/// available, or that the process's control groups leave it, is always in a `File`. NumPy files stay where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Storage {
    /// A sealed file in memory (`memfd`), which nobody can write any more, not even this process. It can't be written
    /// out to make room for other programs, except to swap. Elsewhere than on Linux this is the same as `File`.
    Memory,
    /// A file that never had a name, in [`dir`](super::SharedDataBuilder::dir). The system writes its pages to disk in
    /// the background and may drop them from memory, to be read again when they are used. If the disk itself fails
    /// then, the process ends with a SIGBUS, as with any mapped file.
    File,
}

/// A file of a fixed length that nobody else knows. On a disk all of it is allocated, so that reaching for any part of
/// it can't fail for want of space.
pub(super) struct PrivateFile {
    file: File,
    len: usize,
    storage: Storage,
    path: PathBuf,
}

/// A file that nobody writes any more: once private, or kept under a name.
pub(super) struct SealedFile {
    file: File,
    len: usize,
}

/// What was asked of the builder.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish {
    pub(super) storage: Option<Storage>,
    pub(super) dir: Option<PathBuf>,
}

impl PrivateFile {
    pub(super) fn create(len: usize, wish: &Wish) -> Result<Self, SharedDataError> {
        let needed = len as u64;
        platform::check_limit(needed)?;
        let available = available::bytes();
        let check_fits = || match available {
            Some(available) if needed > available => Err(SharedDataError::TooLarge { needed, available }),
            _ => Ok(()),
        };
        let dir = || wish.dir.clone().unwrap_or_else(default_dir);
        match choose(needed, wish.storage, available) {
            Choice::Must(Storage::File) => {}
            _ if !platform::HAS_MEMORY_FILES => {}
            Choice::Must(Storage::Memory) => {
                check_fits()?;
                return Self::in_memory(len);
            }
            Choice::RatherFile => {
                let dir = Some(dir()).filter(|dir| !platform::is_memory(dir));
                return match dir.map(|dir| Self::on_disk(len, dir)) {
                    Some(Ok(file)) => Ok(file),
                    // A directory that was asked for and is not there is a mistake.
                    Some(Err(error @ SharedDataError::Io { .. })) if wish.dir.is_some() => Err(error),
                    _ => Self::in_memory(len),
                };
            }
        }
        let dir = dir();
        if platform::is_memory(&dir) {
            check_fits()?;
        }
        Self::on_disk(len, dir)
    }

    /// Its pages are not allocated beforehand: there is no disk that could be full, and allocated one by one they would
    /// never be huge.
    fn in_memory(len: usize) -> Result<Self, SharedDataError> {
        let path = PathBuf::from("memory");
        let file = platform::memory_file().and_then(|file| file.set_len(len as u64).map(|()| file));
        let file = file.map_err(|cause| SharedDataError::io("make a file in", &path, cause))?;
        Ok(Self { file, len, storage: Storage::Memory, path })
    }

    fn on_disk(len: usize, dir: PathBuf) -> Result<Self, SharedDataError> {
        let file = tempfile::tempfile_in(&dir).map_err(|cause| SharedDataError::io("make a file in", &dir, cause))?;
        match allocate(&file, len) {
            Ok(()) => Ok(Self { file, len, storage: Storage::File, path: dir }),
            Err(cause) if is_full(&cause) => {
                // What was allocated so far would count as taken.
                drop(file);
                Err(SharedDataError::NoSpace { free: platform::free_bytes(&dir), dir, needed: len as u64 })
            }
            Err(cause) => Err(SharedDataError::io("allocate a file in", &dir, cause)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn storage(&self) -> Storage {
        self.storage
    }

    /// The directory it is in, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives up writing. It must not be mapped for writing at this time.
    pub(super) fn seal(self) -> Result<SealedFile, SharedDataError> {
        let Self { file, len, storage, path } = self;
        let file =
            platform::seal(file, storage).map_err(|cause| SharedDataError::io("seal a file in", &path, cause))?;
        Ok(SealedFile { file, len })
    }
}

impl SealedFile {
    /// A file with a name, as a cache keeps it: complete, on a disk, and from now on only ever unlinked.
    ///
    /// It is checked to be a plain file of this user's that nobody has permission to write. What remains rests on the
    /// user: only this user (and root) can give that permission back, or reach into the file by a descriptor from
    /// before it was taken away. Who does that on purpose can write to this process's memory as well, so nothing is
    /// given away by it; what permissions keep out are accidents, except those of root. And the cache must keep its
    /// own rule: it writes to another name, renames what is complete, and neither writes nor cuts it after that.
    pub(super) fn kept(file: File) -> io::Result<Self> {
        let len = platform::check_kept(&file)?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Ok(Self { file, len })
    }

    /// What another process of this program has sealed and handed over.
    pub(super) fn handed(file: File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Ok(Self { file, len })
    }

    pub(super) fn into_file(self) -> File {
        self.file
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

/// From here on a file is worth making: reads in jumps take half the time, since its pages are large, and a few more
/// milliseconds to make it do not count.
const LARGE: u64 = 256 << 20;

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Must(Storage),
    /// Memory will do.
    RatherFile,
}

fn choose(needed: u64, asked: Option<Storage>, available: Option<u64>) -> Choice {
    match asked {
        Some(storage) => Choice::Must(storage),
        None if available.is_some_and(|available| needed > available / 2) => Choice::Must(Storage::File),
        None if needed >= LARGE => Choice::RatherFile,
        None => Choice::Must(Storage::Memory),
    }
}

fn default_dir() -> PathBuf {
    pick_dir(std::env::temp_dir(), std::env::var_os("TMPDIR").is_some(), &platform::is_memory)
}

/// The directory for temporary files, unless that is memory in disguise and nobody asked for it: then the one for large
/// temporary files, if that is on a disk.
fn pick_dir(temporary: PathBuf, is_asked_for: bool, is_memory: &dyn Fn(&Path) -> bool) -> PathBuf {
    let large = Path::new("/var/tmp");
    if !is_asked_for && is_memory(&temporary) && large.is_dir() && !is_memory(large) {
        return large.to_owned();
    }
    temporary
}

/// Gives the file its length and the space for it, so that a full disk is an error here and no SIGBUS later.
fn allocate(file: &File, len: usize) -> io::Result<()> {
    file.set_len(len as u64)?;
    if platform::allocate(file, len as u64)? {
        return Ok(());
    }
    write_zeros(file, len)
}

fn write_zeros(mut file: &File, len: usize) -> io::Result<()> {
    use io::{Read, Write};
    io::copy(&mut io::repeat(0).take(len as u64), &mut io::BufWriter::with_capacity(1 << 20, file))?;
    file.flush()
}

fn is_full(cause: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(cause.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

#[cfg(target_os = "linux")]
mod platform {
    use std::{
        fs::File,
        io,
        os::fd::{AsFd, AsRawFd},
        path::Path,
        time::Duration,
    };

    use rustix::{
        fs::{FallocateFlags, MemfdFlags, SealFlags},
        io::Errno,
        process::Resource,
    };

    use super::{SharedDataError, Storage};

    pub(super) const HAS_MEMORY_FILES: bool = true;
    /// Milliseconds for which sealing is tried.
    const MAX_WAITS: u32 = 200;

    /// Growing a file beyond the limit on sizes of files would end the process by a signal.
    pub(super) fn check_limit(needed: u64) -> Result<(), SharedDataError> {
        match rustix::process::getrlimit(Resource::Fsize).current {
            Some(limit) if needed > limit => Err(SharedDataError::FileLimit { needed, limit }),
            _ => Ok(()),
        }
    }

    pub(super) fn memory_file() -> io::Result<File> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let create = |flags| rustix::fs::memfd_create("distfun-shared-data", flags);
        // Linux before 6.3 does not know that a file may be promised never to be run.
        let fd = match create(flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => create(flags)?,
            other => other?,
        };
        Ok(fd.into())
    }

    /// Whether the filesystem could allocate. In pieces, as a signal in between would undo the whole.
    pub(super) fn allocate(file: &File, len: u64) -> io::Result<bool> {
        const PIECE: u64 = 64 << 20;
        for start in (0..len).step_by(PIECE as usize) {
            let piece = PIECE.min(len - start);
            let allocate = || rustix::fs::fallocate(file, FallocateFlags::empty(), start, piece);
            match rustix::io::retry_on_intr(allocate) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
                other => other?,
            }
        }
        Ok(true)
    }

    pub(super) fn seal(file: File, storage: Storage) -> io::Result<File> {
        if storage == Storage::Memory {
            let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
            // A process that was forked before the mapping was kept from forks holds it until it runs another program.
            for _ in 0..MAX_WAITS {
                match rustix::fs::fcntl_add_seals(&file, seals) {
                    Err(Errno::BUSY) => std::thread::sleep(Duration::from_millis(1)),
                    other => return Ok(other.map(|()| file)?),
                }
            }
            return Err(Errno::BUSY.into());
        }
        // The file has no name, so what is opened here for reading is its last descriptor. Where there is no /proc, the
        // one for writing stays, and nobody uses it.
        Ok(File::open(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())).unwrap_or(file))
    }

    /// Size of a plain file that nobody has permission to write.
    pub(super) fn check_kept(file: &File) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;

        let metadata = file.metadata()?;
        let refuse = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        if !metadata.is_file() {
            return refuse("it is no plain file");
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return refuse("it belongs to another user");
        }
        if metadata.mode() & 0o222 != 0 {
            return refuse("somebody may write to it");
        }
        Ok(metadata.len())
    }

    pub(super) fn is_memory(dir: &Path) -> bool {
        const TMPFS: u64 = 0x0102_1994;
        const RAMFS: u64 = 0x8584_58f6;
        rustix::fs::statfs(dir).is_ok_and(|stat| matches!(stat.f_type as u64, TMPFS | RAMFS))
    }

    pub(super) fn free_bytes(dir: &Path) -> Option<u64> {
        rustix::fs::statvfs(dir).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Compiled, but not run by us, on systems other than Linux.
#[cfg(not(target_os = "linux"))]
mod platform {
    use std::{fs::File, io, path::Path};

    use super::{SharedDataError, Storage};

    pub(super) const HAS_MEMORY_FILES: bool = false;

    pub(super) fn check_limit(_needed: u64) -> Result<(), SharedDataError> {
        Ok(())
    }

    pub(super) fn memory_file() -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn allocate(_file: &File, _len: u64) -> io::Result<bool> {
        Ok(false)
    }

    pub(super) fn seal(file: File, _storage: Storage) -> io::Result<File> {
        Ok(file)
    }

    pub(super) fn check_kept(_file: &File) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn is_memory(_dir: &Path) -> bool {
        false
    }

    pub(super) fn free_bytes(_dir: &Path) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(storage: Storage) -> Wish {
        Wish { storage: Some(storage), dir: None }
    }

    /// Large data goes to a file, and to memory where there is no directory to make one in.
    #[test]
    fn large_data_is_in_a_file_if_there_can_be_one() {
        let build = |dir: &Path| {
            let builder = crate::shared_data::SharedData::builder().dir(dir);
            // Its pages are zeros that nobody has touched: it takes no memory worth speaking of.
            let builder = builder.array_with("x", LARGE as usize, |_: ndarray::ArrayViewMut1<'_, u8>| ());
            builder.and_then(|builder| builder.build()).map(|shared| shared.storage())
        };
        if available::bytes().is_some_and(|bytes| bytes < 3 * LARGE)
            || platform::free_bytes(Path::new(".")) < Some(2 * LARGE)
        {
            return eprintln!("skipped: too little memory or disk");
        }
        assert_eq!(build(Path::new(".")), Ok(Storage::File));
        assert!(build(Path::new("/nowhere/at/all")).is_err(), "it was asked for");
        if platform::is_memory(Path::new("/dev/shm")) {
            assert_eq!(build(Path::new("/dev/shm")), Ok(Storage::Memory));
        }
    }

    #[test]
    fn what_is_large_goes_to_a_file_unless_asked_otherwise() {
        let (memory, file) = (Choice::Must(Storage::Memory), Choice::Must(Storage::File));
        assert_eq!(choose(50, None, Some(100)), memory);
        assert_eq!(choose(51, None, Some(100)), file);
        assert_eq!(choose(51, None, None), memory);
        assert_eq!(choose(51, Some(Storage::Memory), Some(100)), memory);
        assert_eq!(choose(1, Some(Storage::File), Some(100)), file);
        assert_eq!(choose(LARGE - 1, None, Some(2 * LARGE)), memory);
        assert_eq!(choose(LARGE, None, Some(2 * LARGE)), Choice::RatherFile);
        assert_eq!(choose(LARGE, None, Some(2 * LARGE - 2)), file);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn files_avoid_a_temporary_directory_in_memory_unless_it_was_asked_for() {
        let pick = |is_asked_for, memory: &[&str]| {
            pick_dir("/tmp".into(), is_asked_for, &|dir| memory.iter().any(|one| dir == Path::new(one)))
        };
        assert_eq!(pick(false, &[]), Path::new("/tmp"));
        assert_eq!(pick(false, &["/tmp"]), Path::new("/var/tmp"));
        assert_eq!(pick(true, &["/tmp"]), Path::new("/tmp"));
        assert_eq!(pick(false, &["/tmp", "/var/tmp"]), Path::new("/tmp"));
        assert!(platform::is_memory(Path::new("/dev/shm")) && !platform::is_memory(Path::new("/proc")));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_cannot_fit_is_refused_before_it_is_allocated() {
        let needed = 1 << 60;
        let Err(error) = PrivateFile::create(needed, &wish(Storage::Memory)) else { panic!("an exbibyte fits") };
        assert!(matches!(error, SharedDataError::TooLarge { .. }), "{error}");
        assert!(error.to_string().starts_with("shared data needs 1024.0 PiB of memory and "), "{error}");
        let Err(error) = PrivateFile::create(needed, &Wish::default()) else { panic!("an exbibyte fits") };
        assert!(matches!(error, SharedDataError::NoSpace { .. }), "{error}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn sealed_files_cannot_be_written_any_more() {
        use std::{
            io::Write,
            os::{fd::AsRawFd, unix::fs::MetadataExt},
        };
        for storage in [Storage::Memory, Storage::File] {
            let sealed = PrivateFile::create(10_000, &wish(storage)).unwrap().seal().unwrap();
            let mut file = sealed.file();
            assert_eq!(file.metadata().unwrap().nlink(), 0, "it has no name");
            assert!(file.write(b"x").is_err());
            assert!(file.set_len(0).is_err());
            assert!(file.set_len(1 << 20).is_err());
            assert!(memmap2::MmapRaw::map_raw(file).is_err(), "it can't be mapped for writing");
            assert!(memmap2::MmapOptions::new().map_raw_read_only(file).is_ok());
            if storage == Storage::Memory {
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                let other = File::options().write(true).open(path).unwrap();
                assert!((&other).write(b"x").is_err(), "not by another descriptor either");
            }
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn files_are_allocated_in_full() {
        use std::os::unix::fs::MetadataExt;
        let file = PrivateFile::create(1 << 20, &wish(Storage::File)).unwrap();
        assert!(file.file().metadata().unwrap().blocks() * 512 >= 1 << 20);
    }

    #[test]
    fn zeros_are_written_where_a_filesystem_cannot_allocate() {
        let file = tempfile::tempfile().unwrap();
        write_zeros(&file, 3_000_001).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 3_000_001);
    }
}
