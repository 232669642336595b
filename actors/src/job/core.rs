//! What every job has, whatever its types: who it is, who watches it, how far it is, and how it ended.

use std::{
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use distfun_core::{
    engine::{CallSpec, Priority, Sentence, Shape},
    failure::{Ending, ItemFailure},
    function::{Context, Surroundings, Watch},
    ids::{CallId, WorkerId},
    options::Settings,
    placement::SlotKind,
    shared_data::SharedData,
};

use super::SharedJob;
use crate::{
    compute::{
        awake::{from_afar, spin_until},
        catch::contain,
        latch::Latch,
        thread::{slot_gpu, slot_states},
    },
    events,
    kernel::GpuForm,
    remote_node::KnownAt,
    retry::Retry,
};

/// A chunk of another machine's call that has fewer bytes than this is small: to wait awake for the next one costs less
/// than what a sleeping thread is late. What is larger leaves that time to the threads that read and write.
const SMALL_BYTES: u64 = 64 << 10;

/// What every job has, whatever its types.
pub(crate) struct JobCore {
    pub(crate) id: CallId,
    pub(crate) function: &'static str,
    /// So far, if the call is open.
    pub(super) items: AtomicUsize,
    pub(crate) is_open: bool,
    pub(crate) seed: u64,
    shared: SharedData,
    pub(crate) verbose: bool,
    pub(crate) started: Instant,
    priority: Priority,
    pub(super) stops_at_failure: bool,
    pub(super) retry: Retry,
    pub(crate) ends_pool: bool,
    pub(crate) events: events::OfJob,
    /// It is a small chunk of another machine's call, at this node: its Manager may wait for nothing else.
    pub(crate) is_small_visitor: bool,
    /// Of a chunk that visits a node: its first item, and how many there are if they are one list.
    first: usize,
    list: Option<usize>,
    /// How often its items were tried before they came here.
    tried: u32,
    /// Only such slots may have it.
    only: Option<SlotKind>,
    /// What runs on GPUs in place of the function.
    pub(crate) gpu_form: Option<GpuForm>,
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
            only: None,
            gpu_form: None,
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

    /// With another form of the function for GPUs.
    pub(crate) fn on_gpus(mut self, form: Option<GpuForm>) -> Self {
        self.gpu_form = form;
        self
    }

    /// Only for slots of this kind.
    pub(crate) fn only(mut self, kind: SlotKind) -> Self {
        self.only = Some(kind);
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
            only: self.only,
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
        let (states, gpu, tried) = (slot_states(), slot_gpu(), self.tried.saturating_add(attempt.saturating_sub(1)));
        Context::new(Surroundings { function, seed, worker, stop, shared, states, gpu, first, list, tried, watch })
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
    pub(super) fn note_told(&self, failures: &[ItemFailure]) {
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
    pub(super) fn note_news(&self) {
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
