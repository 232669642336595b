//! Drives the engine of distfun through stories of faults in virtual time, and checks its laws after every step.
//!
//! One seed decides everything, so a story that breaks a law is told again by its number. See the README beside this.

mod dice;
mod hunt;
mod law;
mod model;
mod scenario;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use hunt::{Hunt, hunt};
pub use law::{Law, Violation};
pub use model::Seen;
pub use scenario::{Kind, Scenario};

use trace::Trace;
use world::World;

/// How to run a seed.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Slots, instead of as many as the seed says.
    pub slots: Option<usize>,
    /// Judge the engine from outside only, without the model of what it should be thinking.
    pub black_box: bool,
    /// Keep what happened as text.
    pub readable: bool,
}

impl Options {
    /// The command that tells the story of `seed` again.
    pub fn replay(&self, seed: u64) -> String {
        let slots = self.slots.map_or(String::new(), |slots| format!(" --slots {slots}"));
        let black_box = if self.black_box { " --black-box" } else { "" };
        format!("cargo run --release -p distfun-simulator -- --seed {seed}{slots}{black_box}")
    }
}

/// What came of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// Equal for equal stories.
    pub hash: u64,
    /// How often the engine was stepped.
    pub steps: u64,
    /// What happened, if it was asked for.
    pub text: String,
    /// What kinds of things happened, and how often.
    pub seen: Seen,
    /// The law that did not hold.
    pub violation: Option<Violation>,
}

/// Runs the story of `seed`.
pub fn simulate(seed: u64, options: &Options) -> Outcome {
    let scenario = Scenario::new(seed, options.slots);
    let mut trace = Trace::new(options.readable);
    let mut world = World::new(&scenario, !options.black_box, &mut trace);
    let verdict = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation { law: Law::NoPanic, text: text.unwrap_or_default() })
    });
    let mut seen = std::mem::take(&mut world.seen);
    if let Some(model) = &world.model {
        seen.add(&model.seen);
        if model.converged() > 0 {
            seen.note("two calls with their shares converged");
        }
    }
    let steps = world.steps;
    Outcome { hash: trace.hash(), steps, text: trace.into_text(), seen, violation: verdict.err() }
}
