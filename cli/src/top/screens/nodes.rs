//! Nodes: machines that compute for a Manager.

use distfun_core::view::{Manager, Node, NodeState, Place, Process};

use crate::top::{
    look::{Mark, Tone},
    seen::{Seen, node_share, node_state},
    table::{Cell, Column, Row, Table, left, rest, right},
    ui::Key,
    words,
};

const COLUMNS: [Column; 13] = [
    rest("machine", 16, 0),
    left("name", 10, 3),
    left("state", 8, 0),
    right("since", 6, 1),
    right("runs", 5, 2),
    right("busy", 4, 4),
    right("chunks", 6, 3),
    right("lost", 4, 2),
    right("died", 4, 2),
    right("redone", 6, 6),
    right("round trip", 10, 8),
    right("sent", 8, 7),
    rest("last error", 12, 6),
];

/// Behind the column `runs`, where any node has some.
const GPUS: Column = right("gpus", 4, 2);
const BEHIND_RUNS: usize = 5;

pub(crate) fn table(seen: &Seen<'_>) -> Table {
    let is_told = super::are_several(seen);
    let mut columns = COLUMNS.to_vec();
    let mut all = seen.processes().flat_map(|process| seen.managers(process)).flat_map(|manager| seen.nodes(manager));
    let has_gpus = all.any(|(_, node)| node.gpus > 0);
    if has_gpus {
        columns.insert(BEHIND_RUNS, GPUS);
    }
    columns.extend(is_told.then_some(super::PROGRAM));
    let mut rows = Vec::new();
    for process in seen.processes() {
        for manager in seen.managers(process) {
            for (id, node) in seen.nodes(manager) {
                let mut row = row(seen, process, manager, id, node);
                if has_gpus {
                    row.cells.insert(BEHIND_RUNS, Cell::count(node.gpus));
                }
                row.cells.extend(is_told.then(|| super::program(seen, process)));
                rows.push(row);
            }
        }
    }
    Table { columns, rows, empty: "no other machines", is_ordered: false }
}

fn row(seen: &Seen<'_>, process: &Process, manager: &Manager, id: u64, node: &Node) -> Row {
    let (state, mark) = node_state(seen, process, manager, node);
    let tone = match mark {
        Mark::Lost => Tone::Bad,
        Mark::Changes => Tone::Warn,
        _ => Tone::Plain,
    };
    Row {
        key: Key::Place(process.id, manager.id, Place::Node(id)),
        cells: vec![
            Cell::marked(mark, node.machine.as_str()),
            Cell::text(node.name.as_str()),
            Cell::text(state).tone(tone),
            Cell::duration(seen.since(node.since)),
            runs(manager, node),
            Cell::share(node_share(manager, node, seen.known_until(process))),
            Cell::count(node.chunks),
            Cell::count(node.losses).grave(Tone::Warn),
            Cell::count(node.deaths).grave(Tone::Warn),
            Cell::count(node.requeued).grave(Tone::Warn),
            node.rtt_s.map_or_else(Cell::none, |rtt| Cell::number(rtt, words::duration(rtt))),
            match node.shared_bytes {
                0 => Cell::none(),
                bytes => Cell::number(bytes as f64, words::bytes(bytes)),
            },
            node.error.as_deref().map_or_else(Cell::none, Cell::text),
        ],
        has_failed: node.losses + node.deaths > 0 || mark == Mark::Lost,
        is_over: manager.ended.is_some() || node.state == NodeState::GivenUp,
    }
}

/// Chunks that it has, of those that it computes at once.
fn runs(manager: &Manager, node: &Node) -> Cell {
    let running = node.running.len() as u64;
    let text = format!("{}/{}", words::count(running), words::count(manager.room_at(node)));
    let tone = if running == 0 { Tone::Quiet } else { Tone::Plain };
    Cell::number(running as f64, text).tone(tone)
}
