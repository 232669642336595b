//! The laws, by name, and what breaking one looks like.

use std::fmt;

use distfun_core::engine::Time;

/// What must hold after every step, or at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Law {
    /// An item that has its outcome is not given out again.
    OneOutcome,
    /// No item is with two slots or lanes at once, lives that are over left aside.
    OneSlotPerItem,
    /// A chunk has items, of the call, and that are still wanted.
    ChunkBounds,
    /// A slot is given a chunk when it is idle, in its current life, and not otherwise; a lane when it is free, and each
    /// time a new turn begins.
    OneChunkPerSlot,
    /// Waiting items go out in input order, not to whom they killed while there is other work, suspects first in their chunk, and
    /// alone after a death; the
    /// attempt counts the deaths, and the failures.
    Order,
    /// The blocks of a block call differ by at most one item.
    EvenBlocks,
    /// Only a whole call is announced as quick.
    Quick,
    /// An item that has failed is tried again as often as it may, alone, and when its wait is over.
    Retries,
    /// A call is finished once, and not heard of afterwards.
    OneFinish,
    /// A call ends in the step that settles it, and as it must.
    Ending,
    /// `try_map` ends with the failure that a loop would have met first.
    FirstFailure,
    /// A call's failures are the items that failed, each once, in input order.
    Failures,
    /// A failure of an open call is told in the step that makes it known, and not again.
    FailuresTold,
    /// An open call does not end by itself, even when none of its items is left.
    StaysOpen,
    /// A call is refused for a reason that holds, and only then.
    Refusal,
    /// No slot is idle while an item waits, nor has a node room that can run it.
    WorkConservation,
    /// A chunk goes to a node that is up, and does not refuse its call.
    ServingNode,
    /// A chunk goes to a slot or node of a kind that gets work and that its call may have, and says which; not to the slower kind
    /// what the faster one will have done before.
    Kinds,
    /// A node that comes up is given its lanes, once, and none of another's.
    Lanes,
    /// A chunk that waits at a node, of a call that runs, is asked back once, when somebody is idle and nothing else
    /// waits; and is, in time.
    Recall,
    /// When a call ends, its chunks at nodes are revoked, and no others.
    Revoke,
    /// While nothing is known of what items take, a slot gets half of its share of those that wait.
    FirstShare,
    /// Of two calls that both have waiting items, neither gets ahead of its share by more than what is in flight.
    FairShare,
    /// A lost slot is started anew, once, in a new life, after a wait within its bounds.
    Restart,
    /// A slot is given up at the fifth death in ten seconds without progress, and not before.
    Parking,
    /// While a thread may have to be abandoned, or an item waits to be tried again, a wake-up is on its way in time.
    WakeUp,
    /// After the end nothing is given out, and every slot is released, once.
    Stop,
    /// The engine remembers no more than what is in flight.
    Memory,
    /// `status()` says what the model says.
    Status,
    /// A chunk is never put on top of another that was not taken.
    Door,
    /// Released threads end.
    ThreadsEnd,
    /// Without faults, every call ends within the time that its items take.
    Liveness,
    /// Without faults, the engine still serves a plain call.
    Service,
    /// A call ends with what a plain loop returns, but for items that died with their thread.
    Oracle,
    /// The engine does not panic.
    NoPanic,
}

impl Law {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::OneOutcome,
        Self::OneSlotPerItem,
        Self::ChunkBounds,
        Self::OneChunkPerSlot,
        Self::Order,
        Self::EvenBlocks,
        Self::Quick,
        Self::Retries,
        Self::OneFinish,
        Self::Ending,
        Self::FirstFailure,
        Self::Failures,
        Self::FailuresTold,
        Self::StaysOpen,
        Self::Refusal,
        Self::WorkConservation,
        Self::ServingNode,
        Self::Kinds,
        Self::Lanes,
        Self::Recall,
        Self::Revoke,
        Self::FirstShare,
        Self::FairShare,
        Self::Restart,
        Self::Parking,
        Self::WakeUp,
        Self::Stop,
        Self::Memory,
        Self::Status,
        Self::Door,
        Self::ThreadsEnd,
        Self::Liveness,
        Self::Service,
        Self::Oracle,
        Self::NoPanic,
    ];
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A law that did not hold.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub law: Law,
    /// What was seen.
    pub text: String,
}

/// What checks return.
pub(crate) type Verdict = Result<(), Violation>;

/// Breaks off with `law` unless `holds`.
pub(crate) fn check(holds: bool, law: Law, text: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation { law, text: text() }) }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "law {} does not hold: {}", self.law, self.text)
    }
}

/// Adds a moment to a text.
pub(crate) fn at(time: Time) -> String {
    format!("{:.6} s", time.as_secs_f64())
}
