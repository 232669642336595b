//! What is said about nodes and what is there.

use std::{
    ops::Range,
    sync::{
        Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use distfun_core::{
    engine::Chunk,
    event::{
        ChunkDispatched, ChunkReturned, NodeConnected, NodeDraining, NodeLost, NodeRecovered, NodeRefused,
        NodeRejected, NodeSuspect, NodeWorkerDied, SharedTransfer, WorkerOutput, capped, seconds,
    },
    failure::ItemFailure,
    ids::WorkerId,
};
use distfun_net::message::{Died, Digest, Output, Welcome};

use super::{
    chunks::{Where, items_failed, sampled},
    emit, on,
};
use crate::{
    job::{Progress, SharedJob},
    pool::Pool,
    remote_node::Conversation,
};

/// What one connection has come to.
#[derive(Debug)]
pub(crate) struct OfConversation {
    /// Of shared data.
    wire_bytes: AtomicU64,
    since: Instant,
}

impl OfConversation {
    pub(crate) fn new() -> Self {
        Self { wire_bytes: AtomicU64::new(0), since: Instant::now() }
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.wire_bytes.fetch_add(bytes, Relaxed);
    }
}

pub(crate) fn node_connected(
    pool: &Pool,
    conversation: &Conversation,
    welcome: &Welcome,
    slots: u32,
    round_trip: Duration,
    outage: Option<Duration>,
) {
    emit(&NodeConnected {
        manager_id: pool.events.id,
        node_id: conversation.node.0.into(),
        machine: &conversation.name,
        node_name: capped(&welcome.name),
        workers_total: slots.into(),
        node_version: capped(&welcome.version),
        rtt_s: seconds(round_trip),
        outage_s: outage.map(seconds),
        workers_gpu: Some(welcome.gpus.len() as u64).filter(|gpus| *gpus > 0),
    });
}

pub(crate) fn node_rejected(pool: &Pool, machine: &str, text: &str, error_type: &'static str, gives_up: bool) {
    let (manager_id, error_message) = (pool.events.id, capped(text));
    emit(&NodeRejected { manager_id, machine, error_type, error_message, gives_up });
}

/// A function has written a line there.
pub(crate) fn node_output(conversation: &Conversation, pool: &Pool, function: Option<&str>, output: &Output) {
    let is_known = output.count > 0;
    let about = WorkerOutput {
        manager_id: pool.events.id,
        worker_id: output.worker.into(),
        output_stream: "",
        output_text: &output.text,
        worker_generation: None,
        machine: Some(&conversation.name),
        job_id: Some(output.call),
        function,
        item_index: is_known.then_some(output.first),
        items_count: is_known.then_some(output.count),
    };
    super::output(&about, &output.source);
}

pub(crate) fn node_refuses(conversation: &Conversation, pool: &Pool, job: &SharedJob, text: &str) {
    emit(&NodeRefused {
        manager_id: pool.events.id,
        node_id: conversation.node.0.into(),
        machine: &conversation.name,
        job_id: job.core().id.0,
        function: job.core().function,
        error_type: "unknown_function",
        error_message: capped(text),
    });
}

/// `is_suspect`: nothing comes from it; otherwise something does again.
pub(crate) fn node_suspect(pool: &Pool, conversation: &Conversation, is_suspect: bool) {
    let (manager_id, node_id) = (pool.events.id, conversation.node.0.into());
    let (machine, chunks_running) = (&*conversation.name, conversation.chunks() as u64);
    match is_suspect {
        true => emit(&NodeSuspect { manager_id, node_id, machine, chunks_running }),
        false => emit(&NodeRecovered { manager_id, node_id, machine, chunks_running }),
    }
}

/// Of a chunk that it was inside.
pub(crate) fn node_worker_died(
    conversation: &Conversation,
    pool: &Weak<Pool>,
    job: &SharedJob,
    range: &Range<usize>,
    worker: Option<WorkerId>,
    died: &Died,
) {
    let Some(pool) = pool.upgrade() else { return };
    let core = job.core();
    let story = died.exit.as_ref().map(|exit| &*exit.story);
    emit(&NodeWorkerDied {
        manager_id: pool.events.id,
        node_id: conversation.node.0.into(),
        machine: &conversation.name,
        job_id: core.id.0,
        function: core.function,
        chunk_index: range.start as u64,
        chunk_items: range.len() as u64,
        error_type: if died.is_overdue { "item_timeout" } else { "worker_lost" },
        worker_id: worker.map(|worker| worker.0.into()),
        item_index: (died.count > 0).then_some(died.first),
        error_message: story.map(capped),
    });
}

pub(crate) fn node_draining(conversation: &Conversation, pool: &Weak<Pool>) {
    let Some(pool) = pool.upgrade() else { return };
    let (manager_id, node_id) = (pool.events.id, conversation.node.0.into());
    let chunks_running = conversation.chunks() as u64;
    emit(&NodeDraining { manager_id, node_id, machine: &conversation.name, chunks_running });
}

pub(crate) fn node_lost(pool: &Pool, conversation: &Conversation, text: &str) {
    emit(&NodeLost {
        manager_id: pool.events.id,
        node_id: conversation.node.0.into(),
        machine: &conversation.name,
        error_message: capped(text),
        chunks_requeued: conversation.chunks_lost() as u64,
    });
}

/// A node has the shared data of a call.
pub(crate) fn blob_there(
    conversation: &Conversation,
    pool: &Weak<Pool>,
    digest: &Digest,
    total_bytes: u64,
    since: Instant,
) {
    let Some(pool) = pool.upgrade().filter(|_| on()) else { return };
    let wire_bytes = conversation.events.wire_bytes.swap(0, Relaxed);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    emit(&SharedTransfer {
        manager_id: pool.events.id,
        node_id: conversation.node.0.into(),
        machine: &conversation.name,
        digest: &digest,
        total_bytes,
        wire_bytes,
        duration_s: seconds(since.max(conversation.events.since).elapsed()),
        cached: wire_bytes == 0,
    });
}

pub(crate) fn chunk_dispatched(
    conversation: &Conversation,
    pool: &Weak<Pool>,
    job: &SharedJob,
    range: Range<usize>,
    attempt: u32,
) {
    let core = job.core();
    let Some(figures) = &core.events.0 else { return };
    figures.queue_us.fetch_min(core.started.elapsed().as_micros() as u64, Relaxed);
    let chunk = Chunk::at_hand(job.clone(), range, attempt, 0);
    let Some((sampling_ratio, pool)) = sampled(&chunk).zip(pool.upgrade()) else { return };
    emit(&ChunkDispatched {
        manager_id: pool.events.id,
        job_id: core.id.0,
        function: core.function,
        chunk_index: chunk.range.start as u64,
        chunk_items: chunk.range.len() as u64,
        chunk_attempt: attempt.into(),
        node_id: conversation.node.0.into(),
        machine: &conversation.name,
        sampling_ratio,
    });
}

/// What a node has answered for a chunk.
pub(crate) struct Answered<'a> {
    pub(crate) job: &'a SharedJob,
    pub(crate) range: Range<usize>,
    pub(crate) reached: usize,
    pub(crate) attempt: u32,
    pub(crate) failures: &'a [ItemFailure],
    pub(crate) first_failure: Option<usize>,
    pub(crate) elapsed: Duration,
}

/// Before the engine hears of it, and so before the call can end.
pub(crate) fn chunk_answered(conversation: &Conversation, pool: &Weak<Pool>, answered: Answered<'_>) {
    let Answered { job, range, reached, attempt, failures, first_failure, elapsed } = answered;
    let core = job.core();
    let Some((figures, pool)) = core.events.0.as_ref().zip(pool.upgrade()) else { return };
    figures.chunks.fetch_add(1, Relaxed);
    figures.chunks_at_nodes.fetch_add(1, Relaxed);
    figures.compute_us.fetch_add(elapsed.as_micros() as u64, Relaxed);
    pool.events.chunks_done.fetch_add(1, Relaxed);
    let has_failed = !failures.is_empty() || first_failure.is_some();
    let chunk = Chunk::at_hand(job.clone(), range.clone(), attempt, 0);
    if has_failed {
        pool.events.chunks_failed.fetch_add(1, Relaxed);
        let worker = failures.first().and_then(|failure| failure.worker);
        let place = Where {
            manager_id: pool.events.id,
            worker_id: worker.map(|worker| worker.0.into()),
            worker_generation: None,
            machine: Some(&conversation.name),
        };
        let mut progress = Progress::new(range.start);
        (progress.reached, progress.failures, progress.first_failure) = (reached, failures.to_vec(), first_failure);
        items_failed(Some(place), &chunk, &progress);
    }
    let Some(sampling_ratio) = sampled(&chunk) else { return };
    emit(&ChunkReturned {
        manager_id: pool.events.id,
        job_id: core.id.0,
        function: core.function,
        chunk_index: range.start as u64,
        chunk_items: range.len() as u64,
        chunk_attempt: attempt.into(),
        node_id: conversation.node.0.into(),
        machine: &conversation.name,
        chunk_outcome: if has_failed { "failure" } else { "success" },
        items_done: (reached - range.start) as u64,
        items_failed: failures.len() as u64,
        compute_s: seconds(elapsed),
        sampling_ratio,
    });
}
