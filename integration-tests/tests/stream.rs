//! Calls over iterators: results one by one, the input pulled as it is needed.

use std::{
    cell::Cell,
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use distfun::{
    CallId, Context, Distribute, Ending, FailureCause, ItemFailure, Manager, Status, distribute, distribute_local,
    distribute_local_ref, fault::kill_this_thread, function,
};
use futures::{StreamExt, executor::block_on};
use proptest::prelude::*;

use crate::support::{Gate, LIMIT, eventually, our_threads, within};

fn plus_one(x: u64) -> u64 {
    x + 1
}

/// Panics at multiples of seven.
fn no_sevens(x: u64) -> u64 {
    assert!(!x.is_multiple_of(7), "a seven");
    x * x
}

fn doubled(items: Vec<u64>) -> Vec<u64> {
    assert!(!items.is_empty());
    items.iter().map(|x| 2 * x).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_gives_what_the_loop_gives(
        items in 0u64..3000, slots in 1usize..5, window in 1usize..500, bytes in 0usize..5000, in_order: bool, quick: bool,
    ) {
        let function = move |x: u64| {
            if !quick && x.is_multiple_of(50) { thread::sleep(Duration::from_micros(x % 300)) }
            no_sevens(x)
        };
        let stream = distribute_local(function).slots(slots).build().unwrap().stream(0..items);
        let stream = stream.window(window).window_bytes(bytes);
        let mut seen = BTreeMap::new();
        if in_order {
            for (index, result) in stream.into_iter().enumerate() {
                seen.insert(index, result);
            }
        } else {
            for (index, result) in stream.as_completed() {
                prop_assert!(seen.insert(index, result).is_none(), "item {} came twice", index);
            }
        }
        prop_assert_eq!(seen.len() as u64, items);
        for (index, result) in seen {
            let x = index as u64;
            match result {
                Ok(y) => prop_assert_eq!((!x.is_multiple_of(7), y), (true, x * x)),
                Err(failure) => {
                    prop_assert_eq!((x % 7, failure.index), (0, index));
                    let panicked = matches!(failure.cause, FailureCause::Panicked { .. });
                    prop_assert!(panicked, "{}", failure);
                }
            }
        }
    }
}

#[test]
fn an_endless_iterator_is_pulled_no_further_than_the_window_ahead() {
    for window in [1, 2, 10, 1000] {
        // Neither `Send` nor `'static`: it stays with the consumer.
        let pulled = Rc::new(Cell::new(0));
        let counted = pulled.clone();
        let endless = (0u64..).inspect(|_| counted.set(counted.get() + 1));
        let dfun = distribute!(plus_one).slots(2).build().unwrap();
        let mut results = dfun.stream(endless).window(window).into_iter();
        for expected in 1..5000 {
            assert_eq!(results.next().unwrap().unwrap(), expected);
            let ahead = pulled.get() - expected;
            assert!(ahead <= window as u64, "{ahead} items ahead of a window of {window}");
        }
    }
}

#[test]
fn bytes_bound_the_window_too() {
    let pulled = Cell::new(0usize);
    let large = (0..200).map(|x| vec![x as u8; 1 << 20]).inspect(|_| pulled.set(pulled.get() + 1));
    let dfun = distribute!(|item: Vec<u8>| item[0]).slots(2).build().unwrap();
    let stream = dfun.stream(large).window_bytes(3 << 20).item_bytes(Vec::len);
    for (given, result) in stream.into_iter().enumerate() {
        assert_eq!(result.unwrap(), given as u8);
        let ahead = pulled.get() - given;
        assert!(ahead <= 4, "{ahead} MiB ahead, the one just given included");
    }
}

#[test]
fn a_slow_item_does_not_hold_back_those_that_are_done_unless_order_is_asked_for() {
    static GATE: Gate = Gate::new();
    let wait_at_zero = |x: u64| {
        if x == 0 {
            GATE.pass();
        }
        x
    };
    let dfun = distribute_local(wait_at_zero).slots(2).build().unwrap();
    let mut results = dfun.stream(0..100).window(10).as_completed().into_iter();
    // Nine items at most are in the chunk of the one that waits.
    for _ in 0..90 {
        let (index, result) = results.next().unwrap();
        assert_eq!(result.unwrap(), index as u64);
        assert_ne!(index, 0, "its item still waits");
    }
    GATE.open();
    let last: Vec<_> = results.map(|(index, _)| index).collect();
    assert!(last.len() == 10 && last.contains(&0), "{last:?}");
}

#[test]
fn results_come_while_the_input_is_still_being_made() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let dfun = distribute!(plus_one).slots(1).build().unwrap();
    sender.send(1).unwrap();
    let mut results = dfun.stream(receiver).window(1).into_iter();
    assert_eq!(results.next().unwrap().unwrap(), 2);
    sender.send(5).unwrap();
    assert_eq!(results.next().unwrap().unwrap(), 6);
    drop(sender);
    assert!(results.next().is_none());
    assert!(results.next().is_none(), "fused");
}

#[test]
fn a_stream_is_a_stream_in_async_code() {
    let manager = Manager::builder().slots(2).start().unwrap();
    let total = block_on(async {
        let mut stream = manager.stream(function!(no_sevens), 1..1000);
        let mut total = 0;
        let mut failed = 0;
        while let Some(result) = stream.next().await {
            match result {
                Ok(y) => total += y,
                Err(_) => failed += 1,
            }
        }
        assert_eq!(failed, 999 / 7);
        assert!(stream.next().await.is_none(), "fused");
        let ordered: Vec<_> = manager.stream(function!(plus_one), 0..100).map(Result::unwrap).collect().await;
        assert_eq!(ordered, (1..101).collect::<Vec<_>>());
        total
    });
    assert_eq!(total, (1..1000u64).filter(|x| x % 7 != 0).map(|x| x * x).sum::<u64>());
    assert_eq!(block_on(manager.send(Distribute::map(function!(plus_one), [1]))).unwrap().unwrap(), [2]);
}

#[test]
fn one_stream_is_one_call_with_one_id() {
    let manager = Manager::builder().slots(2).start().unwrap();
    let mut results = manager.stream(function!(plus_one), 0..).window(100).into_iter();
    let ids: std::collections::BTreeSet<CallId> = (0..1000)
        .flat_map(|_| {
            results.next().unwrap().unwrap();
            block_on(manager.send(Status)).unwrap().calls.into_iter().map(|call| call.id).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(ids.len(), 1);
}

#[test]
fn dropping_a_stream_cancels_it_and_frees_what_it_held() {
    let alive = Arc::new(());
    let items = {
        let alive = alive.clone();
        std::iter::repeat_with(move || alive.clone())
    };
    let dfun = distribute_local(|item: Arc<()>| item).slots(2).endaftercall(false).build().unwrap();
    let mut results = dfun.stream(items).window(50).into_iter();
    for _ in 0..200 {
        results.next().unwrap().unwrap();
    }
    drop(results);
    eventually(LIMIT, "items and results are dropped", || Arc::strong_count(&alive) == 1);
    assert_eq!(dfun.map([alive.clone()]).wait().unwrap().len(), 1, "the slots go on");
}

#[test]
fn endaftercall_ends_with_the_stream() {
    crate::support::alone(|| {
        let dfun = distribute!(plus_one).slots(2).build().unwrap();
        let mut results = dfun.stream(0..10).into_iter();
        assert_eq!(results.by_ref().map(Result::unwrap).sum::<u64>(), 55);
        assert_eq!(our_threads(), [""; 0], "everything is freed when the last result has been asked for");
        let second = dfun.stream(0..10).into_iter().collect::<Vec<_>>();
        assert_eq!(second.len(), 1);
        assert!(second[0].as_ref().unwrap_err().to_string().contains("endaftercall"), "{:?}", second[0]);
    });
}

#[test]
fn a_stream_that_is_ended_from_elsewhere_does_not_look_complete() {
    let dfun = distribute!(plus_one).slots(2).endaftercall(false).build().unwrap();
    let cancelled: Vec<_> = {
        let stream = dfun.stream(0..).window(20);
        let canceller = stream.canceller();
        let mut results = stream.into_iter();
        let mut all: Vec<_> = results.by_ref().take(100).collect();
        canceller.cancel();
        all.extend(results);
        all
    };
    check_cut(&cancelled, Ending::Cancelled);
    let mut results = dfun.stream(0..).window(20).into_iter();
    let mut all: Vec<_> = results.by_ref().take(100).collect();
    dfun.finished().unwrap();
    all.extend(results);
    check_cut(&all, Ending::Finished);
    let refused: Vec<_> = dfun.stream(0..).into_iter().collect();
    assert_eq!(refused.len(), 1);
}

fn not_run(failure: &ItemFailure) -> Option<Ending> {
    match failure.cause {
        FailureCause::NotRun(ending) => Some(ending),
        _ => None,
    }
}

fn deaths(failure: &ItemFailure) -> Option<u32> {
    match failure.cause {
        FailureCause::WorkerDied { exit: None } => Some(1),
        FailureCause::Poisoned { deaths, exit: None } => Some(deaths),
        _ => None,
    }
}

fn check_cut(all: &[Result<u64, ItemFailure>], ending: Ending) {
    assert!((101..=130).contains(&all.len()), "{}", all.len());
    for (index, result) in all.iter().enumerate() {
        match result {
            Ok(y) => assert_eq!(*y, index as u64 + 1),
            Err(failure) => assert_eq!((failure.index, not_run(failure)), (index, Some(ending))),
        }
    }
    assert!(all.last().unwrap().is_err());
}

#[test]
fn threads_that_die_cost_one_item_and_the_stream_goes_on() {
    let dies = |x: u64| if x == 37 { kill_this_thread() } else { x };
    let results = within(move || {
        let dfun = distribute_local(dies).slots(2).build().unwrap();
        dfun.stream(0..500).into_iter().collect::<Vec<_>>()
    });
    assert_eq!(results.len(), 500);
    let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].index, deaths(failed[0])), (37, Some(1)));
    // By reference the item is tried again, on a thread of its own, until it is poison.
    let dies = |x: &u64| if *x == 37 { kill_this_thread() } else { *x };
    let results = within(move || {
        let dfun = distribute_local_ref(dies).slots(3).build().unwrap();
        dfun.stream(0..200).as_completed().into_iter().collect::<Vec<_>>()
    });
    let failed: Vec<_> = results.iter().filter_map(|(_, result)| result.as_ref().err()).collect();
    assert_eq!((results.len(), failed.len()), (200, 1));
    assert_eq!(deaths(failed[0]), Some(3));
}

#[test]
fn sequential_and_nested_streams_run_where_they_are_asked() {
    let asked = thread::current().id();
    let here = move |x: u64| {
        assert_eq!(thread::current().id(), asked);
        no_sevens(x)
    };
    let dfun = distribute_local(here).sequential(true).build().unwrap();
    let results: Vec<_> = dfun.stream(0..).into_iter().take(20).collect();
    for (x, result) in results.into_iter().enumerate() {
        assert_eq!(result.ok(), (x % 7 != 0).then_some((x * x) as u64));
    }
    let outer = |n: u64| {
        let inner = distribute!(plus_one).build().unwrap();
        inner.stream(0..n).into_iter().map(Result::unwrap).sum::<u64>()
    };
    assert_eq!(distribute_local(outer).slots(2).build().unwrap().map([3, 4]).wait().unwrap(), [6, 10]);
}

#[test]
fn random_numbers_of_a_stream_are_those_of_the_list() {
    fn noisy(x: u64, context: &Context<'_>) -> (u64, usize) {
        use rand::RngExt;
        (x + context.rng().random_range(0..1_000_000), context.index())
    }
    let list = distribute!(noisy).slots(2).seed(3).build().unwrap().map(0..500).wait().unwrap();
    let dfun = distribute!(noisy).slots(3).seed(3).build().unwrap();
    let stream: Vec<_> = dfun.stream(0..500).window(7).into_iter().map(Result::unwrap).collect();
    assert_eq!(stream, list);
}

#[test]
fn functions_of_lists_take_streams() {
    let dfun = distribute!(doubled).accept_lists().slots(2).build().unwrap();
    let results: Vec<_> = dfun.stream(0..1000).window(64).into_iter().map(Result::unwrap).collect();
    assert_eq!(results, (0..1000).map(|x| 2 * x).collect::<Vec<_>>());
}

#[test]
fn a_panic_of_the_iterator_reaches_the_consumer_and_the_slots_go_on() {
    let dfun = distribute!(plus_one).slots(1).endaftercall(false).build().unwrap();
    let bad = (0..10).map(|x| if x == 5 { panic!("no more input") } else { x });
    let stream = dfun.stream(bad);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stream.into_iter().count()));
    assert_eq!(*panicked.unwrap_err().downcast_ref::<&str>().unwrap(), "no more input");
    assert_eq!(dfun.map([1]).wait().unwrap(), [2]);
}

#[test]
fn waiting_on_the_managers_thread_is_refused() {
    let manager = Manager::builder().slots(1).start().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let there = manager.clone();
    manager.arbiter().spawn(async move {
        let results: Vec<_> = there.stream(function!(sleepy), 0..10).into_iter().collect();
        sender.send(results).unwrap();
    });
    let results = receiver.recv_timeout(LIMIT).unwrap();
    let last = results.last().unwrap().as_ref().unwrap_err();
    assert_eq!(not_run(last), Some(Ending::WaitOnManager));
}

fn sleepy(x: u64) -> u64 {
    thread::sleep(Duration::from_millis(100));
    x
}

#[test]
fn a_stream_shares_the_slots_fairly() {
    let manager = Manager::builder().slots(1).start().unwrap();
    let mut endless = manager.stream(function!(sleepless), 0..).into_iter();
    endless.next().unwrap().unwrap();
    let start = Instant::now();
    let list = block_on(manager.send(Distribute::map(function!(sleepless), 0..20))).unwrap().unwrap();
    assert_eq!(list.len(), 20);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    endless.next().unwrap().unwrap();
}

fn sleepless(x: u64) -> u64 {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    CALLS.fetch_add(1, Ordering::Relaxed);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1) {}
    x
}

#[test]
fn who_catches_a_panic_of_the_iterator_loses_nothing_but_that_item() {
    for weighed in [false, true] {
        let seen = within(move || {
            let dfun = distribute!(plus_one).slots(1).build().unwrap();
            let bad = (0..10u64).map(|x| if x == 5 && !weighed { panic!("no item") } else { x });
            let stream = dfun.stream(bad).item_bytes(move |x| if *x == 5 && weighed { panic!("no size") } else { 8 });
            collect_through_panics(stream.into_iter())
        });
        let items = (0..10).filter(|x| weighed || *x != 5).map(|x| x + 1);
        assert_eq!(seen.into_iter().map(Result::unwrap).collect::<Vec<_>>(), items.collect::<Vec<_>>());
    }
}

#[test]
fn an_iterator_that_panics_while_it_is_dropped_ends_the_input_all_the_same() {
    struct Bad(std::ops::Range<u64>);
    impl Iterator for Bad {
        type Item = u64;
        fn next(&mut self) -> Option<u64> {
            self.0.next()
        }
    }
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    for sequential in [false, true] {
        let seen = within(move || {
            let dfun = distribute!(plus_one).slots(1).sequential(sequential).build().unwrap();
            collect_through_panics(dfun.stream(Bad(0..3)).into_iter())
        });
        assert_eq!(seen.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 3]);
    }
}

fn collect_through_panics<T>(mut results: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    loop {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| results.next())) {
            Ok(Some(result)) => seen.push(result),
            Ok(None) => return seen,
            Err(_) => {}
        }
    }
}

#[test]
fn a_thread_that_dies_in_a_sequential_stream_does_not_leave_the_consumer_waiting() {
    let seen = within(|| {
        let dies = |x: u64| if x == 3 { kill_this_thread() } else { x };
        let dfun = distribute_local(dies).sequential(true).build().unwrap();
        collect_through_panics(dfun.stream(0..6).into_iter())
    });
    assert!(seen.last().unwrap().is_err());
}

#[test]
fn sizes_that_add_up_to_more_than_a_number_holds_bound_the_window() {
    let count = within(|| {
        let stream = distribute!(plus_one).slots(2).build().unwrap().stream(0..100).window_bytes(usize::MAX);
        stream.item_bytes(|_| usize::MAX / 2 + 1).into_iter().map(Result::unwrap).count()
    });
    assert_eq!(count, 100);
}

#[test]
fn results_that_panic_while_they_are_dropped_with_their_stream_do_not_end_the_program() {
    crate::support::alone(|| {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }
        let dfun = distribute_local(|_: u64| Bad).slots(1).endaftercall(false).build().unwrap();
        let mut results = dfun.stream(0..1000).into_iter();
        for _ in 0..20 {
            // Several at once are taken from the slots when they have had the time to run.
            std::mem::forget(results.next());
            thread::sleep(Duration::from_millis(1));
        }
        drop(results);
        dfun.finished().unwrap();
    });
}

#[test]
fn an_item_may_call_the_manager_it_runs_on() {
    static MANAGER: std::sync::Mutex<Option<distfun::ManagerHandle>> = std::sync::Mutex::new(None);
    fn again() -> distfun::ManagerHandle {
        MANAGER.lock().unwrap().clone().unwrap()
    }
    let (streamed, called) = within(|| {
        let manager = Manager::builder().slots(1).start().unwrap();
        *MANAGER.lock().unwrap() = Some(manager.clone());
        let streamed = manager.call(Distribute::map(function!(outer_stream), [3, 4])).wait().unwrap();
        (streamed, manager.call(Distribute::map(function!(outer_call), [3, 4])).wait().unwrap())
    });
    MANAGER.lock().unwrap().take();
    assert_eq!((streamed, called), (vec![6, 10], vec![6, 10]));

    fn outer_stream(n: u64) -> u64 {
        again().stream(function!(plus_one), 0..n).into_iter().map(Result::unwrap).sum()
    }
    fn outer_call(n: u64) -> u64 {
        again().call(Distribute::map(function!(plus_one), 0..n)).wait().unwrap().into_iter().sum()
    }
}
