//! Estimates pi from random points: random numbers that repeat, whatever the number of slots.
//!
//! `cargo run --release -p distfun-examples --bin monte_carlo_pi [-- ITEMS]`
//!
//! A point in the unit square lies within the quarter circle with probability pi / 4. Each item draws its points from
//! its own stream of random numbers, `context.rng()`, which depends on the seed and the item's index only. So
//! the digits are the same on one slot, on two, on every CPU and in a plain loop.

use std::{error::Error, f64::consts::PI, time::Instant};

use distfun::prelude::*;
use rand::RngExt;

/// How many of `points` random points lie within the quarter circle.
fn hits(points: u32, context: &Context) -> u32 {
    let mut rng = context.rng();
    (0..points).filter(|_| rng.random::<f64>().powi(2) + rng.random::<f64>().powi(2) < 1.0).count() as u32
}

fn main() -> Result<(), Box<dyn Error>> {
    let items: usize = std::env::args().nth(1).map_or(Ok(400), |count| count.parse())?;
    if items == 0 {
        return Err("an estimate needs an item or more".into());
    }
    let points = vec![100_000; items];
    let drawn = 100_000.0 * items as f64;
    println!("{items} items of 100000 points, seed 2718\n");

    let pi = distribute!(hits).seed(2718);
    let start = Instant::now();
    let expected = pi.clone().sequential(true).build()?.map(&points).wait()?;
    let estimate = 4.0 * expected.iter().copied().map(f64::from).sum::<f64>() / drawn;
    println!("plain loop  pi = {estimate:.9}  {:6.3} s", start.elapsed().as_secs_f64());

    for (name, builder) in [("1 slot", pi.clone().slots(1)), ("2 slots", pi.clone().slots(2)), ("every CPU", pi)] {
        let start = Instant::now();
        let inside = builder.build()?.map(&points).wait()?;
        let estimate = 4.0 * inside.iter().copied().map(f64::from).sum::<f64>() / drawn;
        println!("{name:<10}  pi = {estimate:.9}  {:6.3} s", start.elapsed().as_secs_f64());
        assert!(inside == expected, "every item must count the same points on {name} as in a plain loop");
    }

    // Each point is one trial with success probability pi / 4.
    let standard_error = 4.0 * (PI / 4.0 * (1.0 - PI / 4.0) / drawn).sqrt();
    let error = estimate - PI;
    assert!(error.abs() < 5.0 * standard_error, "{error} is more than chance allows ({standard_error})");
    println!("\nsame digits everywhere; error {error:+.1e}, and {standard_error:.1e} is the standard error");
    Ok(())
}
