//! The same at nodes, which have the driver; the Manager has none.

use std::{
    io::{BufRead, BufReader, Lines, Read},
    process::{Child, ChildStdout, Stdio},
    thread,
    time::{Duration, Instant},
};

use distfun::{
    Distribute, Ending, GpuPolicy, Manager, ManagerHandle, NodeState, SlotKind, Status,
    gpu::GpuError,
    node::{self, NodeConfig, NodeError, NodeHandle},
    prelude::*,
};
use distfun_integration_tests::driver::driver;
use futures::executor::block_on;
use tempfile::TempDir;

use super::{HERE, again, names, opened};

/// In the process that has the driver: serves until its input ends.
fn serve(start: impl FnOnce(NodeConfig) -> Result<NodeHandle, NodeError>) {
    let cache = tempfile::tempdir().expect("a folder");
    let node = start(node::config().listen("127.0.0.1:0").slots(1).cache(cache.path()));
    let node = node.expect("a node starts");
    println!("\nat {}", node.address());
    let _ = std::io::stdin().read(&mut [0]);
}

/// A node in a process that has the driver.
struct Served {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: String,
    _driver: TempDir,
}

impl Served {
    fn start(test: &str, settings: &[(&str, u32)]) -> Self {
        let driver = driver("several_devices", settings);
        let mut process = again(&format!("nodes::{test}"), driver.path());
        process.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = process.spawn().expect("it starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let address = lines.find_map(|line| Some(line.ok()?.strip_prefix("at ")?.to_owned())).expect("its address");
        Self { process, lines, address, _driver: driver }
    }

    fn manager(&self, policy: GpuPolicy) -> ManagerHandle {
        Manager::builder().max_cpu(0).gpu_policy(policy).machines([&self.address]).start().unwrap()
    }

    fn end(mut self) {
        drop(self.process.stdin.take());
        self.lines.for_each(drop);
        assert!(self.process.wait().expect("it ends").success());
    }
}

/// How many chunks the GPUs of nodes compute at once, and their CPUs.
fn slots_of_nodes(manager: &ManagerHandle) -> [u32; 2] {
    let nodes = block_on(manager.send(Status)).unwrap().nodes;
    let nodes = || nodes.iter().filter(|node| node.state == NodeState::Up);
    [SlotKind::Gpu, SlotKind::Cpu].map(|kind| nodes().filter(|node| node.kind == kind).map(|node| node.slots).sum())
}

#[test]
fn a_device_that_can_not_be_opened_is_given_up() {
    if std::env::var_os(HERE).is_some() {
        return serve(|config| node::start(config.offer(function!(opened))));
    }
    let node = Served::start("a_device_that_can_not_be_opened_is_given_up", &[("DEVICES", 3), ("BROKEN", 1)]);
    let is_given_up_by = |manager: &ManagerHandle| {
        let results = block_on(manager.send(Distribute::try_map(function!(opened), 0..500))).unwrap();
        assert_eq!(names(results.unwrap()), ["Imagined 0", "Imagined 2"]);
    };
    let first = node.manager(GpuPolicy::GpuOrFail);
    is_given_up_by(&first);
    // Who comes later is told of those that are left.
    let later = node.manager(GpuPolicy::GpuOrFail);
    is_given_up_by(&later);
    assert_eq!(slots_of_nodes(&later), [2, 1]);
    drop((first, later));
    node.end();
}

/// As [`opened`], or on a CPU.
fn anywhere(x: u32, context: &Context) -> Result<String, GpuError> {
    if context.device().gpu().is_some() { opened(x, context) } else { Ok("a CPU".into()) }
}

#[test]
fn a_program_that_can_not_use_the_gpus_of_a_node_still_has_its_cpus() {
    if std::env::var_os(HERE).is_some() {
        return serve(node::start_programs);
    }
    let test = "a_program_that_can_not_use_the_gpus_of_a_node_still_has_its_cpus";
    let node = Served::start(test, &[("DEVICES", 1), ("BROKEN", 0)]);
    let mixed = node.manager(GpuPolicy::Mixed);
    let results = block_on(mixed.send(Distribute::try_map(function!(anywhere), 0..2000))).unwrap();
    assert_eq!(names(results.unwrap()), ["a CPU"]);
    let since = Instant::now();
    while slots_of_nodes(&mixed) != [0, 1] {
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", block_on(mixed.send(Status)));
        let _ = block_on(mixed.send(Distribute::try_map(function!(anywhere), 0..2000))).unwrap().unwrap();
    }
    let strict = node.manager(GpuPolicy::GpuOrFail);
    let error = block_on(strict.send(Distribute::try_map(function!(anywhere), 0..20))).unwrap().unwrap_err();
    assert_eq!(error.ending(), Ending::NoGpu);
    assert!(error.to_string().contains("the device is busy or unavailable"), "{error}");
    drop((mixed, strict));
    node.end();
}

#[test]
fn a_program_that_is_sent_uses_those_gpus_of_a_node_that_it_can() {
    if std::env::var_os(HERE).is_some() {
        return serve(node::start_programs);
    }
    let test = "a_program_that_is_sent_uses_those_gpus_of_a_node_that_it_can";
    for (settings, expected) in [
        (&[("DEVICES", 2)][..], &["Imagined 0", "Imagined 1"][..]),
        (&[("DEVICES", 3), ("BROKEN", 2)], &["Imagined 0", "Imagined 1"]),
    ] {
        let node = Served::start(test, settings);
        let manager = node.manager(GpuPolicy::GpuOrFail);
        let results = block_on(manager.send(Distribute::try_map(function!(opened), 0..500))).unwrap();
        assert_eq!(names(results.unwrap()), expected);
        // One item after the other: none waits for the one that fails.
        for x in 0..5 {
            let results = block_on(manager.send(Distribute::try_map(function!(opened), [x]))).unwrap();
            assert_eq!(results.unwrap().len(), 1);
        }
        drop(manager);
        node.end();
    }
}

/// Which kind of slot had an item; GPUs take twenty times as long.
fn slow_on_gpus(_: u32, context: &Context) -> bool {
    let is_gpu = context.device().gpu().is_some();
    thread::sleep(Duration::from_millis(if is_gpu { 2000 } else { 100 }));
    is_gpu
}

fn of_gpus_only(config: NodeConfig) -> Result<NodeHandle, NodeError> {
    node::start(config.slots(0).offer(function!(anywhere)))
}

/// The lanes of its CPUs, of which there are none, were counted from below nothing.
#[test]
fn a_node_of_gpus_only_beside_slots_here() {
    if std::env::var_os(HERE).is_some() {
        return serve(of_gpus_only);
    }
    let node = Served::start("a_node_of_gpus_only_beside_slots_here", &[("DEVICES", 1)]);
    for (policy, expected) in [
        (GpuPolicy::NoGpu, &["a CPU"][..]),
        (GpuPolicy::PreferGpu, &["Imagined 0"]),
        (GpuPolicy::Mixed, &["Imagined 0", "a CPU"]),
    ] {
        let manager = Manager::builder().slots(1).gpu_policy(policy).machines([&node.address]).start().unwrap();
        let since = Instant::now();
        loop {
            let results = block_on(manager.send(Distribute::try_map(function!(anywhere), 0..500))).unwrap().unwrap();
            let kinds = names(results);
            if kinds == expected {
                break;
            }
            // It may not be connected yet.
            assert!(since.elapsed() < Duration::from_secs(10), "{policy:?}: {kinds:?}");
        }
    }
    node.end();
}

/// Calls waited for ever for the CPU that it was taken to have.
#[test]
fn a_node_that_has_nothing_for_a_manager_is_not_waited_for() {
    if std::env::var_os(HERE).is_some() {
        return serve(of_gpus_only);
    }
    let test = "a_node_that_has_nothing_for_a_manager_is_not_waited_for";
    for (settings, policy, max_gpu) in [
        (&[("DEVICES", 1)][..], GpuPolicy::NoGpu, 0),
        (&[("DEVICES", 1)], GpuPolicy::PreferGpu, 0),
        // Its only GPU is given up while the call runs.
        (&[("DEVICES", 1), ("BROKEN", 0)], GpuPolicy::PreferGpu, 1),
        (&[("DEVICES", 1), ("BROKEN", 0)], GpuPolicy::Mixed, 1),
        (&[("DEVICES", 1), ("BROKEN", 0)], GpuPolicy::RequireAll, 1),
    ] {
        let node = Served::start(test, settings);
        let manager = Manager::builder().max_cpu(0).gpu_policy(policy).machines([&node.address]);
        let manager = if policy == GpuPolicy::NoGpu { manager } else { manager.max_gpu(max_gpu) }.start().unwrap();
        let error = block_on(manager.send(Distribute::try_map(function!(anywhere), 0..10))).unwrap().unwrap_err();
        assert_eq!(error.ending(), Ending::NoWorkers, "{policy:?}: {error}");
        assert!(error.to_string().contains("has no GPU that this program would use"), "{policy:?}: {error}");
        node.end();
    }
}

/// Chunks that waited for the GPU were asked back for the CPU, and went to wait for the GPU again.
#[test]
fn the_cpus_of_a_node_do_not_wait_for_its_gpu() {
    if std::env::var_os(HERE).is_some() {
        return serve(|config| node::start(config.offer(function!(slow_on_gpus))));
    }
    let node = Served::start("the_cpus_of_a_node_do_not_wait_for_its_gpu", &[("DEVICES", 1)]);
    let manager = node.manager(GpuPolicy::Mixed);
    for items in [4, 6] {
        let results = block_on(manager.send(Distribute::map(function!(slow_on_gpus), 0..items))).unwrap().unwrap();
        assert!(results.contains(&false), "{items} items");
    }
    node.end();
}

/// The GPUs that it had before were waited for.
#[test]
fn the_gpus_that_a_node_has_lost_are_not_waited_for() {
    if std::env::var_os(HERE).is_some() {
        return serve(|config| node::start(config.offer(function!(opened))));
    }
    let test = "the_gpus_that_a_node_has_lost_are_not_waited_for";
    let node = Served::start(test, &[("DEVICES", 1), ("BROKEN", 0)]);
    let manager = node.manager(GpuPolicy::Mixed);
    // On a CPU it fails; on the GPU, until that is given up, it does not begin.
    let _ = block_on(manager.send(Distribute::map(function!(opened), 0..100))).unwrap();
    let since = Instant::now();
    while slots_of_nodes(&manager) != [0, 1] {
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", block_on(manager.send(Status)));
        let _ = block_on(manager.send(Distribute::map(function!(opened), 0..100))).unwrap();
    }
    let nodes = block_on(manager.send(Status)).unwrap().nodes;
    assert!(nodes.iter().all(|node| node.kind == SlotKind::Cpu || node.state == NodeState::Hopeless), "{nodes:?}");
    drop(manager);
    node.end();
}
