//! The same results as on threads, of every kind of function.

use distfun::{Context, Ending, FailureCause, SharedData, SharedDataError, distribute};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, ShapeBuilder, array};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::Place;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Record {
    Word(String),
    Numbers { all: Vec<f64>, name: Option<String> },
}

fn swapped(record: Record) -> Record {
    match record {
        Record::Word(word) => Record::Numbers { all: vec![word.len() as f64], name: Some(word) },
        Record::Numbers { all, name } => Record::Word(format!("{all:?} {name:?}")),
    }
}

#[allow(clippy::ptr_arg, reason = "a function by reference")]
fn length(text: &String) -> usize {
    text.len()
}

fn sums(x: ArrayView2<f64>) -> Array1<f64> {
    x.sum_axis(Axis(0))
}

fn twice(x: ArrayView2<f64>) -> Array2<f64> {
    &x * 2.0
}

fn doubled(items: Vec<u32>) -> Vec<u32> {
    items.iter().map(|x| 2 * x).collect()
}

fn noisy(x: u32, context: &Context) -> (u32, usize, u64) {
    (x, context.index(), context.rng().random())
}

fn odd(x: u32) -> Result<u32, String> {
    if x % 2 == 1 { Ok(x) } else { Err(format!("{x} is even")) }
}

fn score(x: f64, shared: &SharedData) -> Result<f64, SharedDataError> {
    let w: ArrayView1<f64> = shared.array("w")?;
    Ok(x * w.sum() + shared.value::<f64>("offset")?)
}

fn counted(x: u64, context: &Context) -> u64 {
    let mut made = context.slot_state(|| 0u64);
    *made += 1;
    assert!(*made > 0);
    x
}

fn picky(x: u32) -> u32 {
    assert!(x % 10 != 3, "no {x}");
    x
}

/// The same builder with slots on threads, in processes, and at a node that is sent this program.
macro_rules! both {
    ($function:expr, |$builder:ident| $body:expr) => {{
        let of = |place: Place| {
            let $builder = place.of(distribute!($function), 2);
            $body
        };
        let threads = of(Place::Threads);
        assert_eq!(threads, of(Place::Processes), "in processes");
        assert_eq!(threads, of(Place::Node), "at a node");
        threads
    }};
}

#[test]
fn lists_of_all_kinds_are_as_on_threads() {
    for count in [0u32, 1, 2, 3, 100, 20_000] {
        let all = move || (0..count).map(|x| Record::Numbers { all: vec![x.into(); 3], name: None });
        both!(swapped, |builder| builder.build().unwrap().map(all()).wait().unwrap());
        let words: Vec<String> = (0..count).map(|x| "x".repeat(x as usize % 50)).collect();
        both!(length, |builder| builder.build().unwrap().map(words.clone()).wait().unwrap());
        let lent = words.clone();
        both!(length, |builder| builder.build().unwrap().map(&lent[..]).wait().unwrap());
        both!(doubled, |builder| builder.accept_lists().build().unwrap().map(0..count).wait().unwrap());
        both!(noisy, |builder| builder.seed(5).build().unwrap().map(0..count).wait().unwrap());
        both!(counted, |builder| builder.build().unwrap().map(0..u64::from(count)).wait().unwrap());
        both!(|x: i64| x - 1, |builder| builder.build().unwrap().map(0..i64::from(count)).wait().unwrap());
    }
}

#[test]
fn columns_are_as_on_threads() {
    for (rows, columns) in [(0, 5), (3, 0), (1, 1), (7, 2), (50, 1001)] {
        let c = Array2::from_shape_fn((rows, columns), |(i, j)| (i * 31 + j) as f64 / 7.0);
        let mut f = Array2::zeros((rows, columns).f());
        f.assign(&c);
        for x in [c, f] {
            let (one, two) = (x.clone(), x.clone());
            let found = both!(sums, |builder| builder.build().unwrap().columns(one.clone()).wait().unwrap());
            assert_eq!(found, x.sum_axis(Axis(0)));
            let found = both!(twice, |builder| builder.build().unwrap().columns(&two).wait().unwrap());
            assert_eq!(found, 2.0 * &x);
        }
    }
}

#[test]
fn large_arrays_go_through_shared_memory_that_grows() {
    let items = || (0..5).map(|k| Array2::from_elem((300 * k, 1000), k as f64)).collect::<Vec<_>>();
    let negated = both!(|a: Array2<f64>| -a, |builder| builder.build().unwrap().map(items()).wait().unwrap());
    assert!(negated.iter().zip(items()).all(|(found, item)| *found == -item));
}

#[test]
fn failures_have_the_same_items_and_words() {
    let list = |builder: distfun::CallError<Vec<u32>>| {
        let failed = builder.failed.iter().map(|failure| (failure.index, failure.cause.to_string()));
        (failed.collect::<Vec<_>>(), builder.finished().clone(), builder.ending)
    };
    let (failed, ..) = both!(picky, |builder| list(builder.build().unwrap().map(0..100u32).wait().unwrap_err()));
    assert_eq!(failed.len(), 10);
    assert!(failed[0].1.contains("laws.rs:") && failed[0].1.contains("no 3"), "{failed:?}");
    let first = both!(odd, |builder| {
        let error = builder.build().unwrap().try_map([1u32, 3, 6, 7, 8]).wait().unwrap_err();
        let FailureCause::Returned(cause) = &error.failed[0].cause else { panic!("{error}") };
        (error.ending, cause.to_string())
    });
    assert_eq!(first, (Ending::FirstFailure(2), "6 is even".into()));
    both!(odd, |builder| builder.build().unwrap().map(0..10u32).wait().unwrap());
}

#[test]
fn shared_data_is_read_in_processes_and_replaced() {
    let shared = |scale: f64| {
        let w = array![1.0, 2.0] * scale;
        SharedData::builder().array("w", &w).unwrap().value("offset", &0.5).unwrap().build().unwrap()
    };
    both!(score, |builder| {
        let dfun = builder.shared_data(shared(1.0)).endaftercall(false).build().unwrap();
        let first = dfun.try_map((0..100).map(f64::from)).wait().unwrap();
        let again = dfun.with_shared(shared(10.0)).try_map((0..100).map(f64::from)).wait().unwrap();
        let back = dfun.try_map([2.0]).wait().unwrap();
        assert_eq!((first[2], again[2], back[0]), (6.5, 60.5, 6.5));
        (first, again)
    });
}

#[test]
fn streams_and_folds_are_as_on_threads() {
    both!(|x: u64| x * x, |builder| {
        let dfun = builder.endaftercall(false).build().unwrap();
        let some: Vec<u64> = dfun.stream(0..).into_iter().take(1000).map(|result| result.unwrap()).collect();
        let sum = dfun.map(0..1000u64).fold_tree(0, |a, b| a + b).wait().unwrap();
        (some, sum)
    });
}

#[test]
fn calls_inside_a_function_run_in_its_process() {
    fn outer(x: u32) -> Vec<u32> {
        distribute!(|y: u32| y + 1).build().unwrap().map(0..x).wait().unwrap()
    }
    both!(outer, |builder| builder.build().unwrap().map(0..20u32).wait().unwrap());
}

/// Two functions of one name in one function's blocks: a process must run the one that was meant.
#[test]
fn functions_of_one_name_are_told_apart() {
    for place in [Place::Threads, Place::Processes, Place::Node] {
        twins(place);
    }
}

fn twins(place: Place) {
    let one = {
        fn twin(x: u32) -> u32 {
            x + 1
        }
        place.of(distribute!(twin), 1).build().unwrap().map([1u32])
    };
    let two = {
        fn twin(x: u32) -> u32 {
            x + 100
        }
        place.of(distribute!(twin), 1).build().unwrap().map([1u32])
    };
    assert_eq!((one.wait().unwrap(), two.wait().unwrap()), (vec![2], vec![101]));
}
