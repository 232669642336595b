//! What events say to people.

use std::fmt::{self, Display, Formatter};

use super::table::*;

/// Seconds as people read them.
pub(crate) struct Seconds(pub(crate) f64);

impl Display for Seconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            s if s < 0.001 => write!(f, "{:.0} us", s * 1e6),
            s if s < 1.0 => write!(f, "{:.1} ms", s * 1e3),
            s if s < 100.0 => write!(f, "{s:.1} s"),
            s if s < 7200.0 => write!(f, "{:.0} s", s),
            s => write!(f, "{:.1} h", s / 3600.0),
        }
    }
}

/// `, text` if there is one.
fn more(f: &mut Formatter<'_>, text: Option<impl Display>) -> fmt::Result {
    text.map_or(Ok(()), |text| write!(f, ": {text}"))
}

/// ` and 2 on GPUs` if there are any.
fn on_gpus(f: &mut Formatter<'_>, gpus: Option<u64>) -> fmt::Result {
    gpus.filter(|gpus| *gpus > 0).map_or(Ok(()), |gpus| write!(f, " and {gpus} on GPUs"))
}

/// `2 slots`, or `2 slots and 1 GPU`.
fn slots(f: &mut Formatter<'_>, slots: u64, gpus: Option<u64>) -> fmt::Result {
    write!(f, "{}", count(slots, "slot"))?;
    gpus.filter(|gpus| *gpus > 0).map_or(Ok(()), |gpus| write!(f, " and {}", count(gpus, "GPU")))
}

/// Whose words follow: the worker, its machine if that is another, and the item, or items, that it ran.
fn speaker(
    f: &mut Formatter<'_>,
    worker: u64,
    machine: Option<&str>,
    item: Option<u64>,
    items: Option<u64>,
) -> fmt::Result {
    write!(f, "worker {worker}")?;
    if let Some(machine) = machine {
        write!(f, " of {machine}")?;
    }
    match (item, items) {
        (Some(first), Some(count)) if count > 1 => write!(f, ", one of items {first}..{}", first.saturating_add(count)),
        (Some(item), _) => write!(f, ", item {item}"),
        (None, _) => Ok(()),
    }
}

macro_rules! says {
    ($($event:ident |$this:ident, $f:ident| $body:expr;)*) => {$(
        impl Display for $event<'_> {
            fn fmt(&self, $f: &mut Formatter<'_>) -> fmt::Result {
                let $this = self;
                $body
            }
        }
    )*};
}

says! {
    ManagerStarted |e, f| {
        write!(f, "manager {} runs and starts its {}", e.manager_id, count(e.workers_cpu, "worker"))?;
        on_gpus(f, e.workers_gpu)
    };
    ManagerStopped |e, f| {
        write!(f, "manager {} stopped after {} ({})", e.manager_id, Seconds(e.uptime_s), e.stop_reason)?;
        more(f, e.error_message)
    };
    ManagerState |e, f| write!(
        f,
        "manager {}: {} active, {} left; workers: {} busy, {} available, {} restarting, {} offline",
        e.manager_id, count(e.jobs_active, "call"), count(e.items_pending, "item"), e.workers_busy, e.workers_available, e.workers_restarting,
        e.workers_offline
    );
    ManagerStalled |e, f| {
        let why = match e.stall_reason {
            "workers_stuck" => "every worker is inside an item of a call that has ended",
            "no_nodes" => "this machine computes nothing and no other is connected",
            "undecided" => "it is not known yet of all machines whether they have a GPU",
            _ => "no worker has a thread",
        };
        write!(f, "nothing has got on for {} with {} to do: {why}", Seconds(e.stalled_s), count(e.jobs_active, "call"))
    };
    ManagerResumed |e, f| write!(f, "manager {} gets on again after {}", e.manager_id, Seconds(e.stalled_s));
    SessionOpened |e, f| {
        write!(f, "manager {} opens, with {}", e.manager_id, count(e.workers_cpu, "worker"))?;
        on_gpus(f, e.workers_gpu)
    };
    PlacementJudged |e, f| {
        let who = match e.placement {
            "undecided" => "no worker gets work yet: whether machines have a GPU is not known of all",
            "gpus" => "workers on GPUs get work",
            "both" => "all workers get work",
            "refused" => "calls fail: not every machine has a GPU",
            _ if e.gpu_policy == "no_gpu" => "workers on CPUs get work",
            _ => "workers on CPUs get work, for want of GPUs",
        };
        write!(f, "manager {}, {}: {who}", e.manager_id, e.gpu_policy)?;
        e.without_gpu.map_or(Ok(()), |names| write!(f, "; without: {names}"))
    };
    SessionFinished |e, f| {
        write!(f, "manager {} ends by {} after {}", e.manager_id, e.session_ending, Seconds(e.open_s))
    };
    SessionShutdown |e, f| write!(f, "manager {} ends by shutdown after {}", e.manager_id, Seconds(e.open_s));
    SessionLeaked |e, f| write!(
        f,
        "manager {} was dropped after {} without finished(); its workers end by themselves",
        e.manager_id, Seconds(e.open_s)
    );
    WorkerStarted |e, f| {
        match e.worker_generation {
            0 => write!(f, "worker {} has started", e.worker_id)?,
            life => write!(f, "worker {} has started again (life {})", e.worker_id, life + 1)?,
        }
        e.gpu_name.map_or(Ok(()), |name| write!(f, ", on {name}"))
    };
    WorkerStopped |e, f| {
        match e.exit_reason {
            "abandoned" => write!(f, "worker {} is left behind inside an item; it ends when that returns", e.worker_id)?,
            "spawn_failed" => write!(f, "worker {} could not start its thread", e.worker_id)?,
            reason => write!(f, "worker {} has stopped ({reason})", e.worker_id)?,
        }
        more(f, e.error_message)
    };
    WorkerState |e, f| match (e.running_s, e.function) {
        (Some(running), Some(function)) => {
            write!(f, "worker {} has been running {function} for {}", e.worker_id, Seconds(running))?;
            e.chunk_index.map_or(Ok(()), |index| write!(f, ", from item {index} on"))
        }
        _ => write!(f, "worker {} is {}", e.worker_id, e.worker_state),
    };
    WorkerOutput |e, f| {
        speaker(f, e.worker_id, e.machine, e.item_index, e.items_count)?;
        write!(f, " wrote to {}: {}", e.output_stream, e.output_text)
    };
    WorkerLogged |e, f| {
        speaker(f, e.worker_id, e.machine, e.item_index, e.items_count)?;
        write!(f, ": {}: {}", e.logged_target, e.output_text)
    };
    WorkerRestarted |e, f| {
        let why = match e.restart_cause {
            "timeout" => "it did not come back in time from a call or an item",
            "spawn_failed" => "its thread or process could not be started",
            "gpu_lost" => "its GPU was lost, or could not be opened",
            "crash" => "its process died",
            _ => "its thread died",
        };
        write!(f, "worker {} is started again", e.worker_id)?;
        if e.backoff_s > 0.0 {
            write!(f, " in {}", Seconds(e.backoff_s))?;
        }
        write!(f, ": {why}")?;
        if e.restarts_in_window > 0 {
            write!(f, " ({} of {} deaths allowed in {})", e.restarts_in_window, e.limit - 1, Seconds(e.window_s))?;
        }
        Ok(())
    };
    WorkerGaveUp |e, f| write!(
        f,
        "worker {} is given up: it died {} times within {} without finishing an item",
        e.worker_id, e.restarts_in_window, Seconds(e.window_s)
    );
    JobSubmitted |e, f| {
        write!(f, "call {}: {} on ", e.job_id, e.function)?;
        match e.mode {
            "stream" => write!(f, "what an iterator gives")?,
            "columns" => write!(f, "{}", count(e.items_total, "column"))?,
            _ => write!(f, "{}", count(e.items_total, "item"))?,
        }
        if e.inline { f.write_str(", in the calling thread") } else { Ok(()) }
    };
    JobProgress |e, f| {
        write!(f, "call {}: {} of {} items", e.job_id, e.items_done, e.items_total)?;
        if e.items_failed > 0 {
            write!(f, ", {} failed", e.items_failed)?;
        }
        if e.items_done > 0 {
            write!(f, ", {:.1} a second", e.rate_per_s)?;
        }
        e.eta_s.map_or(Ok(()), |eta| write!(f, ", {} left", Seconds(eta)))
    };
    JobFinished |e, f| {
        let how = match e.outcome {
            "success" => "is complete",
            "failure" => "failed",
            "timeout" => "ran out of time",
            _ => "was cancelled",
        };
        write!(f, "call {} {how} after {}", e.job_id, Seconds(e.duration_s))?;
        if e.items_failed > 0 {
            write!(f, ", {} of {} items failed", e.items_failed, e.items_total)?;
        } else if e.outcome != "success" {
            write!(f, ", {} of {} items done", e.items_done, e.items_total)?;
        }
        more(f, e.error_message)
    };
    ChunkStarted |e, f| {
        write!(f, "worker {} begins items {}", e.worker_id, range(e.chunk_index, e.chunk_items))?;
        write!(f, " of call {}", e.job_id)
    };
    ChunkFinished |e, f| {
        write!(f, "worker {} ended items {}", e.worker_id, range(e.chunk_index, e.items_done))?;
        write!(f, " of call {} after {}", e.job_id, Seconds(e.compute_s))
    };
    ChunkDispatched |e, f| {
        write!(f, "items {} of call {}", range(e.chunk_index, e.chunk_items), e.job_id)?;
        write!(f, " are sent to {}", e.machine)
    };
    ChunkReturned |e, f| {
        write!(f, "{} has done items {}", e.machine, range(e.chunk_index, e.items_done))?;
        write!(f, " of call {} in {}", e.job_id, Seconds(e.compute_s))
    };
    NodeConnected |e, f| {
        write!(f, "{} is connected, with ", e.machine)?;
        slots(f, e.workers_total, e.workers_gpu)?;
        match e.outage_s {
            Some(outage) => write!(f, ", after {}", Seconds(outage)),
            None => Ok(()),
        }
    };
    NodeRejected |e, f| {
        let then = if e.gives_up { "it is not tried again" } else { "it is tried again" };
        write!(f, "{} can't be used: {}; {then}", e.machine, e.error_message)
    };
    NodeRefused |e, f| {
        write!(f, "{} can't run call {} ({}): {}", e.machine, e.job_id, e.function, e.error_message)
    };
    NodeSuspect |e, f| write!(f, "nothing comes from {}, which has {}", e.machine, count(e.chunks_running, "chunk"));
    NodeRecovered |e, f| write!(f, "{} is heard again, and has {}", e.machine, count(e.chunks_running, "chunk"));
    NodeWorkerDied |e, f| {
        f.write_str("a worker")?;
        e.worker_id.map_or(Ok(()), |worker| write!(f, " ({worker})"))?;
        write!(f, " of {} died in items {}", e.machine, range(e.chunk_index, e.chunk_items))?;
        write!(f, " of call {}", e.job_id)?;
        more(f, e.error_message)
    };
    NodeDraining |e, f| write!(f, "{} stops soon, and finishes {}", e.machine, count(e.chunks_running, "chunk"));
    NodeLost |e, f| write!(
        f,
        "{} is lost: {}; {} will be done elsewhere",
        e.machine, e.error_message, count(e.chunks_requeued, "chunk")
    );
    NodeStarted |e, f| {
        write!(f, "{} serves at {}, with ", e.node_name, e.address)?;
        slots(f, e.workers_total, e.workers_gpu)
    };
    NodeJoined |e, f| write!(f, "{} is connected", e.manager_name);
    NodeLeft |e, f| write!(f, "{} is gone: {}", e.manager_name, e.error_message);
    NodeProcessDied |e, f| {
        write!(f, "a process of {}, on worker {} of {}, ", e.manager_name, e.worker_id, e.node_name)?;
        match e.error_type {
            "item_timeout" => f.write_str("was stopped")?,
            _ => f.write_str("died")?,
        }
        write!(f, " in {}", e.function)?;
        e.item_index.map_or(Ok(()), |item| write!(f, ", at item {item}"))?;
        more(f, e.error_message)
    };
    NodeStopping |e, f| {
        write!(f, "{} stops, ", e.node_name)?;
        match (e.node_stop_reason, e.manager_name) {
            ("signal", _) => f.write_str("told so by a signal"),
            ("shutdown", Some(manager)) => write!(f, "as {manager} wished"),
            _ => f.write_str("as its program wished"),
        }
    };
    NodeStopped |e, f| write!(f, "{} has stopped after {}", e.node_name, Seconds(e.uptime_s));
    SharedTransfer |e, f| {
        if e.cached {
            return write!(f, "{} has the shared data already, {} bytes", e.machine, e.total_bytes);
        }
        write!(f, "{} has got the shared data, {} bytes in {}", e.machine, e.total_bytes, Seconds(e.duration_s))
    };
    ChunkSlow |e, f| {
        let items = range(e.chunk_index, e.chunk_items);
        let running = Seconds(e.running_s);
        write!(f, "items {items} of call {} have been running for {running} on worker {}", e.job_id, e.worker_id)?;
        e.median_s.map_or(Ok(()), |median| write!(f, "; others took {}", Seconds(median)))
    };
    ChunkRetry |e, f| write!(
        f,
        "worker {} died at item {} of call {}, attempt {} of {}; the item is tried again",
        e.worker_id, e.item_index, e.job_id, e.chunk_attempt, e.max_attempts
    );
    ItemRetried |e, f| write!(
        f,
        "item {} of call {} failed at attempt {} ({}); it is tried again in {}",
        e.item_index, e.job_id, e.item_attempt, e.error_type, Seconds(e.wait_s)
    );
    ChunkFailed |e, f| {
        which(f, e.items_failed, e.item_index, e.job_id)?;
        f.write_str(" failed")?;
        match e.error_message {
            Some(message) => write!(f, ": {message}"),
            None => write!(f, " ({})", e.error_type),
        }
    };
    ChunkException |e, f| {
        which(f, e.items_failed, e.item_index, e.job_id)?;
        f.write_str(" panicked")?;
        write!(f, ": {}", e.exception_message)?;
        match (e.code_file, e.code_line) {
            (Some(file), Some(line)) => write!(f, " ({file}:{line})"),
            _ => Ok(()),
        }
    };
    SharedPublished |e, f| write!(f, "shared data {:?} is there, {} bytes", e.key, e.total_bytes);
    SharedReleased |e, f| write!(f, "shared data {:?} is gone, {} bytes", e.key, e.total_bytes);
    LogDropped |e, f| {
        write!(f, "{} lines of this log were lost in the last {}", e.dropped_total, Seconds(e.since_s))?;
        more(f, e.error_message)
    };
}

/// The items of a call that failed.
fn which(f: &mut Formatter<'_>, items: u64, first: u64, job: u64) -> fmt::Result {
    match items {
        1 => write!(f, "item {first} of call {job}"),
        _ => write!(f, "{items} items of call {job}, the first item {first},"),
    }
}

fn count(number: u64, noun: &'static str) -> impl Display {
    struct Count(u64, &'static str);
    impl Display for Count {
        fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
            write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
        }
    }
    Count(number, noun)
}

fn range(start: u64, count: u64) -> impl Display {
    struct Range(u64, u64);
    impl Display for Range {
        fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
            write!(f, "{}..{}", self.0, self.0 + self.1)
        }
    }
    Range(start, count)
}
