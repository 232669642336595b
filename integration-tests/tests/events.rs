//! What the log says, checked against the table of events: in a process of its own each, since a log is a process's.

pub(crate) mod check;
mod golden;
mod incidents;
mod load;
mod schema;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use distfun::{
    Cancel, Context, Distribute, Ending, Finished, Isolation, Manager, SharedData, Shutdown, distribute,
    distribute_local, distribute_local_columns, distribute_local_ref, fault::kill_this_thread, function, log,
};
use futures::executor::block_on;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use tracing::Level;

use crate::support::{Gate, LIMIT, alone, alone_heard, eventually, within};
use check::{Memory, check, lines_of};

fn plus(x: u64) -> u64 {
    x + 1
}

fn nested(x: u64) -> u64 {
    distribute!(plus).build().unwrap().map([x]).wait().unwrap()[0]
}

fn fragile(x: u64) -> u64 {
    println!("{x} was here");
    match x {
        2 => std::process::abort(),
        4 => std::thread::sleep(LIMIT),
        _ => {}
    }
    x
}

/// Everything that can happen to calls on one machine.
fn story() {
    // Ended by its one call, refused after it; empty; in the calling thread; nested.
    let once = distribute!(plus).slots(2).build().unwrap();
    assert_eq!(once.map(0..500).wait().unwrap().len(), 500);
    assert_eq!(once.map([1]).wait().unwrap_err().ending(), Ending::EndedAfterCall);
    let warm = distribute!(nested).slots(2).endaftercall(false).build().unwrap();
    warm.map(Vec::<u64>::new()).wait().unwrap();
    assert_eq!(warm.map(0..20).wait().unwrap().len(), 20);
    warm.finished().unwrap();
    assert_eq!(warm.map([1]).wait().unwrap_err().ending(), Ending::Finished);
    warm.shutdown().unwrap();
    distribute!(plus).sequential(true).build().unwrap().map([1]).wait().unwrap();

    // Failures of every kind.
    let odd = |x: u64| if x % 2 == 1 { panic!("{x} is odd\nand more") } else { x };
    let bad = distribute_local(odd).slots(2).endaftercall(false).build().unwrap();
    assert_eq!(bad.map(0..10).wait().unwrap_err().failed().len(), 5);
    assert_eq!(bad.map(0..10).settle().len(), 10);
    bad.shutdown().unwrap();
    let one = distribute_local(odd).sequential(true).build().unwrap();
    assert_eq!(one.map(0..3).wait().unwrap_err().failed().len(), 1);
    let err =
        distribute_local(|x: u64| if x == 7 { Err("a secret".to_owned()) } else { Ok(x) }).slots(2).build().unwrap();
    assert_eq!(err.try_map(0..20).wait().unwrap_err().ending(), Ending::FirstFailure(7));
    let short = distribute_local(|list: Vec<u64>| list[1..].to_vec()).accept_lists().slots(2).build().unwrap();
    short.map(0..20).wait().unwrap_err();
    let rows = |x: ArrayView2<'_, f64>| Array2::<f64>::zeros((1 + x[(0, 0)] as usize, x.ncols()));
    let rows = distribute_local_columns(rows).slots(2).build().unwrap();
    rows.columns(Array2::from_shape_fn((2, 9), |(_, j)| (j % 2) as f64)).wait().unwrap_err();
    let sums = |x: ArrayView2<'_, f64>| -> Array1<f64> { x.sum_axis(Axis(0)) };
    distribute_local_columns(sums).slots(2).build().unwrap().columns(Array2::ones((2, 9))).wait().unwrap();

    // What fails is tried again, in slots and in the calling thread.
    let late = |x: u64, context: &Context| match context.attempt() {
        0 if x == 2 => panic!("not yet"),
        0 if x == 3 => Err("a secret".to_owned()),
        attempt => Ok(attempt),
    };
    for is_sequential in [false, true] {
        let dfun = distribute_local(late).clone_items().retries(2).sequential(is_sequential).slots(2);
        assert_eq!(dfun.build().unwrap().try_map(0..5).wait().unwrap(), [0, 0, 1, 1, 0]);
    }

    // Threads that die: once, for ever at one item, and for ever.
    let deaths = Arc::new(AtomicUsize::new(0));
    let counted = deaths.clone();
    let kill = move |x: &u64| {
        if *x == 5 && counted.fetch_add(1, Ordering::SeqCst) < 2 {
            kill_this_thread()
        }
        if *x == 9 { kill_this_thread() } else { *x }
    };
    let killed = distribute_local_ref(kill).slots(1).build().unwrap();
    assert_eq!(within(move || killed.map((0..12).collect::<Vec<_>>()).wait().unwrap_err()).failed().len(), 1);
    let taken_along = distribute_local(|x: u64| if x == 1 { kill_this_thread() } else { x }).slots(1).build().unwrap();
    assert_eq!(taken_along.map(0..3).wait().unwrap_err().failed().len(), 1);
    let dead = distribute_local(|_: u64| -> u64 { kill_this_thread() }).slots(1).endaftercall(false).build().unwrap();
    assert_eq!(dead.map(0..20).wait().unwrap_err().ending(), Ending::NoWorkers);
    assert_eq!(dead.map([1]).wait().unwrap_err().ending(), Ending::NoWorkers);
    dead.finished().unwrap();

    // Processes that crash, and one in which an item takes too long.
    let fragile = distribute!(fragile).slots(1).isolation(Isolation::Process).item_timeout(Duration::from_millis(100));
    let fragile = fragile.endaftercall(false).build().unwrap();
    assert_eq!(fragile.map([1, 2, 3]).wait().unwrap_err().failed().len(), 1);
    assert_eq!(fragile.map([1, 4, 3]).wait().unwrap_err().failed().len(), 1);
    fragile.finished().unwrap();

    // Cancelled, dropped, out of time, too many; a thread that hangs is replaced, or left behind.
    let gate = Arc::new(Gate::new());
    let held = gate.clone();
    let hang = move |x: u64| {
        if x == 1 {
            held.pass()
        }
    };
    let slow = distribute_local(hang.clone()).slots(1).endaftercall(false).max_calls(1).build().unwrap();
    let call = slow.map([1]);
    gate.await_arrivals(1);
    assert!(matches!(slow.map([2]).wait().unwrap_err().ending(), Ending::Busy { .. }));
    assert_eq!(call.wait_timeout(Duration::ZERO).unwrap_err().ending(), Ending::TimedOut);
    slow.map([2]).wait().unwrap();
    let cancelled = slow.map([1]);
    gate.await_arrivals(2);
    cancelled.canceller().cancel();
    assert_eq!(cancelled.wait().unwrap_err().ending(), Ending::Cancelled);
    drop(slow.map([3]));
    slow.finished().unwrap_err();
    gate.open();

    // Results one by one: to the end, cut short, refused, in the calling thread, and never asked for. Results combined.
    let streamed = distribute_local(odd).slots(2).endaftercall(false).build().unwrap();
    assert_eq!(streamed.stream(0..100).into_iter().filter(Result::is_err).count(), 50);
    assert_eq!(streamed.stream(0..).as_completed().into_iter().take(30).count(), 30);
    drop(streamed.stream(0..9));
    assert_eq!(streamed.map((0..100).map(|x| 2 * x)).fold_tree(0, |a, b| a + b).wait().unwrap(), 9900);
    assert!(streamed.map([2, 4]).fold_tree(0, |_, _| panic!("no sum")).wait().is_err());
    streamed.finished().unwrap();
    assert_eq!(streamed.stream(0..9).into_iter().count(), 1);
    let here = distribute_local(odd).sequential(true).build().unwrap();
    assert_eq!(here.stream(0..4).into_iter().filter(Result::is_ok).count(), 2);
    drop(distribute_local(odd).sequential(true).build().unwrap().stream(0..4));

    // Shared data comes and goes.
    let shared = SharedData::builder().value("factor", &3u64).unwrap().build().unwrap();
    let times = distribute!(|x: u64, shared: &SharedData| x * shared.value::<u64>("factor").unwrap());
    assert_eq!(times.shared_data(shared).build().unwrap().map([2]).wait().unwrap(), [6]);

    // A service, and what is never ended by name.
    let manager = Manager::builder().slots(2).start().unwrap();
    let patient = |_: u64, context: &Context<'_>| eventually(LIMIT, "the end", || context.is_cancelled());
    let message = Distribute::map(function!(plus), 0..100);
    assert_eq!(block_on(manager.send(message)).unwrap().unwrap().len(), 100);
    let running = distribute_local(patient).slots(2).build().unwrap().map([1]);
    running.canceller().cancel();
    running.wait().unwrap_err();
    block_on(manager.send(Cancel(distfun::CallId(1)))).unwrap();
    block_on(manager.send(Finished)).unwrap().unwrap();
    block_on(manager.send(Shutdown)).unwrap().unwrap();
    drop(manager);
    let leaked = distribute!(plus).slots(1).endaftercall(false).build().unwrap();
    leaked.map([1]).wait().unwrap();
    drop(leaked);
}

#[test]
fn a_whole_story_is_told_as_the_table_of_events_says() {
    alone(|| {
        let memory = Memory::default();
        let log = log::json().writer(memory.clone()).level(Level::DEBUG).init().unwrap();
        story();
        let is_over = || {
            let lines = memory.lines();
            lines_of(&lines, "manager.started").len() == lines_of(&lines, "manager.stopped").len()
                && lines_of(&lines, "worker.started").len() <= lines_of(&lines, "worker.stopped").len()
        };
        eventually(LIMIT, "all Managers and workers have stopped", is_over);
        assert!(log.flush(LIMIT));
        let lines = memory.lines();
        check(&lines);
        for name in [
            "manager.started",
            "manager.stopped",
            "session.opened",
            "session.finished",
            "session.shutdown",
            "session.leaked",
            "worker.started",
            "worker.stopped",
            "worker.state",
            "worker.output",
            "worker.restarted",
            "worker.gave_up",
            "job.submitted",
            "job.finished",
            "chunk.started",
            "chunk.finished",
            "chunk.retry",
            "chunk.failed",
            "chunk.exception",
            "item.retried",
            "shared.published",
            "shared.released",
        ] {
            assert!(!lines_of(&lines, name).is_empty(), "no {name}");
        }
        let values = |name: &str, field: &str| -> Vec<String> {
            let texts = lines_of(&lines, name).into_iter().filter_map(|line| line.get(field)?.as_str());
            texts.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
        };
        assert_eq!(values("job.finished", "distfun.outcome"), ["cancelled", "failure", "success", "timeout"]);
        let all = [
            "busy",
            "ended_after_call",
            "error",
            "finished",
            "item_timeout",
            "no_workers",
            "panic",
            "poisoned",
            "timeout",
            "worker_lost",
            "wrong_length",
            "wrong_rows",
        ];
        assert_eq!(values("job.finished", "error.type"), all);
        assert_eq!(values("job.submitted", "distfun.mode"), ["columns", "items", "list", "stream"]);
        assert_eq!(values("worker.stopped", "distfun.reason"), ["abandoned", "died", "released", "replaced"]);
        assert_eq!(values("worker.restarted", "distfun.cause"), ["crash", "panic", "timeout"]);
        assert_eq!(values("manager.stopped", "distfun.reason"), ["endaftercall", "finished", "shutdown"]);
        assert_eq!(
            values("chunk.failed", "error.type"),
            ["error", "item_timeout", "poisoned", "worker_lost", "wrong_length", "wrong_rows"]
        );
        let retried = lines_of(&lines, "item.retried");
        let places = retried.iter().map(|line| line.get("distfun.worker.id").is_some()).collect::<Vec<_>>();
        assert_eq!(places, [true, true, false, false]);
        for line in retried {
            let kind = if line["distfun.item.index"] == 2 { "panic" } else { "error" };
            assert_eq!((&line["error.type"], &line["distfun.item.attempt"]), (&kind.into(), &1.into()));
            assert!(line["level"] == "WARN" && line["distfun.wait_s"].as_f64().unwrap() <= 0.05, "{line:?}");
        }
        assert_eq!(lines_of(&lines, "session.leaked").len(), 1);
        let text = memory.text();
        assert!(text.contains(r"1 is odd\nand more"), "the text of a panic is kept");
        assert!(!text.contains("a secret"), "a value of the user's is not logged");
    });
}

#[test]
fn what_is_said_at_info_does_not_grow_with_the_number_of_chunks_or_nested_calls() {
    alone(|| {
        let memory = Memory::default();
        let log = log::json().writer(memory.clone()).init().unwrap();
        let sleepy = distribute_local(|ms: u64| {
            std::thread::sleep(Duration::from_millis(ms));
            nested(ms)
        });
        let dfun = sleepy.slots(2).endaftercall(false).build().unwrap();
        dfun.map([1]).wait().unwrap();
        eventually(LIMIT, "both workers are there", || lines_of(&memory.lines(), "worker.started").len() == 2);
        // What depends on time may be said too, on a machine that is slow today.
        let lines = || {
            log.flush(LIMIT);
            memory.lines().len() - lines_of(&memory.lines(), "job.progress").len()
        };
        let count = |items: usize| {
            let before = lines();
            dfun.map(vec![3; items]).wait().unwrap();
            lines() - before
        };
        assert_eq!((count(2), count(150)), (2, 2), "submitted and finished");
        check(&memory.lines());
    });
}

#[test]
fn a_share_of_the_chunks_is_told_from_start_to_end() {
    alone(|| {
        let memory = Memory::default();
        let log = log::json().writer(memory.clone()).level(Level::DEBUG).chunk_sampling(0.25).init().unwrap();
        let dfun = distribute!(plus).slots(2).endaftercall(false).build().unwrap();
        for _ in 0..400 {
            dfun.map([1]).wait().unwrap();
        }
        dfun.finished().unwrap();
        log.flush(LIMIT);
        let lines = memory.lines();
        check(&lines);
        let told = |name: &str| -> BTreeSet<u64> {
            let lines = lines_of(&lines, name);
            assert!(lines.iter().all(|line| line["distfun.sampling_ratio"] == 0.25));
            lines.iter().map(|line| line["distfun.job.id"].as_u64().unwrap()).collect()
        };
        assert_eq!(told("chunk.started"), told("chunk.finished"));
        assert!((60..140).contains(&told("chunk.started").len()), "{:?}", told("chunk.started").len());
    });
}

#[test]
fn long_calls_say_how_far_they_are_and_calls_that_wait_for_nothing_are_a_stall() {
    alone(|| {
        let memory = Memory::default();
        let log = log::json().writer(memory.clone()).init().unwrap();
        let gate = Arc::new(Gate::new());
        let held = gate.clone();
        let wait = move |x: u64| {
            std::thread::sleep(Duration::from_millis(300));
            if x == 1 {
                held.pass()
            }
        };
        let dfun = distribute_local(wait).slots(1).endaftercall(false).build().unwrap();
        dfun.map([0; 8]).wait().unwrap();
        let hung = dfun.map([1]);
        gate.await_arrivals(1);
        hung.canceller().cancel();
        let waiting = dfun.map([2]);
        let has = |name: &str| !lines_of(&memory.lines(), name).is_empty();
        eventually(LIMIT, "the stall is seen", || has("manager.stalled"));
        gate.open();
        waiting.wait().unwrap();
        eventually(LIMIT, "its end is seen", || has("manager.resumed"));
        dfun.finished().unwrap();
        log.flush(LIMIT);
        let lines = memory.lines();
        check(&lines);
        let progress = lines_of(&lines, "job.progress");
        assert!((1..=3).contains(&progress.len()), "{progress:?}");
        assert_eq!(progress[0]["distfun.items.total"], 8);
        let stalled = lines_of(&lines, "manager.stalled");
        assert_eq!((stalled.len(), &stalled[0]["distfun.reason"]), (1, &"workers_stuck".into()));
    });
}

#[test]
fn a_chunk_that_takes_long_is_called_slow_once() {
    // Whether it is still the same chunk was judged by two clocks, and every look called it slow again.
    alone(|| {
        let memory = Memory::default();
        let log = log::json().writer(memory.clone()).init().unwrap();
        let nap = |s: f64| std::thread::sleep(Duration::from_secs_f64(s));
        let dfun = distribute_local(nap).slots(1).endaftercall(false).build().unwrap();
        dfun.map([0.0]).wait().unwrap();
        dfun.map([14.5]).wait().unwrap();
        dfun.finished().unwrap();
        log.flush(LIMIT);
        let lines = memory.lines();
        check(&lines);
        for (name, count) in [("chunk.slow", 1), ("worker.state", 1), ("manager.state", 1)] {
            assert_eq!(lines_of(&lines, name).len(), count, "{name}");
        }
        let state = lines_of(&lines, "manager.state")[0];
        assert_eq!([&state["distfun.jobs.active"], &state["distfun.jobs.finished"]], [1, 1]);
    });
}

/// The question whether DEBUG is listened to, for a chunk that is not among the sampled, took the next line at INFO away.
#[test]
fn a_layer_beside_the_log_that_wants_more_takes_no_line_away() {
    struct Ignores;
    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Ignores {}
    alone(|| {
        use tracing_subscriber::{filter::LevelFilter, prelude::*};
        let memory = Memory::default();
        let (layer, log) = log::json().writer(memory.clone()).chunk_sampling(0.0).build().unwrap();
        tracing_subscriber::registry().with(Ignores.with_filter(LevelFilter::DEBUG)).with(layer).init();
        let dfun = distribute!(plus).slots(2).endaftercall(false).build().unwrap();
        for _ in 0..100 {
            dfun.map([1]).wait().unwrap();
        }
        dfun.finished().unwrap();
        log.flush(LIMIT);
        let lines = memory.lines();
        check(&lines);
        assert_eq!((lines_of(&lines, "job.submitted").len(), lines_of(&lines, "job.finished").len()), (100, 100));
    });
}

#[test]
fn a_guard_keeps_the_last_lines_and_the_log_goes_to_stderr() {
    alone_heard(
        || {
            let _log = log::json().service_name("my \"service\"").service_version("1.2").init().unwrap();
            distribute!(plus).slots(1).build().unwrap().map([1]).wait().unwrap();
            tracing::error!(target: "elsewhere", level = 5, "the program's own");
        },
        |stderr| {
            let lines: Vec<_> =
                stderr.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
            check(&lines);
            let last = lines.last().expect("a last line");
            assert_eq!((&last["message"], &last["fields.level"]), (&"the program's own".into(), &5.into()));
            assert_eq!((&last["service.name"], &last["service.version"]), (&"my \"service\"".into(), &"1.2".into()));
            assert_eq!(lines_of(&lines, "job.finished").len(), 1);
        },
    );
}

#[test]
fn a_minimal_log_says_once_who_is_speaking() {
    alone(|| {
        let memory = Memory::default();
        let log = log::json().writer(memory.clone()).resource_minimal().init().unwrap();
        distribute!(plus).slots(1).build().unwrap().map([1]).wait().unwrap();
        log.flush(LIMIT);
        let lines = memory.lines();
        check(&lines);
        for (at, line) in lines.iter().enumerate() {
            assert_eq!(line.contains_key("host.name"), at == 0);
            assert_eq!(line["service.instance.id"], lines[0]["service.instance.id"]);
        }
    });
}

#[test]
fn logs_that_cannot_be_started_say_why() {
    alone(|| {
        let nowhere = log::json().file("/no/such/folder/log").init().unwrap_err();
        assert_eq!(nowhere.to_string(), "the log /no/such/folder/log could not be opened for appending");
        assert!(std::error::Error::source(&nowhere).is_some());
        let _log = log::json().writer(std::io::sink()).init().unwrap();
        let twice = log::json().writer(std::io::sink()).init().unwrap_err();
        assert!(twice.to_string().contains("instead of calling .init()"), "{twice}");
    });
}

#[test]
fn a_file_is_appended_to() {
    alone(|| {
        let path = std::env::temp_dir().join(format!("distfun-log-{}.ndjson", std::process::id()));
        std::fs::write(&path, "before\n").unwrap();
        let log = log::json().file(&path).init().unwrap();
        distribute!(plus).slots(1).build().unwrap().map([1]).wait().unwrap();
        drop(log);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(first, "before");
        let lines: Vec<_> = rest.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        check(&lines);
        assert_eq!(lines_of(&lines, "job.finished").len(), 1);
    });
}

#[test]
fn a_subscriber_that_panics_keeps_no_call_from_its_end() {
    struct Panics;
    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Panics {
        fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            panic!("as asked");
        }
    }
    alone(|| {
        use tracing_subscriber::prelude::*;
        tracing_subscriber::registry().with(Panics).init();
        std::panic::set_hook(Box::new(|_| {}));
        let dfun = distribute!(plus).slots(2).endaftercall(false).build().unwrap();
        for _ in 0..20 {
            assert_eq!(dfun.map(0..50).wait().unwrap().len(), 50);
        }
        dfun.finished().unwrap();
    });
}

/// Once dropped after `.await`, a Manager that had ended by its one call said that it was finished.
#[test]
fn a_manager_that_ended_by_its_call_says_so_however_the_call_was_waited_for() {
    alone(|| {
        let memory = Memory::default();
        let log = log::json().writer(memory.clone()).init().unwrap();
        block_on(distribute!(plus).slots(1).build().unwrap().map([1])).unwrap();
        let stopped = || !lines_of(&memory.lines(), "manager.stopped").is_empty();
        eventually(LIMIT, "the Manager stops", || log.flush(LIMIT) && stopped());
        let lines = memory.lines();
        check(&lines);
        assert_eq!(lines_of(&lines, "manager.stopped")[0]["distfun.reason"], "endaftercall");
    });
}
