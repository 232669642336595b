//! Input, functions and settings that are wrong in every way a user may get them wrong.

use std::{
    collections::HashSet,
    ffi::OsStr,
    panic::{self, AssertUnwindSafe, panic_any},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use distfun::{
    BuildError, Ending, FailureCause, Manager, SettingsError, StartError, distribute_local, distribute_local_columns,
};
use ndarray::{Array1, Array2, ArrayView2, Axis, ShapeBuilder, s};

use crate::support::{Gate, LIMIT, alone, alone_with, eventually, within};

// ---- results of the wrong shape

#[test]
fn a_list_function_that_returns_another_number_of_results_fails_its_block_with_both_lengths() {
    for (extra, drop_last) in [(1, false), (0, true)] {
        let wrong = move |mut list: Vec<u32>| {
            if drop_last {
                list.pop();
            }
            list.extend(vec![0; extra]);
            list
        };
        let dfun = distribute_local(wrong).accept_lists().slots(2).build().unwrap();
        let error = dfun.map(0..100).wait().unwrap_err();
        assert_eq!((error.ending(), error.failed().len(), error.finished_count), (Ending::ItemsFailed, 100, 0));
        for (index, failure) in error.failed().iter().enumerate() {
            let FailureCause::WrongLength { block, got } = &failure.cause else { panic!("{failure}") };
            assert_eq!(failure.index, index);
            assert!(block.contains(&index), "{failure}");
            assert_eq!(*got, if drop_last { block.len() - 1 } else { block.len() + extra });
            let text = failure.to_string();
            let (given, returned) = (format!("the {} items {}..{}", block.len(), block.start, block.end), got);
            assert!(text.contains(&given) && text.contains(&format!("returned {returned} results")), "{text}");
        }
    }
}

#[test]
fn a_list_function_that_is_wrong_for_one_block_leaves_the_results_of_the_others() {
    let wrong = |list: Vec<usize>| if list.contains(&70) { Vec::new() } else { list };
    let dfun = distribute_local(wrong).accept_lists().slots(2).endaftercall(false).build().unwrap();
    let error = dfun.map(0..100).wait().unwrap_err();
    let failed: Vec<usize> = error.failed().iter().map(|failure| failure.index).collect();
    assert!(failed.contains(&70) && failed.len() < 100, "{failed:?}");
    assert_eq!(error.finished().len() + failed.len(), 100);
    assert!(error.finished().iter().all(|(index, value)| index == value && !failed.contains(index)));
    assert_eq!(dfun.map(0..3).wait().unwrap(), [0, 1, 2]);
}

#[test]
fn a_column_function_that_returns_another_number_of_columns_fails_its_block_with_both_lengths() {
    fn wrong(x: ArrayView2<'_, f64>) -> Array1<f64> {
        Array1::zeros(x.ncols() + 2)
    }
    let x = Array2::<f64>::zeros((2, 30));
    let error = distribute_local_columns(wrong).slots(2).build().unwrap().columns(&x).wait().unwrap_err();
    assert_eq!((error.ending(), error.failed().len()), (Ending::ItemsFailed, 30));
    let failure = &error.failed()[29];
    let FailureCause::WrongLength { block, got } = &failure.cause else { panic!("{failure}") };
    assert_eq!((block.end, *got), (30, block.len() + 2));
    assert!(failure.to_string().contains(&format!("items {}..30 and returned {got} results", block.start)));
}

#[test]
fn a_column_function_that_returns_columns_for_none_is_refused_too() {
    fn wrong(_: ArrayView2<'_, f64>) -> Array2<f64> {
        Array2::zeros((2, 5))
    }
    let x = Array2::<f64>::zeros((2, 0));
    let error = distribute_local_columns(wrong).build().unwrap().columns(x).wait().unwrap_err();
    let FailureCause::WrongLength { block, got } = &error.failed()[0].cause else { panic!("{error}") };
    assert_eq!((error.ending(), block.clone(), *got), (Ending::ItemsFailed, 0..0, 5));
}

#[test]
fn a_column_function_whose_number_of_rows_depends_on_the_block_is_told_both_numbers() {
    // The row of column j is j, so that the last block has one row more than the others.
    let wrong = |x: ArrayView2<'_, f64>| -> Array2<f64> {
        let rows = if x.row(0).iter().any(|&j| j == 29.0) { 4 } else { 3 };
        Array2::from_shape_fn((rows, x.ncols()), |(_, j)| x[[0, j]])
    };
    let x = Array2::from_shape_fn((2, 30).f(), |(_, j)| j as f64);
    let error = distribute_local_columns(wrong).slots(1).build().unwrap().columns(&x).wait().unwrap_err();
    let failure = error.failed().last().unwrap();
    let FailureCause::WrongRows { block, expected, got } = &failure.cause else { panic!("{failure}") };
    assert_eq!((block.end, *expected, *got), (30, 3, 4));
    assert!(failure.to_string().contains("returned 4 rows for columns"), "{failure}");
    for (columns, part) in error.finished() {
        assert_eq!(part.dim(), (3, columns.len()));
        assert!(part.indexed_iter().all(|((_, j), &value)| value == (columns.start + j) as f64), "{part}");
    }
    let columns: usize = error.finished().iter().map(|(columns, _)| columns.len()).sum();
    assert_eq!(columns + error.failed().len(), 30);
}

#[test]
fn columns_that_fail_leave_the_results_of_the_others_whatever_their_rows_and_memory_order() {
    // A part of a result of several rows made `wait` itself panic.
    for (column_major_input, column_major_output) in [(true, true), (true, false), (false, true), (false, false)] {
        let bad = move |x: ArrayView2<'_, f64>| -> Array2<f64> {
            assert!(x.row(0).iter().all(|&j| j != 17.0), "as asked");
            Array2::from_shape_fn((3, x.ncols()).set_f(column_major_output), |(i, j)| 10.0 * x[[0, j]] + i as f64)
        };
        let x = Array2::from_shape_fn((2, 40).set_f(column_major_input), |(_, j)| j as f64);
        let dfun = distribute_local_columns(bad).slots(2).endaftercall(false).build().unwrap();
        let error = dfun.columns(&x).wait().unwrap_err();
        let failed: Vec<_> = error.failed().iter().map(|failure| failure.index).collect();
        assert_eq!((failed, error.finished_count), (vec![17], 39));
        let mut columns = Vec::new();
        for (range, part) in error.into_finished() {
            assert_eq!(part.dim(), (3, range.len()));
            assert!(part.indexed_iter().all(|((i, j), &value)| value == 10.0 * (range.start + j) as f64 + i as f64));
            columns.extend(range);
        }
        assert_eq!(columns, (0..40).filter(|&j| j != 17).collect::<Vec<_>>());
        for (j, column) in dfun.columns(x).settle().into_iter().enumerate() {
            let j = j as f64;
            match column {
                Ok(column) => assert_eq!(column.to_vec(), [10.0 * j, 10.0 * j + 1.0, 10.0 * j + 2.0]),
                Err(failure) => assert_eq!((j, failure.index), (17.0, 17)),
            }
        }
    }
}

// ---- errors and panics

#[test]
fn an_err_is_a_value_under_map_and_the_end_of_the_call_under_try_map() {
    for at in [0, 17, 99] {
        let odd = move |x: usize| if x == at { Err(format!("item {x}")) } else { Ok(x) };
        let dfun = distribute_local(odd).slots(2).endaftercall(false).build().unwrap();
        let values = dfun.map(0..100).wait().unwrap();
        assert_eq!(values.iter().position(Result::is_err), Some(at));
        let error = dfun.try_map(0..100).wait().unwrap_err();
        assert_eq!((error.ending(), error.failed().len()), (Ending::FirstFailure(at), 1));
        assert_eq!(error.failed()[0].index, at);
        assert!(error.to_string().ends_with(&format!("attempt 1: returned an error: item {at}")), "{error}");
        assert!(error.failed()[0].worker.is_some(), "{error}");
        assert!(error.finished().iter().take(at).enumerate().all(|(index, (at, _))| index == *at));
        assert!(error.finished_count >= at, "all items before the failure have results");
    }
}

#[test]
fn of_an_err_and_a_panic_under_try_map_the_first_in_input_order_counts() {
    for (panics, errs) in [(3, 60), (60, 3), (10, 11), (11, 10)] {
        let bad = move |x: usize| {
            assert_ne!(x, panics, "as asked");
            if x == errs { Err("as asked".to_owned()) } else { Ok(x) }
        };
        let dfun = distribute_local(bad).slots(2).build().unwrap();
        let error = dfun.try_map(0..100).wait().unwrap_err();
        assert_eq!(error.ending(), Ending::FirstFailure(panics.min(errs)));
        let is_panic = matches!(error.failed()[0].cause, FailureCause::Panicked { .. });
        assert_eq!((is_panic, error.failed().len()), (panics < errs, 1));
    }
}

#[test]
fn a_typed_error_can_be_had_back() {
    let parse = |text: &'static str| text.parse::<u32>();
    let dfun = distribute_local(parse).slots(1).build().unwrap();
    let error = dfun.try_map(["1", "two"]).wait().unwrap_err();
    let FailureCause::Returned(cause) = &error.failed()[0].cause else { panic!("{error}") };
    assert!(cause.downcast_ref::<std::num::ParseIntError>().is_some());
    let error = distfun::Error::from(error);
    assert!(error.to_string().contains("attempt 1: returned an error: invalid digit"), "{error}");
}

#[test]
fn panics_with_any_payload_fail_their_item_and_no_other() {
    let bad = |x: u32| match x {
        1 => panic!("literal"),
        2 => panic!("formatted {x}"),
        3 => panic_any(x),
        4 => panic_any(Box::new("boxed")),
        5 => panic::resume_unwind(Box::new("resumed")),
        _ => x,
    };
    let dfun = distribute_local(bad).slots(2).endaftercall(false).build().unwrap();
    for _ in 0..10 {
        let error = dfun.map(0..7).wait().unwrap_err();
        assert_eq!(error.finished(), &vec![(0, 0), (6, 6)]);
        let texts: Vec<String> = error.failed().iter().map(|failure| failure.cause.to_string()).collect();
        assert_eq!(texts.len(), 5);
        let expected = ["literal", "formatted 2", "no text", "no text", "resumed"];
        assert!(texts.iter().zip(expected).all(|(text, expected)| text.contains(expected)), "{texts:?}");
    }
}

#[test]
fn the_place_of_a_panic_is_told_and_never_that_of_another_panic() {
    // In a process of its own, since panics of other tests install hooks.
    alone(|| {
        let dfun = distribute_local(|x: u32| match x {
            0 => drop(DropPanics),
            1 => panic::resume_unwind(Box::new("from nowhere")),
            _ => panic!("from here"),
        });
        let dfun = dfun.slots(1).endaftercall(false).build().unwrap();
        let place = |x: u32| {
            let error = dfun.map([x]).wait().unwrap_err();
            let FailureCause::Panicked { place, .. } = &error.failed()[0].cause else { panic!("{error}") };
            place.clone()
        };
        assert!(place(2).unwrap().contains("bad_input.rs:"));
        assert!(place(0).unwrap().contains("bad_input.rs:"));
        assert_eq!(place(1), None);
        // A panic that was contained without being told of left its place behind.
        let (gate, held) = (Arc::new(Gate::new()), Mutex::new(None));
        *held.lock().unwrap() = Some(gate.clone());
        let late = distribute_local(move |x: u32| {
            if x == 0 {
                gate.pass();
                Some(DropPanics)
            } else {
                panic::resume_unwind(Box::new("from nowhere"))
            }
        });
        let late = late.slots(1).endaftercall(false).build().unwrap();
        let gate = held.lock().unwrap().take().unwrap();
        let call = late.map([0]);
        gate.await_arrivals(1);
        call.canceller().cancel();
        assert_eq!(call.wait().map(|_| ()).unwrap_err().ending(), Ending::Cancelled);
        gate.open();
        let error = late.map([1]).wait().map(|_| ()).unwrap_err();
        let FailureCause::Panicked { place, .. } = &error.failed()[0].cause else { panic!("{error}") };
        assert_eq!(*place, None);
    });
}

/// Panics when it is dropped, unless that happens during another panic.
struct DropPanics;

impl Drop for DropPanics {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("in a drop");
        }
    }
}

#[test]
fn a_payload_that_panics_when_dropped_is_contained() {
    let bad = |x: u32| if x == 2 { panic_any(DropPanics) } else { x };
    let dfun = distribute_local(bad).slots(1).endaftercall(false).build().unwrap();
    for _ in 0..5 {
        let error = dfun.map([1, 2, 3]).wait().unwrap_err();
        assert_eq!((error.failed()[0].index, error.finished()), (1, &vec![(0, 1), (2, 3)]));
    }
}

#[test]
fn an_item_that_panics_when_its_function_drops_it_fails_alone() {
    let dfun = distribute_local(|(x, bomb): (u32, Option<DropPanics>)| {
        drop(bomb);
        x
    });
    let dfun = dfun.slots(1).endaftercall(false).build().unwrap();
    let bomb = |x| (x, (x == 1).then(|| DropPanics));
    let error = dfun.map([0, 1, 2].map(bomb)).wait().unwrap_err();
    assert_eq!((error.failed().len(), error.finished()), (1, &vec![(0, 0), (2, 2)]));
    assert!(error.to_string().contains("in a drop"), "{error}");
    assert_eq!(dfun.map([(7, None)]).wait().unwrap(), [7]);
}

#[test]
fn results_and_items_that_panic_when_a_cancelled_call_drops_them_cost_no_worker() {
    // A second panic among the elements of one list would end the whole process: so in one of its own.
    alone(|| {
        static DROPS: AtomicUsize = AtomicUsize::new(0);
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                DROPS.fetch_add(1, Ordering::SeqCst);
                panic!("a value's drop");
            }
        }
        let gate = Arc::new(Gate::new());
        let held = gate.clone();
        let make = move |item: Option<Bomb>| {
            let is_quiet = item.is_none();
            std::mem::forget(item);
            held.pass();
            if is_quiet { None } else { Some(Bomb) }
        };
        let dfun = distribute_local(make).slots(2).endaftercall(false).build().unwrap();
        let call = dfun.map(vec![Some(Bomb), Some(Bomb), Some(Bomb), Some(Bomb)]);
        gate.await_arrivals(1);
        // The caller lets go first, so that it is the library that drops results and items.
        drop(call);
        gate.open();
        eventually(LIMIT, "results and items are dropped", || DROPS.load(Ordering::SeqCst) >= 3);
        for _ in 0..20 {
            let results = dfun.map(vec![None, None, None]).wait().unwrap();
            assert!(results.iter().all(Option::is_none));
        }
        assert_eq!(dfun.finished(), Ok(()));
    });
}

#[test]
fn items_by_reference_that_panic_when_they_are_dropped_after_their_call_cost_no_worker() {
    let read = |item: &Option<DropPanics>| item.is_some();
    let dfun = distfun::distribute_local_ref(read).slots(1).endaftercall(false).build().unwrap();
    for _ in 0..5 {
        assert_eq!(dfun.map(vec![None, Some(DropPanics), None]).wait().unwrap(), [false, true, false]);
    }
}

#[test]
fn a_result_whose_hidden_elements_panic_when_dropped_fails_its_columns_and_kills_no_thread() {
    // An array may own elements that it does not show. They were dropped where a panic ended the compute thread.
    #[derive(Debug)]
    struct Element {
        is_bomb: bool,
    }
    impl Drop for Element {
        fn drop(&mut self) {
            if self.is_bomb {
                panic!("a hidden element's drop");
            }
        }
    }
    let threads = Arc::new(Mutex::new(HashSet::new()));
    let seen = threads.clone();
    let sliced = move |x: ArrayView2<'_, f64>| -> Array1<Element> {
        seen.lock().unwrap().insert(thread::current().id());
        let is_bomb = |i: usize| i == 0 && x[[0, 0]] > 0.0;
        let mut y: Array1<_> = (0..=x.ncols()).map(|i| Element { is_bomb: is_bomb(i) }).collect();
        y.slice_collapse(s![1..]);
        y
    };
    let dfun = distribute_local_columns(sliced).slots(1).endaftercall(false).build().unwrap();
    for _ in 0..3 {
        let call = dfun.columns(Array2::ones((2, 8)));
        let error = within(move || call.wait()).unwrap_err();
        assert_eq!((error.ending(), error.failed().len(), error.finished_count), (Ending::ItemsFailed, 8, 0));
        for (column, failure) in error.failed().iter().enumerate() {
            assert_eq!(failure.index, column);
            assert!(failure.to_string().contains("a hidden element's drop"), "{failure}");
        }
        assert_eq!(dfun.columns(Array2::zeros((2, 8))).wait().unwrap().len(), 8);
    }
    assert_eq!(threads.lock().unwrap().len(), 1, "the slot has kept its thread");
}

#[test]
fn a_call_whose_leftover_items_panic_when_dropped_still_returns_how_it_ended() {
    // The items went with the caller's handle, and their panic out of `wait`, or out of `drop` and so into an abort.
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("an item's drop");
        }
    }
    alone(|| {
        let dfun = distribute_local(|item: Bomb| std::mem::forget(item)).slots(1).build().unwrap();
        dfun.finished().unwrap();
        let error = dfun.map([Bomb, Bomb]).wait().unwrap_err();
        assert_eq!(error.ending(), Ending::Finished);
        let thrown = panic::catch_unwind(AssertUnwindSafe(|| {
            let _call = dfun.map([Bomb, Bomb]);
            panic!("mine");
        }));
        assert_eq!(thrown.unwrap_err().downcast_ref(), Some(&"mine"));
    });
}

#[test]
fn a_users_panic_hook_keeps_seeing_panics_outside_of_functions_and_none_inside() {
    alone(|| {
        static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let record = |before: &'static str| {
            move |info: &panic::PanicHookInfo<'_>| {
                let text = info.payload().downcast_ref::<&str>().map_or("?", |text| text);
                SEEN.lock().unwrap().push(format!("{before}: {text}"));
            }
        };
        let seen = || std::mem::take(&mut *SEEN.lock().unwrap());
        let outside = |text: &'static str| assert!(thread::spawn(move || panic!("{}", text)).join().is_err());
        let dfun = distribute_local(|x: u32| if x == 1 { panic!("inside") } else { x });
        let dfun = dfun.slots(1).endaftercall(false).build().unwrap();
        let place = || {
            let error = dfun.map([0, 1, 2]).wait().unwrap_err();
            let FailureCause::Panicked { message, place } = &error.failed()[0].cause else { panic!("{error}") };
            assert_eq!((&**message, error.finished().len()), ("inside", 2));
            place.clone()
        };

        panic::set_hook(Box::new(record("first")));
        assert!(place().is_some_and(|place| place.contains("bad_input.rs:")));
        assert_eq!(seen(), [""; 0], "reported with its item, not printed");
        outside("outside");
        assert_eq!(seen().len(), 1);

        // A hook that is set later replaces ours: it sees everything, and failures lose the place only.
        panic::set_hook(Box::new(record("second")));
        assert_eq!(place(), None);
        assert_eq!(seen(), ["second: inside"]);

        // Ours, put back.
        drop(panic::take_hook());
        assert_eq!(place(), None);
    });
}

#[test]
fn functions_may_park_and_unpark_threads() {
    let dfun = distribute_local(|x: u32| {
        let parked = thread::current();
        let waker = thread::spawn(move || {
            for _ in 0..3 {
                parked.unpark();
                thread::yield_now();
            }
        });
        thread::park();
        waker.join().unwrap();
        // Tokens left behind, and taken away.
        thread::current().unpark();
        if x.is_multiple_of(2) {
            thread::park_timeout(Duration::from_millis(1));
        }
        x
    });
    let dfun = dfun.slots(2).endaftercall(false).build().unwrap();
    for round in 0..30 {
        let call = dfun.map(round..round + 4);
        assert_eq!(within(move || call.wait()).unwrap(), (round..round + 4).collect::<Vec<_>>());
    }
    let ended = within(move || dfun.finished());
    assert_eq!(ended, Ok(()));
}

// ---- settings

#[test]
fn limits_that_leave_nothing_to_compute_on_are_refused_with_the_remedy() {
    let build = || distribute_local(|x: u32| x);
    let text = |built: Result<_, BuildError>| built.map(|_: distfun::DistributedFunction<u32, u32>| ()).unwrap_err();
    for error in [build().max_cpu(0).build(), build().slots(0).build()] {
        let error = text(error);
        assert!(matches!(error, BuildError::Settings(SettingsError::NoSlots { .. })), "{error}");
        assert!(error.to_string().contains("allow at least 1"), "{error}");
    }
    for (max_cpu, slots) in [(0, 0), (1, 1), (0, 2), (2, 0)] {
        let error = text(build().max_cpu(max_cpu).slots(slots).build());
        assert!(
            matches!(&error, BuildError::Settings(SettingsError::BothLimits { max_cpu: a, slots: b, .. })
                if (*a, *b) == (max_cpu, slots)),
            "{error}"
        );
        assert!(error.to_string().contains("keep max_cpu"), "{error}");
    }
    let error = text(build().slots(5000).build());
    assert!(error.to_string().contains("slots(5000) is more than the 4096"), "{error}");
    let error = text(build().max_calls(0).build());
    assert!(error.to_string().contains("max_calls(0)"), "{error}");
    assert_eq!(build().max_cpu(usize::MAX).build().unwrap().map([1]).wait().unwrap(), [1]);

    let error = Manager::builder().slots(0).start().unwrap_err();
    assert!(matches!(error, StartError::Settings(SettingsError::NoSlots { .. })), "{error}");
    let error = distribute_local_columns(|x: ArrayView2<'_, f64>| -> Array1<f64> { x.sum_axis(Axis(0)) });
    assert!(error.slots(0).build().is_err());
}

/// Builds with a variable set, and says what came of it.
fn built() -> Result<Vec<u32>, String> {
    let dfun = distribute_local(|x: u32| x + 1).build().map_err(|error| error.to_string())?;
    let manager = Manager::builder().start().map_err(|error| error.to_string());
    assert!(manager.is_ok(), "a Manager reads the same variables");
    dfun.map([1, 2]).wait().map_err(|error| error.to_string())
}

macro_rules! refused {
    ($($name:ident: $variable:literal = $value:expr => $text:literal;)*) => {$(
        #[test]
        fn $name() {
            alone_with(&[($variable, OsStr::new($value))], || {
                let error = built().unwrap_err();
                assert!(error.contains($text), "{error}");
                let error = Manager::builder().start().unwrap_err();
                assert!(matches!(&error, StartError::Settings(_)) && error.to_string().contains($text), "{error}");
            });
        }
    )*};
}

refused! {
    a_number_in_words_is_refused_by_name: "DISTFUN_SLOTS" = "two" => "DISTFUN_SLOTS=\"two\" is not a whole number";
    an_empty_number_is_refused_by_name: "DISTFUN_MAX_CPU" = "" => "DISTFUN_MAX_CPU=\"\" is not a whole number";
    a_negative_number_is_refused_by_name: "DISTFUN_SEED" = "-1" => "DISTFUN_SEED=\"-1\" is not";
    a_number_that_is_too_large_is_refused_by_name:
        "DISTFUN_MAX_CALLS" = "99999999999999999999999" => "DISTFUN_MAX_CALLS=\"999";
    a_flag_that_is_none_is_refused_by_name: "DISTFUN_VERBOSE" = "perhaps" => "is not 1 or 0, true or false";
    zero_slots_in_the_environment_are_refused: "DISTFUN_SLOTS" = "0" => "DISTFUN_SLOTS=\"0\" is not enough to compute on";
    a_variable_with_a_typing_error_is_refused_with_the_right_name:
        "DISTFUN_ENDAFTERCAL" = "1" => "did you mean DISTFUN_ENDAFTERCALL?";
    a_variable_nobody_knows_is_refused_with_all_names: "DISTFUN_COLOUR_SCHEME" = "red" => "known are DISTFUN_MAX_CPU, ";
}

#[test]
#[cfg(unix)]
fn values_that_are_not_utf8_are_refused_by_name_and_other_programs_variables_ignored() {
    use std::os::unix::ffi::OsStrExt;
    let broken = OsStr::from_bytes(b"2\xff");
    alone_with(&[("DISTFUN_SLOTS", broken), ("ELSEWHERE", broken)], || {
        let error = built().unwrap_err();
        assert!(error.contains("DISTFUN_SLOTS=") && error.contains("correct or unset it"), "{error}");
    });
}

#[test]
#[cfg(unix)]
fn variables_of_other_programs_may_be_of_any_form() {
    use std::os::unix::ffi::OsStrExt;
    let variables = [("ELSEWHERE", OsStr::from_bytes(b"\xff")), ("XDISTFUN_SLOTS", OsStr::new("two"))];
    alone_with(&variables, || assert_eq!(built().unwrap(), [2, 3]));
}

#[test]
fn good_variables_hold_unless_the_program_says_otherwise() {
    let variables = [("DISTFUN_SLOTS", "3"), ("DISTFUN_ENDAFTERCALL", " Off "), ("DISTFUN_MAX_CALLS", "1")];
    let variables = variables.map(|(name, value)| (name, OsStr::new(value)));
    alone_with(&variables, || {
        let dfun = distribute_local(|x: u32| x).build().unwrap();
        (0..3).for_each(|round| assert_eq!(dfun.map([round]).wait().unwrap(), [round]));
        let manager = Manager::builder().start().unwrap();
        let slots = |manager: &distfun::ManagerHandle| {
            futures::executor::block_on(manager.send(distfun::Status)).unwrap().slots.len()
        };
        assert_eq!(slots(&manager), 3);
        assert_eq!(slots(&Manager::builder().max_cpu(1).start().unwrap()), 1, "no clash with the variable");
        let told = distribute_local(|x: u32| x).endaftercall(true).build().unwrap();
        told.map([1]).wait().unwrap();
        assert_eq!(told.map([1]).wait().unwrap_err().ending(), Ending::EndedAfterCall);
    });
}
