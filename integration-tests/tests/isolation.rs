//! Slots in processes of their own: the same results as on threads, and what a function does to its process costs one slot.

mod crashes;
mod harm;
mod laws;
mod lifecycle;
mod memory;
mod output;
mod retries;
mod timeouts;

use std::{fs, sync::LazyLock};

use distfun::{
    DistributeBuilder, Isolation,
    node::{self, NodeConfig, NodeHandle},
};

use crate::support::dir_of_process;

distfun::host_tests!();

/// Where a function may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Threads,
    Processes,
    /// At a node that knows nothing, to which this test binary is sent.
    Node,
}

impl Place {
    fn of<K>(self, builder: DistributeBuilder<K>, slots: usize) -> DistributeBuilder<K> {
        match self {
            Self::Threads => builder.slots(slots),
            Self::Processes => builder.slots(slots).isolation(Isolation::Process),
            Self::Node => builder.slots(0).machines([NODE.address()]),
        }
    }
}

static NODE: LazyLock<NodeHandle> = LazyLock::new(|| node::start_programs(bare().slots(2)).expect("a node starts"));

/// A node that knows nothing.
pub(crate) fn bare() -> NodeConfig {
    node::config().listen("127.0.0.1:0").cache(dir_of_process("programs")).as_another_process()
}

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
