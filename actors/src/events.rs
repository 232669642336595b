//! Turns what calls, workers and Managers do into supervision events.
//!
//! Everything here costs one load of a static, or of a field, while nobody listens: no clock is read, nothing is
//! formatted or allocated. Whether a call's figures are taken is decided once, when it is made.

mod chunks;
mod nodes;
mod serving;
mod watch;

#[cfg(target_os = "linux")]
use std::ops::Range;
use std::{
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use distfun_core::{
    engine::{Blame, Death, Event, MAX_RESTARTS, Sentence, Shape, Stage, WINDOW},
    event::{
        JobFinished, JobSubmitted, ManagerStarted, ManagerStopped, PlacementJudged, SessionFinished, SessionLeaked,
        SessionOpened, SessionShutdown, SupervisionEvent, TARGET, WorkerGaveUp, WorkerLogged, WorkerOutput,
        WorkerRestarted, WorkerStarted, WorkerState, WorkerStopped, capped, listened, seconds, watch::Totals,
    },
    failure::{Ending, ItemFailure},
    ids::{Generation, WorkerId},
    placement::Placement,
};

use distfun_net::message::Source;

use crate::{
    compute::{port::Port, thread::current_worker},
    job::{JobCore, SharedJob},
    pool::Pool,
};

#[cfg(feature = "log")]
pub(crate) use chunks::set_chunk_sampling;
pub(crate) use chunks::{chunk_died, chunk_ended, chunk_started, inline_ended, item_retried};
pub(crate) use nodes::{
    Answered, OfConversation, blob_there, chunk_answered, chunk_dispatched, node_connected, node_draining, node_lost,
    node_output, node_refuses, node_rejected, node_suspect, node_worker_died,
};
#[cfg(target_os = "linux")]
pub(crate) use serving::node_process_died;
pub(crate) use serving::{node_joined, node_left, node_started, node_stopped, node_stopping};
pub(crate) use watch::{Looks, begin_looks, job_runs};

/// Whether anybody listens at all.
fn on() -> bool {
    listened!(ERROR)
}

fn emit(event: &impl SupervisionEvent) {
    guarded(|| event.emit());
}

/// A subscriber is the program's own code: a panic of its must not keep a call from ending.
fn guarded(emit: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(emit)) {
        std::mem::forget(payload); // dropping it could panic again
    }
}

/// What a Manager's events need to know.
pub(crate) struct OfManager {
    id: u64,
    /// Whether somebody looks at the engine from time to time, and how soon again.
    looks: AtomicU8,
    /// How the session has ended: the events for it are said once.
    ended: AtomicU8,
    jobs_finished: AtomicU64,
    chunks_done: AtomicU64,
    chunks_failed: AtomicU64,
    chunks_retried: AtomicU64,
}

impl OfManager {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Relaxed),
            looks: AtomicU8::new(watch::NEVER),
            ended: AtomicU8::new(0),
            jobs_finished: AtomicU64::new(0),
            chunks_done: AtomicU64::new(0),
            chunks_failed: AtomicU64::new(0),
            chunks_retried: AtomicU64::new(0),
        }
    }

    /// One of its calls, if somebody listened when that was made.
    pub(crate) fn job_ended(&self, core: &JobCore) {
        if core.events.0.is_some() {
            self.jobs_finished.fetch_add(1, Relaxed);
        }
    }

    fn totals(&self) -> Totals {
        Totals {
            jobs_finished: self.jobs_finished.load(Relaxed),
            chunks_done: self.chunks_done.load(Relaxed),
            chunks_failed: self.chunks_failed.load(Relaxed),
            chunks_retried: self.chunks_retried.load(Relaxed),
        }
    }
}

/// A call's figures; none if nobody listened when it was made.
pub(crate) struct OfJob(Option<Box<Figures>>);

const NOBODY: u32 = u32::MAX;

struct Figures {
    manager_id: AtomicU64,
    slots: AtomicU32,
    /// The worker whose item made the call, or [`NOBODY`].
    made_by: AtomicU32,
    chunks: AtomicU64,
    chunks_at_nodes: AtomicU64,
    retries: AtomicU64,
    compute_us: AtomicU64,
    queue_us: AtomicU64,
}

impl OfJob {
    pub(crate) fn new() -> Self {
        let figures = || {
            Box::new(Figures {
                manager_id: AtomicU64::new(0),
                slots: AtomicU32::new(0),
                made_by: AtomicU32::new(NOBODY),
                chunks: AtomicU64::new(0),
                chunks_at_nodes: AtomicU64::new(0),
                retries: AtomicU64::new(0),
                compute_us: AtomicU64::new(0),
                queue_us: AtomicU64::new(u64::MAX),
            })
        };
        Self(on().then(figures))
    }

    /// Of what is no call of this process.
    pub(crate) fn silent() -> Self {
        Self(None)
    }
}

// ---- sessions and Managers

pub(crate) fn session_opened(pool: &Pool, stays: bool) {
    emit(&SessionOpened {
        manager_id: pool.events.id,
        scope: "local",
        endaftercall: pool.settings.endaftercall && !stays,
        workers_cpu: pool.settings.slots as u64,
        workers_gpu: gpus(pool),
    });
}

/// Said once for each kind of ending; `shutdown` goes beyond the others.
pub(crate) fn session_ended(pool: &Pool, ending: Ending) {
    if !on() {
        return;
    }
    let (manager_id, scope, open_s) = (pool.events.id, "local", seconds(pool.age()));
    let rank = if ending == Ending::ShutDown { 2 } else { 1 };
    if pool.events.ended.fetch_max(rank, Relaxed) >= rank {
        return;
    }
    let session_ending = match ending {
        Ending::ShutDown => return emit(&SessionShutdown { manager_id, scope, open_s }),
        Ending::Finished => "finished",
        Ending::EndedAfterCall => "endaftercall",
        _ => "error",
    };
    emit(&SessionFinished { manager_id, scope, session_ending, open_s });
}

/// The last handle is gone.
pub(crate) fn session_dropped(pool: &Pool) {
    if !on() {
        return;
    }
    match pool.stopped() {
        Some(ending) => session_ended(pool, ending),
        None if pool.events.ended.fetch_max(1, Relaxed) == 0 => {
            let (manager_id, open_s) = (pool.events.id, seconds(pool.age()));
            emit(&SessionLeaked { manager_id, scope: "local", open_s, cleaned: true });
        }
        None => {}
    }
}

pub(crate) fn manager_started(pool: &Pool) {
    let workers_cpu = pool.settings.slots as u64;
    emit(&ManagerStarted { manager_id: pool.events.id, workers_cpu, workers_gpu: gpus(pool) });
}

/// As the last word of a Manager's thread.
pub(crate) fn manager_stopped(pool: &Pool) {
    let (stop_reason, error_message) = match pool.stopped() {
        Some(Ending::Finished) => ("finished", None),
        Some(Ending::ShutDown) => ("shutdown", None),
        Some(Ending::EndedAfterCall) => ("endaftercall", None),
        _ => ("error", Some("the Manager could not start or has failed; its calls end")),
    };
    emit(&ManagerStopped { manager_id: pool.events.id, stop_reason, uptime_s: seconds(pool.age()), error_message });
}

/// There was no thread for the Manager.
pub(crate) fn manager_not_started(pool: &Pool, error: &std::io::Error) {
    let error = error.to_string();
    let error_message = Some(capped(&error));
    emit(&ManagerStopped { manager_id: pool.events.id, stop_reason: "error", uptime_s: 0.0, error_message });
}

// ---- workers

/// Workers on GPUs, if any are wanted.
fn gpus(pool: &Pool) -> Option<u64> {
    pool.settings.gpu_policy.wants_gpus().then_some(pool.gpus.len() as u64)
}

/// Which workers get work, and the machines for want of whose GPUs that is so.
pub(crate) fn placement_judged(pool: &Pool, placement: Placement, without: &[Arc<str>]) {
    let names = without.join(", ");
    emit(&PlacementJudged {
        manager_id: pool.events.id,
        gpu_policy: &pool.settings.gpu_policy.to_string(),
        placement: placement.name(),
        without_gpu: Some(capped(&names)).filter(|names| !names.is_empty()),
    });
}

pub(crate) fn worker_started(pool: &Pool, port: &Port, cpu: Option<usize>) {
    let gpu = pool.gpu(port.worker);
    emit(&WorkerStarted {
        manager_id: pool.events.id,
        worker_id: port.worker.0.into(),
        worker_generation: port.generation.0.into(),
        worker_kind: pool.kind(port.worker).name(),
        cpu_affinity: cpu.map(|cpu| cpu as u64),
        gpu_name: gpu.map(|gpu| capped(&gpu.name)),
        gpu_uuid: gpu.map(|gpu| capped(&gpu.uuid)),
        gpu_bytes: gpu.map(|gpu| gpu.memory_bytes).filter(|bytes| *bytes > 0),
    });
}

/// What one life of a compute thread has done.
#[derive(Default)]
pub(crate) struct Life {
    chunks: u64,
    busy: Duration,
}

impl Life {
    pub(crate) fn note(&mut self, took: Duration) {
        self.chunks += 1;
        self.busy += took;
    }

    /// Its thread ends; if it has died, perhaps with a story.
    pub(crate) fn end(&self, pool: &Pool, port: &Port, death: Option<Option<&str>>) {
        if !listened!(INFO) {
            return;
        }
        let exit_reason = match (death.is_some(), pool.generation(port.worker) == port.generation) {
            (true, _) => "died",
            (false, false) => "replaced",
            (false, true) if pool.is_stuck(port.worker) => return, // said when it was left behind
            (false, true) => "released",
        };
        emit(&WorkerStopped {
            chunks_done: Some(self.chunks),
            busy_s: Some(seconds(self.busy)),
            error_message: death.flatten().map(capped),
            ..stopped(pool, port.worker, port.generation, exit_reason)
        });
    }
}

fn stopped(pool: &Pool, worker: WorkerId, generation: Generation, exit_reason: &'static str) -> WorkerStopped<'static> {
    WorkerStopped {
        manager_id: pool.events.id,
        worker_id: worker.0.into(),
        worker_generation: generation.0.into(),
        exit_reason,
        ..WorkerStopped::default()
    }
}

/// A bug of ours has ended the thread.
pub(crate) fn worker_failed(pool: &Pool, port: &Port) {
    emit(&stopped(pool, port.worker, port.generation, "died"));
}

/// The process of a worker could not be started.
pub(crate) fn worker_unstarted(pool: &Pool, port: &Port, story: &str) {
    let stopped = stopped(pool, port.worker, port.generation, "spawn_failed");
    emit(&WorkerStopped { error_message: Some(capped(story)), ..stopped });
}

/// A function has said something, in a process of its own.
#[cfg(target_os = "linux")]
pub(crate) fn worker_output(
    pool: &Pool,
    port: &Port,
    core: Option<&JobCore>,
    source: &Source,
    items: Range<usize>,
    text: &str,
) {
    let is_known = !items.is_empty();
    let about = WorkerOutput {
        manager_id: pool.events.id,
        worker_id: port.worker.0.into(),
        output_stream: "",
        output_text: text,
        worker_generation: Some(port.generation.0.into()),
        machine: None,
        job_id: core.map(|core| core.id.0),
        function: core.map(|core| core.function),
        item_index: is_known.then_some(items.start as u64),
        items_count: is_known.then_some(items.len() as u64),
    };
    output(&about, source);
}

/// Something that a function has said elsewhere. A line that nobody listens to goes where the function would have written it
/// as a thread of this process, with a word on who it was.
fn output(about: &WorkerOutput<'_>, source: &Source) {
    let output_text = capped(about.output_text);
    let output_stream = match source {
        Source::Stdout => "stdout",
        Source::Stderr => "stderr",
        Source::Log { level, target } => {
            let levels = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
            let logged_level = levels[usize::from(level.saturating_sub(1)).min(4)];
            let WorkerOutput { manager_id, worker_id, .. } = *about;
            let WorkerOutput { worker_generation, machine, job_id, function, item_index, items_count, .. } = *about;
            return emit(&WorkerLogged {
                manager_id,
                worker_id,
                logged_level,
                logged_target: capped(target),
                output_text,
                worker_generation,
                machine,
                job_id,
                function,
                item_index,
                items_count,
            });
        }
    };
    if is_output_taken() {
        return emit(&WorkerOutput { output_text, output_stream, ..*about });
    }
    let of_machine = about.machine.map(|machine| format!(" of {machine}")).unwrap_or_default();
    let of_item = match (about.item_index, about.items_count) {
        (Some(first), Some(count)) if count > 1 => format!(", one of items {first}..{}", first.saturating_add(count)),
        (Some(item), _) => format!(", item {item}"),
        (None, _) => String::new(),
    };
    let line = format!("[worker {}{of_machine}{of_item}] {}\n", about.worker_id, about.output_text);
    // Nobody can be told that there is nobody to tell.
    let _ = match output_stream {
        "stdout" => io::stdout().write_all(line.as_bytes()),
        _ => io::stderr().write_all(line.as_bytes()),
    };
}

/// Whether a log takes what functions write. A layer that only counts events says no to those with this field.
fn is_output_taken() -> bool {
    tracing::enabled!(target: TARGET, tracing::Level::INFO, distfun.output.text)
}

pub(crate) fn worker_not_started(pool: &Pool, worker: WorkerId, generation: Generation, error: &std::io::Error) {
    let error = error.to_string();
    emit(&WorkerStopped { error_message: Some(capped(&error)), ..stopped(pool, worker, generation, "spawn_failed") });
}

/// These did not come back in time when everything ended.
pub(crate) fn workers_abandoned(pool: &Pool, workers: &[WorkerId]) {
    for &worker in workers.iter().filter(|_| on()) {
        emit(&stopped(pool, worker, pool.generation(worker), "abandoned"));
    }
}

/// The worker begins or ends to be busy.
pub(crate) fn worker_changed(pool: &Pool, port: &Port, worker_state: &'static str) {
    if listened!(DEBUG) {
        emit(&WorkerState {
            manager_id: pool.events.id,
            worker_id: port.worker.0.into(),
            worker_generation: port.generation.0.into(),
            worker_state,
            ..WorkerState::default()
        });
    }
}

/// Why a thread would be replaced after this event.
pub(crate) fn restart_cause(pool: &Pool, event: &Event<SharedJob>) -> &'static str {
    match event {
        Event::Tick => "timeout",
        Event::SlotLost(slot, _, Some(death)) if pool.gpu(*slot).is_some() && death.stage == Stage::Opening => {
            "gpu_lost"
        }
        Event::SlotLost(_, _, Some(Death { blame: Some(Blame { sentence, .. }), .. })) => match sentence {
            Sentence::Fails(_) | Sentence::FailsForNow(_) => "timeout",
            Sentence::Again(Some(_)) | Sentence::Lost(Some(_)) if !pool.has_processes() => "gpu_lost",
            Sentence::Again(Some(_)) | Sentence::Lost(Some(_)) => "crash",
            Sentence::Again(None) | Sentence::Lost(None) => "panic",
        },
        Event::SlotLost(_, _, None) if current_worker().is_none() => "spawn_failed",
        _ => "panic",
    }
}

pub(crate) fn worker_restarted(
    pool: &Pool,
    worker: WorkerId,
    generation: Generation,
    backoff: Duration,
    restart_cause: &'static str,
) {
    if on() {
        emit(&WorkerRestarted {
            manager_id: pool.events.id,
            worker_id: worker.0.into(),
            worker_generation: generation.0.into(),
            restart_cause,
            restarts_in_window: deaths(pool, worker),
            window_s: seconds(WINDOW),
            limit: MAX_RESTARTS as u64,
            backoff_s: seconds(backoff),
        });
    }
}

pub(crate) fn worker_gave_up(pool: &Pool, worker: WorkerId, restart_cause: &'static str) {
    if on() {
        emit(&WorkerGaveUp {
            manager_id: pool.events.id,
            worker_id: worker.0.into(),
            worker_generation: pool.generation(worker).0.into(),
            restart_cause,
            restarts_in_window: deaths(pool, worker),
            window_s: seconds(WINDOW),
            limit: MAX_RESTARTS as u64,
        });
    }
}

fn deaths(pool: &Pool, worker: WorkerId) -> u64 {
    pool.status().slots.get(worker.0 as usize).map_or(0, |slot| slot.deaths as u64)
}

// ---- calls

/// Where a call goes.
pub(crate) enum Place<'a> {
    Slots(&'a Pool),
    /// The calling thread.
    Here,
    /// It is refused.
    Nowhere,
}

/// Before anything else happens to the call.
pub(crate) fn job_submitted(job: &SharedJob, place: Place<'_>) {
    let core = job.core();
    let Some(figures) = &core.events.0 else { return };
    let pool = match place {
        Place::Slots(pool) => Some(pool),
        Place::Here | Place::Nowhere => None,
    };
    if let Some(pool) = pool {
        figures.manager_id.store(pool.events.id, Relaxed);
        figures.slots.store(pool.slots() as u32, Relaxed);
    }
    let made_by = current_worker();
    if let Some(worker) = made_by {
        figures.made_by.store(worker.0, Relaxed);
    }
    if !listened!(INFO) {
        return;
    }
    emit(&JobSubmitted {
        job_id: core.id.0,
        function: core.function,
        mode: match job.shape() {
            _ if core.is_open => "stream",
            Shape::Items => "items",
            Shape::Blocks { .. } if job.is_columns() => "columns",
            Shape::Blocks { .. } | Shape::Whole => "list",
        },
        items_total: core.items() as u64,
        workers_eligible: pool.map_or(0, |pool| pool.slots() as u64),
        inline: matches!(place, Place::Here),
        endaftercall: core.ends_pool,
        manager_id: pool.map(|pool| pool.events.id),
        worker_id: made_by.map(|worker| worker.0.into()),
    });
}

/// Once for each call, before anybody who waits for it can see its end.
pub(crate) fn job_finished(core: &JobCore, ending: Ending, failures: &[ItemFailure], took: Duration) {
    let Some(figures) = &core.events.0 else { return };
    let told = core.told_failures();
    let error_type = match ending {
        Ending::ItemsFailed if core.is_open => Some(told.1.unwrap_or("error")),
        Ending::ItemsFailed => failures.first().map(|failure| failure.cause.error_type()),
        // An `Err` under `try_map` is a result, not among the failures.
        Ending::FirstFailure(index) => {
            let failure = failures.iter().find(|failure| failure.index == index);
            Some(failure.map_or("error", |failure| failure.cause.error_type()))
        }
        ending => ending.error_type(),
    };
    let text = || core.refused_for.get().cloned().unwrap_or_else(|| ending.to_string());
    let error = ending.error_type().is_some().then(text);
    let (done, failed) = core.counts();
    let is_all = matches!(ending, Ending::Complete | Ending::ItemsFailed);
    let slots = figures.slots.load(Relaxed);
    let compute = Duration::from_micros(figures.compute_us.load(Relaxed));
    let owned = took.as_secs_f64() * f64::from(slots);
    let has_run = figures.chunks.load(Relaxed) > 0;
    let is_here = figures.chunks_at_nodes.load(Relaxed) == 0;
    let queue_us = figures.queue_us.load(Relaxed);
    emit(&JobFinished {
        job_id: core.id.0,
        function: core.function,
        outcome: ending.outcome(),
        duration_s: seconds(took),
        items_total: core.items() as u64,
        // Those that died with their thread are known to the engine alone.
        items_done: (if is_all { core.items() } else { done + failures.len().saturating_sub(failed) }) as u64,
        items_failed: match ending {
            _ if core.is_open => told.0 as u64,
            Ending::FirstFailure(_) => failures.len().max(1) as u64,
            _ => failures.len() as u64,
        },
        manager_id: Some(figures.manager_id.load(Relaxed)).filter(|&id| id > 0),
        worker_id: Some(figures.made_by.load(Relaxed)).filter(|&id| id != NOBODY).map(u64::from),
        error_type,
        error_message: error.as_deref().map(capped),
        queue_s: (queue_us < u64::MAX).then(|| seconds(Duration::from_micros(queue_us))),
        compute_s: has_run.then(|| seconds(compute)),
        // A chunk's clock and the call's are read one after the other: tiny calls could come out above one.
        efficiency_ratio: (has_run && is_here && owned > 0.0)
            .then(|| (compute.as_secs_f64() / owned * 1e4).round().min(1e4) / 1e4),
        chunks_done: has_run.then(|| figures.chunks.load(Relaxed)),
        retries: has_run.then(|| figures.retries.load(Relaxed)),
    });
}
