//! Workers: the slots of the machines whose logs are read.

use distfun_core::view::{Manager, Process, Running, Worker, WorkerState};

use crate::top::{
    look::{Mark, Tone},
    seen::{Seen, worker_share, worker_state},
    table::{Cell, Column, Row, Table, left, rest, right},
    ui::Key,
};

/// The names of workers have as many characters at least and at most, with what marks them.
const NARROWEST: usize = 8;
const WIDEST: usize = 16;

const COLUMNS: [Column; 10] = [
    left("worker", NARROWEST, 0),
    left("state", 8, 0),
    right("since", 6, 1),
    rest("computes", 10, 0),
    left("items", 9, 4),
    right("for", 6, 2),
    right("restarts", 8, 2),
    right("busy", 4, 3),
    right("chunks", 6, 5),
    left("last error", 16, 8),
];

pub(crate) fn table(seen: &Seen<'_>) -> Table {
    let is_told = super::are_several(seen);
    let mut columns = COLUMNS.to_vec();
    columns.extend(is_told.then_some(super::PROGRAM));
    let (mut rows, mut widest) = (Vec::new(), NARROWEST);
    for process in seen.processes() {
        for manager in seen.managers(process) {
            for worker in seen.workers(manager) {
                widest = widest.max(name(seen, process, manager, worker).chars().count() + 2);
                let mut row = row(seen, process, manager, worker);
                row.cells.extend(is_told.then(|| super::program(seen, process)));
                rows.push(row);
            }
        }
    }
    columns[0] = left("worker", widest.min(WIDEST), 0);
    Table { columns, rows, empty: "no workers: they are told from when a Manager starts them", is_ordered: false }
}

fn row(seen: &Seen<'_>, process: &Process, manager: &Manager, worker: &Worker) -> Row {
    let (state, mark) = worker_state(seen, process, manager, worker);
    let tone = match mark {
        Mark::Lost => Tone::Bad,
        Mark::Changes => Tone::Warn,
        _ => Tone::Plain,
    };
    let running = worker.running.as_ref();
    let name = name(seen, process, manager, worker);
    Row {
        key: Key::Place(process.id, manager.id, distfun_core::view::Place::Worker(worker.id)),
        cells: vec![
            Cell::marked(mark, name).sorted(manager.id as f64 * 1e6 + worker.id as f64),
            Cell::text(state).tone(tone),
            Cell::duration(seen.since(worker.since)),
            running.map_or_else(Cell::none, |running| Cell::function(&running.function)),
            running.map_or_else(Cell::none, |running| Cell::text(items(running))),
            running.map_or_else(Cell::none, |running| long(seen, running)),
            Cell::count(worker.restarts).grave(Tone::Warn),
            Cell::share(worker_share(manager, worker, seen.known_until(process))),
            Cell::count(worker.chunks),
            worker.error.as_deref().map_or_else(Cell::none, Cell::text),
        ],
        has_failed: worker.restarts > 0 || worker.error.is_some() || worker.state == WorkerState::GaveUp,
        is_over: matches!(worker.state, WorkerState::Offline | WorkerState::GaveUp),
    }
}

/// `3`, `m1 w3` where there are several Managers, `m1 w3 gpu`.
fn name(seen: &Seen<'_>, process: &Process, manager: &Manager, worker: &Worker) -> String {
    let is_alone = seen.managers(process).filter(|manager| !manager.workers.is_empty()).nth(1).is_none();
    let name = if is_alone { worker.id.to_string() } else { format!("m{} w{}", manager.id, worker.id) };
    if worker.kind == "gpu" { format!("{name} gpu") } else { name }
}

/// `item 17`, or `items 20..24`.
pub(crate) fn which(running: &Running) -> String {
    format!("item{} {}", if running.items > 1 { "s" } else { "" }, items(running))
}

/// `17`, or `20..24`.
pub(crate) fn items(running: &Running) -> String {
    match running.items {
        0 | 1 => running.index.to_string(),
        many => format!("{}..{}", running.index, running.index + many),
    }
}

/// For how long it has run.
pub(crate) fn long(seen: &Seen<'_>, running: &Running) -> Cell {
    let cell = Cell::duration(seen.since(running.since));
    if running.is_slow { cell.tone(Tone::Warn) } else { cell }
}
