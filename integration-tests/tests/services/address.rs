//! Calls sent to the Manager's address, as other actors do: through its mailbox, onto its thread.

use std::sync::atomic::{AtomicUsize, Ordering};

use distfun::{Distribute, Ending, Finished, Manager, Status, function};
use futures::{FutureExt, executor::block_on};

use super::{PanicsWhenDropped, manager, square};
use crate::support::{Gate, LIMIT, alone, eventually, within};

#[test]
fn a_call_whose_answer_nobody_awaits_any_more_is_not_started() {
    // Its first chunk used to run before anybody looked whether the answer was still wanted.
    static GATE: Gate = Gate::new();
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    fn held(x: u32) -> u32 {
        GATE.pass();
        x
    }
    fn counted(x: u32) -> u32 {
        RUNS.fetch_add(1, Ordering::SeqCst);
        x
    }
    let manager = manager(1);
    let address = manager.address();
    let mut first = Box::pin(address.send(Distribute::map(function!(held), [1])));
    assert!(first.as_mut().now_or_never().is_none());
    GATE.await_arrivals(1);
    let mut second = Box::pin(address.send(Distribute::map(function!(counted), 0..100)));
    assert!(second.as_mut().now_or_never().is_none());
    eventually(LIMIT, "both calls are there", || block_on(manager.send(Status)).unwrap().calls.len() == 2);
    drop(second);
    GATE.open();
    assert_eq!(within(|| block_on(first)).unwrap().unwrap(), [1]);
    eventually(LIMIT, "both calls are gone", || block_on(manager.send(Status)).unwrap().calls.is_empty());
    assert_eq!(RUNS.load(Ordering::SeqCst), 0);
}

#[test]
fn a_running_call_whose_answer_nobody_awaits_any_more_is_cancelled() {
    static GATE: Gate = Gate::new();
    fn held(x: u32) -> u32 {
        GATE.pass();
        x
    }
    let manager = manager(1);
    let mut answer = Box::pin(manager.address().send(Distribute::map(function!(held), 0..100_000)));
    assert!(answer.as_mut().now_or_never().is_none());
    GATE.await_arrivals(1);
    drop(answer);
    GATE.open();
    eventually(LIMIT, "the call is gone", || block_on(manager.send(Status)).unwrap().calls.is_empty());
    assert!(GATE.arrived() < 100_000, "the rest was not run");
    assert_eq!(block_on(manager.send(Distribute::map(function!(square), [3]))).unwrap().unwrap(), [9]);
}

#[test]
fn items_of_a_refused_call_that_panic_when_dropped_do_not_hurt_the_manager() {
    // They are dropped on the Manager's thread; their panic used to end the Manager. A second panic among the elements
    // of one list would end the whole process: so in one of its own.
    alone(|| {
        static GATE: Gate = Gate::new();
        fn held(x: u32) -> u32 {
            GATE.pass();
            x
        }
        fn forget(item: PanicsWhenDropped) -> u32 {
            std::mem::forget(item);
            7
        }
        let manager = Manager::builder().slots(1).max_calls(1).start().unwrap();
        let address = manager.address();
        let ask = || block_on(address.send(Distribute::map(function!(forget), [PanicsWhenDropped, PanicsWhenDropped])));
        assert_eq!(ask().unwrap().unwrap(), [7, 7]);
        let mut first = Box::pin(address.send(Distribute::map(function!(held), [1])));
        assert!(first.as_mut().now_or_never().is_none());
        GATE.await_arrivals(1);
        assert_eq!(ask().unwrap().unwrap_err().ending(), Ending::Busy { max_calls: 1 });
        GATE.open();
        assert_eq!(block_on(first).expect("the Manager lives").unwrap(), [1]);
        block_on(manager.send(Finished)).unwrap().unwrap();
        assert_eq!(ask().unwrap().unwrap_err().ending(), Ending::Finished);
        assert_eq!(block_on(manager.send(Status)).unwrap().stopped, Some(Ending::Finished));
    });
}

#[test]
fn a_call_whose_results_do_not_fit_into_any_memory_costs_its_message_and_not_the_manager() {
    // The Manager made room for the results on its own thread, and died of the refusal.
    fn word((): ()) -> u64 {
        1
    }
    let manager = manager(1);
    let address = manager.address();
    for _ in 0..2 {
        let answer = address.send(Distribute::map(function!(word), vec![(); 1 << 61]));
        assert!(within(move || block_on(answer)).is_err(), "2^64 bytes of results");
        assert_eq!(block_on(manager.send(Status)).unwrap().calls.len(), 0);
        assert_eq!(block_on(address.send(Distribute::map(function!(word), [(); 3]))).unwrap().unwrap(), [1; 3]);
    }
}
