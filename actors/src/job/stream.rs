//! A list call whose items come while it runs, and whose results are taken meanwhile.

use std::{
    ops::Range,
    sync::{PoisonError, atomic::Ordering},
};

use distfun_core::{
    failure::{Ending, ItemFailure},
    ids::CallId,
};

use super::{ListJob, list::Source};
use crate::compute::parts::{Items, Output};

/// Outcomes that are there.
pub(crate) enum Ready<R> {
    /// Results of consecutive items.
    Results(Range<usize>, Vec<R>),
    Failed(ItemFailure),
}

impl<A, R> ListJob<A, R> {
    pub(crate) fn id(&self) -> CallId {
        self.core.id
    }

    /// Ends a call that no engine knows, unless it has ended.
    pub(crate) fn end_here(&self, ending: Ending) {
        if !self.core.is_ended() {
            let failed = ending == Ending::Complete && self.core.counts().1 > 0;
            self.core.finish(if failed { Ending::ItemsFailed } else { ending }, Vec::new());
        }
    }
}

impl<A: Send + 'static, R: Send + 'static> ListJob<A, R> {
    /// Takes in more items, numbered after those before; the engine has to hear of them next.
    pub(crate) fn feed(&self, items: Vec<A>) {
        let (first, count) = (self.core.items(), items.len());
        let Source::Owned(shelf) = &self.source else { unreachable!("an open call owns its items") };
        self.results().blank.put(Output::numbered(first, Vec::new(), 1, count));
        shelf.lock().unwrap_or_else(PoisonError::into_inner).put(Items::numbered(first, items));
        self.core.items.store(first + count, Ordering::Relaxed);
    }

    /// Takes outcomes that are there: those from item `next` on, or any.
    pub(crate) fn take_ready(&self, next: Option<usize>) -> Option<Ready<R>> {
        let mut results = self.results();
        let (part, failure) = match next {
            Some(next) => (results.filled.take_at(next), results.failed.remove(&next)),
            None => (results.filled.take_first(), results.failed.pop_first().map(|(_, failure)| failure)),
        };
        if let Some(part) = part {
            if let Some(failure) = failure {
                results.failed.insert(failure.index, failure);
            }
            drop(results);
            return Some(Ready::Results(part.range(), part.into_vec()));
        }
        failure.map(Ready::Failed)
    }
}
