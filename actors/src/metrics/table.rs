//! Every metric, once: name, type, labels and meaning.

use ::metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// What one metric is.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: Unit,
    /// Each has few values, whatever is computed: no ids.
    pub(super) labels: &'static [&'static str],
    pub(super) doc: &'static str,
}

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often a value was how large.
    Histogram,
}

impl Metric {
    pub(super) fn describe(&self) {
        match self.kind {
            Kind::Counter => describe_counter!(self.name, self.unit, self.doc),
            Kind::Gauge => describe_gauge!(self.name, self.unit, self.doc),
            Kind::Histogram => describe_histogram!(self.name, self.unit, self.doc),
        }
    }

    /// One value for each label, in their order.
    fn labels(&self, values: &[&str]) -> Vec<Label> {
        debug_assert_eq!(values.len(), self.labels.len(), "{}", self.name);
        self.labels.iter().zip(values).map(|(&name, &value)| Label::new(name, value.to_owned())).collect()
    }

    pub(super) fn add(&self, values: &[&str], more: u64) {
        debug_assert_eq!(self.kind, Kind::Counter, "{}", self.name);
        counter!(self.name, self.labels(values)).increment(more);
    }

    pub(super) fn set(&self, values: &[&str], value: f64) {
        debug_assert_eq!(self.kind, Kind::Gauge, "{}", self.name);
        gauge!(self.name, self.labels(values)).set(value);
    }

    pub(super) fn record(&self, values: &[&str], value: f64) {
        debug_assert_eq!(self.kind, Kind::Histogram, "{}", self.name);
        histogram!(self.name, self.labels(values)).record(value);
    }
}

/// `/// meaning  METRIC: Kind of Unit [labels] = "name";`
macro_rules! metrics {
    ($( $(#[doc = $doc:literal])+ $metric:ident: $kind:ident of $unit:ident [$($label:literal)*] = $name:literal; )*) => {
        $(
            $(#[doc = $doc])+
            pub(super) const $metric: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                unit: Unit::$unit,
                labels: &[$($label),*],
                doc: concat!($($doc),+).trim_ascii(),
            };
        )*

        /// All of them, as people read about them.
        pub(super) const METRICS: &[Metric] = &[$( $metric ),*];
    };
}

metrics! {
    /// Always 1; its label is the version of distfun.
    BUILD_INFO: Gauge of Count ["version"] = "distfun_build_info";
    /// Events at INFO and above, as docs/EVENTS.md lists them, but for what functions print and log.
    EVENTS: Counter of Count ["event" "level"] = "distfun_events_total";

    // Calls.
    /// Calls that were made and have not ended.
    JOBS_ACTIVE: Gauge of Count [] = "distfun_jobs_active";
    /// Calls that have ended.
    JOBS: Counter of Count ["function" "outcome"] = "distfun_jobs_total";
    /// From making a call to its end.
    JOB_DURATION: Histogram of Seconds ["function"] = "distfun_job_duration_seconds";
    /// From making a call to the start of its first chunk, of calls that had one.
    JOB_QUEUE: Histogram of Seconds ["function"] = "distfun_job_queue_seconds";
    /// Time that workers spent in the chunks of a call, on all machines together, of calls that had some.
    JOB_COMPUTE: Histogram of Seconds ["function"] = "distfun_job_compute_seconds";
    /// When a call last ended with success, by this machine's clock, in seconds since 1970.
    LAST_SUCCESS: Gauge of Seconds ["function"] = "distfun_last_success_timestamp_seconds";
    /// Items with an outcome, success or failure, of calls that have ended.
    ITEMS: Counter of Count ["function" "outcome"] = "distfun_items_total";
    /// Items without an outcome, at the last snapshot.
    ITEMS_PENDING: Gauge of Count [] = "distfun_items_pending";
    /// Items that have failed and were to be tried again, as `retries` says.
    ITEM_RETRIES: Counter of Count ["function" "error_type"] = "distfun_item_retries_total";

    // Chunks.
    /// Chunks that have ended, at the last snapshot and of calls that have ended; at a node those of others too.
    CHUNKS: Counter of Count [] = "distfun_chunks_total";
    /// Chunks that run, at the last snapshot.
    CHUNKS_RUNNING: Gauge of Count [] = "distfun_chunks_running";
    /// Chunks in which items have failed for good, by the first; one with panics and other errors counts once for each.
    CHUNK_FAILURES: Counter of Count ["function" "error_type"] = "distfun_chunk_failures_total";
    /// Chunks in which a thread or process died, and which were to be tried again.
    CHUNK_RETRIES: Counter of Count ["function" "error_type"] = "distfun_chunk_retries_total";
    /// Chunks that have run longer than 10 s and than 5 times the median of their call.
    SLOW_CHUNKS: Counter of Count ["function"] = "distfun_slow_chunks_total";

    // Managers and workers.
    /// Managers that are there: every distributed function has one while it has slots.
    MANAGERS: Gauge of Count [] = "distfun_managers";
    /// Managers whose calls wait while no worker has worked on any of them for more than a second.
    MANAGERS_STALLED: Gauge of Count [] = "distfun_managers_stalled";
    /// How often a Manager began to be stalled.
    STALLS: Counter of Count ["cause"] = "distfun_stalls_total";
    /// Workers by what they do, at the last snapshot.
    WORKERS: Gauge of Count ["state"] = "distfun_workers";
    /// Threads of workers that live, those that are left behind in an item not counted.
    WORKER_THREADS: Gauge of Count ["kind"] = "distfun_worker_threads";
    /// Lives of workers' threads that are over.
    WORKER_STOPS: Counter of Count ["cause"] = "distfun_worker_stops_total";
    /// How often supervision has replaced a worker's thread or process.
    WORKER_RESTARTS: Counter of Count ["cause"] = "distfun_worker_restarts_total";
    /// Workers that died again and again and are not used any more.
    WORKERS_GIVEN_UP: Counter of Count ["cause"] = "distfun_workers_given_up_total";

    // Other machines.
    /// Machines that are named and connected (up) or not (lost), at the last snapshot.
    NODES: Gauge of Count ["state"] = "distfun_nodes";
    /// How often a node was connected.
    NODE_CONNECTIONS: Counter of Count [] = "distfun_node_connections_total";
    /// How often it was so again, after an outage.
    NODE_RECONNECTS: Counter of Count [] = "distfun_node_reconnects_total";
    /// How often the connection to a node was lost.
    NODE_LOSSES: Counter of Count [] = "distfun_node_losses_total";
    /// Workers of nodes that died inside a chunk of a call made here, or were stopped there for taking too long.
    NODE_WORKER_DEATHS: Counter of Count ["error_type"] = "distfun_node_worker_deaths_total";
    /// Processes of programs that Managers have brought to this node that died inside a chunk, or were stopped there.
    PROCESS_DEATHS: Counter of Count ["error_type"] = "distfun_node_process_deaths_total";
    /// How often it was said that a machine can't be used.
    NODE_REJECTIONS: Counter of Count ["error_type"] = "distfun_node_rejections_total";
    /// Size of the shared data that is there for the workers of this machine.
    SHARED: Gauge of Bytes [] = "distfun_shared_bytes";
    /// Bytes of shared data that were sent to nodes.
    SHARED_SENT: Counter of Bytes [] = "distfun_shared_sent_bytes_total";

    // What a node says about itself.
    /// Nodes of this process that serve: 1 for `distfun node`.
    NODE_SERVING: Gauge of Count [] = "distfun_node_serving";
    /// Chunks that they compute at once.
    NODE_SLOTS: Gauge of Count [] = "distfun_node_slots";
    /// Managers that are connected to them.
    NODE_MANAGERS: Gauge of Count [] = "distfun_node_managers";
}
