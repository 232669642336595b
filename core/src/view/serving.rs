//! What a node's workers do, which its own log does not tell: that is in the logs of those who call it.

use super::{Manager, Process, Time, View, Worker, WorkerState};

impl View {
    /// Chunks that a node has of Managers elsewhere, as far as their logs are among these.
    pub fn chunks_at(&self, node: &Process) -> usize {
        let Some(name) = node.serves_as() else { return 0 };
        let is_later_run = |other: &Process| other.id > node.id && other.serves_as() == Some(name);
        if node.is_over() || self.processes().any(is_later_run) {
            return 0;
        }
        let open = self.managers().filter(|(_, manager)| manager.ended.is_none());
        let nodes = open.flat_map(|(_, manager)| manager.nodes.values());
        nodes.filter(|node| node.name == name).map(|node| node.running.len()).sum()
    }

    /// What a worker of this Manager of this process does at `now`.
    pub fn worker_state(&self, process: &Process, manager: &Manager, worker: &Worker, now: Time) -> WorkerState {
        let own = worker.state_at(now);
        if own != WorkerState::Up || !serves(process, manager) {
            return own;
        }
        match self.chunks_at(process) {
            0 => own,
            chunks if chunks >= manager.live_workers() => WorkerState::Busy,
            _ => WorkerState::Serving,
        }
    }

    /// Workers of this Manager that compute at `now`, and workers that can.
    pub fn busy(&self, process: &Process, manager: &Manager, now: Time) -> (usize, usize) {
        let (busy, live) = manager.busy(now);
        let there = if serves(process, manager) { self.chunks_at(process) } else { 0 };
        (busy.max(there.min(live)), live)
    }
}

/// Whether it is the Manager whose workers a node lends to others: the only one there.
fn serves(process: &Process, manager: &Manager) -> bool {
    let has_slots = |manager: &&Manager| manager.ended.is_none() && !manager.workers.is_empty();
    let mut there = process.managers.values().filter(has_slots);
    process.node.is_some() && there.next().is_some_and(|first| first.id == manager.id) && there.next().is_none()
}
