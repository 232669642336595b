//! A door that opens once, for threads to wait at.

#[cfg(loom)]
use loom::sync::{
    Condvar, Mutex,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(loom))]
use std::sync::{
    Condvar, Mutex,
    atomic::{AtomicBool, Ordering},
};
use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

/// Waiting this long without sleeping saves the wake-up (5 to 50 us) when the answer is near; longer would burn a CPU.
pub(crate) const SPIN: Duration = Duration::from_micros(20);

/// Opens once and stays open. Every wait ends at the opening.
#[derive(Debug)]
pub(crate) struct Latch {
    open: AtomicBool,
    lock: Mutex<()>,
    opened: Condvar,
}

impl Latch {
    pub(crate) fn new() -> Self {
        Self { open: AtomicBool::new(false), lock: Mutex::new(()), opened: Condvar::new() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(crate) fn open(&self) {
        // The store happens under the lock, so that it can't fall between a waiter's look and its sleep.
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.open.store(true, Ordering::Release);
        drop(guard);
        self.opened.notify_all();
    }

    pub(crate) fn wait(&self) {
        if self.spin() {
            return;
        }
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.is_open() {
            guard = self.opened.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits at most until `limit`; says whether the latch is open.
    #[cfg(not(loom))]
    pub(crate) fn wait_until(&self, limit: Instant) -> bool {
        if self.spin() {
            return true;
        }
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.is_open() {
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            guard = self.opened.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    #[cfg(not(loom))]
    fn spin(&self) -> bool {
        spin_until(|| self.is_open())
    }

    #[cfg(loom)]
    fn spin(&self) -> bool {
        let _ = (SPIN, Instant::now);
        self.is_open()
    }
}

/// Looks for at most [`SPIN`] whether `ready`.
pub(crate) fn spin_until(ready: impl Fn() -> bool) -> bool {
    if ready() {
        return true;
    }
    let start = Instant::now();
    while start.elapsed() < SPIN {
        for _ in 0..8 {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
    }
    false
}
