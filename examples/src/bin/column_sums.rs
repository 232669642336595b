//! Sums the columns of a matrix, a block of columns per CPU: the smallest column call.
//!
//! `cargo run --release -p distfun-examples --bin column_sums [-- COLUMNS]`
//!
//! The function is written for a whole matrix and knows nothing of blocks. It does so little with each number that
//! memory limits the speed more than the CPUs do; a function that computes more gains more.

use std::{error::Error, time::Instant};

use distfun::prelude::*;
use ndarray::{Array1, Array2, ArrayView2, Axis, ShapeBuilder, s};

/// One sum per column.
fn fun(x: ArrayView2<f64>) -> Array1<f64> {
    x.sum_axis(Axis(0))
}

fn main() -> Result<(), Box<dyn Error>> {
    let columns: usize = std::env::args().nth(1).map_or(Ok(200_000), |count| count.parse())?;
    // Column-major (`.f()`), so that a block of columns is one piece of memory; row-major works too.
    let x = Array2::from_shape_fn((100, columns).f(), |(row, column)| ((row * columns + column) as f64).sqrt());

    let y = distribute!(fun).build()?.columns(&x).wait()?;
    assert_eq!(y, fun(x.view()), "equal, bit for bit");
    println!("{} x {} matrix, first sums {:.3}\n", x.nrows(), x.ncols(), y.slice(s![..columns.min(3)]));

    // The best of ten calls each: a call takes milliseconds, and other programs disturb it.
    let sums = distribute!(fun).endaftercall(false).build()?;
    let (mut plain, mut distributed) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..10 {
        let start = Instant::now();
        let expected = fun(x.view());
        plain = plain.min(start.elapsed().as_secs_f64());

        let start = Instant::now();
        let y = sums.columns(&x).wait()?;
        distributed = distributed.min(start.elapsed().as_secs_f64());
        assert_eq!(y, expected, "equal, bit for bit");
    }
    println!("fun(x.view())              {:7.2} ms", plain * 1e3);
    println!("sums.columns(&x).wait()    {:7.2} ms, equal bit for bit", distributed * 1e3);
    Ok(())
}
