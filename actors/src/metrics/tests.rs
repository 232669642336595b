use std::{collections::BTreeSet, fmt::Write, path::Path};

use ::metrics::{Unit, with_local_recorder};
use distfun_core::event::{
    ENVELOPE, EVENTS, JobFinished, JobSubmitted, ManagerResumed, ManagerStalled, ManagerState, ManagerStopped,
    SessionOpened, SharedPublished, SharedReleased, SupervisionEvent, WorkerStarted, WorkerStopped, listened,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{Registry, layer::SubscriberExt};

use super::{
    table::{Kind, METRICS},
    *,
};

/// What is counted while `body` runs, on this thread.
fn counting(body: impl FnOnce(&PrometheusHandle)) {
    counting_beside(Registry::default(), body);
}

/// The same with other layers in the same subscriber.
fn counting_beside<S>(others: S, body: impl FnOnce(&PrometheusHandle))
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, || {
        let layer = layer_of(Arc::new(Mutex::new(State::new())));
        tracing::subscriber::with_default(others.with(layer), || body(&recorder.handle()));
    });
}

/// The value of the one sample that begins so; None if there is none.
fn sample(recorded: &PrometheusHandle, name: &str) -> Option<f64> {
    let text = recorded.render();
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = values.next()?.parse().unwrap();
    assert_eq!(values.next(), None, "{text}");
    Some(value)
}

fn ended(manager_id: u64, chunks_done: u64) -> JobFinished<'static> {
    let (function, outcome) = ("f", "success");
    JobFinished {
        manager_id: Some(manager_id),
        function,
        outcome,
        chunks_done: Some(chunks_done),
        ..JobFinished::default()
    }
}

#[test]
fn counts_of_managers_are_added_up_and_never_go_down() {
    counting(|recorded| {
        let chunks = || sample(recorded, "distfun_chunks_total").unwrap();
        let running = || sample(recorded, "distfun_chunks_running").unwrap();
        let snapshot = |manager_id, chunks_done, chunks_running| {
            ManagerState { manager_id, chunks_done, chunks_running, ..ManagerState::default() }.emit();
        };
        let stop = |manager_id| ManagerStopped { manager_id, ..ManagerStopped::default() }.emit();
        SessionOpened { manager_id: 1, ..SessionOpened::default() }.emit();
        assert_eq!(chunks(), 0.0);
        ended(1, 5).emit();
        assert_eq!(chunks(), 5.0);
        snapshot(1, 7, 2);
        assert_eq!((chunks(), running()), (7.0, 2.0), "the call's five are among the seven");
        snapshot(2, 10, 1);
        assert_eq!((chunks(), running()), (17.0, 3.0));
        ended(1, 1).emit();
        assert_eq!(chunks(), 17.0, "six of ended calls, which may be among the seven");
        stop(1);
        assert_eq!((chunks(), running()), (17.0, 1.0));
        ended(1, 100).emit();
        snapshot(2, 11, 1);
        assert_eq!(chunks(), 18.0);
        stop(2);
        assert_eq!((chunks(), running(), sample(recorded, "distfun_managers")), (18.0, 0.0, Some(0.0)));
        // As they are counted by a Manager that begins to count late.
        snapshot(3, 0, 0);
        assert_eq!(chunks(), 18.0);
    });
}

#[test]
fn a_stall_ends_with_its_manager() {
    counting(|recorded| {
        let stalled = || sample(recorded, "distfun_managers_stalled").unwrap();
        let stall =
            |manager_id| ManagerStalled { manager_id, stall_reason: "no_workers", ..ManagerStalled::default() }.emit();
        for manager_id in [1, 2] {
            SessionOpened { manager_id, ..SessionOpened::default() }.emit();
            stall(manager_id);
        }
        assert_eq!(stalled(), 2.0);
        ManagerResumed { manager_id: 1, ..ManagerResumed::default() }.emit();
        assert_eq!(stalled(), 1.0);
        ManagerStopped { manager_id: 2, ..ManagerStopped::default() }.emit();
        assert_eq!(stalled(), 0.0);
        stall(2);
        assert_eq!(stalled(), 0.0, "it is gone");
        assert_eq!(sample(recorded, "distfun_stalls_total{cause=\"no_workers\"}"), Some(3.0));
    });
}

#[test]
fn what_began_before_anybody_counted_does_no_harm() {
    counting(|recorded| {
        ended(9, 3).emit();
        WorkerStopped { exit_reason: "died", ..WorkerStopped::default() }.emit();
        SharedReleased { total_bytes: 8, ..SharedReleased::default() }.emit();
        ManagerStopped::default().emit();
        for gauge in ["jobs_active", "managers", "shared_bytes", "worker_threads{kind=\"cpu\"}"] {
            assert_eq!(sample(recorded, &format!("distfun_{gauge}")), Some(0.0), "{gauge}");
        }
        assert_eq!(sample(recorded, "distfun_jobs_total{function=\"f\",outcome=\"success\"}"), Some(1.0));
        SharedPublished { total_bytes: 8, ..SharedPublished::default() }.emit();
        WorkerStarted { worker_kind: "cpu", ..WorkerStarted::default() }.emit();
        assert_eq!(sample(recorded, "distfun_shared_bytes"), Some(8.0));
        assert_eq!(sample(recorded, "distfun_worker_threads{kind=\"cpu\"}"), Some(1.0));
    });
}

#[test]
fn calls_inside_a_distributed_function_are_left_out_whether_they_fail_or_not() {
    counting(|recorded| {
        let worker_id = Some(0);
        JobSubmitted { job_id: 1, ..JobSubmitted::default() }.emit();
        JobSubmitted { job_id: 2, worker_id, ..JobSubmitted::default() }.emit();
        for outcome in ["success", "failure"] {
            JobFinished { job_id: 2, outcome, worker_id, ..JobFinished::default() }.emit();
        }
        assert_eq!(sample(recorded, "distfun_jobs_active"), Some(1.0));
        assert!(!recorded.render().contains("distfun_jobs_total{"), "{}", recorded.render());
    });
}

/// `enabled!` leaves its answer behind for whichever event comes next on the thread.
#[test]
fn another_layer_that_wants_debug_takes_no_event_away() {
    struct Ignores;
    impl<S: Subscriber> Layer<S> for Ignores {}
    counting_beside(Registry::default().with(Ignores.with_filter(LevelFilter::DEBUG)), |recorded| {
        for manager_id in 0..100 {
            assert!(listened!(DEBUG));
            SessionOpened { manager_id, ..SessionOpened::default() }.emit();
        }
        assert_eq!(sample(recorded, "distfun_managers"), Some(100.0));
    });
}

#[test]
fn what_is_not_in_the_table_is_not_counted() {
    counting(|recorded| {
        tracing::info!(target: TARGET, "by somebody else");
        tracing::info!(name: "distfun.manager.stalled", target: "elsewhere", "by somebody else");
        assert!(!recorded.render().contains("distfun_events_total"), "{}", recorded.render());
    });
}

#[test]
fn texts_that_are_read_are_fields_of_events() {
    let fields: BTreeSet<_> =
        ENVELOPE.iter().chain(EVENTS.iter().flat_map(|event| event.fields)).map(|used| used.field.name).collect();
    for text in fields::TEXTS {
        assert!(fields.contains(text), "{text}");
    }
}

/// <https://prometheus.io/docs/practices/naming/>
#[test]
fn names_are_as_prometheus_wants_them() {
    let mut names = BTreeSet::new();
    for metric in METRICS {
        let name = metric.name;
        assert!(names.insert(name), "{name} twice");
        assert!(name.starts_with("distfun_"), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        let unit = match name.trim_end_matches("_total") {
            name if name.ends_with("_seconds") => Unit::Seconds,
            name if name.ends_with("_bytes") => Unit::Bytes,
            _ => Unit::Count,
        };
        assert_eq!(metric.unit, unit, "{name}");
        assert!(metric.doc.ends_with('.') && !metric.doc.contains('|'), "{name}");
        for label in metric.labels {
            let known = ["function", "outcome", "state", "cause", "error_type", "event", "level", "kind", "version"]
                .contains(label);
            assert!(known, "{label} of {name}");
        }
    }
}

/// `docs/METRICS.md`, between its two marks.
fn reference() -> String {
    let mut text = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let unit = match metric.unit {
            Unit::Seconds => ", s",
            Unit::Bytes => ", bytes",
            _ => "",
        };
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(text, "| `{}` | {kind}{unit} | {} | {} |", metric.name, labels.join(", "), metric.doc).unwrap();
    }
    text
}

/// `REWRITE=1 cargo test -p distfun --features metrics` writes the page anew.
#[test]
fn the_page_about_metrics_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let [begin, end] = ["<!-- from here on made from actors/src/metrics/table.rs -->", "<!-- until here -->"];
    let (before, rest) = page.split_once(begin).expect("the first mark");
    let (is, after) = rest.split_once(end).expect("the second mark");
    let should = reference();
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, format!("{before}{begin}\n\n{should}\n{end}{after}")).unwrap();
    } else {
        let remedy = "write it anew: REWRITE=1 cargo test -p distfun --features metrics";
        for (is, should) in is.trim().lines().zip(should.trim().lines()) {
            assert_eq!(is, should, "{remedy}");
        }
        assert_eq!(is.trim().len(), should.trim().len(), "{remedy}");
    }
}
