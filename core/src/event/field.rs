//! Every field that some event has, once: name, type and meaning.
#![allow(
    non_upper_case_globals,
    non_camel_case_types,
    reason = "an event's field, its type and its description have one name"
)]

use super::{FieldSpec, Kind};

/// How a kind of field is held by an event.
pub trait FieldType {
    /// The Rust type.
    type Of<'a>;
}

macro_rules! kinds {
    ($($kind:ident: $type:ty),*) => {$(
        /// See [`Kind`].
        #[derive(Debug)]
        pub enum $kind {}
        impl FieldType for $kind {
            type Of<'a> = $type;
        }
    )*};
}
kinds!(Text: &'a str, Whole: u64, Float: f64, Flag: bool);

/// `/// meaning  field: Kind [values] = "name";` makes a type alias and a [`FieldSpec`] of the name `field`.
macro_rules! fields {
    ($( $(#[doc = $doc:literal])+ $field:ident: $kind:ident $([$($value:literal)+])? = $name:literal; )*) => {$(
        $(#[doc = $doc])+
        #[allow(dead_code, reason = "the log writes the envelope by itself")]
        pub(super) type $field<'a> = <$kind as FieldType>::Of<'a>;
        $(#[doc = $doc])+
        pub(super) const $field: FieldSpec = FieldSpec {
            name: $name,
            kind: Kind::$kind,
            doc: concat!($($doc),+),
            values: &[$($($value),+)?],
        };
    )*};
}

fields! {
    // The envelope, which the log writes.
    /// When it happened: RFC 3339, UTC, microseconds, by the clock of the process that says it.
    timestamp: Text = "timestamp";
    /// How grave it is.
    level: Text ["TRACE" "DEBUG" "INFO" "WARN" "ERROR"] = "level";
    /// Where in the program it was said.
    target: Text = "target";
    /// For people, in any words; programs read the other fields.
    message: Text = "message";
    /// The stable name of the event; a line without it comes from elsewhere in the program.
    event_name: Text = "otel.event.name";
    /// Version of this schema.
    schema: Text = "distfun.schema";
    /// A random UUID for each run of a process: a new one means a restart.
    boot_id: Text = "distfun.boot_id";
    /// Counts the lines of the run from 0: a gap is a lost line.
    seq: Whole = "distfun.seq";
    /// What the process is to distfun.
    role: Text ["manager" "node" "client"] = "distfun.role";
    /// The program.
    service_name: Text = "service.name";
    /// Its version, if it told one.
    service_version: Text = "service.version";
    /// This instance of it.
    service_instance: Text = "service.instance.id";
    /// The machine.
    host_name: Text = "host.name";
    /// The process.
    process_pid: Whole = "process.pid";

    // Ids.
    /// Names a Manager within its process: every distributed function has one while it has slots.
    manager_id: Whole = "distfun.manager.id";
    /// Names a call within its process.
    job_id: Whole = "distfun.job.id";
    /// Index of the first item of the chunk.
    chunk_index: Whole = "distfun.chunk.index";
    /// How many items the chunk has.
    chunk_items: Whole = "distfun.chunk.items";
    /// How often the chunk was tried, this time included.
    chunk_attempt: Whole = "distfun.chunk.attempt";
    /// Index of the item that it is about, the first if there are several.
    item_index: Whole = "distfun.item.index";
    /// Names a worker, which owns one slot, within its Manager: from 0. For a call: the worker whose item made it.
    worker_id: Whole = "distfun.worker.id";
    /// Counts the lives of the worker's thread, from 0.
    worker_generation: Whole = "distfun.worker.generation";
    /// Name of the function.
    function: Text = "distfun.function.name";

    // Managers and sessions.
    /// CPU workers.
    workers_cpu: Whole = "distfun.workers.cpu";
    /// GPU workers, where some are wanted; of a node: its GPUs, if it has any.
    workers_gpu: Whole = "distfun.workers.gpu";
    /// Workers that wait for work.
    workers_available: Whole = "distfun.workers.available";
    /// Workers that compute.
    workers_busy: Whole = "distfun.workers.busy";
    /// Workers whose thread is being started or replaced.
    workers_restarting: Whole = "distfun.workers.restarting";
    /// Workers that were given up or ended.
    workers_offline: Whole = "distfun.workers.offline";
    /// Workers that the call may use; 0 if it was refused.
    workers_eligible: Whole = "distfun.workers.eligible";
    /// Why it stopped.
    stop_reason: Text ["finished" "shutdown" "endaftercall" "error"] = "distfun.reason";
    /// For so long it was there.
    uptime_s: Float = "distfun.uptime_s";
    /// Why no call gets on: no worker has a thread, all are inside items of calls that have ended, there are none and no node is
    /// connected, or it is not known yet of all machines whether they have a GPU.
    stall_reason: Text ["no_workers" "workers_stuck" "no_nodes" "undecided"] = "distfun.reason";
    /// For so long nothing got on.
    stalled_s: Float = "distfun.stalled_s";
    /// Calls that have not ended.
    jobs_active: Whole = "distfun.jobs.active";
    /// Calls that have ended, since the Manager started.
    jobs_finished: Whole = "distfun.jobs.finished";
    /// What it spans: the slots of this machine.
    scope: Text ["local" "remote"] = "distfun.scope";
    /// Whether everything ends with the first call.
    endaftercall: Flag = "distfun.endaftercall";
    /// What ended it.
    session_ending: Text ["finished" "endaftercall" "error"] = "distfun.ending";
    /// For so long it was open.
    open_s: Float = "distfun.open_s";
    /// Whether its slots are freed nevertheless.
    cleaned: Flag = "distfun.cleaned";

    // Workers.
    /// What the worker's slot is.
    worker_kind: Text ["cpu" "gpu"] = "distfun.worker.kind";
    /// The CPU that the thread is bound to, if it is.
    cpu_affinity: Whole = "distfun.cpu.affinity";
    /// How a life of the thread ended: released with its slot, died, taken over by a newer thread, left behind inside an
    /// item, or never started.
    exit_reason: Text ["released" "died" "replaced" "abandoned" "spawn_failed"] = "distfun.reason";
    /// Time spent computing.
    busy_s: Float = "distfun.busy_s";
    /// What the worker does.
    worker_state: Text ["available" "busy" "offline"] = "distfun.state";
    /// Why the thread had to be replaced: it panicked outside of the function, its process crashed, it did not come back in
    /// time from a call or an item, or could not be started.
    restart_cause: Text ["panic" "crash" "timeout" "spawn_failed" "gpu_lost"] = "distfun.cause";
    /// How many items come into question, from that one on.
    items_count: Whole = "distfun.items.count";
    /// Where a function has written a line.
    output_stream: Text ["stdout" "stderr"] = "distfun.output.stream";
    /// The level of an event of a function's.
    logged_level: Text ["TRACE" "DEBUG" "INFO" "WARN" "ERROR"] = "distfun.logged.level";
    /// Where in its program a function has emitted an event.
    logged_target: Text = "distfun.logged.target";
    /// What a function has written, 512 bytes at most: whatever it chose to print.
    output_text: Text = "distfun.output.text";
    /// Deaths of the worker's threads within the window and without an item finished in between.
    restarts_in_window: Whole = "distfun.restarts_in_window";
    /// The window.
    window_s: Float = "distfun.window_s";
    /// As many such deaths within the window, and the worker is given up.
    limit: Whole = "distfun.limit";
    /// The new thread starts after this long.
    backoff_s: Float = "distfun.backoff_s";

    /// The worker's GPU as its vendor calls it.
    gpu_name: Text = "distfun.gpu.name";
    /// The GPU's UUID; where its driver has none, its PCI address, else its name.
    gpu_uuid: Text = "distfun.gpu.uuid";
    /// Memory of the GPU, if its driver tells.
    gpu_bytes: Whole = "distfun.gpu.memory_bytes";
    /// What is wanted of GPUs.
    gpu_policy: Text ["no_gpu" "prefer_gpu" "require_all" "gpu_or_fail" "mixed"] = "distfun.gpu.policy";
    /// Which workers get work: none before it is known which machines have a GPU, and none if calls fail for want of one.
    placement: Text ["undecided" "cpus" "gpus" "both" "refused"] = "distfun.placement";
    /// Machines without a GPU, where that is why.
    without_gpu: Text = "distfun.machines.without_gpu";

    // Jobs.
    /// How the items are given to the function: one by one, in lists, as blocks of columns, or as an iterator gives them.
    mode: Text ["items" "list" "columns" "stream"] = "distfun.mode";
    /// Whether the call ran in the calling thread: empty, nested, or `.sequential`.
    inline: Flag = "distfun.inline";
    /// Items in all.
    items_total: Whole = "distfun.items.total";
    /// Items with an outcome, failed ones included.
    items_done: Whole = "distfun.items.done";
    /// Items that failed.
    items_failed: Whole = "distfun.items.failed";
    /// Items that have no outcome yet.
    items_pending: Whole = "distfun.items.pending";
    /// How the call ended.
    outcome: Text ["success" "failure" "timeout" "cancelled"] = "distfun.outcome";
    /// How the chunk ended.
    chunk_outcome: Text ["success" "failure"] = "distfun.outcome";
    /// From start to end.
    duration_s: Float = "distfun.duration_s";
    /// Time that workers spent in the chunks that ended.
    compute_s: Float = "distfun.compute_s";
    /// From submitting to the first chunk's start.
    queue_s: Float = "distfun.queue_s";
    /// compute_s / (duration_s x workers): the share of the workers' time that went into this call.
    efficiency_ratio: Float = "distfun.efficiency_ratio";
    /// How often an item was tried again.
    retries: Whole = "distfun.retries";
    /// Items per second so far.
    rate_per_s: Float = "distfun.rate_per_s";
    /// Time left if the rest goes as the items so far did.
    eta_s: Float = "distfun.eta_s";

    // Chunks.
    /// Chunks that ended, since the Manager, worker or call started.
    chunks_done: Whole = "distfun.chunks.done";
    /// Chunks in which an item failed, since the Manager started.
    chunks_failed: Whole = "distfun.chunks.failed";
    /// Chunks that run.
    chunks_running: Whole = "distfun.chunks.running";
    /// Chunks that will be tried again, since the Manager started.
    chunks_retried: Whole = "distfun.chunks.retried";
    /// Share of the chunks that are logged at DEBUG, chosen by job and index so that start and end go together.
    sampling_ratio: Float = "distfun.sampling_ratio";
    /// For so long it has run.
    running_s: Float = "distfun.running_s";
    /// Median over the call's chunks that ended, where that is a second or more.
    median_s: Float = "distfun.median_s";
    /// So often a chunk is tried before its item fails.
    max_attempts: Whole = "distfun.max_attempts";
    /// The attempt at the item that it is about, from 1.
    item_attempt: Whole = "distfun.item.attempt";
    /// The item is tried again after this long at the earliest.
    wait_s: Float = "distfun.wait_s";
    /// What kind of error: of an item, of a chunk, or of the call.
    error_type: Text [
        "panic" "error" "wrong_length" "wrong_rows" "worker_lost" "poisoned" "item_timeout" "timeout" "finished" "shutdown" "ended_after_call"
        "busy" "shared_data_changed" "no_workers" "no_gpu" "wait_on_manager" "spawn_failed" "payload" "unreachable" "auth" "identity"
        "protocol_version" "not_distfun" "unknown_function" "program" "other"
    ] = "error.type";
    /// The error in words, 512 bytes at most. Never a value of the user's.
    error_message: Text = "error.message";
    /// Always "panic".
    exception_type: Text ["panic"] = "exception.type";
    /// The text given to `panic!`, 512 bytes at most.
    exception_message: Text = "exception.message";
    /// Source file of the panic.
    code_file: Text = "code.file.path";
    /// Line in it.
    code_line: Whole = "code.line.number";

    // Nodes.
    /// Machines that are connected and get chunks.
    nodes_up: Whole = "distfun.nodes.up";
    /// Machines that are not.
    nodes_lost: Whole = "distfun.nodes.lost";
    /// Names an entry of `machines` within its Manager.
    node_id: Whole = "distfun.node.id";
    /// The machine as `machines` names it; none for this one.
    machine: Text = "distfun.machine";
    /// What the node calls itself.
    node_name: Text = "distfun.node.name";
    /// Chunks that the node computes at once on CPUs.
    workers_total: Whole = "distfun.workers.total";
    /// Version of distfun that the node is built with.
    node_version: Text = "distfun.node.version";
    /// From here to the node and back.
    rtt_s: Float = "distfun.rtt_s";
    /// For so long it was not connected.
    outage_s: Float = "distfun.outage_s";
    /// Whether it is not tried again.
    gives_up: Flag = "distfun.gives_up";
    /// Where it listens.
    address: Text = "distfun.address";
    /// A Manager as it introduced itself: its program, and its machine if it has shown a certificate.
    manager_name: Text = "distfun.manager.name";
    /// Managers that are connected.
    managers: Whole = "distfun.managers";
    /// What has told a node to stop: a signal to its process, a Manager's `Shutdown`, or the program that it is part of.
    node_stop_reason: Text ["signal" "shutdown" "program"] = "distfun.reason";
    /// Chunks that were there, which are done elsewhere.
    chunks_requeued: Whole = "distfun.chunks.requeued";
    /// Bytes that were sent for it.
    wire_bytes: Whole = "distfun.wire_bytes";
    /// Whether the other side had it already.
    cached: Flag = "distfun.cached";

    // Shared data.
    /// Name of the shared data.
    key: Text = "distfun.key";
    /// Its size.
    total_bytes: Whole = "distfun.total_bytes";
    /// Hash of its content.
    digest: Text = "distfun.digest";
    /// How it is held.
    mapping: Text ["file" "memfd"] = "distfun.mapping";
    /// Who reads it.
    readers: Whole = "distfun.readers";

    // The log about itself.
    /// Since the first of these lines was lost.
    since_s: Float = "distfun.since_s";
    /// Lines lost at DEBUG and TRACE.
    dropped_debug: Whole = "distfun.dropped.debug";
    /// Lines lost at INFO.
    dropped_info: Whole = "distfun.dropped.info";
    /// Lines lost at WARN and ERROR.
    dropped_warn: Whole = "distfun.dropped.warn";
    /// Lines that were accepted but could not be written, of any level.
    dropped_unwritten: Whole = "distfun.dropped.unwritten";
    /// Lines lost in all.
    dropped_total: Whole = "distfun.dropped.total";
}
