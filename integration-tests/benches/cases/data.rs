//! Streams and shared data.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use distfun::{SharedData, prelude::*};
use ndarray::{ArrayView2, s};

use super::{Case, SLOTS, burst, square, timed, warm};

/// 10^6 tiny items through a stream, results taken one by one, against `map` of the same iterator.
pub(crate) fn stream() -> Case {
    let (streamed, mapped) = (warm(distribute!(square)), warm(distribute!(square)));
    const ITEMS: u64 = 1_000_000;
    Case {
        name: "10^6 tiny items: stream, against map",
        owe: 2.0,
        pairs: 51,
        ours: Box::new(move || {
            timed(|| {
                streamed.stream(0..ITEMS).into_iter().fold(0u64, |sum, y| sum.wrapping_add(y.expect("no failures")))
            })
        }),
        baseline: Box::new(move || {
            let all = || mapped.map(0..ITEMS).wait().expect("no failures");
            timed(|| all().into_iter().fold(0u64, u64::wrapping_add))
        }),
        note: None,
    }
}

/// A gigabyte: a row per sample, 100 numbers each.
pub(super) fn gigabyte() -> SharedData {
    let rows = (1 << 30) / 800;
    let builder = SharedData::builder().array_with("x", (rows, 100), |mut x| x.fill(1.0));
    builder.expect("one key").build().expect("a gigabyte")
}

fn strided_sum(x: ArrayView2<f64>, first: usize) -> f64 {
    x.slice(s![first..; 100, ..]).sum()
}

/// 100 sums, each over every hundredth row, that together read a gigabyte once: against bare threads over the same view.
pub(crate) fn strided_sums() -> Case {
    let shared = gigabyte();
    let sum = distribute!(|first: usize, shared: &SharedData| strided_sum(shared.array("x").expect("as built"), first));
    let distributed = warm(sum.shared_data(shared.clone()));
    Case {
        name: "100 strided sums of 1 GiB shared, against bare threads",
        owe: 1.05,
        pairs: 31,
        ours: Box::new(move || timed(|| distributed.map(0..100).wait().expect("no failures"))),
        baseline: Box::new(move || {
            let x: ArrayView2<f64> = shared.array("x").expect("as built");
            let next = AtomicUsize::new(0);
            let sums = || {
                let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&first| first < 100);
                std::iter::from_fn(take).map(|first| strided_sum(x, first)).sum::<f64>()
            };
            timed(|| {
                std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..SLOTS).map(|_| scope.spawn(sums)).collect();
                    threads.into_iter().map(|thread| thread.join().expect("no panics")).sum::<f64>()
                })
            })
        }),
        note: None,
    }
}

/// One tiny call of a function with a gigabyte of shared data, against one with none: what it costs a call that it is
/// there.
pub(crate) fn unchanged() -> Case {
    let with = warm(distribute!(|x: u64, _: &SharedData| square(x)).shared_data(gigabyte()));
    let without = warm(distribute!(square));
    let call = |dfun: &distfun::DistributedFunction<u64, u64>| -> Duration {
        burst(2000, || timed(|| dfun.map([1]).wait().expect("no failures")))
    };
    Case {
        name: "one tiny call with 1 GiB shared data, against none",
        owe: 1.05,
        pairs: 31,
        ours: Box::new(move || call(&with)),
        baseline: Box::new(move || call(&without)),
        note: None,
    }
}
