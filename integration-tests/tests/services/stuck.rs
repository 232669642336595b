//! Managers that end while a thread does not come back.

use std::time::Instant;

use distfun::{Distribute, EndError, Ending, Finished, Shutdown, Status, function};
use futures::{FutureExt, executor::block_on};

use super::manager;
use crate::support::{END_WITHIN, Gate, LIMIT, eventually, within};

#[test]
fn a_worker_that_was_stuck_is_forgotten_once_its_item_has_returned() {
    // Every later ending named it again, although its thread had long ended.
    static GATE: Gate = Gate::new();
    fn held(x: u32) -> u32 {
        GATE.pass();
        x
    }
    let manager = manager(2);
    let call = manager.call(Distribute::map(function!(held), [1]));
    GATE.await_arrivals(1);
    let still_running =
        |ended: Result<(), EndError>| matches!(ended, Err(EndError::StillRunning { workers }) if workers.len() == 1);
    assert!(still_running(block_on(manager.send(Finished)).unwrap()));
    assert!(still_running(block_on(manager.send(Finished)).unwrap()), "the item is still held");
    GATE.open();
    eventually(LIMIT, "the worker is back", || block_on(manager.send(Finished)).unwrap() == Ok(()));
    assert!(block_on(manager.send(Shutdown)).unwrap().is_ok());
    assert_eq!(call.wait().unwrap_err().ending(), Ending::Finished);
}

#[test]
fn a_thread_local_that_is_slow_to_drop_does_not_make_the_manager_deaf() {
    // The Manager's thread joined the compute thread, and so waited for what that drops at its very end.
    static GATE: Gate = Gate::new();
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            GATE.pass();
        }
    }
    thread_local! {
        static SLOW: Slow = const { Slow };
    }
    fn touch(x: u32) -> u32 {
        SLOW.with(|_| x)
    }
    let manager = manager(1);
    assert_eq!(block_on(manager.send(Distribute::map(function!(touch), [1]))).unwrap().unwrap(), [1]);
    let start = Instant::now();
    let mut ended = Box::pin(manager.send(Finished));
    assert!(ended.as_mut().now_or_never().is_none());
    GATE.await_arrivals(1);
    let asked = manager.clone();
    let status = within(move || block_on(asked.send(Status)).unwrap());
    assert_eq!(status.stopped, Some(Ending::Finished));
    let Err(EndError::StillRunning { workers }) = within(|| block_on(ended).unwrap()) else {
        panic!("the thread is still there")
    };
    assert_eq!(workers.len(), 1);
    assert!(start.elapsed() < END_WITHIN, "{:?}", start.elapsed());
    GATE.open();
    eventually(LIMIT, "the thread is back", || block_on(manager.send(Finished)).unwrap() == Ok(()));
}
