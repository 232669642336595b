//! Nodes: other machines, each with lanes for chunks.
//!
//! A node that computes S chunks at once has 2 S lanes, so that its next chunks are there when it has computed the ones
//! before, whatever the way is long. What waits at a node is asked back when a slot elsewhere has nothing to do. Every
//! step here costs O(log nodes), times the calls that some nodes refuse, so that a thousand nodes are no harder than ten; but
//! where slots are of two kinds and only those of one are idle, also the nodes are looked through whose chunks wait for the other.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use super::{TARGET, Time};
use crate::{
    ids::{CallId, Generation, NodeId, WorkerId},
    placement::SlotKind,
};

/// Lanes per chunk that a node computes at once: one is computed while the other travels.
const LANES_PER_SLOT: u32 = 2;

/// The load of a node that computes one chunk on each of its slots.
const FULL: u32 = 1000;

/// First chunk of a function whose cost at the node nobody knows, in items.
const FIRST_GRANT: usize = 1024;

/// A chunk that comes back earlier than this, counted from when it was sent, was too small to be worth its message.
const LONGEST_TARGET: Duration = Duration::from_millis(20);

/// A chunk of which more work than this is expected is worth asking back.
const WORTH_RECALLING: Duration = Duration::from_millis(2);

/// A chunk that has waited this long may be asked back whatever is known about it.
const WAITED: Duration = Duration::from_millis(5);

/// What a node is to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// Not connected, and may come up.
    Expected,
    /// Gets chunks.
    Up,
    /// Connected, and gets no new chunks for now.
    Paused,
    /// Nothing waits for it.
    Hopeless,
}

/// One node at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStatus {
    /// Which.
    pub node: NodeId,
    /// The machine as its owner calls it, if it says.
    pub machine: Option<Arc<str>>,
    /// What its slots compute with.
    pub kind: SlotKind,
    /// What it is to the engine.
    pub state: NodeState,
    /// Chunks that it computes at once, while it is connected.
    pub slots: u32,
    /// Chunks that it has.
    pub chunks: usize,
}

/// A place for one chunk at a node.
#[derive(Debug)]
pub(super) struct Lane {
    node: NodeId,
    pub(super) generation: Generation,
    pub(super) chunk: Option<Taken>,
}

/// The chunk of a lane.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) call: CallId,
    pub(super) range: Range<usize>,
    pub(super) since: Time,
    pub(super) expected: Duration,
    /// What its call was charged for it in advance.
    pub(super) charged: Duration,
    /// Asked back, or not wanted any more.
    is_recalled: bool,
}

impl Taken {
    pub(super) fn new(call: CallId, range: Range<usize>, since: Time, expected: Duration, charged: Duration) -> Self {
        Self { call, range, since, expected, charged, is_recalled: false }
    }
}

/// What is known about a function at a node.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Seconds of computing per item.
    cost: Option<f64>,
    /// Most items of the next chunk: it doubles while chunks come back soon.
    grant: usize,
}

#[derive(Debug)]
struct Node {
    state: NodeState,
    slots: u32,
    kind: SlotKind,
    /// It has said what it has.
    is_known: bool,
    round_trip: Duration,
    lanes: Range<u32>,
    free: Vec<u32>,
    /// Lanes with a chunk, in the order in which they got it.
    taken: Vec<u32>,
    paces: HashMap<&'static str, Pace>,
}

impl Node {
    fn load(&self) -> u32 {
        (self.taken.len() as u32).saturating_mul(FULL) / self.slots.max(1)
    }
}

/// Nodes that take another chunk, the one with the least to do first, by the kind of their slots.
type Ready = [BTreeSet<(u32, NodeId)>; 2];

/// A call that some nodes can't run.
#[derive(Debug)]
struct Picky {
    barred: HashSet<NodeId>,
    /// Of [`Nodes::ready`], those that can. Those that can't stay idle, and so would come first, all of them.
    ready: Ready,
}

/// All nodes and their lanes. Numbers of lanes begin behind those of the slots.
#[derive(Debug)]
pub(super) struct Nodes {
    first: u32,
    all: HashMap<NodeId, Node>,
    lanes: Vec<Lane>,
    ready: Ready,
    /// Nodes that have chunks waiting, by how many.
    crowded: BTreeSet<(u32, NodeId)>,
    /// What there is for calls that not every node can run.
    picky: HashMap<CallId, Picky>,
    hopeful: usize,
    /// Some are, or were, the GPUs of a machine.
    are_gpus: bool,
    /// By their kind.
    slots: [usize; 2],
}

impl Nodes {
    pub(super) fn new(first: u32) -> Self {
        Self {
            first,
            all: HashMap::new(),
            lanes: Vec::new(),
            ready: Ready::default(),
            crowded: BTreeSet::new(),
            picky: HashMap::new(),
            hopeful: 0,
            are_gpus: false,
            slots: [0; 2],
        }
    }

    /// Chunks that all connected nodes compute at once on slots of this kind.
    pub(super) fn slots(&self, kind: SlotKind) -> usize {
        self.slots[kind as usize]
    }

    /// Whether any node has ever had slots on GPUs.
    pub(super) fn has_gpus(&self) -> bool {
        self.are_gpus
    }

    /// Whether `worker` is a lane.
    pub(super) fn has(&self, worker: WorkerId) -> bool {
        worker.0 >= self.first
    }

    pub(super) fn lane(&self, worker: WorkerId) -> Option<&Lane> {
        self.lanes.get(worker.0.checked_sub(self.first)? as usize)
    }

    /// Whether any node that is there, or may still come up, has or may have such slots, and would take this call, if it is one.
    pub(super) fn may_run(&self, call: Option<CallId>, kind: SlotKind) -> bool {
        planted!(RefusalTakesNoHope, return self.hopeful > 0);
        let barred = call.and_then(|call| self.picky.get(&call)).map(|picky| &picky.barred);
        if kind == SlotKind::Cpu && !self.are_gpus {
            let barred = barred.into_iter().flatten();
            let lost = barred.filter(|node| self.all.get(node).is_some_and(|node| is_hopeful(node.state))).count();
            return self.hopeful > lost;
        }
        let may_have = |node: &Node| {
            let is_of_kind = node.kind == kind && node.slots > 0 || planted!(WaitsForWrongKind);
            !node.is_known && !planted!(UnknownHasNoGpu) || is_of_kind
        };
        let mut hopeful = self.all.iter().filter(|(_, node)| is_hopeful(node.state) && may_have(node));
        hopeful.any(|(id, _)| barred.is_none_or(|barred| !barred.contains(id)))
    }

    /// The node can't run this call; says whether that is news.
    pub(super) fn bar(&mut self, id: NodeId, call: CallId) -> bool {
        let ready = &self.ready;
        let picky = self.picky.entry(call).or_insert_with(|| Picky { barred: HashSet::new(), ready: ready.clone() });
        if let Some(node) = self.all.get(&id) {
            picky.ready[node.kind as usize].remove(&(node.load(), id));
        }
        picky.barred.insert(id)
    }

    /// Whether any node can't run this call.
    pub(super) fn is_picky(&self, call: CallId) -> bool {
        self.picky.contains_key(&call)
    }

    /// The call has ended.
    pub(super) fn forget(&mut self, call: CallId) {
        self.picky.remove(&call);
    }

    pub(super) fn expect(&mut self, id: NodeId) {
        let node = self.all.entry(id).or_insert_with(|| Node {
            state: NodeState::Hopeless,
            slots: 0,
            kind: SlotKind::Cpu,
            is_known: false,
            round_trip: Duration::ZERO,
            lanes: 0..0,
            free: Vec::new(),
            taken: Vec::new(),
            paces: HashMap::new(),
        });
        if node.state == NodeState::Hopeless && !planted!(NewNodeGivesNoHope) {
            node.state = NodeState::Expected;
            self.hopeful += 1;
        }
    }

    /// The node is connected anew; returns its lanes, all free.
    pub(super) fn up(&mut self, id: NodeId, slots: u32, kind: SlotKind, round_trip: Duration) -> Range<u32> {
        self.expect(id);
        debug_assert!(self.all[&id].taken.is_empty(), "what an old connection had has come back");
        self.unlist(id);
        let wanted = slots.saturating_mul(LANES_PER_SLOT);
        let node = self.all.get_mut(&id).expect("it is expected");
        if node.lanes.len() as u32 != wanted && (node.lanes.is_empty() || !planted!(OldLanesKept)) {
            // Another machine than before may answer there. Its old lanes stay numbered, and empty.
            let from = self.first + self.lanes.len() as u32;
            node.lanes = from..from + wanted;
            let lane = || Lane { node: id, generation: Generation(0), chunk: None };
            self.lanes.extend((0..wanted).map(|_| lane()));
        }
        node.free = node.lanes.clone().rev().collect();
        node.slots = slots;
        node.kind = kind;
        node.is_known = true;
        self.are_gpus |= kind == SlotKind::Gpu;
        node.round_trip = round_trip;
        node.state = NodeState::Up;
        let lanes = node.lanes.clone();
        self.slots[kind as usize] += slots as usize * (1 + usize::from(planted!(SlotsCountedTwice)));
        self.list(id);
        lanes
    }

    pub(super) fn pause(&mut self, id: NodeId, yes: bool) {
        let Some(node) = self.all.get(&id) else { return };
        let (from, to) = if yes { (NodeState::Up, NodeState::Paused) } else { (NodeState::Paused, NodeState::Up) };
        if node.state == from {
            self.unlist(id);
            self.all.get_mut(&id).expect("it is there").state = to;
            self.list(id);
        }
    }

    /// The connection is gone; returns the chunks that it had, by lane.
    pub(super) fn down(&mut self, id: NodeId, is_hopeless: bool) -> Vec<(WorkerId, Taken)> {
        self.unlist(id);
        planted!(LostNodeStaysReady, self.list(id));
        let Some(node) = self.all.get_mut(&id) else { return Vec::new() };
        if matches!(node.state, NodeState::Up | NodeState::Paused) {
            self.slots[node.kind as usize] -= node.slots as usize;
        }
        let was_hopeful = is_hopeful(node.state);
        node.state = if is_hopeless || !was_hopeful { NodeState::Hopeless } else { NodeState::Expected };
        self.hopeful -= usize::from(was_hopeful && is_hopeless && !planted!(HopelessNotCounted));
        node.free.clear();
        let taken = std::mem::take(&mut node.taken);
        let take = |lane: u32| {
            let lost = &mut self.lanes[(lane - self.first) as usize].chunk;
            let chunk = if planted!(LostLaneKeepsChunk) { lost.clone()? } else { lost.take()? };
            Some((WorkerId(lane), chunk))
        };
        taken.into_iter().filter_map(take).collect()
    }

    /// The node that gets the next chunk of a call for such slots.
    pub(super) fn next(&self, call: CallId, kind: SlotKind) -> Option<NodeId> {
        self.first_for(call, kind).map(|(_, node)| *node)
    }

    /// The same, if it has such slots without anything to compute, and not only room for waiting chunks.
    pub(super) fn next_idle(&self, call: CallId, kind: SlotKind) -> Option<NodeId> {
        self.first_for(call, kind).filter(|(load, _)| *load < FULL).map(|(_, node)| *node)
    }

    fn first_for(&self, call: CallId, kind: SlotKind) -> Option<&(u32, NodeId)> {
        let picky = self.picky.get(&call).filter(|_| !planted!(RefusedGetsIt));
        picky.map_or(&self.ready, |picky| &picky.ready)[kind as usize].first()
    }

    /// Whether any node takes another chunk for such slots.
    pub(super) fn is_ready(&self, kind: SlotKind) -> bool {
        !self.ready[kind as usize].is_empty()
    }

    /// Whether some node has such slots without anything to compute, and not only room for waiting chunks.
    pub(super) fn has_room(&self, kind: SlotKind) -> bool {
        self.ready[kind as usize].first().is_some_and(|(load, _)| *load < FULL)
    }

    /// How many items of a function a node should get at most: what it computes in the target time, if its cost is known,
    /// and no more than its grant, which begins at [`FIRST_GRANT`].
    pub(super) fn most_items(&self, id: NodeId, function: &'static str, cost_here: Option<f64>) -> usize {
        let node = &self.all[&id];
        let pace = node.paces.get(function);
        let target = TARGET.max(node.round_trip.min(LONGEST_TARGET));
        let by_cost = pace.and_then(|pace| pace.cost).or(cost_here).map(|cost| super::plan::items_in(target, cost));
        let grant = pace.map_or(FIRST_GRANT, |pace| pace.grant);
        by_cost.map_or(grant, |items| items.min(grant)).max(1)
    }

    /// What a chunk of `items` will probably take at a node.
    pub(super) fn expected(&self, id: NodeId, function: &'static str, items: usize) -> Option<Duration> {
        let cost = self.all[&id].paces.get(function)?.cost?;
        Duration::try_from_secs_f64(cost * items as f64).ok()
    }

    /// Puts a chunk on a free lane of a node.
    pub(super) fn give(&mut self, id: NodeId, chunk: Taken) -> (WorkerId, Generation) {
        self.unlist(id);
        let node = self.all.get_mut(&id).expect("a node that is ready");
        let number = node.free.pop().expect("a node that is ready has a free lane");
        node.taken.push(number);
        let lane = &mut self.lanes[(number - self.first) as usize];
        lane.generation.0 = lane.generation.0.wrapping_add(1);
        lane.chunk = Some(chunk);
        let generation = lane.generation;
        self.list(id);
        (WorkerId(number), generation)
    }

    /// The chunk of a lane is over.
    pub(super) fn take(&mut self, worker: WorkerId, generation: Generation) -> Option<Taken> {
        let at = worker.0.checked_sub(self.first)? as usize;
        let lane = self.lanes.get_mut(at).filter(|lane| lane.generation == generation || planted!(OldTurnHeard))?;
        let (chunk, id) = (lane.chunk.take()?, lane.node);
        self.unlist(id);
        let node = self.all.get_mut(&id).expect("a lane has a node");
        node.taken.retain(|taken| *taken != worker.0);
        if !planted!(LaneNotFreed) {
            node.free.push(worker.0);
        }
        self.list(id);
        Some(chunk)
    }

    /// The chunk of a lane is not wanted any more, and so is not asked back: the turn that it has.
    pub(super) fn revoke(&mut self, worker: WorkerId) -> Option<Generation> {
        let at = worker.0.checked_sub(self.first)? as usize;
        let lane = self.lanes.get_mut(at)?;
        let (generation, id) = (lane.generation, lane.node);
        lane.chunk.as_mut()?.is_recalled |= !planted!(EndedRecalled);
        self.unlist(id);
        self.list(id);
        Some(generation)
    }

    /// Learns from a chunk of a lane: how many of its items were done, computed in `elapsed` and back after `turnaround`.
    pub(super) fn learn(
        &mut self,
        worker: WorkerId,
        function: &'static str,
        items: usize,
        elapsed: Duration,
        turnaround: Duration,
    ) {
        let Some(id) = self.lane(worker).map(|lane| lane.node).filter(|_| items > 0) else { return };
        let node = self.all.get_mut(&id).expect("a lane has a node");
        let pace = node.paces.entry(function).or_insert(Pace { cost: None, grant: FIRST_GRANT });
        let seen = elapsed.as_secs_f64() / items as f64;
        pace.cost = Some(pace.cost.map_or(seen, |known| 0.5 * (known + seen)));
        if turnaround < LONGEST_TARGET.max(4 * node.round_trip) {
            if 2 * items >= pace.grant {
                pace.grant = pace.grant.saturating_mul(2);
            }
        } else {
            // Not below what is worth a message: fewer items come back no sooner where it is the way that is long.
            let worth = pace.cost.map_or(1, |cost| super::plan::items_in(TARGET, cost));
            pace.grant = (pace.grant / 2).max(worth.min(pace.grant));
        }
    }

    /// A chunk that waits at a node and is worth asking back, marked as asked for; or when one will have waited long
    /// enough. `is_wanted`: something else that has nothing to do would take chunks of this call.
    pub(super) fn recall(
        &mut self,
        now: Time,
        is_wanted: impl Fn(&Self, CallId) -> bool,
    ) -> Option<Result<(WorkerId, Generation), Time>> {
        // Mostly of the first; but what waits there may not be for those that are idle.
        let of_node = |(_, id): &(u32, NodeId)| Some((*id, self.worth_recalling(*id, now, &is_wanted)?));
        let (id, found) = self.crowded.iter().rev().find_map(of_node)?;
        let number = match found {
            Ok(number) => number,
            Err(at) => return Some(Err(at)),
        };
        let lane = &mut self.lanes[(number - self.first) as usize];
        lane.chunk.as_mut()?.is_recalled = !planted!(RecalledTwice);
        let recalled = (WorkerId(number), lane.generation);
        self.unlist(id);
        self.list(id);
        Some(Ok(recalled))
    }

    /// The lane of a node whose chunk waits and is worth asking back now; or when one will have waited long enough.
    fn worth_recalling(
        &self,
        id: NodeId,
        now: Time,
        is_wanted: &impl Fn(&Self, CallId) -> bool,
    ) -> Option<Result<u32, Time>> {
        let node = &self.all[&id];
        // The youngest: those before it are computed, or next.
        let computed = if planted!(RunningRecalled) { 0 } else { node.slots as usize };
        let waiting = &node.taken[computed..];
        let mut soonest = None;
        for &number in waiting.iter().rev() {
            let is_it = |chunk: &&Taken| !chunk.is_recalled && is_wanted(self, chunk.call);
            let chunk = self.lanes[(number - self.first) as usize].chunk.as_ref();
            let Some(chunk) = chunk.filter(is_it) else { continue };
            let is_old = chunk.since + WAITED <= now;
            if is_old || chunk.expected >= WORTH_RECALLING.max(2 * node.round_trip) {
                return Some(Ok(number));
            }
            soonest = Some(soonest.map_or(chunk.since + WAITED, |at: Time| at.min(chunk.since + WAITED)));
        }
        soonest.map(Err)
    }

    /// Whether chunks wait at nodes.
    pub(super) fn are_waiting(&self) -> bool {
        !self.crowded.is_empty()
    }

    pub(super) fn status(&self) -> Vec<NodeStatus> {
        let one = |(id, node): (&NodeId, &Node)| NodeStatus {
            node: *id,
            machine: None,
            kind: node.kind,
            state: node.state,
            slots: if matches!(node.state, NodeState::Up | NodeState::Paused) { node.slots } else { 0 },
            chunks: node.taken.len(),
        };
        let mut all: Vec<_> = self.all.iter().map(one).collect();
        all.sort_unstable_by_key(|status| status.node);
        all
    }

    /// How many things it remembers that should be forgotten when everything is over.
    pub(super) fn footprint(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.chunk.is_some()).count() + self.picky.len()
    }

    /// Forgets every chunk: everything has ended.
    pub(super) fn clear(&mut self) {
        let ids: Vec<NodeId> = self.all.keys().copied().collect();
        for id in ids {
            self.down(id, true);
        }
    }

    fn unlist(&mut self, id: NodeId) {
        let Some(node) = self.all.get(&id) else { return };
        self.ready[node.kind as usize].remove(&(node.load(), id));
        self.picky.values_mut().for_each(|picky| _ = picky.ready[node.kind as usize].remove(&(node.load(), id)));
        if !planted!(CrowdedStale) {
            self.crowded.remove(&(node.taken.len() as u32, id));
        }
    }

    fn list(&mut self, id: NodeId) {
        let Some(node) = self.all.get(&id) else { return };
        let is_up = node.state == NodeState::Up || planted!(PausedGetsWork) && node.state == NodeState::Paused;
        if is_up && !node.free.is_empty() {
            self.ready[node.kind as usize].insert((node.load(), id));
            for picky in self.picky.values_mut().filter(|picky| !picky.barred.contains(&id)) {
                picky.ready[node.kind as usize].insert((node.load(), id));
            }
        }
        let waiting = node.taken.get(node.slots as usize..).unwrap_or_default();
        let can_be_recalled = |number: &u32| {
            let lane = &self.lanes[(*number - self.first) as usize];
            lane.chunk.as_ref().is_some_and(|chunk| !chunk.is_recalled)
        };
        if waiting.iter().any(can_be_recalled) {
            self.crowded.insert((node.taken.len() as u32, id));
        }
    }
}

fn is_hopeful(state: NodeState) -> bool {
    state != NodeState::Hopeless
}
