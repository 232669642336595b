//! Metrics, as Prometheus sees them: in a process of its own each, since they are a process's.

mod hostile;
mod scrape;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use distfun::{
    Context, Isolation, SharedData, distribute, distribute_local,
    fault::kill_this_thread,
    function, log,
    metrics::{self, ServeError, Server},
    node,
};
use tracing::Level;
use tracing_subscriber::prelude::*;

use crate::{
    events::check::{Memory, check, lines_of},
    support::{Gate, LIMIT, alone, alone_heard, dir_of_process, eventually},
};
use scrape::{Samples, get, health, promtool};

/// Metrics, served at a port that is free.
fn served() -> Server {
    let server = metrics::serve("127.0.0.1:0").unwrap();
    tracing_subscriber::registry().with(metrics::layer()).init();
    server
}

fn plus(x: u64) -> u64 {
    x + 1
}

fn odd_panics(x: u64) -> u64 {
    if x % 2 == 1 { panic!("{x} is odd") } else { x }
}

fn nested(x: u64) -> u64 {
    let _ = distribute!(odd_panics).build().unwrap().map([x]).wait();
    distribute!(plus).build().unwrap().map([x]).wait().unwrap()[0]
}

fn late(x: u64, context: &Context) -> u64 {
    if x < 3 && context.attempt() == 0 { panic!("not yet") } else { x }
}

static DEATHS: AtomicUsize = AtomicUsize::new(0);

fn dies_twice(x: &u64) -> u64 {
    if *x == 2 && DEATHS.fetch_add(1, Ordering::SeqCst) < 2 {
        kill_this_thread()
    }
    *x
}

/// What the log says and what the metrics say, of the same events.
fn story(scrape: impl Fn() -> Samples) {
    let success = |samples: &Samples, function: &str| {
        samples.sum("distfun_jobs_total", &[("function", function), ("outcome", "success")])
    };
    // Several Managers, one after the other.
    for count in 1..=3u64 {
        distribute!(plus).slots(2).build().unwrap().map(0..100).wait().unwrap();
        let samples = scrape();
        assert_eq!(success(&samples, "metrics::plus"), count as f64);
        assert_eq!(samples.sum("distfun_items_total", &[("function", "metrics::plus")]), 100.0 * count as f64);
    }
    let failing = distribute!(odd_panics).slots(2).endaftercall(false).build().unwrap();
    failing.map(0..10).wait().unwrap_err();
    let samples = scrape();
    let of = |outcome| [("function", "odd_panics"), ("outcome", outcome)];
    assert_eq!(samples.sum("distfun_items_total", &of("failure")), 5.0);
    assert_eq!(samples.sum("distfun_items_total", &of("success")), 5.0);
    assert_eq!(samples.sum("distfun_jobs_total", &of("failure")), 1.0);
    eventually(LIMIT, "the others are gone", || scrape().sum("distfun_managers", &[]) == 1.0);
    failing.finished().unwrap();
    // Of a call inside a function nothing is told unless it fails, and so nothing is counted.
    distribute!(nested).slots(2).build().unwrap().map(0..10).wait().unwrap();
    assert_eq!(success(&scrape(), "metrics::plus"), 3.0);

    let dfun = distribute!(late).retries(2).slots(2).build().unwrap();
    dfun.map(0..10).wait().unwrap();
    assert_eq!(scrape().sum("distfun_item_retries_total", &[("function", "late"), ("error_type", "panic")]), 3.0);
    let dying = distribute!(dies_twice).slots(1).build().unwrap();
    dying.map(0..5).wait().unwrap();
    let samples = scrape();
    assert_eq!(samples.sum("distfun_worker_restarts_total", &[("cause", "panic")]), 2.0);
    assert_eq!(samples.sum("distfun_chunk_retries_total", &[("function", "dies_twice")]), 2.0);
    assert_eq!(samples.sum("distfun_worker_stops_total", &[("cause", "died")]), 2.0);

    let shared = SharedData::builder().value("factor", &3u64).unwrap().build().unwrap();
    let bytes = scrape().sum("distfun_shared_bytes", &[]);
    assert!(bytes > 0.0);
    let times = distribute!(|x: u64, shared: &SharedData| x * shared.value::<u64>("factor").unwrap());
    assert_eq!(times.shared_data(shared).build().unwrap().map([2]).wait().unwrap(), [6]);
    eventually(LIMIT, "shared data is gone", || scrape().sum("distfun_shared_bytes", &[]) == 0.0);

    // While a call runs.
    let gate = Arc::new(Gate::new());
    let held = gate.clone();
    let waits = distribute_local(move |_: u64| held.pass()).slots(3).build().unwrap();
    let call = waits.map([1]);
    gate.await_arrivals(1);
    eventually(LIMIT, "all threads are there", || scrape().sum("distfun_worker_threads", &[("kind", "cpu")]) == 3.0);
    assert_eq!(scrape().sum("distfun_jobs_active", &[]), 1.0);
    gate.open();
    call.wait().unwrap();
    distribute!(plus).sequential(true).build().unwrap().map([1]).wait().unwrap();
}

#[test]
fn what_is_counted_is_what_was_done() {
    alone(|| {
        let server = metrics::serve("127.0.0.1:0").unwrap();
        let memory = Memory::default();
        let (json, log) = log::json().writer(memory.clone()).level(Level::DEBUG).build().unwrap();
        tracing_subscriber::registry().with(json).with(metrics::layer()).init();
        let address = server.address();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let watching = thread::spawn(move || {
            let mut before = Samples::get(address);
            while !over.load(Ordering::Relaxed) {
                let now = Samples::get(address);
                now.check_since(&before);
                before = now;
            }
        });
        story(|| Samples::get(address));
        let lines = || {
            log.flush(LIMIT);
            memory.lines()
        };
        let has_ended = || {
            let lines = lines();
            lines_of(&lines, "manager.started").len() == lines_of(&lines, "manager.stopped").len()
                && lines_of(&lines, "worker.started").len() == lines_of(&lines, "worker.stopped").len()
        };
        eventually(LIMIT, "all Managers and workers have stopped", has_ended);
        is_over.store(true, Ordering::Relaxed);
        watching.join().expect("no counter went down");
        let (mut lines, text) = (lines(), get(address, "/metrics"));
        check(&lines);
        lines.retain(|line| line["level"] != "DEBUG");
        let samples = Samples::read(&text);
        samples.check_against_page();
        promtool(&["check", "metrics"], &text);

        let mut events: BTreeMap<(&str, &str), f64> = BTreeMap::new();
        for line in &lines {
            let text = |name: &str| line[name].as_str().unwrap();
            *events.entry((text("otel.event.name"), text("level"))).or_default() += 1.0;
        }
        for (&(event, level), &count) in &events {
            let labels = [("event", event), ("level", level)];
            assert_eq!(samples.sum("distfun_events_total", &labels), count, "{event} {level}");
        }
        assert_eq!(samples.sum("distfun_events_total", &[]), lines.len() as f64);
        // Calls inside a function have a worker's id.
        let ends = lines_of(&lines, "job.finished").into_iter().filter(|line| !line.contains_key("distfun.worker.id"));
        let total = |name: &str| {
            let values = ends.clone().filter_map(|line| line.get(name)?.as_f64());
            (values.clone().count() as f64, values.sum::<f64>())
        };
        assert_eq!(samples.sum("distfun_jobs_total", &[]), total("distfun.items.total").0);
        assert_eq!(samples.sum("distfun_items_total", &[]), total("distfun.items.done").1);
        assert_eq!(samples.sum("distfun_chunks_total", &[]), total("distfun.chunks.done").1);
        for (metric, field) in [("duration", "duration_s"), ("queue", "queue_s"), ("compute", "compute_s")] {
            let (count, sum) = total(&format!("distfun.{field}"));
            assert_eq!(samples.sum(&format!("distfun_job_{metric}_seconds_count"), &[]), count);
            let is = samples.sum(&format!("distfun_job_{metric}_seconds_sum"), &[]);
            assert!((is - sum).abs() < 1e-6, "{metric}: {is} and {sum}");
        }
        let failures = lines_of(&lines, "chunk.exception").len() + lines_of(&lines, "chunk.failed").len();
        assert_eq!(samples.sum("distfun_chunk_failures_total", &[]), failures as f64);
        for gauge in ["jobs_active", "managers", "managers_stalled", "worker_threads", "shared_bytes", "workers"] {
            assert_eq!(samples.sum(&format!("distfun_{gauge}"), &[]), 0.0, "{gauge}");
        }
        let health = health(address);
        assert_eq!((health.0, health.1["status"].as_str()), (200, Some("ok")));
        assert_eq!((&health.1["managers"], &health.1["worker_threads"]), (&0.into(), &0.into()));
    });
}

static HELD: Gate = Gate::new();

fn held(x: u64) -> u64 {
    if x == 1 {
        HELD.pass();
    }
    x
}

#[test]
fn snapshots_tell_what_runs_and_a_node_counts_what_it_does_for_others() {
    alone(|| {
        let server = served();
        let config = node::config().listen("127.0.0.1:0").slots(2).cache(dir_of_process("cache"));
        let node = node::start(config.as_another_process().offer(function!(held))).unwrap();
        let scrape = || Samples::get(server.address());
        let samples = scrape();
        let of = |samples: &Samples, name: &str| samples.sum(&format!("distfun_{name}"), &[]);
        assert_eq!(["node_serving", "node_slots", "node_managers"].map(|name| of(&samples, name)), [1.0, 2.0, 0.0]);
        let dfun = distribute!(held).max_cpu(0).machines([node.address()]).endaftercall(false).build().unwrap();
        for _ in 0..5 {
            dfun.map([0]).wait().unwrap();
        }
        assert_eq!(of(&scrape(), "chunks_total"), 5.0, "of the calls; no snapshot has come");
        let call = dfun.map([1]);
        HELD.await_arrivals(1);
        let has_come = || of(&scrape(), "chunks_running") == 2.0;
        eventually(LIMIT, "snapshots of both Managers say that the chunk runs", has_come);
        let samples = scrape();
        samples.check_against_page();
        assert_eq!(of(&samples, "chunks_total"), 10.0, "by the one that made the calls, and by the node");
        assert_eq!(samples.sum("distfun_nodes", &[("state", "up")]), 1.0);
        assert_eq!(samples.sum("distfun_workers", &[("state", "busy")]), 1.0);
        assert_eq!(samples.sum("distfun_workers", &[("state", "available")]), 1.0);
        assert_eq!(of(&samples, "node_connections_total"), 1.0);
        assert_eq!(["node_managers", "managers", "jobs_active"].map(|name| of(&samples, name)), [1.0, 2.0, 1.0]);
        assert_eq!(of(&samples, "items_pending"), 2.0, "one there, and the same one here");
        HELD.open();
        call.wait().unwrap();
        dfun.finished().unwrap();
        drop((dfun, node));
        let is_over = || ["managers", "node_serving", "node_managers"].iter().all(|name| of(&scrape(), name) == 0.0);
        eventually(LIMIT, "all is over", is_over);
        let samples = scrape();
        assert_eq!(["chunks_running", "nodes", "workers"].map(|name| of(&samples, name)), [0.0; 3]);
        assert_eq!(of(&samples, "chunks_total"), 11.0, "the last is known by its call, and not yet by the node");
    });
}

#[test]
fn a_stalled_manager_is_not_healthy() {
    alone(|| {
        let server = served();
        let status = || health(server.address());
        let gate = Arc::new(Gate::new());
        let held = gate.clone();
        let wait = move |x: u64| {
            if x == 1 {
                held.pass()
            }
        };
        let dfun = distribute_local(wait).slots(1).endaftercall(false).build().unwrap();
        let hung = dfun.map([1]);
        gate.await_arrivals(1);
        assert_eq!((status().0, status().1["jobs_active"].as_u64()), (200, Some(1)));
        hung.canceller().cancel();
        let waiting = dfun.map([2]);
        eventually(LIMIT, "the stall is seen", || status().0 == 503);
        assert_eq!((&status().1["status"], &status().1["managers_stalled"]), (&"stalled".into(), &1.into()));
        let samples = Samples::get(server.address());
        assert_eq!(samples.sum("distfun_stalls_total", &[("cause", "workers_stuck")]), 1.0);
        assert_eq!(samples.sum("distfun_stalls_total", &[]), 1.0);
        gate.open();
        waiting.wait().unwrap();
        eventually(LIMIT, "its end is seen", || status().0 == 200);
        dfun.finished().unwrap();
    });
}

fn speaks(x: u64) -> u64 {
    eprintln!("{x} was here");
    x
}

#[test]
fn metrics_alone_ask_for_no_debug_and_take_nothing_that_functions_write() {
    alone_heard(
        || {
            let server = served();
            assert_eq!(tracing::level_filters::LevelFilter::current(), Level::INFO);
            assert!(!tracing::enabled!(Level::INFO), "of others");
            let dfun = distribute!(speaks).slots(1).isolation(Isolation::Process).build().unwrap();
            dfun.map([7]).wait().unwrap();
            let samples = Samples::get(server.address());
            assert_eq!(samples.sum("distfun_events_total", &[("event", "distfun.worker.output")]), 0.0);
        },
        |stderr| assert!(stderr.contains("[worker 0, item 0] 7 was here"), "{stderr}"),
    );
}

#[test]
fn metrics_are_served_to_this_machine_only_and_refusals_say_what_to_do() {
    alone(|| {
        let refused = |address: &str| metrics::serve(address).unwrap_err();
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1", "[::ffff:192.0.2.1]:9464"] {
            let error = refused(address);
            assert!(matches!(error, ServeError::NotLoopback { .. }), "{error:?}");
            assert!(error.to_string().contains("a proxy in front of it"), "{error}");
        }
        for address in ["", "here", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:0/metrics", "[::1", "::1]:1:2"] {
            let error = refused(address);
            assert!(matches!(error, ServeError::NoAddress { .. }), "{address}: {error:?}");
        }
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = refused(&taken.local_addr().unwrap().to_string());
        assert!(matches!(error, ServeError::Listen { .. }) && error.to_string().contains("another port"), "{error}");

        // Nothing is known without the layer; and the port is free again at once.
        let mut address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        for _ in 0..20 {
            let server = metrics::serve(&address.to_string()).unwrap();
            address = server.address();
            assert_eq!((health(address).0, &health(address).1["status"]), (503, &"no_layer".into()));
        }
        assert!(std::net::TcpStream::connect(address).is_err());
        tracing_subscriber::registry().with(metrics::layer()).init();
        for text in ["localhost:0", "[::ffff:127.0.0.1]:0"] {
            let server = metrics::serve(text).unwrap();
            assert_eq!(health(SocketAddr::new([127, 0, 0, 1].into(), server.address().port())).0, 200);
        }
    });
}

#[test]
fn a_recorder_of_the_program_s_own_is_not_replaced() {
    alone(|| {
        ::metrics::set_global_recorder(::metrics::NoopRecorder).unwrap();
        let error = metrics::serve("127.0.0.1:0").unwrap_err();
        assert!(matches!(error, ServeError::AlreadySet), "{error:?}");
    });
}

#[test]
fn alerts_are_as_prometheus_wants_them_and_of_metrics_that_are_there() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/prometheus");
    let path = |name: &str| format!("{folder}/{name}");
    promtool(&["check", "rules", &path("alerts.yml")], "");
    promtool(&["check", "config", &path("prometheus.yml")], "");
    promtool(&["test", "rules", &path("alerts_test.yml")], "");
    let rules = std::fs::read_to_string(path("alerts.yml")).unwrap();
    let page = scrape::page();
    let words = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names: Vec<&str> = words.filter(|word| word.starts_with("distfun_")).collect();
    assert!(names.len() >= 4);
    for name in names {
        assert!(page.contains_key(name), "{name}");
    }
}
