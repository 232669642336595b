//! Which failures are worth another try, how many, and how soon.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use distfun_core::{
    engine::{Chunk, Retries, jitter},
    failure::{FailureCause, ItemFailure},
    ids::WorkerId,
};

use crate::{
    compute::catch::catch,
    distribute::DistributeBuilder,
    events,
    job::{Progress, SharedJob},
    kernel::ListKernel,
};

/// How items that fail are run again: how often, how soon, and which failures are worth it. For
/// [`retry`](DistributeBuilder::retry).
///
/// An item fails by a panic, by `item_timeout`, and under `try_map` by an `Err`. What would only repeat itself is never tried
/// again: results of another number than items, and what can't travel to a machine or back.
///
/// ```
/// use std::time::Duration;
///
/// use distfun::{FailureCause, Retry, prelude::*};
///
/// // The first attempt at an odd item fails.
/// fn flaky(x: u32, context: &Context) -> Result<u32, String> {
///     if x % 2 == 1 && context.attempt() == 0 { Err(format!("{x} is busy")) } else { Ok(2 * x) }
/// }
///
/// let retry = Retry::times(3)
///     .backoff(Duration::from_millis(1), Duration::from_secs(1))
///     .when(|failure| matches!(&failure.cause, FailureCause::Returned(error) if error.to_string().ends_with("busy")));
/// assert_eq!(distribute!(flaky).retry(retry).build()?.try_map(0..4u32).wait()?, [0, 2, 4, 6]);
/// # Ok::<(), distfun::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "give it to .retry(…)"]
pub struct Retry {
    retries: Retries,
    when: Option<Arc<Predicate>>,
}

type Predicate = dyn Fn(&ItemFailure) -> bool + Send + Sync;

impl Retry {
    /// Runs an item again up to `n` times, after random waits of up to 50, 100 and 200 ms and so on, at most 5 s.
    pub fn times(n: u32) -> Self {
        Self { retries: Retries::times(n), when: None }
    }

    /// Waits before the second attempt for a random time of up to `first`, then of up to twice as long each time, at most
    /// `most`. Default: 50 ms and 5 s; zero tries again at once. Too short, and what is overloaded stays so; too long, and
    /// a call waits for its last item.
    pub fn backoff(mut self, first: Duration, most: Duration) -> Self {
        (self.retries.first, self.retries.most) = (first, most);
        self
    }

    /// Tries again only what failed in a way for which this is true. It sees the failure as the call's error would have it:
    /// item, worker, machine, attempt and cause. Under `try_map` the cause is
    /// [`FailureCause::Returned`](crate::FailureCause) with the error, which has its text, and downcasts to its type if that
    /// is an error type.
    ///
    /// It runs on the threads that compute, and on those that hear from machines; so it should be quick. If it panics, that
    /// is a no.
    pub fn when(mut self, worth: impl Fn(&ItemFailure) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(worth));
        self
    }

    pub(crate) fn none() -> Self {
        Self { retries: Retries::NONE, when: None }
    }

    pub(crate) fn retries(&self) -> Retries {
        self.retries
    }

    /// Whether anything is ever tried again.
    pub(crate) fn is_on(&self) -> bool {
        self.retries.times > 0
    }

    /// Whether an item that failed so is run again, if there is a try left.
    pub(crate) fn is_worth(&self, failure: &ItemFailure) -> bool {
        let may_pass = matches!(
            failure.cause,
            FailureCause::Panicked { .. } | FailureCause::Returned(_) | FailureCause::TimedOut { .. }
        );
        may_pass && self.when.as_ref().is_none_or(|when| catch(|| when(failure)).unwrap_or(false))
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("retries", &self.retries).finish_non_exhaustive()
    }
}

impl<K, S> DistributeBuilder<K, S> {
    /// Runs an item that fails again, up to `n` times, before it counts as failed: short for
    /// [`retry(Retry::times(n))`](Self::retry). Default: 0.
    ///
    /// ```
    /// use distfun::prelude::*;
    ///
    /// fn flaky(x: u32, context: &Context) -> u32 {
    ///     assert!(x != 2 || context.attempt() == 3, "not yet");
    ///     10 * x
    /// }
    ///
    /// assert_eq!(distribute!(flaky).retries(3).build()?.map(0..4u32).wait()?, [0, 10, 20, 30]);
    /// let error = distribute!(flaky).retries(2).build()?.map(0..4u32).wait().unwrap_err();
    /// assert_eq!(error.failed()[0].attempt, 3);
    /// # Ok::<(), distfun::Error>(())
    /// ```
    #[doc(alias = "max_retries")]
    pub fn retries(self, n: u32) -> Self {
        self.retry(Retry::times(n))
    }

    /// Runs items that fail again, as `retry` says; the last one that is given here, or by [`retries`](Self::retries), holds.
    ///
    /// - An item fails by a panic, by [`item_timeout`](Self::item_timeout), and under `try_map` by an `Err`. Under `map` an
    ///   `Err` is a result. An item whose worker dies is tried three times whatever this says.
    /// - While an item waits, others go on; then it runs alone, in any slot or at any machine. Its index, and the random
    ///   numbers of its [`Context`](crate::Context), are those of the first attempt;
    ///   [`attempt`](crate::Context::attempt) counts.
    /// - A call that ends otherwise (cancelled, out of time, `finished`) does not wait for such items: they did not run.
    /// - The function must be able to have its item twice: it takes it by reference, or the item is `Clone`, and a clone of
    ///   it is made before each attempt. That holds wherever the function runs, for streams too.
    /// - Of a block of columns that panics, only the columns that panic by themselves are run again. Of a list that fails under
    ///   `accept_lists` every item is, as a list of its own.
    /// - With `sequential`, and in calls made inside a distributed function, the thread sleeps meanwhile.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }
}

impl<A: Clone + Send + 'static, R: Send + 'static, S> DistributeBuilder<ListKernel<A, R>, S> {
    /// Lets [`retries`](Self::retries) clone the items of a function of `distribute_local`, which can't find out by itself
    /// that they are `Clone`, as `distribute!` does.
    ///
    /// ```
    /// use distfun::prelude::*;
    ///
    /// let limit = 3;
    /// let early = move |x: u32, context: &Context| assert!(x < limit || context.attempt() > 0);
    /// distribute_local(early).clone_items().retries(1).build()?.map(0..5u32).wait()?;
    /// # Ok::<(), distfun::Error>(())
    /// ```
    pub fn clone_items(mut self) -> Self {
        self.kernel = self.kernel.cloning(<[A]>::to_vec);
        self
    }
}

/// Runs items of a call on this thread that failed here, again and again as the call wants it.
pub(crate) fn retry_here(job: &SharedJob, worker: Option<WorkerId>, progress: &mut Progress) {
    let core = job.core();
    let retries = core.retry().retries();
    let mut jitter = jitter(core.id.0);
    // How often each has failed, by when it may run again.
    let mut waiting = BTreeMap::new();
    loop {
        for failure in std::mem::take(&mut progress.again) {
            let wait = retries.wait(failure.attempt, &mut jitter);
            events::item_retried(None, core, &failure, wait);
            waiting.insert((Instant::now() + wait, failure.index), failure.attempt);
        }
        // What comes behind the first failure is not wanted.
        waiting.retain(|(_, item), _| progress.first_failure.is_none_or(|first| *item < first));
        let Some(((at, item), failures)) = waiting.pop_first() else { break };
        thread::sleep(at.saturating_duration_since(Instant::now()));
        let (attempt, retries) = (failures + 1, retries.times - failures);
        let mut alone = Progress::new(item);
        let chunk = Chunk::at_hand(job.clone(), item..item + 1, attempt, retries);
        job.run(&chunk, worker, &mut alone);
        progress.failures.append(&mut alone.failures);
        progress.again = alone.again;
        progress.first_failure = progress.first_failure.into_iter().chain(alone.first_failure).min();
    }
    progress.failures.sort_by_key(|failure| failure.index);
}
