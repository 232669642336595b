//! What every slot and call is doing, for those who ask.

use std::{fmt, ops::Range, time::Duration};

use super::{CallStatus, NodeState, NodeStatus, Time};
use crate::{
    failure::Ending,
    gpu::GpuInfo,
    ids::{CallId, Generation, WorkerId},
    placement::{Placement, SlotKind},
};

/// Every slot and call at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EngineStatus {
    /// The moment, by the clock of the engine's owner.
    pub at: Time,
    /// By worker number: those on CPUs, then one for each of the [`gpus`](Self::gpus).
    pub slots: Vec<SlotStatus>,
    /// The GPUs of this machine, as far as the engine's owner says.
    pub gpus: Vec<GpuInfo>,
    /// By node number.
    pub nodes: Vec<NodeStatus>,
    /// Active calls, by id.
    pub calls: Vec<CallStatus>,
    /// Which slots get work.
    pub placement: Placement,
    /// How everything was ended, if it was.
    pub stopped: Option<Ending>,
}

/// One slot at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SlotStatus {
    /// Which slot.
    pub worker: WorkerId,
    /// What it computes with.
    pub kind: SlotKind,
    /// How often its thread was replaced.
    pub generation: Generation,
    /// How often its thread died within [`WINDOW`](super::WINDOW) and without an item finished in between.
    pub deaths: usize,
    /// What it does.
    pub activity: Activity,
}

/// What a slot does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// Its compute thread is being started.
    Starting,
    /// It waits for work, at no cost.
    Idle,
    /// It computes.
    Busy {
        /// For this call.
        call: CallId,
        /// These items.
        items: Range<usize>,
        /// For so long.
        running_for: Duration,
    },
    /// Its thread died too often; it is not used any more.
    GaveUp,
    /// It was ended.
    Released,
}

impl fmt::Display for EngineStatus {
    /// A line per slot, node and active call.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gpus = self.gpus.iter();
        for SlotStatus { worker, kind, generation, activity, .. } in &self.slots {
            match (kind, gpus.as_slice()) {
                (SlotKind::Cpu, _) => write!(f, "worker {worker}: ")?,
                (SlotKind::Gpu, []) => write!(f, "worker {worker} (gpu): ")?,
                (SlotKind::Gpu, [gpu, ..]) => write!(f, "worker {worker} (gpu {gpu}): ")?,
            }
            if *kind == SlotKind::Gpu {
                gpus.next();
            }
            match activity {
                Activity::Starting => write!(f, "starting")?,
                Activity::Idle => write!(f, "idle")?,
                Activity::Busy { call, items, running_for } => {
                    write!(f, "call {call}, items {}..{}, for {running_for:.1?}", items.start, items.end)?;
                }
                Activity::GaveUp => write!(f, "given up")?,
                Activity::Released => write!(f, "ended")?,
            }
            match generation.0 {
                0 => writeln!(f)?,
                times => writeln!(f, " (thread replaced {times} times)")?,
            }
        }
        for NodeStatus { node, machine, kind, state, slots, chunks } in &self.nodes {
            match machine {
                Some(machine) => write!(f, "machine {machine}")?,
                None => write!(f, "node {node}")?,
            }
            write!(f, "{}", if *kind == SlotKind::Gpu { " (gpu): " } else { ": " })?;
            match state {
                NodeState::Expected => writeln!(f, "not connected")?,
                NodeState::Hopeless => writeln!(f, "not connected, and nothing waits for it")?,
                NodeState::Paused => writeln!(f, "gets nothing new; {chunks} chunks on {slots} slots")?,
                NodeState::Up => writeln!(f, "{chunks} chunks on {slots} slots")?,
            }
        }
        for call in &self.calls {
            let CallStatus { id, function, items, done, failed, deferred, running_for, .. } = call;
            write!(f, "call {id}: {function}, {done} of {items} items, {failed} failed")?;
            if *deferred > 0 {
                write!(f, ", {deferred} wait to be tried again")?;
            }
            writeln!(f, ", for {running_for:.1?}")?;
        }
        match self.stopped {
            Some(ending) => writeln!(f, "{ending}"),
            None => Ok(()),
        }
    }
}
