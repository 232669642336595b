//! A chunk that another machine's Manager has sent: on the slots here it is one job among others, which runs in one go.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use distfun_core::{
    engine::{Chunk, Shape},
    failure::{Ending, FailureCause, ItemFailure},
    function::Lost,
    ids::WorkerId,
    payload::{Parcel, Received},
};

use distfun_net::message::{Died, Exit};

use super::offer::{Opened, Served, Visit};
#[cfg(target_os = "linux")]
use super::ship::ShippedCall;
use crate::{
    compute::thread::{how_it_ended, lost_gpu},
    job::{Job, JobCore, Progress, SharedJob},
    pool::Pool,
};

/// What became of a chunk. Items are counted from its first one.
pub(crate) struct Over {
    /// Items before this one have their outcome.
    pub(crate) reached: usize,
    pub(crate) failures: Vec<ItemFailure>,
    pub(crate) elapsed: Duration,
    pub(crate) worker: Option<WorkerId>,
    /// A worker died inside the chunk.
    pub(crate) died: Option<Died>,
    pub(crate) results: Parcel,
}

impl Over {
    pub(super) fn returned() -> Self {
        let (reached, elapsed, worker, results) = (0, Duration::ZERO, None, Parcel::default());
        Self { reached, failures: Vec::new(), elapsed, worker, died: None, results }
    }
}

/// A chunk in which more items than this have failed comes back: each failure has its text, and one message must hold
/// them.
pub(crate) const MOST_FAILURES: usize = 1000;

type Answer = Box<dyn FnOnce(Over) + Send>;

/// What computes a chunk.
#[derive(Clone)]
pub(crate) enum Work {
    /// A function of this program.
    Served(Arc<dyn Served>),
    /// One of a program that a Manager has brought.
    #[cfg(target_os = "linux")]
    Shipped(Arc<ShippedCall>),
}

impl Work {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Served(served) => served.name(),
            #[cfg(target_os = "linux")]
            Self::Shipped(call) => call.label,
        }
    }

    /// Most items that a chunk may have.
    pub(crate) fn max_items(&self) -> u64 {
        match self {
            Self::Served(served) => served.max_items(),
            // What its kind allows, it checks itself.
            #[cfg(target_os = "linux")]
            Self::Shipped(_) => u32::MAX.into(),
        }
    }
}

pub(crate) struct Visitor {
    core: Arc<JobCore>,
    work: Work,
    /// How many items there are; to the function they may be one.
    count: usize,
    budget: Duration,
    /// The items, until a slot takes them or they are given back.
    baggage: Mutex<Option<Received>>,
    answer: Mutex<Option<Answer>>,
}

impl Visitor {
    /// Puts a chunk of `count` items in the queue of `pool`. `answer` is called once, whatever happens.
    pub(crate) fn enter(
        pool: &Pool,
        core: JobCore,
        work: Work,
        items: Received,
        count: usize,
        budget: Duration,
        answer: impl FnOnce(Over) + Send + 'static,
    ) -> Arc<Self> {
        let visitor = Self::new(core, work, items, count, budget, answer);
        let theirs = Arc::downgrade(&visitor);
        // It ends without having run if it is cancelled, or nothing here can run it.
        let ended = move || {
            if let Some(visitor) = theirs.upgrade() {
                visitor.withdraw();
            }
        };
        visitor.core.when_ended(ended, || false);
        pool.submit(SharedJob::new(visitor.clone()));
        visitor
    }

    fn new(
        core: JobCore,
        work: Work,
        items: Received,
        count: usize,
        budget: Duration,
        answer: impl FnOnce(Over) + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            core: Arc::new(core),
            work,
            count,
            budget,
            baggage: Mutex::new(Some(items)),
            answer: Mutex::new(Some(Box::new(answer))),
        })
    }

    /// Runs a chunk of `count` items on this thread, as `worker`.
    #[cfg(target_os = "linux")]
    pub(crate) fn run_here(
        core: JobCore,
        served: Arc<dyn Served>,
        items: Received,
        count: usize,
        budget: Duration,
        (worker, attempt): (WorkerId, u32),
    ) -> Over {
        let over = Arc::new(Mutex::new(None));
        let theirs = over.clone();
        let answer = move |over| *theirs.lock().unwrap_or_else(PoisonError::into_inner) = Some(over);
        let visitor = Self::new(core, Work::Served(served), items, count, budget, answer);
        let range = 0..visitor.core.items();
        let chunk = Chunk::at_hand(SharedJob::new(visitor.clone()), range, attempt, 0);
        visitor.run(&chunk, Some(worker), &mut Progress::new(0));
        let over = over.lock().unwrap_or_else(PoisonError::into_inner).take();
        over.expect("a chunk that ran is answered for")
    }

    pub(crate) fn core(&self) -> &Arc<JobCore> {
        &self.core
    }

    /// Answers as returned, also if a slot is at it: what comes of it is not wanted.
    pub(crate) fn give_up(&self) {
        if !self.withdraw() {
            self.answer(Over::returned());
        }
    }

    /// Answers as returned, if no slot has begun; says whether that was so.
    pub(crate) fn withdraw(&self) -> bool {
        let is_taken = self.baggage().take().is_some();
        if is_taken {
            self.answer(Over::returned());
        }
        is_taken
    }

    fn answer(&self, over: Over) {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(answer) = answer {
            answer(over);
        }
    }

    fn baggage(&self) -> MutexGuard<'_, Option<Received>> {
        self.baggage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Items fail for one reason: all, but for those that are too many to be told why. These come back.
    fn failed(&self, cause: &FailureCause, worker: Option<WorkerId>) -> Vec<ItemFailure> {
        let told = 0..self.count.min(MOST_FAILURES);
        told.map(|index| ItemFailure::new(index, worker, 1, cause.clone())).collect()
    }
}

/// Answers for a chunk whose thread may die.
struct Watched<'a> {
    visitor: &'a Visitor,
    /// What the slot here is told of the chunk, which is one item to it.
    whole: &'a mut Progress,
    visit: Option<Box<dyn Visit>>,
    /// Why the item behind those of the visit has failed before it began.
    unread: Option<FailureCause>,
    progress: Progress,
    start: Instant,
    worker: Option<WorkerId>,
}

impl Watched<'_> {
    fn answer(&mut self, death: Option<Option<Lost>>) {
        if self.visitor.core.is_stopped() {
            // Its call has ended; what there is of it is no result.
            self.visit = None;
            return self.visitor.answer(Over::returned());
        }
        let Progress { mut reached, mut failures, blame, .. } = std::mem::replace(&mut self.progress, Progress::new(0));
        let (count, worker) = (self.visitor.count, self.worker);
        if self.visitor.core.is_list() && reached > 0 {
            // One list that failed is all of its items.
            failures = failures.first().map_or_else(Vec::new, |failure| self.visitor.failed(&failure.cause, worker));
            reached = if failures.is_empty() { count } else { failures.len() };
        }
        if let Some(cause) = self.unread.take().filter(|_| reached == self.visitor.core.items() && death.is_none()) {
            failures.push(ItemFailure::new(reached, worker, 1, cause));
            reached += 1;
        }
        let results = match self.visit.take().filter(|_| failures.len() < reached).map(|visit| visit.results()) {
            None => Parcel::default(),
            Some(Ok(results)) => results,
            Some(Err(cause)) => {
                failures = self.visitor.failed(&cause, worker);
                reached = failures.len();
                Parcel::default()
            }
        };
        let elapsed = self.start.elapsed();
        let died = death.map(|lost| {
            if reached == 0 {
                self.whole.start = self.whole.reached; // so that it counts as no work done
            }
            let ran = if self.visitor.core.is_list() { count } else { blame.map_or(1, |blame| blame.items.len()) };
            let count = if lost.as_ref().is_none_or(|lost| lost.is_begun) { ran as u64 } else { 0 };
            let exit = lost.map(|lost| Exit { signal: None, story: how_it_ended(&lost), stderr: String::new() });
            Died { first: reached as u64, count, exit, is_overdue: false }
        });
        self.visitor.answer(Over { reached, failures, elapsed, worker, died, results });
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.answer(Some(lost_gpu()));
        }
    }
}

impl Job for Visitor {
    fn core(&self) -> &Arc<JobCore> {
        &self.core
    }

    fn shape(&self) -> Shape {
        Shape::Whole
    }

    fn run(&self, chunk: &Chunk<SharedJob>, worker: Option<WorkerId>, progress: &mut Progress) {
        progress.reached = chunk.range.end;
        let Some(items) = self.baggage().take() else { return };
        let served = match &self.work {
            Work::Served(served) => served,
            #[cfg(target_os = "linux")]
            Work::Shipped(call) => {
                let attempt = self.core.tried().saturating_add(chunk.attempt);
                let over = call.run(&self.core, items, self.count, self.budget, (worker, attempt));
                self.answer(if self.core.is_stopped() { Over::returned() } else { over });
                return call.rest(worker);
            }
        };
        let start = Instant::now();
        let inner = Progress::new(0);
        let mut watched =
            Watched { visitor: self, whole: progress, visit: None, unread: None, progress: inner, start, worker };
        match served.open(&self.core, items) {
            Ok(Opened { visit, unread }) => {
                watched.unread = unread;
                let visit = watched.visit.insert(visit);
                let all = self.core.items();
                let progress = &mut watched.progress;
                let is_enough = |progress: &Progress| {
                    progress.failures.len() >= MOST_FAILURES / 2
                        || self.core.is_stopped()
                        || start.elapsed() >= self.budget
                };
                while progress.reached < all && !is_enough(progress) {
                    progress.start = progress.reached;
                    let range = progress.reached..all;
                    let handle = chunk.handle.clone();
                    let (attempt, retries) = (chunk.attempt, 0); // what fails is its Manager's to try again
                    visit.run(&Chunk::at_hand(handle, range, attempt, retries), worker, progress);
                }
            }
            Err(cause) => {
                let failures = self.failed(&cause, worker);
                (watched.progress.reached, watched.progress.failures) = (failures.len(), failures);
            }
        }
        watched.answer(None);
    }
}

/// How a call that a Manager ended ends its chunks here.
pub(crate) fn ending(overdue: bool) -> Ending {
    // A thread that does not come back from an item that ran out of time is replaced.
    if overdue { Ending::TimedOut } else { Ending::Cancelled }
}
