//! The simulator notices: every bug that is planted into the engine breaks a law within so many seeds.
//!
//! `cargo test -p distfun-simulator --features planted-bugs --test planted -- --nocapture` shows the table.

use std::{collections::BTreeSet, panic, thread};

use distfun_core::engine::{Bug, plant};
use distfun_simulator::{Hunt, Law, Options, hunt};

/// Every bug is found within so many seeds.
const ENOUGH: u64 = 400;

fn found(bug: Bug, black_box: bool) -> Option<(u64, Law, String)> {
    let options = Options { black_box, ..Options::default() };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let Hunt { found, .. } = hunt(0..ENOUGH, threads, &options, || plant(Some(bug)));
    found.and_then(|(seed, outcome)| outcome.violation.map(|violation| (seed + 1, violation.law, violation.text)))
}

#[test]
fn every_planted_bug_breaks_a_law_and_every_law_is_broken_by_a_bug() {
    panic::set_hook(Box::new(|_| {})); // a planted bug may panic; that is a law too
    let mut missed = Vec::new();
    let mut laws = BTreeSet::new();
    println!("{:26} {:>5}  {:18} {:>5}  from outside", "bug", "seeds", "law", "seeds");
    for &bug in Bug::ALL {
        let inside = found(bug, false);
        let outside = found(bug, true);
        let cell = |found: &Option<(u64, Law, String)>| match found {
            Some((seeds, law, _)) => (seeds.to_string(), law.to_string()),
            None => ("-".into(), "-".into()),
        };
        let ((seeds, law), (more, other)) = (cell(&inside), cell(&outside));
        println!("{:26} {seeds:>5}  {law:18} {more:>5}  {other}", format!("{bug:?}"));
        laws.extend(inside.iter().chain(&outside).map(|(_, law, _)| *law));
        if inside.is_none() {
            missed.push(bug);
        }
    }
    let _ = panic::take_hook();
    assert!(missed.is_empty(), "not noticed in {ENOUGH} seeds: {missed:?}");
    // Without debug assertions the same bugs break other laws.
    laws.extend((!cfg!(debug_assertions)).then_some(Law::NoPanic));
    let idle: Vec<_> = Law::ALL.iter().filter(|law| !laws.contains(law)).collect();
    assert!(idle.is_empty(), "no bug breaks these laws, so nobody knows whether they can be broken: {idle:?}");
}
