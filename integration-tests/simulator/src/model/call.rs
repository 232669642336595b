//! The model's own ledger of one call: a state for every item, kept the plain way.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use distfun_core::{
    engine::{Blame, CallSpec, ChunkDone, Death, MAX_DEATHS, Sentence, Shape, Time},
    failure::{Ending, FailureCause, ItemFailure},
    ids::{CallId, NodeId, WorkerId},
    placement::SlotKind,
};

/// Where an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    Waiting,
    /// It has failed and will be tried again.
    Deferred,
    Running(WorkerId),
    Done,
    Failed,
}

/// Seconds per item, by the kind of slot.
pub(crate) type Costs = [Option<f64>; 2];

/// One active call.
#[derive(Debug)]
pub(crate) struct CallModel {
    pub(crate) spec: CallSpec<CallId>,
    pub(crate) items: Vec<Item>,
    /// Items from here on are not wanted any more.
    pub(crate) limit: usize,
    /// No wanted item before this one waits.
    lowest: usize,
    pub(crate) waiting: usize,
    running: Vec<(WorkerId, Range<usize>)>,
    pub(crate) done: usize,
    /// How often threads died at items that have no outcome yet.
    pub(crate) suspects: BTreeMap<usize, u32>,
    /// At which item whoever died last, of those that wait or run again.
    killed: BTreeMap<usize, WorkerId>,
    /// How often items have failed that have no outcome yet.
    pub(crate) failures: BTreeMap<usize, u32>,
    /// Items that are to be tried again, and when, once that is said.
    pub(crate) deferred: BTreeMap<usize, Option<Time>>,
    pub(crate) failed: BTreeSet<usize>,
    /// More items may come.
    pub(crate) is_open: bool,
    /// Items that failed in this step, where the call tells them as they come.
    pub(crate) untold: BTreeSet<usize>,
    /// Items that failed with their thread.
    pub(crate) died: BTreeSet<usize>,
    pub(crate) first_failure: Option<usize>,
    /// Lengths of the blocks that were given out for the first time.
    blocks: Option<Range<usize>>,
    /// Items from here on were never given out.
    fresh: usize,
    /// Seconds per item on slots of this machine, by their kind, as far as it was measured.
    pub(crate) costs: Costs,
    /// It has left slots to others.
    pub(crate) was_choosy: bool,
    /// Nodes that can't run it.
    pub(crate) barred: BTreeSet<NodeId>,
}

impl CallModel {
    pub(crate) fn new(spec: CallSpec<CallId>, costs: Costs) -> Self {
        Self {
            items: vec![Item::Waiting; spec.items],
            limit: spec.items,
            lowest: 0,
            waiting: spec.items,
            running: Vec::new(),
            done: 0,
            suspects: BTreeMap::new(),
            killed: BTreeMap::new(),
            failures: BTreeMap::new(),
            deferred: BTreeMap::new(),
            failed: BTreeSet::new(),
            is_open: spec.is_open,
            untold: BTreeSet::new(),
            died: BTreeSet::new(),
            first_failure: None,
            blocks: None,
            fresh: 0,
            costs,
            was_choosy: false,
            barred: BTreeSet::new(),
            spec,
        }
    }

    /// More items have come.
    pub(crate) fn extend(&mut self, count: usize) {
        if self.limit == self.items.len() {
            self.limit += count;
            self.waiting += count;
        }
        self.items.resize(self.items.len() + count, Item::Waiting);
    }

    /// The first item that waits.
    pub(crate) fn lowest_waiting(&mut self) -> Option<usize> {
        let left = &self.items[self.lowest..self.limit.max(self.lowest)];
        let found = left.iter().position(|&item| item == Item::Waiting).map(|at| self.lowest + at);
        self.lowest = found.unwrap_or(self.limit.max(self.lowest));
        found
    }

    /// What a slot is to get: of those that wait the first at which it has not died, or the first.
    pub(crate) fn next_for(&mut self, slot: WorkerId) -> Option<usize> {
        let lowest = self.lowest_waiting()?;
        let is_other = |item: &usize| self.items[*item] == Item::Waiting && self.killed.get(item) != Some(&slot);
        (lowest..self.limit).find(is_other).or(Some(lowest))
    }

    pub(crate) fn give(&mut self, worker: WorkerId, range: Range<usize>) {
        self.items[range.clone()].fill(Item::Running(worker));
        self.waiting -= range.len();
        self.fresh = self.fresh.max(range.end);
        self.running.push((worker, range));
    }

    /// Takes note of a new block; false if it is longer or shorter than the others by more than one item.
    pub(crate) fn is_even(&mut self, range: &Range<usize>) -> bool {
        if matches!(self.spec.shape, Shape::Items) || range.start < self.fresh {
            return true;
        }
        let length = range.len();
        let seen = self.blocks.get_or_insert(length..length);
        *seen = seen.start.min(length)..seen.end.max(length);
        seen.end - seen.start <= 1
    }

    /// The chunk of `worker` has ended, well.
    pub(crate) fn report(&mut self, worker: WorkerId, kind: SlotKind, done: &ChunkDone) {
        let start = self.running.iter().find(|(id, _)| *id == worker).map(|(_, range)| range.start);
        let items = start.map_or(0, |start| done.reached.saturating_sub(start));
        if items > 0 {
            let (seen, cost) = (done.elapsed.as_secs_f64() / items as f64, &mut self.costs[kind as usize]);
            *cost = Some(cost.map_or(seen, |known| 0.5 * (known + seen)));
        }
        self.report_away(worker, done);
    }

    /// The chunk of a lane has ended, well; that does not say what it would have taken here.
    pub(crate) fn report_away(&mut self, worker: WorkerId, done: &ChunkDone) {
        self.settle(worker, done.reached, &done.failures, &done.again);
        if let Some(index) = done.first_failure {
            self.fails_at(index);
        }
    }

    /// The thread of `worker` died inside its chunk.
    pub(crate) fn bury(&mut self, worker: WorkerId, death: Option<&Death>) {
        let Some(range) = self.running.iter().find(|(id, _)| *id == worker).map(|(_, range)| range.clone()) else {
            return;
        };
        let reached = death.map_or(range.start, |death| death.reached);
        let blame = death.map_or(Some(Blame::of_thread(range.start, true)), |death| death.blame.clone());
        let again = death.map_or(&[][..], |death| &death.again);
        self.settle(worker, reached, death.map_or(&[], |death| &death.failures), again);
        if let Some(Blame { items, sentence, .. }) = blame {
            // Of several nobody knows which it was; they are only tried again.
            let is_one = items.len() == 1 && range.contains(&items.start) && items.start >= reached;
            let item = items.start;
            let is_for_now = is_one && matches!(sentence, Sentence::FailsForNow(_));
            let fails = is_one && !is_for_now && {
                let deaths = self.suspects.entry(item).or_insert(0);
                *deaths += 1;
                self.killed.insert(item, worker);
                *deaths >= MAX_DEATHS || !matches!(sentence, Sentence::Again(_))
            };
            if is_for_now {
                self.waiting -= usize::from(item < self.limit);
                self.fail_for_now(item);
            }
            if fails {
                self.suspects.remove(&item);
                self.failures.remove(&item);
                if self.items[item] == Item::Waiting && item < self.limit {
                    self.waiting -= 1;
                }
                self.fail(item);
                self.died.insert(item);
            }
        }
        if self.spec.stops_at_failure
            && let Some(index) =
                self.failed.first().copied().into_iter().chain(death.and_then(|d| d.first_failure)).min()
        {
            self.fails_at(index);
        }
    }

    /// Items before `reached` have their outcome, but for those that are to be tried `again`; the others wait again.
    pub(crate) fn settle(&mut self, worker: WorkerId, reached: usize, failures: &[ItemFailure], again: &[ItemFailure]) {
        let Some(at) = self.running.iter().position(|(id, _)| *id == worker) else { return };
        let (_, range) = self.running.swap_remove(at);
        self.items[range.start..reached].fill(Item::Done);
        self.done += reached - range.start - failures.len() - again.len();
        let is_again = |item: &usize| again.iter().any(|failure| failure.index == *item);
        let has_outcome = |item: &usize| (range.start..reached).contains(item) && !is_again(item);
        self.suspects.retain(|item, _| !has_outcome(item));
        self.failures.retain(|item, _| !has_outcome(item));
        for failure in failures {
            self.fail(failure.index);
            if matches!(
                failure.cause,
                FailureCause::WorkerDied { .. } | FailureCause::Poisoned { .. } | FailureCause::TimedOut { .. }
            ) {
                self.died.insert(failure.index);
            }
        }
        again.iter().for_each(|failure| self.fail_for_now(failure.index));
        self.items[reached..range.end].fill(Item::Waiting);
        self.waiting += range.end.min(self.limit).saturating_sub(reached);
        self.lowest = self.lowest.min(reached);
    }

    /// The item is to be tried again, if it is wanted.
    fn fail_for_now(&mut self, index: usize) {
        self.items[index] = Item::Deferred;
        *self.failures.entry(index).or_insert(0) += 1;
        if index < self.limit {
            self.deferred.insert(index, None);
        }
    }

    /// Items whose wait is over wait for a slot.
    pub(crate) fn resume(&mut self, now: Time) {
        let due = |at: &Option<Time>| at.is_some_and(|at| at <= now);
        let items: Vec<usize> = self.deferred.iter().filter(|(_, at)| due(at)).map(|(&item, _)| item).collect();
        for item in items {
            self.deferred.remove(&item);
            self.items[item] = Item::Waiting;
            self.waiting += 1;
            self.lowest = self.lowest.min(item);
        }
    }

    fn fail(&mut self, index: usize) {
        self.items[index] = Item::Failed;
        self.failed.insert(index);
        if self.spec.is_open {
            self.untold.insert(index);
        }
    }

    fn fails_at(&mut self, index: usize) {
        self.first_failure = Some(self.first_failure.map_or(index, |before| before.min(index)));
        if index < self.limit {
            let beyond = &self.items[index..self.limit];
            self.waiting -= beyond.iter().filter(|&&item| item == Item::Waiting).count();
            self.limit = index;
            self.deferred.retain(|&item, _| item < index);
        }
    }

    /// Every item that is wanted has its outcome.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting == 0 && self.deferred.is_empty() && self.running.iter().all(|(_, range)| range.start >= self.limit)
    }

    /// How the call must end now, if it must.
    pub(crate) fn settled(&self) -> Option<Ending> {
        let must_end = self.is_settled() && !self.is_open;
        must_end.then_some(match self.first_failure {
            Some(index) => Ending::FirstFailure(index),
            None if !self.failed.is_empty() => Ending::ItemsFailed,
            None => Ending::Complete,
        })
    }

    /// Items that wait and were given out before.
    pub(crate) fn returned(&self) -> usize {
        self.waiting - self.limit.saturating_sub(self.fresh)
    }

    /// Nothing is known of what its items take there, so that a slot gets its share of what waits.
    pub(crate) fn shares_evenly(&self, kind: SlotKind) -> bool {
        matches!(self.spec.shape, Shape::Items) && self.costs[kind as usize].is_none()
    }

    /// Whether nothing of it but items that were never given out waits, from `start` on.
    pub(crate) fn is_fresh(&self, start: usize) -> bool {
        start == self.fresh && self.returned() == 0
    }

    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }
}
