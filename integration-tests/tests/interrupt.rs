//! Ctrl-C in a program that catches it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use distfun::{CallError, Ending, Isolation, catch_interrupt, distribute};

use crate::support::{LIMIT, alone, eventually};

fn nap(x: u64) -> u64 {
    thread::sleep(Duration::from_millis(20));
    x
}

fn hang_from_10(x: u64) -> u64 {
    if x >= 10 {
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    }
    x
}

fn signal(pid: u32) {
    assert!(Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap().success());
}

/// That it was interrupted in time, with the first results.
fn check(start: Instant, result: Result<Vec<u64>, CallError<Vec<u64>>>, least: usize) {
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let error = result.expect_err("it was interrupted");
    assert_eq!(error.ending, Ending::Interrupted);
    assert!(error.finished().len() >= least, "{} results", error.finished().len());
    assert!(error.finished().iter().all(|(index, result)| *index as u64 == *result));
}

#[test]
fn running_calls_return_with_what_they_have_and_the_program_goes_on() {
    alone(|| {
        catch_interrupt().unwrap();
        catch_interrupt().unwrap(); // twice does no harm
        for isolation in [Isolation::Thread, Isolation::Process] {
            let dfun = distribute!(nap).slots(2).isolation(isolation).endaftercall(false).build().unwrap();
            dfun.map(0..2u64).wait().unwrap();
            let call = dfun.map(0..10_000u64);
            thread::sleep(Duration::from_millis(200));
            let start = Instant::now();
            signal(std::process::id());
            check(start, call.wait(), 5);
            assert_eq!(dfun.map(0..3u64).wait().unwrap(), [0, 1, 2]);
        }
        // Also where items do not end.
        let dfun = distribute!(hang_from_10).slots(2).isolation(Isolation::Process).build().unwrap();
        let call = dfun.map(0..20u64);
        thread::sleep(Duration::from_millis(200));
        let start = Instant::now();
        signal(std::process::id());
        check(start, call.wait(), 1);
    });
}

/// Started as a process of its own by the test below.
#[test]
fn waits_for_ctrl_c() {
    let Ok(what) = std::env::var("TEST_CTRL_C") else { return };
    catch_interrupt().unwrap();
    let dfun = distribute!(hang_from_10).slots(1).build().unwrap();
    let _call = (what == "call").then(|| dfun.map(10..12u64));
    println!("ready");
    thread::sleep(LIMIT);
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn without_calls_it_ends_the_program() {
    for (what, signals) in [("nothing", 1), ("call", 2)] {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["interrupt::waits_for_ctrl_c", "--exact", "--nocapture"]).env("TEST_CTRL_C", what);
        let mut program = Program(program.stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(program.0.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("ready")));
        for _ in 0..signals {
            signal(program.0.id());
            thread::sleep(Duration::from_millis(200));
        }
        eventually(Duration::from_secs(2), "it ends", || program.0.try_wait().unwrap().is_some());
        assert_eq!(program.0.wait().unwrap().code(), Some(130), "{what}");
    }
}
