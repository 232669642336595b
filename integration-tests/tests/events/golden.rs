//! A log as it was first published: what reads logs must go on reading it, and we must go on writing it.

use std::{path::Path, sync::atomic::AtomicUsize, sync::atomic::Ordering};

use distfun::{Distribute, Finished, Manager, distribute, fault::kill_this_thread, function, log};
use futures::executor::block_on;
use serde_json::Value;

use super::{
    check::{Line, Memory, check, lines_of},
    plus,
};
use crate::support::{LIMIT, alone, eventually};

fn fragile(x: &u64) -> u64 {
    static DEATHS: AtomicUsize = AtomicUsize::new(0);
    match *x {
        3 => panic!("three\tis odd"),
        5 if DEATHS.fetch_add(1, Ordering::SeqCst) == 0 => kill_this_thread(),
        x => x,
    }
}

fn story(memory: &Memory) {
    let count = |name: &str| lines_of(&memory.lines(), name).len();
    let manager = Manager::builder().slots(1).start().unwrap();
    // What different threads say has no order otherwise.
    eventually(LIMIT, "the worker is there", || count("worker.started") == 1);
    block_on(manager.send(Distribute::map(function!(plus), 0..10))).unwrap().unwrap();
    block_on(manager.send(Distribute::map(function!(fragile), 0..6))).unwrap().unwrap_err();
    block_on(manager.send(Finished)).unwrap().unwrap();
    block_on(manager.send(Distribute::map(function!(plus), [1]))).unwrap().unwrap_err();
    drop(manager);
    eventually(LIMIT, "the Manager is gone", || count("manager.stopped") == 1);
    tracing::info!(target: "my_program", items = 3, "a line of the program's own");
    distribute!(plus).sequential(true).build().unwrap().map([1]).wait().unwrap();
}

/// Puts fixed values where every run has its own.
fn normalised(mut line: Line) -> String {
    line.remove("distfun.cpu.affinity");
    let item = line.get("distfun.item.index").cloned();
    for (name, value) in &mut line {
        let id = "00000000-0000-4000-8000-000000000000";
        let fixed: Value = match name.as_str() {
            // A later minor version has more events and fields; what was there stays.
            "distfun.schema" if value.as_str().is_some_and(|version| version.starts_with("1.")) => "1.0".into(),
            "timestamp" => "2026-01-01T00:00:00.000000Z".into(),
            "distfun.boot_id" | "service.instance.id" => id.into(),
            "service.name" => "program".into(),
            "host.name" => "host".into(),
            "process.pid" => 1.into(),
            "code.file.path" => "src/main.rs".into(),
            "code.line.number" => 1.into(),
            "message" => "for people".into(),
            // How items are cut into chunks depends on the time that they take.
            "distfun.chunk.index" => item.clone().expect("every line of this log that has a chunk has an item"),
            "distfun.chunk.items" | "distfun.chunks.done" => 1.into(),
            "distfun.window_s" => continue,
            _ if value.is_f64() => 0.5.into(),
            _ => continue,
        };
        *value = fixed;
    }
    Value::from(line).to_string()
}

/// `REWRITE=1` writes it anew: only for events that are new, since what is there must stay.
#[test]
fn the_log_is_the_one_that_was_published() {
    alone(|| {
        let rewrite = std::env::var_os("REWRITE").is_some();
        let memory = Memory::default();
        let log = log::json().writer(memory.clone()).init().unwrap();
        story(&memory);
        log.flush(LIMIT);
        let lines = memory.lines();
        check(&lines);
        let told: Vec<String> = lines.into_iter().map(normalised).collect();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/events-v1.ndjson");
        if rewrite {
            std::fs::write(&path, told.join("\n") + "\n").unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        for (at, (told, golden)) in told.iter().zip(golden.lines()).enumerate() {
            assert_eq!(told, golden, "line {at}");
        }
        assert_eq!(told.len(), golden.lines().count());
    });
}
