//! What the engine is told, and what it asks for.

use std::{ops::Range, time::Duration};

use smallvec::SmallVec;

use super::{CallSpec, Death, Time};
use crate::{
    failure::{Ending, ItemFailure},
    ids::{CallId, Generation, NodeId, WorkerId},
    placement::{Placement, SlotKind},
};

/// What a step asks its owner to do.
pub type Commands<H> = SmallVec<[Command<H>; 2]>;

/// Something that happened.
#[derive(Debug)]
pub enum Event<H> {
    /// The compute thread of a slot is there and idle.
    SlotReady(WorkerId, Generation),
    /// The compute thread of a slot died or could not be started; how far it was in its chunk, if it had one.
    SlotLost(WorkerId, Generation, Option<Death>),
    /// A slot or lane ended its chunk, or as much of it as its budget allowed.
    ChunkDone(WorkerId, Generation, ChunkDone),
    /// The chunk of a lane took a thread of its node along; the node has another.
    ChunkLost(WorkerId, Generation, Death),
    /// Something about a node.
    Node(NodeId, NodeEvent),
    /// A new call.
    Submit(CallSpec<H>),
    /// So many more items of an open call have come.
    Extend(CallId, usize),
    /// No more items of an open call will come; it ends when those it has are done.
    Close(CallId),
    /// A call shall end now, with what it has.
    Cancel(CallId, Ending),
    /// These slots and lanes get work from now on. Whoever decides that says it again when a slot was given up or something
    /// has happened to a node: calls that nothing can run any more may wait for it.
    Place(Placement),
    /// Everything shall end: running calls with this ending, later ones too.
    Stop(Ending),
    /// The time asked for by [`Command::WakeAt`] has come.
    Tick,
}

/// Something that happened to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeEvent {
    /// It may come up: calls may wait for it.
    Expected,
    /// It is connected, and computes so many chunks at once.
    Up {
        /// Chunks at once.
        slots: u32,
        /// What computes them there.
        kind: SlotKind,
        /// From here to there and back.
        round_trip: Duration,
    },
    /// It shall get no new chunks for now (it is silent, or about to stop), or may again.
    Pause(bool),
    /// The connection is gone; what it had is done elsewhere. It may come up again.
    Down,
    /// It will not come up, or has failed to for so long that nothing should wait for it.
    Hopeless,
    /// It can't run this call.
    Refuses(CallId),
}

/// The report of a chunk.
#[derive(Debug, Clone)]
pub struct ChunkDone {
    /// Items of the chunk before this one have their outcome; the others come back.
    pub reached: usize,
    /// Those among them that failed.
    pub failures: Vec<ItemFailure>,
    /// Those that failed too, and have no outcome yet: they are worth another try, and are in their place again.
    pub again: Vec<ItemFailure>,
    /// Under `try_map`: the lowest index that failed or returned `Err`.
    pub first_failure: Option<usize>,
    /// Time spent computing.
    pub elapsed: Duration,
    /// A device of the slot was not needed, so that nobody knows whether it can be opened: deaths for that are not forgiven.
    pub is_unopened: bool,
}

impl ChunkDone {
    /// No item of the chunk, which begins with `start`, has an outcome.
    pub fn nothing(start: usize) -> Self {
        let (failures, again, elapsed) = (Vec::new(), Vec::new(), Duration::ZERO);
        Self { reached: start, failures, again, first_failure: None, elapsed, is_unopened: false }
    }
}

/// Something to do. `H` is whatever the owner attached to the call.
#[derive(Debug)]
pub enum Command<H> {
    /// Give a chunk to a slot.
    Assign(WorkerId, Generation, Chunk<H>),
    /// Tell the caller how its call ended; exactly once for each submitted call.
    Finish {
        /// What `Submit` attached.
        handle: H,
        /// How it ended.
        ending: Ending,
        /// Its failed items in input order.
        failures: Vec<ItemFailure>,
    },
    /// Items of an open call have failed; those of other calls are told at their end.
    Failed {
        /// What `Submit` attached.
        handle: H,
        /// The items.
        failures: Vec<ItemFailure>,
    },
    /// An item has failed and will be tried again.
    Retried {
        /// What `Submit` attached.
        handle: H,
        /// The item, and how it failed.
        failure: ItemFailure,
        /// When: after this long at the earliest.
        wait: Duration,
    },
    /// A node's lanes, by number, are free from now on; the answer to [`NodeEvent::Up`].
    Lanes(NodeId, Range<u32>),
    /// Ask for the chunk of a lane back, in case its node has not begun it.
    Recall(WorkerId, Generation),
    /// The chunk of a lane is not wanted any more: its call has ended.
    Revoke(WorkerId, Generation),
    /// Start a new compute thread for a slot, after a pause. An older thread of the slot may still be running: it is
    /// abandoned and must end by itself.
    Start(WorkerId, Generation, Duration),
    /// End the compute thread of a slot, as soon as its chunk is done.
    Release(WorkerId),
    /// A slot has been given up after too many deaths.
    GaveUp(WorkerId),
    /// Step with [`Event::Tick`] at this time.
    WakeAt(Time),
}

/// A contiguous range of items for one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk<H> {
    /// What `Submit` attached to the call.
    pub handle: H,
    /// The items.
    pub range: Range<usize>,
    /// What they are computed with.
    pub kind: SlotKind,
    /// How often these items were tried, this time included.
    pub attempt: u32,
    /// How often they may be tried again if they fail.
    pub retries: u32,
    /// The whole call in one chunk that takes, by what is known, less than [`QUICK`](super::QUICK).
    pub is_quick: bool,
}

impl<H> Chunk<H> {
    /// For whoever has it at hand, and not for a slot to be chosen.
    pub fn at_hand(handle: H, range: Range<usize>, attempt: u32, retries: u32) -> Self {
        Self { handle, range, kind: SlotKind::default(), attempt, retries, is_quick: false }
    }
}
