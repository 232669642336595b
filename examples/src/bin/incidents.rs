//! Five failures and the logs that they leave, which [docs/FAILURES.md](../../../docs/FAILURES.md) reads line by line.
//!
//! `cargo run --release -p distfun-examples --bin incidents [-- [--slow] [DIRECTORY]]`
//!
//! An item panics, processes are killed, a node freezes and dies in the middle of a call, no machine can be reached, an item
//! never returns. Each happens in a process of its own, since a process has one log; what the log says at WARN and ERROR is
//! shown. The logs are kept in `DIRECTORY`, if there is one, and replace those of an earlier run. With `--slow` the item that
//! never returns is given 14 s instead of one, and the log shows how a chunk is called slow before that. Linux only.

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{self, BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio, exit, id},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use distfun::{
    AddMachine, Distribute, FailureCause, Isolation, Manager, ManagerHandle, NodeState, Shutdown, Status, StatusReport,
    actix::System,
    log::{self, Level, Role},
    node,
    prelude::*,
};
use serde_json::Value;

struct Incident {
    /// That of its log.
    name: &'static str,
    what: &'static str,
    level: Level,
    happen: fn(&Place) -> Result<(), Box<dyn Error>>,
}

const INCIDENTS: [Incident; 5] = [
    Incident { name: "panic", what: "an item whose function panics", level: Level::INFO, happen: panic },
    Incident { name: "crash", what: "processes that are killed", level: Level::DEBUG, happen: crash },
    Incident { name: "node-lost", what: "a node that freezes and dies", level: Level::DEBUG, happen: node_lost },
    Incident { name: "stalled", what: "a call with nothing to run on", level: Level::INFO, happen: stalled },
    Incident { name: "hang", what: "an item that never returns", level: Level::INFO, happen: hang },
];

/// Where an incident happens.
struct Place {
    logs: PathBuf,
    /// For what nodes and items write.
    scratch: PathBuf,
    is_slow: bool,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    distfun::init(); // the first line: in the processes of slots and nodes it takes over
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--incident", name, logs, scratch, speed] => {
            let incident = INCIDENTS.iter().find(|known| known.name == name).ok_or("no such incident")?;
            let place = Place { logs: logs.into(), scratch: scratch.into(), is_slow: speed == "--slow" };
            let log = log::json().file(place.logs.join(format!("{name}.ndjson"))).level(incident.level);
            let _log = log.resource_minimal().init()?;
            (incident.happen)(&place)?;
            sleep(Duration::from_millis(100)); // other threads say the last lines, just after all has ended
        }
        ["--node", name, address, log] => serve(name, address, log)?,
        [] => show(None, false)?,
        ["--slow"] => show(None, true)?,
        ["--slow", directory] => show(Some(directory), true)?,
        [directory] if !directory.starts_with('-') => show(Some(directory), false)?,
        _ => {
            eprintln!("there are --slow and the directory for the logs");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Lets everything happen, and shows what the logs say.
fn show(directory: Option<&str>, is_slow: bool) -> Result<(), Box<dyn Error>> {
    let scratch = Scratch::new()?;
    let logs = directory.map_or_else(|| scratch.0.clone(), PathBuf::from);
    fs::create_dir_all(&logs)?;
    let start = Instant::now();
    let mut running = Vec::new();
    for Incident { name, .. } in INCIDENTS {
        for log in logs_of(name, &logs)? {
            fs::remove_file(log)?; // of an earlier run
        }
        let mut process = Command::new(env::current_exe()?);
        process.args(["--incident", name]).arg(&logs).arg(&scratch.0).arg(if is_slow { "--slow" } else { "--fast" });
        // Nodes and programs with a secret and a cache of their own.
        process.env("DISTFUN_COOKIE", scratch.0.join("cookie")).env("DISTFUN_CACHE", scratch.0.join("cache"));
        running.push(Ends(process.spawn()?));
    }
    let mut failed = Vec::new();
    for (Incident { name, what, .. }, mut process) in INCIDENTS.iter().zip(running) {
        let status = process.0.wait()?;
        println!("{name}: {what}");
        for log in logs_of(name, &logs)? {
            summarise(&log)?;
        }
        failed.extend((!status.success()).then_some(*name));
    }
    if !failed.is_empty() {
        return Err(format!("not as expected: {}", failed.join(", ")).into());
    }
    println!("all as expected, in {:.1} s", start.elapsed().as_secs_f64());
    if directory.is_some() {
        println!("the logs are in {}", logs.display());
    }
    Ok(())
}

/// `panic.ndjson`, or `node-lost.ndjson`, `node-lost.node-a.ndjson` and so on.
fn logs_of(name: &str, logs: &Path) -> io::Result<Vec<PathBuf>> {
    let nodes = ["", ".node-a", ".node-b"].map(|node| logs.join(format!("{name}{node}.ndjson")));
    Ok(nodes.into_iter().filter(|path| path.exists()).collect())
}

/// What a log says at WARN and ERROR.
fn summarise(log: &Path) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(log)?;
    println!("  {}, {} lines", log.file_name().expect("a file").display(), text.lines().count());
    for line in text.lines() {
        let event: Value = serde_json::from_str(line)?;
        if let (Some(level @ ("WARN" | "ERROR")), Some(message)) = (event["level"].as_str(), event["message"].as_str())
        {
            println!("    {level:<5} {message}");
        }
    }
    Ok(())
}

/// The mean of a record's values.
fn mean(values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "no values to take the mean of");
    values.iter().sum::<f64>() / values.len() as f64
}

/// Record 17 of 40 is empty.
fn panic(_: &Place) -> Result<(), Box<dyn Error>> {
    let dfun = distribute!(mean).slots(2).endaftercall(false).build()?;
    let records = (0..40).map(|record| vec![f64::from(record); if record == 17 { 0 } else { 3 }]);
    let error = dfun.map(records.collect::<Vec<_>>()).wait().expect_err("one record has no mean");
    assert!(matches!(error.failed[0].cause, FailureCause::Panicked { .. }));
    assert_eq!(error.finished().len(), 39);
    dfun.finished()?;
    Ok(())
}

/// Decodes an image. The library that it calls can't bear number 7; number 12 is where memory runs short the first time, and
/// the system kills the process.
fn decode((image, was_killed): (u32, PathBuf)) -> u32 {
    match image {
        7 => {
            eprintln!("libimage: corrupt header");
            std::process::abort()
        }
        12 if File::create_new(was_killed).is_ok() => signal("KILL", id()),
        _ => sleep(Duration::from_millis(5)),
    }
    image * image
}

fn crash(place: &Place) -> Result<(), Box<dyn Error>> {
    let dfun = distribute!(decode).slots(2).isolation(Isolation::Process).endaftercall(false).build()?;
    let was_killed = place.scratch.join("image-12");
    let error = dfun.map((0..24).map(|image| (image, was_killed.clone()))).wait().expect_err("one image is bad");
    assert!(matches!(error.failed[0].cause, FailureCause::Poisoned { deaths: 3, .. }));
    assert_eq!(error.finished().len(), 23);
    dfun.finished()?;
    Ok(())
}

/// Takes a while.
fn simulate(seed: u64) -> u64 {
    sleep(Duration::from_millis(200));
    seed * seed
}

fn node_lost(place: &Place) -> Result<(), Box<dyn Error>> {
    let mut a = Node::start(place, "node-lost", "node-a", &free_address()?)?;
    let b = Node::start(place, "node-lost", "node-b", "127.0.0.1:0")?;
    let manager = Manager::builder().slots(1).machines([&a.address, &b.address]).start()?;
    let are_up = |status: &StatusReport| status.nodes.iter().filter(|node| node.state == NodeState::Up).count() == 2;
    wait_until(&manager, are_up)?;
    let call = manager.call(Distribute::map(function!(simulate), 0..30));
    wait_until(&manager, |status| status.nodes.iter().all(|node| node.chunks > 0))?;

    signal("STOP", a.process.0.id()); // it says nothing any more, and nobody knows why
    sleep(Duration::from_millis(1900));
    a.process.0.kill()?;
    a.process.0.wait()?;
    sleep(Duration::from_millis(200)); // until somebody starts it again
    let a = Node::start(place, "node-lost", "node-a", &a.address)?;

    assert_eq!(call.wait()?, (0..30).map(|seed| seed * seed).collect::<Vec<_>>());
    wait_until(&manager, are_up)?;
    wait(manager.send(Shutdown))??;
    for mut node in [a, b] {
        assert!(node.process.0.wait()?.success(), "a node that is told to stop ends well");
    }
    Ok(())
}

/// This machine is not to compute, and nobody listens where the only other is said to be.
fn stalled(place: &Place) -> Result<(), Box<dyn Error>> {
    let manager = Manager::builder().max_cpu(0).machines([free_address()?]).start()?;
    let call = manager.call(Distribute::map(function!(simulate), 0..4));
    sleep(Duration::from_millis(2200)); // until somebody sees why; a call waits 5 s in all
    let mut node = Node::start(place, "stalled", "node-a", "127.0.0.1:0")?;
    wait(manager.send(AddMachine::new(&node.address)))??;
    assert_eq!(call.wait()?, [0, 1, 4, 9]);
    wait(manager.send(Shutdown))??;
    assert!(node.process.0.wait()?.success(), "a node that is told to stop ends well");
    Ok(())
}

/// Looks for a root; from some starts it never gets there.
fn root(start: u32) -> u32 {
    let mut steps = start % 5;
    while start == 13 || steps > 0 {
        sleep(Duration::from_millis(1));
        steps = steps.saturating_sub(1);
    }
    start
}

fn hang(place: &Place) -> Result<(), Box<dyn Error>> {
    let limit = Duration::from_secs(if place.is_slow { 14 } else { 1 });
    let dfun =
        distribute!(root).slots(2).isolation(Isolation::Process).item_timeout(limit).endaftercall(false).build()?;
    let error = dfun.map(0..30u32).wait().expect_err("one start leads nowhere");
    assert!(matches!(error.failed[0].cause, FailureCause::TimedOut { .. }));
    assert_eq!(error.finished().len(), 29);
    assert_eq!(dfun.map(0..5u32).wait()?, [0, 1, 2, 3, 4]); // on two slots again
    dfun.finished()?;
    Ok(())
}

/// Where nobody listens, at a port that no system gives to outgoing connections.
fn free_address() -> Result<String, Box<dyn Error>> {
    let mut addresses =
        (0..100).map(|n| format!("127.0.0.1:{}", 10_000 + id().wrapping_mul(131).wrapping_add(17 * n) % 20_000));
    let free = addresses.find(|address| TcpListener::bind(address).is_ok());
    free.ok_or_else(|| "no port is free".into())
}

/// As `kill -KILL`.
fn signal(name: &str, process: u32) {
    let sent = Command::new("kill").args([format!("-{name}"), process.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "{name} could not be sent");
}

/// Any runtime would do: distfun brings actix with it.
fn wait<T>(answer: impl Future<Output = T>) -> T {
    System::new().block_on(answer)
}

fn wait_until(manager: &ManagerHandle, is_so: impl Fn(&StatusReport) -> bool) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    while !is_so(&wait(manager.send(Status))?) {
        if start.elapsed() > Duration::from_secs(20) {
            return Err("the nodes do not do what they should".into());
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Serves until it is told to stop: what `distfun node --slots 1` does.
fn serve(name: &str, address: &str, log: &str) -> Result<(), Box<dyn Error>> {
    let _log = log::json().role(Role::Node).file(log).init()?;
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink()); // to the end of the program that has started this
        exit(1)
    });
    let config = node::config().name(name).listen(address).slots(1);
    node::serve_programs(config.when_ready(|address| println!("{address}")))?;
    Ok(())
}

/// A node: this program, in a process that ends when this is dropped.
struct Node {
    process: Ends,
    address: String,
    /// Kept open: the node ends when the first is closed, and whoever writes into a closed pipe is killed.
    _pipes: (ChildStdin, BufReader<ChildStdout>),
}

impl Node {
    fn start(place: &Place, incident: &str, name: &str, address: &str) -> Result<Self, Box<dyn Error>> {
        let log = place.logs.join(format!("{incident}.{name}.ndjson"));
        let mut command = Command::new(env::current_exe()?);
        command.args(["--node", name, address]).arg(log).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Ends(command.spawn()?);
        let stdin = process.0.stdin.take().expect("it is piped");
        let mut stdout = BufReader::new(process.0.stdout.take().expect("it is piped"));
        let mut address = String::new();
        stdout.read_line(&mut address)?;
        Ok(Self { process, address: address.trim().to_owned(), _pipes: (stdin, stdout) })
    }
}

/// A process that does not outlive this, also after a panic.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// A directory that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("distfun-incidents-{}", id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // what can't be removed is left to the system
    }
}
