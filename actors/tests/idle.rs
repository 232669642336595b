//! An idle pool costs nothing. Alone in its process, since it measures the time of all threads.
#![cfg(target_os = "linux")]

use std::{fs, thread::sleep, time::Duration};

use distfun::prelude::*;

/// User and system time of this process so far, in clock ticks of 10 ms.
fn cpu_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_warm_pool_uses_no_cpu_a_second_after_its_last_call() {
    let distributed = distribute!(f64::sqrt).slots(8).endaftercall(false).build().unwrap();
    for _ in 0..1000 {
        distributed.map([1.0, 2.0, 3.0]).wait().unwrap();
    }
    sleep(Duration::from_secs(1));
    let before = cpu_ticks();
    sleep(Duration::from_secs(2));
    assert_eq!(cpu_ticks(), before);
    distributed.finished().unwrap();
}
