//! What calls return: all of it, the parts that are there, or every item's own result.

use std::{error, ops::Range, sync::Arc};

use distfun_core::{
    failure::{Ending, FailureCause, ItemFailure},
    function::ColumnsOutput,
};
use ndarray::{Array1, Array2};

use crate::{
    error::{CallError, CallFailure},
    job::{
        ColumnJob, Columns, Job, JobCore, ListJob, Outcome,
        fold::{Combine, over_results},
    },
};

/// A type that a call returns: `Vec<R>` of a list call, `Array1<R>` or `Array2<R>` of a column call.
pub trait Output: Sized + Send + 'static + sealed::Sealed {
    /// Results that are there when a call did not end well, with their positions: `Vec<(usize, R)>` of a list call,
    /// `Vec<(Range<usize>, Array)>` of a column call, one entry per run of columns.
    type Finished: Send;
    /// Every item's own result: `Vec<Result<R, ItemFailure>>`; of a K x N column call `Vec<Result<Array1<R>, _>>`.
    type Settled: Send;
    /// What [`Call::fold_tree`](crate::Call::fold_tree) combines.
    #[doc(hidden)]
    type Leaf;
}

impl<R: Send + 'static> Output for Vec<R> {
    type Finished = Vec<(usize, R)>;
    type Settled = Vec<Result<R, ItemFailure>>;
    type Leaf = R;
}

impl<R: Send + 'static> Output for Array1<R> {
    type Finished = Vec<(Range<usize>, Array1<R>)>;
    type Settled = Vec<Result<R, ItemFailure>>;
    type Leaf = R;
}

impl<R: Send + 'static> Output for Array2<R> {
    type Finished = Vec<(Range<usize>, Array2<R>)>;
    type Settled = Vec<Result<Array1<R>, ItemFailure>>;
    type Leaf = Array1<R>;
}

mod sealed {
    pub trait Sealed {}
    impl<R> Sealed for Vec<R> {}
    impl<R> Sealed for ndarray::Array1<R> {}
    impl<R> Sealed for ndarray::Array2<R> {}
}

/// A call as its caller sees it. Results are taken once, after its end.
pub(crate) trait CallBody<O: Output>: Send + Sync {
    fn core(&self) -> &JobCore;
    fn take(&self) -> Result<O, CallError<O>>;
    fn settle(&self) -> O::Settled;
    /// Of list calls: combines the results from now on.
    fn fold(&self, _: Arc<dyn Combine<O::Leaf>>) {
        unreachable!("only lists are folded")
    }
    /// What they have come to, after the end; none of no items.
    fn take_folded(&self) -> Result<Option<O::Leaf>, CallError<O>> {
        unreachable!("only lists are folded")
    }
}

fn error<O: Output>(
    core: &JobCore,
    ending: Ending,
    failed: Vec<ItemFailure>,
    finished_count: usize,
    finished: O::Finished,
) -> CallError<O> {
    let reason = core.refused_for.get().cloned();
    let failure = CallFailure { function: core.function, ending, reason, items: core.items(), finished_count, failed };
    CallError::new(failure, finished)
}

/// Every item's place: its result, its failure, or how the call ended without it.
fn settle<R>(
    core: &JobCore,
    ending: Ending,
    finished: impl IntoIterator<Item = (usize, R)>,
    failed: Vec<ItemFailure>,
) -> Vec<Result<R, ItemFailure>> {
    let mut settled: Vec<_> = (0..core.items()).map(|index| Err(ItemFailure::not_run(index, ending))).collect();
    for failure in failed {
        let index = failure.index;
        settled[index] = Err(failure);
    }
    for (index, result) in finished {
        settled[index] = Ok(result);
    }
    settled
}

impl<A: Send + 'static, R: Send + 'static> ListJob<A, R> {
    fn take_indexed(&self) -> Result<Vec<R>, Vec<(usize, R)>> {
        match self.take_results() {
            Ok(all) => Ok(all),
            Err(_) if Job::core(self).items() == 0 => Ok(Vec::new()),
            Err(parts) => Err(parts.into_iter().flat_map(|part| part.range().zip(part.into_vec())).collect()),
        }
    }
}

fn indexed<R>(results: Result<Vec<R>, Vec<(usize, R)>>) -> Vec<(usize, R)> {
    results.map_or_else(|parts| parts, |all| all.into_iter().enumerate().collect())
}

impl<A: Send + 'static, R: Send + 'static> CallBody<Vec<R>> for ListJob<A, R> {
    fn core(&self) -> &JobCore {
        Job::core(self)
    }

    fn take(&self) -> Result<Vec<R>, CallError<Vec<R>>> {
        let core = Job::core(self);
        let Outcome { ending, failures } = core.take_outcome();
        match (ending, self.take_indexed()) {
            (Ending::Complete, Ok(all)) => Ok(all),
            (_, all) => {
                let finished = indexed(all);
                Err(error(core, ending, failures, finished.len(), finished))
            }
        }
    }

    fn settle(&self) -> Vec<Result<R, ItemFailure>> {
        let core = Job::core(self);
        let Outcome { ending, failures } = core.take_outcome();
        settle(core, ending, indexed(self.take_indexed()), failures)
    }

    fn fold(&self, combine: Arc<dyn Combine<R>>) {
        ListJob::fold(self, combine);
    }

    fn take_folded(&self) -> Result<Option<R>, CallError<Vec<R>>> {
        let core = Job::core(self);
        folded(core, core.take_outcome(), || ListJob::take_folded(self))
    }
}

/// Results that were combined are no results of items any more: an error only counts them.
fn folded<R: Send + 'static, T>(
    core: &JobCore,
    Outcome { ending, failures }: Outcome,
    take: impl FnOnce() -> Result<Option<T>, (usize, FailureCause)>,
) -> Result<Option<T>, CallError<Vec<R>>> {
    let (done, failed) = core.counts();
    let finished = done.saturating_sub(failed);
    if ending != Ending::Complete {
        return Err(error(core, ending, failures, finished, Vec::new()));
    }
    take().map_err(|(index, cause)| {
        let failed = vec![ItemFailure::new(index, None, 1, cause)];
        error(core, Ending::ItemsFailed, failed, finished, Vec::new())
    })
}

/// The caller's side of `try_map`: results without their `Ok`.
pub(crate) struct TryBody<A, R, E>(pub(crate) Arc<ListJob<A, Result<R, E>>>);

/// Leaves the `Ok`s with their positions; the `Err`s become failures.
fn split<A, R, E>(
    job: &ListJob<A, Result<R, E>>,
    all: Vec<(usize, Result<R, E>)>,
    failures: &mut Vec<ItemFailure>,
) -> Vec<(usize, R)>
where
    A: Send + 'static,
    R: Send + 'static,
    E: Into<Box<dyn error::Error + Send + Sync>> + Send + 'static,
{
    let mut finished = Vec::with_capacity(all.len());
    for (index, result) in all {
        match result {
            Ok(result) => finished.push((index, result)),
            Err(error) => {
                let cause = FailureCause::Returned(Arc::from(error.into()));
                let who = job.who_erred(index);
                let failure = ItemFailure::new(index, who.worker, who.attempt, cause);
                failures.push(match who.machine {
                    Some(machine) => failure.on(machine),
                    None => failure,
                });
            }
        }
    }
    failures.sort_by_key(|failure| failure.index);
    finished
}

impl<A, R, E> CallBody<Vec<R>> for TryBody<A, R, E>
where
    A: Send + 'static,
    R: Send + 'static,
    E: Into<Box<dyn error::Error + Send + Sync>> + Send + 'static,
{
    fn core(&self) -> &JobCore {
        Job::core(&*self.0)
    }

    fn take(&self) -> Result<Vec<R>, CallError<Vec<R>>> {
        let Outcome { ending, mut failures } = self.core().take_outcome();
        let finished = match (ending, self.0.take_indexed()) {
            // Collecting in place: `Result<R, E>` and `R` share the allocation where their layouts allow it.
            (Ending::Complete, Ok(all)) => return Ok(all.into_iter().filter_map(Result::ok).collect()),
            (_, all) => split(&self.0, indexed(all), &mut failures),
        };
        if let Ending::FirstFailure(first) = ending {
            // Which later items had been tried already depends on timing: only the first failure is told.
            failures.retain(|failure| failure.index == first);
        }
        Err(error(self.core(), ending, failures, finished.len(), finished))
    }

    fn settle(&self) -> Vec<Result<R, ItemFailure>> {
        let Outcome { ending, mut failures } = self.core().take_outcome();
        let finished = split(&self.0, indexed(self.0.take_indexed()), &mut failures);
        settle(self.core(), ending, finished, failures)
    }

    fn fold(&self, combine: Arc<dyn Combine<R>>) {
        self.0.fold(Arc::new(over_results::<R, E>(combine)));
    }

    fn take_folded(&self) -> Result<Option<R>, CallError<Vec<R>>> {
        let Outcome { ending, mut failures } = self.core().take_outcome();
        if let Ending::FirstFailure(first) = ending {
            drop(split(&self.0, indexed(self.0.take_indexed()), &mut failures));
            failures.retain(|failure| failure.index == first);
        }
        // Only a call whose items all returned `Ok` is complete.
        folded(self.core(), Outcome { ending, failures }, || Ok(self.0.take_folded()?.and_then(Result::ok)))
    }
}

/// What a column call returns: `Array1<R>` or `Array2<R>`.
pub trait ColumnResult: ColumnsOutput + Output<Finished = Vec<(Range<usize>, Self)>> {
    /// The result for one column.
    type One;
    #[doc(hidden)]
    fn by_column(self) -> Vec<Self::One>;
    #[doc(hidden)]
    fn settled(all: Vec<Result<Self::One, ItemFailure>>) -> Self::Settled;
}

impl<R: Send + 'static> ColumnResult for Array1<R> {
    type One = R;
    fn by_column(self) -> Vec<R> {
        self.into_iter().collect()
    }
    fn settled(all: Vec<Result<R, ItemFailure>>) -> Self::Settled {
        all
    }
}

impl<R: Send + 'static> ColumnResult for Array2<R> {
    type One = Array1<R>;
    fn by_column(self) -> Vec<Array1<R>> {
        let (rows, columns) = self.dim();
        let mut elements = self.into_elements(true).into_iter();
        (0..columns).map(|_| elements.by_ref().take(rows).collect()).collect()
    }
    fn settled(all: Vec<Result<Array1<R>, ItemFailure>>) -> Self::Settled {
        all
    }
}

impl<T, Y> CallBody<Y> for ColumnJob<T, Y>
where
    T: Send + Sync + 'static,
    Y: ColumnResult,
{
    fn core(&self) -> &JobCore {
        Job::core(self)
    }

    fn take(&self) -> Result<Y, CallError<Y>> {
        let core = Job::core(self);
        let Outcome { ending, failures } = core.take_outcome();
        match (ending, self.take_results(ending)) {
            (Ending::Complete, Ok(Columns::All(all))) => Ok(all),
            // Only a call without columns runs its function this late, and fails without an item to blame.
            (_, Err(cause)) => {
                let failed = vec![ItemFailure::new(0, None, 1, cause)];
                Err(error(core, Ending::ItemsFailed, failed, 0, Vec::new()))
            }
            (_, Ok(Columns::All(all))) => {
                Err(error(core, ending, failures, core.items(), vec![(0..core.items(), all)]))
            }
            (_, Ok(Columns::Runs(runs))) => {
                let count = runs.iter().map(|(columns, _)| columns.len()).sum();
                Err(error(core, ending, failures, count, runs))
            }
        }
    }

    fn settle(&self) -> Y::Settled {
        let core = Job::core(self);
        let Outcome { ending, failures } = core.take_outcome();
        let runs = match self.take_results(ending) {
            Ok(Columns::All(all)) => vec![(0..core.items(), all)],
            Ok(Columns::Runs(runs)) => runs,
            Err(_) => Vec::new(),
        };
        let finished = runs.into_iter().flat_map(|(columns, run)| columns.zip(run.by_column()));
        Y::settled(settle(core, ending, finished, failures))
    }
}
