//! Bugs that a test can switch on, one at a time, to prove that the simulator notices them. Never for production.
//!
//! Each is one line at the place where somebody could make it: `planted!(Name)` is a condition, `planted!(Name, what)` a
//! statement. Without the feature `planted-bugs` the first is `false` and the second is nothing.

#[cfg(feature = "planted-bugs")]
macro_rules! planted {
    ($bug:ident) => {
        $crate::engine::planted::is_planted($crate::engine::Bug::$bug)
    };
    ($bug:ident, $what:expr) => {
        if planted!($bug) {
            $what;
        }
    };
}

#[cfg(not(feature = "planted-bugs"))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
    ($bug:ident, $what:expr) => {};
}

#[cfg(feature = "planted-bugs")]
pub use bugs::*;

#[cfg(feature = "planted-bugs")]
mod bugs {
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Makes the engines of this thread wrong in one way, or right again.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(in crate::engine) fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    macro_rules! bugs {
        ($($(#[$doc:meta])* $name:ident,)*) => {
            /// A mistake that somebody could make.
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub enum Bug { $($(#[$doc])* $name,)* }

            impl Bug {
                /// All of them.
                pub const ALL: &[Self] = &[$(Self::$name,)*];
            }
        };
    }

    bugs! {
        /// What a chunk hands back begins one item too late.
        RequeueOffByOne,
        /// What a chunk hands back begins one item too early.
        RequeueTooEarly,
        /// What came back is given out and stays there.
        ReturnedGivenTwice,
        /// The next new chunk begins with the last item of this one.
        LastItemGivenTwice,
        /// The rest of a range that came back is lost when its beginning is given out.
        RestOfReturnedLost,
        /// A death counts twice against the item.
        BlamedTwice,
        /// An item is blamed for its last death only, and so is tried for ever.
        DeathsDoNotAddUp,
        /// A suspect that has its outcome is remembered until the call ends.
        SuspectNeverForgotten,
        /// An item that has killed twice takes others with it.
        KillerNotAlone,
        /// An item goes back to the slot that it has killed, though that has other work.
        KillerComesBack,
        /// An item tried again is announced as tried for the first time.
        AttemptNotCounted,
        /// Failures are lost when a thread dies.
        FailuresLostAtBury,
        /// Failures come in the order of the reports.
        FailuresUnsorted,
        /// `try_map` goes on with what came back from behind the first failure.
        CutSparesReturned,
        /// A call is over when nothing waits, though something runs.
        RunningForgotten,
        /// A chunk may be as long as everything that waits.
        ChunkPastFront,
        /// The last items of a call make empty chunks.
        EmptyChunk,
        /// A chunk leaves out the first item that waits.
        ChunkStartsLate,
        /// A call without waiting items stays in the queue.
        QueuedWithoutItems,
        /// A block takes one item of the next.
        BlockOneLonger,
        /// Every call has the same weight.
        PriorityIgnored,
        /// What a chunk took is not charged, only what was expected.
        ChargeNotCorrected,
        /// A new call is served alone until it has had as much as the oldest.
        NewcomerFirst,
        /// A call that had nothing waiting claims the time it did not ask for.
        RejoinsWithOldClaim,
        /// Reports of a slot's earlier lives are heard.
        OldLifeHeard,
        /// A slot is idle when its thread says so, even if it was given up.
        ReadyTakenOnTrust,
        /// A slot whose call has ended meanwhile is not found among the idle ones.
        SlotNotIdleAgain,
        /// A thread that died idle leaves its slot among the idle ones.
        DeadSlotStaysIdle,
        /// A part of a call is announced as the whole.
        QuickPart,
        /// `try_map` ends with the failure that was reported last.
        LatestFailureWins,
        /// `try_map` prefers a panic to an earlier `Err`.
        PanicBeforeErr,
        /// `try_map` goes on behind an item that failed with its thread.
        DeathDoesNotCut,
        /// A call is finished a second time.
        FinishTwice,
        /// One call more than `max_calls`.
        MaxCallsOffByOne,
        /// Calls start after the end.
        StartsAfterEnd,
        /// A call that ends leaves its place in the queue.
        QueueEntryLeft,
        /// `shutdown` after `finished` changes nothing.
        StrongerEndingLost,
        /// A thread that comes up after the end is not told.
        LateComerNotReleased,
        /// The first slot is not released.
        OneNotReleased,
        /// Calls beside one that ends the engine are forgotten.
        OthersForgottenAtEnd,
        /// No wake-up is asked for when a call runs out of time.
        WakeUpForgotten,
        /// A thread is not abandoned when its time has come, only after.
        AbandonedTooLate,
        /// What a slot was doing is forgotten when its thread dies.
        DeathForgetsChunk,
        /// An abandoned thread's successor is taken for itself.
        AbandonedKeepsGeneration,
        /// A dead thread is always replaced at once.
        BackoffIgnored,
        /// A slot is given up one death too early.
        ParksEarly,
        /// A finished item does not forgive the deaths before it.
        NeverForgives,
        /// Deaths count however long ago they were.
        OldDeaths,
        /// Deaths that only told in which half of a block an item kills count as well.
        HalvingCounts,
        /// An item is tried once more than was asked for.
        RetriedTooOften,
        /// An item that failed is tried again without its wait.
        RetriedAtOnce,
        /// An item that failed counts among those that ended well while it waits to be tried again.
        RetriedCountsAsDone,
        /// A call does not wait for items that are to be tried again.
        RetryNotWaitedFor,
        /// `try_map` still tries items again from behind the first failure.
        CutSparesDeferred,
        /// No wake-up is asked for when an item is to be tried again.
        AlarmForgotten,
        /// Calls go on waiting when the last slot was given up.
        NoWorkersForgotten,
        /// The status counts failed items as not done.
        StatusWithoutFailures,
        /// An open call without items is complete.
        OpenNeedsItems,
        /// An open call ends when none of its items is left.
        OpenEndsDry,
        /// Items that come to a call that sleeps do not wake it.
        ExtensionNotQueued,
        /// A call that slept claims the time when it had no items.
        ExtensionKeepsOldClaim,
        /// Items that come replace those that wait.
        ExtensionReplaces,
        /// Items that come for a call that was closed open it again.
        ExtendReopens,
        /// Items that come for a call that has ended get a place in the queue.
        ExtendQueuesEndedCall,
        /// A call of which nothing is left can't be closed.
        SettledStaysOpen,
        /// A call ends when it is closed, though something of it runs.
        CloseDoesNotWait,
        /// Failures of an open call are told again with the next ones.
        FailuresToldAgain,
        /// Failures of an open call are not told.
        FailuresNotTold,
        /// Failures of an open call are told at its end.
        OpenTellsAtEnd,
        /// A failure that was told leaves something behind.
        ToldFailureLeavesTrace,
        /// A node that is expected is nothing to wait for.
        NewNodeGivesNoHope,
        /// A node without hope is still waited for.
        HopelessNotCounted,
        /// A call waits for nodes that can't run it.
        RefusalTakesNoHope,
        /// A call that the last node refuses goes on waiting.
        RefusalEndsNothing,
        /// A node gets a call that it has refused.
        RefusedGetsIt,
        /// What a call's refusals have left is not forgotten with it.
        RefusalsRemembered,
        /// A node that comes back with other slots has the lanes that it had.
        OldLanesKept,
        /// The slots of a node count twice.
        SlotsCountedTwice,
        /// A paused node gets chunks.
        PausedGetsWork,
        /// A lost node is still among those that take more.
        LostNodeStaysReady,
        /// The first chunk of a lost node is forgotten.
        LostChunkForgotten,
        /// The chunks of a lost node come back twice.
        LostChunkGivenBackTwice,
        /// The chunks of a lost node come back, and stay on their lanes.
        LostLaneKeepsChunk,
        /// The loss of a node is held against the items that it had.
        LossHeldAgainstItem,
        /// What a node had is forgotten when it comes back before its loss was told.
        UpForgetsOldChunks,
        /// Answers of a lane's earlier turns are heard.
        OldTurnHeard,
        /// A lane whose chunk is over stays taken.
        LaneNotFreed,
        /// The death of a thread at a node is held against nobody.
        LaneDeathForgiven,
        /// What a lane's chunk took replaces what was expected, not what was charged.
        LaneChargeGuessed,
        /// Chunks that wait at nodes are never asked back.
        RecallForgotten,
        /// A chunk is asked back again and again.
        RecalledTwice,
        /// A chunk that a node computes is asked back.
        RunningRecalled,
        /// A chunk is asked back though nobody is idle.
        RecalledForNobody,
        /// A chunk is asked back though other items wait.
        RecalledWhileItemsWait,
        /// A chunk is asked back though its call has ended.
        EndedRecalled,
        /// A lane is free when its chunk was asked back.
        RecallTakenForAnswer,
        /// Nodes are taken for crowded that were so once.
        CrowdedStale,
        /// The first chunk of a call that ends is not revoked.
        RevokeForgotten,
        /// After the end nodes are what they were.
        StopForgetsNodes,
        /// Slots of any kind get work, whatever was decided.
        PlacementIgnored,
        /// Slots of any kind get a call that is for one.
        OnlyIgnored,
        /// A chunk for a GPU is announced as one for a CPU.
        KindNotSaid,
        /// What is decided while several calls run is forgotten.
        PlaceForgotten,
        /// Calls that wait for what is decided against go on waiting.
        PlaceEndsNothing,
        /// New calls run after a refusal.
        RefusalForgotten,
        /// A refusal ends calls that have begun on GPUs.
        RefusalEndsAll,
        /// A machine that is looked for stops calls that run.
        UndecidedStopsAll,
        /// A GPU that was given up still counts.
        ParkedGpuCounts,
        /// What an item takes on a GPU is taken for what it takes on a CPU.
        CostsMixedUp,
        /// A slower slot takes what the faster ones would have done before.
        SlowerTakesTheEnd,
        /// A slower slot leaves everything to the faster ones.
        SlowerTakesNothing,
        /// A node that has not said what it has is not waited for by calls for GPUs.
        UnknownHasNoGpu,
        /// A call waits for nodes of a kind that it can't have.
        WaitsForWrongKind,
        /// A chunk is asked back for slots that can't have it.
        RecalledForWrongKind,
    }
}
