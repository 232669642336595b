//! Every item runs once, and every value is dropped once, however a call ends.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use distfun::{DistributedFunction, Ending, prelude::*};
use ndarray::{Array1, Array2, ArrayView2, ShapeBuilder};
use proptest::prelude::*;

use super::{cases, eventually, slots};

/// How often each item was run.
fn counters(n: usize) -> Arc<Vec<AtomicU32>> {
    Arc::new((0..n).map(|_| AtomicU32::new(0)).collect())
}

fn are_all_one(counters: &[AtomicU32]) -> bool {
    counters.iter().all(|counter| counter.load(SeqCst) == 1)
}

/// Some items take longer than a chunk may, so that chunks come back unfinished.
fn work(index: usize, slow: usize) {
    if index % 61 == slow {
        thread::sleep(Duration::from_millis(3));
    }
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn every_item_runs_exactly_once(n in 0usize..400, slow in 0usize..61, slots in slots()) {
        let ran = counters(n);
        let count = ran.clone();
        let function = distribute_local(move |index: usize| {
            work(index, slow);
            count[index].fetch_add(1, SeqCst);
            index
        });
        let all: Vec<usize> = (0..n).collect();
        prop_assert_eq!(&function.slots(slots).build().unwrap().map(0..n).wait().unwrap(), &all);
        prop_assert!(are_all_one(&ran));

        let ran = counters(n);
        let count = ran.clone();
        let function = distribute_local_ref(move |&index: &usize| {
            work(index, slow);
            count[index].fetch_add(1, SeqCst);
        });
        function.slots(slots).build().unwrap().map(&all).wait().unwrap();
        prop_assert!(are_all_one(&ran));

        let ran = counters(n);
        let count = ran.clone();
        let function = distribute_local(move |items: Vec<usize>| {
            for &index in &items {
                count[index].fetch_add(1, SeqCst);
            }
            items
        });
        prop_assert_eq!(&function.accept_lists().slots(slots).build().unwrap().map(0..n).wait().unwrap(), &all);
        prop_assert!(are_all_one(&ran));
    }

    #[test]
    fn every_column_is_seen_exactly_once(n in 0usize..400, fortran in any::<bool>(), slots in slots()) {
        let ran = counters(n);
        let count = ran.clone();
        let function = distribute_local_columns(move |x: ArrayView2<'_, usize>| -> Array1<usize> {
            for &column in x.row(0) {
                count[column].fetch_add(1, SeqCst);
            }
            x.row(0).to_owned()
        });
        let x = Array2::from_shape_fn((2, n).set_f(fortran), |(_, j)| j);
        let y = function.slots(slots).build().unwrap().columns(&x).wait().unwrap();
        prop_assert_eq!(y, x.row(0));
        prop_assert!(are_all_one(&ran));
    }
}

/// Values made and dropped, by their number; a value must not be dropped twice, nor forgotten.
#[derive(Debug, Default)]
struct Tally(Mutex<Vec<(u32, u32)>>);

impl Tally {
    fn note(&self, number: usize, made: u32, dropped: u32) {
        let mut values = self.0.lock().unwrap();
        if values.len() <= number {
            values.resize(number + 1, (0, 0));
        }
        values[number].0 += made;
        values[number].1 += dropped;
    }

    fn is_even(&self) -> bool {
        self.0.lock().unwrap().iter().all(|(made, dropped)| made == dropped)
    }

    fn made(&self) -> u32 {
        self.0.lock().unwrap().iter().map(|(made, _)| made).sum()
    }
}

/// A value that tells when it comes and goes.
#[derive(Debug)]
struct Counted {
    number: usize,
    tally: Arc<Tally>,
}

impl Counted {
    fn new(number: usize, tally: &Arc<Tally>) -> Self {
        tally.note(number, 1, 0);
        Self { number, tally: tally.clone() }
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::new(self.number, &self.tally)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.tally.note(self.number, 0, 1);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Complete,
    Settled,
    Into,
    Cancelled,
    CancelledAndSettled,
    Dropped,
    Forgotten,
    TimedOut,
    Finished,
    ShutDown,
    AllDropped,
}

const WAYS: [Way; 11] = [
    Way::Complete,
    Way::Settled,
    Way::Into,
    Way::Cancelled,
    Way::CancelledAndSettled,
    Way::Dropped,
    Way::Forgotten,
    Way::TimedOut,
    Way::Finished,
    Way::ShutDown,
    Way::AllDropped,
];

impl Way {
    /// Whether the call is ended while an item runs.
    fn is_early(self) -> bool {
        !matches!(self, Way::Complete | Way::Settled | Way::Into)
    }
}

/// Ends a call on `function` in this way; `arrived` says whether its last item is running.
fn end(way: Way, function: DistributedFunction<Counted, Counted>, items: Vec<Counted>, arrived: &AtomicBool) {
    if way == Way::Into {
        let mut results = Vec::new();
        let _ = function.map_into(&items, &mut results).wait();
        return;
    }
    let call = function.map(items);
    if way.is_early() {
        eventually("an item runs", || arrived.load(SeqCst));
    }
    let ending = match way {
        Way::Complete => return drop(call.wait()),
        Way::Settled => return drop(call.settle()),
        Way::Dropped => return drop(call),
        Way::Forgotten => {
            let canceller = call.canceller();
            drop(futures::FutureExt::now_or_never(call));
            return canceller.cancel();
        }
        Way::AllDropped => {
            drop(function);
            return drop(call);
        }
        Way::Into => unreachable!("ended above"),
        Way::Cancelled => {
            call.canceller().cancel();
            Ending::Cancelled
        }
        Way::CancelledAndSettled => {
            call.canceller().cancel();
            return drop(call.settle());
        }
        Way::TimedOut => {
            let error = call.wait_timeout(Duration::from_millis(5)).unwrap_err();
            return assert_eq!(error.ending(), Ending::TimedOut);
        }
        Way::Finished => {
            function.finished().unwrap();
            Ending::Finished
        }
        Way::ShutDown => {
            function.shutdown().unwrap();
            Ending::ShutDown
        }
    };
    assert_eq!(call.wait().unwrap_err().ending(), ending);
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn items_and_results_are_dropped_once_however_a_call_ends(
        way in proptest::sample::select(WAYS.to_vec()),
        n in 1usize..60,
        late in 0usize..60,
        panics in proptest::collection::btree_set(0usize..60, 0..4),
        by_ref in any::<bool>(),
        slots in slots(),
    ) {
        let (items, results): (Arc<Tally>, Arc<Tally>) = Default::default();
        let arrived = Arc::new(AtomicBool::new(false));
        let late = late % n;
        let run = {
            let (results, arrived) = (results.clone(), arrived.clone());
            move |item: &Counted, context: &Context<'_>| {
                if way.is_early() && item.number == late {
                    arrived.store(true, SeqCst);
                    eventually("the call ends", || context.is_cancelled());
                } else if panics.contains(&item.number) {
                    let _lost = Counted::new(item.number, &results);
                    panic!("as asked");
                }
                Counted::new(item.number, &results)
            }
        };
        let function = match by_ref {
            true => distribute_local_ref(run).slots(slots).endaftercall(late % 2 == 0).build(),
            false => {
                let run = move |item: Counted, context: &Context<'_>| run(&item, context);
                distribute_local(run).slots(slots).endaftercall(late % 2 == 0).build()
            }
        };
        let input: Vec<Counted> = (0..n).map(|number| Counted::new(number, &items)).collect();
        end(way, function.unwrap(), input, &arrived);
        eventually("every value is dropped", || items.is_even() && results.is_even());
        if !way.is_early() {
            prop_assert_eq!(results.made(), n as u32);
        }
    }

    #[test]
    fn results_of_columns_are_dropped_once_however_a_call_ends(
        way in proptest::sample::select(vec![Way::Complete, Way::Cancelled, Way::Dropped, Way::TimedOut, Way::Finished]),
        n in 1usize..60,
        late in 0usize..60,
        panics in proptest::option::of(0usize..60),
        rows in 0usize..3,
        fortran in any::<bool>(),
        slots in slots(),
    ) {
        let (items, results): (Arc<Tally>, Arc<Tally>) = Default::default();
        let arrived = Arc::new(AtomicBool::new(false));
        let late = late % n;
        let run = {
            let (results, arrived) = (results.clone(), arrived.clone());
            move |x: ArrayView2<'_, Counted>, context: &Context<'_>| -> Array2<Counted> {
                let shape = (rows, x.ncols()).set_f(fortran);
                let y = Array2::from_shape_fn(shape, |(_, j)| Counted::new(x[[0, j]].number, &results));
                if way.is_early() && context.items().contains(&late) {
                    arrived.store(true, SeqCst);
                    eventually("the call ends", || context.is_cancelled());
                } else if x.iter().any(|item| Some(item.number) == panics) {
                    panic!("as asked");
                }
                y
            }
        };
        let x = Array2::from_shape_fn((1, n), |(_, j)| Counted::new(j, &items));
        let function = distribute_local_columns(run).slots(slots).build().unwrap();
        let call = function.columns(x);
        if way.is_early() {
            eventually("a block runs", || arrived.load(SeqCst));
        }
        match way {
            Way::Cancelled => {
                call.canceller().cancel();
                prop_assert_eq!(call.wait().unwrap_err().ending(), Ending::Cancelled);
            }
            Way::Dropped => drop(call),
            Way::TimedOut => drop(call.wait_timeout(Duration::from_millis(5)).unwrap_err()),
            Way::Finished => {
                function.finished().unwrap();
                drop(call);
            }
            _ => prop_assert_eq!(call.wait().is_ok(), panics.is_none_or(|column| column >= n)),
        }
        eventually("every value is dropped", || items.is_even() && results.is_even());
    }
}
