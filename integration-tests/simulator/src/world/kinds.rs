//! Which slots get work: who decides that, as `actors/src/pool.rs` does, and what can be seen of it from outside.

use distfun_core::{
    engine::{Activity, Chunk, Event, NodeState},
    failure::Ending,
    ids::{CallId, WorkerId},
    placement::{MachineFacts, MachineSlots, Placement, SlotKind, judge},
};

use super::{Happening, World, carry::By, far::TalkId};
use crate::{
    law::{Law, Verdict, check},
    scenario::Judge,
};

impl World<'_> {
    /// What a slot computes with.
    pub(super) fn kind(&self, slot: WorkerId) -> SlotKind {
        if (slot.0 as usize) < self.cpus { SlotKind::Cpu } else { SlotKind::Gpu }
    }

    /// Something has happened that may change which slots get work: that is judged anew, now or a moment later.
    pub(super) fn place(&mut self) -> Verdict {
        if self.judged().is_none() {
            return Ok(());
        }
        if self.dice.chance(self.faults.late_step) {
            let pause = self.dice.reaction();
            self.plan(pause, Happening::Place);
            return Ok(());
        }
        self.place_now()
    }

    pub(super) fn place_now(&mut self) -> Verdict {
        let Some(placement) = self.judged() else { return Ok(()) };
        self.seen.note(match placement {
            Placement::Undecided => "it is not decided which slots get work",
            Placement::Cpus => "CPUs get work",
            Placement::Gpus => "GPUs get work",
            Placement::Both => "all get work",
            Placement::Refused => "none get work",
        });
        self.step(self.now, Event::Place(placement), By::Other)
    }

    /// Which slots are to get work, if anybody says so.
    fn judged(&self) -> Option<Placement> {
        match self.judge {
            Judge::Nobody => None,
            Judge::Policy(policy) => policy.wants_gpus().then(|| judge(policy, self.machines()).placement),
            Judge::Chance(placement) => Some(placement),
        }
    }

    /// This machine, and those that calls wait for.
    fn machines(&self) -> Vec<MachineFacts<()>> {
        let gpus = self.current.len() - self.cpus - self.gpus_given_up.len();
        let here = MachineSlots { cpus: self.cpus as u32, gpus: gpus as u32 };
        let nodes = self.nodes.iter().filter_map(|node| node.facts(self.now));
        [Some(here)].into_iter().chain(nodes).map(|slots| MachineFacts { name: (), slots }).collect()
    }

    /// A slot has been given up.
    pub(super) fn gave_up(&mut self, slot: WorkerId) -> Verdict {
        if self.kind(slot) == SlotKind::Gpu {
            self.seen.note("a GPU given up");
            self.gpus_given_up.insert(slot);
        }
        self.place()
    }

    /// A chunk goes where its call may be computed, and is told with what.
    pub(super) fn is_for(&self, worker: WorkerId, way: Option<TalkId>, chunk: &Chunk<CallId>) -> Verdict {
        let kind = way.map_or_else(|| self.kind(worker), |(node, _)| self.nodes[node.0 as usize].plan.kind);
        let only = self.calls[chunk.handle.0 as usize].spec.only;
        check(chunk.kind == kind && only.is_none_or(|only| only == kind), Law::Kinds, || {
            format!("{worker} is of a {kind:?}, and is given {chunk:?}, which is for {only:?}")
        })
    }

    /// How a call for any slot ends that is submitted now, when all is quiet.
    pub(super) fn fate_of_a_call(&self) -> Ending {
        let placement = self.judged().unwrap_or(Placement::Cpus);
        let status = self.engine.status(self.now);
        let slots = status.slots.iter().filter(|slot| slot.activity != Activity::GaveUp);
        let nodes = status.nodes.iter().filter(|node| node.state == NodeState::Up);
        let of_nodes = nodes.map(|node| self.nodes[node.node.0 as usize].plan.kind);
        let mut kinds = slots.map(|slot| self.kind(slot.worker)).chain(of_nodes);
        let has_any = kinds.any(|kind| placement.allows(kind));
        match placement {
            Placement::Refused => Ending::NoGpu,
            _ if has_any => Ending::Complete,
            _ => Ending::NoWorkers,
        }
    }
}
