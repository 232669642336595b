//! What is measured, beside what: each case runs distfun or its baseline once and returns the time of the part that
//! counts. Set-up and the dropping of results stay outside of it.
#![allow(dead_code, reason = "criterion reads fewer fields")]

#[cfg(feature = "cuda")]
mod cuda;
mod data;
#[cfg(feature = "wgpu")]
mod gpu;
mod nodes;
pub(crate) mod peer;
mod processes;
mod tls;

use std::{
    cell::RefCell,
    hint::black_box,
    rc::Rc,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use distfun::{ColumnFunction, Distribute, DistributedFunction, Manager, ManagerHandle, prelude::*};
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut1, Axis, ShapeBuilder};
use rayon::prelude::*;
use tracing_subscriber::{Registry, filter::LevelFilter, prelude::*, reload};

pub(crate) const SLOTS: usize = 2;

/// A case, and what is owed: time of distfun / time of the baseline.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) owe: f64,
    /// Pairs to take the median of, at least.
    pub(crate) pairs: usize,
    pub(crate) ours: Box<dyn FnMut() -> Duration>,
    pub(crate) baseline: Box<dyn FnMut() -> Duration>,
    /// More to say about our runs, at the end.
    pub(crate) note: Option<Box<dyn Fn() -> String>>,
}

fn timed<R>(body: impl FnOnce() -> R) -> Duration {
    let start = Instant::now();
    let result = body();
    let took = start.elapsed();
    drop(black_box(result));
    took
}

/// Median of `count` calls in a row, after a few that wake everything up: what comes back to back.
fn burst(count: usize, mut call: impl FnMut() -> Duration) -> Duration {
    for _ in 0..count / 10 {
        call();
    }
    let mut times: Vec<Duration> = (0..count).map(|_| call()).collect();
    times.sort_unstable();
    times[count / 2]
}

fn warm<A: Send + 'static, R: Send + 'static, S: 'static>(
    builder: distfun::DistributeBuilder<distfun::ListKernel<A, R>, S>,
) -> DistributedFunction<A, R> {
    builder.slots(SLOTS).endaftercall(false).build().expect("valid options")
}

fn rayon_pool() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(SLOTS).build().expect("a pool")
}

fn square(x: u64) -> u64 {
    x.wrapping_mul(x).wrapping_add(1)
}

/// 10^7 tiny items in a vector, into a fresh vector.
pub(crate) fn tiny_items() -> Case {
    let distributed = warm(distribute!(square));
    let pool = rayon_pool();
    let input: Vec<u64> = (0..10_000_000).collect();
    let copy = input.clone();
    Case {
        name: "10^7 tiny items, against rayon into_par_iter",
        owe: 1.1,
        pairs: 51,
        ours: Box::new(move || {
            let items = input.clone();
            timed(|| distributed.map(items).wait().expect("no failures"))
        }),
        baseline: Box::new(move || {
            let items = copy.clone();
            timed(|| pool.install(|| items.into_par_iter().map(square).collect::<Vec<_>>()))
        }),
        note: None,
    }
}

/// The same with results into the buffer of the call before.
pub(crate) fn tiny_items_into() -> Case {
    let distributed = warm(distribute!(square));
    let pool = rayon_pool();
    let input: Vec<u64> = (0..10_000_000).collect();
    let copy = input.clone();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    Case {
        name: "the same with map_into, against rayon collect_into_vec",
        owe: 1.1,
        pairs: 51,
        ours: Box::new(move || timed(|| distributed.map_into(&input, &mut ours).wait().expect("no failures"))),
        baseline: Box::new(move || {
            timed(|| pool.install(|| copy.par_iter().map(|&x| square(x)).collect_into_vec(&mut theirs)))
        }),
        note: None,
    }
}

/// Computes for about `us` microseconds, always the same number of instructions; returns how long it took.
fn burn(us: u32) -> Duration {
    const ROUNDS_PER_US: u64 = 2250;
    timed(|| (0..u64::from(us) * ROUNDS_PER_US).fold(1, |x, i| black_box(x ^ i)))
}

/// Against the loop in one thread, shared out perfectly: the ratio is 1 / efficiency. Where two busy CPUs slow each other
/// down, that can't be reached by anybody; `by_threads` is what two bare threads reach that take items from one
/// counter. The note says which share of the slots' time was spent inside the function.
fn shared_out(name: &'static str, efficiency: f64, by_threads: bool, items: Vec<u32>) -> Case {
    let distributed = warm(distribute!(burn));
    let copy = items.clone();
    let shares = Rc::new(RefCell::new(Vec::new()));
    let notes = shares.clone();
    let loop_in_thread = move || timed(|| copy.iter().map(|&us| burn(us)).collect::<Vec<_>>()) / SLOTS as u32;
    let copy = items.clone();
    let loop_in_threads = move || {
        let next = AtomicUsize::new(0);
        let take = || {
            while let Some(&us) = copy.get(next.fetch_add(1, Ordering::Relaxed)) {
                black_box(burn(us));
            }
        };
        timed(|| std::thread::scope(|scope| (0..SLOTS).for_each(|_| drop(scope.spawn(take)))))
    };
    Case {
        name,
        owe: if by_threads { 1.0 } else { 1.0 / efficiency },
        pairs: 31,
        ours: Box::new(move || {
            let items = items.clone();
            let start = Instant::now();
            let took = distributed.map(items).wait().expect("no failures");
            let wall = start.elapsed();
            let busy: Duration = took.iter().sum();
            shares.borrow_mut().push(busy.as_secs_f64() / (SLOTS as f64 * wall.as_secs_f64()));
            wall
        }),
        baseline: if by_threads { Box::new(loop_in_threads) } else { Box::new(loop_in_thread) },
        note: Some(Box::new(move || {
            let mut shares = notes.borrow().clone();
            shares.sort_by(f64::total_cmp);
            format!(
                "{:.4} of the slots' time inside the function (median; owed {efficiency})",
                shares[shares.len() / 2]
            )
        })),
    }
}

/// 2 000 items of 1 ms.
pub(crate) fn balanced(by_threads: bool) -> Case {
    let name =
        if by_threads { "2 000 x 1 ms, against two bare threads" } else { "2 000 x 1 ms, against the loop's time / 2" };
    shared_out(name, 0.97, by_threads, vec![1000; 2000])
}

/// 200 items whose costs range over a factor of 100, in no order.
pub(crate) fn skewed(by_threads: bool) -> Case {
    let cost = |i: u32| 100 + (i.wrapping_mul(2_654_435_761) >> 8) % 100 * ((i * 7919) % 100);
    let name = if by_threads {
        "200 skewed items, against two bare threads"
    } else {
        "200 skewed items, against the loop's time / 2"
    };
    shared_out(name, 0.95, by_threads, (0..200).map(cost).collect())
}

/// Column sums; the arithmetic that both sides use.
fn sum_into(x: ArrayView2<'_, f64>, mut y: ArrayViewMut1<'_, f64>) {
    if x.t().is_standard_layout() {
        for (column, y) in x.columns().into_iter().zip(y.iter_mut()) {
            *y = column.sum();
        }
    } else {
        for row in x.rows() {
            y += &row;
        }
    }
}

fn sums(x: ArrayView2<'_, f64>) -> Array1<f64> {
    let mut y = Array1::zeros(x.ncols());
    sum_into(x, y.view_mut());
    y
}

/// Column sums of a 200 x 200 000 matrix, against two threads with half of the columns each.
pub(crate) fn column_sums(column_major: bool) -> Case {
    let shape = (200, 200_000).set_f(column_major);
    let x: &'static Array2<f64> =
        Box::leak(Box::new(Array2::from_shape_fn(shape, |(i, j)| ((i * 31 + j) % 17) as f64)));
    let distributed: ColumnFunction<f64, Array1<f64>> =
        distribute!(sums).slots(SLOTS).endaftercall(false).build().expect("valid options");
    let pool = rayon_pool();
    Case {
        name: if column_major {
            "column sums, F order, against the hand-written loop"
        } else {
            "column sums, C order, against the hand-written loop"
        },
        owe: 1.05,
        pairs: 51,
        ours: Box::new(move || timed(|| distributed.columns(x).wait().expect("no failures"))),
        baseline: Box::new(move || {
            timed(|| {
                let mut y = Array1::zeros(x.ncols());
                let half = x.ncols() / 2;
                let (left, right) = x.view().split_at(Axis(1), half);
                let (mut y_left, mut y_right) = y.view_mut().split_at(Axis(0), half);
                pool.install(|| {
                    rayon::join(|| sum_into(left, y_left.view_mut()), || sum_into(right, y_right.view_mut()))
                });
                y
            })
        }),
        note: None,
    }
}

/// Tiny calls on a warm pool back to back, from a thread that waits: medians of bursts.
pub(crate) fn tiny_call() -> Case {
    let distributed = warm(distribute!(square));
    let pool = rayon_pool();
    Case {
        name: "tiny calls back to back, against rayon install",
        owe: 0.5,
        pairs: 101,
        note: None,
        ours: Box::new(move || burst(200, || timed(|| distributed.map([3]).wait().expect("no failures")))),
        baseline: Box::new(move || burst(200, || timed(|| pool.install(|| vec![square(black_box(3))])))),
    }
}

/// One tiny call on a warm pool that has been idle for 5 ms.
pub(crate) fn tiny_call_idle() -> Case {
    let distributed = warm(distribute!(square));
    let pool = rayon_pool();
    let rest = || std::thread::sleep(Duration::from_millis(5));
    Case {
        name: "a tiny call after 5 ms idle, against rayon install",
        owe: 1.2,
        pairs: 501,
        ours: Box::new(move || {
            rest();
            timed(|| distributed.map([3]).wait().expect("no failures"))
        }),
        baseline: Box::new(move || {
            rest();
            timed(|| pool.install(|| vec![square(black_box(3))]))
        }),
        note: None,
    }
}

/// Switches the log of this process on, at this level, and off: JSON lines into a file. Off is as without a subscriber:
/// nobody listens at any level.
fn log(level: LevelFilter) {
    static FILTER: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();
    let filter = FILTER.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("distfun-bench-{}.ndjson", std::process::id()));
        let (layer, guard) = distfun::log::json().level(tracing::Level::DEBUG).file(&path).build().expect("a log");
        std::mem::forget(guard);
        let _ = std::fs::remove_file(path); // its space is freed with the process
        let (filter, handle) = reload::Layer::new(LevelFilter::OFF);
        tracing_subscriber::registry().with(layer.with_filter(filter)).init();
        handle
    });
    filter.modify(|filter| *filter = level).expect("the subscriber is there");
}

/// What a log costs: the same with it and without, in turn.
fn logged(
    name: &'static str,
    level: LevelFilter,
    owe: f64,
    pairs: usize,
    run: impl Fn() -> Duration + 'static,
) -> Case {
    let run = Rc::new(run);
    let with = |level: LevelFilter, run: &dyn Fn() -> Duration| {
        log(level);
        let took = run();
        log(LevelFilter::OFF);
        took
    };
    let same = run.clone();
    Case {
        name,
        owe,
        pairs,
        ours: Box::new(move || with(level, &*run)),
        baseline: Box::new(move || with(LevelFilter::OFF, &*same)),
        note: None,
    }
}

/// 2 000 items of 1 ms.
fn logged_millisecond_items(name: &'static str, level: LevelFilter, owe: f64) -> Case {
    let distributed = warm(distribute!(burn));
    let items = vec![1000; 2000];
    logged(name, level, owe, 31, move || {
        let items = items.clone();
        timed(|| distributed.map(items).wait().expect("no failures"))
    })
}

pub(crate) fn logged_items() -> Case {
    logged_millisecond_items("2 000 x 1 ms with a JSON log, against no subscriber", LevelFilter::INFO, 1.01)
}

pub(crate) fn logged_chunks() -> Case {
    logged_millisecond_items("the same with the log at DEBUG", LevelFilter::DEBUG, 1.05)
}

/// Two lines for each call, which are most of it.
pub(crate) fn logged_calls() -> Case {
    let distributed = warm(distribute!(square));
    logged("tiny calls with a JSON log, against no subscriber", LevelFilter::INFO, f64::INFINITY, 101, move || {
        burst(200, || timed(|| distributed.map([3]).wait().expect("no failures")))
    })
}

struct Echo;

impl distfun::actix::Actor for Echo {
    type Context = distfun::actix::Context<Self>;
}

struct Ping(u64);

impl distfun::actix::Message for Ping {
    type Result = Vec<u64>;
}

impl distfun::actix::Handler<Ping> for Echo {
    type Result = distfun::actix::MessageResult<Ping>;
    fn handle(&mut self, Ping(x): Ping, _: &mut Self::Context) -> Self::Result {
        distfun::actix::MessageResult(vec![square(x)])
    }
}

/// A `Distribute` message, against a bare round trip to an actor on a System thread of its own. Both are awaited on a
/// thread with a tokio runtime.
pub(crate) fn message() -> Case {
    use distfun::actix::Actor;
    let manager: ManagerHandle = Manager::builder().slots(SLOTS).start().expect("starts");
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runner = distfun::actix::System::new();
        let echo = runner.block_on(async { Echo.start() });
        sender.send(echo).expect("the bench waits");
        runner.run().expect("runs until the process ends");
    });
    let echo = receiver.recv().expect("the echo starts");
    let runtime = || tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (ours, theirs) = (runtime(), runtime());
    let function = function!(square);
    Case {
        name: "a Distribute message, against a bare actix round trip",
        owe: 1.3,
        pairs: 101,
        note: None,
        ours: Box::new(move || {
            burst(200, || {
                let message = Distribute::map(function.clone(), [3]);
                timed(|| ours.block_on(manager.send(message)).expect("answers").expect("no failures"))
            })
        }),
        baseline: Box::new(move || burst(200, || timed(|| theirs.block_on(echo.send(Ping(3))).expect("answers")))),
    }
}

/// From nothing to the first result, and everything freed again.
pub(crate) fn cold_start() -> Case {
    Case {
        name: "cold start to the first result, against a rayon pool's",
        owe: 2.5,
        pairs: 101,
        note: None,
        ours: Box::new(|| {
            let start = Instant::now();
            let distributed = warm(distribute!(square));
            black_box(distributed.map([3]).wait().expect("no failures"));
            let took = start.elapsed();
            distributed.finished().expect("ends");
            took
        }),
        baseline: Box::new(|| {
            let start = Instant::now();
            let pool = rayon_pool();
            black_box(pool.install(|| square(black_box(3))));
            start.elapsed()
        }),
    }
}

/// A case's short name, and how to set it up.
type Named = (&'static str, fn() -> Case);

pub(crate) fn all() -> Vec<Named> {
    let mut all = everywhere();
    #[cfg(feature = "cuda")]
    if distfun::gpu::all(false).iter().any(|gpu| gpu.apis.cuda.is_some()) {
        all.extend([("cuda_kernels", cuda::kernels as fn() -> Case), ("cuda_columns", cuda::columns)]);
    }
    #[cfg(feature = "wgpu")]
    if !distfun::gpu::all(true).is_empty() {
        all.extend([
            ("gpu_kernels", gpu::kernels as fn() -> Case),
            ("gpu_tiny", gpu::tiny),
            ("gpu_columns", gpu::columns),
        ]);
    }
    if tls::address().is_some() {
        all.extend([("tls_arrays", tls::arrays as fn() -> Case), ("tls_call", tls::call)]);
    }
    all
}

fn everywhere() -> Vec<Named> {
    vec![
        ("tiny_items", tiny_items),
        ("tiny_items_into", tiny_items_into),
        ("balanced", || balanced(false)),
        ("balanced_threads", || balanced(true)),
        ("skewed", || skewed(false)),
        ("skewed_threads", || skewed(true)),
        ("columns_c", || column_sums(false)),
        ("columns_f", || column_sums(true)),
        ("tiny_call", tiny_call),
        ("tiny_call_idle", tiny_call_idle),
        ("message", message),
        ("cold_start", cold_start),
        ("stream", data::stream),
        ("strided_sums", data::strided_sums),
        ("unchanged", data::unchanged),
        ("logged_items", logged_items),
        ("logged_chunks", logged_chunks),
        ("logged_calls", logged_calls),
        ("process_call", processes::call),
        ("process_arrays", processes::arrays),
        ("process_items", processes::items),
        ("process_start", processes::start),
        ("node_call", nodes::call),
        ("node_arrays", nodes::arrays),
        ("node_tiny_1e5", nodes::tiny_1e5),
        ("node_tiny_1e7", nodes::tiny_1e7),
        ("node_structs_1e5", nodes::structs_1e5),
        ("node_structs_1e7", nodes::structs_1e7),
        ("node_shared", nodes::shared),
        ("node_columns_c", || nodes::columns(false)),
        ("node_columns_f", || nodes::columns(true)),
    ]
}
