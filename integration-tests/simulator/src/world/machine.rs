//! The machine of a node: its queue, what it computes, and who is connected.
//!
//! It does what `actors/src/node/guest.rs` and `node/visit.rs` do.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use distfun_core::{
    engine::{Chunk, Time},
    ids::{CallId, NodeId},
};

use super::{
    World,
    far::{Answer, Far, Job, Letter, TalkId},
    run::{Result as End, Run, Seat},
};
use crate::{law::Verdict, scenario::NodePlan};

/// A chunk that is being computed.
#[derive(Debug)]
struct Busy {
    number: u64,
    job: Job,
    run: Run,
    /// What comes of it is no result: its call has ended, or its Manager has gone.
    is_cancelled: bool,
}

/// Calls that one connection has announced, and whether they were accepted.
type Guest = BTreeMap<CallId, bool>;

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) is_alive: bool,
    /// Counts its processes, and their ends.
    pub(super) life: u32,
    pub(super) slots: u32,
    pub(super) frozen_until: Option<Time>,
    /// It takes nothing new, and is started again so long after its end.
    pub(super) drains_to: Option<Option<Duration>>,
    guests: BTreeMap<u32, Guest>,
    queue: VecDeque<Job>,
    busy: Vec<Busy>,
    numbers: u64,
    /// What has come while it stood still.
    inbox: VecDeque<(u32, Letter)>,
}

impl Machine {
    pub(super) fn new(plan: &NodePlan) -> Self {
        Self {
            is_alive: plan.is_up,
            life: 0,
            slots: plan.slots,
            frozen_until: None,
            drains_to: None,
            guests: BTreeMap::new(),
            queue: VecDeque::new(),
            busy: Vec::new(),
            numbers: 0,
            inbox: VecDeque::new(),
        }
    }

    /// Somebody has connected.
    pub(super) fn welcome(&mut self, epoch: u32) {
        self.guests.insert(epoch, Guest::new());
    }

    pub(super) fn guests(&self) -> impl Iterator<Item = u32> + '_ {
        self.guests.keys().copied()
    }

    /// Chunks that are not over.
    pub(super) fn chunks(&self) -> usize {
        self.queue.len() + self.busy.len()
    }
}

impl World<'_> {
    pub(super) fn node_hears(&mut self, (id, epoch): TalkId, letter: Letter) -> Verdict {
        let number = u64::from(id.0);
        let node = &mut self.nodes[id.0 as usize];
        let machine = &mut node.machine;
        if !machine.is_alive || !machine.guests.contains_key(&epoch) {
            return Ok(());
        }
        if machine.frozen_until.is_some() {
            machine.inbox.push_back((epoch, letter));
            return Ok(());
        }
        let guest = machine.guests.get_mut(&epoch).expect("asked above");
        match letter {
            Letter::Call(call) => {
                let refuses = node.plan.refuses.contains(&call.0);
                if guest.insert(call, !refuses).is_none() && refuses {
                    self.post((id, epoch), Letter::Refused(call));
                }
            }
            Letter::Chunk(job) => {
                if guest.get(&job.call) == Some(&true) && machine.drains_to.is_none() {
                    machine.queue.push_back(job);
                    self.start_there(id);
                } else {
                    self.give_back(id, &job);
                }
            }
            Letter::Recall(lane, turn) => {
                let is_it = |job: &Job| (job.epoch, job.lane, job.turn) == (epoch, lane, turn);
                match machine.queue.iter().position(is_it) {
                    Some(at) => {
                        let job = machine.queue.remove(at).expect("it was just there");
                        self.seen.note("a chunk asked back and given back");
                        self.give_back(id, &job);
                    }
                    None => self.seen.note("a chunk asked back too late"),
                }
            }
            Letter::CallEnded(call) => {
                guest.remove(&call);
                let is_of_it = |job: &Job| (job.epoch, job.call) == (epoch, call);
                let (back, stay): (VecDeque<_>, VecDeque<_>) = machine.queue.drain(..).partition(is_of_it);
                machine.queue = stay;
                back.iter().for_each(|job| self.give_back(id, job));
                self.cancel_there(id, is_of_it);
            }
            Letter::Farewell => self.guest_leaves(id, epoch),
            _ => unreachable!("node {number} is told what only nodes say"),
        }
        self.end_of_drain(id);
        Ok(())
    }

    fn give_back(&mut self, id: NodeId, job: &Job) {
        self.post((id, job.epoch), Letter::Done(job.lane, job.turn, Answer::Returned));
    }

    /// The connection is gone: nothing of what it left is wanted.
    pub(super) fn guest_leaves(&mut self, id: NodeId, epoch: u32) {
        let machine = &mut self.node(id).machine;
        machine.guests.remove(&epoch);
        machine.inbox.retain(|(of, _)| *of != epoch);
        machine.queue.retain(|job| job.epoch != epoch);
        self.cancel_there(id, |job| job.epoch == epoch);
        self.end_of_drain(id);
    }

    /// Threads stop after the item that they are at.
    fn cancel_there(&mut self, id: NodeId, which: impl Fn(&Job) -> bool) {
        let now = self.now;
        let machine = &mut self.nodes[id.0 as usize].machine;
        let mut moved = Vec::new();
        for busy in machine.busy.iter_mut().filter(|busy| which(&busy.job)) {
            busy.is_cancelled = true;
            if busy.run.stop(now) {
                machine.numbers += 1;
                busy.number = machine.numbers;
                moved.push((busy.run.end - now, busy.number));
            }
        }
        moved.into_iter().for_each(|(after, number)| self.plan_far(after, id, Far::Ran(number)));
    }

    fn start_there(&mut self, id: NodeId) {
        loop {
            let node = &mut self.nodes[id.0 as usize];
            let machine = &mut node.machine;
            let has_room = machine.is_alive && machine.frozen_until.is_none();
            if !has_room || machine.busy.len() >= machine.slots as usize || machine.queue.is_empty() {
                return;
            }
            // Its own engine decides which; mostly the first.
            let at = if self.dice.chance(0.1) { self.dice.within(0..machine.queue.len()) } else { 0 };
            let job = machine.queue.remove(at).expect("there is one");
            let Job { lane, call, range, attempt, retries, .. } = job.clone();
            let chunk = Chunk::at_hand(call, range.clone(), attempt, retries);
            let seat = Seat { worker: lane, kind: node.plan.kind, slowness: node.plan.slowness, is_away: true };
            let plan = &self.calls[call.0 as usize];
            let run = Run::new(self.now, seat, &chunk, range, plan, &self.faults, &mut self.dice);
            machine.numbers += 1;
            let (number, after) = (machine.numbers, run.end - self.now);
            machine.busy.push(Busy { number, job, run, is_cancelled: false });
            self.plan_far(after, id, Far::Ran(number));
        }
    }

    pub(super) fn ran_there(&mut self, id: NodeId, number: u64) -> Verdict {
        let now = self.now;
        let machine = &mut self.nodes[id.0 as usize].machine;
        let Some(at) = machine.busy.iter().position(|busy| busy.number == number) else { return Ok(()) };
        if let Some(until) = machine.frozen_until {
            // Its clock has stood still with it.
            let after = until.saturating_sub(now) + Duration::from_micros(1);
            self.plan_far(after, id, Far::Ran(number));
            return Ok(());
        }
        let Busy { job, run, is_cancelled, .. } = machine.busy.swap_remove(at);
        let is_wanted = machine.guests.contains_key(&job.epoch);
        let is_coarse = self.dice.chance(self.faults.coarse_clock);
        let answer = match run.result(&self.calls[job.call.0 as usize], is_coarse) {
            End::Died(None) => {
                self.seen.note("a node that was taken along");
                self.crash(id, true);
                if !self.is_calm && self.dice.chance(0.9) {
                    let (life, slots) = (self.node(id).machine.life, self.node(id).plan.slots);
                    let pause = self.dice.time(Duration::from_millis(300));
                    self.plan_far(pause, id, Far::Restart(life, slots));
                }
                return Ok(());
            }
            _ if is_cancelled => Answer::Returned,
            End::Done(done) => Answer::Done(done),
            End::Died(Some(death)) => {
                self.seen.note("a thread that died at a node");
                Answer::Died(death)
            }
        };
        if is_wanted {
            self.post((id, job.epoch), Letter::Done(job.lane, job.turn, answer));
        }
        self.start_there(id);
        self.end_of_drain(id);
        Ok(())
    }

    /// It stops when it takes nothing new and has done what it had.
    fn end_of_drain(&mut self, id: NodeId) {
        let machine = &self.node(id).machine;
        if machine.is_alive && machine.drains_to.is_some() && machine.chunks() == 0 {
            // Its last answers are on their way.
            let node = self.node(id);
            let (life, after) = (node.machine.life, 2 * (node.plan.delay + node.plan.jitter));
            self.plan_far(after, id, Far::Drained(life));
        }
    }

    // ---- its process

    pub(super) fn crash(&mut self, id: NodeId, is_told: bool) {
        let (is_calm, node) = (self.is_calm, &mut self.nodes[id.0 as usize]);
        let drains_to = node.machine.drains_to.take();
        let Machine { life, numbers, slots, .. } = node.machine;
        node.machine = Machine { is_alive: false, life: life + 1, slots, numbers, ..Machine::new(&node.plan) };
        let back = if is_calm && node.plan.stays { Some(Duration::from_millis(1)) } else { drains_to.flatten() };
        let slots = node.plan.slots;
        let ids: Vec<TalkId> = self.links.range((id, 0)..=(id, u32::MAX)).map(|(id, _)| *id).collect();
        for link in ids {
            let is_open = self.links.get(&link).is_some_and(|link| !link.is_cut);
            self.cut(link, is_told && is_open);
        }
        if let Some(after) = back {
            self.plan_far(after, id, Far::Restart(life + 1, slots));
        }
        self.listen(id);
    }

    /// Whether what was planned can still take place.
    pub(super) fn may_come(&self, id: NodeId, what: &Far) -> bool {
        match what {
            Far::Restart(life, _) => self.may_restart(id, *life),
            Far::Ran(number) => self.nodes[id.0 as usize].machine.busy.iter().any(|busy| busy.number == *number),
            _ => true,
        }
    }

    /// Whether a process is started after the end of that life.
    fn may_restart(&self, id: NodeId, life: u32) -> bool {
        let node = &self.nodes[id.0 as usize];
        !node.machine.is_alive && node.machine.life == life && (node.plan.stays || !self.is_calm)
    }

    pub(super) fn restart(&mut self, id: NodeId, life: u32, slots: u32) -> Verdict {
        if !self.may_restart(id, life) {
            return Ok(());
        }
        let node = self.node(id);
        (node.machine.is_alive, node.machine.life, node.machine.slots) = (true, life + 1, slots);
        self.listen(id);
        Ok(())
    }

    pub(super) fn thaw(&mut self, id: NodeId) -> Verdict {
        let (now, is_calm) = (self.now, self.is_calm);
        let machine = &mut self.node(id).machine;
        if machine.frozen_until.is_none_or(|until| until > now && !is_calm) {
            return Ok(());
        }
        machine.frozen_until = None;
        let inbox = std::mem::take(&mut machine.inbox);
        self.listen(id);
        for (epoch, letter) in inbox {
            if self.links.get(&(id, epoch)).is_some_and(|link| !link.is_cut) {
                self.node_hears((id, epoch), letter)?;
            }
        }
        self.start_there(id);
        Ok(())
    }

    /// The faults are over: what would take for ever ends soon.
    pub(super) fn wake_there(&mut self, id: NodeId) {
        let now = self.now;
        let machine = &mut self.nodes[id.0 as usize].machine;
        let mut moved = Vec::new();
        for busy in &mut machine.busy {
            if busy.run.wake(now, Duration::from_micros(100)) {
                machine.numbers += 1;
                busy.number = machine.numbers;
                moved.push((busy.run.end.saturating_sub(now), busy.number));
            }
        }
        moved.into_iter().for_each(|(after, number)| self.plan_far(after, id, Far::Ran(number)));
    }
}
