//! A machine of a Manager.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Line, Running, Time};

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NodeState {
    /// It computes.
    Up,
    /// Nothing comes from it: it gets no new chunks.
    Suspect,
    /// It is about to stop, and finishes what it has.
    Draining,
    /// The connection is gone.
    Lost,
    /// It can't be used, and is tried again.
    Rejected,
    /// It can't be used, and is not tried again.
    GivenUp,
}

/// A machine of a Manager.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Node {
    /// Within its Manager; none for a machine that was never connected.
    pub id: Option<u64>,
    /// As `machines` names it.
    pub machine: String,
    /// What it calls itself.
    pub name: String,
    /// Chunks that it computes at once on CPUs.
    pub slots: u64,
    /// Its GPUs, each of which computes one more.
    pub gpus: u64,
    /// Its version of distfun.
    pub version: String,
    /// From the Manager to the node and back, in seconds.
    pub rtt_s: Option<f64>,
    /// How it stands.
    pub state: NodeState,
    /// Since when.
    pub since: Time,
    /// How often it was lost.
    pub losses: u64,
    /// How often a worker of it died inside a chunk.
    pub deaths: u64,
    /// Chunks that were done elsewhere because it was lost.
    pub requeued: u64,
    /// Chunks that it has answered for, as far as the log told.
    pub chunks: u64,
    /// Time that its slots have computed, in seconds, likewise.
    pub busy_s: f64,
    /// Bytes of shared data that were sent to it.
    pub shared_bytes: u64,
    /// What went wrong last.
    pub error: Option<String>,
    /// The chunks that it has, by call and first item.
    #[serde(serialize_with = "values")]
    pub running: BTreeMap<(u64, u64), Running>,
    #[serde(skip)]
    pub(super) seq: u64,
    /// The number of the last line that said how it stands.
    #[serde(skip)]
    pub(super) fenced: u64,
}

fn values<S: serde::Serializer>(map: &BTreeMap<(u64, u64), Running>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map.values())
}

impl Node {
    pub(super) fn new(id: Option<u64>, machine: &str, at: Time) -> Self {
        Self {
            id,
            machine: machine.into(),
            name: String::new(),
            slots: 0,
            gpus: 0,
            version: String::new(),
            rtt_s: None,
            state: NodeState::Up,
            since: at,
            losses: 0,
            deaths: 0,
            requeued: 0,
            chunks: 0,
            busy_s: 0.0,
            shared_bytes: 0,
            error: None,
            running: BTreeMap::new(),
            seq: 0,
            fenced: 0,
        }
    }

    /// Whether it is connected.
    pub fn is_up(&self) -> bool {
        matches!(self.state, NodeState::Up | NodeState::Suspect | NodeState::Draining)
    }

    pub(super) fn set(&mut self, state: NodeState, at: Time) {
        if self.state != state {
            (self.state, self.since) = (state, at);
        }
        if !self.is_up() {
            self.running.clear();
        }
    }

    pub(super) fn lose(&mut self, line: &Line<'_>, why: String) {
        self.error = Some(why);
        self.fenced = line.seq;
        self.set(NodeState::Lost, line.at);
    }

    pub(super) fn forget_job(&mut self, job: u64) {
        self.running.retain(|&(of, _), _| of != job);
    }
}
