//! How much memory a host may have.
//!
//! Two bounds, since neither is enough. A limit of the process on what it may ask for holds everywhere, and has its program
//! end with words of its own; what it starts gets as much again. A group in the kernel's memory controller holds for all of
//! them together, and for what they have rather than asked for; but only some users may make one.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::Once,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// What the names of all groups of ours begin with; the numbers of parent and host follow.
const PREFIX: &str = "distfun-";

/// What Rust's allocator says before it ends a program.
const OUT_OF_MEMORY: &str = "memory allocation of ";

/// The bounds of a host. Dropped once it is gone.
pub(super) struct Memory {
    max_bytes: u64,
    group: Option<Group>,
    /// That it was refused some.
    has_said: bool,
}

impl Memory {
    /// Bounds a host that has not begun.
    ///
    /// # Errors
    /// The system refuses, even though nothing but less is asked for.
    pub(super) fn bound(host: Pid, max_bytes: u64) -> io::Result<Self> {
        let limit = Rlimit { current: Some(max_bytes), maximum: Some(max_bytes) };
        prlimit(Some(host), Resource::Data, limit)?;
        Ok(Self { max_bytes, group: Group::make(host, max_bytes), has_said: false })
    }

    /// Takes note of a line that the host has written.
    pub(super) fn hear(&mut self, line: &str) {
        self.has_said |= line.contains(OUT_OF_MEMORY);
    }

    /// What to say of a host that has died, if memory is what it died of.
    pub(super) fn story(&self) -> Option<String> {
        let has_run_out = self.has_said || self.group.as_ref().is_some_and(Group::has_run_out);
        has_run_out.then(|| format!("wanted more than the {} bytes of memory that max_memory allows", self.max_bytes))
    }
}

/// A group of the memory controller.
struct Group {
    dir: PathBuf,
    /// The file that counts the processes that were killed for want of memory.
    events: &'static str,
}

impl Group {
    /// None where this user may not make one, or the system has none.
    fn make(host: Pid, max_bytes: u64) -> Option<Self> {
        static SWEPT: Once = Once::new();
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let (own, is_new) = own_group(&own)?;
        SWEPT.call_once(|| sweep(&own));
        let dir = own.join(format!("{PREFIX}{}-{}", process::id(), host.as_raw_nonzero()));
        fs::create_dir(&dir).ok()?;
        let events = if is_new { "memory.events" } else { "memory.oom_control" };
        let group = Self { dir, events };
        let put = |file: &str, text: String| fs::write(group.dir.join(file), text).ok();
        // Swap would only put it off; not every kernel counts it.
        if is_new {
            put("memory.max", max_bytes.to_string())?;
            let _ = put("memory.swap.max", "0".into());
        } else {
            put("memory.limit_in_bytes", max_bytes.to_string())?;
            let _ = put("memory.memsw.limit_in_bytes", max_bytes.to_string());
        }
        put("cgroup.procs", host.as_raw_nonzero().to_string())?;
        Some(group)
    }

    fn has_run_out(&self) -> bool {
        let text = fs::read_to_string(self.dir.join(self.events)).unwrap_or_default();
        let killed = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        killed.and_then(|count| count.trim().parse::<u64>().ok()).is_some_and(|count| count > 0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.dir); // it goes when the last process of it has
    }
}

/// The directory of this process's own group, and whether it is of the second version of the interface.
fn own_group(text: &str) -> Option<(PathBuf, bool)> {
    let of = |line: &str, mount: &str| Some(Path::new(mount).join(line.rsplit_once(':')?.1.trim_start_matches('/')));
    let has_memory = |line: &&str| line.split(':').nth(1).is_some_and(|all| all.split(',').any(|one| one == "memory"));
    if let Some(line) = text.lines().find(has_memory) {
        return Some((of(line, "/sys/fs/cgroup/memory")?, false));
    }
    let line = text.lines().find(|line| line.starts_with("0::"))?;
    Some((of(line, "/sys/fs/cgroup")?, true))
}

/// Removes groups that processes have left that were killed.
fn sweep(own: &Path) {
    for entry in fs::read_dir(own).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let parent = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if parent.is_some_and(|parent| !Path::new("/proc").join(parent).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_in_both_versions() {
        let old = "9:name=systemd:/\n4:cpu,memory:/a/b\n0::/\n";
        assert_eq!(own_group(old), Some(("/sys/fs/cgroup/memory/a/b".into(), false)));
        assert_eq!(own_group("0::/user.slice/x\n"), Some(("/sys/fs/cgroup/user.slice/x".into(), true)));
        assert_eq!(own_group("0::/\n"), Some(("/sys/fs/cgroup/".into(), true)));
        assert_eq!(own_group(""), None);
    }
}
