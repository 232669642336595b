//! An idle pool costs nothing although its log is on. Alone in its process, since it measures the time of all threads.
#![cfg(all(target_os = "linux", feature = "log"))]

use std::{fs, thread::sleep, time::Duration};

use distfun::prelude::*;

/// User and system time of this process so far, in clock ticks of 10 ms.
fn cpu_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
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
    let before = (cpu_ticks(), switches());
    sleep(Duration::from_secs(4));
    let (ticks, switches) = (cpu_ticks(), switches());
    assert_eq!(ticks, before.0);
    assert!(switches <= before.1 + 2, "this thread slept once: {} to {switches}", before.1);
    distributed.finished().unwrap();
}
