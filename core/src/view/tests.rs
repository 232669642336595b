mod calls;
mod nodes;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::event::{ENVELOPE, EVENTS, Kind};

/// 2026-01-01.
const BEGIN: u64 = 1_767_225_600_000_000;

/// Makes the lines of one process.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
}

impl Log {
    /// 10 ms after the line before.
    fn say(&mut self, event: &str, fields: Value) {
        let seq = self.lines.len() as u64;
        let mut line = json!({
            "timestamp": Time(BEGIN + seq * 10_000).to_string(),
            "level": "INFO",
            "target": TARGET,
            "message": format!("{event} happened"),
            "otel.event.name": format!("distfun.{event}"),
            "distfun.boot_id": "one",
            "distfun.seq": seq,
            "distfun.role": "manager",
            "service.name": "program",
            "process.pid": 7,
            "distfun.manager.id": 1,
        });
        let short = |name: String| match name.as_str() {
            "error.type" | "error.message" | "exception.message" => name,
            _ => format!("distfun.{name}"),
        };
        let Value::Object(fields) = fields else { panic!("fields") };
        let object: &mut Map<String, Value> = line.as_object_mut().expect("an object");
        object.extend(fields.into_iter().map(|(name, value)| (short(name), value)));
        self.lines.push(line.to_string());
    }
}

fn apply(view: &mut View, line: &str) {
    view.apply(&serde_json::from_str(line).expect("a line"));
}

fn view_of(lines: &[String]) -> View {
    let mut view = View::default();
    lines.iter().for_each(|line| apply(&mut view, line));
    view
}

/// Its call and its first item.
type Chunk = (u64, u64);

/// What really happens.
#[derive(Default)]
struct World {
    log: Log,
    /// Generation, chunk, whether it was given up.
    workers: Vec<(u64, Option<Chunk>, bool)>,
    /// Whether it is up, and its chunks.
    nodes: Vec<(bool, BTreeSet<Chunk>)>,
    jobs: BTreeSet<u64>,
    /// Chunks that have ended, and whether they were taken away.
    ended: BTreeSet<(Place, Chunk, bool)>,
    next_job: u64,
    next_index: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self { workers: vec![(0, None, false); 3], ..Self::default() };
        world.log.say("manager.started", json!({ "workers.cpu": 3 }));
        for worker in 0..3 {
            world
                .log
                .say("worker.started", json!({ "worker.id": worker, "worker.generation": 0, "worker.kind": "cpu" }));
        }
        world.nodes = vec![(false, BTreeSet::new()); 2];
        (0..2).for_each(|node| world.connect(node));
        world
    }

    fn connect(&mut self, node: usize) {
        self.nodes[node].0 = true;
        let machine = format!("m{node}");
        let fields = json!({ "node.id": node, "machine": machine, "node.name": machine, "workers.total": 2 });
        self.log.say("node.connected", fields);
    }

    fn chunk(&mut self, event: &str, (job, index): (u64, u64), mut more: Value) {
        let fields = more.as_object_mut().expect("an object");
        for (name, value) in [("job.id", job), ("chunk.index", index), ("chunk.items", 5), ("chunk.attempt", 1)] {
            fields.insert(name.into(), value.into());
        }
        fields.insert("function.name".into(), "f".into());
        self.log.say(event, more);
    }

    fn new_chunk(&mut self, at: usize) -> Option<(u64, u64)> {
        let job = *self.jobs.iter().nth(at % self.jobs.len().max(1))?;
        self.next_index += 5;
        Some((job, self.next_index))
    }

    /// One thing that can happen; which one, `what` decides.
    fn step(&mut self, what: u16) {
        let at = usize::from(what / 16);
        let (w, n) = (at % 3, at % 2);
        match what % 16 {
            0 | 1 if self.jobs.len() < 4 => {
                self.next_job += 1;
                self.jobs.insert(self.next_job);
                let fields =
                    json!({ "job.id": self.next_job, "function.name": "f", "mode": "items", "items.total": 100 });
                self.log.say("job.submitted", fields);
            }
            2..=4 if self.workers[w].1.is_none() && !self.workers[w].2 => {
                let Some(chunk) = self.new_chunk(at) else { return };
                self.workers[w].1 = Some(chunk);
                self.chunk("chunk.started", chunk, json!({ "worker.id": w, "worker.generation": self.workers[w].0 }));
            }
            5 | 6 => {
                let Some(chunk) = self.workers[w].1.take() else { return };
                let generation = self.workers[w].0;
                let fields = json!({
                    "worker.id": w, "worker.generation": generation, "items.done": 5, "compute_s": 0.01,
                    "sampling_ratio": 1.0, "outcome": "success",
                });
                self.chunk("chunk.finished", chunk, fields);
                self.ended.insert((Place::Worker(w as u64), chunk, false));
            }
            7 => {
                let Some(chunk) = self.workers[w].1.take() else { return };
                let generation = self.workers[w].0;
                let life = |generation| json!({ "worker.id": w, "worker.generation": generation });
                let mut dead = life(generation);
                dead["error.type"] = "worker_lost".into();
                self.chunk("chunk.retry", chunk, dead);
                self.ended.insert((Place::Worker(w as u64), chunk, true));
                let mut dead = life(generation);
                dead["reason"] = "died".into();
                self.log.say("worker.stopped", dead);
                if at.is_multiple_of(5) {
                    self.workers[w].2 = true;
                    self.log.say("worker.gave_up", life(generation));
                    return;
                }
                self.workers[w].0 += 1;
                let mut new = life(generation + 1);
                new["cause"] = "crash".into();
                self.log.say("worker.restarted", new);
                self.log.say("worker.started", life(generation + 1));
            }
            8 | 9 if self.nodes[n].0 && self.nodes[n].1.len() < 4 => {
                let Some(chunk) = self.new_chunk(at) else { return };
                self.nodes[n].1.insert(chunk);
                self.chunk("chunk.dispatched", chunk, json!({ "node.id": n, "machine": format!("m{n}") }));
            }
            10 | 11 => {
                let Some(chunk) = self.nodes[n].1.pop_first() else { return };
                let fields = json!({ "node.id": n, "machine": format!("m{n}"), "items.done": 5, "compute_s": 0.01 });
                self.chunk("chunk.returned", chunk, fields);
                self.ended.insert((Place::Node(n as u64), chunk, false));
            }
            12 if self.nodes[n].0 => {
                self.nodes[n].0 = false;
                let lost = std::mem::take(&mut self.nodes[n].1);
                let fields = json!({
                    "node.id": n, "machine": format!("m{n}"), "error.message": "gone", "chunks.requeued": lost.len(),
                });
                self.ended.extend(lost.into_iter().map(|chunk| (Place::Node(n as u64), chunk, true)));
                self.log.say("node.lost", fields);
            }
            12 | 13 if !self.nodes[n].0 => self.connect(n),
            14 => {
                let Some(&job) = self.jobs.iter().nth(at % self.jobs.len().max(1)) else { return };
                self.jobs.remove(&job);
                self.nodes.iter_mut().for_each(|node| node.1.retain(|&(of, _)| of != job));
                let fields = json!({ "job.id": job, "function.name": "f", "outcome": "cancelled", "items.total": 100 });
                self.log.say("job.finished", fields);
            }
            15 => self.snapshot(),
            _ => {}
        }
    }

    fn snapshot(&mut self) {
        let busy = self.workers.iter().filter(|worker| worker.1.is_some()).count();
        let offline = self.workers.iter().filter(|worker| worker.2).count();
        let there: usize = self.nodes.iter().map(|node| node.1.len()).sum();
        let up = self.nodes.iter().filter(|node| node.0).count();
        let fields = json!({
            "uptime_s": 1.0, "jobs.active": self.jobs.len(), "items.pending": 10 * self.jobs.len(),
            "chunks.running": busy + there, "workers.busy": busy, "workers.available": 3 - busy - offline,
            "workers.restarting": 0, "workers.offline": offline, "nodes.up": up, "nodes.lost": 2 - up,
        });
        self.log.say("manager.state", fields);
    }

    /// What runs, where.
    fn running(&self) -> BTreeMap<(Place, u64, u64), ()> {
        let here =
            self.workers.iter().enumerate().filter_map(|(at, worker)| Some((Place::Worker(at as u64), worker.1?)));
        let there = self.nodes.iter().enumerate();
        let there = there.flat_map(|(at, node)| node.1.iter().map(move |&chunk| (Place::Node(at as u64), chunk)));
        here.chain(there).map(|(place, (job, index))| ((place, job, index), ())).collect()
    }
}

fn seen(view: &View) -> BTreeMap<(Place, u64, u64), ()> {
    let running = view.managers().flat_map(|(_, manager)| manager.running());
    running.map(|(place, running)| ((place, running.job, running.index), ())).collect()
}

fn active(view: &View) -> BTreeSet<u64> {
    view.jobs().filter(|(_, job)| job.state == JobState::Running).map(|(_, job)| job.id).collect()
}

/// What must hold after any lines whatever.
fn check(view: &View) {
    for (_, manager) in view.managers() {
        for worker in manager.workers.values() {
            assert!(worker.running.is_none() || worker.state == WorkerState::Busy, "{worker:?}");
        }
        for node in manager.nodes.values() {
            assert!(node.is_up() || node.running.is_empty(), "{node:?}");
        }
        assert!(manager.ended.is_none() || manager.running().next().is_none(), "{manager:?}");
    }
    for (process, job) in view.jobs() {
        assert!(!view.explain(process, job, view.now()).is_empty());
        assert!(job.progress().is_none_or(|progress| (0.0..=1.0).contains(&progress)), "{job:?}");
    }
    view.concerns(view.now());
}

proptest! {
    #[test]
    fn what_the_log_tells_is_what_happens(script in prop::collection::vec(any::<u16>(), 0..400)) {
        let mut world = World::new();
        let mut view = View::default();
        let mut read = 0;
        for what in script {
            world.step(what);
            world.log.lines[read..].iter().for_each(|line| apply(&mut view, line));
            read = world.log.lines.len();
            check(&view);
            prop_assert_eq!(seen(&view), world.running());
            prop_assert_eq!(active(&view), world.jobs.clone());
            let ended: BTreeSet<_> =
                view.spans().map(|span| (span.place, (span.job, span.index), span.is_lost)).collect();
            prop_assert_eq!(ended, world.ended.clone());
            let (_, manager) = view.managers().next().expect("a Manager");
            for (worker, (generation, _, gave_up)) in manager.workers.values().zip(&world.workers) {
                prop_assert_eq!(worker.generation, *generation);
                prop_assert_eq!(worker.state == WorkerState::GaveUp, *gave_up);
            }
        }
        prop_assert!(view.losses().is_whole());
    }

    /// Lost, doubled and late lines, and a beginning or an end that is not there.
    #[test]
    fn whatever_is_lost_is_made_good_by_a_snapshot(
        script in prop::collection::vec(any::<u16>(), 0..300),
        fates in prop::collection::vec(0..10u8, 600),
        loss in 0..5u8,
    ) {
        let mut world = World::new();
        script.into_iter().for_each(|what| world.step(what));
        let told = world.log.lines.len();
        let mut lines: Vec<_> = Vec::new();
        let mut late = Vec::new();
        let mut numbers = BTreeSet::new();
        let mut doubled = 0;
        for (seq, line) in world.log.lines.iter().enumerate() {
            match fates[seq % fates.len()] {
                fate if fate < loss => continue,
                5 => late.push(line.clone()),
                6 => {
                    doubled += 1;
                    lines.extend([line.clone(), line.clone()]);
                }
                7 => {
                    lines.append(&mut late);
                    lines.push(line.clone());
                }
                _ => lines.push(line.clone()),
            }
            numbers.insert(seq as u64);
        }
        lines.append(&mut late);
        world.snapshot();
        lines.push(world.log.lines[told].clone());
        numbers.insert(told as u64);
        let mut view = View::default();
        for line in &lines {
            apply(&mut view, line);
            check(&view);
        }
        let (first, last) = (numbers.first().copied().unwrap_or(0), told as u64);
        let losses = view.losses();
        prop_assert_eq!(losses.missing, last + 1 - first - numbers.len() as u64);
        prop_assert_eq!(losses.duplicates, doubled);
        let (_, manager) = view.managers().next().expect("a Manager");
        let snapshot = manager.snapshot.expect("a snapshot");
        prop_assert!(manager.running().count() as u64 <= snapshot.chunks_running);
        let busy = manager.workers.values().filter(|worker| worker.state == WorkerState::Busy).count();
        prop_assert!(busy as u64 <= snapshot.busy);
        // A call that was made in the last moment may be newer than the snapshot.
        let is_old = |(_, job): &(&Process, &Job)| snapshot.at.since(job.submitted).as_millis() > 100;
        let open = view.jobs().filter(is_old).filter(|(_, job)| job.state == JobState::Running).count();
        prop_assert!(open <= world.jobs.len());
        for node in manager.nodes.values() {
            prop_assert!(snapshot.nodes_up > 0 || !node.is_up());
            prop_assert!(snapshot.nodes_lost > 0 || node.is_up());
        }
    }

    #[test]
    fn a_time_is_read_as_it_is_written(micros in 0..4_000_000_000_000_000u64) {
        let time = Time(micros - micros % 1000);
        let read: Time = serde_json::from_value(json!(time.to_string())).expect("a time");
        prop_assert_eq!(read, time);
    }
}

#[test]
fn every_field_that_is_read_is_in_the_table() {
    let fields: BTreeMap<_, _> = EVENTS
        .iter()
        .flat_map(|event| event.fields)
        .chain(ENVELOPE)
        .map(|used| (used.field.name, used.field.kind))
        .collect();
    for (name, is_text) in line::READ {
        let kind = fields.get(name).unwrap_or_else(|| panic!("{name} is in no event"));
        assert_eq!(*kind == Kind::Text, *is_text, "{name}");
    }
}

#[test]
fn a_log_of_the_first_version_is_read() {
    let log = include_str!("../../../integration-tests/testdata/events-v1.ndjson");
    let lines: Vec<_> = log.lines().map(str::to_owned).collect();
    let view = view_of(&lines);
    assert!(view.losses().is_whole());
    let (_, manager) = view.managers().next().expect("a Manager");
    assert_eq!(manager.ended.as_ref().map(|ended| &*ended.reason), Some("finished"));
    let states: Vec<_> = view.jobs().map(|(_, job)| job.state).collect();
    assert!(states.contains(&JobState::Success) && states.contains(&JobState::Failure), "{states:?}");
    let kinds: Vec<_> = view.failures().iter().map(|group| &*group.kind).collect();
    assert!(kinds.contains(&"panic"), "{kinds:?}");
}

#[test]
fn what_a_view_keeps_is_bounded_and_what_is_left_out_is_counted() {
    let limits = Limits { spans: 3, jobs: 4, workers: 2, managers: 2, processes: 2, story: 5, failures: 2 };
    let mut view = View::new(limits);
    let mut log = Log::default();
    for number in 0..50u64 {
        let fields =
            json!({ "manager.id": number, "job.id": number, "function.name": format!("f{number}"), "items.total": 1 });
        log.say("job.submitted", fields.clone());
        for worker in 0..5 {
            log.say("worker.started", json!({ "manager.id": number, "worker.id": worker, "worker.generation": 0 }));
        }
        let chunk = json!({
            "manager.id": number, "job.id": number, "function.name": "f", "chunk.index": 0, "chunk.items": 1,
            "worker.id": 0, "worker.generation": 0, "items.failed": 1, "error.type": format!("kind{number}"),
        });
        log.say("chunk.finished", chunk.clone());
        log.say("chunk.failed", chunk);
    }
    log.lines.iter().for_each(|line| apply(&mut view, line));
    for process in 0..10 {
        apply(&mut view, &log.lines[0].replace("\"one\"", &format!("\"{process}\"")));
    }
    assert_eq!((view.spans().len(), view.story().len(), view.failures().len()), (3, 5, 2));
    assert_eq!(view.processes().count(), 2);
    assert!(view.processes().all(|process| process.jobs.len() <= 4 && process.managers.len() <= 2));
    assert!(view.managers().all(|(_, manager)| manager.workers.len() <= 2));
    let losses = view.losses();
    assert_eq!(losses.spans_cut, 47);
    assert!(losses.cut > 50 + 40 + 40, "{losses:?}");
}

#[test]
fn a_worker_says_nothing_more_and_is_not_busy_for_ever() {
    let mut log = Log::default();
    log.say("worker.started", json!({ "worker.id": 0, "worker.generation": 0 }));
    let long = json!({
        "worker.id": 0, "worker.generation": 0, "state": "busy", "running_s": 12.0, "job.id": 1, "function.name": "f",
        "chunk.index": 3, "chunk.items": 1,
    });
    log.say("worker.state", long);
    let view = view_of(&log.lines);
    let (_, manager) = view.managers().next().expect("a Manager");
    let worker = &manager.workers[&0];
    assert_eq!(worker.running.as_ref().map(|running| view.now().since(running.since).as_secs()), Some(12));
    assert_eq!(worker.state_at(view.now()), WorkerState::Busy);
    assert_eq!(worker.state_at(view.now().after(31.0)), WorkerState::Up);
}

#[test]
fn late_lines_do_not_bring_back_what_is_over() {
    let mut log = Log::default();
    let chunk = |more: Value| {
        let mut all = json!({ "job.id": 1, "function.name": "f", "chunk.index": 0, "chunk.items": 1, "items.done": 1 });
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    let here = chunk(json!({ "worker.id": 0, "worker.generation": 0 }));
    let there = chunk(json!({ "node.id": 0, "machine": "m", "chunk.index": 9 }));
    log.say("chunk.started", here.clone());
    log.say("chunk.finished", here);
    log.say("chunk.dispatched", there);
    log.say("node.lost", json!({ "node.id": 0, "machine": "m", "error.message": "gone", "chunks.requeued": 1 }));
    for order in [[0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0]] {
        let lines = order.map(|at| log.lines[at].clone());
        let view = view_of(&lines);
        assert_eq!(seen(&view).len(), 0, "{order:?}");
        assert!(view.losses().is_whole(), "{order:?}");
    }
}

/// Numbers that nobody means must not run over: what is said to people was, and so were sums.
#[test]
fn absurd_numbers_and_texts_are_bounded() {
    let most = u64::MAX;
    let long = "x".repeat(100_000);
    let of = |event: &str| {
        let float = 1.7e308;
        (
            event.to_owned(),
            json!({
                "job.id": most, "function.name": long, "mode": "items", "items.total": most, "items.done": most,
                "items.failed": most, "chunk.index": most, "chunk.items": most, "chunk.attempt": most, "worker.id": most,
                "worker.generation": 0, "node.id": most, "machine": long, "node.name": long, "chunks.done": most,
                "chunks.requeued": most, "chunks.running": most, "wire_bytes": most, "total_bytes": most, "dropped.total": most,
                "workers.available": most, "workers.busy": most, "workers.restarting": most, "workers.offline": most,
                "jobs.active": most, "items.pending": most, "nodes.up": most, "nodes.lost": most, "running_s": float,
                "eta_s": float, "rate_per_s": -float, "busy_s": float, "compute_s": float, "stalled_s": float, "retries": most,
                "sampling_ratio": 1.0, "error.message": long, "error.type": long, "state": "busy", "queue_s": float,
            }),
        )
    };
    let mut log = Log::default();
    for _ in 0..3 {
        for event in EVENTS.iter().map(|event| event.name.strip_prefix("distfun.").expect("ours")) {
            let (event, mut fields) = of(event);
            // What is said of workers here is not of a machine.
            if !event.starts_with("node.")
                && !event.starts_with("chunk.returned")
                && !event.starts_with("chunk.dispatched")
            {
                fields.as_object_mut().expect("an object").remove("machine");
            }
            log.say(&event, fields);
        }
    }
    let last = log.lines.len();
    log.say("worker.stopped", of("worker.stopped").1);
    log.lines[last] = log.lines[last].replace(&format!("\"distfun.seq\":{last}"), &format!("\"distfun.seq\":{most}"));
    let mut view = View::default();
    for line in &log.lines {
        apply(&mut view, line);
        check(&view);
    }
    assert!(view.now().after(1e300) >= view.now());
    assert!(Time(most).to_string().starts_with("9999-"));
    assert!(view.story().all(|told| told.text.len() <= 512));
    assert!(view.failures().iter().all(|group| group.text.len() <= 512 && group.of.len() <= 600));
}
