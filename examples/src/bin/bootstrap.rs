//! Which properties of a wine go with its quality, and how sure is that? Real data, 10000 repetitions, every CPU.
//!
//! `cargo run --release -p distfun-examples --bin bootstrap [-- RESAMPLES]`
//!
//! 1599 red wines (Cortez et al., 2009; it comes with `linfa-datasets`) have 11 measured properties and a score by
//! tasters. Each property's correlation with the score gets a 95 % bootstrap confidence interval: draw 1599 wines
//! with replacement, correlate, repeat, and take the middle 95 % of what comes out. These are the percentile intervals
//! of Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), section 13.3; each holds on its own, not all
//! eleven at once. A repetition takes its random numbers from its [`Context`], so the digits are the same in a plain
//! loop and on any number of CPUs.

use std::{error::Error, sync::LazyLock, time::Instant};

use distfun::prelude::*;
use rand::RngExt;

struct Wines {
    /// One vector per property, in the order of `names`; one value per wine.
    properties: [Vec<f64>; 11],
    names: Vec<String>,
    quality: Vec<f64>,
}

/// A static, because `distribute!` takes functions that capture nothing: all they need is in the program, wherever it
/// runs. (`distribute_local` takes a closure that captures its data, and stays on this machine.)
static WINES: LazyLock<Wines> = LazyLock::new(|| {
    let data = linfa_datasets::winequality();
    Wines {
        properties: std::array::from_fn(|property| data.records().column(property).to_vec()),
        names: data.feature_names().to_vec(),
        quality: data.targets().iter().map(|&score| score as f64).collect(),
    }
});

/// The correlations of all properties with the quality, in one sample of the wines drawn with replacement.
fn resample(_repetition: u32, context: &Context) -> [f64; 11] {
    let count = WINES.quality.len();
    let mut rng = context.rng();
    let drawn: Vec<usize> = (0..count).map(|_| rng.random_range(0..count)).collect();
    correlations(&drawn)
}

/// The correlations of all properties with the quality, in these wines.
fn correlations(wines: &[usize]) -> [f64; 11] {
    WINES.properties.each_ref().map(|property| pearson(wines.iter().map(|&wine| (property[wine], WINES.quality[wine]))))
}

/// Pearson's correlation coefficient.
fn pearson(pairs: impl ExactSizeIterator<Item = (f64, f64)> + Clone) -> f64 {
    let count = pairs.len() as f64;
    let (sum_x, sum_y) = pairs.clone().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x, sy + y));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (xx, yy, xy) = pairs.fold((0.0, 0.0, 0.0), |(xx, yy, xy), (x, y)| {
        let (dx, dy) = (x - mean_x, y - mean_y);
        (xx + dx * dx, yy + dy * dy, xy + dx * dy)
    });
    xy / (xx * yy).sqrt()
}

/// The percentile interval: of B values, the k-th smallest and the k-th largest, k = ⌊(B + 1) · 2.5 %⌋.
fn interval_95(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let k = (values.len() + 1) / 40;
    (values[k - 1], values[values.len() - k])
}

fn main() -> Result<(), Box<dyn Error>> {
    let resamples: u32 = std::env::args().nth(1).map_or(Ok(10_000), |count| count.parse())?;
    if resamples < 100 {
        return Err("intervals need 100 resamples or more".into());
    }
    println!("What goes with the quality of {} red wines?\n", WINES.quality.len());

    let mut cpus = 0;
    let mut repetitions = Vec::new();
    // The best of three, taken in turn, because other programs disturb a measurement.
    let (mut plain, mut distributed) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..3 {
        let start = Instant::now();
        let everywhere = distribute!(resample).build()?;
        repetitions = everywhere.map(0..resamples).wait()?;
        cpus = everywhere.slots();
        distributed = distributed.min(start.elapsed().as_secs_f64());

        let start = Instant::now();
        let expected = distribute!(resample).sequential(true).build()?.map(0..resamples).wait()?;
        plain = plain.min(start.elapsed().as_secs_f64());
        assert!(repetitions == expected, "the CPUs and a plain loop must give the same digits");
    }

    print_table(&repetitions);

    let cpus = if cpus == 1 { "1 CPU".to_owned() } else { format!("{cpus} CPUs") };
    println!("\n{resamples} resamples: {plain:.2} s in a plain loop,");
    println!("{distributed:.2} s distributed over {cpus} ({:.2}x), same digits", plain / distributed);
    Ok(())
}

/// A line per property, the strongest correlation first.
fn print_table(repetitions: &[[f64; 11]]) {
    let all_wines: Vec<usize> = (0..WINES.quality.len()).collect();
    let estimates = correlations(&all_wines);
    let mut order: Vec<usize> = (0..estimates.len()).collect();
    order.sort_by(|&a, &b| estimates[b].abs().total_cmp(&estimates[a].abs()));

    println!("property              corr.  95 % interval   -0.5           0             0.5");
    for property in order {
        let (name, estimate) = (&WINES.names[property], estimates[property]);
        let (low, high) = interval_95(repetitions.iter().map(|repetition| repetition[property]).collect());
        println!("{name:<20}  {estimate:+.2}  {low:+.2} to {high:+.2}  {}", drawing(low, estimate, high));
    }
}

/// An interval and its estimate, `[-o-]`, on a line from -0.5 to 0.55 with `|` at zero, 30 characters to a unit.
fn drawing(low: f64, estimate: f64, high: f64) -> String {
    let [low, estimate, high, zero] = [low, estimate, high, 0.0].map(|value| ((value + 0.5) * 30.0).round() as i32);
    let line = (0..=32).map(|at| match at {
        _ if at == estimate => 'o',
        _ if at == low => '[',
        _ if at == high => ']',
        _ if low < at && at < high => '-',
        _ if at == zero => '|',
        _ => ' ',
    });
    line.collect::<String>().trim_end().to_owned()
}
