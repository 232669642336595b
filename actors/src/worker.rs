//! The Worker actor: owns one slot, starts its compute thread, learns of its end, and replaces it when told to.
//!
//! It computes nothing, so it is never deaf; its thread computes, so it is never waited for.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use actix::prelude::*;
use distfun_core::{
    engine::Event,
    ids::{Generation, WorkerId},
};

use crate::{
    compute::{awake::spin_until, thread as compute},
    events,
    manager::Manager,
    messages::internal::{Restart, SlotsReleased, WorkerGone},
    pool::Pool,
};

pub(crate) struct Worker {
    pool: Arc<Pool>,
    manager: Addr<Manager>,
    slot: WorkerId,
    cpu: Option<core_affinity::CoreId>,
    thread: Option<(Generation, JoinHandle<()>, Arc<AtomicBool>)>,
    restart: Option<SpawnHandle>,
}

impl Worker {
    pub(crate) fn new(
        pool: Arc<Pool>,
        manager: Addr<Manager>,
        slot: WorkerId,
        cpu: Option<core_affinity::CoreId>,
    ) -> Self {
        Self { pool, manager, slot, cpu, thread: None, restart: None }
    }

    /// Starts the compute thread of a new life. A thread of an earlier life that is still there has been abandoned: it
    /// ends when its item does.
    fn start_thread(&mut self, generation: Generation, address: Addr<Self>) {
        let (pool, slot, cpu) = (self.pool.clone(), self.slot, self.cpu);
        let gone = Arc::new(AtomicBool::new(false));
        let theirs = Farewell(gone.clone());
        let body = move || {
            FAREWELL.set(Some(theirs));
            if let Some(cpu) = cpu {
                core_affinity::set_for_current(cpu); // where it is refused, the thread just stays free to move
            }
            let port = pool.open_port(slot, generation);
            events::worker_started(&pool, &port, cpu.map(|cpu| cpu.id));
            // Everything that user code can do to this thread has been caught already; what comes through here is a
            // bug of ours, after which the slot must still be replaced.
            if panic::catch_unwind(AssertUnwindSafe(|| compute::run(&pool, &port))).is_err() {
                events::worker_failed(&pool, &port);
                pool.step(Event::SlotLost(slot, generation, None));
            }
            address.do_send(ThreadEnded { generation });
        };
        let kind = self.pool.kind(slot).name();
        match thread::Builder::new().name(format!("distfun-{kind}-{slot}")).spawn(body) {
            Ok(thread) => self.thread = Some((generation, thread, gone)),
            Err(error) => {
                events::worker_not_started(&self.pool, slot, generation, &error);
                self.pool.step(Event::SlotLost(slot, generation, None));
            }
        }
    }

    /// The worker's thread, if it is still there.
    fn leave_if_done(&mut self) {
        if self.thread.is_none() {
            self.manager.do_send(WorkerGone(self.slot));
        }
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.start_thread(Generation(0), context.address());
    }
}

impl Handler<Restart> for Worker {
    type Result = ();

    fn handle(&mut self, message: Restart, context: &mut Context<Self>) {
        let Restart { generation, after, .. } = message;
        if self.pool.stopped().is_some() {
            return self.leave_if_done();
        }
        if after == Duration::ZERO {
            return self.start_thread(generation, context.address());
        }
        self.restart = Some(context.run_later(after, move |worker, context| {
            worker.restart = None;
            worker.start_thread(generation, context.address());
        }));
    }
}

impl Handler<SlotsReleased> for Worker {
    type Result = ();

    fn handle(&mut self, _: SlotsReleased, context: &mut Context<Self>) {
        if let Some(restart) = self.restart.take() {
            context.cancel_future(restart);
        }
        self.leave_if_done();
    }
}

thread_local! {
    /// Destructors of thread-locals run last in, first out; so what user code has put there goes before this.
    static FAREWELL: RefCell<Option<Farewell>> = const { RefCell::new(None) };
}

/// Says that a thread is at its end; nothing else, since other thread-locals are gone by then.
struct Farewell(Arc<AtomicBool>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// From a compute thread, as the last act of its body.
#[derive(Message)]
#[rtype(result = "()")]
struct ThreadEnded {
    generation: Generation,
}

impl Handler<ThreadEnded> for Worker {
    type Result = ();

    fn handle(&mut self, message: ThreadEnded, context: &mut Context<Self>) {
        self.join_when_gone(message.generation, context);
    }
}

impl Worker {
    /// The destructors of the user's thread-locals may take their time, and a join would wait for them.
    fn join_when_gone(&mut self, generation: Generation, context: &mut Context<Self>) {
        match &self.thread {
            Some((current, _, gone)) if *current == generation => {
                if !spin_until(|| gone.load(Ordering::Acquire)) {
                    let again = move |worker: &mut Self, context: &mut Context<Self>| {
                        worker.join_when_gone(generation, context);
                    };
                    context.run_later(Duration::from_millis(1), again);
                    return;
                }
                if let Some((_, thread, _)) = self.thread.take() {
                    let _ = thread.join(); // returns at once, and its panics are caught
                }
            }
            _ => {}
        }
        if self.pool.stopped().is_some() {
            self.leave_if_done();
        }
    }
}
