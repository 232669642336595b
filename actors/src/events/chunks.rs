//! What is said about chunks: at DEBUG all of them or a share, and each that fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use distfun_core::{
    engine::{Blame, Chunk, MAX_DEATHS, Sentence},
    event::{
        ChunkException, ChunkFailed, ChunkFinished, ChunkRetry, ChunkStarted, ItemRetried, capped, listened, seconds,
    },
    failure::{FailureCause, ItemFailure},
};

use super::{emit, on};
use crate::{
    compute::port::Port,
    job::{JobCore, Progress, SharedJob},
    pool::Pool,
};

/// How many of all chunks are logged, in 1 / 2^32.
static SAMPLED: AtomicU64 = AtomicU64::new(1 << 32);

/// Logs this share of the chunks.
#[cfg(feature = "log")]
pub(crate) fn set_chunk_sampling(ratio: f64) {
    SAMPLED.store((ratio.clamp(0.0, 1.0) * (1u64 << 32) as f64) as u64, Relaxed);
}

/// The share of chunks that are logged, if this is one of them: the same for all lines about the chunk.
pub(super) fn sampled(chunk: &Chunk<SharedJob>) -> Option<f64> {
    if !listened!(DEBUG) {
        return None;
    }
    chunk.handle.core().events.0.as_ref()?; // a chunk that visits a node is told by its Manager
    let share = SAMPLED.load(Relaxed);
    // Fibonacci hashing spreads neighbours, which calls and chunks are.
    let key = chunk.handle.core().id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ chunk.range.start as u64;
    let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (hash < share).then_some(share as f64 / (1u64 << 32) as f64)
}

pub(crate) fn chunk_started(pool: &Pool, port: &Port, chunk: &Chunk<SharedJob>) {
    let Some(sampling_ratio) = sampled(chunk) else { return };
    let core = chunk.handle.core();
    emit(&ChunkStarted {
        manager_id: pool.events.id,
        job_id: core.id.0,
        function: core.function,
        chunk_index: chunk.range.start as u64,
        chunk_items: chunk.range.len() as u64,
        chunk_attempt: chunk.attempt.into(),
        worker_id: port.worker.0.into(),
        worker_generation: port.generation.0.into(),
        sampling_ratio,
    });
}

/// Before the engine hears of it, and so before the call can end.
pub(crate) fn chunk_ended(
    pool: &Pool,
    port: &Port,
    chunk: &Chunk<SharedJob>,
    progress: &Progress,
    start: Instant,
    took: Duration,
) {
    let core = chunk.handle.core();
    let Some(figures) = &core.events.0 else {
        // Of another machine's call, whose Manager tells of it; but it was this machine that did it.
        if on() {
            pool.events.chunks_done.fetch_add(1, Relaxed);
        }
        return;
    };
    figures.chunks.fetch_add(1, Relaxed);
    figures.compute_us.fetch_add(took.as_micros() as u64, Relaxed);
    figures.queue_us.fetch_min(start.saturating_duration_since(core.started).as_micros() as u64, Relaxed);
    pool.events.chunks_done.fetch_add(1, Relaxed);
    let has_failed = !progress.failures.is_empty() || progress.first_failure.is_some();
    if has_failed {
        pool.events.chunks_failed.fetch_add(1, Relaxed);
        items_failed(here(pool, port), chunk, progress);
    }
    if let Some(sampling_ratio) = sampled(chunk) {
        emit(&ChunkFinished {
            manager_id: pool.events.id,
            job_id: core.id.0,
            function: core.function,
            chunk_index: chunk.range.start as u64,
            chunk_items: chunk.range.len() as u64,
            chunk_attempt: chunk.attempt.into(),
            worker_id: port.worker.0.into(),
            worker_generation: port.generation.0.into(),
            chunk_outcome: if has_failed { "failure" } else { "success" },
            items_done: (progress.reached - progress.start) as u64,
            items_failed: progress.failures.len() as u64,
            compute_s: seconds(took),
            sampling_ratio,
        });
    }
}

/// The items of a call in the calling thread are one chunk, of which only failures are said.
pub(crate) fn inline_ended(job: &SharedJob, progress: &Progress) {
    let core = job.core();
    if core.events.0.is_some() && core.items() > 0 {
        let chunk = Chunk::at_hand(job.clone(), 0..core.items(), 1, 0);
        items_failed(None, &chunk, progress);
    }
}

/// The thread dies inside its chunk.
pub(crate) fn chunk_died(pool: &Pool, port: &Port, chunk: &Chunk<SharedJob>, progress: &Progress) {
    let core = chunk.handle.core();
    let Some(figures) = &core.events.0 else { return };
    pool.events.chunks_failed.fetch_add(1, Relaxed);
    items_failed(here(pool, port), chunk, progress);
    let Some(Blame { items, sentence, .. }) = progress.blame() else { return };
    let (item, is_kept) = (items.start, matches!(sentence, Sentence::Again(_)));
    if !chunk.range.contains(&item) {
        return;
    }
    // The ledger puts an item that has killed before first in its chunk.
    let attempt = if item == chunk.range.start { chunk.attempt } else { 1 };
    let (worker_id, worker_generation) = (port.worker.0.into(), port.generation.0.into());
    if is_kept && attempt < MAX_DEATHS && !core.is_stopped() {
        figures.retries.fetch_add(1, Relaxed);
        pool.events.chunks_retried.fetch_add(1, Relaxed);
        emit(&ChunkRetry {
            manager_id: pool.events.id,
            job_id: core.id.0,
            function: core.function,
            chunk_index: chunk.range.start as u64,
            item_index: item as u64,
            chunk_attempt: attempt.into(),
            max_attempts: MAX_DEATHS.into(),
            worker_id,
            worker_generation,
            error_type: "worker_lost",
        });
    } else {
        let cause = match sentence {
            Sentence::Again(exit) => FailureCause::Poisoned { deaths: attempt, exit },
            Sentence::Lost(exit) => FailureCause::WorkerDied { exit },
            Sentence::Fails(cause) | Sentence::FailsForNow(cause) => cause,
        };
        let failure = ItemFailure::new(item, port.worker, attempt, cause);
        chunk_failed(here(pool, port), chunk, &failure, 1);
    }
}

/// An item has failed and will be run again; in the calling thread, if there is no pool.
pub(crate) fn item_retried(pool: Option<&Pool>, core: &JobCore, failure: &ItemFailure, wait: Duration) {
    let Some(figures) = &core.events.0 else { return };
    figures.retries.fetch_add(1, Relaxed);
    emit(&ItemRetried {
        job_id: core.id.0,
        function: core.function,
        item_index: failure.index as u64,
        item_attempt: failure.attempt.into(),
        error_type: failure.cause.error_type(),
        wait_s: seconds(wait),
        manager_id: pool.map(|pool| pool.events.id),
        worker_id: failure.worker.map(|worker| worker.0.into()),
        machine: failure.machine.as_deref(),
    });
}

/// Where a chunk ran.
#[derive(Clone, Copy)]
pub(super) struct Where<'a> {
    pub(super) manager_id: u64,
    pub(super) worker_id: Option<u64>,
    pub(super) worker_generation: Option<u64>,
    pub(super) machine: Option<&'a str>,
}

fn here(pool: &Pool, port: &Port) -> Option<Where<'static>> {
    Some(Where {
        manager_id: pool.events.id,
        worker_id: Some(port.worker.0.into()),
        worker_generation: Some(port.generation.0.into()),
        machine: None,
    })
}

/// One line for the panics in a chunk and one for its other failures, each with the first.
pub(super) fn items_failed(place: Option<Where<'_>>, chunk: &Chunk<SharedJob>, progress: &Progress) {
    let is_panic = |failure: &&ItemFailure| matches!(failure.cause, FailureCause::Panicked { .. });
    let panics = progress.failures.iter().filter(is_panic).count();
    if let Some(failure) = progress.failures.iter().find(is_panic)
        && let FailureCause::Panicked { message, place: code } = &failure.cause
    {
        // file:line:column
        let mut code = code.as_deref().map(|code| code.rsplitn(3, ':')).into_iter().flatten().skip(1);
        let (line, file) = (code.next(), code.next());
        let core = chunk.handle.core();
        emit(&ChunkException {
            job_id: core.id.0,
            function: core.function,
            chunk_index: chunk.range.start as u64,
            chunk_items: chunk.range.len() as u64,
            chunk_attempt: chunk.attempt.into(),
            item_index: failure.index as u64,
            items_failed: panics as u64,
            error_type: "panic",
            exception_type: "panic",
            exception_message: capped(message),
            manager_id: place.map(|place| place.manager_id),
            worker_id: place.and_then(|place| place.worker_id),
            worker_generation: place.and_then(|place| place.worker_generation),
            machine: place.and_then(|place| place.machine),
            code_file: file,
            code_line: line.and_then(|line| line.parse().ok()),
        });
    }
    let is_other = |failure: &&ItemFailure| !is_panic(failure);
    if let Some(failure) = progress.failures.iter().find(is_other) {
        chunk_failed(place, chunk, failure, (progress.failures.len() - panics) as u64);
    }
    if let Some(index) = progress.first_failure
        && progress.failures.iter().all(|failure| failure.index != index)
    {
        // An `Err` under `try_map`, whose value is the user's.
        let error = FailureCause::Returned(Arc::new(std::fmt::Error));
        chunk_failed(place, chunk, &ItemFailure::new(index, None, chunk.attempt, error), 1);
    }
}

fn chunk_failed(place: Option<Where<'_>>, chunk: &Chunk<SharedJob>, failure: &ItemFailure, items_failed: u64) {
    let core = chunk.handle.core();
    let is_ours = !matches!(failure.cause, FailureCause::Returned(_));
    let message = is_ours.then(|| failure.cause.without_output().to_string());
    emit(&ChunkFailed {
        job_id: core.id.0,
        function: core.function,
        chunk_index: chunk.range.start as u64,
        chunk_items: chunk.range.len() as u64,
        chunk_attempt: failure.attempt.into(),
        item_index: failure.index as u64,
        items_failed,
        error_type: failure.cause.error_type(),
        manager_id: place.map(|place| place.manager_id),
        worker_id: place.and_then(|place| place.worker_id),
        worker_generation: place.and_then(|place| place.worker_generation),
        machine: place.and_then(|place| place.machine),
        error_message: message.as_deref().map(capped),
    });
}
