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

/// Every [`Share`] of one distributed function; none after its end.
pub(crate) struct Shares {
    all: Mutex<Option<Vec<Weak<Held>>>>,
}

impl Default for Shares {
    fn default() -> Self {
        Self { all: Mutex::new(Some(Vec::new())) }
    }
}

impl Shares {
    pub(crate) fn add(&self, shared: SharedData) -> Share {
        let mut all = lock(&self.all);
        let Some(all) = &mut *all else { return Share(Arc::default()) };
        let held = Arc::new(Mutex::new(Some(shared)));
        all.retain(|share| share.strong_count() > 0);
        all.push(Arc::downgrade(&held));
        Share(held)
    }

    /// Lets go of all shared data; calls that run keep theirs until they end.
    pub(crate) fn release(&self) {
        let all = lock(&self.all).take();
        for share in all.iter().flatten().filter_map(Weak::upgrade) {
            let shared = lock(&share).take();
            drop(shared); // not under the lock: its values are the user's
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
