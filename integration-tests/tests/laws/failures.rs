//! What fails, fails alone, and which failure is told does not depend on the slots.

use std::{
    fmt::Debug,
    ops::Range,
    sync::Mutex,
    thread::{self, ThreadId},
};

use distfun::{CallError, ColumnResult, Distribute, Ending, FailureCause, ItemFailure, Manager, Status, prelude::*};
use ndarray::{Array1, Array2, ArrayView2, Axis, ShapeBuilder};
use proptest::prelude::*;

use super::{cases, slots};

#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
enum Mood {
    Good,
    Errs,
    Panics,
}

type Item = (u32, Mood);

/// Items that fail with the given odds in a hundred.
fn items(most: usize) -> impl Strategy<Value = Vec<Item>> {
    (0..most, 0u32..20, 0u32..20).prop_flat_map(|(n, errs, panics)| {
        let mood = prop_oneof![
            (100 - errs - panics) => Just(Mood::Good),
            errs => Just(Mood::Errs),
            panics => Just(Mood::Panics),
        ];
        proptest::collection::vec((any::<u32>(), mood), n)
    })
}

fn named((number, mood): Item) -> String {
    assert_ne!(mood, Mood::Panics, "number {number}");
    number.to_string()
}

fn named_ref((number, mood): &Item) -> String {
    named((*number, *mood))
}

fn named_all(items: Vec<Item>) -> Vec<String> {
    items.into_iter().map(named).collect()
}

fn tried((number, mood): Item) -> Result<String, String> {
    if mood == Mood::Errs { Err(format!("number {number}")) } else { Ok(named((number, mood))) }
}

fn indices(failures: &[ItemFailure]) -> Vec<usize> {
    failures.iter().map(|failure| failure.index).collect()
}

/// The indices of the items for which `is` holds.
fn which(items: &[Item], is: impl Fn(Mood) -> bool) -> Vec<usize> {
    items.iter().enumerate().filter(|(_, item)| is(item.1)).map(|(index, _)| index).collect()
}

/// `outcome` has a result for every item that does not panic, and a failure with its text for every other one.
fn fails_exactly(outcome: Result<Vec<String>, CallError<Vec<String>>>, items: &[Item]) {
    let bad = which(items, |mood| mood == Mood::Panics);
    let expected: Vec<(usize, String)> = items
        .iter()
        .enumerate()
        .filter(|(_, item)| item.1 != Mood::Panics)
        .map(|(index, item)| (index, item.0.to_string()))
        .collect();
    let error = match outcome {
        Ok(all) => {
            assert!(bad.is_empty());
            return assert_eq!(all, expected.into_iter().map(|(_, name)| name).collect::<Vec<_>>());
        }
        Err(error) => error,
    };
    assert_eq!(error.ending(), Ending::ItemsFailed);
    assert_eq!(indices(error.failed()), bad);
    for failure in error.failed() {
        let FailureCause::Panicked { message, place } = &failure.cause else { panic!("{failure}") };
        assert!(message.contains(&format!("number {}", items[failure.index].0)), "{failure}");
        assert!(place.as_ref().is_some_and(|place| place.contains("failures.rs")), "{failure}");
        assert_eq!(failure.attempt, 1);
    }
    assert_eq!((error.items, error.finished_count), (items.len(), expected.len()));
    assert_eq!(error.finished(), &expected);
}

fn settles_exactly(settled: Vec<Result<String, ItemFailure>>, items: &[Item]) {
    assert_eq!(settled.len(), items.len());
    for (index, (result, item)) in settled.into_iter().zip(items).enumerate() {
        match result {
            Ok(name) => assert_eq!((name, false), (item.0.to_string(), item.1 == Mood::Panics)),
            Err(failure) => assert_eq!((failure.index, item.1), (index, Mood::Panics)),
        }
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_panic_costs_its_own_item_and_no_other(items in items(400), slots in slots()) {
        let values = distribute!(named).slots(slots).endaftercall(false).build().unwrap();
        let refs = distribute!(named_ref).slots(slots).endaftercall(false).build().unwrap();
        fails_exactly(values.map(items.clone()).wait(), &items);
        fails_exactly(values.map(&items).wait(), &items);
        fails_exactly(refs.map(items.clone()).wait(), &items);
        fails_exactly(refs.map(&items).wait(), &items);
        settles_exactly(values.map(items.clone()).settle(), &items);
        settles_exactly(refs.map(items.clone()).settle(), &items);
        fails_exactly(distribute!(named).sequential(true).build().unwrap().map(items.clone()).wait(), &items);
    }

    #[test]
    fn an_error_is_an_ordinary_result_of_map(items in items(400), slots in slots()) {
        let calm: Vec<Item> = items.into_iter().filter(|item| item.1 != Mood::Panics).collect();
        let results = distribute!(tried).slots(slots).build().unwrap().map(calm.clone()).wait().unwrap();
        prop_assert_eq!(results, calm.into_iter().map(tried).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_in_a_chunk_costs_that_chunk_and_no_other(items in items(400), slots in slots()) {
        let function = distribute!(named_all).accept_lists().slots(slots).build().unwrap();
        let settled = function.map(items.clone()).settle();
        prop_assert_eq!(settled.len(), items.len());
        let mut lost = Vec::new();
        for (index, result) in settled.into_iter().enumerate() {
            match result {
                Ok(name) => prop_assert_eq!(name, items[index].0.to_string()),
                Err(failure) => {
                    prop_assert_eq!(failure.index, index);
                    lost.push(index);
                }
            }
        }
        for index in which(&items, |mood| mood == Mood::Panics) {
            prop_assert!(lost.contains(&index));
        }
        // At most four chunks for each slot, balanced.
        let longest = items.len().div_ceil((4 * slots).min(items.len().max(1)));
        for &index in &lost {
            let near = index.saturating_sub(longest - 1)..(index + longest).min(items.len());
            prop_assert!(items[near].iter().any(|item| item.1 == Mood::Panics), "item {index} shares no chunk with a panic");
        }
    }

    #[test]
    fn try_map_tells_the_first_failure_in_input_order(items in items(400), slots in slots(), borrowed in any::<bool>()) {
        let first = items.iter().position(|item| item.1 != Mood::Good);
        let good: Vec<String> = items.iter().take_while(|item| item.1 == Mood::Good).map(|item| item.0.to_string()).collect();
        let function = || distribute!(tried).slots(slots);
        for function in [function(), function(), function(), function().sequential(true)] {
            let function = function.build().unwrap();
            let outcome = if borrowed { function.try_map(&items).wait() } else { function.try_map(items.clone()).wait() };
            let Some(first) = first else {
                prop_assert_eq!(&outcome.unwrap(), &good);
                continue;
            };
            let error = outcome.unwrap_err();
            prop_assert_eq!(error.ending(), Ending::FirstFailure(first));
            prop_assert_eq!(indices(error.failed()), [first]);
            let text = format!("number {}", items[first].0);
            prop_assert!(error.failed()[0].to_string().contains(&text));
            prop_assert_eq!(matches!(error.failed()[0].cause, FailureCause::Returned(_)), items[first].1 == Mood::Errs);
            prop_assert_eq!(error.finished_count, error.finished().len());
            prop_assert!(error.finished().is_sorted_by(|a, b| a.0 < b.0));
            let before: Vec<_> = error.finished().iter().take(first).cloned().collect();
            prop_assert_eq!(before, good.iter().cloned().enumerate().collect::<Vec<_>>());
            for (index, name) in error.finished() {
                prop_assert_eq!((items[*index].1, name), (Mood::Good, &items[*index].0.to_string()));
            }
        }
    }

    #[test]
    fn try_map_settles_every_item_it_ran(items in items(400), slots in slots()) {
        let first = items.iter().position(|item| item.1 != Mood::Good).unwrap_or(items.len());
        let settled = distribute!(tried).slots(slots).build().unwrap().try_map(items.clone()).settle();
        prop_assert_eq!(settled.len(), items.len());
        for (index, (result, item)) in settled.into_iter().zip(&items).enumerate() {
            match result {
                Ok(name) => prop_assert_eq!((item.1, name), (Mood::Good, item.0.to_string())),
                Err(failure) => {
                    prop_assert_eq!(failure.index, index);
                    prop_assert!(index >= first, "items before the first failure are all there");
                    match failure.cause {
                        FailureCause::NotRun(ending) => {
                            prop_assert!(index > first && ending == Ending::FirstFailure(first));
                        }
                        FailureCause::Returned(_) => prop_assert_eq!(item.1, Mood::Errs),
                        _ => prop_assert_eq!(item.1, Mood::Panics),
                    }
                }
            }
        }
    }
}

/// Columns that begin with a negative number panic.
fn flagged(x: &Array2<f64>) -> Vec<usize> {
    (0..x.ncols()).filter(|&j| x[[0, j]] < 0.0).collect()
}

fn calm(x: ArrayView2<f64>) -> ArrayView2<f64> {
    if let Some(j) = x.row(0).iter().position(|&first| first < 0.0) {
        panic!("value {}", x[[0, j]]);
    }
    x
}

fn sums(x: ArrayView2<f64>) -> Array1<f64> {
    calm(x).columns().into_iter().map(|column| column.sum()).collect()
}

fn rows_first(x: ArrayView2<f64>) -> Array2<f64> {
    Array2::from_shape_fn(calm(x).dim(), |(i, j)| x[[i, j]] + i as f64)
}

fn columns_first(x: ArrayView2<f64>) -> Array2<f64> {
    Array2::from_shape_fn(calm(x).dim().f(), |(i, j)| x[[i, j]] + i as f64)
}

fn no_rows(x: ArrayView2<f64>) -> Array2<f64> {
    Array2::zeros((0, calm(x).ncols()))
}

/// Exactly the flagged columns fail; the others equal those of `columns`, the result column by column.
fn columns_fail_exactly<Y: ColumnResult, Z: Debug + PartialEq>(
    fun: impl Fn(ArrayView2<'_, f64>) -> Y + Clone + Send + Sync + 'static,
    x: &Array2<f64>,
    slots: usize,
    columns: impl Fn(&Y) -> Vec<Z>,
    settled: impl Fn(Y::Settled) -> Vec<Result<Z, ItemFailure>>,
) {
    let bad = flagged(x);
    let expected = columns(&fun(x.mapv(f64::abs).view()));
    let function = || distribute_local_columns(fun.clone()).slots(slots).build().unwrap();
    for outcome in [function().columns(x).wait(), function().columns(x.clone()).wait()] {
        let error = match outcome {
            Ok(all) => {
                assert!(bad.is_empty());
                assert_eq!(columns(&all), expected);
                continue;
            }
            Err(error) => error,
        };
        assert_eq!(error.ending(), Ending::ItemsFailed);
        assert_eq!(indices(error.failed()), bad);
        for failure in error.failed() {
            assert!(failure.to_string().contains(&format!("value {}", x[[0, failure.index]])), "{failure}");
        }
        assert_eq!(error.finished_count, x.ncols() - bad.len());
        let mut found: Vec<Option<Z>> = (0..x.ncols()).map(|_| None).collect();
        let mut next = 0;
        let runs: Vec<(Range<usize>, Y)> = error.into_finished();
        for (range, run) in &runs {
            assert!(range.start >= next && !range.is_empty(), "{range:?}");
            next = range.end;
            let run = columns(run);
            assert_eq!(run.len(), range.len());
            range.clone().zip(run).for_each(|(j, column)| found[j] = Some(column));
        }
        for (j, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found.as_ref(), Some(expected).filter(|_| !bad.contains(&j)), "column {j}");
        }
    }
    let results = settled(function().columns(x.clone()).settle());
    assert_eq!(results.len(), x.ncols());
    for (j, (result, expected)) in results.into_iter().zip(expected).enumerate() {
        match result {
            Ok(column) => assert_eq!((column, false), (expected, bad.contains(&j))),
            Err(failure) => assert_eq!((failure.index, true), (j, bad.contains(&j))),
        }
    }
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn a_panic_costs_its_own_columns_and_no_other(
        heads in proptest::collection::vec(prop_oneof![8 => 1u16..1000, 1 => Just(0)], 0..120),
        fortran in any::<bool>(),
        slots in slots(),
    ) {
        let x = Array2::from_shape_fn((3, heads.len()).set_f(fortran), |(i, j)| {
            let value = (1 + i * 1000 + j) as f64;
            if i == 0 && heads[j] == 0 { -value } else { value }
        });
        let lanes = |y: &Array2<f64>| y.axis_iter(Axis(1)).map(|column| column.to_owned()).collect::<Vec<_>>();
        columns_fail_exactly(sums, &x, slots, |y| y.to_vec(), |settled| settled);
        columns_fail_exactly(columns_first, &x, slots, lanes, |settled| settled);
        columns_fail_exactly(rows_first, &x, slots, lanes, |settled| settled);
        columns_fail_exactly(no_rows, &x, slots, lanes, |settled| settled);
    }
}

/// A call's outcome without what may differ from run to run: the worker, and under `try_map` which items behind the
/// first failure had been run already.
fn told(outcome: Result<Vec<String>, CallError<Vec<String>>>) -> Result<Vec<String>, Unfinished> {
    outcome.map_err(|error| {
        let (ending, failed) = (error.ending(), without_worker(error.failed()));
        let mut finished = error.into_finished();
        if let Ending::FirstFailure(first) = ending {
            finished.truncate(first);
        }
        (ending, failed, finished)
    })
}

/// The ending, the failures, and the results that are there.
type Unfinished = (Ending, Told, Vec<(usize, String)>);

/// Index, attempt and text of each failure.
type Told = Vec<(usize, u32, String)>;

fn without_worker(failures: &[ItemFailure]) -> Told {
    failures.iter().map(|failure| (failure.index, failure.attempt, failure.cause.to_string())).collect()
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn sequential_calls_have_the_results_and_failures_of_the_slots(items in items(300), slots in slots()) {
        let built = |sequential| {
            let list = distribute!(named).slots(slots).endaftercall(false).sequential(sequential).build().unwrap();
            let by_ref = distribute!(named_ref).slots(slots).endaftercall(false).sequential(sequential).build().unwrap();
            let halting = distribute!(tried).slots(slots).endaftercall(false).sequential(sequential).build().unwrap();
            (list, by_ref, halting)
        };
        let (here, there) = (built(true), built(false));
        prop_assert_eq!(told(here.0.map(items.clone()).wait()), told(there.0.map(items.clone()).wait()));
        prop_assert_eq!(told(here.0.map(&items).wait()), told(there.0.map(&items).wait()));
        prop_assert_eq!(told(here.1.map(items.clone()).wait()), told(there.1.map(items.clone()).wait()));
        prop_assert_eq!(told(here.2.try_map(items.clone()).wait()), told(there.2.try_map(items.clone()).wait()));
        let settled = |results: Vec<Result<String, ItemFailure>>| -> Vec<Result<String, Told>> {
            results.into_iter().map(|result| result.map_err(|failure| without_worker(&[failure]))).collect()
        };
        prop_assert_eq!(settled(here.0.map(items.clone()).settle()), settled(there.0.map(items.clone()).settle()));

        let x = Array2::from_shape_fn((2, items.len()), |(i, j)| {
            let value = (1 + 2 * j + i) as f64;
            if items[j].1 == Mood::Panics { -value } else { value }
        });
        // The runs of columns that finished are cut where the blocks were.
        let lanes = |(columns, run): (Range<usize>, Array2<f64>)| -> Vec<(usize, Vec<f64>)> {
            columns.zip(run.columns()).map(|(j, column)| (j, column.to_vec())).collect()
        };
        let columns = |sequential| {
            let function = distribute!(columns_first).slots(slots).sequential(sequential).build().unwrap();
            function.columns(&x).wait().map_err(|error| {
                let (ending, failed) = (error.ending(), without_worker(error.failed()));
                (ending, failed, error.into_finished().into_iter().flat_map(lanes).collect::<Vec<_>>())
            })
        };
        prop_assert_eq!(columns(true), columns(false));
    }
}

#[test]
fn a_sequential_call_runs_in_the_calling_thread_in_order_and_has_ended_when_it_is_made() {
    static ORDER: Mutex<Vec<(usize, ThreadId)>> = Mutex::new(Vec::new());
    let note = |x: usize| {
        ORDER.lock().unwrap().push((x, thread::current().id()));
        assert_ne!(x, 7);
    };
    let call = distribute_local(note).sequential(true).build().unwrap().map(0..20);
    let progress = call.progress();
    assert_eq!((progress.done, progress.failed, progress.is_ended), (20, 1, true));
    let me = thread::current().id();
    assert_eq!(*ORDER.lock().unwrap(), (0..20).map(|x| (x, me)).collect::<Vec<_>>());
    let error = call.wait().unwrap_err();
    assert_eq!((indices(error.failed()), error.failed()[0].worker), (vec![7], None));
}

/// Each item that panics ends a strip of items before its time; strips must not grow without end over that.
#[test]
fn a_function_that_always_panics_fails_every_item() {
    let items = vec![(7, Mood::Panics); 1000];
    fails_exactly(distribute!(named).slots(2).build().unwrap().map(&items).wait(), &items);
    fails_exactly(distribute!(named_ref).sequential(true).build().unwrap().map(&items).wait(), &items);
    let x = Array2::from_elem((2, 300), -1.0);
    let error = distribute!(sums).slots(3).build().unwrap().columns(&x).wait().unwrap_err();
    assert_eq!(indices(error.failed()), (0..300).collect::<Vec<_>>());
    assert!(error.finished().is_empty());
}

/// A slot may be given items behind the failure and begin with them only after the caller has taken the results. That
/// must cost the items and not the thread.
#[test]
fn calls_that_end_early_leave_every_slot_alive() {
    let manager = Manager::builder().slots(9).start().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..300 {
                    let mut items = vec![(0, Mood::Good); 300];
                    items[round % 5] = (7, Mood::Errs);
                    let call = manager.send(Distribute::try_map(function!(tried), items));
                    let error = futures::executor::block_on(call).unwrap().unwrap_err();
                    assert_eq!(error.ending(), Ending::FirstFailure(round % 5));
                }
            });
        }
    });
    let status = futures::executor::block_on(manager.send(Status)).unwrap();
    assert_eq!(status.slots.len(), 9);
    for slot in status.slots {
        assert_eq!(slot.generation.0, 0, "the thread of worker {} was replaced", slot.worker);
    }
}
