//! A result that borrows from the shared data.
use distfun::prelude::*;
use ndarray::ArrayView1;

fn keep(_: u32, shared: &SharedData) -> ArrayView1<'_, f64> {
    shared.array("weights").unwrap()
}

fn main() {
    distribute!(keep).build().unwrap().map([1]).wait().unwrap();
}
