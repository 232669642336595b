//! What the engine should be thinking, kept the plain way, and what it must say after every event.
//!
//! The model is told every event before the engine is, and judges every command after. It decides nothing that the
//! engine is free to decide (which slot, how long a chunk, how long a wait); it checks that what was decided is allowed.

mod after;
mod call;
mod commands;
mod kinds;
mod nodes;
mod shares;
mod slot;

use std::collections::{BTreeMap, BTreeSet};

use distfun_core::{
    engine::{ABANDON_AFTER, Blame, ChunkDone, Death, Event, Limits, Sentence, Stage, Time},
    failure::Ending,
    ids::{CallId, Generation, WorkerId},
    placement::{Placement, SlotKind},
};

pub(crate) use call::{CallModel, Item};
pub(crate) use slot::SlotState;

use crate::scenario::CallPlan;
use call::Costs;
use nodes::NodesModel;
use shares::Shares;
use slot::SlotModel;

/// What was seen, to know that a simulation gets anywhere.
#[derive(Debug, Clone, Default)]
pub struct Seen(pub BTreeMap<&'static str, u64>);

impl Seen {
    pub(crate) fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_insert(0) += 1;
    }

    /// Adds what another simulation has seen.
    pub fn add(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            *self.0.entry(what).or_insert(0) += times;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Model {
    plans: Vec<CallPlan>,
    max_calls: usize,
    pub(crate) slots: Vec<SlotModel>,
    nodes: NodesModel,
    /// Which slots get work.
    placement: Placement,
    /// New calls are refused for want of GPUs.
    wants_gpus: bool,
    pub(crate) calls: BTreeMap<CallId, CallModel>,
    /// Calls that were finished, and how.
    pub(crate) ended: BTreeMap<CallId, Ending>,
    pub(crate) stopped: Option<Ending>,
    shares: Shares,
    /// Wake-ups that were asked for and have not come.
    wakes: Vec<Time>,
    /// Calls that must be finished in this step.
    due: BTreeMap<CallId, Ending>,
    /// Slots that must be released in this step.
    to_release: BTreeSet<WorkerId>,
    /// What is known of functions from calls that have ended.
    costs: BTreeMap<&'static str, Costs>,
    steps: u64,
    pub(crate) seen: Seen,
}

impl Model {
    pub(crate) fn new(plans: Vec<CallPlan>, limits: &Limits) -> Self {
        let kinds = [SlotKind::Cpu].repeat(limits.slots).into_iter().chain([SlotKind::Gpu].repeat(limits.gpus));
        Self {
            plans,
            max_calls: limits.max_calls,
            slots: kinds.map(SlotModel::new).collect(),
            nodes: NodesModel::default(),
            placement: Placement::Cpus,
            wants_gpus: false,
            calls: BTreeMap::new(),
            ended: BTreeMap::new(),
            stopped: None,
            shares: Shares::default(),
            wakes: Vec::new(),
            due: BTreeMap::new(),
            to_release: BTreeSet::new(),
            costs: BTreeMap::new(),
            steps: 0,
            seen: Seen::default(),
        }
    }

    /// Adds a call that the scenario did not have.
    pub(crate) fn plan(&mut self, plan: CallPlan) {
        self.plans.push(plan);
    }

    /// The engine is about to be told `event`.
    pub(crate) fn event(&mut self, now: Time, event: &Event<CallId>) {
        self.calls.values_mut().for_each(|call| call.resume(now));
        match event {
            Event::SlotReady(slot, generation) => self.ready(*slot, *generation),
            Event::SlotLost(slot, generation, death) => self.lost(now, *slot, *generation, death.as_ref()),
            Event::ChunkDone(lane, turn, done) if self.is_lane(*lane) => self.lane_done(*lane, *turn, done),
            Event::ChunkLost(lane, turn, death) => self.lane_lost(*lane, *turn, death),
            Event::Node(node, event) => self.node_event(*node, event),
            Event::ChunkDone(slot, generation, done) => self.chunk_done(*slot, *generation, done),
            Event::Submit(spec) => {
                let refusal = match () {
                    () if self.stopped.is_some() => self.stopped,
                    () if self.calls.len() >= self.max_calls => Some(Ending::Busy { max_calls: self.max_calls }),
                    () if self.wants_gpus => Some(Ending::NoGpu),
                    () if !self.has_hope(self.placement, spec.only, &BTreeSet::new()) => Some(Ending::NoWorkers),
                    () if spec.items == 0 && !spec.is_open => Some(Ending::Complete),
                    () => None,
                };
                match refusal {
                    Some(ending) => {
                        self.seen.note(if ending == Ending::NoGpu {
                            "a call refused for want of GPUs"
                        } else {
                            "a call refused"
                        });
                        self.due.insert(spec.id, ending);
                    }
                    None => {
                        self.shares.open(spec.id, spec.priority);
                        let costs = self.costs.get(spec.function).copied().unwrap_or_default();
                        self.calls.insert(spec.id, CallModel::new(spec.clone(), costs));
                    }
                }
            }
            Event::Extend(call, count) => self.extend(*call, *count),
            Event::Close(call) => self.close(*call),
            Event::Cancel(call, ending) => self.cancel(now, *call, *ending),
            Event::Place(placement) => self.place(*placement),
            Event::Stop(ending) => {
                let is_weaker = matches!(self.stopped, Some(Ending::ShutDown))
                    || self.stopped == Some(Ending::Finished) && *ending != Ending::ShutDown;
                if !is_weaker {
                    self.stopped = Some(*ending);
                }
                self.all_end(*ending);
                self.all_release();
            }
            Event::Tick => {
                if let Some(at) =
                    (0..self.wakes.len()).filter(|&at| self.wakes[at] <= now).min_by_key(|&at| self.wakes[at])
                {
                    self.wakes.swap_remove(at);
                }
                for slot in &mut self.slots {
                    if matches!(slot.state, SlotState::Busy { abandon_at: Some(at), .. } if at <= now) {
                        slot.state = SlotState::Overdue;
                    }
                }
            }
        }
    }

    fn ready(&mut self, id: WorkerId, generation: Generation) {
        let slot = &mut self.slots[id.0 as usize];
        if slot.generation != generation {
            return self.seen.note("an event of an old life");
        }
        match slot.state {
            SlotState::Starting => slot.state = SlotState::Idle,
            SlotState::Released => {
                self.to_release.insert(id);
            }
            _ => {}
        }
    }

    fn chunk_done(&mut self, id: WorkerId, generation: Generation, done: &ChunkDone) {
        let slot = &mut self.slots[id.0 as usize];
        if slot.generation != generation {
            return self.seen.note("an event of an old life");
        }
        let SlotState::Busy { call, .. } = slot.state else { return };
        slot.state = SlotState::Idle;
        slot.made_progress(done.is_unopened);
        let kind = slot.kind;
        self.shares.had(call, done.elapsed);
        match self.calls.get_mut(&call) {
            Some(active) => active.report(id, kind, done),
            None => self.seen.note("a report for a call that has ended"),
        }
        self.settle(call);
    }

    fn lost(&mut self, now: Time, id: WorkerId, generation: Generation, death: Option<&Death>) {
        let slot = &mut self.slots[id.0 as usize];
        if slot.generation != generation {
            return self.seen.note("an event of an old life");
        }
        let mut stage = Stage::Running;
        let call = match slot.state.clone() {
            SlotState::Released | SlotState::Parked => return,
            SlotState::Busy { call, .. } => {
                stage = death.map_or(Stage::Running, |death| match &death.blame {
                    // An item that took too long has its outcome too.
                    Some(Blame { sentence: Sentence::Fails(_) | Sentence::FailsForNow(_), .. }) => Stage::Proven,
                    // So much was learned: one half kills.
                    Some(blame) if blame.items.len() > 1 => Stage::Proven,
                    _ => death.stage,
                });
                Some(call)
            }
            SlotState::Starting => {
                stage = Stage::Opening;
                None
            }
            _ => None,
        };
        let slot = &mut self.slots[id.0 as usize];
        slot.died(now, stage);
        match call {
            None => self.seen.note("a death outside a chunk"),
            Some(call) => {
                self.seen.note("a death inside a chunk");
                self.shares.lost(call);
                if let Some(active) = self.calls.get_mut(&call) {
                    active.bury(id, death);
                }
                self.settle(call);
            }
        }
        self.hopeless_end(self.any_placement());
    }

    fn extend(&mut self, id: CallId, count: usize) {
        let Some(call) = self.calls.get_mut(&id) else { return self.seen.note("items for a call that has ended") };
        if !call.is_open {
            return self.seen.note("items for a call that was closed");
        }
        if count > 0 && call.is_settled() && !call.items.is_empty() {
            self.seen.note("an open call that ran dry and was extended");
        }
        call.extend(count);
    }

    fn close(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return self.seen.note("a close for a call that has ended") };
        if std::mem::take(&mut call.is_open) {
            let is_settled = call.is_settled();
            self.seen.note(if is_settled { "a call closed when it was done" } else { "a call closed before" });
        }
        self.settle(id);
    }

    fn cancel(&mut self, now: Time, id: CallId, ending: Ending) {
        if !self.calls.contains_key(&id) {
            return self.seen.note("a cancel for a call that has ended");
        }
        self.due.insert(id, ending);
        if ending == Ending::TimedOut {
            for slot in &mut self.slots {
                if let SlotState::Busy { call, abandon_at, .. } = &mut slot.state
                    && *call == id
                {
                    *abandon_at = Some(now + ABANDON_AFTER);
                }
            }
        }
    }

    fn settle(&mut self, call: CallId) {
        if let Some(ending) = self.calls.get(&call).and_then(CallModel::settled) {
            self.due.insert(call, ending);
        }
    }

    /// Every call that is not about to end otherwise must end with `ending` in this step.
    fn all_end(&mut self, ending: Ending) {
        for &call in self.calls.keys() {
            self.due.entry(call).or_insert(ending);
        }
    }

    /// Slots are released in this step, and nodes are not heard any more.
    fn all_release(&mut self) {
        for (id, slot) in (0u32..).map(WorkerId).zip(&self.slots) {
            if slot.state != SlotState::Released {
                self.to_release.insert(id);
            }
        }
    }

    pub(crate) fn all_parked(&self) -> bool {
        self.slots.iter().all(|slot| slot.state == SlotState::Parked)
    }

    /// How many pairs of calls were seen to have converged to their shares.
    pub(crate) fn converged(&self) -> u64 {
        self.shares.converged
    }
}
