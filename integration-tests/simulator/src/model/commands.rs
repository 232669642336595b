//! Whether what the engine asks for is allowed.

use distfun_core::{
    engine::{Chunk, Command, Time},
    failure::{Ending, FailureCause, ItemFailure},
    ids::{CallId, Generation, WorkerId},
};

use super::{CallModel, Item, Model, SlotState};
use crate::{
    law::{Law, Verdict, Violation, check},
    scenario::{CallPlan, Truth},
};

impl Model {
    pub(crate) fn command(&mut self, now: Time, command: &Command<CallId>) -> Verdict {
        match command {
            Command::Assign(slot, generation, chunk) => self.assign(*slot, *generation, chunk),
            Command::Finish { handle, ending, failures } => self.finish(*handle, *ending, failures),
            Command::Start(slot, generation, after) => {
                let lost = &mut self.slots[slot.0 as usize];
                let next = Generation(lost.generation.0 + 1);
                let text = || format!("slot {slot}, {lost:?}, is started as {generation:?} after {after:?}");
                check(*generation == next, Law::Restart, text)?;
                match lost.state {
                    SlotState::Dead if lost.must_park() => check(false, Law::Parking, text)?,
                    SlotState::Dead => check(lost.is_fair_wait(*after), Law::Restart, text)?,
                    SlotState::Overdue => {
                        check(after.is_zero(), Law::Restart, text)?;
                        self.seen.note("a thread abandoned");
                    }
                    _ => check(false, Law::Restart, text)?,
                }
                lost.generation = *generation;
                lost.state = SlotState::Starting;
                Ok(())
            }
            Command::Lanes(..) | Command::Recall(..) | Command::Revoke(..) => self.lane_command(command),
            Command::Failed { handle, failures } => self.failed(*handle, failures),
            Command::Retried { handle, failure, wait } => self.retried(now, *handle, failure, *wait),
            Command::Release(slot) => {
                check(self.to_release.remove(slot), Law::Stop, || format!("slot {slot} is released for no reason"))?;
                self.slots[slot.0 as usize].state = SlotState::Released;
                Ok(())
            }
            Command::GaveUp(slot) => {
                let lost = &mut self.slots[slot.0 as usize];
                check(lost.state == SlotState::Dead && lost.must_park(), Law::Parking, || {
                    format!("slot {slot} is given up after {} deaths: {lost:?}", lost.deaths())
                })?;
                lost.state = SlotState::Parked;
                self.seen.note("a slot given up");
                if self.all_parked() {
                    self.seen.note("all slots given up");
                }
                Ok(())
            }
            Command::WakeAt(at) => {
                check(*at > now, Law::WakeUp, || format!("a wake-up at {at:?} is asked for at {now:?}"))?;
                self.wakes.push(*at);
                Ok(())
            }
        }
    }

    fn assign(&mut self, id: WorkerId, generation: Generation, chunk: &Chunk<CallId>) -> Verdict {
        let range = chunk.range.clone();
        let what = || format!("slot {id}, {generation:?}, is given {chunk:?}");
        check(self.stopped.is_none(), Law::Stop, || format!("{} after the end", what()))?;
        let is_lane = self.is_lane(id);
        if is_lane {
            self.may_give(id, generation, chunk.handle)?;
        } else {
            let slot = &self.slots[id.0 as usize];
            let is_free = slot.state == SlotState::Idle && slot.generation == generation;
            check(is_free, Law::OneChunkPerSlot, || format!("{} while {slot:?}", what()))?;
        }
        let is_over = self.ended.contains_key(&chunk.handle) || self.due.contains_key(&chunk.handle);
        check(!is_over, Law::OneFinish, || format!("{} of a call that has ended", what()))?;
        self.is_of_right_kind(id, chunk)?;
        let places = self.places(self.plans[chunk.handle.0 as usize].spec.only);
        let Some(call) = self.calls.get_mut(&chunk.handle) else {
            return check(false, Law::ChunkBounds, || format!("{} of no call", what()));
        };
        check(!range.is_empty() && range.end <= call.limit, Law::ChunkBounds, || {
            format!("{}; the call wants items up to {} of {}", what(), call.limit, call.items.len())
        })?;
        for (index, item) in range.clone().zip(&call.items[range.clone()]) {
            let law = match item {
                Item::Waiting => continue,
                Item::Deferred => Law::Retries,
                Item::Running(_) => Law::OneSlotPerItem,
                Item::Done | Item::Failed => Law::OneOutcome,
            };
            return check(false, law, || format!("{}, but item {index} is {item:?}", what()));
        }
        let lowest = if is_lane || places < 2 { call.lowest_waiting() } else { call.next_for(id) };
        check(lowest == Some(range.start), Law::Order, || format!("{} while item {lowest:?} waits", what()))?;
        let deaths = call.suspects.get(&range.start).copied().unwrap_or(0);
        let failures = call.failures.get(&range.start).copied().unwrap_or(0);
        let often = || format!("{} after {deaths} deaths and {failures} failures", what());
        check(chunk.attempt == deaths + failures + 1, Law::Order, often)?;
        let most = call.spec.retries.times;
        check(failures <= most && chunk.retries == most - failures, Law::Retries, often)?;
        check(deaths + failures == 0 || range.len() == 1, Law::Order, often)?;
        let behind = range.start + 1..range.end.max(range.start + 1);
        let follower = call.suspects.range(behind.clone()).chain(call.failures.range(behind)).next();
        check(follower.is_none(), Law::Order, || format!("{} with a suspect inside: {follower:?}", what()))?;
        check(call.is_even(&range), Law::EvenBlocks, what)?;
        if !is_lane && call.shares_evenly(chunk.kind) && call.is_fresh(range.start) {
            let share = call.waiting.div_ceil(2 * places).max(1);
            check(range.len() == share, Law::FirstShare, || {
                format!("{}, of {} that wait for {places} places", what(), call.waiting)
            })?;
        }
        let is_whole = range.len() == call.items.len() && !call.is_open;
        check(!chunk.is_quick || is_whole, Law::Quick, what)?;
        if deaths > 0 {
            self.seen.note("an item tried again");
        }
        if failures > 0 {
            self.seen.note("an item that had failed tried again");
            if failures == most {
                self.seen.note("an item tried for the last time");
            }
        }
        call.give(id, range.clone());
        if is_lane {
            self.gave(id, generation, chunk.handle, range);
        } else {
            self.slots[id.0 as usize].state = SlotState::Busy { call: chunk.handle, range, abandon_at: None };
        }
        Ok(())
    }

    fn retried(&mut self, now: Time, id: CallId, failure: &ItemFailure, wait: Time) -> Verdict {
        let what = || format!("{failure}, of call {id}, is to be tried again in {wait:?}");
        let Some(call) = self.calls.get_mut(&id) else {
            return check(false, Law::Retries, || format!("{}, but that has ended", what()));
        };
        let failures = call.failures.get(&failure.index).copied().unwrap_or(0);
        let most = call.spec.retries.first * 2u32.pow(failures.saturating_sub(1));
        check(wait <= most.min(call.spec.retries.most), Law::Retries, what)?;
        match call.deferred.get_mut(&failure.index) {
            Some(at @ None) => *at = Some(now + wait),
            _ => check(false, Law::Retries, || format!("{} for no reason", what()))?,
        }
        call.resume(now); // some waits are none
        Ok(())
    }

    fn failed(&mut self, id: CallId, failures: &[ItemFailure]) -> Verdict {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.spec.is_open) else {
            return check(false, Law::FailuresTold, || format!("call {id} is not open, and tells {failures:?}"));
        };
        for failure in failures {
            let is_new = call.untold.remove(&failure.index);
            check(is_new, Law::FailuresTold, || format!("open call {id} tells {failure}, which is no news"))?;
            is_right(&self.plans[id.0 as usize], call, failure)?;
        }
        self.seen.note("failures told while their call ran");
        Ok(())
    }

    fn finish(&mut self, id: CallId, ending: Ending, failures: &[ItemFailure]) -> Verdict {
        let what = || format!("call {id} ends with {ending:?}");
        check(!self.ended.contains_key(&id), Law::OneFinish, || format!("{} a second time", what()))?;
        let expected = self.due.remove(&id);
        let Some(call) = self.calls.remove(&id) else {
            self.ended.insert(id, ending);
            return check(expected == Some(ending), Law::Refusal, || format!("{} instead of {expected:?}", what()));
        };
        let is_first = matches!(ending, Ending::FirstFailure(_)) && matches!(expected, Some(Ending::FirstFailure(_)));
        let law = match expected {
            _ if is_first => Law::FirstFailure,
            None if call.is_open => Law::StaysOpen,
            _ => Law::Ending,
        };
        check(expected == Some(ending), law, || format!("{} instead of {expected:?}", what()))?;
        self.all_revoked(id)?;
        self.ended.insert(id, ending);
        if call.costs.iter().any(Option::is_some) {
            self.costs.insert(call.spec.function, call.costs);
        }
        self.shares.close(id);
        let indices: Vec<usize> = failures.iter().map(|failure| failure.index).collect();
        if call.spec.is_open {
            check(failures.is_empty() && call.untold.is_empty(), Law::FailuresTold, || {
                format!("{}, tells {indices:?} at its end only, and has not told {:?}", what(), call.untold)
            })?;
        } else {
            check(call.failed.iter().eq(&indices), Law::Failures, || {
                format!("{} and failures {indices:?} instead of {:?}", what(), call.failed)
            })?;
        }
        let is_natural = matches!(ending, Ending::Complete | Ending::ItemsFailed | Ending::FirstFailure(_));
        let plan = &self.plans[id.0 as usize];
        failures.iter().try_for_each(|failure| is_right(plan, &call, failure))?;
        if is_natural {
            self.seen.note("a call ended by itself");
            oracle(plan, &call, ending)?;
        }
        if call.spec.ends_engine {
            self.seen.note("a call ended the engine");
            let with_it = *self.stopped.get_or_insert(Ending::EndedAfterCall);
            self.due.extend(self.calls.keys().map(|&call| (call, with_it)));
            self.all_release();
        }
        Ok(())
    }
}

/// An item failed for the reason that is given.
fn is_right(plan: &CallPlan, call: &CallModel, failure: &ItemFailure) -> Verdict {
    let is_right = match failure.cause {
        FailureCause::WorkerDied { .. } | FailureCause::Poisoned { .. } | FailureCause::TimedOut { .. } => {
            call.died.contains(&failure.index)
        }
        _ => match plan.truth(failure.index) {
            Truth::Panics => true,
            Truth::Errs => plan.spec.retries.times > 0,
            Truth::Fine => false,
        },
    };
    check(is_right, Law::Failures, || format!("call {}: {failure}", call.spec.id))
}

/// A call that ended by itself has, item by item, what a plain loop gets, but for items that died with their thread.
fn oracle(plan: &CallPlan, call: &CallModel, ending: Ending) -> Verdict {
    let fails = |index: usize| plan.truth(index) != Truth::Fine || call.died.contains(&index);
    let wanted = match ending {
        Ending::FirstFailure(first) => {
            let sequential = (0..call.items.len()).find(|&index| fails(index));
            check(sequential == Some(first), Law::FirstFailure, || {
                format!("{} ends with {ending:?}; a loop fails first at {sequential:?}", call.spec.id)
            })?;
            first
        }
        _ => call.items.len(),
    };
    for index in 0..wanted {
        let right = if fails(index) { Item::Failed } else { Item::Done };
        if call.items[index] != right {
            let (id, item) = (call.spec.id, call.items[index]);
            let text = format!("call {id} ends with {ending:?}, item {index} is {item:?} and should be {right:?}");
            return Err(Violation { law: Law::Oracle, text });
        }
    }
    Ok(())
}
