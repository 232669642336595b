//! What can be seen from outside the engine: by those who wait for calls, and by what keeps a call's items and results.
//!
//! It knows nothing of how the engine thinks, so that a mistake that the model shares with the engine shows here.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use distfun_core::{
    failure::{Ending, FailureCause, ItemFailure},
    ids::CallId,
};

use crate::{
    law::{Law, Verdict, Violation, check},
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
    /// Of an open call: the item has failed, and that is still to be told.
    Failing,
    /// Its failure was told.
    Failed,
    /// The consumer has its outcome.
    Given,
}

#[derive(Debug)]
struct Watched {
    plan: CallPlan,
    places: Vec<Place>,
    /// How often items have failed and were put back.
    failures: BTreeMap<usize, u32>,
    ending: Option<Ending>,
    stream: Option<Stream>,
}

/// The outcomes of an open call, on their way to its consumer.
#[derive(Debug)]
struct Stream {
    is_closed: bool,
    /// Where the batches of items end.
    batches: BTreeSet<usize>,
    /// Items whose outcome is there and was not given.
    ready: BTreeSet<usize>,
    given: usize,
    failed: usize,
    /// Nobody looks for outcomes any more.
    is_left: bool,
}

/// All calls that were submitted.
#[derive(Debug, Default)]
pub(crate) struct Owner {
    calls: BTreeMap<CallId, Watched>,
}

impl Owner {
    pub(crate) fn submitted(&mut self, plan: &CallPlan) {
        let places = vec![Place::Blank; plan.spec.items];
        let stream = plan.spec.is_open.then(|| Stream {
            is_closed: false,
            batches: BTreeSet::from([plan.spec.items]),
            ready: BTreeSet::new(),
            given: 0,
            failed: 0,
            is_left: false,
        });
        self.calls.insert(
            plan.spec.id,
            Watched { plan: plan.clone(), places, failures: BTreeMap::new(), ending: None, stream },
        );
    }

    /// More items of an open call are there; the engine hears of them next.
    pub(crate) fn feed(&mut self, call: CallId, count: usize) {
        let Some((watched, stream)) = self.stream(call) else { return };
        watched.resize(watched.len() + count, Place::Blank);
        stream.batches.insert(watched.len());
    }

    /// No more items of an open call will come.
    pub(crate) fn close(&mut self, call: CallId) {
        if let Some((_, stream)) = self.stream(call) {
            stream.is_closed = true;
        }
    }

    /// A thread takes the items of a chunk: those of its first batch, if the call is open.
    ///
    /// Items of a call that has ended are nobody's business any more.
    pub(crate) fn take(&mut self, call: CallId, range: Range<usize>) -> Result<Range<usize>, Violation> {
        let Some(watched) = self.calls.get_mut(&call).filter(|watched| watched.ending.is_none()) else {
            return Ok(range);
        };
        let count = watched.places.len();
        check(!range.is_empty() && range.end <= count, Law::ChunkBounds, || {
            format!("a thread is given items {range:?} of the {count} of call {call}")
        })?;
        let batch = watched.stream.as_ref().and_then(|stream| stream.batches.range(range.start + 1..).next());
        let range = range.start..batch.map_or(range.end, |&end| range.end.min(end));
        for index in range.clone() {
            let place = std::mem::replace(&mut watched.places[index], Place::Taken);
            let law = if place == Place::Taken { Law::OneSlotPerItem } else { Law::OneOutcome };
            check(place == Place::Blank, law, || {
                format!("item {index} of call {call} is given out, but it is {place:?}")
            })?;
        }
        Ok(range)
    }

    /// It puts them back: those before `reached` with their outcome, but for those that are to be tried `again`.
    pub(crate) fn put(&mut self, call: CallId, range: Range<usize>, reached: usize, again: &[usize]) -> Verdict {
        let Some(watched) = self.calls.get_mut(&call).filter(|watched| watched.ending.is_none()) else { return Ok(()) };
        watched.places[range.start..reached].fill(Place::Filled);
        watched.places[reached..range.end].fill(Place::Blank);
        let most = watched.plan.spec.retries.times;
        for &index in again {
            watched.places[index] = Place::Blank;
            let failures = watched.failures.entry(index).or_insert(0);
            *failures += 1;
            check(*failures <= most, Law::Retries, || {
                format!("item {index} of call {call} has failed {failures} times and may be tried again {most} times")
            })?;
        }
        let Some(stream) = &mut watched.stream else { return Ok(()) };
        for index in (range.start..reached).filter(|index| !again.contains(index)) {
            match watched.plan.truth(index) {
                Truth::Fine => _ = stream.ready.insert(index),
                _ => watched.places[index] = Place::Failing,
            }
        }
        Ok(())
    }

    /// Failures of an open call are told; maybe by a thread that is slower than the one that tells its end.
    pub(crate) fn failed(&mut self, call: CallId, failures: Vec<ItemFailure>) -> Verdict {
        let watched = self.calls.get_mut(&call).expect("only submitted calls are told of");
        let Some(stream) = &mut watched.stream else {
            return check(false, Law::FailuresTold, || format!("call {call} is not open, and tells {failures:?}"));
        };
        for failure in failures {
            is_right(&watched.plan, &failure)?;
            let place = std::mem::replace(&mut watched.places[failure.index], Place::Failed);
            // Of a call that was cut short, places are what they were then.
            let is_news = matches!(place, Place::Failing | Place::Blank) || watched.ending.is_some_and(is_cut);
            check(is_news, Law::FailuresTold, || format!("open call {call} tells {failure}, but that is {place:?}"))?;
            stream.ready.insert(failure.index);
            stream.failed += 1;
        }
        Ok(())
    }

    /// The consumer of an open call takes outcomes, `most` of them or those that there are; in input order, or not.
    /// How many that were.
    pub(crate) fn give(&mut self, call: CallId, most: usize, in_order: bool) -> usize {
        let Some((places, stream)) = self.stream(call) else { return 0 };
        let before = stream.given;
        while stream.given - before < most
            && let Some(&index) = stream.ready.first()
            && (!in_order || index == stream.given)
        {
            stream.ready.remove(&index);
            places[index] = Place::Given;
            stream.given += 1;
        }
        stream.given - before
    }

    /// Items of an open call whose outcome the consumer has not taken.
    pub(crate) fn ahead(&self, call: CallId) -> usize {
        let watched = &self.calls[&call];
        watched.places.len() - watched.stream.as_ref().map_or(0, |stream| stream.given)
    }

    /// The consumer of an open call looks whether it has ended and all outcomes were given.
    pub(crate) fn leaves(&mut self, call: CallId) -> Result<bool, Violation> {
        let ahead = self.ahead(call);
        let Some(ending) = self.ending(call) else { return Ok(false) };
        let Some((_, stream)) = self.stream(call) else { return Ok(false) };
        stream.is_left = ahead == 0 || is_cut(ending);
        let failed = stream.failed;
        let expected = if failed > 0 { Ending::ItemsFailed } else { Ending::Complete };
        check(!stream.is_left || is_cut(ending) || ending == expected, Law::Oracle, || {
            format!("open call {call} ended with {ending:?}, {failed} items failed")
        })?;
        Ok(stream.is_left)
    }

    /// The consumer of an open call goes.
    pub(crate) fn dropped(&mut self, call: CallId) {
        if let Some((_, stream)) = self.stream(call) {
            stream.is_left = true;
        }
    }

    fn stream(&mut self, call: CallId) -> Option<(&mut Vec<Place>, &mut Stream)> {
        let Watched { places, stream, .. } = self.calls.get_mut(&call)?;
        stream.as_mut().map(|stream| (places, stream))
    }

    /// The caller hears how a call ended.
    pub(crate) fn finished(&mut self, call: CallId, ending: Ending, failures: &[ItemFailure]) -> Verdict {
        let watched = self.calls.get_mut(&call).expect("only submitted calls are finished");
        let before = watched.ending.replace(ending);
        check(before.is_none(), Law::OneFinish, || {
            format!("call {call} ended with {before:?} and then with {ending:?}")
        })?;
        if let Some(stream) = &watched.stream {
            check(failures.is_empty(), Law::FailuresTold, || {
                format!("open call {call} tells {failures:?} at its end")
            })?;
            return check(stream.is_closed || is_cut(ending), Law::StaysOpen, || {
                format!("call {call} ended with {ending:?}, but it was not closed")
            });
        }
        let is_sorted = failures.windows(2).all(|pair| pair[0].index < pair[1].index);
        check(is_sorted, Law::Failures, || format!("call {call} ended with {failures:?}"))?;
        failures.iter().try_for_each(|failure| is_right(&watched.plan, failure))?;
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

    /// Calls that have not ended, or whose outcomes are not all with those who asked for them.
    pub(crate) fn waiting(&self) -> Vec<CallId> {
        let is_left = |watched: &Watched| watched.stream.as_ref().is_none_or(|stream| stream.is_left);
        let has_all = |watched: &Watched| watched.ending.is_some() && is_left(watched);
        self.calls.iter().filter(|(_, watched)| !has_all(watched)).map(|(&call, _)| call).collect()
    }
}

fn died(failure: &ItemFailure) -> bool {
    matches!(
        failure.cause,
        FailureCause::WorkerDied { .. } | FailureCause::Poisoned { .. } | FailureCause::TimedOut { .. }
    )
}

/// An item failed for a reason that it has.
fn is_right(plan: &CallPlan, failure: &ItemFailure) -> Verdict {
    let truth = plan.truth(failure.index);
    let is_error = truth == Truth::Errs && plan.spec.retries.times > 0;
    let is_right = died(failure) || truth == Truth::Panics || is_error;
    check(is_right, Law::Failures, || format!("call {}: {failure}; that item is fine", plan.spec.id))
}

/// The call ended before all of its items had an outcome.
fn is_cut(ending: Ending) -> bool {
    !matches!(ending, Ending::Complete | Ending::ItemsFailed)
}
