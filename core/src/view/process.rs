//! One run of a program.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Job, JobState, Kept, Line, Losses, Manager, Place, Time, record::Numbers};
use crate::event::capped;

/// Silent for longer, a process that has not said its end is taken to be gone, or its log not to be followed: an idle
/// Manager says something every minute,
const SILENT_AFTER_S: f64 = 150.0;

/// and a busy one every 10 s.
const SILENT_WHILE_BUSY_AFTER_S: f64 = 35.0;

/// A run of a program that writes a log.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Process {
    /// Counts the processes of a view.
    pub id: u32,
    /// Of this run.
    pub boot_id: String,
    /// What it is to distfun: `manager` or `node`.
    pub role: String,
    /// The program.
    pub service: String,
    /// Its machine.
    pub host: String,
    /// Its number there.
    pub pid: Option<u64>,
    /// The time of its first line.
    pub first: Time,
    /// The time of its last line.
    pub last: Time,
    /// Its Managers, by id.
    pub managers: BTreeMap<u64, Manager>,
    /// Its calls, by id.
    pub jobs: BTreeMap<u64, Job>,
    /// As a node, if it is one.
    pub node: Option<Serving>,
    /// Shared data that it holds, by name.
    pub shared: BTreeMap<String, Shared>,
    /// Whether another run of the node serves in its place, which is more than its own log tells where it was killed.
    pub is_replaced: bool,
    #[serde(skip)]
    numbers: Numbers,
}

/// A node, by its own words.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Serving {
    /// What it calls itself.
    pub name: String,
    /// Where it listens.
    pub address: Option<String>,
    /// Chunks that it computes at once on CPUs.
    pub slots: u64,
    /// Its GPUs, each of which computes one more.
    pub gpus: u64,
    /// Managers that are connected.
    pub managers: u64,
    /// How often a process of a program that was brought died inside a chunk.
    pub deaths: u64,
    /// Why it stops, if it does.
    pub stopping: Option<String>,
    /// Whether it serves nobody any more.
    pub has_stopped: bool,
    #[serde(skip)]
    seq: u64,
}

/// Shared data in a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Shared {
    /// Its size, in bytes.
    pub bytes: u64,
    /// Since when it is there.
    pub since: Time,
    /// How many hold it by this name.
    pub count: u64,
}

impl Process {
    pub(super) fn new(id: u32, line: &Line<'_>) -> Self {
        Self {
            id,
            boot_id: line.boot_id.to_string(),
            role: line.role.as_deref().unwrap_or("manager").into(),
            service: String::new(),
            host: String::new(),
            pid: None,
            first: line.at,
            last: line.at,
            managers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            node: None,
            shared: BTreeMap::new(),
            is_replaced: false,
            numbers: Numbers::default(),
        }
    }

    /// Says whether the line is new.
    pub(super) fn hears(&mut self, line: &Line<'_>) -> bool {
        if self.service.is_empty() {
            self.service = capped(line.service_name.as_deref().unwrap_or_default()).into();
            self.host = capped(line.host_name.as_deref().unwrap_or_default()).into();
            self.pid = line.pid;
        }
        (self.first, self.last) = (self.first.min(line.at), self.last.max(line.at));
        self.numbers.note(line.seq)
    }

    /// Where it serves, and under which name, as a node.
    pub(super) fn place(&self) -> Option<(String, String, String)> {
        let node = self.node.as_ref()?;
        Some((node.name.clone(), node.address.clone()?, self.host.clone()))
    }

    /// Its name as a node, if it is one and has said it.
    pub(super) fn serves_as(&self) -> Option<&str> {
        self.node.as_ref().map(|node| node.name.as_str()).filter(|name| !name.is_empty())
    }

    /// No end of it is in its log.
    pub(super) fn replace(&mut self) {
        self.is_replaced = true;
        self.managers.values_mut().for_each(Manager::lose);
    }

    /// As people tell it from others: the node's name, or program and process.
    pub fn name(&self) -> String {
        match (&self.node, self.pid) {
            (Some(node), _) if !node.name.is_empty() => node.name.clone(),
            (_, Some(pid)) if !self.service.is_empty() => format!("{} {pid}", self.service),
            _ => self.boot_id.chars().take(8).collect(),
        }
    }

    /// Whether it has said that it ends, or has nothing left to do, or another one serves in its place.
    pub fn is_over(&self) -> bool {
        if self.is_replaced {
            return true;
        }
        let has_ended = match &self.node {
            Some(node) => node.has_stopped,
            None => !self.managers.is_empty(),
        };
        has_ended && self.managers.values().all(|manager| manager.ended.is_some())
    }

    /// Whether it should have been heard of.
    pub fn is_silent(&self, now: Time) -> bool {
        let lives = self.managers.values().any(|manager| manager.ended.is_none() && manager.is_heard_of());
        let is_busy = |manager: &Manager| {
            manager.ended.is_none() && manager.snapshot.is_some_and(|snapshot| snapshot.jobs_active > 0)
        };
        let runs = |job: &Job| job.state == JobState::Running && job.manager.is_some();
        let is_busy = self.managers.values().any(is_busy) || self.jobs.values().any(runs);
        let limit = if is_busy { SILENT_WHILE_BUSY_AFTER_S } else { SILENT_AFTER_S };
        lives && !self.is_replaced && now.since(self.last).as_secs_f64() > limit
    }

    pub(super) fn add_losses(&self, losses: &mut Losses) {
        losses.missing = losses.missing.saturating_add(self.numbers.missing());
        losses.dropped = losses.dropped.saturating_add(self.numbers.dropped);
        losses.duplicates += self.numbers.duplicates;
    }

    fn manager(&mut self, line: &Line<'_>, kept: &mut Kept) -> Option<&mut Manager> {
        let id = line.manager_id?;
        if !self.managers.contains_key(&id) && self.managers.len() >= kept.limits.managers.max(1) {
            let ended = self.managers.iter().find(|(_, manager)| manager.ended.is_some());
            let oldest = ended.or_else(|| self.managers.iter().next()).map(|(&id, _)| id);
            oldest.and_then(|id| self.managers.remove(&id));
            kept.cut += 1;
        }
        let process = self.id;
        Some(self.managers.entry(id).or_insert_with(|| Manager::new(process, id, line.at)))
    }

    fn job(&mut self, line: &Line<'_>, kept: &mut Kept) -> Option<&mut Job> {
        let id = line.job_id?;
        let process = self.id;
        if !self.jobs.contains_key(&id) {
            if self.jobs.len() >= kept.limits.jobs.max(1) {
                let ended = self.jobs.iter().find(|(_, job)| job.state != JobState::Running);
                let oldest = ended.or_else(|| self.jobs.iter().next()).map(|(&id, _)| id);
                oldest.and_then(|id| self.jobs.remove(&id));
                kept.cut += 1;
            }
            let function = kept.name(line.function.as_deref().unwrap_or_default());
            self.jobs.insert(id, Job::new(process, id, function, line));
        }
        self.jobs.get_mut(&id)
    }

    /// Takes in an event of this name, without `distfun.`.
    pub(super) fn apply(&mut self, event: &str, line: &Line<'_>, kept: &mut Kept) {
        let (area, verb) = event.split_once('.').unwrap_or((event, ""));
        if is_told(event, line) {
            kept.tell(self.id, event, line);
        }
        match (area, verb) {
            ("manager", "state") => {
                let Some(manager) = self.manager(line, kept) else { return };
                if manager.snapshot(line) {
                    let id = manager.id;
                    self.heal_jobs(id, line);
                }
            }
            ("manager", "stopped") => {
                if let Some(manager) = self.manager(line, kept) {
                    manager.apply(event, line, kept);
                    let (id, seq) = (manager.id, line.seq);
                    let of_it = |job: &&mut Job| job.manager == Some(id);
                    self.jobs.values_mut().filter(of_it).for_each(|job| job.lose(seq, line.at));
                }
            }
            ("manager" | "session" | "worker" | "placement", _) => {
                if let Some(manager) = self.manager(line, kept) {
                    manager.apply(event, line, kept);
                }
            }
            ("job", _) => {
                if let Some(job) = self.job(line, kept) {
                    job.apply(verb, line);
                }
                if verb == "finished" {
                    self.job_has_ended(line);
                }
            }
            ("chunk" | "item", _) => self.apply_to_chunk(event, line, kept),
            ("node", "started" | "joined" | "left" | "process_died" | "stopping" | "stopped") => self.serve(verb, line),
            ("node", _) => {
                if let Some(manager) = self.manager(line, kept) {
                    manager.apply_to_node(verb, line, kept);
                }
            }
            ("shared", _) => self.share(verb, line, kept),
            ("log", "dropped") => {
                self.numbers.dropped = self.numbers.dropped.saturating_add(line.dropped_total.unwrap_or(0))
            }
            _ => {} // a later version's
        }
        let limit = kept.limits.failures;
        kept.failures.note(event, line, limit);
    }

    fn apply_to_chunk(&mut self, event: &str, line: &Line<'_>, kept: &mut Kept) {
        if let Some(job) = self.job(line, kept) {
            job.apply_chunk(event, line);
        }
        // A chunk of a call that has ended does not run, whatever the order of lines.
        let has_ended = line.job_id.and_then(|id| self.jobs.get(&id)).is_some_and(|job| job.state != JobState::Running);
        if line.manager_id.is_none() {
            return; // in the calling thread
        }
        if let Some(manager) = self.manager(line, kept) {
            manager.apply_to_chunk(event, line, has_ended, kept);
        }
    }

    /// What nodes had of it is not wanted any more; what workers have is theirs until they say something else.
    fn job_has_ended(&mut self, line: &Line<'_>) {
        let (Some(job), Some(manager)) = (line.job_id, line.manager_id.and_then(|id| self.managers.get_mut(&id)))
        else {
            return;
        };
        manager.nodes.values_mut().for_each(|node| node.forget_job(job));
    }

    /// There are as many calls as the snapshot says: the ends of others were lost.
    fn heal_jobs(&mut self, manager: u64, line: &Line<'_>) {
        let Some(active) = line.jobs_active else { return };
        let of_it = |job: &&mut Job| {
            job.manager == Some(manager)
                && job.state == JobState::Running
                && line.at.since(job.submitted).as_millis() > 100
        };
        let mut open: Vec<_> = self.jobs.values_mut().filter(of_it).collect();
        open.sort_by_key(|job| job.heard);
        let too_many = open.len().saturating_sub(active as usize);
        open.into_iter().take(too_many).for_each(|job| job.lose(line.seq, line.at));
    }

    fn serve(&mut self, verb: &str, line: &Line<'_>) {
        let node = self.node.get_or_insert_with(Serving::default);
        if node.name.is_empty() {
            node.name = capped(line.node_name.as_deref().unwrap_or_default()).into();
        }
        if let Some(address) = &line.address {
            (node.address, node.slots) = (Some(address.to_string()), line.workers_total.unwrap_or(0));
            node.gpus = line.workers_gpu.unwrap_or(0);
        }
        if verb == "process_died" {
            node.deaths += 1;
        }
        if line.seq < node.seq {
            return;
        }
        node.seq = line.seq;
        match verb {
            "joined" | "left" => node.managers = line.managers.unwrap_or(0),
            "stopping" => {
                let by = line.manager_name.as_deref().map(|name| format!(" by {name}")).unwrap_or_default();
                node.stopping = Some(format!("{}{by}", line.reason.as_deref().unwrap_or_default()));
            }
            "stopped" => (node.managers, node.has_stopped) = (0, true),
            _ => {}
        }
    }

    fn share(&mut self, verb: &str, line: &Line<'_>, kept: &mut Kept) {
        let Some(key) = line.key.as_deref() else {
            if let Some(manager) = self.manager(line, kept) {
                manager.apply_to_node(verb, line, kept);
            }
            return;
        };
        match verb {
            "published" => {
                if !self.shared.contains_key(key) && self.shared.len() >= kept.limits.workers {
                    kept.cut += 1;
                    return;
                }
                let bytes = line.total_bytes.unwrap_or(0);
                let shared = self.shared.entry(key.into()).or_insert(Shared { bytes, since: line.at, count: 0 });
                (shared.bytes, shared.count) = (bytes, shared.count + 1);
            }
            "released" => {
                if let Some(shared) = self.shared.get_mut(key) {
                    shared.count = shared.count.saturating_sub(1);
                }
                self.shared.retain(|_, shared| shared.count > 0);
            }
            _ => {}
        }
    }

    /// Where chunks of a call run, with the earliest that began first.
    pub fn places_of(&self, job: &Job) -> Vec<(Place, &super::Running)> {
        let Some(manager) = job.manager.and_then(|id| self.managers.get(&id)) else { return Vec::new() };
        let mut all: Vec<_> = manager.running().filter(|(_, running)| running.job == job.id).collect();
        all.sort_by_key(|(_, running)| running.since);
        all
    }

    /// When it ended, if it has: by its own words, or those of its last line.
    pub fn ended_at(&self) -> Option<Time> {
        let told = self.managers.values().filter_map(|manager| manager.ended.as_ref()).map(|ended| ended.at).max();
        self.is_over().then(|| told.unwrap_or(self.last))
    }
}

/// Whether people want to read it one by one: everything grave, and what begins or ends.
fn is_told(event: &str, line: &Line<'_>) -> bool {
    let is_grave = matches!(&*line.level, "WARN" | "ERROR");
    let is_pulse = matches!(event, "manager.state" | "worker.state" | "job.progress" | "worker.started");
    is_grave || (*line.level == *"INFO" && !is_pulse)
}
