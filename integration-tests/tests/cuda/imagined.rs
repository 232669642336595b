//! Several devices, and ones that fail, as a driver shows them that has none: its memory is the machine's, and it runs no
//! kernels. Each test is a process of its own, which finds that driver in place of a real one.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Lines, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use distfun::{
    Distribute, DistributedFunction, Ending, FailureCause, GpuPolicy, Isolation, Manager, ManagerHandle, NodeState,
    SharedData, SlotKind, Status,
    gpu::GpuError,
    node::{self, NodeConfig, NodeError, NodeHandle},
    prelude::*,
};
use distfun_integration_tests::driver::driver;
use futures::executor::block_on;
use ndarray::{Array1, array};
use tempfile::TempDir;

/// Set where a process has the driver.
const HERE: &str = "IMAGINED_DEVICES";

/// The process that runs a test of this file with the driver in `folder`.
fn again(test: &str, folder: &Path) -> Command {
    let mut again = Command::new(std::env::current_exe().expect("this program"));
    again.args([&format!("imagined::{test}"), "--exact", "--nocapture"]).env(HERE, "1");
    // No other driver, and nothing that hides devices.
    again.env("LD_LIBRARY_PATH", folder).env("VK_DRIVER_FILES", "/nowhere").env_remove("CUDA_VISIBLE_DEVICES");
    again
}

/// Whether this process has the driver. If not, it runs the test again where it is, and it must pass there.
fn is_here(test: &str, settings: &[(&str, u32)]) -> bool {
    if std::env::var_os(HERE).is_some() {
        return true;
    }
    let folder = driver("several_devices", settings);
    let output = again(test, folder.path()).output().expect("it starts");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// Which device has the item; it opens the device.
fn opened(x: u32, context: &Context) -> Result<String, GpuError> {
    let gpu = context.device().gpu().expect("a GPU");
    assert_eq!(gpu.cuda()?.download(&gpu.cuda()?.upload(&[x, x + 1])?)?, [x, x + 1]);
    thread::sleep(Duration::from_millis(1));
    Ok(gpu.info().name.clone())
}

macro_rules! on {
    ($function:expr) => {
        distribute!($function).slots(1).gpu_policy(GpuPolicy::GpuOrFail)
    };
}

fn names(names: impl IntoIterator<Item = String>) -> Vec<String> {
    names.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn every_device_is_a_worker_up_to_the_most_that_may() {
    if is_here("every_device_is_a_worker_up_to_the_most_that_may", &[("DEVICES", 3)]) {
        let all = ["Imagined 0", "Imagined 1", "Imagined 2"];
        assert_eq!(names(on!(opened).build().unwrap().try_map(0..200).wait().unwrap()), all);
        assert_eq!(names(on!(opened).max_gpu(2).build().unwrap().try_map(0..200).wait().unwrap()), all[..2]);
        let dfun = on!(opened).isolation(Isolation::Process).build().unwrap();
        assert_eq!(names(dfun.try_map(0..200).wait().unwrap()), all);
    }
}

#[test]
fn buffers_go_up_and_down_also_empty_ones() {
    fn copied(x: Vec<f64>, context: &Context) -> Result<Vec<f64>, GpuError> {
        let gpu = context.device().gpu().expect("a GPU").cuda()?;
        if x.len() == 7 {
            return gpu.checked(1 << 40, gpu.stream().alloc_zeros::<u8>(1 << 40)).map(|_| x);
        }
        gpu.download(&gpu.upload(&x)?)
    }
    if is_here("buffers_go_up_and_down_also_empty_ones", &[("DEVICES", 2)]) {
        let items: Vec<Vec<f64>> = (0..20u32).map(|n| (0..n).map(f64::from).collect()).collect();
        let results = on!(copied).build().unwrap().map(items.clone()).wait().unwrap();
        for (item, result) in items.iter().zip(&results) {
            match result {
                Ok(copy) => assert_eq!(copy, item),
                Err(GpuError::OutOfMemory { bytes, .. }) => assert_eq!((item.len(), *bytes), (7, 1 << 40)),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
    }
}

#[test]
fn shared_data_is_uploaded_once_to_each_device() {
    fn looked(_: u32, context: &Context) -> Result<(String, bool), GpuError> {
        let gpu = context.device().gpu().expect("a GPU");
        let buffer = gpu.cuda()?.shared::<f64>(context.shared(), "w")?;
        assert_eq!(gpu.cuda()?.download(&buffer)?, [1.0, 2.0, 3.0]);
        assert!(gpu.cuda()?.download(&*gpu.cuda()?.shared::<f64>(context.shared(), "none")?)?.is_empty());
        let mut before = context.slot_state(|| None);
        let is_new = !before.as_ref().is_some_and(|before| std::rc::Rc::ptr_eq(before, &buffer));
        *before = Some(buffer);
        thread::sleep(Duration::from_millis(1));
        Ok((gpu.info().name.clone(), is_new))
    }
    if is_here("shared_data_is_uploaded_once_to_each_device", &[("DEVICES", 2)]) {
        let (w, none) = (array![1.0, 2.0, 3.0], Array1::<f64>::zeros(0));
        let shared = SharedData::builder().array("w", &w).unwrap().array("none", &none).unwrap().build().unwrap();
        let dfun = on!(looked).shared_data(shared).endaftercall(false).build().unwrap();
        let results = (0..2).flat_map(|_| dfun.try_map(0..100).wait().unwrap());
        let uploads: Vec<String> = results.filter(|(_, is_new)| *is_new).map(|(name, _)| name).collect();
        assert_eq!(uploads.len(), 2);
        assert_eq!(names(uploads), ["Imagined 0", "Imagined 1"]);
    }
}

/// Loses its device at item 3.
fn loses(x: &u32, context: &Context) -> Result<u32, GpuError> {
    let gpu = context.device().gpu().expect("a GPU").cuda()?;
    let bytes = if *x == 3 { *b"LOST" } else { x.to_ne_bytes() };
    gpu.download(&gpu.upload(&bytes)?)?;
    Ok(10 * x)
}

#[test]
fn an_item_that_loses_its_device_fails_alone_and_says_so() {
    if is_here("an_item_that_loses_its_device_fails_alone_and_says_so", &[("DEVICES", 2)]) {
        for isolation in [Isolation::Thread, Isolation::Process] {
            let error = on!(loses).isolation(isolation).build().unwrap().map(0..10u32).wait().unwrap_err();
            assert!(matches!(error.failed[..], [ref it] if it.index == 3), "{error:?}");
            assert!(matches!(error.failed[0].cause, FailureCause::Poisoned { deaths: 3, .. }), "{error:?}");
            assert!(error.failed[0].cause.to_string().contains("the device is lost"), "{error}");
            assert_eq!(error.finished().len(), 9);
        }
    }
}

/// One of three devices can't be opened: whoever gets to it does not suffer, and in the end nobody does.
fn is_given_up(dfun: &DistributedFunction<u32, Result<String, GpuError>>) {
    let results = dfun.try_map(0..500).wait().unwrap();
    assert_eq!(names(results), ["Imagined 0", "Imagined 2"]);
}

#[test]
fn a_device_that_can_not_be_opened_is_given_up_and_no_item_is_blamed() {
    let broken = [("DEVICES", 3), ("BROKEN", 1)];
    if is_here("a_device_that_can_not_be_opened_is_given_up_and_no_item_is_blamed", &broken) {
        is_given_up(&on!(opened).endaftercall(false).build().unwrap());
        is_given_up(&on!(opened).isolation(Isolation::Process).endaftercall(false).build().unwrap());
    }
}

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
        let mut process = again(test, driver.path());
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
fn at_a_node_too() {
    if std::env::var_os(HERE).is_some() {
        return serve(|config| node::start(config.offer(function!(opened))));
    }
    let node = Served::start("at_a_node_too", &[("DEVICES", 3), ("BROKEN", 1)]);
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
