//! Fits a spiking neuron to a recording: every generation of an evolution strategy is one column call.
//!
//! `cargo run --release -p distfun-examples --bin model_fit [-- GENERATIONS]`
//!
//! The neuron is an adaptive exponential integrate-and-fire model (Brette and Gerstner, J. Neurophysiol. 94 (2005),
//! 3637-3642). Five of its parameters are to be found from one second of voltage under a fluctuating current. The
//! recording is made by the model itself, so the right answer is known, and the program fails if it misses it.
//!
//! A candidate is a column of a D x N matrix, and judging it takes a simulated second. All there is to write is a
//! function of a whole population that treats each column by itself; every generation is one call of it.
//! `.endaftercall(false)` keeps the threads warm from one generation to the next, and `finished()` frees them. All random
//! numbers are drawn here, in one seeded stream, so every digit but the times is the same on any number of CPUs.

use std::{error::Error, sync::LazyLock, time::Instant};

use distfun::prelude::*;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// What is fitted, with its unit, the range it is looked for in, and the value that made the recording.
const PARAMETERS: [(&str, &str, [f64; 2], f64); 5] = [
    ("leak conductance", "nS", [10.0, 60.0], 30.0),
    ("spike threshold", "mV", [-60.0, -40.0], -50.4),
    ("adaptation time", "ms", [30.0, 300.0], 144.0),
    ("adaptation conductance", "nS", [0.0, 20.0], 4.0),
    ("adaptation per spike", "pA", [0.0, 300.0], 80.5),
];

/// Candidates in a generation.
const POPULATION: usize = 32;
const SEED: u64 = 2718;
/// The error of a candidate at which the search ends, and how close its parameters must be to the true ones then.
const GOOD_ENOUGH: f64 = 1e-7;
const TOLERANCE: f64 = 0.01;

const STEP: f64 = 0.1; // ms
const STEPS: usize = 10_000;

const CAPACITANCE: f64 = 281.0; // pF
const REST: f64 = -70.6; // mV; also where the voltage is reset to after a spike
const SHARPNESS: f64 = 2.0; // mV, of the spike's onset
const PEAK: f64 = 20.0; // mV, where a spike is cut

/// What an electrode in the neuron sees.
struct Recording {
    /// Injected in each step, in pA.
    current: Vec<f64>,
    /// After each step, in mV, and whether there was a spike.
    response: Vec<(f64, bool)>,
}

static RECORDING: LazyLock<Recording> = LazyLock::new(|| {
    // Noise with a memory of 10 ms around 700 pA: fast enough for precise spikes, slow enough to move the voltage.
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let (mean, deviation, memory) = (700.0, 300.0, 10.0);
    let mut fluctuation = 0.0;
    let current: Vec<f64> = (0..STEPS)
        .map(|_| {
            let kick: f64 = StandardNormal.sample(&mut rng);
            fluctuation += -fluctuation * STEP / memory + deviation * (2.0 * STEP / memory).sqrt() * kick;
            mean + fluctuation
        })
        .collect();
    let truth = Array1::from_iter(PARAMETERS.map(|(.., truth)| truth));
    let response = simulate(truth.view(), &current).collect();
    Recording { current, response }
});

/// The voltage (mV) after each step of the injected current (pA), and whether there was a spike: Euler's method.
fn simulate(parameters: ArrayView1<f64>, current: &[f64]) -> impl Iterator<Item = (f64, bool)> {
    let [leak, threshold, memory, coupling, jump] = std::array::from_fn(|index| parameters[index]);
    let (mut voltage, mut adaptation) = (REST, 0.0); // mV, pA
    current.iter().map(move |injected| {
        let onset = leak * SHARPNESS * ((voltage - threshold) / SHARPNESS).exp();
        let slope = (onset - leak * (voltage - REST) - adaptation + injected) / CAPACITANCE; // pA / pF = mV / ms
        adaptation += STEP * (coupling * (voltage - REST) - adaptation) / memory;
        voltage += STEP * slope;
        let is_spike = voltage > PEAK;
        if is_spike {
            voltage = REST;
            adaptation += jump;
        }
        (voltage, is_spike)
    })
}

/// How far each candidate (a column: leak, threshold, …) is from the recording: D x N gives N errors, 0 for a perfect one.
///
/// An error is the sum of two mean squares: the difference of the voltages, in units of 5 mV, and the difference of the
/// spike trains, each spike felt for 20 ms (van Rossum, Neural Comput. 13 (2001), 751-763).
fn errors(candidates: ArrayView2<f64>) -> Array1<f64> {
    let Recording { current, response } = &*RECORDING;
    candidates.map_axis(Axis(0), |candidate| {
        let (mut sum, mut spikes_apart) = (0.0, 0.0);
        for ((voltage, is_spike), &(target, is_target)) in simulate(candidate, current).zip(response) {
            spikes_apart += f64::from(u8::from(is_spike)) - f64::from(u8::from(is_target)) - spikes_apart * STEP / 20.0;
            // Above the threshold a voltage is on its way to a spike, which is counted already.
            let volts_apart = (voltage.min(-45.0) - target.min(-45.0)) / 5.0;
            sum += volts_apart * volts_apart + spikes_apart * spikes_apart;
        }
        sum / STEPS as f64
    })
}

/// An evolution strategy with matrix adaptation: CMA-ES (Hansen, *The CMA Evolution Strategy: A Tutorial*, 2016,
/// arXiv:1604.00772, with the constants of its table 1) in the form of Beyer and Sendhoff (IEEE Trans. Evol. Comput. 21
/// (2017), 746-759), which adapts a root of the covariance matrix and so needs no eigenvalues.
struct Evolution {
    /// The best guess, in the unit cube.
    mean: Array1<f64>,
    /// Step length.
    sigma: f64,
    /// Turns normal random numbers into steps of the covariance that was learnt.
    transform: Array2<f64>,
    /// Where the mean has been going.
    path: Array1<f64>,
    /// Of the better half of a generation, the best first.
    weights: Array1<f64>,
    rng: ChaCha8Rng,
}

impl Evolution {
    fn new(dimensions: usize) -> Self {
        let half = POPULATION / 2;
        let weights = Array1::from_shape_fn(half, |rank| (half as f64 + 0.5).ln() - (rank as f64 + 1.0).ln());
        Self {
            mean: Array1::from_elem(dimensions, 0.5),
            sigma: 0.25,
            transform: Array2::eye(dimensions),
            path: Array1::zeros(dimensions),
            weights: &weights / weights.sum(),
            rng: ChaCha8Rng::seed_from_u64(SEED + 1),
        }
    }

    /// Normal random numbers for a generation, one column per candidate.
    fn draw(&mut self) -> Array2<f64> {
        Array2::from_shape_simple_fn((self.mean.len(), POPULATION), || StandardNormal.sample(&mut self.rng))
    }

    /// The candidates that they stand for, in the units of the model.
    fn candidates(&self, drawn: &Array2<f64>) -> Array2<f64> {
        let mut candidates = self.sigma * self.transform.dot(drawn) + self.mean.view().insert_axis(Axis(1));
        for (mut row, (.., [low, high], _)) in candidates.rows_mut().into_iter().zip(PARAMETERS) {
            row.mapv_inplace(|unit| low + (high - low) * folded(unit));
        }
        candidates
    }

    /// Learns from the errors of the candidates of a generation.
    fn learn(&mut self, drawn: &Array2<f64>, errors: &Array1<f64>) {
        let mut order: Vec<usize> = (0..errors.len()).collect();
        order.sort_by(|&a, &b| errors[a].total_cmp(&errors[b]));
        let best = drawn.select(Axis(1), &order[..self.weights.len()]);

        let n = self.mean.len() as f64;
        let mass = 1.0 / self.weights.mapv(|weight| weight * weight).sum();
        let path_rate = (mass + 2.0) / (mass + n + 5.0);
        let damping = 1.0 + path_rate + 2.0 * (((mass - 1.0) / (n + 1.0)).sqrt() - 1.0).max(0.0);
        let rank_one = 2.0 / ((n + 1.3).powi(2) + mass);
        let rank_mu = (1.0 - rank_one).min(2.0 * (mass - 2.0 + 1.0 / mass) / ((n + 2.0).powi(2) + mass));
        let usual_length = n.sqrt() * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n));

        let step = best.dot(&self.weights);
        self.mean.scaled_add(self.sigma, &self.transform.dot(&step));
        self.path = (1.0 - path_rate) * &self.path + (path_rate * (2.0 - path_rate) * mass).sqrt() * &step;

        let unit = Array2::<f64>::eye(self.mean.len());
        let along_path = self.path.view().insert_axis(Axis(1)).dot(&self.path.view().insert_axis(Axis(0)));
        let of_the_best = (&best * &self.weights).dot(&best.t());
        let change = rank_one / 2.0 * (along_path - &unit) + rank_mu / 2.0 * (of_the_best - &unit);
        self.transform = self.transform.dot(&(unit + change));

        let length = self.path.dot(&self.path).sqrt();
        self.sigma *= (path_rate / damping * (length / usual_length - 1.0)).exp();
    }
}

/// What lies outside the unit interval is reflected into it.
fn folded(unit: f64) -> f64 {
    1.0 - (1.0 - unit.rem_euclid(2.0)).abs()
}

fn main() -> Result<(), Box<dyn Error>> {
    let most: usize = std::env::args().nth(1).map_or(Ok(200), |count| count.parse())?;
    let spikes = RECORDING.response.iter().filter(|(_, is_spike)| *is_spike).count();
    println!("1 s of voltage with {spikes} spikes; {POPULATION} candidates in a generation\n");

    let fit = distribute!(errors).endaftercall(false).build()?;
    let mut search = Evolution::new(PARAMETERS.len());
    let mut times = Vec::new();
    println!("generation  best error");
    for generation in 1..=most {
        let start = Instant::now();
        let drawn = search.draw();
        let candidates = search.candidates(&drawn);
        let found = fit.columns(&candidates).wait()?;
        search.learn(&drawn, &found);
        times.push(start.elapsed());

        if generation == 1 {
            assert_eq!(found, errors(candidates.view()), "equal to the function itself, bit for bit");
        }
        let best = found.iter().copied().fold(f64::INFINITY, f64::min);
        let is_done = best < GOOD_ENOUGH;
        if generation == 1 || generation % 10 == 0 || is_done {
            println!("{generation:>10}    {best:.2e}");
        }
        if is_done {
            break;
        }
    }
    let slots = fit.slots();
    fit.finished()?;

    println!("\nparameter                 found      true");
    let fitted = search.candidates(&Array2::zeros((PARAMETERS.len(), 1)));
    for ((name, unit, _, truth), &found) in PARAMETERS.iter().zip(&fitted) {
        println!("{name:<22} {found:>8.2}  {truth:>8.2} {unit}");
    }
    for ((name, .., truth), &found) in PARAMETERS.iter().zip(&fitted) {
        if (found - truth).abs() > TOLERANCE * truth.abs() {
            return Err(format!("the {name} is not within 1 % after {} generations; allow more", times.len()).into());
        }
    }
    println!("every parameter is within 1 %\n");

    times.sort();
    let (median, slots) = (times[times.len() / 2], if slots == 1 { "1 slot" } else { &format!("{slots} slots") });
    println!("a generation took {:.2} ms on {slots} (median)", median.as_secs_f64() * 1e3);
    Ok(())
}
