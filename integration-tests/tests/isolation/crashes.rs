//! What ends a process is blamed on the item that ran, and on no other.

use std::time::{Duration, Instant};

use distfun::{DistributedFunction, FailureCause, distribute};
use ndarray::{Array1, Array2, ArrayView2, Axis};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    Place,
    harm::{Harm, harm},
    hosts,
};
use crate::support::{alone, within};

fn isolated(place: Place, slots: usize) -> DistributedFunction<Harm, u32> {
    place.of(distribute!(harm), slots).endaftercall(false).build().unwrap()
}

/// Both have processes.
const PLACES: [Place; 2] = [Place::Processes, Place::Node];

/// One item does this among 20; says how it failed, after all others had their results.
fn one_of_twenty(place: Place, slots: usize, at: usize, what: Harm) -> FailureCause {
    within(move || {
        let dfun = isolated(place, slots);
        let mut items = vec![Harm::None; 20];
        items[at] = what;
        let start = Instant::now();
        let error = dfun.map(items.clone()).wait().unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(1), "{what:?}: {:?}", start.elapsed());
        let rest: Vec<_> = (0..20).filter(|index| *index != at).map(|index| (index, 7)).collect();
        assert_eq!(*error.finished(), rest, "{what:?}");
        assert_eq!((error.failed.len(), error.failed[0].index), (1, at), "{what:?}");
        // The slots are whole again.
        assert_eq!(dfun.map(vec![Harm::None; 50]).wait().unwrap(), [7; 50]);
        error.failed[0].cause.clone()
    })
}

#[test]
fn whatever_ends_its_process_poisons_one_item_and_no_other() {
    for (what, signal, words) in [
        (Harm::Abort, Some(6), "SIGABRT"),
        (Harm::Exit(0), None, "code 0"),
        (Harm::Exit(3), None, "code 3"),
        (Harm::NullWrite, Some(11), "SIGSEGV"),
        (Harm::StackOverflow, Some(6), "has overflowed its stack"),
        (Harm::Kill, Some(9), "SIGKILL"),
    ] {
        let cases = [(1, 0), (2, 7), (3, 19)].map(|(slots, at)| (Place::Processes, slots, at));
        for (place, slots, at) in cases.into_iter().chain([(Place::Node, 2, 4)]) {
            let cause = one_of_twenty(place, slots, at, what);
            let FailureCause::Poisoned { deaths: 3, exit: Some(exit) } = &cause else { panic!("{what:?}: {cause}") };
            assert_eq!(exit.signal, signal, "{cause}");
            assert!(cause.to_string().contains(words), "{cause}");
        }
    }
}

/// The standard library notices some of them and aborts; others are noticed by us.
#[test]
fn a_function_that_closes_all_descriptors_is_blamed() {
    let cause = one_of_twenty(Place::Processes, 2, 4, Harm::CloseAll);
    assert!(matches!(cause, FailureCause::Poisoned { deaths: 3, .. }), "{cause}");
}

/// What is wrong with a result may show only when it is written down.
#[test]
fn a_result_that_kills_when_it_is_written_down_is_blamed() {
    #[derive(Debug, serde::Deserialize)]
    struct Grenade(u32);
    impl serde::Serialize for Grenade {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0 == 77 {
                std::process::abort()
            }
            self.0.serialize(serializer)
        }
    }
    for place in PLACES {
        within(move || {
            let dfun = place.of(distribute!(|x: u32| Grenade(x)), 2).build().unwrap();
            let error = dfun.map(0..100u32).wait().unwrap_err();
            assert_eq!((error.failed.len(), error.failed[0].index, error.finished().len()), (1, 77, 99));
        });
    }
}

#[test]
fn what_a_process_survives_is_no_death() {
    for place in PLACES {
        assert!(matches!(one_of_twenty(place, 2, 5, Harm::Panic), FailureCause::Panicked { .. }));
        within(move || {
            let dfun = isolated(place, 1);
            let items = [Harm::CloseDescriptors, Harm::None, Harm::LeaveChild, Harm::None];
            assert_eq!(dfun.map(items).wait().unwrap(), [7; 4]);
        });
    }
}

#[test]
fn a_poisoned_item_in_ten_thousand_costs_no_other_its_result() {
    fn fragile(x: u32) -> u32 {
        if x == 7777 { std::process::abort() } else { x + 1 }
    }
    for place in PLACES {
        within(move || {
            let dfun = place.of(distribute!(fragile), 2).build().unwrap();
            let error = dfun.map(0..10_000u32).wait().unwrap_err();
            assert_eq!((error.failed.len(), error.failed[0].index, error.finished().len()), (1, 7777, 9999));
        });
    }
}

/// Sums of columns, of which one kills.
fn fragile_sums(x: ArrayView2<f64>) -> Array1<f64> {
    if x.iter().any(|x| *x == -1.0) {
        std::process::abort()
    }
    x.sum_axis(Axis(0))
}

/// Nobody can know which column of a block it was; the block is halved.
#[test]
fn a_column_that_kills_is_found_in_its_block() {
    for place in PLACES {
        within(move || {
            let mut x = Array2::from_elem((3, 40), 2.0);
            x[(1, 23)] = -1.0;
            let dfun = place.of(distribute!(fragile_sums), 2).build().unwrap();
            let error = dfun.columns(&x).wait().unwrap_err();
            assert_eq!((error.failed.len(), error.failed[0].index, error.finished_count), (1, 23, 39));
            assert!(matches!(error.failed[0].cause, FailureCause::Poisoned { deaths: 3, .. }), "{error}");
        });
    }
}

/// Each death halves the block; the only slot was given up before the column was found.
#[test]
fn the_first_of_many_columns_is_found_by_one_slot() {
    for place in PLACES {
        within(move || {
            let mut x = Array2::from_elem((2, 512), 2.0);
            x[(0, 0)] = -1.0;
            let dfun = place.of(distribute!(fragile_sums), 1).build().unwrap();
            let error = dfun.columns(&x).wait().unwrap_err();
            assert_eq!((error.failed.len(), error.failed[0].index, error.finished_count), (1, 0, 511), "{error}");
        });
    }
}

#[test]
fn a_process_that_is_killed_from_outside_costs_nothing() {
    alone(|| {
        let dfun = isolated(Place::Processes, 2);
        dfun.map([Harm::None; 2]).wait().unwrap();
        for _ in 0..20 {
            let call = dfun.map(vec![Harm::None; 2000]);
            for pid in hosts() {
                let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
            }
            assert_eq!(call.wait().unwrap(), [7; 2000]);
        }
    });
}
