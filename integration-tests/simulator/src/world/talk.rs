//! The Manager's end of one connection: the chunks that are out there, and how each comes to its end.
//!
//! It does what `actors/src/remote_node/conversation.rs` does.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use distfun_core::{
    engine::{Chunk, ChunkDone, Event, NodeEvent, Time},
    ids::{CallId, Generation, WorkerId},
};

use super::{
    Happening, World,
    carry::By,
    far::{Answer, Delivery, Far, Job, Letter, TalkId},
};
use crate::law::Verdict;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    AtWork,
    /// All of it has left at this time.
    Sent(Time),
}

#[derive(Debug)]
struct Out {
    generation: Generation,
    /// None if its call has ended.
    call: Option<CallId>,
    range: Range<usize>,
    attempt: u32,
    retries: u32,
    state: State,
}

/// One connection, as the Manager sees it.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    out: BTreeMap<WorkerId, Out>,
    announced: BTreeSet<CallId>,
    /// Threads that pack or unpack.
    at_work: usize,
    pub(super) is_over: bool,
    pub(super) is_draining: bool,
    pub(super) is_silent: bool,
    pub(super) is_suspect: bool,
    /// Counts its silences, and their ends.
    pub(super) silence: u32,
}

impl World<'_> {
    fn out(&mut self, id: TalkId, lane: WorkerId, turn: Generation) -> Option<&mut Out> {
        self.talks.get_mut(&id)?.out.get_mut(&lane).filter(|out| out.generation == turn)
    }

    // ---- from the engine

    pub(super) fn assign_there(
        &mut self,
        id: TalkId,
        lane: WorkerId,
        turn: Generation,
        chunk: Chunk<CallId>,
    ) -> Verdict {
        let travels = self.calls[chunk.handle.0 as usize].travels;
        let Some(talk) = self.talks.get_mut(&id).filter(|talk| !talk.is_over) else {
            return Ok(()); // the engine takes it back with all others
        };
        if !travels {
            self.seen.note("a call that can't travel");
            self.node_says(id.0, NodeEvent::Refuses(chunk.handle))?;
            self.returned(lane, turn, chunk.range.start);
            return Ok(());
        }
        let (call, range) = (Some(chunk.handle), chunk.range);
        let out =
            Out { generation: turn, call, range, attempt: chunk.attempt, retries: chunk.retries, state: State::Queued };
        talk.out.insert(lane, out);
        if self.dice.chance(0.5) {
            return self.pack(id, lane, turn);
        }
        let pause = self.dice.reaction();
        self.plan_far(pause, id.0, Far::Pack(id.1, lane, turn));
        Ok(())
    }

    pub(super) fn recall_there(&mut self, id: TalkId, lane: WorkerId, turn: Generation) {
        self.seen.note("a chunk asked back");
        if !self.take_back(id, lane, turn) {
            self.post(id, Letter::Recall(lane, turn));
        }
    }

    pub(super) fn revoke_there(&mut self, id: TalkId, lane: WorkerId, turn: Generation) {
        self.seen.note("a chunk not wanted any more");
        if !self.take_back(id, lane, turn)
            && let Some(out) = self.out(id, lane, turn)
        {
            // The answer, when it comes, frees the lane.
            let (call, range) = (out.call.take(), out.range.clone());
            if let (Some(call), State::Sent(_)) = (call, out.state) {
                self.put_back(call, range);
            }
        }
    }

    /// Takes a chunk back that has not wholly left; true if nothing else is to be done.
    fn take_back(&mut self, id: TalkId, lane: WorkerId, turn: Generation) -> bool {
        let now = self.now;
        let Some(out) = self.out(id, lane, turn) else { return true };
        let (call, range) = (out.call, out.range.clone());
        match out.state {
            State::AtWork => return false,
            State::Sent(left) if left <= now => return false,
            State::Sent(_) => {
                if let Some(call) = call {
                    self.put_back(call, range.clone());
                }
            }
            State::Queued => {}
        }
        self.talks.get_mut(&id).expect("it was just there").out.remove(&lane);
        self.seen.note("a chunk taken back before it had left");
        self.returned(lane, turn, range.start);
        true
    }

    fn put_back(&mut self, call: CallId, range: Range<usize>) {
        let start = range.start;
        self.owner.put(call, range, start, &[]).expect("nothing of it has failed");
        self.news(call);
    }

    /// A chunk is over before any of it was done. Next, and not at once: what the engine makes of it may be the same again.
    fn returned(&mut self, lane: WorkerId, turn: Generation, reached: usize) {
        let done = ChunkDone::nothing(reached);
        self.plan(Duration::ZERO, Happening::Step(self.now, Event::ChunkDone(lane, turn, done), By::Other));
    }

    /// A call has ended.
    pub(super) fn tell_nodes_of_end(&mut self, call: CallId) {
        let is_told = |(id, talk): (&TalkId, &mut Talk)| talk.announced.remove(&call).then_some(*id);
        let told: Vec<TalkId> = self.talks.iter_mut().filter_map(is_told).collect();
        told.into_iter().for_each(|id| self.post(id, Letter::CallEnded(call)));
    }

    // ---- on its way

    pub(super) fn pack(&mut self, id: TalkId, lane: WorkerId, turn: Generation) -> Verdict {
        let Some(out) = self.out(id, lane, turn).filter(|out| out.state == State::Queued) else { return Ok(()) };
        let Some(call) = out.call else { return Ok(()) };
        out.state = State::AtWork;
        let range = out.range.clone();
        let talk = self.talks.get_mut(&id).expect("it was just there");
        talk.at_work += 1;
        if talk.announced.insert(call) {
            self.post(id, Letter::Call(call));
            if self.owner.ending(call).is_some() {
                self.talks.get_mut(&id).expect("it was just there").announced.remove(&call);
                self.post(id, Letter::CallEnded(call));
            }
        }
        let taken = self.owner.take(call, range)?;
        if self.dice.chance(0.5) {
            return self.packed(id, lane, turn, taken);
        }
        let pause = self.dice.reaction();
        self.plan_far(pause, id.0, Far::Packed(id.1, lane, turn, taken));
        Ok(())
    }

    pub(super) fn packed(&mut self, id: TalkId, lane: WorkerId, turn: Generation, range: Range<usize>) -> Verdict {
        let is_over = self.talks.get(&id).is_none_or(|talk| talk.is_over);
        let left = self.now + if self.dice.chance(0.8) { Duration::ZERO } else { self.dice.reaction() };
        let Some(out) = self.out(id, lane, turn) else { return self.work_done(id) };
        match out.call {
            Some(call) if !is_over => {
                (out.range, out.state) = (range.clone(), State::Sent(left));
                let job = Job { epoch: id.1, lane, turn, call, range, attempt: out.attempt, retries: out.retries };
                self.post(id, Letter::Chunk(job));
            }
            call => {
                self.talks.get_mut(&id).expect("it was just there").out.remove(&lane);
                let start = range.start;
                if let Some(call) = call {
                    self.put_back(call, range);
                }
                if !is_over {
                    self.returned(lane, turn, start);
                }
            }
        }
        self.work_done(id)
    }

    // ---- from the node

    pub(super) fn hear(&mut self, id: TalkId, letter: Letter) -> Verdict {
        let Some(talk) = self.talks.get_mut(&id).filter(|talk| !talk.is_over) else {
            self.seen.note("a message of an old connection");
            return Ok(());
        };
        match letter {
            Letter::Done(lane, turn, answer) => self.done(id, lane, turn, answer),
            Letter::Refused(call) => {
                self.seen.note("a call refused by a node");
                self.node_says(id.0, NodeEvent::Refuses(call))
            }
            Letter::Draining => {
                talk.is_draining = true;
                self.node_says(id.0, NodeEvent::Pause(true))
            }
            Letter::Goodbye => self.link_ends(id),
            _ => Ok(()),
        }
    }

    fn done(&mut self, id: TalkId, lane: WorkerId, turn: Generation, answer: Answer) -> Verdict {
        let is_sent = self.out(id, lane, turn).is_some_and(|out| matches!(out.state, State::Sent(_)));
        if !is_sent {
            self.seen.note("an answer for a chunk that was taken back");
            return Ok(());
        }
        let talk = self.talks.get_mut(&id).expect("it was just there");
        let Out { call, range, .. } = talk.out.remove(&lane).expect("it was just there");
        talk.at_work += 1;
        let Some(call) = call else {
            self.returned(lane, turn, range.start);
            return self.work_done(id);
        };
        let delivery = Delivery { lane, turn, call, range, answer };
        if self.dice.chance(0.5) {
            return self.unpacked(id, delivery);
        }
        let pause = self.dice.reaction();
        self.plan_far(pause, id.0, Far::Unpacked(id.1, delivery));
        Ok(())
    }

    pub(super) fn unpacked(&mut self, id: TalkId, delivery: Delivery) -> Verdict {
        let Delivery { lane, turn, call, range, answer } = delivery;
        let start = range.start;
        let (reached, again) = match &answer {
            Answer::Returned => (start, &[][..]),
            Answer::Done(done) => (done.reached, &done.again[..]),
            Answer::Died(death) => (death.reached, &death.again[..]),
        };
        let again: Vec<usize> = again.iter().map(|failure| failure.index).collect();
        self.owner.put(call, range, reached, &again)?;
        self.news(call);
        let nothing = ChunkDone::nothing(start);
        let event = match answer {
            Answer::Returned => Event::ChunkDone(lane, turn, nothing.clone()),
            Answer::Done(done) => Event::ChunkDone(lane, turn, done),
            Answer::Died(death) => Event::ChunkLost(lane, turn, death),
        };
        self.say(event, By::Talk(id))?;
        if self.dice.chance(self.faults.stray) {
            // Not before it was said once, by a thread that may have been put aside.
            let pause = Duration::from_secs_f64(self.dice.magnitude(5e-3, 1.0));
            let event = Event::ChunkDone(lane, turn, ChunkDone { reached, ..nothing });
            self.plan(pause, Happening::Again(event));
        }
        Ok(())
    }

    // ---- the end

    /// The Manager notices that the connection has ended, or ends it.
    pub(super) fn link_ends(&mut self, id: TalkId) -> Verdict {
        let Some(talk) = self.talks.get_mut(&id).filter(|talk| !talk.is_over) else { return Ok(()) };
        talk.is_over = true;
        talk.announced.clear();
        let (stay, back): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut talk.out).into_iter().partition(|(_, out)| out.state == State::AtWork);
        talk.out = stay;
        talk.at_work += 1;
        self.post(id, Letter::Farewell);
        for out in back.into_values() {
            if let (Some(call), State::Sent(_)) = (out.call, out.state) {
                self.put_back(call, out.range);
            }
        }
        self.work_done(id)
    }

    pub(super) fn work_done(&mut self, id: TalkId) -> Verdict {
        let Some(talk) = self.talks.get_mut(&id) else { return Ok(()) };
        talk.at_work -= 1;
        if talk.is_over && talk.at_work == 0 { self.talk_is_over(id) } else { Ok(()) }
    }
}
