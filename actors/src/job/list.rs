//! A list call: items in, results out, one by one.

use std::{
    collections::BTreeMap,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use distfun_core::{
    engine::{BUDGET, Blame, Chunk, Sentence, Shape},
    failure::{FailureCause, ItemFailure},
    function::Context,
    ids::WorkerId,
    payload::Spares,
};

use super::{
    Arrived, Job, JobCore, Load, Part, Progress, SharedJob, Shelf, Travel, Unpacked,
    away::Away,
    fold::{Combine, Nodes},
};
use crate::{
    compute::{
        catch::{catch, contain, discard},
        lend::LentSlice,
        parts::{Items, Output},
    },
    wire::ListWire,
};

/// A function over a list with its kind and type erased: one dynamic call per strip of items, the loop within it
/// compiled for the function.
pub(crate) trait ListLoop<A, R>: Send + Sync {
    /// Runs the `count` items from `first` on into `output`; panics where the function does.
    ///
    /// # Errors
    /// The cause for which all `count` items fail.
    fn run(
        &self,
        input: Input<'_, A>,
        output: &mut Output<R>,
        first: usize,
        count: usize,
        context: &Context<'_>,
    ) -> Result<(), FailureCause>;

    /// Runs a single item outside of any chunk.
    fn call(&self, item: A, context: &Context<'_>) -> R;

    /// The function borrows its items, so they are still there after a panic.
    fn keeps_items(&self) -> bool;

    /// The function wants a whole chunk at once.
    fn takes_blocks(&self) -> bool;
}

/// The items of a chunk, for [`ListLoop::run`].
pub(crate) enum Input<'a, A> {
    /// Items that may be moved out; a function by value finds its next one in front.
    Owned(&'a mut Items<A>),
    /// Items that must be cloned to be moved.
    Lent(&'a [A], fn(&[A]) -> Vec<A>),
}

/// How items are cloned of which the function may need another.
pub(crate) enum Cloning<A> {
    OneByOne(fn(&[A]) -> Vec<A>),
    /// They are known as a list that is one item.
    AsList(fn(&[Vec<A>]) -> Vec<Vec<A>>),
}

impl<A> Clone for Cloning<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Cloning<A> {}

/// Under `try_map`: how a result is an `Err`.
pub(crate) struct Errors<R> {
    pub(crate) is_error: fn(&R) -> bool,
    /// Why an item has failed whose result is one.
    pub(crate) cause: fn(R) -> FailureCause,
}

/// All items of a call.
pub(crate) enum ListInput<A> {
    Owned(Vec<A>),
    Lent(LentSlice<A>, fn(&[A]) -> Vec<A>),
}

impl<A> ListInput<A> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Owned(items) => items.len(),
            Self::Lent(items, _) => items.get().len(),
        }
    }
}

pub(super) enum Source<A> {
    Owned(Mutex<Shelf<Items<A>>>),
    Lent(LentSlice<A>, fn(&[A]) -> Vec<A>),
}

pub(super) struct Results<R> {
    pub(super) blank: Shelf<Output<R>>,
    pub(super) filled: Shelf<Items<R>>,
    /// Under `try_map`: strips with an `Err` among their results, and who ran them.
    pub(super) erring: Vec<(Range<usize>, Who)>,
    /// Of an open call: items that failed and were not taken yet.
    pub(super) failed: BTreeMap<usize, ItemFailure>,
    /// Results are to be combined, and those that have been.
    pub(super) fold: Option<Arc<dyn Combine<R>>>,
    nodes: Nodes<R>,
    /// The results have been taken; what comes now is late and dropped.
    pub(super) is_taken: bool,
}

/// Who ran an item, and at which attempt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Who {
    pub(crate) worker: Option<WorkerId>,
    pub(crate) machine: Option<Arc<str>>,
    pub(crate) attempt: u32,
}

/// The function of a list call.
type Share<A, R> = Arc<dyn ListLoop<A, R>>;

pub(crate) struct ListJob<A, R> {
    pub(super) core: Arc<JobCore>,
    function: Share<A, R>,
    pub(super) source: Source<A>,
    results: Mutex<Results<R>>,
    pub(super) errors: Option<Errors<R>>,
    /// Where items that failed are run again: the function, by value, gets clones.
    cloning: Option<Cloning<A>>,
    /// How items and results travel, and those that are away.
    pub(super) wire: Option<Arc<dyn ListWire<A, R>>>,
    pub(super) away: Away<A>,
}

impl<A: Send + 'static, R: Send + 'static> ListJob<A, R> {
    /// `reuse` is an allocation for the results.
    pub(crate) fn new(
        core: impl Into<Arc<JobCore>>,
        function: Share<A, R>,
        wire: Option<Arc<dyn ListWire<A, R>>>,
        input: ListInput<A>,
        reuse: Vec<R>,
        errors: Option<Errors<R>>,
    ) -> Self {
        let core = core.into();
        let blank = Shelf::new(Output::blank(reuse, 1, core.items()));
        let source = match input {
            ListInput::Owned(items) => Source::Owned(Mutex::new(Shelf::new(Items::from_vec(items)))),
            ListInput::Lent(items, clone) => Source::Lent(items, clone),
        };
        let results = Mutex::new(Results {
            blank,
            filled: Shelf::default(),
            erring: Vec::new(),
            failed: BTreeMap::new(),
            fold: None,
            nodes: Nodes::default(),
            is_taken: false,
        });
        Self { core, function, source, results, errors, cloning: None, wire, away: Away::default() }
    }

    /// Its items can be cloned, if that is known.
    pub(crate) fn cloning(mut self, cloning: Option<Cloning<A>>) -> Self {
        self.cloning = cloning.filter(|_| self.core.retry().is_on() && !self.function.keeps_items());
        self
    }

    /// All results in input order, or the parts that there are.
    pub(crate) fn take_results(&self) -> Result<Vec<R>, Vec<Items<R>>> {
        let mut results = self.results();
        results.is_taken = true;
        let filled = std::mem::take(&mut results.filled);
        results.blank.clear();
        drop(results);
        Items::assemble(filled.into_parts())
    }

    /// How they travel.
    pub(crate) fn wire(&self) -> &dyn ListWire<A, R> {
        &**self.wire.as_ref().expect("a job that travels")
    }

    /// From now on results are combined where they are made.
    pub(crate) fn fold(&self, combine: Arc<dyn Combine<R>>) {
        self.results().fold = Some(combine);
    }

    /// The combined result of all items, none if there were no items.
    ///
    /// # Errors
    /// The combining function panicked: at which item, and with what.
    pub(crate) fn take_folded(&self) -> Result<Option<R>, (usize, FailureCause)> {
        let mut results = self.results();
        results.is_taken = true;
        results.blank.clear();
        let (filled, combine) = (std::mem::take(&mut results.filled), results.fold.clone());
        drop(results);
        let combine = combine.expect("results are taken folded after `fold`");
        for part in filled.into_parts() {
            self.combine(&*combine, part)?;
        }
        let nodes = std::mem::take(&mut self.results().nodes);
        let mut at = 0;
        let all = nodes.into_rest().inspect(|(start, _)| at = *start);
        let folded = catch(|| all.map(|(_, value)| value).reduce(|right, left| combine.combine(left, right)));
        folded.map_err(|cause| (at, cause))
    }

    /// Combines the results of `part` with one another and with those before.
    pub(super) fn combine(&self, combine: &dyn Combine<R>, part: Items<R>) -> Result<(), (usize, FailureCause)> {
        let (first, mut results) = (part.range().start, part.into_vec().into_iter());
        let (mut nodes, mut at) = (Vec::new(), first);
        if let Err(cause) = catch(|| combine.combine_run(first, &mut results, &mut nodes, &mut at)) {
            discard(results);
            discard(nodes.into_iter());
            return Err((at, cause));
        }
        for (mut node, mut value) in nodes {
            while let Some(pair) = {
                let mut results = self.results();
                results.nodes.meet(node, value)
            } {
                node = pair.parent;
                let seam = pair.seam();
                value = catch(|| combine.combine(pair.left, pair.right)).map_err(|cause| (seam, cause))?;
            }
        }
        Ok(())
    }

    /// Under `try_map`: the worker and attempt that returned an `Err` for item `index`.
    pub(crate) fn who_erred(&self, index: usize) -> Who {
        let results = self.results();
        let strip = results.erring.iter().find(|(items, _)| items.contains(&index));
        strip.map_or(Who { attempt: 1, ..Who::default() }, |(_, who)| who.clone())
    }

    pub(super) fn results(&self) -> MutexGuard<'_, Results<R>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a compute thread holds of a call while it runs a chunk; put back whichever way that ends.
struct Bench<'a, A: Send + 'static, R: Send + 'static> {
    job: &'a ListJob<A, R>,
    /// The items of the chunk that are owned by the call and were not moved into the function yet.
    items: Option<Items<A>>,
    output: Output<R>,
    filled: Vec<Items<R>>,
    /// The places of items that are run again.
    vacant: Vec<Output<R>>,
    end: usize,
    worker: Option<WorkerId>,
    attempt: u32,
    retries: u32,
    progress: &'a mut Progress,
}

impl<'a, A: Send + 'static, R: Send + 'static> Bench<'a, A, R> {
    /// None if the results have been taken: the call ended while the chunk was on its way here.
    fn set_up(
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
        Some(Self { job, items, output, filled, vacant, end, worker, attempt, retries, progress })
    }

    /// Runs the next `count` items; a failure costs one item, or all of them in a function over blocks.
    fn strip(&mut self, count: usize, context: &Context<'_>) {
        let job = self.job;
        let first = self.progress.reached;
        let mut copy = None;
        let (input, keeps) = match (&mut self.items, &job.source) {
            (None, Source::Lent(all, clone)) => (Input::Lent(&all.get()[first..first + count], *clone), true),
            (Some(items), _) => match job.cloning {
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
            self.stop_at_error(first, self.progress.reached - first);
            if self.job.function.takes_blocks() {
                let block = self.progress.reached..self.end;
                if self.progress.blamed_is_kept.take() == Some(true) && self.job.core.retry().is_on() {
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

/// A strip between two looks at the clock should take about this long: a look costs 25 ns.
const STRIP: Duration = Duration::from_micros(10);

impl<A: Send + 'static, R: Send + 'static> Job for ListJob<A, R> {
    fn core(&self) -> &Arc<JobCore> {
        &self.core
    }

    fn shape(&self) -> Shape {
        // The split of an open call can't be fixed when it starts.
        match self.function.takes_blocks() && !self.core.is_open {
            true => Shape::Blocks { stream_cost: None },
            false => Shape::Items,
        }
    }

    fn travel(&self) -> Option<Travel<'_>> {
        let wire = self.wire.as_ref()?;
        let is_raw = wire.is_raw() && self.results().fold.is_none();
        let (schema, fingerprint) = (wire.schema(), wire.fingerprint());
        Some(Travel { schema, fingerprint, site: wire.site(), is_lists: wire.is_lists(), is_raw })
    }

    fn pack(&self, range: &Range<usize>) -> Result<Load, FailureCause> {
        self.pack_items(range)
    }

    fn unpack(&self, arrived: Arrived<'_>) -> Result<Unpacked, FailureCause> {
        self.unpack_results(arrived)
    }

    fn put_back(&self, start: usize, from: usize) {
        self.put_items_back(start, from, &[]);
    }

    fn spares(&self) -> Option<&Arc<Mutex<Spares>>> {
        Some(&self.away.spares)
    }

    fn note_failures(&self, failures: Vec<ItemFailure>) {
        self.core.note_told(&failures);
        self.results().failed.extend(failures.into_iter().map(|failure| (failure.index, failure)));
        self.core.note_news();
    }

    fn run(&self, chunk: &Chunk<SharedJob>, worker: Option<WorkerId>, progress: &mut Progress) {
        let context = self.core.context(worker, chunk.attempt);
        let Some(mut bench) = Bench::set_up(self, chunk, worker, progress) else { return };
        let start = Instant::now();
        let (mut now, mut strip) = (start, 1);
        while bench.progress.reached < bench.end && bench.progress.first_failure.is_none() && !self.core.is_stopped() {
            let left = bench.end - bench.progress.reached;
            let count = if self.function.takes_blocks() { left } else { left.min(strip) };
            bench.strip(count, &context);
            let before = std::mem::replace(&mut now, Instant::now());
            match now - before {
                // No more than there are: items that panic count as a strip each, and would let it grow without end.
                took if took < STRIP => strip = (2 * strip).min(chunk.range.len()),
                took if took > 4 * STRIP => strip = (strip / 4).max(1),
                _ => {}
            }
            if now - start > BUDGET {
                break;
            }
        }
    }
}

impl<T> Part for Items<T> {
    fn join(&mut self, next: Self) -> Option<Self> {
        Items::join(self, next)
    }
    fn range(&self) -> Range<usize> {
        Items::range(self)
    }
    fn cut(&mut self, at: usize) -> Self {
        self.split_off(at)
    }
}

impl<T> Part for Output<T> {
    fn join(&mut self, next: Self) -> Option<Self> {
        Some(next)
    }
    fn range(&self) -> Range<usize> {
        self.room()
    }
    fn cut(&mut self, at: usize) -> Self {
        self.split_off(at)
    }
}
