//! Items of a list call that are at nodes: how they leave, and how they or their results come back.

use std::{
    collections::HashMap,
    mem::needs_drop,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use distfun_core::{
    failure::{FailureCause, ItemFailure},
    payload::{Received, Spares},
};

use super::{
    Arrived, ListJob, Load, Unpacked,
    bench::keep_again,
    list::{Errors, Source, Who},
};
use crate::{
    compute::{
        catch::{catch, contain},
        parts::Items,
    },
    wire::Held,
};

/// Items that go together weigh about this much at most, so that a lost node costs little and others get their share.
const LOAD_BYTES: usize = 4 << 20;

/// Most items that go together.
pub(crate) const MAX_LOAD_ITEMS: usize = LOAD_BYTES;

/// Items of a call that are at nodes.
pub(crate) struct Away<A> {
    /// By the first item of each chunk.
    held: Mutex<HashMap<usize, Box<dyn Held<A>>>>,
    /// What an item weighs, as far as is known; 0 while nothing is.
    item_bytes: AtomicUsize,
    /// Memory of those that are done with.
    pub(super) spares: Arc<Mutex<Spares>>,
}

impl<A> Default for Away<A> {
    fn default() -> Self {
        // What has nothing to drop holds no memory elsewhere.
        let known = if needs_drop::<A>() { 0 } else { size_of::<A>().max(1) };
        Self { held: Mutex::default(), item_bytes: AtomicUsize::new(known), spares: Arc::default() }
    }
}

impl<A> Away<A> {
    fn held(&self) -> MutexGuard<'_, HashMap<usize, Box<dyn Held<A>>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many items may go together; one while their weight is not known.
    fn most(&self) -> usize {
        match self.item_bytes.load(Ordering::Relaxed) {
            0 => 1,
            bytes => (LOAD_BYTES / bytes).max(1),
        }
    }

    /// Learns what items weigh; says whether something was known before.
    fn weigh(&self, bytes: u64, items: usize) -> bool {
        let each = (bytes as usize / items.max(1)).max(1);
        self.item_bytes.fetch_max(each, Ordering::Relaxed) > 0
    }
}

impl<A: Send + 'static, R: Send + 'static> ListJob<A, R> {
    pub(super) fn pack_items(&self, all: &Range<usize>) -> Result<Load, FailureCause> {
        let mut range = all.start..all.end.min(all.start + self.away.most());
        loop {
            match self.try_pack(&range) {
                Ok(load) => {
                    let (bytes, items) = (load.parcel.bytes(), load.end - range.start);
                    let was_known = self.away.weigh(bytes, items);
                    let most = if !was_known {
                        self.away.most().min(all.len())
                    } else if bytes > 2 * LOAD_BYTES as u64 {
                        (items * LOAD_BYTES / bytes as usize).max(1) // those before them were lighter
                    } else {
                        items
                    };
                    if most == items {
                        return Ok(load);
                    }
                    drop(load);
                    self.put_items_back(range.start, range.start, &[]);
                    range.end = range.start + most;
                }
                // One of them can't be sent; alone, each is sent or blamed.
                Err(_) if range.len() > 1 => range.end = range.start + 1,
                Err(cause) => return Err(cause),
            }
        }
    }

    fn try_pack(&self, range: &Range<usize>) -> Result<Load, FailureCause> {
        let wire = self.wire.as_ref().expect("a job that travels");
        let shelf = match &self.source {
            Source::Lent(all, clone) => {
                let parcel = wire.pack_lent(&all.get()[range.clone()], *clone)?;
                return Ok(Load { parcel, end: range.end });
            }
            Source::Owned(shelf) => shelf,
        };
        let items = {
            let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            let end = shelf.end(range.start).min(range.end);
            shelf.take(&(range.start..end)).expect("the engine gives each item to one place at a time")
        };
        let end = items.range().end;
        let (packed, held) = wire.pack(items.into_vec());
        self.away.held().insert(range.start, held);
        match packed {
            Ok(parcel) => Ok(Load { parcel, end }),
            Err(cause) => {
                self.put_items_back(range.start, range.start, &[]);
                Err(cause)
            }
        }
    }

    pub(super) fn unpack_results(&self, mut arrived: Arrived<'_>) -> Result<Unpacked, FailureCause> {
        let wire = self.wire.as_ref().expect("a job that travels");
        let (start, reached, count) = (arrived.start, arrived.reached, arrived.count());
        let who = Who { worker: arrived.worker, machine: arrived.machine.cloned(), attempt: arrived.attempt };
        let received = std::mem::take(&mut arrived.results);
        let results = if count == 0 { Ok(Vec::new()) } else { wire.unpack_results(received, count) };
        if results.is_err() && reached - start > 1 && !wire.is_lists() {
            // Whose fault it is shows when each comes alone.
            self.away.item_bytes.store(usize::MAX, Ordering::Relaxed);
            self.put_items_back(start, start, &[]);
            return Ok(Unpacked { are_back: true, ..Unpacked::default() });
        }
        let results = match results {
            Ok(results) if results.len() == count => results,
            Ok(results) => {
                self.put_items_back(start, reached, &[]);
                let (block, got) = (start..reached, results.len());
                contain(|| drop(results));
                return Err(FailureCause::WrongLength { block, got });
            }
            Err(cause) => {
                self.put_items_back(start, reached, &[]);
                return Err(cause);
            }
        };
        let mut unpacked = Unpacked::default();
        let (results, runs) = self.without_errors(&arrived, results, &mut unpacked);
        let mut again = [arrived.again, &unpacked.again].concat();
        again.sort_by_key(|failure| failure.index);
        self.put_items_back(start, reached, &again);
        let mut table = self.results();
        if table.is_taken || self.core.is_stopped() {
            drop(table);
            contain(|| drop(results)); // the call has ended meanwhile
            return Ok(unpacked);
        }
        if unpacked.first_error.is_some() {
            table.erring.push((start..reached, who));
        }
        let mut results = Some(results);
        let mut filled = Vec::with_capacity(runs.len());
        for run in runs {
            let rest = results.take().expect("put back below");
            // Without failures all of them go at once, in the allocation they came in.
            let (now, rest) = if run.len() == rest.len() { (rest, None) } else { split(rest, run.len()) };
            results = rest;
            let output = table.blank.take(&run).expect("a result has one place, free until it is there");
            filled.push(output.fill(now));
        }
        match table.fold.clone().filter(|_| unpacked.first_error.is_none()) {
            Some(combine) => {
                drop(table);
                for part in filled {
                    if let Err(failed) = self.combine(&*combine, part) {
                        unpacked.failed.push(failed);
                    }
                }
            }
            None => {
                filled.into_iter().for_each(|part| table.filled.put_joined(part));
                drop(table);
                if self.core.is_open {
                    self.core.note_news();
                }
            }
        }
        Ok(unpacked)
    }

    /// Under `try_map`: looks for `Err`s among the results. Where items are run again they are failures like others, and the
    /// other results stay; else the caller finds the first among them.
    fn without_errors(
        &self,
        arrived: &Arrived<'_>,
        results: Vec<R>,
        unpacked: &mut Unpacked,
    ) -> (Vec<R>, Vec<Range<usize>>) {
        let runs = arrived.runs();
        let Some(Errors { is_error, cause }) = &self.errors else { return (results, runs) };
        let first = results.iter().zip(runs.iter().cloned().flatten()).find(|(result, _)| is_error(result));
        let Some((_, first)) = first else { return (results, runs) };
        if !self.core.retry().is_on() {
            unpacked.first_error = Some(first);
            return (results, runs);
        }
        let mut failed = arrived.failed.to_vec();
        let mut stay = Vec::with_capacity(results.len());
        for (index, result) in runs.into_iter().flatten().zip(results) {
            if !is_error(&result) {
                stay.push(result);
                continue;
            }
            failed.push(index);
            // Code of the user's makes an error of it.
            let cause = catch(|| cause(result)).unwrap_or_else(|panic| panic);
            let failure = ItemFailure::new(index, arrived.worker, arrived.attempt, cause);
            let failure = match arrived.machine {
                Some(machine) => failure.on(machine.clone()),
                None => failure,
            };
            let is_again = self.core.retries(arrived.retries, &failure);
            if is_again { &mut unpacked.again } else { &mut unpacked.erred }.push(failure);
        }
        failed.sort_unstable();
        let runs = Arrived { failed: &failed, again: &[], results: Received::default(), ..*arrived }.runs();
        (stay, runs)
    }

    /// The items that are away from `start` on come back; those before `from` have had their outcome, but for those that are
    /// run `again`.
    pub(super) fn put_items_back(&self, start: usize, from: usize, again: &[ItemFailure]) {
        let Some(mut held) = self.away.held().remove(&start) else { return };
        let items = loop {
            match held.items() {
                Ok(items) => break items,
                // A connection that has ended, or given the chunk up, lets go of its bytes in the next moment.
                Err(again) => {
                    held = again;
                    thread::sleep(Duration::from_micros(50));
                }
            }
        };
        let mut items = Items::numbered(start, items);
        let rest = items.split_off(from.clamp(start, items.range().end));
        let again = keep_again(&mut items, again);
        // Those that have their outcome. Dropping them contains what panics.
        let items = items.into_vec();
        let dropped = self.away.spares.lock().unwrap_or_else(PoisonError::into_inner).give(items);
        drop(dropped.map(|items| Items::numbered(start, items)));
        if let Source::Owned(shelf) = &self.source {
            let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            again.into_iter().for_each(|item| shelf.put(item));
            shelf.put(rest);
        }
    }
}

fn split<R>(mut first: Vec<R>, count: usize) -> (Vec<R>, Option<Vec<R>>) {
    let rest = first.split_off(count);
    (first, Some(rest))
}
