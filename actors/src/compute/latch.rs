//! A door that opens once, for threads to wait at.

#[cfg(loom)]
use loom::sync::{
    Condvar, Mutex,
    atomic::{AtomicBool, Ordering},
};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{
    Condvar, Mutex,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(loom))]
use std::time::Instant;

#[cfg(not(loom))]
use super::awake::spin_until;

/// Opens once and stays open. Every wait ends at the opening.
#[derive(Debug)]
pub(crate) struct Latch {
    open: AtomicBool,
    /// How many threads sleep here: waking nobody would still cost a system call.
    sleepers: Mutex<usize>,
    opened: Condvar,
}

impl Latch {
    pub(crate) fn new() -> Self {
        Self { open: AtomicBool::new(false), sleepers: Mutex::new(0), opened: Condvar::new() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(crate) fn open(&self) {
        // The store happens under the lock, so that it can't fall between a waiter's look and its sleep.
        let sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        self.open.store(true, Ordering::Release);
        let anybody = *sleepers > 0;
        drop(sleepers);
        if anybody {
            self.opened.notify_all();
        }
    }

    pub(crate) fn wait(&self) {
        if self.spin() {
            return;
        }
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        *sleepers += 1;
        while !self.is_open() {
            sleepers = self.opened.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
        }
        *sleepers -= 1;
    }

    /// Waits at most until `limit`; says whether the latch is open.
    #[cfg(not(loom))]
    pub(crate) fn wait_until(&self, limit: Instant) -> bool {
        if self.spin() {
            return true;
        }
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        *sleepers += 1;
        loop {
            let left = limit.saturating_duration_since(Instant::now());
            if self.is_open() || left.is_zero() {
                *sleepers -= 1;
                return self.is_open();
            }
            sleepers = self.opened.wait_timeout(sleepers, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    #[cfg(not(loom))]
    fn spin(&self) -> bool {
        spin_until(|| self.is_open())
    }

    #[cfg(loom)]
    fn spin(&self) -> bool {
        self.is_open()
    }
}
