//! What the nodes of all stories offer, and how they are started.

use std::{thread, time::Duration};

use distfun::{
    node::{self, NodeConfig},
    prelude::*,
};
use ndarray::{Array1, ArrayView1};

use crate::{
    lan::{Host, Lan},
    log::Log,
    process::{Process, as_part, ready},
};

/// The port of every node, which is the usual one.
pub(crate) const PORT: u16 = 2718;

/// Slots of every node.
pub(crate) const SLOTS: usize = 2;

/// Takes `0.0` milliseconds, in which it computes nothing, so that busy CPUs do not matter.
pub(crate) fn square((milliseconds, x): (u64, u64)) -> u64 {
    thread::sleep(Duration::from_millis(milliseconds));
    x * x
}

/// Takes ten milliseconds.
pub(crate) fn sum(x: Array1<f64>) -> f64 {
    thread::sleep(Duration::from_millis(10));
    x.sum()
}

/// As large as what it is given.
pub(crate) fn doubled(x: Array1<f64>) -> Array1<f64> {
    thread::sleep(Duration::from_millis(10));
    x * 2.0
}

/// Of shared data, the element at this place.
pub(crate) fn weight(place: u64, shared: &SharedData) -> f64 {
    let weights: ArrayView1<f64> = shared.array("weights").expect("it is there");
    weights[place as usize]
}

fn offering() -> NodeConfig {
    node::config().offer(function!(square)).offer(function!(sum)).offer(function!(doubled)).offer(function!(weight))
}

#[test]
#[ignore = "a process of the other tests"]
fn a_node() {
    as_part(|lan, host| {
        let _log = Log::of(lan, host).begin();
        let config = offering().listen(host.address().to_string()).port(PORT).slots(SLOTS);
        let config = config.cache(lan.dir().join(format!("cache-{host:?}")));
        let _node = node::start(config).expect("a node starts");
        ready();
    });
}

/// A node on a host, which is ready.
pub(crate) fn node_on(lan: &Lan, host: Host) -> Process {
    Process::start(lan, host, "functions::a_node")
}

/// The node of a host in a list of machines, as logs name it: the port goes without saying.
pub(crate) fn machine(host: Host) -> String {
    host.address().to_string()
}
