//! Items that run too long, and calls that nobody waits for any more.

use std::time::{Duration, Instant};

use distfun::{BuildError, Ending, FailureCause, Isolation, SettingsError, distribute};

use super::{
    Place,
    harm::{Harm, harm},
};
use crate::support::{END_WITHIN, eventually, within};

const TIMEOUT: Duration = Duration::from_millis(300);

#[test]
fn an_item_that_hangs_is_stopped_in_time_and_the_others_go_on() {
    let places = [(Place::Processes, Harm::Hang), (Place::Processes, Harm::Freeze), (Place::Node, Harm::Hang)];
    for (place, what) in places {
        within(move || {
            let dfun = place.of(distribute!(harm), 2).item_timeout(TIMEOUT);
            let dfun = dfun.endaftercall(false).build().unwrap();
            dfun.map([Harm::None; 2]).wait().unwrap();
            let mut items = vec![Harm::None; 20];
            items[3] = what;
            let start = Instant::now();
            let error = dfun.map(items).wait().unwrap_err();
            let took = start.elapsed();
            assert!(matches!(error.failed[0].cause, FailureCause::TimedOut { limit: TIMEOUT }), "{error}");
            assert_eq!((error.failed.len(), error.failed[0].index, error.finished().len()), (1, 3, 19));
            assert!(took >= TIMEOUT && took < TIMEOUT + Duration::from_millis(100), "{took:?}");
            assert_eq!(dfun.map([Harm::None; 10]).wait().unwrap(), [7; 10]);
        });
    }
}

/// Nobody said how long an item may take, but a stopped process does nothing at all.
#[test]
fn a_process_that_is_stopped_is_replaced_without_a_limit() {
    within(|| {
        let dfun = distribute!(harm).slots(1).isolation(Isolation::Process).build().unwrap();
        let error = dfun.map([Harm::None, Harm::Freeze]).wait().unwrap_err();
        assert_eq!((error.failed.len(), error.finished().len()), (1, 1));
        assert!(error.to_string().contains("SIGSTOP"), "{error}");
    });
}

/// Each costs a process, but none is held against its slot.
#[test]
fn many_items_that_hang_do_not_use_up_the_slots() {
    for place in [Place::Processes, Place::Node] {
        within(move || {
            let dfun = place.of(distribute!(harm), 2).item_timeout(Duration::from_millis(50));
            let error = dfun.build().unwrap().map([Harm::Hang; 24]).wait().unwrap_err();
            assert_eq!((error.ending, error.failed.len()), (Ending::ItemsFailed, 24));
            assert!(error.failed.iter().all(|failure| failure.cause.error_type() == "item_timeout"), "{error}");
        });
    }
}

#[test]
fn a_call_that_nobody_waits_for_frees_its_slot_though_its_item_hangs() {
    within(|| {
        let dfun = distribute!(harm).slots(1).isolation(Isolation::Process).endaftercall(false).build().unwrap();
        for _ in 0..7 {
            let call = dfun.map([Harm::Hang]);
            std::thread::sleep(Duration::from_millis(30));
            drop(call);
            assert_eq!(dfun.map([Harm::None]).wait().unwrap(), [7]);
        }
        let start = Instant::now();
        let error = dfun.map([Harm::Hang]).wait_timeout(Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.ending, Ending::TimedOut);
        assert_eq!(dfun.map([Harm::None]).wait().unwrap(), [7]);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    });
}

#[test]
fn a_function_is_told_that_its_call_has_ended() {
    fn patient(x: u32, context: &distfun::Context) -> u32 {
        while x > 0 && !context.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut runs = context.slot_state(|| 0);
        *runs += 1;
        *runs
    }
    within(|| {
        let dfun = distribute!(patient).slots(1).isolation(Isolation::Process).endaftercall(false).build().unwrap();
        let call = dfun.map([1u32]);
        std::thread::sleep(Duration::from_millis(50));
        drop(call);
        // Had it been killed, its state would be new.
        eventually(END_WITHIN, "the slot is free", || dfun.map([0u32]).wait().unwrap() == [2]);
    });
}

#[test]
fn a_limit_for_items_on_threads_is_refused() {
    let error = distribute!(harm).item_timeout(TIMEOUT).build().err();
    let Some(BuildError::Settings(SettingsError::TimeoutOnThreads { by })) = error else { panic!("{error:?}") };
    assert_eq!(by, ".item_timeout()");
}
