//! What failed, by kind.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Line, Time,
    job::{code_of, text_of},
};
use crate::event::capped;

/// All failures of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FailureGroup {
    /// `error.type`, or the cause of a restart.
    pub kind: String,
    /// The function; for machines and workers, which.
    pub of: String,
    /// How often it happened and supervision tried again.
    pub retried: u64,
    /// Items that failed for good, or how often anything else did.
    pub failed: u64,
    /// First seen.
    pub first: Time,
    /// Last seen.
    pub last: Time,
    /// What was said last.
    pub text: String,
    /// Where in the program, if that is known: `file:line`.
    pub code: Option<String>,
    /// The call, item, worker and machine that it was last, as far as they are known.
    pub place: String,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Failures {
    groups: BTreeMap<(String, String), FailureGroup>,
    cut: u64,
}

impl Failures {
    pub(super) fn cut(&self) -> u64 {
        self.cut
    }

    pub(super) fn sorted(&self) -> Vec<&FailureGroup> {
        let mut all: Vec<_> = self.groups.values().collect();
        all.sort_by_key(|group| group.last);
        all
    }

    /// At most `limit` kinds are kept.
    pub(super) fn note(&mut self, event: &str, line: &Line<'_>, limit: usize) {
        let function = line.function.as_deref().map(capped);
        let machine = line.machine.as_deref().map(capped);
        let worker = line.worker_id.map(|worker| format!("worker {worker}"));
        let error = capped(line.error_type.as_deref().unwrap_or("error"));
        let (kind, of, retried, failed) = match event {
            "chunk.retry" | "item.retried" => (error, function.unwrap_or("?").to_owned(), 1, 0),
            "chunk.failed" | "chunk.exception" => {
                (error, function.unwrap_or("?").to_owned(), 0, line.items_failed.unwrap_or(1))
            }
            "worker.restarted" => (capped(line.cause.as_deref().unwrap_or("died")), worker.unwrap_or_default(), 1, 0),
            "worker.gave_up" => (capped(line.cause.as_deref().unwrap_or("died")), worker.unwrap_or_default(), 0, 1),
            "node.worker_died" => (error, machine.unwrap_or("?").to_owned(), 1, 0),
            "node.lost" => ("node_lost", machine.unwrap_or("?").to_owned(), 1, 0),
            "node.rejected" | "node.refused" => {
                let is_over = event == "node.refused" || line.gives_up == Some(true);
                (error, machine.unwrap_or("?").to_owned(), u64::from(!is_over), u64::from(is_over))
            }
            _ => return,
        };
        let key = (kind.to_owned(), of.clone());
        if !self.groups.contains_key(&key) && self.groups.len() >= limit.max(1) {
            let oldest = self.groups.iter().min_by_key(|(_, group)| group.last).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.groups.remove(&key));
            self.cut += 1;
        }
        let group = self.groups.entry(key).or_insert_with(|| FailureGroup {
            kind: kind.to_owned(),
            of,
            retried: 0,
            failed: 0,
            first: line.at,
            last: line.at,
            text: String::new(),
            code: None,
            place: String::new(),
        });
        group.retried = group.retried.saturating_add(retried);
        group.failed = group.failed.saturating_add(failed);
        group.first = group.first.min(line.at);
        if line.at < group.last {
            return;
        }
        group.last = line.at;
        group.text = text_of(line);
        group.code = code_of(line).or(group.code.take());
        let parts = [
            line.job_id.map(|id| format!("call {id}")),
            line.item_index.map(|item| format!("item {item}")),
            line.worker_id.map(|worker| format!("worker {worker}")),
            machine.map(str::to_owned),
        ];
        group.place = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    }
}
