//! Shared data as functions see it: its forms, its replacement, and its end.

use std::sync::{Mutex, PoisonError};

use distfun::{
    BuildError, Context, Distribute, Ending, FailureCause, Manager, SharedData, SharedDataError, distribute,
    distribute_local, distribute_local_columns, distribute_local_ref, function,
};
use futures::executor::block_on;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, array};
use serde::{Deserialize, Serialize};

use crate::support::{END_WITHIN, Gate, eventually, within};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Config {
    name: String,
    gain: f64,
}

fn config() -> Config {
    Config { name: "linear".into(), gain: 10.0 }
}

fn weights(scale: f64) -> SharedData {
    let weights = array![1.0, 2.0, 3.0];
    let builder = SharedData::builder().array("weights", &weights).unwrap();
    let builder = builder.array_with("rows", (3, 2), |mut rows| rows.fill(scale)).unwrap();
    builder.value("config", &config()).unwrap().build().unwrap()
}

fn by_value(x: f64, shared: &SharedData) -> Result<f64, SharedDataError> {
    let weights: ArrayView1<f64> = shared.array("weights")?;
    Ok(x * weights.sum() * shared.value::<Config>("config")?.gain)
}

fn by_reference(x: &f64, shared: &SharedData) -> f64 {
    by_value(*x, shared).unwrap()
}

fn columns(x: ArrayView2<f64>, shared: &SharedData) -> Array1<f64> {
    let rows: ArrayView2<f64> = shared.array("rows").unwrap();
    (&x * &rows.column(0).insert_axis(Axis(1))).sum_axis(Axis(0))
}

fn lists(items: Vec<f64>, shared: &SharedData) -> Vec<f64> {
    items.iter().map(|x| by_value(*x, shared).unwrap()).collect()
}

fn in_context(x: f64, context: &Context) -> f64 {
    by_value(x, context.shared()).unwrap() + context.index() as f64
}

#[test]
fn every_form_of_function_gets_it() {
    let items = [1.0, 2.0, 5.0];
    let expected: Vec<f64> = items.iter().map(|x| x * 60.0).collect();
    let shared = weights(2.0);
    let ok = distribute!(by_value).shared_data(shared.clone()).build().unwrap().try_map(items).wait().unwrap();
    assert_eq!(ok, expected);
    let refs = distribute!(by_reference).shared_data(shared.clone()).build().unwrap();
    assert_eq!(refs.map(&items).wait().unwrap(), expected);
    let whole = distribute!(lists).accept_lists().shared_data(shared.clone()).build().unwrap();
    assert_eq!(whole.map(items).wait().unwrap(), expected);
    let context = distribute!(in_context).shared_data(shared.clone()).build().unwrap().map(items).wait().unwrap();
    assert_eq!(context, [60.0, 121.0, 302.0]);
    let closure = distribute!(|x: f64, shared: &SharedData| by_reference(&x, shared));
    assert_eq!(closure.shared_data(shared.clone()).build().unwrap().map(items).wait().unwrap(), expected);
    let stream = distribute!(by_reference).shared_data(shared.clone()).build().unwrap().stream(items);
    assert_eq!(stream.into_iter().map(Result::unwrap).collect::<Vec<_>>(), expected);
    let sequential = distribute!(by_reference).shared_data(shared.clone()).sequential(true).build().unwrap();
    assert_eq!(sequential.map(items).wait().unwrap(), expected);

    let offset = 0.5;
    let captured = distribute_local(move |x: f64, s: &SharedData| by_reference(&x, s) + offset);
    assert_eq!(captured.shared_data(shared.clone()).build().unwrap().map([1.0]).wait().unwrap(), [60.5]);
    let captured = distribute_local_ref(move |x: &f64, s: &SharedData| by_reference(x, s) + offset);
    assert_eq!(captured.shared_data(shared.clone()).build().unwrap().map([1.0]).wait().unwrap(), [60.5]);

    let x = Array2::from_shape_fn((3, 40), |(i, j)| (i * j) as f64);
    let sums = distribute!(columns).shared_data(shared.clone()).build().unwrap();
    assert_eq!(sums.columns(&x).wait().unwrap(), columns(x.view(), &shared));
    let empty = distribute!(columns).shared_data(shared.clone()).build().unwrap();
    assert_eq!(empty.columns(Array2::zeros((3, 0))).wait().unwrap().len(), 0);
    let captured = distribute_local_columns(move |x: ArrayView2<f64>, s: &SharedData| columns(x, s) + offset);
    let shifted = captured.shared_data(shared.clone()).build().unwrap().columns(x.clone()).wait().unwrap();
    assert_eq!(shifted, columns(x.view(), &shared) + offset);

    let manager = Manager::builder().slots(2).start().unwrap();
    let message = Distribute::try_map(function!(by_value), items).shared_data(shared.clone());
    assert_eq!(block_on(manager.send(message)).unwrap().unwrap(), expected);
    let message = Distribute::columns(function!(columns), x.clone()).shared_data(shared.clone());
    assert_eq!(block_on(manager.send(message)).unwrap().unwrap(), columns(x.view(), &shared));
}

#[test]
fn a_function_that_needs_it_is_not_built_without() {
    let error = distribute!(by_value).build().unwrap_err();
    assert!(matches!(error, BuildError::NeedsSharedData { .. }));
    assert!(error.to_string().contains("by_value takes &SharedData; give it some with .shared_data"), "{error}");
    // Later is fine, if said.
    let dfun = distribute!(by_reference).shared_data(SharedData::default()).endaftercall(false).build().unwrap();
    assert_eq!(dfun.with_shared(weights(1.0)).map([1.0]).wait().unwrap(), [60.0]);
    // A message has no build: its items say what is missing.
    let manager = Manager::builder().slots(1).start().unwrap();
    let error = block_on(manager.send(Distribute::try_map(function!(by_value), [1.0]))).unwrap().unwrap_err();
    assert!(error.to_string().contains("weights"), "{error}");
}

#[test]
fn what_does_not_fit_is_an_error_of_the_item_with_key_and_both_types() {
    fn wrong(which: u32, shared: &SharedData) -> Result<f64, SharedDataError> {
        match which {
            0 => shared.array("wieghts").map(|w: ArrayView1<f64>| w[0]),
            1 => shared.array("weights").map(|w: ArrayView1<f32>| w[0].into()),
            2 => shared.array("weights").map(|w: ArrayView2<f64>| w[[0, 0]]),
            3 => shared.array("config").map(|w: ArrayView1<f64>| w[0]),
            4 => shared.value::<f64>("weights").copied(),
            _ => shared.value::<f64>("config").copied(),
        }
    }
    let dfun = distribute!(wrong).shared_data(weights(1.0)).build().unwrap();
    let errors: Vec<_> = dfun.map(0..6).wait().unwrap().into_iter().map(|r| r.unwrap_err().to_string()).collect();
    let told = [
        &["wieghts", "weights"][..],
        &["weights", "f64", "f32"],
        &["weights", "3", "2"],
        &["config", "Config"],
        &["weights", "f64"],
        &["config", "Config", "f64"],
    ];
    for (error, parts) in errors.iter().zip(told) {
        parts.iter().for_each(|part| assert!(error.contains(part), "{part} in: {error}"));
    }
    // As the error of a call it names the item too.
    let dfun = distribute!(wrong).shared_data(weights(1.0)).build().unwrap();
    let error = dfun.try_map([1]).wait().unwrap_err();
    assert!(matches!(error.failed()[0].cause, FailureCause::Returned(_)));
    assert!(error.to_string().contains("item 0") && error.to_string().contains("f32"), "{error}");
}

#[test]
fn replacing_it_changes_later_calls_only_and_starts_nothing_anew() {
    static GATE: Gate = Gate::new();
    fn slow(wait: bool, shared: &SharedData) -> f64 {
        if wait {
            GATE.pass();
        }
        shared.array::<f64, ndarray::Ix2>("rows").unwrap()[[0, 0]]
    }
    let first = distribute!(slow).shared_data(weights(1.0)).slots(2).endaftercall(false).build().unwrap();
    let running = first.map([true]);
    GATE.await_arrivals(1);
    let second = first.with_shared(weights(2.0));
    assert_eq!(second.map([false]).wait().unwrap(), [2.0]);
    assert_eq!(first.map([false]).wait().unwrap(), [1.0]);
    GATE.open();
    assert_eq!(within(move || running.wait().unwrap()), [1.0]);
    second.finished().unwrap();
    assert_eq!(first.map([false]).wait().unwrap_err().ending(), Ending::Finished, "they are one");
}

/// The mappings of this process that hold shared data, as the operating system sees them.
#[cfg(target_os = "linux")]
fn mappings() -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("/memfd:distfun")).map(str::to_owned).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn it_is_unmapped_when_the_function_has_ended() {
    crate::support::alone(|| {
        fn large() -> SharedData {
            SharedData::builder().array_with("rows", (3, 1 << 20), |mut rows| rows.fill(1.0)).unwrap().build().unwrap()
        }
        assert_eq!(mappings(), [""; 0]);
        let once = distribute!(columns).shared_data(large()).build().unwrap();
        assert!(!mappings().is_empty());
        assert_eq!(once.columns(Array2::ones((3, 9))).wait().unwrap(), Array1::from_elem(9, 3.0));
        assert_eq!(mappings(), [""; 0], "endaftercall");
        drop(once);
        for end in [0, 1, 2] {
            let dfun = distribute!(columns).shared_data(large()).endaftercall(false).build().unwrap();
            let other = dfun.with_shared(large());
            dfun.columns(Array2::ones((3, 9))).wait().unwrap();
            other.columns(Array2::ones((3, 9))).wait().unwrap();
            assert!(!mappings().is_empty());
            match end {
                0 => dfun.finished().unwrap(),
                1 => drop(dfun.shutdown().unwrap()),
                _ => {
                    drop((dfun, other)); // which waits for nobody: the last thread may be at its end
                    eventually(END_WITHIN, "unmapped", || mappings().is_empty());
                }
            }
            assert_eq!(mappings(), [""; 0], "{end}");
        }
        // The user's own handle stays good.
        let mine = large();
        let dfun = distribute!(columns).shared_data(mine.clone()).build().unwrap();
        dfun.columns(Array2::ones((3, 9))).wait().unwrap();
        let rows: ArrayView2<f64> = mine.array("rows").unwrap();
        assert_eq!(rows.sum(), (3 << 20) as f64);
    });
}

#[test]
fn threads_share_one_copy() {
    static SEEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    fn address(_: u32, shared: &SharedData) {
        let rows: ArrayView2<f64> = shared.array("rows").unwrap();
        SEEN.lock().unwrap_or_else(PoisonError::into_inner).push(rows.as_ptr().addr());
    }
    let dfun = distribute!(address).shared_data(weights(1.0)).slots(3).build().unwrap();
    dfun.map(0..100).wait().unwrap();
    let mut seen = SEEN.lock().unwrap().clone();
    assert_eq!(seen.len(), 100);
    seen.dedup();
    assert_eq!(seen.len(), 1);
}

/// A NumPy file of `count` numbers, as `np.save` writes it.
fn npy(path: &std::path::Path, count: usize) {
    let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({count},), }}");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(118u16.to_le_bytes());
    bytes.extend(format!("{header:<117}\n").bytes());
    bytes.extend((0..count).flat_map(|index| (index as f64).to_le_bytes()));
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_numpy_file_that_changed_refuses_the_call_instead_of_killing_the_process() {
    fn sum(_: u32, shared: &SharedData) -> f64 {
        shared.array::<f64, ndarray::Ix1>("numbers").unwrap().sum()
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("numbers.npy");
    npy(&path, 10_000);
    let shared = SharedData::builder().npy("numbers", &path).unwrap().build().unwrap();
    let dfun = distribute!(sum).shared_data(shared.clone()).slots(2).endaftercall(false).build().unwrap();
    let expected = (10_000.0 * 9_999.0) / 2.0;
    assert_eq!(dfun.map([0, 1, 2]).wait().unwrap(), [expected; 3]);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(200).unwrap();
    let unharmed = shared.check_unchanged().is_ok();
    if unharmed {
        // The file system made a copy of its own: nothing that happens to the file matters.
        assert_eq!(dfun.map([0]).wait().unwrap(), [expected]);
        return;
    }
    let error = dfun.map([0, 1, 2]).wait().unwrap_err();
    assert_eq!((error.ending(), error.finished().len()), (Ending::SharedDataChanged, 0));
    let last = dfun.stream(0..3).into_iter().last().unwrap().unwrap_err();
    assert!(matches!(last.cause, FailureCause::NotRun(Ending::SharedDataChanged)));
    let manager = Manager::builder().slots(1).start().unwrap();
    let message = Distribute::map(function!(sum), [0]).shared_data(shared);
    assert_eq!(block_on(manager.send(message)).unwrap().unwrap_err().ending(), Ending::SharedDataChanged);
    // The function itself is as good as new.
    npy(&path, 10);
    let anew = SharedData::builder().npy("numbers", &path).unwrap().build().unwrap();
    assert_eq!(dfun.with_shared(anew).map([0]).wait().unwrap(), [45.0]);
}

/// What the process holds, pages that it shares counted in proportion, in bytes.
#[cfg(target_os = "linux")]
fn proportional_set_size() -> f64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}

#[cfg(target_os = "linux")]
#[test]
fn it_is_in_memory_once_building_and_reading_included() {
    fn strided_sum(first: usize, shared: &SharedData) -> f64 {
        let rows: ArrayView2<f64> = shared.array("rows").unwrap();
        rows.slice(ndarray::s![first..; 100, ..]).sum()
    }
    crate::support::alone(|| {
        const ROWS: usize = 400_000;
        let bytes = (ROWS * 100 * 8) as f64;
        let most = std::sync::Arc::new(Mutex::new(0.0f64));
        let sample = |most: &Mutex<f64>| {
            let mut most = most.lock().unwrap();
            *most = most.max(proportional_set_size());
        };
        let dfun = distribute!(strided_sum).shared_data(SharedData::default()).slots(4).endaftercall(false);
        let dfun = dfun.build().unwrap();
        let warm = SharedData::builder().array_with("rows", (100, 100), |mut rows| rows.fill(1.0)).unwrap();
        dfun.with_shared(warm.build().unwrap()).map(0..100).wait().unwrap();
        let before = proportional_set_size();
        let builder = SharedData::builder().array_with("rows", (ROWS, 100), |mut rows| {
            rows.fill(1.0);
            sample(&most);
        });
        let dfun = dfun.with_shared(builder.unwrap().build().unwrap());
        sample(&most);
        for _ in 0..2 {
            assert_eq!(dfun.map(0..100).wait().unwrap(), [(ROWS * 100 / 100) as f64; 100]);
            sample(&most);
        }
        let grown = *most.lock().unwrap() - before;
        assert!(grown > 0.9 * bytes, "{grown} B: it is not in memory at all");
        assert!(grown <= 1.02 * bytes, "{:.3} times as much memory as data", grown / bytes);
        dfun.finished().unwrap();
        let left = proportional_set_size() - before;
        assert!(left < 0.02 * bytes, "{left} B are left");
    });
}

#[test]
fn of_calls_at_once_the_one_that_is_accepted_has_the_data() {
    for _ in 0..2000 {
        let dfun = distribute!(by_value).shared_data(weights(1.0)).sequential(true).build().unwrap();
        let start = std::sync::Barrier::new(2);
        let call = || {
            start.wait();
            dfun.try_map([1.0]).wait()
        };
        let outcomes =
            std::thread::scope(|scope| [scope.spawn(call), scope.spawn(call)].map(|one| one.join().unwrap()));
        let (good, bad): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(good.len(), 1, "{bad:?}");
        assert_eq!(bad[0].as_ref().unwrap_err().ending(), Ending::EndedAfterCall);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn data_given_after_the_end_is_not_kept() {
    crate::support::alone(|| {
        let dfun = distribute!(by_reference).shared_data(weights(1.0)).endaftercall(false).build().unwrap();
        dfun.finished().unwrap();
        let late = dfun.with_shared(weights(2.0));
        assert_eq!(mappings(), [""; 0]);
        assert_eq!(late.map([1.0]).wait().unwrap_err().ending(), Ending::Finished);
    });
}
