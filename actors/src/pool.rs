//! The engine behind one mutex, the ports of the compute threads, and the way to the Manager.
//!
//! Any thread may step the engine, and carries out the commands that concern compute threads itself: so a warm call
//! goes from the caller straight to a compute thread and back. Commands that need a timer or a new thread go to the
//! Manager actor.

#[cfg(target_os = "linux")]
use std::collections::HashMap;
use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use actix::{Addr, ArbiterHandle, System};
use distfun_core::{
    engine::{Chunk, Command, Commands, Engine, EngineStatus, Event, NodeEvent},
    failure::Ending,
    gpu::GpuInfo,
    ids::{CallId, Generation, NodeId, WorkerId},
    options::{Isolation, Settings},
    placement::{Judgement, MachineFacts, MachineSlots, Placement, SlotKind, judge},
};

use crate::{
    compute::{latch::Latch, port::Port, thread::current_worker},
    error::{EndError, StartError},
    events, gpu, interrupt,
    job::{JobCore, SharedJob},
    manager::{self, Manager},
    messages::{MachineEnd, internal},
    remote_node::{Conversation, Nodes},
};

/// `finished`, `shutdown` and dropping everything take at most this long.
pub(crate) const END_WITHIN: Duration = Duration::from_secs(2);

/// Everything that the threads of one Manager share.
pub(crate) struct Pool {
    pub(crate) settings: Settings,
    pub(crate) events: events::OfManager,
    engine: Mutex<Engine<SharedJob>>,
    /// Its GPUs: each has a slot, behind those of the CPUs.
    pub(crate) gpus: Vec<GpuInfo>,
    /// Which of them have been given up.
    gpus_given_up: Box<[AtomicBool]>,
    /// The current life of each slot.
    ports: Box<[Mutex<Arc<Port>>]>,
    manager: OnceLock<Addr<Manager>>,
    arbiter: OnceLock<ArbiterHandle>,
    /// Verbose calls from before the Manager was there.
    early: Mutex<Vec<Arc<JobCore>>>,
    origin: Instant,
    manager_thread: Mutex<Option<JoinHandle<()>>>,
    /// Opens when the Manager can be talked to, or has failed to start.
    manager_up: Latch,
    /// Opens when every compute thread has ended, or was abandoned.
    pub(crate) slots_gone: Latch,
    /// Opens when the Manager's thread has nothing left to do.
    manager_gone: Latch,
    /// Workers whose thread had not come back in time.
    stuck: Mutex<Vec<WorkerId>>,
    /// Why the last process of a slot could not be started.
    unstarted: Mutex<Option<String>>,
    /// What the policy on GPUs came to last, and the machines without one for which that is so.
    judged: Mutex<Option<(Placement, Vec<Arc<str>>)>>,
    /// Other machines.
    pub(crate) nodes: Nodes,
    /// What became of each machine at `shutdown`.
    pub(crate) machine_ends: Mutex<Vec<MachineEnd>>,
}

impl Pool {
    /// Starts the Manager's thread, which starts the Workers. Does not wait for them. `stays` keeps the Manager there
    /// to answer messages after its slots are gone.
    pub(crate) fn start(settings: Settings, stays: bool) -> Result<Arc<Self>, StartError> {
        let gpus = gpus(&settings);
        let limits = settings.limits(gpus.len());
        let slots = limits.slots + limits.gpus;
        let port = |slot| Mutex::new(Arc::new(Port::new(WorkerId(slot), Generation(0))));
        let pool = Arc::new(Self {
            ports: (0..slots as u32).map(port).collect(),
            gpus_given_up: gpus.iter().map(|_| AtomicBool::new(false)).collect(),
            gpus,
            events: events::OfManager::new(),
            engine: Mutex::new(Engine::new(limits)),
            manager: OnceLock::new(),
            arbiter: OnceLock::new(),
            early: Mutex::new(Vec::new()),
            origin: Instant::now(),
            manager_thread: Mutex::new(None),
            manager_up: Latch::new(),
            slots_gone: Latch::new(),
            manager_gone: Latch::new(),
            stuck: Mutex::new(Vec::new()),
            unstarted: Mutex::default(),
            judged: Mutex::default(),
            nodes: Nodes::new(slots),
            machine_ends: Mutex::default(),
            settings,
        });
        interrupt::note(&pool);
        if !pool.settings.machines.is_empty() || pool.settings.named_pipe.is_on() {
            // Calls may wait for machines from the first moment on.
            let placeholder = pool.nodes.add(None);
            pool.step(Event::Node(placeholder, NodeEvent::Expected));
        }
        pool.place();
        events::session_opened(&pool, stays);
        let theirs = pool.clone();
        let thread = thread::Builder::new()
            .name("distfun-manager".into())
            .spawn(move || manager::run(theirs, stays))
            .inspect_err(|error| events::manager_not_started(&pool, error))
            .map_err(StartError::Thread)?;
        *lock(&pool.manager_thread) = Some(thread);
        Ok(pool)
    }

    pub(crate) fn submit(&self, job: SharedJob) {
        events::job_submitted(&job, events::Place::Slots(self));
        if let Some(ending) = job.core().refusal() {
            return job.core().finish(ending, Vec::new());
        }
        if self.nodes.are_any() {
            // Looks at the types the first time, which runs code of theirs: not where heartbeats would wait for it.
            let _ = job.travel();
        }
        let spec = job.core().spec(job.clone(), job.shape());
        if job.core().verbose {
            let mut early = lock(&self.early);
            match self.manager.get() {
                Some(manager) => manager.do_send(internal::Watch(job.core().clone())),
                None => early.push(job.core().clone()),
            }
        }
        self.step(Event::Submit(spec));
        events::job_runs(self);
    }

    pub(crate) fn cancel(&self, call: CallId, ending: Ending) {
        self.step(Event::Cancel(call, ending));
    }

    /// Ends running calls with what they have, and the slots as soon as their chunks are done. Does not wait.
    pub(crate) fn stop(&self, ending: Ending) {
        events::session_ended(self, ending);
        self.step(Event::Stop(ending));
        self.tell(internal::SlotsReleased);
    }

    pub(crate) fn status(&self) -> EngineStatus {
        let now = self.origin.elapsed();
        let mut status = lock(&self.engine).status(now);
        self.nodes.describe(&mut status.nodes);
        status.gpus.clone_from(&self.gpus);
        status
    }

    /// Since it was started.
    pub(crate) fn age(&self) -> Duration {
        self.origin.elapsed()
    }

    pub(crate) fn stopped(&self) -> Option<Ending> {
        lock(&self.engine).stopped()
    }

    /// Something has happened to a machine.
    pub(crate) fn node(&self, node: NodeId, event: NodeEvent) {
        match event {
            NodeEvent::Hopeless => self.nodes.note_slots(node, None),
            NodeEvent::Expected => self.nodes.note_expected(node),
            _ => {}
        }
        // What its GPUs have for lanes hears of it too.
        if let Some(gpus) = self.nodes.gpus_of(node) {
            self.step(Event::Node(gpus, event.clone()));
        }
        self.step(Event::Node(node, event));
        self.place();
    }

    /// A machine is connected.
    pub(crate) fn node_up(&self, node: NodeId, slots: MachineSlots, round_trip: Duration) {
        self.nodes.note_slots(node, Some(slots));
        self.step(Event::Node(node, NodeEvent::Up { slots: slots.cpus, kind: SlotKind::Cpu, round_trip }));
        if slots.gpus > 0 && self.settings.gpu_policy.wants_gpus() {
            let gpus = self.nodes.add_gpus(node);
            self.step(Event::Node(gpus, NodeEvent::Up { slots: slots.gpus, kind: SlotKind::Gpu, round_trip }));
        } else if let Some(gpus) = self.nodes.gpus_of(node) {
            // It had some before.
            self.step(Event::Node(gpus, NodeEvent::Hopeless));
        }
        self.place();
    }

    /// Steps the engine and carries out what it says.
    pub(crate) fn step(&self, event: Event<SharedJob>) {
        self.step_for(None, event);
    }

    /// The same from the compute thread at `port`: returns the chunk that it is given itself.
    pub(crate) fn step_at(&self, port: &Port, event: Event<SharedJob>) -> Option<Chunk<SharedJob>> {
        self.step_for(Some(port), event)
    }

    fn step_for(&self, own: Option<&Port>, event: Event<SharedJob>) -> Option<Chunk<SharedJob>> {
        let cause = events::restart_cause(self, &event);
        let now = self.origin.elapsed();
        let (commands, ways) = {
            let mut engine = lock(&self.engine);
            let commands = engine.step(now, event);
            let ways = self.nodes.ways(&commands);
            (commands, ways)
        };
        self.carry_out(own, commands, ways, now, cause)
    }

    /// Judges anew which slots get work: what a machine has is known now, or is gone.
    pub(crate) fn place(&self) {
        if !self.settings.gpu_policy.wants_gpus() {
            return;
        }
        let now = self.origin.elapsed();
        let mut engine = lock(&self.engine);
        if engine.stopped().is_some() {
            return; // nobody gets work any more
        }
        let here = MachineSlots { cpus: self.settings.slots as u32, gpus: self.gpus_left().count() as u32 };
        let here = MachineFacts { name: Arc::from("this machine"), slots: Some(here) };
        let Judgement { placement, without } =
            judge(self.settings.gpu_policy, [here].into_iter().chain(self.nodes.facts()));
        let judged = (placement, without);
        let is_news = {
            let mut last = lock(&self.judged);
            let is_news = last.as_ref() != Some(&judged);
            *last = Some(judged.clone());
            is_news
        };
        // Also where it is no news: what was left to calls that had begun may be gone now.
        let commands = engine.step(now, Event::Place(placement));
        let ways = self.nodes.ways(&commands);
        drop(engine);
        if is_news {
            events::placement_judged(self, placement, &judged.1);
        }
        self.carry_out(None, commands, ways, now, "panic");
    }

    fn carry_out(
        &self,
        own: Option<&Port>,
        commands: Commands<SharedJob>,
        ways: Vec<Option<Arc<Conversation>>>,
        now: Duration,
        cause: &'static str,
    ) -> Option<Chunk<SharedJob>> {
        let (mut mine, mut ways) = (None, ways.into_iter());
        for command in commands {
            match command {
                Command::Assign(lane, generation, chunk) if self.is_lane(lane) => {
                    if let Some(node) = ways.next().flatten() {
                        node.assign(lane, generation, chunk);
                    }
                }
                Command::Recall(lane, generation) => {
                    if let Some(node) = ways.next().flatten() {
                        node.recall(lane, generation);
                    }
                }
                Command::Revoke(lane, generation) => {
                    if let Some(node) = ways.next().flatten() {
                        node.revoke(lane, generation);
                    }
                }
                Command::Lanes(..) => {}
                Command::Assign(slot, generation, chunk) => {
                    if own.is_some_and(|port| (port.worker, port.generation) == (slot, generation)) {
                        mine = Some(chunk);
                    } else if let Some(port) = Some(self.port(slot)).filter(|port| port.generation == generation) {
                        if chunk.is_quick && port.is_awake() {
                            chunk.handle.core().note_near_end();
                        }
                        port.put(chunk);
                    }
                }
                Command::Finish { handle, ending, failures } => {
                    let story = match ending {
                        Ending::NoWorkers => self.story(),
                        Ending::NoGpu => self.gpu_story(),
                        _ => None,
                    };
                    if let Some(story) = story {
                        let _ = handle.core().refused_for.set(story);
                    }
                    let ends = handle.core().ends_pool;
                    let is_refused = matches!(ending, Ending::NoWorkers | Ending::NoGpu);
                    handle.core().finish(ending, failures);
                    self.events.job_ended(handle.core());
                    if ends && is_refused && !lock(&self.engine).has_calls() {
                        // It may never have begun; then its end ends nothing. Others that have begun go on.
                        self.step(Event::Stop(Ending::EndedAfterCall));
                    }
                    if ends && self.nodes.are_any() {
                        self.tell(internal::SlotsReleased); // there may be no slot that is released
                    }
                }
                Command::Failed { handle, failures } => handle.note_failures(failures),
                Command::Retried { handle, failure, wait } => {
                    events::item_retried(Some(self), handle.core(), &failure, wait);
                }
                Command::Release(slot) => {
                    self.port(slot).release();
                    // The last slots may go with the call that ends everything; the Manager must hear of it.
                    self.tell(internal::SlotsReleased);
                }
                Command::Start(slot, generation, after) => {
                    events::worker_restarted(self, slot, generation, after, cause);
                    self.tell(internal::Restart { slot, generation, after });
                }
                Command::GaveUp(slot) => {
                    events::worker_gave_up(self, slot, cause);
                    if let Some(gpu) = self.gpu_index(slot) {
                        self.gpus_given_up[gpu].store(true, Ordering::Relaxed);
                    }
                    self.place();
                }
                Command::WakeAt(at) => self.tell(internal::WakeIn(at.saturating_sub(now))),
            }
        }
        mine
    }

    pub(crate) fn tell<M>(&self, message: M)
    where
        Manager: actix::Handler<M>,
        M: actix::Message<Result = ()> + Send + 'static,
    {
        // Bounded by what it is about: a few control messages per slot life and per call that ran out of time.
        if let Some(manager) = self.manager.get() {
            manager.do_send(message);
        }
    }

    /// Slots of all kinds.
    pub(crate) fn slots(&self) -> usize {
        self.ports.len()
    }

    /// What a slot computes with.
    pub(crate) fn kind(&self, slot: WorkerId) -> SlotKind {
        if self.gpu(slot).is_some() { SlotKind::Gpu } else { SlotKind::Cpu }
    }

    /// The GPU that a slot owns, if it owns one.
    pub(crate) fn gpu(&self, slot: WorkerId) -> Option<&GpuInfo> {
        self.gpus.get(self.gpu_index(slot)?)
    }

    fn gpu_index(&self, slot: WorkerId) -> Option<usize> {
        (slot.0 as usize).checked_sub(self.settings.slots).filter(|gpu| *gpu < self.gpus.len())
    }

    /// Its GPUs that have not been given up.
    pub(crate) fn gpus_left(&self) -> impl Iterator<Item = &GpuInfo> {
        let all = self.gpus.iter().zip(&self.gpus_given_up);
        all.filter(|(_, is_given_up)| !is_given_up.load(Ordering::Relaxed)).map(|(gpu, _)| gpu)
    }

    /// The slots that own a GPU.
    #[cfg(target_os = "linux")]
    pub(crate) fn gpu_slots(&self) -> HashMap<WorkerId, GpuInfo> {
        let first = self.settings.slots as u32;
        (first..).map(WorkerId).zip(self.gpus.iter().cloned()).collect()
    }

    /// Whether its slots run functions in processes of their own.
    pub(crate) fn has_processes(&self) -> bool {
        self.settings.isolation == Isolation::Process
    }

    fn is_lane(&self, worker: WorkerId) -> bool {
        worker.0 as usize >= self.ports.len()
    }

    fn port(&self, slot: WorkerId) -> Arc<Port> {
        lock(&self.ports[slot.0 as usize]).clone()
    }

    pub(crate) fn generation(&self, slot: WorkerId) -> Generation {
        self.port(slot).generation
    }

    /// Shows what verbose calls have come to.
    pub(crate) fn redraw(&self) {
        self.tell(internal::Redraw);
    }

    /// Whether `port` is its slot's current life and not asked to end.
    pub(crate) fn is_current(&self, port: &Port) -> bool {
        self.port(port.worker).generation == port.generation && !port.is_released()
    }

    /// The port for a new life of `slot`.
    pub(crate) fn open_port(&self, slot: WorkerId, generation: Generation) -> Arc<Port> {
        let mut port = lock(&self.ports[slot.0 as usize]);
        if port.generation != generation {
            port.release(); // the thread of the old life, if it ever comes back
            *port = Arc::new(Port::new(slot, generation));
        }
        port.clone()
    }

    /// Makes the Manager known; returns the calls it should watch.
    pub(crate) fn set_manager(&self, manager: Addr<Manager>) -> Vec<Arc<JobCore>> {
        let mut early = lock(&self.early);
        let _ = self.arbiter.set(System::current().arbiter().clone());
        self.manager.set(manager).expect("one Manager per pool");
        self.manager_up.open();
        std::mem::take(&mut early)
    }

    /// Waits until the Manager can be talked to; none if it failed.
    pub(crate) fn wait_for_manager(&self) -> Option<(Addr<Manager>, ArbiterHandle)> {
        self.manager_up.wait();
        self.manager.get().cloned().zip(self.arbiter.get().cloned())
    }

    /// The process of a slot could not be started.
    pub(crate) fn note_unstarted(&self, story: &str) {
        *lock(&self.unstarted) = Some(story.to_owned());
    }

    /// Why nothing computes, as far as there is more to say about it.
    fn story(&self) -> Option<String> {
        let stories = [lock(&self.unstarted).clone(), self.nodes.story()];
        stories.into_iter().flatten().reduce(|one, other| format!("{one}; {other}"))
    }

    /// Who has no GPU, and why not.
    fn gpu_story(&self) -> Option<String> {
        let without = lock(&self.judged).as_ref().map_or_else(Vec::new, |(_, without)| without.clone());
        let is_here = without.iter().any(|name| **name == *"this machine");
        let why_none = || self.settings.why_no_gpu(|| gpu::why_none(self.settings.software_gpu));
        let names = match &without[..] {
            [] => "no machine is there".into(),
            names => format!("{} has none", names.join(", ")),
        };
        match lock(&self.unstarted).clone().filter(|_| gpu::IS_BUILT_IN) {
            Some(lost) => Some(format!("{names} ({lost})")),
            None if is_here && without.len() > 1 => Some(format!("{names} (this machine: {})", why_none())),
            None if is_here || !gpu::IS_BUILT_IN => Some(format!("{names}: {}", why_none())),
            None => Some(names),
        }
    }

    pub(crate) fn note_stuck(&self, workers: Vec<WorkerId>) {
        lock(&self.stuck).extend(workers);
    }

    pub(crate) fn is_stuck(&self, worker: WorkerId) -> bool {
        lock(&self.stuck).contains(&worker)
    }

    pub(crate) fn note_back(&self, worker: WorkerId) {
        lock(&self.stuck).retain(|&stuck| stuck != worker);
    }

    pub(crate) fn note_manager_gone(&self) {
        self.manager_up.open();
        self.slots_gone.open();
        self.manager_gone.open();
    }

    /// Waits, at most [`END_WITHIN`], until all threads have ended; not on one of them, where that would take for ever.
    pub(crate) fn wait_gone(&self, stays: bool) -> Result<(), EndError> {
        if current_worker().is_some() || manager::is_manager_thread() {
            return Ok(());
        }
        let limit = Instant::now() + END_WITHIN;
        let latch = if stays { &self.slots_gone } else { &self.manager_gone };
        if !latch.wait_until(limit) {
            let workers = self.status().slots.iter().map(|slot| slot.worker).collect();
            return Err(EndError::StillRunning { workers });
        }
        if !stays && let Some(thread) = lock(&self.manager_thread).take() {
            let _ = thread.join(); // it has said its last word; only a panic in our own code could show here
        }
        self.end_result()
    }

    /// What became of each machine, once the Manager has ended by `shutdown`.
    pub(crate) fn machine_ends(&self) -> Vec<MachineEnd> {
        lock(&self.machine_ends).clone()
    }

    /// How the end went: whether every thread came back in time.
    pub(crate) fn end_result(&self) -> Result<(), EndError> {
        let stuck = lock(&self.stuck).clone();
        if stuck.is_empty() { Ok(()) } else { Err(EndError::StillRunning { workers: stuck }) }
    }
}

/// Owns a pool: when the last handle that needs it is gone, everything ends, without waiting.
pub(crate) struct Session(pub(crate) Arc<Pool>);

impl Drop for Session {
    fn drop(&mut self) {
        events::session_dropped(&self.0);
        match self.0.stopped() {
            None => self.0.stop(Ending::Finished),
            Some(_) => self.0.tell(internal::SlotsReleased), // it has ended otherwise already
        }
    }
}

/// The GPUs of this machine that such settings use.
pub(crate) fn gpus(settings: &Settings) -> Vec<GpuInfo> {
    if !settings.gpu_policy.wants_gpus() {
        return Vec::new();
    }
    let mut gpus = gpu::all(settings.software_gpu);
    gpus.truncate(settings.max_gpu);
    gpus
}

/// How many CPUs this process may use, by affinity and cgroup.
pub(crate) fn cpus() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
