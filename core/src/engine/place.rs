//! Which slot or node gets the next chunk, and which kinds of them get any.

use smallvec::SmallVec;

use super::{Commands, Engine, Slot, SlotState, call::ActiveCall, nodes::Nodes};
use crate::{
    failure::Ending,
    ids::{CallId, NodeId, WorkerId},
    placement::{Placement, SlotKind},
};

/// Those first that get a chunk first.
pub(super) const KINDS: [SlotKind; 2] = [SlotKind::Gpu, SlotKind::Cpu];

/// Where a chunk goes.
pub(super) enum Seat {
    Slot(WorkerId),
    Node(NodeId),
}

impl<H: Clone> Engine<H> {
    /// Takes a place for a chunk of this call: a GPU before a CPU, one here before one elsewhere, and any that has nothing to do
    /// before the end of a queue.
    pub(super) fn seat(&mut self, id: CallId) -> Option<(SlotKind, Seat)> {
        let call = self.calls.get(&id)?;
        let kinds = KINDS.into_iter().filter(|kind| is_allowed(self.placement, call.only, *kind));
        let is_worth = |kind: &SlotKind| is_worth(call, *kind, self.placement, self.slots.split_at(self.limits.slots));
        let kinds: SmallVec<[SlotKind; 2]> = kinds.filter(is_worth).collect();
        let here = kinds.iter().find_map(|kind| Some((*kind, Seat::Slot(self.idle[*kind as usize].pop()?))));
        let node = |next: fn(&Nodes, CallId, SlotKind) -> Option<NodeId>| {
            kinds.iter().find_map(|kind| Some((*kind, Seat::Node(next(&self.nodes, id, *kind)?))))
        };
        here.or_else(|| node(Nodes::next_idle)).or_else(|| node(Nodes::next))
    }

    /// Whether anything that may get work is free for it.
    pub(super) fn has_seats(&self) -> bool {
        self.free_slots() > 0 || KINDS.into_iter().any(|kind| self.placement.allows(kind) && self.nodes.is_ready(kind))
    }

    /// Idle slots that may get work.
    pub(super) fn free_slots(&self) -> usize {
        KINDS.into_iter().filter(|kind| self.placement.allows(*kind)).map(|kind| self.idle[kind as usize].len()).sum()
    }

    /// How many chunks such a call may have computed at once.
    pub(super) fn places(&self, only: Option<SlotKind>) -> usize {
        // What nobody knows yet may be all.
        let placement = if self.placement == Placement::Undecided { Placement::Both } else { self.placement };
        let kinds = KINDS.into_iter().filter(|kind| is_allowed(placement, only, *kind));
        kinds.map(|kind| self.live_slots[kind as usize] + self.nodes.slots(kind)).sum()
    }

    /// What a slot computes with: those on GPUs are numbered behind those on CPUs.
    pub(super) fn kind(&self, slot: WorkerId) -> SlotKind {
        if (slot.0 as usize) < self.limits.slots { SlotKind::Cpu } else { SlotKind::Gpu }
    }

    /// The slot has nothing to do.
    pub(super) fn rest(&mut self, slot: WorkerId) {
        self.idle[self.kind(slot) as usize].push(slot);
    }

    /// These slots get work from now on. A refusal is for calls that have not begun, as long as there are GPUs for those that
    /// have.
    pub(super) fn place(&mut self, placement: Placement, commands: &mut Commands<H>) {
        if self.calls.len() > 1 && planted!(PlaceForgotten) {
            return;
        }
        self.wants_gpus = placement == Placement::Refused && !planted!(RefusalForgotten);
        let has_gpus = self.live_slots[SlotKind::Gpu as usize] + self.nodes.slots(SlotKind::Gpu) > 0;
        match placement {
            Placement::Refused if self.placement == Placement::Gpus && has_gpus && !planted!(RefusalEndsAll) => {}
            // Calls that run go on as it was decided.
            Placement::Undecided if planted!(UndecidedStopsAll) => self.placement = placement,
            Placement::Undecided if !self.calls.is_empty() && self.placement != Placement::Refused => {}
            Placement::Refused => {
                self.placement = placement;
                self.end_all(Ending::NoGpu, commands);
            }
            _ => self.placement = placement,
        }
        planted!(PlaceEndsNothing, return);
        self.end_hopeless(self.placement, commands);
    }

    /// Whether any call is active.
    pub fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Which slots get work.
    pub fn placement(&self) -> Placement {
        if self.wants_gpus { Placement::Refused } else { self.placement }
    }
}

/// Whether slots of this kind may have a call that is for `only` some.
pub(super) fn is_allowed(placement: Placement, only: Option<SlotKind>, kind: SlotKind) -> bool {
    let is_for_it = only.is_none_or(|only| only == kind) || planted!(OnlyIgnored);
    is_for_it && (placement.allows(kind) || planted!(PlacementIgnored))
}

/// Whether a slot of this kind should begin with what is left of a call, and not leave it to the other kind: to those of its
/// slots that are at the call already, or have nothing to do.
pub(super) fn is_worth<H>(
    call: &ActiveCall<H>,
    kind: SlotKind,
    placement: Placement,
    (cpus, gpus): (&[Slot], &[Slot]),
) -> bool {
    let (other, others) = if kind == SlotKind::Cpu { (SlotKind::Gpu, gpus) } else { (SlotKind::Cpu, cpus) };
    if !is_allowed(placement, call.only, other) || !call.plan.knows_costs() {
        return true;
    }
    let is_at_it = |slot: &&Slot| match &slot.state {
        SlotState::Idle => true,
        SlotState::Busy { call: at, .. } => *at == call.id,
        _ => false,
    };
    planted!(SlowerTakesTheEnd, return true);
    planted!(SlowerTakesNothing, return call.plan.cost(kind) <= call.plan.cost(other));
    !call.plan.is_too_slow(kind, call.ledger.pending(), others.iter().filter(is_at_it).count())
}
