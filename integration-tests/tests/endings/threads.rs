//! Which threads are left by each ending. They are counted in processes of their own, by names that only Linux tells.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{ENDS, ending, gated, successor};
use crate::support::{END_WITHIN, Gate, LIMIT, alone, eventually, our_threads};

#[track_caller]
fn assert_no_threads(after: &str) {
    // The kernel wakes the one who joins a thread a moment before it takes the thread off this list.
    let unlisted = Instant::now() + Duration::from_millis(100);
    while !our_threads().is_empty() && Instant::now() < unlisted {
        thread::yield_now();
    }
    assert_eq!(our_threads(), [""; 0], "after {after}");
}

#[test]
fn no_thread_is_left_when_an_ending_has_returned() {
    alone(|| {
        assert_no_threads("nothing");
        let dfun = successor().build().unwrap();
        assert_no_threads("build");
        dfun.map(0..0).wait().unwrap();
        assert_no_threads("an empty call");
        successor().sequential(true).build().unwrap().map(0..9).wait().unwrap();
        assert_no_threads("a sequential call");

        let dfun = successor().build().unwrap();
        dfun.map(0..9).wait().unwrap();
        assert_no_threads("the one call");
        let _ = dfun.map(0..9).wait();
        assert_no_threads("a call too many");
        let dfun = successor().build().unwrap();
        assert_eq!(dfun.map(0..9).settle().len(), 9);
        assert_no_threads("the one call, settled");
        let scoped = successor().build().unwrap();
        scoped.map(&[1, 2, 3]).wait().unwrap();
        assert_no_threads("the one call, borrowed");

        for (expected, end) in ENDS {
            let dfun = successor().slots(3).endaftercall(false).build().unwrap();
            end(&dfun).unwrap();
            assert_no_threads("an ending before any call");
            let dfun = successor().slots(3).endaftercall(false).build().unwrap();
            dfun.map(0..9).wait().unwrap();
            let names = ["distfun-cpu-0", "distfun-cpu-1", "distfun-cpu-2", "distfun-manager"];
            eventually(LIMIT, "all slots have started", || {
                let mut found = our_threads();
                found.sort();
                found == names
            });
            end(&dfun).unwrap();
            assert_no_threads("an ending");
            assert_eq!(ending(dfun.map([1]).wait()), expected);
            assert_no_threads("a refused call");
        }
        // Ended before the Manager's thread has got anywhere.
        for _ in 0..50 {
            let dfun = successor().endaftercall(false).build().unwrap();
            let call = dfun.map(0..9);
            dfun.finished().unwrap();
            drop(call);
            assert_no_threads("an ending right after the start");
        }
    });
}

#[test]
fn no_thread_is_left_within_two_seconds_of_a_drop_a_cancel_or_an_awaited_call() {
    alone(|| {
        let gone = |after: &str| eventually(END_WITHIN, after, || our_threads().is_empty());
        let dfun = successor().endaftercall(false).build().unwrap();
        dfun.map(0..9).wait().unwrap();
        let clone = dfun.clone();
        drop(dfun);
        assert_eq!(clone.map([1]).wait().unwrap(), [2], "a clone keeps the slots");
        drop(clone);
        gone("the last clone dropped");

        futures::executor::block_on(successor().build().unwrap().map(0..9)).unwrap();
        gone("the one call, awaited");

        let dfun = successor().build().unwrap();
        let call = dfun.map(0..100_000);
        call.canceller().cancel();
        let _ = call.wait();
        assert_no_threads("the one call, cancelled and waited for");
        drop(dfun.map(0..9));
        gone("the one call dropped");

        let dfun = successor().build().unwrap();
        drop(dfun.map(0..100_000));
        gone("the one call dropped while it runs");
        drop(dfun);

        for _ in 0..30 {
            let dfun = successor().endaftercall(false).build().unwrap();
            drop(dfun.map(0..9));
            drop(dfun);
        }
        gone("functions dropped right after their start");

        let gate = Arc::new(Gate::new());
        let dfun = gated(&gate).build().unwrap();
        let call = dfun.map([1]);
        gate.await_arrivals(1);
        dfun.finished().unwrap_err();
        eventually(LIMIT, "only the stuck thread is left", || our_threads().len() == 1);
        gate.open();
        gone("the stuck item returned");
        drop(call);
    });
}

#[test]
fn a_call_outlives_its_function_and_the_slots_go_with_the_call() {
    alone(|| {
        let gate = Arc::new(Gate::new());
        let dfun = gated(&gate).build().unwrap();
        let call = dfun.map(1..4);
        gate.await_arrivals(2);
        drop(dfun);
        gate.open();
        assert_eq!(call.wait().unwrap(), [2, 3, 4]);
        eventually(END_WITHIN, "the threads are gone", || our_threads().is_empty());
    });
}
