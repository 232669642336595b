//! Nodes that die, freeze or vanish behind a network that swallows, cuts and slices: results are those of the loop.

use std::time::{Duration, Instant};

use distfun::{Distribute, Ending, Error, Manager, ManagerHandle, NodeState, Status, prelude::*};
use distfun_integration_tests::proxy::{DOWN, Faults, Proxy, UP};

use super::{Word, length, nap, slow, square, start, word};
use crate::support::{NodeProcess, eventually, within};

pub(super) fn naps(count: u64) -> Vec<u64> {
    (0..count).map(|x| x + 1).collect()
}

/// Waits until the nodes of a function have chunks.
#[track_caller]
pub(super) fn await_chunks(manager: &ManagerHandle, count: usize) {
    eventually(Duration::from_secs(10), "chunks at the nodes", || chunks(manager) >= count);
}

pub(super) fn chunks(manager: &ManagerHandle) -> usize {
    let status = futures::executor::block_on(manager.send(Status)).expect("a status");
    status.nodes.iter().map(|node| node.chunks).sum()
}

pub(super) fn is_up(manager: &ManagerHandle) -> bool {
    let status = futures::executor::block_on(manager.send(Status)).expect("a status");
    status.nodes.iter().any(|node| node.state == NodeState::Up)
}

pub(super) fn manager(cpus: usize, address: &str) -> ManagerHandle {
    Manager::builder().max_cpu(cpus).machines([address]).start().expect("it starts")
}

#[test]
fn a_node_that_is_killed_loses_nothing() {
    let mut node = NodeProcess::start(2);
    let manager = manager(1, node.address());
    eventually(Duration::from_secs(10), "the node is up", || is_up(&manager));
    let call = manager.call(Distribute::map(function!(nap), 0..400));
    await_chunks(&manager, 1);
    let killed = Instant::now();
    node.kill();
    // The end of the stream is noticed at once.
    eventually(Duration::from_millis(1000), "its chunks are given to others", || chunks(&manager) == 0);
    println!("its chunks came back within {:?}", killed.elapsed());
    assert_eq!(within(|| call.wait()).unwrap(), naps(400));
}

#[test]
fn with_no_other_slots_a_call_waits_a_while_and_names_the_node() {
    let mut node = NodeProcess::start(1);
    let manager = manager(0, node.address());
    let call = manager.call(Distribute::map(function!(nap), 0..4000));
    await_chunks(&manager, 1);
    let killed = Instant::now();
    node.kill();
    let error = within(|| call.wait()).unwrap_err();
    assert_eq!(error.ending(), Ending::NoWorkers);
    let text = error.to_string();
    assert!(text.contains(node.address()) && text.contains("refused"), "{text}");
    let waited = killed.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_millis(6500)).contains(&waited), "{waited:?}");
    // What was finished before is there.
    assert!(error.finished().iter().all(|(index, result)| *result == *index as u64 + 1));
}

#[test]
fn a_call_goes_on_when_its_node_comes_back() {
    let mut node = NodeProcess::start(2);
    let manager = manager(0, node.address());
    let call = manager.call(Distribute::map(function!(nap), 0..600));
    await_chunks(&manager, 1);
    node.kill();
    node.start_again();
    assert_eq!(within(|| call.wait()).unwrap(), naps(600));
}

#[test]
fn a_frozen_node_is_given_up_in_time_and_changes_nothing_when_it_thaws() {
    let node = NodeProcess::start(2);
    let manager = manager(1, node.address());
    eventually(Duration::from_secs(10), "the node is up", || is_up(&manager));
    let call = manager.call(Distribute::map(function!(nap), 0..600));
    await_chunks(&manager, 2);
    node.signal("STOP");
    let frozen = Instant::now();
    eventually(Duration::from_millis(3500 + 1000), "its chunks are given to others", || chunks(&manager) == 0);
    println!("its chunks came back within {:?}", frozen.elapsed());
    assert_eq!(within(|| call.wait()).unwrap(), naps(600));
    node.signal("CONT");
    let again = manager.call(Distribute::map(function!(nap), 0..600));
    assert_eq!(within(|| again.wait()).unwrap(), naps(600));
    eventually(Duration::from_secs(15), "the node is connected anew", || is_up(&manager));
}

#[test]
fn a_black_hole_is_noticed_in_time_in_either_direction() {
    let node = start(1);
    for direction in [UP, DOWN] {
        let proxy = Proxy::to(node.address());
        let manager = manager(1, proxy.address());
        eventually(Duration::from_secs(10), "the node is up", || is_up(&manager));
        let call = manager.call(Distribute::map(function!(nap), 0..400));
        await_chunks(&manager, 1);
        proxy.set(direction, Faults { is_black_hole: true, ..Faults::default() });
        let start = Instant::now();
        eventually(Duration::from_millis(3500 + 1000), "its chunks are given to others", || chunks(&manager) == 0);
        println!("its chunks came back within {:?}", start.elapsed());
        assert_eq!(within(|| call.wait()).unwrap(), naps(400));
    }
    eventually(Duration::from_secs(5), "both sides have ended the session", || node.managers() == 0);
}

#[test]
fn a_cut_connection_comes_back_and_gets_work_again() {
    let node = start(1);
    let proxy = Proxy::to(node.address());
    let manager = manager(0, proxy.address());
    let call = manager.call(Distribute::map(function!(nap), 0..300));
    for cuts in 1..=3 {
        await_chunks(&manager, 1);
        proxy.cut();
        eventually(Duration::from_secs(5), "it is connected anew", || proxy.connections() > cuts);
    }
    assert_eq!(within(|| call.wait()).unwrap(), naps(300));
}

#[test]
fn a_flapping_link_makes_no_storm_of_connections() {
    let node = start(1);
    let proxy = Proxy::to(node.address());
    let manager = manager(1, proxy.address());
    let call = manager.call(Distribute::map(function!(nap), 0..2000));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(50));
        proxy.cut();
    }
    // Half the longest wait, on average: 25, 50, 100, 200, 400, 800, 1600 ms.
    let connections = proxy.connections();
    assert!((2..=20).contains(&connections), "{connections} connections in three seconds");
    assert_eq!(within(|| call.wait()).unwrap(), naps(2000));
}

#[test]
fn a_reset_at_any_byte_loses_nothing() -> Result<(), Error> {
    let node = start(1);
    let items: Vec<f64> = (0..3000).map(f64::from).collect();
    let expected: Vec<f64> = items.iter().map(|x| x * x).collect();
    let positions = (0..48).map(|n| n * 13).chain((0..12).map(|n| 700 + n * 1931));
    for (number, at) in positions.enumerate() {
        let proxy = Proxy::to(node.address());
        let faults = Faults { cut_after: Some(at), ..Faults::default() };
        proxy.set(if number % 2 == 0 { UP } else { DOWN }, faults);
        let dfun = distribute!(square).max_cpu(1).machines([proxy.address()]).build()?;
        assert_eq!(
            within({
                let call = dfun.map(items.clone());
                move || call.wait()
            })?,
            expected,
            "reset after {at} bytes"
        );
    }
    Ok(())
}

#[test]
fn a_connection_cut_once_is_enough_for_a_call_on_nodes_alone() -> Result<(), Error> {
    let node = start(1);
    let words: Vec<Word> = (0..3000).map(|count| Word { text: format!("word {count}"), count }).collect();
    let expected: Vec<Word> = words.iter().cloned().map(word).collect();
    for at in [200, 1000, 5000, 20_000] {
        let proxy = Proxy::to(node.address());
        proxy.set(UP, Faults { cut_after: Some(at), ..Faults::default() });
        let manager = manager(0, proxy.address());
        let call = manager.call(Distribute::map(function!(word), words.clone()));
        eventually(Duration::from_secs(10), "the connection is cut", || proxy.bytes(UP) >= at);
        proxy.set(UP, Faults::default());
        assert_eq!(within(|| call.wait())?, expected, "cut after {at} bytes");
    }
    Ok(())
}

#[test]
fn bytes_one_by_one_are_the_same_bytes() -> Result<(), Error> {
    let node = start(1);
    let proxy = Proxy::to(node.address());
    for direction in [UP, DOWN] {
        proxy.set(direction, Faults { slice: Some(1), ..Faults::default() });
    }
    let texts: Vec<String> = (0..500).map(|n| "x".repeat(n % 50)).collect();
    let dfun = distribute!(length).max_cpu(0).machines([proxy.address()]).build()?;
    assert_eq!(dfun.map(texts.clone()).wait()?, texts.iter().map(length).collect::<Vec<_>>());
    let dfun = distribute!(super::sums).max_cpu(0).machines([proxy.address()]).build()?;
    let x = ndarray::Array2::from_shape_fn((7, 500), |(i, j)| (i * j) as f64);
    assert_eq!(dfun.columns(&x).wait()?, super::sums(x.view()));
    Ok(())
}

#[test]
fn a_slow_and_distant_node_is_not_taken_for_dead() {
    let node = start(1);
    let proxy = Proxy::to(node.address());
    proxy.set(UP, Faults { rate: Some(400 << 10), ..Faults::default() });
    proxy.set(DOWN, Faults { delay: Duration::from_millis(20), ..Faults::default() });
    let manager = manager(0, proxy.address());
    // 2 MiB at 400 KiB/s: longer than silence is tolerated, but heartbeats go between the pieces.
    let arrays: Vec<ndarray::Array1<f64>> = vec![ndarray::Array1::ones(2 << 17)];
    let call = manager.call(Distribute::map(function!(super::doubled), arrays.clone()));
    assert_eq!(within(|| call.wait()).unwrap()[0], &arrays[0] * 2.0);
    assert_eq!(proxy.connections(), 1);
}

/// Frames have no checksum of their own: TCP has one, and what is worth more comes with encryption. A flipped byte in
/// a header, in a message or in the head of a parcel is noticed where it makes nonsense of them; one inside of a
/// number, of a raw section or of a text can't be.
#[test]
fn a_flipped_bit_in_frames_never_hangs_a_call_nor_ends_the_program() {
    let node = start(1);
    let items: Vec<String> = (0..40).map(|n| format!("text {n}")).collect();
    let mut noticed = 0;
    for at in (0..60).map(|n| 7 * n) {
        let proxy = Proxy::to(node.address());
        proxy.set(if at % 2 == 0 { UP } else { DOWN }, Faults { flip: Some(at), ..Faults::default() });
        let manager = manager(1, proxy.address());
        let call = manager.call(Distribute::map(function!(super::whole), items.clone()));
        let settled = within(move || call.settle());
        assert_eq!(settled.len(), items.len());
        noticed += usize::from(settled.iter().any(Result::is_err));
    }
    println!("{noticed} flipped bits made items fail");
}

#[test]
fn a_peer_that_half_closes_is_gone() {
    let node = start(1);
    for direction in [UP, DOWN] {
        let proxy = Proxy::to(node.address());
        proxy.set(direction, Faults { half_close_after: Some(2000), ..Faults::default() });
        let manager = manager(1, proxy.address());
        let call = manager.call(Distribute::map(function!(nap), 0..300));
        assert_eq!(within(|| call.wait()).unwrap(), naps(300));
    }
}

#[test]
fn results_that_come_late_are_not_heard() {
    let node = start(1);
    let proxy = Proxy::to(node.address());
    let manager = manager(1, proxy.address());
    eventually(Duration::from_secs(10), "the node is up", || is_up(&manager));
    let call = manager.call(Distribute::map(function!(slow), vec![20; 60]));
    await_chunks(&manager, 1);
    // Answers are held back for longer than a silent node is believed in, then all come at once.
    proxy.set(DOWN, Faults { is_black_hole: true, ..Faults::default() });
    eventually(Duration::from_secs(5), "its chunks are given to others", || chunks(&manager) == 0);
    proxy.set(DOWN, Faults::default());
    assert_eq!(within(|| call.wait()).unwrap(), vec![20; 60]);
}
