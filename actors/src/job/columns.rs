//! A column call: a matrix in, its columns in blocks through the function, the results pasted into one array.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use distfun_core::{
    columns::ColumnLayout,
    engine::{Blame, Chunk, Sentence, Shape},
    failure::{Ending, FailureCause, ItemFailure},
    function::{ColumnsOutput, Context},
    ids::WorkerId,
};
use ndarray::{ArcArray2, Array2, ArrayView2, Axis, Slice};

use super::{Arrived, Job, JobCore, Load, Progress, SharedJob, Shelf, Travel, Unpacked};
use crate::{
    compute::{
        catch::{catch, contain},
        lend::LentMatrix,
        parts::{Items, Output},
    },
    wire::ColumnWire,
};

/// A function over a block of columns with its kind erased.
pub(crate) trait ColumnLoop<T, Y>: Send + Sync {
    fn call(&self, block: ArrayView2<'_, T>, context: &Context<'_>) -> Y;
}

/// The input of a column call. It is never copied: blocks are views.
pub(crate) enum Matrix<T> {
    Owned(Array2<T>),
    Counted(Arc<Array2<T>>),
    Shared(ArcArray2<T>),
    Lent(LentMatrix<T>),
}

impl<T> Matrix<T> {
    pub(crate) fn view(&self) -> ArrayView2<'_, T> {
        match self {
            Self::Owned(x) => x.view(),
            Self::Counted(x) => x.view(),
            Self::Shared(x) => x.view(),
            Self::Lent(x) => x.view(),
        }
    }

    fn layout(&self) -> ColumnLayout {
        let view = self.view();
        let bytes = |axis: usize| size_of::<T>() * view.strides()[axis].unsigned_abs();
        ColumnLayout { rows: view.nrows(), columns: view.ncols(), column_stride: bytes(1), row_stride: bytes(0) }
    }
}

struct Results<Y: ColumnsOutput> {
    /// An allocation to fill, until the first block tells the number of rows.
    reuse: Vec<Y::Elem>,
    form: Option<Form>,
    blank: Shelf<Output<Y::Elem>>,
    filled: Shelf<Items<Y::Elem>>,
    is_taken: bool,
}

/// Rows and memory order of the result, as the first block that finished has them.
///
/// Column by column, K x N lies in memory as one row of K * N; `scale` (K then, else 1) turns columns into places.
#[derive(Debug, Clone, Copy)]
struct Form {
    rows: usize,
    column_major: bool,
    scale: usize,
}

impl Form {
    fn places(&self, columns: &Range<usize>) -> Range<usize> {
        columns.start * self.scale..columns.end * self.scale
    }
}

pub(crate) struct ColumnJob<T, Y: ColumnsOutput> {
    core: Arc<JobCore>,
    function: Arc<dyn ColumnLoop<T, Y>>,
    wire: Option<Arc<dyn ColumnWire<T, Y>>>,
    input: Matrix<T>,
    results: Mutex<Results<Y>>,
}

/// The columns that have results: all of them, or the runs there are.
pub(crate) enum Columns<Y> {
    All(Y),
    Runs(Vec<(Range<usize>, Y)>),
}

impl<T, Y> ColumnJob<T, Y>
where
    T: Send + Sync + 'static,
    Y: ColumnsOutput,
{
    /// `reuse` is an allocation for the result.
    pub(crate) fn new(
        core: impl Into<Arc<JobCore>>,
        function: Arc<dyn ColumnLoop<T, Y>>,
        wire: Option<Arc<dyn ColumnWire<T, Y>>>,
        input: Matrix<T>,
        reuse: Vec<Y::Elem>,
    ) -> Self {
        let blank = Shelf::default();
        let results = Mutex::new(Results { reuse, form: None, blank, filled: Shelf::default(), is_taken: false });
        Self { core: core.into(), function, wire, input, results }
    }

    /// How blocks and results travel.
    pub(crate) fn wire(&self) -> &dyn ColumnWire<T, Y> {
        &**self.wire.as_ref().expect("a job that travels")
    }

    /// The result as far as it is there. A matrix without columns is given to the function once, so that the result has
    /// the rows that `fun(x)` has.
    pub(crate) fn take_results(&self, ending: Ending) -> Result<Columns<Y>, FailureCause> {
        if self.core.items() == 0 && ending == Ending::Complete {
            let context = self.core.context(None, 1);
            context.enter_block(0..0);
            let result = catch(|| self.function.call(self.input.view(), &context))?;
            let got = result.columns();
            return if got == 0 {
                Ok(Columns::All(result))
            } else {
                Err(FailureCause::WrongLength { block: 0..0, got })
            };
        }
        let mut results = self.results();
        results.is_taken = true;
        let filled = std::mem::take(&mut results.filled);
        results.blank.clear();
        let Some(form) = results.form else { return Ok(Columns::Runs(Vec::new())) };
        drop(results);
        let Form { rows, column_major, scale } = form;
        Ok(match Items::assemble(filled.into_parts()) {
            Ok(all) => Columns::All(Y::from_elements(all, rows, self.core.items(), column_major)),
            Err(parts) => {
                let run = |part: Items<Y::Elem>| {
                    let columns = part.range().start / scale..part.range().end / scale;
                    let width = columns.len();
                    (columns, Y::from_elements(part.into_vec(), rows, width, column_major))
                };
                Columns::Runs(parts.into_iter().map(run).collect())
            }
        })
    }

    /// Runs one block. A block that panics is halved until the columns that panic stand alone.
    fn block(&self, block: &Range<usize>, context: &Context<'_>) -> Result<(), FailureCause> {
        let result = catch(|| {
            let view = self.input.view();
            context.enter_block(block.clone());
            let result = self.function.call(view.slice_axis(Axis(1), Slice::from(block.clone())), context);
            context.leave();
            result
        })?;
        self.place(block, result)
    }

    /// Puts the result for one block where it belongs.
    fn place(&self, block: &Range<usize>, result: Y) -> Result<(), FailureCause> {
        let (rows, got) = (result.rows(), result.columns());
        if got != block.len() {
            contain(|| drop(result));
            return Err(FailureCause::WrongLength { block: block.clone(), got });
        }
        let mut results = self.results();
        if results.is_taken {
            drop(results);
            contain(|| drop(result)); // the call has ended meanwhile
            return Ok(());
        }
        let form = match results.form {
            Some(form) => form,
            None => {
                let column_major = result.is_column_major();
                let (lines, scale) = if column_major { (1, rows) } else { (rows, 1) };
                let reuse = std::mem::take(&mut results.reuse);
                results.blank.put(Output::blank(reuse, lines, self.core.items() * scale));
                *results.form.insert(Form { rows, column_major, scale })
            }
        };
        if rows != form.rows {
            drop(results);
            contain(|| drop(result));
            return Err(FailureCause::WrongRows { block: block.clone(), expected: form.rows, got: rows });
        }
        drop(results);
        // An array may own elements that it does not show; they are dropped here.
        let elements = catch(|| result.into_elements(form.column_major))?;
        let output = self.results().blank.take(&form.places(block));
        let Some(output) = output else {
            contain(|| drop(elements)); // as above
            return Ok(());
        };
        let filled = output.fill(elements);
        let mut results = self.results();
        // The function may have returned early because the call has ended: that is no result.
        if results.is_taken || self.core.is_stopped() {
            drop(results);
            contain(|| drop(filled));
        } else {
            results.filled.put_joined(filled);
        }
        Ok(())
    }

    fn results(&self) -> MutexGuard<'_, Results<Y>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, Y> Job for ColumnJob<T, Y>
where
    T: Send + Sync + 'static,
    Y: ColumnsOutput,
{
    fn core(&self) -> &Arc<JobCore> {
        &self.core
    }

    fn is_columns(&self) -> bool {
        true
    }

    fn shape(&self) -> Shape {
        Shape::Blocks { stream_cost: self.input.layout().stream_cost() }
    }

    fn travel(&self) -> Option<Travel<'_>> {
        let wire = self.wire.as_ref()?;
        let (schema, fingerprint) = (wire.schema(), wire.fingerprint());
        Some(Travel { schema, fingerprint, site: wire.site(), is_lists: false, is_raw: wire.is_raw() })
    }

    fn pack(&self, range: &Range<usize>) -> Result<Load, FailureCause> {
        let wire = self.wire.as_ref().expect("a job that travels");
        let view = self.input.view();
        let parcel = wire.pack(view.slice_axis(Axis(1), Slice::from(range.clone())))?;
        Ok(Load { parcel, end: range.end })
    }

    fn unpack(&self, arrived: Arrived<'_>) -> Result<Unpacked, FailureCause> {
        let wire = self.wire.as_ref().expect("a job that travels");
        let (count, runs) = (arrived.count(), arrived.runs());
        if count == 0 {
            return Ok(Unpacked::default());
        }
        let result = wire.unpack_result(arrived.results, count)?;
        if let [run] = runs.as_slice() {
            self.place(run, result)?;
            return Ok(Unpacked::default());
        }
        // Between columns that failed.
        let rows = result.rows();
        let mut elements = result.into_elements(true).into_iter();
        for run in runs {
            let part: Vec<Y::Elem> = elements.by_ref().take(rows * run.len()).collect();
            self.place(&run, Y::from_elements(part, rows, run.len(), true))?;
        }
        Ok(Unpacked::default())
    }

    fn run(&self, chunk: &Chunk<SharedJob>, worker: Option<WorkerId>, progress: &mut Progress) {
        let context = self.core.context(worker, chunk.attempt);
        // Blocks still to do, the next one on top.
        let mut blocks = vec![chunk.range.clone()];
        while let Some(block) = blocks.pop()
            && !self.core.is_stopped()
        {
            // Nobody knows at which of them the thread dies.
            progress.blame = Some(Blame { items: block.clone(), sentence: Sentence::Again(None), away: None });
            let outcome = self.block(&block, &context);
            progress.blame = None;
            match outcome {
                Ok(()) => progress.reached = block.end,
                Err(FailureCause::Panicked { .. }) if block.len() > 1 => {
                    let middle = block.start + block.len() / 2;
                    blocks.extend([middle..block.end, block.start..middle]);
                }
                Err(cause) => {
                    let fail = |index| ItemFailure::new(index, worker, chunk.attempt, cause.clone());
                    let (again, failures) = self.core.sort(chunk.retries, block.clone().map(fail).collect());
                    progress.again.extend(again);
                    progress.failures.extend(failures);
                    progress.reached = block.end;
                }
            }
        }
    }
}
