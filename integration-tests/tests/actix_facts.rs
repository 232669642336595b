//! What the design leans on in actix, so that an upgrade that changes it is noticed.
//!
//! The Manager counts credits instead of trusting mailboxes, Workers compute on plain threads
//! instead of a `SyncArbiter`, these threads answer callers directly, supervision is ours, and
//! the actors live on a thread of their own. When one of these tests fails, look again at the
//! choice that rests on it before adapting the test.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix::dev::{MessageResponse, OneshotSender, SendError};
use actix::prelude::*;
use futures::FutureExt;
use futures::future::join_all;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{LocalSet, spawn_blocking};

/// The capacity of a mailbox that nobody has changed.
const MAILBOX: usize = 16;
/// Far longer than anything here takes: a test that would hang fails instead.
const LIMIT: Duration = Duration::from_secs(20);

const CLOSED: Result<usize, MailboxError> = Err(MailboxError::Closed);
const ENDED: [&str; 2] = ["started", "stopped"];
const UNWOUND: [&str; 2] = ["started", "stopped while panicking"];

#[test]
fn sends_to_a_busy_actor_are_all_queued_whatever_the_mailbox_capacity() {
    let (host, addr, _hooks) = Host::with_probe();
    let release = occupy(&addr);
    let mut calls: Vec<_> = (0..10_000).map(|_| Box::pin(addr.send(Next))).collect();
    assert!(calls.iter_mut().all(|call| call.now_or_never().is_none()));
    assert!(matches!(addr.try_send(Next), Err(SendError::Full(Next))));

    // Those that are given up while queued will not be handled; the others, which are not polled
    // again, will be, so they were in the queue already.
    calls.truncate(6_000);
    drop(release);
    assert_eq!(answer(addr.clone().send(Next)), Ok(6_001));
    host.stop();
}

#[test]
fn try_send_reports_full_on_a_kept_address_and_never_on_a_clone_per_message() {
    let (host, addr, _hooks) = Host::with_probe();
    let other = addr.clone();
    let release = occupy(&addr);
    let accepted = (0..1_000).take_while(|_| addr.try_send(Next).is_ok());
    assert_eq!(accepted.count(), MAILBOX);
    // Every further address brings one place of its own.
    assert!(other.try_send(Next).is_ok());
    assert!(matches!(other.try_send(Next), Err(SendError::Full(Next))));
    assert!((0..1_000).all(|_| addr.clone().try_send(Next).is_ok()));
    // A `send` that finds no room is queued at its first poll, so that others can overtake it.
    let overtaken = addr.send(Next);
    drop(release);
    assert_eq!(answer(addr.clone().send(Next)), Ok(MAILBOX + 1_002));
    assert_eq!(answer(overtaken), Ok(MAILBOX + 1_003));
    assert!(addr.try_send(Next).is_ok());
    host.stop();
}

#[test]
fn do_send_ignores_the_mailbox_limit_and_is_lost_silently_once_the_mailbox_is_closed() {
    let (host, addr, _hooks) = Host::with_probe();
    let release = occupy(&addr);
    (0..1_000).for_each(|_| addr.do_send(Next));
    drop(release);
    assert_eq!(answer(addr.clone().send(Next)), Ok(1_001));

    answer(addr.send(Stop)).unwrap();
    await_closed(&addr);
    let (entered, inside) = mpsc::channel();
    addr.do_send(Block(entered, mpsc::channel().1));
    assert_eq!(inside.try_recv(), Err(TryRecvError::Disconnected));
    // The other two ways of sending say so, and `try_send` hands the message back.
    assert!(matches!(addr.try_send(Next), Err(SendError::Closed(Next))));
    assert_eq!(answer(addr.send(Next)), CLOSED);
    host.stop();
}

#[test]
fn a_panic_in_a_handler_closes_the_mailbox_and_leaves_the_arbiter_alive() {
    let host = Host::start();
    for arbiter in [&host.arbiter.handle(), host.system.arbiter()] {
        let [(addr, hooks), (neighbour, _hooks)] = [(); 2].map(|()| start_probe(arbiter));
        let release = occupy(&addr);
        let calls = [addr.send(Panic), addr.send(Next)];
        drop(release);
        // The cause is lost, and so is everything that was queued behind it.
        assert_eq!(answer(join_all(calls)), [CLOSED; 2]);
        await_closed(&addr);
        assert_eq!(all(hooks), UNWOUND);

        assert_eq!(answer(neighbour.send(Next)), Ok(1));
        let (successor, _hooks) = start_probe(arbiter);
        assert_eq!(answer(successor.send(Next)), Ok(1));
    }
    host.stop();
}

#[test]
fn a_supervisor_does_not_restart_an_actor_that_panicked() {
    let (host, (probe, hooks)) = (Host::start(), Probe::new());
    let addr = Supervisor::start_in_arbiter(host.system.arbiter(), |_| probe);
    assert_eq!(answer(addr.send(Panic)), CLOSED);
    await_closed(&addr);
    assert_eq!(all(hooks), UNWOUND);
    host.stop();
}

#[test]
fn a_supervisor_restarts_an_actor_that_stopped_and_keeps_its_value_and_its_queue() {
    let (host, (probe, hooks)) = (Host::start(), Probe::new());
    let addr = Supervisor::start_in_arbiter(host.system.arbiter(), |_| probe);
    assert_eq!(answer(addr.send(Next)), Ok(1));
    let release = occupy(&addr);
    let calls = [Stop, Next, Next].map(|message| addr.send(message));
    drop(release);
    assert_eq!(answer(join_all(calls)), [Ok(1), Ok(2), Ok(3)]);
    host.stop();
    assert_eq!(all(hooks), [&ENDED[..], &["restarting"], &ENDED].concat());
}

#[test]
fn a_system_on_its_own_thread_serves_both_kinds_of_tokio_main() {
    // Both flavours of `#[tokio::main]` expand to this.
    for runtime in both_runtimes() {
        runtime.block_on(async {
            let (host, addr, _hooks) = Host::with_probe();
            let tasks = [(); 3].map(|()| tokio::spawn(addr.send(Next).timeout(LIMIT)));
            let answers = join_all(tasks).await.into_iter().map(Result::unwrap);
            assert_eq!(answers.collect::<Vec<_>>(), [Ok(1), Ok(2), Ok(3)]);
            spawn_blocking(|| host.stop()).await.unwrap();
        });
    }
}

#[test]
fn a_plain_tokio_runtime_can_host_neither_a_system_nor_an_actor() {
    for runtime in both_runtimes() {
        let reason = panic_text(|| runtime.block_on(async { drop(System::new()) }));
        assert!(reason.contains("Cannot start a runtime from within a runtime"));
        let (probe, hooks) = Probe::new();
        let reason = panic_text(|| runtime.block_on(async { drop(probe.start()) }));
        assert!(reason.contains("`spawn_local` called from outside"));
        // It cannot have handled anything, yet its hooks have run.
        assert_eq!(all(hooks), UNWOUND);

        // What an actor needs is a LocalSet, not a System.
        let (probe, _hooks) = Probe::new();
        let asked = async { probe.start().send(Next).timeout(LIMIT).await };
        assert_eq!(LocalSet::new().block_on(&runtime, asked), Ok(1));
    }
}

#[test]
fn stopping_a_system_ends_its_thread_and_waits_for_no_handler_on_another_arbiter() {
    let (host, idle, idle_hooks) = Host::with_probe();
    assert_eq!(answer(idle.send(Next)), Ok(1));
    let arbiter = host.arbiter.handle();
    let (busy, busy_hooks) = start_probe(&arbiter);
    let release = occupy(&busy);
    let other_thread = host.stop();
    assert_eq!(all(idle_hooks), ENDED);
    assert_eq!(answer(idle.send(Next)), CLOSED);
    assert_eq!(busy_hooks.try_iter().collect::<Vec<_>>(), ["started"]);
    drop(release);
    finishes(|| other_thread.join().unwrap());
    assert_eq!(all(busy_hooks), ["stopped"]);
    // On an arbiter that has ended, a start fails without a word.
    assert!(!start_probe(&arbiter).0.connected());
}

#[test]
fn a_sync_arbiter_never_replaces_a_thread_whose_handler_panicked() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let host = Host::start();
    let make = || PoolMember(MADE.fetch_add(1, Ordering::SeqCst));
    let (started, pool) = mpsc::channel();
    let start = move || started.send(SyncArbiter::start(2, make)).unwrap();
    host.system.arbiter().spawn_fn(start);
    let pool = pool.recv_timeout(LIMIT).unwrap();
    assert_eq!(answer(pool.send(Panic)), CLOSED);
    let survivor = answer(pool.send(Next)).unwrap();
    assert!((0..100).all(|_| answer(pool.send(Next)) == Ok(survivor)));

    // Nobody is told that the last thread is gone: one message can still be lost on its queue,
    // one finds that out, and one may come before the address is closed for that reason.
    assert_eq!(answer(pool.send(Panic)), CLOSED);
    assert_eq!([(); 3].map(|()| answer(pool.send(Next))), [CLOSED; 3]);
    assert!(!pool.connected());
    assert_eq!(MADE.load(Ordering::SeqCst), 2);
    host.stop();
}

#[test]
fn a_plain_thread_may_answer_a_message_even_after_the_actor_has_ended() {
    let (host, addr, _hooks) = Host::with_probe();
    let (replies, handed_over) = mpsc::channel();
    let mut calls = [(); 3].map(|()| Box::pin(addr.send(HandOver(replies.clone()))));
    let [reply, no_reply, unwanted] = [(); 3].map(|()| handed_over.recv_timeout(LIMIT).unwrap());
    answer(addr.send(Stop)).unwrap();
    await_closed(&addr);
    assert!(calls.iter_mut().all(|call| call.now_or_never().is_none()));
    let [answered, unanswered, given_up] = calls;
    finishes(move || reply.send(49).unwrap());
    assert_eq!(answer(answered), Ok(49));
    drop(no_reply);
    assert_eq!(answer(unanswered), CLOSED);
    // The thread can see that nobody waits for its answer any more.
    assert!(!unwanted.is_closed());
    drop(given_up);
    assert!(unwanted.is_closed());
    host.stop();
}

/// Counts `Next`, and reports its hooks, whose channel closes when it is dropped. They must not
/// panic themselves: in one that runs while the actor unwinds, that would end the process.
struct Probe(usize, Sender<&'static str>);

impl Probe {
    fn new() -> (Self, Receiver<&'static str>) {
        let (hooks, seen) = mpsc::channel();
        (Self(0, hooks), seen)
    }
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        let _ = self.1.send("started");
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let unwinding = thread::panicking();
        let _ = self.1.send(if unwinding { UNWOUND[1] } else { ENDED[1] });
    }
}

impl Supervised for Probe {
    fn restarting(&mut self, _: &mut Self::Context) {
        let _ = self.1.send("restarting");
    }
}

/// What an actor can be asked to do, before it answers with its count.
#[derive(Message)]
#[rtype(usize)]
enum Ask {
    Next,
    Stop,
    Panic,
    /// Tells the first that the handler was entered, and leaves it when the second closes.
    Block(Sender<()>, Receiver<()>),
}
use Ask::{Block, Next, Panic, Stop};

impl Handler<Ask> for Probe {
    type Result = usize;

    fn handle(&mut self, msg: Ask, ctx: &mut Self::Context) -> usize {
        match msg {
            Next => self.0 += 1,
            Stop => ctx.stop(),
            // As `panic!`, without the report on stderr.
            Panic => resume_unwind(Box::new("expected")),
            Block(entered, released) => {
                entered.send(()).expect("the test waits for this");
                let _ = released.recv_timeout(LIMIT);
            }
        }
        self.0
    }
}

/// Is answered by whoever receives the means to do so.
#[derive(Message)]
#[rtype(usize)]
struct HandOver(Sender<OneshotSender<usize>>);

impl Handler<HandOver> for Probe {
    type Result = HandOver;

    fn handle(&mut self, msg: HandOver, _: &mut Self::Context) -> HandOver {
        msg
    }
}

impl MessageResponse<Probe, HandOver> for HandOver {
    fn handle(self, _: &mut Context<Probe>, reply: Option<OneshotSender<usize>>) {
        self.0.send(reply.expect("it was sent by `send`")).unwrap();
    }
}

struct PoolMember(usize);

impl Actor for PoolMember {
    type Context = SyncContext<Self>;
}

impl Handler<Ask> for PoolMember {
    type Result = usize;

    fn handle(&mut self, msg: Ask, _: &mut Self::Context) -> usize {
        let Panic = msg else { return self.0 };
        resume_unwind(Box::new("expected"))
    }
}

/// A System on a thread of its own, with one more Arbiter.
struct Host {
    system: System,
    arbiter: Arbiter,
    thread: JoinHandle<()>,
}

impl Host {
    fn start() -> Self {
        let (ready, started) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runner = System::new();
            ready.send((System::current(), Arbiter::new())).unwrap();
            runner.run().unwrap();
        });
        let (system, arbiter) = started.recv_timeout(LIMIT).unwrap();
        Self { system, arbiter, thread }
    }

    fn with_probe() -> (Self, Addr<Probe>, Receiver<&'static str>) {
        let host = Self::start();
        let (addr, hooks) = start_probe(host.system.arbiter());
        (host, addr, hooks)
    }

    /// Stops the System and joins its thread, but not that of the other Arbiter.
    fn stop(self) -> Arbiter {
        self.system.stop();
        finishes(|| self.thread.join().unwrap());
        self.arbiter
    }
}

fn start_probe(arbiter: &ArbiterHandle) -> (Addr<Probe>, Receiver<&'static str>) {
    let (probe, hooks) = Probe::new();
    (Probe::start_in_arbiter(arbiter, |_| probe), hooks)
}

/// Keeps the actor inside a handler until the returned value is dropped.
fn occupy(addr: &Addr<Probe>) -> Sender<()> {
    let ((entered, inside), (release, released)) = (mpsc::channel(), mpsc::channel());
    addr.do_send(Block(entered, released));
    inside.recv_timeout(LIMIT).unwrap();
    release
}

/// The answer to a message may come before the mailbox closes; after this it has closed.
fn await_closed(addr: &Addr<Probe>) {
    assert_eq!(answer(addr.send(Next)), CLOSED);
    assert!(!addr.connected());
}

/// Every hook that has run, or will run until the actor is dropped.
fn all(hooks: Receiver<&'static str>) -> Vec<&'static str> {
    finishes(move || hooks.iter().collect())
}

/// Waits for a future on a runtime that has nothing to do with actix.
fn answer<F: Future>(future: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let bounded = async { tokio::time::timeout(LIMIT, future).await };
    runtime.block_on(bounded).expect("an answer in time")
}

/// Runs `f` on another thread, and fails if it does not return in bounded time.
fn finishes<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(f()));
    result.recv_timeout(LIMIT).expect("it returns in time")
}

fn both_runtimes() -> [Runtime; 2] {
    [Builder::new_current_thread(), Builder::new_multi_thread()]
        .map(|mut builder| builder.worker_threads(1).enable_time().build().unwrap())
}

fn panic_text(f: impl FnOnce()) -> String {
    let reason = catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
    let text = reason.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| reason.downcast_ref().cloned()).unwrap()
}
