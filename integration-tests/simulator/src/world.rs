//! The world around the engine, in virtual time: threads, ports, timers, users, and what goes wrong with them.
//!
//! Everything that takes time is a [`Happening`] on one agenda.

mod carry;
mod consumer;
mod far;
mod kinds;
mod life;
mod machine;
mod owner;
mod run;
mod talk;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::Duration,
};

use distfun_core::{
    engine::{ABANDON_AFTER, Activity, Chunk, ChunkDone, Command, Engine, Event, Limits, Time},
    failure::Ending,
    ids::{CallId, Generation, NodeId, WorkerId},
};

use crate::{
    dice::Dice,
    law::{Law, Verdict, at, check},
    model::{Model, Seen},
    scenario::{Act, CallPlan, Faults, Judge, Scenario, plain_call},
    trace::Trace,
};
use carry::{Batch, By, LifeId, Next};
use consumer::Consumer;
use far::{Far, Link, Node, TalkId};
use life::{Life, Thread};
use owner::Owner;
use run::{Run, Seat};
use talk::Talk;

/// No story is longer; the longest have a tenth of it.
const MOST_STEPS: u64 = 100_000;

/// Something that takes place at a moment of its own.
#[derive(Debug)]
enum Happening {
    /// A user does something.
    Act(Act),
    /// A thread was put aside between reading the clock, then, and stepping the engine.
    Step(Time, Event<CallId>, By),
    /// The rest of a step's commands.
    Carry(Batch),
    /// A Worker is asked for a new thread.
    Restart(LifeId, Duration),
    /// Its timer has run out.
    Spawn(LifeId),
    /// The thread is there.
    Up(LifeId),
    /// A thread looks into its door.
    Look(LifeId),
    /// A chunk ends, if it is still the plan of that number.
    Ran(LifeId, u64),
    /// An idle thread dies.
    IdleDeath(LifeId),
    /// Who reads the results of an open call looks for news.
    Turn(CallId),
    /// A wake-up that was asked for, or a stray one.
    Tick,
    /// The Workers stop waiting to restart.
    Leave,
    /// Something that was said before is said again.
    Stray(LifeId, Option<ChunkDone>),
    /// The same about a lane: that chunk is over.
    Again(Event<CallId>),
    /// Something between the Manager and a node, or there.
    Far(NodeId, Far),
    /// It is judged anew which slots get work.
    Place,
    /// The faults end.
    Calm,
}

/// Ordered by time, then by when it was planned.
struct Planned(Time, u64, Happening);

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// One simulation.
pub(crate) struct World<'a> {
    now: Time,
    agenda: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    pub(crate) steps: u64,
    engine: Engine<CallId>,
    /// How many slots are on CPUs.
    cpus: usize,
    judge: Judge,
    gpus_given_up: BTreeSet<WorkerId>,
    /// What the engine should be thinking; none to judge it from outside only.
    pub(crate) model: Option<Model>,
    owner: Owner,
    /// Who reads the results of open calls.
    consumers: BTreeMap<CallId, Consumer>,
    dice: Dice,
    calls: Vec<CallPlan>,
    faults: Faults,
    lives: BTreeMap<LifeId, Life>,
    /// The life that each slot's port belongs to.
    current: Vec<Generation>,
    nodes: Vec<Node>,
    /// Connections, as the Manager sees them, and the ways that they take.
    talks: BTreeMap<TalkId, Talk>,
    links: BTreeMap<TalkId, Link>,
    /// The connection that each lane leads to.
    ways: BTreeMap<u32, TalkId>,
    /// Calls whose threads are told to stop.
    stop_signs: BTreeSet<CallId>,
    /// The strongest end that a user has asked for.
    said_stop: Option<Ending>,
    /// Workers start no threads any more.
    has_left: bool,
    /// The faults have ended.
    is_calm: bool,
    trace: &'a mut Trace,
    pub(crate) seen: Seen,
}

impl<'a> World<'a> {
    pub(crate) fn new(scenario: &Scenario, has_model: bool, trace: &'a mut Trace) -> Self {
        let limits = Limits { slots: scenario.slots, gpus: scenario.gpus, max_calls: scenario.max_calls };
        let count = scenario.slots + scenario.gpus;
        let slots = (0..count as u32).map(WorkerId);
        let mut world = Self {
            now: Time::ZERO,
            agenda: BinaryHeap::new(),
            planned: 0,
            steps: 0,
            model: has_model.then(|| Model::new(scenario.calls.clone(), &limits)),
            engine: Engine::new(limits),
            cpus: scenario.slots,
            judge: scenario.judge,
            gpus_given_up: BTreeSet::new(),
            owner: Owner::default(),
            consumers: BTreeMap::new(),
            dice: Dice::new(!scenario.seed),
            calls: scenario.calls.clone(),
            faults: scenario.faults.clone(),
            lives: slots.clone().map(|slot| ((slot, Generation(0)), Life::new())).collect(),
            current: vec![Generation(0); count],
            nodes: scenario.nodes.iter().map(Node::new).collect(),
            talks: BTreeMap::new(),
            links: BTreeMap::new(),
            ways: BTreeMap::new(),
            stop_signs: BTreeSet::new(),
            said_stop: None,
            has_left: false,
            is_calm: false,
            trace,
            seen: Seen::default(),
        };
        world.plan(scenario.calm_from, Happening::Calm);
        for slot in slots {
            let pause = world.dice.time(Duration::from_micros(200));
            world.plan(pause, Happening::Spawn((slot, Generation(0))));
        }
        for (id, node) in (0u32..).map(NodeId).zip(&scenario.nodes) {
            world.plan(node.joins, Happening::Far(id, Far::Join));
        }
        for &(when, act) in &scenario.acts {
            world.plan(when, Happening::Act(act));
        }
        world
    }

    /// The whole story: with faults, then without, then a plain call, then the end.
    pub(crate) fn run(&mut self) -> Verdict {
        self.place()?;
        self.run_until_quiet(None)?;
        let work: Duration = self.calls.iter().map(CallPlan::work).sum();
        let slowest = self.nodes.iter().map(|node| node.plan.slowness).max().unwrap_or(1);
        let patience = Duration::from_secs(10) + self.longest_way();
        let waits: Duration = self.calls.iter().map(CallPlan::waits).sum();
        let limit = self.now + work * slowest + waits + patience;
        self.run_until_quiet(Some(limit))?;
        self.serves_a_plain_call()?;
        self.step(self.now, Event::Stop(Ending::Finished), By::Other)?;
        self.plan(Duration::ZERO, Happening::Leave);
        self.run_until_quiet(Some(self.now + Duration::from_secs(10)))?;
        if let Some(model) = &self.model {
            model.memory(&self.engine)?;
        }
        check(self.engine.status(self.now).calls.is_empty(), Law::Stop, || "calls are active after the end".into())?;
        let alive: Vec<_> =
            self.lives.iter().filter(|(_, life)| !matches!(life.thread, Thread::Ended | Thread::Absent)).collect();
        check(alive.is_empty(), Law::ThreadsEnd, || format!("these threads are left: {alive:?}"))?;
        let busy: Vec<_> = self.nodes.iter().filter(|node| node.machine.chunks() > 0).collect();
        check(busy.is_empty() && self.talks.is_empty(), Law::ThreadsEnd, || {
            format!("nodes still have something to do: {busy:?}, and connections to say: {:?}", self.talks)
        })
    }

    /// What nodes add to the time that everything takes: silence must be taken for death, and hope given up; and each item
    /// of an open call may make the way alone.
    fn longest_way(&self) -> Duration {
        let way = self.nodes.iter().map(|node| node.plan.delay + node.plan.jitter).max();
        let fed: usize = self.calls.iter().filter_map(|call| call.feed.as_ref()).map(|feed| feed.items).sum();
        way.map_or(Duration::ZERO, |way| Duration::from_secs(30) + 2 * way * fed as u32)
    }

    /// Lets happen what is planned: until the faults end, or all of it, which must be over at `limit`.
    fn run_until_quiet(&mut self, limit: Option<Time>) -> Verdict {
        while let Some(Reverse(Planned(when, _, happening))) = self.agenda.pop() {
            if let Happening::Ran(life, plan) = happening
                && self.lives.get(&life).is_none_or(|port| port.plans != plan)
            {
                continue; // another end is planned for it
            }
            if let Happening::Far(node, what) = &happening
                && !self.may_come(*node, what)
            {
                continue; // something else has come in between
            }
            self.now = when;
            if let Happening::Calm = happening {
                return self.calm();
            }
            if limit.is_some_and(|limit| when > limit) {
                return check(false, Law::Liveness, || {
                    format!("at {} calls {:?} still run, and {happening:?} is next", at(when), self.owner.waiting())
                });
            }
            self.happen(happening)?;
        }
        let left = self.owner.waiting();
        check(left.is_empty(), Law::Liveness, || format!("nothing happens any more, but calls {left:?} have not ended"))
    }

    fn calm(&mut self) -> Verdict {
        self.trace.line(self.now, format_args!("-- the faults end"));
        self.faults = Faults::default();
        self.is_calm = true;
        let now = self.now;
        let mut woken = Vec::new();
        for (&id, life) in &mut self.lives {
            if let Thread::Running(run) = &mut life.thread
                && run.wake(now, Duration::from_micros(100))
            {
                life.plans += 1;
                woken.push((run.end - now, Happening::Ran(id, life.plans)));
            }
        }
        for (after, happening) in woken {
            self.plan(after, happening);
        }
        let consumers: Vec<CallId> = self.consumers.keys().copied().collect();
        consumers.into_iter().for_each(|call| self.news(call));
        self.calm_nodes()
    }

    fn serves_a_plain_call(&mut self) -> Verdict {
        let call = plain_call(self.calls.len());
        let (id, spec) = (call.spec.id, call.spec.clone());
        self.calls.push(call.clone());
        self.owner.submitted(&call);
        if let Some(model) = &mut self.model {
            model.plan(call);
        }
        let expected = self.said_stop.or(self.engine.stopped()).unwrap_or_else(|| self.fate_of_a_call());
        self.step(self.now, Event::Submit(spec), By::Other)?;
        self.run_until_quiet(Some(self.now + Duration::from_secs(2)))?;
        let ending = self.owner.ending(id);
        check(ending == Some(expected), Law::Service, || {
            format!("a plain call ended with {ending:?}, not {expected:?}")
        })
    }

    fn happen(&mut self, happening: Happening) -> Verdict {
        match happening {
            Happening::Act(Act::Submit(number)) => {
                let spec = self.calls[number].spec.clone();
                self.owner.submitted(&self.calls[number]);
                let by = if spec.is_open { By::Consumer(spec.id) } else { By::Other };
                self.say(Event::Submit(spec), by)
            }
            Happening::Act(Act::Drop(number)) => self.drop_stream(number),
            Happening::Act(Act::Cancel(number, ending)) => {
                self.say(Event::Cancel(CallId(number as u64), ending), By::Other)
            }
            Happening::Act(Act::Place(placement)) => {
                self.judge = Judge::Chance(placement);
                self.place()
            }
            Happening::Place => self.place_now(),
            Happening::Act(Act::Strike(slot)) => {
                let life = (WorkerId(slot), self.current[slot as usize]);
                self.happen(Happening::IdleDeath(life))
            }
            Happening::Act(Act::Befall(node, mishap)) => self.befall(NodeId(node), mishap),
            Happening::Act(Act::Stop(ending)) => {
                if self.said_stop != Some(Ending::ShutDown) {
                    self.said_stop = Some(ending);
                }
                self.plan(ABANDON_AFTER, Happening::Leave);
                self.say(Event::Stop(ending), By::Other)
            }
            Happening::Step(read, event, by) => self.step(read, event, by),
            Happening::Carry(batch) => self.carry(batch),
            Happening::Restart(life, after) => {
                if self.engine.stopped().is_none() {
                    self.plan(after, Happening::Spawn(life));
                }
                Ok(())
            }
            Happening::Spawn(life) => self.spawn(life),
            Happening::Up(life) => self.up(life),
            Happening::Look(life) => self.look(life),
            Happening::Ran(life, _) => self.ran(life),
            Happening::IdleDeath(life) => {
                let Some(port) = self.lives.get_mut(&life) else { return Ok(()) };
                if !matches!(port.thread, Thread::Waiting) {
                    return Ok(());
                }
                port.thread = Thread::Ended;
                self.say(Event::SlotLost(life.0, life.1, None), By::Thread(life, Next::End))
            }
            Happening::Turn(call) => self.turn(call),
            Happening::Tick => self.say(Event::Tick, By::Other),
            Happening::Leave => {
                self.has_left = true;
                (0..self.nodes.len() as u32).try_for_each(|node| self.leave_node(NodeId(node)))
            }
            Happening::Stray(life, done) => self.stray(life, done),
            Happening::Again(event) => self.again(event),
            Happening::Far(node, what) => self.far(node, what),
            Happening::Calm => unreachable!("it ends the loop"),
        }
    }

    /// A Worker starts a thread.
    fn spawn(&mut self, life: LifeId) -> Verdict {
        if self.has_left && life.1 != Generation(0) {
            return Ok(());
        }
        if self.dice.chance(self.faults.no_start) {
            self.seen.note("a thread that could not be started");
            return self.say(Event::SlotLost(life.0, life.1, None), By::Other);
        }
        let is_slow = self.dice.chance(self.faults.slow_start);
        let pause = if is_slow {
            self.dice.time(Duration::from_millis(100))
        } else {
            self.dice.time(Duration::from_micros(60))
        };
        self.plan(pause, Happening::Up(life));
        Ok(())
    }

    /// A new thread opens its port and says so.
    fn up(&mut self, life: LifeId) -> Verdict {
        let slot = life.0.0 as usize;
        if self.current[slot] != life.1 {
            self.release((life.0, self.current[slot]));
            self.current[slot] = life.1;
        }
        self.lives.entry(life).or_insert_with(Life::new).thread = Thread::Carrying;
        self.say(Event::SlotReady(life.0, life.1), By::Thread(life, Next::Wait))
    }

    fn look(&mut self, life: LifeId) -> Verdict {
        let Some(port) = self.lives.get_mut(&life) else { return Ok(()) };
        if !matches!(port.thread, Thread::Waiting) {
            return Ok(());
        }
        match port.take() {
            Some(chunk) => return self.start_chunk(life, &chunk),
            None if port.is_closed => port.thread = Thread::Ended,
            None => {
                if self.dice.chance(self.faults.blind_death / 10.0) {
                    let pause = self.dice.time(Duration::from_millis(1));
                    self.plan(pause, Happening::IdleDeath(life));
                }
            }
        }
        Ok(())
    }

    fn start_chunk(&mut self, life: LifeId, chunk: &Chunk<CallId>) -> Verdict {
        let range = self.owner.take(chunk.handle, chunk.range.clone())?;
        if range != chunk.range {
            self.seen.note("a chunk across batches");
        }
        let plan = &self.calls[chunk.handle.0 as usize];
        let seat = Seat::here(life.0, self.kind(life.0));
        let mut run = Run::new(self.now, seat, chunk, range, plan, &self.faults, &mut self.dice);
        if self.stop_signs.contains(&chunk.handle) {
            run.not_started(); // it sees the stop sign first
        }
        let port = self.lives.get_mut(&life).expect("a thread that starts a chunk is there");
        port.plans += 1;
        let (after, plan) = (run.end - self.now, port.plans);
        port.thread = Thread::Running(run);
        self.plan(after, Happening::Ran(life, plan));
        Ok(())
    }

    fn ran(&mut self, life: LifeId) -> Verdict {
        let Some(port) = self.lives.get_mut(&life) else { return Ok(()) };
        let Thread::Running(run) = std::mem::replace(&mut port.thread, Thread::Carrying) else { return Ok(()) };
        let again = run.again(&self.calls[run.call.0 as usize]);
        self.owner.put(run.call, run.range.clone(), run.filled(), &again)?;
        self.news(run.call);
        let is_coarse = self.dice.chance(self.faults.coarse_clock);
        match run.result(&self.calls[run.call.0 as usize], is_coarse) {
            run::Result::Done(done) => {
                if self.dice.chance(self.faults.stray) {
                    let pause = Duration::from_secs_f64(self.dice.magnitude(1e-5, 1.0));
                    self.plan(pause, Happening::Stray(life, Some(done.clone())));
                }
                self.say(Event::ChunkDone(life.0, life.1, done), By::Thread(life, Next::WaitIfCurrent))
            }
            run::Result::Died(death) => {
                let pause = Duration::from_secs_f64(self.dice.magnitude(1e-5, 1.0));
                self.plan(pause, Happening::Stray(life, None));
                self.say(Event::SlotLost(life.0, life.1, death), By::Thread(life, Next::End))
            }
        }
    }

    /// Says again what a life has said before, where the owner could do so too: when it is over, or, for a chunk, when
    /// the slot is not at another one.
    fn stray(&mut self, life: LifeId, done: Option<ChunkDone>) -> Verdict {
        let (slot, generation) = life;
        let status = self.engine.status(self.now).slots[slot.0 as usize].clone();
        let has_slot = !matches!(status.activity, Activity::GaveUp | Activity::Released);
        let is_over = status.generation != generation || !has_slot;
        let is_busy = matches!(status.activity, Activity::Busy { .. });
        self.seen.note("an event said again");
        if let Some(done) = done
            && (is_over || !is_busy)
        {
            return self.step(self.now, Event::ChunkDone(slot, generation, done), By::Other);
        }
        match self.dice.within(0..3) {
            0 if is_over => self.step(self.now, Event::SlotLost(slot, generation, None), By::Other),
            1 => self.step(self.now, Event::Tick, By::Other),
            _ if is_over || status.activity != Activity::Starting => {
                self.step(self.now, Event::SlotReady(slot, generation), By::Other)
            }
            _ => Ok(()),
        }
    }

    /// Says again what was said about a lane.
    fn again(&mut self, event: Event<CallId>) -> Verdict {
        self.seen.note("an answer said again");
        self.step(self.now, event, By::Other)
    }

    /// Reads the clock and steps the engine, at once or a moment later.
    fn say(&mut self, event: Event<CallId>, by: By) -> Verdict {
        if self.dice.chance(self.faults.late_step) {
            let pause = self.dice.reaction();
            self.plan(pause, Happening::Step(self.now, event, by));
            return Ok(());
        }
        self.step(self.now, event, by)
    }

    /// One step: the model is told, the engine steps, its commands and its state are judged, and then carried out.
    fn step(&mut self, read: Time, event: Event<CallId>, by: By) -> Verdict {
        self.steps += 1;
        self.trace.line(self.now, format_args!("{event:?}"));
        check(self.steps < MOST_STEPS, Law::Liveness, || format!("no end after {MOST_STEPS} steps"))?;
        if let Some(model) = &mut self.model {
            model.event(read, &event);
        }
        let commands = self.engine.step(read, event);
        for command in &commands {
            self.trace.line(self.now, format_args!("    {command:?}"));
        }
        if let Some(model) = &mut self.model {
            commands.iter().try_for_each(|command| model.command(read, command))?;
            model.after(read, &self.engine)?;
        }
        let commands = commands.into_iter().map(|command| (self.way(&command), command)).collect();
        self.carry(Batch { by, commands, mine: None })
    }

    /// Where a command about lanes goes, which is settled under the engine's lock.
    fn way(&mut self, command: &Command<CallId>) -> Option<TalkId> {
        match command {
            Command::Lanes(node, lanes) => {
                if let Some(epoch) = self.nodes[node.0 as usize].talking {
                    self.ways.extend(lanes.clone().map(|lane| (lane, (*node, epoch))));
                }
                None
            }
            Command::Assign(lane, ..) | Command::Recall(lane, _) | Command::Revoke(lane, _) => {
                self.ways.get(&lane.0).copied()
            }
            _ => None,
        }
    }

    fn plan(&mut self, after: Duration, happening: Happening) {
        self.planned += 1;
        self.agenda.push(Reverse(Planned(self.now + after, self.planned, happening)));
    }
}
