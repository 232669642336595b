//! One active call as the engine sees it.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Retries, Shape, Time,
    ledger::Ledger,
    pace::Pace,
    plan::{Costs, Plan},
};
use crate::{failure::Ending, ids::CallId, placement::SlotKind};

/// What `Submit` says about a call.
#[derive(Debug, Clone)]
pub struct CallSpec<H> {
    /// Unique within the engine.
    pub id: CallId,
    /// Comes back with every command about the call.
    pub handle: H,
    /// Calls of one function share what was learnt about its cost.
    pub function: &'static str,
    /// Number of items.
    pub items: usize,
    /// More items may come, until `Close`.
    pub is_open: bool,
    /// How the items may be cut into chunks.
    pub shape: Shape,
    /// Only such slots may have it.
    pub only: Option<SlotKind>,
    /// Share of the slots against other active calls.
    pub priority: Priority,
    /// End at the first failure in input order (`try_map`).
    pub stops_at_failure: bool,
    /// What becomes of items that fail, and are reported as worth another try.
    pub retries: Retries,
    /// The engine ends with this call (`endaftercall`).
    pub ends_engine: bool,
}

/// How much of the slots a call gets while others run: four times as much per step up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// A quarter of a normal call's share.
    Low,
    /// The usual share.
    #[default]
    Normal,
    /// Four times a normal call's share.
    High,
}

impl Priority {
    fn weight(self) -> u32 {
        planted!(PriorityIgnored, return 4);
        match self {
            Self::Low => 1,
            Self::Normal => 4,
            Self::High => 16,
        }
    }
}

#[derive(Debug)]
pub(super) struct ActiveCall<H> {
    pub(super) id: CallId,
    pub(super) handle: H,
    pub(super) function: &'static str,
    pub(super) ledger: Ledger,
    pub(super) plan: Plan,
    pub(super) only: Option<SlotKind>,
    pub(super) pace: Pace,
    /// Slot time had so far, divided by weight: the call with the least is served next.
    pub(super) served: Duration,
    pub(super) stops_at_failure: bool,
    pub(super) retries: Retries,
    pub(super) ends_engine: bool,
    pub(super) first_failure: Option<usize>,
    pub(super) is_open: bool,
    /// Failures of it have been told, as they came.
    pub(super) tells_failures: bool,
    weight: u32,
    since: Time,
}

impl<H> ActiveCall<H> {
    pub(super) fn new(spec: CallSpec<H>, now: Time, slots: usize, costs: Costs, served: Duration) -> Self {
        Self {
            id: spec.id,
            handle: spec.handle,
            function: spec.function,
            ledger: Ledger::new(spec.items).retrying(spec.retries.times),
            plan: Plan::new(spec.shape, spec.items, slots, costs),
            only: spec.only,
            pace: Pace::default(),
            served: if planted!(NewcomerFirst) { Duration::ZERO } else { served },
            stops_at_failure: spec.stops_at_failure,
            retries: spec.retries,
            ends_engine: spec.ends_engine,
            first_failure: None,
            is_open: spec.is_open,
            tells_failures: spec.is_open && !planted!(OpenTellsAtEnd),
            weight: spec.priority.weight(),
            since: now,
        }
    }

    /// Charges for a chunk of `items` in advance, so that one call is not served twice before its first report.
    pub(super) fn charge(&mut self, kind: SlotKind, items: usize) -> Duration {
        let expected = self.plan.expected(kind, items).min(super::BUDGET);
        self.served = self.served.saturating_add(expected / self.weight);
        expected
    }

    /// Replaces an advance charge by what the chunk took.
    pub(super) fn correct_charge(&mut self, expected: Duration, took: Duration) {
        planted!(ChargeNotCorrected, return);
        self.served = self.served.saturating_sub(expected / self.weight).saturating_add(took / self.weight);
    }

    /// Before the call goes back into the queue. One that had nothing waiting joins as a new one does: it can't claim
    /// the time it did not ask for, which would keep newer calls from their share until it has caught up.
    pub(super) fn rejoin(&mut self, has_waited: bool, served: Duration) {
        if !has_waited && !planted!(RejoinsWithOldClaim) {
            self.served = self.served.max(served);
        }
    }

    /// The item `index` has failed, and items behind it are not wanted; returns those among them that waited to be tried
    /// again.
    pub(super) fn stop_at(&mut self, index: usize) -> BTreeMap<usize, Time> {
        let waits = self.ledger.cut(index);
        planted!(LatestFailureWins, self.first_failure = None);
        self.first_failure = Some(self.first_failure.map_or(index, |before| before.min(index)));
        waits
    }

    pub(super) fn status(&self, now: Time) -> CallStatus {
        CallStatus {
            id: self.id,
            function: self.function,
            items: self.ledger.items(),
            is_open: self.is_open,
            done: self.ledger.done() + self.ledger.failed() * usize::from(!planted!(StatusWithoutFailures)),
            failed: self.ledger.failed(),
            deferred: self.ledger.waits().len(),
            chunks: self.pace.chunks(),
            median: self.pace.median(),
            slow_after: self.pace.slow_after(),
            running_for: now.saturating_sub(self.since),
            ending: self.first_failure.map(Ending::FirstFailure),
        }
    }
}

/// One active call at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CallStatus {
    /// The call.
    pub id: CallId,
    /// Name of its function.
    pub function: &'static str,
    /// Items in all; so far, if the call is open.
    pub items: usize,
    /// More items may come: it is a stream whose input is not used up.
    pub is_open: bool,
    /// Items with an outcome, as of the chunks that have ended.
    pub done: usize,
    /// Those among them that failed.
    pub failed: usize,
    /// Items that have failed and wait until they are tried again.
    pub deferred: usize,
    /// Chunks that have ended.
    pub chunks: u64,
    /// Median of the time they took, where that is a second or more.
    pub median: Option<Duration>,
    /// A chunk that runs longer than this is slow.
    pub slow_after: Duration,
    /// Since it was submitted.
    pub running_for: Duration,
    /// How it will end, where that is settled while items before the first failure still run.
    pub ending: Option<Ending>,
}
