//! Which slots and nodes may have which call.

use std::collections::BTreeSet;

use distfun_core::{
    engine::{Chunk, NodeState, Shape},
    failure::Ending,
    ids::{CallId, NodeId, WorkerId},
    placement::{Placement, SlotKind},
};

use super::{CallModel, Model, SlotState, nodes::NodeModel};
use crate::{
    law::{Law, Verdict, check},
    scenario::KINDS,
};

fn allows(placement: Placement, only: Option<SlotKind>, kind: SlotKind) -> bool {
    placement.allows(kind) && only.is_none_or(|only| only == kind)
}

impl Model {
    /// These slots get work from now on.
    pub(super) fn place(&mut self, placement: Placement) {
        let goes_on = match placement {
            // Calls that have begun end on the GPUs that there are.
            Placement::Refused => self.placement == Placement::Gpus && self.live(SlotKind::Gpu) > 0,
            Placement::Undecided => self.placement != Placement::Refused && !self.calls.is_empty(),
            _ => false,
        };
        self.wants_gpus = placement == Placement::Refused;
        if goes_on {
            self.seen.note("calls that have begun go on as it was decided");
        } else {
            self.placement = placement;
        }
        if self.placement == Placement::Refused {
            self.all_end(Ending::NoGpu);
        }
        self.hopeless_end(self.placement);
    }

    /// Which slots get work, for calls that are new.
    pub(super) fn placement(&self) -> Placement {
        if self.wants_gpus { Placement::Refused } else { self.placement }
    }

    /// Chunks of such slots that may be computed at once.
    fn live(&self, kind: SlotKind) -> usize {
        let here = self.slots.iter().filter(|slot| slot.kind == kind && slot.state != SlotState::Parked);
        here.count() + self.nodes.slots(kind)
    }

    /// Chunks of such a call that may be computed at once.
    pub(super) fn places(&self, only: Option<SlotKind>) -> usize {
        KINDS.into_iter().filter(|kind| allows(self.placement, only, *kind)).map(|kind| self.live(kind)).sum()
    }

    /// Whether anything may ever compute such a call, which these nodes can't run. What is not decided yet may be anything.
    pub(super) fn has_hope(&self, placement: Placement, only: Option<SlotKind>, barred: &BTreeSet<NodeId>) -> bool {
        let placement = if placement == Placement::Undecided { Placement::Both } else { placement };
        let may_have = |kind| allows(placement, only, kind);
        let may = |(id, node): (&NodeId, &NodeModel)| {
            let kinds = if node.is_known { &[node.kind][..] } else { &KINDS };
            node.state != NodeState::Hopeless && !barred.contains(id) && kinds.iter().any(|kind| may_have(*kind))
        };
        let mut here = self.slots.iter().filter(|slot| slot.state != SlotState::Parked && !slot.is_done_for());
        here.any(|slot| may_have(slot.kind)) || self.nodes.all.iter().any(may)
    }

    /// Calls that nothing can compute any more must end in this step.
    pub(super) fn hopeless_end(&mut self, placement: Placement) {
        let is_lost = |call: &&CallModel| !self.has_hope(placement, call.spec.only, &call.barred);
        let lost: Vec<CallId> = self.calls.values().filter(is_lost).map(|call| call.spec.id).collect();
        for call in lost {
            self.seen.note("a call that nothing could compute");
            self.due.entry(call).or_insert(Ending::NoWorkers);
        }
    }

    /// What may be decided when something is gone that a decision depends on.
    pub(super) fn any_placement(&self) -> Placement {
        let here = self.slots.iter().map(|slot| slot.kind);
        let has_gpus = here.chain(self.nodes.all.values().map(|node| node.kind)).any(|kind| kind == SlotKind::Gpu);
        if !has_gpus && self.placement == Placement::Cpus { Placement::Cpus } else { Placement::Both }
    }

    /// Whether a slot of this kind should begin with what waits of a call, and not leave it to those of the faster kind here
    /// that are at it or idle. Nothing if that depends on how its blocks were cut.
    fn is_worth(&self, call: &CallModel, kind: SlotKind) -> Option<bool> {
        let other = if kind == SlotKind::Cpu { SlotKind::Gpu } else { SlotKind::Cpu };
        let (Some(own), Some(theirs)) = (call.costs[kind as usize], call.costs[other as usize]) else {
            return Some(true);
        };
        let is_at_it = |state: &SlotState| match state {
            SlotState::Idle => true,
            SlotState::Busy { call: at, .. } => *at == call.spec.id,
            _ => false,
        };
        let others = self.slots.iter().filter(|slot| slot.kind == other && is_at_it(&slot.state)).count();
        if own <= theirs || others == 0 || !allows(self.placement, call.spec.only, other) {
            return Some(true);
        }
        (call.spec.shape == Shape::Items).then_some(own * others as f64 <= theirs * call.waiting as f64)
    }

    /// Whether an idle slot leaves a call to the faster kind.
    pub(super) fn is_left(&self, call: &CallModel) -> bool {
        let idle = self.slots.iter().filter(|slot| slot.state == SlotState::Idle);
        let mut kinds = idle.map(|slot| slot.kind).filter(|kind| allows(self.placement, call.spec.only, *kind));
        call.waiting > 0 && kinds.any(|kind| self.is_worth(call, kind) == Some(false))
    }

    /// Whether such a slot takes what waits of a call; `in_doubt`, where nobody can tell.
    pub(super) fn takes(&self, call: &CallModel, kind: SlotKind, in_doubt: bool) -> bool {
        allows(self.placement, call.spec.only, kind) && self.is_worth(call, kind).unwrap_or(in_doubt)
    }

    /// A call leaves slots to others that have more to do, now or before: it has no claim to their time.
    pub(super) fn is_choosy(&self, call: &CallModel) -> bool {
        let knows = call.costs.iter().all(Option::is_some);
        call.spec.only.is_some() || !call.barred.is_empty() || knows && self.placement == Placement::Both
    }

    /// A chunk may go to such a slot or lane.
    pub(super) fn is_of_right_kind(&mut self, worker: WorkerId, chunk: &Chunk<CallId>) -> Verdict {
        let slot = self.slots.get(worker.0 as usize).map(|slot| slot.kind);
        let lane = || self.nodes.lanes.get(&worker).map(|lane| self.nodes.all[&lane.node].kind);
        let Some(kind) = slot.or_else(lane).filter(|_| self.calls.contains_key(&chunk.handle)) else { return Ok(()) };
        let what = || format!("{worker}, of a {kind:?}, is given {chunk:?}");
        check(chunk.kind == kind, Law::Kinds, what)?;
        if kind == SlotKind::Gpu {
            let is_lane = self.is_lane(worker);
            self.seen.note(if is_lane { "a chunk for a GPU of a node" } else { "a chunk for a GPU" });
        }
        let call = &self.calls[&chunk.handle];
        check(self.takes(call, kind, true), Law::Kinds, || {
            let (placement, only, waiting) = (self.placement, call.spec.only, call.waiting);
            format!(
                "{} while {placement:?} get work; its call is for {only:?}, {waiting} of it wait, {:?}",
                what(),
                call.costs
            )
        })
    }
}
