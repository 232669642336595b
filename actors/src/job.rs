//! One call as the compute threads see it: something with items, whatever their types.

mod away;
mod bench;
mod columns;
mod core;
pub(crate) mod fold;
mod list;
mod shelf;
mod stream;

use std::{
    fmt,
    ops::{Deref, Range},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use distfun_core::{
    engine::{Blame, Chunk, Shape},
    failure::{Ending, FailureCause, ItemFailure},
    function::{Fingerprint, Schema},
    ids::{CallId, WorkerId},
    payload::{Parcel, Received, Spares},
};

pub(crate) use self::core::{JobCore, Outcome};
pub(crate) use away::MAX_LOAD_ITEMS;
pub(crate) use columns::{ColumnJob, ColumnLoop, Columns, Matrix};
pub(crate) use list::{Cloning, Errors, Input, ListInput, ListJob, ListLoop};
pub(crate) use shelf::{Part, Shelf};
pub(crate) use stream::Ready;

use crate::{
    compute::{
        catch::contain,
        thread::{KeepStates, current_worker},
    },
    events,
    pool::Pool,
    retry::retry_here,
};

/// What a compute thread has done of a chunk; it survives the thread's death.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Where the chunk began.
    pub(crate) start: usize,
    /// Items before this one have their outcome.
    pub(crate) reached: usize,
    pub(crate) failures: Vec<ItemFailure>,
    /// Items that failed and are worth another try; they are in their place again.
    pub(crate) again: Vec<ItemFailure>,
    pub(crate) first_failure: Option<usize>,
    /// While an item runs: whether its input would survive the thread.
    pub(crate) blamed_is_kept: Option<bool>,
    /// How the process ended that ran it.
    pub(crate) blame: Option<Blame>,
}

impl Progress {
    /// What the worker was at when it died.
    pub(crate) fn blame(&self) -> Option<Blame> {
        let of_thread = || self.blamed_is_kept.map(|is_kept| Blame::of_thread(self.reached, is_kept));
        self.blame.clone().or_else(of_thread)
    }

    pub(crate) fn new(start: usize) -> Self {
        let (failures, again) = (Vec::new(), Vec::new());
        Self { start, reached: start, failures, again, first_failure: None, blamed_is_kept: None, blame: None }
    }
}

/// A call's items, function and results.
pub(crate) trait Job: Send + Sync {
    fn core(&self) -> &Arc<JobCore>;

    /// Runs the items of `chunk`, or as many as the budget allows, on this thread, and notes in `progress` how far it
    /// came. Panics of the function are caught.
    fn run(&self, chunk: &Chunk<SharedJob>, worker: Option<WorkerId>, progress: &mut Progress);

    /// How the items may be cut.
    fn shape(&self) -> Shape;

    /// Of an open call: items that failed meanwhile.
    fn note_failures(&self, _: Vec<ItemFailure>) {
        unreachable!("only open calls are told of their failures before their end")
    }

    /// Its items are the columns of a matrix.
    fn is_columns(&self) -> bool {
        false
    }

    /// How it travels; none if it can't leave this machine.
    fn travel(&self) -> Option<Travel<'_>> {
        None
    }

    /// Takes the items of `range` to be sent: as many from its start as go together. They are away until
    /// [`unpack`](Self::unpack) or [`put_back`](Self::put_back).
    ///
    /// # Errors
    /// The first item can't be sent, and is not away.
    fn pack(&self, _range: &Range<usize>) -> Result<Load, FailureCause> {
        unreachable!("only jobs that travel are packed")
    }

    /// Takes in the results that a node has for items that were away; what it has not reached is put back.
    ///
    /// # Errors
    /// What came is no results; all items that the node reached have failed for this reason.
    fn unpack(&self, _arrived: Arrived<'_>) -> Result<Unpacked, FailureCause> {
        unreachable!("only jobs that travel are unpacked")
    }

    /// The items that are away from `start` on come back; those before `from` have had their outcome.
    fn put_back(&self, _start: usize, _from: usize) {}

    /// Memory of items that are done with, for results that come from elsewhere.
    fn spares(&self) -> Option<&Arc<Mutex<Spares>>> {
        None
    }

    fn note_progress(&self, progress: &Progress) {
        // What comes after the end is no result any more.
        let done = progress.reached - progress.start - progress.again.len();
        self.core().note_counts(done, progress.failures.len());
    }
}

/// How a job travels.
pub(crate) struct Travel<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) fingerprint: Fingerprint,
    /// Where in the source the function was distributed.
    pub(crate) site: &'static str,
    /// A chunk travels as one item, which is a list.
    pub(crate) is_lists: bool,
    /// Nothing of the user's code runs in `pack` and `unpack`.
    pub(crate) is_raw: bool,
}

/// What there is to say about results that came.
#[derive(Default)]
pub(crate) struct Unpacked {
    /// Under `try_map`: the first item that returned `Err`.
    pub(crate) first_error: Option<usize>,
    /// Nothing was taken in, and all items are back: together with the others, some result could not be read.
    pub(crate) are_back: bool,
    /// Items that failed here: their results could not be combined.
    pub(crate) failed: Vec<(usize, FailureCause)>,
    /// Under `try_map`, where items are run again: those that returned `Err`.
    pub(crate) erred: Vec<ItemFailure>,
    /// Those among them that are run again; they are back.
    pub(crate) again: Vec<ItemFailure>,
}

/// Items that leave.
pub(crate) struct Load {
    pub(crate) parcel: Parcel,
    /// One behind the last item that is in it.
    pub(crate) end: usize,
}

/// What comes back for a [`Load`].
pub(crate) struct Arrived<'a> {
    pub(crate) start: usize,
    /// Items before this one have their outcome.
    pub(crate) reached: usize,
    /// Those among them that have no result, in order.
    pub(crate) failed: &'a [usize],
    /// Those among them that are run again, and so come back.
    pub(crate) again: &'a [ItemFailure],
    pub(crate) results: Received,
    /// Who ran them.
    pub(crate) worker: Option<WorkerId>,
    pub(crate) machine: Option<&'a Arc<str>>,
    pub(crate) attempt: u32,
    /// How often the items may be run again.
    pub(crate) retries: u32,
}

impl Arrived<'_> {
    /// How many results there must be.
    pub(crate) fn count(&self) -> usize {
        (self.reached - self.start).saturating_sub(self.failed.len())
    }

    /// The runs of items that have results.
    pub(crate) fn runs(&self) -> Vec<Range<usize>> {
        let mut next = self.start;
        let ends = self.failed.iter().copied().chain([self.reached]);
        let run = |end: usize| {
            let run = next..end;
            next = end + 1;
            run
        };
        ends.map(run).filter(|run| !run.is_empty()).collect()
    }
}

/// A job that several threads hold. Letting go of it may drop values of the user's, whose panics are contained.
#[derive(Clone)]
pub(crate) struct SharedJob(Option<Arc<dyn Job>>);

impl SharedJob {
    pub(crate) fn new(job: Arc<dyn Job>) -> Self {
        Self(Some(job))
    }
}

impl Deref for SharedJob {
    type Target = dyn Job;
    fn deref(&self) -> &(dyn Job + 'static) {
        &**self.0.as_ref().expect("only drop takes the job out")
    }
}

impl Drop for SharedJob {
    fn drop(&mut self) {
        let job = self.0.take();
        contain(|| drop(job));
    }
}

impl fmt::Debug for SharedJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedJob({})", self.core().id)
    }
}

/// A number no other call of this process has.
pub(crate) fn next_call_id() -> CallId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    CallId(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs the items of `range` on this thread, one after another, and then those that failed as often as their call wants.
pub(crate) fn run_in_order(job: &SharedJob, range: Range<usize>, worker: Option<WorkerId>) -> Progress {
    let retries = job.core().retry.retries().times;
    let mut progress = Progress::new(range.start);
    while progress.reached < range.end && progress.first_failure.is_none() {
        let rest = progress.reached..range.end;
        progress.start = progress.reached;
        job.run(&Chunk::at_hand(job.clone(), rest, 1, retries), worker, &mut progress);
    }
    progress.start = range.start;
    retry_here(job, worker, &mut progress);
    progress
}

/// Runs all of `job` on this thread, in order: nested calls, empty ones, and `.sequential()`.
pub(crate) fn run_inline(job: &SharedJob, worker: Option<WorkerId>) {
    let core = job.core();
    let _states = KeepStates::begin();
    let progress = run_in_order(job, 0..core.items(), worker);
    events::inline_ended(job, &progress);
    job.note_progress(&progress);
    let ending = match progress.first_failure {
        Some(index) if core.stops_at_failure => Ending::FirstFailure(index),
        _ if !progress.failures.is_empty() => Ending::ItemsFailed,
        _ => Ending::Complete,
    };
    core.finish(ending, progress.failures);
}

/// The same for a call to the pool whose slot this thread is. It would wait there for a slot, perhaps for its own.
pub(crate) fn run_on_own_slot(pool: &Pool, job: &SharedJob) {
    events::job_submitted(job, events::Place::Here);
    match job.core().refusal().or_else(|| pool.stopped()) {
        Some(ending) => job.core().finish(ending, Vec::new()),
        None => run_inline(job, current_worker()),
    }
}
