//! The shared data of a distributed function, which is let go of when the function ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use distfun_core::shared_data::SharedData;

/// What one handle of a distributed function, and its clones, give to their calls.
#[derive(Clone)]
pub struct Share(Arc<Held>);

type Held = Mutex<Option<SharedData>>;

impl Share {
    /// What calls get now; nothing after the end.
    pub(crate) fn get(&self) -> SharedData {
        lock(&self.0).clone().unwrap_or_default()
    }
}

/// Every [`Share`] of one distributed function.
#[derive(Default)]
pub(crate) struct Shares {
    all: Mutex<Vec<Weak<Held>>>,
}

impl Shares {
    pub(crate) fn add(&self, shared: SharedData) -> Share {
        let held = Arc::new(Mutex::new(Some(shared)));
        let mut all = lock(&self.all);
        all.retain(|share| share.strong_count() > 0);
        all.push(Arc::downgrade(&held));
        Share(held)
    }

    /// Lets go of all shared data; calls that run keep theirs until they end.
    pub(crate) fn release(&self) {
        let all = std::mem::take(&mut *lock(&self.all));
        for share in all.iter().filter_map(Weak::upgrade) {
            let shared = lock(&share).take();
            drop(shared); // not under the lock: its values are the user's
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
