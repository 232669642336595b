//! An idle pool costs nothing. Alone in its process, since it measures the time of all threads.
#![cfg(target_os = "linux")]

use std::{fs, thread::sleep, time::Duration};

use distfun::prelude::*;

/// Nanoseconds of CPU time that distfun's threads have had so far. Not this thread's: it is the one that looks, and ticks
/// of 10 ms would change now and then by what that takes.
fn cpu_time() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let ours = tasks.filter(|task| fs::read_to_string(task.join("comm")).unwrap().starts_with("distfun-"));
    let times: Vec<u64> = ours
        .map(|task| fs::read_to_string(task.join("schedstat")).unwrap())
        .map(|stat| stat.split_whitespace().next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(times.len(), 9, "eight slots and the Manager");
    times.iter().sum()
}

#[test]
fn a_warm_pool_uses_no_cpu_a_second_after_its_last_call() {
    let distributed = distribute!(f64::sqrt).slots(8).endaftercall(false).build().unwrap();
    for _ in 0..1000 {
        distributed.map([1.0, 2.0, 3.0]).wait().unwrap();
    }
    sleep(Duration::from_secs(1));
    let before = cpu_time();
    assert!(before > 0);
    sleep(Duration::from_secs(2));
    assert_eq!(cpu_time(), before);
    distributed.finished().unwrap();
}
