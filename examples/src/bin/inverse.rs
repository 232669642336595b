//! Inverts two matrices on two CPUs: the smallest list call.
//!
//! `cargo run --release -p distfun-examples --bin inverse`

use distfun::prelude::*;
use ndarray::{Array2, array};

/// Inverse of a square matrix by Gauss-Jordan elimination with partial pivoting.
fn inv(a: &Array2<f64>) -> Array2<f64> {
    let n = a.nrows();
    let mut left = a.clone();
    let mut right = Array2::eye(n);
    for column in 0..n {
        let magnitude = |row: &usize| left[(*row, column)].abs();
        let pivot = (column..n).max_by(|a, b| magnitude(a).total_cmp(&magnitude(b))).expect("column < n");
        for k in 0..n {
            left.swap((column, k), (pivot, k));
            right.swap((column, k), (pivot, k));
        }
        let scale = left[(column, column)];
        assert!(scale != 0.0, "the matrix is singular");
        left.row_mut(column).mapv_inplace(|x| x / scale);
        right.row_mut(column).mapv_inplace(|x| x / scale);
        for row in (0..n).filter(|&row| row != column) {
            let factor = left[(row, column)];
            for k in 0..n {
                left[(row, k)] -= factor * left[(column, k)];
                right[(row, k)] -= factor * right[(column, k)];
            }
        }
    }
    right
}

fn main() -> Result<(), distfun::Error> {
    let a = array![[4.0, 7.0], [2.0, 6.0]];
    let b = array![[2.0, 0.0, 0.0], [0.0, 3.0, 1.0], [0.0, 0.0, 1.0]];

    let distinv = distribute!(inv).max_cpu(2).build()?;
    let inverses = distinv.map([a.clone(), b.clone()]).wait()?;

    assert_eq!(inverses, [inv(&a), inv(&b)], "as in a plain loop");

    for (matrix, inverse) in [a, b].iter().zip(&inverses) {
        println!("inverse of\n{matrix}\nis\n{inverse:.3}\n");
        let unit = matrix.dot(inverse);
        assert!((unit - Array2::<f64>::eye(matrix.nrows())).iter().all(|x| x.abs() < 1e-12));
    }

    // A failure names its item and leaves the others.
    let singular = distribute!(inv).build()?.map([array![[1.0]], array![[0.0]]]).wait();
    let error = singular.expect_err("a singular matrix has no inverse");
    println!("{error}");
    for (item, inverse) in error.finished() {
        println!("item {item} finished nevertheless: {inverse}");
    }
    Ok(())
}
