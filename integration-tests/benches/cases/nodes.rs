//! Other machines: a node in another process, reached over loopback TCP, with no slots here.

use std::{
    cell::{Cell, RefCell},
    hint::black_box,
    rc::Rc,
};

use distfun::{ColumnFunction, DistributedFunction, SharedData, prelude::*};
use ndarray::{Array1, Array2, ShapeBuilder};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::net::TcpStream;

use super::{
    Case,
    peer::{self, Header, Peer},
    square, sums, timed,
};

pub(super) fn at<A: Send + 'static, R: Send + 'static>(
    node: &Peer,
    builder: distfun::DistributeBuilder<distfun::ListKernel<A, R>>,
) -> DistributedFunction<A, R> {
    builder.max_cpu(0).machines([&node.address]).endaftercall(false).build().expect("valid options")
}

/// Gives an array back.
pub(crate) fn same(x: Vec<f64>) -> Vec<f64> {
    x
}

pub(super) const ARRAY: usize = (1 << 20) / size_of::<f64>();

/// Arrays that are on their way at once: what a node of two slots is given.
pub(super) const WINDOW: usize = 16;

/// Sends `messages` to an echo, each of which asks for as many bytes as its target has, with at most [`WINDOW`] on their
/// way.
pub(super) async fn exchange(stream: &TcpStream, messages: &[&[f64]], targets: &mut [Vec<f64>]) {
    let window = tokio::sync::Semaphore::new(WINDOW);
    let wanted: Vec<u64> = targets.iter().map(|target| 8 * target.len() as u64).collect();
    let writes = async {
        for (message, wanted) in messages.iter().zip(wanted) {
            window.acquire().await.expect("it stays open").forget();
            let body: &[u8] = bytemuck::cast_slice(message);
            let header: Header = [body.len() as u64, wanted];
            peer::write(stream, bytemuck::bytes_of(&header), body).await.expect("the echo reads");
        }
    };
    let reads = async {
        for target in targets {
            let mut header: Header = [0; 2];
            peer::read(stream, bytemuck::bytes_of_mut(&mut header)).await.expect("the echo answers");
            peer::read(stream, bytemuck::cast_slice_mut(target)).await.expect("the echo answers");
            window.add_permits(1);
        }
    };
    futures::future::join(writes, reads).await;
}

pub(super) const COUNT: usize = 64;

/// 64 arrays of a megabyte there and back, against a loop in two processes with as many on their way, vectored writes,
/// and targets that are there.
pub(crate) fn arrays() -> Case {
    let (node, echo) = (Peer::node(), Peer::echo());
    let distributed = at(&node, distribute!(same));
    let input: Vec<Vec<f64>> = (0..COUNT).map(|n| vec![n as f64; ARRAY]).collect();
    let copy = input.clone();
    let mut targets = vec![vec![0.0; ARRAY]; COUNT];
    let runtime = peer::runtime();
    let stream = runtime.block_on(peer::connect(&echo.address));
    Case {
        name: "64 arrays of 1 MiB to a node and back, against two processes by hand",
        owe: 1.0 / 0.85,
        pairs: 51,
        ours: Box::new(move || {
            let (items, _node) = (input.clone(), &node);
            timed(|| distributed.map(items).wait().expect("no failures"))
        }),
        baseline: Box::new(move || {
            let (messages, _echo): (Vec<&[f64]>, _) = (copy.iter().map(Vec::as_slice).collect(), &echo);
            timed(|| runtime.block_on(exchange(&stream, &messages, &mut targets)))
        }),
        note: None,
    }
}

/// A small struct, as users have them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sample(u32, f64);

pub(crate) fn scaled(Sample(n, x): Sample) -> Sample {
    Sample(n + 1, x * 2.0)
}

/// Encodes and decodes a list, in one thread.
fn there<T: Serialize + DeserializeOwned>(items: &[T]) -> Vec<T> {
    let bytes = postcard::to_stdvec(black_box(items)).expect("plain values");
    postcard::from_bytes(black_box(&bytes)).expect("as written")
}

/// Items of a few nanoseconds to a node and back, against postcard alone: items written and read, results written and
/// read.
fn tiny<T>(
    name: &'static str,
    owe: f64,
    pairs: usize,
    count: usize,
    make: fn(u32) -> T,
    f: fn(T) -> T,
    dfun: impl FnOnce(&Peer) -> DistributedFunction<T, T>,
) -> Case
where
    T: Serialize + DeserializeOwned + Clone + Send + 'static,
{
    let node = Peer::node();
    let distributed = dfun(&node);
    let input: Vec<T> = (0..count as u32).map(make).collect();
    let copy = input.clone();
    let rates = Rc::new(RefCell::new(Vec::new()));
    let seen = rates.clone();
    Case {
        name,
        owe,
        pairs,
        ours: Box::new(move || {
            let (items, _node) = (input.clone(), &node);
            let took = timed(|| distributed.map(items).wait().expect("no failures"));
            seen.borrow_mut().push(count as f64 / took.as_secs_f64() / 1e6);
            took
        }),
        baseline: Box::new(move || {
            let results: Vec<T> = copy.iter().cloned().map(f).collect();
            timed(|| (there(&copy), there(&results)))
        }),
        note: Some(Box::new(move || {
            let mut all: Vec<f64> = rates.borrow().clone();
            all.sort_by(f64::total_cmp);
            format!("{:.1} million items a second (median; owed 3)", all[all.len() / 2])
        })),
    }
}

pub(crate) fn tiny_1e5() -> Case {
    let dfun = |node: &Peer| at(node, distribute!(square));
    tiny("10^5 tiny items to a node, against postcard alone", f64::INFINITY, 101, 100_000, u64::from, square, dfun)
}

pub(crate) fn tiny_1e7() -> Case {
    let dfun = |node: &Peer| at(node, distribute!(square));
    tiny("10^7 tiny items to a node, against postcard alone", 2.0, 31, 10_000_000, u64::from, square, dfun)
}

fn sample(n: u32) -> Sample {
    Sample(n, f64::from(n))
}

pub(crate) fn structs_1e5() -> Case {
    let dfun = |node: &Peer| at(node, distribute!(scaled));
    tiny("10^5 small structs to a node, against postcard alone", f64::INFINITY, 101, 100_000, sample, scaled, dfun)
}

pub(crate) fn structs_1e7() -> Case {
    let dfun = |node: &Peer| at(node, distribute!(scaled));
    tiny("10^7 small structs to a node, against postcard alone", f64::INFINITY, 31, 10_000_000, sample, scaled, dfun)
}

/// Tiny calls back to back, against a message there and one back between two processes.
pub(crate) fn call() -> Case {
    let (node, echo) = (Peer::node(), Peer::echo());
    let distributed = at(&node, distribute!(square));
    let runtime = peer::runtime();
    let stream = runtime.block_on(peer::connect(&echo.address));
    let header: Header = [8, 8];
    Case {
        name: "a tiny call at a node back to back, against raw TCP ping-pong",
        owe: 2.0,
        pairs: 101,
        ours: Box::new(move || {
            let _node = &node;
            super::burst(200, || timed(|| distributed.map([3]).wait().expect("no failures")))
        }),
        baseline: Box::new(move || {
            let _echo = &echo;
            let ping = async || {
                peer::write(&stream, bytemuck::bytes_of(&header), &[3; 8]).await.expect("the echo reads");
                peer::read(&stream, &mut [0; 24]).await.expect("the echo answers");
            };
            super::burst(200, || timed(|| runtime.block_on(ping())))
        }),
        note: None,
    }
}

pub(crate) fn with_shared(x: u64, shared: &SharedData) -> u64 {
    x + shared.array::<f64, ndarray::Ix2>("x").map_or(0, |x| x.nrows() as u64)
}

/// What this process has written to sockets, files and pipes, in bytes.
fn written() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok())
}

/// One tiny call at a node that has its gigabyte of shared data, against one with none.
pub(crate) fn shared() -> Case {
    let node = Rc::new(Peer::node());
    let data = super::data::gigabyte();
    let bytes = 1u64 << 30;
    let without = at(&node, distribute!(square));
    without.map([1]).wait().expect("no failures");
    let with = at(&node, distribute!(with_shared).shared_data(data));
    let before = written();
    let first = timed(|| with.map([1]).wait().expect("no failures"));
    let sent = written().zip(before).map(|(after, before)| after - before);
    let (calls, later) = (Rc::new(Cell::new(0u64)), Rc::new(Cell::new(0u64)));
    let (counted, summed) = (calls.clone(), later.clone());
    let theirs = node.clone();
    Case {
        name: "a tiny call at a node that has its 1 GiB, against none",
        owe: 1.05,
        pairs: 51,
        ours: Box::new(move || {
            let (before, _node) = (written(), &node);
            let took = super::burst(200, || timed(|| with.map([1]).wait().expect("no failures")));
            counted.set(counted.get() + 220);
            summed.set(summed.get() + written().zip(before).map_or(0, |(after, before)| after - before));
            took
        }),
        baseline: Box::new(move || {
            let _node = &theirs;
            super::burst(200, || timed(|| without.map([1]).wait().expect("no failures")))
        }),
        note: Some(Box::new(move || {
            format!(
                "the first call took {first:.2?} ({:.2} GB/s, hashing included) and sent {sent:?} bytes; later ones {} each",
                bytes as f64 / first.as_secs_f64() / 1e9,
                later.get() / calls.get().max(1)
            )
        })),
    }
}

/// Column sums of a 200 x 200 000 matrix at a node, against sending as many bytes by hand, acknowledged.
pub(crate) fn columns(column_major: bool) -> Case {
    let (node, echo) = (Peer::node(), Peer::echo());
    let shape = (200, 200_000).set_f(column_major);
    let x: &'static Array2<f64> =
        Box::leak(Box::new(Array2::from_shape_fn(shape, |(i, j)| ((i * 31 + j) % 17) as f64)));
    let distributed: ColumnFunction<f64, Array1<f64>> =
        distribute!(sums).max_cpu(0).machines([&node.address]).endaftercall(false).build().expect("valid options");
    let runtime = peer::runtime();
    let stream = runtime.block_on(peer::connect(&echo.address));
    Case {
        name: if column_major {
            "column sums at a node, F order, against sending the matrix"
        } else {
            "column sums at a node, C order, against sending the matrix"
        },
        owe: f64::INFINITY,
        pairs: 31,
        ours: Box::new(move || {
            let _node = &node;
            timed(|| distributed.columns(x).wait().expect("no failures"))
        }),
        baseline: Box::new(move || {
            let _echo = &echo;
            let all = x.as_slice_memory_order().expect("it has no gaps");
            let messages: Vec<&[f64]> = all.chunks(ARRAY).collect();
            let mut targets = vec![Vec::new(); messages.len()];
            timed(|| runtime.block_on(exchange(&stream, &messages, &mut targets)))
        }),
        note: None,
    }
}
