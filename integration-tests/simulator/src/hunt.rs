//! Many seeds, on all cores.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::{Options, Outcome, Seen, simulate};

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Hunt {
    /// How many were run.
    pub seeds: u64,
    /// How often engines were stepped.
    pub steps: u64,
    /// The most steps that one seed took.
    pub longest: u64,
    /// What kinds of things happened, and how often.
    pub seen: Seen,
    /// The first seed, by number, that broke a law.
    pub found: Option<(u64, Outcome)>,
}

/// Runs `seeds` in order, shared among `threads`, and stops at the first that breaks a law. `prepare` is called on each
/// thread before.
pub fn hunt(seeds: Range<u64>, threads: usize, options: &Options, prepare: impl Fn() + Sync) -> Hunt {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    let result = Mutex::new(Hunt::default());
    let body = || {
        prepare();
        let mut mine = Hunt::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= stop.load(Ordering::Relaxed) {
                break;
            }
            let outcome = simulate(seed, options);
            mine.seeds += 1;
            mine.steps += outcome.steps;
            mine.longest = mine.longest.max(outcome.steps);
            mine.seen.add(&outcome.seen);
            if outcome.violation.is_some() {
                stop.fetch_min(seed, Ordering::Relaxed);
                mine.found = Some((seed, outcome));
                break;
            }
        }
        result.lock().unwrap_or_else(PoisonError::into_inner).merge(mine);
    };
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(body);
        }
    });
    result.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Hunt {
    fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.longest = self.longest.max(other.longest);
        self.seen.add(&other.seen);
        let is_earlier = |seed: u64| self.found.as_ref().is_none_or(|&(found, _)| seed < found);
        if other.found.as_ref().is_some_and(|&(seed, _)| is_earlier(seed)) {
            self.found = other.found;
        }
    }
}
