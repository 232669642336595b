//! What happens to calls when something happens to the network.

use std::{
    net::{IpAddr, ToSocketAddrs},
    time::{Duration, Instant, SystemTime},
};

use distfun::prelude::*;
use ndarray::Array1;

use crate::{
    functions::{PORT, SLOTS, doubled, machine, node_on, square, sum, weight},
    lan::{DEAD, Host, Lan},
    log::{Line, Log},
    process::{Process, as_part, eventually, on_a_network, ready},
};

/// How soon a silent connection must be noticed: it is dead after 3 s.
const NOTICED_WITHIN: Duration = Duration::from_millis(3500);

/// More than anything here has to wait for.
const PATIENCE: Duration = Duration::from_secs(15);

fn connected<'a>(machine: &'a str) -> impl Fn(&Line) -> bool + 'a {
    move |line| line.is("node.connected") && line.machine() == machine
}

fn connected_again<'a>(machine: &'a str) -> impl Fn(&Line) -> bool + 'a {
    move |line| connected(machine)(line) && line.has("distfun.outage_s")
}

fn lost<'a>(machine: &'a str) -> impl Fn(&Line) -> bool + 'a {
    move |line| line.is("node.lost") && line.machine() == machine
}

/// A node is told at once who has gone, and why.
fn manager_gone(line: &Line) -> bool {
    line.is("node.left")
}

/// Items that a machine has answered for, since this moment.
fn items_of(log: &Log, machine: &str, since: SystemTime) -> u64 {
    let returned = log.events("chunk.returned");
    let of_it = returned.iter().filter(|line| line.machine() == machine && line.time() >= since);
    of_it.map(|line| line.number("distfun.items.done")).sum()
}

fn items(count: u64, milliseconds: u64) -> Vec<(u64, u64)> {
    (0..count).map(|x| (milliseconds, x)).collect()
}

fn squares(count: u64) -> Vec<u64> {
    (0..count).map(|x| x * x).collect()
}

#[track_caller]
fn assert_noticed(cut: SystemTime, line: &Line) {
    let after = line.time().duration_since(cut).unwrap_or_default();
    println!("noticed after {after:?}: {}", line.message());
    assert!(after <= NOTICED_WITHIN, "noticed only after {after:?}: {}", line.message());
}

#[test]
fn a_call_runs_on_three_hosts_found_by_address_and_by_name() {
    on_a_network(|lan| {
        let nodes = [node_on(lan, Host::A), node_on(lan, Host::B)];
        // The dead address of the name comes first, or it shows nothing.
        let found: Vec<IpAddr> = ("node-b", PORT).to_socket_addrs().unwrap().map(|address| address.ip()).collect();
        assert_eq!(found, [IpAddr::from(DEAD), Host::B.address().into()]);

        let log = Log::of(lan, Host::M);
        let _guard = log.begin();
        let machines = [machine(Host::A), "node-b".into()];
        let dfun = distribute!(square).slots(2).machines(&machines).endaftercall(false).build().unwrap();
        assert_eq!(dfun.map(items(10, 0)).wait().unwrap(), squares(10));
        for machine in &machines {
            log.wait_for(PATIENCE, "both are connected", connected(machine));
        }
        let start = SystemTime::now();
        assert_eq!(dfun.map(items(600, 2)).wait().unwrap(), squares(600));
        dfun.finished().unwrap();
        for machine in &machines {
            assert!(items_of(&log, machine, start) > 0, "{machine} has computed nothing");
        }
        let here = log.events("chunk.finished").iter().filter(|line| line.time() >= start).count();
        assert!(here > 0, "nothing was computed here");
        drop(nodes);
    });
}

/// Arrays of 64 KiB to 1 MiB, small beside large ones.
fn arrays(count: usize) -> Vec<Array1<f64>> {
    (0..count).map(|n| Array1::from_elem((8 << 10) << (n % 5), n as f64)).collect()
}

/// The weight of items was guessed from those before: 10 MiB went as one chunk, which a slow link carries for 8 s.
#[test]
fn heavy_items_behind_light_ones_do_not_leave_all_at_once() {
    on_a_network(|lan| {
        let nodes = [node_on(lan, Host::A), node_on(lan, Host::B)];
        let log = Log::of(lan, Host::M);
        let _guard = log.begin();
        let machines = [Host::A, Host::B].map(machine);
        let dfun = distribute!(sum).max_cpu(0).machines(&machines).endaftercall(false).build().unwrap();
        assert_eq!(dfun.map(vec![Array1::zeros(1)]).wait().unwrap(), [0.0]);
        for machine in &machines {
            log.wait_for(PATIENCE, "it is connected", connected(machine));
        }
        let (arrays, start) = (arrays(200), SystemTime::now());
        let expected: Vec<f64> = arrays.iter().map(|x| x.sum()).collect();
        assert_eq!(dfun.map(arrays.clone()).wait().unwrap(), expected);
        for sent in log.events("chunk.dispatched").iter().filter(|line| line.time() >= start) {
            let first = sent.number("distfun.chunk.index") as usize;
            let all = &arrays[first..first + sent.number("distfun.chunk.items") as usize];
            assert!(all.iter().map(|x| 8 * x.len()).sum::<usize>() <= 8 << 20, "{}", sent.message());
        }
        drop(nodes);
    });
}

#[test]
fn a_slow_link_takes_no_host_for_dead_and_holds_no_call_up() {
    on_a_network(|lan| {
        let nodes = [node_on(lan, Host::A), node_on(lan, Host::B)];
        let log = Log::of(lan, Host::M);
        let _guard = log.begin();
        lan.slow_down(Host::B, "10mbit");
        let (quick, slow) = (machine(Host::A), machine(Host::B));
        // 75 MiB in all: a minute on the slow link.
        let arrays = arrays(200);
        let expected: Vec<f64> = arrays.iter().map(|x| x.sum()).collect();
        let timed = |machines: &[&String]| {
            let dfun =
                distribute!(sum).slots(1).machines(machines.iter().copied()).endaftercall(false).build().unwrap();
            let before = SystemTime::now();
            assert_eq!(dfun.map(vec![Array1::zeros(1)]).wait().unwrap(), [0.0]);
            for machine in machines {
                log.wait_for(PATIENCE, "it is connected", |line| connected(machine)(line) && line.time() >= before);
            }
            let (start, clock) = (SystemTime::now(), Instant::now());
            assert_eq!(dfun.map(arrays.clone()).wait().unwrap(), expected);
            (clock.elapsed(), start)
        };
        let (without, _) = timed(&[&quick]);
        let (with, start) = timed(&[&quick, &slow]);
        let [by_quick, by_slow] = [&quick, &slow].map(|machine| items_of(&log, machine, start));
        println!("{without:?} without the slow link, {with:?} with it; {by_quick} and {by_slow} of 200 items");
        assert!(by_quick > 2 * by_slow, "{by_quick} and {by_slow} items");
        // What has left for it must arrive.
        assert!(with < without + Duration::from_secs(4), "{with:?} and {without:?}");
        assert!(log.events("node.lost").is_empty(), "nobody has gone");

        // Results are as large as arguments here, and B's come the slow way.
        let doubles = distribute!(doubled).slots(1).machines([&quick, &slow]).build().unwrap();
        let expected: Vec<Array1<f64>> = arrays[..60].iter().map(|x| x * 2.0).collect();
        assert_eq!(doubles.map(arrays[..60].to_vec()).wait().unwrap(), expected);
        assert!(log.events("node.lost").is_empty(), "nobody has gone");
        drop(nodes);
    });
}

#[test]
fn a_link_that_is_cut_in_a_call_is_noticed_in_time_and_used_again_when_it_heals() {
    on_a_network(|lan| {
        let nodes = [node_on(lan, Host::A), node_on(lan, Host::B)];
        let log = Log::of(lan, Host::M);
        let _guard = log.begin();
        let [a, b] = [Host::A, Host::B].map(machine);
        let dfun = distribute!(square).slots(1).machines([&a, &b]).endaftercall(false).build().unwrap();
        // Four seconds of work for five slots.
        let call = dfun.map(items(4000, 5));
        log.wait_for(PATIENCE, "A computes", |line| line.is("chunk.returned") && line.machine() == a);
        let cut = lan.cut(Host::A);
        let noticed = log.wait_for(PATIENCE, "the loss is noticed", lost(&a));
        assert_noticed(cut, &noticed);
        assert_noticed(cut, &nodes[0].log.wait_for(PATIENCE, "A notices", manager_gone));
        std::thread::sleep(Duration::from_secs(5).saturating_sub(cut.elapsed().unwrap()));
        let healed = SystemTime::now();
        lan.heal(Host::A);
        let again = log.wait_for(PATIENCE, "A is connected again", connected_again(&a));
        println!("connected again after {:?}", again.time().duration_since(healed).unwrap_or_default());
        assert_eq!(call.wait().unwrap(), squares(4000));
        assert_eq!(dfun.map(items(1000, 2)).wait().unwrap(), squares(1000));
        assert!(items_of(&log, &a, healed) > 0, "A gets nothing any more");
        assert!(!log.lines().iter().any(|line| lost(&b)(line)), "B was there all the time");
    });
}

#[test]
fn a_link_that_carries_one_way_only_is_noticed_by_both_sides() {
    on_a_network(|lan| {
        if let Err(trouble) = lan.run(Host::A, &["iptables", "-L"]) {
            return println!("skipped: {trouble}");
        }
        let node = node_on(lan, Host::A);
        let log = Log::of(lan, Host::M);
        let _guard = log.begin();
        let a = machine(Host::A);
        // Which way is dead, as A sees it.
        for chain in ["INPUT", "OUTPUT"] {
            let begin = SystemTime::now();
            let dfun = distribute!(square).max_cpu(0).machines([&a]).endaftercall(false).build().unwrap();
            let call = dfun.map(items(400, 5));
            let is_new = |line: &Line| line.time() >= begin;
            let returned = |line: &Line| line.is("chunk.returned") && is_new(line);
            log.wait_for(PATIENCE, "A computes", returned);
            let cut = SystemTime::now();
            lan.run(Host::A, &["iptables", "-A", chain, "-j", "DROP"]).unwrap();
            assert_noticed(cut, &log.wait_for(PATIENCE, "M notices", |line| lost(&a)(line) && is_new(line)));
            assert_noticed(cut, &node.log.wait_for(PATIENCE, "A notices", |line| manager_gone(line) && is_new(line)));
            lan.run(Host::A, &["iptables", "-F", chain]).unwrap();
            assert_eq!(call.wait().unwrap(), squares(400));
            dfun.finished().unwrap();
        }
    });
}

#[test]
fn a_connection_that_is_reset_in_a_call_is_made_again_at_once() {
    on_a_network(|lan| {
        let nodes = [node_on(lan, Host::A), node_on(lan, Host::B)];
        let log = Log::of(lan, Host::M);
        let _guard = log.begin();
        let [a, b] = [Host::A, Host::B].map(machine);
        let dfun = distribute!(square).max_cpu(0).machines([&a, &b]).endaftercall(false).build().unwrap();
        let call = dfun.map(items(1200, 5));
        log.wait_for(PATIENCE, "A computes", |line| line.is("chunk.returned") && line.machine() == a);
        let reset = SystemTime::now();
        let told = lan.run(Host::M, &["ss", "-K", "-t", "dst", &Host::A.address().to_string()]);
        if !told.as_ref().is_ok_and(|told| told.contains(&*a)) {
            return println!("skipped: this kernel resets no connections: {told:?}");
        }
        log.wait_for(PATIENCE, "the reset is noticed", lost(&a));
        nodes[0].log.wait_for(PATIENCE, "A notices", manager_gone);
        let again = log.wait_for(PATIENCE, "A is connected again", connected_again(&a));
        println!("connected again after {:?}", again.time().duration_since(reset).unwrap_or_default());
        assert_eq!(call.wait().unwrap(), squares(1200));
        let since = again.time();
        assert!(items_of(&log, &a, since) > 0, "A gets work in the same call");
        assert!(!log.lines().iter().any(|line| lost(&b)(line)), "B was there all the time");
    });
}

#[test]
fn shared_data_goes_on_where_a_cut_link_has_left_it() {
    on_a_network(|lan| {
        let node = node_on(lan, Host::A);
        let log = Log::of(lan, Host::M);
        let _guard = log.begin();
        lan.slow_down(Host::A, "100mbit");
        const COUNT: usize = 8 << 20;
        let bytes = 8 * COUNT as u64;
        let shared = SharedData::builder();
        let shared = shared.array_with("weights", COUNT, |mut weights| {
            weights.iter_mut().enumerate().for_each(|(place, weight)| *weight = place as f64);
        });
        let shared = shared.unwrap().build().unwrap();
        let places: Vec<u64> = (0..100).map(|n| n * (COUNT as u64 / 100)).collect();
        let expected: Vec<f64> = places.iter().map(|place| *place as f64).collect();
        let a = machine(Host::A);
        let dfun =
            distribute!(weight).shared_data(shared).max_cpu(0).machines([&a]).endaftercall(false).build().unwrap();
        let before = Lan::bytes_sent();
        let call = dfun.map(places.clone());
        eventually(PATIENCE, "half of it is sent", || Lan::bytes_sent() - before > bytes / 2);
        let cut = lan.cut(Host::A);
        assert_noticed(cut, &log.wait_for(PATIENCE, "the loss is noticed", lost(&a)));
        lan.heal(Host::A);
        assert_eq!(call.wait().unwrap(), expected);
        let sent = Lan::bytes_sent() - before;
        println!("{sent} bytes sent for {bytes}");
        assert!(sent < bytes + bytes / 2, "{sent} bytes were sent for {bytes}");
        let before = Lan::bytes_sent();
        assert_eq!(dfun.map(places).wait().unwrap(), expected);
        let sent = Lan::bytes_sent() - before;
        println!("{sent} bytes sent for the second call");
        assert!(sent < 100_000, "{sent} bytes were sent for what is there");
        drop(node);
    });
}

#[test]
#[ignore = "a process of the other tests"]
fn a_manager_that_vanishes() {
    as_part(|_, _| {
        let dfun = distribute!(square).max_cpu(0).machines([machine(Host::A)]).build().unwrap();
        let _call = dfun.map(items(8, 60_000));
        ready();
    });
}

#[test]
fn what_a_vanished_manager_had_is_free_for_others_in_time() {
    on_a_network(|lan| {
        let node = node_on(lan, Host::A);
        let mut vanishes = Process::start(lan, Host::B, "stories::a_manager_that_vanishes");
        let log = Log::of(lan, Host::M);
        let _guard = log.begin();
        let is_busy = |line: &&std::rc::Rc<Line>| line.text("distfun.state") == "busy";
        let computes = || node.log.events("worker.state").iter().filter(is_busy).count() >= SLOTS;
        eventually(PATIENCE, "its items have all slots of A", computes);
        // It does not get to say goodbye.
        let cut = lan.cut(Host::B);
        vanishes.kill();
        let dfun = distribute!(square).max_cpu(0).machines([machine(Host::A)]).build().unwrap();
        assert_eq!(dfun.map(items(10, 0)).wait().unwrap(), squares(10));
        let waited = cut.elapsed().unwrap();
        println!("another Manager's call was done {waited:?} after");
        assert_noticed(cut, &node.log.wait_for(PATIENCE, "A notices", manager_gone));
        // It takes a moment to replace threads that do not come back from an item.
        assert!(waited < NOTICED_WITHIN + Duration::from_millis(500), "{waited:?}");
        let open = lan.run(Host::A, &["ss", "-Htn", "state", "established", "dst", &Host::B.address().to_string()]);
        assert_eq!(open.unwrap(), "", "its connection is closed");
    });
}
