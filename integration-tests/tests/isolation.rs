//! Slots in processes of their own: the same results as on threads, and what a function does to its process costs one slot.

mod crashes;
mod harm;
mod laws;
mod lifecycle;
mod output;
mod timeouts;

use std::fs;

distfun::host_tests!();

/// Processes of slots that this process has started and that are still there.
fn hosts() -> Vec<i32> {
    let ours = std::process::id().to_string();
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_host = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // pid (name) state parent …
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1).map(str::to_owned));
        let name = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        parent.as_deref() == Some(ours.as_str()) && name.starts_with("distfun-worker")
    };
    all.filter(is_host).collect()
}
