//! `docs/FAILURES.md` and the logs that it quotes. The example `incidents` has made them; they are kept, as logs of that time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::check::{Line, check_line, check_numbers, lines_of};

/// Every log that is kept, by its name.
fn logs() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/incidents");
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path());
    let named = |path: &Path| path.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
    entries.map(|path| (named(&path), fs::read_to_string(&path).expect("a log"))).collect()
}

fn parsed(log: &str) -> Vec<Line> {
    log.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// A node that was started again has appended to the log of the one before.
fn runs(lines: Vec<Line>) -> Vec<Vec<Line>> {
    let is_same = |a: &Line, b: &Line| a["distfun.boot_id"] == b["distfun.boot_id"];
    lines.chunk_by(is_same).map(<[Line]>::to_vec).collect()
}

#[test]
fn the_logs_of_the_incidents_are_whole_and_as_the_table_says() {
    let logs = logs();
    let names: Vec<&str> = logs.keys().map(String::as_str).collect();
    let expected = [
        "crash.ndjson",
        "hang.ndjson",
        "node-lost.ndjson",
        "node-lost.node-a.ndjson",
        "node-lost.node-b.ndjson",
        "panic.ndjson",
        "stalled.ndjson",
        "stalled.node-a.ndjson",
    ];
    assert_eq!(names, expected);
    for (name, log) in &logs {
        assert!(log.ends_with('\n'), "{name}");
        let lines = parsed(log);
        lines.iter().for_each(check_line);
        let role = if name.contains(".node-") { "node" } else { "manager" };
        assert!(lines.iter().all(|line| line["distfun.role"] == role), "{name}");
        let hosts: BTreeSet<_> = lines.iter().filter_map(|line| line.get("host.name")?.as_str()).collect();
        assert_eq!(hosts, ["bench"].into(), "{name}");
        let is_killed_once = name == "node-lost.node-a.ndjson";
        let runs = runs(lines);
        assert_eq!(runs.len(), if is_killed_once { 2 } else { 1 }, "{name}");
        for run in &runs {
            assert_eq!(run[0]["distfun.seq"], 0, "{name}");
            check_numbers(run);
        }
    }
}

/// A dashboard that reads one of them has to find what its name says.
#[test]
fn the_logs_of_the_incidents_tell_of_them() {
    let logs = logs();
    let found = |name: &str, event: &str, field: &str, value: serde_json::Value| {
        let lines = parsed(&logs[name]);
        let found = lines_of(&lines, event).into_iter().any(|line| line.get(field) == Some(&value));
        assert!(found, "{name} has no {event} with {field} {value}");
    };
    found("panic.ndjson", "chunk.exception", "distfun.item.index", 17.into());
    found("crash.ndjson", "worker.restarted", "distfun.cause", "crash".into());
    found("crash.ndjson", "chunk.failed", "error.type", "poisoned".into());
    found("crash.ndjson", "chunk.finished", "distfun.chunk.attempt", 2.into());
    found("node-lost.ndjson", "node.suspect", "distfun.chunks.running", 2.into());
    found("node-lost.ndjson", "node.lost", "distfun.chunks.requeued", 2.into());
    found("node-lost.ndjson", "job.finished", "distfun.outcome", "success".into());
    found("stalled.ndjson", "manager.stalled", "distfun.reason", "no_nodes".into());
    found("stalled.ndjson", "manager.resumed", "distfun.manager.id", 1.into());
    found("hang.ndjson", "chunk.slow", "distfun.chunk.index", 13.into());
    found("hang.ndjson", "worker.restarted", "distfun.cause", "timeout".into());
    let lines = parsed(&logs["node-lost.ndjson"]);
    assert!(lines_of(&lines, "node.connected").iter().any(|line| line.contains_key("distfun.outage_s")));
}

#[test]
fn every_line_that_the_page_on_failures_quotes_is_in_a_log() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FAILURES.md");
    let page = fs::read_to_string(page).expect("docs/FAILURES.md");
    let logs = logs();
    let known: BTreeSet<&str> = logs.values().flat_map(|log| log.lines()).collect();
    let blocks: Vec<&str> =
        page.split("```json\n").skip(1).map(|rest| rest.split("\n```").next().expect("an end")).collect();
    for line in blocks.iter().flat_map(|block| block.lines()) {
        assert!(known.contains(line), "no log has {line}");
    }
    assert_eq!(blocks.len(), 8);
}

/// As a program of a user's own reads them.
#[test]
fn a_kept_log_is_read_with_the_view_that_users_have() {
    use distfun::view::{JobState, Limits, Place, View};
    let mut view = View::new(Limits::default());
    for line in logs()["crash.ndjson"].lines() {
        view.apply(&serde_json::from_str(line).expect("a line"));
    }
    let (process, job) = view.jobs().next().expect("a call");
    assert_eq!((job.state, job.failed), (JobState::Failure, 1));
    let told = view.explain(process, job, view.now());
    assert!(told.contains("item 7: 3 workers died while running it"), "{told}");
    let lost: Vec<_> = view.spans().filter(|span| span.is_lost).map(|span| (span.place, span.index)).collect();
    let [zero, one] = [Place::Worker(0), Place::Worker(1)];
    assert_eq!(lost, [(one, 7), (zero, 7), (one, 7), (zero, 12)]);
    assert!(view.losses().is_whole());
}
