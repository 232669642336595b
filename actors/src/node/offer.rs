//! What a node offers: functions with their types erased, and how a chunk of items runs through one.

use std::sync::Arc;

use distfun_core::{
    engine::Chunk,
    failure::{Ending, FailureCause},
    function::{Fingerprint, Schema},
    ids::WorkerId,
    payload::{Parcel, Received},
};

use crate::{
    call::ColumnResult,
    job::{ColumnJob, Columns, Job, JobCore, ListInput, ListJob, MAX_LOAD_ITEMS, Matrix, Progress, SharedJob},
    kernel::{ColumnKernel, ListKernel},
    wire::{ColumnWire, ListWire},
};

/// A function that a node can offer: what `function!(f)` returns.
#[diagnostic::on_unimplemented(
    message = "a node can't offer this as it is",
    label = "not what `function!` returns",
    note = "write `.offer(function!(f))`; nodes offer functions that capture nothing, whose items and results implement serde"
)]
pub trait Offer: sealed::Sealed {
    #[doc(hidden)]
    fn offered(self) -> Offered;
}

/// A function with its types erased.
pub struct Offered(pub(crate) Arc<dyn Served>);

mod sealed {
    pub trait Sealed {}
    impl<A, R> Sealed for crate::ListKernel<A, R> {}
    impl<T, Y> Sealed for crate::ColumnKernel<T, Y> {}
}

/// A function as a node sees it.
pub(crate) trait Served: Send + Sync {
    fn name(&self) -> &'static str;
    fn schema(&self) -> &Schema;
    fn fingerprint(&self) -> Fingerprint;
    /// Most items that a chunk may have.
    fn max_items(&self) -> u64;
    /// Makes a job of the `core.items()` items that have come. If one of them can't be read, it is made of those before
    /// it, and `core` says how many. Runs user code.
    ///
    /// # Errors
    /// Nothing of it can be read.
    fn open(&self, core: &Arc<JobCore>, items: Received) -> Result<Opened, FailureCause>;
}

/// A chunk whose items could be read.
pub(crate) struct Opened {
    pub(crate) visit: Box<dyn Visit>,
    /// Why the next item can't be.
    pub(crate) unread: Option<FailureCause>,
}

/// A chunk of items at a node.
pub(crate) trait Visit: Send + Sync {
    /// As [`Job::run`].
    fn run(&self, chunk: &Chunk<SharedJob>, worker: Option<WorkerId>, progress: &mut Progress);
    /// The results that are there, in order. Runs user code.
    fn results(&self) -> Result<Parcel, FailureCause>;
}

impl<A: Send + 'static, R: Send + 'static> Offer for ListKernel<A, R> {
    fn offered(self) -> Offered {
        Offered(Arc::new(self))
    }
}

impl<T: Send + Sync + 'static, Y: ColumnResult> Offer for ColumnKernel<T, Y> {
    fn offered(self) -> Offered {
        Offered(Arc::new(self))
    }
}

impl<A: Send + 'static, R: Send + 'static> ListKernel<A, R> {
    fn traveling(&self) -> &Arc<dyn ListWire<A, R>> {
        self.wire.as_ref().expect("`function!` makes functions that travel")
    }
}

impl<A: Send + 'static, R: Send + 'static> Served for ListKernel<A, R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn schema(&self) -> &Schema {
        self.traveling().schema()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.traveling().fingerprint()
    }

    fn max_items(&self) -> u64 {
        MAX_LOAD_ITEMS as u64
    }

    fn open(&self, core: &Arc<JobCore>, items: Received) -> Result<Opened, FailureCause> {
        let wire = self.traveling();
        let (items, unread) = wire.unpack(items, core.items());
        match &unread {
            Some(cause) if core.is_list() => return Err(cause.clone()),
            Some(_) => core.cut_to(items.len()),
            None => {}
        }
        let items = ListInput::Owned(items);
        let job = ListJob::new(core.clone(), self.run.clone(), Some(wire.clone()), items, Vec::new(), None);
        Ok(Opened { visit: Box::new(ListVisit(job)), unread })
    }
}

struct ListVisit<A, R>(ListJob<A, R>);

impl<A: Send + 'static, R: Send + 'static> Visit for ListVisit<A, R> {
    fn run(&self, chunk: &Chunk<SharedJob>, worker: Option<WorkerId>, progress: &mut Progress) {
        self.0.run(chunk, worker, progress);
    }

    fn results(&self) -> Result<Parcel, FailureCause> {
        let results = match self.0.take_results() {
            Ok(all) => all,
            Err(parts) => parts.into_iter().flat_map(crate::compute::parts::Items::into_vec).collect(),
        };
        if results.is_empty() {
            return Ok(Parcel::default());
        }
        self.0.wire().pack_results(results)
    }
}

impl<T: Send + Sync + 'static, Y: ColumnResult> ColumnKernel<T, Y> {
    fn traveling(&self) -> &Arc<dyn ColumnWire<T, Y>> {
        self.wire.as_ref().expect("`function!` makes functions that travel")
    }
}

impl<T: Send + Sync + 'static, Y: ColumnResult> Served for ColumnKernel<T, Y> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn schema(&self) -> &Schema {
        self.traveling().schema()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.traveling().fingerprint()
    }

    fn max_items(&self) -> u64 {
        u32::MAX.into() // columns without rows weigh nothing
    }

    fn open(&self, core: &Arc<JobCore>, items: Received) -> Result<Opened, FailureCause> {
        let wire = self.traveling();
        let block = wire.unpack(items, core.items())?;
        let job = ColumnJob::new(core.clone(), self.run.clone(), Some(wire.clone()), Matrix::Owned(block), Vec::new());
        Ok(Opened { visit: Box::new(ColumnVisit(job)), unread: None })
    }
}

struct ColumnVisit<T, Y: ColumnResult>(ColumnJob<T, Y>);

impl<T: Send + Sync + 'static, Y: ColumnResult> Visit for ColumnVisit<T, Y> {
    fn run(&self, chunk: &Chunk<SharedJob>, worker: Option<WorkerId>, progress: &mut Progress) {
        self.0.run(chunk, worker, progress);
    }

    fn results(&self) -> Result<Parcel, FailureCause> {
        let runs = match self.0.take_results(Ending::Complete)? {
            Columns::All(all) => return self.0.wire().pack_result(all),
            Columns::Runs(runs) => runs,
        };
        // Between columns that failed: the others travel side by side.
        let columns = runs.iter().map(|(columns, _)| columns.len()).sum();
        let Some(rows) = runs.first().map(|(_, run)| run.rows()) else { return Ok(Parcel::default()) };
        let elements: Vec<Y::Elem> = runs.into_iter().flat_map(|(_, run)| run.into_elements(true)).collect();
        self.0.wire().pack_result(Y::from_elements(elements, rows, columns, true))
    }
}
