//! A Manager with its workers and nodes.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{Kept, Line, Node, NodeState, Place, Running, Span, Text, Time, Worker, WorkerState, job::text_of};
use crate::event::capped;

/// What was told within this time before a snapshot may be newer than it.
const SLACK: Duration = Duration::from_millis(5);

/// A Manager.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Manager {
    /// Within its process.
    pub id: u64,
    /// When it was first heard of.
    pub since: Time,
    /// How it ended, if it has.
    pub ended: Option<Ended>,
    /// Its workers, by id.
    pub workers: BTreeMap<u64, Worker>,
    /// Its nodes, by id: the entries of `machines`.
    pub nodes: BTreeMap<u64, Node>,
    /// The last snapshot.
    pub snapshot: Option<Snapshot>,
    /// Since when no call gets on, if that is so.
    pub stall: Option<Stall>,
    /// What a policy on GPUs has come to last, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judgement: Option<Judgement>,
    /// Whether everything ends with the first call.
    pub endaftercall: bool,
    #[serde(skip)]
    process: u32,
    #[serde(skip)]
    seq: u64,
}

/// The end of a Manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Ended {
    /// When.
    pub at: Time,
    /// `finished`, `shutdown`, `endaftercall` or `error`.
    pub reason: String,
}

/// What a policy on GPUs has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Judgement {
    /// `prefer_gpu`, `require_all`, `gpu_or_fail` or `mixed`.
    pub policy: String,
    /// Which workers get work: `undecided`, `cpus`, `gpus`, `both` or `refused`.
    pub placement: String,
    /// The machines for want of whose GPUs that is so.
    pub without: Option<String>,
}

/// Why no call gets on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stall {
    /// Since when.
    pub since: Time,
    /// `no_workers`, `workers_stuck`, `no_nodes` or `undecided`.
    pub reason: String,
    /// Calls that wait.
    pub jobs: u64,
    /// Their items without an outcome.
    pub items: u64,
}

/// Figures of a Manager, as it says them every 10 or 60 seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// When.
    pub at: Time,
    /// Calls that have not ended.
    pub jobs_active: u64,
    /// Calls that have.
    pub jobs_finished: u64,
    /// Items without an outcome.
    pub items_pending: u64,
    /// Chunks that run.
    pub chunks_running: u64,
    /// Chunks that ended.
    pub chunks_done: u64,
    /// Chunks in which an item failed.
    pub chunks_failed: u64,
    /// Chunks tried again.
    pub chunks_retried: u64,
    /// Workers that wait for work.
    pub available: u64,
    /// Workers that compute.
    pub busy: u64,
    /// Workers whose thread is started or replaced.
    pub restarting: u64,
    /// Workers that were given up or ended.
    pub offline: u64,
    /// Machines that are connected.
    pub nodes_up: u64,
    /// Machines that are not.
    pub nodes_lost: u64,
}

impl Manager {
    pub(super) fn new(process: u32, id: u64, since: Time) -> Self {
        Self {
            process,
            id,
            since,
            ended: None,
            workers: BTreeMap::new(),
            nodes: BTreeMap::new(),
            snapshot: None,
            stall: None,
            judgement: None,
            endaftercall: false,
            seq: 0,
        }
    }

    /// It is gone without a word.
    pub(super) fn lose(&mut self) {
        self.stall = None;
        self.workers.values_mut().for_each(Worker::lose);
        self.nodes.values_mut().for_each(|node| node.running.clear());
    }

    /// Whether it has, or had, slots or machines; others have nothing to say.
    pub(super) fn is_heard_of(&self) -> bool {
        self.snapshot.is_some() || !self.workers.is_empty() || !self.nodes.is_empty()
    }

    fn worker(&mut self, line: &Line<'_>, kept: &mut Kept) -> Option<&mut Worker> {
        let id = line.worker_id?;
        if self.workers.len() >= kept.limits.workers && !self.workers.contains_key(&id) {
            kept.cut += 1;
            return None;
        }
        Some(self.workers.entry(id).or_insert_with(|| Worker::new(id, line)))
    }

    pub(super) fn apply(&mut self, event: &str, line: &Line<'_>, kept: &mut Kept) {
        match event {
            "session.opened" => self.endaftercall = line.endaftercall.unwrap_or(false),
            "manager.started" => self.since = self.since.min(line.at),
            "manager.stopped" => {
                self.seq = self.seq.max(line.seq);
                let reason = capped(line.reason.as_deref().unwrap_or_default()).into();
                self.ended = Some(Ended { at: line.at, reason });
                self.stall = None;
                self.workers.values_mut().for_each(|worker| worker.release(line));
                self.nodes.values_mut().for_each(|node| node.running.clear());
            }
            "manager.stalled" if self.is_new(line) => {
                self.stall = Some(Stall {
                    since: line.at.before(line.stalled_s.unwrap_or(0.0)),
                    reason: capped(line.reason.as_deref().unwrap_or_default()).into(),
                    jobs: line.jobs_active.unwrap_or(0),
                    items: line.items_pending.unwrap_or(0),
                });
            }
            "manager.resumed" if self.is_new(line) => self.stall = None,
            "placement.judged" if self.is_new(line) => {
                let text = |text: &Option<Text<'_>>| capped(text.as_deref().unwrap_or_default()).to_owned();
                self.judgement = Some(Judgement {
                    policy: text(&line.gpu_policy),
                    placement: text(&line.placement),
                    without: line.without_gpu.is_some().then(|| text(&line.without_gpu)),
                });
            }
            _ if event.starts_with("worker.") && line.machine.is_none() => {
                let has_ended = self.ended.is_some();
                let Some(worker) = self.worker(line, kept) else { return };
                let is_death = matches!(event, "worker.stopped" | "worker.restarted" | "worker.gave_up");
                let inside = worker.running.clone().filter(|_| is_death && line.reason.as_deref() != Some("released"));
                worker.apply(event, line, kept);
                let lost = inside.filter(|_| worker.running.is_none());
                if has_ended {
                    worker.release(line);
                }
                self.take_away(line.worker_id.map(Place::Worker), lost, line.at, kept);
            }
            _ => {}
        }
    }

    /// Chunks that were at `place` until then, and did not come to their end there.
    fn take_away(&self, place: Option<Place>, lost: impl IntoIterator<Item = Running>, end: Time, kept: &mut Kept) {
        let Some(place) = place else { return };
        for running in lost {
            kept.span(Span { is_lost: true, ..self.span(place, running, end) });
        }
    }

    fn span(&self, place: Place, running: Running, end: Time) -> Span {
        Span {
            number: 0,
            process: self.process,
            manager: self.id,
            place,
            job: running.job,
            function: running.function,
            index: running.index,
            items: running.items,
            attempt: running.attempt,
            // A clock may have been put back meanwhile.
            start: running.since.min(end),
            end,
            is_failed: false,
            is_lost: false,
        }
    }

    /// As the line says that it has ended.
    fn ended_span(&self, place: Place, line: &Line<'_>, kept: &mut Kept) -> Option<Span> {
        let running = Running::of(line, kept)?;
        let (items, start) = (line.items_done.unwrap_or(running.items), line.at.before(line.compute_s.unwrap_or(0.0)));
        let is_failed = line.outcome.as_deref() == Some("failure");
        Some(Span { items, start, is_failed, ..self.span(place, running, line.at) })
    }

    fn is_new(&mut self, line: &Line<'_>) -> bool {
        let is_new = line.seq >= self.seq && self.ended.is_none();
        if is_new {
            self.seq = line.seq;
        }
        is_new
    }

    /// Says whether it was news. What it contradicts was told by lines whose successors are lost.
    pub(super) fn snapshot(&mut self, line: &Line<'_>) -> bool {
        if !self.is_new(line) {
            return false;
        }
        let now = Snapshot {
            at: line.at,
            jobs_active: line.jobs_active.unwrap_or(0),
            jobs_finished: line.jobs_finished.unwrap_or(0),
            items_pending: line.items_pending.unwrap_or(0),
            chunks_running: line.chunks_running.unwrap_or(0),
            chunks_done: line.chunks_done.unwrap_or(0),
            chunks_failed: line.chunks_failed.unwrap_or(0),
            chunks_retried: line.chunks_retried.unwrap_or(0),
            available: line.available.unwrap_or(0),
            busy: line.busy.unwrap_or(0),
            restarting: line.restarting.unwrap_or(0),
            offline: line.offline.unwrap_or(0),
            nodes_up: line.nodes_up.unwrap_or(0),
            nodes_lost: line.nodes_lost.unwrap_or(0),
        };
        self.snapshot = Some(now);
        if now.items_pending == 0 || now.jobs_active == 0 {
            self.stall = None;
        }
        self.heal_workers(line, &now);
        self.heal_nodes(line, &now);
        true
    }

    fn heal_workers(&mut self, line: &Line<'_>, now: &Snapshot) {
        let is_old = |since: Time| now.at.since(since) > SLACK;
        let mut busy: Vec<_> = self
            .workers
            .values_mut()
            .filter(|worker| worker.is_busy() && worker.running.as_ref().is_none_or(|running| is_old(running.told)))
            .collect();
        busy.sort_by_key(|worker| worker.running.as_ref().map(|running| running.told));
        let too_many = busy.len().saturating_sub(now.busy as usize);
        for worker in busy.into_iter().take(too_many) {
            worker.set(WorkerState::Available, now.at);
        }
        let is_none_left = now.available + now.busy + now.restarting == 0;
        for worker in self.workers.values_mut().filter(|worker| is_none_left && is_old(worker.since)) {
            if worker.state != WorkerState::GaveUp {
                worker.release(line);
            }
        }
        if now.restarting == 0 {
            let is_restarting = |worker: &&mut Worker| matches!(worker.state, WorkerState::Restarting { .. });
            let restarting = self.workers.values_mut().filter(is_restarting).filter(|worker| is_old(worker.since));
            restarting.for_each(|worker| worker.set(WorkerState::Up, now.at));
        }
    }

    fn heal_nodes(&mut self, line: &Line<'_>, now: &Snapshot) {
        if now.nodes_up == 0 {
            let is_old = |node: &&mut Node| now.at.since(node.since) > SLACK;
            for node in self.nodes.values_mut().filter(|node| node.is_up()).filter(is_old) {
                node.lose(line, "it is not connected any more".into());
            }
        }
        // All are: one that was removed, or is not tried again, is not among those that are counted.
        let may_be_up = |node: &Node| node.id.is_some() && node.state != NodeState::GivenUp;
        let candidates = self.nodes.values().filter(|node| may_be_up(node)).count();
        if now.nodes_lost == 0 && now.nodes_up as usize >= candidates {
            self.nodes.values_mut().filter(|node| may_be_up(node)).for_each(|node| node.set(NodeState::Up, now.at));
        }
        // Lanes at nodes have chunks that workers here have not.
        let here = self.workers.values().filter(|worker| worker.running.is_some()).count();
        let is_old = |running: &Running| now.at.since(running.told) > SLACK;
        let mut there: Vec<_> = self
            .nodes
            .iter()
            .flat_map(|(&node, state)| {
                state.running.iter().map(move |(&key, running)| (running.told, node, key, running))
            })
            .filter(|(.., running)| is_old(running))
            .map(|(told, node, key, _)| (told, node, key))
            .collect();
        there.sort_unstable();
        let too_many = (here + there.len()).saturating_sub(now.chunks_running as usize).min(there.len());
        for (_, node, key) in there.into_iter().take(too_many) {
            if let Some(node) = self.nodes.get_mut(&node) {
                node.running.remove(&key);
            }
        }
    }

    pub(super) fn apply_to_chunk(&mut self, event: &str, line: &Line<'_>, job_has_ended: bool, kept: &mut Kept) {
        let has_ended = self.ended.is_some();
        match event {
            "chunk.started" | "chunk.slow" if !has_ended => {
                let Some(running) = Running::of(line, kept) else { return };
                let Some(worker) = self.worker(line, kept) else { return };
                worker
                    .runs(line, Running { is_slow: event == "chunk.slow", is_pulse: event == "chunk.slow", ..running });
            }
            "chunk.finished" => {
                let place = Place::Worker(line.worker_id.unwrap_or(0));
                let Some(span) = self.ended_span(place, line, kept) else { return };
                kept.span(span);
                if let Some(worker) = self.worker(line, kept) {
                    worker.ends(line);
                }
            }
            "chunk.dispatched" if !has_ended && !job_has_ended => {
                let Some(running) = Running::of(line, kept) else { return };
                let most = kept.limits.workers;
                if let Some(node) = self.node(line, kept)
                    && line.seq >= node.fenced
                    && node.running.len() < most
                {
                    if !node.is_up() {
                        node.set(NodeState::Up, line.at); // that it is back was in a line that is lost
                    }
                    node.running.insert((running.job, running.index), running);
                }
            }
            "chunk.returned" => {
                let place = Place::Node(line.node_id.unwrap_or(0));
                let Some(span) = self.ended_span(place, line, kept) else { return };
                let took = span.end.since(span.start).as_secs_f64();
                kept.span(span);
                if let Some(node) = self.node(line, kept) {
                    (node.chunks, node.busy_s) = (node.chunks + 1, node.busy_s + took);
                    if let Some(key) = line.job_id.zip(line.chunk_index) {
                        node.running.remove(&key);
                    }
                }
            }
            "chunk.retry" => {
                let Some(worker) = self.worker(line, kept) else { return };
                worker.error = Some(format!("died at item {} of call {}", Or(line.item_index), Or(line.job_id)));
                let lost = worker.dies(line);
                self.take_away(line.worker_id.map(Place::Worker), lost, line.at, kept);
            }
            "chunk.failed" | "chunk.exception" if line.machine.is_none() => {
                if let Some(worker) = self.worker(line, kept) {
                    worker.error = Some(text_of(line));
                }
            }
            _ => {}
        }
    }

    fn node(&mut self, line: &Line<'_>, kept: &mut Kept) -> Option<&mut Node> {
        let machine = capped(line.machine.as_deref().unwrap_or_default());
        // One that was never connected has no number of its own yet.
        let named = || self.nodes.iter().find(|(_, node)| node.machine == machine).map(|(&key, _)| key);
        let free = || self.nodes.keys().next_back().map_or(u64::MAX / 2, |&last| last.max(u64::MAX / 2) + 1);
        let key = match line.node_id {
            Some(id) if self.nodes.contains_key(&id) => id,
            Some(id) => {
                let nameless = self.nodes.iter().find(|(_, node)| node.id.is_none() && node.machine == machine);
                if let Some(key) = nameless.map(|(&key, _)| key)
                    && let Some(node) = self.nodes.remove(&key)
                {
                    self.nodes.insert(id, Node { id: Some(id), ..node });
                }
                id
            }
            None => named().unwrap_or_else(free),
        };
        if !self.nodes.contains_key(&key) && self.nodes.len() >= kept.limits.workers {
            kept.cut += 1;
            return None;
        }
        Some(self.nodes.entry(key).or_insert_with(|| Node::new(line.node_id, machine, line.at)))
    }

    pub(super) fn apply_to_node(&mut self, verb: &str, line: &Line<'_>, kept: &mut Kept) {
        let has_ended = self.ended.is_some();
        let Some(node) = self.node(line, kept) else { return };
        let is_new = line.seq >= node.seq;
        match verb {
            "transfer" => {
                node.shared_bytes = node.shared_bytes.saturating_add(line.wire_bytes.unwrap_or(0));
                return;
            }
            "refused" => {
                node.error = Some(text_of(line));
                return;
            }
            "worker_died" => {
                node.deaths += 1;
                node.error = Some(text_of(line));
                let key = line.job_id.zip(line.chunk_index);
                let lost = key.and_then(|key| node.running.remove(&key));
                self.take_away(line.node_id.map(Place::Node), lost, line.at, kept);
                return;
            }
            "lost" => {
                node.losses += 1;
                node.requeued = node.requeued.saturating_add(line.chunks_requeued.unwrap_or(0));
            }
            "connected" => {
                node.name = capped(line.node_name.as_deref().unwrap_or_default()).into();
                node.version = capped(line.node_version.as_deref().unwrap_or_default()).into();
                (node.slots, node.rtt_s) = (line.workers_total.unwrap_or(0), line.rtt_s);
                node.gpus = line.workers_gpu.unwrap_or(0);
            }
            _ => {}
        }
        if !is_new || has_ended {
            return;
        }
        node.seq = line.seq;
        match verb {
            "connected" => node.set(NodeState::Up, line.at),
            "recovered" if node.state == NodeState::Suspect => node.set(NodeState::Up, line.at),
            "suspect" => node.set(NodeState::Suspect, line.at),
            "draining" => node.set(NodeState::Draining, line.at),
            "lost" => {
                let lost = std::mem::take(&mut node.running);
                node.lose(line, text_of(line));
                self.take_away(line.node_id.map(Place::Node), lost.into_values(), line.at, kept);
            }
            // That nobody listens where it was says nothing of why it was lost, and it is no less lost.
            "rejected" if node.state == NodeState::Lost && line.gives_up != Some(true) => {}
            "rejected" => {
                node.error = Some(text_of(line));
                node.set(if line.gives_up == Some(true) { NodeState::GivenUp } else { NodeState::Rejected }, line.at);
            }
            _ => {}
        }
    }

    /// All chunks that run, as far as the log told.
    pub fn running(&self) -> impl Iterator<Item = (Place, &Running)> {
        let here =
            self.workers.values().filter_map(|worker| Some((Place::Worker(worker.id), worker.running.as_ref()?)));
        let there =
            self.nodes.iter().flat_map(|(&id, node)| node.running.values().map(move |it| (Place::Node(id), it)));
        here.chain(there)
    }

    /// Workers that can compute.
    pub fn live_workers(&self) -> usize {
        let is_dead = |worker: &&Worker| matches!(worker.state, WorkerState::Offline | WorkerState::GaveUp);
        self.workers.len() - self.workers.values().filter(is_dead).count()
    }

    /// Chunks that a machine computes at once for this Manager: on CPUs, GPUs or both, as the policy on GPUs has come to.
    pub fn room_at(&self, node: &Node) -> u64 {
        match self.judgement.as_ref().map(|judgement| &*judgement.placement) {
            Some("gpus") => node.gpus,
            Some("both") => node.slots.saturating_add(node.gpus),
            _ => node.slots,
        }
    }

    /// Workers that compute at `now` and workers that can: by what each said, or else by the last snapshot.
    pub fn busy(&self, now: Time) -> (usize, usize) {
        let states = || self.workers.values().map(|worker| worker.state_at(now));
        let live = self.live_workers();
        let told = states().filter(|state| *state == WorkerState::Busy).count();
        let is_untold = states().any(|state| state == WorkerState::Up);
        match self.snapshot {
            Some(snapshot) if is_untold && self.ended.is_none() => (told.max(snapshot.busy as usize).min(live), live),
            _ => (told, live),
        }
    }
}

/// A number, or a question mark.
struct Or(Option<u64>);

impl std::fmt::Display for Or {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(number) => write!(f, "{number}"),
            None => f.write_str("?"),
        }
    }
}
