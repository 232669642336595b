//! Processes come with the first call and go with the last handle; none is left, whoever dies.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use distfun::{Isolation, distribute, function};
use rustix::process::{Pid, Signal};

use super::{
    harm::{Harm, harm},
    hosts,
};
use crate::support::{END_WITHIN, alone, eventually};

#[test]
fn every_ending_leaves_no_process_behind() {
    alone(|| {
        let build = || distribute!(harm).slots(2).isolation(Isolation::Process).endaftercall(false).build().unwrap();
        assert_eq!(hosts().len(), 0);
        let dfun = build();
        assert_eq!(hosts().len(), 0, "they come with the first call");
        dfun.map([Harm::None; 4]).wait().unwrap();
        eventually(END_WITHIN, "one for each slot", || hosts().len() == 2); // the other may have done it all
        dfun.finished().unwrap();
        assert_eq!(hosts().len(), 0, "finished() waits for their end");

        distribute!(harm).slots(2).isolation(Isolation::Process).build().unwrap().map([Harm::None; 4]).wait().unwrap();
        assert_eq!(hosts().len(), 0, "so does endaftercall");

        let dfun = build();
        let call = dfun.map([Harm::Hang, Harm::LeaveChild, Harm::Hang]);
        thread::sleep(Duration::from_millis(100));
        let start = Instant::now();
        dfun.finished().unwrap();
        assert!(start.elapsed() < Duration::from_secs(2) && hosts().is_empty(), "{:?}", start.elapsed());
        assert_eq!(call.settle().len(), 3);

        let dfun = build();
        dfun.map([Harm::None]).wait().unwrap();
        drop(dfun);
        eventually(END_WITHIN, "dropped", || hosts().is_empty());
    });
}

#[test]
fn services_have_processes_too() {
    alone(|| {
        let manager = distfun::Manager::builder().slots(2).isolation(Isolation::Process).start().unwrap();
        let answer =
            futures::executor::block_on(manager.send(distfun::Distribute::map(function!(harm), vec![Harm::None; 9])));
        assert_eq!(answer.unwrap().unwrap(), [7; 9]);
        let items = vec![Harm::Abort, Harm::None];
        let answer = futures::executor::block_on(manager.send(distfun::Distribute::map(function!(harm), items)));
        assert_eq!(answer.unwrap().unwrap_err().finished(), &[(1, 7)]);
        drop(manager);
        eventually(END_WITHIN, "dropped", || hosts().is_empty());
    });
}

/// Started as a process of its own by the test below.
#[test]
fn hangs_with_its_hosts() {
    if std::env::var_os("TEST_HANGS").is_none() {
        return;
    }
    let dfun = distribute!(harm).slots(2).isolation(Isolation::Process).build().unwrap();
    let _call = dfun.map([Harm::Hang, Harm::Hang]);
    eventually(END_WITHIN, "they are there", || hosts().len() == 2);
    thread::sleep(Duration::from_millis(100));
    println!("hosts: {:?}", hosts());
    thread::sleep(Duration::from_secs(100));
}

#[test]
fn a_program_that_is_killed_takes_its_processes_along() {
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args(["isolation::lifecycle::hangs_with_its_hosts", "--exact", "--nocapture"])
        .env("TEST_HANGS", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let line = lines.map(|line| line.unwrap()).find(|line| line.contains("hosts: [")).expect("it says so");
    let pids: Vec<i32> =
        line.split('[').nth(1).unwrap().trim_end_matches(']').split(", ").map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    let is_there = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    assert!(pids.iter().all(is_there));
    rustix::process::kill_process(Pid::from_child(&program), Signal::KILL).unwrap();
    program.wait().unwrap();
    let start = Instant::now();
    eventually(END_WITHIN, "they are gone", || !pids.iter().any(is_there));
    assert!(start.elapsed() < Duration::from_secs(2));
}
