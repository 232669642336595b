//! A function with its kind erased, so that a service can keep it: the loop over a chunk is compiled for the function,
//! and called through one pointer.

mod forms;

use std::{fmt, sync::Arc};

use distfun_core::{
    failure::FailureCause,
    function::{
        ByRef, ByValue, ColumnsFunction, ColumnsKind, ColumnsOutput, Context, RefFunction, ValueFunction, WireFunction,
    },
};
use ndarray::ArrayView2;
use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;

#[doc(hidden)]
pub use forms::GpuForm;
pub use forms::{AsFunction, AsKernel, GpuFormOf};

use crate::{
    call::{ColumnResult, Prepared, TryBody},
    compute::parts::{Items, Output, map_borrowed, map_owned},
    job::{Cloning, ColumnJob, ColumnLoop, Errors, Input, JobCore, ListInput, ListJob, ListLoop, Matrix, SharedJob},
    node::Offer,
    wire::{BySerde, ColumnWire, ColumnsBySerde, ListWire, Lists},
};

/// A function over the items of a list, ready to be distributed: what `function!(f)` returns for `fn(A) -> R` and
/// `fn(&A) -> R`. Clones are cheap.
pub struct ListKernel<A, R> {
    pub(crate) name: &'static str,
    /// It takes `&SharedData`.
    is_sharing: bool,
    pub(crate) run: Arc<dyn ListLoop<A, R>>,
    /// How its items and results travel; none if it stays on this machine.
    pub(crate) wire: Option<Arc<dyn ListWire<A, R>>>,
    /// What runs on GPUs instead, if that is another function.
    pub(crate) gpu: Option<GpuForm>,
    /// How items are cloned, where that is known.
    cloning: Option<Cloning<A>>,
}

/// A function over the columns of a matrix, ready to be distributed: what `function!(f)` returns for
/// `fn(ArrayView2<T>) -> Array1<R>` or `Array2<R>`. Clones are cheap.
pub struct ColumnKernel<T, Y> {
    pub(crate) name: &'static str,
    /// It takes `&SharedData`.
    is_sharing: bool,
    pub(crate) run: Arc<dyn ColumnLoop<T, Y>>,
    /// As in [`ListKernel`].
    pub(crate) wire: Option<Arc<dyn ColumnWire<T, Y>>>,
    /// As in [`ListKernel`].
    pub(crate) gpu: Option<GpuForm>,
}

impl<A: Send + 'static, R: Send + 'static> ListKernel<A, R> {
    /// The function's name, as in failures and the log.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// A job whose items come later.
    pub(crate) fn open(self, core: JobCore) -> Arc<ListJob<A, R>> {
        let input = ListInput::Owned(Vec::new());
        Arc::new(
            ListJob::new(core.opened().on_gpus(self.gpu), self.run, self.wire, input, Vec::new(), None)
                .cloning(self.cloning),
        )
    }

    pub(crate) fn is_sharing(&self) -> bool {
        self.is_sharing
    }

    /// Its items can be cloned.
    pub(crate) fn cloning(mut self, clone: fn(&[A]) -> Vec<A>) -> Self {
        self.cloning = Some(Cloning::OneByOne(clone));
        self
    }

    /// It takes its items along, and nobody has a clone of them.
    pub(crate) fn takes_items(&self) -> bool {
        !self.run.keeps_items() && self.cloning.is_none()
    }

    pub(crate) fn prepare(self, core: JobCore, input: ListInput<A>, reuse: Vec<R>) -> Prepared<Vec<R>> {
        let core = core.on_gpus(self.gpu);
        let job = ListJob::new(core, self.run, self.wire, input, reuse, None).cloning(self.cloning);
        let job = Arc::new(job);
        Prepared { job: SharedJob::new(job.clone()), body: job }
    }
}

impl<A: Send + 'static, R: Send + 'static, E> ListKernel<A, Result<R, E>>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    pub(crate) fn prepare_try(self, core: JobCore, input: ListInput<A>) -> Prepared<Vec<R>> {
        let errors = Errors { is_error: Result::is_err, cause: returned };
        let core = core.on_gpus(self.gpu);
        let job = ListJob::new(core, self.run, self.wire, input, Vec::new(), Some(errors)).cloning(self.cloning);
        let job = Arc::new(job);
        Prepared { job: SharedJob::new(job.clone()), body: Arc::new(TryBody(job)) }
    }
}

/// Why an item has failed that returned `Err`.
fn returned<R, E: Into<Box<dyn std::error::Error + Send + Sync>>>(result: Result<R, E>) -> FailureCause {
    match result {
        Err(error) => FailureCause::Returned(Arc::from(error.into())),
        Ok(_) => unreachable!("only an `Err` is a failure"),
    }
}

impl<A: Send + 'static, R: Send + 'static> ListKernel<Vec<A>, Vec<R>> {
    /// The same function, given a whole chunk of items at once and returning as many results.
    pub(crate) fn over_lists(self) -> ListKernel<A, R> {
        let wire = self.wire.map(|wire| Arc::new(Lists(wire)) as Arc<dyn ListWire<A, R>>);
        let cloning = match self.cloning {
            Some(Cloning::OneByOne(clone)) => Some(Cloning::AsList(clone)),
            _ => None,
        };
        let (name, is_sharing, run) = (self.name, self.is_sharing, Arc::new(ChunkLoop(self.run)));
        ListKernel { name, is_sharing, run, wire, cloning, gpu: self.gpu }
    }
}

impl<T: Send + Sync + 'static, Y: ColumnResult> ColumnKernel<T, Y> {
    /// The function's name, as in failures and the log.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn is_sharing(&self) -> bool {
        self.is_sharing
    }

    pub(crate) fn prepare(self, core: JobCore, input: Matrix<T>, reuse: Vec<Y::Elem>) -> Prepared<Y> {
        let core = core.on_gpus(self.gpu);
        let job = Arc::new(ColumnJob::new(core, self.run, self.wire, input, reuse));
        Prepared { job: SharedJob::new(job.clone()), body: job }
    }
}

impl<A, R> Clone for ListKernel<A, R> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            is_sharing: self.is_sharing,
            run: self.run.clone(),
            wire: self.wire.clone(),
            cloning: self.cloning,
            gpu: self.gpu,
        }
    }
}

impl<T, Y> Clone for ColumnKernel<T, Y> {
    fn clone(&self) -> Self {
        let (run, wire) = (self.run.clone(), self.wire.clone());
        Self { name: self.name, is_sharing: self.is_sharing, run, wire, gpu: self.gpu }
    }
}

impl<A, R> fmt::Debug for ListKernel<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ListKernel({})", self.name)
    }
}

impl<T, Y> fmt::Debug for ColumnKernel<T, Y> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ColumnKernel({})", self.name)
    }
}

/// A function that `distribute!` and `function!` take, of any kind; `M` says which.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be distributed",
    label = "its arguments or its result don't fit",
    note = "it takes functions of one item (`fn(A) -> R` or `fn(&A) -> R`) and of columns (`fn(ArrayView2<T>) -> Array1<R>` or `Array2<R>`), each also with `&SharedData` or `&Context` last",
    note = "items and results own what they hold, are `Send`, and implement serde's `Serialize` and `Deserialize`; without serde, or to capture variables, use `distribute_local`, `distribute_local_ref` or `distribute_local_columns`",
    note = "wrap any other function in a closure with written types: `distribute!(|(a, b): (f64, f64)| f(a, b))`"
)]
pub trait Distributable<M>: WireFunction<M> {
    /// [`ListKernel`] or [`ColumnKernel`].
    type Kernel: Offer;
    /// Erases the kind of the function of this name, which is distributed at this place in the source.
    fn into_kernel(self, name: &'static str, site: &'static str) -> Self::Kernel;
}

impl<F, A, X> Distributable<ByValue<A, X>> for F
where
    F: ValueFunction<A, X> + WireFunction<ByValue<A, X>>,
    F::Out: Serialize + DeserializeOwned + Send + 'static,
    A: Serialize + DeserializeOwned + Send + 'static,
    X: 'static,
{
    type Kernel = ListKernel<A, F::Out>;
    fn into_kernel(self, name: &'static str, site: &'static str) -> Self::Kernel {
        let wire = Some(Arc::new(BySerde::new("item by value", name, site)) as Arc<dyn ListWire<A, F::Out>>);
        ListKernel { wire, ..by_value::<F, A, X>(self, name) }
    }
}

impl<F, A, X> Distributable<ByRef<A, X>> for F
where
    F: RefFunction<A, X> + WireFunction<ByRef<A, X>>,
    F::Out: Serialize + DeserializeOwned + Send + 'static,
    A: Serialize + DeserializeOwned + Send + 'static,
    X: 'static,
{
    type Kernel = ListKernel<A, F::Out>;
    fn into_kernel(self, name: &'static str, site: &'static str) -> Self::Kernel {
        let wire = Some(Arc::new(BySerde::new("item by reference", name, site)) as Arc<dyn ListWire<A, F::Out>>);
        ListKernel { wire, ..by_ref::<F, A, X>(self, name) }
    }
}

impl<F, T, X> Distributable<ColumnsKind<T, X>> for F
where
    F: ColumnsFunction<T, X> + WireFunction<ColumnsKind<T, X>>,
    F::Out: ColumnResult + ColumnsOutput<Elem: Serialize + DeserializeOwned>,
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    X: 'static,
{
    type Kernel = ColumnKernel<T, F::Out>;
    fn into_kernel(self, name: &'static str, site: &'static str) -> Self::Kernel {
        let wire = Some(Arc::new(ColumnsBySerde::new(name, site)) as Arc<dyn ColumnWire<T, F::Out>>);
        ColumnKernel { wire, ..by_columns::<F, T, X>(self, name) }
    }
}

pub(crate) fn by_value<F, A, X>(function: F, name: &'static str) -> ListKernel<A, F::Out>
where
    F: ValueFunction<A, X>,
    X: 'static,
{
    let run = Arc::new(ValueLoop(function, PhantomData::<fn(X)>));
    ListKernel { name, is_sharing: F::SHARING, run, wire: None, cloning: None, gpu: None }
}

pub(crate) fn by_ref<F, A, X>(function: F, name: &'static str) -> ListKernel<A, F::Out>
where
    F: RefFunction<A, X>,
    X: 'static,
{
    let run = Arc::new(RefLoop(function, PhantomData::<fn(X)>));
    ListKernel { name, is_sharing: F::SHARING, run, wire: None, cloning: None, gpu: None }
}

pub(crate) fn by_columns<F, T, X>(function: F, name: &'static str) -> ColumnKernel<T, F::Out>
where
    F: ColumnsFunction<T, X>,
    X: 'static,
{
    let run = Arc::new(BlockLoop(function, PhantomData::<fn(X)>));
    ColumnKernel { name, is_sharing: F::SHARING, run, wire: None, gpu: None }
}

/// Items of a lent list that are cloned together for a function by value.
const CLONED_AT_ONCE: usize = 2048;

struct ValueLoop<F, X>(F, PhantomData<fn(X)>);

impl<F, X> ValueLoop<F, X> {
    fn run_with<A, R>(&self, input: Input<'_, A>, output: &mut Output<R>, count: usize, mut call: impl FnMut(A) -> R) {
        match input {
            Input::Owned(items) => map_owned(items, output, count, call),
            // One call through the pointer for many items, but no more memory than a cache holds.
            Input::Lent(items, clone) => {
                for piece in items.chunks(CLONED_AT_ONCE) {
                    map_owned(&mut Items::from_vec(clone(piece)), output, piece.len(), &mut call);
                }
            }
        }
    }
}

impl<F, A, X> ListLoop<A, F::Out> for ValueLoop<F, X>
where
    F: ValueFunction<A, X>,
{
    fn run(
        &self,
        input: Input<'_, A>,
        output: &mut Output<F::Out>,
        first: usize,
        count: usize,
        context: &Context<'_>,
    ) -> Result<(), FailureCause> {
        if F::CONTEXTUAL || context.is_watched() {
            let mut index = first;
            self.run_with(input, output, count, |item| {
                context.enter(index);
                index += 1;
                let result = self.0.call(item, context);
                context.leave();
                result
            });
        } else {
            self.run_with(input, output, count, |item| self.0.call(item, context));
        }
        Ok(())
    }

    fn call(&self, item: A, context: &Context<'_>) -> F::Out {
        self.0.call(item, context)
    }

    fn keeps_items(&self) -> bool {
        false
    }

    fn takes_blocks(&self) -> bool {
        false
    }
}

struct RefLoop<F, X>(F, PhantomData<fn(X)>);

impl<F, A, X> ListLoop<A, F::Out> for RefLoop<F, X>
where
    F: RefFunction<A, X>,
{
    fn run(
        &self,
        input: Input<'_, A>,
        output: &mut Output<F::Out>,
        first: usize,
        count: usize,
        context: &Context<'_>,
    ) -> Result<(), FailureCause> {
        let items = match &input {
            Input::Owned(items) => &items.as_slice()[first - items.range().start..][..count],
            Input::Lent(items, _) => items,
        };
        if F::CONTEXTUAL || context.is_watched() {
            let mut index = first;
            map_borrowed(items, output, |item| {
                context.enter(index);
                index += 1;
                let result = self.0.call(item, context);
                context.leave();
                result
            });
        } else {
            map_borrowed(items, output, |item| self.0.call(item, context));
        }
        Ok(())
    }

    fn call(&self, item: A, context: &Context<'_>) -> F::Out {
        self.0.call(&item, context)
    }

    fn keeps_items(&self) -> bool {
        true
    }

    fn takes_blocks(&self) -> bool {
        false
    }
}

/// `accept_lists`: a function of a list, given a whole chunk.
struct ChunkLoop<A, R>(Arc<dyn ListLoop<Vec<A>, Vec<R>>>);

impl<A: Send + 'static, R: Send + 'static> ListLoop<A, R> for ChunkLoop<A, R> {
    fn run(
        &self,
        input: Input<'_, A>,
        output: &mut Output<R>,
        first: usize,
        count: usize,
        context: &Context<'_>,
    ) -> Result<(), FailureCause> {
        let list = match input {
            Input::Owned(items) => items.split_off(first).into_vec(),
            Input::Lent(items, clone) => clone(items),
        };
        context.enter_block(first..first + count);
        let results = self.0.call(list, context);
        context.leave();
        if results.len() != count {
            return Err(FailureCause::WrongLength { block: first..first + count, got: results.len() });
        }
        map_owned(&mut Items::from_vec(results), output, count, |result| result);
        Ok(())
    }

    fn call(&self, item: A, context: &Context<'_>) -> R {
        let mut results = self.0.call(vec![item], context);
        assert_eq!(results.len(), 1, "one result for one item");
        results.remove(0)
    }

    fn keeps_items(&self) -> bool {
        false
    }

    fn takes_blocks(&self) -> bool {
        true
    }
}

struct BlockLoop<F, X>(F, PhantomData<fn(X)>);

impl<F, T, X> ColumnLoop<T, F::Out> for BlockLoop<F, X>
where
    F: ColumnsFunction<T, X>,
    F::Out: ColumnsOutput,
{
    fn call(&self, block: ArrayView2<'_, T>, context: &Context<'_>) -> F::Out {
        self.0.call(block, context)
    }
}
