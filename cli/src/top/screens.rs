//! What the screens show: each makes rows of a view.

pub(crate) mod calls;
pub(crate) mod chunks;
pub(crate) mod data;
pub(crate) mod detail;
pub(crate) mod failures;
pub(crate) mod nodes;
pub(crate) mod overview;
pub(crate) mod tree;
pub(crate) mod workers;

use distfun_core::view::Process;

use super::{
    seen::Seen,
    table::{Cell, Column, Table, left},
    ui::{Key, Screen, Ui},
};

/// The table of the current screen, if it has one.
pub(crate) fn table(seen: &Seen<'_>, ui: &Ui) -> Option<Table> {
    let table = match ui.screen {
        Screen::Overview | Screen::Chunks => return None,
        Screen::Tree => tree::table(seen, &ui.folds),
        Screen::Workers => workers::table(seen),
        Screen::Nodes => nodes::table(seen),
        Screen::Calls => calls::table(seen),
        Screen::Failures => failures::table(seen),
        Screen::Data => data::table(seen),
    };
    Some(table.arranged(ui.pane()))
}

/// What can be selected on the current screen, from top to bottom.
pub(crate) fn keys(seen: &Seen<'_>, ui: &Ui) -> Vec<Key> {
    match ui.screen {
        Screen::Overview => overview::keys(seen, ui.pane()),
        Screen::Chunks => chunks::keys(seen, ui.pane()),
        _ => table(seen, ui).map(|table| table.keys().cloned().collect()).unwrap_or_default(),
    }
}

/// For rows of several programs.
const PROGRAM: Column = left("program", 10, 2);

/// Which program it is, as shortly as that can be said.
fn program(seen: &Seen<'_>, process: &Process) -> Cell {
    let mut same = seen.processes().filter(|other| other.service == process.service && other.node.is_none());
    if process.service.is_empty() || process.node.is_some() || same.nth(1).is_some() {
        return Cell::text(process.name());
    }
    Cell::text(process.service.as_str())
}

/// Whether rows must say which process they are of.
pub(crate) fn are_several(seen: &Seen<'_>) -> bool {
    seen.view.processes().filter(|process| !process.managers.is_empty()).nth(1).is_some()
}
