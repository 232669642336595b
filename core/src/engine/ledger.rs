//! Which item of a call is where: waiting, running, or ended with exactly one outcome.
//!
//! Kept as ranges, so that ten million items cost no more than the chunks in flight.

use std::{collections::BTreeMap, mem::take, ops::Range, sync::Arc};

use super::Time;
use crate::{
    failure::{FailureCause, ItemFailure, WorkerExit},
    ids::WorkerId,
};

/// A thread that dies at an item is blamed on it this often before the item fails.
pub const MAX_DEATHS: u32 = 3;

/// A chunk that a slot is computing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) range: Range<usize>,
    pub(super) attempt: u32,
}

/// How far a compute thread had come in a chunk when it died.
#[derive(Debug, Clone)]
pub struct Death {
    /// Items before this one had an outcome.
    pub reached: usize,
    /// What it had shown until then.
    pub stage: Stage,
    /// Failures among them.
    pub failures: Vec<ItemFailure>,
    /// As in [`ChunkDone`](super::ChunkDone).
    pub again: Vec<ItemFailure>,
    /// Under `try_map`: the lowest index that failed or returned `Err`.
    pub first_failure: Option<usize>,
    /// What was running; none when nothing was.
    pub blame: Option<Blame>,
}

impl Death {
    /// What it has shown of the worker. One that was stopped, as its item has its outcome, did not die by itself; nor is one held
    /// against it that only told in which half of a block the item is that kills.
    pub(super) fn stage(&self) -> Stage {
        match &self.blame {
            Some(Blame { sentence: Sentence::Fails(_) | Sentence::FailsForNow(_), .. }) => Stage::Proven,
            Some(Blame { items, .. }) if items.len() > 1 && !planted!(HalvingCounts) => Stage::Proven,
            _ => self.stage,
        }
    }
}

/// How far a worker had come in its chunk when it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No item had begun: its process or its device could not be opened, say.
    Opening,
    /// None had finished.
    Running,
    /// It had finished some: earlier deaths of its slot are forgiven.
    Proven,
}

impl Stage {
    /// In a chunk from `start` whose items before `reached` have their outcome.
    pub fn after(start: usize, reached: usize) -> Self {
        if reached > start { Self::Proven } else { Self::Running }
    }
}

/// What a worker was running when it died, or was stopped.
#[derive(Debug, Clone)]
pub struct Blame {
    /// One item, or a block of them, of which nobody knows which it was.
    pub items: Range<usize>,
    /// What becomes of it.
    pub sentence: Sentence,
    /// Who ran it, where that was on another machine, whose lane is no worker.
    pub away: Option<(Option<WorkerId>, Arc<str>)>,
}

/// What becomes of an item at which a worker died.
#[derive(Debug, Clone)]
pub enum Sentence {
    /// It is tried again, up to [`MAX_DEATHS`] times; a block in two halves.
    Again(Option<WorkerExit>),
    /// It went with the worker.
    Lost(Option<WorkerExit>),
    /// It fails for this reason.
    Fails(FailureCause),
    /// The same, and is worth another try.
    FailsForNow(FailureCause),
}

impl Blame {
    /// A thread died at one item, which `is_kept` for another try or went with it.
    pub fn of_thread(item: usize, is_kept: bool) -> Self {
        let sentence = if is_kept { Sentence::Again(None) } else { Sentence::Lost(None) };
        Self { items: item..item + 1, sentence, away: None }
    }
}

/// How often an item without an outcome was tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tried {
    /// Threads that died at it.
    deaths: u32,
    failures: u32,
    /// Who died at it last.
    killed: Option<WorkerId>,
}

#[derive(Debug)]
pub(super) struct Ledger {
    items: usize,
    /// Items from here to `limit` were never given out.
    next: usize,
    /// Items from here on are not wanted any more (`try_map` after a failure).
    limit: usize,
    /// Ranges that came back, start to end, below `next`.
    returned: BTreeMap<usize, usize>,
    returned_count: usize,
    running: BTreeMap<WorkerId, Running>,
    done: usize,
    failed: usize,
    /// Those that failed and were not told yet.
    failures: Vec<ItemFailure>,
    /// Items that were tried and have no outcome.
    tried: BTreeMap<usize, Tried>,
    /// How often an item may fail and be tried again.
    retries: u32,
    /// Items that have failed and will be tried again, in this step.
    again: Vec<ItemFailure>,
    /// Those that wait for that, and until when.
    deferred: BTreeMap<usize, Time>,
}

impl Ledger {
    pub(super) fn new(items: usize) -> Self {
        Self {
            items,
            next: 0,
            limit: items,
            returned: BTreeMap::new(),
            returned_count: 0,
            running: BTreeMap::new(),
            done: 0,
            failed: 0,
            failures: Vec::new(),
            tried: BTreeMap::new(),
            retries: 0,
            again: Vec::new(),
            deferred: BTreeMap::new(),
        }
    }

    /// Items that fail may be tried again so often.
    pub(super) fn retrying(mut self, times: u32) -> Self {
        self.retries = times;
        self
    }

    pub(super) fn items(&self) -> usize {
        self.items
    }

    /// `count` more items have come.
    pub(super) fn extend(&mut self, count: usize) {
        if self.limit == self.items {
            self.limit += count;
        }
        self.items += count;
        planted!(ExtensionReplaces, self.next = self.limit - count);
    }

    /// Items that wait for a slot.
    pub(super) fn pending(&self) -> usize {
        self.limit.saturating_sub(self.next) + self.returned_count
    }

    /// Items that ended well.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// The first waiting range; returned items go before new ones, so that results come about in input order.
    pub(super) fn front(&self) -> Range<usize> {
        planted!(KillerNotAlone, return self.returned.iter().next().map_or(self.next..self.limit, |(&a, &b)| a..b));
        match self.returned.first_key_value() {
            Some((&start, &end)) => self.begin_of(start..end),
            None => self.next..self.limit.max(self.next),
        }
    }

    /// The same for `worker`: an item at which it has died goes to another one, as long as there is something else for it.
    pub(super) fn front_for(&mut self, worker: WorkerId) -> Range<usize> {
        let first = self.front();
        planted!(KillerComesBack, return first);
        let mut front = first.clone();
        while !front.is_empty() && self.tried_of(front.start).killed == Some(worker) {
            self.cut_returned(front.end);
            front = match self.returned.range(front.end..).next() {
                Some((&start, &end)) => self.begin_of(start..end),
                None => self.next..self.limit.max(self.next),
            };
        }
        if front.is_empty() { first } else { front }
    }

    /// As much of a range that came back as goes together: an item that has killed before runs alone, so that nothing else
    /// goes down with it; one that has failed, so that its attempt is known.
    fn begin_of(&self, range: Range<usize>) -> Range<usize> {
        if self.tried.contains_key(&range.start) {
            return range.start..range.start + 1;
        }
        range.start..self.tried.range(range.start + 1..range.end).next().map_or(range.end, |(&tried, _)| tried)
    }

    /// Gives the chunk `range`, a beginning of [`front`](Self::front), to `worker`.
    pub(super) fn give(&mut self, worker: WorkerId, range: Range<usize>) -> u32 {
        if let Some(end) = self.returned.remove(&range.start) {
            self.returned_count -= range.len();
            planted!(ReturnedGivenTwice, self.returned.insert(range.start, end));
            if range.end < end && !planted!(RestOfReturnedLost) {
                self.returned.insert(range.end, end);
            }
        } else {
            debug_assert_eq!(range.start, self.next, "a chunk begins at the front");
            self.next = range.end - usize::from(planted!(LastItemGivenTwice));
        }
        let Tried { deaths, failures, .. } = self.tried_of(range.start);
        let attempt = 1 + deaths.saturating_add(failures) * u32::from(!planted!(AttemptNotCounted));
        self.running.insert(worker, Running { range, attempt });
        attempt
    }

    fn tried_of(&self, item: usize) -> Tried {
        self.tried.get(&item).copied().unwrap_or_default()
    }

    /// How often an item has failed that has no outcome yet.
    pub(super) fn failures_of(&self, item: usize) -> u32 {
        self.tried_of(item).failures
    }

    /// How often an item may be tried again if it fails.
    pub(super) fn retries_left(&self, item: usize) -> u32 {
        self.retries_after(self.tried_of(item))
    }

    /// The chunk of `worker` has ended: items before `reached` have their outcome, but for those to be tried `again`; the
    /// rest comes back.
    pub(super) fn settle(
        &mut self,
        worker: WorkerId,
        reached: usize,
        failures: Vec<ItemFailure>,
        again: Vec<ItemFailure>,
    ) -> Option<Running> {
        let running = self.running.remove(&worker)?;
        let reached = reached.clamp(running.range.start, running.range.end);
        self.done += reached - running.range.start - failures.len() - again.len();
        planted!(RetriedCountsAsDone, self.done += again.len());
        self.failed += failures.len();
        self.failures.extend(failures);
        let tried: Vec<Tried> = again.iter().map(|failure| self.tried_of(failure.index)).collect();
        self.forget(running.range.start..reached);
        for (failure, tried) in again.into_iter().zip(tried) {
            self.fail_for_now(failure, tried);
        }
        planted!(RequeueTooEarly, self.give_back(reached.saturating_sub(1)..reached));
        self.give_back(reached + usize::from(planted!(RequeueOffByOne))..running.range.end);
        Some(running)
    }

    /// The thread of `worker` died inside its chunk.
    pub(super) fn bury(&mut self, worker: WorkerId, death: Death) {
        let Some(running) = self.settle(worker, death.reached, death.failures, death.again) else { return };
        planted!(FailuresLostAtBury, self.failures.clear());
        let Some(Blame { items, sentence, away }) = death.blame else { return };
        let items = items.start.max(death.reached)..items.end.min(running.range.end);
        let is_for_now = matches!(sentence, Sentence::FailsForNow(_));
        let cause = match sentence {
            _ if items.is_empty() => return,
            Sentence::Again(_) if items.len() > 1 => {
                // The halves are tried apart, until a single one is left to be blamed.
                return self.cut_returned(items.start + items.len() / 2);
            }
            Sentence::Again(exit) => {
                let Some(deaths) = self.note_death(items.start, worker) else { return };
                FailureCause::Poisoned { deaths, exit }
            }
            Sentence::Lost(exit) => FailureCause::WorkerDied { exit },
            Sentence::Fails(cause) | Sentence::FailsForNow(cause) => cause,
        };
        for item in items {
            self.take_returned(item);
            let tried = self.tried.remove(&item).unwrap_or_default();
            let of = |worker: Option<WorkerId>| ItemFailure::new(item, worker, running.attempt, cause.clone());
            let failure = match &away {
                Some((worker, machine)) => of(*worker).on(machine.clone()),
                None => of(Some(worker)),
            };
            if is_for_now {
                self.fail_for_now(failure, tried);
            } else {
                self.fail(failure);
            }
        }
    }

    fn fail(&mut self, failure: ItemFailure) {
        self.failed += 1;
        self.failures.push(failure);
    }

    /// An item that was `tried` has failed and is worth another try, if there is one left.
    fn fail_for_now(&mut self, failure: ItemFailure, mut tried: Tried) {
        if self.retries_after(tried) == 0 {
            return self.fail(failure);
        }
        tried.failures += 1;
        self.tried.insert(failure.index, tried);
        self.again.push(failure);
    }

    fn retries_after(&self, tried: Tried) -> u32 {
        let one_more = planted!(RetriedTooOften) && self.retries > 0;
        self.retries.saturating_add(u32::from(one_more)).saturating_sub(tried.failures)
    }

    /// Items that have failed and are to be tried again, since this was asked last.
    pub(super) fn take_again(&mut self) -> Vec<ItemFailure> {
        take(&mut self.again)
    }

    /// An item waits until `at` to be tried again; false if it is not wanted any more.
    pub(super) fn defer(&mut self, item: usize, at: Time) -> bool {
        let is_wanted = item < self.limit;
        if is_wanted {
            self.deferred.insert(item, at);
        }
        is_wanted
    }

    /// The wait of an item is over.
    pub(super) fn resume(&mut self, item: usize) {
        if self.deferred.remove(&item).is_some() {
            self.give_back(item..item + 1);
        }
    }

    /// Items that wait to be tried again, and until when.
    pub(super) fn waits(&self) -> &BTreeMap<usize, Time> {
        &self.deferred
    }

    /// What was tried before and has its outcome after all.
    fn forget(&mut self, items: Range<usize>) {
        planted!(SuspectNeverForgotten, return);
        while let Some((&item, _)) = self.tried.range(items.clone()).next() {
            self.tried.remove(&item);
        }
    }

    /// One more worker died at `item`; says how many, if they are enough.
    fn note_death(&mut self, item: usize, worker: WorkerId) -> Option<u32> {
        let tried = self.tried.entry(item).or_default();
        tried.killed = Some(worker);
        let deaths = &mut tried.deaths;
        *deaths += 1 + u32::from(planted!(BlamedTwice));
        planted!(DeathsDoNotAddUp, *deaths = 1);
        Some(*deaths).filter(|&deaths| deaths >= MAX_DEATHS)
    }

    /// Has what came back begin a new range at `at`, if it goes on there.
    fn cut_returned(&mut self, at: usize) {
        if let Some((_, end)) = self.returned.range_mut(..at).next_back()
            && *end > at
        {
            let rest = std::mem::replace(end, at);
            self.returned.insert(at, rest);
        }
    }

    /// An item that came back is not given out again.
    fn take_returned(&mut self, item: usize) {
        self.cut_returned(item);
        self.cut_returned(item + 1);
        if self.returned.remove(&item).is_some() {
            self.returned_count -= 1;
        }
    }

    /// Nothing from item `limit` on is wanted any more; returns what of that waited to be tried again.
    pub(super) fn cut(&mut self, limit: usize) -> BTreeMap<usize, Time> {
        if limit >= self.limit {
            return BTreeMap::new();
        }
        self.limit = limit;
        planted!(CutSparesReturned, return BTreeMap::new());
        let beyond = self.returned.split_off(&limit);
        self.returned_count -= beyond.iter().map(|(start, end)| end - start).sum::<usize>();
        if let Some(mut last) = self.returned.last_entry()
            && *last.get() > limit
        {
            self.returned_count -= *last.get() - limit;
            *last.get_mut() = limit;
        }
        planted!(CutSparesDeferred, return BTreeMap::new());
        self.deferred.split_off(&limit)
    }

    /// Whether every item that is wanted has its outcome.
    pub(super) fn is_settled(&self) -> bool {
        planted!(RunningForgotten, return self.pending() == 0);
        self.pending() == 0
            && (self.deferred.is_empty() || planted!(RetryNotWaitedFor))
            && (self.running.is_empty()
                || self.limit < self.items && self.running.values().all(|running| running.range.start >= self.limit))
    }

    /// Who computes chunks of the call.
    pub(super) fn workers(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.running.keys().copied()
    }

    /// The lowest index among the failures.
    pub(super) fn first_failure(&self) -> Option<usize> {
        self.failures.iter().map(|failure| failure.index).min()
    }

    /// The failures that were not told yet.
    pub(super) fn take_failures(&mut self) -> Vec<ItemFailure> {
        planted!(FailuresToldAgain, return self.failures.clone());
        planted!(ToldFailureLeavesTrace, {
            self.tried.extend(self.failures.iter().map(|failure| (failure.index, Tried::default())));
        });
        take(&mut self.failures)
    }

    /// The failures that were not told yet, in input order.
    pub(super) fn into_failures(mut self) -> Vec<ItemFailure> {
        planted!(FailuresUnsorted, return self.failures);
        self.failures.sort_by_key(|failure| failure.index);
        self.failures
    }

    /// How many things it remembers.
    pub(super) fn footprint(&self) -> usize {
        self.returned.len() + self.running.len() + self.failures.len() + self.tried.len() + self.deferred.len()
    }

    pub(super) fn give_back(&mut self, range: Range<usize>) {
        let range = range.start..range.end.min(self.limit);
        if range.is_empty() {
            return;
        }
        self.returned_count += range.len();
        self.returned.insert(range.start, range.end);
    }
}

#[cfg(test)]
mod tests;
