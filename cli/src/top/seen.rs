//! What is shown: a view at a time, and how it got there.

use distfun_core::view::{Job, JobState, Manager, Node, NodeState, Process, Time, View, Worker, WorkerState};

use super::look::Mark;

/// For so long what is dead stays in lists.
const GRAVE_S: f64 = 60.0;

/// How the shown time goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Going {
    /// With the logs, which are read as they grow.
    Live,
    /// All programs have ended: nothing is expected.
    Over,
    /// The log has ended, and programs have not said that they do.
    End,
    /// So many times as fast as it was.
    Replay(f64),
    /// Stopped by the user; whether the logs are read on behind it.
    Frozen {
        /// What is shown is not the latest.
        is_live: bool,
    },
    /// The logs are read up to where it begins.
    Seeking,
    /// Printed once.
    Once,
}

/// A view, at a time.
pub(crate) struct Seen<'a> {
    pub(crate) view: &'a View,
    /// Not before the time of the view.
    pub(crate) now: Time,
    pub(crate) going: Going,
    /// The share of the logs that is read, while there is much more.
    pub(crate) reading: Option<f64>,
    /// Lines read in the last second.
    pub(crate) lines_per_s: f64,
    /// It is no log.
    pub(crate) is_demo: bool,
}

impl Seen<'_> {
    /// Whether what has ended then is not shown any more.
    pub(crate) fn is_gone(&self, ended: Time) -> bool {
        self.now.since(ended).as_secs_f64() > GRAVE_S
    }

    /// Whether nothing goes on, as far as anybody knows.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self.going, Going::Over | Going::End | Going::Once)
            || self
                .view
                .processes()
                .all(|process| process.managers.is_empty() || process.is_over() || process.is_silent(self.now))
    }

    /// Up to when there is something to draw.
    pub(crate) fn end(&self) -> Time {
        if self.is_quiet() { self.view.now() } else { self.now }
    }

    /// Until when something of this process is known to go on.
    pub(crate) fn known_until(&self, process: &Process) -> Time {
        if process.is_silent(self.now) { process.last } else { self.now }
    }

    pub(crate) fn since(&self, time: Time) -> f64 {
        self.now.since(time).as_secs_f64()
    }

    /// Processes that are still shown.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.view.processes().filter(|process| !(process.is_over() && self.is_gone(process.last)))
    }

    /// Managers that are still shown, and have anything to show.
    pub(crate) fn managers<'a>(&self, process: &'a Process) -> impl Iterator<Item = &'a Manager> {
        let is_gone = |manager: &Manager| manager.ended.as_ref().is_some_and(|ended| self.is_gone(ended.at));
        process.managers.values().filter(move |manager| !is_gone(manager))
    }

    /// Workers that are still shown.
    pub(crate) fn workers<'a>(&self, manager: &'a Manager) -> impl Iterator<Item = &'a Worker> {
        let is_dead = |worker: &Worker| matches!(worker.state, WorkerState::Offline | WorkerState::GaveUp);
        manager.workers.values().filter(move |worker| !(is_dead(worker) && self.is_gone(worker.since)))
    }

    /// Machines that are still shown: those that are tried again, whatever time it takes.
    pub(crate) fn nodes<'a>(&self, manager: &'a Manager) -> impl Iterator<Item = (u64, &'a Node)> {
        let is_gone = |node: &Node| node.state == NodeState::GivenUp && self.is_gone(node.since);
        manager.nodes.iter().filter(move |(_, node)| !is_gone(node)).map(|(&id, node)| (id, node))
    }

    /// The process of a node, where its log is among the logs.
    pub(crate) fn process_of(&self, node: &Node) -> Option<&Process> {
        let is_it = |process: &&Process| {
            process.node.as_ref().is_some_and(|serving| !serving.name.is_empty() && serving.name == node.name)
        };
        // The latest run.
        self.view.processes().filter(is_it).last()
    }
}

/// The share of its time that a worker or a node's slot has computed; none if the log does not tell.
pub(crate) fn busy_share(busy_s: f64, runs_s: f64, chunks: u64, slots: u64, life_s: f64) -> Option<f64> {
    let is_told = chunks > 0 || runs_s > 0.0;
    let time = life_s * slots.max(1) as f64;
    (is_told && time > 0.0).then(|| ((busy_s + runs_s) / time).clamp(0.0, 1.0))
}

pub(crate) fn worker_share(manager: &Manager, worker: &Worker, now: Time) -> Option<f64> {
    let runs_s = worker.running.as_ref().map_or(0.0, |running| now.since(running.since).as_secs_f64());
    busy_share(worker.busy_s, runs_s, worker.chunks, 1, life_s(manager, now))
}

pub(crate) fn node_share(manager: &Manager, node: &Node, now: Time) -> Option<f64> {
    let runs_s = node.running.values().map(|running| now.since(running.since).as_secs_f64()).sum();
    busy_share(node.busy_s, runs_s, node.chunks, manager.room_at(node), life_s(manager, now))
}

fn life_s(manager: &Manager, now: Time) -> f64 {
    manager.ended.as_ref().map_or(now, |ended| ended.at).since(manager.since).as_secs_f64()
}

pub(crate) fn worker_state(
    seen: &Seen<'_>,
    process: &Process,
    manager: &Manager,
    worker: &Worker,
) -> (&'static str, Mark) {
    match seen.view.worker_state(process, manager, worker, seen.now) {
        WorkerState::Offline => ("ended", Mark::Done),
        WorkerState::GaveUp => ("given up", Mark::Lost),
        _ if process.is_silent(seen.now) => ("unknown", Mark::Attention),
        WorkerState::Up => ("up", Mark::Idle),
        WorkerState::Available => ("idle", Mark::Idle),
        WorkerState::Busy => ("busy", Mark::Runs),
        WorkerState::Serving => ("serves", Mark::Runs),
        WorkerState::Restarting { .. } => ("restarts", Mark::Changes),
        _ => ("?", Mark::Attention),
    }
}

pub(crate) fn node_state(seen: &Seen<'_>, process: &Process, manager: &Manager, node: &Node) -> (&'static str, Mark) {
    match node.state {
        // The connection went with it.
        _ if manager.ended.is_some() => ("ended", Mark::Done),
        _ if process.is_silent(seen.now) => ("unknown", Mark::Attention),
        NodeState::Up => ("up", Mark::Runs),
        NodeState::Suspect => ("silent", Mark::Changes),
        NodeState::Draining => ("stopping", Mark::Changes),
        NodeState::Lost => ("lost", Mark::Lost),
        NodeState::Rejected => ("rejected", Mark::Lost),
        NodeState::GivenUp => ("given up", Mark::Lost),
        _ => ("?", Mark::Attention),
    }
}

pub(crate) fn job_state(job: &Job) -> (&'static str, Mark) {
    match job.state {
        JobState::Running if job.failed > 0 => ("runs", Mark::Attention),
        JobState::Running => ("runs", Mark::Runs),
        JobState::Success => ("done", Mark::Done),
        JobState::Failure => ("failed", Mark::Lost),
        JobState::Timeout => ("timeout", Mark::Lost),
        JobState::Cancelled => ("cancelled", Mark::Done),
        _ => ("unknown", Mark::Attention),
    }
}

pub(crate) fn has_failed(job: &Job) -> bool {
    job.failed > 0 || matches!(job.state, JobState::Failure | JobState::Timeout)
}
