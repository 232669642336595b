//! Data that a call borrows can't be changed before the call has ended.
use distfun::prelude::*;
use ndarray::{Array1, Array2, ArrayView2, Axis};

fn sums(x: ArrayView2<f64>) -> Array1<f64> {
    x.sum_axis(Axis(0))
}

fn main() -> Result<(), distfun::Error> {
    let sums = distribute!(sums).endaftercall(false).build()?;
    let mut x = Array2::<f64>::ones((3, 10));
    let call = sums.columns(&x);
    x[[0, 0]] = 7.0;
    call.wait()?;

    let mut y = Array1::zeros(10);
    let call = sums.columns_into(&x, &mut y);
    assert_eq!(y.sum(), 0.0);
    call.wait()?;
    Ok(())
}
