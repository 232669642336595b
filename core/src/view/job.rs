//! One call.

use std::fmt;

use serde::Serialize;

use super::{Line, Name, Time};
use crate::event::capped;

/// How a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobState {
    /// It has not ended.
    Running,
    /// All items have results.
    Success,
    /// It has failed, or items of it have.
    Failure,
    /// It ran out of time.
    Timeout,
    /// Nobody wants it any more.
    Cancelled,
    /// It has ended, but how was in a line that is lost.
    Unknown,
}

/// A call.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Job {
    /// [`super::Process::id`].
    pub process: u32,
    /// Counts the calls of the process.
    pub id: u64,
    /// [`super::Manager::id`]; none in the calling thread.
    pub manager: Option<u64>,
    /// The worker whose item made it, if it was made inside a distributed function.
    pub made_by: Option<u64>,
    /// What is called.
    pub function: Name,
    /// How items are given to the function: `items`, `list`, `columns` or `stream`.
    pub mode: String,
    /// How it stands.
    pub state: JobState,
    /// When it was made.
    pub submitted: Time,
    /// When it had ended.
    pub ended: Option<Time>,
    /// Items in all; of a stream, those that have come.
    pub items: u64,
    /// Items with an outcome.
    pub done: u64,
    /// Items that failed.
    pub failed: u64,
    /// How often an item was tried again.
    pub retries: u64,
    /// Chunks that ended.
    pub chunks: u64,
    /// Items per second so far, and when that was said.
    pub rate: Option<f64>,
    /// Seconds left, and when that was said.
    pub eta: Option<(f64, Time)>,
    /// Time that workers spent in it, in seconds.
    pub compute_s: Option<f64>,
    /// The share of the workers' time that went into it.
    pub efficiency: Option<f64>,
    /// The error in words, if it ended with one, or the last that an item had.
    pub error: Option<String>,
    /// The first of the items that failed for good, as far as the log told.
    pub fault: Option<Fault>,
    /// The time of the last line about it.
    pub heard: Time,
    /// When its first chunk began, if that is known.
    pub began: Option<Time>,
    /// Outcomes that lines at DEBUG told since the last figures.
    #[serde(skip)]
    since_figures: u64,
    #[serde(skip)]
    figures: u64,
    /// The error is that with which it ended, and not an item's.
    #[serde(skip)]
    pub(super) has_own_error: bool,
    #[serde(skip)]
    seq: u64,
}

/// An item that failed for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fault {
    /// Which.
    pub item: u64,
    /// The machine that computed it, if it was another one.
    pub machine: Option<String>,
    /// Why, in words.
    pub text: String,
    /// Where in the program, if that is known: `file:line`.
    pub code: Option<String>,
}

impl Fault {
    fn of(line: &Line<'_>) -> Option<Self> {
        Some(Self {
            item: line.item_index?,
            machine: line.machine.as_deref().map(|machine| capped(machine).to_owned()),
            text: text_of(line),
            code: code_of(line),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "item {}", self.item)?;
        self.machine.as_deref().map_or(Ok(()), |machine| write!(f, " on {machine}"))?;
        write!(f, ": {}", self.text)?;
        self.code.as_deref().map_or(Ok(()), |code| write!(f, " ({code})"))
    }
}

impl Job {
    pub(super) fn new(process: u32, id: u64, function: Name, line: &Line<'_>) -> Self {
        Self {
            process,
            id,
            manager: line.manager_id,
            made_by: None,
            function,
            mode: String::new(),
            state: JobState::Running,
            submitted: line.at.before(line.running_s.or(line.duration_s).unwrap_or(0.0)),
            ended: None,
            items: line.items_total.unwrap_or(0),
            done: 0,
            failed: 0,
            retries: 0,
            chunks: 0,
            rate: None,
            eta: None,
            compute_s: None,
            efficiency: None,
            error: None,
            fault: None,
            heard: line.at,
            began: None,
            since_figures: 0,
            figures: 0,
            has_own_error: false,
            seq: 0,
        }
    }

    pub(super) fn apply(&mut self, verb: &str, line: &Line<'_>) {
        self.heard = self.heard.max(line.at);
        self.manager = self.manager.or(line.manager_id);
        match verb {
            "submitted" => {
                self.mode = capped(line.mode.as_deref().unwrap_or_default()).into();
                (self.submitted, self.made_by) = (line.at, line.worker_id);
                self.items = self.items.max(line.items_total.unwrap_or(0));
            }
            "progress" if line.seq >= self.seq && self.state == JobState::Running => {
                self.seq = line.seq;
                self.figures(line);
                (self.rate, self.eta) = (line.rate_per_s, line.eta_s.map(|eta| (eta, line.at)));
                self.chunks = line.chunks_done.unwrap_or(self.chunks);
            }
            "finished" => {
                self.seq = self.seq.max(line.seq);
                self.figures(line);
                self.state = match line.outcome.as_deref() {
                    Some("success") => JobState::Success,
                    Some("failure") => JobState::Failure,
                    Some("timeout") => JobState::Timeout,
                    Some("cancelled") => JobState::Cancelled,
                    _ => JobState::Unknown,
                };
                self.ended = Some(line.at);
                self.submitted = line.at.before(line.duration_s.unwrap_or(0.0));
                self.began = line.queue_s.map(|queue| self.submitted.after(queue)).or(self.began);
                (self.compute_s, self.efficiency) = (line.compute_s, line.efficiency_ratio);
                self.chunks = line.chunks_done.unwrap_or(self.chunks);
                self.retries = line.retries.unwrap_or(self.retries);
                self.eta = None;
                let duration = line.duration_s.unwrap_or(0.0);
                self.rate = (duration > 0.0).then(|| self.done as f64 / duration);
                if let Some(text) = &line.error_message {
                    (self.error, self.has_own_error) = (Some(capped(text).to_owned()), true);
                }
            }
            _ => {}
        }
    }

    fn figures(&mut self, line: &Line<'_>) {
        self.items = line.items_total.unwrap_or(self.items);
        self.figures = line.items_done.unwrap_or(self.figures);
        self.failed = line.items_failed.unwrap_or(self.failed);
        (self.done, self.since_figures) = (self.figures, 0);
    }

    pub(super) fn apply_chunk(&mut self, event: &str, line: &Line<'_>) {
        self.heard = self.heard.max(line.at);
        self.manager = self.manager.or(line.manager_id);
        if let ("chunk.failed" | "chunk.exception", Some(fault)) = (event, Fault::of(line))
            && self.fault.as_ref().is_none_or(|known| fault.item < known.item)
        {
            self.fault = Some(fault);
        }
        match event {
            "chunk.started" | "chunk.dispatched" => {
                self.began = Some(self.began.map_or(line.at, |began| began.min(line.at)));
            }
            "chunk.finished" | "chunk.returned" if self.state == JobState::Running => {
                self.chunks += 1;
                // A share of the chunks would be more precise than it is.
                if line.sampling_ratio == Some(1.0) {
                    self.since_figures = self.since_figures.saturating_add(line.items_done.unwrap_or(0));
                    self.done = self.figures.saturating_add(self.since_figures).min(self.items.max(self.figures));
                }
            }
            "chunk.retry" | "item.retried" if self.state == JobState::Running => {
                self.retries += 1;
                if self.failed == 0 {
                    self.error = Some(text_of(line));
                }
            }
            "chunk.failed" | "chunk.exception" if self.state == JobState::Running => {
                self.failed = self.failed.saturating_add(line.items_failed.unwrap_or(1)).min(self.items.max(1));
                self.error = Some(text_of(line));
            }
            _ => {}
        }
    }

    /// It has ended, and nobody said how.
    pub(super) fn lose(&mut self, seq: u64, at: Time) {
        if self.state == JobState::Running && self.seq <= seq {
            (self.state, self.ended, self.eta) = (JobState::Unknown, Some(at), None);
        }
    }

    /// Items with an outcome, as a share of all; none for a stream, whose end nobody knows.
    pub fn progress(&self) -> Option<f64> {
        let is_over = self.state != JobState::Running;
        let is_known = self.items > 0 && (self.mode != "stream" || is_over);
        is_known.then(|| (self.done as f64 / self.items as f64).min(1.0))
    }

    /// Seconds left at `now`, by what was said last.
    pub fn eta_s(&self, now: Time) -> Option<f64> {
        self.eta.map(|(eta, at)| (eta - now.since(at).as_secs_f64()).max(0.0))
    }

    /// For how long it has run at `now`, or did, in seconds.
    pub fn running_s(&self, now: Time) -> f64 {
        self.ended.unwrap_or(now).since(self.submitted).as_secs_f64()
    }
}

/// What a line says of an error; if it has no words of its own for it, what it says at all.
pub(super) fn text_of(line: &Line<'_>) -> String {
    capped(line.exception_message.as_deref().or(line.error_message.as_deref()).unwrap_or(&line.message)).to_owned()
}

/// Where in the program it says that something happened.
pub(super) fn code_of(line: &Line<'_>) -> Option<String> {
    let file = capped(line.code_file.as_deref()?);
    Some(line.code_line.map_or_else(|| file.to_owned(), |number| format!("{file}:{number}")))
}
