//! Slots in processes of their own.

use std::{cell::RefCell, rc::Rc, time::Duration};

use distfun::{DistributedFunction, Isolation, prelude::*};

use super::{
    Case, SLOTS,
    nodes::{ARRAY, COUNT, exchange, same},
    peer::{self, Header, Peer},
    square, timed, warm,
};

fn isolated<A: Send + 'static, R: Send + 'static>(
    builder: distfun::DistributeBuilder<distfun::ListKernel<A, R>>,
) -> DistributedFunction<A, R> {
    builder.slots(SLOTS).isolation(Isolation::Process).endaftercall(false).build().expect("valid options")
}

/// Times of our runs, for the note.
#[derive(Clone, Default)]
struct Times(Rc<RefCell<Vec<Duration>>>);

impl Times {
    fn note(&self, took: Duration) -> Duration {
        self.0.borrow_mut().push(took);
        took
    }

    fn median(&self) -> Duration {
        let mut all = self.0.borrow().clone();
        all.sort_unstable();
        all[all.len() / 2]
    }
}

/// Tiny calls back to back, against a message there and one back between two processes over TCP.
pub(crate) fn call() -> Case {
    let echo = Peer::echo();
    let distributed = isolated(distribute!(square));
    let runtime = peer::runtime();
    let stream = runtime.block_on(peer::connect(&echo.address));
    let header: Header = [8, 8];
    let times = Times::default();
    let seen = times.clone();
    Case {
        name: "a tiny call on process slots, against raw TCP ping-pong",
        owe: f64::INFINITY,
        pairs: 51,
        ours: Box::new(move || {
            seen.note(super::burst(200, || timed(|| distributed.map([3]).wait().expect("no failures"))))
        }),
        baseline: Box::new(move || {
            let _echo = &echo;
            let ping = async || {
                peer::write(&stream, bytemuck::bytes_of(&header), &[3; 8]).await.expect("the echo reads");
                peer::read(&stream, &mut [0; 24]).await.expect("the echo answers");
            };
            super::burst(200, || timed(|| runtime.block_on(ping())))
        }),
        note: Some(Box::new(move || format!("{:.1?} a call (median; owed 100 us)", times.median()))),
    }
}

/// 64 arrays of a megabyte there and back, against a loop over TCP in two processes.
pub(crate) fn arrays() -> Case {
    let echo = Peer::echo();
    let distributed = isolated(distribute!(same));
    let input: Vec<Vec<f64>> = (0..COUNT).map(|n| vec![n as f64; ARRAY]).collect();
    let copy = input.clone();
    let mut targets = vec![vec![0.0; ARRAY]; COUNT];
    let runtime = peer::runtime();
    let stream = runtime.block_on(peer::connect(&echo.address));
    let times = Times::default();
    let seen = times.clone();
    Case {
        name: "64 arrays of 1 MiB to process slots and back, against TCP by hand",
        owe: 1.0,
        pairs: 51,
        ours: Box::new(move || {
            let items = input.clone();
            seen.note(timed(|| distributed.map(items).wait().expect("no failures")))
        }),
        baseline: Box::new(move || {
            let (messages, _echo): (Vec<&[f64]>, _) = (copy.iter().map(Vec::as_slice).collect(), &echo);
            timed(|| runtime.block_on(exchange(&stream, &messages, &mut targets)))
        }),
        note: Some(Box::new(move || {
            let each_way = (COUNT * ARRAY * 8) as f64 / times.median().as_secs_f64() / 1e9;
            format!("{each_way:.2} GB/s each way (median; owed 3 in all, both ways {:.2})", 2.0 * each_way)
        })),
    }
}

/// Tiny items, against the same on threads.
pub(crate) fn items() -> Case {
    const COUNT: usize = 10_000_000;
    let (processes, threads) = (isolated(distribute!(square)), warm(distribute!(square)));
    let input: Vec<u64> = (0..COUNT as u64).collect();
    let copy = input.clone();
    let times = Times::default();
    let seen = times.clone();
    Case {
        name: "10^7 tiny items on process slots, against threads",
        owe: f64::INFINITY,
        pairs: 31,
        ours: Box::new(move || {
            let items = input.clone();
            seen.note(timed(|| processes.map(items).wait().expect("no failures")))
        }),
        baseline: Box::new(move || {
            let items = copy.clone();
            timed(|| threads.map(items).wait().expect("no failures"))
        }),
        note: Some(Box::new(move || {
            format!("{:.1} ns an item (median; owed 25)", times.median().as_secs_f64() * 1e9 / COUNT as f64)
        })),
    }
}

/// From nothing to a first result, against threads.
pub(crate) fn start() -> Case {
    let builder = |isolation| distribute!(square).slots(SLOTS).isolation(isolation);
    let first = move |isolation| {
        let distributed = builder(isolation).endaftercall(false).build().expect("valid options");
        let took = timed(|| distributed.map([1]).wait().expect("no failures"));
        distributed.finished().expect("all end");
        took
    };
    let times = Times::default();
    let seen = times.clone();
    Case {
        name: "start to first result on process slots, against threads",
        owe: f64::INFINITY,
        pairs: 51,
        ours: Box::new(move || seen.note(first(Isolation::Process))),
        baseline: Box::new(move || first(Isolation::Thread)),
        note: Some(Box::new(move || format!("{:.1?} (median; owed 10 ms)", times.median()))),
    }
}
