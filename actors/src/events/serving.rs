//! What a node says about itself.

use std::time::Duration;

use distfun_core::event::{NodeJoined, NodeLeft, NodeStarted, NodeStopped, NodeStopping, capped, seconds};
#[cfg(target_os = "linux")]
use distfun_core::{event::NodeProcessDied, ids::WorkerId};

use super::emit;
use crate::node::Why;

pub(crate) fn node_started(node_name: &str, address: &str, slots: usize, gpus: usize) {
    let (workers_total, node_version) = (slots as u64, env!("CARGO_PKG_VERSION"));
    let workers_gpu = Some(gpus as u64).filter(|gpus| *gpus > 0);
    emit(&NodeStarted { node_name, address, workers_total, node_version, workers_gpu });
}

pub(crate) fn node_joined(node_name: &str, manager: &str, managers: usize) {
    emit(&NodeJoined { node_name, manager_name: capped(manager), managers: managers as u64 });
}

pub(crate) fn node_left(node_name: &str, manager: &str, managers: usize, end: &str) {
    let (manager_name, error_message) = (capped(manager), capped(end));
    emit(&NodeLeft { node_name, manager_name, managers: managers as u64, error_message });
}

/// `item` is the one that it was at, where there is one.
#[cfg(target_os = "linux")]
pub(crate) fn node_process_died(
    node_name: &str,
    manager: &str,
    function: &'static str,
    worker: WorkerId,
    item: Option<usize>,
    (is_overdue, story): (bool, &str),
) {
    emit(&NodeProcessDied {
        node_name,
        manager_name: capped(manager),
        function,
        worker_id: worker.0.into(),
        error_type: if is_overdue { "item_timeout" } else { "worker_lost" },
        item_index: item.map(|item| item as u64),
        error_message: Some(capped(story)).filter(|story| !story.is_empty()),
    });
}

pub(crate) fn node_stopping(node_name: &str, why: Why<'_>, managers: usize) {
    let (node_stop_reason, manager_name) = match why {
        Why::Signal => ("signal", None),
        Why::Manager(name) => ("shutdown", Some(capped(name))),
        Why::Program => ("program", None),
    };
    emit(&NodeStopping { node_name, node_stop_reason, managers: managers as u64, manager_name });
}

pub(crate) fn node_stopped(node_name: &str, uptime: Duration) {
    emit(&NodeStopped { node_name, uptime_s: seconds(uptime) });
}
