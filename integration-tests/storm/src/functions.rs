//! What the storm's calls run. None of it ever fails by itself, so what fails was broken by a fault.

use std::{collections::hash_map::DefaultHasher, env, hash::Hasher, thread, time::Duration};

use distfun::{Context, SharedData, SharedDataError};
use ndarray::{Array1, ArrayView1, ArrayView2, Axis};

/// A number that nobody gets by mistake.
fn mixed(x: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(x);
    hasher.finish()
}

pub(crate) fn tiny(x: u64) -> u64 {
    mixed(x)
}

/// As [`tiny`], which the plain loop does with, in up to 20 ms.
pub(crate) fn nap(x: u64) -> u64 {
    thread::sleep(Duration::from_millis(x % 21));
    mixed(x)
}

/// The same, and the directory for temporary files where it ran: each node has one of its own.
pub(crate) fn place(x: u64) -> (u64, String) {
    (nap(x), env::var("TMPDIR").unwrap_or_default())
}

#[allow(clippy::ptr_arg, reason = "a function of a reference to a sized item")]
pub(crate) fn spelled(text: &String) -> String {
    thread::sleep(Duration::from_millis(text.len() as u64 % 7));
    spell(text)
}

#[allow(clippy::ptr_arg, reason = "as above")]
pub(crate) fn spell(text: &String) -> String {
    text.chars().rev().chain(text.chars()).collect()
}

pub(crate) fn lists(items: Vec<u32>) -> Vec<u64> {
    thread::sleep(Duration::from_millis(items.len() as u64 % 5));
    items.into_iter().map(|x| mixed(x.into())).collect()
}

pub(crate) fn scaled(x: Array1<f64>) -> Array1<f64> {
    x * 1.5 + 0.25
}

pub(crate) fn sums(x: ArrayView2<f64>) -> Array1<f64> {
    thread::sleep(Duration::from_millis(x.ncols() as u64 % 8));
    x.sum_axis(Axis(0))
}

pub(crate) fn looked_up(x: u64, shared: &SharedData) -> Result<f64, SharedDataError> {
    let weights: ArrayView1<'_, f64> = shared.array("weights")?;
    thread::sleep(Duration::from_millis(x % 5));
    Ok(look_up(x, weights))
}

pub(crate) fn look_up(x: u64, weights: ArrayView1<'_, f64>) -> f64 {
    weights[x as usize % weights.len()] * x as f64
}

pub(crate) fn drawn(x: u64, context: &Context) -> u64 {
    use rand_chacha::rand_core::Rng;
    thread::sleep(Duration::from_millis(x % 4));
    context.rng().next_u64() ^ mixed(context.index() as u64 + x)
}

/// As it came; where there is a GPU, by way of its memory.
pub(crate) fn carried(x: Vec<u64>, context: &Context) -> Vec<u64> {
    thread::sleep(Duration::from_millis(x.len() as u64 % 11));
    #[cfg(feature = "cuda")]
    if let Some(gpu) = context.device().gpu() {
        use distfun::gpu::UseGpu;
        let gpu = gpu.cuda().expect("it is of CUDA's");
        let buffer = gpu.upload(&x).expect("it has room");
        return gpu.download(&buffer).expect("it is there");
    }
    let _ = context;
    x
}
