//! Two thousand stories, and what must be true of telling them.

use std::thread;

use distfun_simulator::{Kind, Options, Scenario, hunt, simulate};

const SEEDS: u64 = 2000;

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn every_law_holds_in_two_thousand_stories_that_get_everywhere() {
    let hunt = hunt(0..SEEDS, threads(), &Options::default(), || {});
    if let Some((seed, outcome)) = hunt.found {
        let violation = outcome.violation.expect("it was found by its violation");
        panic!("seed {seed}: {violation}\n{}", Options::default().replay(seed));
    }
    assert_eq!(hunt.seeds, SEEDS);
    let rare = [
        ("a call ended by itself", 1000),
        ("a call ended the engine", 50),
        ("a call refused", 500),
        ("a report for a call that has ended", 500),
        ("a death inside a chunk", 1000),
        ("a death outside a chunk", 500),
        ("a thread that could not be started", 500),
        ("a thread abandoned", 50),
        ("a slot given up", 50),
        ("all slots given up", 5),
        ("a step's commands held up", 500),
        ("an event of an old life", 500),
        ("an item tried again", 500),
        ("an item that had failed tried again", 2000),
        ("an item tried for the last time", 500),
        ("an open call that ran dry and was extended", 10_000),
        ("a chunk across batches", 10_000),
        ("a call closed when it was done", 100),
        ("a call closed before", 500),
        ("failures told while their call ran", 10_000),
        ("failures told after the end of their call", 20),
        ("items for a call that has ended", 100),
        ("items for a call that was closed", 100),
        ("a stream dropped", 50),
        ("two calls with their shares converged", 20),
        ("a node connected again", 100),
        ("a node lost", 200),
        ("a loss that only the next connection tells of", 20),
        ("a node suspected", 50),
        ("a node heard again", 5),
        ("a node taken for dead", 50),
        ("a node without hope", 50),
        ("a node that was taken along", 50),
        ("a message of an old connection", 20),
        ("a chunk of a lost node", 200),
        ("a chunk asked back and given back", 200),
        ("a chunk asked back too late", 50),
        ("a chunk taken back before it had left", 50),
        ("a chunk not wanted any more", 200),
        ("an answer for a chunk that was taken back", 1),
        ("an answer for a call that has ended", 100),
        ("an answer that is not heard", 200),
        ("a call refused by a node", 100),
        ("a call that can't travel", 20),
        ("a call that nothing could compute", 50),
        ("a death inside a chunk of a lane", 200),
        ("a chunk for a GPU", 10_000),
        ("a chunk for a GPU of a node", 2000),
        ("a GPU given up", 50),
        ("a call refused for want of GPUs", 100),
        ("calls that have begun go on as it was decided", 100),
        ("a slot that leaves a call to faster ones", 100),
        ("it is not decided which slots get work", 500),
        ("CPUs get work", 500),
        ("GPUs get work", 500),
        ("all get work", 500),
        ("none get work", 200),
    ];
    for (what, least) in rare {
        let times = hunt.seen.0.get(what).copied().unwrap_or(0);
        assert!(times >= least, "only {times} times: {what}");
    }
}

#[test]
fn a_seed_tells_the_same_story_every_time() {
    let options = Options { readable: true, ..Options::default() };
    for seed in 0..100 {
        let (once, again) = (simulate(seed, &options), simulate(seed, &options));
        assert_eq!(once.text, again.text, "seed {seed}");
        assert_eq!(once.hash, again.hash, "seed {seed}");
    }
}

/// So a bug that only one of the two notices can be looked at by both.
#[test]
fn judging_from_outside_does_not_change_the_story() {
    for seed in 0..100 {
        let inside = simulate(seed, &Options::default());
        let outside = simulate(seed, &Options { black_box: true, ..Options::default() });
        assert_eq!(inside.hash, outside.hash, "seed {seed}");
    }
}

#[test]
fn other_seeds_and_other_slots_tell_other_stories() {
    let hash = |seed, slots| simulate(seed, &Options { slots, ..Options::default() }).hash;
    assert_ne!(hash(1, None), hash(2, None));
    assert_ne!(hash(3, Some(1)), hash(3, Some(2)));
    let slots = |kind| (0..).map(|seed| Scenario::new(seed, Some(64))).find(|s| s.kind == kind).map(|s| s.slots);
    assert_eq!(slots(Kind::Storm), Some(64));
}

#[test]
fn the_command_to_replay_has_all_that_the_story_depends_on() {
    let options = Options { slots: Some(3), black_box: true, readable: false };
    let command = "cargo run --release -p distfun-simulator -- --seed 7 --slots 3 --black-box";
    assert_eq!(options.replay(7), command);
}
