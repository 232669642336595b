//! A large matrix that every CPU reads and nobody copies: built in place, replaced between two calls, freed at the end.
//!
//! `cargo run --release -p distfun-examples --bin shared_data [-- MEBIBYTES]`
//!
//! The matrix is a recording with a row per sample and 100 channels, of a stimulus that comes again every 100 samples. It
//! lies in one mapping that all slots read. Each item is a phase of the stimulus, and sums every 100th sample. A gigabyte
//! (`-- 1024`) takes a gigabyte of memory, building included.

use std::{error::Error, fs, time::Instant};

use distfun::{SharedDataError, prelude::*};
use ndarray::{ArrayView2, Axis, s};
use serde::{Deserialize, Serialize};

const CHANNELS: usize = 100;
const PERIOD: usize = 100;

/// Values other than arrays are anything that serde can write and read.
#[derive(Serialize, Deserialize)]
struct Calibration {
    unit: String,
    gain: f64,
}

/// The calibrated sum of all channels over the samples of one phase. What is missing or of another type is an ordinary
/// error.
fn phase_sum(phase: usize, shared: &SharedData) -> Result<f64, SharedDataError> {
    let signal: ArrayView2<f64> = shared.array("signal")?;
    let calibration: &Calibration = shared.value("calibration")?;
    Ok(calibration.gain * signal.slice(s![phase..; PERIOD, ..]).sum())
}

/// A recording with a sawtooth of its own in every channel.
fn recording(samples: usize, gain: f64) -> Result<SharedData, SharedDataError> {
    SharedData::builder()
        .array_with("signal", (samples, CHANNELS), |mut signal| {
            for (sample, mut row) in signal.axis_iter_mut(Axis(0)).enumerate() {
                for (channel, value) in row.iter_mut().enumerate() {
                    *value = (sample % (channel + 2)) as f64;
                }
            }
        })?
        .value("calibration", &Calibration { unit: "uV".into(), gain })?
        .build()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mebibytes: usize = std::env::args().nth(1).map_or(Ok(64), |size| size.parse())?;
    let samples = (mebibytes << 20) / (8 * CHANNELS);
    let before = memory()?;

    let start = Instant::now();
    let shared = recording(samples, 0.5)?;
    println!("built {:?} in {:.2} s", shared, start.elapsed().as_secs_f64());

    let expected: Vec<f64> = (0..PERIOD).map(|phase| phase_sum(phase, &shared)).collect::<Result<_, _>>()?;
    let sums = distribute!(phase_sum).shared_data(shared).endaftercall(false).build()?;
    for call in ["first", "second"] {
        let start = Instant::now();
        let distributed = sums.try_map(0..PERIOD).wait()?;
        println!("{call} call: {PERIOD} phases of {samples} samples in {:.3} s", start.elapsed().as_secs_f64());
        assert_eq!(distributed, expected, "the CPUs and a plain loop must agree");
    }
    println!("memory: {:+.0} MiB for {mebibytes} MiB of data", memory()? - before);

    // The same function on the same slots, with other data.
    let small = sums.with_shared(recording(1000, 2.0)?).try_map([0]).wait()?;
    println!("another recording: {small:?}");

    // What does not fit says what it holds, and what was asked.
    let error =
        distribute!(|_: u32, shared: &SharedData| shared.array::<f32, ndarray::Ix1>("signal").map(|signal| signal[0]))
            .shared_data(recording(10, 1.0)?)
            .build()?
            .try_map([0])
            .wait()
            .unwrap_err();
    println!("on purpose: {error}");

    sums.finished()?;
    println!("memory: {:+.0} MiB after finished()", memory()? - before);
    Ok(())
}

/// Memory of this process in MiB, pages that it shares counted in proportion; 0 where the system does not say.
fn memory() -> Result<f64, Box<dyn Error>> {
    let Ok(rollup) = fs::read_to_string("/proc/self/smaps_rollup") else { return Ok(0.0) };
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no Pss")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
