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
            "call 1 (incidents::mean) failed after 12.9 ms, with 1 of 40 items failed: item 17: no values to take the mean of \
             (examples/src/bin/incidents.rs:138)",
        ),
        ("node-lost", "call 1 (incidents::simulate) is complete: 30 items after 3.0 s"),
        (
            "hang",
            "call 1 (incidents::root) failed after 14.0 s, with 1 of 30 items failed: item 13: it ran longer than 14s and was \
             stopped; allow more with item_timeout",
        ),
    ] {
        assert_eq!(says(&["explain", "1"], &[name]), sentence);
    }
    assert!(says(&["explain", "1"], &["crash"]).contains("with 1 of 24 items failed: item 7: "));
    // So do lists of calls.
    assert!(says(&["status"], &["panic"]).contains("(examples/src/bin/incidents.rs:138)"));
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
        if chunk["cat"] != "lost" {
            items += chunk["args"]["items"].as_u64().unwrap();
        }
    }
    assert_eq!(items, 30);
    // Those that the node had when it was lost were left out.
    let lost: Vec<_> = of("X").into_iter().filter(|chunk| chunk["cat"] == "lost").collect();
    let on: Vec<_> =
        lost.iter().map(|chunk| (chunk["ts"].as_u64().unwrap() + chunk["dur"].as_u64().unwrap()) / 10_000).collect();
    assert_eq!(on.len(), 2, "{lost:?}");
    assert_eq!(on[0], on[1], "they ended together: {lost:?}");
    assert!(lost[0]["name"].as_str().unwrap().ends_with(" (lost)"), "{lost:?}");
    assert!(of("i").iter().any(|event| event["name"].as_str().unwrap().contains(" is lost: ")));
}

/// Texts of a log are a function's, or another machine's.
#[test]
fn nobody_who_writes_into_a_log_writes_to_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let path = path.to_str().unwrap();
    let line = |seq: u64, event: &str, more: &str| {
        format!(
            "{{\"timestamp\":\"2026-01-01T00:00:0{seq}Z\",\"level\":\"INFO\",\"target\":\"distfun::event\",\"message\":\"m\",\
             \"otel.event.name\":\"distfun.{event}\",\"distfun.boot_id\":\"b\",\"distfun.seq\":{seq},\"distfun.manager.id\":1,{more}}}\n"
        )
    };
    let evil = r"\u001b[2J\n!! forged: all is lost\u202e";
    let submitted = format!(
        "\"distfun.job.id\":1,\"distfun.function.name\":\"f{evil}\",\"service.name\":\"p{evil}\",\"host.name\":\"h{evil}\""
    );
    let failed = format!("\"distfun.job.id\":1,\"distfun.outcome\":\"failure\",\"error.message\":\"e{evil}\"");
    let rejected = format!(
        "\"distfun.machine\":\"m{evil}\",\"error.message\":\"e{evil}\",\"error.type\":\"auth\",\"distfun.gives_up\":true"
    );
    let log =
        line(0, "job.submitted", &submitted) + &line(1, "node.rejected", &rejected) + &line(2, "job.finished", &failed);
    std::fs::write(path, log).unwrap();
    for arguments in [&["status", path][..], &["explain", "1", path], &["top", "--once", path]] {
        let said = says(arguments, &[]);
        let is_evil = |char: char| (char.is_control() && char != '\n') || char == '\u{202e}';
        assert!(!said.contains(is_evil), "{arguments:?}: {said:?}");
        assert!(said.lines().all(|line| !line.starts_with("!! forged")), "{said}");
    }
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
    fails(&["status", "--at", "2020-01-01T00:00:00Z"], &["panic"], 1, "the log begins later than that");
    let copy = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(log("crash"), copy.path()).unwrap();
    let copy = copy.path().to_str().unwrap();
    for command in ["trace", "report"] {
        fails(&[command, "-o", copy, copy], &[], 1, "is a log that is read; write to another file");
    }
    fails(&["status"], &[], 2, "LOG");
    fails(
        &["status", "--at", "yesterday"],
        &["panic"],
        2,
        "neither a time as 2026-01-31T12:00:00Z nor a number of seconds",
    );
}
