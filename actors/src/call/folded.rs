//! A call whose results are combined into one.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use distfun_core::ids::CallId;

use super::{Call, Canceller, Progress};
use crate::error::CallError;

impl<R: Send + 'static> Call<Vec<R>> {
    /// Combines the results in pairs where they are made, so that they neither come home nor pile up: a sum, a maximum, a
    /// merge of sketches over ten million items.
    ///
    /// `combine` gets neighbours, the left one first, in a tree whose shape depends on the number of items only. So the
    /// outcome repeats exactly whatever the slots and the timing, also for floating-point sums (which in such a tree have
    /// smaller errors than in a row: Higham, SIAM J. Sci. Comput. 14, 1993); it equals the fold in a row if `combine` is
    /// associative. `identity` is the outcome of no items, and not used otherwise. Under `try_map` the first `Err` ends the
    /// call as usual.
    ///
    /// ```
    /// use distfun::prelude::*;
    ///
    /// let square = distribute!(|x: u64| x * x).build()?;
    /// assert_eq!(square.map(0..1000).fold_tree(0, |a, b| a + b).wait()?, (0..1000).map(|x| x * x).sum());
    /// # Ok::<(), distfun::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`wait`](Self::wait), and when `combine` panics: then the failed item is the one where the two sides meet. Results
    /// that were combined are gone, so the error has none, only their number.
    pub fn fold_tree<F>(self, identity: R, combine: F) -> Folded<R>
    where
        F: Fn(R, R) -> R + Send + Sync + 'static,
    {
        self.body.fold(Arc::new(combine));
        Folded { call: self, identity: Some(identity) }
    }
}

/// A call whose results are combined into one: what [`Call::fold_tree`] returns. It is used as a [`Call`] is, but has no
/// `settle`, since its items' results are not kept.
#[must_use = "dropping a call cancels it; `.wait()` for it or `.await` it"]
pub struct Folded<R: Send + 'static> {
    call: Call<Vec<R>>,
    identity: Option<R>,
}

impl<R: Send + 'static> Folded<R> {
    /// Blocks until the call has ended.
    ///
    /// # Errors
    /// As [`Call::fold_tree`] says.
    pub fn wait(self) -> Result<R, CallError<Vec<R>>> {
        self.wait_limited(None)
    }

    /// As [`Call::wait_timeout`].
    ///
    /// # Errors
    /// As [`Call::fold_tree`] says.
    pub fn wait_timeout(self, limit: Duration) -> Result<R, CallError<Vec<R>>> {
        self.wait_limited(Some(limit))
    }

    fn wait_limited(mut self, limit: Option<Duration>) -> Result<R, CallError<Vec<R>>> {
        let in_time = self.call.block(limit);
        let result = self.take();
        if in_time {
            self.call.leave();
        }
        result
    }

    fn take(&mut self) -> Result<R, CallError<Vec<R>>> {
        self.call.taken = true;
        let folded = self.call.body.take_folded()?;
        Ok(folded.or_else(|| self.identity.take()).expect("an outcome is taken once"))
    }

    /// How far the call is.
    pub fn progress(&self) -> Progress {
        self.call.progress()
    }

    /// A handle that can cancel this call from elsewhere.
    pub fn canceller(&self) -> Canceller {
        self.call.canceller()
    }

    /// The call's id, as in [`Status`](crate::Status) and the log.
    pub fn id(&self) -> CallId {
        self.call.id()
    }
}

impl<R: Send + 'static> Unpin for Folded<R> {}

impl<R: Send + 'static> Future for Folded<R> {
    type Output = Result<R, CallError<Vec<R>>>;

    /// # Panics
    /// If polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.call.poll_end(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(self.take()),
        }
    }
}

impl<R: Send + 'static> fmt::Debug for Folded<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Folded").field(&self.call).finish()
    }
}
