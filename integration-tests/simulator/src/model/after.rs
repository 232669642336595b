//! What must hold after a step, whatever it was.

use distfun_core::{
    engine::{Activity, Engine, Time},
    ids::{CallId, WorkerId},
};

use super::{Model, SlotModel, SlotState};
use crate::{
    law::{Law, Verdict, check},
    scenario::KINDS,
};

impl Model {
    pub(crate) fn after(&mut self, now: Time, engine: &Engine<CallId>) -> Verdict {
        let due = &self.due;
        let is_active = due.keys().any(|call| self.calls.contains_key(call));
        check(due.is_empty(), if is_active { Law::Ending } else { Law::Refusal }, || {
            format!("these calls should have ended in this step: {due:?}")
        })?;
        let unreleased = &self.to_release;
        check(unreleased.is_empty(), Law::Stop, || format!("these slots should have been released: {unreleased:?}"))?;
        for (id, slot) in (0u32..).map(WorkerId).zip(&self.slots) {
            let law = if slot.must_park() { Law::Parking } else { Law::Restart };
            let is_answered = !matches!(slot.state, SlotState::Dead | SlotState::Overdue);
            check(is_answered, law, || format!("nothing is said about slot {id}, {slot:?}"))?;
        }
        for (id, call) in &self.calls {
            let untold = &call.untold;
            check(untold.is_empty(), Law::FailuresTold, || format!("open call {id} does not tell {untold:?}"))?;
        }
        for (id, call) in &self.calls {
            let unsaid = call.deferred.iter().find(|(_, at)| at.is_none());
            check(unsaid.is_none(), Law::Retries, || format!("nothing is said about {unsaid:?} of call {id}"))?;
        }
        if self.stopped.is_some() {
            self.nodes.clear();
        }
        self.work_is_conserved()?;
        self.nodes_after(now)?;
        self.wake_ups()?;
        self.who_waits();
        self.shares.verdict(self.slots.len() + self.nodes.places())?;
        self.status(now, engine)?;
        self.steps += 1;
        // Not always, so that most mistakes are seen by what they do before they are seen by what they leave.
        if self.steps.is_multiple_of(256) { self.memory(engine) } else { Ok(()) }
    }

    /// Which calls have a claim to the time of slots.
    fn who_waits(&mut self) {
        let choosy: Vec<CallId> =
            self.calls.values().filter(|call| self.is_choosy(call)).map(|call| call.spec.id).collect();
        for id in choosy {
            self.calls.get_mut(&id).expect("it was just there").was_choosy = true;
        }
        if self.calls.values().any(|call| self.is_left(call)) {
            self.seen.note("a slot that leaves a call to faster ones");
        }
        for (&id, call) in &self.calls {
            self.shares.waits(id, call.waiting > 0 && !call.was_choosy);
        }
    }

    fn work_is_conserved(&self) -> Verdict {
        for kind in KINDS {
            let is_idle = |slot: &SlotModel| slot.kind == kind && slot.state == SlotState::Idle;
            let Some(slot) = self.slots.iter().position(is_idle) else { continue };
            let waiting = self.calls.values().find(|call| call.waiting > 0 && self.takes(call, kind, false));
            check(waiting.is_none(), Law::WorkConservation, || {
                let call = waiting.map(|call| (call.spec.id, call.waiting));
                format!("slot {slot} is idle while items of a call wait: {call:?}")
            })?;
        }
        Ok(())
    }

    fn wake_ups(&self) -> Verdict {
        let abandon_at = self.slots.iter().filter_map(|slot| match slot.state {
            SlotState::Busy { abandon_at, .. } => abandon_at,
            _ => None,
        });
        let retry_at = self.calls.values().flat_map(|call| call.deferred.values().flatten().copied());
        let Some(first) = abandon_at.chain(retry_at).min() else { return Ok(()) };
        check(self.wakes.iter().any(|&wake| wake <= first), Law::WakeUp, || {
            format!("something may have to be done at {first:?}, but wake-ups are at {:?}", self.wakes)
        })
    }

    fn status(&self, now: Time, engine: &Engine<CallId>) -> Verdict {
        let status = engine.status(now);
        check(status.stopped == self.stopped, Law::Status, || {
            format!("stopped by {:?} instead of {:?}", status.stopped, self.stopped)
        })?;
        check(status.placement == self.placement(), Law::Status, || {
            format!("{:?} get work, and not {:?}", status.placement, self.placement())
        })?;
        for (slot, model) in status.slots.iter().zip(&self.slots) {
            let is_same = match (&slot.activity, &model.state) {
                (Activity::Starting, SlotState::Starting)
                | (Activity::Idle, SlotState::Idle)
                | (Activity::GaveUp, SlotState::Parked)
                | (Activity::Released, SlotState::Released) => true,
                (Activity::Busy { call, items, .. }, SlotState::Busy { call: ours, range, .. }) => {
                    call == ours && items == range
                }
                _ => false,
            };
            check(is_same && (slot.generation, slot.kind) == (model.generation, model.kind), Law::Status, || {
                format!("{slot:?} instead of {model:?}")
            })?;
        }
        self.nodes_are_right(&status.nodes)?;
        check(status.calls.len() == self.calls.len(), Law::Status, || format!("active calls: {:?}", status.calls))?;
        for (call, (id, model)) in status.calls.iter().zip(&self.calls) {
            let outcomes = model.done + model.failed.len();
            let first = match call.ending {
                Some(distfun_core::failure::Ending::FirstFailure(index)) => Some(index),
                _ => None,
            };
            let is_same = call.id == *id
                && call.function == model.spec.function
                && call.items == model.items.len()
                && (call.done, call.failed) == (outcomes, model.failed.len())
                && call.deferred == model.deferred.len()
                && first == model.first_failure;
            check(is_same, Law::Status, || {
                let failed = model.failed.len();
                format!("{call:?}, where {outcomes} have an outcome, {failed} failed, {:?} first", model.first_failure)
            })?;
        }
        Ok(())
    }

    /// What the engine may remember: idle slots, the deaths that count, a cost per function, the chunks of
    /// lanes, and of each active call
    /// its place in the queue, the chunks in flight, what came back of them, its suspects, what waits to be tried again, and the
    /// failures not told yet.
    pub(crate) fn memory(&self, engine: &Engine<CallId>) -> Verdict {
        let of_slots = self.slots.iter().map(|slot| slot.deaths() + usize::from(slot.state == SlotState::Idle));
        let of_calls = self.calls.values().map(|call| {
            let places = self.slots.len() + self.nodes.places();
            let tried = call.suspects.len() + call.failures.len();
            let returned = call.returned().min(3 * places + 2 + 2 * tried);
            let untold = if call.spec.is_open { 0 } else { call.failed.len() };
            let refused = usize::from(!call.barred.is_empty());
            let deferred = 2 * call.deferred.len(); // and when they are due
            1 + refused + usize::from(call.waiting > 0) + call.running() + returned + tried + deferred + untold
        });
        let of_lanes = self.nodes.lanes.values().filter(|lane| lane.chunk.is_some()).count();
        let most = of_slots.sum::<usize>() + of_calls.sum::<usize>() + of_lanes + self.costs.len();
        let entries = engine.footprint();
        check(entries <= most, Law::Memory, || format!("the engine keeps {entries} entries; {most} explain themselves"))
    }
}
