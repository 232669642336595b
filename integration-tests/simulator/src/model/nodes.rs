//! The model of nodes and their lanes.

use std::{collections::BTreeMap, ops::Range};

use distfun_core::{
    engine::{ChunkDone, Command, Death, NodeEvent, NodeState, NodeStatus, Time},
    ids::{CallId, Generation, NodeId, WorkerId},
    placement::SlotKind,
};

use super::{CallModel, Model, SlotState};
use crate::law::{Law, Verdict, check};

/// Lanes of a node for each chunk that it computes at once.
const LANES_PER_SLOT: u32 = 2;

/// A chunk that has waited at a node for so long is asked back when somebody else is idle.
const WAITED: Time = Time::from_millis(5);

/// A chunk of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Away {
    pub(super) call: CallId,
    pub(super) range: Range<usize>,
    pub(super) is_recalled: bool,
}

#[derive(Debug)]
pub(super) struct LaneModel {
    pub(super) node: NodeId,
    pub(super) turn: Generation,
    pub(super) chunk: Option<Away>,
}

#[derive(Debug)]
pub(super) struct NodeModel {
    pub(super) state: NodeState,
    pub(super) kind: SlotKind,
    /// It has said of what kind it is.
    pub(super) is_known: bool,
    slots: u32,
    lanes: Range<u32>,
    /// Lanes with a chunk, in the order in which they got it.
    taken: Vec<WorkerId>,
}

impl NodeModel {
    fn is_connected(&self) -> bool {
        matches!(self.state, NodeState::Up | NodeState::Paused)
    }

    /// It takes another chunk.
    pub(super) fn has_room(&self) -> bool {
        self.state == NodeState::Up && self.taken.len() < self.lanes.len()
    }

    /// What it was given would be computed at once.
    fn is_idle(&self) -> bool {
        self.state == NodeState::Up && self.taken.len() < self.slots as usize
    }

    /// Lanes whose chunks wait for others to be done.
    fn waiting(&self) -> &[WorkerId] {
        self.taken.get(self.slots as usize..).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
pub(super) struct NodesModel {
    pub(super) all: BTreeMap<NodeId, NodeModel>,
    pub(super) lanes: BTreeMap<WorkerId, LaneModel>,
    /// Lanes must be given to this node in this step.
    lanes_due: Option<NodeId>,
    /// Lanes whose chunk was revoked in this step, and its call.
    revoked: BTreeMap<WorkerId, CallId>,
}

impl NodesModel {
    /// Chunks that all connected nodes compute at once on such slots.
    pub(super) fn slots(&self, kind: SlotKind) -> usize {
        self.all.values().filter(|node| node.is_connected() && node.kind == kind).map(|node| node.slots as usize).sum()
    }

    /// Chunks that may be out there.
    pub(super) fn places(&self) -> usize {
        self.lanes.len()
    }

    /// A chunk has ended: what it was.
    pub(super) fn take(&mut self, lane: WorkerId, turn: Generation) -> Option<Away> {
        let model = self.lanes.get_mut(&lane).filter(|model| model.turn == turn)?;
        let chunk = model.chunk.take()?;
        self.all.get_mut(&model.node)?.taken.retain(|&taken| taken != lane);
        Some(chunk)
    }

    /// The connection is gone: what it had, by lane.
    fn lose(&mut self, id: NodeId) -> Vec<(WorkerId, Away)> {
        let Some(node) = self.all.get_mut(&id) else { return Vec::new() };
        let lost = std::mem::take(&mut node.taken);
        lost.into_iter().filter_map(|lane| Some((lane, self.lanes.get_mut(&lane)?.chunk.take()?))).collect()
    }

    /// Everything has ended.
    pub(super) fn clear(&mut self) {
        self.lanes.values_mut().for_each(|lane| lane.chunk = None);
        for node in self.all.values_mut() {
            node.state = NodeState::Hopeless;
            node.taken.clear();
        }
    }
}

impl Model {
    pub(super) fn is_lane(&self, worker: WorkerId) -> bool {
        worker.0 as usize >= self.slots.len()
    }

    pub(super) fn node_event(&mut self, id: NodeId, event: &NodeEvent) {
        if self.stopped.is_some() {
            return;
        }
        if let NodeEvent::Refuses(call) = event {
            if let Some(call) = self.calls.get_mut(call)
                && call.barred.insert(id)
            {
                self.hopeless_end(self.placement);
            }
            return;
        }
        let makes_it_known = matches!(event, NodeEvent::Expected | NodeEvent::Up { .. });
        if !makes_it_known && !self.nodes.all.contains_key(&id) {
            return;
        }
        let unknown = || NodeModel {
            state: NodeState::Hopeless,
            kind: SlotKind::Cpu,
            is_known: false,
            slots: 0,
            lanes: 0..0,
            taken: Vec::new(),
        };
        self.nodes.all.entry(id).or_insert_with(unknown);
        if let NodeEvent::Up { .. } | NodeEvent::Down | NodeEvent::Hopeless = event {
            self.node_lost(id);
        }
        let node = self.nodes.all.get_mut(&id).expect("it was just put there");
        node.state = match (event, node.state) {
            (NodeEvent::Expected, NodeState::Hopeless) => NodeState::Expected,
            (NodeEvent::Up { .. }, _) => NodeState::Up,
            (NodeEvent::Pause(true), NodeState::Up) => NodeState::Paused,
            (NodeEvent::Pause(false), NodeState::Paused) => NodeState::Up,
            (NodeEvent::Down, NodeState::Up | NodeState::Paused) => NodeState::Expected,
            (NodeEvent::Hopeless, _) => NodeState::Hopeless,
            (_, before) => before,
        };
        if let NodeEvent::Up { slots, kind, .. } = event {
            (node.slots, node.kind, node.is_known) = (*slots, *kind, true);
            self.nodes.lanes_due = Some(id);
        }
        if *event == NodeEvent::Hopeless {
            self.hopeless_end(self.any_placement());
        }
    }

    /// What a lost node had waits again, and that is not held against it.
    fn node_lost(&mut self, id: NodeId) {
        for (lane, Away { call, range, .. }) in self.nodes.lose(id) {
            self.seen.note("a chunk of a lost node");
            if let Some(active) = self.calls.get_mut(&call) {
                active.settle(lane, range.start, &[], &[]);
            }
            self.settle(call);
        }
    }

    pub(super) fn lane_done(&mut self, lane: WorkerId, turn: Generation, done: &ChunkDone) {
        let Some(Away { call, .. }) = self.nodes.take(lane, turn) else {
            return self.seen.note("an answer that is not heard");
        };
        self.shares.had(call, done.elapsed);
        match self.calls.get_mut(&call) {
            Some(active) => active.report_away(lane, done),
            None => self.seen.note("an answer for a call that has ended"),
        }
        self.settle(call);
    }

    pub(super) fn lane_lost(&mut self, lane: WorkerId, turn: Generation, death: &Death) {
        let Some(Away { call, .. }) = self.nodes.take(lane, turn) else {
            return self.seen.note("an answer that is not heard");
        };
        self.shares.lost(call);
        if let Some(active) = self.calls.get_mut(&call) {
            self.seen.note("a death inside a chunk of a lane");
            active.bury(lane, Some(death));
        }
        self.settle(call);
    }

    pub(super) fn lane_command(&mut self, command: &Command<CallId>) -> Verdict {
        match command {
            Command::Lanes(id, lanes) => self.lanes_are_given(*id, lanes),
            Command::Recall(lane, turn) => self.recall(*lane, *turn),
            Command::Revoke(lane, turn) => {
                let is_due = |chunk: &Away| self.due.contains_key(&chunk.call);
                let lane_model = self.nodes.lanes.get(lane).filter(|model| model.turn == *turn);
                let chunk = lane_model.and_then(|model| model.chunk.as_ref()).filter(|chunk| is_due(chunk));
                let Some(chunk) = chunk else {
                    return check(false, Law::Revoke, || {
                        format!("lane {lane}, {turn:?}, has no chunk of a call that ends: {lane_model:?}")
                    });
                };
                let before = self.nodes.revoked.insert(*lane, chunk.call);
                check(before.is_none(), Law::Revoke, || format!("lane {lane}, {turn:?}, is revoked twice"))
            }
            _ => unreachable!("it is not about lanes"),
        }
    }

    fn lanes_are_given(&mut self, id: NodeId, lanes: &Range<u32>) -> Verdict {
        let what = || format!("node {id} is given lanes {lanes:?}");
        check(self.nodes.lanes_due.take() == Some(id), Law::Lanes, || format!("{} for no reason", what()))?;
        let node = self.nodes.all.get_mut(&id).expect("it is due");
        check(lanes.len() as u32 == LANES_PER_SLOT * node.slots, Law::Lanes, || {
            format!("{} for {} slots", what(), node.slots)
        })?;
        node.lanes = lanes.clone();
        for number in lanes.clone() {
            let new = LaneModel { node: id, turn: Generation(0), chunk: None };
            let lane = self.nodes.lanes.entry(WorkerId(number)).or_insert(new);
            check(number as usize >= self.slots.len() && lane.node == id && lane.chunk.is_none(), Law::Lanes, || {
                format!("{}, but {number} is {lane:?}", what())
            })?;
        }
        Ok(())
    }

    /// Somebody could compute at once what waits of a call at a node; `in_doubt`, where nobody can tell.
    fn is_somebody_idle(&self, call: CallId, in_doubt: bool) -> bool {
        let Some(call) = self.calls.get(&call) else { return false };
        let slots = self.slots.iter().filter(|slot| slot.state == SlotState::Idle).map(|slot| slot.kind);
        let nodes = self.nodes.all.iter().filter(|(id, node)| node.is_idle() && !call.barred.contains(id));
        slots.chain(nodes.map(|(_, node)| node.kind)).any(|kind| self.takes(call, kind, in_doubt))
    }

    fn recall(&mut self, id: WorkerId, turn: Generation) -> Verdict {
        let what = || format!("the chunk of lane {id}, {turn:?}, is asked back");
        let waiting = self.calls.values().find(|call| call.waiting > 0).map(|call| call.spec.id);
        check(waiting.is_none(), Law::Recall, || format!("{}, but items of {waiting:?} wait", what()))?;
        let lane = self.nodes.lanes.get_mut(&id).filter(|lane| lane.turn == turn);
        let Some(LaneModel { node, chunk: Some(chunk), .. }) = lane else {
            return check(false, Law::Recall, || format!("{}; it has none", what()));
        };
        check(!chunk.is_recalled, Law::Recall, || format!("{} a second time", what()))?;
        chunk.is_recalled = true;
        let call = chunk.call;
        check(self.calls.contains_key(&call), Law::Recall, || format!("{}, but its call has ended", what()))?;
        let node = &self.nodes.all[node];
        check(node.waiting().contains(&id), Law::Recall, || format!("{}, but its node computes it: {node:?}", what()))?;
        check(self.is_somebody_idle(call, true), Law::Recall, || format!("{}, but nobody is idle for it", what()))
    }

    /// A chunk may go to this lane, in this turn.
    pub(super) fn may_give(&self, id: WorkerId, turn: Generation, call: CallId) -> Verdict {
        let what = || format!("lane {id}, {turn:?}, is given items of call {call}");
        let Some(lane) = self.nodes.lanes.get(&id) else {
            return check(false, Law::Lanes, || format!("{}; no node has it", what()));
        };
        let node = &self.nodes.all[&lane.node];
        check(node.lanes.contains(&id.0), Law::Lanes, || format!("{}; its node has {:?} now", what(), node.lanes))?;
        check(node.state == NodeState::Up, Law::ServingNode, || format!("{}; its node is {node:?}", what()))?;
        check(lane.chunk.is_none() && lane.turn.0 + 1 == turn.0, Law::OneChunkPerSlot, || {
            format!("{} while it is {lane:?}", what())
        })?;
        let barred = self.calls.get(&call).is_some_and(|call| call.barred.contains(&lane.node));
        check(!barred, Law::ServingNode, || format!("{}, which node {} can't run", what(), lane.node))
    }

    pub(super) fn gave(&mut self, id: WorkerId, turn: Generation, call: CallId, range: Range<usize>) {
        let lane = self.nodes.lanes.get_mut(&id).expect("it may be given a chunk");
        lane.turn = turn;
        lane.chunk = Some(Away { call, range, is_recalled: false });
        self.nodes.all.get_mut(&lane.node).expect("a lane has a node").taken.push(id);
    }

    /// When a call ends, its chunks out there are revoked, and no others.
    pub(super) fn all_revoked(&mut self, call: CallId) -> Verdict {
        for (id, lane) in &self.nodes.lanes {
            let is_out = lane.chunk.as_ref().is_some_and(|chunk| chunk.call == call);
            check(!is_out || self.nodes.revoked.contains_key(id), Law::Revoke, || {
                format!("call {call} ends, and the chunk of lane {id} is not revoked")
            })?;
        }
        self.nodes.revoked.retain(|_, of| *of != call);
        Ok(())
    }

    // ---- after a step

    pub(super) fn nodes_after(&self, now: Time) -> Verdict {
        let (due, revoked) = (self.nodes.lanes_due, &self.nodes.revoked);
        check(due.is_none(), Law::Lanes, || format!("node {due:?} is up and has got no lanes"))?;
        check(revoked.is_empty(), Law::Revoke, || format!("{revoked:?} are revoked, and go on"))?;
        self.nodes_are_used()?;
        self.what_waits_is_recalled(now)
    }

    pub(super) fn nodes_are_right(&self, status: &[NodeStatus]) -> Verdict {
        check(status.len() == self.nodes.all.len(), Law::Status, || format!("nodes: {status:?}"))?;
        for (status, (id, model)) in status.iter().zip(&self.nodes.all) {
            let slots = if model.is_connected() { model.slots } else { 0 };
            let is_same = (status.node, status.kind, status.state, status.slots, status.chunks)
                == (*id, model.kind, model.state, slots, model.taken.len());
            check(is_same, Law::Status, || format!("{status:?} instead of {model:?}"))?;
        }
        Ok(())
    }

    fn nodes_are_used(&self) -> Verdict {
        for (id, node) in self.nodes.all.iter().filter(|(_, node)| node.has_room()) {
            let is_for_it = |call: &&CallModel| !call.barred.contains(id) && self.takes(call, node.kind, false);
            let waits = self.calls.values().filter(|call| call.waiting > 0).find(is_for_it);
            check(waits.is_none(), Law::WorkConservation, || {
                format!("node {id} takes more while items of call {:?} wait", waits.map(|call| call.spec.id))
            })?;
        }
        Ok(())
    }

    /// While somebody is idle and chunks wait at nodes, one was asked back, or a look at them is planned.
    fn what_waits_is_recalled(&self, now: Time) -> Verdict {
        if self.calls.values().any(|call| call.waiting > 0) {
            return Ok(());
        }
        let lanes = self.nodes.all.values().flat_map(NodeModel::waiting);
        let chunks = lanes.filter_map(|lane| self.nodes.lanes[lane].chunk.as_ref());
        let live: Vec<&Away> = chunks.filter(|chunk| self.is_somebody_idle(chunk.call, false)).collect();
        let is_asked = live.iter().any(|chunk| chunk.is_recalled);
        // Whoever asked for it may have read the clock later than who steps now.
        let is_planned = self.wakes.iter().any(|&wake| wake <= now + 2 * WAITED);
        check(live.is_empty() || is_asked || is_planned, Law::Recall, || {
            format!("somebody is idle, and nobody asks for {live:?} or will look at it: {:?}", self.wakes)
        })
    }
}
