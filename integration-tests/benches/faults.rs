//! How long it takes until a fault is made good: medians, and the 99th percentile of enough tries.
//!
//! `cargo bench -p distfun-benches --bench faults`; with `--quick`, a few tries only, to see that it runs. Linux only.

mod cases;

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use distfun::{
    Context, Distribute, FailureCause, Isolation, Manager, NodeState, SharedData, Status, function, prelude::*,
};
use futures::executor::block_on;
use ndarray::ArrayView1;

use cases::peer::{self, Peer};

fn main() -> std::process::ExitCode {
    peer::with_peers(faults)
}

fn faults() {
    let quick = std::env::args().any(|argument| argument == "--quick" || argument == "--test");
    let tries = if quick { 3 } else { 200 };
    println!("{:<74} {:>10} {:>10}  owed", "", "median", "99 %");
    row("an item that kills its process, among 20: until all else is there", "1 s", tries.min(31), killer);
    row("a process is killed: until its item runs elsewhere", "50 ms", tries, || killed_process(2));
    row("a process is killed: until its slot computes again", "250 ms", tries, || killed_process(1));
    row("an item hangs: until it is stopped, beyond its limit", "100 ms", tries.min(31), overdue);
    row("a node is killed: until its item runs elsewhere", "500 ms", tries.min(100), killed_node);
    row("one of two workers is killed half-way: beyond the same without", "0.1 s", tries.min(15), half_time);
    row("a program is sent to a node: until its first result", "0.5 s", tries.min(31), || shipped(true));
    row("the same when the node has it", "50 ms", tries.min(31), || shipped(false));
    let size = fs::metadata("/proc/self/exe").map_or(0, |metadata| metadata.len());
    println!("  this program has {:.1} MB", size as f64 / 1e6);
    memory(if quick { 64 } else { 1024 });
}

fn row(name: &str, owed: &str, tries: usize, mut one: impl FnMut() -> Duration) {
    let mut all: Vec<Duration> = (0..tries).map(|_| one()).collect();
    all.sort_unstable();
    let at = |share: f64| format!("{:.1?}", all[((all.len() - 1) as f64 * share).round() as usize]);
    println!("{name:<74} {:>10} {:>10}  {owed}", at(0.5), at(0.99));
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// Where an item notes which process runs it.
fn note() -> PathBuf {
    std::env::temp_dir().join(format!("distfun-bench-item-{}", std::env::var("BENCH_NOTE").unwrap_or_default()))
}

/// When the last try of it began; it takes a while.
fn stamped(path: String) -> f64 {
    let began = now();
    fs::write(&path, std::process::id().to_string()).expect("a file");
    thread::sleep(Duration::from_millis(40));
    began
}

/// Waits until an item runs, and says in which process.
fn await_item(path: &PathBuf) -> u32 {
    let start = Instant::now();
    loop {
        if let Some(pid) = fs::read_to_string(path).ok().and_then(|text| text.parse().ok()) {
            let _ = fs::remove_file(path);
            return pid;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "the item runs");
        thread::sleep(Duration::from_micros(200));
    }
}

fn kill(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill is there");
    assert!(status.success());
}

fn isolated(slots: usize) -> distfun::DistributedFunction<String, f64> {
    distribute!(stamped).slots(slots).isolation(Isolation::Process).endaftercall(false).build().expect("valid options")
}

fn suicidal(x: u32) -> u32 {
    if x == 7 {
        kill(std::process::id());
    }
    x
}

fn killer() -> Duration {
    let dfun = distribute!(suicidal).slots(cases::SLOTS).isolation(Isolation::Process).build().expect("valid options");
    let start = Instant::now();
    let error = dfun.map(0..20u32).wait().expect_err("one has no result");
    assert_eq!(error.finished().len(), 19);
    assert!(matches!(error.failed[0].cause, FailureCause::Poisoned { .. }));
    start.elapsed()
}

/// With one slot it is the slot's next process that runs the item.
fn killed_process(slots: usize) -> Duration {
    let dfun = isolated(slots);
    let path = note();
    let call = dfun.map([path.display().to_string()]);
    let pid = await_item(&path);
    let at = now();
    kill(pid);
    let began = call.wait().expect("it is redone")[0];
    let _ = fs::remove_file(&path);
    dfun.finished().expect("all end");
    Duration::from_secs_f64((began - at).max(0.0))
}

fn hangs(x: u32) -> u32 {
    if x == 1 {
        loop {
            std::hint::spin_loop();
        }
    }
    x
}

fn overdue() -> Duration {
    const LIMIT: Duration = Duration::from_millis(200);
    let dfun = distribute!(hangs).slots(1).isolation(Isolation::Process).item_timeout(LIMIT).endaftercall(false);
    let dfun = dfun.build().expect("valid options");
    dfun.map([0u32]).wait().expect("no failures");
    let start = Instant::now();
    dfun.map([1u32]).wait().expect_err("it is stopped");
    start.elapsed().saturating_sub(LIMIT)
}

fn killed_node() -> Duration {
    let node = Peer::daemon();
    let manager = Manager::builder().slots(1).machines([&node.address]).start().expect("it starts");
    let is_up = || block_on(manager.send(Status)).expect("a status").nodes.iter().any(|it| it.state == NodeState::Up);
    while !is_up() {
        thread::sleep(Duration::from_millis(1));
    }
    // The slot here has the first of them, and the node the second.
    let paths = [0, 1].map(|number| note().with_extension(number.to_string()));
    let call =
        manager.call(Distribute::map(function!(stamped), paths.each_ref().map(|path| path.display().to_string())));
    let own = std::process::id();
    let far = await_item(&paths[1]);
    assert_ne!(far, own, "the node has it");
    thread::sleep(Duration::from_millis(10));
    let at = now();
    drop(node); // kills it
    let began = call.wait().expect("it is redone")[1];
    paths.iter().for_each(|path| drop(fs::remove_file(path)));
    // The slot here may have been busy with its own item, which is no time of ours.
    Duration::from_secs_f64((began - at).max(0.0))
}

fn millisecond(x: u64) -> u64 {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1) {
        std::hint::spin_loop();
    }
    x
}

fn half_time() -> Duration {
    const ITEMS: u64 = 1000;
    let run = |kills: bool| {
        let dfun = distribute!(millisecond).slots(2).isolation(Isolation::Process).endaftercall(false);
        let dfun = dfun.build().expect("valid options");
        dfun.map(0..20u64).wait().expect("no failures");
        let hosts = hosts();
        let start = Instant::now();
        let call = dfun.map(0..ITEMS);
        if kills {
            thread::sleep(Duration::from_millis(ITEMS / 4));
            kill(hosts[0]);
        }
        call.wait().expect("no failures");
        start.elapsed()
    };
    let without = run(false);
    run(true).saturating_sub(without)
}

/// Processes of slots.
fn hosts() -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is there").flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let all = lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>());
    let is_host = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with("distfun-worker"))
    };
    all.filter(is_host).collect()
}

/// With a node that has just started, and an empty cache or a full one.
fn shipped(is_new: bool) -> Duration {
    let cache = PathBuf::from(std::env::var_os("DISTFUN_CACHE").expect("a place of its own"));
    if is_new {
        let _ = fs::remove_dir_all(&cache);
    }
    let node = Peer::daemon();
    let start = Instant::now();
    let dfun = distribute!(hangs).max_cpu(0).machines([&node.address]).build().expect("valid options");
    assert_eq!(dfun.map([2u32]).wait().expect("no failures"), [2]);
    start.elapsed()
}

fn looked(_: u32, context: &Context) -> f64 {
    let x: ArrayView1<f64> = context.shared().array("x").expect("it is there");
    x.sum()
}

/// What a process has in memory, pages that others have too in equal shares, in bytes.
fn pss(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// A large array that two processes read.
fn memory(mebibytes: usize) {
    let before = pss(std::process::id());
    let count = mebibytes << 17;
    let shared = SharedData::builder().array_with("x", count, |mut x| x.fill(1.0)).and_then(|it| it.build());
    let dfun = distribute!(looked).shared_data(shared.expect("there is room")).slots(2).isolation(Isolation::Process);
    let dfun = dfun.endaftercall(false).build().expect("valid options");
    assert_eq!(dfun.map(0..4u32).wait().expect("no failures"), [count as f64; 4]);
    let all: u64 = hosts().into_iter().chain([std::process::id()]).map(pss).sum();
    println!(
        "{mebibytes} MiB of shared data read by two processes: {:.3} of its size in memory, all three processes (owed 1.02)",
        (all - before) as f64 / (mebibytes as u64 * (1 << 20)) as f64
    );
}
