//! A call over an iterator: items are pulled as they are needed, results come while others still run.

mod flow;
mod window;

use std::{
    fmt,
    iter::FusedIterator,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use distfun_core::{failure::ItemFailure, ids::CallId};
use futures_core::{FusedStream, Stream};

use crate::call::{Canceller, Progress};
use flow::Flow;
pub(crate) use flow::{Opened, Seat};

/// The results of a call over an iterator, one by one: what [`stream`](crate::DistributedFunction::stream) returns.
///
/// Iterate over it (`for result in dfun.stream(items)`), which blocks, or use it as a `futures::Stream` in async code.
/// Results come in input order; with [`as_completed`](Self::as_completed), as soon as they are there. A failed item is an
/// `Err` in its place, and the stream goes on.
///
/// The thread that asks for results pulls the iterator, at most a window ahead of them: so it may be endless, and needs
/// neither `Send` nor `'static`. The window starts small and grows while results are asked for quickly, up to
/// [`window`](Self::window) items and [`window_bytes`](Self::window_bytes). While the iterator blocks, results have to wait.
///
/// If the call is ended from elsewhere (`finished`, `shutdown`, a [`Canceller`]), items that were pulled and not run are an
/// `Err` each, and so is the first one that was not pulled: a stream that ends without an `Err` has used its input up.
/// Dropping it cancels the call.
///
/// # Cancel safety
/// Dropping a future of the next result (`stream.next()`) loses nothing; the next one gives that result.
///
/// ```
/// use distfun::prelude::*;
///
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// let mut sum = 0;
/// for result in distribute!(square).build()?.stream(1..).into_iter().take(3) {
///     sum += result?;
/// }
/// assert_eq!(sum, 1 + 4 + 9);
/// # Ok::<(), distfun::Error>(())
/// ```
///
/// In async code, with `futures::StreamExt` (or that of `tokio-stream`). Iterator adaptors (`take`, `map`, `enumerate`) come
/// after `.into_iter()`, because those of `StreamExt` have the same names:
///
/// ```
/// # use futures::StreamExt;
/// # use distfun::prelude::*;
/// # fn square(x: u64) -> u64 { x * x }
/// # futures::executor::block_on(async {
/// let mut squares = distribute!(square).build()?.stream(1..=3).window(100);
/// while let Some(result) = squares.next().await {
///     println!("{}", result?);
/// }
/// # Ok::<(), distfun::Error>(()) }).unwrap();
/// ```
///
/// An `Err` that the function itself returns is an ordinary result, `Ok(Err(…))`; `result??` passes both on.
#[must_use = "nothing is pulled from the input until results are asked for"]
pub struct ResultStream<I: Iterator, R, O = InOrder> {
    flow: Flow<I, R>,
    order: PhantomData<fn() -> O>,
}

/// Marks a stream in input order.
#[derive(Debug)]
pub struct InOrder;

/// Marks a stream in the order in which items end; each comes with its index.
#[derive(Debug)]
pub struct AsCompleted;

/// In which order a [`ResultStream`] gives its results: [`InOrder`] or [`AsCompleted`].
pub trait StreamOrder: sealed::Sealed {
    /// `Result<R, ItemFailure>`; as completed, `(usize, Result<R, ItemFailure>)` with the item's index.
    type Item<R>;
    #[doc(hidden)]
    fn item<R>(index: usize, result: Result<R, ItemFailure>) -> Self::Item<R>;
}

impl StreamOrder for InOrder {
    type Item<R> = Result<R, ItemFailure>;
    fn item<R>(_: usize, result: Result<R, ItemFailure>) -> Self::Item<R> {
        result
    }
}

impl StreamOrder for AsCompleted {
    type Item<R> = (usize, Result<R, ItemFailure>);
    fn item<R>(index: usize, result: Result<R, ItemFailure>) -> Self::Item<R> {
        (index, result)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::InOrder {}
    impl Sealed for super::AsCompleted {}
}

impl<I, R> ResultStream<I, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    R: Send + 'static,
{
    pub(crate) fn new(source: I, opened: Opened<I::Item, R>) -> Self {
        Self { flow: Flow::new(source, opened), order: PhantomData }
    }

    /// Gives each result as soon as it is there, as `(index, result)`.
    ///
    /// ```
    /// # use distfun::prelude::*;
    /// let stream = distribute!(f64::sqrt).build()?.stream([1.0, 4.0, 9.0]).as_completed();
    /// let mut roots: Vec<_> = stream.into_iter().map(|(index, root)| (index, root.unwrap())).collect();
    /// roots.sort_by_key(|(index, _)| *index);
    /// assert_eq!(roots, [(0, 1.0), (1, 2.0), (2, 3.0)]);
    /// # Ok::<(), distfun::Error>(())
    /// ```
    pub fn as_completed(mut self) -> ResultStream<I, R, AsCompleted> {
        self.flow.in_order = false;
        ResultStream { flow: self.flow, order: PhantomData }
    }
}

impl<I, R, O> ResultStream<I, R, O>
where
    I: Iterator,
    I::Item: Send + 'static,
    R: Send + 'static,
{
    /// At most so many items are pulled whose results have not been taken yet, at least 1. Default: 65 536. Too low, and
    /// slots wait for the consumer; too high, and items or results pile up in memory.
    pub fn window(mut self, items: usize) -> Self {
        self.flow.window.limit_items(items);
        self
    }

    /// The same limit in bytes of items and results together; a single item is let through whatever its size. Default:
    /// 256 MiB. What they hold on the heap counts only with [`item_bytes`](Self::item_bytes).
    pub fn window_bytes(mut self, bytes: usize) -> Self {
        self.flow.window.limit_bytes(bytes);
        self
    }

    /// How many bytes an item and its result hold together, for [`window_bytes`](Self::window_bytes).
    pub fn item_bytes(mut self, bytes: impl Fn(&I::Item) -> usize + Send + 'static) -> Self {
        self.flow.window.weigh_by(bytes);
        self
    }

    /// How far the call is; its items are those pulled so far.
    pub fn progress(&self) -> Progress {
        self.flow.progress()
    }

    /// A handle that can cancel the call from elsewhere.
    pub fn canceller(&self) -> Canceller {
        self.flow.canceller()
    }

    /// The call's id, as in [`Status`](crate::Status) and the log.
    pub fn id(&self) -> CallId {
        self.flow.id()
    }
}

impl<I: Iterator, R, O> Unpin for ResultStream<I, R, O> {}

impl<I, R, O> Stream for ResultStream<I, R, O>
where
    I: Iterator,
    I::Item: Send + 'static,
    R: Send + 'static,
    O: StreamOrder,
{
    type Item = O::Item<R>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.flow.poll(context.waker()).map(|outcome| outcome.map(|(index, result)| O::item(index, result)))
    }
}

impl<I, R, O> FusedStream for ResultStream<I, R, O>
where
    I: Iterator,
    I::Item: Send + 'static,
    R: Send + 'static,
    O: StreamOrder,
{
    fn is_terminated(&self) -> bool {
        self.flow.is_over()
    }
}

impl<I, R, O> IntoIterator for ResultStream<I, R, O>
where
    I: Iterator,
    I::Item: Send + 'static,
    R: Send + 'static,
    O: StreamOrder,
{
    type Item = O::Item<R>;
    type IntoIter = ResultIter<I, R, O>;
    fn into_iter(self) -> ResultIter<I, R, O> {
        ResultIter { stream: self, waker: None }
    }
}

impl<I: Iterator, R, O> fmt::Debug for ResultStream<I, R, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.flow, f)
    }
}

/// The results of a [`ResultStream`], blocking until each is there.
#[derive(Debug)]
#[must_use = "nothing is pulled from the input until results are asked for"]
pub struct ResultIter<I: Iterator, R, O = InOrder> {
    stream: ResultStream<I, R, O>,
    /// Wakes the thread that asked last.
    waker: Option<(Thread, Waker)>,
}

impl<I, R, O> ResultIter<I, R, O>
where
    I: Iterator,
    I::Item: Send + 'static,
    R: Send + 'static,
{
    fn wait(&mut self) -> Option<(usize, Result<R, ItemFailure>)> {
        let here = thread::current();
        let (_, waker) = match &mut self.waker {
            Some(known) if known.0.id() == here.id() => known,
            other => other.insert((here.clone(), Waker::from(Arc::new(Unpark(here))))),
        };
        let flow = &mut self.stream.flow;
        loop {
            match flow.poll(waker) {
                Poll::Ready(Some(outcome)) => return Some(outcome),
                Poll::Ready(None) => {
                    flow.leave();
                    return None;
                }
                Poll::Pending => flow.park(),
            }
        }
    }
}

impl<I, R, O> Iterator for ResultIter<I, R, O>
where
    I: Iterator,
    I::Item: Send + 'static,
    R: Send + 'static,
    O: StreamOrder,
{
    type Item = O::Item<R>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (index, result) = match self.stream.flow.at_hand() {
            Some(outcome) => outcome,
            None => self.wait()?,
        };
        Some(O::item(index, result))
    }
}

impl<I, R, O> FusedIterator for ResultIter<I, R, O>
where
    I: Iterator,
    I::Item: Send + 'static,
    R: Send + 'static,
    O: StreamOrder,
{
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
