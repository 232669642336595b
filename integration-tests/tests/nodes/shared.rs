//! Shared data at nodes: sent once, resumed, noticed when it is not what it was, and given up when nobody needs it.

use std::{path::Path, time::Duration};

use distfun::{Distribute, Manager, ManagerHandle, node, prelude::*};
use distfun_integration_tests::proxy::{DOWN, Faults, Proxy, UP};
use ndarray::Array1;

use super::{
    loss::{await_chunks, manager},
    offering, scaled,
};
use crate::support::{NodeProcess, eventually, within};

fn weights(count: usize, value: f64) -> SharedData {
    SharedData::builder().array("weights", &Array1::from_elem(count, value)).unwrap().build().unwrap()
}

fn expected(count: usize, value: f64, items: u32) -> Vec<f64> {
    (0..items).map(|x| f64::from(x) * Array1::from_elem(count, value).sum()).collect()
}

fn run(manager: &ManagerHandle, shared: &SharedData, items: u32) -> Vec<f64> {
    let items: Vec<f64> = (0..items).map(f64::from).collect();
    let call = manager.call(Distribute::map(function!(scaled), items).shared_data(shared.clone()));
    within(|| call.wait()).unwrap()
}

fn node_with_cache(dir: &Path) -> node::NodeHandle {
    node::start(offering(1).cache(dir.join("cache"))).expect("a node starts")
}

const MIB: u64 = 1 << 20;
const COUNT: usize = 1 << 20; // 8 MiB

#[test]
fn it_is_sent_once_also_for_the_next_program() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = node_with_cache(dir.path());
    let proxy = Proxy::to(node.address());
    let shared = weights(COUNT, 0.25);
    let first = manager(0, proxy.address());
    assert_eq!(run(&first, &shared, 20), expected(COUNT, 0.25, 20));
    let sent = proxy.bytes(UP);
    assert!((8 * MIB..10 * MIB).contains(&sent), "{sent}");
    assert_eq!(run(&first, &shared, 20), expected(COUNT, 0.25, 20));
    drop(first);
    let second = manager(0, proxy.address());
    assert_eq!(run(&second, &weights(COUNT, 0.25), 20), expected(COUNT, 0.25, 20));
    let more = proxy.bytes(UP) - sent;
    assert!(more < MIB, "{more} bytes were sent again");
}

#[test]
fn two_shared_data_do_not_get_mixed_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = node_with_cache(dir.path());
    let manager = manager(1, node.address());
    let (one, two) = (weights(1000, 1.0), weights(2000, 3.0));
    for _ in 0..5 {
        assert_eq!(run(&manager, &one, 200), expected(1000, 1.0, 200));
        assert_eq!(run(&manager, &two, 200), expected(2000, 3.0, 200));
    }
}

/// Two calls read the same data, and the one that was announced last ends while it is still coming: what the node
/// asked for after that was not answered, and the other call waited for ever.
#[test]
fn a_call_that_ends_does_not_take_the_data_of_another_along() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = node_with_cache(dir.path());
    let proxy = Proxy::to(node.address());
    proxy.set(UP, Faults { rate: Some(40 * MIB), ..Faults::default() });
    let manager = manager(0, proxy.address());
    let shared = weights(6 * COUNT, 0.5); // 48 MiB: three requests
    for round in 0..2 {
        // One item each, so that both have one of the two lanes.
        let call = || manager.call(Distribute::map(function!(scaled), vec![1.0]).shared_data(shared.clone()));
        let sent = proxy.bytes(UP);
        let first = call();
        await_chunks(&manager, 1);
        let second = call();
        await_chunks(&manager, 2);
        eventually(Duration::from_secs(5), "it is on its way", || round > 0 || proxy.bytes(UP) > sent + 4 * MIB);
        second.canceller().cancel();
        assert_eq!(within(|| first.wait()).unwrap(), expected(6 * COUNT, 0.5, 2)[1..], "round {round}");
    }
}

#[test]
fn a_call_that_ends_early_leaves_what_has_come_for_the_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = node_with_cache(dir.path());
    let proxy = Proxy::to(node.address());
    proxy.set(UP, Faults { rate: Some(60 * MIB), ..Faults::default() });
    let manager = manager(0, proxy.address());
    let shared = weights(6 * COUNT, 0.5);
    for at in [3, 10, 20, 30] {
        let call = manager.call(Distribute::map(function!(scaled), vec![1.0]).shared_data(shared.clone()));
        eventually(Duration::from_secs(5), "some of it has come", || proxy.bytes(UP) > at * MIB);
        drop(call);
    }
    assert_eq!(run(&manager, &shared, 4), expected(6 * COUNT, 0.5, 4));
}

#[test]
fn what_was_cut_is_resumed() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = node_with_cache(dir.path());
    let proxy = Proxy::to(node.address());
    let shared = weights(4 * COUNT, 2.0); // 32 MiB
    proxy.set(UP, Faults { cut_after: Some(20 * MIB), ..Faults::default() });
    let manager = manager(0, proxy.address());
    assert_eq!(run(&manager, &shared, 4), expected(4 * COUNT, 2.0, 4));
    assert!(proxy.connections() >= 2);
    let sent = proxy.bytes(UP);
    // What was on its way when it was cut is lost; not more.
    assert!(sent < 50 * MIB, "{sent}");
}

#[test]
fn a_flipped_bit_on_the_way_is_noticed_and_sent_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = node_with_cache(dir.path());
    let proxy = Proxy::to(node.address());
    proxy.set(UP, Faults { flip: Some(3 * MIB), ..Faults::default() });
    let manager = manager(0, proxy.address());
    let shared = weights(COUNT, 2.0);
    assert_eq!(run(&manager, &shared, 4), expected(COUNT, 2.0, 4));
    assert!(proxy.bytes(UP) > 16 * MIB, "it came twice");
}

#[test]
fn a_flipped_bit_in_the_cache_is_noticed() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let shared = weights(COUNT, 2.0);
    {
        let node = node_with_cache(dir.path());
        assert_eq!(run(&manager(0, node.address()), &shared, 4), expected(COUNT, 2.0, 4));
    }
    let mut flipped = 0;
    for file in files(dir.path()) {
        let mut bytes = std::fs::read(&file).expect("it is read");
        if bytes.len() as u64 > 4 * MIB {
            bytes[5 << 20] ^= 1;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
            std::fs::write(&file, &bytes).expect("it is written");
            flipped += 1;
        }
    }
    assert_eq!(flipped, 1);
    let node = node_with_cache(dir.path());
    assert_eq!(run(&manager(0, node.address()), &shared, 4), expected(COUNT, 2.0, 4));
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn without_a_place_on_disk_it_is_kept_in_memory_and_let_go_of() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "no directory").expect("it is written");
    let no_directory = offering(1).cache(&file);
    let too_small = offering(1).cache(dir.path().join("small")).cache_bytes(MIB);
    for config in [no_directory, too_small] {
        let node = node::start(config).expect("a node starts");
        let proxy = Proxy::to(node.address());
        // What is damaged on its way is noticed in memory too.
        proxy.set(UP, Faults { flip: Some(3 * MIB), ..Faults::default() });
        let manager = manager(0, proxy.address());
        let shared = weights(COUNT, 2.0);
        assert_eq!(run(&manager, &shared, 4), expected(COUNT, 2.0, 4));
        let sent = proxy.bytes(UP);
        assert_eq!(run(&manager, &shared, 4), expected(COUNT, 2.0, 4));
        let more = proxy.bytes(UP) - sent;
        assert!(more < MIB, "{more} bytes were sent again");
    }
}

#[cfg(target_os = "linux")]
fn shared_memory_files(process: u32) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).expect("/proc is there");
    maps.lines().filter(|line| line.contains("memfd:")).count()
}

/// What was in memory stayed there as long as the node lived.
#[test]
#[cfg(target_os = "linux")]
fn memory_is_given_back_when_its_managers_have_gone() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let node = NodeProcess::start_with(1, &[("DISTFUN_CACHE", file.path().as_os_str())]);
    let before = shared_memory_files(node.id());
    for value in 0..4 {
        let manager = manager(0, node.address());
        assert_eq!(run(&manager, &weights(COUNT, value.into()), 2), expected(COUNT, value.into(), 2));
    }
    eventually(Duration::from_secs(3), "nothing of it is left", || shared_memory_files(node.id()) <= before);
}

#[test]
fn mapped_npy_files_are_shared_data_at_nodes_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("weights.npy");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1000,), }".to_vec();
    bytes.resize(127, b' ');
    bytes.push(b'\n');
    (0..1000).for_each(|n| bytes.extend(f64::from(n).to_le_bytes()));
    std::fs::write(&path, bytes).expect("it is written");
    let shared = SharedData::builder().npy("weights", &path).unwrap().build().unwrap();
    let node = node_with_cache(dir.path());
    let results = run(&manager(0, node.address()), &shared, 10);
    assert_eq!(results, (0..10).map(|x| f64::from(x) * 499_500.0).collect::<Vec<_>>());
}

#[test]
fn two_managers_that_bring_the_same_data_at_once_both_compute() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = node_with_cache(dir.path());
    let proxies = [Proxy::to(node.address()), Proxy::to(node.address())];
    for proxy in &proxies {
        proxy.set(UP, Faults { rate: Some(60 * MIB), ..Faults::default() });
        proxy.set(DOWN, Faults::default());
    }
    let managers =
        proxies.each_ref().map(|proxy| Manager::builder().max_cpu(0).machines([proxy.address()]).start().unwrap());
    let shared = weights(3 * COUNT, 0.5);
    let calls = managers
        .each_ref()
        .map(|manager| manager.call(Distribute::map(function!(scaled), vec![1.0, 2.0]).shared_data(shared.clone())));
    let sum = Array1::from_elem(3 * COUNT, 0.5).sum();
    for call in calls {
        assert_eq!(within(|| call.wait()).unwrap(), vec![sum, 2.0 * sum]);
    }
}
