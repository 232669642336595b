//! All that is known of what is selected.

use std::cell::Cell;

use distfun_core::view::{Job, JobState, Manager, Place, Process, Span};

use super::{tree, workers};
use crate::top::{
    look::Tone,
    pen::Pen,
    seen::{Seen, job_state, node_share, node_state, worker_share, worker_state},
    ui::Key,
    words,
};

/// A title, and lines of a label and a text.
pub(crate) struct Detail {
    title: String,
    lines: Vec<(String, String, Tone)>,
}

impl Detail {
    fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), lines: Vec::new() }
    }

    fn say(&mut self, label: &str, text: impl Into<String>) {
        self.say_in(Tone::Plain, label, text);
    }

    fn say_in(&mut self, tone: Tone, label: &str, text: impl Into<String>) {
        self.lines.push((label.into(), text.into(), tone));
    }

    /// From this line on, or as far as there are lines.
    pub(crate) fn draw(&self, pen: &mut Pen<'_>, scrolled: &Cell<usize>) {
        pen.clear();
        pen.rule(0, &self.title);
        let label = self.lines.iter().map(|(label, ..)| words::width(label)).max().unwrap_or(0).min(pen.width() / 3);
        let indent = if label == 0 { 1 } else { label + 2 };
        let mut rows = Vec::new();
        for (name, text, tone) in &self.lines {
            let lines = words::wrap(&words::line(text), pen.width().saturating_sub(indent + 1));
            let names = std::iter::once(name.as_str()).chain(std::iter::repeat(""));
            rows.extend(names.zip(lines).map(|(name, line)| (name, line, *tone)));
        }
        let room = pen.height().saturating_sub(1);
        let shown = if rows.len() > room { room.saturating_sub(1) } else { room };
        scrolled.set(scrolled.get().min(rows.len().saturating_sub(shown)));
        let first = scrolled.get();
        for (y, (name, line, tone)) in rows.iter().skip(first).take(shown).enumerate() {
            pen.put(1, 1 + y, &words::head(name, label, ""), Tone::Quiet);
            pen.put(indent, 1 + y, line, *tone);
        }
        if rows.len() > shown {
            let last = first + shown;
            let text = format!("{} {}-{last} of {} lines: page up, page down", pen.ellipsis(), first + 1, rows.len());
            pen.put(1, 1 + shown, &text, Tone::Quiet);
        }
    }
}

/// None where it is gone.
pub(crate) fn of(seen: &Seen<'_>, key: &Key) -> Option<Detail> {
    match key {
        Key::Job(process, id) => {
            let process = seen.view.process(*process)?;
            Some(job(seen, process, process.jobs.get(id)?))
        }
        Key::Process(id) => Some(process(seen, seen.view.process(*id)?)),
        Key::Manager(process, id) => {
            let process = seen.view.process(*process)?;
            Some(manager(seen, process, process.managers.get(id)?))
        }
        Key::Place(process, manager, place) => {
            let process = seen.view.process(*process)?;
            let manager = process.managers.get(manager)?;
            match place {
                Place::Worker(id) => worker(seen, process, manager, *id),
                Place::Node(id) => node(seen, process, manager, *id),
            }
        }
        Key::Failure(kind, of) => failure(seen, kind, of),
        Key::Shared(process, key) => {
            let process = seen.view.process(*process)?;
            let shared = process.shared.get(key)?;
            let mut detail = Detail::new(format!("shared data {key}"));
            detail.say("size", format!("{} ({} B)", words::bytes(shared.bytes), shared.bytes));
            detail.say("where", format!("{} on {}", process.name(), process.host));
            detail.say("since", format!("{}, held by {}", words::clock(shared.since), shared.count));
            Some(detail)
        }
    }
}

fn job(seen: &Seen<'_>, process: &Process, job: &Job) -> Detail {
    let mut detail = Detail::new(format!("call {} of {}", job.id, process.name()));
    let tone = if matches!(job.state, JobState::Failure | JobState::Timeout) { Tone::Bad } else { Tone::Plain };
    detail.say_in(tone, job_state(job).0, seen.view.explain(process, job, seen.now));
    let whose = match (job.manager, job.made_by) {
        (_, Some(worker)) => format!(", made by an item on worker {worker}"),
        (Some(manager), None) => format!(", by manager {manager}"),
        (None, None) => ", in the thread that called it".into(),
    };
    let mode = if job.mode.is_empty() { String::new() } else { format!(" ({})", job.mode) };
    detail.say("function", format!("{}{mode}{whose}", job.function));
    let mut figures = format!("{} of {}, {} failed", job.done, words::many(job.items, "item"), job.failed);
    figures.push_str(&format!(", {} tried again, {}", job.retries, words::many(job.chunks, "chunk")));
    detail.say("done", figures);
    let mut times = format!("made at {}", words::clock(job.submitted));
    if let Some(began) = job.began {
        times.push_str(&format!(", began after {}", words::duration(began.since(job.submitted).as_secs_f64())));
    }
    if let Some(ended) = job.ended {
        times.push_str(&format!(", ended at {}", words::clock(ended)));
    }
    times.push_str(&format!(", last heard of {} ago", words::duration(seen.since(job.heard))));
    detail.say("time", times);
    let mut speed = Vec::new();
    speed.extend(job.rate.map(|rate| format!("{} items", words::rate(rate))));
    speed.extend(job.compute_s.map(|compute| format!("{} computed", words::duration(compute))));
    speed.extend(job.efficiency.map(|share| format!("{} of the workers' time", words::percent(share))));
    if !speed.is_empty() {
        detail.say("speed", speed.join(", "));
    }
    let places = process.places_of(job);
    for (place, running) in places.iter().take(4) {
        let whose = match place {
            Place::Worker(worker) => format!("worker {worker}"),
            Place::Node(_) => "a node".into(),
        };
        let slow = if running.is_slow { ", much longer than others" } else { "" };
        let text =
            format!("{} on {whose}, for {}{slow}", workers::which(running), words::elapsed(seen.since(running.since)));
        detail.say_in(if running.is_slow { Tone::Warn } else { Tone::Plain }, "runs", text);
    }
    if places.len() > 4 {
        detail.say("runs", format!("{} more", words::many(places.len() as u64 - 4, "chunk")));
    }
    if let Some(error) = job.error.as_deref().filter(|_| job.state == JobState::Running) {
        detail.say_in(Tone::Warn, "last error", error);
    }
    detail
}

fn process(seen: &Seen<'_>, process: &Process) -> Detail {
    let mut detail = Detail::new(process.name());
    let (state, _) = tree::process_state(seen, process);
    detail.say(
        state,
        format!(
            "{}, on {}, first heard of at {}, last {} ago",
            process.role,
            process.host,
            words::clock(process.first),
            words::duration(seen.since(process.last))
        ),
    );
    if let Some(serving) = &process.node {
        let address = serving.address.as_deref().unwrap_or("?");
        detail.say(
            "serves",
            format!(
                "at {address}, {}, {} connected",
                words::slots(serving.slots, serving.gpus),
                words::many(serving.managers, "program")
            ),
        );
        if serving.deaths > 0 {
            detail.say_in(Tone::Warn, "processes died", words::many(serving.deaths, "time"));
        }
        if let Some(stopping) = &serving.stopping {
            detail.say_in(Tone::Warn, "stops", stopping.as_str());
        }
    }
    let running = process.jobs.values().filter(|job| job.state == JobState::Running).count();
    detail.say("calls", format!("{running} run, {} have ended", process.jobs.len() - running));
    if !process.managers.is_empty() {
        let ended = process.managers.values().filter(|manager| manager.ended.is_some()).count();
        detail.say("managers", format!("{} there, {ended} have ended", process.managers.len() - ended));
    }
    if !process.shared.is_empty() {
        let all: u64 = process.shared.values().map(|shared| shared.bytes).sum();
        detail
            .say("shared data", format!("{}, {}", words::many(process.shared.len() as u64, "key"), words::bytes(all)));
    }
    detail.say("run", process.boot_id.as_str());
    let told: Vec<_> = seen.view.story().rev().filter(|told| told.process == process.id).take(20).collect();
    for told in told {
        detail.say_in(tone_of(&told.level), &words::clock(told.at), told.text.as_str());
    }
    detail
}

fn tone_of(level: &str) -> Tone {
    match level {
        "ERROR" => Tone::Bad,
        "WARN" => Tone::Warn,
        _ => Tone::Plain,
    }
}

fn manager(seen: &Seen<'_>, process: &Process, manager: &Manager) -> Detail {
    let mut detail = Detail::new(format!("manager {} of {}", manager.id, process.name()));
    let (busy, live) = seen.view.busy(process, manager, seen.now);
    match &manager.ended {
        Some(ended) => detail.say("ended", format!("at {} ({})", words::clock(ended.at), ended.reason)),
        None => detail.say("up", format!("since {}, {busy} of {live} workers busy", words::clock(manager.since))),
    }
    if let Some(stall) = &manager.stall {
        let text = format!("{} calls wait since {}: {}", stall.jobs, words::clock(stall.since), stall.reason);
        detail.say_in(Tone::Bad, "stalled", text);
    }
    if let Some(snapshot) = &manager.snapshot {
        detail.say(
            "chunks",
            format!(
                "{} done, {} failed, {} tried again, {} run",
                snapshot.chunks_done, snapshot.chunks_failed, snapshot.chunks_retried, snapshot.chunks_running
            ),
        );
        detail.say(
            "calls",
            format!(
                "{} active, {} ended, {} items wait",
                snapshot.jobs_active, snapshot.jobs_finished, snapshot.items_pending
            ),
        );
        detail.say("as told", format!("by itself, {} ago", words::duration(seen.since(snapshot.at))));
    }
    detail
}

fn worker(seen: &Seen<'_>, process: &Process, manager: &Manager, id: u64) -> Option<Detail> {
    let worker = manager.workers.get(&id)?;
    let (state, _) = worker_state(seen, process, manager, worker);
    let mut detail = Detail::new(format!("worker {id} of manager {}, {}", manager.id, process.name()));
    let kind = worker.gpu.as_ref().map_or_else(|| worker.kind.clone(), |gpu| format!("gpu {gpu}"));
    let life = format!("{kind}, life {}, {}", worker.life(), words::many(worker.restarts, "restart"));
    detail.say(state, format!("for {}; {life}", words::elapsed(seen.since(worker.since))));
    if let Some(running) = &worker.running {
        let slow = if running.is_slow { ", much longer than others" } else { "" };
        let text = format!(
            "{}, {} of call {}, for {}, try {}{slow}",
            running.function,
            workers::which(running),
            running.job,
            words::elapsed(seen.since(running.since)),
            running.attempt
        );
        detail.say_in(if running.is_slow { Tone::Warn } else { Tone::Plain }, "computes", text);
    }
    let share = worker_share(manager, worker, seen.known_until(process));
    let share = share.map(|share| format!(", {} of its time", words::percent(share))).unwrap_or_default();
    detail.say(
        "has done",
        format!("{} in {}{share}", words::many(worker.chunks, "chunk"), words::duration(worker.busy_s)),
    );
    if let Some(error) = &worker.error {
        detail.say_in(Tone::Warn, "last error", error.as_str());
    }
    spans(seen, process, manager, Place::Worker(id), &mut detail);
    Some(detail)
}

fn node(seen: &Seen<'_>, process: &Process, manager: &Manager, id: u64) -> Option<Detail> {
    let node = manager.nodes.get(&id)?;
    let (state, _) = node_state(seen, process, manager, node);
    let mut detail = Detail::new(format!("{} of manager {}, {}", node.machine, manager.id, process.name()));
    let tone = if node.is_up() { Tone::Plain } else { Tone::Bad };
    let version = if node.version.is_empty() { String::new() } else { format!(", distfun {}", node.version) };
    let name = if node.name.is_empty() { "it has not said its name" } else { &node.name };
    let text = format!(
        "for {}; {name}, {}{version}",
        words::elapsed(seen.since(node.since)),
        words::slots(node.slots, node.gpus)
    );
    detail.say_in(tone, state, text);
    let share = node_share(manager, node, seen.known_until(process));
    let share = share.map(|share| format!(", {} of its slots' time", words::percent(share))).unwrap_or_default();
    detail.say("has done", format!("{} in {}{share}", words::many(node.chunks, "chunk"), words::duration(node.busy_s)));
    detail.say(
        "was lost",
        format!("{}, {} done elsewhere", words::many(node.losses, "time"), words::many(node.requeued, "chunk")),
    );
    if node.deaths > 0 {
        detail.say_in(Tone::Warn, "workers died", words::many(node.deaths, "time"));
    }
    if let Some(rtt) = node.rtt_s {
        let sent = words::bytes(node.shared_bytes);
        detail.say("line", format!("{} there and back, {sent} of shared data sent", words::duration(rtt)));
    }
    if let Some(error) = &node.error {
        detail.say_in(Tone::Warn, "last error", error.as_str());
    }
    for running in node.running.values().take(4) {
        let long = words::elapsed(seen.since(running.since));
        let text = format!("{} of call {} ({}), for {long}", workers::which(running), running.job, running.function);
        detail.say("computes", text);
    }
    if let Some(own) = seen.process_of(node) {
        let said = seen.view.story().rev().find(|told| told.process == own.id);
        detail.say("its own log", format!("{}, on {}", tree::process_state(seen, own).0, own.host));
        if let Some(told) = said {
            detail.say_in(tone_of(&told.level), &words::clock(told.at), told.text.as_str());
        }
    }
    spans(seen, process, manager, Place::Node(id), &mut detail);
    Some(detail)
}

/// What it has done last.
fn spans(seen: &Seen<'_>, process: &Process, manager: &Manager, place: Place, detail: &mut Detail) {
    let is_its = |span: &&Span| (span.process, span.manager, span.place) == (process.id, manager.id, place);
    for span in seen.view.spans().rev().filter(is_its).take(10) {
        let took = words::duration(span.end.since(span.start).as_secs_f64());
        let (how, tone) = match span {
            Span { is_failed: true, .. } => (", failed", Tone::Bad),
            Span { is_lost: true, .. } => (", lost", Tone::Warn),
            _ => ("", Tone::Quiet),
        };
        let text = format!(
            "{} from {} of call {} ({}) in {took}{how}",
            words::many(span.items, "item"),
            span.index,
            span.job,
            span.function
        );
        detail.say_in(tone, &words::clock(span.end), text);
    }
}

fn failure(seen: &Seen<'_>, kind: &str, of: &str) -> Option<Detail> {
    let all = seen.view.failures();
    let group = all.iter().find(|group| group.kind == kind && group.of == of)?;
    let mut detail = Detail::new(format!("{kind}, {of}"));
    detail.say_in(Tone::Bad, "said last", group.text.as_str());
    detail.say("where", if group.place.is_empty() { "not said" } else { &group.place });
    if let Some(code) = &group.code {
        detail.say("code", code.as_str());
    }
    detail.say("how often", format!("{} tried again, {} failed for good", group.retried, group.failed));
    detail.say("when", format!("{} to {}", words::clock(group.first), words::clock(group.last)));
    Some(detail)
}
