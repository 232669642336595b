//! A view as JSON: what `distfun status --json` prints and pages are drawn from.

use std::collections::BTreeMap;

use distfun_core::view::{Concern, FailureGroup, Losses, Manager, Process, Span, Time, Told, View, WorkerState};
use serde::Serialize;

/// Times are seconds since 1970 (UTC), durations seconds (`_s`), sizes bytes (`_bytes`). Fields may be added.
#[derive(Serialize)]
pub(crate) struct Picture<'a> {
    /// Version of this form.
    pub(crate) form: u32,
    /// The time it is of, by the clocks of those who wrote.
    pub(crate) now: Time,
    /// The time of the first line.
    pub(crate) first: Option<Time>,
    /// What is wrong, the gravest first.
    pub(crate) concerns: Vec<Concern>,
    /// What the record lacks.
    pub(crate) losses: Losses,
    /// For each call, why it is not done yet, or how it ended.
    pub(crate) explanations: Vec<Explanation>,
    /// Programs that have written, with their Managers, workers, nodes and calls.
    pub(crate) processes: Vec<Seen<'a>>,
    /// What failed, by kind, the latest last.
    pub(crate) failures: Vec<&'a FailureGroup>,
    /// Lines for people, the latest last.
    pub(crate) story: Vec<&'a Told>,
    /// Chunks that ended, the latest last.
    pub(crate) spans: Vec<&'a Span>,
}

/// A program, with what follows at the time of the picture from what it has said.
#[derive(Serialize)]
pub(crate) struct Seen<'a> {
    #[serde(flatten)]
    process: &'a Process,
    /// Whether it has ended, or another one serves in its place.
    is_over: bool,
    /// Whether it should have been heard of.
    is_silent: bool,
    /// Workers that compute and workers that can, of each of its Managers that has not ended.
    busy: BTreeMap<u64, (usize, usize)>,
    /// Workers that are in another state than was last said of them, by Manager and worker.
    worker_states: BTreeMap<u64, BTreeMap<u64, WorkerState>>,
}

impl<'a> Seen<'a> {
    fn of(view: &View, process: &'a Process, now: Time) -> Self {
        let open = || process.managers.values().filter(|manager| manager.ended.is_none());
        let other_states = |manager: &Manager| -> BTreeMap<_, _> {
            let states = manager.workers.values().map(|it| (it, view.worker_state(process, manager, it, now)));
            states.filter(|(worker, state)| worker.state != *state).map(|(worker, state)| (worker.id, state)).collect()
        };
        Self {
            process,
            is_over: process.is_over(),
            is_silent: process.is_silent(now),
            busy: open().map(|manager| (manager.id, view.busy(process, manager, now))).collect(),
            worker_states: open()
                .map(|manager| (manager.id, other_states(manager)))
                .filter(|(_, states)| !states.is_empty())
                .collect(),
        }
    }
}

/// Of one call.
#[derive(Serialize)]
pub(crate) struct Explanation {
    /// The number of its process.
    pub(crate) process: u32,
    /// Its own.
    pub(crate) job: u64,
    /// In a sentence.
    pub(crate) text: String,
}

impl<'a> Picture<'a> {
    /// At `now`, with lines and chunks from these numbers on.
    pub(crate) fn of(view: &'a View, now: Time, told_from: u64, spans_from: u64) -> Self {
        Self {
            form: 1,
            now,
            first: view.first(),
            concerns: view.concerns(now),
            losses: view.losses(),
            explanations: view
                .explanations(now)
                .map(|(process, job, text)| Explanation { process: process.id, job: job.id, text })
                .collect(),
            processes: view.processes().map(|process| Seen::of(view, process, now)).collect(),
            failures: view.failures(),
            story: view.story().filter(|told| told.number >= told_from).collect(),
            spans: view.spans().filter(|span| span.number >= spans_from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use distfun_core::view::{Limits, Line};
    use serde_json::{Value, json};

    use super::*;

    /// The page had rules of its own for what the view knows, and they had to be kept alike by hand.
    #[test]
    fn it_says_what_follows_from_silence_and_from_a_heartbeat_that_is_old() {
        let line = |seq: u64, event: &str, more: &str| {
            format!(
                r#"{{"timestamp":"2026-01-01T12:00:00Z","level":"INFO","target":"distfun::event","message":"","otel.event.name":"distfun.{event}","distfun.manager.id":1,"distfun.worker.id":0,"distfun.worker.generation":0{more},"distfun.boot_id":"b","distfun.seq":{seq}}}"#
            )
        };
        let inside = r#","distfun.state":"busy","distfun.running_s":12.0,"distfun.job.id":1,"distfun.function.name":"f","distfun.chunk.index":3,"distfun.chunk.items":1"#;
        let mut view = View::new(Limits::default());
        for text in [line(0, "worker.started", ""), line(1, "worker.state", inside)] {
            view.apply(&serde_json::from_str::<Line<'_>>(&text).unwrap());
        }
        let said = |seconds: f64| -> Vec<Value> {
            let picture = Picture::of(&view, view.now().after(seconds), 0, 0);
            let json = serde_json::to_value(&picture).unwrap();
            let process = &json["processes"][0];
            ["is_over", "is_silent", "busy", "worker_states"].map(|name| process[name].clone()).into()
        };
        assert_eq!(said(1.0), [json!(false), json!(false), json!({ "1": [1, 1] }), json!({})]);
        assert_eq!(said(31.0)[3], json!({ "1": { "0": "up" } }));
        assert_eq!(said(151.0)[1], true);
        let stopped = line(2, "manager.stopped", r#","distfun.reason":"finished""#);
        view.apply(&serde_json::from_str::<Line<'_>>(&stopped).unwrap());
        let picture = serde_json::to_value(Picture::of(&view, view.now(), 0, 0)).unwrap();
        let process = &picture["processes"][0];
        assert_eq!((&process["is_over"], &process["busy"]), (&json!(true), &json!({})));
        assert_eq!(process["managers"]["1"]["ended"]["reason"], "finished", "beside all that it has said");
    }
}
