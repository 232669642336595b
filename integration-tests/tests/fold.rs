//! Results combined in a fixed tree where they are made.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use distfun::{Ending, FailureCause, distribute, distribute_local, distribute_local_ref, fault::kill_this_thread};
use futures::executor::block_on;
use proptest::prelude::*;

use crate::support::within;

/// The tree, written down once more: split at the largest power of two below the length.
fn tree<R: Clone>(items: &[R], combine: &impl Fn(R, R) -> R) -> R {
    match items {
        [one] => one.clone(),
        _ => {
            let (left, right) = items.split_at(items.len().next_power_of_two() / 2);
            combine(tree(left, combine), tree(right, combine))
        }
    }
}

fn uneven(x: u32) -> f64 {
    1.0 / (1.0 + f64::from(x)) * if x.is_multiple_of(3) { -1e9 } else { 1.0 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_sum_of_floats_is_the_same_bits_on_any_slots(items in 0u32..5000, slots in 1usize..5, slow: bool, borrowed: bool) {
        let expected = match items {
            0 => 0.25,
            _ => tree(&(0..items).map(uneven).collect::<Vec<_>>(), &|a, b| a + b),
        };
        let function = move |x: u32| {
            if slow && x.is_multiple_of(100) { thread::sleep(Duration::from_micros(u64::from(x) % 400)) }
            uneven(x)
        };
        let dfun = distribute_local(function).slots(slots).build().unwrap();
        let list: Vec<u32> = (0..items).collect();
        let sum = if borrowed {
            dfun.map(&list).fold_tree(0.25, |a, b| a + b).wait().unwrap()
        } else {
            dfun.map(list).fold_tree(0.25, |a, b| a + b).wait().unwrap()
        };
        prop_assert_eq!(sum.to_bits(), expected.to_bits());
    }

    #[test]
    fn neighbours_meet_in_order(items in 1usize..300, slots in 1usize..4) {
        let join = |a: String, b: String| format!("({a} {b})");
        let all: Vec<String> = (0..items).map(|x| x.to_string()).collect();
        let expected = tree(&all, &join);
        let dfun = distribute!(|x: usize| x.to_string()).slots(slots).build().unwrap();
        prop_assert_eq!(dfun.map(0..items).fold_tree(String::new(), join).wait().unwrap(), expected);
    }
}

#[test]
fn all_faces_of_a_call_fold() {
    let sum = |a: u64, b: u64| a + b;
    let expected = (0..1000u64).sum::<u64>();
    let by_ref = distribute_local_ref(|x: &u64| *x).slots(2).endaftercall(false).build().unwrap();
    assert_eq!(by_ref.map(0..1000).fold_tree(0, sum).wait().unwrap(), expected);
    assert_eq!(block_on(by_ref.map(0..1000).fold_tree(0, sum)).unwrap(), expected);
    assert_eq!(by_ref.map(0..1000).fold_tree(0, sum).wait_timeout(Duration::from_secs(9)).unwrap(), expected);
    let alone = distribute!(|x: u64| x).sequential(true).build().unwrap();
    assert_eq!(alone.map(0..1000).fold_tree(0, sum).wait().unwrap(), expected);
    let tried = distribute!(|x: u64| if x < 2000 { Ok(x) } else { Err(format!("{x} is too much")) });
    let tried = tried.endaftercall(false).build().unwrap();
    assert_eq!(tried.try_map(0..1000).fold_tree(0, sum).wait().unwrap(), expected);
    let error = tried.try_map(0..5000).fold_tree(0, sum).wait().unwrap_err();
    assert_eq!((error.ending(), error.failed()[0].index), (Ending::FirstFailure(2000), 2000));
    assert!(error.to_string().contains("2000 is too much"), "{error}");
    assert!(error.finished().is_empty() && error.finished_count <= 5000);
}

#[test]
fn a_failed_item_fails_the_fold_and_is_named() {
    let dfun = distribute!(|x: u32| if x == 77 { panic!("no 77") } else { x }).slots(2).build().unwrap();
    let error = dfun.map(0..500).fold_tree(0, |a, b| a + b).wait().unwrap_err();
    assert_eq!((error.ending(), error.failed().len(), error.failed()[0].index), (Ending::ItemsFailed, 1, 77));
    assert_eq!(error.finished_count, 499);
}

#[test]
fn a_panic_while_combining_fails_the_call_where_the_sides_meet() {
    for (slots, sequential) in [(1, false), (3, false), (1, true)] {
        let combine = |a: u32, b: u32| if b == 64 { panic!("never 64") } else { a.max(b) };
        let dfun = distribute!(|x: u32| x).slots(slots).sequential(sequential).build().unwrap();
        // 64 is a left leaf, and a right side only when it is the last item: of 65, it meets 0..64.
        let error = within(move || dfun.map(0..65).fold_tree(0, combine).wait().unwrap_err());
        assert_eq!(error.ending(), Ending::ItemsFailed);
        assert!(matches!(&error.failed()[0].cause, FailureCause::Panicked { message, .. } if &**message == "never 64"));
        let combine = |a: u32, b: u32| if b == 31 { panic!("never 31") } else { a.max(b) };
        let dfun = distribute!(|x: u32| x).slots(slots).sequential(sequential).build().unwrap();
        let error = within(move || dfun.map(0..64).fold_tree(0, combine).wait().unwrap_err());
        assert_eq!((error.ending(), error.failed()[0].index / 32), (Ending::ItemsFailed, 0));
        assert!(error.to_string().contains("never 31"), "{error}");
    }
}

#[test]
fn results_do_not_pile_up() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    struct Counted(u64);
    impl Counted {
        fn new(x: u64) -> Self {
            MOST.fetch_max(ALIVE.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            Self(x)
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let slow = |x: u64| {
        thread::sleep(Duration::from_micros(50));
        Counted::new(x)
    };
    let dfun = distribute_local(slow).slots(2).build().unwrap();
    let sum = dfun.map(0..10_000).fold_tree(Counted(0), |a, b| Counted::new(a.0 + b.0)).wait().unwrap();
    assert_eq!(sum.0, (0..10_000u64).sum::<u64>());
    std::mem::forget(sum);
    let most = MOST.load(Ordering::SeqCst);
    assert!(most < 5000, "{most} of 10 000 results were there at once");
}

#[test]
fn a_cancelled_fold_frees_what_it_has() {
    let alive = Arc::new(());
    let held = alive.clone();
    let slow = move |x: u64| {
        thread::sleep(Duration::from_millis(1));
        (x, held.clone())
    };
    let dfun = distribute_local(slow).slots(2).endaftercall(false).build().unwrap();
    let call = dfun.map(0..100_000).fold_tree((0, alive.clone()), |a, b| (a.0 + b.0, a.1));
    thread::sleep(Duration::from_millis(30));
    call.canceller().cancel();
    assert_eq!(call.wait().unwrap_err().ending(), Ending::Cancelled);
    dfun.finished().unwrap();
    drop(dfun);
    crate::support::eventually(crate::support::LIMIT, "freed", || Arc::strong_count(&alive) == 1);
}

#[test]
#[should_panic(expected = "after it had returned its result")]
fn a_fold_gives_its_outcome_once() {
    let dfun = distribute!(|x: u64| x).slots(2).build().unwrap();
    let mut fold = dfun.map(0..1000).fold_tree(0, |a, b| a + b);
    assert_eq!(block_on(&mut fold).unwrap(), 499_500);
    let _ = fold.wait();
}

#[test]
fn a_thread_that_dies_while_it_combines_fails_the_call() {
    let error = within(|| {
        let once = std::sync::atomic::AtomicBool::new(false);
        let first_on_a_slot = move || {
            let is_slot = thread::current().name().is_some_and(|name| name.starts_with("distfun-cpu"));
            is_slot && !once.swap(true, Ordering::SeqCst)
        };
        let slow = |x: u64| {
            thread::sleep(Duration::from_micros(300));
            x
        };
        let call = distribute_local(slow).slots(1).build().unwrap().map(0..200u64);
        call.fold_tree(0, move |a, b| if first_on_a_slot() { kill_this_thread() } else { a + b }).wait().unwrap_err()
    });
    assert_eq!(error.ending(), Ending::ItemsFailed);
    assert!(matches!(error.failed()[0].cause, FailureCause::WorkerDied { .. }), "{error}");
}

#[test]
fn a_panic_while_combining_results_that_panic_when_dropped_ends_only_the_call() {
    struct Bad(u32);
    impl Drop for Bad {
        fn drop(&mut self) {
            if self.0 == 3 {
                panic!("dropped on purpose");
            }
        }
    }
    crate::support::alone(|| {
        // In the calling thread, so that the first two are combined while the others are still to come.
        let dfun = distribute_local(Bad).sequential(true).build().unwrap();
        let combine = |a: Bad, b: Bad| -> Bad { panic!("no sum of {} and {}", a.0, b.0) };
        let error = dfun.map([0, 1, 3, 3]).fold_tree(Bad(0), combine).wait().err().unwrap();
        assert!(error.to_string().contains("no sum of 0 and 1"), "{error}");
    });
}
