//! Functions in two forms: one for CPUs, one for GPUs.

use std::sync::Arc;

use distfun_core::{
    failure::FailureCause,
    function::{Context, Device, Fingerprint},
};
use ndarray::ArrayView2;

use super::{ColumnKernel, Distributable, ListKernel};
use crate::{
    call::ColumnResult,
    compute::parts::Output,
    job::{ColumnLoop, Input, ListLoop},
};

/// The form for GPUs of a function.
#[derive(Debug, Clone, Copy)]
#[doc(hidden)]
pub struct GpuForm {
    #[allow(missing_docs, reason = "not for use by hand")]
    pub name: &'static str,
    /// Where in the source it was given.
    pub site: &'static str,
    /// Of its types.
    pub fingerprint: Fingerprint,
    /// It was given behind `accept_lists`, and takes single items.
    pub is_late: bool,
    /// Other processes of the same program find it by its name.
    pub is_registered: bool,
}

/// What [`gpu`](crate::DistributeBuilder::gpu) takes: a function of the same kind and types as the one that is distributed,
/// or, to be found in other processes too, `function!(f)` of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no form for GPUs of this function",
    label = "another kind of function, or other types",
    note = "it takes what the function takes and returns what it returns, and both are functions of items, or both of columns"
)]
pub trait GpuFormOf<K, M> {
    #[doc(hidden)]
    fn form(self) -> (K, bool);
}

/// Marks forms that are plain functions; `M` is their kind.
#[derive(Debug)]
pub struct AsFunction<M>(M);

/// Marks forms that `function!` has made.
#[derive(Debug)]
pub struct AsKernel;

impl<F, K, M> GpuFormOf<K, AsFunction<M>> for F
where
    F: Distributable<M, Kernel = K>,
{
    #[track_caller]
    fn form(self) -> (K, bool) {
        (self.into_kernel(std::any::type_name::<F>(), "a plain function"), false)
    }
}

impl<A, R> GpuFormOf<Self, AsKernel> for ListKernel<A, R> {
    fn form(self) -> (Self, bool) {
        (self, true)
    }
}

impl<T, Y> GpuFormOf<Self, AsKernel> for ColumnKernel<T, Y> {
    fn form(self) -> (Self, bool) {
        (self, true)
    }
}

/// The one that fits what the slot computes with.
fn choose<'f, F: ?Sized>(forms: &'f Forms<F>, context: &Context<'_>) -> &'f F {
    match context.device() {
        Device::Gpu(_) => &forms.gpu,
        _ => &forms.cpu,
    }
}

struct Forms<F: ?Sized> {
    cpu: Arc<F>,
    gpu: Arc<F>,
}

impl<A: Send + 'static, R: Send + 'static> ListKernel<A, R> {
    /// The same function, with `gpu` in its place on GPUs.
    pub(crate) fn with_gpu(self, gpu: Self, is_registered: bool) -> Self {
        let wire = gpu.wire.as_ref().expect("a form travels, as far as its types go");
        let is_late = self.wire.as_ref().is_some_and(|its| its.is_lists() != wire.is_lists());
        let form =
            GpuForm { name: gpu.name, site: wire.site(), fingerprint: wire.fingerprint(), is_late, is_registered };
        let run = Arc::new(Forms { cpu: self.run, gpu: gpu.run });
        let is_sharing = self.is_sharing || gpu.is_sharing;
        Self { run, is_sharing, gpu: Some(form), ..self }
    }
}

impl<T: Send + Sync + 'static, Y: ColumnResult> ColumnKernel<T, Y> {
    /// As for lists.
    pub(crate) fn with_gpu(self, gpu: Self, is_registered: bool) -> Self {
        let wire = gpu.wire.as_ref().expect("a form travels, as far as its types go");
        let (site, fingerprint, is_late) = (wire.site(), wire.fingerprint(), false);
        let form = GpuForm { name: gpu.name, site, fingerprint, is_late, is_registered };
        let run = Arc::new(Forms { cpu: self.run, gpu: gpu.run });
        let is_sharing = self.is_sharing || gpu.is_sharing;
        Self { run, is_sharing, gpu: Some(form), ..self }
    }
}

impl<A, R> ListLoop<A, R> for Forms<dyn ListLoop<A, R>> {
    fn run(
        &self,
        input: Input<'_, A>,
        output: &mut Output<R>,
        first: usize,
        count: usize,
        context: &Context<'_>,
    ) -> Result<(), FailureCause> {
        choose(self, context).run(input, output, first, count, context)
    }

    fn call(&self, item: A, context: &Context<'_>) -> R {
        choose(self, context).call(item, context)
    }

    /// What becomes of an item is known before it is known where it runs.
    fn keeps_items(&self) -> bool {
        self.cpu.keeps_items() && self.gpu.keeps_items()
    }

    fn takes_blocks(&self) -> bool {
        self.cpu.takes_blocks()
    }
}

impl<T, Y> ColumnLoop<T, Y> for Forms<dyn ColumnLoop<T, Y>> {
    fn call(&self, block: ArrayView2<'_, T>, context: &Context<'_>) -> Y {
        choose(self, context).call(block, context)
    }
}
