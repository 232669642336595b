//! The law of distfun: a distributed call equals the plain sequential loop, whatever the slots.

mod columns;
mod failures;
mod lists;
mod many;
mod nesting;
mod once;
mod random;

use std::{
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;

/// So many random cases. When one fails, a smaller one is looked for during ten seconds and printed; nothing is written
/// to the source tree.
fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, max_shrink_time: 10_000, ..ProptestConfig::with_cases(count) }
}

fn slots() -> impl Strategy<Value = usize> {
    1usize..10
}

/// No item, fewer items than slots, primes, and anything.
fn lengths(most: usize) -> impl Strategy<Value = usize> {
    let primes = [2, 3, 5, 7, 31, 97, 101, 997, 1009, 7919].into_iter().filter(|&prime| prime < most);
    prop_oneof![
        1 => Just(0),
        2 => 1usize..10,
        2 => proptest::sample::select(primes.collect::<Vec<_>>()),
        4 => 0..most,
    ]
}

/// Waits for something that must come about soon.
#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < limit, "still not so after 20 s: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
