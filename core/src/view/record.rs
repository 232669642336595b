//! Whether the lines of a process are all there.

use std::{collections::VecDeque, ops::Range};

use serde::Serialize;

/// Gaps that are remembered, so that a line that comes late is known to be one.
const GAPS: usize = 256;

/// What a record lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Losses {
    /// Lines that were read.
    pub lines: u64,
    /// Of them, those that came twice.
    pub duplicates: u64,
    /// Lines that are no lines of a log.
    pub unreadable: u64,
    /// Numbers that are missing between lines.
    pub missing: u64,
    /// Lines that the programs say they have lost.
    pub dropped: u64,
    /// Calls, workers and others that were left out to bound the memory.
    pub cut: u64,
    /// Chunks that ended and are not kept any more, likewise.
    pub spans_cut: u64,
}

impl Losses {
    /// Whether everything that was said is there.
    pub fn is_whole(&self) -> bool {
        self.unreadable == 0 && self.missing == 0 && self.dropped == 0
    }
}

/// The numbers of the lines of one process.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers {
    /// Of the first line that was read, and what follows the last one.
    seen: Option<Range<u64>>,
    /// What is missing between them.
    gaps: VecDeque<Range<u64>>,
    missing: u64,
    pub(super) duplicates: u64,
    pub(super) dropped: u64,
}

impl Numbers {
    /// Says whether the line is new.
    pub(super) fn note(&mut self, seq: u64) -> bool {
        let after = seq.saturating_add(1);
        let Some(seen) = &mut self.seen else {
            self.seen = Some(seq..after);
            return true;
        };
        if seq >= seen.end {
            let gap = std::mem::replace(&mut seen.end, after)..seq;
            self.lack(gap);
        } else if seq < seen.start {
            let gap = after..std::mem::replace(&mut seen.start, seq);
            self.lack(gap);
        } else if !self.fill(seq) {
            self.duplicates += 1;
            return false;
        }
        true
    }

    fn lack(&mut self, gap: Range<u64>) {
        if gap.is_empty() {
            return;
        }
        self.missing = self.missing.saturating_add(gap.end - gap.start);
        if self.gaps.len() >= GAPS {
            self.gaps.pop_front();
        }
        self.gaps.push_back(gap);
    }

    fn fill(&mut self, seq: u64) -> bool {
        let Some(at) = self.gaps.iter().position(|gap| gap.contains(&seq)) else { return false };
        let gap = self.gaps[at].clone();
        self.gaps.remove(at);
        self.missing = self.missing.saturating_sub(1);
        // The parts are not new losses.
        for part in [gap.start..seq, seq + 1..gap.end] {
            if !part.is_empty() && self.gaps.len() < GAPS {
                self.gaps.push_back(part);
            }
        }
        true
    }

    /// What is missing beyond what the program has said it lost.
    pub(super) fn missing(&self) -> u64 {
        self.missing.saturating_sub(self.dropped)
    }
}
