//! An idle pool costs nothing although its log is on. Alone in its process, since it measures the time of all threads.
#![cfg(all(target_os = "linux", feature = "log"))]

use std::{fs, thread::sleep, time::Duration};

use distfun::prelude::*;

/// Nanoseconds of CPU time that distfun's threads have had so far; not this thread's, which is the one that looks.
fn cpu_time() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let ours = tasks.filter(|task| fs::read_to_string(task.join("comm")).unwrap().starts_with("distfun-"));
    let stats = ours.map(|task| fs::read_to_string(task.join("schedstat")).unwrap());
    stats.map(|stat| stat.split_whitespace().next().unwrap().parse::<u64>().unwrap()).sum()
}

/// How often threads of this process were put to sleep so far.
fn switches() -> u64 {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let statuses = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).unwrap());
    let count = |status: String| -> u64 {
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    statuses.map(count).sum()
}

#[test]
fn a_warm_pool_with_a_log_uses_no_cpu_and_wakes_up_only_once_a_minute() {
    let _log = distfun::log::json().writer(std::io::sink()).init().unwrap();
    let distributed = distribute!(f64::sqrt).slots(8).endaftercall(false).build().unwrap();
    for _ in 0..1000 {
        distributed.map([1.0, 2.0, 3.0]).wait().unwrap();
    }
    // A second after the last call there is one more look, and then none for a minute.
    sleep(Duration::from_millis(2500));
    let before = (cpu_time(), switches());
    assert!(before.0 > 0);
    sleep(Duration::from_secs(4));
    let (time, switches) = (cpu_time(), switches());
    assert_eq!(time, before.0);
    assert!(switches <= before.1 + 2, "this thread slept once: {} to {switches}", before.1);
    distributed.finished().unwrap();
}
