//! A function of columns whose result is no array.
use distfun::prelude::*;
use ndarray::ArrayView2;

fn sum(x: ArrayView2<f64>) -> f64 {
    x.sum()
}

fn main() -> Result<(), distfun::Error> {
    distribute!(sum).build()?;
    distribute_local_columns(sum).build()?;
    Ok(())
}
