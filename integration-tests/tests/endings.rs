//! How a distributed function ends: the table of endings row by row, in every state, and against a model.

mod model;
mod texts;
#[cfg(target_os = "linux")]
mod threads;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{END_WITHIN, Gate, LIMIT, alone, eventually, within};
use distfun::{
    CallError, Context, DistributeBuilder, DistributedFunction, EndError, Ending, ListKernel, MachineOutcome,
    ThisMachine, distribute_local, distribute_local_columns,
};
use ndarray::{Array1, Array2, ArrayView2, Axis};

type Function = DistributedFunction<usize, usize>;
type End = fn(&Function) -> Result<(), EndError>;

/// The two ways to end a distributed function by hand.
const ENDS: [(Ending, End); 2] =
    [(Ending::Finished, |dfun| dfun.finished()), (Ending::ShutDown, |dfun| dfun.shutdown().map(drop))];

fn successor() -> DistributeBuilder<ListKernel<usize, usize>, ThisMachine> {
    distribute_local(|x: usize| x + 1).slots(2)
}

/// Item 0 returns, every other one waits at the gate.
fn gated(gate: &Arc<Gate>) -> DistributeBuilder<ListKernel<usize, usize>, ThisMachine> {
    let gate = gate.clone();
    let wait = move |x: usize| {
        if x > 0 {
            gate.pass();
        }
        x + 1
    };
    distribute_local(wait).slots(2).endaftercall(false)
}

fn ending<T: std::fmt::Debug + Send + 'static>(result: Result<Vec<T>, CallError<Vec<T>>>) -> Ending {
    result.expect_err("the call is refused or ended early").ending()
}

// ---- endaftercall

#[test]
fn after_the_one_call_of_a_default_function_later_calls_say_how_to_call_it_again() {
    let dfun = successor().build().unwrap();
    assert_eq!(dfun.map(0..3).wait().unwrap(), [1, 2, 3]);
    for _ in 0..2 {
        let error = dfun.map(0..3).wait().unwrap_err();
        assert_eq!((error.ending(), error.finished_count), (Ending::EndedAfterCall, 0));
        assert!(error.to_string().contains("build it with .endaftercall(false)"), "{error}");
        assert_eq!(ending(dfun.clone().map(0..0).wait()), Ending::EndedAfterCall);
        assert_eq!(ending(futures::executor::block_on(dfun.map(0..3))), Ending::EndedAfterCall);
    }
}

#[test]
fn a_second_call_made_while_the_first_runs_is_refused_and_does_not_disturb_it() {
    let gate = Arc::new(Gate::new());
    let dfun = gated(&gate).endaftercall(true).build().unwrap();
    let first = dfun.map(0..6);
    gate.await_arrivals(1);
    assert_eq!(ending(dfun.map(0..6).wait()), Ending::EndedAfterCall);
    assert_eq!(dfun.map([0]).settle()[0].as_ref().unwrap_err().attempt, 0);
    gate.open();
    assert_eq!(first.wait().unwrap(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn an_empty_first_call_is_the_one_call_too() {
    let dfun = successor().build().unwrap();
    assert_eq!(dfun.map(0..0).wait().unwrap(), [0; 0]);
    assert_eq!(ending(dfun.map(0..3).wait()), Ending::EndedAfterCall);
}

#[test]
fn a_first_call_that_fails_or_is_cancelled_is_the_one_call_too() {
    let dfun = distribute_local(|x: usize| assert_ne!(x, 1)).slots(2).build().unwrap();
    assert_eq!(ending(dfun.map(0..3).wait()), Ending::ItemsFailed);
    assert_eq!(ending(dfun.map(0..3).wait()), Ending::EndedAfterCall);

    let gate = Arc::new(Gate::new());
    let dfun = gated(&gate).endaftercall(true).build().unwrap();
    drop(dfun.map(1..9));
    gate.open();
    assert_eq!(ending(dfun.map(0..3).wait()), Ending::EndedAfterCall);
}

#[test]
fn a_function_with_endaftercall_off_answers_call_after_call() {
    let dfun = successor().endaftercall(false).build().unwrap();
    for round in 0..20 {
        assert_eq!(dfun.map([round, 7]).wait().unwrap(), [round + 1, 8]);
    }
}

// ---- finished and shutdown

#[test]
fn after_finished_or_shutdown_calls_say_so_and_what_to_do_whatever_the_state_before() {
    for (expected, end) in ENDS {
        for calls_before in 0..3 {
            let dfun = successor().endaftercall(false).build().unwrap();
            (0..calls_before).for_each(|_| assert_eq!(dfun.map([1]).wait().unwrap(), [2]));
            let other = dfun.clone();
            (0..3).for_each(|_| assert_eq!(end(&dfun), Ok(())));
            let error = other.map([1]).wait().unwrap_err();
            assert_eq!(error.ending(), expected);
            assert!(error.to_string().contains("build it again"), "{error}");
            assert_eq!(ending(dfun.map(0..0).wait()), expected);
        }
    }
}

#[test]
fn endings_follow_one_another_in_any_order_and_shutdown_is_never_taken_back() {
    for (first, end_first) in ENDS {
        for (second, end_second) in ENDS {
            for endaftercall in [true, false] {
                let dfun = successor().endaftercall(endaftercall).build().unwrap();
                dfun.map([1]).wait().unwrap();
                assert_eq!((end_first(&dfun), end_second(&dfun)), (Ok(()), Ok(())));
                let stronger = if first == Ending::ShutDown { first } else { second };
                assert_eq!(ending(dfun.map([1]).wait()), stronger);
            }
        }
    }
}

#[test]
fn shutdown_reports_one_outcome_per_machine_every_time() {
    let dfun = successor().build().unwrap();
    for _ in 0..2 {
        let report = dfun.shutdown().unwrap();
        let ends: Vec<_> = report.machines.iter().map(|end| (end.machine.as_str(), end.outcome.clone())).collect();
        assert_eq!(ends, [("local", MachineOutcome::Ended)]);
    }
}

#[test]
fn a_running_call_returns_at_once_with_what_it_finished() {
    for (expected, end) in ENDS {
        let gate = Arc::new(Gate::new());
        let dfun = gated(&gate).build().unwrap();
        let call = dfun.map(0..4);
        eventually(LIMIT, "item 0 is done", || call.progress().done == 1);
        gate.await_arrivals(1);
        // Only the waiter opens the gate: so it has returned while the other items were still held.
        let waiter = thread::spawn(move || {
            let error = call.wait().unwrap_err();
            gate.open();
            error
        });
        assert_eq!(end(&dfun), Ok(()));
        let error = within(move || waiter.join().unwrap());
        assert_eq!((error.ending(), error.finished()), (expected, &vec![(0, 1)]));
        assert!(error.to_string().contains("1 of 4 items have results"), "{error}");
    }
}

#[test]
fn several_running_calls_all_return_when_their_function_ends() {
    let gate = Arc::new(Gate::new());
    let dfun = gated(&gate).build().unwrap();
    let calls = [(); 5].map(|()| dfun.map(1..4));
    gate.await_arrivals(2);
    let ender = thread::spawn({
        let dfun = dfun.clone();
        move || dfun.finished()
    });
    let endings = within(move || calls.map(|call| ending(call.wait())));
    assert_eq!(endings, [Ending::Finished; 5]);
    gate.open();
    assert_eq!(within(move || ender.join().unwrap()), Ok(()));
}

#[test]
fn a_function_may_end_itself_from_inside_and_gets_an_answer_at_once() {
    for (expected, end) in ENDS {
        static SELF: Mutex<Option<Function>> = Mutex::new(None);
        let (answers, answer) = mpsc::channel();
        let answers = Mutex::new(answers);
        let inside = move |x: usize| {
            let dfun = SELF.lock().unwrap().take();
            if let Some(dfun) = dfun {
                answers.lock().unwrap().send((end(&dfun), end(&dfun))).unwrap();
                drop(dfun);
            }
            x
        };
        let dfun = distribute_local(inside).slots(2).endaftercall(false).build().unwrap();
        *SELF.lock().unwrap() = Some(dfun.clone());
        let call = dfun.map(0..100);
        assert_eq!(answer.recv_timeout(LIMIT).unwrap(), (Ok(()), Ok(())));
        assert_eq!(ending(within(move || call.wait())), expected);
        assert_eq!(ending(dfun.map([1]).wait()), expected);
        assert_eq!(within(move || end(&dfun)), Ok(()));
    }
}

#[test]
fn a_function_may_end_another_one_from_inside() {
    let other = successor().endaftercall(false).build().unwrap();
    other.map([1]).wait().unwrap();
    let inner = other.clone();
    let dfun = distribute_local(move |_: usize| inner.finished().is_ok()).slots(2).build().unwrap();
    assert_eq!(dfun.map(0..4).wait().unwrap(), [true; 4]);
    assert_eq!(ending(other.map([1]).wait()), Ending::Finished);
}

#[test]
fn a_nested_call_ends_its_function_too_if_that_ends_after_a_call() {
    let nested = successor().build().unwrap();
    let inner = nested.clone();
    let dfun = distribute_local(move |x: usize| inner.map([x]).wait().map_err(|error| error.ending()));
    let results = dfun.slots(1).build().unwrap().map([10, 20]).wait().unwrap();
    assert_eq!(results, [Ok(vec![11]), Err(Ending::EndedAfterCall)]);
    assert_eq!(ending(nested.map([1]).wait()), Ending::EndedAfterCall);
}

#[test]
fn async_code_may_end_functions_on_either_flavour_of_runtime() {
    let runtimes = [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()];
    for (mut runtime, (expected, end)) in runtimes.into_iter().zip(ENDS) {
        let runtime = runtime.worker_threads(1).build().unwrap();
        within(move || {
            runtime.block_on(async {
                let gate = Arc::new(Gate::new());
                let dfun = gated(&gate).build().unwrap();
                assert_eq!(dfun.map([0]).await.unwrap(), [1]);
                let call = dfun.map(1..4);
                gate.open();
                assert_eq!(end(&dfun), Ok(()));
                if let Err(error) = call.await {
                    assert_eq!(error.ending(), expected);
                }
                assert_eq!(ending(dfun.map([0]).await), expected);
            });
        });
    }
}

#[test]
fn column_functions_end_in_the_same_ways() {
    fn sums(x: ArrayView2<'_, f64>) -> Array1<f64> {
        x.sum_axis(Axis(0))
    }
    let x = Arc::new(Array2::<f64>::ones((2, 10)));
    let build = |endaftercall| distribute_local_columns(sums).slots(2).endaftercall(endaftercall).build().unwrap();
    let dfun = build(true);
    assert_eq!(dfun.columns(x.clone()).wait().unwrap(), Array1::from_elem(10, 2.0));
    assert_eq!(dfun.columns(x.clone()).wait().unwrap_err().ending(), Ending::EndedAfterCall);
    assert_eq!(dfun.columns(&*x).wait().unwrap_err().ending(), Ending::EndedAfterCall);
    let dfun = build(false);
    dfun.columns(x.clone()).wait().unwrap();
    assert_eq!((dfun.finished(), dfun.finished()), (Ok(()), Ok(())));
    let mut y = Array1::zeros(3);
    assert_eq!(dfun.columns_into(&*x, &mut y).wait().unwrap_err().ending(), Ending::Finished);
    assert_eq!(y.len(), 0);
    dfun.shutdown().unwrap();
    assert_eq!(dfun.columns(x).wait().unwrap_err().ending(), Ending::ShutDown);
}

#[test]
fn a_borrowed_call_on_an_ended_function_leaves_its_buffer_empty() {
    let dfun = successor().endaftercall(false).build().unwrap();
    let mut results = vec![9; 3];
    dfun.map_into(&[1, 2], &mut results).wait().unwrap();
    assert_eq!(results, [2, 3]);
    dfun.finished().unwrap();
    assert_eq!(dfun.map_into(&[1, 2], &mut results).wait().unwrap_err().ending(), Ending::Finished);
    assert_eq!(results, [0; 0]);
    let error = dfun.map(&[1, 2][..]).wait().unwrap_err();
    assert_eq!(error.ending(), Ending::Finished);
}

#[test]
fn two_threads_may_end_one_function_at_the_same_time() {
    for _ in 0..20 {
        let dfun = successor().endaftercall(false).build().unwrap();
        dfun.map([1]).wait().unwrap();
        let others = ENDS.map(|(_, end)| {
            let dfun = dfun.clone();
            thread::spawn(move || end(&dfun))
        });
        assert_eq!(within(|| others.map(|other| other.join().unwrap())), [Ok(()), Ok(())]);
        assert_eq!(ending(dfun.map([1]).wait()), Ending::ShutDown);
    }
}

#[test]
fn a_second_ending_waits_for_the_threads_as_the_first_does() {
    // It returned at once, as if all were over, while the threads that the first one waited for still ran.
    let gate = Arc::new(Gate::new());
    let dfun = gated(&gate).build().unwrap();
    let call = dfun.map([1]);
    gate.await_arrivals(1);
    let enders = ENDS.map(|(_, end)| {
        let dfun = dfun.clone();
        thread::spawn(move || end(&dfun))
    });
    thread::sleep(Duration::from_millis(100));
    assert!(enders.iter().all(|ender| !ender.is_finished()), "an item is still held");
    gate.open();
    assert_eq!(within(|| enders.map(|ender| ender.join().unwrap())), [Ok(()), Ok(())]);
    assert!(call.wait().is_err());
}

#[test]
fn a_call_that_races_with_an_ending_has_all_results_or_says_how_it_ended() {
    for round in 0..40 {
        let dfun = successor().endaftercall(false).build().unwrap();
        let ender = thread::spawn({
            let dfun = dfun.clone();
            move || dfun.finished()
        });
        if round % 2 == 0 {
            thread::yield_now();
        }
        let call = dfun.map(0..1000);
        match within(move || call.wait()) {
            Ok(results) => assert_eq!(results.len(), 1000),
            Err(error) => assert_eq!(error.ending(), Ending::Finished),
        }
        assert_eq!(within(move || ender.join().unwrap()), Ok(()));
    }
}

// ---- items that do not return

#[test]
fn finished_gives_up_on_a_stuck_item_after_two_seconds_and_names_its_worker() {
    let gate = Arc::new(Gate::new());
    let dfun = gated(&gate).build().unwrap();
    let call = dfun.map([1]);
    gate.await_arrivals(1);
    let start = Instant::now();
    let error = dfun.finished().unwrap_err();
    let took = start.elapsed();
    assert!(took > Duration::from_millis(1500) && took < END_WITHIN, "{took:?}");
    let EndError::StillRunning { workers } = &error else { panic!("{error}") };
    assert_eq!(workers.len(), 1, "the other worker has ended: {error}");
    assert!(error.to_string().contains("still inside an item"), "{error}");
    assert_eq!(ending(call.wait()), Ending::Finished);
    assert_eq!(ending(dfun.map([0]).wait()), Ending::Finished);
    // The second ending does not wait again.
    let start = Instant::now();
    let _ = dfun.shutdown();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(ending(dfun.map([0]).wait()), Ending::ShutDown);
    gate.open();
}

#[test]
fn a_call_that_runs_out_of_time_returns_in_time_even_if_its_function_ends_with_it() {
    // The one call of an `endaftercall` function used to wait two more seconds for the stuck thread.
    let gate = Arc::new(Gate::new());
    let dfun = gated(&gate).endaftercall(true).build().unwrap();
    let call = dfun.map(0..2);
    eventually(LIMIT, "item 0 is done", || call.progress().done == 1);
    let start = Instant::now();
    let error = call.wait_timeout(Duration::from_millis(50)).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!((error.ending(), error.finished()), (Ending::TimedOut, &vec![(0, 1)]));
    gate.open();
}

#[test]
fn an_item_that_asks_whether_it_is_cancelled_does_not_hold_up_an_ending() {
    let entered = Arc::new(Gate::new());
    let inside = entered.clone();
    entered.open();
    let patient = move |_: usize, context: &Context<'_>| {
        inside.pass();
        eventually(LIMIT, "the call ends", || context.is_cancelled());
    };
    let dfun = distribute_local(patient).slots(2).endaftercall(false).build().unwrap();
    let call = dfun.map(0..9);
    entered.await_arrivals(1);
    assert_eq!(dfun.finished(), Ok(()));
    assert_eq!(ending(call.wait()), Ending::Finished);
}

#[test]
fn results_of_items_that_noticed_the_end_of_their_call_are_not_among_the_finished_ones() {
    // What an item returned because it was told to stop could be taken for a result, if it was quick enough.
    let entered = Arc::new(Gate::new());
    entered.open();
    let inside = entered.clone();
    let returned = Arc::new(AtomicUsize::new(0));
    let counted = returned.clone();
    let stops_early = move |context: &Context<'_>| {
        inside.pass();
        eventually(LIMIT, "the call ends", || context.is_cancelled());
        counted.fetch_add(1, Ordering::SeqCst);
    };
    // Their results are on their way when the functions return, and then at once where they belong.
    let have_returned = |count: usize| {
        eventually(LIMIT, "the functions return", || returned.load(Ordering::SeqCst) == count);
        thread::sleep(Duration::from_millis(5));
    };
    let of_columns = stops_early.clone();
    let list = distribute_local(move |x: usize, context: &Context<'_>| {
        stops_early(context);
        x
    });
    let list = list.slots(2).endaftercall(false).build().unwrap();
    let columns = distribute_local_columns(move |x: ArrayView2<'_, f64>, context: &Context<'_>| -> Array1<f64> {
        of_columns(context);
        x.sum_axis(Axis(0))
    });
    let columns = columns.slots(2).endaftercall(false).build().unwrap();
    for round in 0..5 {
        let call = list.map(0..2);
        entered.await_arrivals(4 * round + 2);
        call.canceller().cancel();
        have_returned(4 * round + 2);
        let error = call.wait().unwrap_err();
        assert_eq!((error.ending(), error.finished()), (Ending::Cancelled, &vec![]));

        let call = columns.columns(Array2::zeros((1, 2)));
        entered.await_arrivals(4 * round + 4);
        call.canceller().cancel();
        have_returned(4 * round + 4);
        let error = call.wait().unwrap_err();
        assert_eq!((error.ending(), error.finished_count), (Ending::Cancelled, 0));
    }
}

#[test]
fn a_call_that_is_cancelled_while_its_chunks_are_given_out_kills_no_thread() {
    // A compute thread that was given a chunk after the caller had left with the results found no place for its own,
    // and died of that.
    alone(|| {
        static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
        std::panic::set_hook(Box::new(|info| PANICS.lock().unwrap().push(info.to_string())));
        let dfun = successor().endaftercall(false).build().unwrap();
        let columns = distribute_local_columns(|x: ArrayView2<'_, f64>| -> Array1<f64> { x.sum_axis(Axis(0)) });
        let columns = columns.slots(2).endaftercall(false).build().unwrap();
        for _ in 0..400 {
            let call = dfun.map(0..4);
            call.canceller().cancel();
            let _ = call.wait();
            let _ = dfun.map(0..4).wait_timeout(Duration::ZERO);
            let call = columns.columns(Array2::zeros((1, 4)));
            call.canceller().cancel();
            let _ = call.wait();
        }
        assert_eq!(dfun.map([1]).wait().unwrap(), [2]);
        let panics = std::mem::take(&mut *PANICS.lock().unwrap());
        assert_eq!(panics, [""; 0]);
    });
}

// ---- drop

#[test]
fn drop_returns_at_once_in_async_code_even_while_an_item_is_stuck() {
    let gate = Arc::new(Gate::new());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let took = runtime.block_on(async {
        let dfun = gated(&gate).build().unwrap();
        let call = dfun.map([1]);
        gate.await_arrivals(1);
        let start = Instant::now();
        drop(call);
        drop(dfun);
        start.elapsed()
    });
    assert!(took < Duration::from_millis(500), "{took:?}");
    gate.open();
}

#[test]
fn drop_while_panicking_lets_the_panic_through_and_nothing_else() {
    let gate = Arc::new(Gate::new());
    let held = gate.clone();
    let thrown = within(move || {
        catch_unwind(AssertUnwindSafe(|| {
            let dfun = gated(&held).build().unwrap();
            let _call = dfun.map([1, 2, 3]);
            held.await_arrivals(2);
            let _ended = successor().build().unwrap().map(0..9);
            panic!("mine");
        }))
    });
    assert_eq!(thrown.unwrap_err().downcast_ref(), Some(&"mine"));
    gate.open();
}

#[test]
fn the_last_handle_may_be_dropped_inside_its_own_function() {
    static SELF: Mutex<Option<Function>> = Mutex::new(None);
    let (sent, dropped) = mpsc::channel();
    let sent = Mutex::new(sent);
    let inside = move |x: usize| {
        if let Some(dfun) = SELF.lock().unwrap().take() {
            drop(dfun);
            let _ = sent.lock().unwrap().send(());
        }
        x
    };
    let dfun = distribute_local(inside).slots(1).endaftercall(false).build().unwrap();
    *SELF.lock().unwrap() = Some(dfun.clone());
    let call = dfun.map([1, 2, 3]);
    drop(dfun);
    dropped.recv_timeout(LIMIT).unwrap();
    assert_eq!(within(move || call.wait()).unwrap(), [1, 2, 3]);
}
