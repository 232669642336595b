//! An island of `unsafe`: borrowed input lent to compute threads, which know no lifetimes.
//!
//! What [`lend_slice`] and [`lend_matrix`] hand out holds a lease, and they return, even by panic, only after the last
//! lease is gone.
#![allow(unsafe_code)]

use std::{ptr::NonNull, sync::Arc};

use ndarray::{ArrayView2, Ix2, RawArrayView};

use super::latch::Latch;

/// Opens the latch when the last share of it is dropped.
struct Lease(Arc<Latch>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Waits, whichever way the lender's frame is left, until nothing is lent any more.
struct Lender(Arc<Latch>);

impl Drop for Lender {
    fn drop(&mut self) {
        self.0.wait();
    }
}

fn lend<V, O>(value: impl FnOnce(Arc<Lease>) -> V, body: impl FnOnce(V) -> O) -> O {
    let lender = Lender(Arc::new(Latch::new()));
    body(value(Arc::new(Lease(lender.0.clone()))))
}

/// A slice on loan; see [`lend_slice`].
#[derive(Clone)]
pub(crate) struct LentSlice<A> {
    slice: NonNull<[A]>,
    _lease: Arc<Lease>,
}

// SAFETY: it gives shared access to the items only, and `lend_slice`, which alone makes it, asks for `A: Sync`. (Asking
// here would ask it of every list call, lent or not.)
unsafe impl<A> Send for LentSlice<A> {}
// SAFETY: as above.
unsafe impl<A> Sync for LentSlice<A> {}

impl<A> LentSlice<A> {
    pub(crate) fn get(&self) -> &[A] {
        // SAFETY: the slice is borrowed for as long as `lend_slice` runs, and that waits for this lease to be dropped.
        unsafe { self.slice.as_ref() }
    }
}

/// Lends `slice` to threads without a lifetime. Returns after `body` has and every clone of the loan is dropped.
pub(crate) fn lend_slice<A: Sync, O>(slice: &[A], body: impl FnOnce(LentSlice<A>) -> O) -> O {
    lend(|lease| LentSlice { slice: NonNull::from(slice), _lease: lease }, body)
}

/// A matrix on loan; see [`lend_matrix`].
#[derive(Clone)]
pub(crate) struct LentMatrix<T> {
    view: RawArrayView<T, Ix2>,
    _lease: Arc<Lease>,
}

// SAFETY: it gives shared access to the elements only, which `T: Sync` allows from any thread.
unsafe impl<T: Sync> Send for LentMatrix<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for LentMatrix<T> {}

impl<T> LentMatrix<T> {
    pub(crate) fn view(&self) -> ArrayView2<'_, T> {
        // SAFETY: the view is borrowed for as long as `lend_matrix` runs, and that waits for this lease to be dropped.
        unsafe { self.view.deref_into_view() }
    }
}

/// Lends the matrix behind `view` to threads without a lifetime. Returns after `body` has and every clone of the loan
/// is dropped.
pub(crate) fn lend_matrix<T, O>(view: ArrayView2<'_, T>, body: impl FnOnce(LentMatrix<T>) -> O) -> O {
    lend(|lease| LentMatrix { view: view.raw_view(), _lease: lease }, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_loan_is_waited_for_even_when_the_lender_panics() {
        use std::sync::atomic::{AtomicBool, Ordering};
        for panics in [false, true] {
            let data = vec![1, 2, 3];
            let read = Arc::new(AtomicBool::new(false));
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                lend_slice(&data, |lent| {
                    let read = read.clone();
                    std::thread::spawn(move || {
                        std::thread::sleep(std::time::Duration::from_millis(30));
                        assert_eq!(lent.get(), [1, 2, 3]);
                        read.store(true, Ordering::SeqCst);
                    });
                    assert!(!panics);
                })
            }));
            assert_eq!(outcome.is_err(), panics);
            assert!(read.load(Ordering::SeqCst), "returned while lent");
        }
    }
}
