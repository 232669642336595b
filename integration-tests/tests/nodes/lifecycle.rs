//! How sessions and nodes end, and what two programs get of one node.

use std::time::{Duration, Instant};

use distfun::{Distribute, Finished, MachineOutcome, Manager, Shutdown, node, prelude::*};
use futures::executor::block_on;

use super::{
    loss::{await_chunks, chunks, is_up, manager, naps},
    nap, offering, slow, start,
};
use crate::support::{NodeProcess, alone_with, eventually, within};

#[test]
fn one_call_and_its_sessions_are_closed() {
    let node = start(1);
    let dfun = distribute!(nap).max_cpu(0).machines([node.address()]).build().unwrap();
    assert_eq!(dfun.map(0..50).wait().unwrap(), naps(50));
    eventually(Duration::from_secs(3), "the session is closed", || node.managers() == 0);
    // The node is there for others.
    let dfun = distribute!(nap).max_cpu(0).machines([node.address()]).build().unwrap();
    assert_eq!(dfun.map(0..50).wait().unwrap(), naps(50));
}

#[test]
fn finished_and_drop_close_the_sessions_and_leave_the_node() {
    let node = start(1);
    for by_drop in [false, true] {
        let dfun = distribute!(nap).max_cpu(0).endaftercall(false).machines([node.address()]).build().unwrap();
        for _ in 0..3 {
            assert_eq!(dfun.map(0..50).wait().unwrap(), naps(50));
        }
        assert_eq!(node.managers(), 1);
        if by_drop {
            drop(dfun);
        } else {
            dfun.finished().unwrap();
            dfun.finished().unwrap();
        }
        eventually(Duration::from_secs(3), "the session is closed", || node.managers() == 0);
    }
}

#[test]
fn finished_while_a_call_runs_ends_it_with_what_is_done() {
    let node = start(1);
    let manager = manager(0, node.address());
    let call = manager.call(Distribute::map(function!(nap), 0..5000));
    await_chunks(&manager, 1);
    block_on(manager.send(Finished)).unwrap().unwrap();
    let error = within(|| call.wait()).unwrap_err();
    assert_eq!(error.ending(), distfun::Ending::Finished);
    eventually(Duration::from_secs(3), "the session is closed", || node.managers() == 0);
}

#[test]
fn shutdown_stops_a_node_process_and_an_embedded_one_stays_and_says_so() {
    let (embedded, mut process) = (start(1), NodeProcess::start(1));
    let manager =
        Manager::builder().max_cpu(1).machines([embedded.address(), process.address()]).start().expect("it starts");
    eventually(Duration::from_secs(10), "both are connected", || embedded.managers() == 1);
    let call = manager.call(Distribute::map(function!(nap), 0..400));
    assert_eq!(within(|| call.wait()).unwrap(), naps(400));
    let report = block_on(manager.send(Shutdown)).unwrap().unwrap();
    let of = |machine: &str| report.machines.iter().find(|end| end.machine == machine).expect(machine).outcome.clone();
    assert_eq!(of(process.address()), MachineOutcome::Ended);
    assert!(matches!(of(embedded.address()), MachineOutcome::Stays(why) if why.contains("part of another program")));
    assert!(process.wait(Duration::from_secs(3)).expect("it ends").success());
    assert_eq!(embedded.managers(), 0);
}

#[test]
fn a_node_stays_as_long_as_another_manager_is_connected() {
    let mut node = NodeProcess::start(1);
    let (first, second) = (manager(0, node.address()), manager(0, node.address()));
    eventually(Duration::from_secs(10), "both are connected", || is_up(&first) && is_up(&second));
    let report = block_on(first.send(Shutdown)).unwrap().unwrap();
    let stays = |outcome: &MachineOutcome| matches!(outcome, MachineOutcome::Stays(why) if why.contains("connected"));
    assert!(report.machines.iter().any(|end| stays(&end.outcome)), "{report:?}");
    let call = second.call(Distribute::map(function!(nap), 0..50));
    assert_eq!(within(|| call.wait()).unwrap(), naps(50));
    block_on(second.send(Shutdown)).unwrap().unwrap();
    assert!(node.wait(Duration::from_secs(3)).expect("it ends").success());
}

#[test]
fn a_machine_that_is_not_reached_is_named_at_shutdown() {
    let mut node = NodeProcess::start(1);
    let manager = manager(1, node.address());
    eventually(Duration::from_secs(10), "the node is up", || is_up(&manager));
    node.kill();
    eventually(Duration::from_secs(5), "its loss is noticed", || !is_up(&manager));
    let report = within(move || block_on(manager.send(Shutdown))).unwrap().unwrap();
    assert!(report.machines.iter().any(|end| matches!(end.outcome, MachineOutcome::Unreached(_))), "{report:?}");
}

#[test]
fn a_manager_that_is_killed_leaves_nothing_at_the_node() {
    const ADDRESS: &str = "TEST_NODE_ADDRESS";
    let node = start(2);
    let address = std::ffi::OsString::from(node.address());
    let exe = std::env::current_exe().expect("a path");
    // Another process, that computes until it is killed: the test below.
    let mut child = std::process::Command::new(exe)
        .args(["nodes::lifecycle::is_a_manager", "--exact", "--nocapture"])
        .env(ADDRESS, &address)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the test binary starts again");
    eventually(Duration::from_secs(15), "it is connected", || node.managers() == 1);
    let manager = manager(0, node.address());
    std::thread::sleep(Duration::from_millis(100));
    child.kill().expect("it runs");
    child.wait().expect("it has ended");
    eventually(Duration::from_secs(2), "its session is gone", || node.managers() <= 1);
    // Its chunks do not stand before those of others: what had not begun is gone.
    let begin = Instant::now();
    let call = manager.call(Distribute::map(function!(nap), 0..20));
    assert_eq!(within(|| call.wait()).unwrap(), naps(20));
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

/// Not a test: what the process of the one above runs.
#[test]
fn is_a_manager() {
    let Ok(address) = std::env::var("TEST_NODE_ADDRESS") else { return };
    let dfun = distribute!(slow).max_cpu(0).machines([address]).build().expect("it is built");
    let _ = dfun.map(vec![200; 100_000]).wait();
}

#[test]
fn two_programs_share_a_node_about_equally() {
    let node = start(1);
    let managers = [manager(0, node.address()), manager(0, node.address())];
    eventually(Duration::from_secs(10), "both are connected", || managers.iter().all(is_up));
    let calls = [0, 1].map(|number| managers[number].call(Distribute::map(function!(nap), 0..100_000)));
    let done = || [0, 1].map(|number| calls[number].progress().done as f64);
    eventually(Duration::from_secs(15), "much is done", || done().iter().sum::<f64>() > 900.0);
    let [first, second] = done();
    assert!((0.5..=2.0).contains(&(first / second)), "{first} and {second}");
    calls.iter().for_each(|call| call.canceller().cancel());
    for manager in &managers {
        eventually(Duration::from_secs(2), "the lanes are free", || chunks(manager) == 0);
    }
}

#[test]
#[cfg(unix)]
fn a_local_socket_left_by_a_killed_process_is_taken_over() {
    let dir = tempfile::tempdir().expect("a directory");
    alone_with(&[("XDG_RUNTIME_DIR", dir.path().as_os_str())], || {
        let config = || offering(1).named_pipe("lifecycle");
        let first = node::start(config()).expect("a node starts");
        let socket = first.socket().expect("a socket").to_owned();
        // As kill -9 leaves it: the file is there, and nobody listens.
        let kept = std::fs::hard_link(&socket, format!("{socket}.kept"));
        drop(first);
        if kept.is_ok() && !std::path::Path::new(&socket).exists() {
            std::fs::rename(format!("{socket}.kept"), &socket).expect("it is put back");
        }
        let second = node::start(config()).expect("a node starts where another was killed");
        let dfun = distribute!(nap).max_cpu(0).named_pipe("lifecycle").build().expect("it is built");
        assert_eq!(dfun.map(0..20).wait().unwrap(), naps(20));
        assert_eq!(second.socket(), Some(&*socket));
        // And one that is in use is not.
        assert!(node::start(config()).is_err());
    });
}

#[test]
fn a_stopped_node_gives_back_what_it_has_not_done() {
    let (first, second) = (start(1), start(1));
    let manager =
        Manager::builder().max_cpu(0).machines([first.address(), second.address()]).start().expect("it starts");
    let call = manager.call(Distribute::map(function!(nap), 0..400));
    await_chunks(&manager, 3);
    first.stop();
    assert_eq!(within(|| call.wait()).unwrap(), naps(400));
}
