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
        let limit = read(&folder.join(limit))?.trim().parse::<u64>().ok()?;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const V2_MOUNT: &str = "24 1 0:22 / /sys rw shared:7 - sysfs sysfs rw\n\
        33 24 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1_MOUNTS: &str = "40 32 0:33 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 - cgroup cgroup rw,cpu,cpuacct\n\
        41 32 0:34 / /sys/fs/cgroup/memory rw shared:16 - cgroup cgroup rw,memory\n\
        42 32 0:35 / /sys/fs/cgroup/unified rw shared:17 - cgroup2 cgroup2 rw\n";

    fn left(files: &[(&str, &str)]) -> Option<u64> {
        let files: BTreeMap<&Path, &str> = files.iter().map(|(path, text)| (Path::new(*path), *text)).collect();
        groups_bytes(&|path| files.get(path).map(|text| (*text).to_owned()))
    }

    #[test]
    fn the_machine_tells_what_it_has() {
        let text = "MemTotal:       24684092 kB\nMemFree:        1000 kB\nMemAvailable:   2048 kB\nBuffers: 1 kB\n";
        assert_eq!(machine_bytes(text), Some(2 << 20));
        assert_eq!(machine_bytes("MemTotal: 5 kB\n"), None);
        assert_eq!(machine_bytes("MemAvailable:\n"), None);
        assert_eq!(machine_bytes(""), None);
    }

    #[test]
    fn the_tightest_group_above_counts() {
        let files = [
            ("/proc/self/cgroup", "0::/user.slice/job/step\n"),
            ("/proc/self/mountinfo", V2_MOUNT),
            ("/sys/fs/cgroup/user.slice/job/step/memory.max", "max\n"),
            ("/sys/fs/cgroup/user.slice/job/step/memory.current", "70\n"),
            ("/sys/fs/cgroup/user.slice/job/memory.max", "1000\n"),
            ("/sys/fs/cgroup/user.slice/job/memory.current", "400\n"),
            ("/sys/fs/cgroup/user.slice/memory.max", "5000\n"),
            ("/sys/fs/cgroup/user.slice/memory.current", "4500\n"),
        ];
        assert_eq!(left(&files), Some(500));
        assert_eq!(left(&files[..6]), Some(600));
        assert_eq!(left(&files[..4]), None, "max is no limit");
        assert_eq!(left(&files[..2]), None);
        assert_eq!(left(&files[..1]), None);
        assert_eq!(left(&[]), None);
    }

    #[test]
    fn the_cache_of_files_counts_as_free() {
        let files = [
            ("/proc/self/cgroup", "0::/job\n"),
            ("/proc/self/mountinfo", V2_MOUNT),
            ("/sys/fs/cgroup/job/memory.max", "1000\n"),
            ("/sys/fs/cgroup/job/memory.current", "900\n"),
            ("/sys/fs/cgroup/job/memory.stat", "anon 100\nfile 800\nshmem 400\ninactive_file 300\nactive_file 100\n"),
        ];
        assert_eq!(left(&files), Some(500));
        let mut over = files;
        over[3].1 = "1400\n";
        assert_eq!(left(&over), Some(0));
    }

    #[test]
    fn both_versions_are_read_beside_one_another() {
        let files = [
            ("/proc/self/cgroup", "5:cpu,cpuacct:/other\n4:memory:/a/b\n0::/a\n"),
            ("/proc/self/mountinfo", V1_MOUNTS),
            ("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "1000\n"),
            ("/sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "300\n"),
            ("/sys/fs/cgroup/memory/a/b/memory.stat", "active_file 1\ntotal_active_file 50\ntotal_inactive_file 50\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "9999999\n"),
        ];
        assert_eq!(left(&files), Some(800));
        let with_v2 =
            [("/sys/fs/cgroup/unified/a/memory.max", "200"), ("/sys/fs/cgroup/unified/a/memory.current", "150")];
        assert_eq!(left(&[&files[..], &with_v2].concat()), Some(50));
    }

    #[test]
    fn a_container_sees_its_part_of_the_tree() {
        let mount = "33 24 0:28 /docker/abc /sys/fs/cgroup ro shared:9 - cgroup2 cgroup rw\n";
        let at = |group: &str, folder: &str| {
            let (max, current) = (format!("{folder}/memory.max"), format!("{folder}/memory.current"));
            let files = [("/proc/self/cgroup", group), ("/proc/self/mountinfo", mount), (&max, "100"), (&current, "1")];
            left(&files)
        };
        assert_eq!(at("0::/docker/abc/inner\n", "/sys/fs/cgroup/inner"), Some(99));
        assert_eq!(at("0::/docker/abc\n", "/sys/fs/cgroup"), Some(99));
        assert_eq!(at("0::/elsewhere\n", "/sys/fs/cgroup"), Some(99));
    }

    #[test]
    fn a_group_outside_of_the_namespace_is_not_followed() {
        let files = [
            ("/proc/self/cgroup", "0::/../outside\n"),
            ("/proc/self/mountinfo", V2_MOUNT),
            ("/sys/fs/cgroup/../outside/memory.max", "5"),
            ("/sys/fs/cgroup/../outside/memory.current", "1"),
            ("/sys/fs/cgroup/memory.max", "100"),
            ("/sys/fs/cgroup/memory.current", "1"),
        ];
        assert_eq!(left(&files), Some(99));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_some_memory() {
        assert!(bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
