//! What the Manager pays per chunk with ten nodes and with a thousand, in instructions under valgrind.
//!
//! It runs itself under callgrind, twice per number of nodes: the longer run less the shorter one is the steady state. It
//! fails if a thousand nodes cost more than [`MOST`] times as much per chunk as ten.

use std::{collections::VecDeque, env, process, process::ExitCode, time::Duration};

use distfun_core::{
    engine::{
        CallSpec, ChunkDone, Command, Commands, Engine, Event, Limits, NodeEvent, Priority, Retries, Shape, Time,
    },
    ids::{CallId, Generation, NodeId, WorkerId},
    placement::SlotKind,
};

/// DESIGN owes this.
const MOST: f64 = 1.5;

const SLOTS: u32 = 4;
const COST: Duration = Duration::from_micros(500);

/// Instructions are counted over so many chunks.
const LONG: u64 = 200_000;
const SHORT: u64 = 20_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(LONG),
        ["--short"] => compare(SHORT),
        ["drive", nodes, refusing, chunks] => match (nodes.parse(), refusing.parse(), chunks.parse()) {
            (Ok(nodes), Ok(refusing), Ok(chunks)) => drive(nodes, refusing, chunks),
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: scale [--short]");
    ExitCode::from(2)
}

fn compare(chunks: u64) -> ExitCode {
    if process::Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: there is no valgrind on this machine to count instructions with");
        return ExitCode::SUCCESS;
    }
    let mut is_fine = true;
    for (what, refusing) in [("all run the call", 0), ("half of them refuse it", 2)] {
        let per_chunk = |nodes| match (count(nodes, refusing, chunks), count(nodes, refusing, 2 * chunks)) {
            (Some(short), Some(long)) => Some((long - short) as f64 / chunks as f64),
            _ => None,
        };
        let (Some(few), Some(many)) = (per_chunk(10), per_chunk(1000)) else {
            eprintln!("valgrind did not say how many instructions there were");
            return ExitCode::FAILURE;
        };
        let ratio = many / few;
        println!(
            "{what}: {few:.0} instructions per chunk with 10 nodes, {many:.0} with 1000: {ratio:.2}, at most {MOST}"
        );
        is_fine &= ratio <= MOST;
    }
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Instructions of a run.
fn count(nodes: u32, refusing: u32, chunks: u64) -> Option<u64> {
    let output = process::Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().ok()?)
        .args(["drive", &nodes.to_string(), &refusing.to_string(), &chunks.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// A call that never runs out, on nodes that answer in the order in which they were asked; one in `refusing` refuses it.
fn drive(nodes: u32, refusing: u32, chunks: u64) -> ExitCode {
    let mut engine = Engine::new(Limits { slots: 0, gpus: 0, max_calls: 1 });
    for node in (0..nodes).map(NodeId) {
        engine.step(Time::ZERO, Event::Node(node, NodeEvent::Expected));
    }
    let spec = CallSpec {
        id: CallId(0),
        handle: (),
        function: "f",
        items: usize::MAX / 2,
        is_open: false,
        shape: Shape::Items,
        only: None,
        priority: Priority::Normal,
        stops_at_failure: false,
        retries: Retries::NONE,
        ends_engine: false,
    };
    engine.step(Time::ZERO, Event::Submit(spec));
    let mut out = VecDeque::new();
    for node in (0..nodes).map(NodeId) {
        if refusing > 0 && node.0 % refusing == 0 {
            engine.step(Time::ZERO, Event::Node(node, NodeEvent::Refuses(CallId(0))));
        }
        let up = NodeEvent::Up { slots: SLOTS, kind: SlotKind::Cpu, round_trip: Duration::from_micros(100) };
        note(&mut out, engine.step(Time::ZERO, Event::Node(node, up)));
    }
    let mut now = Time::ZERO;
    for _ in 0..chunks {
        let Some((lane, generation, count, reached)) = out.pop_front() else { return ExitCode::FAILURE };
        now += Duration::from_micros(1);
        let done = ChunkDone { elapsed: COST * count, ..ChunkDone::nothing(reached) };
        note(&mut out, engine.step(now, Event::ChunkDone(lane, generation, done)));
    }
    ExitCode::SUCCESS
}

fn note(out: &mut VecDeque<(WorkerId, Generation, u32, usize)>, commands: Commands<()>) {
    for command in commands {
        if let Command::Assign(lane, generation, chunk) = command {
            out.push_back((lane, generation, chunk.range.len() as u32, chunk.range.end));
        }
    }
}
