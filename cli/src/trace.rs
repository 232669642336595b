//! `distfun trace`: the chunks of a log for a viewer of traces (Perfetto, chrome://tracing).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use distfun_core::view::{Limits, Place, Span, Time, View};
use serde_json::{Value, json};

use crate::status::{is_no_log, read};

/// Writes what ran where and when, to look at in ui.perfetto.dev: a track for each worker, and as many for each machine as
/// it had chunks at once. The log needs DEBUG lines: `distfun::log::json().level(Level::DEBUG)`.
#[derive(Args)]
#[command(after_help = "\
Exit status: 0 if it was written, 1 if not, as where a log can't be read or has no chunks, 2 for a wrong command line.")]
pub(crate) struct Flags {
    /// The logs; `-` is standard input.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// Where to write it; `-` is standard output.
    #[arg(short, long, value_name = "FILE", default_value = "trace.json")]
    output: PathBuf,
    /// Chunks that are kept, the latest.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    chunks: usize,
}

pub(crate) fn run(flags: Flags) -> ExitCode {
    let mut limits = Limits::default();
    limits.spans = flags.chunks;
    limits.jobs = 100_000;
    let is_free = is_no_log(&flags.output, &flags.logs);
    let written = is_free.and_then(|()| read(&flags.logs, None, limits)).and_then(|view| {
        if view.spans().len() == 0 {
            return Err("the log has no chunks: they are told at DEBUG, by `.level(Level::DEBUG)`".into());
        }
        let failed = |error: io::Error| format!("{} can't be written: {error}", flags.output.display());
        write_to(&flags.output, &trace(&view)).map_err(failed)?;
        Ok((view.spans().len(), view.losses().spans_cut))
    });
    match written {
        Ok((count, cut)) => {
            let cut = if cut == 0 { String::new() } else { format!("; {cut} earlier ones were left out (--chunks)") };
            eprintln!("{count} chunks in {}, for ui.perfetto.dev{cut}", flags.output.display());
            ExitCode::SUCCESS
        }
        Err(error) => crate::fails("trace", &error),
    }
}

fn write_to(path: &Path, trace: &Value) -> io::Result<()> {
    if path == Path::new("-") {
        let mut stdout = io::stdout().lock();
        serde_json::to_writer(&mut stdout, trace)?;
        return writeln!(stdout);
    }
    let mut file = BufWriter::new(File::create(path)?);
    serde_json::to_writer(&mut file, trace)?;
    file.flush()
}

/// The trace event format of Chrome: complete events (`X`), with names of processes and tracks as metadata (`M`).
fn trace(view: &View) -> Value {
    let mut events = Vec::new();
    let mut tracks = Tracks::default();
    let first = view.first().unwrap_or_default();
    for span in view.spans() {
        let track = tracks.of(span);
        let (category, colour) = match span {
            Span { is_failed: true, .. } => ("failed", Some("terrible")),
            Span { is_lost: true, .. } => ("lost", Some("bad")),
            _ => ("chunk", None),
        };
        let lost = if span.is_lost { " (lost)" } else { "" };
        events.push(json!({
            "ph": "X",
            "name": format!("{} {}..{}{lost}", span.function, span.index, span.index + span.items),
            "cat": category,
            "ts": micros(span.start, first),
            "dur": span.end.since(span.start).as_micros() as u64,
            "pid": span.process,
            "tid": track,
            "args": { "call": span.job, "first item": span.index, "items": span.items, "attempt": span.attempt },
            "cname": colour,
        }));
    }
    for process in view.processes() {
        events
            .push(json!({ "ph": "M", "name": "process_name", "pid": process.id, "args": { "name": process.name() } }));
        for told in view.story().filter(|told| told.process == process.id && matches!(&*told.level, "WARN" | "ERROR")) {
            events.push(json!({
                "ph": "i", "s": "p", "name": told.text, "cat": &*told.name, "pid": process.id, "tid": 0,
                "ts": micros(told.at, first),
            }));
        }
    }
    for ((process, manager, place, lane), track) in tracks.known {
        let manager = view.process(process).and_then(|process| process.managers.get(&manager));
        let name = match place {
            Place::Worker(worker) => format!("worker {worker}"),
            Place::Node(node) => {
                let machine = manager.and_then(|manager| manager.nodes.get(&node)).map(|node| node.machine.clone());
                format!("{} #{lane}", machine.unwrap_or_else(|| format!("node {node}")))
            }
        };
        events
            .push(json!({ "ph": "M", "name": "thread_name", "pid": process, "tid": track, "args": { "name": name } }));
    }
    json!({ "traceEvents": events, "displayTimeUnit": "ms" })
}

fn micros(at: Time, first: Time) -> u64 {
    at.0.saturating_sub(first.0)
}

/// Process, Manager, place, and which of the chunks that ran there at once.
type Track = (u32, u64, Place, usize);

#[derive(Default)]
struct Tracks {
    known: BTreeMap<Track, usize>,
    places: BTreeMap<(u32, u64, Place), Lanes>,
}

/// Tracks of one place: those that are free, and when the others are.
#[derive(Default)]
struct Lanes {
    count: usize,
    free: BTreeSet<usize>,
    busy: BinaryHeap<Reverse<(Time, usize)>>,
}

impl Tracks {
    /// A node computes several chunks at once, and does not say on which of its workers.
    fn of(&mut self, span: &Span) -> usize {
        let lanes = self.places.entry((span.process, span.manager, span.place)).or_default();
        while let Some(Reverse((end, lane))) = lanes.busy.peek().copied()
            && end <= span.start
        {
            lanes.busy.pop();
            lanes.free.insert(lane);
        }
        let lane = match span.place {
            Place::Worker(_) => 0,
            Place::Node(_) => lanes.free.pop_first().unwrap_or_else(|| {
                lanes.count += 1;
                lanes.count - 1
            }),
        };
        lanes.busy.push(Reverse((span.end, lane)));
        let next = self.known.len() + 1;
        *self.known.entry((span.process, span.manager, span.place, lane)).or_insert(next)
    }
}
