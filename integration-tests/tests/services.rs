//! The Manager as services use it: messages from every kind of runtime, fair shares, and what may go wrong between
//! actors.

mod address;
mod calls;
mod stuck;

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Poll, Waker},
    thread,
    time::Duration,
};

use actix::Actor;
use actix_web::{App, HttpResponse, error::ErrorInternalServerError, test as web_test, web};
use distfun::{
    Activity, Cancel, Context, Distribute, EndError, Ending, FailureCause, Finished, MachineOutcome, Manager,
    ManagerHandle, Priority, Shutdown, Status, distribute_local, function,
};
use futures::{FutureExt, executor::block_on, future::join_all};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;

use crate::support::{Gate, LIMIT, alone, eventually, within};

fn square(x: u32) -> u32 {
    x * x
}

fn halve(x: u32) -> Result<u32, String> {
    if x.is_multiple_of(2) { Ok(x / 2) } else { Err(format!("{x} is odd")) }
}

fn sums(x: ArrayView2<'_, f64>) -> Array1<f64> {
    x.sum_axis(Axis(0))
}

fn manager(slots: usize) -> ManagerHandle {
    Manager::builder().slots(slots).start().unwrap()
}

/// Every message once, in an order that ends.
async fn session(manager: ManagerHandle) {
    let squares = manager.send(Distribute::map(function!(square), 0..50)).await.unwrap().unwrap();
    assert_eq!(squares, (0..50).map(square).collect::<Vec<_>>());

    let halves = manager.send(Distribute::try_map(function!(halve), [2, 4])).await.unwrap().unwrap();
    assert_eq!(halves, [1, 2]);
    let error = manager.send(Distribute::try_map(function!(halve), [2, 3, 4, 5])).await.unwrap().unwrap_err();
    assert_eq!(error.ending(), Ending::FirstFailure(1));
    let FailureCause::Returned(cause) = &error.failed()[0].cause else { panic!("{error}") };
    assert_eq!((cause.to_string().as_str(), error.failed().len()), ("3 is odd", 1));
    // Under `map` an error is a result like any other.
    let values = manager.send(Distribute::map(function!(halve), [2, 3])).await.unwrap().unwrap();
    assert_eq!(values, [Ok(1), Err("3 is odd".to_owned())]);

    let x = Array2::from_shape_fn((3, 40), |(i, j)| (i * j) as f64);
    let y = manager.send(Distribute::columns(function!(sums), x.clone())).await.unwrap().unwrap();
    assert_eq!(y, sums(x.view()));
    let y = manager.send(Distribute::columns(function!(sums), Arc::new(x.clone()))).await.unwrap().unwrap();
    assert_eq!(y, sums(x.view()));
    let empty = manager.send(Distribute::columns(function!(sums), Array2::zeros((3, 0)))).await.unwrap().unwrap();
    assert_eq!(empty.len(), 0);
    assert_eq!(manager.send(Distribute::map(function!(square), [])).await.unwrap().unwrap(), [0; 0]);

    let status = manager.send(Status).await.unwrap();
    assert_eq!((status.slots.len(), status.calls.len(), status.stopped), (2, 0, None));
    let unknown = Distribute::map(function!(square), [1]).call_id();
    assert!(!manager.send(Cancel(unknown)).await.unwrap());

    for _ in 0..2 {
        assert_eq!(manager.send(Finished).await.unwrap(), Ok(()));
        let error = manager.send(Distribute::map(function!(square), [1])).await.unwrap().unwrap_err();
        assert_eq!(error.ending(), Ending::Finished);
        assert!(error.to_string().contains("build it again"), "{error}");
    }
    for _ in 0..2 {
        let report = manager.send(Shutdown).await.unwrap().unwrap();
        assert_eq!(report.machines[0].outcome, MachineOutcome::Ended);
        assert_eq!(manager.send(Finished).await.unwrap(), Ok(()));
        let error = manager.send(Distribute::map(function!(square), [1])).await.unwrap().unwrap_err();
        assert_eq!(error.ending(), Ending::ShutDown);
    }
    let status = manager.send(Status).await.unwrap();
    assert_eq!(status.stopped, Some(Ending::ShutDown));
    assert!(status.slots.iter().all(|slot| slot.activity == Activity::Released));
}

#[test]
fn every_message_works_from_a_plain_main() {
    within(|| block_on(session(manager(2))));
}

#[test]
fn every_message_works_from_both_flavours_of_tokio_main() {
    for mut runtime in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        within(move || runtime.worker_threads(2).build().unwrap().block_on(session(manager(2))));
    }
}

#[test]
fn every_message_works_from_an_actix_system() {
    within(|| actix::System::new().block_on(session(manager(2))));
}

/// What a web service keeps and answers.
async fn serve_squares(manager: web::Data<ManagerHandle>, upto: web::Path<u32>) -> actix_web::Result<HttpResponse> {
    let message = Distribute::map(function!(square), 0..*upto);
    let squares = manager.send(message).await.map_err(ErrorInternalServerError)?.map_err(ErrorInternalServerError)?;
    Ok(HttpResponse::Ok().body(format!("{squares:?}")))
}

#[test]
fn an_actix_web_handler_serves_what_the_manager_computes() {
    within(|| {
        actix_web::rt::System::new().block_on(async {
            let manager = manager(2);
            let app = App::new()
                .app_data(web::Data::new(manager.clone()))
                .route("/squares/{upto}", web::get().to(serve_squares));
            let app = web_test::init_service(app).await;
            let ask = |upto: u32| web_test::TestRequest::get().uri(&format!("/squares/{upto}")).to_request();
            let answers = join_all((0..20).map(|upto| web_test::call_and_read_body(&app, ask(upto)))).await;
            assert_eq!(answers[0], "[]");
            assert_eq!(answers[5], "[0, 1, 4, 9, 16]");
            manager.send(Finished).await.unwrap().unwrap();
            let refused = web_test::call_service(&app, ask(3)).await;
            assert_eq!(refused.status(), 500);
            let text = web_test::read_body(refused).await;
            assert!(String::from_utf8_lossy(&text).contains("finished() has ended"), "{text:?}");
        });
    });
}

#[test]
fn a_call_that_loses_in_select_goes_on_and_is_awaited_later() {
    let gate = Arc::new(Gate::new());
    let held = gate.clone();
    let pass = move |x: u32| {
        held.pass();
        x
    };
    let dfun = distribute_local(pass).slots(2).build().unwrap();
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let results = runtime.block_on(async {
        let mut call = dfun.map(0..9);
        for _ in 0..3 {
            tokio::select! {
                _ = &mut call => panic!("its items are held at the gate"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
        gate.open();
        tokio::time::timeout(LIMIT, call).await.expect("in time")
    });
    assert_eq!(results.unwrap(), (0..9).collect::<Vec<_>>());
}

#[test]
fn a_distribute_that_loses_in_select_goes_on_too_if_its_future_is_kept() {
    static GATE: Gate = Gate::new();
    fn held(x: u32) -> u32 {
        GATE.pass();
        x
    }
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let results = runtime.block_on(async {
        let manager = manager(1);
        let mut answer = Box::pin(manager.send(Distribute::map(function!(held), 0..9)));
        tokio::select! {
            _ = &mut answer => panic!("its items are held at the gate"),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        GATE.open();
        tokio::time::timeout(LIMIT, answer).await.expect("in time")
    });
    assert_eq!(results.unwrap().unwrap(), (0..9).collect::<Vec<_>>());
}

#[test]
fn dropping_the_future_of_a_running_distribute_cancels_its_call() {
    static GATE: Gate = Gate::new();
    fn held(x: u32) -> u32 {
        GATE.pass();
        x
    }
    let manager = manager(1);
    let message = Distribute::map(function!(held), 0..1000);
    let id = message.call_id();
    let mut answer = Box::pin(manager.send(message));
    assert!(answer.as_mut().now_or_never().is_none());
    GATE.await_arrivals(1);
    assert_eq!(block_on(manager.send(Status)).unwrap().calls[0].id, id);
    drop(answer);
    GATE.open();
    eventually(LIMIT, "the call is gone", || block_on(manager.send(Status)).unwrap().calls.is_empty());
    assert!(GATE.arrived() < 1000, "the rest was not run");
    assert_eq!(block_on(manager.send(Distribute::map(function!(square), [3]))).unwrap().unwrap(), [9]);
}

#[test]
fn dropping_the_future_of_a_distribute_that_has_not_started_runs_nothing_of_it() {
    // Its first chunk used to run before anybody looked whether the answer was still wanted.
    static GATE: Gate = Gate::new();
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    fn held(x: u32) -> u32 {
        GATE.pass();
        x
    }
    fn counted(x: u32) -> u32 {
        RUNS.fetch_add(1, Ordering::SeqCst);
        x
    }
    let manager = manager(1);
    let mut first = Box::pin(manager.send(Distribute::map(function!(held), [1])));
    assert!(first.as_mut().now_or_never().is_none());
    GATE.await_arrivals(1);
    let mut second = Box::pin(manager.send(Distribute::map(function!(counted), 0..100)));
    assert!(second.as_mut().now_or_never().is_none());
    assert_eq!(block_on(manager.send(Status)).unwrap().calls.len(), 2);
    drop(second);
    GATE.open();
    assert_eq!(block_on(first).unwrap().unwrap(), [1]);
    eventually(LIMIT, "both calls are gone", || block_on(manager.send(Status)).unwrap().calls.is_empty());
    assert_eq!(RUNS.load(Ordering::SeqCst), 0);
}

#[test]
fn a_distribute_whose_future_is_dropped_unpolled_is_cancelled_at_once() {
    static GATE: Gate = Gate::new();
    fn held(x: u32) -> u32 {
        GATE.pass();
        x
    }
    let manager = manager(1);
    for _ in 0..20 {
        drop(manager.send(Distribute::map(function!(held), 0..9)));
        assert_eq!(block_on(manager.send(Status)).unwrap().calls.len(), 0);
    }
    GATE.open();
    assert_eq!(block_on(manager.send(Distribute::map(function!(square), [3]))).unwrap().unwrap(), [9]);
}

#[test]
fn cancel_ends_one_call_and_says_whether_it_was_active() {
    static GATE: Gate = Gate::new();
    fn held(x: u32, context: &Context<'_>) -> u32 {
        if x > 0 {
            GATE.pass();
            eventually(LIMIT, "the call is cancelled", || context.is_cancelled());
        }
        x
    }
    let manager = manager(2);
    let message = Distribute::map(function!(held), 0..4);
    let id = message.call_id();
    let mut answer = Box::pin(manager.send(message));
    assert!(answer.as_mut().now_or_never().is_none());
    GATE.open();
    eventually(LIMIT, "item 0 is done", || block_on(manager.send(Status)).unwrap().calls[0].done == 1);
    assert!(block_on(manager.send(Cancel(id))).unwrap());
    let error = block_on(answer).unwrap().unwrap_err();
    assert_eq!((error.ending(), error.finished()), (Ending::Cancelled, &vec![(0, 0)]));
    assert!(!block_on(manager.send(Cancel(id))).unwrap());
    assert_eq!(block_on(manager.send(Distribute::map(function!(square), [3]))).unwrap().unwrap(), [9]);
}

#[test]
fn finished_answers_the_running_calls_first_and_then_its_sender() {
    static GATE: Gate = Gate::new();
    fn held(x: u32) -> u32 {
        GATE.pass();
        x
    }
    let manager = manager(1);
    let mut call = Box::pin(manager.address().send(Distribute::map(function!(held), [1])));
    assert!(call.as_mut().now_or_never().is_none());
    GATE.await_arrivals(1);
    let mut ended = Box::pin(manager.send(Finished));
    assert!(ended.as_mut().now_or_never().is_none());
    let error = within(|| block_on(call).unwrap().unwrap_err());
    assert_eq!(error.ending(), Ending::Finished);
    assert!(ended.as_mut().now_or_never().is_none(), "a thread is still there");
    GATE.open();
    assert_eq!(block_on(ended).unwrap(), Ok(()));
}

#[test]
fn finished_names_the_worker_that_is_stuck_within_two_seconds_and_the_manager_goes_on_answering() {
    static GATE: Gate = Gate::new();
    fn held(x: u32) -> u32 {
        GATE.pass();
        x
    }
    let manager = manager(2);
    let mut call = Box::pin(manager.send(Distribute::map(function!(held), [1])));
    assert!(call.as_mut().now_or_never().is_none());
    GATE.await_arrivals(1);
    let (finished, shut_down) = block_on(futures::future::join(manager.send(Finished), manager.send(Shutdown)));
    let Err(EndError::StillRunning { workers }) = finished.unwrap() else { panic!("the item is still held") };
    assert_eq!((workers.len(), shut_down.unwrap().is_err()), (1, true));
    assert_eq!(block_on(manager.send(Status)).unwrap().stopped, Some(Ending::ShutDown));
    GATE.open();
}

#[test]
fn when_the_last_handle_is_gone_calls_end_as_finished_and_addresses_close() {
    static GATE: Gate = Gate::new();
    fn held(x: u32) -> u32 {
        GATE.pass();
        x
    }
    let manager = manager(1);
    let address = manager.address();
    let mut call = Box::pin(address.send(Distribute::map(function!(held), [1])));
    assert!(call.as_mut().now_or_never().is_none());
    GATE.await_arrivals(1);
    drop(manager.clone());
    assert!(call.as_mut().now_or_never().is_none(), "a handle is left");
    drop(manager);
    let error = within(|| block_on(call).unwrap().unwrap_err());
    assert_eq!(error.ending(), Ending::Finished);
    GATE.open();
    eventually(LIMIT, "the Manager is gone", || !address.connected());
    assert_eq!(block_on(address.send(Status)).unwrap_err(), actix::MailboxError::Closed);
}

#[test]
fn a_long_call_does_not_make_a_short_one_wait_for_its_end() {
    static LONG: AtomicUsize = AtomicUsize::new(0);
    static STARTED: Gate = Gate::new();
    fn long(x: u32) -> u32 {
        STARTED.pass();
        thread::sleep(Duration::from_millis(1));
        LONG.fetch_add(1, Ordering::SeqCst);
        x
    }
    fn short(_: u32) -> usize {
        LONG.load(Ordering::SeqCst)
    }
    STARTED.open();
    let manager = manager(1);
    let mut all = Box::pin(manager.send(Distribute::map(function!(long), 0..200)));
    assert!(all.as_mut().now_or_never().is_none());
    STARTED.await_arrivals(1);
    let seen = block_on(manager.send(Distribute::map(function!(short), [0]))).unwrap().unwrap()[0];
    assert!(seen < 50, "{seen} of 200 items of the long call went before the short one");
    assert_eq!(block_on(all).unwrap().unwrap().len(), 200);
}

#[test]
fn a_call_of_high_priority_is_done_long_before_an_equal_one_of_low_priority() {
    static GATE: Gate = Gate::new();
    static LOW: AtomicUsize = AtomicUsize::new(0);
    fn held(x: u32) -> u32 {
        GATE.pass();
        x
    }
    fn low(_: u32) -> usize {
        thread::sleep(Duration::from_millis(1));
        LOW.fetch_add(1, Ordering::SeqCst)
    }
    fn high(_: u32) -> usize {
        thread::sleep(Duration::from_millis(1));
        LOW.load(Ordering::SeqCst)
    }
    let manager = manager(1);
    let mut first = Box::pin(manager.send(Distribute::map(function!(held), [1])));
    assert!(first.as_mut().now_or_never().is_none());
    GATE.await_arrivals(1);
    let mut less = Box::pin(manager.send(Distribute::map(function!(low), 0..80).priority(Priority::Low)));
    assert!(less.as_mut().now_or_never().is_none());
    let mut more = Box::pin(manager.send(Distribute::map(function!(high), 0..80).priority(Priority::High)));
    assert!(more.as_mut().now_or_never().is_none());
    GATE.open();
    let seen = *block_on(more).unwrap().unwrap().last().unwrap();
    assert!(seen < 40, "{seen} of 80 items of low priority went before the last one of high priority");
    assert_eq!(block_on(less).unwrap().unwrap().len(), 80);
}

#[test]
fn several_clients_at_once_get_their_own_answers() {
    let manager = manager(2);
    let clients = [0u32, 1, 2, 3].map(|client| {
        let manager = manager.clone();
        thread::spawn(move || {
            for round in 0..50 {
                let from = 1000 * client + round;
                let squares = block_on(manager.send(Distribute::map(function!(square), from..from + 9)));
                assert_eq!(squares.unwrap().unwrap(), (from..from + 9).map(square).collect::<Vec<_>>());
            }
        })
    });
    within(|| clients.map(|client| client.join().unwrap()));
    assert_eq!(block_on(manager.send(Status)).unwrap().calls.len(), 0);
}

#[test]
fn one_call_too_many_is_refused_as_busy_and_welcome_again_later() {
    static GATE: Gate = Gate::new();
    fn held(x: u32) -> u32 {
        GATE.pass();
        x
    }
    let manager = Manager::builder().slots(1).max_calls(2).start().unwrap();
    let ask = || Box::pin(manager.send(Distribute::map(function!(held), [1])));
    let mut calls = [ask(), ask()];
    assert!(calls.iter_mut().all(|call| call.now_or_never().is_none()));
    for _ in 0..3 {
        let error = block_on(ask()).unwrap().unwrap_err();
        assert_eq!(error.ending(), Ending::Busy { max_calls: 2 });
        assert!(error.to_string().contains("raise .max_calls(2)"), "{error}");
    }
    GATE.open();
    for call in calls {
        assert_eq!(block_on(call).unwrap().unwrap(), [1]);
    }
    assert_eq!(block_on(ask()).unwrap().unwrap(), [1]);
}

#[test]
fn a_distributed_function_is_busy_beyond_its_calls_too() {
    let gate = Arc::new(Gate::new());
    let held = gate.clone();
    let pass = move |x: u32| {
        held.pass();
        x
    };
    let dfun = distribute_local(pass).slots(1).max_calls(1).endaftercall(false).build().unwrap();
    let call = dfun.map([1]);
    assert_eq!(dfun.map([2]).wait().unwrap_err().ending(), Ending::Busy { max_calls: 1 });
    gate.open();
    assert_eq!(call.wait().unwrap(), [1]);
    assert_eq!(dfun.map([2]).wait().unwrap(), [2]);
}

#[test]
fn wait_on_the_managers_own_thread_is_refused_and_awaiting_there_works() {
    let manager = manager(1);
    let (answers, answer) = mpsc::channel();
    manager.arbiter().spawn(async move {
        let held = |x: u32, context: &Context<'_>| {
            eventually(LIMIT, "the call is cancelled", || x == 0 || context.is_cancelled());
            x
        };
        let dfun = distribute_local(held).slots(1).endaftercall(false).build().unwrap();
        let waited = dfun.map([1]).wait().map_err(|error| (error.ending(), error.to_string()));
        let settled = dfun.map([1]).settle().remove(0);
        let timed = dfun.map([1]).wait_timeout(LIMIT).map_err(|error| error.ending());
        let awaited = dfun.map([0]).await;
        answers.send((waited, settled, timed, awaited, dfun.finished())).unwrap();
    });
    let (waited, settled, timed, awaited, finished) = answer.recv_timeout(LIMIT).unwrap();
    let (ending, text) = waited.unwrap_err();
    assert_eq!(ending, Ending::WaitOnManager);
    assert!(text.contains("await the call there"), "{text}");
    let cause = settled.unwrap_err().cause;
    assert!(matches!(cause, FailureCause::NotRun(Ending::WaitOnManager)), "{cause}");
    assert_eq!(timed, Err(Ending::WaitOnManager));
    assert_eq!((awaited.unwrap(), finished), (vec![0], Ok(())));
    assert_eq!(block_on(manager.send(Distribute::map(function!(square), [3]))).unwrap().unwrap(), [9]);
}

/// A user's actor beside the Manager, which asks it for squares.
struct Neighbour(actix::Addr<Manager>);

impl Actor for Neighbour {
    type Context = actix::Context<Self>;
}

#[derive(actix::Message)]
#[rtype(result = "Vec<u32>")]
struct Squares(u32);

impl actix::Handler<Squares> for Neighbour {
    type Result = actix::ResponseFuture<Vec<u32>>;

    fn handle(&mut self, Squares(upto): Squares, _: &mut Self::Context) -> Self::Result {
        let answer = self.0.send(Distribute::map(function!(square), 0..upto));
        Box::pin(async { answer.await.unwrap().unwrap() })
    }
}

#[test]
fn an_actor_on_the_managers_arbiter_asks_the_manager_without_deadlock() {
    let manager = manager(1);
    let address = manager.address();
    let neighbour = Neighbour::start_in_arbiter(&manager.arbiter(), |_| Neighbour(address));
    let answers = within(move || block_on(join_all((0..10).map(|upto| neighbour.send(Squares(upto))))));
    assert_eq!(answers[4].as_deref().unwrap(), [0, 1, 4, 9]);
}

/// An item whose `Drop` panics wherever it happens.
#[derive(Serialize, Deserialize)]
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("an item's drop");
    }
}

#[test]
fn items_that_panic_when_a_refused_call_drops_them_do_not_hurt_the_manager() {
    // A second panic among the elements of one list would end the whole process: so in one of its own.
    alone(|| {
        // A refused call's items are dropped on the Manager's thread; their panic used to end the Manager.
        static GATE: Gate = Gate::new();
        fn held(x: u32) -> u32 {
            GATE.pass();
            x
        }
        fn forget(item: PanicsWhenDropped) -> u32 {
            std::mem::forget(item);
            7
        }
        let manager = Manager::builder().slots(1).max_calls(1).start().unwrap();
        let ask = || block_on(manager.send(Distribute::map(function!(forget), [PanicsWhenDropped, PanicsWhenDropped])));
        assert_eq!(ask().unwrap().unwrap(), [7, 7]);
        let mut first = Box::pin(manager.send(Distribute::map(function!(held), [1])));
        assert!(first.as_mut().now_or_never().is_none());
        GATE.await_arrivals(1);
        assert_eq!(ask().unwrap().unwrap_err().ending(), Ending::Busy { max_calls: 1 });
        GATE.open();
        assert_eq!(block_on(first).expect("the Manager lives").unwrap(), [1]);
        block_on(manager.send(Finished)).unwrap().unwrap();
        assert_eq!(ask().unwrap().unwrap_err().ending(), Ending::Finished);
        assert_eq!(block_on(manager.send(Status)).unwrap().stopped, Some(Ending::Finished));
    });
}

#[test]
fn a_waker_that_panics_costs_no_worker() {
    struct Panics(AtomicUsize);
    impl std::task::Wake for Panics {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("a waker's panic");
        }
    }
    let gate = Arc::new(Gate::new());
    let held = gate.clone();
    let pass = move |x: u32| {
        held.pass();
        x
    };
    let dfun = distribute_local(pass).slots(1).endaftercall(false).build().unwrap();
    let panics = Arc::new(Panics(AtomicUsize::new(0)));
    let mut call = dfun.map([1]);
    let waker = Waker::from(panics.clone());
    let polled = std::pin::Pin::new(&mut call).poll(&mut std::task::Context::from_waker(&waker));
    assert!(matches!(polled, Poll::Pending));
    gate.open();
    eventually(LIMIT, "the waker was called", || panics.0.load(Ordering::SeqCst) == 1);
    assert_eq!(call.wait().unwrap(), [1]);
    assert_eq!(dfun.map([2]).wait().unwrap(), [2]);
}

#[test]
fn status_tells_what_every_slot_and_call_is_doing() {
    static GATE: Gate = Gate::new();
    static SEEN: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    fn held(x: u32) -> u32 {
        GATE.pass();
        SEEN.lock().unwrap().push(x);
        x
    }
    let manager = manager(1);
    let message = Distribute::map(function!(held), 0..7);
    let id = message.call_id();
    let mut call = Box::pin(manager.send(message));
    assert!(call.as_mut().now_or_never().is_none());
    GATE.await_arrivals(1);
    let status = block_on(manager.send(Status)).unwrap();
    let [active] = status.calls.as_slice() else { panic!("{status:?}") };
    assert_eq!((active.id, active.items, active.done, active.failed), (id, 7, 0, 0));
    assert!(active.function.ends_with("held"), "{}", active.function);
    let Activity::Busy { call: busy, items, .. } = &status.slots[0].activity else { panic!("{status:?}") };
    assert_eq!((*busy, items.start), (id, 0));
    GATE.open();
    assert_eq!(block_on(call).unwrap().unwrap().len(), 7);
    let status = block_on(manager.send(Status)).unwrap();
    assert_eq!((status.calls.len(), &status.slots[0].activity), (0, &Activity::Idle));
}
