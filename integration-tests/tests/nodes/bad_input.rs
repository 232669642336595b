//! What people and programs get wrong: each is an error or a degraded run, in bounded time, that names what to do.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use distfun::{BuildError, Distribute, Ending, Error, FailureCause, Manager, node, prelude::*};

use super::{
    Moody, halve,
    loss::{await_chunks, chunks, is_up, manager, naps},
    moody, nap, offering, short_lists, slow, square, start, whole,
};
use crate::support::{LIMIT, NodeProcess, alone_with, eventually, within};

/// What a call to such machines alone says, within bounded time.
fn story(machines: &[&str]) -> String {
    let dfun = distribute!(nap).max_cpu(0).machines(machines.iter().copied()).build().expect("it is built");
    let call = dfun.map(0..20);
    let error = within(move || call.wait()).unwrap_err();
    assert_eq!(error.ending(), Ending::NoWorkers);
    error.to_string()
}

/// Somebody who answers connections with a few bytes.
fn stranger(says: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut buffer = [0; 1000];
            let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(says);
            let _ = stream.read(&mut buffer);
        }
    });
    address
}

#[test]
fn a_host_that_nobody_knows_is_named_at_once() {
    let text = story(&["no-such-host.invalid"]);
    assert!(text.contains("no-such-host.invalid"), "{text}");
}

#[test]
fn a_port_where_nobody_listens_is_named_with_the_remedy() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let text = story(&[&free.to_string()]);
    assert!(text.contains(&free.to_string()) && text.contains("refused") && text.contains("node::serve"), "{text}");
}

#[test]
fn other_services_are_told_from_nodes() {
    let http = stranger(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").to_string();
    let ssh = stranger(b"SSH-2.0-OpenSSH_9.7\r\n").to_string();
    let text = story(&[&http, &ssh]);
    assert!(text.contains(&http) && text.contains(&ssh), "{text}");
    assert!(text.contains("HTTP") && text.contains("SSH"), "{text}");
}

#[test]
fn another_version_of_the_protocol_is_named() {
    let mut preamble = b"distfun\0".to_vec();
    preamble.extend(77u16.to_le_bytes());
    preamble.extend(100u16.to_le_bytes());
    preamble.push(5);
    preamble.extend(b"9.9.9");
    preamble.resize(12 + 100, 0);
    let address = stranger(preamble.leak()).to_string();
    let text = story(&[&address]);
    assert!(text.contains("77") && text.contains("9.9.9"), "{text}");
}

#[test]
fn another_secret_is_named_and_not_tried_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = node::start(offering(1).cookie(dir.path().join("other"))).expect("a node starts");
    let text = story(&[node.address()]);
    assert!(text.contains(node.address()) && text.contains("cookie"), "{text}");
}

#[test]
fn a_secret_that_others_can_read_is_refused_by_both_sides() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cookie");
    std::fs::write(&path, [7; 32]).expect("it is written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("it is set");
    let error = node::start(offering(1).cookie(&path)).unwrap_err().to_string();
    assert!(error.contains("cookie") && (error.contains("0600") || error.contains("600")), "{error}");
    alone_with(&[("DISTFUN_COOKIE", path.as_os_str())], || {
        let text = story(&["127.0.0.1:9999"]);
        assert!(text.contains("cookie") && text.contains("600"), "{text}");
    });
}

#[test]
fn one_node_by_two_names_is_used_once() -> Result<(), Error> {
    let node = start(1);
    let port = node.address().rsplit(':').next().expect("a port").to_owned();
    let other = format!("localhost:{port}");
    let manager = Manager::builder().max_cpu(0).machines([node.address(), &other]).start()?;
    let call = manager.call(Distribute::map(function!(nap), 0..100));
    assert_eq!(within(|| call.wait())?, naps(100));
    eventually(Duration::from_secs(5), "only one is connected", || node.managers() == 1);
    Ok(())
}

#[test]
fn one_entry_twice_is_an_error_or_used_once() {
    let node = start(1);
    let built = distribute!(nap).max_cpu(0).machines([node.address(), node.address()]).build();
    match built {
        Ok(dfun) => assert_eq!(dfun.map(0..100).wait().unwrap(), naps(100)),
        Err(error) => assert!(error.to_string().contains(node.address()), "{error}"),
    }
}

#[test]
fn a_program_that_names_its_own_node_is_told() {
    let node = node::start(node::config().listen("127.0.0.1:0").slots(1).offer(function!(nap))).expect("a node starts");
    let text = story(&[node.address()]);
    assert!(text.contains(node.address()) && text.contains("this very program"), "{text}");
}

#[test]
fn a_function_that_the_node_does_not_offer_is_named_with_the_remedy() {
    let config = node::config().listen("127.0.0.1:0").slots(1).as_another_process().offer(function!(square));
    let node = node::start(config).expect("a node starts");
    let text = story(&[node.address()]);
    assert!(text.contains("nap") && text.contains(".offer("), "{text}");
    // With slots here it runs here.
    let dfun = distribute!(nap).max_cpu(1).machines([node.address()]).build().unwrap();
    assert_eq!(dfun.map(0..20).wait().unwrap(), naps(20));
}

#[test]
fn serde_that_panics_or_fails_blames_its_own_items() {
    let node = start(1);
    let manager = manager(0, node.address());
    let items = || {
        let mut items: Vec<Moody> = (0..60).map(Moody::Well).collect();
        items[7] = Moody::PanicsWhenWritten;
        items[17] = Moody::FailsWhenWritten;
        items[27] = Moody::PanicsWhenRead;
        items[37] = Moody::FailsWhenRead;
        items
    };
    let call = manager.call(Distribute::map(function!(moody), items()));
    let settled = within(|| call.settle());
    assert_eq!(settled.len(), 60);
    for (index, result) in settled.iter().enumerate() {
        match (index, result) {
            (7, Err(failure)) => assert!(matches!(failure.cause, FailureCause::Panicked { .. }), "{failure}"),
            (17, Err(failure)) => assert!(failure.to_string().contains("could not travel"), "{failure}"),
            (27, Err(failure)) => assert!(failure.to_string().contains("read"), "{failure}"),
            (37, Err(failure)) => assert!(failure.to_string().contains("travel"), "{failure}"),
            (_, Ok(result)) => assert_eq!(*result, items()[index]),
            (_, Err(failure)) => panic!("item {index} is blamed for others: {failure}"),
        }
    }
}

#[test]
fn results_that_can_not_travel_fail_alone() {
    let node = start(1);
    let manager = manager(0, node.address());
    let call = manager.call(Distribute::map(function!(super::mood), 0..60));
    for (index, result) in (0u32..).zip(within(|| call.settle())) {
        match (index, result) {
            (8, Err(failure)) => assert!(failure.to_string().contains("read"), "{failure}"),
            (18, Err(failure)) => assert!(failure.to_string().contains("travel"), "{failure}"),
            (_, Ok(result)) => assert_eq!(result, Moody::Well(index)),
            (_, Err(failure)) => panic!("item {index} is blamed for others: {failure}"),
        }
    }
}

#[test]
fn lists_of_another_length_are_named_by_the_node() {
    let node = start(1);
    let dfun = distribute!(short_lists).accept_lists().max_cpu(0).machines([node.address()]).build().unwrap();
    let call = dfun.map(0..50);
    let error = within(|| call.wait()).unwrap_err();
    assert_eq!(error.failed().len(), 50);
    assert!(matches!(error.failed()[0].cause, FailureCause::WrongLength { .. }), "{error}");
}

/// Each failure travels with its text, and all of a chunk must fit one message: an item that did not fail must not
/// fail because the texts of others do not.
#[test]
fn many_failures_with_long_texts_are_each_told() {
    let node = start(1);
    let manager = manager(0, node.address());
    let call = manager.call(Distribute::map(function!(super::long_text), 0..1200));
    let error = within(|| call.wait()).unwrap_err();
    assert_eq!(error.failed().len(), 1200);
    for failure in error.failed() {
        let text = failure.to_string();
        assert!(matches!(failure.cause, FailureCause::Panicked { .. }), "{text}");
        assert!(text.contains(&format!("{}xxx", failure.index)), "{text}");
    }
    let call = manager.call(Distribute::map(function!(super::odd_panics), 0..10_000));
    let settled = within(|| call.settle());
    for (index, result) in (0..).zip(settled) {
        match result {
            Ok(half) => assert_eq!(half, index / 2),
            Err(failure) => assert!(matches!(failure.cause, FailureCause::Panicked { .. }), "{failure}"),
        }
    }
}

/// The first items say nothing about the weight of those that follow: together these are more than a message can be.
#[test]
fn heavy_items_behind_light_ones_do_not_weigh_on_each_other() {
    if std::env::var_os("DISTFUN_TEST_LONG").is_none() {
        return println!("skipped; set DISTFUN_TEST_LONG to run it");
    }
    let node = start(1);
    let manager = manager(0, node.address());
    let array = |n: usize| ndarray::Array1::from_elem(if n < 1200 { n % 3 } else { 5 << 20 }, n as f64);
    let items: Vec<_> = (0..1230).map(array).collect();
    let call = manager.call(Distribute::map(function!(super::doubled), items.clone()));
    let results = within(|| call.wait()).unwrap();
    assert!(results.iter().zip(&items).all(|(result, item)| *result == item * 2.0));
}

/// Moves more than two gigabytes: only where the environment asks for it.
#[test]
fn an_item_above_the_limit_is_named_alone() {
    if std::env::var_os("DISTFUN_TEST_LONG").is_none() {
        return println!("skipped; set DISTFUN_TEST_LONG to run it");
    }
    let node = start(1);
    let manager = manager(0, node.address());
    let mut items: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    items[5] = "x".repeat((1 << 30) + 1);
    let call = manager.call(Distribute::map(function!(whole), items));
    let error = within(|| call.wait()).unwrap_err();
    assert_eq!(error.failed().len(), 1);
    assert!(error.to_string().contains("1073741824") && error.failed()[0].index == 5, "{error}");
}

#[test]
fn a_remote_name_for_a_local_socket_is_an_error_that_names_tcp() {
    let error = match distribute!(nap).named_pipe(r"\\bob\pipe\distfun").build() {
        Ok(_) => panic!("a remote name is no local socket"),
        Err(error) => error,
    };
    assert!(matches!(error, BuildError::Settings(_)), "{error:?}");
    assert!(error.to_string().contains("TCP"), "{error}");
}

#[test]
fn no_slots_and_no_machines_is_an_error() {
    let error = match distribute!(nap).max_cpu(0).build() {
        Ok(_) => panic!("nothing could ever run"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("max_cpu(0)") && error.contains("machines"), "{error}");
}

#[test]
fn a_dropped_call_frees_the_slots_of_its_nodes() {
    let node = start(1);
    let manager = manager(0, node.address());
    let call = manager.call(Distribute::map(function!(slow), vec![50; 1000]));
    await_chunks(&manager, 1);
    drop(call);
    eventually(Duration::from_secs(2), "the lanes are free", || chunks(&manager) == 0);
    let call = manager.call(Distribute::map(function!(nap), 0..20));
    assert_eq!(within(|| call.wait()).unwrap(), naps(20));
}

/// An item that never ends held the lane of its chunk for ever: nobody answered for it.
#[test]
fn an_item_stuck_at_a_node_is_left_there() {
    let node = NodeProcess::start(1);
    let manager = manager(0, node.address());
    for _ in 0..4 {
        let call = manager.call(Distribute::map(function!(slow), [LIMIT.as_millis() as u64 * 5]));
        await_chunks(&manager, 1);
        let error = within(move || call.wait_timeout(Duration::from_millis(200))).unwrap_err();
        assert_eq!(error.ending(), Ending::TimedOut);
        eventually(Duration::from_secs(2), "the lanes are free", || chunks(&manager) == 0);
        let call = manager.call(Distribute::map(function!(nap), 0..20));
        assert_eq!(within(|| call.wait()).unwrap(), naps(20));
    }
}

#[test]
fn errors_of_the_function_are_values_unless_they_end_the_call() {
    let node = start(1);
    let manager = manager(0, node.address());
    eventually(Duration::from_secs(10), "the node is up", || is_up(&manager));
    let call = manager.call(Distribute::map(function!(halve), 0..10));
    assert_eq!(within(|| call.wait()).unwrap(), (0..10).map(halve).collect::<Vec<_>>());
}
