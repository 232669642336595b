//! `distfun check`: the settings that hold, and a timed call.

use std::{process::ExitCode, thread, time::Instant};

use clap::Args;
use distfun::{Overrides, Settings, gpu, prelude::*};

use crate::node::{CAN_USE_GPUS, WITH_GPUS};

/// Settings on the command line, which go before `DISTFUN_*` in the environment and distfun.toml.
#[derive(Args)]
#[command(
    after_help = "Exit status: 0 if the call went well, 1 if not, or if a setting can't hold, 2 for a wrong command line."
)]
pub(crate) struct Flags {
    /// Use at most this many CPUs.
    #[arg(long, value_name = "N")]
    max_cpu: Option<usize>,
    /// Use exactly this many slots instead of one per CPU.
    #[arg(long, value_name = "N", conflicts_with = "max_cpu")]
    slots: Option<usize>,
}

impl From<Flags> for Overrides {
    fn from(Flags { max_cpu, slots }: Flags) -> Self {
        Self { max_cpu, slots, ..Self::default() }
    }
}

pub(crate) fn run(flags: Flags) -> ExitCode {
    match check(flags.into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("distfun: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Some arithmetic that the compiler can't shorten: about 50 us.
fn work(seed: u64) -> u64 {
    (0..50_000u64).fold(seed, |x, i| x.wrapping_mul(6364136223846793005).wrapping_add(i) ^ (x >> 29))
}

/// A table of every setting, its value, and where it is said.
fn show(settings: &Settings) {
    match &settings.file {
        Some(path) => println!("settings file: {}", path.display()),
        None => println!("settings file: none"),
    }
    println!("{:<14} {:<12} from", "setting", "value");
    for held in settings.held() {
        println!("{:<14} {:<12} {}", held.key, held.value, held.said);
    }
    println!();
}

/// The GPUs that count, or why there are none.
fn show_gpus(settings: &Settings) {
    let gpus = gpu::all(settings.software_gpu);
    for gpu in &gpus {
        println!("GPU {gpu}");
    }
    if gpus.is_empty() {
        let remedy = if CAN_USE_GPUS { String::new() } else { format!("; {WITH_GPUS}") };
        println!("GPUs: none ({}{remedy})", gpu::why_none(settings.software_gpu));
    }
}

fn check(flags: Overrides) -> Result<(), distfun::Error> {
    let builder = distribute!(work).flags(flags);
    let settings = builder.settings().map_err(distfun::BuildError::from)?;
    show(&settings);

    let cpus = thread::available_parallelism().map_or(1, usize::from);
    println!("CPUs this process may use (affinity, cgroup): {cpus}");
    show_gpus(&settings);

    let start = Instant::now();
    let expected: Vec<u64> = (0..2000).map(work).collect();
    let plain = start.elapsed();

    let distributed = builder.endaftercall(false).build()?;
    let start = Instant::now();
    distributed.map([0]).wait()?;
    println!("first result after                          : {:.2} ms", 1e3 * start.elapsed().as_secs_f64());
    let start = Instant::now();
    let results = distributed.map(0..2000).wait()?;
    let took = start.elapsed();
    println!("2000 items, plain loop                      : {:.1} ms", 1e3 * plain.as_secs_f64());
    println!(
        "2000 items, distributed                     : {:.1} ms ({:.2}x)",
        1e3 * took.as_secs_f64(),
        plain.as_secs_f64() / took.as_secs_f64()
    );
    distributed.finished()?;
    if results != expected {
        eprintln!("distfun: the distributed results differ from the plain loop's");
        std::process::exit(1);
    }
    println!("results                                     : equal");
    Ok(())
}
