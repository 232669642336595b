//! Who supervises whom: processes, their Managers, and the workers and nodes of these.

use std::collections::{BTreeMap, BTreeSet};

use distfun_core::view::{Manager, Place, Process, WorkerState};

use crate::top::{
    look::{Mark, Tone},
    seen::{Seen, node_state, worker_state},
    table::{Cell, Column, Row, Table, left, rest, right},
    ui::Key,
    words,
};

const COLUMNS: [Column; 7] = [
    rest("supervises", 28, 0),
    left("state", 8, 0),
    right("since", 6, 1),
    right("life", 4, 4),
    right("restarts", 8, 2),
    right("chunks", 6, 5),
    rest("last error", 14, 2),
];

pub(crate) fn table(seen: &Seen<'_>, folds: &BTreeMap<Key, bool>) -> Table {
    let mut tree = Tree { seen, folds, rows: Vec::new(), placed: BTreeSet::new() };
    // A node's own words hang below the node, wherever its log stands in the order, as long as it serves.
    let hung: BTreeSet<u32> = seen
        .view
        .managers()
        .filter(|(_, manager)| manager.ended.is_none())
        .flat_map(|(_, manager)| manager.nodes.values())
        .filter_map(|node| Some(seen.process_of(node)?.id))
        .collect();
    for process in seen.processes().filter(|process| !hung.contains(&process.id)) {
        tree.process(process, 0);
    }
    // Those that hang below nothing that is shown, or below each other.
    for process in seen.processes() {
        tree.process(process, 0);
    }
    Table { columns: COLUMNS.to_vec(), rows: tree.rows, empty: "nobody has said anything yet", is_ordered: true }
}

struct Tree<'a> {
    seen: &'a Seen<'a>,
    folds: &'a BTreeMap<Key, bool>,
    rows: Vec<Row>,
    placed: BTreeSet<u32>,
}

struct Facts<'a> {
    depth: usize,
    mark: Mark,
    name: String,
    state: &'static str,
    since: Option<distfun_core::view::Time>,
    life: Option<u64>,
    restarts: u64,
    chunks: u64,
    error: Option<&'a str>,
    is_over: bool,
}

impl Tree<'_> {
    /// Says whether its parts are to be shown.
    fn push(&mut self, key: Key, facts: Facts<'_>) -> bool {
        // What an ended Manager had is of less interest.
        let is_folded = self.folds.get(&key).copied().unwrap_or(facts.is_over && matches!(key, Key::Manager(..)));
        let tone = match facts.mark {
            Mark::Lost => Tone::Bad,
            Mark::Changes | Mark::Attention => Tone::Warn,
            _ => Tone::Plain,
        };
        let name = if is_folded { format!("{} [+]", facts.name) } else { facts.name };
        let number = |number: Option<u64>| number.map_or_else(Cell::none, |number| Cell::text(number.to_string()));
        self.rows.push(Row {
            key,
            cells: vec![
                Cell::marked(facts.mark, name).indented(2 * facts.depth),
                Cell::text(facts.state).tone(tone),
                facts.since.map_or_else(Cell::none, |since| Cell::duration(self.seen.since(since))),
                number(facts.life),
                Cell::count(facts.restarts).grave(Tone::Warn),
                Cell::count(facts.chunks),
                facts.error.map_or_else(|| Cell::text(""), |error| Cell::text(words::line(error))),
            ],
            has_failed: facts.restarts > 0 || facts.error.is_some() || facts.mark == Mark::Lost,
            is_over: facts.is_over,
        });
        !is_folded
    }

    fn process(&mut self, process: &Process, depth: usize) {
        if !self.placed.insert(process.id) {
            return;
        }
        let (state, mark) = process_state(self.seen, process);
        let facts = Facts {
            depth,
            mark,
            name: format!("{} on {}", process.name(), process.host),
            state,
            since: Some(process.ended_at().unwrap_or(process.first)),
            life: None,
            restarts: process
                .managers
                .values()
                .flat_map(|manager| manager.workers.values())
                .map(|it| it.restarts)
                .sum(),
            chunks: process.managers.values().map(chunks).sum(),
            error: None,
            is_over: process.is_over(),
        };
        if self.push(Key::Process(process.id), facts) {
            let seen = self.seen;
            seen.managers(process).for_each(|manager| self.manager(process, manager, depth + 1));
        } else {
            process.managers.values().for_each(|manager| self.place_below(manager));
        }
    }

    /// What hangs below what is folded is folded too.
    fn place_below(&mut self, manager: &Manager) {
        if manager.ended.is_none() {
            let below: Vec<u32> =
                manager.nodes.values().filter_map(|node| Some(self.seen.process_of(node)?.id)).collect();
            self.placed.extend(below);
        }
    }

    fn manager(&mut self, process: &Process, manager: &Manager, depth: usize) {
        let seen = self.seen;
        let (state, mark) = match (&manager.ended, &manager.stall) {
            (Some(ended), _) if ended.reason == "error" => ("failed", Mark::Lost),
            (Some(_), _) => ("ended", Mark::Done),
            (None, Some(_)) => ("waits", Mark::Attention),
            (None, None) => ("up", Mark::Runs),
        };
        let facts = Facts {
            depth,
            mark,
            name: format!("manager {}", manager.id),
            state,
            since: Some(manager.ended.as_ref().map_or(manager.since, |ended| ended.at)),
            life: None,
            restarts: manager.workers.values().map(|worker| worker.restarts).sum(),
            chunks: chunks(manager),
            error: None,
            is_over: manager.ended.is_some(),
        };
        if !self.push(Key::Manager(process.id, manager.id), facts) {
            self.place_below(manager);
            return;
        }
        for worker in seen.workers(manager) {
            let (state, mark) = worker_state(seen, process, manager, worker);
            let facts = Facts {
                depth: depth + 1,
                mark,
                name: match &worker.gpu {
                    Some(gpu) => format!("worker {}, {gpu}", worker.id),
                    None => format!("worker {}", worker.id),
                },
                state,
                since: Some(worker.since),
                life: Some(worker.life()),
                restarts: worker.restarts,
                chunks: worker.chunks,
                error: worker.error.as_deref(),
                is_over: matches!(worker.state, WorkerState::Offline | WorkerState::GaveUp),
            };
            self.push(Key::Place(process.id, manager.id, Place::Worker(worker.id)), facts);
        }
        for (id, node) in seen.nodes(manager) {
            let (state, mark) = node_state(seen, process, manager, node);
            let is_hung = node.name.is_empty() || seen.process_of(node).is_some();
            let named = if is_hung { String::new() } else { format!(" ({})", node.name) };
            let facts = Facts {
                depth: depth + 1,
                mark,
                name: format!("{}{named}", node.machine),
                state,
                since: Some(node.since),
                life: None,
                restarts: node.losses,
                chunks: node.chunks,
                error: node.error.as_deref(),
                is_over: manager.ended.is_some(),
            };
            self.push(Key::Place(process.id, manager.id, Place::Node(id)), facts);
            if let Some(own) = seen.process_of(node).filter(|_| manager.ended.is_none()) {
                self.process(own, depth + 2);
            }
        }
    }
}

fn chunks(manager: &Manager) -> u64 {
    let workers = manager.workers.values().map(|worker| worker.chunks);
    workers.chain(manager.nodes.values().map(|node| node.chunks)).sum()
}

pub(crate) fn process_state(seen: &Seen<'_>, process: &Process) -> (&'static str, Mark) {
    match &process.node {
        _ if process.is_over() => ("ended", Mark::Done),
        _ if process.is_silent(seen.now) => ("silent", Mark::Attention),
        Some(serving) if serving.has_stopped => ("stopped", Mark::Done),
        Some(serving) if serving.stopping.is_some() => ("stopping", Mark::Changes),
        Some(_) => ("serves", Mark::Runs),
        None => ("up", Mark::Runs),
    }
}
