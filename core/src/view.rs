//! What a log tells, as a state: who is alive, what runs where and since when, how far calls are, what failed and what was
//! done about it, why nothing happens, and whether the record is whole.
//!
//! [`View::apply`] takes one [`Line`] after the other, of one log or of several merged by time, and never asks a clock: the
//! time of a view is that of its latest line. Everything that people look at is made from it: terminals, pages, reports,
//! tests.
//!
//! Lines may be missing, come twice or late; then the view knows less, and says so ([`View::losses`]), but never says that
//! something runs on a worker or a node that is lost. Whatever a lost line has left wrong is put right by the next
//! `distfun.manager.state`. What a view keeps is bounded by [`Limits`]; what it has left out it counts.
//!
//! ```
//! use distfun_core::view::{Limits, Line, View};
//!
//! # fn read(log: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let mut view = View::new(Limits::default());
//! for line in log.lines() {
//!     view.apply(&serde_json::from_str(line)?);
//! }
//! for concern in view.concerns(view.now()) {
//!     println!("{}", concern.text);
//! }
//! # Ok(())
//! # }
//! # read(include_str!("../../integration-tests/testdata/events-v1.ndjson")).unwrap();
//! ```

mod explain;
mod failures;
mod job;
mod line;
mod manager;
mod node;
mod process;
mod record;
mod running;
mod serving;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    ops::Deref,
    sync::Arc,
};

use serde::{Serialize, Serializer};

pub use explain::Concern;
pub use failures::FailureGroup;
pub use job::{Fault, Job, JobState};
pub use line::{Line, Text, Time};
pub use manager::{Ended, Judgement, Manager, Snapshot, Stall};
pub use node::{Node, NodeState};
pub use process::{Process, Serving, Shared};
pub use record::Losses;
pub use running::Running;
pub use worker::{Worker, WorkerState};

use crate::event::{TARGET, capped};

/// What a view keeps at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Chunks that ended, the latest. Default: 10,000.
    pub spans: usize,
    /// Calls for each process; those that have ended leave first. Default: 1,000.
    pub jobs: usize,
    /// Workers, and nodes, for each Manager. Default: 1,000.
    pub workers: usize,
    /// Managers for each process; those that have ended leave first. Default: 100.
    pub managers: usize,
    /// Processes; those that were silent for longest leave first. Default: 200.
    pub processes: usize,
    /// Lines of the story. Default: 1,000.
    pub story: usize,
    /// Kinds of failure. Default: 200.
    pub failures: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { spans: 10_000, jobs: 1000, workers: 1000, managers: 100, processes: 200, story: 1000, failures: 200 }
    }
}

/// A chunk that has ended: it came to its end, or was taken away before.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Span {
    /// Counts the spans of a view, from 0.
    pub number: u64,
    /// [`Process::id`].
    pub process: u32,
    /// [`Manager::id`].
    pub manager: u64,
    /// Where it was computed.
    pub place: Place,
    /// [`Job::id`].
    pub job: u64,
    /// What was called.
    pub function: Name,
    /// Its first item.
    pub index: u64,
    /// How many it had.
    pub items: u64,
    /// How often it was tried.
    pub attempt: u64,
    /// When it began to be computed.
    pub start: Time,
    /// When it had ended.
    pub end: Time,
    /// Whether an item of it failed.
    pub is_failed: bool,
    /// Whether it was taken away: its worker died or was left behind inside it, or its node was lost.
    pub is_lost: bool,
}

/// A text that many have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// [`Worker::id`].
    Worker(u64),
    /// [`Node::id`].
    Node(u64),
}

/// A line for people: what supervision did, and what the program has said.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Told {
    /// Counts the lines of a story, from 0.
    pub number: u64,
    /// When.
    pub at: Time,
    /// [`Process::id`].
    pub process: u32,
    /// As on the line.
    pub level: Name,
    /// The event without `distfun.`, or the target of a line from elsewhere.
    pub name: Name,
    /// As on the line.
    pub text: String,
}

/// What logs have told so far.
#[derive(Debug, Clone, Default)]
pub struct View {
    kept: Kept,
    processes: BTreeMap<u32, Process>,
    ids: HashMap<String, u32>,
    next_process: u32,
    first: Option<Time>,
    now: Time,
    lines: u64,
    unreadable: u64,
}

/// What is kept for all processes together.
#[derive(Debug, Clone, Default)]
struct Kept {
    limits: Limits,
    names: HashMap<String, Name>,
    spans: VecDeque<Span>,
    next_span: u64,
    story: VecDeque<Told>,
    next_told: u64,
    failures: failures::Failures,
    /// Calls, workers, Managers and processes that were left out.
    cut: u64,
}

impl Kept {
    /// One text for each name, as long as there are not very many.
    fn name(&mut self, name: &str) -> Name {
        let name = capped(name);
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        if self.names.len() >= 1000 {
            self.names.clear();
        }
        let new = Name(name.into());
        self.names.insert(name.to_owned(), new.clone());
        new
    }

    fn span(&mut self, span: Span) {
        if self.spans.len() >= self.limits.spans.max(1) {
            self.spans.pop_front();
        }
        self.spans.push_back(Span { number: self.next_span, ..span });
        self.next_span += 1;
    }

    fn tell(&mut self, process: u32, name: &str, line: &Line<'_>) {
        if self.story.len() >= self.limits.story.max(1) {
            self.story.pop_front();
        }
        let (level, name) = (self.name(&line.level), self.name(name));
        let (at, number) = (line.at, self.next_told);
        self.story.push_back(Told { number, at, process, level, name, text: capped(&line.message).to_owned() });
        self.next_told += 1;
    }
}

impl View {
    /// Of nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self { kept: Kept { limits, ..Kept::default() }, ..Self::default() }
    }

    /// Takes in a line.
    pub fn apply(&mut self, line: &Line<'_>) {
        self.lines += 1;
        self.first = Some(self.first.map_or(line.at, |first| first.min(line.at)));
        self.now = self.now.max(line.at);
        let id = self.process_of(line);
        let Some(process) = self.processes.get_mut(&id) else { return };
        if !process.hears(line) {
            return;
        }
        match line.event.as_deref().and_then(|event| event.strip_prefix("distfun.")) {
            Some(event) if *line.target == *TARGET => {
                process.apply(event, line, &mut self.kept);
                if event == "node.started" {
                    self.replace_by(id);
                }
            }
            _ => {
                let target = line.target.to_string();
                self.kept.tell(id, &target, line);
            }
        }
    }

    /// Runs of the same node that have not said that they end.
    fn replace_by(&mut self, id: u32) {
        let Some((since, Some(place))) = self.processes.get(&id).map(|new| (new.last, new.place())) else { return };
        let is_before = |old: &&mut Process| old.id != id && old.last < since && !old.is_over();
        let old = self.processes.values_mut().filter(is_before).filter(|old| old.place().as_ref() == Some(&place));
        old.for_each(Process::replace);
    }

    /// Counts a line that is none of a log.
    pub fn note_unreadable(&mut self) {
        self.unreadable += 1;
    }

    fn process_of(&mut self, line: &Line<'_>) -> u32 {
        if let Some(&id) = self.ids.get(&*line.boot_id) {
            return id;
        }
        if self.processes.len() >= self.kept.limits.processes.max(1) {
            let is_over = |process: &Process| process.is_over();
            let oldest = self.processes.values().min_by_key(|process| (!is_over(process), process.last));
            if let Some((id, boot_id)) = oldest.map(|process| (process.id, process.boot_id.clone())) {
                self.kept.cut += 1;
                self.processes.remove(&id);
                self.ids.remove(&boot_id);
            }
        }
        let id = self.next_process;
        self.next_process += 1;
        self.ids.insert(line.boot_id.to_string(), id);
        self.processes.insert(id, Process::new(id, line));
        id
    }

    /// The time of the latest line.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The time of the earliest line, if there is one.
    pub fn first(&self) -> Option<Time> {
        self.first
    }

    /// Processes that have written, in the order in which they came.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    /// One of them.
    pub fn process(&self, id: u32) -> Option<&Process> {
        self.processes.get(&id)
    }

    /// All Managers, with their processes.
    pub fn managers(&self) -> impl Iterator<Item = (&Process, &Manager)> {
        self.processes().flat_map(|process| process.managers.values().map(move |manager| (process, manager)))
    }

    /// All calls, with their processes, the oldest first within each.
    pub fn jobs(&self) -> impl Iterator<Item = (&Process, &Job)> {
        self.processes().flat_map(|process| process.jobs.values().map(move |job| (process, job)))
    }

    /// The calls of this number: one in each process, as calls are numbered within it.
    pub fn jobs_of(&self, id: u64) -> impl Iterator<Item = (&Process, &Job)> {
        self.processes().filter_map(move |process| Some((process, process.jobs.get(&id)?)))
    }

    /// The latest chunks that ended, in the order in which the log told it.
    pub fn spans(&self) -> impl DoubleEndedIterator<Item = &Span> + ExactSizeIterator {
        self.kept.spans.iter()
    }

    /// The latest lines for people.
    pub fn story(&self) -> impl DoubleEndedIterator<Item = &Told> + ExactSizeIterator {
        self.kept.story.iter()
    }

    /// What failed, by kind, the latest last.
    pub fn failures(&self) -> Vec<&FailureGroup> {
        self.kept.failures.sorted()
    }

    /// What the record lacks.
    pub fn losses(&self) -> Losses {
        let mut losses = Losses {
            lines: self.lines,
            unreadable: self.unreadable,
            cut: self.kept.cut + self.kept.failures.cut(),
            spans_cut: self.kept.next_span - self.kept.spans.len() as u64,
            ..Losses::default()
        };
        self.processes().for_each(|process| process.add_losses(&mut losses));
        losses
    }
}
