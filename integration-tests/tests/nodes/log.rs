//! What the log says about nodes.

use std::time::Duration;

use distfun::{Distribute, Manager, function, log};
use distfun_integration_tests::proxy::Proxy;

use super::{
    loss::{await_chunks, naps},
    nap, start,
};
use crate::{
    events::check::{Memory, check, lines_of},
    support::{alone, eventually, within},
};

#[test]
fn a_call_over_nodes_is_told_as_the_table_says() {
    alone(|| {
        let memory = Memory::default();
        let log = log::json().writer(memory.clone()).level(tracing::Level::DEBUG).init().expect("no other subscriber");
        let (first, second) = (start(1), start(1));
        let proxy = Proxy::to(first.address());
        {
            let manager = Manager::builder()
                .slots(1)
                .machines([proxy.address(), second.address(), "127.0.0.1:9999"])
                .start()
                .expect("it starts");
            eventually(Duration::from_secs(10), "both are connected", || first.managers() + second.managers() == 2);
            let call = manager.call(Distribute::map(function!(nap), 0..600));
            await_chunks(&manager, 3);
            proxy.cut();
            eventually(Duration::from_secs(5), "it is connected anew", || proxy.connections() == 2);
            assert_eq!(within(|| call.wait()).unwrap(), naps(600));
            let failing = manager.call(Distribute::map(function!(super::odd_panics), 0..200));
            assert_eq!(within(|| failing.wait()).unwrap_err().failed().len(), 100);
            assert!(second.drain(Duration::from_secs(3)));
        }
        drop((first, second));
        let others = || crate::support::our_threads().into_iter().filter(|name| name != "distfun-log");
        eventually(Duration::from_secs(5), "the Manager has ended", || others().next().is_none());
        drop(log);
        let lines = memory.lines();
        check(&lines);
        let count = |name| lines_of(&lines, name).len();
        assert!(count("node.connected") >= 3, "{}", count("node.connected"));
        assert!(count("node.lost") >= 1);
        assert_eq!(count("node.rejected"), 1);
        assert!(count("chunk.dispatched") >= 4);
        assert!(count("chunk.returned") >= 4);
        assert_eq!([count("node.started"), count("node.stopping"), count("node.stopped")], [2; 3]);
        assert!(count("node.joined") >= 3);
        assert_eq!(count("node.joined"), count("node.left"));
        let of_proxy = |line: &&crate::events::check::Line| line["distfun.machine"] == proxy.address();
        let lost = lines_of(&lines, "node.lost");
        assert_eq!(lost.iter().filter(|line| of_proxy(line)).count(), 1, "{lost:?}");
    });
}

/// Nobody said that it was over: to whoever watched, the node stayed silent for ever.
#[test]
fn a_node_that_is_silent_for_a_moment_is_told_to_be_back() {
    alone(|| {
        let memory = Memory::default();
        let log = log::json().writer(memory.clone()).init().expect("no other subscriber");
        let node = start(1);
        let proxy = Proxy::to(node.address());
        let manager = Manager::builder().slots(1).machines([proxy.address()]).start().expect("it starts");
        let count = |name: &str| lines_of(&memory.lines(), name).len();
        eventually(Duration::from_secs(10), "it is connected", || count("node.connected") == 1);
        proxy.black_hole(true);
        eventually(Duration::from_secs(5), "its silence is told", || count("node.suspect") == 1);
        proxy.black_hole(false);
        eventually(Duration::from_secs(5), "that it is back is told", || count("node.recovered") == 1);
        assert_eq!(count("node.lost"), 0);
        drop((manager, node));
        drop(log);
    });
}
