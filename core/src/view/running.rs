//! A chunk that runs.

use serde::Serialize;

use super::{Kept, Line, Name, Time};

/// A chunk that runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Running {
    /// [`super::Job::id`].
    pub job: u64,
    /// What is called.
    pub function: Name,
    /// Its first item.
    pub index: u64,
    /// How many it has.
    pub items: u64,
    /// How often it was tried, this time included.
    pub attempt: u64,
    /// Since when.
    pub since: Time,
    /// Whether it was said to have run much longer than others.
    pub is_slow: bool,
    /// When it was last said that it runs.
    pub told: Time,
    /// Whether a heartbeat said so, which is repeated every 10 s: without more of them it may have ended.
    pub is_pulse: bool,
}

impl Running {
    pub(super) fn of(line: &Line<'_>, kept: &mut Kept) -> Option<Self> {
        Some(Self {
            job: line.job_id?,
            function: kept.name(line.function.as_deref().unwrap_or_default()),
            index: line.chunk_index?,
            items: line.chunk_items.unwrap_or(0),
            attempt: line.chunk_attempt.unwrap_or(1),
            since: line.at.before(line.running_s.unwrap_or(0.0)),
            is_slow: false,
            told: line.at,
            is_pulse: line.running_s.is_some(),
        })
    }

    pub(super) fn is(&self, line: &Line<'_>) -> bool {
        Some(self.job) == line.job_id && Some(self.index) == line.chunk_index
    }
}
