//! Other machines: the way to each, and the Manager's RemoteNode that walks it.
//!
//! It does what `actors/src/remote_node/mod.rs` does. Messages of one connection keep their order, and come late or not at
//! all; a broken connection is noticed soon, or by its silence.

use std::{ops::Range, time::Duration};

use distfun_core::{
    engine::{ChunkDone, Death, Event, NodeEvent, Time},
    ids::{CallId, Generation, NodeId, WorkerId},
    placement::{MachineSlots, SlotKind},
};

use super::{Happening, World, carry::By, machine::Machine, talk::Talk};
use crate::{
    law::Verdict,
    scenario::{Mishap, NodePlan},
};

/// A node that says nothing for so long gets nothing new, and is taken for dead.
const SUSPECT: Duration = Duration::from_millis(1500);
const DEAD: Duration = Duration::from_secs(3);

/// How often a connection is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Calls wait so long for a node that does not answer.
const HOPE: Duration = Duration::from_secs(5);

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// One connection to one node.
pub(crate) type TalkId = (NodeId, u32);

/// Something that takes place between the Manager and a node, or there.
#[derive(Debug)]
pub(crate) enum Far {
    /// The Manager hears of the node.
    Join,
    /// The Manager tries to connect.
    Try,
    /// It has met a process that was the node's at that time.
    Met(u32),
    NoAnswer,
    /// A message of a connection arrives.
    Letter(u32, Letter),
    /// A thread of the Manager packs the chunk of a lane.
    Pack(u32, WorkerId, Generation),
    /// It has packed these items.
    Packed(u32, WorkerId, Generation, Range<usize>),
    /// It has unpacked an answer.
    Unpacked(u32, Delivery),
    /// The Manager notices that a connection has broken.
    LinkEnds(u32),
    /// Nothing was heard on a connection for long, or for too long, if it is still that silence.
    Silent(u32, u32, bool),
    /// It is heard again.
    Heard(u32, u32),
    /// The node has heard nothing for too long, if it is still that silence.
    Deaf(u32, u32),
    StallEnds,
    Thaw,
    /// A process is started, if that life has ended and no other was started.
    Restart(u32, u32),
    /// A chunk ends there.
    Ran(u64),
    /// It has waited long enough for what it had to be done.
    Drained(u32),
}

/// What is said on a connection.
#[derive(Debug, Clone)]
pub(crate) enum Letter {
    Call(CallId),
    Chunk(Job),
    Recall(WorkerId, Generation),
    CallEnded(CallId),
    Done(WorkerId, Generation, Answer),
    Refused(CallId),
    Draining,
    /// To the node: the Manager has closed the connection.
    Farewell,
    /// From the node: it has.
    Goodbye,
}

impl Letter {
    fn is_to_node(&self) -> bool {
        !matches!(self, Self::Done(..) | Self::Refused(_) | Self::Draining | Self::Goodbye)
    }
}

/// A chunk at a node.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) epoch: u32,
    pub(crate) lane: WorkerId,
    pub(crate) turn: Generation,
    pub(crate) call: CallId,
    pub(crate) range: Range<usize>,
    pub(crate) attempt: u32,
    /// For the Manager's end to know: it looks at what has failed.
    pub(crate) retries: u32,
}

/// What became of it.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Returned,
    Done(ChunkDone),
    Died(Death),
}

/// An answer whose results are with the Manager.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) lane: WorkerId,
    pub(crate) turn: Generation,
    pub(crate) call: CallId,
    pub(crate) range: Range<usize>,
    pub(crate) answer: Answer,
}

/// The way of one connection.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// When the last message arrives, here and there.
    arrives: [Time; 2],
    /// Nothing arrives any more.
    pub(super) is_cut: bool,
    /// Counts the silences at the node's end.
    deaf: u32,
}

/// One node, from both ends.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) plan: NodePlan,
    pub(super) machine: Machine,
    /// Connections so far.
    epoch: u32,
    pub(super) talking: Option<u32>,
    tries: u32,
    /// Since when it has not been connected.
    lost: Time,
    is_hopeless: bool,
    has_left: bool,
    /// What it has said that it has.
    slots: Option<u32>,
    /// Until when nothing gets through, from it and to it.
    pub(super) stalled: [Time; 2],
}

impl Node {
    pub(super) fn new(plan: &NodePlan) -> Self {
        Self {
            machine: Machine::new(plan),
            plan: plan.clone(),
            epoch: 0,
            talking: None,
            tries: 0,
            lost: plan.joins,
            is_hopeless: false,
            has_left: false,
            slots: None,
            stalled: [Time::ZERO; 2],
        }
    }

    /// What is known of its slots, where calls wait for it.
    pub(super) fn facts(&self, now: Time) -> Option<Option<MachineSlots>> {
        let is_there = self.plan.joins <= now && !self.has_left && !self.is_hopeless;
        let of_kind = |slots| match self.plan.kind {
            SlotKind::Cpu => MachineSlots { cpus: slots, gpus: 0 },
            SlotKind::Gpu => MachineSlots { cpus: 0, gpus: slots },
        };
        is_there.then(|| self.slots.map(of_kind))
    }
}

impl World<'_> {
    pub(super) fn far(&mut self, id: NodeId, what: Far) -> Verdict {
        match what {
            Far::Join if self.node(id).has_left => Ok(()),
            Far::Join => {
                self.plan_far(Duration::ZERO, id, Far::Try);
                self.node_says(id, NodeEvent::Expected)
            }
            Far::Try => self.try_to_meet(id),
            Far::Met(life) => self.met(id, life),
            Far::NoAnswer => self.no_answer(id),
            Far::Letter(epoch, letter) => self.arrives((id, epoch), letter),
            Far::Pack(epoch, lane, turn) => self.pack((id, epoch), lane, turn),
            Far::Packed(epoch, lane, turn, range) => self.packed((id, epoch), lane, turn, range),
            Far::Unpacked(epoch, delivery) => self.unpacked((id, epoch), delivery),
            Far::LinkEnds(epoch) => self.link_ends((id, epoch)),
            Far::Silent(epoch, silence, is_dead) => self.silent((id, epoch), silence, is_dead),
            Far::Heard(epoch, silence) => self.heard((id, epoch), silence),
            Far::Deaf(epoch, deaf) => {
                if self.links.get(&(id, epoch)).is_some_and(|link| link.deaf == deaf) {
                    self.guest_leaves(id, epoch);
                    self.post((id, epoch), Letter::Goodbye);
                }
                Ok(())
            }
            Far::StallEnds => {
                self.listen(id);
                Ok(())
            }
            Far::Thaw => self.thaw(id),
            Far::Restart(life, slots) => self.restart(id, life, slots),
            Far::Ran(number) => self.ran_there(id, number),
            Far::Drained(life) => {
                if self.node(id).machine.life == life {
                    self.crash(id, true);
                }
                Ok(())
            }
        }
    }

    pub(super) fn node(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    pub(super) fn plan_far(&mut self, after: Duration, id: NodeId, what: Far) {
        self.plan(after, Happening::Far(id, what));
    }

    pub(super) fn node_says(&mut self, id: NodeId, event: NodeEvent) -> Verdict {
        self.step(self.now, Event::Node(id, event), By::Other)?;
        self.place()
    }

    // ---- the way there

    fn try_to_meet(&mut self, id: NodeId) -> Verdict {
        let (now, is_calm, is_over) = (self.now, self.is_calm, self.engine.stopped().is_some());
        let node = &self.nodes[id.0 as usize];
        if node.has_left || is_over {
            return Ok(());
        }
        let (way, is_there) = (node.plan.delay + node.plan.jitter, node.machine.is_alive);
        let is_open = node.machine.frozen_until.is_none() && node.stalled.iter().all(|until| *until <= now);
        let (life, no_answer) = (node.machine.life, node.plan.no_answer);
        if !is_calm && self.dice.chance(no_answer) || is_there && !is_open {
            let pause = if self.dice.chance(0.5) { self.dice.time(DEAD) } else { DEAD };
            self.plan_far(pause, id, Far::NoAnswer);
        } else {
            self.plan_far(4 * way, id, if is_there { Far::Met(life) } else { Far::NoAnswer });
        }
        Ok(())
    }

    fn met(&mut self, id: NodeId, life: u32) -> Verdict {
        let is_over = self.engine.stopped().is_some();
        let node = self.node(id);
        if node.has_left || is_over {
            return Ok(());
        }
        if node.machine.life != life || !node.machine.is_alive || node.machine.frozen_until.is_some() {
            return self.no_answer(id);
        }
        (node.tries, node.is_hopeless) = (0, false);
        node.epoch += 1;
        let epoch = node.epoch;
        node.talking = Some(epoch);
        node.machine.welcome(epoch);
        let (slots, round_trip, is_draining) =
            (node.machine.slots, 2 * node.plan.delay, node.machine.drains_to.is_some());
        node.slots = Some(slots);
        let kind = node.plan.kind;
        let mut talk = Talk::default();
        talk.is_draining = is_draining;
        self.talks.insert((id, epoch), talk);
        self.links.insert((id, epoch), Link::default());
        self.seen.note(if epoch == 1 { "a node connected" } else { "a node connected again" });
        self.listen(id);
        self.node_says(id, NodeEvent::Up { slots, kind, round_trip })?;
        if is_draining { self.node_says(id, NodeEvent::Pause(true)) } else { Ok(()) }
    }

    fn no_answer(&mut self, id: NodeId) -> Verdict {
        let (now, is_calm) = (self.now, self.is_calm);
        let node = self.node(id);
        if node.has_left {
            return Ok(());
        }
        if !node.is_hopeless && now.saturating_sub(node.lost) >= HOPE {
            node.is_hopeless = true;
            self.seen.note("a node without hope");
            self.node_says(id, NodeEvent::Hopeless)?;
        }
        let node = self.node(id);
        if node.is_hopeless && is_calm && !node.plan.stays {
            return Ok(()); // it would try for ever
        }
        self.try_again(id);
        Ok(())
    }

    fn try_again(&mut self, id: NodeId) {
        let node = self.node(id);
        let most = FIRST_WAIT.saturating_mul(1 << node.tries.min(10)).min(LONGEST_WAIT);
        node.tries += 1;
        let wait = self.dice.time(most).max(Duration::from_millis(5));
        self.plan_far(wait, id, Far::Try);
    }

    /// The Manager does without a node from now on.
    pub(super) fn leave_node(&mut self, id: NodeId) -> Verdict {
        let node = self.node(id);
        if std::mem::replace(&mut node.has_left, true) {
            return Ok(());
        }
        match node.talking {
            Some(epoch) => self.link_ends((id, epoch)),
            None => self.node_says(id, NodeEvent::Hopeless),
        }
    }

    /// The connection has ended, and everything that was out has come back.
    pub(super) fn talk_is_over(&mut self, id: TalkId) -> Verdict {
        self.talks.remove(&id);
        let (now, is_stopped) = (self.now, self.engine.stopped().is_some());
        let node = self.node(id.0);
        node.talking = None;
        if node.has_left || is_stopped {
            return self.node_says(id.0, NodeEvent::Hopeless);
        }
        node.lost = now;
        self.seen.note("a node lost");
        self.try_again(id.0);
        if !self.is_calm && self.dice.chance(0.1) {
            self.seen.note("a loss that only the next connection tells of");
            return Ok(());
        }
        self.node_says(id.0, NodeEvent::Down)
    }

    // ---- on the way

    /// Sends a message: it comes after those before it.
    pub(super) fn post(&mut self, id: TalkId, letter: Letter) {
        let node = &self.nodes[id.0.0 as usize];
        let direction = usize::from(letter.is_to_node());
        let way = node.plan.delay + self.dice.time(node.plan.jitter);
        let Some(link) = self.links.get_mut(&id) else { return };
        let arrives = (self.now.max(node.stalled[direction]) + way).max(link.arrives[direction]);
        link.arrives[direction] = arrives;
        self.plan_far(arrives - self.now, id.0, Far::Letter(id.1, letter));
    }

    fn arrives(&mut self, id: TalkId, letter: Letter) -> Verdict {
        if self.links.get(&id).is_none_or(|link| link.is_cut) {
            return Ok(());
        }
        if letter.is_to_node() { self.node_hears(id, letter) } else { self.hear(id, letter) }
    }

    /// Whether each end hears the other may have changed.
    pub(super) fn listen(&mut self, id: NodeId) {
        let now = self.now;
        let node = &self.nodes[id.0 as usize];
        let Some(epoch) = node.talking else { return };
        let (Some(talk), Some(link)) = (self.talks.get_mut(&(id, epoch)), self.links.get_mut(&(id, epoch))) else {
            return;
        };
        let is_standing = !node.machine.is_alive || node.machine.frozen_until.is_some();
        let is_silent = is_standing || link.is_cut || node.stalled[0] > now;
        let is_deaf = link.is_cut || node.stalled[1] > now;
        link.deaf += 1;
        let deaf = is_deaf.then_some(link.deaf);
        let mut plans = Vec::new();
        if is_silent != talk.is_silent {
            (talk.is_silent, talk.silence) = (is_silent, talk.silence + 1);
            let silence = talk.silence;
            if is_silent {
                plans.push((SUSPECT + self.dice.time(LOOK), Far::Silent(epoch, silence, false)));
                plans.push((DEAD + self.dice.time(LOOK / 4), Far::Silent(epoch, silence, true)));
            } else if talk.is_suspect {
                plans.push((self.dice.time(LOOK), Far::Heard(epoch, silence)));
            }
        }
        if let Some(deaf) = deaf {
            plans.push((DEAD, Far::Deaf(epoch, deaf)));
        }
        plans.into_iter().for_each(|(after, what)| self.plan_far(after, id, what));
    }

    fn silent(&mut self, id: TalkId, silence: u32, is_dead: bool) -> Verdict {
        let Some(talk) = self.talks.get_mut(&id).filter(|talk| talk.silence == silence && !talk.is_over) else {
            return Ok(());
        };
        if is_dead {
            self.seen.note("a node taken for dead");
            return self.link_ends(id);
        }
        talk.is_suspect = true;
        self.seen.note("a node suspected");
        self.node_says(id.0, NodeEvent::Pause(true))
    }

    fn heard(&mut self, id: TalkId, silence: u32) -> Verdict {
        let Some(talk) = self.talks.get_mut(&id).filter(|talk| talk.silence == silence && !talk.is_over) else {
            return Ok(());
        };
        talk.is_suspect = false;
        if talk.is_draining {
            return Ok(());
        }
        self.seen.note("a node heard again");
        self.node_says(id.0, NodeEvent::Pause(false))
    }

    // ---- what befalls it

    pub(super) fn befall(&mut self, id: NodeId, mishap: Mishap) -> Verdict {
        self.trace.line(self.now, format_args!("-- node {id}: {mishap:?}"));
        let now = self.now;
        let node = &mut self.nodes[id.0 as usize];
        match mishap {
            Mishap::Cut { is_told } => {
                let Some(epoch) = node.talking else { return Ok(()) };
                self.cut((id, epoch), is_told);
                if is_told {
                    self.guest_leaves(id, epoch);
                }
                self.listen(id);
            }
            Mishap::Stall { to_node, lasts } => {
                let until = &mut node.stalled[usize::from(to_node)];
                *until = (now + lasts).max(*until);
                let after = *until - now;
                self.plan_far(after, id, Far::StallEnds);
                self.listen(id);
            }
            Mishap::Freeze(lasts) => {
                if node.machine.is_alive && node.machine.frozen_until.is_none() {
                    node.machine.frozen_until = Some(now + lasts);
                    self.plan_far(lasts, id, Far::Thaw);
                    self.listen(id);
                }
            }
            Mishap::Crash { is_told, back_after, slots } => {
                if node.machine.is_alive {
                    self.crash(id, is_told);
                    if let Some(after) = back_after {
                        let life = self.node(id).machine.life;
                        self.plan_far(after, id, Far::Restart(life, slots));
                    }
                }
            }
            Mishap::Drain { back_after } => {
                if node.machine.is_alive && node.machine.drains_to.is_none() {
                    node.machine.drains_to = Some(back_after);
                    let life = node.machine.life;
                    let epochs: Vec<u32> = node.machine.guests().collect();
                    self.plan_far(Duration::from_secs(2), id, Far::Drained(life));
                    epochs.into_iter().for_each(|epoch| self.post((id, epoch), Letter::Draining));
                }
            }
            Mishap::Leave => return self.leave_node(id),
        }
        Ok(())
    }

    /// Nothing gets through on a connection any more.
    pub(super) fn cut(&mut self, id: TalkId, is_told: bool) {
        if let Some(link) = self.links.get_mut(&id) {
            link.is_cut = true;
        }
        if is_told {
            let pause = self.nodes[id.0.0 as usize].plan.delay + self.dice.reaction();
            self.plan_far(pause, id.0, Far::LinkEnds(id.1));
        }
    }

    /// The faults end.
    pub(super) fn calm_nodes(&mut self) -> Verdict {
        for id in (0..self.nodes.len() as u32).map(NodeId) {
            let node = self.node(id);
            node.stalled = [Time::ZERO; 2];
            let (stays, is_alive) = (node.plan.stays, node.machine.is_alive);
            let (life, slots) = (node.machine.life, node.plan.slots);
            if self.node(id).machine.frozen_until.is_some() {
                self.thaw(id)?;
            }
            self.wake_there(id);
            if stays && !is_alive {
                let pause = self.dice.time(Duration::from_millis(20));
                self.plan_far(pause, id, Far::Restart(life, slots));
            } else if !stays && is_alive {
                let is_told = self.dice.chance(0.5);
                self.crash(id, is_told);
            }
            self.listen(id);
        }
        Ok(())
    }
}
