//! The table of events.

use tracing::Level;

use super::{EventSpec, FieldUse, SupervisionEvent, TARGET, field};

macro_rules! uses {
    ({ $($field:ident),* }, optional { $($optional:ident),* }) => {
        &[
            $( FieldUse { field: field::$field, is_required: true }, )*
            $( FieldUse { field: field::$optional, is_required: false }, )*
        ]
    };
}

/// What the log puts on every line, whoever says it.
pub const ENVELOPE: &[FieldUse] = uses!(
    { timestamp, level, target, message, schema, boot_id, seq, role, service_instance },
    optional { event_name, service_name, service_version, host_name, process_pid }
);

macro_rules! fire {
    ($event:ident, $name:literal, $level:ident, { $($field:ident),* }, { $($optional:ident),* }) => {
        tracing::event!(
            name: $name,
            target: TARGET,
            Level::$level,
            {
                otel.event.name = $name,
                $( { field::$field.name } = $event.$field, )*
                $( { field::$optional.name } = $event.$optional, )*
            },
            "{}", $event
        )
    };
}

macro_rules! event_type {
    (
        [$($doc:tt)*] $event:ident, { $($field:ident),* }, { $($optional:ident),* }
    ) => {
        $($doc)*
        #[derive(Debug, Clone, Copy, PartialEq, Default)]
        #[allow(missing_docs, reason = "the table of fields has them")]
        pub struct $event<'a> {
            $( pub $field: field::$field<'a>, )*
            $( pub $optional: Option<field::$optional<'a>>, )*
        }
    };
}

/// `/// when  Type = "name", LEVEL or LEVEL if |event| condition, { fields }, optional { fields };` The first condition that
/// holds decides.
macro_rules! events {
    ($(
        $(#[doc = $doc:literal])+
        $event:ident = $name:literal, $level:ident $(or $other:ident if |$this:ident| $is_other:expr)*,
        $fields:tt, optional $optional:tt;
    )*) => {
        $(
            event_type! { [$(#[doc = $doc])+] $event, $fields, $optional }

            impl SupervisionEvent for $event<'_> {
                const SPEC: EventSpec = EventSpec {
                    name: $name,
                    levels: &[Level::$level $(, Level::$other)*],
                    when: concat!($($doc),+),
                    fields: uses!($fields, optional $optional),
                };

                fn emit(&self) {
                    $(
                        let $this = self;
                        if $is_other {
                            fire!(self, $name, $other, $fields, $optional);
                            return;
                        }
                    )*
                    fire!(self, $name, $level, $fields, $optional);
                }
            }
        )*

        /// Every event, as people read about them.
        pub const EVENTS: &[EventSpec] = &[$( $event::SPEC ),*];
    };
}

events! {
    /// A Manager is there and starts its workers.
    ManagerStarted = "distfun.manager.started", INFO, { manager_id, workers_cpu }, optional { workers_gpu };

    /// A Manager has nothing left to do, or has failed (ERROR).
    ManagerStopped = "distfun.manager.stopped", INFO or ERROR if |event| event.stop_reason == "error",
        { manager_id, stop_reason, uptime_s }, optional { error_message };

    /// Every 10 s while calls are active, every 60 s else: how everything stands. Counts are cumulative, so they make good
    /// what sampling and lost lines took; they begin when somebody first listens.
    ManagerState = "distfun.manager.state", INFO,
        {
            manager_id, uptime_s, jobs_active, jobs_finished, items_pending, chunks_running, chunks_done, chunks_failed,
            chunks_retried, workers_available, workers_busy, workers_restarting, workers_offline
        },
        optional { nodes_up, nodes_lost };

    /// Calls wait, and for more than a second no worker has worked on any of them.
    ManagerStalled = "distfun.manager.stalled", WARN,
        { manager_id, stall_reason, jobs_active, items_pending, stalled_s }, optional {};

    /// After a stall: calls get on again, or there are none any more.
    ManagerResumed = "distfun.manager.resumed", INFO, { manager_id, stalled_s }, optional {};

    /// A distributed function or a service has taken its slots.
    SessionOpened = "distfun.session.opened", INFO, { manager_id, scope, endaftercall, workers_cpu },
        optional { workers_gpu };

    /// The policy on GPUs has been judged over all machines, and which workers get work has changed. WARN where calls
    /// fail for want of GPUs, or CPUs compute for that and the policy is not `prefer_gpu`, which is content with them.
    PlacementJudged = "distfun.placement.judged",
        INFO or WARN if |event| event.gpu_policy != "prefer_gpu" && matches!(event.placement, "cpus" | "refused"),
        { manager_id, gpu_policy, placement }, optional { without_gpu };

    /// It was ended by `finished`, by its one call, or by a failure.
    SessionFinished = "distfun.session.finished", INFO, { manager_id, scope, session_ending, open_s }, optional {};

    /// It was ended by `shutdown`, also after `finished`.
    SessionShutdown = "distfun.session.shutdown", INFO, { manager_id, scope, open_s }, optional {};

    /// It was dropped without `finished`: its slots are freed, but nobody waited for that or heard how it went.
    SessionLeaked = "distfun.session.leaked", WARN, { manager_id, scope, open_s, cleaned }, optional {};

    /// A life of a worker's thread has begun.
    WorkerStarted = "distfun.worker.started", INFO,
        { manager_id, worker_id, worker_generation, worker_kind },
        optional { cpu_affinity, gpu_name, gpu_uuid, gpu_bytes };

    /// A life of a worker's thread is over; once for each that started, unless the program ends before. WARN where it
    /// was left behind inside an item or could not even begin.
    WorkerStopped = "distfun.worker.stopped",
        INFO or WARN if |event| matches!(event.exit_reason, "abandoned" | "spawn_failed"),
        { manager_id, worker_id, worker_generation, exit_reason }, optional { chunks_done, busy_s, error_message };

    /// INFO every 10 s while the worker's chunk has run over 10 s, at most 50 such lines in 10 s for a Manager, taken in
    /// turn. DEBUG when it begins or ends to be busy.
    WorkerState = "distfun.worker.state", INFO or DEBUG if |event| event.running_s.is_none(),
        { manager_id, worker_id, worker_generation, worker_state },
        optional { running_s, job_id, function, chunk_index, chunk_items };

    /// A function that runs in a process of its own has written a line to its stdout or stderr: the item, or one of several
    /// short ones.
    WorkerOutput = "distfun.worker.output", INFO,
        { manager_id, worker_id, output_stream, output_text },
        optional { worker_generation, machine, job_id, function, item_index, items_count };

    /// A function that runs in a process of its own has emitted an event of `tracing`; at its level, TRACE as DEBUG. Spans are
    /// not told.
    WorkerLogged = "distfun.worker.logged",
        INFO or ERROR if |event| event.logged_level == "ERROR"
            or WARN if |event| event.logged_level == "WARN"
            or DEBUG if |event| matches!(event.logged_level, "DEBUG" | "TRACE"),
        { manager_id, worker_id, logged_level, logged_target, output_text },
        optional { worker_generation, machine, job_id, function, item_index, items_count };

    /// Supervision replaces a worker's thread, or its process.
    WorkerRestarted = "distfun.worker.restarted", WARN,
        { manager_id, worker_id, worker_generation, restart_cause, restarts_in_window, window_s, limit, backoff_s },
        optional {};

    /// A worker's threads, or processes, died again and again; it is not used any more.
    WorkerGaveUp = "distfun.worker.gave_up", ERROR,
        { manager_id, worker_id, worker_generation, restart_cause, restarts_in_window, window_s, limit }, optional {};

    /// A call was made; also one that is refused, empty, or runs in the calling thread. DEBUG if it was made inside a
    /// distributed function, of which there may be as many as items.
    JobSubmitted = "distfun.job.submitted", INFO or DEBUG if |event| event.worker_id.is_some(),
        { job_id, function, mode, items_total, workers_eligible, inline, endaftercall },
        optional { manager_id, worker_id };

    /// At most every 5 s for a call, and at 25, 50 and 75 % of its items, for calls that take more than a second; at most
    /// 50 such lines in 10 s for a Manager, taken in turn.
    JobProgress = "distfun.job.progress", INFO,
        { manager_id, job_id, function, items_total, items_done, items_failed, chunks_done, running_s, rate_per_s },
        optional { eta_s };

    /// A call has ended: exactly once for each that was submitted. ERROR if it failed or ran out of time; else DEBUG if it
    /// was made inside a distributed function.
    JobFinished = "distfun.job.finished",
        INFO or ERROR if |event| matches!(event.outcome, "failure" | "timeout")
            or DEBUG if |event| event.worker_id.is_some(),
        { job_id, function, outcome, duration_s, items_total, items_done, items_failed },
        optional { manager_id, worker_id, error_type, error_message, queue_s, compute_s, efficiency_ratio, chunks_done, retries };

    /// A worker begins a chunk. Sampled.
    ChunkStarted = "distfun.chunk.started", DEBUG,
        {
            manager_id, job_id, function, chunk_index, chunk_items, chunk_attempt, worker_id, worker_generation,
            sampling_ratio
        },
        optional {};

    /// A worker has ended a chunk, or as much of it as its time allowed; the rest is given out again. Sampled as its start.
    ChunkFinished = "distfun.chunk.finished", DEBUG,
        {
            manager_id, job_id, function, chunk_index, chunk_items, chunk_attempt, worker_id, worker_generation,
            chunk_outcome, items_done, items_failed, compute_s, sampling_ratio
        },
        optional {};

    /// A chunk was sent to a node. Sampled.
    ChunkDispatched = "distfun.chunk.dispatched", DEBUG,
        {
            manager_id, job_id, function, chunk_index, chunk_items, chunk_attempt, node_id, machine, sampling_ratio
        },
        optional {};

    /// A node has answered for a chunk; what it did not do is given out again. Sampled as its dispatch.
    ChunkReturned = "distfun.chunk.returned", DEBUG,
        {
            manager_id, job_id, function, chunk_index, chunk_items, chunk_attempt, node_id, machine, chunk_outcome,
            items_done, items_failed, compute_s, sampling_ratio
        },
        optional {};

    /// Once an attempt: a chunk has run longer than 10 s and than 5 times the median of its call.
    ChunkSlow = "distfun.chunk.slow", WARN,
        { manager_id, job_id, function, chunk_index, chunk_items, worker_id, worker_generation, running_s },
        optional { median_s };

    /// The worker's thread, or its process, died inside an item, which will be tried again; the chunk's other items are
    /// redone.
    ChunkRetry = "distfun.chunk.retry", WARN,
        {
            manager_id, job_id, function, chunk_index, item_index, chunk_attempt, max_attempts, worker_id,
            worker_generation, error_type
        },
        optional {};

    /// An item has failed and will be tried again, as `retries` says: once for each attempt that is not the last.
    ItemRetried = "distfun.item.retried", WARN,
        { job_id, function, item_index, item_attempt, error_type, wait_s },
        optional { manager_id, worker_id, machine };

    /// Items of a chunk have failed for good, for another reason than a panic: once for a chunk, with its first failure.
    ChunkFailed = "distfun.chunk.failed", ERROR,
        { job_id, function, chunk_index, chunk_items, chunk_attempt, item_index, items_failed, error_type },
        optional { manager_id, worker_id, worker_generation, machine, error_message };

    /// The function panicked, and the items in question have failed for good: once for a chunk, with its first panic.
    ChunkException = "distfun.chunk.exception", ERROR,
        {
            job_id, function, chunk_index, chunk_items, chunk_attempt, item_index, items_failed, error_type, exception_type,
            exception_message
        },
        optional { manager_id, worker_id, worker_generation, machine, code_file, code_line };

    /// A node is connected and computes from now on; again, if there was an outage.
    NodeConnected = "distfun.node.connected", INFO,
        { manager_id, node_id, machine, node_name, workers_total, node_version, rtt_s },
        optional { outage_s, workers_gpu };

    /// A machine can't be used: at the first try of several, and when it is not tried again, which is ERROR.
    NodeRejected = "distfun.node.rejected", WARN or ERROR if |event| event.gives_up,
        { manager_id, machine, error_type, error_message, gives_up }, optional {};

    /// A node can't run a call: it does not offer the function, or with other types, or can't keep its shared data.
    NodeRefused = "distfun.node.refused", ERROR,
        { manager_id, node_id, machine, job_id, function, error_type, error_message }, optional {};

    /// Nothing came from a node for 1.5 s: it gets no new chunks until something does.
    NodeSuspect = "distfun.node.suspect", WARN, { manager_id, node_id, machine, chunks_running }, optional {};

    /// After `distfun.node.suspect`: something has come from the node again in time, and it gets chunks as before.
    NodeRecovered = "distfun.node.recovered", INFO, { manager_id, node_id, machine, chunks_running }, optional {};

    /// A worker of a node died inside a chunk, or was stopped there because an item took too long: what it had not done is
    /// given out again. The node replaces it.
    NodeWorkerDied = "distfun.node.worker_died", WARN,
        { manager_id, node_id, machine, job_id, function, chunk_index, chunk_items, error_type },
        optional { worker_id, item_index, error_message };

    /// A node is about to stop: it finishes what it has and gets nothing new.
    NodeDraining = "distfun.node.draining", INFO, { manager_id, node_id, machine, chunks_running }, optional {};

    /// The connection to a node is gone. What it had is done elsewhere; it is connected again when that can be.
    NodeLost = "distfun.node.lost", ERROR,
        { manager_id, node_id, machine, error_message, chunks_requeued }, optional {};

    /// Said by a node: it serves from now on.
    NodeStarted = "distfun.node.started", INFO, { node_name, address, workers_total, node_version },
        optional { workers_gpu };

    /// Said by a node: a Manager is connected.
    NodeJoined = "distfun.node.joined", INFO, { node_name, manager_name, managers }, optional {};

    /// Said by a node: a Manager is gone.
    NodeLeft = "distfun.node.left", INFO, { node_name, manager_name, managers, error_message }, optional {};

    /// Said by a node: a process of a program that a Manager has brought died inside a chunk, or was stopped there because an
    /// item took too long. Another one takes its place; the Manager says what becomes of the items
    /// (`distfun.node.worker_died`).
    NodeProcessDied = "distfun.node.process_died", WARN,
        { node_name, manager_name, function, worker_id, error_type },
        optional { item_index, error_message };

    /// Said by a node: it finishes what it has, takes nothing new and stops.
    NodeStopping = "distfun.node.stopping", INFO, { node_name, node_stop_reason, managers }, optional { manager_name };

    /// Said by a node: it serves nobody any more.
    NodeStopped = "distfun.node.stopped", INFO, { node_name, uptime_s }, optional {};

    /// A node has the shared data of a call.
    SharedTransfer = "distfun.shared.transfer", INFO,
        { manager_id, node_id, machine, digest, total_bytes, wire_bytes, duration_s, cached }, optional {};

    /// Shared data is there for all workers of this machine to read.
    SharedPublished = "distfun.shared.published", INFO, { key, total_bytes }, optional { digest, mapping, readers };

    /// Shared data is gone from this machine.
    SharedReleased = "distfun.shared.released", INFO, { key, total_bytes }, optional { digest, mapping, readers };

    /// Lines of this log were lost, because the program said more than the log could take or the writing failed. Said as
    /// soon as there is room.
    LogDropped = "distfun.log.dropped", WARN,
        { since_s, dropped_debug, dropped_info, dropped_warn, dropped_unwritten, dropped_total },
        optional { error_message };
}
