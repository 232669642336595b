//! Functions that do harm to the process they run in.
#![allow(unsafe_code)]

use std::{
    hint::black_box,
    os::fd::{FromRawFd, OwnedFd},
    process::Command,
    thread,
    time::Duration,
};

use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

/// What an item does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Harm {
    None,
    Panic,
    Abort,
    Exit(i32),
    NullWrite,
    StackOverflow,
    Kill,
    Hang,
    Freeze,
    CloseDescriptors,
    CloseAll,
    LeaveChild,
}

pub(super) fn harm(what: Harm) -> u32 {
    match what {
        Harm::None => {}
        Harm::Panic => panic!("on purpose"),
        Harm::Abort => std::process::abort(),
        Harm::Exit(code) => std::process::exit(code),
        Harm::NullWrite => {
            // SAFETY: there is none, which is the point: the address is not mapped, and the process is killed.
            unsafe { black_box(std::ptr::without_provenance_mut::<u8>(8)).write_volatile(1) }
        }
        Harm::StackOverflow => drop(black_box(deep(0))),
        Harm::Kill => {
            let _ = kill_process(getpid(), Signal::KILL);
        }
        Harm::Hang => loop {
            thread::sleep(Duration::from_secs(1));
        },
        Harm::Freeze => loop {
            let _ = kill_process(getpid(), Signal::STOP);
        },
        Harm::CloseDescriptors => close(3..64),
        Harm::CloseAll => close(3..2000),
        Harm::LeaveChild => drop(Command::new("sleep").arg("1000").spawn().unwrap()),
    }
    7
}

fn close(numbers: std::ops::Range<i32>) {
    for number in numbers.filter(|number| std::fs::exists(format!("/proc/self/fd/{number}")).unwrap_or(false)) {
        // SAFETY: there is none, which is the point: it belongs to somebody else, who will find it closed.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
}

#[allow(unconditional_recursion, reason = "the point")]
fn deep(x: u64) -> u64 {
    let page = black_box([x; 512]);
    deep(x + 1) + page[5]
}
