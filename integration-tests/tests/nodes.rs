//! Other machines: nodes in this process and in others, reached over loopback.

mod bad_input;
mod hostile;
mod lifecycle;
mod log;
mod loss;
mod membership;
mod peer;
mod shared;

use std::{collections::BTreeSet, time::Duration};

use distfun::{
    Error,
    node::{self, NodeConfig, NodeHandle},
    prelude::*,
};
use ndarray::{Array1, Array2, ArrayView2, Axis, ShapeBuilder};
use serde::{Deserialize, Serialize};

use crate::support::dir_of_process;

/// A node of `slots` slots that offers what these tests use.
pub(crate) fn start(slots: usize) -> NodeHandle {
    node::start(offering(slots)).expect("a node starts")
}

pub(crate) fn offering(slots: usize) -> NodeConfig {
    node::config()
        .listen("127.0.0.1:0")
        .slots(slots)
        .cache(dir_of_process("cache"))
        .as_another_process()
        .offer(function!(square))
        .offer(function!(word))
        .offer(function!(length))
        .offer(function!(sums))
        .offer(function!(table))
        .offer(function!(doubled))
        .offer(function!(indexed))
        .offer(function!(odd_panics))
        .offer(function!(halve))
        .offer(function!(double_all))
        .offer(function!(slow))
        .offer(function!(nap))
        .offer(function!(whole))
        .offer(function!(short_lists))
        .offer(function!(moody))
        .offer(function!(mood))
        .offer(function!(scaled))
        .offer(function!(blank))
        .offer(function!(long_text))
}

fn square(x: f64) -> f64 {
    x * x
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Word {
    text: String,
    count: u32,
}

fn word(word: Word) -> Word {
    Word { count: word.count + 1, text: word.text.to_uppercase() }
}

#[allow(clippy::ptr_arg, reason = "a function of a reference to a sized item")]
fn length(text: &String) -> usize {
    text.len()
}

fn sums(x: ArrayView2<f64>) -> Array1<f64> {
    x.sum_axis(Axis(0))
}

fn table(x: ArrayView2<f64>) -> Array2<f64> {
    &x * 2.0
}

fn doubled(x: Array1<f64>) -> Array1<f64> {
    x * 2.0
}

fn indexed(x: u64, context: &Context) -> (u64, u64) {
    use rand::RngExt;
    (context.index() as u64 + x, context.rng().random_range(0..1000))
}

fn odd_panics(x: u32) -> u32 {
    assert!(x.is_multiple_of(2), "{x} is odd");
    x / 2
}

fn halve(x: u32) -> Result<u32, String> {
    if x.is_multiple_of(2) { Ok(x / 2) } else { Err(format!("{x} is odd")) }
}

fn double_all(items: Vec<u32>) -> Vec<u32> {
    items.iter().map(|x| 2 * x).collect()
}

fn slow(x: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(x));
    x
}

fn whole(text: String) -> String {
    text
}

fn short_lists(items: Vec<u32>) -> Vec<u32> {
    items[1..].to_vec()
}

fn moody(item: Moody) -> Moody {
    item
}

fn mood(x: u32) -> Moody {
    match x {
        8 => Moody::PanicsWhenRead,
        18 => Moody::FailsWhenRead,
        x => Moody::Well(x),
    }
}

fn scaled(x: f64, shared: &SharedData) -> f64 {
    let weights: ndarray::ArrayView1<f64> = shared.array("weights").expect("weights");
    x * weights.sum()
}

fn blank(_: ()) {}

fn long_text(x: u64) -> u64 {
    panic!("{x}{}", "x".repeat(20_000))
}

/// Its serde does what it is told to.
#[derive(Debug, Clone, PartialEq)]
enum Moody {
    Well(u32),
    PanicsWhenWritten,
    FailsWhenWritten,
    PanicsWhenRead,
    FailsWhenRead,
}

impl Serialize for Moody {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::PanicsWhenWritten => panic!("written"),
            Self::FailsWhenWritten => Err(serde::ser::Error::custom("not to be written")),
            Self::PanicsWhenRead => serializer.serialize_u32(u32::MAX),
            Self::FailsWhenRead => serializer.serialize_u32(u32::MAX - 1),
            Self::Well(x) => serializer.serialize_u32(*x),
        }
    }
}

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            u32::MAX => panic!("read"),
            0xffff_fffe => Err(serde::de::Error::custom("not to be read")),
            x => Ok(Self::Well(x)),
        }
    }
}

fn nap(x: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(2));
    x + 1
}

/// Not a test: what the process of a [`NodeProcess`](crate::support::NodeProcess) runs.
#[test]
fn is_a_node() {
    if let Some((slots, port)) = crate::support::node_to_be() {
        std::thread::spawn(|| {
            // Whoever started it holds the other end, and may be killed.
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(9);
        });
        let mut config = offering(slots).listen(format!("127.0.0.1:{port}"));
        if let Some(dir) = std::env::var_os("DISTFUN_CACHE") {
            config = config.cache(dir);
        }
        node::serve(config).expect("it serves");
        std::process::exit(0);
    }
}

#[test]
fn a_list_runs_on_a_node_alone() -> Result<(), Error> {
    let node = start(2);
    let squares = distribute!(square).max_cpu(0).machines([node.address()]).build()?;
    let items: Vec<f64> = (0..10_000).map(f64::from).collect();
    let expected: Vec<f64> = items.iter().map(|x| x * x).collect();
    assert_eq!(squares.map(items).wait()?, expected);
    Ok(())
}

#[test]
fn every_kind_of_function_gives_what_the_loop_gives() -> Result<(), Error> {
    let nodes = [start(1), start(2)];
    let machines = || nodes.iter().map(|node| node.address().to_owned());
    for cpus in [0, 2] {
        let words: Vec<Word> = (0..500).map(|count| Word { text: format!("word {count}"), count }).collect();
        let dfun = distribute!(word).max_cpu(cpus).machines(machines()).build()?;
        assert_eq!(dfun.map(words.clone()).wait()?, words.iter().cloned().map(word).collect::<Vec<_>>());

        let texts: Vec<String> = (0..2000).map(|n| "x".repeat(n % 50)).collect();
        let dfun = distribute!(length).max_cpu(cpus).machines(machines()).build()?;
        assert_eq!(dfun.map(&texts).wait()?, texts.iter().map(length).collect::<Vec<_>>());

        let arrays: Vec<Array1<f64>> = (0..40).map(|n| Array1::from_elem(n * 1000, n as f64)).collect();
        let dfun = distribute!(doubled).max_cpu(cpus).machines(machines()).build()?;
        assert_eq!(dfun.map(arrays.clone()).wait()?, arrays.into_iter().map(doubled).collect::<Vec<_>>());

        for x in [
            Array2::from_shape_fn((7, 333), |(i, j)| (i * j) as f64),
            Array2::from_shape_fn((7, 333).f(), |(i, j)| (i + j) as f64),
        ] {
            let dfun = distribute!(sums).max_cpu(cpus).machines(machines()).build()?;
            assert_eq!(dfun.columns(&x).wait()?, sums(x.view()));
            let dfun = distribute!(table).max_cpu(cpus).machines(machines()).build()?;
            assert_eq!(dfun.columns(x.clone()).wait()?, table(x.view()));
        }

        let dfun = distribute!(double_all).accept_lists().max_cpu(cpus).machines(machines()).build()?;
        assert_eq!(dfun.map(0..1000).wait()?, double_all((0..1000).collect()));

        let dfun = distribute!(indexed).seed(3).max_cpu(cpus).machines(machines()).build()?;
        let here = distribute!(indexed).seed(3).build()?.map(0..3000).wait()?;
        assert_eq!(dfun.map(0..3000).wait()?, here);
    }
    Ok(())
}

#[test]
fn failures_name_the_item_and_the_machine() -> Result<(), Error> {
    let node = start(2);
    let dfun = distribute!(odd_panics).max_cpu(0).machines([node.address()]).build()?;
    let error = dfun.map(0..100).wait().unwrap_err();
    let failed: BTreeSet<usize> = error.failed().iter().map(|failure| failure.index).collect();
    assert_eq!(failed, (0..100).filter(|x| x % 2 == 1).collect());
    let first = error.failed()[0].to_string();
    assert!(first.contains("item 1 on worker") && first.contains(node.address()), "{first}");
    assert!(first.contains("1 is odd") && first.contains("nodes.rs:"), "{first}");
    assert_eq!(error.finished().len(), 50);
    assert_eq!(error.finished()[3], (6, 3));

    let dfun = distribute!(halve).max_cpu(0).machines([node.address()]).build()?;
    let error = dfun.try_map([2, 4, 5, 6, 7]).wait().unwrap_err();
    assert_eq!(error.failed()[0].index, 2);
    assert!(error.to_string().ends_with("returned an error: 5 is odd"), "{error}");
    Ok(())
}
