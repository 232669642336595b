//! A log, whatever it says: a view of it says nothing that can't be, and keeps no more than it may.

use std::{fs, path::PathBuf};

use distfun_core::{
    event::{EVENTS, Kind, TARGET},
    view::{Limits, Line, Time, View, WorkerState},
};
use serde_json::{Map, Value};

use crate::input::Input;

/// 2026-01-01.
const BEGIN: Time = Time(1_767_225_600_000_000);

/// Lines of an input that are read.
const MAX_LINES: usize = 200;

/// `data` is a log, if it begins as one; else each byte decides what the next event is, or what a field of it is.
///
/// # Panics
/// If the view says what can't be.
pub fn check(data: &[u8]) {
    let mut limits = Limits::default();
    (limits.spans, limits.story, limits.failures, limits.processes) = (20, 20, 5, 3);
    (limits.jobs, limits.workers, limits.managers) = (5, 5, 2);
    let mut view = View::new(limits);
    if data.starts_with(b"{") {
        for line in data.split(|&byte| byte == b'\n').take(MAX_LINES) {
            match serde_json::from_slice::<Line<'_>>(line) {
                Ok(line) => view.apply(&line),
                Err(_) => view.note_unreadable(),
            }
        }
    } else {
        let mut input = Input(data);
        let mut seq = 0;
        for _ in 0..MAX_LINES {
            if input.is_empty() {
                break;
            }
            let text = Value::Object(event(&mut input, &mut seq)).to_string();
            view.apply(&serde_json::from_str(&text).expect("a line of a log"));
            stand(&view, limits);
        }
    }
    for later in [0.0, 40.0, 1e300] {
        concern(&view, view.now().after(later));
    }
    stand(&view, limits);
}

/// What must hold after each line.
fn stand(view: &View, limits: Limits) {
    assert!(view.first().is_none_or(|first| first <= view.now()));
    assert!(view.spans().len() <= limits.spans && view.story().len() <= limits.story);
    assert!(view.failures().len() <= limits.failures);
    assert!(view.processes().count() <= limits.processes);
    for process in view.processes() {
        assert!(process.jobs.len() <= limits.jobs && process.managers.len() <= limits.managers, "{process:?}");
    }
    for (_, manager) in view.managers() {
        assert!(manager.workers.len() <= limits.workers && manager.nodes.len() <= limits.workers, "{manager:?}");
        for worker in manager.workers.values() {
            assert!(worker.running.is_none() || worker.state == WorkerState::Busy, "{worker:?}");
        }
        for node in manager.nodes.values() {
            assert!(node.is_up() || node.running.is_empty(), "{node:?}");
        }
        assert!(manager.ended.is_none() || manager.running().next().is_none(), "{manager:?}");
    }
    for span in view.spans() {
        assert!(span.start <= span.end && !(span.is_failed && span.is_lost), "{span:?}");
    }
    for group in view.failures() {
        assert!(group.text.len() <= 512, "{group:?}");
    }
}

/// What is said of it at `now`.
fn concern(view: &View, now: Time) {
    assert!(view.concerns(now).iter().all(|concern| !concern.text.is_empty()));
    let all: Vec<_> = view.explanations(now).collect();
    assert_eq!(all.len(), view.jobs().count());
    for (process, job, text) in all {
        assert_eq!(text, view.explain(process, job, now));
        assert!(job.progress().is_none_or(|progress| (0.0..=1.0).contains(&progress)), "{job:?}");
        assert!(job.eta_s(now).is_none_or(|eta| eta >= 0.0), "{job:?}");
    }
    for (process, manager) in view.managers() {
        let (busy, live) = view.busy(process, manager, now);
        assert!(busy <= live && live <= manager.workers.len(), "{manager:?}");
        for worker in manager.workers.values() {
            view.worker_state(process, manager, worker, now);
        }
    }
}

/// An event of the table, with whatever its fields can be.
fn event(input: &mut Input<'_>, seq: &mut u64) -> Map<String, Value> {
    let event = &EVENTS[usize::from(input.byte()) % EVENTS.len()];
    // Mostly the next line; but lines come twice, late, or not at all.
    let number = match input.byte() {
        byte @ ..16 => seq.saturating_sub(byte.into()),
        byte => *seq + u64::from(byte / 240),
    };
    *seq = number.max(*seq) + 1;
    let mut line = Map::new();
    let mut say = |name: &str, value: Value| line.insert(name.to_owned(), value);
    say("timestamp", BEGIN.after(number as f64 * 0.5).to_string().into());
    say("level", ["INFO", "WARN", "ERROR", "DEBUG"][usize::from(input.byte()) % 4].into());
    say("target", TARGET.into());
    say("message", "m".into());
    say("otel.event.name", event.name.into());
    say("distfun.boot_id", ["a", "b", "a", "a"][usize::from(input.byte()) % 4].into());
    say("distfun.seq", number.into());
    for used in event.fields {
        let byte = input.byte();
        if byte == 255 {
            continue;
        }
        let of = usize::from(byte);
        let value = match used.field.kind {
            Kind::Text if used.field.values.is_empty() => ["oak", "elm", "f", ""][of % 4].into(),
            Kind::Text => used.field.values[of % used.field.values.len()].into(),
            Kind::Whole => [0, 1, 2, 3, 7, u64::MAX][(of % 16).min(of % 6)].into(),
            Kind::Float => [0.0, 0.5, 1.0, 12.0, 1e300, -1.0][(of % 16).min(of % 6)].into(),
            Kind::Flag => (of % 2 == 1).into(),
        };
        say(used.field.name, value);
    }
    line
}

/// The first lines of logs of real failures, and events in the order of the table.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../integration-tests/testdata");
    let named = |name: &str| fs::read_to_string(folder.join(name)).expect("a log that other tests read");
    let first = |log: String| log.lines().take(30).collect::<Vec<_>>().join("\n").into_bytes();
    let logs = ["events-v1", "incidents/crash", "incidents/node-lost", "incidents/hang", "incidents/stalled"];
    let mut seeds: Vec<_> = logs.iter().map(|name| first(named(&format!("{name}.ndjson")))).collect();
    // All of one call, worker and node, and then with others beside them.
    for step in [0, 1, 5] {
        let mut bytes = Vec::new();
        for (number, event) in EVENTS.iter().enumerate() {
            bytes.extend([number as u8, 100, 0, 0]);
            bytes.extend((0..event.fields.len()).map(|at| (at * step) as u8));
        }
        seeds.push(bytes);
    }
    seeds
}
