//! The public face: `distribute!`, its builder, and the distributed functions that it builds.

use std::{any::TypeId, fmt, marker::PhantomData, sync::Arc};

use distfun_core::{
    failure::Ending,
    function::{ColumnsFunction, RefFunction, ValueFunction},
    options::{Isolation, Told},
    shared_data::SharedData,
};

use crate::{
    call::{Call, ColumnResult, Scoped, of_call},
    config,
    error::{BuildError, EndError},
    gpu, host,
    input::{Columns, ColumnsInput, List, MapInput, Start},
    kernel::{ColumnKernel, GpuForm, GpuFormOf, ListKernel, by_columns, by_ref, by_value},
    lifecycle::Lifecycle,
    messages::ShutdownReport,
    options::{endings, options},
    pool::gpus,
    retry::Retry,
    share::Share,
    stream::ResultStream,
};

/// Makes a distributed function from any function: `distribute!(f)` returns a [`DistributeBuilder`].
///
/// `f` is the path of a function, your own or another crate's, or a closure that captures nothing; it needs no
/// attribute. It takes, by what it looks like,
/// - one item by value or by reference: `fn(A) -> R`, `fn(&A) -> R`; built, a [`DistributedFunction<A, R>`];
/// - a block of columns: `fn(ArrayView2<T>) -> Array1<R>` with one value per column, or `-> Array2<R>` (K x n) with one
///   column per column; built, a [`ColumnFunction<T, Y>`];
///
/// each also with a last argument `&SharedData` or `&Context`. Items and results implement serde, which carries them to other
/// machines; [`distribute_local`] and its relatives need no serde and may capture.
///
/// ```
/// use distfun::prelude::*;
///
/// fn root(x: f64) -> f64 {
///     x.sqrt()
/// }
///
/// let roots = distribute!(root).max_cpu(2).build()?.map([4.0, 9.0]).wait()?;
/// assert_eq!(roots, [2.0, 3.0]);
/// # Ok::<(), distfun::Error>(())
/// ```
///
/// # When the compiler objects
/// - *`attempt to use a non-constant value in a constant`* (E0435): the closure uses a variable from outside; pass it in
///   the items, make it a `const`, or use [`distribute_local`].
/// - *`can't use generic parameters from outer item`* (E0401): `f` depends on a type parameter of the function around
///   it; name the type (`distribute!(f::<f64>)`) or use [`distribute_local`].
/// - *`type annotations needed`* (E0282, E0283, E0284): a closure's argument has no type, or `f` is generic; write
///   `|x: f64| …` or `f::<f64>`.
/// - *`cannot call non-const function in constants`* (E0015): `f` is computed, as in `distribute!(choose())`; write
///   `distribute!(|x: f64| choose()(x))` or use [`distribute_local`].
#[macro_export]
macro_rules! distribute {
    ($function:expr) => {
        $crate::DistributeBuilder::new($crate::function!($function))
    };
}

/// The function alone, for [`Distribute`](crate::Distribute) messages: a [`ListKernel`] or [`ColumnKernel`]. Takes what
/// [`distribute!`](crate::distribute) takes.
#[macro_export]
macro_rules! function {
    ($function:expr) => {{
        // Each `const` refuses captured variables, with the same error, which is shown once. The function stands outside
        // of the registry's static, whose own refusal would point into another crate.
        fn __distfun_entry() -> (&'static ::std::primitive::str, ::std::option::Option<$crate::node::Offered>) {
            #[allow(unused_imports)]
            use $crate::__private::{Registered as _, RegisteredUnsized as _, Unregistered as _};
            let function = const { $function };
            let site = ::std::concat!(::std::file!(), ":", ::std::line!(), ":", ::std::column!());
            (::std::any::type_name_of_val(&function), (&&&$crate::__private::Probe(function)).__distfun_offered(site))
        }
        $crate::__private::inventory::submit! {
            $crate::__private::Entry {
                function: __distfun_entry,
                site: ::std::concat!(::std::file!(), ":", ::std::line!(), ":", ::std::column!()),
            }
        }
        #[allow(unused_imports)]
        use $crate::__private::{ClonesItems as _, Function as _, UnsizedArgument as _};
        (&&&&$crate::__private::Probe(const { $function })).__distfun_kernel(::std::concat!(
            ::std::file!(),
            ":",
            ::std::line!(),
            ":",
            ::std::column!()
        ))
    }};
}

/// Distributes a function or closure over this machine only: it may capture, and its types need no serde.
///
/// Takes one item by value, optionally also `&Context`. Asking it for other machines is a compile error.
///
/// ```
/// use distfun::prelude::*;
///
/// let factor = 3;
/// let tripled = distribute_local(move |x: i32| factor * x).build()?.map(0..4).wait()?;
/// assert_eq!(tripled, [0, 3, 6, 9]);
/// # Ok::<(), distfun::Error>(())
/// ```
pub fn distribute_local<F, A, X>(function: F) -> DistributeBuilder<ListKernel<A, F::Out>, ThisMachine>
where
    F: ValueFunction<A, X>,
    F::Out: Send + 'static,
    A: Send + 'static,
    X: 'static,
{
    DistributeBuilder::of(by_value(function, std::any::type_name::<F>()))
}

/// As [`distribute_local`], for a function that takes its item by reference.
pub fn distribute_local_ref<F, A, X>(function: F) -> DistributeBuilder<ListKernel<A, F::Out>, ThisMachine>
where
    F: RefFunction<A, X>,
    F::Out: Send + 'static,
    A: Send + 'static,
    X: 'static,
{
    DistributeBuilder::of(by_ref(function, std::any::type_name::<F>()))
}

/// As [`distribute_local`], for a function over columns.
pub fn distribute_local_columns<F, T, X>(function: F) -> DistributeBuilder<ColumnKernel<T, F::Out>, ThisMachine>
where
    F: ColumnsFunction<T, X>,
    F::Out: ColumnResult,
    T: Send + Sync + 'static,
    X: 'static,
{
    DistributeBuilder::of(by_columns(function, std::any::type_name::<F>()))
}

/// Options of a distributed function; `K` says which kind it is. Made by [`distribute!`](crate::distribute).
///
/// What the builder says goes before [`flags`](Self::flags) of a command line, those before the `DISTFUN_*` environment,
/// that before the settings file (`distfun.toml` in the current directory, or what `DISTFUN_CONFIG` names), and that
/// before the defaults.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until .build()"]
pub struct DistributeBuilder<K, S = Anywhere> {
    pub(crate) kernel: K,
    stays: PhantomData<S>,
    told: Told,
    sequential: bool,
    shared: Option<SharedData>,
    pub(crate) retry: Retry,
}

/// Marks functions that other machines can run too: those of [`distribute!`](crate::distribute).
#[derive(Debug, Clone, Copy)]
pub struct Anywhere;

/// Marks functions that run on this machine only: those of [`distribute_local`] and its relatives.
#[derive(Debug, Clone, Copy)]
pub struct ThisMachine;

/// [`Anywhere`] does, [`ThisMachine`] does not.
#[diagnostic::on_unimplemented(
    message = "a function of `distribute_local` stays on this machine",
    label = "other machines can't run it",
    note = "what it captures, and types without serde, can't be sent; for `machines` use `distribute!`: a function that captures nothing, whose items and results implement serde, with what it needs in its items or in `shared_data`"
)]
pub trait Travels {}
impl Travels for Anywhere {}

impl<K> DistributeBuilder<K> {
    #[doc(hidden)]
    pub fn new(kernel: K) -> Self {
        Self::of(kernel)
    }
}

impl<K, S> DistributeBuilder<K, S> {
    fn of(kernel: K) -> Self {
        let (told, retry) = (Told::default(), Retry::none());
        Self { kernel, stays: PhantomData, told, sequential: false, shared: None, retry }
    }

    options!(
        max_cpu,
        slots,
        max_gpu,
        gpu_policy,
        software_gpu,
        endaftercall,
        verbose,
        seed,
        max_calls,
        priority,
        flags,
        settings
    );
    options!(machines, port, named_pipe, isolation, item_timeout, max_memory; where [S: Travels]);

    /// What runs on GPUs in place of the function: another one of the same kind, which takes and returns the same and finds
    /// its device in its [`Context`](crate::Context::device). Without it the function itself runs on both. `function!(f)` is
    /// found in other processes too, a plain `f` in this one only.
    ///
    /// Nothing runs on GPUs unless a [`gpu_policy`](Self::gpu_policy) says so: here, or in the environment or the settings file
    /// of whoever runs the program. A node that offers functions of its own ([`node::serve`](crate::node::serve)) must offer
    /// this one too: where it does not, its form of the function itself runs on the workers of its GPUs.
    ///
    /// ```
    /// use distfun::{GpuPolicy, prelude::*};
    ///
    /// fn on_cpu(x: f32) -> f32 {
    ///     2.0 * x
    /// }
    ///
    /// fn on_gpu(x: f32, context: &Context) -> f32 {
    ///     let _gpu = context.device().gpu().expect("it runs on GPUs only");
    ///     2.0 * x // by a kernel
    /// }
    ///
    /// let twice = distribute!(on_cpu).gpu(function!(on_gpu)).gpu_policy(GpuPolicy::PreferGpu).build()?;
    /// assert_eq!(twice.map([1.0, 2.0]).wait()?, [2.0, 4.0]);
    /// # Ok::<(), distfun::Error>(())
    /// ```
    pub fn gpu<M>(mut self, form: impl GpuFormOf<K, M>) -> Self
    where
        K: Kernel,
    {
        let (form, is_registered) = form.form();
        self.kernel = self.kernel.with_form(form, is_registered);
        self
    }

    /// Runs every call as a plain loop in the calling thread, on its CPU whatever the policy on GPUs: for debugging, and to
    /// compare with. Results and
    /// random numbers are the same; a function of lists gets the whole list at once. Such a call ends before its handle is there, so that limits, cancelling and progress
    /// come too late for it. Default: no.
    pub fn sequential(mut self, yes: bool) -> Self {
        self.sequential = yes;
        self
    }

    /// Named arrays and values that every item may read, in memory once however many slots there are. For functions that
    /// take `&SharedData` last, or ask their [`Context::shared`](crate::Context::shared).
    ///
    /// ```
    /// use distfun::{SharedData, SharedDataError, prelude::*};
    /// use ndarray::{ArrayView1, array};
    ///
    /// fn score(x: f64, shared: &SharedData) -> Result<f64, SharedDataError> {
    ///     let weights: ArrayView1<f64> = shared.array("weights")?;
    ///     Ok(x * weights.sum())
    /// }
    ///
    /// let shared = SharedData::builder().array("weights", &array![1.0, 2.0])?.build()?;
    /// let scores = distribute!(score).shared_data(shared).build()?.try_map([1.0, 10.0]).wait()?;
    /// assert_eq!(scores, [3.0, 30.0]);
    /// # Ok::<(), distfun::Error>(())
    /// ```
    pub fn shared_data(mut self, shared: SharedData) -> Self {
        self.shared = Some(shared);
        self
    }

    /// Checks the options. Starts nothing: the slots start with the first call.
    ///
    /// # Errors
    /// [`BuildError::Settings`] names an option, environment variable or place in the settings file that can't hold;
    /// [`BuildError::NeedsSharedData`]: the function takes `&SharedData` and has none; [`BuildError::CannotRetry`]: it shall be
    /// given an item a second time, and takes it along.
    pub fn build(self) -> Result<K::Built, BuildError>
    where
        K: Kernel,
        S: 'static,
    {
        let stays = TypeId::of::<S>() == TypeId::of::<ThisMachine>();
        let settings = if stays { config::resolve_here(&self.told)? } else { config::resolve(&self.told)? };
        let shared = match (self.shared, self.kernel.sharing()) {
            (Some(shared), _) => shared,
            (None, None) => SharedData::default(),
            (None, Some(function)) => return Err(BuildError::NeedsSharedData { function }),
        };
        if self.retry.is_on()
            && let Some(function) = self.kernel.taking()
        {
            return Err(BuildError::CannotRetry { function });
        }
        host::check(&settings)?;
        if !self.sequential {
            settings.check_gpus(gpus(&settings).len(), || gpu::why_none(settings.software_gpu))?;
        }
        if self.kernel.gpu().is_some_and(|form| form.is_late) {
            return Err(BuildError::LateForm { function: self.kernel.function() });
        }
        let travels =
            settings.isolation == Isolation::Process || !settings.machines.is_empty() || settings.named_pipe.is_on();
        if let Some(GpuForm { name: form, .. }) = self.kernel.gpu().filter(|form| travels && !form.is_registered) {
            return Err(BuildError::UnregisteredForm { function: self.kernel.function(), form });
        }
        let lifecycle = Arc::new(Lifecycle::new(settings, self.sequential, self.retry));
        let share = lifecycle.shares.add(shared);
        Ok(self.kernel.built(lifecycle, share))
    }
}

impl<A: Send + 'static, R: Send + 'static, S> DistributeBuilder<ListKernel<Vec<A>, Vec<R>>, S> {
    /// Gives the function, which takes and returns a list, a whole chunk of items at once. A result of another length
    /// fails the chunk's items, and so does a panic.
    ///
    /// ```
    /// use distfun::prelude::*;
    ///
    /// fn doubled(items: Vec<u32>) -> Vec<u32> {
    ///     items.iter().map(|x| 2 * x).collect()
    /// }
    ///
    /// assert_eq!(distribute!(doubled).accept_lists().build()?.map(0..4u32).wait()?, [0, 2, 4, 6]);
    /// # Ok::<(), distfun::Error>(())
    /// ```
    pub fn accept_lists(self) -> DistributeBuilder<ListKernel<A, R>, S> {
        let Self { kernel, stays, told, sequential, shared, retry } = self;
        DistributeBuilder { kernel: kernel.over_lists(), stays, told, sequential, shared, retry }
    }
}

/// A function with its kind erased, and what is built from it.
pub trait Kernel {
    /// [`DistributedFunction`] or [`ColumnFunction`].
    type Built;
    #[doc(hidden)]
    fn built(self, lifecycle: Arc<Lifecycle>, share: Share) -> Self::Built;
    /// Its name, if the function takes `&SharedData`.
    #[doc(hidden)]
    fn sharing(&self) -> Option<&'static str>;
    /// Its name, if the function takes its items along, so that they can't be run again.
    #[doc(hidden)]
    fn taking(&self) -> Option<&'static str>;
    #[doc(hidden)]
    fn function(&self) -> &'static str;
    #[doc(hidden)]
    fn gpu(&self) -> Option<GpuForm>;
    #[doc(hidden)]
    fn with_form(self, form: Self, is_registered: bool) -> Self;
}

impl<A: Send + 'static, R: Send + 'static> Kernel for ListKernel<A, R> {
    type Built = DistributedFunction<A, R>;
    fn built(self, lifecycle: Arc<Lifecycle>, share: Share) -> Self::Built {
        DistributedFunction { lifecycle, share, kernel: self }
    }
    fn sharing(&self) -> Option<&'static str> {
        self.is_sharing().then(|| self.name())
    }
    fn taking(&self) -> Option<&'static str> {
        self.takes_items().then(|| self.name())
    }
    fn function(&self) -> &'static str {
        self.name()
    }
    fn gpu(&self) -> Option<GpuForm> {
        self.gpu
    }
    fn with_form(self, form: Self, is_registered: bool) -> Self {
        self.with_gpu(form, is_registered)
    }
}

impl<T: Send + Sync + 'static, Y: ColumnResult> Kernel for ColumnKernel<T, Y> {
    type Built = ColumnFunction<T, Y>;
    fn built(self, lifecycle: Arc<Lifecycle>, share: Share) -> Self::Built {
        ColumnFunction { lifecycle, share, kernel: self }
    }
    fn sharing(&self) -> Option<&'static str> {
        self.is_sharing().then(|| self.name())
    }
    fn taking(&self) -> Option<&'static str> {
        None
    }
    fn function(&self) -> &'static str {
        self.name()
    }
    fn gpu(&self) -> Option<GpuForm> {
        self.gpu
    }
    fn with_form(self, form: Self, is_registered: bool) -> Self {
        self.with_gpu(form, is_registered)
    }
}

/// A function over the items of a list, distributed over the slots it owns. Clones share them.
///
/// # Endings
/// | | slots and memory | running calls | later calls return |
/// |---|---|---|---|
/// | `endaftercall` (default) | freed after the first call | - | `Ending::EndedAfterCall` |
/// | [`finished`](Self::finished) | freed | return with what they finished | `Ending::Finished` |
/// | [`shutdown`](Self::shutdown) | freed | return with what they finished | `Ending::ShutDown` |
/// | dropping the last clone | freed when no [`Call`](crate::Call) is left | go on | - |
pub struct DistributedFunction<A, R> {
    lifecycle: Arc<Lifecycle>,
    share: Share,
    kernel: ListKernel<A, R>,
}

impl<A: Send + 'static, R: Send + 'static> DistributedFunction<A, R> {
    /// Runs the function on every item. Results come in input order; an `Err` that it returns is an ordinary result.
    ///
    /// Owned items give a [`Call`](crate::Call), which has started; a borrowed slice gives a
    /// [`Scoped`], which starts in its `wait`. An empty input returns at once and starts nothing (but counts as the one call
    /// under `endaftercall`). Inside a distributed
    /// function the call runs on the slot it has, before this returns.
    ///
    /// It never fails itself: errors come from `wait` or `.await`.
    ///
    /// # Panics
    /// If the results would not fit the address space, as `Vec::with_capacity` does.
    pub fn map<I: MapInput<A, M>, M>(&self, items: I) -> I::Handle<Vec<R>> {
        items.start(self.start(Vec::new()))
    }

    /// The same, filling `results` and reusing its allocation, which saves the time to get fresh memory from the
    /// operating system. It runs in `wait`; if the call does not end well, `results` is left empty and what is finished is
    /// in the error.
    pub fn map_into<'a, I: MapInput<A, M> + 'a, M>(&self, items: I, results: &'a mut Vec<R>) -> Scoped<'a, Vec<R>, ()> {
        let this = self.clone();
        Scoped::new(move || {
            let reuse = std::mem::take(results);
            *results = of_call(|with| items.run(this.start(reuse), with), Call::wait)?;
            Ok(())
        })
    }

    /// Runs the function on what an iterator gives, which may be endless, and gives the results one by one, in input order
    /// or as they are there. See [`ResultStream`].
    ///
    /// ```
    /// use distfun::prelude::*;
    ///
    /// let words = "the quick brown fox".split(' ').map(String::from);
    /// let mut lengths = Vec::new();
    /// for length in distribute!(|word: String| word.len()).build()?.stream(words) {
    ///     lengths.push(length?);
    /// }
    /// assert_eq!(lengths, [3, 5, 5, 3]);
    /// # Ok::<(), distfun::Error>(())
    /// ```
    pub fn stream<I: IntoIterator<Item = A>>(&self, items: I) -> ResultStream<I::IntoIter, R> {
        ResultStream::new(items.into_iter(), self.lifecycle.open(self.kernel.clone(), &self.share))
    }

    fn start(&self, reuse: Vec<R>) -> Start<List<A>, Vec<R>> {
        let Self { lifecycle, share, kernel } = self.clone();
        Start::new(move |List(items)| {
            lifecycle.call(kernel.name(), items.len(), false, &share, |core| kernel.prepare(core, items, reuse))
        })
    }

    endings!();
}

impl<A: Send + 'static, R: Send + 'static, E> DistributedFunction<A, Result<R, E>>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    /// Runs the function on every item; the first failure in input order, an `Err` or a panic, ends the call. Then items
    /// after it are not started any more, and the error has just that failure, whose
    /// [`FailureCause::Returned`](crate::FailureCause) holds the error (downcast it to `E`, if `E` is an error type). `distribute!` asks for serde of `E` too; for errors
    /// without it, such as `std::io::Error`, use [`distribute_local`].
    ///
    /// ```
    /// use distfun::prelude::*;
    ///
    /// fn halve(x: u32) -> Result<u32, String> {
    ///     if x % 2 == 0 { Ok(x / 2) } else { Err(format!("{x} is odd")) }
    /// }
    ///
    /// assert_eq!(distribute!(halve).build()?.try_map([2, 4]).wait()?, [1, 2]);
    /// let error = distribute!(halve).build()?.try_map([2, 3, 5]).wait().unwrap_err();
    /// assert_eq!(error.failed()[0].index, 1);
    /// assert!(error.to_string().ends_with("returned an error: 3 is odd"));
    /// # Ok::<(), distfun::Error>(())
    /// ```
    pub fn try_map<I: MapInput<A, M>, M>(&self, items: I) -> I::Handle<Vec<R>> {
        let Self { lifecycle, share, kernel } = self.clone();
        items.start(Start::new(move |List(items)| {
            lifecycle.call(kernel.name(), items.len(), true, &share, |core| kernel.prepare_try(core, items))
        }))
    }
}

/// A function over the columns of a matrix, distributed over the slots it owns. Clones share them. It ends as a
/// [`DistributedFunction`] does.
pub struct ColumnFunction<T, Y> {
    lifecycle: Arc<Lifecycle>,
    share: Share,
    kernel: ColumnKernel<T, Y>,
}

impl<T: Send + Sync + 'static, Y: ColumnResult> ColumnFunction<T, Y> {
    /// Runs the function on blocks of the columns of `x` (D x N) and pastes the results together: equal to `fun(x)`.
    ///
    /// Blocks are views in the memory order of `x`, never copies, and differ in width by at most one column. The result
    /// is bit-equal to `fun(x)` if the function's arithmetic for a column does not depend on the block's width. A D x 0
    /// matrix is given to the function once, in the calling thread. A K x N result is laid out as the function's own
    /// results are. A block that panics is halved until the columns that panic stand alone; so on a panic the function
    /// sees some columns more than once.
    ///
    /// Owned input (`Array2`, `ArcArray2`, `Arc<Array2>`) gives a [`Call`](crate::Call), which has started; `&Array2`
    /// and views give a [`Scoped`], which starts in its `wait`.
    ///
    /// ```
    /// use distfun::prelude::*;
    /// use ndarray::{Array1, Array2, ArrayView2, Axis};
    ///
    /// fn sums(x: ArrayView2<f64>) -> Array1<f64> {
    ///     x.sum_axis(Axis(0))
    /// }
    ///
    /// let x = Array2::from_shape_fn((3, 1000), |(i, j)| (i * j) as f64);
    /// assert_eq!(distribute!(sums).build()?.columns(&x).wait()?, sums(x.view()));
    /// # Ok::<(), distfun::Error>(())
    /// ```
    pub fn columns<X: ColumnsInput<T>>(&self, x: X) -> X::Handle<Y> {
        x.start(self.start(Vec::new()))
    }

    /// The same, replacing `y` by the result and reusing its allocation. It runs in `wait`; if the call does not end
    /// well, `y` is left empty and what is finished is in the error.
    pub fn columns_into<'a, X: ColumnsInput<T> + 'a>(&self, x: X, y: &'a mut Y) -> Scoped<'a, Y, ()> {
        let this = self.clone();
        Scoped::new(move || {
            let empty = Y::from_elements(Vec::new(), 1, 0, false);
            let reuse = std::mem::replace(y, empty).into_buffer();
            *y = of_call(|with| x.run(this.start(reuse), with), Call::wait)?;
            Ok(())
        })
    }

    fn start(&self, reuse: Vec<Y::Elem>) -> Start<Columns<T>, Y> {
        let Self { lifecycle, share, kernel } = self.clone();
        Start::new(move |Columns(x)| {
            let columns = x.view().ncols();
            lifecycle.call(kernel.name(), columns, false, &share, |core| kernel.prepare(core, x, reuse))
        })
    }

    endings!();
}

impl<A, R> Clone for DistributedFunction<A, R> {
    fn clone(&self) -> Self {
        Self { lifecycle: self.lifecycle.clone(), share: self.share.clone(), kernel: self.kernel.clone() }
    }
}

impl<T, Y> Clone for ColumnFunction<T, Y> {
    fn clone(&self) -> Self {
        Self { lifecycle: self.lifecycle.clone(), share: self.share.clone(), kernel: self.kernel.clone() }
    }
}

impl<A, R> fmt::Debug for DistributedFunction<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DistributedFunction").field(&self.kernel).finish()
    }
}

impl<T, Y> fmt::Debug for ColumnFunction<T, Y> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ColumnFunction").field(&self.kernel).finish()
    }
}
