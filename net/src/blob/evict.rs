//! Making room: what goes first, and what stays.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use super::{
    BlobCache,
    dir::{self, Kind},
    error::CacheError,
    platform::{self, Lock},
};
use crate::message::Digest;

/// Parts that nobody has touched for this long are not resumed any more.
const STALE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

struct Item {
    path: PathBuf,
    digest: Digest,
    kind: Kind,
    bytes: u64,
    /// When a whole blob was last used, and anything else last written to.
    used: SystemTime,
}

impl BlobCache {
    /// Deletes what processes that are gone have left.
    pub(super) fn sweep(&self) -> Result<(), CacheError> {
        let now = SystemTime::now();
        for item in self.items()? {
            let is_stale = now.duration_since(item.used).is_ok_and(|age| age > STALE);
            match item.kind {
                Kind::Whole => {}
                Kind::Part if !is_stale => {}
                // Without locks nothing but its age tells whether somebody is at it.
                Kind::Part | Kind::Temporary => drop(remove_unused(&item.path, is_stale)),
            }
        }
        Ok(())
    }

    /// Evicts until `needed` bytes fit into the budget.
    pub(super) fn make_room(&self, needed: u64) -> Result<(), CacheError> {
        let items = self.items()?;
        let limit = self.0.limits.bytes;
        let total: u64 = items.iter().map(|item| item.bytes).sum();
        let goal = total.saturating_add(needed).saturating_sub(limit);
        let freed = self.evict(items, goal);
        if freed < goal {
            return Err(CacheError::InUse { needed, limit, in_use: total - freed });
        }
        Ok(())
    }

    /// Evicts until about `bytes` more are free on the disk. Whether anything was.
    pub(super) fn free_on_disk(&self, bytes: u64) -> bool {
        self.items().is_ok_and(|items| self.evict(items, bytes) > 0)
    }

    /// Evicts the longest unused until `goal` bytes are free, or nothing is left to evict. Returns what was freed.
    fn evict(&self, mut items: Vec<Item>, goal: u64) -> u64 {
        items.retain(|item| item.kind != Kind::Temporary);
        items.sort_by_key(|item| item.used);
        let mut freed = 0;
        for item in items {
            if freed >= goal {
                break;
            }
            let is_in_use = item.kind == Kind::Whole && self.0.slots.is_in_use(&item.digest);
            if !is_in_use && remove_unused(&item.path, item.kind == Kind::Whole) {
                self.0.slots.forget(&item.digest);
                self.0.evicted.fetch_add(1, Ordering::Relaxed);
                freed += item.bytes;
            }
        }
        freed
    }

    fn items(&self) -> Result<Vec<Item>, CacheError> {
        let dir = self.dir();
        let entries = fs::read_dir(dir).map_err(|cause| CacheError::io("list", dir, cause))?;
        // What can't be looked at has just been deleted.
        let items = entries.filter_map(|entry| {
            let entry = entry.ok()?;
            let (digest, kind) = dir::parse(entry.file_name().to_str()?)?;
            let metadata = entry.metadata().ok().filter(|metadata| metadata.is_file())?;
            let used = if kind == Kind::Whole { metadata.accessed() } else { metadata.modified() };
            let bytes = platform::disk_bytes(&metadata);
            Some(Item { path: entry.path(), digest, kind, bytes, used: used.ok()? })
        });
        Ok(items.collect())
    }
}

/// Unlinks a file that nobody has locked. Where there are no locks, `or_else` says whether it may go.
fn remove_unused(path: &Path, or_else: bool) -> bool {
    let Ok(file) = platform::options().read(true).open(path) else { return false };
    let may_go = match platform::lock_exclusive(&file) {
        Lock::Held => platform::is_at(&file, path),
        Lock::Busy => false,
        Lock::Unsupported => or_else,
    };
    may_go && fs::remove_file(path).is_ok()
}
