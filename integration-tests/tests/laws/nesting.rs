//! A call inside a distributed function runs on the slot it has.

use std::{env, process::Command, thread};

use distfun::prelude::*;
use ndarray::{Array1, Array2, ArrayView2};

const ALONE: &str = "LAWS_ALONE";

/// Runs the calling test in a process of its own, where the threads of other tests don't count. True in there.
fn is_alone(test: &str) -> bool {
    if env::var_os(ALONE).is_some() {
        return true;
    }
    let module = module_path!().split_once("::").expect("a module of the test crate").1;
    let mut command = Command::new(env::current_exe().unwrap());
    let output =
        command.args(["--exact", &format!("{module}::{test}"), "--nocapture"]).env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

/// Threads of distfun in this process; none can be counted where there is no `/proc`.
fn thread_count() -> Option<usize> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let name = |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
    Some(tasks.filter_map(name).filter(|name| name.starts_with("distfun-")).count())
}

/// What the innermost function saw: a value, its thread, and the number of threads.
type Seen = (u64, String, Option<usize>);

fn me() -> String {
    format!("{:?}", thread::current().id())
}

fn innermost(x: u64) -> Seen {
    (x * x, me(), thread_count())
}

fn middle(x: u64) -> Vec<Seen> {
    let inner = distribute!(innermost).slots(3).build().unwrap();
    let seen = inner.map(10 * x..10 * x + 3).wait().unwrap();
    assert!(seen.iter().all(|(_, thread, _)| *thread == me()), "a nested call stays on its thread");
    seen
}

fn outermost(x: u64) -> Vec<Seen> {
    let here = me();
    let seen = distribute!(middle).slots(5).build().unwrap().map(10 * x..10 * x + 4).wait().unwrap().concat();
    assert!(seen.iter().all(|(_, thread, _)| *thread == here));
    seen
}

#[test]
fn calls_three_deep_give_the_right_result_and_start_no_threads() {
    if !is_alone("calls_three_deep_give_the_right_result_and_start_no_threads") {
        return;
    }
    let numbers = |x: u64| (10 * x..10 * x + 4).flat_map(|y| (10 * y..10 * y + 3).map(|z| z * z));
    let expected: Vec<u64> = (0..30).flat_map(numbers).collect();
    for slots in [1, 2, 6] {
        let function = distribute!(outermost).slots(slots).endaftercall(false).build().unwrap();
        for _ in 0..3 {
            let seen = function.map(0..30).wait().unwrap().concat();
            assert_eq!(seen.iter().map(|seen| seen.0).collect::<Vec<_>>(), expected);
            if cfg!(target_os = "linux") {
                let most = seen.iter().map(|seen| seen.2.expect("Linux has /proc")).max();
                assert!(most <= Some(slots + 1), "{most:?} threads for {slots} slots and a Manager");
                assert!(most >= Some(2), "the names of the threads have changed");
            }
        }
        function.finished().unwrap();
    }
}

#[test]
fn a_function_may_call_itself_through_a_clone() {
    let sums = distribute!(|x: u64| x + 1).slots(2).endaftercall(false).build().unwrap();
    let inner = sums.clone();
    let outer = distribute_local(move |n: u64| inner.map(0..n).wait().unwrap().into_iter().sum::<u64>());
    let results = outer.slots(3).build().unwrap().map(0..50).wait().unwrap();
    assert_eq!(results, (0..50).map(|n| (1..=n).sum()).collect::<Vec<u64>>());
    assert_eq!(sums.map(0..3).wait().unwrap(), [1, 2, 3], "still there");
}

#[test]
fn columns_inside_items_inside_columns_give_the_right_result() {
    fn sums(x: ArrayView2<f64>) -> Array1<f64> {
        x.columns().into_iter().map(|column| column.iter().sum()).collect()
    }
    fn total(n: usize) -> f64 {
        let x = Array2::from_shape_fn((2, n), |(i, j)| (i + j) as f64);
        distribute!(sums).slots(2).build().unwrap().columns(&x).wait().unwrap().sum()
    }
    fn totals(x: ArrayView2<u8>) -> Array1<f64> {
        let sizes = x.row(0).to_vec().into_iter().map(usize::from);
        distribute!(total).slots(2).build().unwrap().map(sizes).wait().unwrap().into()
    }
    let x = Array2::from_shape_fn((1, 40), |(_, j)| (j * 3) as u8);
    let expected: Array1<f64> = x.row(0).mapv(|n| (0..n).map(|j| 2.0 * f64::from(j) + 1.0).sum());
    assert_eq!(distribute!(totals).slots(4).build().unwrap().columns(&x).wait().unwrap(), expected);
}
