//! From built to ended: when a distributed function starts its slots, what it still accepts, and how it ends.
//!
//! | state | entered by | `map`, `columns` |
//! |---|---|---|
//! | new | `build` | start the slots and run |
//! | running | the first call that has items | run; refused with `EndedAfterCall` if that option is set |
//! | ended | `finished`, `shutdown`, or an empty or nested first call under `endaftercall` | refused with the ending |

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use distfun_core::{failure::Ending, options::Settings};

use crate::{
    call::{Call, Output, Prepared},
    compute::thread::current_worker,
    error::EndError,
    events,
    job::{Job, JobCore, SharedJob, next_call_id, run_inline},
    kernel::ListKernel,
    messages::ShutdownReport,
    pool::{Pool, Session, gpus},
    progress,
    retry::Retry,
    share::{Share, Shares},
    stream::{Opened, Seat},
};

/// What the clones of a distributed function share.
pub struct Lifecycle {
    settings: Settings,
    /// Run every call in the calling thread.
    sequential: bool,
    retry: Retry,
    state: Mutex<State>,
    pub(crate) shares: Shares,
}

enum State {
    New,
    Running(Arc<Session>),
    /// Its threads may still be ending.
    Ended(Ending, Weak<Pool>),
}

/// Where a call may run.
enum Place {
    Slots(Arc<Session>),
    Here,
    Nowhere(Ending),
}

impl Lifecycle {
    pub(crate) fn new(settings: Settings, sequential: bool, retry: Retry) -> Self {
        Self { settings, sequential, retry, state: Mutex::new(State::New), shares: Shares::default() }
    }

    pub(crate) fn slots(&self) -> usize {
        if self.sequential { 1 } else { self.settings.slots + gpus(&self.settings).len() }
    }

    /// Starts a call of `items` items.
    pub(crate) fn call<O: Output>(
        &self,
        function: &'static str,
        items: usize,
        stops_at_failure: bool,
        share: &Share,
        prepare: impl FnOnce(JobCore) -> Prepared<O>,
    ) -> Call<O> {
        let ends = self.settings.endaftercall;
        let core = JobCore::new(next_call_id(), function, items, &self.settings, stops_at_failure, ends)
            .sharing(share.get())
            .retrying(self.retry.clone());
        let Prepared { job, body } = prepare(core);
        match self.place(job.core(), items == 0) {
            Place::Slots(session) => {
                session.0.submit(job);
                Call::new(body, Some(session), ends)
            }
            Place::Here => {
                events::job_submitted(&job, events::Place::Here);
                run_inline(&job, current_worker());
                if self.settings.verbose {
                    progress::summary(job.core());
                }
                Call::new(body, None, false)
            }
            Place::Nowhere(ending) => {
                events::job_submitted(&job, events::Place::Nowhere);
                job.core().finish(ending, Vec::new());
                Call::new(body, None, false)
            }
        }
    }

    /// Starts a call whose items are pulled from an iterator.
    pub(crate) fn open<A: Send + 'static, R: Send + 'static>(
        &self,
        kernel: ListKernel<A, R>,
        share: &Share,
    ) -> Opened<A, R> {
        let ends = self.settings.endaftercall;
        let core = JobCore::new(next_call_id(), kernel.name(), 0, &self.settings, false, ends)
            .sharing(share.get())
            .retrying(self.retry.clone());
        let job = kernel.open(core);
        let seat = match self.place(Job::core(&*job), false) {
            Place::Slots(session) => {
                session.0.submit(SharedJob::new(job.clone()));
                Seat::Slots { session, ends }
            }
            Place::Here => {
                events::job_submitted(&SharedJob::new(job.clone()), events::Place::Here);
                Seat::Here
            }
            Place::Nowhere(ending) => {
                events::job_submitted(&SharedJob::new(job.clone()), events::Place::Nowhere);
                Job::core(&*job).finish(ending, Vec::new());
                Seat::Here
            }
        };
        // Where only other machines compute, the window begins with as much as for one slot, and grows.
        Opened { job, seat, slots: self.slots().max(1) }
    }

    fn place(&self, core: &JobCore, is_empty: bool) -> Place {
        if let Some(ending) = core.refusal() {
            return Place::Nowhere(ending);
        }
        let place = self.seat(is_empty);
        if self.settings.endaftercall && !matches!(place, Place::Nowhere(_)) {
            // The one call has its own by now. Only now: one that came a moment later, and found no data, is refused.
            self.shares.release();
        }
        place
    }

    fn seat(&self, is_empty: bool) -> Place {
        let mut state = self.lock();
        match &*state {
            State::Ended(ending, _) => return Place::Nowhere(*ending),
            State::Running(_) if self.settings.endaftercall => return Place::Nowhere(Ending::EndedAfterCall),
            State::Running(session) if !self.runs_here(is_empty) => return Place::Slots(session.clone()),
            State::Running(_) | State::New => {}
        }
        if self.runs_here(is_empty) {
            if self.settings.endaftercall {
                *state = State::Ended(Ending::EndedAfterCall, Weak::new());
            }
            return Place::Here;
        }
        match Pool::start(self.settings.clone(), false) {
            Ok(pool) => {
                let session = Arc::new(Session(pool));
                *state = State::Running(session.clone());
                Place::Slots(session)
            }
            Err(_) => Place::Nowhere(Ending::NoWorkers), // `manager.stopped` says why
        }
    }

    /// A call inside a function runs on the slot that it has; an empty one needs none.
    fn runs_here(&self, is_empty: bool) -> bool {
        is_empty || self.sequential || current_worker().is_some()
    }

    /// Ends everything with `ending`, unless it has ended more strongly before. Waits until the threads are gone.
    pub(crate) fn end(&self, ending: Ending) -> Result<(), EndError> {
        let mut state = self.lock();
        let (ending, pool) = match &*state {
            State::New => (ending, Weak::new()),
            State::Running(session) => (ending, Arc::downgrade(&session.0)),
            State::Ended(before, pool) => (if *before == Ending::ShutDown { *before } else { ending }, pool.clone()),
        };
        let running = pool.upgrade();
        let before = std::mem::replace(&mut *state, State::Ended(ending, pool));
        drop(state);
        self.shares.release();
        let Some(pool) = running else { return Ok(()) };
        pool.stop(ending);
        drop(before);
        pool.wait_gone(false)
    }

    /// The same on every machine; says what came of each.
    pub(crate) fn shut_down(&self) -> Result<ShutdownReport, EndError> {
        let pool = match &*self.lock() {
            State::Running(session) => Some(session.0.clone()),
            _ => None,
        };
        self.end(Ending::ShutDown)?;
        let nodes = pool.map(|pool| pool.machine_ends()).unwrap_or_default();
        Ok(ShutdownReport::of(nodes))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
