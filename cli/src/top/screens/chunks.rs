//! What ran where and when: a row for each worker and each node, time to the left, what runs up to the right edge.
//!
//! Columns stand for fixed stretches of time, so that what is drawn moves to the left and does not change on its way.

use std::collections::{BTreeSet, HashMap};

use distfun_core::view::{Manager, Place, Process, Time};
use ratatui::style::Style;

use crate::top::{
    look::{Look, Tone},
    pen::Pen,
    seen::{Seen, node_state, worker_state},
    table::first_shown,
    ui::{Key, Pane, Ui},
    words,
};

/// A row.
struct Lane {
    key: Key,
    name: String,
    /// Chunks that it computes at once.
    slots: u64,
    has_failed: bool,
    mark: crate::top::look::Mark,
}

pub(crate) fn keys(seen: &Seen<'_>, pane: &Pane) -> Vec<Key> {
    lanes(seen, pane).into_iter().map(|lane| lane.key).collect()
}

fn lanes(seen: &Seen<'_>, pane: &Pane) -> Vec<Lane> {
    let shown: Vec<(&Process, &Manager)> = seen
        .processes()
        .flat_map(|process| seen.managers(process).map(move |manager| (process, manager)))
        .filter(|(_, manager)| !manager.workers.is_empty() || !manager.nodes.is_empty())
        .collect();
    let are_many_processes = shown.iter().any(|(process, _)| process.id != shown[0].0.id);
    let mut lanes = Vec::new();
    for (process, manager) in &shown {
        let of_process = shown.iter().filter(|(other, _)| other.id == process.id).count();
        let mut whose = String::new();
        if are_many_processes {
            let name = process.name();
            whose.push_str(&format!("{} ", name.split(' ').next().unwrap_or_default()));
        }
        if of_process > 1 {
            whose.push_str(&format!("m{} ", manager.id));
        }
        lanes.extend(seen.workers(manager).map(|worker| Lane {
            key: Key::Place(process.id, manager.id, Place::Worker(worker.id)),
            name: format!("{whose}worker {}", worker.id),
            slots: 1,
            has_failed: worker.restarts > 0 || worker.error.is_some(),
            mark: worker_state(seen, process, manager, worker).1,
        }));
        lanes.extend(seen.nodes(manager).map(|(id, node)| Lane {
            key: Key::Place(process.id, manager.id, Place::Node(id)),
            name: format!("{whose}{}", if node.name.is_empty() { &node.machine } else { &node.name }),
            slots: manager.room_at(node).max(1),
            has_failed: node.losses + node.deaths > 0,
            mark: node_state(seen, process, manager, node).1,
        }));
    }
    let filter = pane.filter.to_lowercase();
    lanes.retain(|lane| {
        (!pane.failed_only || lane.has_failed) && (filter.is_empty() || lane.name.to_lowercase().contains(&filter))
    });
    lanes
}

/// What is drawn where a lane meets a stretch of time.
#[derive(Clone, Copy, Default)]
struct Cell {
    /// Time of slots that was computed in it, as a share of it.
    share: f32,
    /// The function that had most of it, and how much.
    function: usize,
    most: f32,
    runs: bool,
    end: Option<End>,
}

/// How a chunk ended that did not end well; the worst is seen whatever is beside it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// Its worker died, or its node was lost.
    Lost,
    /// An item of it failed.
    Failed,
}

/// Stretches of time, by number from 1970 on.
#[derive(Clone, Copy)]
struct Stretches {
    first: u64,
    count: usize,
    micros: u64,
}

impl Stretches {
    /// Ending with the one that holds `edge`.
    fn until(edge: Time, count: usize, column_s: f64) -> Self {
        let micros = ((column_s * 1e6) as u64).max(1);
        Self { first: (edge.0 / micros + 1).saturating_sub(count as u64), count, micros }
    }

    fn start(self) -> Time {
        Time(self.first * self.micros)
    }

    fn end(self) -> Time {
        Time((self.first + self.count as u64) * self.micros)
    }

    /// Numbers of columns that this touches, with the share of each that it fills.
    fn touched(self, from: Time, to: Time) -> impl Iterator<Item = (usize, f32)> {
        let column = |time: Time| (time.0 / self.micros).saturating_sub(self.first) as usize;
        let is_in = from < self.end() && to >= self.start() && self.count > 0;
        let range = if is_in { column(from)..(column(to) + 1).min(self.count) } else { 0..0 };
        range.map(move |at| {
            let (start, end) = ((self.first + at as u64) * self.micros, (self.first + at as u64 + 1) * self.micros);
            let filled = to.0.min(end).saturating_sub(from.0.max(start));
            (at, filled as f32 / self.micros as f32)
        })
    }
}

pub(crate) fn draw(seen: &Seen<'_>, pen: &mut Pen<'_>, ui: &Ui) {
    let lanes = lanes(seen, ui.pane());
    if lanes.is_empty() {
        let is_filtered = ui.pane().failed_only || !ui.pane().filter.is_empty();
        let text = if is_filtered { "nothing of that kind" } else { "no workers and no other machines yet" };
        pen.put_cut(1, 0, text, Tone::Quiet);
        return;
    }
    let longest = lanes.iter().map(|lane| words::width(&lane.name)).max().unwrap_or(0);
    let label = longest.min(pen.width() / 4) + 4;
    let columns = pen.width().saturating_sub(label);
    // Of what is over all is shown; of what goes on the present.
    let last = seen.end();
    if seen.is_quiet()
        && let Some(first) = seen.view.spans().map(|span| span.start).min()
    {
        ui.fit(last.since(first).as_secs_f64(), columns);
    }
    let stretches = Stretches::until(ui.edge.unwrap_or(last), columns, ui.column_s());
    let functions = functions(seen);
    let legend = usize::from(pen.height() >= 5);
    let height = pen.height().saturating_sub(1 + legend);
    draw_times(&mut pen.part(label, 0, stretches.count, 1), stretches);
    let selected = {
        let keys: Vec<_> = lanes.iter().map(|lane| lane.key.clone()).collect();
        ui.pane().position(keys.iter())
    };
    let first = first_shown(selected, lanes.len(), height);
    let shown = &lanes[first..lanes.len().min(first + height)];
    let cells = fill(seen, shown, stretches, &functions);
    for (y, lane) in shown.iter().enumerate() {
        let mut row = pen.rows(1 + y, 1);
        let is_selected = selected == Some(first + y);
        if is_selected {
            row.put(0, 0, row.look.pick("▸", ">"), Tone::Title);
        }
        row.mark(1, 0, lane.mark);
        let name = words::tail(&words::line(&lane.name), label - 4, row.ellipsis());
        row.put(3, 0, &name, if is_selected { Tone::Title } else { Tone::Plain });
        for (x, cell) in cells[y].iter().enumerate() {
            let (text, style) = draw_cell(*cell, row.look);
            row.put_styled(label + x, 0, &text, style);
        }
    }
    if legend == 1 {
        let is_told = seen.view.spans().len() > 0;
        let used: BTreeSet<usize> =
            cells.iter().flatten().filter(|cell| cell.most > 0.0).map(|cell| cell.function).collect();
        draw_legend(&mut pen.rows(height + 1, 1), &functions, &used, ui.column_s(), is_told);
    }
    if lanes.len() > shown.len() {
        let text = format!("{}-{} of {}", first + 1, first + shown.len(), lanes.len());
        pen.put(0, 0, &words::head(&text, label.saturating_sub(1), ""), Tone::Quiet);
    }
}

/// Functions of calls, in an order that stays.
fn functions<'a>(seen: &Seen<'a>) -> Vec<&'a str> {
    let names: BTreeSet<&str> = seen.view.jobs().map(|(_, job)| &*job.function).collect();
    names.into_iter().collect()
}

fn fill(seen: &Seen<'_>, lanes: &[Lane], stretches: Stretches, functions: &[&str]) -> Vec<Vec<Cell>> {
    let mut cells = vec![vec![Cell::default(); stretches.count]; lanes.len()];
    let rows: HashMap<(u32, u64, Place), usize> = lanes
        .iter()
        .enumerate()
        .filter_map(|(row, lane)| match lane.key {
            Key::Place(process, manager, place) => Some(((process, manager, place), row)),
            _ => None,
        })
        .collect();
    let number = |name: &str| functions.binary_search(&name).unwrap_or(0);
    let mut add = |row: usize, from: Time, to: Time, function: &str, runs: bool, end: Option<End>| {
        let function = number(function);
        for (at, share) in stretches.touched(from, to) {
            let cell = &mut cells[row][at];
            let share = share / lanes[row].slots as f32;
            cell.share += share.max(0.001);
            if share >= cell.most {
                (cell.function, cell.most) = (function, share.max(0.001));
            }
            cell.runs |= runs;
            if to.0 / stretches.micros == stretches.first + at as u64 {
                cell.end = cell.end.max(end);
            }
        }
    };
    for span in seen.view.spans() {
        if let Some(&row) = rows.get(&(span.process, span.manager, span.place)) {
            let end = if span.is_failed { Some(End::Failed) } else { span.is_lost.then_some(End::Lost) };
            add(row, span.start, span.end, &span.function, false, end);
        }
    }
    for (process, manager) in seen.view.managers() {
        for (place, running) in manager.running() {
            if let Some(&row) = rows.get(&(process.id, manager.id, place)) {
                add(row, running.since, seen.known_until(process), &running.function, true, None);
            }
        }
    }
    cells
}

fn draw_cell(cell: Cell, look: Look) -> (String, Style) {
    if cell.share <= 0.0 {
        return (" ".into(), Style::new());
    }
    match cell.end {
        Some(End::Failed) => return (look.pick("✕", "!").into(), look.style(Tone::Bad)),
        Some(End::Lost) => return (look.pick("†", "%").into(), look.style(Tone::Warn)),
        None => {}
    }
    if look.has_colours {
        return (look.level(cell.share.into()).into(), look.function(cell.function, cell.runs));
    }
    let letter = letter(cell.function);
    let letter = if cell.runs { letter.to_ascii_uppercase() } else { letter };
    (if cell.share < 0.25 { ".".into() } else { letter.to_string() }, Style::new())
}

fn letter(function: usize) -> char {
    char::from(b'a' + (function % 26) as u8)
}

/// Times of day above the columns that begin with them.
fn draw_times(pen: &mut Pen<'_>, stretches: Stretches) {
    const APART: u64 = 20;
    for x in 0..stretches.count {
        let number = stretches.first + x as u64;
        if !number.is_multiple_of(APART) {
            continue;
        }
        let time = Time(number * stretches.micros);
        let mut text = format!("{}{}", pen.look.pick("╷", "|"), words::clock(time));
        if stretches.micros * APART < 1_000_000 {
            text.push_str(&format!(".{}", time.0 / 100_000 % 10));
        }
        // Not half a time at the edge.
        if x + words::width(&text) <= stretches.count {
            pen.put(x, 0, &text, Tone::Quiet);
        }
    }
}

fn draw_legend(pen: &mut Pen<'_>, functions: &[&str], used: &BTreeSet<usize>, column_s: f64, is_told: bool) {
    let mut x = 1;
    for (n, function) in functions.iter().enumerate().filter(|(n, _)| used.contains(n)) {
        let name = words::function(function);
        if x + words::width(name) + 3 > pen.width() {
            break;
        }
        let (sign, style) = match pen.look.has_colours {
            true => (pen.look.level(1.0).to_owned(), pen.look.function(n, false)),
            false => (letter(n).to_string(), Style::new()),
        };
        x = pen.put_styled(x, 0, &sign, style);
        x = pen.put(x + 1, 0, name, Tone::Plain) + 2;
    }
    let runs = if pen.look.has_colours { "bright: runs" } else { "CAPITALS: runs" };
    let failed = pen.look.pick("✕ failed  † lost", "! failed  % lost");
    let mut text = format!("{failed}  {runs}  a column is {} (+ -)", words::duration(column_s));
    if !is_told {
        text = "chunks that ended are told at DEBUG only".into();
    }
    if x + words::width(&text) <= pen.width() {
        pen.put(pen.width() - words::width(&text), 0, &text, Tone::Quiet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_fills_the_columns_that_it_touches() {
        let stretches = Stretches::until(Time(9_500_000), 5, 1.0);
        assert_eq!((stretches.start(), stretches.end()), (Time(5_000_000), Time(10_000_000)));
        let touched = |from, to| stretches.touched(Time(from), Time(to)).collect::<Vec<_>>();
        assert_eq!(touched(6_500_000, 7_250_000), [(1, 0.5), (2, 0.25)]);
        assert_eq!(touched(1_000_000, 5_500_000), [(0, 0.5)]);
        assert_eq!(touched(9_000_000, 99_000_000), [(4, 1.0)]);
        assert_eq!(touched(1_000_000, 2_000_000), []);
        assert_eq!(touched(10_000_000, 12_000_000), []);
    }
}
