//! The storm itself: nodes, a Manager, callers and faults; then calm, and the end of everything.

use std::{
    env, fs,
    path::Path,
    pin::pin,
    process::ExitCode,
    sync::{Arc, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crate::{
    around::LOG,
    calls::Caller,
    faults::Storm,
    functions::tiny,
    linux::Arguments,
    node::Node,
    processes::{descriptors, memory},
    record::{PATIENCE, Record},
};
use distfun::{
    Activity, Distribute, Finished, GpuPolicy, Isolation, MachineOutcome, Manager, ManagerHandle, NodeState, Shutdown,
    Status, StatusReport, function,
};

const NODES: usize = 3;
const CALLERS: usize = 3;
/// Whether every machine has a GPU.
const HAS_GPUS: bool = cfg!(feature = "cuda");
const POLICY: GpuPolicy = if HAS_GPUS { GpuPolicy::Mixed } else { GpuPolicy::NoGpu };

/// Once nothing strikes any more: for so long calls go on, and within this time all must be as before.
const CALM: Duration = Duration::from_secs(3);
const HEALED_WITHIN: Duration = Duration::from_secs(30);

pub(crate) fn run(arguments: &Arguments, dir: &Path) -> ExitCode {
    let record = Record::default();
    let outcome = storm(arguments, dir, &record);
    print!("{}", record.summary());
    match outcome.err().or_else(|| record.what_is_broken()) {
        Some(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

fn storm(arguments: &Arguments, dir: &Path, record: &Record) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let log = distfun::log::json().file(dir.join(LOG)).level(tracing::Level::INFO).init().map_err(|e| text(&e))?;
    let start = |machines: &[String]| {
        let manager = Manager::builder().slots(2).isolation(Isolation::Process).machines(machines);
        manager.gpu_policy(POLICY).start().map_err(|e| text(&e))
    };
    let program = match &arguments.distfun {
        Some(program) => program.clone(),
        None => env::current_exe().map_err(|e| text(&e))?.with_file_name("distfun"),
    };
    fs::metadata(&program).map_err(|error| format!("{}: {error}; build distfun-cli first", program.display()))?;
    // What a process opens once and for all is open after this.
    let node = Node::start(NODES, dir, &program).map_err(|e| text(&e))?;
    let first = start(&[node.proxy.address().to_owned()])?;
    let since = Instant::now();
    while !status(&first).is_some_and(|status| are_up(&status, 1)) {
        if since.elapsed() > HEALED_WITHIN {
            return Err(format!("no node can be reached\n{}", node.log()));
        }
        thread::sleep(Duration::from_millis(10));
    }
    first.call(Distribute::map(function!(tiny), 0..1000)).wait().map_err(|e| text(&e))?;
    block_on(first.send(Finished)).map_err(|e| text(&e))?.map_err(|e| text(&e))?;
    drop((first, node));
    thread::sleep(Duration::from_millis(500));
    let open = descriptors();

    let nodes = (0..NODES).map(|number| Node::start(number, dir, &program));
    let mut nodes = nodes.collect::<Result<Vec<_>, _>>().map_err(|e| text(&e))?;
    let machines: Vec<String> = nodes.iter().map(|node| node.proxy.address().to_owned()).collect();
    let manager = start(&machines)?;
    let seed = arguments.seed.unwrap_or_default();

    thread::scope(|scope| {
        for number in 0..CALLERS {
            let caller = Caller::new(number, seed, &manager, &machines, record);
            scope.spawn(move || {
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| caller.run())).is_err() {
                    record.broken("a caller panicked".into());
                }
            });
        }
        weather(arguments, seed, &manager, record, &mut nodes);
    });
    if let Some(broken) = record.what_is_broken() {
        return Err(format!("{broken}\n{}", dump(&manager, &nodes)));
    }
    let calmed = Instant::now();
    loop {
        match healed(&manager, &nodes) {
            Ok(()) => break,
            Err(why) if calmed.elapsed() > HEALED_WITHIN => {
                return Err(format!("{why}, {HEALED_WITHIN:?} after the last fault\n{}", dump(&manager, &nodes)));
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
    println!("everything was up again {:.1?} after the storm", calmed.elapsed());
    all_compute(&manager, &machines, &nodes, record, seed)?;
    end(manager, nodes, open)?;
    println!("{} of memory at the end", memory());
    drop(log);
    Ok(())
}

/// Faults for the time given, and calm at the end; sees to it that every call returns.
fn weather(arguments: &Arguments, seed: u64, manager: &ManagerHandle, record: &Record, nodes: &mut [Node]) {
    let every = Duration::from_millis(arguments.fault_every.max(1));
    let begun = Instant::now();
    let until = begun + arguments.time();
    let mut storm = Storm::new(seed, arguments.only.as_deref().unwrap_or_default(), record, nodes);
    let mut next = begun + every;
    let mut told = begun;
    let mut is_calm = false;
    let mut trouble = None;
    while !record.is_over() && trouble.is_none() {
        thread::sleep(Duration::from_millis(10).min(every));
        let now = Instant::now();
        if now >= until && !is_calm {
            storm.calm();
            is_calm = true;
        }
        if now >= until + CALM {
            break;
        }
        if now >= next && !is_calm {
            storm.strike();
            next += every;
        }
        if now - told > Duration::from_secs(60) {
            told = now;
            println!("{:.0?}: {} calls, {} of memory", now - begun, record.calls(), memory());
        }
        trouble = storm.look().err().or_else(|| record.stuck());
    }
    storm.calm();
    drop(storm);
    record.end();
    if let Some(trouble) = trouble {
        record.broken(trouble);
    }
    // All callers return, or nothing more can be done from here.
    let since = Instant::now();
    while record.is_anyone_waiting() {
        let _ = nodes.iter_mut().try_for_each(Node::look);
        if let Some(stuck) = record.stuck().filter(|_| since.elapsed() > PATIENCE) {
            record.broken(stuck);
            print!("{}{}\n{}", record.summary(), record.what_is_broken().unwrap_or_default(), dump(manager, nodes));
            std::process::exit(1); // no thread waits for those that do not come back
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// What slots and nodes do, if the Manager says so.
fn status(manager: &ManagerHandle) -> Option<StatusReport> {
    let (sender, answer) = mpsc::channel();
    let manager = manager.clone();
    thread::spawn(move || {
        let _ = sender.send(block_on(manager.send(Status))); // nobody may wait for it any more
    });
    answer.recv_timeout(Duration::from_secs(5)).ok()?.ok()
}

fn dump(manager: &ManagerHandle, nodes: &[Node]) -> String {
    let status = status(manager).map_or("the Manager does not answer\n".into(), |status| status.to_string());
    let logs: String = nodes.iter().map(Node::log).collect();
    status + &logs
}

fn healed(manager: &ManagerHandle, nodes: &[Node]) -> Result<(), String> {
    let status = status(manager).ok_or("the Manager does not answer")?;
    if let Some(node) = nodes.iter().find(|node| node.process().is_none()) {
        return Err(format!("{} is not there", node.name));
    }
    if !are_up(&status, NODES) {
        return Err("a node is not connected".into());
    }
    if let Some(slot) = status.slots.iter().find(|slot| slot.activity == Activity::GaveUp) {
        return Err(format!("worker {} was given up", slot.worker));
    }
    match status.calls.len() {
        0 => Ok(()),
        calls => Err(format!("{calls} calls run that nobody waits for")),
    }
}

fn are_up(status: &StatusReport, count: usize) -> bool {
    // The GPUs of each are told apart from it.
    let count = if HAS_GPUS { 2 * count } else { count };
    status.nodes.len() == count && status.nodes.iter().all(|node| node.state == NodeState::Up)
}

/// Every node has a share of the work.
fn all_compute(
    manager: &ManagerHandle,
    machines: &[String],
    nodes: &[Node],
    record: &Record,
    seed: u64,
) -> Result<(), String> {
    let mut caller = Caller::new(CALLERS, seed, manager, machines, record);
    let since = Instant::now();
    loop {
        caller.everywhere();
        let idle = nodes.iter().find(|node| !record.was_at(&node.name));
        match idle {
            None => return Ok(()),
            Some(node) if since.elapsed() > HEALED_WITHIN => {
                return Err(format!("nothing runs on {} any more\n{}", node.name, dump(manager, nodes)));
            }
            Some(_) => {}
        }
        if let Some(broken) = record.what_is_broken() {
            return Err(format!("{broken}\n{}", dump(manager, nodes)));
        }
    }
}

/// Ends the Manager and its nodes; nothing of them is left in this process.
fn end(manager: ManagerHandle, mut nodes: Vec<Node>, open: usize) -> Result<(), String> {
    let report = block_on(manager.send(Shutdown)).map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    if let Some(machine) = report.machines.iter().find(|machine| machine.outcome != MachineOutcome::Ended) {
        return Err(format!("shutdown: {machine}"));
    }
    drop(manager);
    for node in &mut nodes {
        match node.wait(Duration::from_secs(10)) {
            Some(status) if status.success() => {}
            Some(status) => return Err(format!("{} ended after shutdown: {status}\n{}", node.name, node.log())),
            None => return Err(format!("{} does not end after shutdown\n{}", node.name, node.log())),
        }
        if node.has_panicked() {
            return Err(format!("{} has panicked\n{}", node.name, node.log()));
        }
    }
    drop(nodes);
    let since = Instant::now();
    while descriptors() > open {
        if since.elapsed() > Duration::from_secs(10) {
            return Err(format!("{} descriptors are open that were not: {}", descriptors() - open, listed()));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// What a future gives. (`futures` has this too, and would have everything compiled once more, with other features.)
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

fn listed() -> String {
    let all = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    all.filter_map(|entry| Some(format!("{} ", fs::read_link(entry.path()).ok()?.display()))).collect()
}
