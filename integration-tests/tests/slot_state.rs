//! What functions keep on their slots between items.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use distfun::{Context, distribute, distribute_local, fault::kill_this_thread};

use crate::support::{LIMIT, eventually, within};

/// Counts the models that are open, and knows its thread. Neither `Send` nor `Clone`.
struct Model {
    open: Arc<AtomicUsize>,
    thread: ThreadId,
    _not_send: std::rc::Rc<()>,
}

impl Model {
    fn open(made: &AtomicUsize, open: &Arc<AtomicUsize>) -> Self {
        made.fetch_add(1, Ordering::SeqCst);
        open.fetch_add(1, Ordering::SeqCst);
        Self { open: open.clone(), thread: thread::current().id(), _not_send: std::rc::Rc::new(()) }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        assert_eq!(self.thread, thread::current().id(), "it ends where it was made");
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn a_state_is_made_once_per_slot_and_dropped_at_the_end() {
    let (made, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let threads = Arc::new(Mutex::new(HashSet::new()));
    let (made_there, open_there, threads_there) = (made.clone(), open.clone(), threads.clone());
    let score = move |x: u32, context: &Context<'_>| {
        let model = context.slot_state(|| Model::open(&made_there, &open_there));
        threads_there.lock().unwrap().insert(model.thread);
        thread::sleep(Duration::from_micros(100));
        x + 1
    };
    let dfun = distribute_local(score).slots(3).endaftercall(false).build().unwrap();
    for _ in 0..3 {
        let results = within({
            let call = dfun.map(0..300);
            move || call.wait().unwrap()
        });
        assert_eq!(results, (1..301).collect::<Vec<_>>());
    }
    let slots = threads.lock().unwrap().len();
    assert!((1..=3).contains(&slots));
    assert_eq!((made.load(Ordering::SeqCst), open.load(Ordering::SeqCst)), (slots, slots));
    dfun.finished().unwrap();
    assert_eq!(open.load(Ordering::SeqCst), 0, "dropped by the time that everything has ended");
}

#[test]
fn a_state_ends_with_the_one_call_and_with_the_last_handle() {
    for ends in [true, false] {
        let (made, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let open_there = open.clone();
        let one = move |x: u32, context: &Context<'_>| {
            let _model = context.slot_state(|| Model::open(&made, &open_there));
            x
        };
        let dfun = distribute_local(one).slots(2).endaftercall(ends).build().unwrap();
        assert_eq!(dfun.map(0..100).wait().unwrap().len(), 100);
        if !ends {
            assert!(open.load(Ordering::SeqCst) > 0);
            drop(dfun);
        }
        eventually(LIMIT, "every model is closed", || open.load(Ordering::SeqCst) == 0);
    }
}

#[test]
fn a_replaced_thread_makes_its_state_anew_and_the_old_one_is_dropped() {
    let (made, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (made_there, open_there) = (made.clone(), open.clone());
    let dies_at_five = move |x: u32, context: &Context<'_>| {
        let _model = context.slot_state(|| Model::open(&made_there, &open_there));
        if x == 5 { kill_this_thread() } else { x }
    };
    let dfun = distribute_local(dies_at_five).slots(1).endaftercall(false).build().unwrap();
    let error = within({
        let call = dfun.map(0..10);
        move || call.wait().unwrap_err()
    });
    assert_eq!(error.finished().len(), 9);
    assert_eq!((made.load(Ordering::SeqCst), open.load(Ordering::SeqCst)), (2, 1));
    dfun.finished().unwrap();
    assert_eq!(open.load(Ordering::SeqCst), 0);
}

#[test]
fn a_state_that_an_item_left_in_pieces_is_made_anew() {
    let made = Arc::new(AtomicUsize::new(0));
    let counted = made.clone();
    let panics = move |x: u32, context: &Context<'_>| {
        let mut seen = context.slot_state(|| {
            counted.fetch_add(1, Ordering::SeqCst);
            Vec::new()
        });
        assert!(!seen.contains(&13), "the item after the panic sees a fresh state");
        seen.push(x);
        assert_ne!(x, 13);
        x
    };
    let dfun = distribute_local(panics).slots(1).build().unwrap();
    let error = dfun.map(0..20).wait().unwrap_err();
    assert_eq!(error.failed().iter().map(|failure| failure.index).collect::<Vec<_>>(), [13]);
    assert_eq!(made.load(Ordering::SeqCst), 2);
}

#[test]
fn a_call_in_the_calling_thread_makes_its_own_and_nested_calls_use_the_slots() {
    fn inner(x: u32, context: &Context<'_>) -> u32 {
        let mut count = context.slot_state(|| 0);
        *count += 1;
        x + *count
    }
    let alone = distribute!(inner).sequential(true).endaftercall(false).build().unwrap();
    for _ in 0..2 {
        assert_eq!(alone.map([0, 0, 0]).wait().unwrap(), [1, 2, 3]);
    }
    let outer = move |x: u32| distribute!(inner).build().unwrap().map([x, x]).wait().unwrap();
    let nested = distribute_local(outer).slots(1).build().unwrap().map([0, 0]).wait().unwrap();
    assert_eq!(nested, [[1, 2], [3, 4]], "the state of the one slot");
}

#[test]
fn a_state_that_panics_while_it_is_dropped_costs_nothing() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    let one = |x: u32, context: &Context<'_>| {
        let _bad = context.slot_state(|| Bad);
        x
    };
    let dfun = distribute_local(one).slots(2).endaftercall(false).build().unwrap();
    assert_eq!(dfun.map(0..10).wait().unwrap().len(), 10);
    within(move || dfun.finished().unwrap());
}

#[test]
fn a_broken_state_that_panics_while_it_is_dropped_fails_no_other_item_and_keeps_no_other_state() {
    crate::support::alone(|| {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }
        let open = Arc::new(AtomicUsize::new(0));
        let (counted, made) = (open.clone(), AtomicUsize::new(0));
        let one = move |x: u32, context: &Context<'_>| {
            let _models = (
                context.slot_state(|| Model::open(&made, &counted)),
                context.slot_state(|| [Model::open(&made, &counted)]),
                context.slot_state(|| [(); 2].map(|()| Model::open(&made, &counted))),
            );
            let _bad = context.slot_state(|| if x == 4 { panic!("no state") } else { Bad });
            assert_ne!(x, 3);
            x
        };
        let dfun = distribute_local(one).slots(1).endaftercall(false).build().unwrap();
        let error = dfun.map(0..10).wait().unwrap_err();
        assert_eq!(error.failed().iter().map(|failure| failure.index).collect::<Vec<_>>(), [3, 4]);
        dfun.finished().unwrap();
        assert_eq!(open.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn other_shared_data_means_another_state() {
    fn scaled(x: f64, context: &Context<'_>) -> f64 {
        let factor = context.slot_state(|| *context.shared().value::<f64>("factor").unwrap());
        x * *factor
    }
    let by = |factor: f64| distfun::SharedData::builder().value("factor", &factor).unwrap().build().unwrap();
    let dfun = distribute!(scaled).shared_data(by(2.0)).slots(1).endaftercall(false).build().unwrap();
    assert_eq!(dfun.map([1.0, 2.0]).wait().unwrap(), [2.0, 4.0]);
    assert_eq!(dfun.with_shared(by(10.0)).map([1.0, 2.0]).wait().unwrap(), [10.0, 20.0]);
    assert_eq!(dfun.map([1.0]).wait().unwrap(), [2.0]);
}
