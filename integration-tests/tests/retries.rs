//! Items that fail and are run again, on threads. `isolation/retries.rs` has what must be the same wherever they run.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use distfun::{
    BuildError, Context, Ending, FailureCause, Retry, distribute, distribute_local, distribute_local_columns,
    distribute_local_ref, fault::kill_this_thread,
};
use ndarray::{Array1, Array2, ArrayView2};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::support::{LIMIT, eventually, within};

/// No wait to speak of.
fn soon(times: u32) -> Retry {
    Retry::times(times).backoff(Duration::ZERO, Duration::ZERO)
}

/// Never, as far as a test goes.
fn late(times: u32) -> Retry {
    Retry::times(times).backoff(Duration::from_secs(1 << 40), Duration::from_secs(1 << 40))
}

/// Fails as often as its item says.
fn fails(times: u32, context: &Context) -> u32 {
    assert!(context.attempt() >= times, "attempt {}", context.attempt());
    times
}

#[test]
fn an_item_has_as_many_tries_as_it_may_and_the_others_go_on() {
    let dfun = distribute!(fails).retry(soon(3)).slots(2).endaftercall(false).build().unwrap();
    let items: Vec<u32> = (0..1000).map(|x| x % 4).collect();
    assert_eq!(dfun.map(items.clone()).wait().unwrap(), items);
    let error = dfun.map([0, 4, 3, 5]).wait().unwrap_err();
    let failed: Vec<_> = error.failed().iter().map(|failure| (failure.index, failure.attempt)).collect();
    assert_eq!((error.ending(), failed), (Ending::ItemsFailed, vec![(1, 4), (3, 4)]));
    assert_eq!(error.finished(), &[(0, 0), (2, 3)]);
    let text = error.failed()[0].to_string();
    assert!(text.contains("after 4 attempts: panicked at ") && text.ends_with(": attempt 3"), "{text}");
    let settled = dfun.map([0, 1, 4]).settle();
    assert!(matches!(&settled[..], [Ok(0), Ok(1), Err(failure)] if failure.attempt == 4), "{settled:?}");
}

/// Counts how often it is cloned.
struct Counted(Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::SeqCst);
        Self(self.0.clone())
    }
}

#[test]
fn nothing_is_tried_again_or_cloned_unless_it_is_asked_for() {
    let (runs, clones) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let runs = Arc::new(runs);
    let counted = runs.clone();
    let odd = move |_: Counted| {
        counted.fetch_add(1, Ordering::SeqCst);
        assert!(counted.load(Ordering::SeqCst) == 0, "odd");
    };
    let run = |times| {
        let dfun = distribute_local(odd.clone()).clone_items().retry(soon(times)).slots(1).build().unwrap();
        let attempt = dfun.map([Counted(clones.clone())]).wait().unwrap_err().failed()[0].attempt;
        (attempt, runs.swap(0, Ordering::SeqCst), clones.swap(0, Ordering::SeqCst))
    };
    assert_eq!(run(0), (1, 1, 0));
    assert_eq!(run(2), (3, 3, 3), "a clone before each attempt");
}

#[derive(Debug, Serialize, Deserialize)]
struct Whole(u32);

fn by_value(item: Whole, context: &Context) -> u32 {
    fails(item.0, context)
}

fn by_reference(item: &Whole, context: &Context) -> u32 {
    fails(item.0, context)
}

fn lists(items: Vec<Whole>) -> Vec<u32> {
    items.into_iter().map(|item| item.0).collect()
}

#[test]
fn what_cannot_be_given_twice_is_refused_with_what_to_do() {
    let error = distribute!(by_value).retries(1).build().unwrap_err();
    assert!(matches!(error, BuildError::CannotRetry { function } if function.ends_with("by_value")), "{error}");
    for word in ["by_value takes its items by value", "by reference", "derive Clone", ".clone_items()"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(distribute!(by_value).retries(0).build().is_ok());
    assert!(distribute!(lists).accept_lists().retries(1).build().is_err());
    let items = || [Whole(2), Whole(0), Whole(1)];
    assert_eq!(distribute!(by_reference).retries(2).build().unwrap().map(items()).wait().unwrap(), [2, 0, 1]);
    // A function that is no constant can't be asked.
    let local = |x: u32, context: &Context| fails(x, context);
    assert!(distribute_local(local).retries(1).build().is_err());
    assert_eq!(distribute_local(local).clone_items().retries(1).build().unwrap().map([1, 0]).wait().unwrap(), [1, 0]);
    let local = |x: &Whole, context: &Context| fails(x.0, context);
    assert_eq!(distribute_local_ref(local).retry(soon(2)).build().unwrap().map(items()).wait().unwrap(), [2, 0, 1]);
}

#[test]
fn under_try_map_an_err_is_tried_again_and_under_map_it_is_a_value() {
    fn late_ok(times: u32, context: &Context) -> Result<u32, String> {
        if context.attempt() < times { Err(format!("attempt {} of {times}", context.attempt())) } else { Ok(times) }
    }
    let dfun = distribute!(late_ok).retry(soon(2)).slots(2).endaftercall(false).build().unwrap();
    assert_eq!(dfun.map([0, 1]).wait().unwrap(), [Ok(0), Err("attempt 0 of 1".to_owned())]);
    let items: Vec<u32> = (0..500).map(|x| x % 3).collect();
    assert_eq!(dfun.try_map(items.clone()).wait().unwrap(), items);
    for _ in 0..20 {
        let error = dfun.try_map([2, 0, 7, 1, 9, 0]).wait().unwrap_err();
        assert_eq!((error.ending(), error.failed().len()), (Ending::FirstFailure(2), 1));
        let failure = &error.failed()[0];
        assert_eq!((failure.index, failure.attempt), (2, 3));
        assert!(failure.to_string().ends_with("after 3 attempts: returned an error: attempt 2 of 7"), "{failure}");
    }
    let sum = dfun.try_map((0..300).map(|x| x % 3)).fold_tree(0, |a, b| a + b).wait().unwrap();
    assert_eq!(sum, 300);
}

#[derive(Debug, Clone, PartialEq)]
enum Trouble {
    Busy,
    Broken,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Trouble {}

#[test]
fn a_predicate_sees_the_failure_and_decides() {
    let is_busy = |failure: &distfun::ItemFailure| {
        assert_eq!(failure.worker.map(|worker| worker.0), Some(0));
        match &failure.cause {
            FailureCause::Returned(error) => error.downcast_ref() == Some(&Trouble::Busy),
            FailureCause::Panicked { message, .. } => &**message == "busy",
            _ => false,
        }
    };
    let act = |trouble: Trouble, context: &Context| match context.attempt() {
        0 => Err(trouble),
        attempt => Ok(attempt),
    };
    let dfun = distribute_local(act).clone_items().retry(soon(5).when(is_busy)).slots(1).endaftercall(false);
    let dfun = dfun.build().unwrap();
    assert_eq!(dfun.try_map([Trouble::Busy]).wait().unwrap(), [1]);
    let error = dfun.try_map([Trouble::Busy, Trouble::Broken]).wait().unwrap_err();
    assert_eq!((error.ending(), error.failed()[0].attempt), (Ending::FirstFailure(1), 1));
    let panics = |text: &&str, context: &Context| {
        if context.attempt() == 0 {
            panic!("{text}")
        }
    };
    let dfun = distribute_local_ref(panics).retry(soon(5).when(is_busy)).slots(1).build().unwrap();
    let error = dfun.map(["busy", "broken"]).wait().unwrap_err();
    assert_eq!((error.failed().len(), error.failed()[0].index, error.finished().len()), (1, 1, 1));
    // One that panics says no, and costs nothing else.
    let dfun = distribute!(fails).retry(soon(5).when(|_| panic!("undecided"))).slots(1).build().unwrap();
    assert_eq!(dfun.map([0, 1, 0]).wait().unwrap_err().failed()[0].attempt, 1);
}

#[test]
fn the_waits_are_kept_and_other_items_go_on_meanwhile() {
    const WAITS: u32 = 4;
    let told: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let (times, others) = (told.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = others.clone();
    let act = move |x: u32, context: &Context| {
        if x == 0 {
            times.lock().unwrap().push(Instant::now());
            assert!(context.attempt() == WAITS, "not yet");
        } else {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    };
    let retry = Retry::times(WAITS).backoff(Duration::from_millis(300), Duration::from_millis(300));
    let dfun = distribute_local(act).clone_items().retry(retry).slots(1).endaftercall(false).build().unwrap();
    let call = dfun.map(0..50);
    eventually(LIMIT, "the others are done", || others.load(Ordering::SeqCst) == 49);
    assert!(!call.progress().is_ended && told.lock().unwrap().len() <= WAITS as usize);
    // A slot that waits is free for other calls.
    dfun.map([7]).wait().unwrap();
    call.wait().unwrap();
    let told = told.lock().unwrap();
    let waited = told[WAITS as usize] - told[0];
    // Full jitter: random times up to 300 ms, and the engine's generator has a fixed seed.
    assert!(waited > Duration::from_millis(150) && waited < Duration::from_millis(1500), "{waited:?}");
}

#[test]
fn a_call_whose_items_wait_ends_as_any_other() {
    within(|| {
        let start = || {
            let dfun = distribute!(fails).retry(late(3)).slots(2).build().unwrap();
            let call = dfun.map([0, 1, 0, 2]);
            eventually(LIMIT, "the others are done", || call.progress().done == 2);
            (dfun, call)
        };
        let check = |error: distfun::CallError<Vec<u32>>, ending| {
            assert_eq!((error.ending(), error.failed().len()), (ending, 0));
            assert_eq!(error.finished(), &[(0, 0), (2, 0)]);
        };
        let (_dfun, call) = start();
        call.canceller().cancel();
        check(call.wait().unwrap_err(), Ending::Cancelled);
        let (_dfun, call) = start();
        check(call.wait_timeout(Duration::from_millis(50)).unwrap_err(), Ending::TimedOut);
        let (dfun, call) = start();
        dfun.finished().unwrap();
        check(call.wait().unwrap_err(), Ending::Finished);
        let (dfun, call) = start();
        dfun.shutdown().unwrap();
        let settled = call.settle();
        assert!(settled[1].as_ref().unwrap_err().to_string().contains("not run: shutdown()"), "{settled:?}");
        let (dfun, call) = start();
        drop(call);
        dfun.finished().unwrap();
    });
}

#[test]
fn items_have_their_index_and_random_numbers_at_each_attempt() {
    let seen: Arc<Mutex<Vec<(usize, u64)>>> = Arc::default();
    let told = seen.clone();
    let act = move |_: u32, context: &Context| {
        let number = context.rng().random();
        told.lock().unwrap().push((context.index(), number));
        assert!(context.attempt() == 2, "again");
        number
    };
    let dfun = distribute_local(act.clone()).clone_items().retry(soon(2)).slots(2).seed(7).build().unwrap();
    let numbers = dfun.map(0..100).wait().unwrap();
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort_unstable();
    let expected: Vec<_> = numbers.iter().copied().enumerate().flat_map(|one| [one; 3]).collect();
    assert_eq!(seen, expected);
    let sequential = distribute_local(act).clone_items().retry(soon(2)).sequential(true).seed(7).build().unwrap();
    assert_eq!(sequential.map(0..100).wait().unwrap(), numbers);
}

#[test]
fn of_columns_only_those_that_fail_by_themselves_are_tried_again() {
    let alone = Arc::new(Mutex::new(Vec::new()));
    let told = alone.clone();
    let sums = move |x: ArrayView2<'_, f64>, context: &Context| -> Array1<f64> {
        if context.attempt() > 0 {
            told.lock().unwrap().push((context.items(), context.attempt()));
        }
        // A column fails as often as it says.
        assert!(x.row(0).iter().all(|&times| f64::from(context.attempt()) >= times));
        x.sum_axis(ndarray::Axis(0))
    };
    let mut x = Array2::from_shape_fn((3, 40), |(i, j)| (i * j) as f64);
    (x[(0, 17)], x[(0, 30)]) = (1.0, 2.0);
    let dfun = distribute_local_columns(sums).retry(soon(2)).slots(2).endaftercall(false).build().unwrap();
    assert_eq!(dfun.columns(&x).wait().unwrap(), x.sum_axis(ndarray::Axis(0)));
    let mut told = std::mem::take(&mut *alone.lock().unwrap());
    told.sort_by_key(|(items, attempt)| (items.start, *attempt));
    assert_eq!(told, [(17..18, 1), (30..31, 1), (30..31, 2)]);
    x[(0, 5)] = 3.0;
    let error = dfun.columns(&x).wait().unwrap_err();
    assert_eq!((error.failed().len(), error.failed()[0].index, error.failed()[0].attempt), (1, 5, 3));
    let finished: usize = error.finished().iter().map(|(columns, _)| columns.len()).sum();
    assert_eq!(finished, 39);
}

#[test]
fn items_of_a_list_that_fails_are_tried_again_alone() {
    fn doubled(items: Vec<u32>, context: &Context) -> Vec<u32> {
        assert!(context.attempt() >= *items.iter().max().unwrap(), "too early");
        items.into_iter().map(|x| 2 * x).collect()
    }
    let dfun = distribute!(doubled).accept_lists().retry(soon(2)).slots(2).endaftercall(false).build().unwrap();
    let items: Vec<u32> = (0..50).map(|x| u32::from(x == 20) * 2).collect();
    let expected: Vec<u32> = items.iter().map(|x| 2 * x).collect();
    assert_eq!(dfun.map(items.clone()).wait().unwrap(), expected);
    assert_eq!(dfun.map(&items).wait().unwrap(), expected);
    let error = dfun.map(vec![0, 3, 0]).wait().unwrap_err();
    assert_eq!((error.failed().len(), error.failed()[0].index, error.finished().len()), (1, 1, 2));
    // Another number of results would be the same again.
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let short = move |_: Vec<u32>| {
        counted.fetch_add(1, Ordering::SeqCst);
        Vec::<u32>::new()
    };
    let dfun = distribute_local(short).accept_lists().clone_items().retry(soon(5)).slots(1).build().unwrap();
    assert_eq!(dfun.map([1]).wait().unwrap_err().failed()[0].attempt, 1);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[test]
fn streams_and_folds_have_every_item_once() {
    let dfun = distribute!(fails).retry(soon(3)).slots(2).endaftercall(false).build().unwrap();
    let items: Vec<u32> = (0..400).map(|x| x % 4).collect();
    let streamed: Vec<u32> = dfun.stream(items.clone()).into_iter().map(Result::unwrap).collect();
    assert_eq!(streamed, items);
    let mut ready: Vec<_> =
        dfun.stream(items.clone()).as_completed().into_iter().map(|(index, result)| (index, result.unwrap())).collect();
    ready.sort_unstable();
    assert_eq!(ready, items.iter().copied().enumerate().collect::<Vec<_>>());
    let failed: Vec<_> =
        dfun.stream([0, 9, 1]).into_iter().map(|result| result.map_err(|failure| failure.attempt)).collect();
    assert_eq!(failed, [Ok(0), Err(4), Ok(1)]);
    assert_eq!(dfun.map(items.clone()).fold_tree(0, |a, b| a + b).wait().unwrap(), items.iter().sum::<u32>());
    assert_eq!(dfun.map(&items).wait().unwrap(), items, "lent");
}

#[test]
fn calls_in_the_calling_thread_try_again_too() {
    let sequential = distribute!(fails).retry(soon(2)).sequential(true).endaftercall(false).build().unwrap();
    assert_eq!(sequential.map([2, 0, 1]).wait().unwrap(), [2, 0, 1]);
    let error = sequential.map([3, 0, 1]).wait().unwrap_err();
    assert_eq!((error.failed()[0].attempt, error.finished()), (3, &vec![(1, 0), (2, 1)]));
    assert!(error.failed()[0].to_string().starts_with("item 0, after 3 attempts: panicked"), "{}", error.failed()[0]);
    let streamed: Vec<_> = sequential.stream([2, 3, 1]).into_iter().map(Result::ok).collect();
    assert_eq!(streamed, [Some(2), None, Some(1)]);
    let nested = |x: u32| {
        distribute!(fails).retry(soon(2)).build().unwrap().map([x, 0]).wait().map_err(|error| error.to_string())
    };
    let outer = distribute_local(nested).slots(2).build().unwrap();
    let results = outer.map([2, 3]).wait().unwrap();
    assert!(results[0] == Ok(vec![2, 0]) && results[1].is_err(), "{results:?}");
    let tries = |x: u32, context: &Context| if context.attempt() < x { Err(x.to_string()) } else { Ok(x) };
    let first = distribute_local(tries).clone_items().retry(soon(1)).sequential(true).build().unwrap();
    assert_eq!(first.try_map([0, 1, 5, 1, 6]).wait().unwrap_err().ending(), Ending::FirstFailure(2));
}

/// By value it would have gone with the thread.
#[test]
fn an_item_whose_thread_dies_is_there_for_another_try() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let kill = move |x: u32, context: &Context| {
        if x == 3 {
            counted.fetch_add(1, Ordering::SeqCst);
            match context.attempt() {
                0 => kill_this_thread(),
                1 => panic!("and then it fails"),
                _ => {}
            }
        }
        x
    };
    let dfun = distribute_local(kill).clone_items().retry(soon(1)).slots(2).build().unwrap();
    assert_eq!(within(move || dfun.map(0..10).wait().unwrap()), (0..10).collect::<Vec<u32>>());
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    // Deaths have a rule of their own, which retries do not lift.
    let dfun = distribute_local(|_: u32| -> u32 { kill_this_thread() }).clone_items().retry(soon(9)).slots(1);
    let error = within(move || dfun.build().unwrap().map([1]).wait().unwrap_err());
    assert!(matches!(error.failed()[0].cause, FailureCause::Poisoned { deaths: 3, .. }), "{error}");
    // The function has a clone of the list.
    let lists = |list: Vec<u32>, context: &Context| {
        if list.contains(&3) && context.attempt() == 0 && list.len() == 1 { kill_this_thread() } else { list }
    };
    let dfun = distribute_local(lists).accept_lists().clone_items().retry(soon(1)).slots(2).build().unwrap();
    assert_eq!(within(move || dfun.map(0..10).wait().unwrap()), (0..10).collect::<Vec<u32>>());
}
