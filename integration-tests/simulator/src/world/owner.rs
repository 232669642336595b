//! What can be seen from outside the engine: by those who wait for calls, and by what keeps a call's items and results.
//!
//! It knows nothing of how the engine thinks, so that a mistake that the model shares with the engine shows here.

use std::{collections::BTreeMap, ops::Range};

use distfun_core::{
    failure::{Ending, FailureCause, ItemFailure},
    ids::CallId,
};

use crate::{
    law::{Law, Verdict, check},
    scenario::{CallPlan, Truth},
};

/// The place of one result, as `actors/src/job/list.rs` keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Blank,
    /// A thread has it.
    Taken,
    /// The item has its outcome.
    Filled,
}

#[derive(Debug)]
struct Watched {
    plan: CallPlan,
    places: Vec<Place>,
    ending: Option<Ending>,
}

/// All calls that were submitted.
#[derive(Debug, Default)]
pub(crate) struct Owner {
    calls: BTreeMap<CallId, Watched>,
}

impl Owner {
    pub(crate) fn submitted(&mut self, plan: &CallPlan) {
        let places = vec![Place::Blank; plan.spec.items];
        self.calls.insert(plan.spec.id, Watched { plan: plan.clone(), places, ending: None });
    }

    /// A thread takes the items of a chunk.
    pub(crate) fn take(&mut self, call: CallId, range: Range<usize>) -> Verdict {
        let Some(watched) = self.calls.get_mut(&call).filter(|watched| watched.ending.is_none()) else { return Ok(()) };
        let count = watched.places.len();
        check(!range.is_empty() && range.end <= count, Law::ChunkBounds, || {
            format!("a thread is given items {range:?} of the {count} of call {call}")
        })?;
        for index in range {
            let place = std::mem::replace(&mut watched.places[index], Place::Taken);
            let law = if place == Place::Filled { Law::OneOutcome } else { Law::OneSlotPerItem };
            check(place == Place::Blank, law, || {
                format!("item {index} of call {call} is given out, but it is {place:?}")
            })?;
        }
        Ok(())
    }

    /// It puts them back: those before `reached` with their outcome.
    pub(crate) fn put(&mut self, call: CallId, range: Range<usize>, reached: usize) {
        let Some(watched) = self.calls.get_mut(&call).filter(|watched| watched.ending.is_none()) else { return };
        watched.places[range.start..reached].fill(Place::Filled);
        watched.places[reached..range.end].fill(Place::Blank);
    }

    /// The caller hears how a call ended.
    pub(crate) fn finished(&mut self, call: CallId, ending: Ending, failures: &[ItemFailure]) -> Verdict {
        let watched = self.calls.get_mut(&call).expect("only submitted calls are finished");
        let before = watched.ending.replace(ending);
        check(before.is_none(), Law::OneFinish, || {
            format!("call {call} ended with {before:?} and then with {ending:?}")
        })?;
        let is_sorted = failures.windows(2).all(|pair| pair[0].index < pair[1].index);
        check(is_sorted, Law::Failures, || format!("call {call} ended with {failures:?}"))?;
        let died = |failure: &ItemFailure| matches!(failure.cause, FailureCause::WorkerDied { .. });
        for failure in failures {
            let is_right = died(failure) || watched.plan.truth(failure.index) == Truth::Panics;
            check(is_right, Law::Failures, || format!("call {call} ended with {failure}; that item is fine"))?;
        }
        let wanted = match ending {
            Ending::Complete | Ending::ItemsFailed => watched.places.len(),
            Ending::FirstFailure(first) => first,
            _ => return Ok(()),
        };
        let listed = |index: usize| failures.binary_search_by_key(&index, |failure| failure.index).ok();
        for index in 0..wanted {
            let failure = listed(index);
            let is_right = match watched.plan.truth(index) {
                _ if failure.is_some_and(|at| died(&failures[at])) => ending == Ending::ItemsFailed,
                Truth::Fine => failure.is_none() && watched.places[index] == Place::Filled,
                Truth::Panics => ending == Ending::ItemsFailed && failure.is_some(),
                Truth::Errs => false,
            };
            check(is_right, Law::Oracle, || {
                let (truth, place) = (watched.plan.truth(index), watched.places[index]);
                let failure = failure.map(|at| &failures[at]);
                format!("call {call} ended with {ending:?}; item {index} is {truth:?}, {place:?}, {failure:?}")
            })?;
        }
        if let Ending::FirstFailure(first) = ending {
            let fails = watched.plan.truth(first) != Truth::Fine || listed(first).is_some();
            check(fails, Law::FirstFailure, || format!("call {call} ended with {ending:?}; that item is fine"))?;
        }
        Ok(())
    }

    pub(crate) fn ending(&self, call: CallId) -> Option<Ending> {
        self.calls.get(&call).and_then(|watched| watched.ending)
    }

    /// Calls that have not ended.
    pub(crate) fn waiting(&self) -> Vec<CallId> {
        self.calls.iter().filter(|(_, watched)| watched.ending.is_none()).map(|(&call, _)| call).collect()
    }
}
