//! How many neighbours predict the quality of a wine best? Repeated cross-validation on real data, every CPU.
//!
//! `cargo run --release -p distfun-examples --bin cross_validation [-- REPETITIONS]`
//!
//! 1599 red wines (Cortez et al., 2009; they come with `linfa-datasets`) have 11 measured properties and a score by
//! tasters. A wine's score is predicted as the mean of its k nearest neighbours (Hastie, Tibshirani and Friedman, *The
//! Elements of Statistical Learning*, sections 2.3 and 7.10). Which k is best is found by 10-fold cross-validation:
//! each tenth of the wines is predicted from the others, which is repeated with other random tenths. The wines are shared
//! data: once in memory, and every item reads them. An item is one tenth of one repetition.

use std::{error::Error, time::Instant};

use distfun::{SharedDataError, prelude::*};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Zip};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

const FOLDS: usize = 10;
const MAX_NEIGHBOURS: usize = 50;

/// Sum of squared errors for 1 to 50 neighbours, over the wines of one fold.
fn squared_errors((repetition, fold): (u64, usize), shared: &SharedData) -> Result<Array1<f64>, SharedDataError> {
    let properties: ArrayView2<f64> = shared.array("properties")?;
    let quality: ArrayView1<f64> = shared.array("quality")?;
    let mut order: Vec<usize> = (0..quality.len()).collect();
    order.shuffle(&mut StdRng::seed_from_u64(repetition));
    let fold_of = |place: usize| place * FOLDS / order.len();
    let (inside, outside): (Vec<_>, Vec<_>) = order.iter().enumerate().partition(|&(place, _)| fold_of(place) == fold);

    let mut errors = Array1::zeros(MAX_NEIGHBOURS);
    let mut distances = Vec::with_capacity(outside.len());
    for (_, &wine) in inside {
        distances.clear();
        distances.extend(outside.iter().map(|&(_, &other)| {
            let apart: f64 = Zip::from(properties.row(wine)).and(properties.row(other)).fold(0.0, |sum, a, b| {
                let apart = a - b;
                sum + apart * apart
            });
            (apart, other)
        }));
        // Wines that are the same in all properties are told apart by their number, so that the digits repeat.
        let closer = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        distances.select_nth_unstable_by(MAX_NEIGHBOURS, closer);
        let nearest = &mut distances[..MAX_NEIGHBOURS];
        nearest.sort_unstable_by(closer);
        let mut sum = 0.0;
        for (neighbours, &(_, other)) in (1..).zip(&*nearest) {
            sum += quality[other];
            errors[neighbours - 1] += (quality[wine] - sum / neighbours as f64).powi(2);
        }
    }
    Ok(errors)
}

/// The wines, each property with mean 0 and standard deviation 1.
fn wines() -> Result<SharedData, SharedDataError> {
    let data = linfa_datasets::winequality();
    let records = data.records();
    // Cell by cell, since the data set comes in arrays of another version of ndarray.
    let mut properties = Array2::from_shape_fn(records.dim(), |at| records[at]);
    for mut property in properties.axis_iter_mut(Axis(1)) {
        let (mean, deviation) = (property.mean().expect("there are wines"), property.std(1.0));
        property.mapv_inplace(|value| (value - mean) / deviation);
    }
    let quality: Array1<f64> = data.targets().iter().map(|&score| score as f64).collect();
    SharedData::builder().array("properties", &properties)?.array("quality", &quality)?.build()
}

fn main() -> Result<(), Box<dyn Error>> {
    let repetitions: u64 = std::env::args().nth(1).map_or(Ok(20), |count| count.parse())?;
    if repetitions == 0 {
        return Err("cross-validation needs 1 repetition or more".into());
    }
    let shared = wines()?;
    let count = shared.array::<f64, ndarray::Ix1>("quality")?.len();
    let folds: Vec<_> =
        (0..repetitions).flat_map(|repetition| (0..FOLDS).map(move |fold| (repetition, fold))).collect();

    let start = Instant::now();
    let everywhere = distribute!(squared_errors).shared_data(shared.clone()).build()?;
    // The results are added up where they are made; in which order is fixed, so that the digits are.
    let total = everywhere.try_map(&folds).fold_tree(Array1::zeros(MAX_NEIGHBOURS), |a, b| a + b).wait()?;
    let distributed = start.elapsed().as_secs_f64();

    let start = Instant::now();
    let alone = distribute!(squared_errors).shared_data(shared).sequential(true).build()?;
    let expected = alone.try_map(&folds).fold_tree(Array1::zeros(MAX_NEIGHBOURS), |a, b| a + b).wait()?;
    let plain = start.elapsed().as_secs_f64();
    assert_eq!(total, expected, "the CPUs and a plain loop must give the same digits");

    println!("Error of the predicted score of {count} red wines, {repetitions} x {FOLDS}-fold cross-validation\n");
    println!("neighbours  root mean squared error");
    let error = |neighbours: usize| (total[neighbours - 1] / (repetitions as f64 * count as f64)).sqrt();
    for neighbours in [1, 2, 3, 5, 8, 12, 20, 30, 50] {
        let bar = "#".repeat(((error(neighbours) - 0.6) * 200.0).round() as usize);
        println!("{neighbours:>10}  {:.4}  {bar}", error(neighbours));
    }
    let best = (1..=MAX_NEIGHBOURS).min_by(|&a, &b| error(a).total_cmp(&error(b))).expect("there is a best one");
    println!("\nbest: {best} neighbours, {:.4}", error(best));
    let slots = everywhere.slots();
    println!("{} folds: {plain:.2} s in a plain loop, {distributed:.2} s on {slots} slot(s), same digits", folds.len());
    Ok(())
}
