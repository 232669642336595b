//! Several devices, and ones that fail, as a driver shows them that has none: its memory is the machine's, and it runs no
//! kernels. Each test is a process of its own, which finds that driver in place of a real one.

mod nodes;

use std::{
    collections::BTreeSet,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use distfun::{
    Distribute, DistributedFunction, FailureCause, GpuPolicy, Isolation, Manager, SharedData,
    gpu::{Cuda, GpuError},
    prelude::*,
};
use distfun_integration_tests::driver::driver;
use ndarray::{Array1, Array2, ArrayView2, Axis, array};

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

static TRIES: AtomicU32 = AtomicU32::new(0);

fn plain(x: u32) -> u32 {
    thread::sleep(Duration::from_micros(100));
    x
}

fn tried(x: u32, context: &Context) -> String {
    let Some(gpu) = context.device().gpu() else { return "a CPU".into() };
    TRIES.fetch_add(1, Ordering::Relaxed);
    gpu.cuda().map_or_else(|error| error.to_string(), |_| x.to_string())
}

/// What needs no device was taken for a sign that it can be opened.
#[test]
fn a_device_that_can_not_be_opened_is_given_up_beside_calls_that_need_none() {
    let test = "a_device_that_can_not_be_opened_is_given_up_beside_calls_that_need_none";
    if is_here(test, &[("DEVICES", 1), ("BROKEN", 0)]) {
        let manager = Manager::builder().slots(1).gpu_policy(GpuPolicy::PreferGpu).start().unwrap();
        let beside: Vec<_> = (0..4).map(|_| manager.call(Distribute::map(function!(plain), 0..3000))).collect();
        let places = manager.call(Distribute::map(function!(tried), 0..10)).wait().unwrap();
        assert_eq!((names(places), TRIES.load(Ordering::Relaxed)), (vec!["a CPU".to_owned()], 5));
        for call in beside {
            assert_eq!(call.wait().unwrap().len(), 3000);
        }
    }
}

fn listed(x: Vec<u32>, context: &Context) -> Vec<u32> {
    let gpu = context.device().gpu().expect("a GPU").cuda().expect("CUDA");
    gpu.upload(&x).expect("room");
    thread::sleep(Duration::from_millis(1));
    x.into_iter().map(|x| 10 * x).collect()
}

/// They had gone with the thread: a list has its clone too.
#[test]
fn a_list_that_finds_no_device_is_not_blamed() {
    if is_here("a_list_that_finds_no_device_is_not_blamed", &[("DEVICES", 2), ("BROKEN", 1)]) {
        let expected: Vec<u32> = (0..100).map(|x| 10 * x).collect();
        for retries in [0, 1] {
            let dfun = on!(listed).accept_lists().retries(retries).build().unwrap();
            assert_eq!(dfun.map(0..100u32).wait().unwrap(), expected);
        }
    }
}

static LOSSES: AtomicU32 = AtomicU32::new(0);

/// Item 40 is worth another try; one behind it loses the device, once.
fn erring(x: &u32, context: &Context) -> Result<u32, String> {
    let gpu = context.device().gpu().expect("a GPU").cuda().expect("CUDA");
    if *x == 40 && context.attempt() == 0 {
        return Err("busy for now".into());
    }
    let is_last = (41..=60).contains(x) && context.attempt() == 0 && LOSSES.fetch_add(1, Ordering::Relaxed) == 0;
    let bytes = if is_last { *b"LOST" } else { x.to_ne_bytes() };
    gpu.download(&gpu.upload(&bytes).expect("room")).expect("it is there");
    Ok(*x)
}

/// The `Err` counted as the first failure, whatever tries there were left.
#[test]
fn an_error_before_a_device_is_lost_is_tried_again() {
    if is_here("an_error_before_a_device_is_lost_is_tried_again", &[("DEVICES", 1)]) {
        for _ in 0..10 {
            LOSSES.store(0, Ordering::Relaxed);
            let results = on!(erring).retries(3).build().unwrap().try_map((0..100).collect::<Vec<u32>>()).wait();
            assert_eq!(results.unwrap(), (0..100).collect::<Vec<u32>>());
            assert!(LOSSES.load(Ordering::Relaxed) > 0);
        }
    }
}

/// Uses its device when it is dropped.
struct Guard<'a>(&'a Cuda);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Ok(buffer) = self.0.upload(&[0u8]) {
            let _ = self.0.download(&buffer);
        }
    }
}

fn guarded(x: u32, context: &Context) -> Result<u32, GpuError> {
    let gpu = context.device().gpu().expect("a GPU").cuda()?;
    let _guard = Guard(gpu);
    let bytes = if x == 3 { *b"LOST" } else { x.to_ne_bytes() };
    gpu.download(&gpu.upload(&bytes)?)?;
    Ok(x)
}

/// A panic in a panic ended the program.
#[test]
fn values_that_use_a_lost_device_when_they_are_dropped_end_nothing() {
    if is_here("values_that_use_a_lost_device_when_they_are_dropped_end_nothing", &[("DEVICES", 1)]) {
        let error = on!(guarded).retries(1).build().unwrap().map(0..10u32).wait().unwrap_err();
        assert_eq!((error.failed.len(), error.failed[0].index), (1, 3), "{error}");
    }
}

fn summed(x: ArrayView2<f64>, context: &Context) -> Array1<f64> {
    let gpu = context.device().gpu().expect("a GPU").cuda().expect("CUDA");
    let bytes = if x.iter().any(|x| *x == -1.0) { *b"LOST" } else { *b"fine" };
    LOSSES.fetch_add(u32::from(bytes == *b"LOST"), Ordering::Relaxed);
    gpu.download(&gpu.upload(&bytes).expect("room")).expect("it is there");
    x.sum_axis(Axis(0))
}

/// Its block is halved; the only slot is not given up for that.
#[test]
fn a_column_that_loses_its_device_is_found_in_its_block() {
    if is_here("a_column_that_loses_its_device_is_found_in_its_block", &[("DEVICES", 1)]) {
        for culprit in [0, 511] {
            LOSSES.store(0, Ordering::Relaxed);
            let mut x = Array2::from_elem((2, 512), 2.0);
            x[(0, culprit)] = -1.0;
            let error = on!(summed).build().unwrap().columns(&x).wait().unwrap_err();
            assert_eq!((error.failed.len(), error.failed[0].index, error.finished_count), (1, culprit, 511), "{error}");
            assert!(LOSSES.load(Ordering::Relaxed) < 16, "{LOSSES:?}");
        }
    }
}
