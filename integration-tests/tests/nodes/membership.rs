//! Nodes that join and leave while a call runs, and nodes that are told to end.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use distfun::{AddMachine, Distribute, Ending, MachineError, Manager, ManagerHandle, RemoveMachine, node, prelude::*};
use distfun_integration_tests::proxy::Proxy;
use futures::executor::block_on;

use super::{
    loss::{await_chunks, chunks, is_up, manager, naps},
    nap, offering, slow, start,
};
use crate::support::{NodeProcess, eventually, within};

fn add(manager: &ManagerHandle, machine: &str) -> Result<usize, MachineError> {
    block_on(manager.send(AddMachine::new(machine))).expect("the Manager is there")
}

fn remove(manager: &ManagerHandle, machine: &str) -> Result<(), MachineError> {
    block_on(manager.send(RemoveMachine::new(machine))).expect("the Manager is there")
}

#[test]
fn a_machine_that_joins_takes_part_in_the_call_that_runs() {
    let (first, second) = (start(1), start(1));
    let manager = manager(0, first.address());
    let call = manager.call(Distribute::map(function!(nap), 0..600));
    await_chunks(&manager, 1);
    assert_eq!(add(&manager, second.address()).unwrap(), 1);
    eventually(Duration::from_secs(10), "the new node has chunks", || second.managers() == 1);
    assert_eq!(within(|| call.wait()).unwrap(), naps(600));
}

#[test]
fn a_machine_that_is_removed_gives_its_items_back() {
    let (first, second) = (start(2), start(1));
    let manager =
        Manager::builder().max_cpu(0).machines([first.address(), second.address()]).start().expect("it starts");
    for cpus in 0..5 {
        let call = manager.call(Distribute::map(function!(nap), 0..300));
        await_chunks(&manager, 1);
        remove(&manager, first.address()).unwrap();
        assert_eq!(within(|| call.wait()).unwrap(), naps(300), "round {cpus}");
        add(&manager, first.address()).unwrap();
    }
    eventually(Duration::from_secs(5), "it was let go of, and is there again", || first.managers() == 1);
}

#[test]
fn when_the_last_machine_is_removed_its_calls_end() {
    let node = start(1);
    let manager = manager(0, node.address());
    let call = manager.call(Distribute::map(function!(nap), 0..3000));
    await_chunks(&manager, 1);
    remove(&manager, node.address()).unwrap();
    let error = within(|| call.wait()).unwrap_err();
    assert_eq!(error.ending(), Ending::NoWorkers);
    assert!(error.to_string().contains("it was removed"), "{error}");
    // It can come back.
    add(&manager, node.address()).unwrap();
    let call = manager.call(Distribute::map(function!(nap), 0..30));
    assert_eq!(within(|| call.wait()).unwrap(), naps(30));
}

#[test]
fn machines_are_removed_by_the_name_they_have_and_added_once() {
    let node = start(1);
    let manager = manager(1, node.address());
    eventually(Duration::from_secs(10), "the node is up", || is_up(&manager));
    let error = remove(&manager, "nobody").unwrap_err().to_string();
    assert!(error.contains("nobody") && error.contains(node.address()), "{error}");
    let error = add(&manager, node.address()).unwrap_err().to_string();
    assert!(error.contains("already"), "{error}");
    let error = add(&manager, "a b").unwrap_err().to_string();
    assert!(error.contains("a b"), "{error}");
}

#[test]
fn a_machine_removed_while_it_is_met_is_left() {
    let node = start(1);
    for wait in 0..20 {
        let manager = manager(1, node.address());
        std::thread::sleep(Duration::from_micros(wait * 300));
        let call = manager.call(Distribute::map(function!(nap), 0..20));
        // It may not be looked up yet.
        let _ = remove(&manager, node.address());
        assert_eq!(within(|| call.wait()).unwrap(), naps(20));
    }
    eventually(Duration::from_secs(5), "all have left", || node.managers() == 0);
}

#[test]
fn a_process_told_to_end_finishes_its_chunks_and_exits_well() {
    let mut node = NodeProcess::start(2);
    let proxy = Proxy::to(node.address());
    let manager = manager(1, proxy.address());
    eventually(Duration::from_secs(10), "the node is up", || is_up(&manager));
    let call = manager.call(Distribute::map(function!(slow), vec![30; 60]));
    await_chunks(&manager, 2);
    node.signal("TERM");
    let status = node.wait(Duration::from_secs(10)).expect("it ends");
    assert!(status.success(), "{status}");
    assert_eq!(within(|| call.wait()).unwrap(), vec![30; 60]);
}

#[test]
fn a_process_told_twice_ends_at_once() {
    let mut node = NodeProcess::start(1);
    let manager = manager(1, node.address());
    eventually(Duration::from_secs(10), "the node is up", || is_up(&manager));
    let call = manager.call(Distribute::map(function!(slow), [3000, 3000, 1]));
    await_chunks(&manager, 1);
    node.signal("TERM");
    std::thread::sleep(Duration::from_millis(100));
    node.signal("TERM");
    let status = node.wait(Duration::from_secs(2)).expect("it ends at once");
    assert!(status.success(), "{status}");
    assert_eq!(within(|| call.wait()).unwrap(), [3000, 3000, 1]);
}

#[test]
fn a_drained_node_has_nothing_left_and_gets_nothing_more() {
    let (first, second) = (start(2), start(1));
    let manager =
        Manager::builder().max_cpu(0).machines([first.address(), second.address()]).start().expect("it starts");
    let call = manager.call(Distribute::map(function!(nap), 0..600));
    await_chunks(&manager, 4);
    assert!(first.drain(Duration::from_secs(5)));
    assert_eq!(within(|| call.wait()).unwrap(), naps(600));
    drop(first);
    let call = manager.call(Distribute::map(function!(nap), 0..60));
    assert_eq!(within(|| call.wait()).unwrap(), naps(60));
}

/// systemd was told that a node stops when it had stopped.
#[test]
fn who_watches_a_node_is_told_when_it_begins_to_stop() {
    let (tell, told) = std::sync::mpsc::channel();
    static BEGUN: AtomicBool = AtomicBool::new(false);
    fn begun(ms: u64) -> u64 {
        BEGUN.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(ms));
        ms
    }
    let config = offering(1).offer(function!(begun)).when_stopping(move || tell.send(()).expect("the test listens"));
    let node = node::start(config).expect("a node starts");
    let manager = manager(0, node.address());
    let call = manager.call(Distribute::map(function!(begun), [2000]));
    // A chunk that has not come to the node is none that it has to finish.
    eventually(Duration::from_secs(10), "the item is computed", || BEGUN.load(Ordering::Relaxed));
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| node.drain(Duration::from_secs(10)));
        told.recv_timeout(Duration::from_secs(1)).expect("at once");
        assert!(!drained.is_finished(), "it has a chunk to finish");
        assert!(drained.join().expect("it does not panic"));
    });
    assert_eq!(within(|| call.wait()).unwrap(), [2000]);
    drop(node);
    assert!(told.try_recv().is_err(), "once");
}

/// A node that drains and stays connected would be waited for without end: it is there, and takes nothing.
#[test]
fn with_nothing_but_a_drained_node_a_call_ends_and_says_so() {
    let node = start(1);
    let manager = manager(0, node.address());
    eventually(Duration::from_secs(10), "the node is up", || is_up(&manager));
    assert!(node.drain(Duration::from_secs(5)));
    let call = manager.call(Distribute::map(function!(nap), 0..60));
    let error = within(|| call.wait()).unwrap_err();
    assert_eq!(error.ending(), Ending::NoWorkers);
    assert!(error.to_string().contains("about to stop"), "{error}");
    assert_eq!(chunks(&manager), 0);
}
