//! Everything at a glance: what is wrong, what each program does, its calls, and what was said last.

use distfun_core::view::{Concern, Job, JobState, Process, Told};

use super::{calls, tree};
use crate::top::{
    look::{Mark, Tone},
    pen::Pen,
    seen::{Seen, has_failed, job_state, worker_share},
    table::{Cell, Column, Row, Table, first_shown, left, rest, right},
    ui::{Key, Pane},
    words,
};

const COLUMNS: [Column; 9] = [
    left("  call", 8, 0),
    rest("function", 14, 0),
    rest("progress", 8, 3),
    right("", 4, 1),
    right("done", calls::DONE, 4),
    right("rate", 7, 5),
    right("left", 6, 2),
    right("failed", 6, 2),
    right("retries", 7, 4),
];

/// Calls that have ended are shown for so long, a few of each process.
const ENDED_S: f64 = 20.0;
const ENDED: usize = 3;

/// Of programs in a story of several.
const NAME: usize = 14;

/// From this height on there is room for a story and long sentences.
const HIGH: usize = 12;

enum Item<'a> {
    Process(&'a Process),
    Call(Row),
}

impl Item<'_> {
    fn key(&self) -> Key {
        match self {
            Self::Process(process) => Key::Process(process.id),
            Self::Call(row) => row.key.clone(),
        }
    }

    fn process(&self) -> Option<u32> {
        match self {
            Self::Process(process) => Some(process.id),
            Self::Call(_) => None,
        }
    }
}

pub(crate) fn keys(seen: &Seen<'_>, pane: &Pane) -> Vec<Key> {
    items(seen, pane).iter().map(Item::key).collect()
}

fn items<'a>(seen: &'a Seen<'a>, pane: &Pane) -> Vec<Item<'a>> {
    let mut items = Vec::new();
    let mut processes: Vec<_> = seen.processes().collect();
    // Programs that call come first, then those that serve them.
    processes.sort_by_key(|process| (process.node.is_some(), process.is_over(), process.id));
    for process in processes {
        let calls = table(calls_of(seen, process), seen).arranged(&Pane { sort: None, ..pane.clone() });
        let hides = pane.failed_only || !pane.filter.is_empty();
        let is_meant = process.name().to_lowercase().contains(&pane.filter.to_lowercase()) && !pane.failed_only;
        if hides && calls.rows.is_empty() && !is_meant {
            continue;
        }
        items.push(Item::Process(process));
        items.extend(calls.rows.into_iter().map(Item::Call));
    }
    items
}

fn calls_of<'a>(seen: &Seen<'_>, process: &'a Process) -> Vec<&'a Job> {
    let mut calls: Vec<_> = process.jobs.values().filter(|job| job.state == JobState::Running).collect();
    let is_late = |job: &&Job| job.ended.is_some_and(|ended| seen.since(ended) <= ENDED_S);
    let ended = process.jobs.values().rev().filter(|job| job.state != JobState::Running).filter(is_late);
    calls.extend(ended.take(ENDED));
    calls
}

fn table(calls: Vec<&Job>, seen: &Seen<'_>) -> Table {
    let row = |job: &Job| {
        let (_, mark) = job_state(job);
        Row {
            key: Key::Job(job.process, job.id),
            cells: vec![
                Cell::marked(mark, job.id.to_string()).indented(2),
                Cell::function(&job.function),
                calls::bar(job),
                Cell::share(job.progress()),
                calls::done(job),
                calls::rate(job),
                match job.state {
                    JobState::Running => calls::left_s(seen, job),
                    _ => Cell::text(job_state(job).0),
                },
                Cell::count(job.failed).grave(Tone::Bad),
                Cell::count(job.retries).grave(Tone::Warn),
            ],
            has_failed: has_failed(job),
            is_over: job.state != JobState::Running,
        }
    };
    Table { columns: COLUMNS.to_vec(), rows: calls.into_iter().map(row).collect(), empty: "", is_ordered: true }
}

pub(crate) fn draw(seen: &Seen<'_>, pen: &mut Pen<'_>, pane: &Pane) {
    let height = pen.height();
    let listed: Vec<_> = items(seen, pane).iter().filter_map(Item::process).collect();
    // What is wrong with a program is hidden with it, but for that there is something.
    let is_shown = |concern: &Concern| concern.process.is_none_or(|id| listed.contains(&id));
    let (shown, hidden): (Vec<_>, Vec<_>) = seen.view.concerns(seen.now).into_iter().partition(is_shown);
    let top = draw_concerns(&shown, &hidden, pen);
    let story = if height >= HIGH { (height / 3).clamp(3, 12) } else { 0 };
    let story = story.min(height.saturating_sub(top));
    let middle = height - top - story;
    draw_items(seen, &mut pen.rows(top, middle), pane);
    if story > 0 {
        let mut pen = pen.rows(top + middle, story);
        pen.rule(0, "story");
        let mut pen = pen.rows(1, story - 1);
        draw_story(seen, seen.view.story(), &mut pen);
    }
}

/// Says how many rows it takes; those that are hidden are counted only.
fn draw_concerns(concerns: &[Concern], hidden: &[Concern], pen: &mut Pen<'_>) -> usize {
    let most = (pen.height() / 4).clamp(1, 4);
    let shown = if concerns.len() > most { most.saturating_sub(1) } else { concerns.len() };
    let more = concerns.len() - shown;
    let mut y = 0;
    for concern in concerns.iter().take(shown) {
        // Why work waits is told in full.
        y += draw_concern(concern, pen, y, if concern.is_grave && pen.height() >= HIGH { 2 } else { 1 });
    }
    if more > 0 {
        pen.put_cut(1, y, &format!("!  {more} more to know of: screens 2 and 4"), Tone::Warn);
    }
    y += usize::from(more > 0);
    if !hidden.is_empty() && pen.height() >= HIGH {
        let tone = if hidden.iter().any(|concern| concern.is_grave) { Tone::Bad } else { Tone::Warn };
        pen.put_cut(4, y, &format!("{} more to know of, of programs that are not listed", hidden.len()), tone);
        y += 1;
    }
    y.min(pen.height())
}

/// Says how many rows it takes, at most `most`.
pub(crate) fn draw_concern(concern: &Concern, pen: &mut Pen<'_>, y: usize, most: usize) -> usize {
    let (sign, tone) = if concern.is_grave { ("!!", Tone::Bad) } else { ("! ", Tone::Warn) };
    let lines = words::wrap(&words::line(&concern.text), pen.width().saturating_sub(5));
    pen.put(1, y, sign, tone);
    for (n, line) in lines.iter().take(most).enumerate() {
        let rest = if n + 1 == most { lines[n..].join(" ") } else { line.clone() };
        pen.put_cut(4, y + n, &rest, tone);
    }
    lines.len().min(most)
}

fn draw_items(seen: &Seen<'_>, pen: &mut Pen<'_>, pane: &Pane) {
    let items = items(seen, pane);
    if items.is_empty() {
        let is_filtered = pane.failed_only || !pane.filter.is_empty();
        let text = if is_filtered { "nothing of that kind" } else { "nothing has been said yet" };
        pen.put_cut(1, 0, text, Tone::Quiet);
        return;
    }
    let frame = table(Vec::new(), seen);
    let layout = frame.layout(pen.width());
    let heading = usize::from(items.iter().any(|item| matches!(item, Item::Call(_))) && pen.height() > 3);
    if heading == 1 {
        frame.heading(pen, &layout, &Pane::default());
    }
    let keys: Vec<_> = items.iter().map(Item::key).collect();
    let selected = pane.position(keys.iter());
    let mut body = pen.rows(heading, pen.height());
    // The last line says what there is no room for.
    let room = if items.len() > body.height() { body.height().saturating_sub(1) } else { body.height() };
    let first = first_shown(selected, items.len(), room);
    for (y, (index, item)) in items.iter().enumerate().skip(first).take(room).enumerate() {
        let is_selected = selected == Some(index);
        match item {
            Item::Process(process) => draw_process(seen, process, &mut body.rows(y, 1), is_selected),
            Item::Call(row) => frame.row(&mut body, y, row, &layout, is_selected),
        }
    }
    let hidden = items.len() - room.min(items.len());
    if hidden > 0 && body.height() > 0 {
        body.put_cut(1, room, &format!("{hidden} more rows, by the arrows"), Tone::Quiet);
    }
}

fn draw_process(seen: &Seen<'_>, process: &Process, pen: &mut Pen<'_>, is_selected: bool) {
    let (state, mark) = tree::process_state(seen, process);
    let x = pen.mark(1, 0, mark) + 1;
    let facts = facts(seen, process);
    let facts_width: usize = facts.iter().map(|(text, _)| words::width(text) + 2).sum();
    let room = pen.width().saturating_sub(x + facts_width.min(pen.width() / 2) + 1);
    let name = words::head(&words::line(&process.name()), room, pen.ellipsis());
    let x = pen.put(x, 0, &name, Tone::Title);
    let span = process.ended_at().unwrap_or(seen.now).since(process.first);
    let whose = format!(" {} {} {}", process.host, state, words::rough(span.as_secs_f64()));
    let mut at = pen.width().saturating_sub(facts_width);
    if x + words::width(&whose) < at {
        pen.put(x, 0, &whose, Tone::Quiet);
    }
    at = at.max(x);
    for (text, tone) in facts {
        at = pen.put(at + 2, 0, &text, tone);
    }
    if is_selected {
        pen.put(0, 0, pen.look.pick("▸", ">"), Tone::Title);
        let style = pen.look.selected();
        pen.tint(0, style);
    }
}

/// What is said of a process, the most important first.
fn facts(seen: &Seen<'_>, process: &Process) -> Vec<(String, Tone)> {
    let mut facts = Vec::new();
    let live: Vec<_> = process.managers.values().filter(|manager| manager.ended.is_none()).collect();
    let (busy, workers) = live.iter().fold((0, 0), |(busy, all), manager| {
        let (own_busy, own_all) = seen.view.busy(process, manager, seen.now);
        (busy + own_busy, all + own_all)
    });
    if workers > 0 {
        facts.push((format!("{busy}/{workers} busy"), Tone::Plain));
        let shares: Vec<_> = live
            .iter()
            .flat_map(|manager| {
                manager.workers.values().filter_map(|it| worker_share(manager, it, seen.known_until(process)))
            })
            .collect();
        if !shares.is_empty() {
            let idle = 1.0 - shares.iter().sum::<f64>() / shares.len() as f64;
            facts.push((format!("idle {}", words::percent(idle)), Tone::Quiet));
        }
    }
    let nodes = || live.iter().flat_map(|manager| manager.nodes.values());
    let up = nodes().filter(|node| node.is_up()).count();
    let lost = nodes().count() - up;
    if up + lost > 0 {
        facts.push((format!("nodes {up} up"), Tone::Plain));
        if lost > 0 {
            facts.push((format!("{lost} lost"), Tone::Bad));
        }
    }
    if let Some(serving) = &process.node {
        facts.push((words::slots(serving.slots, serving.gpus), Tone::Plain));
        facts.push((words::many(serving.managers, "program"), Tone::Quiet));
    }
    let failed = process.jobs.values().filter(|job| job.state != JobState::Running && has_failed(job)).count();
    if failed > 0 {
        facts.push((format!("{failed} failed"), Tone::Bad));
    }
    facts
}

/// The last lines of these, the latest at the bottom.
pub(crate) fn draw_story<'a>(seen: &Seen<'_>, story: impl DoubleEndedIterator<Item = &'a Told>, pen: &mut Pen<'_>) {
    let mut told: Vec<_> = story.rev().take(pen.height()).collect();
    told.reverse();
    let are_several = super::are_several(seen) && pen.width() >= 100;
    for (y, told) in told.iter().enumerate() {
        let mut x = pen.put(1, y, &words::clock(told.at), Tone::Quiet) + 1;
        let tone = match &*told.level {
            "ERROR" => {
                pen.mark(x, y, Mark::Lost);
                Tone::Bad
            }
            "WARN" => {
                pen.mark(x, y, Mark::Attention);
                Tone::Warn
            }
            _ => Tone::Plain,
        };
        x += 2;
        if are_several && let Some(process) = seen.view.process(told.process) {
            pen.put(x, y, &words::head(&process.name(), NAME, pen.ellipsis()), Tone::Quiet);
            x += NAME + 1;
        }
        pen.put_cut(x, y, &told.text, tone);
    }
}
