//! What went wrong, by kind: the latest first.

use crate::top::{
    look::{Mark, Tone},
    seen::Seen,
    table::{Cell, Column, Row, Table, left, rest, right},
    ui::Key,
    words,
};

const COLUMNS: [Column; 8] = [
    left("kind", 14, 0),
    rest("of", 12, 1),
    right("retried", 7, 0),
    right("failed", 6, 0),
    right("last", 9, 2),
    rest("said last", 20, 1),
    left("where", 22, 4),
    right("first", 9, 3),
];

pub(crate) fn table(seen: &Seen<'_>) -> Table {
    let row = |group: &&distfun_core::view::FailureGroup| Row {
        key: Key::Failure(group.kind.clone(), group.of.clone()),
        cells: vec![
            Cell::marked(if group.failed > 0 { Mark::Lost } else { Mark::Changes }, group.kind.as_str()),
            Cell::function(&group.of),
            Cell::count(group.retried).grave(Tone::Warn),
            Cell::count(group.failed).grave(Tone::Bad),
            Cell::number(group.last.0 as f64, words::clock(group.last)),
            Cell::text(group.text.as_str()),
            Cell::text(group.code.clone().unwrap_or_else(|| group.place.clone())),
            Cell::number(group.first.0 as f64, words::clock(group.first)),
        ],
        has_failed: group.failed > 0,
        is_over: false,
    };
    Table {
        columns: COLUMNS.to_vec(),
        rows: seen.view.failures().iter().rev().map(row).collect(),
        empty: "nothing has failed",
        is_ordered: false,
    }
}
