//! A view as JSON: what `distfun status --json` prints and pages are drawn from.

use distfun_core::view::{Concern, FailureGroup, Losses, Process, Span, Time, Told, View};
use serde::Serialize;

/// Times are seconds since 1970 (UTC), durations seconds (`_s`), sizes bytes (`_bytes`). Fields may be added.
#[derive(Serialize)]
pub(crate) struct Picture<'a> {
    /// Version of this form.
    pub(crate) form: u32,
    /// The time it is of, by the clocks of those who wrote.
    pub(crate) now: Time,
    /// The time of the first line.
    pub(crate) first: Option<Time>,
    /// What is wrong, the gravest first.
    pub(crate) concerns: Vec<Concern>,
    /// What the record lacks.
    pub(crate) losses: Losses,
    /// For each call, why it is not done yet, or how it ended.
    pub(crate) explanations: Vec<Explanation>,
    /// Programs that have written, with their Managers, workers, nodes and calls.
    pub(crate) processes: Vec<&'a Process>,
    /// What failed, by kind, the latest last.
    pub(crate) failures: Vec<&'a FailureGroup>,
    /// Lines for people, the latest last.
    pub(crate) story: Vec<&'a Told>,
    /// Chunks that ended, the latest last.
    pub(crate) spans: Vec<&'a Span>,
}

/// Of one call.
#[derive(Serialize)]
pub(crate) struct Explanation {
    /// The number of its process.
    pub(crate) process: u32,
    /// Its own.
    pub(crate) job: u64,
    /// In a sentence.
    pub(crate) text: String,
}

impl<'a> Picture<'a> {
    /// At `now`, with lines and chunks from these numbers on.
    pub(crate) fn of(view: &'a View, now: Time, told_from: u64, spans_from: u64) -> Self {
        Self {
            form: 1,
            now,
            first: view.first(),
            concerns: view.concerns(now),
            losses: view.losses(),
            explanations: view
                .jobs()
                .map(|(process, job)| Explanation {
                    process: process.id,
                    job: job.id,
                    text: view.explain(process, job, now),
                })
                .collect(),
            processes: view.processes().collect(),
            failures: view.failures(),
            story: view.story().filter(|told| told.number >= told_from).collect(),
            spans: view.spans().filter(|span| span.number >= spans_from).collect(),
        }
    }
}
