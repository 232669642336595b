//! What `verbose` says on stderr, as whoever started the program hears it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use distfun::{distribute_local, distribute_local_columns, distribute_local_ref};
use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::support::{Gate, LIMIT, alone_heard};

fn increment(x: u32) -> u32 {
    assert_ne!(x, 77, "as asked");
    x + 1
}

fn increment_ref(x: &u32) -> u32 {
    x + 1
}

fn sums(x: ArrayView2<'_, f64>) -> Array1<f64> {
    x.sum_axis(Axis(0))
}

/// Heard behind the summary of the call before, if that was there in time.
fn returned(call: &str) {
    eprintln!("returned: {call}");
}

#[test]
fn the_summary_of_a_call_is_on_stderr_before_its_wait_returns() {
    // It came up to a tenth of a second later, so that a program that ended with its last call never showed it.
    alone_heard(
        || {
            let dfun = distribute_local(increment).slots(2).endaftercall(false).verbose(true).build().unwrap();
            dfun.map(0..10).wait().unwrap();
            returned("the first call");
            dfun.map(0..10).wait().unwrap();
            returned("a call on warm slots");
            dfun.map(&[1, 2, 3]).wait().unwrap();
            returned("a borrowed call");
            dfun.map_into(0..10, &mut Vec::new()).wait().unwrap();
            returned("a call into a buffer");
            dfun.map(0..10).wait_timeout(LIMIT).unwrap();
            returned("a call with a limit");
            assert_eq!(dfun.map(0..10).settle().len(), 10);
            returned("a settled call");
            dfun.map(0..0).wait().unwrap();
            returned("an empty call");
            let once = || distribute_local_columns(sums).slots(2).verbose(true);
            once().build().unwrap().columns(Array2::ones((2, 10))).wait().unwrap();
            returned("a column call that frees its slots");
            once().sequential(true).build().unwrap().columns(Array2::ones((2, 10))).wait().unwrap();
            returned("a sequential call");
        },
        |stderr| {
            let lines: Vec<&str> = stderr.lines().collect();
            assert_eq!(lines.len(), 2 * 9, "one summary for each call:\n{stderr}");
            for pair in lines.chunks(2) {
                assert!(pair[0].starts_with("distfun: ") && pair[1].starts_with("returned: "), "{pair:?}\n{stderr}");
            }
        },
    );
}

#[test]
fn the_summary_tells_items_failures_and_how_a_call_ended_unless_all_went_well() {
    // A complete call's summary ended in "; every item has a result", as if that were news.
    alone_heard(
        || {
            let gate = Arc::new(Gate::new());
            let held = gate.clone();
            let wait = move |x: u32| {
                if x == 0 {
                    held.pass()
                }
            };
            let dfun = distribute_local(increment).slots(2).endaftercall(false).verbose(true).build().unwrap();
            dfun.map(0..10).wait().unwrap();
            dfun.map(70..80).wait().unwrap_err();
            let dfun = distribute_local(wait).slots(1).endaftercall(false).verbose(true).build().unwrap();
            let call = dfun.map([0, 1, 2]);
            gate.await_arrivals(1);
            call.canceller().cancel();
            call.wait().unwrap_err();
            gate.open();
            dfun.map([0]).wait().unwrap();
        },
        |stderr| {
            let [complete, failed, cancelled, _] = stderr.lines().collect::<Vec<_>>()[..] else { panic!("{stderr}") };
            let name = format!("distfun: {}::increment: ", module_path!());
            assert!(complete.starts_with(&format!("{name}10 of 10 items in 0.0")), "{complete}");
            assert!(complete.ends_with("/s)") && !complete.contains("; "), "{complete}");
            assert!(failed.starts_with(&format!("{name}10 of 10 items in ")), "{failed}");
            assert!(failed.ends_with("/s), 1 failed"), "{failed}");
            assert!(cancelled.contains(": 0 of 3 items in "), "{cancelled}");
            assert!(cancelled.ends_with("/s); the call was cancelled; call again to run it anew"), "{cancelled}");
        },
    );
}

#[test]
fn borrowed_calls_are_not_slowed_by_being_shown() {
    // The one who draws held on to the call, and so to what it had borrowed, until it drew again 0.1 s later.
    const CALLS: u32 = 20;
    alone_heard(
        || {
            let dfun = distribute_local_ref(increment_ref).slots(1).endaftercall(false).verbose(true).build().unwrap();
            let start = Instant::now();
            for _ in 0..CALLS {
                assert_eq!(dfun.map(&[1, 2, 3]).wait().unwrap(), [2, 3, 4]);
            }
            assert!(start.elapsed() < Duration::from_secs(1), "{CALLS} calls took {:?}", start.elapsed());
        },
        |stderr| assert_eq!(stderr.matches(": 3 of 3 items in ").count(), CALLS as usize, "{stderr}"),
    );
}
