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
fn it_says_why_nothing_happens() {
    let mut log = Log::default();
    let rejected = json!({
        "machine": "bob", "error.type": "unreachable", "error.message": "bob does not answer", "gives_up": false,
    });
    log.say("node.rejected", rejected);
    log.say("job.submitted", json!({ "job.id": 3, "function.name": "score", "mode": "items", "items.total": 10 }));
    let stalled = json!({ "reason": "no_nodes", "jobs.active": 1, "items.pending": 10, "stalled_s": 2.0 });
    log.say("manager.stalled", stalled);
    let mut view = view_of(&log.lines);
    let now = view.now();
    let (process, job) = view.jobs_of(3).next().expect("the call");
    assert_eq!(
        view.explain(process, job, now),
        "call 3 (score) has waited for 2.0 s: no machine is connected, and there are no workers here (bob: bob does not \
         answer); 0 of 10 items done after 10.0 ms"
    );
    let concerns = view.concerns(now);
    assert!(
        concerns[0].is_grave && concerns[0].text.starts_with("program 7: 1 call waits, with 10 items"),
        "{concerns:?}"
    );
    // A node comes, and the call gets on.
    let next = log.lines.len();
    log.say("node.connected", json!({ "node.id": 1, "machine": "bob", "node.name": "bob", "workers.total": 2 }));
    log.say("manager.resumed", json!({ "stalled_s": 3.0 }));
    log.lines[next..].iter().for_each(|line| apply(&mut view, line));
    assert_eq!(view.concerns(view.now()), []);
    let (_, manager) = view.managers().next().expect("a Manager");
    assert_eq!(manager.nodes.len(), 1, "the machine has its number now: {:?}", manager.nodes);
}

#[test]
fn it_says_who_has_a_gpu_and_for_want_of_whose_none_is_used() {
    let mut log = Log::default();
    let gpu = json!({ "worker.id": 2, "worker.generation": 0, "worker.kind": "gpu", "gpu.name": "H100", "gpu.uuid": "GPU-1" });
    log.say("worker.started", gpu);
    log.say(
        "placement.judged",
        json!({ "gpu.policy": "require_all", "placement": "cpus", "machines.without_gpu": "bob" }),
    );
    let mut view = view_of(&log.lines);
    let (_, manager) = view.managers().next().expect("a Manager");
    assert_eq!((&*manager.workers[&2].kind, manager.workers[&2].gpu.as_deref()), ("gpu", Some("H100")));
    let concern = &view.concerns(view.now())[0];
    assert_eq!(concern.text, "program 7: GPUs are wanted (require_all), and CPUs compute: bob has none");
    assert!(!concern.is_grave);
    let next = log.lines.len();
    log.say(
        "placement.judged",
        json!({ "gpu.policy": "gpu_or_fail", "placement": "refused", "machines.without_gpu": "bob" }),
    );
    log.say("placement.judged", json!({ "gpu.policy": "gpu_or_fail", "placement": "gpus" }));
    apply(&mut view, &log.lines[next]);
    assert!(view.concerns(view.now())[0].is_grave);
    apply(&mut view, &log.lines[next + 1]);
    assert_eq!(view.concerns(view.now()), []);
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

/// What was said of a machine was that nobody listens there, and not what had become of it.
#[test]
fn why_a_node_was_lost_is_kept_until_it_is_back() {
    let mut log = Log::default();
    let node = |more: Value| {
        let mut all = json!({ "node.id": 3, "machine": "m" });
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    let refused = |gives_up: bool| node(json!({ "error.message": "Connection refused", "gives_up": gives_up }));
    log.say("node.connected", node(json!({ "node.name": "oak" })));
    log.say("node.lost", node(json!({ "error.message": "killed by the kernel" })));
    log.say("node.rejected", refused(false));
    let mut view = view_of(&log.lines);
    let of = |view: &View| {
        let (_, manager) = view.managers().next().expect("a Manager");
        let node = &manager.nodes[&3];
        (node.state, node.since, node.error.clone().unwrap_or_default())
    };
    assert_eq!(of(&view), (NodeState::Lost, Time(BEGIN + 10_000), "killed by the kernel".into()));
    // Back, and then not any more.
    log.say("node.connected", node(json!({ "node.name": "oak" })));
    log.say("node.lost", node(json!({ "error.message": "silent" })));
    log.lines[3..].iter().for_each(|line| apply(&mut view, line));
    assert_eq!(of(&view).2, "silent");
    // That it is not even tried again is news.
    log.say("node.rejected", refused(true));
    apply(&mut view, &log.lines[5]);
    assert_eq!((of(&view).0, of(&view).2), (NodeState::GivenUp, "Connection refused".into()));
}

/// They were "up" while they computed: what they compute is told by those who gave it.
#[test]
fn workers_of_a_node_are_busy_with_what_managers_elsewhere_gave_it() {
    let mut log = Log::default();
    for worker in 0..2 {
        log.say("worker.started", json!({ "worker.id": worker, "worker.generation": 0 }));
    }
    log.say("node.started", json!({ "node.name": "oak", "address": "127.0.0.1:2718", "workers.total": 2 }));
    let mut view = View::default();
    log.lines.iter().for_each(|line| apply(&mut view, &line.replace("\"one\"", "\"node\"")));
    let mut caller = Log::default();
    caller.say("node.connected", json!({ "node.id": 1, "machine": "m", "node.name": "oak", "workers.total": 2 }));
    let chunk = |index: u64| json!({ "job.id": 1, "function.name": "f", "chunk.index": index, "chunk.items": 1, "node.id": 1, "machine": "m" });
    for index in 0..3 {
        caller.say("chunk.dispatched", chunk(index));
    }
    for index in 0..3 {
        caller.say("chunk.returned", chunk(index));
    }
    let mut told = caller.lines.iter();
    let mut after = |lines: usize| {
        told.by_ref().take(lines).for_each(|line| apply(&mut view, line));
        let node = view.processes().find(|process| process.node.is_some()).expect("the node");
        let manager = &node.managers[&1];
        let state = |id: u64| view.worker_state(node, manager, &manager.workers[&id], view.now());
        assert_eq!(state(0), state(1));
        (state(0), view.busy(node, manager, view.now()))
    };
    assert_eq!(after(1), (WorkerState::Up, (0, 2)));
    assert_eq!(after(1), (WorkerState::Serving, (1, 2)), "nobody knows which");
    assert_eq!(after(2), (WorkerState::Busy, (2, 2)), "one more than it computes at once");
    assert_eq!(after(2), (WorkerState::Serving, (1, 2)));
    assert_eq!(after(1), (WorkerState::Up, (0, 2)));
}

#[test]
fn all_calls_are_explained_as_each_is() {
    let mut log = Log::default();
    for job in 0..3 {
        log.say("job.submitted", json!({ "job.id": job, "function.name": "f", "mode": "items", "items.total": 10 }));
    }
    for (worker, job) in [(0, 1), (1, 2), (2, 1)] {
        let chunk = json!({
            "job.id": job, "function.name": "f", "chunk.index": worker, "chunk.items": 1, "worker.id": worker,
            "worker.generation": 0,
        });
        log.say("chunk.started", chunk);
    }
    let view = view_of(&log.lines);
    let all: Vec<_> = view.explanations(view.now()).collect();
    assert_eq!(all.len(), 3);
    for (process, job, text) in all {
        assert_eq!(text, view.explain(process, job, view.now()));
    }
    let (process, job) = view.jobs_of(1).next().expect("the call");
    let text = view.explain(process, job, view.now());
    assert!(text.contains("computes 2 chunks, the oldest is item 0 on worker 0"), "{text}");
}

#[test]
fn a_node_counts_processes_that_died_there() {
    let mut log = Log::default();
    log.say("node.started", json!({ "node.name": "oak", "address": "127.0.0.1:2718", "workers.total": 1 }));
    let died = json!({ "node.name": "oak", "manager.name": "m", "function.name": "f", "worker.id": 0, "error.type": "worker_lost" });
    log.say("node.process_died", died.clone());
    log.say("node.process_died", died);
    // They are said to people as what is grave, and are no failures of their own: the Manager tells those.
    log.lines[1..].iter_mut().for_each(|line| *line = line.replace("INFO", "WARN"));
    let view = view_of(&log.lines);
    let node = view.processes().next().and_then(|process| process.node.as_ref()).expect("a node");
    assert_eq!((node.deaths, view.story().len(), view.failures().len()), (2, 3, 0));
}

/// It said why, and neither which item nor where in the program.
#[test]
fn the_first_item_that_failed_is_named_with_its_place() {
    let mut log = Log::default();
    let call = |more: Value| {
        let mut all = json!({ "job.id": 1, "function.name": "f", "items.total": 9, "mode": "items" });
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    let fails = |item: u64, text: &str| {
        call(json!({ "item.index": item, "items.failed": 1, "exception.message": text, "chunk.index": item }))
    };
    let said = |log: &Log| {
        let view = view_of(&log.lines);
        let (process, job) = view.jobs_of(1).next().expect("the call");
        let text = view.explain(process, job, view.now());
        text.split_once("failed").map_or_else(String::new, |(_, rest)| rest.to_owned())
    };
    log.say("job.submitted", call(json!({})));
    assert_eq!(said(&log), "");
    log.say("chunk.exception", fails(7, "no root"));
    let place = "\"code.file.path\":\"src/roots.rs\",\"code.line.number\":12,\"distfun.boot_id\"";
    log.lines[1] = log.lines[1].replace("\"distfun.boot_id\"", place);
    assert_eq!(said(&log), ": item 7: no root (src/roots.rs:12)");
    log.say("chunk.failed", fails(8, "no hope"));
    assert_eq!(said(&log), ", the first of them item 7: no root (src/roots.rs:12)");
    let mut elsewhere = fails(3, "no power");
    elsewhere["machine"] = "oak".into();
    log.say("chunk.failed", elsewhere);
    assert_eq!(said(&log), ", the first of them item 3 on oak: no power");
    log.say("job.finished", call(json!({ "outcome": "failure", "items.failed": 3, "duration_s": 1.0 })));
    assert_eq!(said(&log), " after 1.0 s, with 3 of 9 items failed, the first of them item 3 on oak: no power");
    let last = log.lines.len() - 1;
    log.lines[last] =
        log.lines[last].replace("\"distfun.boot_id\"", "\"error.message\":\"no workers\",\"distfun.boot_id\"");
    assert_eq!(said(&log), " after 1.0 s, with 3 of 9 items failed: no workers");
}

/// Dashboards drew nothing where a worker had computed for minutes before it died.
#[test]
fn what_a_death_takes_away_has_ended_there() {
    let mut log = Log::default();
    let chunk = |index: u64, more: Value| {
        let mut all = json!({ "job.id": 1, "function.name": "f", "chunk.index": index, "chunk.items": 5 });
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    let worker = |id: u64, generation: u64| json!({ "worker.id": id, "worker.generation": generation });
    let node = || json!({ "node.id": 3, "machine": "m" });
    for id in 0..3 {
        log.say("chunk.started", chunk(10 * id, worker(id, 0)));
    }
    log.say("chunk.dispatched", chunk(50, node()));
    log.say("chunk.dispatched", chunk(60, node()));
    // An item of this one fails for good: no line says that the chunk is over.
    let mut stopped = worker(0, 0);
    stopped["reason"] = "died".into();
    log.say("worker.stopped", stopped);
    // Of this one the line that it stopped is lost.
    let mut restarted = worker(1, 1);
    restarted["cause"] = "crash".into();
    log.say("worker.restarted", restarted);
    // And this one ends with its slot, after its call was cancelled.
    let mut released = worker(2, 0);
    released["reason"] = "released".into();
    log.say("worker.stopped", released);
    let mut died = chunk(60, node());
    died["worker.id"] = 0.into();
    log.say("node.worker_died", died);
    let mut lost = node();
    lost["error.message"] = "gone".into();
    log.say("node.lost", lost.clone());
    log.say("node.lost", lost);
    let view = view_of(&log.lines);
    let at = |seq: u64| Time(BEGIN + seq * 10_000);
    let ended: Vec<_> = view.spans().map(|span| (span.place, span.index, span.start, span.end)).collect();
    let expected = [
        (Place::Worker(0), 0, at(0), at(5)),
        (Place::Worker(1), 10, at(1), at(6)),
        (Place::Node(3), 60, at(4), at(8)),
        (Place::Node(3), 50, at(3), at(9)),
    ];
    assert_eq!(ended, expected);
    assert!(view.spans().all(|span| span.is_lost && !span.is_failed && span.items == 5 && span.process == 0));
}

#[test]
fn a_node_that_was_killed_is_gone_when_another_serves_in_its_place() {
    let line = |boot_id: &str, seq: u64, event: &str, more: Value| {
        let mut log = Log::default();
        log.say(event, more);
        let line = log.lines[0]
            .replace("\"one\"", &format!("\"{boot_id}\""))
            .replace("\"distfun.seq\":0", &format!("\"distfun.seq\":{seq}"));
        line.replace(&Time(BEGIN).to_string(), &Time(BEGIN + 1000 * (seq + 1)).to_string())
    };
    let serves = json!({ "node.name": "a", "address": "127.0.0.1:2718", "workers.total": 1 });
    let worker = json!({ "worker.id": 0, "worker.generation": 0 });
    let mut view = View::default();
    apply(&mut view, &line("old", 0, "worker.started", worker.clone()));
    apply(&mut view, &line("old", 1, "node.started", serves.clone()));
    apply(&mut view, &line("new", 7, "worker.started", worker));
    apply(&mut view, &line("new", 8, "node.started", serves));
    let over: Vec<_> =
        view.processes().map(|process| (process.is_over(), process.is_silent(view.now().after(500.0)))).collect();
    assert_eq!(over, [(true, false), (false, true)]);
    let states: Vec<_> = view.managers().map(|(_, manager)| manager.workers[&0].state).collect();
    assert_eq!(states, [WorkerState::Offline, WorkerState::Up]);
}

/// A busy Manager says something every 10 s; that it did not was known after 150.
#[test]
fn a_program_that_is_killed_in_a_call_is_silent_soon() {
    let mut log = Log::default();
    log.say("worker.started", json!({ "worker.id": 0, "worker.generation": 0 }));
    let mut view = view_of(&log.lines);
    let silent_after = |view: &View, seconds| {
        let process = view.processes().next().expect("a process");
        process.is_silent(view.now().after(seconds))
    };
    assert!(!silent_after(&view, 100.0) && silent_after(&view, 151.0));
    log.say("job.submitted", json!({ "job.id": 1, "function.name": "f", "mode": "items", "items.total": 10 }));
    apply(&mut view, &log.lines[1]);
    assert!(!silent_after(&view, 34.0) && silent_after(&view, 36.0));
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

/// A snapshot counts those that are tried, and a machine that was removed, or given up, is none of them.
#[test]
fn a_machine_that_is_not_counted_any_more_is_not_taken_to_be_up() {
    let mut log = Log::default();
    for (node, machine) in [(1, "a"), (2, "b"), (3, "c")] {
        log.say(
            "node.connected",
            json!({ "node.id": node, "machine": machine, "node.name": machine, "workers.total": 1 }),
        );
    }
    log.say(
        "node.lost",
        json!({ "node.id": 2, "machine": "b", "error.message": "it was removed", "chunks.requeued": 0 }),
    );
    log.say("node.rejected", json!({ "machine": "c", "error.type": "auth", "error.message": "no", "gives_up": true }));
    log.say("manager.state", json!({ "jobs.active": 0, "nodes.up": 1, "nodes.lost": 0, "chunks.running": 0 }));
    let view = view_of(&log.lines);
    let (_, manager) = view.managers().next().expect("a Manager");
    let states: Vec<_> = manager.nodes.values().map(|node| node.state).collect();
    assert_eq!(states, [NodeState::Up, NodeState::Lost, NodeState::GivenUp]);
}
