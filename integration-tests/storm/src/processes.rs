//! Processes as the system shows them.

use std::{fs, path::Path};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

/// A process, told apart from a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pid: i32,
    /// When it started, in ticks of the system.
    since: u64,
}

impl Process {
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // pid (name) state parent …; its start is the 22nd field.
        let mut fields = stat.rsplit(") ").next()?.split(' ');
        let is_zombie = fields.next() == Some("Z");
        let since = fields.nth(18)?.parse().ok()?;
        (!is_zombie).then_some(Self { pid: pid.try_into().ok()?, since })
    }

    pub(crate) fn is_there(&self) -> bool {
        Self::of(self.pid as u32) == Some(*self)
    }

    /// Sends a signal, if it is still there.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        self.is_there() && Pid::from_raw(self.pid).is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// Lets it make no file, of memory or on disk, longer than `bytes`: what a full disk is without being one.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        if self.is_there() {
            let limit = Rlimit { current: bytes, maximum: None };
            let _ = prlimit(Pid::from_raw(self.pid), Resource::Fsize, limit); // it may have ended meanwhile
        }
    }

    /// The processes of slots that it has started.
    pub(crate) fn hosts(&self) -> Vec<Self> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        let pids: Vec<u32> = lists
            .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect();
        pids.into_iter().filter(|pid| command_line(*pid).starts_with("distfun-worker")).filter_map(Self::of).collect()
    }

    pub(crate) fn describe(&self) -> String {
        format!("{} ({})", self.pid, command_line(self.pid as u32))
    }
}

fn command_line(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ")
}

/// All processes of the storm in `dir`: the environment of each of them names it, that of no other.
pub(crate) fn of_storm(dir: &Path) -> Vec<Process> {
    let dir = dir.as_os_str().as_encoded_bytes();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_ours = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(dir.len()).any(|part| part == dir)
    };
    pids.filter(is_ours).filter_map(Process::of).collect()
}

/// Files, sockets and others that this process has open.
pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Memory of this process, as people read it.
pub(crate) fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or_else(|| "unknown".into(), |size| size.trim().into())
}
