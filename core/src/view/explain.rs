//! Why nothing happens, or why not yet, in a sentence.

use std::collections::HashMap;

use serde::Serialize;

use super::{Job, JobState, Judgement, Manager, Node, NodeState, Place, Process, Running, Time, View, WorkerState};
use crate::event::Seconds;

/// Something that somebody should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Concern {
    /// Whether work waits for it.
    pub is_grave: bool,
    /// [`Process::id`], if it is about one.
    pub process: Option<u32>,
    /// In a sentence.
    pub text: String,
}

impl View {
    /// What is wrong at `now`, the gravest first; empty if nothing is.
    pub fn concerns(&self, now: Time) -> Vec<Concern> {
        let mut all = Vec::new();
        for process in self.processes() {
            let mut note = |is_grave, text: String| {
                all.push(Concern { is_grave, process: Some(process.id), text: format!("{}: {text}", process.name()) });
            };
            if process.is_silent(now) {
                let silent = Seconds(now.since(process.last).as_secs_f64());
                note(
                    false,
                    format!("nothing heard for {silent}: it has ended without a word, or its log is not followed"),
                );
            }
            let open = process.managers.values().filter(|manager| manager.ended.is_none() && !process.is_replaced);
            for manager in open {
                stalled(manager, now, &mut note);
                judged(manager, &mut note);
                gone(manager, now, &mut note);
            }
        }
        let losses = self.losses();
        if !losses.is_whole() {
            let mut parts = Vec::new();
            let counts = [
                (losses.missing, "are missing"),
                (losses.dropped, "were dropped by a program"),
                (losses.unreadable, "are not lines of a log"),
            ];
            counts
                .iter()
                .filter(|(count, _)| *count > 0)
                .for_each(|(count, what)| parts.push(format!("{count} {what}")));
            let text = format!("the record is not whole: of its lines {}", parts.join(", "));
            all.push(Concern { is_grave: false, process: None, text });
        }
        all.sort_by_key(|concern| !concern.is_grave);
        all
    }

    /// Why a call is not done yet at `now`, or how it ended: one sentence.
    pub fn explain(&self, process: &Process, job: &Job, now: Time) -> String {
        let mut chunks = Chunks::default();
        process.places_of(job).into_iter().for_each(|(place, running)| chunks.add(place, running));
        explain(process, job, chunks, now)
    }

    /// The same of all calls, looking at each chunk that runs once.
    pub fn explanations(&self, now: Time) -> impl Iterator<Item = (&Process, &Job, String)> {
        self.processes().flat_map(move |process| {
            let mut of_jobs: HashMap<(u64, u64), Chunks<'_>> = HashMap::new();
            for manager in process.managers.values() {
                for (place, running) in manager.running() {
                    of_jobs.entry((manager.id, running.job)).or_default().add(place, running);
                }
            }
            process.jobs.values().map(move |job| {
                let chunks = job.manager.and_then(|manager| of_jobs.get(&(manager, job.id)).copied());
                (process, job, explain(process, job, chunks.unwrap_or_default(), now))
            })
        })
    }
}

/// Chunks of a call that run.
#[derive(Clone, Copy, Default)]
struct Chunks<'a> {
    count: usize,
    /// The one that began first, and where.
    oldest: Option<(Place, &'a Running)>,
}

impl<'a> Chunks<'a> {
    fn add(&mut self, place: Place, running: &'a Running) {
        self.count += 1;
        if self.oldest.is_none_or(|(_, oldest)| running.since < oldest.since) {
            self.oldest = Some((place, running));
        }
    }
}

fn explain(process: &Process, job: &Job, chunks: Chunks<'_>, now: Time) -> String {
    let name = format!("call {} ({})", job.id, job.function);
    let took = Seconds(job.running_s(now));
    match job.state {
        JobState::Success => format!("{name} is complete: {} after {took}", items(job.items)),
        JobState::Failure => {
            format!("{name} failed after {took}, with {} of {} failed{}", job.failed, items(job.items), why(job))
        }
        JobState::Timeout => {
            format!(
                "{name} ran out of time after {took}, with {} of {} done{}",
                job.done,
                items(job.items),
                failed(job)
            )
        }
        JobState::Cancelled => {
            format!("{name} was cancelled after {took}, with {} of {} done{}", job.done, items(job.items), failed(job))
        }
        JobState::Unknown => format!("{name} has ended, but the line that says how is not in the log"),
        JobState::Running => {
            let manager = job.manager.and_then(|id| process.managers.get(&id));
            let done = match job.progress() {
                Some(_) => format!("{} of {} done", job.done, items(job.items)),
                None => format!("{} done", items(job.done)),
            };
            let waits = waits(process, manager, job, chunks, now);
            format!("{name} {waits}; {done} after {took}{}{}", left(job, now), failed(job))
        }
    }
}

/// How many items of it failed, and why.
fn failed(job: &Job) -> String {
    if job.failed == 0 { String::new() } else { format!("; {} failed{}", job.failed, why(job)) }
}

/// The item that failed first and where, unless the call has an error of its own.
fn why(job: &Job) -> String {
    match (&job.fault, job.error.as_deref()) {
        (_, Some(error)) if job.has_own_error => format!(": {error}"),
        (Some(fault), _) if job.failed > 1 => format!(", the first of them {fault}"),
        (Some(fault), _) => format!(": {fault}"),
        (None, error) => error.map(|error| format!(": {error}")).unwrap_or_default(),
    }
}

fn left(job: &Job, now: Time) -> String {
    match job.eta_s(now) {
        Some(eta) if eta > 0.0 => format!(", about {} left", Seconds(eta)),
        _ => String::new(),
    }
}

fn items(count: u64) -> String {
    format!("{count} {}", if count == 1 { "item" } else { "items" })
}

/// What a call that has not ended does.
fn waits(process: &Process, manager: Option<&Manager>, job: &Job, chunks: Chunks<'_>, now: Time) -> String {
    if process.is_silent(now) {
        let silent = Seconds(now.since(process.last).as_secs_f64());
        return format!("ran when its program was last heard of, {silent} ago");
    }
    let Some(manager) = manager else { return "runs in the thread that called it".into() };
    if let Some(stall) = &manager.stall {
        return format!(
            "has waited for {}: {}",
            Seconds(now.since(stall.since).as_secs_f64()),
            reason(&stall.reason, manager)
        );
    }
    if let Some((place, running)) = chunks.oldest {
        let whose = match place {
            Place::Worker(worker) => format!("worker {worker}"),
            Place::Node(node) => manager.nodes.get(&node).map_or("a node".into(), |node| node.machine.clone()),
        };
        let long = now.since(running.since).as_secs_f64();
        let last = running.index + running.items.max(1) - 1;
        let which =
            if running.items == 1 { format!("item {last}") } else { format!("items {}..{}", running.index, last + 1) };
        let slow = if running.is_slow { ", much longer than others" } else { "" };
        return match chunks.count {
            1 => format!("computes {which} on {whose}, for {}{slow}", Seconds(long)),
            many => format!("computes {many} chunks, the oldest is {which} on {whose}, for {}{slow}", Seconds(long)),
        };
    }
    let (busy, live) = manager.busy(now);
    let up = manager.nodes.values().filter(|node| node.is_up()).count();
    if live == 0 && up == 0 {
        return match manager.nodes.values().find_map(|node| node.error.as_deref()) {
            Some(error) => format!("waits: no machine is connected ({error})"),
            None if manager.workers.is_empty() => "waits: no worker has started yet".into(),
            None => "waits: all workers were given up".into(),
        };
    }
    let restarts =
        manager.workers.values().filter(|worker| matches!(worker.state, WorkerState::Restarting { .. })).count();
    if restarts > 0 && restarts == live {
        return "waits: all workers are being restarted".into();
    }
    if job.began.is_none() && busy == live && live > 0 {
        let others = process.jobs.values().filter(|other| other.manager == job.manager && other.id != job.id);
        if let Some(other) = others.filter(|other| other.state == JobState::Running).min_by_key(|other| other.submitted)
        {
            let busy = if live == 1 { "the worker is".into() } else { format!("all {live} workers are") };
            return format!("waits: {busy} busy, since before with call {} ({})", other.id, other.function);
        }
    }
    "runs".into()
}

fn reason(reason: &str, manager: &Manager) -> String {
    let trouble = || {
        let failed = manager.nodes.values().filter(|node| !node.is_up());
        let told = failed.filter_map(|node| Some(format!("{}: {}", node.machine, node.error.as_deref()?)));
        let all: Vec<_> = told.take(3).collect();
        if all.is_empty() { String::new() } else { format!(" ({})", all.join("; ")) }
    };
    match reason {
        "no_nodes" => format!("no machine is connected, and there are no workers here{}", trouble()),
        "no_workers" => "no worker is left or ready".into(),
        "undecided" => format!("it is not known yet of all machines whether they have a GPU{}", trouble()),
        "workers_stuck" => "all workers are inside items of calls that have ended".into(),
        other => other.replace('_', " "),
    }
}

fn stalled(manager: &Manager, now: Time, note: &mut impl FnMut(bool, String)) {
    let Some(stall) = &manager.stall else { return };
    let calls = if stall.jobs == 1 { "1 call waits".into() } else { format!("{} calls wait", stall.jobs) };
    let since = Seconds(now.since(stall.since).as_secs_f64());
    note(true, format!("{calls}, with {}, for {since}: {}", items(stall.items), reason(&stall.reason, manager)));
}

/// GPUs were wanted and are not used.
fn judged(manager: &Manager, note: &mut impl FnMut(bool, String)) {
    let Some(Judgement { policy, placement, without }) = &manager.judgement else { return };
    let without = without.as_deref().map(|names| format!(": {names} has none")).unwrap_or_default();
    match placement.as_str() {
        "refused" => note(true, format!("calls fail, since not every machine has a GPU ({policy}){without}")),
        "cpus" if policy != "prefer_gpu" => {
            note(false, format!("GPUs are wanted ({policy}), and CPUs compute{without}"))
        }
        _ => {}
    }
}

fn gone(manager: &Manager, now: Time, note: &mut impl FnMut(bool, String)) {
    let given_up = manager.workers.values().filter(|worker| worker.state == WorkerState::GaveUp).count();
    if given_up > 0 {
        let which = if given_up == 1 { "1 worker was".into() } else { format!("{given_up} workers were") };
        note(given_up == manager.workers.len(), format!("{which} given up, of {}", manager.workers.len()));
    }
    let silent: Vec<&Node> = manager.nodes.values().filter(|node| node.state != NodeState::Up).collect();
    for node in silent.iter().take(5) {
        let since = Seconds(now.since(node.since).as_secs_f64());
        let why = node.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        let text = match node.state {
            NodeState::Lost => format!("{} has been lost for {since}{why}", node.machine),
            NodeState::Suspect => format!("{} has not answered for {since}", node.machine),
            NodeState::Draining => format!("{} is about to stop", node.machine),
            NodeState::GivenUp => format!("{} can't be used and is not tried again{why}", node.machine),
            _ => format!("{} could not be used for {since}{why}", node.machine),
        };
        note(false, text);
    }
    if silent.len() > 5 {
        note(false, format!("{} more machines are not there", silent.len() - 5));
    }
}
