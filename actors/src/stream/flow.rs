//! The working of a stream: pulls items, hands them to the slots, and collects the outcomes.

use std::{
    fmt,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Weak},
    task::{Poll, Waker},
    thread,
};

use distfun_core::{
    engine::Event,
    failure::{Ending, ItemFailure},
    ids::CallId,
};

use super::window::{Pulled, Window};
use crate::{
    call::{Canceller, Progress},
    compute::{
        catch::discard,
        thread::{KeepStates, current_worker},
    },
    events,
    job::{Job, JobCore, ListJob, Ready, SharedJob, run_in_order},
    manager::is_manager_thread,
    pool::Session,
};

/// Where an open call runs.
pub(crate) enum Seat {
    /// On these slots, which may end with it.
    Slots { session: Arc<Session>, ends: bool },
    /// In the thread that asks for results; also a call that was refused.
    Here,
}

/// An open call of which nothing has been asked yet.
pub(crate) struct Opened<A, R> {
    pub(crate) job: Arc<ListJob<A, R>>,
    pub(crate) seat: Seat,
    pub(crate) slots: usize,
}

pub(super) struct Flow<I: Iterator, R> {
    /// None when used up.
    source: Option<I>,
    job: Arc<ListJob<I::Item, R>>,
    seat: Seat,
    pub(super) window: Window<I::Item>,
    pub(super) in_order: bool,
    /// Outcomes taken from the job and not given yet.
    at_hand: AtHand<R>,
    /// In input order: the next item whose outcome is wanted.
    next: usize,
    is_over: bool,
}

enum AtHand<R> {
    Results(usize, std::vec::IntoIter<R>),
    Failed(Option<ItemFailure>),
}

pub(super) type Outcome<R> = (usize, Result<R, ItemFailure>);

impl<I, R> Flow<I, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    R: Send + 'static,
{
    pub(super) fn new(source: I, opened: Opened<I::Item, R>) -> Self {
        let Opened { job, seat, slots } = opened;
        let mut window = Window::new(slots, size_of::<I::Item>() + size_of::<R>());
        if matches!(seat, Seat::Here) {
            window.limit_items(1); // nothing is gained by running ahead
        }
        Self {
            source: Some(source),
            job,
            seat,
            window,
            in_order: true,
            at_hand: AtHand::Failed(None),
            next: 0,
            is_over: false,
        }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress::of(self.core())
    }

    pub(super) fn id(&self) -> CallId {
        self.core().id
    }

    pub(super) fn canceller(&self) -> Canceller {
        let pool = match &self.seat {
            Seat::Slots { session, .. } => Arc::downgrade(&session.0),
            Seat::Here => Weak::new(),
        };
        Canceller::new(pool, self.id())
    }

    /// Everything has been given.
    pub(super) fn is_over(&self) -> bool {
        self.is_over && self.count_at_hand() == 0
    }

    /// An outcome, if one is there without looking further.
    #[inline]
    pub(super) fn at_hand(&mut self) -> Option<Outcome<R>> {
        match &mut self.at_hand {
            AtHand::Results(index, results) => {
                let result = results.next()?;
                *index += 1;
                Some((*index - 1, Ok(result)))
            }
            AtHand::Failed(failure) => failure.take().map(|failure| (failure.index, Err(failure))),
        }
    }

    /// Looks for the next outcome; calls `waker` when it is worth looking again.
    pub(super) fn poll(&mut self, waker: &Waker) -> Poll<Option<Outcome<R>>> {
        loop {
            if let Some(outcome) = self.at_hand() {
                return Poll::Ready(Some(outcome));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            let may_pull_more = self.pull();
            if self.fetch() || may_pull_more {
                continue;
            }
            if !self.is_all_there() {
                self.core().wake_at_news(waker);
                if !self.fetch() && !self.is_all_there() {
                    return Poll::Pending;
                }
            } else if !self.fetch() {
                self.take_the_end();
            }
        }
    }

    /// The call has ended, and no outcome of it can still be on its way.
    fn is_all_there(&self) -> bool {
        match self.core().ending() {
            None => false,
            // Every item has its outcome, but the thread that brings the last failure may be slower than the end.
            Some(Ending::Complete | Ending::ItemsFailed) => self.window.first_missing().is_none(),
            Some(_) => true,
        }
    }

    /// Takes outcomes from the job: those of the next item and its followers, or any.
    fn fetch(&mut self) -> bool {
        match self.job.take_ready(self.in_order.then_some(self.next)) {
            Some(Ready::Results(items, results)) => {
                self.settle(items.clone());
                self.at_hand = AtHand::Results(items.start, results.into_iter());
            }
            Some(Ready::Failed(failure)) => {
                self.settle(failure.index..failure.index + 1);
                self.at_hand = AtHand::Failed(Some(failure));
            }
            None => return false,
        }
        true
    }

    fn settle(&mut self, items: Range<usize>) {
        self.window.took(&items);
        self.next = items.end;
    }

    /// The call has ended without an outcome of the items that are left. In input order that is so for the next item;
    /// others behind it may still have one.
    fn take_the_end(&mut self) {
        let ending = self.core().ending().unwrap_or(Ending::Cancelled);
        let missing = self.window.first_missing();
        let cut = match missing {
            Some(index) => {
                self.settle(index..index + 1);
                Some(index)
            }
            None => {
                self.is_over = true;
                // A stream that was cut short must not look like one whose input was used up.
                self.source.take().map(|_| self.core().items())
            }
        };
        self.at_hand = AtHand::Failed(cut.map(|index| ItemFailure::not_run(index, ending)));
    }

    /// After the one call of an `endaftercall` function: waits until everything is freed.
    pub(super) fn leave(&mut self) {
        if let Seat::Slots { session, ends: true } = std::mem::replace(&mut self.seat, Seat::Here)
            && let Err(error) = session.0.wait_gone(false)
        {
            tracing::warn!(%error, "after the call");
        }
    }

    /// Blocks until there is news; on the Manager's own thread, which must not, ends the call instead.
    pub(super) fn park(&self) {
        if let (true, Seat::Slots { session, .. }) = (is_manager_thread(), &self.seat) {
            return session.0.cancel(self.id(), Ending::WaitOnManager);
        }
        thread::park();
    }

    /// Pulls items while the window has room; says whether it should be asked again, because the iterator takes its time.
    fn pull(&mut self) -> bool {
        if self.core().is_ended() {
            return false;
        }
        let Some(source) = &mut self.source else { return false };
        let mut pulled = Pulled::default();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.window.pull(source, &mut pulled)));
        // Both the iterator and its drop may panic: what it gave before is under way by then, and a call that has all of
        // its items is closed. So whoever catches the panic can go on.
        let _used_up = if pulled.is_all { self.source.take() } else { None };
        let (first, count) = (self.core().items(), pulled.items.len());
        if count > 0 {
            self.window.sent(first, &pulled);
            self.job.feed(pulled.items);
        }
        match &self.seat {
            Seat::Slots { session, .. } => {
                if count > 0 {
                    session.0.step(Event::Extend(self.id(), count));
                }
                if self.source.is_none() {
                    session.0.step(Event::Close(self.id()));
                }
            }
            Seat::Here => {
                self.run_here(first..first + count);
                if self.source.is_none() {
                    self.job.end_here(Ending::Complete);
                }
            }
        }
        if let Err(payload) = outcome {
            resume_unwind(payload);
        }
        count > 0 && self.source.is_some()
    }

    fn run_here(&self, items: Range<usize>) {
        let job = SharedJob::new(self.job.clone());
        let _states = KeepStates::begin();
        let run = AssertUnwindSafe(|| run_in_order(&job, items, current_worker()));
        let progress = catch_unwind(run).unwrap_or_else(|payload| {
            // A bug in our own code, or one that a test injects: whoever asks again must not wait for this item.
            self.job.end_here(Ending::Cancelled);
            resume_unwind(payload)
        });
        events::inline_ended(&job, &progress);
        job.note_progress(&progress);
        if !progress.failures.is_empty() {
            job.note_failures(progress.failures);
        }
    }

    fn count_at_hand(&self) -> usize {
        match &self.at_hand {
            AtHand::Results(_, results) => results.len(),
            AtHand::Failed(failure) => failure.iter().len(),
        }
    }

    fn core(&self) -> &JobCore {
        Job::core(&*self.job)
    }
}

impl<I: Iterator, R> Drop for Flow<I, R> {
    fn drop(&mut self) {
        match &self.seat {
            _ if self.is_over => {}
            Seat::Slots { session, .. } => session.0.cancel(self.job.id(), Ending::Cancelled),
            Seat::Here => self.job.end_here(Ending::Cancelled),
        }
        if let AtHand::Results(_, results) = &mut self.at_hand {
            discard(results);
        }
    }
}

impl<I: Iterator, R> fmt::Debug for Flow<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultStream").field("id", &self.job.id()).field("window", &self.window).finish_non_exhaustive()
    }
}
