//! When somebody looks at an engine: on the Manager's thread, once a second while it is busy, and only while somebody
//! listens. An idle Manager wakes up once a minute, and not at all without a subscriber.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use actix::prelude::*;
use distfun_core::event::{listened, watch::Watch};

use crate::{manager::Manager, pool::Pool};

/// Nobody listened at the last look.
pub(super) const NEVER: u8 = 0;
/// The next look may be a minute away.
const SELDOM: u8 = 1;
/// The next look is at most a second away.
const OFTEN: u8 = 2;

/// Pool to Manager: look soon, a call has begun.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Look;

/// A Manager's looks at its engine.
#[derive(Default)]
pub(crate) struct Looks {
    watch: Option<Watch>,
    timer: Option<SpawnHandle>,
}

/// After a call was submitted: sees to it that somebody looks.
pub(crate) fn job_runs(pool: &Pool) {
    if listened!(WARN) && pool.events.looks.load(SeqCst) != OFTEN && pool.events.looks.swap(OFTEN, SeqCst) != OFTEN {
        pool.tell(Look);
    }
}

/// The Manager can look from now on.
pub(crate) fn begin_looks(manager: &Manager, context: &mut Context<Manager>) {
    if listened!(WARN) {
        manager.pool.events.looks.store(OFTEN, SeqCst);
        context.notify(Look);
    }
}

impl Handler<Look> for Manager {
    type Result = ();

    fn handle(&mut self, _: Look, context: &mut Context<Self>) {
        self.looks.watch.get_or_insert_with(|| Watch::new(self.pool.events.id, self.pool.age()));
        look_in(self, context, Duration::from_secs(1));
    }
}

fn look_in(manager: &mut Manager, context: &mut Context<Manager>, after: Duration) {
    if let Some(timer) = manager.looks.timer.take() {
        context.cancel_future(timer);
    }
    manager.looks.timer = Some(context.run_later(after, look));
}

fn look(manager: &mut Manager, context: &mut Context<Manager>) {
    let pool = manager.pool.clone();
    manager.looks.timer = None;
    if !listened!(WARN) {
        manager.looks.watch = None; // it would know nothing of the time without it
        pool.events.looks.store(NEVER, SeqCst);
        return;
    }
    let Some(watch) = &mut manager.looks.watch else { return };
    // Said before the look: a call that is submitted after it asks for another one.
    pool.events.looks.store(SELDOM, SeqCst);
    let status = pool.status();
    for noted in watch.look(&status, pool.events.totals()) {
        super::guarded(|| noted.emit());
    }
    if watch.is_busy() {
        pool.events.looks.store(OFTEN, SeqCst);
    }
    let next = watch.next(status.at);
    if pool.stopped().is_none() || watch.is_busy() {
        look_in(manager, context, next);
    }
}
