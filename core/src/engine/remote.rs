//! What nodes do to calls: chunks that come back from lanes, nodes that come and go, chunks that are asked back.

use smallvec::SmallVec;

use super::{
    ActiveCall, ChunkDone, Command, Commands, Death, Engine, NodeEvent, Time,
    nodes::{Nodes, Taken},
    place::{KINDS, is_allowed, is_worth},
};
use crate::{
    failure::Ending,
    ids::{CallId, Generation, NodeId, WorkerId},
    placement::{Placement, SlotKind},
};

impl<H: Clone> Engine<H> {
    pub(super) fn lane_done(
        &mut self,
        now: Time,
        lane: WorkerId,
        generation: Generation,
        done: ChunkDone,
        commands: &mut Commands<H>,
    ) {
        let Some(Taken { call, range, since, expected, charged, .. }) = self.nodes.take(lane, generation) else {
            return;
        };
        let Some(active) = self.calls.get_mut(&call) else { return };
        let items = done.reached.saturating_sub(range.start);
        self.nodes.learn(lane, active.function, items, done.elapsed, now.saturating_sub(since));
        let charged = if planted!(LaneChargeGuessed) { expected } else { charged };
        self.settle(now, lane, call, charged, done, commands);
    }

    pub(super) fn lane_lost(
        &mut self,
        now: Time,
        lane: WorkerId,
        generation: Generation,
        death: Death,
        commands: &mut Commands<H>,
    ) {
        let Some(taken) = self.nodes.take(lane, generation) else { return };
        planted!(LaneDeathForgiven, {
            let Death { reached, failures, again, first_failure, .. } = death;
            let elapsed = taken.charged;
            let done = ChunkDone { reached, failures, again, first_failure, elapsed, is_unopened: false };
            return self.settle(now, lane, taken.call, taken.charged, done, commands);
        });
        self.bury(now, lane, taken.call, death, commands);
    }

    pub(super) fn node(&mut self, now: Time, node: NodeId, event: NodeEvent, commands: &mut Commands<H>) {
        if self.stopped.is_some() {
            return;
        }
        match event {
            NodeEvent::Expected => self.nodes.expect(node),
            NodeEvent::Up { slots, kind, round_trip } => {
                if !planted!(UpForgetsOldChunks) {
                    self.node_lost(now, node, false, commands);
                }
                let lanes = self.nodes.up(node, slots, kind, round_trip);
                commands.push(Command::Lanes(node, lanes));
            }
            NodeEvent::Pause(yes) => self.nodes.pause(node, yes),
            NodeEvent::Down => self.node_lost(now, node, false, commands),
            NodeEvent::Hopeless => {
                self.node_lost(now, node, true, commands);
                self.end_hopeless(self.any_placement(), commands);
            }
            NodeEvent::Refuses(call) => {
                if self.calls.contains_key(&call) && self.nodes.bar(node, call) {
                    planted!(RefusalEndsNothing, return);
                    self.end_hopeless(self.placement, commands);
                }
            }
        }
    }

    /// Gives what a lost node had to others. That is not held against the items.
    fn node_lost(&mut self, now: Time, node: NodeId, is_hopeless: bool, commands: &mut Commands<H>) {
        let lost = self.nodes.down(node, is_hopeless);
        for (lane, Taken { call, range, charged, .. }) in
            lost.into_iter().skip(usize::from(planted!(LostChunkForgotten)))
        {
            let reached = range.start;
            planted!(LossHeldAgainstItem, {
                let blame = Some(super::Blame::of_thread(reached, true));
                let (failures, again) = (vec![], vec![]);
                let death =
                    Death { reached, stage: super::Stage::Running, failures, again, first_failure: None, blame };
                self.bury(now, lane, call, death, commands);
                continue;
            });
            planted!(
                LostChunkGivenBackTwice,
                self.calls.get_mut(&call).into_iter().for_each(|active| active.ledger.give_back(range.clone()))
            );
            let done = ChunkDone::nothing(reached);
            self.settle(now, lane, call, charged, done, commands);
        }
    }

    /// Ends the calls that nothing can run any more: of the slots that get work, or of any while it may be about to be decided
    /// anew which do.
    pub(super) fn end_hopeless(&mut self, placement: Placement, commands: &mut Commands<H>) {
        if planted!(NoWorkersForgotten) {
            return;
        }
        let is_lost = |call: &&ActiveCall<H>| !self.can_run(placement, Some(call.id), call.only);
        let mut lost: Vec<CallId> = self.calls.values().filter(is_lost).map(|call| call.id).collect();
        lost.sort_unstable();
        for id in lost {
            self.end(id, Ending::NoWorkers, commands);
        }
    }

    /// What may be decided next: where only CPUs ever get work, that is it.
    pub(super) fn any_placement(&self) -> Placement {
        let has_gpus = self.limits.gpus > 0 || self.nodes.has_gpus();
        if !has_gpus && self.placement == Placement::Cpus { Placement::Cpus } else { Placement::Both }
    }

    /// Whether anything here is left, or may come elsewhere, that such a call may have. `id`: some nodes may have refused it.
    pub(super) fn can_run(&self, placement: Placement, id: Option<CallId>, only: Option<SlotKind>) -> bool {
        // What is decided later may be anything.
        let placement = if placement == Placement::Undecided { Placement::Both } else { placement };
        let is_there = |kind| {
            is_allowed(placement, only, kind) && (self.live_slots[kind as usize] > 0 || self.nodes.may_run(id, kind))
        };
        KINDS.into_iter().any(is_there)
    }

    /// Asks for chunks back that wait at nodes while others have nothing to do.
    pub(super) fn recall(&mut self, now: Time, commands: &mut Commands<H>) {
        self.look_at = self.look_at.filter(|at| *at > now);
        planted!(RecallForgotten, return);
        let mut wanted = self.free_slots().max(1);
        let is_waiting = !self.queue.is_empty() && !planted!(RecalledWhileItemsWait);
        while wanted > 0 && !is_waiting && self.nodes.are_waiting() {
            let has_idle = |kind: &SlotKind| {
                let somewhere = !self.idle[*kind as usize].is_empty() || self.nodes.has_room(*kind);
                self.placement.allows(*kind) && somewhere
            };
            let idle: SmallVec<[SlotKind; 2]> = KINDS.into_iter().filter(has_idle).collect();
            if idle.is_empty() && !planted!(RecalledForNobody) {
                break;
            }
            let slots = self.slots.split_at(self.limits.slots);
            let is_wanted = |nodes: &Nodes, id| {
                planted!(RecalledForNobody, return true);
                planted!(RecalledForWrongKind, return !idle.is_empty());
                let Some(call) = self.calls.get(&id) else { return true }; // those of calls that have ended are marked
                let takes = |kind| is_allowed(self.placement, call.only, kind);
                // A node that has refused the call is not idle for it.
                let is_idle = |kind| !self.idle[kind as usize].is_empty() || nodes.next_idle(id, kind).is_some();
                idle.iter().any(|kind| takes(*kind) && is_idle(*kind) && is_worth(call, *kind, self.placement, slots))
            };
            match self.nodes.recall(now, is_wanted) {
                Some(Ok((lane, generation))) => {
                    commands.push(Command::Recall(lane, generation));
                    planted!(RecallTakenForAnswer, self.nodes.take(lane, generation));
                }
                Some(Err(at)) => {
                    self.look_again(at, commands);
                    break;
                }
                None => break,
            }
            wanted -= 1;
        }
    }

    fn look_again(&mut self, at: Time, commands: &mut Commands<H>) {
        if self.look_at.is_none_or(|before| at < before) {
            self.look_at = Some(at);
            commands.push(Command::WakeAt(at));
        }
    }
}
