//! Runs stories by their seeds, or tells one of them again.

use std::{process::ExitCode, thread, time::Instant};

use clap::Parser;
use distfun_simulator::{Options, Scenario, hunt, simulate};

/// Drives the engine of distfun through stories of faults in virtual time, and checks its laws after every step.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Tell the story of this seed, step by step.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Slots, instead of as many as each seed says.
    #[arg(long)]
    slots: Option<usize>,
    /// Judge the engine from outside only, without the model of what it should be thinking.
    #[arg(long)]
    black_box: bool,
    /// Threads; all CPUs if not given.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let Arguments { seeds, from, seed, slots, black_box, threads } = Arguments::parse();
    let options = Options { slots, black_box, readable: false };
    if let Some(seed) = seed {
        return tell(seed, &options);
    }
    let threads = threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let start = Instant::now();
    let hunt = hunt(from..from.saturating_add(seeds), threads, &options, || {});
    if let Some((seed, outcome)) = &hunt.found {
        let violation = outcome.violation.as_ref().expect("it was found by its violation");
        println!("seed {seed}: {violation}\nTo see how it came to that:\n  {}", options.replay(*seed));
        return ExitCode::FAILURE;
    }
    let (seeds, steps, longest) = (hunt.seeds, hunt.steps, hunt.longest);
    println!("{seeds} seeds, {steps} steps, at most {longest} in one, in {:.1?}: every law held", start.elapsed());
    for (what, times) in &hunt.seen.0 {
        println!("{times:>12}  {what}");
    }
    ExitCode::SUCCESS
}

fn tell(seed: u64, options: &Options) -> ExitCode {
    println!("{:#?}", Scenario::new(seed, options.slots));
    let outcome = simulate(seed, &Options { readable: true, ..options.clone() });
    print!("{}", outcome.text);
    println!("seed {seed}: {} steps, trace {:016x}", outcome.steps, outcome.hash);
    match outcome.violation {
        Some(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
