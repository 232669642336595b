//! Calls: those that run, and then those that have ended, the latest first.

use std::cmp::Reverse;

use distfun_core::view::{Job, JobState, Process};

use crate::top::{
    look::{Mark, Tone},
    seen::{Seen, has_failed, job_state},
    table::{Cell, Column, Row, Table, left, rest, right},
    ui::Key,
    words,
};

const COLUMNS: [Column; 13] = [
    left("call", 7, 0),
    rest("function", 14, 0),
    left("state", 9, 5),
    rest("progress", 8, 4),
    right("", 4, 1),
    right("done", DONE, 6),
    right("rate", 7, 7),
    right("left", 6, 3),
    right("took", 6, 2),
    right("failed", 6, 3),
    right("retries", 7, 4),
    right("chunks", 6, 8),
    right("use", 4, 9),
];

/// `12.3k/99.9k` is the longest that is said.
pub(crate) const DONE: usize = 11;

pub(crate) fn table(seen: &Seen<'_>) -> Table {
    let mut jobs: Vec<_> = seen.view.jobs().collect();
    jobs.sort_by_key(|(process, job)| {
        let runs = job.state == JobState::Running;
        (!runs, Reverse(job.ended), if runs { job.submitted } else { Default::default() }, process.id, Reverse(job.id))
    });
    let is_told = super::are_several(seen);
    let mut columns = COLUMNS.to_vec();
    columns.extend(is_told.then_some(super::PROGRAM));
    let row = |&(process, job): &(&Process, &Job)| {
        let mut row = row(seen, job);
        row.cells.extend(is_told.then(|| super::program(seen, process)));
        row
    };
    Table { columns, rows: jobs.iter().map(row).collect(), empty: "no calls yet", is_ordered: false }
}

fn row(seen: &Seen<'_>, job: &Job) -> Row {
    let (state, mark) = job_state(job);
    let tone = if mark == Mark::Lost { Tone::Bad } else { Tone::Plain };
    Row {
        key: Key::Job(job.process, job.id),
        cells: vec![
            Cell::marked(mark, job.id.to_string()).sorted(job.id as f64),
            Cell::function(&job.function),
            Cell::text(state).tone(tone),
            bar(job),
            Cell::share(job.progress()),
            done(job),
            rate(job),
            left_s(seen, job),
            Cell::duration(job.running_s(seen.now)),
            Cell::count(job.failed).grave(Tone::Bad),
            Cell::count(job.retries).grave(Tone::Warn),
            Cell::count(job.chunks),
            Cell::share(job.efficiency),
        ],
        has_failed: has_failed(job),
        is_over: job.state != JobState::Running,
    }
}

pub(crate) fn bar(job: &Job) -> Cell {
    let tone = match job.state {
        JobState::Running => Tone::Good,
        JobState::Failure | JobState::Timeout => Tone::Bad,
        _ => Tone::Quiet,
    };
    Cell::bar(job.progress(), tone)
}

pub(crate) fn done(job: &Job) -> Cell {
    let text = match job.progress() {
        Some(_) => format!("{}/{}", words::count(job.done), words::count(job.items)),
        None => words::count(job.done),
    };
    Cell::number(job.done as f64, text)
}

pub(crate) fn rate(job: &Job) -> Cell {
    job.rate.map_or_else(Cell::none, |rate| Cell::number(rate, words::rate(rate)))
}

pub(crate) fn left_s(seen: &Seen<'_>, job: &Job) -> Cell {
    job.eta_s(seen.now).map_or_else(Cell::none, |eta| Cell::number(eta, words::rough(eta.ceil())))
}
