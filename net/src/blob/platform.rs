//! What the operating system is asked for beyond files.

pub(super) use imp::*;

/// What became of trying to lock a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// Until the file is closed by all who have this descriptor.
    Held,
    /// Somebody else has it.
    Busy,
    /// This filesystem has no locks, or not for files opened like this.
    Unsupported,
}

#[cfg(unix)]
mod imp {
    use std::{
        fs::{DirBuilder, File, Metadata, OpenOptions, Permissions},
        io,
        os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        path::Path,
    };

    use rustix::{
        fs::{FlockOperation, OFlags},
        io::Errno,
        process::Resource,
    };

    use super::Lock;

    pub(in crate::blob) fn user() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    /// For files of this user only; a link is not followed.
    pub(in crate::blob) fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        options
    }

    pub(in crate::blob) fn make_dir(path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// Why somebody else could replace files in this directory.
    pub(in crate::blob) fn not_private(dir: &Metadata, parent: Option<&Metadata>) -> Option<&'static str> {
        const STICKY: u32 = 0o1000;
        if dir.uid() != user() {
            return Some("it belongs to another user");
        }
        if dir.mode() & 0o077 != 0 {
            return Some("others may use it (`chmod 700` it)");
        }
        let parent = parent?;
        if parent.uid() != user() && parent.uid() != 0 {
            return Some("the directory above belongs to another user");
        }
        let is_open = parent.mode() & 0o002 != 0 && parent.mode() & STICKY == 0;
        is_open.then_some("others may write to the directory above")
    }

    pub(in crate::blob) fn lock_exclusive(file: &File) -> Lock {
        lock(file, FlockOperation::NonBlockingLockExclusive)
    }

    pub(in crate::blob) fn lock_shared(file: &File) -> Lock {
        lock(file, FlockOperation::NonBlockingLockShared)
    }

    fn lock(file: &File, operation: FlockOperation) -> Lock {
        match rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation)) {
            Ok(()) => Lock::Held,
            Err(Errno::WOULDBLOCK) => Lock::Busy,
            Err(_) => Lock::Unsupported,
        }
    }

    /// Nobody may write to it any more, or its owner may again.
    pub(in crate::blob) fn set_kept(file: &File, is_kept: bool) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(if is_kept { 0o400 } else { 0o600 }))
    }

    /// Tells a file from all others, and from itself before somebody wrote to it.
    pub(in crate::blob) fn identity(metadata: &Metadata) -> [u64; 5] {
        let (seconds, nanoseconds) = (metadata.mtime().cast_unsigned(), metadata.mtime_nsec().cast_unsigned());
        [metadata.dev(), metadata.ino(), metadata.len(), seconds, nanoseconds]
    }

    /// Whether the open file is the one that has this name now.
    pub(in crate::blob) fn is_at(file: &File, path: &Path) -> bool {
        let ids = |metadata: Metadata| (metadata.dev(), metadata.ino());
        match (file.metadata(), std::fs::symlink_metadata(path)) {
            (Ok(file), Ok(there)) => ids(file) == ids(there),
            _ => false,
        }
    }

    /// What the file takes, counting what is reserved for it.
    pub(in crate::blob) fn disk_bytes(metadata: &Metadata) -> u64 {
        metadata.len().max(metadata.blocks().saturating_mul(512))
    }

    /// The largest file that this process may write; beyond it the process is ended by a signal.
    pub(in crate::blob) fn file_limit() -> Option<u64> {
        rustix::process::getrlimit(Resource::Fsize).current
    }

    pub(in crate::blob) fn free_bytes(dir: &Path) -> Option<u64> {
        rustix::fs::statvfs(dir).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Whether other machines may have the same files: a mapped file that one of them deletes ends this process.
    #[cfg(target_os = "linux")]
    pub(in crate::blob) fn is_network(dir: &Path) -> bool {
        const NFS: u64 = 0x6969;
        const SMB: [u64; 3] = [0x517b, 0xff53_4d42, 0xfe53_4d42];
        const AFS: [u64; 2] = [0x5346_414f, 0x6b41_4653];
        const CEPH: u64 = 0x00c3_6400;
        const LUSTRE: u64 = 0x0bd0_0bd3;
        const GPFS: u64 = 0x4750_4653;
        const BEEGFS: u64 = 0x1983_0326;
        let kind = rustix::fs::statfs(dir).map(|stat| stat.f_type as u64 & 0xffff_ffff);
        kind.is_ok_and(|kind| {
            matches!(kind, NFS | CEPH | LUSTRE | GPFS | BEEGFS) || SMB.contains(&kind) || AFS.contains(&kind)
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(in crate::blob) fn is_network(_dir: &Path) -> bool {
        false
    }

    /// Reserves space on the disk, where that can be done, without making the file longer: its length tells how much of
    /// it has come.
    #[cfg(target_os = "linux")]
    pub(in crate::blob) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
        use rustix::fs::FallocateFlags;

        const PIECE: u64 = 64 << 20;
        for start in (0..bytes).step_by(PIECE as usize) {
            let piece = PIECE.min(bytes - start);
            let reserve = || rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, start, piece);
            match rustix::io::retry_on_intr(reserve) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    pub(in crate::blob) fn reserve(_file: &File, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Compiled, but not run by us.
#[cfg(not(unix))]
mod imp {
    use std::{
        fs::{File, Metadata, OpenOptions},
        io,
        path::Path,
        time::UNIX_EPOCH,
    };

    use super::Lock;

    pub(in crate::blob) fn user() -> u32 {
        0
    }

    pub(in crate::blob) fn options() -> OpenOptions {
        OpenOptions::new()
    }

    pub(in crate::blob) fn make_dir(path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    pub(in crate::blob) fn not_private(_dir: &Metadata, _parent: Option<&Metadata>) -> Option<&'static str> {
        None
    }

    pub(in crate::blob) fn is_network(_dir: &Path) -> bool {
        false
    }

    pub(in crate::blob) fn lock_exclusive(_file: &File) -> Lock {
        Lock::Unsupported
    }

    pub(in crate::blob) fn lock_shared(_file: &File) -> Lock {
        Lock::Unsupported
    }

    pub(in crate::blob) fn set_kept(_file: &File, _is_kept: bool) -> io::Result<()> {
        Ok(())
    }

    pub(in crate::blob) fn identity(metadata: &Metadata) -> [u64; 5] {
        let modified =
            metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        [0, 0, metadata.len(), modified.as_secs(), u64::from(modified.subsec_nanos())]
    }

    pub(in crate::blob) fn is_at(_file: &File, path: &Path) -> bool {
        path.exists()
    }

    pub(in crate::blob) fn disk_bytes(metadata: &Metadata) -> u64 {
        metadata.len()
    }

    pub(in crate::blob) fn file_limit() -> Option<u64> {
        None
    }

    pub(in crate::blob) fn free_bytes(_dir: &Path) -> Option<u64> {
        None
    }

    pub(in crate::blob) fn reserve(_file: &File, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
}
