//! A view of shared data that would outlive it.
use distfun::prelude::*;
use ndarray::{ArrayView1, array};

fn main() {
    let weights = array![1.0, 2.0];
    let shared = SharedData::builder().array("weights", &weights).unwrap().build().unwrap();
    let view: ArrayView1<f64> = shared.array("weights").unwrap();
    let dfun = distribute!(|x: u32, s: &SharedData| x + s.len() as u32).shared_data(shared).build().unwrap();
    dfun.map([1]).wait().unwrap();
    println!("{view}");
}
