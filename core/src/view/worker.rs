//! A worker of a Manager.

use serde::Serialize;

use super::{Kept, Line, Running, Time};
use crate::event::capped;

/// A worker says every 10 s that it is still inside a long chunk; where it has not for so long, it is not any more, or
/// many others want to say so too.
const BUSY_FOR_S: f64 = 30.0;

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WorkerState {
    /// It is there; what it does is said at DEBUG only.
    Up,
    /// It waits for work.
    Available,
    /// It computes.
    Busy,
    /// It is a node's, and the node has chunks of Managers elsewhere: fewer than workers, so that this one may compute or
    /// not. Never a worker's own state, see [`super::View::worker_state`].
    Serving,
    /// Its thread is replaced, and starts then at the latest.
    Restarting {
        /// When.
        until: Time,
    },
    /// Its slot is released, or its thread left behind.
    Offline,
    /// It died again and again, and is not used any more.
    GaveUp,
}

/// A worker: one slot of this machine.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Worker {
    /// Within its Manager.
    pub id: u64,
    /// Counts the lives of its thread, from 0.
    pub generation: u64,
    /// `cpu` or `gpu`.
    pub kind: String,
    /// What its GPU is called, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// What it does.
    pub state: WorkerState,
    /// Since when.
    pub since: Time,
    /// The chunk that it computes.
    pub running: Option<Running>,
    /// How often its thread was replaced.
    pub restarts: u64,
    /// Chunks that it has ended, as far as the log told.
    pub chunks: u64,
    /// Time that it has computed, in seconds, as far as the log told.
    pub busy_s: f64,
    /// What went wrong last.
    pub error: Option<String>,
    #[serde(skip)]
    seq: u64,
    /// What earlier lives have done, by their own last words.
    #[serde(skip)]
    before: (u64, f64),
}

impl Worker {
    pub(super) fn new(id: u64, line: &Line<'_>) -> Self {
        Self {
            id,
            generation: line.generation.unwrap_or(0),
            kind: "cpu".into(),
            gpu: None,
            state: WorkerState::Up,
            since: line.at,
            running: None,
            restarts: 0,
            chunks: 0,
            busy_s: 0.0,
            error: None,
            seq: 0,
            before: (0, 0.0),
        }
    }

    /// Which life of its thread this is, counted from 1, as messages count them.
    pub fn life(&self) -> u64 {
        self.generation.saturating_add(1)
    }

    /// What it does at `now`: a chunk that was not heard of for long may have ended.
    pub fn state_at(&self, now: Time) -> WorkerState {
        match &self.running {
            Some(running) if running.is_pulse && now.since(running.told).as_secs_f64() > BUSY_FOR_S => WorkerState::Up,
            _ => self.state,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.state == WorkerState::Busy
    }

    pub(super) fn set(&mut self, state: WorkerState, at: Time) {
        if self.state != state {
            (self.state, self.since) = (state, at);
        }
        if state != WorkerState::Busy {
            self.running = None;
        }
    }

    /// Whether the line is about the life that is known last, or a later one, and no line after it was heard.
    pub(super) fn is_new(&mut self, line: &Line<'_>) -> bool {
        let generation = line.generation.unwrap_or(self.generation);
        if generation < self.generation || line.seq < self.seq {
            return false;
        }
        if generation > self.generation {
            self.running = None; // that of another life
        }
        (self.generation, self.seq) = (generation, line.seq);
        true
    }

    pub(super) fn apply(&mut self, event: &str, line: &Line<'_>, kept: &mut Kept) {
        match event {
            // Each life says once what it has done.
            "worker.stopped" => {
                self.before.0 = self.before.0.saturating_add(line.chunks_done.unwrap_or(0));
                self.before.1 += line.busy_s.unwrap_or(0.0);
                self.chunks = self.chunks.max(self.before.0);
                self.busy_s = self.busy_s.max(self.before.1);
            }
            "worker.restarted" => self.restarts += 1,
            _ => {}
        }
        if matches!(event, "worker.restarted" | "worker.gave_up") && self.error.is_none() {
            self.error = line.cause.as_deref().map(|cause| capped(cause).to_owned());
        }
        if let ("worker.stopped", Some(text)) = (event, &line.error_message) {
            self.error = Some(capped(text).to_owned());
        }
        if event == "worker.output" || event == "worker.logged" || !self.is_new(line) {
            return;
        }
        match event {
            "worker.started" => {
                self.kind = capped(line.worker_kind.as_deref().unwrap_or("cpu")).into();
                self.gpu = line.gpu_name.as_deref().map(|name| capped(name).into());
                self.set(WorkerState::Up, line.at);
            }
            "worker.stopped" => match line.reason.as_deref() {
                Some("released") => self.set(WorkerState::Offline, line.at),
                // Supervision says what becomes of it.
                Some("died" | "replaced" | "spawn_failed") => {
                    self.set(WorkerState::Restarting { until: line.at }, line.at)
                }
                _ => self.set(WorkerState::Offline, line.at),
            },
            "worker.restarted" => {
                let until = line.at.after(line.backoff_s.unwrap_or(0.0));
                self.set(WorkerState::Restarting { until }, line.at);
            }
            "worker.gave_up" => self.set(WorkerState::GaveUp, line.at),
            "worker.state" => match (line.worker_state.as_deref(), Running::of(line, kept)) {
                (Some("busy"), Some(running)) => self.hold(running),
                (Some("busy"), None) if !self.is_busy() => (self.state, self.since) = (WorkerState::Busy, line.at),
                (Some("available"), _) => self.set(WorkerState::Available, line.at),
                (Some("offline"), _) => self.set(WorkerState::Offline, line.at),
                _ => {}
            },
            _ => {}
        }
    }

    pub(super) fn runs(&mut self, line: &Line<'_>, running: Running) {
        if self.is_new(line) {
            self.hold(running);
        }
    }

    pub(super) fn hold(&mut self, running: Running) {
        if matches!(self.state, WorkerState::GaveUp) {
            return;
        }
        self.set(WorkerState::Busy, running.since);
        self.running = match self.running.take() {
            Some(known) if (known.job, known.index) == (running.job, running.index) => Some(Running {
                told: running.told,
                is_slow: known.is_slow || running.is_slow,
                attempt: known.attempt.max(running.attempt),
                ..known
            }),
            _ => Some(running),
        };
    }

    pub(super) fn ends(&mut self, line: &Line<'_>) {
        self.chunks += 1;
        self.busy_s += line.compute_s.unwrap_or(0.0);
        if self.is_new(line) && self.running.as_ref().is_none_or(|running| running.is(line)) {
            self.set(WorkerState::Available, line.at);
        }
    }

    /// Inside a chunk, as this line says; returns that chunk, if it is known.
    pub(super) fn dies(&mut self, line: &Line<'_>) -> Option<Running> {
        if !self.is_new(line) {
            return None;
        }
        let lost = self.running.take();
        self.set(WorkerState::Restarting { until: line.at }, line.at);
        lost
    }

    pub(super) fn release(&mut self, line: &Line<'_>) {
        self.seq = self.seq.max(line.seq);
        let was_there = !matches!(self.state, WorkerState::Offline | WorkerState::GaveUp);
        self.lose();
        if was_there {
            self.since = line.at;
        }
    }

    /// Its process is gone, since nobody knows when.
    pub(super) fn lose(&mut self) {
        self.running = None;
        if self.state != WorkerState::GaveUp {
            self.state = WorkerState::Offline;
        }
    }
}
