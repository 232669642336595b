//! A line of a log, as far as the view reads it.

use std::{
    borrow::Cow,
    fmt,
    ops::Deref,
    time::{Duration, UNIX_EPOCH},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

/// A moment by the clock of whoever said it, in microseconds since 1970 (UTC). Serialized as seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Time(pub u64);

impl Time {
    /// How long after `earlier` it is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// So many seconds earlier.
    #[must_use]
    pub fn before(self, seconds: f64) -> Self {
        Self(self.0.saturating_sub(micros(seconds)))
    }

    /// So many seconds later.
    #[must_use]
    pub fn after(self, seconds: f64) -> Self {
        Self(self.0.saturating_add(micros(seconds)))
    }
}

fn micros(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e6) as u64 // as much as there can be, if it is more
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 1e6)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339(&text).map_err(D::Error::custom)?;
        let since = time.duration_since(UNIX_EPOCH).map_err(D::Error::custom)?;
        Ok(Self(u64::try_from(since.as_micros()).map_err(D::Error::custom)?))
    }
}

/// As on a line of a log.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = 253_402_300_799_999_999; // the last moment that can be written so: of the year 9999
        write!(f, "{}", humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_micros(self.0.min(most))))
    }
}

/// A number of a log, as far as it can be meant: sums of some of them must not run over, and programs that read JSON must not
/// round it.
trait Bounded {
    fn bounded(self) -> Self;
}

impl Bounded for u64 {
    fn bounded(self) -> Self {
        self.min((1 << 48) - 1)
    }
}

impl Bounded for f64 {
    fn bounded(self) -> Self {
        self.clamp(0.0, 1e12)
    }
}

impl Bounded for bool {
    fn bounded(self) -> Self {
        self
    }
}

fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de> + Bounded>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.map(Bounded::bounded))
}

/// A text that is a part of the line wherever it can be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

// Within an `Option`, serde borrows no `Cow`.
impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfText;
        impl<'de> Visitor<'de> for OfText {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(OfText)
    }
}

macro_rules! line {
    (
        texts { $( $text:ident = $text_name:literal, )* }
        numbers { $( $number:ident: $type:ty = $number_name:literal, )* }
    ) => {
        /// One line, decoded by serde from JSON: `serde_json::from_str::<Line>(text)`. Fields that the view does not read are
        /// passed over, so that a newer log is read too.
        #[derive(Debug, Clone, Deserialize)]
        #[allow(missing_docs, reason = "the table of fields in `event` has them")]
        #[non_exhaustive]
        pub struct Line<'a> {
            #[serde(rename = "timestamp")]
            pub at: Time,
            #[serde(rename = "distfun.seq")]
            pub seq: u64,
            #[serde(rename = "distfun.boot_id", borrow)]
            pub boot_id: Text<'a>,
            #[serde(borrow)]
            pub level: Text<'a>,
            #[serde(borrow)]
            pub target: Text<'a>,
            #[serde(borrow)]
            pub message: Text<'a>,
            $( #[serde(rename = $text_name, borrow, default)] pub $text: Option<Text<'a>>, )*
            $( #[serde(rename = $number_name, default, deserialize_with = "bounded")] pub $number: Option<$type>, )*
        }

        #[cfg(test)]
        pub(super) const READ: &[(&str, bool)] = &[$(($text_name, true),)* $(($number_name, false),)*];
    };
}

line! {
    texts {
        event = "otel.event.name",
        role = "distfun.role",
        service_name = "service.name",
        host_name = "host.name",
        function = "distfun.function.name",
        reason = "distfun.reason",
        worker_kind = "distfun.worker.kind",
        worker_state = "distfun.state",
        cause = "distfun.cause",
        mode = "distfun.mode",
        outcome = "distfun.outcome",
        error_type = "error.type",
        error_message = "error.message",
        exception_message = "exception.message",
        code_file = "code.file.path",
        machine = "distfun.machine",
        node_name = "distfun.node.name",
        node_version = "distfun.node.version",
        address = "distfun.address",
        manager_name = "distfun.manager.name",
        key = "distfun.key",
        gpu_name = "distfun.gpu.name",
        gpu_policy = "distfun.gpu.policy",
        placement = "distfun.placement",
        without_gpu = "distfun.machines.without_gpu",
    }
    numbers {
        pid: u64 = "process.pid",
        manager_id: u64 = "distfun.manager.id",
        job_id: u64 = "distfun.job.id",
        chunk_index: u64 = "distfun.chunk.index",
        chunk_items: u64 = "distfun.chunk.items",
        chunk_attempt: u64 = "distfun.chunk.attempt",
        item_index: u64 = "distfun.item.index",
        worker_id: u64 = "distfun.worker.id",
        generation: u64 = "distfun.worker.generation",
        workers_cpu: u64 = "distfun.workers.cpu",
        workers_gpu: u64 = "distfun.workers.gpu",
        available: u64 = "distfun.workers.available",
        busy: u64 = "distfun.workers.busy",
        restarting: u64 = "distfun.workers.restarting",
        offline: u64 = "distfun.workers.offline",
        workers_total: u64 = "distfun.workers.total",
        uptime_s: f64 = "distfun.uptime_s",
        stalled_s: f64 = "distfun.stalled_s",
        jobs_active: u64 = "distfun.jobs.active",
        jobs_finished: u64 = "distfun.jobs.finished",
        busy_s: f64 = "distfun.busy_s",
        backoff_s: f64 = "distfun.backoff_s",
        is_inline: bool = "distfun.inline",
        items_total: u64 = "distfun.items.total",
        items_done: u64 = "distfun.items.done",
        items_failed: u64 = "distfun.items.failed",
        items_pending: u64 = "distfun.items.pending",
        duration_s: f64 = "distfun.duration_s",
        compute_s: f64 = "distfun.compute_s",
        queue_s: f64 = "distfun.queue_s",
        efficiency_ratio: f64 = "distfun.efficiency_ratio",
        retries: u64 = "distfun.retries",
        rate_per_s: f64 = "distfun.rate_per_s",
        eta_s: f64 = "distfun.eta_s",
        chunks_done: u64 = "distfun.chunks.done",
        chunks_failed: u64 = "distfun.chunks.failed",
        chunks_running: u64 = "distfun.chunks.running",
        chunks_retried: u64 = "distfun.chunks.retried",
        chunks_requeued: u64 = "distfun.chunks.requeued",
        sampling_ratio: f64 = "distfun.sampling_ratio",
        running_s: f64 = "distfun.running_s",
        code_line: u64 = "code.line.number",
        nodes_up: u64 = "distfun.nodes.up",
        nodes_lost: u64 = "distfun.nodes.lost",
        node_id: u64 = "distfun.node.id",
        rtt_s: f64 = "distfun.rtt_s",
        outage_s: f64 = "distfun.outage_s",
        endaftercall: bool = "distfun.endaftercall",
        gives_up: bool = "distfun.gives_up",
        managers: u64 = "distfun.managers",
        total_bytes: u64 = "distfun.total_bytes",
        wire_bytes: u64 = "distfun.wire_bytes",
        is_cached: bool = "distfun.cached",
        dropped_total: u64 = "distfun.dropped.total",
    }
}
