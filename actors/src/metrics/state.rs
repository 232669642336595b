//! What the events have told so far, and what follows from the next one.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Instant, SystemTime},
};

use distfun_core::event::spec;
use tracing::Level;

use super::{fields::Fields, table::*};

/// The states of a worker in `distfun.manager.state`.
const WORKER_STATES: [&str; 4] = ["available", "busy", "restarting", "offline"];
const NODE_STATES: [&str; 2] = ["up", "lost"];

/// How everything stands, as far as events tell.
#[derive(Debug)]
pub(super) struct State {
    since: Instant,
    /// Whether a subscriber has the layer: else nothing is known.
    pub(super) is_heard: bool,
    /// Those that are there.
    managers: BTreeMap<u64, Manager>,
    /// Calls that have not ended.
    jobs: HashSet<u64>,
    /// The kind of each worker's thread that lives, by Manager, worker and generation.
    threads: HashMap<[u64; 3], String>,
    shared_bytes: u64,
    /// The slots of nodes of this process, by name.
    nodes: BTreeMap<String, Vec<u64>>,
    /// Managers that are connected to them.
    guests: u64,
}

/// What is known of one Manager. Its counts go with it; what they have added to the metrics stays.
#[derive(Debug, Default)]
struct Manager {
    is_stalled: bool,
    workers: [u64; 4],
    nodes: [u64; 2],
    chunks_running: u64,
    items_pending: u64,
    /// Chunks of its calls that have ended, all of which are among those of the next snapshot.
    chunks_of_ended: u64,
    chunks_of_snapshot: u64,
    /// As many are in the metric.
    chunks_told: u64,
}

/// For `/health`.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "metrics-server"), allow(dead_code, reason = "only the server asks"))]
pub(super) struct Health {
    pub(super) is_heard: bool,
    pub(super) uptime_s: f64,
    pub(super) managers: usize,
    pub(super) stalled: usize,
    pub(super) threads: usize,
    pub(super) jobs_active: usize,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            is_heard: false,
            managers: BTreeMap::new(),
            jobs: HashSet::new(),
            threads: HashMap::new(),
            shared_bytes: 0,
            nodes: BTreeMap::new(),
            guests: 0,
        }
    }

    #[cfg_attr(not(feature = "metrics-server"), allow(dead_code, reason = "only the server asks"))]
    pub(super) fn health(&self) -> Health {
        Health {
            is_heard: self.is_heard,
            uptime_s: self.since.elapsed().as_secs_f64(),
            managers: self.managers.len(),
            stalled: self.stalled(),
            threads: self.threads.len(),
            jobs_active: self.jobs.len(),
        }
    }

    /// Describes all metrics to the recorder, and begins with those whose labels are known before anything happens: what
    /// is not there can't be told from 0 by an alert.
    pub(super) fn begin(&self) {
        METRICS.iter().for_each(Metric::describe);
        BUILD_INFO.set(&[env!("CARGO_PKG_VERSION")], 1.0);
        for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Counter && metric.labels.is_empty()) {
            metric.add(&[], 0);
        }
        let known = [
            (STALLS, "distfun.manager.stalled", "distfun.reason"),
            (WORKER_STOPS, "distfun.worker.stopped", "distfun.reason"),
            (WORKER_RESTARTS, "distfun.worker.restarted", "distfun.cause"),
            (WORKERS_GIVEN_UP, "distfun.worker.gave_up", "distfun.cause"),
        ];
        for (metric, event, field) in known {
            let field = spec(event).and_then(|event| event.field(field));
            field.iter().flat_map(|used| used.field.values).for_each(|value| metric.add(&[value], 0));
        }
        WORKER_THREADS.set(&["cpu"], 0.0);
        self.tell_managers();
        self.tell_threads("cpu");
        self.tell_nodes();
        JOBS_ACTIVE.set(&[], self.jobs.len() as f64);
        SHARED.set(&[], self.shared_bytes as f64);
    }

    /// Takes in one event of the table.
    pub(super) fn note(&mut self, event: &str, level: Level, fields: &Fields) {
        EVENTS.add(&[event, level.as_str()], 1);
        let name = event.strip_prefix("distfun.").unwrap_or(event);
        match name.split_once('.') {
            Some(("job", what)) => self.note_job(what, fields),
            Some(("manager" | "session", what)) => self.note_manager(what, fields),
            Some(("worker", what)) => self.note_worker(what, fields),
            Some(("node", what)) => self.note_node(what, fields),
            Some(("shared", what)) => self.note_shared(what, fields),
            _ => note_chunk(name, fields),
        }
    }

    /// Calls that were made inside a distributed function are told at INFO only if they fail: they are left out.
    fn note_job(&mut self, what: &str, fields: &Fields) {
        if fields.has("distfun.worker.id") {
            return;
        }
        let job = fields.whole("distfun.job.id");
        match what {
            "submitted" => _ = self.jobs.insert(job),
            "finished" => {
                self.jobs.remove(&job);
                note_end(fields);
                let chunks = fields.whole("distfun.chunks.done");
                if let Some(manager) = self.managers.get_mut(&fields.whole("distfun.manager.id")) {
                    manager.chunks_of_ended += chunks;
                    manager.tell_chunks();
                }
            }
            _ => return,
        }
        JOBS_ACTIVE.set(&[], self.jobs.len() as f64);
    }

    fn note_manager(&mut self, what: &str, fields: &Fields) {
        let id = fields.whole("distfun.manager.id");
        match what {
            // Whichever comes first; nothing of them comes after `stopped`.
            "opened" | "started" => _ = self.managers.entry(id).or_default(),
            "state" => self.managers.entry(id).or_default().note_snapshot(fields),
            "stopped" => _ = self.managers.remove(&id),
            "stalled" | "resumed" => {
                if what == "stalled" {
                    STALLS.add(&[fields.text("distfun.reason")], 1);
                }
                let Some(manager) = self.managers.get_mut(&id) else { return };
                manager.is_stalled = what == "stalled";
            }
            _ => return,
        }
        self.tell_managers();
    }

    fn note_worker(&mut self, what: &str, fields: &Fields) {
        let life = ["manager.id", "worker.id", "worker.generation"].map(|id| fields.whole(&format!("distfun.{id}")));
        match what {
            "started" => {
                let kind = fields.text("distfun.worker.kind");
                self.threads.insert(life, kind.to_owned());
                self.tell_threads(kind);
            }
            "stopped" => {
                WORKER_STOPS.add(&[fields.text("distfun.reason")], 1);
                if let Some(kind) = self.threads.remove(&life) {
                    self.tell_threads(&kind);
                }
            }
            "restarted" => WORKER_RESTARTS.add(&[fields.text("distfun.cause")], 1),
            "gave_up" => WORKERS_GIVEN_UP.add(&[fields.text("distfun.cause")], 1),
            _ => {}
        }
    }

    fn note_node(&mut self, what: &str, fields: &Fields) {
        let name = fields.text("distfun.node.name");
        match what {
            "connected" => {
                NODE_CONNECTIONS.add(&[], 1);
                NODE_RECONNECTS.add(&[], fields.has("distfun.outage_s").into());
            }
            "lost" => NODE_LOSSES.add(&[], 1),
            "worker_died" => NODE_WORKER_DEATHS.add(&[fields.text("error.type")], 1),
            "process_died" => PROCESS_DEATHS.add(&[fields.text("error.type")], 1),
            "rejected" => NODE_REJECTIONS.add(&[fields.text("error.type")], 1),
            "started" => self.nodes.entry(name.to_owned()).or_default().push(fields.whole("distfun.workers.total")),
            "stopped" => {
                if let Some(slots) = self.nodes.get_mut(name) {
                    slots.pop();
                }
                self.nodes.retain(|_, slots| !slots.is_empty());
            }
            "joined" => self.guests += 1,
            "left" => self.guests = self.guests.saturating_sub(1),
            _ => return,
        }
        self.tell_nodes();
    }

    fn note_shared(&mut self, what: &str, fields: &Fields) {
        let bytes = fields.whole("distfun.total_bytes");
        match what {
            "published" => self.shared_bytes += bytes,
            "released" => self.shared_bytes = self.shared_bytes.saturating_sub(bytes),
            "transfer" => SHARED_SENT.add(&[], fields.whole("distfun.wire_bytes")),
            _ => {}
        }
        SHARED.set(&[], self.shared_bytes as f64);
    }

    fn stalled(&self) -> usize {
        self.managers.values().filter(|manager| manager.is_stalled).count()
    }

    fn tell_managers(&self) {
        let sum = |of: &dyn Fn(&Manager) -> u64| self.managers.values().map(of).sum::<u64>() as f64;
        MANAGERS.set(&[], self.managers.len() as f64);
        MANAGERS_STALLED.set(&[], self.stalled() as f64);
        CHUNKS_RUNNING.set(&[], sum(&|manager| manager.chunks_running));
        ITEMS_PENDING.set(&[], sum(&|manager| manager.items_pending));
        for (at, state) in WORKER_STATES.iter().enumerate() {
            WORKERS.set(&[state], sum(&|manager| manager.workers[at]));
        }
        for (at, state) in NODE_STATES.iter().enumerate() {
            NODES.set(&[state], sum(&|manager| manager.nodes[at]));
        }
    }

    fn tell_threads(&self, kind: &str) {
        let count = self.threads.values().filter(|is| *is == kind).count();
        WORKER_THREADS.set(&[kind], count as f64);
    }

    fn tell_nodes(&self) {
        let slots = || self.nodes.values().flatten();
        NODE_SERVING.set(&[], slots().count() as f64);
        NODE_SLOTS.set(&[], slots().sum::<u64>() as f64);
        NODE_MANAGERS.set(&[], self.guests as f64);
    }
}

impl Manager {
    fn note_snapshot(&mut self, fields: &Fields) {
        self.workers = WORKER_STATES.map(|state| fields.whole(&format!("distfun.workers.{state}")));
        self.nodes = NODE_STATES.map(|state| fields.whole(&format!("distfun.nodes.{state}")));
        self.chunks_running = fields.whole("distfun.chunks.running");
        self.items_pending = fields.whole("distfun.items.pending");
        self.chunks_of_snapshot = fields.whole("distfun.chunks.done");
        self.tell_chunks();
    }

    /// A Manager may end long before its first snapshot, and a call may go on long after it: what is larger is nearer to
    /// the truth, and never beyond it.
    fn tell_chunks(&mut self) {
        let known = self.chunks_of_snapshot.max(self.chunks_of_ended);
        CHUNKS.add(&[], known.saturating_sub(self.chunks_told));
        self.chunks_told = self.chunks_told.max(known);
    }
}

/// A call has ended.
fn note_end(fields: &Fields) {
    let function = fields.text("distfun.function.name");
    let outcome = fields.text("distfun.outcome");
    JOBS.add(&[function, outcome], 1);
    let times =
        [(JOB_DURATION, "distfun.duration_s"), (JOB_QUEUE, "distfun.queue_s"), (JOB_COMPUTE, "distfun.compute_s")];
    for (metric, field) in times {
        if let Some(seconds) = fields.float(field) {
            metric.record(&[function], seconds);
        }
    }
    let (done, failed) = (fields.whole("distfun.items.done"), fields.whole("distfun.items.failed"));
    ITEMS.add(&[function, "success"], done.saturating_sub(failed));
    ITEMS.add(&[function, "failure"], failed);
    if outcome == "success"
        && let Ok(now) = SystemTime::UNIX_EPOCH.elapsed()
    {
        LAST_SUCCESS.set(&[function], now.as_secs_f64());
    }
}

fn note_chunk(name: &str, fields: &Fields) {
    let function = fields.text("distfun.function.name");
    let error_type = fields.text("error.type");
    match name {
        "chunk.failed" | "chunk.exception" => CHUNK_FAILURES.add(&[function, error_type], 1),
        "chunk.retry" => CHUNK_RETRIES.add(&[function, error_type], 1),
        "chunk.slow" => SLOW_CHUNKS.add(&[function], 1),
        "item.retried" => ITEM_RETRIES.add(&[function, error_type], 1),
        _ => {}
    }
}
