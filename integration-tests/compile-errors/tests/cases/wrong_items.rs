//! Items of another type than the function takes.
use distfun::prelude::*;
use ndarray::{Array1, Array2, ArrayView2, Axis, array};

fn root(x: f64) -> f64 {
    x.sqrt()
}

fn sums(x: ArrayView2<f64>) -> Array1<f64> {
    x.sum_axis(Axis(0))
}

fn main() -> Result<(), distfun::Error> {
    let roots = distribute!(root).build()?;
    roots.map([4, 9]).wait()?;
    roots.map(vec!["a"]).wait()?;
    roots.map(&vec![4u32]).wait()?;
    roots.map(4.0).wait()?;

    let sums = distribute!(sums).build()?;
    sums.columns(array![1.0, 2.0]).wait()?;
    sums.columns(Array2::<f32>::ones((2, 2))).wait()?;
    Ok(())
}
