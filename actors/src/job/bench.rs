//! One chunk of a list call on a compute thread: its items and places are taken out, and put back whichever way that ends.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::PoisonError,
    thread,
};

use distfun_core::{
    engine::{Blame, Chunk, Sentence},
    failure::{FailureCause, ItemFailure},
    function::Context,
    ids::WorkerId,
};

use super::{
    Progress, SharedJob,
    list::{Cloning, Errors, Input, ListJob, Source, Who},
};
use crate::compute::{
    catch::{catch, contain},
    parts::{Items, Output},
};

/// What a compute thread holds of a call while it runs a chunk; put back whichever way that ends.
pub(super) struct Bench<'a, A: Send + 'static, R: Send + 'static> {
    job: &'a ListJob<A, R>,
    /// The items of the chunk that are owned by the call and were not moved into the function yet.
    items: Option<Items<A>>,
    /// Then it gets clones of them instead, in all of the chunk.
    cloning: Option<Cloning<A>>,
    output: Output<R>,
    filled: Vec<Items<R>>,
    /// The places of items that are run again.
    vacant: Vec<Output<R>>,
    pub(super) end: usize,
    worker: Option<WorkerId>,
    attempt: u32,
    retries: u32,
    pub(super) progress: &'a mut Progress,
}

impl<'a, A: Send + 'static, R: Send + 'static> Bench<'a, A, R> {
    /// None if the results have been taken: the call ended while the chunk was on its way here.
    pub(super) fn set_up(
        job: &'a ListJob<A, R>,
        chunk: &Chunk<SharedJob>,
        worker: Option<WorkerId>,
        progress: &'a mut Progress,
    ) -> Option<Self> {
        let (attempt, retries) = (chunk.attempt, chunk.retries);
        let (output, range) = {
            let mut results = job.results();
            if results.is_taken {
                return None;
            }
            // Items of an open call come in batches, as do those that were away; a chunk that goes beyond its first one
            // hands the rest back.
            let start = chunk.range.start;
            let mut range = start..results.blank.end(start).min(chunk.range.end);
            if let Source::Owned(shelf) = &job.source {
                range.end = shelf.lock().unwrap_or_else(PoisonError::into_inner).end(start).min(range.end);
            }
            (results.blank.take(&range).expect("a result has one place, free until it is there"), range)
        };
        let items = match &job.source {
            Source::Owned(shelf) => {
                let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
                Some(shelf.take(&range).expect("the engine gives each item to one slot at a time"))
            }
            Source::Lent(..) => None,
        };
        let (filled, vacant, end) = (Vec::new(), Vec::new(), range.end);
        let cloning = job.cloning_here();
        Some(Self { job, items, cloning, output, filled, vacant, end, worker, attempt, retries, progress })
    }

    /// Runs the next `count` items; a failure costs one item, or all of them in a function over blocks.
    pub(super) fn strip(&mut self, count: usize, context: &Context<'_>) {
        let job = self.job;
        let first = self.progress.reached;
        let mut copy = None;
        let (input, keeps) = match (&mut self.items, &job.source) {
            (None, Source::Lent(all, clone)) => (Input::Lent(&all.get()[first..first + count], *clone), true),
            (Some(items), _) => match self.cloning {
                None => (Input::Owned(items), job.function.keeps_items()),
                Some(Cloning::OneByOne(clone)) => {
                    (Input::Lent(&items.as_slice()[first - items.range().start..][..count], clone), true)
                }
                Some(Cloning::AsList(clone)) => match copy_of(items, clone) {
                    Ok(list) => (Input::Owned(copy.insert(list)), true),
                    Err(cause) => return self.fail(first..first + count, &cause),
                },
            },
            (None, Source::Owned(_)) => unreachable!("set_up took the items"),
        };
        self.progress.blamed_is_kept = Some(keeps);
        let output = &mut self.output;
        let outcome = catch(|| job.function.run(input, output, first, count, context));
        self.progress.blamed_is_kept = None;
        let (failed, cause) = match outcome {
            Ok(Ok(())) => {
                self.progress.reached = first + count;
                self.take_errors(first, count);
                return;
            }
            Err(cause) if !job.function.takes_blocks() => {
                let index = self.output.room().start;
                // An `Err` that was returned before the panic comes first.
                self.take_errors(first, index - first);
                (index..index + 1, cause)
            }
            Ok(Err(cause)) | Err(cause) => (first..first + count, cause),
        };
        self.fail(failed, &cause);
    }

    /// The next items fail, all for one reason.
    fn fail(&mut self, items: Range<usize>, cause: &FailureCause) {
        self.progress.reached = items.end;
        self.filled.push(self.output.take_filled());
        let rest = self.output.split_off(items.end);
        let mut places = std::mem::replace(&mut self.output, rest);
        for index in items {
            let rest = places.split_off(index + 1);
            let place = std::mem::replace(&mut places, rest);
            // The place of an item that has failed for good stays blank.
            if self.is_run_again(index, cause.clone()) {
                self.vacant.push(place);
            }
        }
    }

    /// Notes that an item has failed; says whether it is run again.
    fn is_run_again(&mut self, index: usize, cause: FailureCause) -> bool {
        let failure = ItemFailure::new(index, self.worker, self.attempt, cause);
        let is_again = self.job.core.retries(self.retries, &failure);
        if is_again {
            self.progress.again.push(failure);
        } else {
            if self.job.core.stops_at_failure() {
                self.progress.first_failure.get_or_insert(index);
            }
            self.progress.failures.push(failure);
        }
        is_again
    }

    /// Under `try_map`: looks for `Err`s among the last `count` results. Where items are run again they are failures like
    /// others, else the caller finds the first among the results.
    fn take_errors(&mut self, first: usize, count: usize) {
        let Some(errors) = self.job.errors.as_ref().filter(|_| self.job.core.retry().is_on()) else {
            return self.stop_at_error(first, count);
        };
        let filled = self.output.filled();
        let last = (first..).zip(&filled[filled.len() - count..]);
        let erring: Vec<usize> = last.filter(|(_, result)| (errors.is_error)(result)).map(|(index, _)| index).collect();
        if erring.is_empty() {
            return;
        }
        let mut rest = self.output.take_filled();
        for index in erring {
            let mut error = rest.split_off(index);
            let next = error.split_off(index + 1);
            self.filled.push(std::mem::replace(&mut rest, next));
            let (error, place) = error.vacate();
            // Code of the user's makes an error of it.
            let cause = catch(|| error.into_iter().map(errors.cause).next());
            let cause = cause.map_or_else(|panic| panic, |cause| cause.expect("one result"));
            if self.is_run_again(index, cause) {
                self.vacant.push(place);
            }
        }
        self.filled.push(rest);
    }

    /// Under `try_map`: looks for an `Err` among the last `count` results.
    fn stop_at_error(&mut self, first: usize, count: usize) {
        let Some(Errors { is_error, .. }) = &self.job.errors else { return };
        let filled = self.output.filled();
        let last = &filled[filled.len() - count..];
        if let Some(at) = last.iter().position(is_error) {
            self.progress.first_failure.get_or_insert(first + at);
            let who = Who { worker: self.worker, machine: None, attempt: self.attempt };
            self.job.results().erring.push((first..first + count, who));
        }
    }
}

impl<A: Send + 'static, R: Send + 'static> Drop for Bench<'_, A, R> {
    fn drop(&mut self) {
        if self.progress.blamed_is_kept.is_some() {
            // The thread is dying inside an item: the first whose place is still blank.
            let first = std::mem::replace(&mut self.progress.reached, self.output.room().start);
            self.take_errors(first, self.progress.reached - first);
            if self.job.function.takes_blocks() {
                let block = self.progress.reached..self.end;
                if self.progress.blamed_is_kept.take() == Some(true) {
                    // It has a clone of the block, and nobody knows where in it the thread died.
                    self.progress.blame = Some(Blame { items: block, sentence: Sentence::Again(None), away: None });
                } else {
                    // The function has the whole block, and takes it along.
                    self.fail(block, &FailureCause::WorkerDied { exit: None });
                }
            }
        }
        let reached = self.progress.reached;
        if let (Some(mut items), Source::Owned(shelf)) = (self.items.take(), &self.job.source) {
            let rest = items.split_off(reached.clamp(items.range().start, items.range().end));
            let again = keep_again(&mut items, &self.progress.again);
            let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            shelf.put(rest);
            again.into_iter().for_each(|item| shelf.put(item));
            drop(shelf);
            contain(|| drop(items)); // those that a function by reference has done with
        }
        let rest = self.output.split_off(reached.clamp(self.output.room().start, self.output.room().end));
        // Nothing may hold on to the allocation once its results can be taken: they would have to be copied.
        let filled = std::mem::replace(&mut self.output, Output::blank(Vec::new(), 1, 0)).into_filled();
        self.filled.push(filled);
        let filled = std::mem::take(&mut self.filled);
        let mut results = self.job.results();
        results.blank.put(rest);
        self.vacant.drain(..).for_each(|place| results.blank.put(place));
        // No code of the user's while the thread is dying, and an `Err` must stay where it can be found.
        let fold = results.fold.clone().filter(|_| !thread::panicking() && self.progress.first_failure.is_none());
        // An item may have returned early because the call has ended: that is no result.
        if results.is_taken || self.job.core.is_stopped() {
            drop(results);
            contain(|| drop(filled));
        } else if let Some(combine) = fold {
            drop(results);
            let first =
                filled.iter().map(Items::range).find(|range| !range.is_empty()).map_or(reached, |range| range.start);
            let all = || filled.into_iter().try_for_each(|part| self.job.combine(&*combine, part));
            let (worker, attempt) = (self.worker, self.attempt);
            let mut fail = |index, cause| {
                self.progress.failures.push(ItemFailure::new(index, worker, attempt, cause));
            };
            match catch_unwind(AssertUnwindSafe(all)) {
                Ok(Ok(())) => {}
                Ok(Err((index, cause))) => fail(index, cause),
                Err(payload) => {
                    // The thread dies, and what it had combined is gone: a sum without it must not look complete.
                    fail(first, FailureCause::WorkerDied { exit: None });
                    resume_unwind(payload);
                }
            }
        } else {
            filled.into_iter().filter(|part| !part.range().is_empty()).for_each(|part| results.filled.put_joined(part));
            drop(results);
            if self.job.core.is_open {
                self.job.core.note_news();
            }
        }
    }
}

/// A clone of `items`, which are known as a list.
fn copy_of<A>(items: &mut Items<A>, clone: fn(&[Vec<A>]) -> Vec<Vec<A>>) -> Result<Items<A>, FailureCause> {
    let first = items.range().start;
    let list = items.split_off(first).into_vec();
    let copy = catch(|| clone(std::slice::from_ref(&list)).remove(0));
    *items = Items::numbered(first, list);
    Ok(Items::numbered(first, copy?))
}

/// Takes the items that are run again out of `items`, and drops those between them.
pub(super) fn keep_again<A>(items: &mut Items<A>, again: &[ItemFailure]) -> Vec<Items<A>> {
    let mut kept = Vec::new();
    let range = items.range();
    for index in again.iter().map(|failure| failure.index).filter(|index| range.contains(index)) {
        let mut item = items.split_off(index);
        let rest = item.split_off(index + 1);
        let before = std::mem::replace(items, rest);
        contain(|| drop(before));
        kept.push(item);
    }
    kept
}
