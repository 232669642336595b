//! `status`, `explain` and `trace`, on logs of real failures that are kept for ever.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Of an incident.
fn log(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../integration-tests/testdata/incidents").join(format!("{name}.ndjson"))
}

fn distfun(arguments: &[&str], logs: &[&str]) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_distfun"));
    let output = command.args(arguments).args(logs.iter().map(|name| log(name))).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (stdout, stderr, output.status.code())
}

fn says(arguments: &[&str], logs: &[&str]) -> String {
    let (stdout, stderr, status) = distfun(arguments, logs);
    assert_eq!((stderr.as_str(), status), ("", Some(0)), "{arguments:?}");
    stdout.trim_end().to_owned()
}

#[test]
fn a_sentence_says_how_a_call_ended() {
    for (name, sentence) in [
        (
            "panic",
            "call 1 (incidents::mean) failed after 12.9 ms, with 1 of 40 items failed: no values to take the mean of",
        ),
        ("node-lost", "call 1 (incidents::simulate) is complete: 30 items after 3.0 s"),
        (
            "hang",
            "call 1 (incidents::root) failed after 14.0 s, with 1 of 30 items failed: it ran longer than 14s and was stopped; \
             allow more with item_timeout",
        ),
    ] {
        assert_eq!(says(&["explain", "1"], &[name]), sentence);
    }
    assert!(says(&["explain", "1"], &["crash"]).contains("with 1 of 24 items failed: "));
}

#[test]
fn a_sentence_says_why_a_call_is_not_done_yet() {
    // Before anything can compute, and while an item hangs.
    let waits = says(&["explain", "1", "--at", "2.2"], &["stalled"]);
    assert!(waits.starts_with("call 1 (incidents::simulate) has waited for "), "{waits}");
    assert!(waits.contains("no machine is connected, and there are no workers here"), "{waits}");
    let hangs = says(&["explain", "1", "--at", "12.0"], &["hang"]);
    assert!(hangs.contains(" computes item ") && hangs.contains("29 of 30 items done"), "{hangs}");
}

#[test]
fn how_things_stood_is_told_for_any_moment() {
    let before = says(&["status", "--at", "2.2"], &["stalled"]);
    let lines: Vec<_> = before.lines().collect();
    assert!(lines[0].starts_with("at 2026-11-28T"), "{before}");
    assert!(
        lines[1].starts_with("!! incidents ") && lines[1].contains(": 1 call waits, with 4 items, for "),
        "{before}"
    );
    let after = says(&["status"], &["stalled", "stalled.node-a"]);
    assert!(after.contains("1 call has ended, 0 of them failed") && !after.contains("!!"), "{after}");
    let json: Value =
        serde_json::from_str(&says(&["status", "--json"], &["node-lost", "node-lost.node-a", "node-lost.node-b"]))
            .unwrap();
    assert_eq!(json["form"], 1);
    let names: Vec<_> =
        json["processes"].as_array().unwrap().iter().map(|process| process["role"].as_str().unwrap()).collect();
    assert_eq!(names.iter().filter(|role| **role == "node").count(), 3, "node-a ran twice: {names:?}");
    assert_eq!(json["losses"]["missing"], 0);
    let lost = json["failures"].as_array().unwrap().iter().find(|group| group["kind"] == "node_lost").unwrap();
    assert_eq!((&lost["retried"], &lost["failed"]), (&1.into(), &0.into()));
}

#[test]
fn a_trace_has_a_track_for_each_worker_and_each_chunk_once() {
    let trace: Value =
        serde_json::from_str(&distfun(&["trace", "-o", "-"], &["node-lost", "node-lost.node-a", "node-lost.node-b"]).0)
            .unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |kind: &str| events.iter().filter(|event| event["ph"] == kind).cloned().collect::<Vec<_>>();
    let tracks: Vec<_> =
        of("M").iter().filter(|event| event["name"] == "thread_name").map(|event| event["tid"].clone()).collect();
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    let mut items = 0;
    for chunk in of("X") {
        assert!(tracks.contains(&chunk["tid"]), "{chunk}");
        let end = ends.entry(format!("{} {}", chunk["pid"], chunk["tid"])).or_default();
        let start = chunk["ts"].as_u64().unwrap();
        assert!(start + 1000 >= *end, "two at once on one track: {chunk}");
        *end = start + chunk["dur"].as_u64().unwrap();
        items += chunk["args"]["items"].as_u64().unwrap();
    }
    assert_eq!(items, 30);
    assert!(of("i").iter().any(|event| event["name"].as_str().unwrap().contains(" is lost: ")));
}

#[test]
fn what_can_not_be_answered_is_said() {
    let fails = |arguments: &[&str], logs: &[&str], status, part: &str| {
        let (stdout, stderr, code) = distfun(arguments, logs);
        assert_eq!((stdout.as_str(), code), ("", Some(status)), "{arguments:?}");
        assert!(stderr.contains(part), "{arguments:?}: {stderr}");
    };
    fails(&["explain", "7"], &["panic"], 1, "the log has no call 7; it knows calls 1 to 1");
    fails(&["status"], &["no such"], 1, "no such.ndjson can't be read: ");
    fails(&["status", "/dev/null"], &[], 1, "the log is empty");
    fails(&["status", env!("CARGO_BIN_EXE_distfun")], &[], 1, "is a line of a log");
    fails(&["trace", "-o", "-"], &["panic"], 1, "the log has no chunks: they are told at DEBUG");
    fails(&["trace", "-o", "/no/such/folder/trace"], &["crash"], 1, "/no/such/folder/trace can't be written: ");
    fails(&["status"], &[], 2, "LOG");
    fails(
        &["status", "--at", "yesterday"],
        &["panic"],
        2,
        "neither a time as 2026-01-31T12:00:00Z nor a number of seconds",
    );
}
