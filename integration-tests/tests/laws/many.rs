//! Many calls, functions and Managers at once do not disturb one another.

use std::{sync::Arc, thread};

use distfun::{Distribute, Manager, prelude::*};
use futures::executor::block_on;
use ndarray::{Array1, Array2, ArrayView2};

fn tenfold(x: u64) -> u64 {
    10 * x
}

#[allow(clippy::ptr_arg, reason = "items are strings")]
fn length(text: &String) -> usize {
    text.len()
}

fn first_row(x: ArrayView2<u64>) -> Array1<u64> {
    x.row(0).to_owned()
}

#[test]
fn thousands_of_calls_from_several_threads_share_one_function() {
    for slots in [1, 4] {
        let function = distribute!(tenfold).slots(slots).endaftercall(false).build().unwrap();
        thread::scope(|scope| {
            for thread in 0..4u64 {
                let function = &function;
                scope.spawn(move || {
                    for round in 0..1000 {
                        let items = thread * 1_000_000 + round..thread * 1_000_000 + round + round % 37;
                        let expected: Vec<u64> = items.clone().map(tenfold).collect();
                        assert_eq!(function.map(items).wait().unwrap(), expected);
                    }
                });
            }
        });
    }
}

#[test]
fn calls_that_run_at_once_keep_their_results_apart() {
    let function = distribute!(tenfold).slots(3).endaftercall(false).build().unwrap();
    let calls: Vec<_> = (0..1000u64).map(|call| (call, function.map(call..call + call % 50))).collect();
    for (call, handle) in calls.into_iter().rev() {
        assert_eq!(handle.wait().unwrap(), (call..call + call % 50).map(tenfold).collect::<Vec<_>>());
    }
}

#[test]
fn several_functions_and_two_managers_work_at_once() {
    let managers = [Manager::builder().slots(2).start().unwrap(), Manager::builder().slots(3).start().unwrap()];
    let numbers = distribute!(tenfold).slots(2).endaftercall(false).build().unwrap();
    let texts = distribute!(length).slots(3).endaftercall(false).build().unwrap();
    let rows = distribute!(first_row).slots(2).endaftercall(false).build().unwrap();
    let x = Arc::new(Array2::from_shape_fn((2, 501), |(i, j)| (1000 * i + j) as u64));
    let words: Vec<String> = (0..300).map(|i| "x".repeat(i % 40)).collect();
    let lengths: Vec<usize> = words.iter().map(length).collect();
    thread::scope(|scope| {
        for round in 0..4u64 {
            let (managers, numbers, texts, rows) = (&managers, &numbers, &texts, &rows);
            let (x, words, lengths) = (&x, &words, &lengths);
            scope.spawn(move || {
                for call in 0..60 {
                    let items = round * call..round * call + 100;
                    let expected: Vec<u64> = items.clone().map(tenfold).collect();
                    for manager in managers {
                        let answer = manager.send(Distribute::map(function!(tenfold), items.clone()));
                        assert_eq!(block_on(answer).unwrap().unwrap(), expected);
                        let answer = manager.send(Distribute::map(function!(length), words.clone()));
                        assert_eq!(&block_on(answer).unwrap().unwrap(), lengths);
                        let answer = manager.send(Distribute::columns(function!(first_row), x.clone()));
                        assert_eq!(block_on(answer).unwrap().unwrap(), x.row(0));
                    }
                    assert_eq!(numbers.map(items).wait().unwrap(), expected);
                    assert_eq!(&texts.map(words).wait().unwrap(), lengths);
                    assert_eq!(rows.columns(&**x).wait().unwrap(), x.row(0));
                }
            });
        }
    });
}
