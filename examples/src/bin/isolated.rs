//! A function that crashes, prints and hangs, each slot in a process of its own: the crash costs one item, the hang is
//! stopped, and everything else has its result.
//!
//! Run with `cargo run --release -p distfun-examples --bin isolated`.

use std::time::Duration;

use distfun::{FailureCause, Isolation, prelude::*};

fn fragile(x: u32) -> u32 {
    match x {
        7 => std::process::abort(),
        12 => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        x => 2 * x,
    }
}

fn main() -> Result<(), distfun::Error> {
    distfun::init(); // the first line: in the processes of slots it takes over
    let call = distribute!(fragile)
        .isolation(Isolation::Process)
        .item_timeout(Duration::from_millis(300))
        .build()?
        .map(0..20u32);
    let error = call.wait().expect_err("two items have no result");
    for failure in &error.failed {
        println!("{failure}");
    }
    assert!(matches!(error.failed[0].cause, FailureCause::Poisoned { deaths: 3, .. }));
    assert!(matches!(error.failed[1].cause, FailureCause::TimedOut { .. }));
    let finished: Vec<usize> = error.finished().iter().map(|(index, _)| *index).collect();
    println!("finished: {finished:?}");
    assert_eq!(finished.len(), 18);
    Ok(())
}
