//! The Manager actor: starts, watches and replaces the Workers, and answers messages. It lives on a System thread of
//! its own, so that nothing the host program does to its threads can stop it, and no wait can deadlock it.

mod handle;
mod machines;

use std::{
    cell::Cell,
    collections::BTreeSet,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Once},
    time::Duration,
};

use actix::{
    dev::{MessageResponse, OneshotSender},
    prelude::*,
};
use distfun_core::{engine::Event, failure::Ending, ids::WorkerId};

pub use handle::{ManagerBuilder, ManagerHandle, ManagerMessage};

use crate::{
    call::Output,
    error::{CallError, EndError},
    events,
    messages::{
        CallReply, Cancel, Distribute, Finished, Shutdown, ShutdownReport, Status,
        internal::{Quit, Redraw, Restart, SlotsReleased, WakeIn, Watch, WorkerGone},
    },
    pool::{END_WITHIN, Pool},
    progress::Watcher,
    worker::Worker,
};

thread_local! {
    static IS_MANAGER: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is the thread of some Manager, where nothing may block.
pub(crate) fn is_manager_thread() -> bool {
    IS_MANAGER.get()
}

/// Supervises the Workers of one pool of slots and answers [`Distribute`], [`Status`], [`Cancel`], [`Finished`] and
/// [`Shutdown`]. Start one with [`Manager::builder`].
///
/// # States
/// | state | entered by | answers |
/// |---|---|---|
/// | running | [`ManagerBuilder::start`] | calls run |
/// | finished | [`Finished`] | calls: `Ending::Finished`; `Finished`: at once; `Shutdown`: moves on |
/// | shut down | [`Shutdown`] | calls: `Ending::ShutDown`; `Finished` and `Shutdown`: at once |
/// | gone | the last [`ManagerHandle`] is dropped | `MailboxError::Closed` |
pub struct Manager {
    pub(crate) pool: Arc<Pool>,
    pub(crate) looks: events::Looks,
    stays: bool,
    workers: Vec<Addr<Worker>>,
    gone: BTreeSet<WorkerId>,
    is_leaving: bool,
    watchers: Vec<Watcher>,
    is_watching: bool,
    waiting: Vec<OneshotSender<Result<(), EndError>>>,
    remote: machines::Remote,
}

impl Manager {
    /// A Manager of its own, for services that send messages.
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder::default()
    }

    /// Tells the Workers that their threads are ending, and sees to it that the end does not take for ever.
    fn leave(&mut self, context: &mut Context<Self>) {
        if std::mem::replace(&mut self.is_leaving, true) {
            return;
        }
        events::session_ended(&self.pool, self.pool.stopped().unwrap_or(Ending::NoWorkers));
        for worker in &self.workers {
            worker.do_send(SlotsReleased);
        }
        self.leave_machines(context);
        context.run_later(END_WITHIN - Duration::from_millis(200), |manager, context| {
            let stuck = |worker: &WorkerId| !manager.gone.contains(worker);
            let stuck: Vec<WorkerId> = (0..manager.workers.len() as u32).map(WorkerId).filter(stuck).collect();
            if !manager.pool.slots_gone.is_open() {
                events::workers_abandoned(&manager.pool, &stuck);
                manager.pool.note_stuck(stuck);
                manager.slots_are_gone(context);
            }
        });
        self.look_if_gone(context);
    }

    /// Whether everything has ended.
    fn look_if_gone(&mut self, context: &mut Context<Self>) {
        let is_gone = self.gone.len() == self.workers.len() && self.remote.has_left();
        if self.is_leaving && is_gone && !self.pool.slots_gone.is_open() {
            self.slots_are_gone(context);
        }
    }

    fn slots_are_gone(&mut self, _: &mut Context<Self>) {
        self.draw();
        self.remote.stop();
        self.pool.slots_gone.open();
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(self.pool.end_result()); // its sender may have stopped waiting
        }
        if !self.stays {
            System::current().stop();
        }
    }

    fn draw(&mut self) {
        self.watchers.retain_mut(|watcher| !watcher.draw());
    }
}

impl Actor for Manager {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let early = self.pool.set_manager(context.address());
        let cpus = if self.pool.settings.pinned { core_affinity::get_core_ids() } else { None };
        let cpus = cpus.filter(|cpus| cpus.len() == self.pool.settings.slots);
        self.workers = (0..self.pool.slots())
            .map(|slot| {
                let cpu = cpus.as_ref().and_then(|cpus| cpus.get(slot).copied());
                Worker::new(self.pool.clone(), context.address(), WorkerId(slot as u32), cpu).start()
            })
            .collect();
        events::begin_looks(self, context);
        for job in early {
            context.notify(Watch(job));
        }
        self.connect_machines(context);
        if self.pool.stopped().is_some() {
            self.leave(context);
        }
    }
}

impl Drop for Manager {
    /// Also after a panic in a handler, which the runtime contains: nothing may wait for this actor then.
    fn drop(&mut self) {
        self.pool.step(Event::Stop(Ending::NoWorkers));
        if let Some(system) = System::try_current() {
            system.stop();
        }
    }
}

/// Runs a Manager until it has nothing left to do; the body of its thread.
pub(crate) fn run(pool: Arc<Pool>, stays: bool) {
    IS_MANAGER.set(true);
    events::manager_started(&pool);
    if cfg!(panic = "abort") {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            tracing::warn!("built with panic = \"abort\": a panic in a distributed function ends the whole program");
        });
    }
    let theirs = pool.clone();
    let ran = panic::catch_unwind(AssertUnwindSafe(|| {
        let runner = System::new();
        let manager = Manager {
            pool: theirs,
            looks: events::Looks::default(),
            stays,
            workers: Vec::new(),
            gone: BTreeSet::new(),
            is_leaving: false,
            watchers: Vec::new(),
            is_watching: false,
            waiting: Vec::new(),
            remote: machines::Remote::default(),
        };
        runner.block_on(async { manager.start() });
        runner.run()
    }));
    if !matches!(ran, Ok(Ok(()))) {
        pool.step(Event::Stop(Ending::NoWorkers));
    }
    events::manager_stopped(&pool);
    pool.note_manager_gone();
}

impl Handler<Restart> for Manager {
    type Result = ();

    fn handle(&mut self, message: Restart, context: &mut Context<Self>) {
        let slot = message.slot;
        let worker = &mut self.workers[slot.0 as usize];
        if !worker.connected() {
            // A Worker actor computes nothing and should never die; if one does, its slot must not.
            *worker = Worker::new(self.pool.clone(), context.address(), slot, None).start();
        }
        worker.do_send(message);
    }
}

impl Handler<WakeIn> for Manager {
    type Result = ();

    fn handle(&mut self, WakeIn(after): WakeIn, context: &mut Context<Self>) {
        context.run_later(after, |manager, _| manager.pool.step(Event::Tick));
    }
}

impl Handler<SlotsReleased> for Manager {
    type Result = ();

    fn handle(&mut self, _: SlotsReleased, context: &mut Context<Self>) {
        self.leave(context);
    }
}

impl Handler<WorkerGone> for Manager {
    type Result = ();

    fn handle(&mut self, WorkerGone(slot): WorkerGone, context: &mut Context<Self>) {
        self.pool.note_back(slot);
        self.gone.insert(slot);
        self.look_if_gone(context);
    }
}

impl Handler<Quit> for Manager {
    type Result = ();

    fn handle(&mut self, _: Quit, _: &mut Context<Self>) {
        self.stays = false;
        if self.pool.slots_gone.is_open() {
            System::current().stop();
        }
    }
}

impl Handler<Watch> for Manager {
    type Result = ();

    fn handle(&mut self, Watch(job): Watch, context: &mut Context<Self>) {
        self.watchers.push(Watcher::new(job, &self.pool));
        if !std::mem::replace(&mut self.is_watching, true) {
            draw_again(self, context);
        }
    }
}

impl Handler<Redraw> for Manager {
    type Result = ();

    fn handle(&mut self, _: Redraw, _: &mut Context<Self>) {
        self.draw();
    }
}

fn draw_again(manager: &mut Manager, context: &mut Context<Manager>) {
    manager.draw();
    manager.is_watching = !manager.watchers.is_empty();
    if manager.is_watching {
        context.run_later(crate::progress::INTERVAL, draw_again);
    }
}

impl<O: Output> Handler<Distribute<O>> for Manager {
    type Result = CallReply<O>;

    fn handle(&mut self, message: Distribute<O>, _: &mut Context<Self>) -> CallReply<O> {
        // Room for more results than memory has bytes is refused by a panic; it costs the message, not the Manager.
        let started = panic::catch_unwind(AssertUnwindSafe(|| message.start(&self.pool)));
        CallReply(started.ok())
    }
}

impl<O: Output> MessageResponse<Manager, Distribute<O>> for CallReply<O> {
    /// Leaves the sender with the call: the compute thread that ends it answers, without a way through this actor.
    fn handle(self, _: &mut Context<Manager>, sender: Option<OneshotSender<Result<O, CallError<O>>>>) {
        if let Some(started) = self.0 {
            started.answer(sender);
        }
    }
}

impl Handler<Status> for Manager {
    type Result = MessageResult<Status>;

    fn handle(&mut self, _: Status, _: &mut Context<Self>) -> MessageResult<Status> {
        MessageResult(self.pool.status())
    }
}

impl Handler<Cancel> for Manager {
    type Result = bool;

    fn handle(&mut self, Cancel(call): Cancel, _: &mut Context<Self>) -> bool {
        let is_active = self.pool.status().calls.iter().any(|active| active.id == call);
        self.pool.cancel(call, Ending::Cancelled);
        is_active
    }
}

impl Handler<Finished> for Manager {
    type Result = ResponseFuture<Result<(), EndError>>;

    fn handle(&mut self, _: Finished, context: &mut Context<Self>) -> Self::Result {
        self.end(Ending::Finished, context)
    }
}

impl Handler<Shutdown> for Manager {
    type Result = ResponseFuture<Result<ShutdownReport, EndError>>;

    fn handle(&mut self, _: Shutdown, context: &mut Context<Self>) -> Self::Result {
        let ended = self.end(Ending::ShutDown, context);
        let pool = self.pool.clone();
        Box::pin(async move { ended.await.map(|()| ShutdownReport::of(pool.machine_ends())) })
    }
}

impl Manager {
    fn end(&mut self, ending: Ending, context: &mut Context<Self>) -> ResponseFuture<Result<(), EndError>> {
        self.pool.stop(ending);
        self.leave(context);
        if self.pool.slots_gone.is_open() {
            let ended = self.pool.end_result();
            return Box::pin(async { ended });
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.waiting.push(sender);
        Box::pin(async { receiver.await.unwrap_or(Ok(())) })
    }
}
