//! Models of what the unsafe code of distfun leans on, for [loom](https://docs.rs/loom), which runs them in every order
//! that their threads can take. Empty without `--cfg loom`:
//!
//! `RUSTFLAGS='--cfg loom' cargo test --release -p distfun-loom`
#![cfg(all(loom, test))]

#[allow(dead_code, reason = "a model uses what it needs")]
#[path = "../../../actors/src/compute/latch.rs"]
mod latch;

use latch::Latch;
use loom::{cell::UnsafeCell, sync::Arc, thread};

/// A waiter that sleeps is woken, and sees what was written before the opening; a lost wake-up would be a deadlock.
#[test]
fn a_waiter_sees_what_came_before_the_opening() {
    loom::model(|| {
        let shared = Arc::new((Latch::new(), Plain::new(0)));
        let theirs = shared.clone();
        let opener = thread::spawn(move || {
            theirs.1.set(7);
            theirs.0.open();
        });
        shared.0.wait();
        assert!(shared.0.is_open());
        assert_eq!(shared.1.get(), 7);
        opener.join().unwrap();
    });
}

#[test]
fn two_waiters_are_both_woken() {
    loom::model(|| {
        let latch = Arc::new(Latch::new());
        let waiters = [(); 2].map(|()| {
            let latch = latch.clone();
            thread::spawn(move || latch.wait())
        });
        latch.open();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn it_may_be_opened_twice() {
    loom::model(|| {
        let latch = Arc::new(Latch::new());
        let openers = [(); 2].map(|()| {
            let latch = latch.clone();
            thread::spawn(move || latch.open())
        });
        latch.wait();
        openers.into_iter().for_each(|opener| opener.join().unwrap());
    });
}

/// As in `lend.rs`: the last share of a lease opens the latch, and only then does the lender touch what it lent.
#[test]
fn a_lender_waits_for_the_last_share() {
    loom::model(|| {
        let data = Arc::new(Plain::new(1));
        let latch = Arc::new(Latch::new());
        let lease = Arc::new(Lease(latch.clone()));
        let borrowers = [lease.clone(), lease].map(|share| {
            let data = data.clone();
            thread::spawn(move || {
                assert_eq!(data.get(), 1);
                drop(share);
            })
        });
        latch.wait();
        data.set(2); // loom fails if a borrower could still be reading
        borrowers.into_iter().for_each(|borrower| borrower.join().unwrap());
    });
}

/// The lender's own share goes last or first, whoever is quicker.
#[test]
fn a_lender_that_holds_a_share_itself_is_not_locked_out() {
    loom::model(|| {
        let data = Arc::new(Plain::new(1));
        let latch = Arc::new(Latch::new());
        let lease = Arc::new(Lease(latch.clone()));
        let (theirs, share) = (data.clone(), lease.clone());
        let borrower = thread::spawn(move || {
            assert_eq!(theirs.get(), 1);
            drop(share);
        });
        drop(lease);
        latch.wait();
        data.set(2);
        borrower.join().unwrap();
    });
}

struct Lease(Arc<Latch>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// A value without any lock of its own, whose accesses loom checks for races.
struct Plain(UnsafeCell<u32>);

#[allow(unsafe_code)]
mod plain {
    use super::*;

    // SAFETY: `UnsafeCell` of loom tracks every access and fails the model on a race; that is its purpose here.
    unsafe impl Sync for Plain {}
    // SAFETY: as above.
    unsafe impl Send for Plain {}

    impl Plain {
        pub(super) fn new(value: u32) -> Self {
            Self(UnsafeCell::new(value))
        }

        pub(super) fn get(&self) -> u32 {
            // SAFETY: loom checks that nobody writes meanwhile.
            self.0.with(|value| unsafe { *value })
        }

        pub(super) fn set(&self, to: u32) {
            // SAFETY: loom checks that nobody else reads or writes meanwhile.
            self.0.with_mut(|value| unsafe { *value = to });
        }
    }
}
