//! One call as the compute threads see it: something with items, whatever their types.

mod away;
mod bench;
mod columns;
pub(crate) mod fold;
mod list;
mod shelf;
mod stream;

use std::{
    fmt,
    ops::{Deref, Range},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use distfun_core::{
    engine::{Blame, CallSpec, Chunk, Priority, Sentence, Shape},
    failure::{Ending, FailureCause, ItemFailure},
    function::{Context, Fingerprint, Schema, Surroundings, Watch},
    ids::{CallId, WorkerId},
    options::Settings,
    payload::{Parcel, Received, Spares},
    shared_data::SharedData,
};

pub(crate) use away::MAX_LOAD_ITEMS;
pub(crate) use columns::{ColumnJob, ColumnLoop, Columns, Matrix};
pub(crate) use list::{Cloning, Errors, Input, ListInput, ListJob, ListLoop};
pub(crate) use shelf::{Part, Shelf};
pub(crate) use stream::Ready;

use crate::compute::{
    awake::{from_afar, spin_until},
    catch::contain,
    latch::Latch,
    thread::{KeepStates, current_worker, slot_states},
};
use crate::{
    events,
    pool::Pool,
    remote_node::KnownAt,
    retry::{Retry, retry_here},
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

/// A chunk of another machine's call that has fewer bytes than this is small: to wait awake for the next one costs less
/// than what a sleeping thread is late. What is larger leaves that time to the threads that read and write.
const SMALL_BYTES: u64 = 64 << 10;

/// What every job has, whatever its types.
pub(crate) struct JobCore {
    pub(crate) id: CallId,
    pub(crate) function: &'static str,
    /// So far, if the call is open.
    items: AtomicUsize,
    pub(crate) is_open: bool,
    pub(crate) seed: u64,
    shared: SharedData,
    pub(crate) verbose: bool,
    pub(crate) started: Instant,
    priority: Priority,
    stops_at_failure: bool,
    retry: Retry,
    pub(crate) ends_pool: bool,
    pub(crate) events: events::OfJob,
    /// It is a small chunk of another machine's call, at this node: its Manager may wait for nothing else.
    pub(crate) is_small_visitor: bool,
    /// Of a chunk that visits a node: its first item, and how many there are if they are one list.
    first: usize,
    list: Option<usize>,
    /// How often its items were tried before they came here.
    tried: u32,
    abroad: Option<Abroad>,
    /// The nodes that know of the call.
    pub(crate) known_at: KnownAt,
    /// The end is microseconds away, nearer than a sleep and a wake-up.
    near: AtomicBool,
    /// Set when the call has ended: what still runs should stop.
    stop: AtomicBool,
    done: AtomicUsize,
    failed: AtomicUsize,
    /// Of an open call: how many failures it was told of, and what kind the first was.
    told_failures: AtomicUsize,
    first_told: OnceLock<&'static str>,
    /// Why it was refused, where there is more to say than its ending does.
    pub(crate) refused_for: OnceLock<String>,
    end: Mutex<End>,
    ended: Latch,
    /// Opens when a verbose call's summary is on stderr.
    pub(crate) shown: Latch,
}

/// What a process shares with the one that watches it.
#[derive(Debug, Clone, Copy)]
struct Abroad {
    watch: &'static Watch,
    /// Set when the call has ended.
    stop: &'static AtomicBool,
}

#[derive(Default)]
struct End {
    outcome: Option<Outcome>,
    took: Duration,
    waker: Option<Waker>,
    callback: Option<Box<dyn FnOnce() + Send>>,
    /// Says whether anybody still waits for the answer.
    is_abandoned: Option<Box<dyn Fn() -> bool + Send>>,
}

/// How a call ended, as the engine said.
pub(crate) struct Outcome {
    pub(crate) ending: Ending,
    pub(crate) failures: Vec<ItemFailure>,
}

impl JobCore {
    pub(crate) fn new(
        id: CallId,
        function: &'static str,
        items: usize,
        settings: &Settings,
        stops_at_failure: bool,
        ends_pool: bool,
    ) -> Self {
        Self {
            id,
            function,
            items: AtomicUsize::new(items),
            is_open: false,
            seed: settings.seed,
            shared: SharedData::default(),
            verbose: settings.verbose,
            started: Instant::now(),
            priority: settings.priority,
            stops_at_failure,
            retry: Retry::none(),
            ends_pool,
            events: events::OfJob::new(),
            is_small_visitor: false,
            first: 0,
            list: None,
            tried: 0,
            abroad: None,
            known_at: KnownAt::default(),
            near: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            done: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            told_failures: AtomicUsize::new(0),
            first_told: OnceLock::new(),
            refused_for: OnceLock::new(),
            end: Mutex::default(),
            ended: Latch::new(),
            shown: Latch::new(),
        }
    }

    /// More items may come.
    pub(crate) fn opened(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// Items that fail are run again, as this says.
    pub(crate) fn retrying(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// A chunk of another machine's call, of so many bytes, which begins with item `first`; of which nothing is told.
    pub(crate) fn visiting(mut self, bytes: u64, first: usize, list: Option<usize>) -> Self {
        self.is_small_visitor = bytes < SMALL_BYTES;
        self.first = first;
        self.list = list;
        self.events = events::OfJob::silent();
        self
    }

    /// Whose items were tried so often before, elsewhere.
    pub(crate) fn after_attempts(mut self, tried: u32) -> Self {
        self.tried = tried;
        self
    }

    /// In a process of its own, by the words that it shares with the one that watches it.
    #[cfg(target_os = "linux")]
    pub(crate) fn abroad(mut self, watch: &'static Watch, stop: &'static AtomicBool) -> Self {
        self.abroad = Some(Abroad { watch, stop });
        self
    }

    /// Of a chunk that visits a node: its first item.
    #[cfg(target_os = "linux")]
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// How often its items were tried before they came here.
    #[cfg(target_os = "linux")]
    pub(crate) fn tried(&self) -> u32 {
        self.tried
    }

    /// Whether its one item is a list of items.
    pub(crate) fn is_list(&self) -> bool {
        self.list.is_some()
    }

    pub(crate) fn shared(&self) -> &SharedData {
        &self.shared
    }

    /// The shared data its function gets; the call keeps it until its last item has returned.
    pub(crate) fn sharing(mut self, shared: SharedData) -> Self {
        self.shared = shared;
        self
    }

    /// Why the call must not start: reading a mapped file that was cut short would kill the process.
    pub(crate) fn refusal(&self) -> Option<Ending> {
        let error = self.shared.check_unchanged().err()?;
        let _ = self.refused_for.set(error.to_string());
        Some(Ending::SharedDataChanged)
    }

    pub(crate) fn items(&self) -> usize {
        self.items.load(Ordering::Relaxed)
    }

    /// Of a chunk that visits a node: only the first ones can be read.
    pub(crate) fn cut_to(&self, items: usize) {
        self.items.store(items, Ordering::Relaxed);
    }

    pub(crate) fn spec(&self, handle: SharedJob, shape: Shape) -> CallSpec<SharedJob> {
        CallSpec {
            id: self.id,
            handle,
            function: self.function,
            items: self.items(),
            is_open: self.is_open,
            shape,
            priority: self.priority,
            stops_at_failure: self.stops_at_failure,
            retries: self.retry.retries(),
            ends_engine: self.ends_pool,
        }
    }

    /// For items at this attempt, from 1.
    pub(crate) fn context(&self, worker: Option<WorkerId>, attempt: u32) -> Context<'_> {
        let (function, seed, stop, shared) = (self.function, self.seed, &self.stop, self.shared.clone());
        let (first, list) = (self.first, self.list);
        let (stop, watch) = match self.abroad {
            Some(Abroad { watch, stop }) => (stop, Some(watch)),
            None => (stop, None),
        };
        let (states, tried) = (slot_states(), self.tried.saturating_add(attempt.saturating_sub(1)));
        Context::new(Surroundings { function, seed, worker, stop, shared, states, first, list, tried, watch })
    }

    /// Whether items that have not started are wanted no more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.abroad.is_some_and(|abroad| abroad.stop.load(Ordering::Relaxed))
    }

    pub(crate) fn stops_at_failure(&self) -> bool {
        self.stops_at_failure
    }

    pub(crate) fn retry(&self) -> &Retry {
        &self.retry
    }

    /// Whether an item that failed so, and may be run again `retries` times, is.
    pub(crate) fn retries(&self, retries: u32, failure: &ItemFailure) -> bool {
        retries > 0 && self.retry.is_worth(failure)
    }

    /// Those among the failures for which items are run again, and the others.
    pub(crate) fn sort(&self, retries: u32, failures: Vec<ItemFailure>) -> (Vec<ItemFailure>, Vec<ItemFailure>) {
        match retries {
            0 => (Vec::new(), failures),
            _ => failures.into_iter().partition(|failure| self.retry.is_worth(failure)),
        }
    }

    /// What becomes of items that were stopped because they took too long.
    pub(crate) fn overdue(&self, retries: u32, failure: ItemFailure) -> Sentence {
        match self.retries(retries, &failure) {
            true => Sentence::FailsForNow(failure.cause),
            false => Sentence::Fails(failure.cause),
        }
    }

    /// So many more items have an outcome, and so many of them failed.
    pub(crate) fn note_counts(&self, done: usize, failed: usize) {
        if !self.is_stopped() {
            self.done.fetch_add(done, Ordering::Relaxed);
            self.failed.fetch_add(failed, Ordering::Relaxed);
        }
    }

    /// Items that have an outcome, and how many of them failed.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.done.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.is_open()
    }

    /// How long the call took, or has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        if self.is_ended() { self.lock().took } else { self.started.elapsed() }
    }

    pub(crate) fn ending(&self) -> Option<Ending> {
        self.lock().outcome.as_ref().map(|outcome| outcome.ending)
    }

    /// Called once, with what the engine decided.
    pub(crate) fn finish(&self, ending: Ending, failures: Vec<ItemFailure>) {
        self.stop.store(true, Ordering::Relaxed);
        let took = self.started.elapsed();
        events::job_finished(self, ending, &failures, took);
        let mut end = self.lock();
        end.took = took;
        end.outcome = Some(Outcome { ending, failures });
        let (waker, callback) = (end.waker.take(), end.callback.take());
        end.is_abandoned = None;
        drop(end);
        self.ended.open();
        // Both run code of the user's or of a runtime.
        contain(|| {
            if let Some(waker) = waker {
                waker.wake();
            }
            if let Some(callback) = callback {
                callback();
            }
        });
        // Last: whoever waits need not wait for nodes to hear of it.
        self.known_at.call_ended(self.id, ending);
    }

    /// Waits for the end of the call; without a limit for as long as it takes.
    pub(crate) fn wait(&self, limit: Option<Instant>) -> bool {
        let wait = || match limit {
            None => {
                self.ended.wait();
                true
            }
            Some(limit) => self.ended.wait_until(limit),
        };
        if !self.known_at.is_any() {
            return wait();
        }
        from_afar(|| self.is_ended() || limit.is_some_and(|limit| Instant::now() >= limit), wait)
    }

    pub(crate) fn note_near_end(&self) {
        self.near.store(true, Ordering::Relaxed);
    }

    /// Of an open call: the engine told of these failures.
    fn note_told(&self, failures: &[ItemFailure]) {
        self.told_failures.fetch_add(failures.len(), Ordering::Relaxed);
        if let Some(first) = failures.first() {
            self.first_told.get_or_init(|| first.cause.error_type());
        }
    }

    /// Of an open call: how many failures it was told of, and what kind the first was.
    pub(crate) fn told_failures(&self) -> (usize, Option<&'static str>) {
        (self.told_failures.load(Ordering::Relaxed), self.first_told.get().copied())
    }

    /// Of an open call: calls `waker` at the next news, which is at the latest the end.
    pub(crate) fn wake_at_news(&self, waker: &Waker) {
        let waker = waker.clone();
        let before = self.lock().waker.replace(waker);
        drop(before); // not under the lock, as below: it is code of a runtime or of the user's
    }

    /// Of an open call: more results or failures are there.
    fn note_news(&self) {
        let waker = self.lock().waker.take();
        contain(|| {
            if let Some(waker) = waker {
                waker.wake();
            }
        });
    }

    /// Looks for the end; awake for a moment, once, if it should be there before the task could sleep.
    pub(crate) fn poll_ended(&self, waker: &Waker) -> Poll<()> {
        if self.near.swap(false, Ordering::Relaxed) {
            spin_until(|| self.is_ended());
        }
        let waker = waker.clone();
        let mut end = self.lock();
        if end.outcome.is_some() {
            drop(end);
            return Poll::Ready(());
        }
        let before = end.waker.replace(waker);
        drop(end);
        drop(before);
        Poll::Pending
    }

    /// Calls `callback` at the end, or now if that has come.
    pub(crate) fn when_ended(
        &self,
        callback: impl FnOnce() + Send + 'static,
        is_abandoned: impl Fn() -> bool + Send + 'static,
    ) {
        let mut end = self.lock();
        if end.outcome.is_none() {
            end.callback = Some(Box::new(callback));
            end.is_abandoned = Some(Box::new(is_abandoned));
        } else {
            drop(end);
            callback();
        }
    }

    /// Whether the one who asked has gone away without cancelling (a dropped message future).
    pub(crate) fn is_abandoned(&self) -> bool {
        self.lock().is_abandoned.as_ref().is_some_and(|gone| gone())
    }

    /// The failures and the ending, once.
    pub(crate) fn take_outcome(&self) -> Outcome {
        let mut end = self.lock();
        let outcome = end.outcome.as_mut().expect("a call's outcome is asked for after its end");
        Outcome { ending: outcome.ending, failures: std::mem::take(&mut outcome.failures) }
    }

    fn lock(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
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
        job.run(
            &Chunk { handle: job.clone(), range: rest, attempt: 1, retries, is_quick: false },
            worker,
            &mut progress,
        );
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
