//! How commands reach those whom they concern: as the Pool, the Manager and the Workers do it.
//!
//! Whoever stepped the engine carries out the commands of that step in order, but may be put aside before any of them,
//! while others step the engine and carry out theirs.

use std::{collections::VecDeque, time::Duration};

use distfun_core::{
    engine::{Chunk, Command},
    ids::{CallId, Generation, WorkerId},
};

use super::{Happening, World, far::TalkId, life::Thread};
use crate::law::Verdict;

/// One life of a slot.
pub(crate) type LifeId = (WorkerId, Generation);

/// The commands of one step, on their way.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) by: By,
    /// Each with the connection that it is for, if it is about a lane.
    pub(crate) commands: VecDeque<(Option<TalkId>, Command<CallId>)>,
    /// The chunk that this thread is given itself.
    pub(crate) mine: Option<Chunk<CallId>>,
}

/// Who stepped the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// A compute thread, and whether it waits at its port afterwards whatever has happened.
    Thread(LifeId, Next),
    /// Who reads the results of this open call, and goes on with that afterwards.
    Consumer(CallId),
    /// A thread that has unpacked an answer of this connection.
    Talk(TalkId),
    Other,
}

/// What a compute thread does when it has carried out the commands of its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It has just come up: waits at its port.
    Wait,
    /// It has reported: waits if it is still its slot's thread, else ends.
    WaitIfCurrent,
    /// It is dead.
    End,
}

impl World<'_> {
    /// Carries out the commands of `batch`, all now unless the thread is put aside.
    pub(crate) fn carry(&mut self, mut batch: Batch) -> Verdict {
        loop {
            // Failures are told seldom, and are to be late often enough to come after the end of their call.
            let tells = matches!(batch.commands.front(), Some((_, Command::Failed { .. })));
            let stall = if tells { (4.0 * self.faults.stall).min(0.8) } else { self.faults.stall };
            if self.dice.chance(stall) {
                self.seen.note("a step's commands held up");
                let pause = Duration::from_secs_f64(self.dice.magnitude(1e-6, 20e-3));
                self.plan(pause, Happening::Carry(batch));
                return Ok(());
            }
            let Some((way, command)) = batch.commands.pop_front() else { break };
            self.carry_out(way, command, &mut batch)?;
        }
        let (life, next) = match batch.by {
            By::Thread(life, next) => (life, next),
            By::Consumer(call) => {
                self.consumer_goes_on(call);
                return Ok(());
            }
            By::Talk(talk) => return self.work_done(talk),
            By::Other => return Ok(()),
        };
        if let Some(chunk) = batch.mine {
            return self.start_chunk(life, &chunk);
        }
        let is_current = self.current[life.0.0 as usize] == life.1;
        let Some(port) = self.lives.get_mut(&life) else { return Ok(()) };
        let has_left = next == Next::WaitIfCurrent && (port.is_released || !is_current);
        if has_left || next == Next::End {
            port.is_closed = has_left;
            port.thread = Thread::Ended;
        } else {
            port.thread = Thread::Waiting;
            self.plan(Duration::ZERO, Happening::Look(life));
        }
        Ok(())
    }

    fn carry_out(&mut self, way: Option<TalkId>, command: Command<CallId>, batch: &mut Batch) -> Verdict {
        match command {
            Command::Assign(lane, turn, chunk) if self.is_lane(lane) => {
                way.map_or(Ok(()), |way| self.is_for(lane, Some(way), &chunk))?;
                return way.map_or(Ok(()), |way| self.assign_there(way, lane, turn, chunk));
            }
            Command::Recall(lane, turn) => way.into_iter().for_each(|way| self.recall_there(way, lane, turn)),
            Command::Revoke(lane, turn) => way.into_iter().for_each(|way| self.revoke_there(way, lane, turn)),
            Command::Lanes(..) => {}
            Command::Assign(slot, generation, chunk) => {
                let life = (slot, generation);
                self.is_for(slot, None, &chunk)?;
                if matches!(batch.by, By::Thread(own, _) if own == life) {
                    batch.mine = Some(chunk);
                } else if self.current[slot.0 as usize] == generation
                    && let Some(port) = self.lives.get_mut(&life)
                {
                    port.put(chunk)?;
                    self.tell(life);
                }
            }
            Command::Finish { handle, ending, failures } => {
                self.owner.finished(handle, ending, &failures)?;
                self.call_has_ended(handle);
                self.news(handle);
                if !self.nodes.is_empty() && self.engine.stopped().is_some() {
                    self.plan(Duration::ZERO, Happening::Leave);
                }
            }
            Command::Failed { handle, failures } => {
                if self.owner.ending(handle).is_some() {
                    self.seen.note("failures told after the end of their call");
                }
                self.owner.failed(handle, failures)?;
                self.news(handle);
            }
            Command::Release(slot) => {
                self.release((slot, self.current[slot.0 as usize]));
                let pause = self.dice.reaction();
                self.plan(pause, Happening::Leave);
            }
            Command::Start(slot, generation, after) => {
                let pause = self.dice.reaction();
                self.plan(pause, Happening::Restart((slot, generation), after));
            }
            Command::GaveUp(slot) => self.gave_up(slot)?,
            Command::Retried { .. } => {}
            Command::WakeAt(at) => {
                // Timers may be late, never early.
                let is_late = self.dice.chance(0.5);
                let late = if is_late { self.dice.time(Duration::from_millis(2)) } else { Duration::ZERO };
                self.plan(at.saturating_sub(self.now) + late, Happening::Tick);
            }
        }
        Ok(())
    }

    fn is_lane(&self, worker: WorkerId) -> bool {
        worker.0 as usize >= self.current.len()
    }

    /// Asks a thread to end.
    pub(crate) fn release(&mut self, life: LifeId) {
        if let Some(port) = self.lives.get_mut(&life) {
            port.is_released = true;
            self.tell(life);
        }
    }

    /// Wakes a thread that waits at its port.
    fn tell(&mut self, life: LifeId) {
        if matches!(self.lives[&life].thread, Thread::Waiting) {
            let pause = self.dice.reaction();
            self.plan(pause, Happening::Look(life));
        }
    }

    /// Threads that compute for the call see its stop sign.
    fn call_has_ended(&mut self, call: CallId) {
        self.stop_signs.insert(call);
        self.tell_nodes_of_end(call);
        let now = self.now;
        let mut moved = Vec::new();
        for (&id, life) in &mut self.lives {
            if let Thread::Running(run) = &mut life.thread
                && run.call == call
                && run.stop(now)
            {
                life.plans += 1;
                moved.push((run.end - now, Happening::Ran(id, life.plans)));
            }
        }
        for (after, happening) in moved {
            self.plan(after, happening);
        }
    }
}
