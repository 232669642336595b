//! What a seed stands for: slots, nodes, calls, what users do and when, and which faults there are.
//!
//! Each fault is off in half of the seeds, so that it is also seen without the others, which may hide what it does
//! (swarm testing: Groce et al., ISSTA 2012).

mod kinds;
mod nodes;

use std::time::Duration;

use distfun_core::{
    engine::{CallSpec, Priority, Retries, Shape, Time},
    failure::Ending,
    ids::CallId,
    placement::{Placement, SlotKind},
};

pub(crate) use kinds::{Judge, KINDS};
pub(crate) use nodes::{Mishap, NodePlan};

use crate::dice::{Dice, fixed};

/// What the functions of a simulation are called.
const FUNCTIONS: [&str; 4] = ["inv", "score", "sum", "fit"];

/// No call has more virtual work than this, so that a seed takes milliseconds.
const MOST_WORK: f64 = 1.5;

/// Nor are more items of it tried again than this, each by itself.
const MOST_RETRIES: usize = 1000;

/// What kind of story it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everything at once.
    Storm,
    /// No faults: several calls that always have waiting items, to see their shares.
    Shares,
    /// No faults and nobody cancels: every call ends like a plain loop.
    Calm,
}

/// Everything that a seed decides in advance.
#[derive(Debug)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// What kind of story.
    pub kind: Kind,
    /// Slots of the engine on CPUs.
    pub slots: usize,
    /// And on GPUs, numbered behind those.
    pub gpus: usize,
    /// Who decides which of them get work.
    pub judge: Judge,
    /// Other machines, by id.
    pub nodes: Vec<NodePlan>,
    /// Calls that may be active at once.
    pub max_calls: usize,
    /// The calls, by id.
    pub calls: Vec<CallPlan>,
    /// What users do, and when.
    pub acts: Vec<(Time, Act)>,
    /// Faults until `calm_from`.
    pub faults: Faults,
    /// From here on nothing bad happens any more, and nobody interferes.
    pub calm_from: Time,
}

/// What users do.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// Submit the call of this number.
    Submit(usize),
    /// Cancel it, or give up waiting for it.
    Cancel(usize, Ending),
    /// Drop the stream of its results.
    Drop(usize),
    /// `finished` or `shutdown`.
    Stop(Ending),
    /// Not a user: these slots get work from now on.
    Place(Placement),
    /// Not a user: the thread of this slot dies, if it is idle.
    Strike(u32),
    /// Not a user: something befalls the node of this number.
    Befall(u32, Mishap),
}

/// One call, and what its items are like.
#[derive(Debug, Clone)]
pub struct CallPlan {
    /// What is submitted.
    pub spec: CallSpec<CallId>,
    /// The function borrows its items: they outlive the thread.
    pub keeps_items: bool,
    /// The function takes a chunk at once.
    pub takes_blocks: bool,
    /// How more items come, if the call is open.
    pub feed: Option<Feed>,
    /// Its items can be sent to nodes.
    pub travels: bool,
    seed: u64,
    /// Seconds per item.
    cost: f64,
    /// How many times longer than on a CPU an item takes on a GPU.
    on_gpu: f64,
    skew: Skew,
    panics: f64,
    errors: f64,
    killers: f64,
    /// How many items fail at first, where items are tried again; some of them every time.
    flaky: f64,
    /// How many failures are not worth another try.
    worthless: f64,
}

/// How the items of an open call come, and its outcomes are taken.
#[derive(Debug, Clone)]
pub struct Feed {
    /// How many items come, beside those that were submitted.
    pub items: usize,
    /// The most items whose outcomes were not taken.
    pub window: usize,
    /// The most items that come at once.
    pub batch: usize,
    /// Outcomes are taken in input order.
    pub in_order: bool,
    /// How often the source takes its time.
    pub sleeps: f64,
    /// For how long, at most.
    pub pause: Duration,
    /// The source does not say that there are no more items before the faults have ended.
    pub waits_for_calm: bool,
    /// Now and then something is said that changes nothing.
    pub is_odd: bool,
}

#[derive(Debug, Clone, Copy)]
enum Skew {
    Even,
    Random,
    /// One in fifty takes fifty times as long.
    Tail,
    FirstIsSlow,
}

/// What a plain loop gets from one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// A value.
    Fine,
    /// A panic.
    Panics,
    /// Under `try_map`: an `Err`.
    Errs,
}

impl CallPlan {
    /// What the plain loop gets from item `index`, when it was tried as often as it may.
    pub fn truth(&self, index: usize) -> Truth {
        let most = if self.is_worth_retrying(index) { self.spec.retries.times } else { 0 };
        self.truth_after(most, index)
    }

    /// What item `index` gives that has failed so often before.
    pub fn truth_after(&self, failures: u32, index: usize) -> Truth {
        if self.flaky > 0.0 && fixed(self.seed ^ 3, index as u64) < self.flaky {
            let times = 1 + (fixed(self.seed ^ 4, index as u64) * f64::from(self.spec.retries.times + 1)) as u32;
            if failures < times {
                return Truth::Panics;
            }
        }
        let at = fixed(self.seed, index as u64);
        if at < self.panics {
            Truth::Panics
        } else if self.spec.stops_at_failure && at > 1.0 - self.errors {
            Truth::Errs
        } else {
            Truth::Fine
        }
    }

    /// Whether the predicate says that an item is worth another try.
    pub fn is_worth_retrying(&self, index: usize) -> bool {
        fixed(self.seed ^ 5, index as u64) >= self.worthless
    }

    /// What item `index` takes to compute on such a slot.
    pub fn cost(&self, kind: SlotKind, index: usize) -> Duration {
        let at = fixed(self.seed ^ 1, index as u64);
        let factor = match self.skew {
            Skew::Even => 1.0,
            Skew::Random => 2.0 * at,
            Skew::Tail if at < 0.02 => 50.0,
            Skew::FirstIsSlow if index == 0 => 50.0,
            Skew::Tail | Skew::FirstIsSlow => 1.0,
        };
        let of_kind = if kind == SlotKind::Gpu { self.on_gpu } else { 1.0 };
        Duration::from_nanos((self.cost * factor * of_kind * 1e9) as u64 + 1)
    }

    /// Whether item `index` kills the thread that runs it, as long as there are faults.
    pub fn is_killer(&self, index: usize) -> bool {
        self.killers > 0.0 && fixed(self.seed ^ 2, index as u64) < self.killers
    }

    /// How many items there will be.
    pub fn items(&self) -> usize {
        self.spec.items + self.feed.as_ref().map_or(0, |feed| feed.items)
    }

    /// What all items take, one after another, each as often as it may be tried, and where that takes longer.
    pub fn work(&self) -> Duration {
        let slowest = |index| KINDS.map(|kind| self.cost(kind, index)).into_iter().max();
        let work: Duration = (0..self.items()).filter_map(slowest).sum();
        work * (1 + self.spec.retries.times)
    }

    /// What items may wait to be tried again: all at once, or if they come while the call runs, one after another.
    pub fn waits(&self) -> Duration {
        let times = self.spec.retries.times;
        let fails = |&index: &usize| times > 0 && self.truth_after(0, index) != Truth::Fine;
        let failing = (0..self.items()).filter(fails).count();
        self.spec.retries.most * times * if self.spec.is_open { failing as u32 } else { 1 }
    }

    /// Has items that fail tried again.
    fn retry(&mut self, dice: &mut Dice) {
        let first = Duration::from_secs_f64(dice.magnitude(1e-5, 30e-3));
        let most = if dice.chance(0.5) { first } else { 4 * first };
        let first = if dice.chance(0.1) { Duration::ZERO } else { first };
        self.spec.retries = Retries { times: dice.within(1..5) as u32, first, most };
        self.flaky = if dice.chance(0.8) { dice.magnitude(1.0 / (self.items() + 1) as f64, 0.5) } else { 0.0 };
        self.worthless = if dice.chance(0.5) { 0.3 * dice.fraction() } else { 0.0 };
        let failing = (0..self.items()).filter(|&index| self.truth_after(0, index) != Truth::Fine).count();
        if failing * self.spec.retries.times as usize > MOST_RETRIES {
            (self.spec.retries, self.flaky, self.worthless) = (Retries::NONE, 0.0, 0.0);
        } else {
            self.keeps_items = true; // or a clone of them
        }
    }

    /// Makes it a call whose items come while it runs.
    fn open(&mut self, dice: &mut Dice) {
        if dice.chance(0.1) {
            // Long, quick, and most of it fails: nothing of that may stay.
            self.cost = dice.magnitude(50e-9, 5e-6);
            self.spec.items = dice.magnitude(5000.0, 30_000.0) as usize;
            self.panics = dice.magnitude(0.1, 1.0);
        }
        let items = self.spec.items;
        self.spec.items = if dice.chance(0.2) { dice.within(0..items + 1) } else { 0 };
        self.spec.is_open = true;
        self.spec.shape = Shape::Items;
        self.spec.stops_at_failure = false;
        self.takes_blocks = dice.chance(0.2);
        let window = dice.magnitude(1.0, 500.0).max(items as f64 / 300.0) as usize;
        self.feed = Some(Feed {
            items: items - self.spec.items,
            window,
            batch: if dice.chance(0.5) { window } else { dice.within(1..window + 1) },
            in_order: dice.chance(0.5),
            sleeps: dice.pick(&[0.0, 0.05, 0.5]),
            pause: Duration::from_secs_f64(dice.magnitude(1e-4, 0.1)),
            waits_for_calm: dice.chance(0.2),
            is_odd: dice.chance(0.3),
        });
    }
}

/// How often what goes wrong. All are probabilities.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// A thread dies in a chunk, and says how far it was.
    pub death: f64,
    /// A thread dies in a chunk or idle, and says nothing.
    pub blind_death: f64,
    /// A thread can't be started.
    pub no_start: f64,
    /// An item does not return.
    pub hang: f64,
    /// The thread that carries out a step's commands is put aside in between.
    pub stall: f64,
    /// A thread is put aside between reading the clock and stepping the engine.
    pub late_step: f64,
    /// Something that was said before is said again.
    pub stray: f64,
    /// A chunk seems to take no time.
    pub coarse_clock: f64,
    /// A started thread takes long to come up.
    pub slow_start: f64,
}

impl Faults {
    fn random(dice: &mut Dice) -> Self {
        let mut one = |low: f64, high: f64| if dice.chance(0.5) { dice.magnitude(low, high) } else { 0.0 };
        Self {
            death: one(0.002, 0.9),
            blind_death: one(0.001, 0.2),
            no_start: one(0.01, 0.9),
            hang: one(0.0005, 0.05),
            stall: one(0.01, 0.5),
            late_step: one(0.01, 0.5),
            stray: one(0.01, 0.5),
            coarse_clock: one(0.01, 0.5),
            slow_start: one(0.01, 0.5),
        }
    }
}

impl Scenario {
    /// What `seed` stands for; `slots` overrides how many there are.
    pub fn new(seed: u64, slots: Option<usize>) -> Self {
        let mut dice = Dice::new(seed);
        let kind = dice.pick(&[Kind::Storm, Kind::Storm, Kind::Storm, Kind::Storm, Kind::Calm, Kind::Shares]);
        let random_slots = if dice.chance(0.1) { dice.within(8..34) } else { dice.within(1..7) };
        let may_have_none = slots.is_none();
        let slots = slots.unwrap_or(random_slots);
        let mut scenario = Self {
            seed,
            kind,
            slots,
            gpus: 0,
            judge: Judge::Nobody,
            nodes: Vec::new(),
            max_calls: 64,
            calls: Vec::new(),
            acts: Vec::new(),
            faults: Faults::default(),
            calm_from: Time::ZERO,
        };
        match kind {
            Kind::Storm => scenario.storm(&mut dice),
            Kind::Calm => scenario.calm(&mut dice),
            Kind::Shares => scenario.shares(&mut dice),
        }
        scenario.add_nodes(may_have_none);
        scenario.add_retries();
        scenario.add_kinds(may_have_none);
        scenario
    }

    /// With dice of their own, so that stories without retries stay what they are.
    fn add_retries(&mut self) {
        let mut dice = Dice::new(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5e7);
        if self.kind != Kind::Shares && dice.chance(0.5) {
            for call in &mut self.calls {
                if dice.chance(0.5) {
                    call.retry(&mut dice);
                }
            }
        }
    }

    fn calm(&mut self, dice: &mut Dice) {
        let opens = open_calls(dice);
        for _ in 0..dice.within(1..6) {
            let mut call = random_call(dice, self.calls.len());
            if dice.chance(opens) {
                call.open(dice);
            }
            let when = dice.time(Duration::from_millis(30));
            self.add(call, when);
        }
    }

    /// Calls that have work for longer than the story lasts; or one of low priority, and beside it short ones of high
    /// priority, many of them slower than what is known of their function, so that they hand back what they were given.
    fn shares(&mut self, dice: &mut Dice) {
        let lasts = 0.15 + 0.25 * dice.fraction();
        self.slots = self.slots.min(4);
        let has_short_calls = dice.chance(0.4);
        let long = if has_short_calls { 1 } else { dice.within(2..5) };
        for (number, &function) in FUNCTIONS.iter().enumerate().take(long) {
            let mut call = random_call(dice, number);
            call.cost = dice.magnitude(40e-6, 8e-3);
            call.skew = dice.pick(&[Skew::Even, Skew::Random]);
            call.spec.function = function;
            call.spec.items = (1.3 * lasts * self.slots as f64 / call.cost) as usize + 10;
            call.spec.stops_at_failure = false;
            if has_short_calls {
                call.spec.priority = Priority::Low;
            } else if number + 1 == long && dice.chance(0.5) {
                // Its items come in crowds, and not for a while when those are done.
                let crowd = (lasts * dice.magnitude(0.1, 0.4) * self.slots as f64 / call.cost) as usize + 1;
                let items = std::mem::take(&mut call.spec.items);
                (call.spec.is_open, call.spec.shape, call.takes_blocks) = (true, Shape::Items, false);
                call.feed = Some(Feed {
                    items,
                    window: crowd,
                    batch: crowd,
                    in_order: dice.chance(0.5),
                    sleeps: 0.5,
                    pause: Duration::from_secs_f64(lasts / 2.0),
                    waits_for_calm: false,
                    is_odd: false,
                });
            }
            let when = if dice.chance(0.7) { Time::ZERO } else { dice.time(Duration::from_secs_f64(lasts / 3.0)) };
            self.add(call, when);
            self.acts.push((Duration::from_secs_f64(lasts), Act::Cancel(number, Ending::Cancelled)));
        }
        for number in 1..if has_short_calls { 15 } else { 0 } {
            let mut call = random_call(dice, number);
            call.cost = if dice.chance(0.5) { 100e-9 } else { dice.magnitude(0.5e-3, 5e-3) };
            call.spec.items = dice.within(1..150);
            (call.spec.shape, call.takes_blocks) = (Shape::Items, false);
            call.spec.function = FUNCTIONS[1];
            call.spec.priority = Priority::High;
            let when = dice.time(Duration::from_secs_f64(lasts));
            self.add(call, when);
        }
        self.calm_from = Duration::from_secs_f64(lasts);
    }

    fn storm(&mut self, dice: &mut Dice) {
        self.max_calls = dice.within(1..7);
        self.faults = Faults::random(dice);
        let span = Duration::from_secs_f64(dice.magnitude(0.02, 1.0));
        self.calm_from = span;
        if dice.chance(0.07) {
            // Hardly a thread can be started, for long enough to give all slots up.
            self.faults.no_start = dice.magnitude(0.8, 1.0);
            self.calm_from = Duration::from_secs(1);
        }
        let opens = open_calls(dice);
        for number in 0..dice.within(1..13) {
            let mut call = random_call(dice, number);
            if dice.chance(opens) {
                call.open(dice);
            }
            call.spec.ends_engine = dice.chance(0.02);
            if dice.chance(0.3) {
                call.killers = dice.magnitude(1.0 / (call.items() + 1) as f64, 0.3).min(0.3);
            }
            let when = dice.time(span);
            self.add(call, when);
            for _ in 0..dice.pick(&[0, 0, 0, 1, 1, 2]) {
                let ending = dice.pick(&[Ending::Cancelled, Ending::TimedOut, Ending::TimedOut]);
                let later = when + dice.time(span);
                let is_dropped = self.calls[number].spec.is_open && dice.chance(0.5);
                let act = if is_dropped { Act::Drop(number) } else { Act::Cancel(number, ending) };
                self.acts.push((later, act));
            }
        }
        if self.faults.hang > 0.0 {
            // Who hangs must be given up by somebody; the others hang until the faults end.
            for number in 0..self.calls.len() {
                if dice.chance(0.6) {
                    self.acts.push((dice.time(2 * span), Act::Cancel(number, Ending::TimedOut)));
                }
            }
        }
        if dice.chance(0.2) {
            for _ in 0..dice.within(1..4) {
                let ending = dice.pick(&[Ending::Finished, Ending::ShutDown]);
                self.acts.push((dice.time(2 * span), Act::Stop(ending)));
            }
        }
        if dice.chance(0.2) {
            // Deaths now and then, over more time than they count for.
            self.calm_from = Duration::from_secs(30);
            for slot in 0..self.slots as u32 {
                for _ in 0..dice.within(2..9) {
                    self.acts.push((dice.time(self.calm_from), Act::Strike(slot)));
                }
            }
        }
        self.acts.retain(|&(when, _)| when <= self.calm_from);
    }

    fn add(&mut self, call: CallPlan, when: Time) {
        self.acts.push((when, Act::Submit(self.calls.len())));
        self.calls.push(call);
    }
}

/// How often a call of a story is open.
fn open_calls(dice: &mut Dice) -> f64 {
    dice.pick(&[0.0, 0.0, 0.3, 0.8])
}

fn random_call(dice: &mut Dice, number: usize) -> CallPlan {
    let cost = dice.magnitude(50e-9, 20e-3);
    let items = match dice.within(0..10) {
        0 => dice.within(0..2),
        1..=4 => dice.within(1..20),
        5..=8 => dice.magnitude(10.0, 2000.0) as usize,
        _ => dice.magnitude(1000.0, 30_000.0) as usize,
    };
    let stream_cost = if dice.chance(0.5) { Some(dice.magnitude(1e-9, 1e-4)) } else { None };
    let stops_at_failure = dice.chance(0.35);
    let rare = 1.0 / (items + 1) as f64;
    let shape = if dice.chance(0.7) { Shape::Items } else { Shape::Blocks { stream_cost } };
    CallPlan {
        spec: CallSpec {
            id: CallId(number as u64),
            handle: CallId(number as u64),
            function: dice.pick(&FUNCTIONS),
            items: items.min((MOST_WORK / cost) as usize),
            shape,
            only: None,
            priority: dice.pick(&[Priority::Low, Priority::Normal, Priority::Normal, Priority::High]),
            is_open: false,
            stops_at_failure,
            retries: Retries::NONE,
            ends_engine: false,
        },
        takes_blocks: shape != Shape::Items,
        feed: None,
        travels: true,
        keeps_items: dice.chance(0.5),
        seed: dice.number(),
        cost,
        on_gpu: 1.0,
        skew: dice.pick(&[Skew::Even, Skew::Random, Skew::Tail, Skew::FirstIsSlow]),
        panics: if dice.chance(0.4) { dice.magnitude(rare, 1.0) } else { 0.0 },
        errors: if dice.chance(0.6) { dice.magnitude(rare, 0.5) } else { 0.0 },
        killers: 0.0,
        flaky: 0.0,
        worthless: 0.0,
    }
}

/// A plain call of ten items, to see whether the engine still serves.
pub(crate) fn plain_call(number: usize) -> CallPlan {
    let mut call = random_call(&mut Dice::new(0), number);
    call.spec.items = 10;
    call.spec.stops_at_failure = false;
    (call.cost, call.skew, call.panics, call.errors, call.killers) = (1e-4, Skew::Even, 0.0, 0.0, 0.0);
    call
}
