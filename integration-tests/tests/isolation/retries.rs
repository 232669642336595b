//! Items that fail and are run again: the same on threads, in processes and at a node.

use std::time::Duration;

use distfun::{Context, Ending, FailureCause, Retry, distribute};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::RngExt;

use super::Place;
use crate::support::within;

const PLACES: [Place; 3] = [Place::Threads, Place::Processes, Place::Node];

fn soon(times: u32) -> Retry {
    Retry::times(times).backoff(Duration::from_millis(1), Duration::from_millis(1))
}

/// Fails as often as its item says; else a random number.
fn fails(times: u32, context: &Context) -> u64 {
    assert!(context.attempt() >= times, "attempt {}", context.attempt());
    context.rng().random()
}

fn fails_by_reference((times, text): &(u32, String), context: &Context) -> String {
    assert!(context.attempt() >= *times, "attempt {}", context.attempt());
    text.to_uppercase()
}

fn errs(times: u32, context: &Context) -> Result<u32, String> {
    match context.attempt() {
        attempt if attempt < times => Err(format!("attempt {attempt}")),
        _ => Ok(times),
    }
}

#[test]
fn items_by_value_and_by_reference_are_tried_again_everywhere() {
    let plain = distribute!(fails).sequential(true).build().unwrap().map([0; 200]).wait().unwrap();
    for place in PLACES {
        let plain = plain.clone();
        within(move || {
            let dfun = place.of(distribute!(fails), 2).retry(soon(2)).endaftercall(false).build().unwrap();
            let items: Vec<u32> = (0..200).map(|x| u32::from(x % 50 == 7) + u32::from(x == 7)).collect();
            assert_eq!(dfun.map(items).wait().unwrap(), plain, "{place:?}");
            let error = dfun.map([0, 5, 1]).wait().unwrap_err();
            let failure = &error.failed()[0];
            assert_eq!((error.failed().len(), failure.index, failure.attempt), (1, 1, 3), "{place:?}");
            let text = failure.to_string();
            assert!(text.contains("after 3 attempts: ") && text.ends_with("attempt 2"), "{text}");
            let dfun = place.of(distribute!(fails_by_reference), 2).retry(soon(2)).build().unwrap();
            let items = [(1, "a"), (0, "b"), (2, "c")].map(|(times, text)| (times, text.to_owned()));
            assert_eq!(dfun.map(items).wait().unwrap(), ["A", "B", "C"]);
        });
    }
}

#[test]
fn errors_are_tried_again_everywhere_if_they_are_worth_it() {
    for place in PLACES {
        within(move || {
            let worth = |failure: &distfun::ItemFailure| {
                let is_away = failure.machine.is_some();
                matches!(&failure.cause, FailureCause::Returned(error) if error.to_string() != "attempt 2")
                    && (failure.worker.is_some() || is_away)
            };
            let dfun = place.of(distribute!(errs), 2).retry(soon(9).when(worth)).endaftercall(false).build().unwrap();
            let items: Vec<u32> = (0..100).map(|x| x % 3).collect();
            assert_eq!(dfun.try_map(items.clone()).wait().unwrap(), items, "{place:?}");
            assert_eq!(dfun.map([1]).wait().unwrap(), [Err("attempt 0".to_owned())]);
            let error = dfun.try_map([1, 0, 3, 2, 4]).wait().unwrap_err();
            assert_eq!((error.ending(), error.failed().len()), (Ending::FirstFailure(2), 1), "{place:?}");
            assert_eq!((error.failed()[0].index, error.failed()[0].attempt), (2, 3));
            let sum = dfun.try_map(items).fold_tree(0, |a, b| a + b).wait().unwrap();
            assert_eq!(sum, 99);
        });
    }
}

#[test]
fn columns_and_lists_are_tried_again_everywhere() {
    fn sums(x: ArrayView2<f64>, context: &Context) -> Array1<f64> {
        assert!(x.row(0).iter().all(|&times| f64::from(context.attempt()) >= times));
        x.sum_axis(Axis(0))
    }
    fn doubled(items: Vec<u32>, context: &Context) -> Vec<u32> {
        assert!(items.iter().all(|&times| context.attempt() >= times));
        items.into_iter().map(|x| 2 * x).collect()
    }
    for place in PLACES {
        within(move || {
            let mut x = Array2::from_shape_fn((3, 30), |(i, j)| (i * j) as f64);
            (x[(0, 11)], x[(0, 20)]) = (1.0, 2.0);
            let dfun = place.of(distribute!(sums), 2).retry(soon(2)).build().unwrap();
            assert_eq!(dfun.columns(x.clone()).wait().unwrap(), x.sum_axis(Axis(0)), "{place:?}");
            let dfun = place.of(distribute!(doubled).accept_lists(), 2).retry(soon(2)).build().unwrap();
            let items: Vec<u32> = (0..30).map(|x| u32::from(x == 20) * 2).collect();
            let expected: Vec<u32> = items.iter().map(|x| 2 * x).collect();
            assert_eq!(dfun.map(items).wait().unwrap(), expected, "{place:?}");
        });
    }
}

#[test]
fn items_that_ran_too_long_are_tried_again_and_those_that_kill_three_times_are_not() {
    fn slow(times: u32, context: &Context) -> u32 {
        if context.attempt() < times {
            std::thread::sleep(Duration::from_secs(60));
        }
        times
    }
    fn kills(times: u32, context: &Context) -> u32 {
        if context.attempt() < times { std::process::abort() } else { times }
    }
    for place in [Place::Processes, Place::Node] {
        within(move || {
            let dfun = place.of(distribute!(slow), 2).item_timeout(Duration::from_millis(200)).retry(soon(1));
            let dfun = dfun.endaftercall(false).build().unwrap();
            assert_eq!(dfun.map([0, 1, 0]).wait().unwrap(), [0, 1, 0], "{place:?}");
            let error = dfun.map([0, 2]).wait().unwrap_err();
            let failure = &error.failed()[0];
            assert!(matches!(failure.cause, FailureCause::TimedOut { .. }) && failure.attempt == 2, "{failure}");
            let dfun = place.of(distribute!(kills), 2).retry(soon(9)).endaftercall(false).build().unwrap();
            assert_eq!(dfun.map([0, 2, 0]).wait().unwrap(), [0, 2, 0], "{place:?}");
            let error = dfun.map([0, 9]).wait().unwrap_err();
            assert!(matches!(error.failed()[0].cause, FailureCause::Poisoned { deaths: 3, .. }), "{error}");
        });
    }
}
