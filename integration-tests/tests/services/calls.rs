//! The handle of a call that was started on a Manager's slots.

use std::{thread, time::Duration};

use distfun::{Cancel, Context, Distribute, Ending, Finished, Status, function};
use futures::executor::block_on;
use ndarray::Array2;

use super::{halve, manager, square, sums};
use crate::support::{END_WITHIN, Gate, LIMIT, eventually, within};

/// Item 0 returns at once, the others when their call ends.
fn patient(x: u32, context: &Context<'_>) -> u32 {
    eventually(LIMIT, "the call ends", || x == 0 || context.is_cancelled());
    x
}

#[test]
fn a_call_on_a_manager_is_waited_for_in_every_way_without_a_runtime() {
    let manager = manager(2);
    assert_eq!(manager.call(Distribute::map(function!(square), 0..5)).wait().unwrap(), [0, 1, 4, 9, 16]);
    assert_eq!(manager.call(Distribute::map(function!(square), [])).wait().unwrap(), [0; 0]);
    assert_eq!(manager.call(Distribute::map(function!(square), [3])).wait_timeout(LIMIT).unwrap(), [9]);
    assert_eq!(block_on(manager.call(Distribute::map(function!(square), [3]))).unwrap(), [9]);
    let x = Array2::from_shape_fn((3, 40), |(i, j)| (i * j) as f64);
    let columns = manager.call(Distribute::columns(function!(sums), x.clone()));
    assert_eq!(columns.wait().unwrap(), sums(x.view()));
    let error = manager.call(Distribute::try_map(function!(halve), [2, 3, 4])).wait().unwrap_err();
    assert_eq!((error.ending(), error.finished()[0]), (Ending::FirstFailure(1), (0, 1)));
    let settled = manager.call(Distribute::try_map(function!(halve), [2, 3])).settle();
    assert_eq!(settled[0].as_ref().unwrap(), &1);
    assert!(settled[1].as_ref().unwrap_err().to_string().contains("3 is odd"));

    block_on(manager.send(Finished)).unwrap().unwrap();
    assert_eq!(manager.call(Distribute::map(function!(square), [3])).wait().unwrap_err().ending(), Ending::Finished);
}

#[test]
fn a_call_on_a_manager_tells_its_progress() {
    static GATE: Gate = Gate::new();
    fn held(x: u32) -> u32 {
        if x > 0 {
            GATE.pass();
        }
        x
    }
    let manager = manager(2);
    let message = Distribute::map(function!(held), [0, 1, 2]);
    let id = message.call_id();
    let call = manager.call(message);
    assert_eq!((call.id(), call.progress().items), (id, 3));
    eventually(LIMIT, "item 0 is done", || call.progress().done == 1);
    let status = block_on(manager.send(Status)).unwrap();
    assert_eq!((status.calls[0].id, status.calls[0].items), (id, 3));
    assert!(!call.progress().is_ended);
    GATE.open();
    eventually(LIMIT, "the call has ended", || call.progress().is_ended);
    let progress = call.progress();
    assert_eq!((progress.done, progress.failed, progress.fraction()), (3, 0, 1.0));
    assert_eq!(call.progress().elapsed, progress.elapsed, "the clock has stopped");
    assert_eq!(call.wait().unwrap(), [0, 1, 2]);
}

#[test]
fn a_call_on_a_manager_ends_by_its_canceller_a_message_its_limit_or_its_drop() {
    let manager = manager(2);
    let start = || {
        let call = manager.call(Distribute::map(function!(patient), [0, 1]));
        eventually(LIMIT, "item 0 is done", || call.progress().done == 1);
        call
    };

    let call = start();
    let canceller = call.canceller();
    let other = thread::spawn(move || canceller.clone().cancel());
    let error = within(|| call.wait()).unwrap_err();
    assert_eq!((error.ending(), error.finished()), (Ending::Cancelled, &vec![(0, 0)]));
    other.join().unwrap();

    let call = start();
    assert!(block_on(manager.send(Cancel(call.id()))).unwrap());
    assert_eq!(within(|| call.wait()).unwrap_err().ending(), Ending::Cancelled);

    let error = start().wait_timeout(Duration::from_millis(1)).unwrap_err();
    assert_eq!((error.ending(), error.finished()), (Ending::TimedOut, &vec![(0, 0)]));

    let call = start();
    let canceller = call.canceller();
    drop(call);
    eventually(LIMIT, "no call is left", || block_on(manager.send(Status)).unwrap().calls.is_empty());
    canceller.cancel(); // too late, and harmless
    assert_eq!(manager.call(Distribute::map(function!(square), [3])).wait().unwrap(), [9]);
}

#[test]
fn a_call_keeps_the_slots_of_its_manager_until_it_has_ended() {
    static GATE: Gate = Gate::new();
    fn held(x: u32) -> u32 {
        GATE.pass();
        x
    }
    let manager = manager(1);
    let address = manager.address();
    let call = manager.call(Distribute::map(function!(held), 0..9));
    GATE.await_arrivals(1);
    drop(manager);
    assert!(address.connected());
    GATE.open();
    assert_eq!(within(|| call.wait()).unwrap(), (0..9).collect::<Vec<_>>());
    eventually(END_WITHIN, "the Manager is gone", || !address.connected());
}

#[test]
fn a_call_is_not_waited_for_on_its_managers_own_thread() {
    let manager = manager(1);
    let (answers, answer) = std::sync::mpsc::channel();
    let there = manager.clone();
    manager.arbiter().spawn(async move {
        let waited = there.call(Distribute::map(function!(patient), [1])).wait().map_err(|error| error.ending());
        let awaited = there.call(Distribute::map(function!(patient), [0])).await;
        answers.send((waited, awaited)).unwrap();
    });
    let (waited, awaited) = answer.recv_timeout(LIMIT).unwrap();
    assert_eq!(waited, Err(Ending::WaitOnManager));
    assert_eq!(awaited.unwrap(), [0]);
}

#[test]
fn progress_stands_still_once_the_call_has_ended() {
    static GATE: Gate = Gate::new();
    fn waits(x: u32) -> u32 {
        GATE.pass();
        x
    }
    let manager = manager(1);
    let call = manager.call(Distribute::map(function!(waits), 0..5));
    GATE.await_arrivals(1);
    call.canceller().cancel();
    let at_the_end = call.progress();
    assert_eq!((at_the_end.done, at_the_end.is_ended), (0, true));
    GATE.open();
    // The slot is free again when what it ran has returned, and been dropped.
    block_on(manager.send(Distribute::map(function!(f64::sqrt), [4.0]))).unwrap().unwrap();
    assert_eq!(call.progress(), at_the_end);
    assert!(call.wait().unwrap_err().finished().is_empty());
}
