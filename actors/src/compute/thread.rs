//! A compute thread: takes chunks from its port, runs them, and reports to the engine.

use std::{
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    ptr,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use distfun_core::{
    engine::{Blame, Chunk, ChunkDone, Death, Event, Sentence, Stage},
    failure::{Ending, WorkerExit},
    function::{Gpu, Lost, SlotGpu, SlotStates},
    ids::WorkerId,
};

use super::{catch::contain, hosted::Hosted, port::Port};
use crate::{
    events, gpu,
    job::{JobCore, Progress, SharedJob},
    pool::Pool,
};

thread_local! {
    static WORKER: Cell<Option<WorkerId>> = const { Cell::new(None) };
    /// Its pool, only to be compared.
    static POOL: Cell<*const Pool> = const { Cell::new(ptr::null()) };
    static STATES: RefCell<Option<Rc<SlotStates>>> = const { RefCell::new(None) };
    static GPU: RefCell<SlotGpu> = const { RefCell::new(None) };
}

/// The worker whose compute thread this is, if it is one. Calls made here run here, on the slot they have.
pub(crate) fn current_worker() -> Option<WorkerId> {
    WORKER.get()
}

/// From now on this thread is that worker's.
#[cfg(target_os = "linux")]
pub(crate) fn become_worker(worker: WorkerId) {
    WORKER.set(Some(worker));
}

/// Whether this is a compute thread of `pool`: what it waits for must not need a slot, which may be its own.
pub(crate) fn is_slot_of(pool: &Pool) -> bool {
    ptr::eq(POOL.get(), pool)
}

/// What functions keep on this thread while it is a slot's, or runs a call in place; otherwise nothing, for once.
pub(crate) fn slot_states() -> Rc<SlotStates> {
    STATES.with_borrow(|states| states.clone().unwrap_or_default())
}

/// The GPU that this thread's functions may use.
pub(crate) fn slot_gpu() -> SlotGpu {
    GPU.with_borrow(Clone::clone)
}

/// Whether this thread's functions may use a GPU of which nobody knows yet whether it can be.
pub(crate) fn has_unopened_gpu() -> bool {
    GPU.with_borrow(|gpu| gpu.as_ref().is_some_and(|gpu| !gpu.is_open()))
}

/// That it can't be used any more, if it can't.
pub(crate) fn lost_gpu() -> Option<Lost> {
    GPU.try_with(|gpu| gpu.try_borrow().ok().and_then(|gpu| gpu.as_ref()?.lost())).ok().flatten()
}

/// How the life of a slot ended that lost its GPU, to go on from "the worker".
pub(crate) fn how_it_ended(lost: &Lost) -> String {
    if lost.is_begun { format!("lost its GPU: {}", lost.why) } else { format!("has no GPU: {}", lost.why) }
}

/// While this lives, functions on this thread may use a GPU. It outlives what they keep on it.
pub(crate) struct OwnGpu(());

impl OwnGpu {
    pub(crate) fn begin(gpu: Option<Gpu>) -> Self {
        GPU.set(gpu.map(Rc::new));
        Self(())
    }
}

impl Drop for OwnGpu {
    fn drop(&mut self) {
        let gpu = GPU.take();
        contain(|| drop(gpu));
    }
}

/// While this lives, functions on this thread keep their states. Dropping it drops them, unless it is a nested one.
pub(crate) struct KeepStates {
    is_outermost: bool,
}

impl KeepStates {
    pub(crate) fn begin() -> Self {
        let is_outermost = STATES.with_borrow(Option::is_none);
        if is_outermost {
            STATES.set(Some(Rc::default()));
        }
        Self { is_outermost }
    }
}

impl Drop for KeepStates {
    fn drop(&mut self) {
        if self.is_outermost {
            let states = STATES.take();
            contain(|| drop(states));
        }
    }
}

/// Before a chunk, so that what nobody waits for is not started, and after it.
fn cancel_if_abandoned(pool: &Pool, core: &JobCore) {
    if core.is_abandoned() {
        pool.cancel(core.id, Ending::Cancelled);
    }
}

/// Runs until released; the body of a compute thread.
pub(crate) fn run(pool: &Arc<Pool>, port: &Port) {
    WORKER.set(Some(port.worker));
    POOL.set(Arc::as_ptr(pool));
    let gpu = OwnGpu::begin(pool.gpu(port.worker).filter(|_| !pool.has_processes()).cloned().map(gpu::of_slot));
    let states = KeepStates::begin();
    port.attach();
    let mut life = events::Life::default();
    let mut hosted = match Hosted::of(pool, port) {
        Ok(hosted) => hosted,
        Err(story) => {
            pool.note_unstarted(&story);
            events::worker_unstarted(pool, port, &story);
            pool.step(Event::SlotLost(port.worker, port.generation, None));
            return;
        }
    };
    let mut next = pool.step_at(port, Event::SlotReady(port.worker, port.generation));
    // The last chunk was a small one of another machine's, as the next may be.
    let mut is_far = false;
    loop {
        let Some(chunk) = next.take().or_else(|| wait_for_chunk(pool, port, is_far)) else {
            drop(hosted);
            life.end(pool, port, None);
            return;
        };
        events::chunk_started(pool, port, &chunk);
        let start = Instant::now();
        let mut progress = Progress::new(chunk.range.start);
        let job = chunk.handle.clone();
        is_far = job.core().is_small_visitor;
        cancel_if_abandoned(pool, job.core());
        let run = || match hosted.as_mut().filter(|_| job.travel().is_some()) {
            Some(hosted) => hosted.run(&job, &chunk, &mut progress),
            None => {
                job.run(&chunk, Some(port.worker), &mut progress);
                Ok(())
            }
        };
        // Only a panic in our own code, one that a test injects, or a lost GPU comes this far.
        if !matches!(panic::catch_unwind(AssertUnwindSafe(run)), Ok(Ok(()))) {
            let lost = lost_gpu();
            let is_unopened = lost.as_ref().is_some_and(|lost| !lost.is_begun);
            if is_unopened && progress.blamed_is_kept == Some(true) {
                progress.blamed_is_kept = None; // the item has not had its turn
            }
            progress.blame =
                progress.blame.filter(|blame| !is_unopened || !matches!(blame.sentence, Sentence::Again(_)));
            job.note_progress(&progress);
            events::chunk_died(pool, port, &chunk, &progress);
            let why = lost.as_ref().map(|lost| &*lost.why).or_else(|| hosted.as_ref().and_then(Hosted::story));
            if pool.gpu(port.worker).is_some() {
                why.iter().for_each(|why| pool.note_unstarted(why));
            }
            life.end(pool, port, Some(why));
            let mut blame = progress.blame();
            if let (Some(lost), Some(Blame { sentence: Sentence::Again(exit) | Sentence::Lost(exit), .. })) =
                (&lost, &mut blame)
            {
                exit.get_or_insert_with(|| WorkerExit::new(None, how_it_ended(lost), ""));
            }
            let stage = match Stage::after(progress.start, progress.reached) {
                _ if is_unopened => Stage::Opening,
                Stage::Running if hosted.is_some() && blame.is_none() => Stage::Opening,
                stage => stage,
            };
            let Progress { reached, failures, again, first_failure, .. } = progress;
            let death = Death { reached, stage, failures, again, first_failure, blame };
            drop((job, chunk, hosted));
            // Before a new thread may open the same file or device.
            drop(states);
            drop(gpu);
            pool.step_at(port, Event::SlotLost(port.worker, port.generation, Some(death)));
            return;
        }
        job.note_progress(&progress);
        let elapsed = start.elapsed();
        life.note(elapsed);
        events::chunk_ended(pool, port, &chunk, &progress, start, elapsed);
        cancel_if_abandoned(pool, job.core());
        let Progress { reached, failures, again, first_failure, .. } = progress;
        let is_unopened = has_unopened_gpu();
        let done = ChunkDone { reached, failures, again, first_failure, elapsed, is_unopened };
        // The job may be lent input: let go of it before its caller can be told.
        drop((job, chunk));
        next = pool.step_at(port, Event::ChunkDone(port.worker, port.generation, done));
        if next.is_none() && !pool.is_current(port) {
            port.close();
            drop(hosted);
            life.end(pool, port, None);
            return;
        }
    }
}

/// None when released.
fn wait_for_chunk(pool: &Pool, port: &Port, is_far: bool) -> Option<Chunk<SharedJob>> {
    events::worker_changed(pool, port, "available");
    let chunk = port.take(is_far)?;
    events::worker_changed(pool, port, "busy");
    Some(chunk)
}
