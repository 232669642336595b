//! One program, started alone, as a node, and with other machines: the same lines come out.
//!
//! `cargo run --release -p distfun-examples --bin machines [-- --rows N]`
//!
//! Without `--alone`, `--serve` or `--machines` it shows all of it on this machine: it starts two nodes of itself, draws
//! the Mandelbrot set on its own CPUs and then with both nodes, compares, and stops them. On two machines, or in two
//! terminals:
//!
//! ```sh
//! machines --serve                            # a node, at 127.0.0.1:2718; --serve ADDRESS for another
//! machines --machines localhost               # uses it, beside this machine's CPUs
//! machines --alone                            # this machine's CPUs only
//! ```
//!
//! Both sides are one program here; they need not be, as long as the function has the same path and types on both.
//! With `--log FILE` it writes a log at DEBUG and says on stderr where how many chunks were computed.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use distfun::{
    Activity, Distribute, Finished, MachineOutcome, Manager, ManagerHandle, NodeState, Shutdown, Status,
    actix::{System, clock::sleep},
    function, log, machines, node,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The part of the plane that has the set in it, and how long a point is followed until it counts as inside.
const REAL: [f64; 2] = [-2.0, 0.5];
const IMAGINARY: [f64; 2] = [-1.125, 1.125];
const MOST_STEPS: u32 = 500;

/// Size of the picture in characters.
const LINES: u32 = 22;
const COLUMNS: u32 = 72;

/// An item: types of one's own travel as far as serde carries them.
#[derive(Serialize, Deserialize)]
struct Row {
    number: u32,
    of: u32,
}

/// Its result.
#[derive(PartialEq, Serialize, Deserialize)]
struct Line {
    inside: u32,
    shades: String,
}

/// Follows each point of a row.
fn line(Row { number, of }: Row) -> Line {
    let at = |[low, high]: [f64; 2], index: u32, count: u32| low + (high - low) * (index as f64 + 0.5) / count as f64;
    let steps = |column, columns| escape(at(REAL, column, columns), at(IMAGINARY, number, of));
    let inside = (0..of).filter(|&column| steps(column, of) == MOST_STEPS).count() as u32;
    let shade = |column| match steps(column, COLUMNS) {
        MOST_STEPS => '#',
        16.. => '+',
        8.. => '.',
        _ => ' ',
    };
    Line { inside, shades: (0..COLUMNS).map(shade).collect() }
}

/// How many steps of z -> z^2 + c stay within the circle of radius 2.
fn escape(re: f64, im: f64) -> u32 {
    let (mut x, mut y) = (0.0, 0.0);
    for step in 0..MOST_STEPS {
        (x, y) = (x * x - y * y + re, 2.0 * x * y + im);
        if x * x + y * y > 4.0 {
            return step;
        }
    }
    MOST_STEPS
}

/// What the program was told.
#[derive(Default)]
struct Arguments {
    alone: bool,
    serve: Option<String>,
    machines: Vec<String>,
    rows: u32,
    log: Option<String>,
}

fn arguments() -> Result<Arguments, String> {
    let mut told = Arguments { rows: 900, ..Arguments::default() };
    let mut words = env::args().skip(1).peekable();
    while let Some(word) = words.next() {
        let mut value = || words.next_if(|next| !next.starts_with("--"));
        match word.as_str() {
            "--alone" => told.alone = true,
            "--serve" => told.serve = Some(value().unwrap_or_else(|| "127.0.0.1".into())),
            "--machines" => told.machines = std::iter::from_fn(value).collect(),
            "--log" => told.log = Some(value().ok_or("--log needs a file")?),
            "--rows" => {
                let rows = value().and_then(|rows| rows.parse().ok()).filter(|rows| (LINES..=20_000).contains(rows));
                told.rows = rows.ok_or_else(|| format!("--rows needs a number from {LINES} to 20000"))?;
            }
            _ => return Err(format!("{word}: there are --alone, --serve, --machines, --rows and --log")),
        }
        if word == "--machines" && told.machines.is_empty() {
            return Err("--machines needs a machine or more, as in --machines localhost bob:2719".into());
        }
    }
    Ok(told)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    distfun::init(); // what names machines may run there too
    let told = match arguments() {
        Ok(told) => told,
        Err(text) => {
            eprintln!("{text}");
            return Ok(ExitCode::from(2));
        }
    };
    if let Some(address) = told.serve {
        let config = node::config().listen(address).offer(function!(line));
        node::serve(config.when_ready(|address| println!("serving at {address}")))?; // until Ctrl-C or a Shutdown
        return Ok(ExitCode::SUCCESS);
    }
    // A log is appended to.
    let logged_before = told.log.as_ref().and_then(|file| fs::metadata(file).ok()).map_or(0, |found| found.len());
    let logging = match &told.log {
        Some(file) => Some(log::json().file(file).level(log::Level::DEBUG).init()?),
        None => None,
    };
    // Any runtime would do, or none: distfun brings actix with it.
    System::new().block_on(async {
        if told.alone || !told.machines.is_empty() {
            show(&compute(&told.machines, told.rows, After::NodesStay).await?);
            Ok(())
        } else {
            demonstrate(told.rows).await
        }
    })?;
    if let Some(file) = told.log {
        drop(logging); // writes the last lines
        let log = fs::read_to_string(file)?;
        for (place, chunks) in chunks_by_machine(&log[logged_before as usize..])? {
            eprintln!("{place}: {chunks} chunks");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What becomes of the nodes.
#[derive(PartialEq)]
enum After {
    NodesStay,
    NodesStop,
}

/// All lines of the picture, computed here and on `machines`.
async fn compute(machines: &[String], rows: u32, after: After) -> Result<Vec<Line>, Box<dyn Error>> {
    let manager = Manager::builder().machines(machines).start()?;
    // A call needs no waiting: machines that come up while it runs get their share. Here, each is to show its part.
    all_connected(&manager, machines).await?;
    let lines = manager.send(Distribute::map(function!(line), (0..rows).map(|number| Row { number, of: rows })));
    let lines = lines.await??;
    match after {
        After::NodesStay => manager.send(Finished).await??,
        After::NodesStop => {
            for end in manager.send(Shutdown).await??.machines {
                assert_eq!(end.outcome, MachineOutcome::Ended, "{end}");
            }
        }
    }
    Ok(lines)
}

/// Waits until every machine can compute, this one too; says which does not, and why.
async fn all_connected(manager: &ManagerHandle, names: &[String]) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    loop {
        let status = manager.send(Status).await?;
        let connected = status.nodes.iter().filter(|node| node.state == NodeState::Up).count();
        if connected >= names.len() && status.slots.iter().all(|slot| slot.activity == Activity::Idle) {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(5) {
            let reports = machines::check(names, 2718)?;
            for (report, problem) in reports.iter().filter_map(|report| Some((report, report.node.as_ref().err()?))) {
                eprintln!("{}: {problem}", report.machine);
            }
            return Err("not every machine can be used".into());
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// The whole story on one machine.
async fn demonstrate(rows: u32) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let alone = compute(&[], rows, After::NodesStay).await?;
    show(&alone);
    println!("\nalone: {:.2} s", start.elapsed().as_secs_f64());

    let mut nodes = [Node::start()?, Node::start()?];
    let addresses = nodes.each_ref().map(|node| node.address.clone());
    let start = Instant::now();
    let together = compute(&addresses, rows, After::NodesStop).await?;
    println!("with two nodes: {:.2} s, on the same CPUs here", start.elapsed().as_secs_f64());
    assert!(alone == together, "where a line is computed must not change it");
    for node in &mut nodes {
        let status = node.process.wait()?;
        assert!(status.success(), "a node that is told to stop ends well, not with {status}");
    }
    println!("the same lines; both nodes have stopped");
    Ok(())
}

fn show(lines: &[Line]) {
    let rows = lines.len();
    for picture in 0..LINES as usize {
        let middle = (2 * picture + 1) * rows / (2 * LINES as usize);
        println!("{}", lines[middle].shades.trim_end());
    }
    let inside: f64 = lines.iter().map(|line| f64::from(line.inside)).sum();
    let area = (REAL[1] - REAL[0]) * (IMAGINARY[1] - IMAGINARY[0]) * inside / (rows * rows) as f64;
    println!("{rows} x {rows} points: its area is {area:.4}; it is known to be 1.5066");
}

/// This program, serving. It ends when this is dropped, also by a panic, unless it has ended already.
struct Node {
    process: Child,
    address: String,
    /// Kept open: whoever writes into a closed pipe is killed.
    _stdout: BufReader<ChildStdout>,
}

impl Node {
    fn start() -> Result<Self, Box<dyn Error>> {
        // Port 0 is any that is free.
        let mut command = Command::new(env::current_exe()?);
        let mut process = command.args(["--serve", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn()?;
        let stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut node = Self { process, address: String::new(), _stdout: stdout };
        let mut said = String::new();
        node._stdout.read_line(&mut said)?;
        node.address = said.trim().strip_prefix("serving at ").ok_or("the node did not start")?.to_owned();
        Ok(node)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended
        let _ = self.process.wait();
    }
}

/// How many chunks were computed where, by the log.
fn chunks_by_machine(log: &str) -> Result<BTreeMap<String, usize>, serde_json::Error> {
    let mut chunks = BTreeMap::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line)?;
        let place = match event["otel.event.name"].as_str() {
            Some("distfun.chunk.finished") => "here",
            Some("distfun.chunk.returned") => event["distfun.machine"].as_str().unwrap_or("?"),
            _ => continue,
        };
        // A chunk that was asked back before it began was computed elsewhere.
        if event["distfun.items_done"] != 0 {
            *chunks.entry(place.to_owned()).or_default() += 1;
        }
    }
    Ok(chunks)
}
