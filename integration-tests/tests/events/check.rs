//! Lines of a log, and what must hold of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    sync::{Arc, Mutex},
};

pub(crate) use distfun_integration_tests::line::{Line, check_line};
use serde_json::Value;

/// A log in memory.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).expect("text")
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines of this event.
pub(crate) fn lines_of<'a>(lines: &'a [Line], name: &str) -> Vec<&'a Line> {
    let name = format!("distfun.{name}");
    lines.iter().filter(|line| line.get("otel.event.name").is_some_and(|is| *is == name)).collect()
}

fn number(line: &Line, name: &str) -> u64 {
    line[name].as_u64().unwrap_or_else(|| panic!("{name} in {line:?}"))
}

/// Everything that holds for any log that was not cut off.
#[track_caller]
pub(crate) fn check(lines: &[Line]) {
    lines.iter().for_each(check_line);
    check_numbers(lines);
    check_jobs(lines);
    check_workers(lines);
}

/// Every number once and in order; what is missing is counted by the next `log.dropped`.
#[track_caller]
pub(crate) fn check_numbers(lines: &[Line]) {
    let (mut next, mut missing) = (0, 0);
    for line in lines {
        let seq = number(line, "distfun.seq");
        assert!(seq >= next, "{seq} after {next}");
        missing += seq - next;
        next = seq + 1;
        if line.get("otel.event.name").is_some_and(|name| name == "distfun.log.dropped") {
            assert_eq!(number(line, "distfun.dropped.total"), missing, "{line:?}");
            missing = 0;
        }
    }
    assert_eq!(missing, 0, "lines are missing and nothing says so");
    let runs: BTreeSet<&str> = lines.iter().filter_map(|line| line["distfun.boot_id"].as_str()).collect();
    assert!(runs.len() <= 1, "{runs:?}");
}

/// Exactly one end for each call, after its start; and its figures fit one another.
#[track_caller]
fn check_jobs(lines: &[Line]) {
    let mut calls: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for line in lines {
        let Some(name) = line.get("otel.event.name").and_then(Value::as_str) else { continue };
        let Some(job) = line.get("distfun.job.id").and_then(Value::as_u64) else { continue };
        let (submitted, finished) = calls.entry(job).or_default();
        match name {
            "distfun.job.submitted" => *submitted += 1,
            "distfun.job.finished" => {
                *finished += 1;
                let items = number(line, "distfun.items.total");
                assert!(number(line, "distfun.items.done") <= items, "{line:?}");
                assert!(number(line, "distfun.items.failed") <= items, "{line:?}");
                let outcome = line["distfun.outcome"].as_str().expect("an outcome");
                match outcome {
                    "success" => assert!(!line.contains_key("error.type"), "{line:?}"),
                    "failure" | "timeout" => assert!(line.contains_key("error.type"), "{line:?}"),
                    _ => {}
                }
                if outcome == "success" {
                    assert_eq!((number(line, "distfun.items.done"), number(line, "distfun.items.failed")), (items, 0));
                }
                if let Some(ratio) = line.get("distfun.efficiency_ratio") {
                    assert!((0.0..=1.0).contains(&ratio.as_f64().expect("a number")), "{line:?}");
                }
            }
            "distfun.chunk.started" | "distfun.chunk.retry" => assert_eq!(*submitted, 1, "{line:?}"),
            _ => {}
        }
    }
    for (job, counts) in calls {
        assert_eq!(counts, (1, 1), "submitted and finished, of call {job}");
    }
}

/// No life of a thread ends twice or without having begun, but for those that could not begin.
#[track_caller]
fn check_workers(lines: &[Line]) {
    let mut lives = BTreeMap::new();
    for line in lines {
        let life = |line: &Line| {
            ["manager.id", "worker.id", "worker.generation"].map(|id| number(line, &format!("distfun.{id}")))
        };
        match line.get("otel.event.name").and_then(Value::as_str) {
            Some("distfun.worker.started") => assert_eq!(lives.insert(life(line), true), None, "{line:?}"),
            Some("distfun.worker.stopped") if line["distfun.reason"] != "spawn_failed" => {
                assert_eq!(lives.insert(life(line), false), Some(true), "{line:?}");
            }
            _ => {}
        }
    }
}
