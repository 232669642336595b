//! The sans-IO heart: [`Engine::step`] takes an event and the time, and returns commands.
//!
//! The engine knows slots, calls and items by number only. It decides which chunk of which call a slot computes next,
//! keeps every item's outcome, shares the slots fairly between calls, and judges dead threads. Whoever owns it carries
//! the commands out, in the order given; commands of different steps need no order between them, because a slot has
//! at most one chunk and each life of a slot its own [`Generation`].
//!
//! # States of a slot
//! | state | entered by | left by |
//! |---|---|---|
//! | starting | `Engine::new`, `Command::Start` | `SlotReady` -> idle, `SlotLost` -> starting or parked |
//! | idle | `SlotReady`, `ChunkDone` | `Command::Assign` -> busy |
//! | busy | `Command::Assign` | `ChunkDone` -> idle or busy, `SlotLost` -> starting or parked |
//! | parked | too many deaths | never |
//! | released | `Stop`, end of an `endaftercall` call | never |
//!
//! # States of a node
//! | state | entered by | left by |
//! |---|---|---|
//! | expected | `Expected`, `Down` | `Up`, `Hopeless` |
//! | up | `Up`, `Pause(false)` | `Pause(true)`, `Down`, `Hopeless` |
//! | paused | `Pause(true)` | `Pause(false)`, `Down`, `Hopeless` |
//! | hopeless | `Hopeless` | `Expected`, `Up` |

#[macro_use]
mod planted;

mod call;
mod event;
mod ledger;
mod nodes;
mod pace;
mod place;
mod plan;
mod remote;
mod retry;
mod status;
mod supervision;

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
    time::Duration,
};

use rand_chacha::ChaCha8Rng;

use crate::{
    failure::Ending,
    ids::{CallId, Generation, WorkerId},
    placement::{Placement, SlotKind},
};
use call::ActiveCall;
pub use call::{CallSpec, CallStatus, Priority};
pub use event::{Chunk, ChunkDone, Command, Commands, Event, NodeEvent};
pub use ledger::{Blame, Death, MAX_DEATHS, Sentence, Stage};
pub use nodes::{NodeState, NodeStatus};
use nodes::{Nodes, Taken};
use place::Seat;
use plan::Costs;
pub use plan::{BUDGET, Shape, TARGET};
#[cfg(feature = "planted-bugs")]
pub use planted::{Bug, plant};
pub use retry::{Retries, jitter};
pub use status::{Activity, EngineStatus, SlotStatus};
use supervision::{History, Verdict};
pub use supervision::{MAX_RESTARTS, WINDOW};

/// Time since an origin of the owner's choice, never going back.
pub type Time = Duration;

/// After `wait_timeout` has given up, a thread still inside the call gets this long to notice before it is abandoned.
pub const ABANDON_AFTER: Duration = Duration::from_millis(100);

/// A call this short is over before a sleeping thread could be woken.
pub const QUICK: Duration = Duration::from_micros(10);

/// Limits of an engine.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many slots this machine has on CPUs; 0 where only others compute.
    pub slots: usize,
    /// How many it has on GPUs, numbered behind those.
    pub gpus: usize,
    /// How many calls may be active at once.
    pub max_calls: usize,
}

#[derive(Debug)]
struct Slot {
    generation: Generation,
    state: SlotState,
    history: History,
}

#[derive(Debug, Clone)]
enum SlotState {
    Starting,
    Idle,
    Busy { call: CallId, range: Range<usize>, since: Time, expected: Duration, abandon_at: Option<Time> },
    Parked,
    Released,
}

/// The decisions about all calls and slots of one Manager. See the [module](self).
#[derive(Debug)]
pub struct Engine<H> {
    limits: Limits,
    slots: Vec<Slot>,
    /// How many of them are not parked, by kind.
    live_slots: [usize; 2],
    nodes: Nodes,
    /// Idle slots by kind, the one that worked last on top: its caches are warm and its thread may still be awake.
    idle: [Vec<WorkerId>; 2],
    /// Which slots get work.
    placement: Placement,
    /// New calls are refused for want of GPUs.
    wants_gpus: bool,
    calls: HashMap<CallId, ActiveCall<H>>,
    /// Calls with waiting items, by the slot time they have had per weight.
    queue: BTreeSet<(Duration, CallId)>,
    /// Where a new call joins the queue: the time of the call served last (start-time fair queueing: Goyal, Vin and
    /// Cheng, SIGCOMM 1996).
    served: Duration,
    /// Seconds per item of earlier calls, by function.
    costs: HashMap<&'static str, Costs>,
    /// When it has asked to be woken to look again for chunks to recall.
    look_at: Option<Time>,
    /// Items that have failed and wait until they are tried again, by when.
    alarms: BTreeSet<(Time, CallId, usize)>,
    /// When it has asked to be woken for the first of them.
    alarm_at: Option<Time>,
    stopped: Option<Ending>,
    jitter: ChaCha8Rng,
}

impl<H: Clone> Engine<H> {
    /// An engine whose slots are all starting, at generation 0. Those on CPUs get work until it is told otherwise.
    pub fn new(limits: Limits) -> Self {
        let slot = |_| Slot { generation: Generation(0), state: SlotState::Starting, history: History::default() };
        Self {
            slots: (0..limits.slots + limits.gpus).map(slot).collect(),
            live_slots: [limits.slots, limits.gpus],
            nodes: Nodes::new((limits.slots + limits.gpus) as u32),
            idle: [Vec::with_capacity(limits.slots), Vec::with_capacity(limits.gpus)],
            placement: Placement::default(),
            wants_gpus: false,
            limits,
            calls: HashMap::new(),
            queue: BTreeSet::new(),
            served: Duration::ZERO,
            costs: HashMap::new(),
            look_at: None,
            alarms: BTreeSet::new(),
            alarm_at: None,
            stopped: None,
            // Fixed, so that a simulation repeats.
            jitter: jitter(2718),
        }
    }

    /// Takes one event at time `now` and returns what to do. Events about calls or slot lives that are over are
    /// ignored.
    pub fn step(&mut self, now: Time, event: Event<H>) -> Commands<H> {
        let mut commands = Commands::new();
        match event {
            Event::SlotReady(slot, generation) => self.slot_ready(slot, generation, &mut commands),
            Event::SlotLost(slot, generation, death) => self.slot_lost(now, slot, generation, death, &mut commands),
            Event::ChunkDone(lane, generation, done) if self.nodes.has(lane) => {
                self.lane_done(now, lane, generation, done, &mut commands);
            }
            Event::ChunkDone(slot, generation, done) => self.chunk_done(now, slot, generation, done, &mut commands),
            Event::ChunkLost(lane, generation, death) => self.lane_lost(now, lane, generation, death, &mut commands),
            Event::Node(node, event) => self.node(now, node, event, &mut commands),
            Event::Submit(spec) => self.submit(now, spec, &mut commands),
            Event::Extend(call, items) => self.extend(call, items),
            Event::Close(call) => self.close(call, &mut commands),
            Event::Cancel(call, ending) => self.cancel(now, call, ending, &mut commands),
            Event::Place(placement) => self.place(placement, &mut commands),
            Event::Stop(ending) => self.stop(ending, &mut commands),
            Event::Tick => self.abandon_overdue(now, &mut commands),
        }
        self.resume(now);
        self.assign(now, &mut commands);
        self.recall(now, &mut commands);
        self.set_alarm(now, &mut commands);
        commands
    }

    fn submit(&mut self, now: Time, spec: CallSpec<H>, commands: &mut Commands<H>) {
        let refusal = if let Some(ending) = self.stopped.filter(|_| !planted!(StartsAfterEnd)) {
            Some(ending)
        } else if self.calls.len() >= self.limits.max_calls + usize::from(planted!(MaxCallsOffByOne)) {
            Some(Ending::Busy { max_calls: self.limits.max_calls })
        } else if self.wants_gpus {
            Some(Ending::NoGpu)
        } else if !self.can_run(self.placement, None, spec.only) {
            Some(Ending::NoWorkers)
        } else if spec.items == 0 && (!spec.is_open || planted!(OpenNeedsItems)) {
            Some(Ending::Complete)
        } else {
            None
        };
        if let Some(ending) = refusal {
            commands.push(Command::Finish { handle: spec.handle, ending, failures: Vec::new() });
            return;
        }
        let costs = self.costs.get(spec.function).copied().unwrap_or_default();
        let places = self.places(spec.only);
        let call = ActiveCall::new(spec, now, places, costs, self.served);
        if call.ledger.pending() > 0 {
            self.queue.insert((call.served, call.id));
        }
        self.calls.insert(call.id, call);
    }

    fn extend(&mut self, id: CallId, items: usize) {
        planted!(ExtendQueuesEndedCall, self.queue.insert((self.served, id)));
        planted!(ExtendReopens, self.calls.get_mut(&id).into_iter().for_each(|call| call.is_open = true));
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.is_open && items > 0) else { return };
        let has_waited = self.queue.remove(&(call.served, id)) || planted!(ExtensionKeepsOldClaim);
        call.rejoin(has_waited, self.served);
        call.ledger.extend(items);
        if call.ledger.pending() > 0 && (has_waited || !planted!(ExtensionNotQueued)) {
            self.queue.insert((call.served, id));
        }
    }

    fn close(&mut self, id: CallId, commands: &mut Commands<H>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.is_open = false;
        planted!(SettledStaysOpen, call.is_open = call.ledger.is_settled());
        planted!(CloseDoesNotWait, return self.end(id, Ending::Complete, commands));
        self.queue.remove(&(call.served, id));
        self.after_progress(id, commands);
    }

    fn cancel(&mut self, now: Time, id: CallId, ending: Ending, commands: &mut Commands<H>) {
        if !self.calls.contains_key(&id) {
            return;
        }
        if ending == Ending::TimedOut {
            let mut overdue = false;
            for slot in &mut self.slots {
                if let SlotState::Busy { call, abandon_at, .. } = &mut slot.state
                    && *call == id
                {
                    *abandon_at = Some(now + ABANDON_AFTER);
                    overdue = true;
                }
            }
            if overdue && !planted!(WakeUpForgotten) {
                commands.push(Command::WakeAt(now + ABANDON_AFTER));
            }
        }
        self.end(id, ending, commands);
    }

    fn stop(&mut self, ending: Ending, commands: &mut Commands<H>) {
        let rank = |ending: Ending| match ending {
            Ending::ShutDown => 2,
            Ending::Finished => 1,
            _ => 0,
        };
        if self.stopped.is_none_or(|before| rank(before) < rank(ending) && !planted!(StrongerEndingLost)) {
            self.stopped = Some(ending);
        }
        self.end_all(ending, commands);
        self.release_all(commands);
    }

    fn end_all(&mut self, ending: Ending, commands: &mut Commands<H>) {
        let mut ids: Vec<CallId> = self.calls.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.end(id, ending, commands);
        }
    }

    fn release_all(&mut self, commands: &mut Commands<H>) {
        self.idle.iter_mut().for_each(Vec::clear);
        if !planted!(StopForgetsNodes) {
            self.nodes.clear();
        }
        for (id, slot) in (0u32..).map(WorkerId).zip(&mut self.slots).skip(usize::from(planted!(OneNotReleased))) {
            if !matches!(slot.state, SlotState::Released) {
                slot.state = SlotState::Released;
                commands.push(Command::Release(id));
            }
        }
    }

    fn slot_ready(&mut self, id: WorkerId, generation: Generation, commands: &mut Commands<H>) {
        let Some(slot) = self.live(id, generation) else { return };
        planted!(ReadyTakenOnTrust, slot.state = SlotState::Starting);
        match slot.state {
            SlotState::Starting => {
                slot.state = SlotState::Idle;
                self.rest(id);
            }
            SlotState::Released if !planted!(LateComerNotReleased) => commands.push(Command::Release(id)),
            _ => {}
        }
    }

    fn chunk_done(
        &mut self,
        now: Time,
        id: WorkerId,
        generation: Generation,
        done: ChunkDone,
        commands: &mut Commands<H>,
    ) {
        let Some(slot) = self.live(id, generation) else { return };
        let SlotState::Busy { call, range, expected, .. } = slot.state.clone() else { return };
        slot.state = SlotState::Idle;
        slot.history.finished_an_item(done.is_unopened);
        self.rest(id);
        let kind = self.kind(id);
        planted!(SlotNotIdleAgain, self.idle[kind as usize].pop_if(|_| !self.calls.contains_key(&call)));
        let Some(active) = self.calls.get_mut(&call) else { return };
        let kind = if planted!(CostsMixedUp) { SlotKind::Cpu } else { kind };
        active.plan.measured(kind, done.reached.saturating_sub(range.start), done.elapsed);
        self.settle(now, id, call, expected, done, commands);
    }

    /// Notes what a slot or lane has done for an active call.
    fn settle(
        &mut self,
        now: Time,
        id: WorkerId,
        call: CallId,
        expected: Duration,
        done: ChunkDone,
        commands: &mut Commands<H>,
    ) {
        let Some(active) = self.calls.get_mut(&call) else { return };
        let has_waited = self.queue.remove(&(active.served, call));
        active.correct_charge(expected, done.elapsed);
        active.rejoin(has_waited, self.served);
        active.pace.note(done.elapsed);
        active.ledger.settle(id, done.reached, done.failures, done.again);
        if let Some(index) = done.first_failure {
            self.stop_at(call, index);
        }
        self.defer(now, call, commands);
        self.after_progress(call, commands);
    }

    fn slot_lost(
        &mut self,
        now: Time,
        id: WorkerId,
        generation: Generation,
        death: Option<Death>,
        commands: &mut Commands<H>,
    ) {
        let (kind, jitter) = (self.kind(id), &mut self.jitter);
        let Some(slot) = self.slots.get_mut(id.0 as usize).filter(|slot| slot.generation == generation) else { return };
        planted!(DeathForgetsChunk, slot.state = SlotState::Starting);
        let before = slot.state.clone();
        match before {
            SlotState::Released | SlotState::Parked => return,
            SlotState::Idle => self.idle[kind as usize].retain(|&idle| idle != id || planted!(DeadSlotStaysIdle)),
            SlotState::Starting | SlotState::Busy { .. } => {}
        }
        let stage = match (&before, &death) {
            (SlotState::Starting, _) => Stage::Opening,
            (SlotState::Busy { .. }, Some(death)) => death.stage(),
            _ => Stage::Running,
        };
        match slot.history.died(now, stage, jitter) {
            Verdict::Restart(after) => {
                slot.generation.0 += 1;
                slot.state = SlotState::Starting;
                commands.push(Command::Start(id, slot.generation, after));
            }
            Verdict::Park => {
                slot.state = SlotState::Parked;
                self.live_slots[kind as usize] -= usize::from(kind == SlotKind::Cpu || !planted!(ParkedGpuCounts));
                commands.push(Command::GaveUp(id));
            }
        }
        if let SlotState::Busy { call, range, .. } = before {
            let death = death.unwrap_or(Death {
                reached: range.start,
                stage: Stage::Running,
                failures: Vec::new(),
                again: Vec::new(),
                first_failure: None,
                blame: Some(Blame::of_thread(range.start, true)),
            });
            self.bury(now, id, call, death, commands);
        }
        self.end_hopeless(self.any_placement(), commands);
    }

    /// A thread died inside the chunk that `id` had of an active call.
    fn bury(&mut self, now: Time, id: WorkerId, call: CallId, death: Death, commands: &mut Commands<H>) {
        let Some(active) = self.calls.get_mut(&call) else { return };
        let has_waited = self.queue.remove(&(active.served, call));
        active.rejoin(has_waited, self.served);
        let first_failure = death.first_failure;
        active.ledger.bury(id, death);
        planted!(DeathDoesNotCut, return self.after_progress(call, commands));
        if active.stops_at_failure
            && let Some(index) = active.ledger.first_failure().into_iter().chain(first_failure).min()
        {
            self.stop_at(call, index);
        }
        self.defer(now, call, commands);
        self.after_progress(call, commands);
    }

    /// Replaces threads that did not come back from a call that ran out of time.
    fn abandon_overdue(&mut self, now: Time, commands: &mut Commands<H>) {
        let mut next: Option<Time> = None;
        for (id, slot) in (0u32..).map(WorkerId).zip(&mut self.slots) {
            let SlotState::Busy { abandon_at: Some(at), .. } = slot.state else { continue };
            if at <= now && !(at == now && planted!(AbandonedTooLate)) {
                slot.generation.0 += u32::from(!planted!(AbandonedKeepsGeneration));
                slot.state = SlotState::Starting;
                commands.push(Command::Start(id, slot.generation, Duration::ZERO));
            } else {
                next = Some(next.map_or(at, |before| before.min(at)));
            }
        }
        if let Some(at) = next {
            commands.push(Command::WakeAt(at));
        }
    }

    /// Puts a call back in the queue, or ends it when every wanted item has its outcome.
    fn after_progress(&mut self, id: CallId, commands: &mut Commands<H>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.tells_failures {
            let failures = call.ledger.take_failures();
            if !failures.is_empty() && !planted!(FailuresNotTold) {
                commands.push(Command::Failed { handle: call.handle.clone(), failures });
            }
        }
        if call.ledger.is_settled() && (!call.is_open || planted!(OpenEndsDry)) {
            let ending = match call.first_failure {
                Some(at) if planted!(PanicBeforeErr) => Ending::FirstFailure(call.ledger.first_failure().unwrap_or(at)),
                Some(index) => Ending::FirstFailure(index),
                None if call.ledger.failed() > 0 => Ending::ItemsFailed,
                None => Ending::Complete,
            };
            self.end(id, ending, commands);
        } else if call.ledger.pending() > 0 || planted!(QueuedWithoutItems) {
            self.queue.insert((call.served, id));
        }
    }

    fn end(&mut self, id: CallId, ending: Ending, commands: &mut Commands<H>) {
        let Some(call) = self.calls.remove(&id) else { return };
        self.queue.remove(&(call.served, id));
        self.forget_waits(id, call.ledger.waits());
        if !planted!(RefusalsRemembered) {
            self.nodes.forget(id);
        }
        if call.plan.costs().iter().any(Option::is_some) {
            self.costs.insert(call.function, call.plan.costs());
        }
        let last = call.ends_engine;
        planted!(QueueEntryLeft, self.queue.insert((call.served, id)));
        planted!(FinishTwice, commands.push(Command::Finish { handle: call.handle.clone(), ending, failures: vec![] }));
        for lane in call.ledger.workers().skip(usize::from(planted!(RevokeForgotten))) {
            if let Some(generation) = self.nodes.revoke(lane) {
                commands.push(Command::Revoke(lane, generation));
            }
        }
        commands.push(Command::Finish { handle: call.handle, ending, failures: call.ledger.into_failures() });
        if last {
            // Calls beside it can't go on without slots.
            let ending = *self.stopped.get_or_insert(Ending::EndedAfterCall);
            planted!(OthersForgottenAtEnd, return self.release_all(commands));
            self.end_all(ending, commands);
            self.release_all(commands);
        }
    }

    /// Hands waiting items to idle slots, then to nodes: the call that had the least slot time for its weight first.
    fn assign(&mut self, now: Time, commands: &mut Commands<H>) {
        if !self.has_seats() {
            return;
        }
        // Calls that nothing which is free can run.
        let mut passed_over = Vec::new();
        while let Some((served, id)) = self.queue.pop_first() {
            let Some(call) = self.calls.get(&id) else { continue };
            let only = call.only;
            let Some((kind, seat)) = self.seat(id) else {
                passed_over.push((served, id));
                if !self.nodes.is_picky(id) && only.is_none() && self.placement != Placement::Both {
                    break;
                }
                continue;
            };
            let places = self.places(only);
            let Some(call) = self.calls.get_mut(&id) else { continue };
            self.served = self.served.max(served);
            call.plan.set_slots(places);
            let front = match seat {
                Seat::Slot(slot) if places > 1 => call.ledger.front_for(slot),
                _ => call.ledger.front(),
            };
            let pending = call.ledger.pending();
            let mut range = call.plan.next_chunk(kind, &front, pending);
            if let Seat::Node(node) = seat {
                let most = self.nodes.most_items(node, call.function, call.plan.cost(kind));
                range = call.plan.at_most(range, most);
            }
            let charged = call.charge(kind, range.len());
            let (worker, generation) = match seat {
                Seat::Slot(slot) => (slot, self.slots[slot.0 as usize].generation),
                Seat::Node(node) => {
                    let expected = self.nodes.expected(node, call.function, range.len());
                    let expected = expected.unwrap_or_else(|| call.plan.expected(kind, range.len()));
                    self.nodes.give(node, Taken::new(id, range.clone(), now, expected, charged))
                }
            };
            let attempt = call.ledger.give(worker, range.clone());
            let retries = call.ledger.retries_left(range.start);
            if call.ledger.pending() > 0 {
                self.queue.insert((call.served, id));
            }
            let is_whole = range.len() == call.ledger.items() && !call.is_open;
            let is_quick = is_whole && call.plan.is_quicker_than(kind, range.len(), QUICK) || planted!(QuickPart);
            let kind = if planted!(KindNotSaid) { SlotKind::Cpu } else { kind };
            let chunk = Chunk { handle: call.handle.clone(), range: range.clone(), kind, attempt, retries, is_quick };
            if let Seat::Slot(slot) = seat {
                self.slots[slot.0 as usize].state =
                    SlotState::Busy { call: id, range, since: now, expected: charged, abandon_at: None };
            }
            commands.push(Command::Assign(worker, generation, chunk));
            if !self.has_seats() {
                break;
            }
        }
        self.queue.extend(passed_over);
    }

    fn live(&mut self, id: WorkerId, generation: Generation) -> Option<&mut Slot> {
        self.slots.get_mut(id.0 as usize).filter(|slot| slot.generation == generation || planted!(OldLifeHeard))
    }

    /// How the engine was ended, if it was.
    pub fn stopped(&self) -> Option<Ending> {
        self.stopped
    }

    /// Every slot and call as it stands.
    pub fn status(&self, now: Time) -> EngineStatus {
        let slots = (0u32..).map(WorkerId).zip(&self.slots).map(|(worker, slot)| SlotStatus {
            worker,
            kind: self.kind(worker),
            generation: slot.generation,
            deaths: slot.history.deaths(now),
            activity: match &slot.state {
                SlotState::Starting => Activity::Starting,
                SlotState::Idle => Activity::Idle,
                SlotState::Busy { call, range, since, .. } => {
                    Activity::Busy { call: *call, items: range.clone(), running_for: now.saturating_sub(*since) }
                }
                SlotState::Parked => Activity::GaveUp,
                SlotState::Released => Activity::Released,
            },
        });
        let mut calls: Vec<CallStatus> = self.calls.values().map(|call| call.status(now)).collect();
        calls.sort_unstable_by_key(|call| call.id);
        let gpus = Vec::new();
        let (nodes, placement) = (self.nodes.status(), self.placement());
        EngineStatus { at: now, slots: slots.collect(), gpus, nodes, calls, placement, stopped: self.stopped }
    }

    /// How many things the engine remembers, for checks that it forgets what is over.
    pub fn footprint(&self) -> usize {
        let of_slots: usize = self.slots.iter().map(|slot| slot.history.footprint()).sum();
        let of_calls: usize = self.calls.values().map(|call| 1 + call.ledger.footprint()).sum();
        self.idle.iter().map(Vec::len).sum::<usize>()
            + self.queue.len()
            + self.alarms.len()
            + self.costs.len()
            + self.nodes.footprint()
            + of_slots
            + of_calls
    }
}

#[cfg(test)]
mod kind_tests;
#[cfg(test)]
mod node_tests;
#[cfg(test)]
mod retry_tests;
#[cfg(test)]
mod tests;
