//! Threads that die or hang, and what becomes of their items.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use distfun::{
    Activity, Context, Distribute, Ending, FailureCause, ItemFailure, Manager, Status, distribute_local,
    distribute_local_columns, distribute_local_ref, fault::kill_this_thread, function,
};
use futures::executor::block_on;
use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::support::{Gate, LIMIT, eventually, within};

/// How often the thread died at this item, if that is why it failed.
fn deaths(failure: &ItemFailure) -> Option<u32> {
    match failure.cause {
        FailureCause::WorkerDied { exit: None } => Some(1),
        FailureCause::Poisoned { deaths, exit: None } => Some(deaths),
        _ => None,
    }
}

fn failures(failed: &[ItemFailure]) -> Vec<(usize, Option<u32>)> {
    failed.iter().map(|failure| (failure.index, deaths(failure))).collect()
}

#[test]
fn an_item_by_value_that_kills_its_thread_fails_alone_and_all_others_have_results() {
    for (slots, items) in [(1, 3), (1, 100), (2, 1000), (3, 4)] {
        for bad in [0, 2, items - 1] {
            let runs = Arc::new(AtomicUsize::new(0));
            let counted = runs.clone();
            let kill = move |x: usize| {
                counted.fetch_add(1, Ordering::SeqCst);
                if x == bad { kill_this_thread() } else { x + 1 }
            };
            let dfun = distribute_local(kill).slots(slots).endaftercall(false).build().unwrap();
            let error = within({
                let call = dfun.map(0..items);
                move || call.wait().unwrap_err()
            });
            assert_eq!((error.ending(), failures(error.failed())), (Ending::ItemsFailed, vec![(bad, Some(1))]));
            assert_eq!((error.failed()[0].attempt, error.failed()[0].worker.is_some()), (1, true));
            let expected: Vec<_> = (0..items).filter(|&x| x != bad).map(|x| (x, x + 1)).collect();
            assert_eq!(error.finished(), &expected);
            assert_eq!(runs.load(Ordering::SeqCst), items, "every item ran exactly once");
            assert!(error.to_string().contains("compute thread died while running it"), "{error}");
            assert_eq!(dfun.map([items]).wait().unwrap(), [items + 1], "the slot works again");
        }
    }
}

#[test]
fn a_replaced_thread_has_the_next_generation_of_the_same_slot() {
    fn kill(x: u32) -> u32 {
        if x == 1 { kill_this_thread() } else { x }
    }
    let manager = Manager::builder().slots(1).start().unwrap();
    let generation = || block_on(manager.send(Status)).unwrap().slots[0].generation.0;
    assert_eq!(generation(), 0);
    let error = block_on(manager.send(Distribute::map(function!(kill), [0, 1, 2]))).unwrap().unwrap_err();
    assert_eq!((failures(error.failed()), error.finished()), (vec![(1, Some(1))], &vec![(0, 0), (2, 2)]));
    assert_eq!(generation(), 1);
    assert_eq!(block_on(manager.send(Distribute::map(function!(kill), [0, 2]))).unwrap().unwrap(), [0, 2]);
    assert_eq!(generation(), 1);
}

#[test]
fn an_item_by_reference_is_tried_three_times() {
    for (slots, items) in [(1, 50), (2, 50), (2, 1)] {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = tries.clone();
        let bad = items / 2;
        let kill = move |x: &usize| {
            if *x == bad {
                counted.fetch_add(1, Ordering::SeqCst);
                kill_this_thread()
            }
            x + 1
        };
        let dfun = distribute_local_ref(kill).slots(slots).endaftercall(false).build().unwrap();
        let error = within(move || dfun.map((0..items).collect::<Vec<_>>()).wait().unwrap_err());
        assert_eq!((error.ending(), failures(error.failed())), (Ending::ItemsFailed, vec![(bad, Some(3))]));
        assert_eq!((error.failed()[0].attempt, tries.load(Ordering::SeqCst)), (3, 3));
        assert_eq!(error.finished().len(), items - 1);
    }
}

#[test]
fn an_item_by_reference_that_kills_once_or_twice_succeeds_in_the_end() {
    for kills in [1, 2] {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = tries.clone();
        let kill = move |x: &usize| {
            if *x == 7 && counted.fetch_add(1, Ordering::SeqCst) < kills {
                kill_this_thread()
            }
            x + 1
        };
        let dfun = distribute_local_ref(kill).slots(2).endaftercall(false).build().unwrap();
        let items: Vec<usize> = (0..30).collect();
        let results = within(move || dfun.map(items).wait().unwrap());
        assert_eq!(results, (1..31).collect::<Vec<_>>());
        assert_eq!(tries.load(Ordering::SeqCst), kills + 1);
    }
}

#[test]
fn borrowed_items_are_kept_whatever_the_function_takes_so_they_are_tried_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let kill = move |x: usize| {
        if x == 3 && counted.fetch_add(1, Ordering::SeqCst) == 0 {
            kill_this_thread()
        }
        x + 1
    };
    let results = within(move || {
        let dfun = distribute_local(kill).slots(2).build().unwrap();
        dfun.map(&[1, 2, 3, 4]).wait().unwrap()
    });
    assert_eq!(results, [2, 3, 4, 5]);
}

#[test]
fn under_try_map_a_killing_item_is_a_failure_like_any_other() {
    fn kill(x: usize) -> Result<usize, String> {
        if x == 5 { kill_this_thread() } else { Ok(x) }
    }
    let error = within(|| distribute_local(kill).slots(1).build().unwrap().try_map(0..50).wait().unwrap_err());
    assert_eq!((error.ending(), failures(error.failed())), (Ending::FirstFailure(5), vec![(5, Some(1))]));
}

#[test]
fn under_try_map_an_err_before_a_death_is_still_the_first_failure() {
    // An `Err` beside the death was forgotten: the call ended at the later item, or, if that was tried again and went
    // well, as complete with a result less.
    for at in 3..40 {
        let tries = Arc::new(AtomicUsize::new(0));
        let bad = move |x: &usize| {
            if *x == at + 1 && tries.fetch_add(1, Ordering::SeqCst) == 0 {
                kill_this_thread()
            }
            if *x == at { Err("as asked") } else { Ok(*x) }
        };
        let dfun = distribute_local_ref(bad.clone()).slots(1).build().unwrap();
        let error = within(move || dfun.try_map((0..50).collect::<Vec<_>>()).wait().unwrap_err());
        assert_eq!((error.ending(), error.failed().len()), (Ending::FirstFailure(at), 1));
        let dfun = distribute_local(move |x: usize| bad(&x)).slots(1).build().unwrap();
        let error = within(move || dfun.try_map(0..50).wait().unwrap_err());
        assert_eq!((error.ending(), error.failed().len()), (Ending::FirstFailure(at), 1));
    }
}

#[test]
fn a_list_function_that_dies_loses_its_block_and_no_other() {
    let kill = |list: Vec<usize>| {
        if list.contains(&40) {
            kill_this_thread()
        }
        list
    };
    let dfun = distribute_local(kill).accept_lists().slots(2).endaftercall(false).build().unwrap();
    let error = within(move || dfun.map(0..100).wait().unwrap_err());
    let failed: Vec<usize> = error.failed().iter().map(|failure| failure.index).collect();
    assert!(failed.contains(&40) && failed.len() < 100, "{failed:?}");
    assert!(error.failed().iter().all(|failure| deaths(failure).is_some()));
    let finished: Vec<usize> = error.finished().iter().map(|(index, _)| *index).collect();
    assert_eq!(finished, (0..100).filter(|index| !failed.contains(index)).collect::<Vec<_>>());
}

#[test]
fn a_column_that_kills_fails_after_three_deaths_and_all_others_have_results() {
    for (slots, bad) in [(1, 0), (2, 5), (2, 23)] {
        let sums = move |x: ArrayView2<'_, f64>| -> Array1<f64> {
            if x.row(0).iter().any(|&first| first == bad as f64) {
                kill_this_thread()
            }
            x.sum_axis(Axis(0))
        };
        let x = Array2::from_shape_fn((2, 24), |(i, j)| (j * (i + 1)) as f64);
        let dfun = distribute_local_columns(sums).slots(slots).endaftercall(false).build().unwrap();
        let settled = within(move || dfun.columns(x).settle());
        for (column, result) in settled.into_iter().enumerate() {
            match result {
                Ok(sum) => assert_eq!((sum, column == bad), (3.0 * column as f64, false)),
                Err(failure) => assert_eq!((column, deaths(&failure)), (bad, Some(3)), "{failure}"),
            }
        }
    }
}

#[test]
fn a_block_of_columns_that_kills_once_is_redone() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let sums = move |x: ArrayView2<'_, f64>| -> Array1<f64> {
        if counted.fetch_add(1, Ordering::SeqCst) == 0 {
            kill_this_thread()
        }
        x.sum_axis(Axis(0))
    };
    let x = Array2::from_shape_fn((3, 24), |(i, j)| (i * j) as f64);
    let expected = x.sum_axis(Axis(0));
    let owned = distribute_local_columns(sums.clone()).slots(2).build().unwrap();
    let y = within({
        let x = x.clone();
        move || owned.columns(x).wait().unwrap()
    });
    assert_eq!(y, expected);
    tries.store(0, Ordering::SeqCst);
    let borrowed = distribute_local_columns(sums).slots(2).build().unwrap();
    assert_eq!(within(move || borrowed.columns(&x).wait().unwrap()), expected);
}

#[test]
fn many_killing_items_cost_no_slot_while_others_finish_in_between() {
    // Items that finished before the death, in the same chunk, did not count; so slots were given up on the way.
    let kill = |x: usize| if x % 6 == 5 { kill_this_thread() } else { x };
    let dfun = distribute_local(kill).slots(1).endaftercall(false).build().unwrap();
    let error = within(move || dfun.map(0..60).wait().unwrap_err());
    assert_eq!(error.ending(), Ending::ItemsFailed);
    let failed: Vec<usize> = error.failed().iter().map(|failure| failure.index).collect();
    assert_eq!(failed, (0..60).filter(|x| x % 6 == 5).collect::<Vec<_>>());
    assert_eq!(error.finished().len(), 50);
}

#[test]
fn when_every_slot_dies_for_ever_the_call_ends_with_no_workers_and_later_calls_say_so() {
    for slots in [1, 2] {
        let dfun =
            distribute_local(|_: usize| -> usize { kill_this_thread() }).slots(slots).endaftercall(false).build();
        let dfun = dfun.unwrap();
        let caller = dfun.clone();
        let error = within(move || caller.map(0..100).wait().unwrap_err());
        assert_eq!((error.ending(), error.finished().len()), (Ending::NoWorkers, 0));
        assert_eq!(error.failed().len(), 5 * slots, "each slot dies five times");
        let error = dfun.map([1]).wait().unwrap_err();
        assert_eq!(error.ending(), Ending::NoWorkers);
        assert!(error.to_string().contains("build anew"), "{error}");
        assert_eq!(dfun.finished(), Ok(()));
        assert_eq!(dfun.map([1]).wait().unwrap_err().ending(), Ending::Finished);
    }
}

#[test]
fn a_default_function_whose_slots_all_die_ends_and_frees_them() {
    let dfun = distribute_local(|_: usize| -> usize { kill_this_thread() }).slots(1).build().unwrap();
    let caller = dfun.clone();
    let settled = within(move || caller.map(0..20).settle());
    let died = settled.iter().filter(|result| deaths(result.as_ref().unwrap_err()) == Some(1)).count();
    assert_eq!(died, 5);
    let cause = &settled[19].as_ref().unwrap_err().cause;
    assert!(matches!(cause, FailureCause::NotRun(Ending::NoWorkers)), "{cause}");
    assert_eq!(dfun.map([1]).wait().unwrap_err().ending(), Ending::EndedAfterCall);
}

#[test]
fn a_manager_reports_slots_that_gave_up() {
    fn kill(_: u32) -> u32 {
        kill_this_thread()
    }
    let manager = Manager::builder().slots(1).start().unwrap();
    let error = block_on(manager.send(Distribute::map(function!(kill), 0..9))).unwrap().unwrap_err();
    assert_eq!(error.ending(), Ending::NoWorkers);
    let status = block_on(manager.send(Status)).unwrap();
    assert_eq!((&status.slots[0].activity, status.calls.len()), (&Activity::GaveUp, 0));
    assert_eq!(block_on(manager.send(distfun::Finished)).unwrap(), Ok(()));
}

#[test]
fn two_calls_at_once_only_suffer_their_own_deaths() {
    fn kill(x: usize) -> usize {
        if x == 10 { kill_this_thread() } else { x }
    }
    let dfun = distribute_local(kill).slots(2).endaftercall(false).build().unwrap();
    for _ in 0..20 {
        let (bad, good) = (dfun.map(0..20), dfun.map(100..200));
        let (bad, good) = within(move || (bad.wait(), good.wait()));
        assert_eq!(failures(bad.unwrap_err().failed()), [(10, Some(1))]);
        assert_eq!(good.unwrap(), (100..200).collect::<Vec<_>>());
    }
}

#[test]
fn random_numbers_repeat_although_threads_die() {
    fn noise(x: &usize, context: &Context<'_>) -> u64 {
        static DEATHS: AtomicUsize = AtomicUsize::new(0);
        if *x == 4 && context.worker().is_some() && DEATHS.fetch_add(1, Ordering::SeqCst) < 2 {
            kill_this_thread()
        }
        rand::Rng::next_u64(&mut context.rng())
    }
    let items: Vec<usize> = (0..40).collect();
    let run = |sequential| {
        let dfun = distribute_local_ref(noise).slots(2).seed(7).sequential(sequential).build().unwrap();
        let items = items.clone();
        within(move || dfun.map(items).wait().unwrap())
    };
    assert_eq!(run(false), run(true));
}

// ---- threads that hang

#[test]
fn wait_timeout_returns_in_time_and_the_hung_thread_is_replaced_for_the_next_call() {
    let gate = Arc::new(Gate::new());
    let held = gate.clone();
    let hang = move |x: usize| {
        if x == 1 {
            held.pass();
        }
        x + 1
    };
    let dfun = distribute_local(hang).slots(1).endaftercall(false).build().unwrap();
    // The first chunk of three items on one slot is two of them; so give it one to finish.
    assert_eq!(dfun.map([0]).wait().unwrap(), [1]);
    let call = dfun.map([1, 5, 6]);
    gate.await_arrivals(1);
    let start = Instant::now();
    let error = call.wait_timeout(Duration::from_millis(30)).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!((error.ending(), error.items, error.finished().len()), (Ending::TimedOut, 3, 0));
    let next = dfun.clone();
    assert_eq!(within(move || next.map([7, 8]).wait().unwrap()), [8, 9], "while the thread still hangs");
    gate.open();
    // The abandoned thread comes back, finds itself replaced, and does no harm.
    for round in 0..50 {
        assert_eq!(dfun.map([7, round]).wait().unwrap(), [8, round + 1]);
    }
    assert_eq!(dfun.finished(), Ok(()));
}

#[test]
fn a_call_that_ran_out_of_time_has_the_results_that_were_there() {
    let gate = Arc::new(Gate::new());
    let held = gate.clone();
    let hang = move |x: usize| {
        if x == 3 {
            held.pass();
        }
        x + 1
    };
    let dfun = distribute_local(hang).slots(2).endaftercall(false).build().unwrap();
    // One chunk per item, so that only item 3 is held back.
    let call = dfun.map([0, 1, 3]);
    eventually(LIMIT, "two items are done", || call.progress().done == 2);
    gate.await_arrivals(1);
    let error = call.wait_timeout(Duration::from_millis(1)).unwrap_err();
    assert_eq!((error.ending(), error.finished()), (Ending::TimedOut, &vec![(0, 1), (1, 2)]));
    gate.open();
}

#[test]
fn an_abandoned_thread_is_replaced_about_a_tenth_of_a_second_later() {
    static GATE: Gate = Gate::new();
    let dfun = distribute_local(|x: usize| {
        if x == 0 {
            GATE.pass()
        }
    })
    .slots(1)
    .endaftercall(false)
    .build()
    .unwrap();
    let call = dfun.map([0]);
    GATE.await_arrivals(1);
    assert_eq!(call.wait_timeout(Duration::ZERO).unwrap_err().ending(), Ending::TimedOut);
    let quick = dfun.map([1]);
    assert!(!quick.progress().is_ended, "the only slot is still taken");
    within(move || quick.wait().unwrap());
    GATE.open();
}

#[test]
fn an_item_that_notices_in_time_keeps_its_thread() {
    fn patient(x: u32, context: &Context<'_>) -> u32 {
        eventually(LIMIT, "the call ends", || x == 0 || context.is_cancelled());
        x
    }
    let dfun = distribute_local(patient).slots(1).endaftercall(false).build().unwrap();
    for _ in 0..5 {
        assert_eq!(dfun.map([1]).wait_timeout(Duration::from_millis(2)).unwrap_err().ending(), Ending::TimedOut);
    }
    assert_eq!(dfun.map([0]).wait().unwrap(), [0]);
    assert_eq!(dfun.finished(), Ok(()));
}

#[test]
fn a_limit_that_is_not_reached_changes_nothing() {
    let dfun = distribute_local(|x: u32| x + 1).slots(2).endaftercall(false).build().unwrap();
    assert_eq!(dfun.map([1, 2]).wait_timeout(LIMIT).unwrap(), [2, 3]);
    assert_eq!(dfun.map([1, 2]).wait_timeout(Duration::MAX).unwrap(), [2, 3]);
}
