//! Shared data: what processes hold, and what was sent to nodes.

use distfun_core::view::Place;

use crate::top::{
    look::Mark,
    seen::Seen,
    table::{Cell, Column, Row, Table, left, rest, right},
    ui::Key,
    words,
};

const COLUMNS: [Column; 6] = [
    rest("what", 14, 0),
    left("where", 22, 1),
    right("size", 9, 0),
    right("since", 9, 2),
    right("for", 6, 3),
    right("holders", 7, 2),
];

pub(crate) fn table(seen: &Seen<'_>) -> Table {
    let mut rows = Vec::new();
    for process in seen.processes() {
        for (key, shared) in &process.shared {
            rows.push(Row {
                key: Key::Shared(process.id, key.clone()),
                cells: vec![
                    Cell::marked(Mark::Runs, key.as_str()),
                    Cell::text(format!("here, {}", process.name())),
                    Cell::number(shared.bytes as f64, words::bytes(shared.bytes)),
                    Cell::number(shared.since.0 as f64, words::clock(shared.since)),
                    Cell::duration(seen.since(shared.since)),
                    Cell::count(shared.count),
                ],
                has_failed: false,
                is_over: false,
            });
        }
        for manager in seen.managers(process) {
            for (id, node) in seen.nodes(manager).filter(|(_, node)| node.shared_bytes > 0) {
                rows.push(Row {
                    key: Key::Place(process.id, manager.id, Place::Node(id)),
                    cells: vec![
                        Cell::marked(Mark::Done, "sent in all"),
                        Cell::text(node.machine.as_str()),
                        Cell::number(node.shared_bytes as f64, words::bytes(node.shared_bytes)),
                        Cell::none(),
                        Cell::none(),
                        Cell::none(),
                    ],
                    has_failed: false,
                    is_over: !node.is_up(),
                });
            }
        }
    }
    Table { columns: COLUMNS.to_vec(), rows, empty: "no shared data is held, and none was sent", is_ordered: false }
}
