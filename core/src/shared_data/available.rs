//! How much memory there is to take: what the machine has available, and what the process's control groups leave of
//! their limits, whichever is less.

use std::path::{Path, PathBuf};

/// Bytes this process can take without driving the machine or a control group of its own out of memory. None where the
/// system does not tell.
pub(super) fn bytes() -> Option<u64> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| machine_bytes(&text));
    let groups = groups_bytes(&read);
    machine.into_iter().chain(groups).min()
}

/// `MemAvailable` of `/proc/meminfo`.
fn machine_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The least that any control group with a limit on memory leaves, from the process's own up to the root.
fn groups_bytes(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let memberships = read(Path::new("/proc/self/cgroup"))?;
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    [Version::V1, Version::V2]
        .into_iter()
        .filter_map(|version| {
            let group = membership(&memberships, version)?;
            let mount = mount(&mounts, version)?;
            folders(&mount, group).iter().filter_map(|folder| version.left(folder, read)).min()
        })
        .min()
}

/// The two forms of control groups, which may stand beside one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    /// What one group leaves of its limit. The cache of files counts as free: it is given back when memory is short.
    fn left(self, folder: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
        let (limit, usage, inactive, active) = match self {
            Self::V1 => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file"),
            Self::V2 => ("memory.max", "memory.current", "inactive_file", "active_file"),
        };
        // No limit is "max" in the one, which is no number, and the largest number of pages in the other.
        let limit = read(&folder.join(limit))?.trim().parse::<u64>().ok().filter(|limit| *limit < 1 << 60)?;
        let usage = read(&folder.join(usage))?.trim().parse::<u64>().ok()?;
        let stat = read(&folder.join("memory.stat")).unwrap_or_default();
        let cache = [inactive, active].iter().filter_map(|name| field(&stat, name)).sum();
        Some(limit.saturating_sub(usage.saturating_sub(cache)))
    }
}

fn field(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The process's group, from `/proc/self/cgroup`, with lines like `4:memory:/a/b` and `0::/a/b`.
fn membership(memberships: &str, version: Version) -> Option<&str> {
    memberships.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let is_it = match version {
            Version::V1 => controllers.split(',').any(|name| name == "memory"),
            Version::V2 => hierarchy == "0" && controllers.is_empty(),
        };
        is_it.then_some(path)
    })
}

/// Where control groups are to be seen, and which of them is to be seen at the top.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    root: PathBuf,
    point: PathBuf,
}

/// The mount of control groups, from `/proc/self/mountinfo`, with lines like
/// `33 24 0:28 /root /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,memory`.
fn mount(mountinfo: &str, version: Version) -> Option<Mount> {
    mountinfo.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1).unwrap_or(""));
        let is_it = match version {
            Version::V1 => name == "cgroup" && options.split(',').any(|option| option == "memory"),
            Version::V2 => name == "cgroup2",
        };
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        is_it.then(|| Mount { root: root.into(), point: point.into() })
    })
}

/// The folders of a group and of all above it that can be seen.
fn folders(mount: &Mount, group: &str) -> Vec<PathBuf> {
    // In a container the group may be named from outside of what is mounted: then only the top can be looked at.
    let inner = Path::new(group).strip_prefix(&mount.root).unwrap_or(Path::new(""));
    let inner = if inner.components().any(|part| part.as_os_str() == "..") { Path::new("") } else { inner };
    inner.ancestors().map(|folder| mount.point.join(folder)).collect()
}
