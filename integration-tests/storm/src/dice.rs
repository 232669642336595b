//! Where every choice of a storm comes from. (When a fault strikes and what it hits then is for the system to say: the same
//! seed gives the same plan, not the same story.)

use std::{ops::Range, time::Duration};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// A seeded source of choices.
#[derive(Debug)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of `seed`; one for each `purpose`.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        dice.set_stream(purpose);
        Self(dice)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fraction(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.fraction() < p
    }

    /// A number of `range`, which is not empty.
    pub(crate) fn within(&mut self, range: Range<usize>) -> usize {
        range.start + (self.fraction() * range.len() as f64) as usize
    }

    /// One of `choices`, which are not none.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.within(0..choices.len())]
    }

    /// A time between two, in milliseconds.
    pub(crate) fn time(&mut self, ms: Range<usize>) -> Duration {
        Duration::from_millis(self.within(ms) as u64)
    }
}
