//! A list call: items in, results out, one by one.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use distfun_core::{
    engine::{BUDGET, Chunk, Shape},
    failure::{FailureCause, ItemFailure},
    function::Context,
    ids::WorkerId,
    payload::Spares,
};

use super::{
    Arrived, Job, JobCore, Load, Part, Progress, SharedJob, Shelf, Travel, Unpacked,
    away::Away,
    bench::Bench,
    fold::{Combine, Nodes},
};
use crate::{
    compute::{
        catch::{catch, discard},
        lend::LentSlice,
        parts::{Items, Output},
        thread::has_unopened_gpu,
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
    pub(super) function: Share<A, R>,
    pub(super) source: Source<A>,
    results: Mutex<Results<R>>,
    pub(super) errors: Option<Errors<R>>,
    /// How items are cloned that the function would take with it.
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
        self.cloning = cloning.filter(|_| !self.function.keeps_items());
        self
    }

    /// How items are cloned that may be run again after they have been given to the function on this thread: those that fail,
    /// and those that find a GPU that can't be opened.
    pub(super) fn cloning_here(&self) -> Option<Cloning<A>> {
        self.cloning.filter(|_| self.core.retry().is_on() || has_unopened_gpu())
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
