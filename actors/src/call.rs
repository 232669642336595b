//! The handles of a call: [`Call`] over input that the call owns, [`Scoped`] over input that it borrows.

mod folded;
mod output;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use distfun_core::{failure::Ending, ids::CallId};

pub use folded::Folded;
pub(crate) use output::CallBody;
pub(crate) use output::TryBody;
pub use output::{ColumnResult, Output};

use crate::{
    error::CallError,
    job::{JobCore, SharedJob},
    manager::is_manager_thread,
    pool::{Pool, Session},
    progress,
};

/// A call ready to be submitted: once for the compute threads, once for its caller.
pub(crate) struct Prepared<O: Output> {
    pub(crate) job: SharedJob,
    pub(crate) body: Arc<dyn CallBody<O>>,
}

/// A call that runs; its input is its own.
///
/// It started when it was made. [`wait`](Self::wait) for it, or `.await` it in any async code. Dropping it cancels it:
/// items that have not started are not run, and its memory is freed as soon as the running ones return.
///
/// # Cancel safety
/// Polling it in `select!` by reference and dropping that reference loses nothing; the call goes on.
#[must_use = "dropping a call cancels it; `.wait()` for it or `.await` it"]
pub struct Call<O: Output> {
    body: Arc<dyn CallBody<O>>,
    /// Where it runs, unless it ran in the calling thread.
    session: Option<Arc<Session>>,
    ends_session: bool,
    taken: bool,
}

impl<O: Output> Call<O> {
    pub(crate) fn new(body: Arc<dyn CallBody<O>>, session: Option<Arc<Session>>, ends_session: bool) -> Self {
        Self { body, session, ends_session, taken: false }
    }

    /// Blocks until the call has ended.
    ///
    /// # Errors
    /// When not every item has a result: how it ended, the failed items, and the results that are there. On the
    /// Manager's own thread, `Ending::WaitOnManager` at once.
    ///
    /// # Panics
    /// If it was polled before and has given its result.
    pub fn wait(self) -> Result<O, CallError<O>> {
        self.wait_limited(None)
    }

    /// Blocks until the call has ended, at most for `limit`. Then the call ends with `Ending::TimedOut` and what it has
    /// finished (results become visible chunk by chunk, about a millisecond each). A thread that is still inside an
    /// item 100 ms later is abandoned and replaced.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(self, limit: Duration) -> Result<O, CallError<O>> {
        self.wait_limited(Some(limit))
    }

    fn wait_limited(mut self, limit: Option<Duration>) -> Result<O, CallError<O>> {
        let in_time = self.block(limit);
        self.taken = true;
        let result = self.body.take();
        if in_time {
            self.leave();
        }
        result
    }

    /// Blocks until the call has ended and returns every item's own result, in input order. It never fails: items that
    /// did not run say how the call ended.
    pub fn settle(mut self) -> O::Settled {
        self.block(None);
        self.taken = true;
        let settled = self.body.settle();
        self.leave();
        settled
    }

    /// Says whether the call ended by itself within the limit.
    fn block(&self, limit: Option<Duration>) -> bool {
        assert!(!self.taken, "a call was waited for after it had returned its result");
        let core = self.body.core();
        if is_manager_thread() && !core.is_ended() {
            self.cancel(Ending::WaitOnManager);
        }
        let limit = limit.and_then(|limit| Instant::now().checked_add(limit));
        let in_time = core.wait(limit);
        if !in_time {
            self.cancel(Ending::TimedOut);
            core.wait(None); // the engine ends a cancelled call at once
        }
        if core.verbose
            && let Some(session) = &self.session
        {
            // A program may end right after its last call; the summary should still be there.
            session.0.redraw();
            core.shown.wait_until(Instant::now() + progress::INTERVAL);
        }
        in_time
    }

    /// After the one call of an `endaftercall` function: waits until everything is freed.
    fn leave(&mut self) {
        if let Some(session) = self.session.take()
            && self.ends_session
        {
            let _ = session.0.wait_gone(false); // those that are left behind are in the log
        }
    }

    fn poll_end(&self, context: &mut Context<'_>) -> Poll<()> {
        assert!(!self.taken, "a call was polled after it had returned its result");
        self.body.core().poll_ended(context.waker())
    }

    /// How far the call is.
    pub fn progress(&self) -> Progress {
        Progress::of(self.body.core())
    }

    /// A handle that can cancel this call from elsewhere.
    pub fn canceller(&self) -> Canceller {
        let pool = self.session.as_ref().map(|session| Arc::downgrade(&session.0)).unwrap_or_default();
        Canceller { pool, call: self.id() }
    }

    /// The call's id, as in [`Status`](crate::Status) and the log.
    pub fn id(&self) -> CallId {
        self.body.core().id
    }

    fn cancel(&self, ending: Ending) {
        if let Some(session) = &self.session {
            session.0.cancel(self.id(), ending);
        }
    }
}

impl<O: Output> Unpin for Call<O> {}

impl<O: Output> Future for Call<O> {
    type Output = Result<O, CallError<O>>;

    /// # Panics
    /// If polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.poll_end(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                self.taken = true;
                Poll::Ready(self.body.take())
            }
        }
    }
}

impl<O: Output> Drop for Call<O> {
    fn drop(&mut self) {
        if !self.taken {
            self.cancel(Ending::Cancelled);
        }
    }
}

impl<O: Output> fmt::Debug for Call<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("id", &self.id()).field("progress", &self.progress()).finish_non_exhaustive()
    }
}

/// A call over borrowed input, or into a borrowed buffer.
///
/// It starts inside [`wait`](Self::wait), which returns only when no thread uses the borrowed data any more; so it
/// can't be awaited, and forgetting it is harmless. Own the input (`Array2`, `ArcArray2`, `Arc<Array2>`, a `Vec`) for a
/// call that runs meanwhile, and that can be awaited, cancelled, limited in time and watched.
#[must_use = "a call over borrowed input starts in `.wait()`"]
pub struct Scoped<'a, O: Output, T = O>(Body<'a, O, T>);

enum Body<'a, O: Output, T> {
    /// Lends the input to a call for as long as the function given to it runs; then what to do with the call.
    Lends(Lend<'a, O>, fn(Call<O>) -> Result<T, CallError<O>>),
    Runs(Box<dyn FnOnce() -> Result<T, CallError<O>> + 'a>),
}

type Lend<'a, O> = Box<dyn FnOnce(&mut dyn FnMut(Call<O>)) + 'a>;

impl<'a, O: Output> Scoped<'a, O> {
    pub(crate) fn lending(lend: impl FnOnce(&mut dyn FnMut(Call<O>)) + 'a) -> Self {
        Self(Body::Lends(Box::new(lend), Call::wait))
    }
}

impl<'a, O: Output, T> Scoped<'a, O, T> {
    pub(crate) fn new(run: impl FnOnce() -> Result<T, CallError<O>> + 'a) -> Self {
        Self(Body::Runs(Box::new(run)))
    }

    /// Runs the call and blocks until it has ended and the borrowed data is free.
    ///
    /// # Errors
    /// When not every item has a result: how it ended, the failed items, and the results that are there.
    pub fn wait(self) -> Result<T, CallError<O>> {
        match self.0 {
            Body::Lends(lend, end) => of_call(lend, end),
            Body::Runs(run) => run(),
        }
    }
}

impl<'a, R: Send + 'static> Scoped<'a, Vec<R>> {
    /// Combines the results in pairs where they are made; see [`Call::fold_tree`].
    pub fn fold_tree<F>(self, identity: R, combine: F) -> Scoped<'a, Vec<R>, R>
    where
        R: 'a,
        F: Fn(R, R) -> R + Send + Sync + 'static,
    {
        let Body::Lends(lend, _) = self.0 else { unreachable!("a call into a buffer has no results to combine") };
        Scoped::new(move || of_call(lend, |call| call.fold_tree(identity, combine).wait()))
    }
}

/// What `end` makes of the call that `lend` gives it.
pub(crate) fn of_call<O: Output, T>(
    lend: impl FnOnce(&mut dyn FnMut(Call<O>)),
    end: impl FnOnce(Call<O>) -> Result<T, CallError<O>>,
) -> Result<T, CallError<O>> {
    let (mut end, mut result) = (Some(end), None);
    lend(&mut |call| result = end.take().map(|end| end(call)));
    result.expect("an input starts one call")
}

impl<O: Output, T> fmt::Debug for Scoped<'_, O, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scoped(not started)")
    }
}

/// Cancels one call, from any thread. Clones cancel the same call.
#[derive(Clone)]
pub struct Canceller {
    pool: Weak<Pool>,
    call: CallId,
}

impl Canceller {
    pub(crate) fn new(pool: Weak<Pool>, call: CallId) -> Self {
        Self { pool, call }
    }

    /// Ends the call with `Ending::Cancelled` and what it has finished. Nothing happens if it has ended. An item that
    /// runs goes on unless it asks `context.is_cancelled()`; its result is dropped.
    pub fn cancel(&self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.cancel(self.call, Ending::Cancelled);
        }
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Canceller({})", self.call)
    }
}

/// How far a call was at one moment. Items count when their chunk has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Items in all; of a stream, those pulled so far.
    pub items: usize,
    /// Items with an outcome.
    pub done: usize,
    /// Those among them that failed.
    pub failed: usize,
    /// Since the call started; stands still when it has ended.
    pub elapsed: Duration,
    /// Whether the call has ended.
    pub is_ended: bool,
    /// Whether it is the call of a stream, whose number of items nobody knows before its end.
    pub is_open: bool,
}

impl Progress {
    pub(crate) fn of(core: &JobCore) -> Self {
        let (done, failed) = core.counts();
        let is_ended = core.is_ended();
        let is_open = core.is_open && !is_ended;
        Self { items: core.items(), done, failed, elapsed: core.elapsed(), is_ended, is_open }
    }

    /// From 0 to 1, of a stream of what was pulled so far; 1 for a call without items.
    pub fn fraction(&self) -> f64 {
        if self.items == 0 { 1.0 } else { self.done as f64 / self.items as f64 }
    }

    /// Time left if the rest goes as the items so far did; none before the first, and none of a stream.
    pub fn eta(&self) -> Option<Duration> {
        let left = (self.items - self.done.min(self.items)) as f64;
        (self.done > 0 && !self.is_open).then(|| self.elapsed.mul_f64(left / self.done as f64))
    }
}
