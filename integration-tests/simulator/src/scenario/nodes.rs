//! The nodes of a story, and what befalls them.

use std::time::Duration;

use distfun_core::{engine::Time, placement::SlotKind};

use super::{Act, Kind, Scenario};
use crate::dice::Dice;

/// An open call of a story with nodes gets no more items.
const MOST_FED: usize = 2000;

/// One other machine.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// When the Manager is told of it.
    pub joins: Time,
    /// Chunks that it computes at once, until it is restarted.
    pub slots: u32,
    /// What it computes them with.
    pub kind: SlotKind,
    /// How many times longer than here an item takes.
    pub slowness: u32,
    /// From here to there.
    pub delay: Duration,
    /// What a message may take beyond that.
    pub jitter: Duration,
    /// Whether its process is there from the beginning.
    pub is_up: bool,
    /// Whether it serves when the faults have ended; if not, it is gone for good.
    pub stays: bool,
    /// Calls, by number, that it can't run.
    pub refuses: Vec<u64>,
    /// How often the way to it leads nowhere.
    pub no_answer: f64,
}

/// What befalls a node.
#[derive(Debug, Clone, Copy)]
pub enum Mishap {
    /// Its connection breaks; both sides hear of it soon, or by the silence only.
    Cut {
        /// Soon.
        is_told: bool,
    },
    /// For a while nothing gets through in one direction; then it all does.
    Stall {
        /// Towards the node, or from it.
        to_node: bool,
        /// For how long.
        lasts: Duration,
    },
    /// It stands still for a while, then goes on as if nothing had been.
    Freeze(Duration),
    /// Its process dies; another is started, perhaps.
    Crash {
        /// The Manager hears of it soon, or by the silence only.
        is_told: bool,
        /// When another is started.
        back_after: Option<Duration>,
        /// How many slots that has.
        slots: u32,
    },
    /// It takes nothing new, ends when it has done what it had, and is started again, perhaps.
    Drain {
        /// When another is started.
        back_after: Option<Duration>,
    },
    /// The Manager is told to do without it.
    Leave,
}

impl Scenario {
    /// Nodes beside the slots, in about half of the stories.
    pub(super) fn add_nodes(&mut self, may_have_none: bool) {
        // Dice of its own, so that the stories without nodes are told as they were before there were any.
        let mut dice = Dice::new(self.seed ^ 0x6e6f_6465);
        if dice.chance(0.55) {
            return;
        }
        if may_have_none && dice.chance(0.3) {
            self.slots = 0;
            self.acts.retain(|(_, act)| !matches!(act, Act::Strike(_)));
        }
        let span = self.spread_out(&mut dice);
        for feed in self.calls.iter_mut().filter_map(|call| call.feed.as_mut()) {
            feed.items = feed.items.min(MOST_FED); // each batch makes the way once
        }
        let refusals = if self.kind == Kind::Storm { dice.pick(&[0.0, 0.0, 0.2, 0.6]) } else { 0.0 };
        let mishaps = if self.kind == Kind::Storm { dice.pick(&[0.0, 1.0, 3.0, 10.0]) } else { 0.0 };
        self.calls.iter_mut().for_each(|call| call.travels = !dice.chance(refusals / 4.0));
        let count = if dice.chance(0.1) { dice.within(6..13) } else { dice.within(1..6) };
        let (far, no_answer) = (dice.pick(&[1e-4, 1e-3, 0.05]), dice.pick(&[0.0, 0.0, 0.3, 0.8]));
        for number in 0..count as u32 {
            let storms = self.kind == Kind::Storm;
            let refused = (0..self.calls.len() as u64).filter(|_| dice.chance(refusals)).collect();
            self.nodes.push(NodePlan {
                joins: if storms && dice.chance(0.2) { dice.time(span) } else { Time::ZERO },
                slots: dice.pick(&[1, 1, 2, 4]),
                kind: SlotKind::Cpu,
                slowness: if dice.chance(0.2) { 10 } else { 1 },
                delay: Duration::from_secs_f64(dice.magnitude(far / 10.0, far)),
                jitter: Duration::from_secs_f64(dice.magnitude(far / 100.0, far)),
                is_up: !(storms && dice.chance(0.1)),
                stays: !(storms && dice.chance(0.2)),
                refuses: refused,
                no_answer: if storms { no_answer } else { 0.0 },
            });
            let mut times = if mishaps > 0.0 { dice.within(0..(2.0 * mishaps) as usize + 1) } else { 0 };
            while times > 0 {
                times -= 1;
                let mishap = mishap(&mut dice, span);
                self.acts.push((dice.time(span), Act::Befall(number, mishap)));
            }
        }
    }

    /// Some stories of nodes take long enough for silence to be taken for death.
    fn spread_out(&mut self, dice: &mut Dice) -> Duration {
        if self.kind == Kind::Storm && dice.chance(0.5) {
            let longer = dice.magnitude(5.0, 40.0);
            self.acts.iter_mut().for_each(|(when, _)| *when = when.mul_f64(longer));
            self.calm_from = self.calm_from.mul_f64(longer);
        }
        self.calm_from
    }
}

fn mishap(dice: &mut Dice, span: Duration) -> Mishap {
    let lasts = Duration::from_secs_f64(dice.magnitude(1e-3, 5.0));
    let back_after = dice.chance(0.8).then(|| dice.time(span / 2));
    match dice.within(0..10) {
        0 | 1 => Mishap::Cut { is_told: dice.chance(0.7) },
        2 | 3 => Mishap::Stall { to_node: dice.chance(0.5), lasts },
        4 | 5 => Mishap::Freeze(lasts),
        6 | 7 => Mishap::Crash { is_told: dice.chance(0.7), back_after, slots: dice.pick(&[1, 2, 3, 4]) },
        8 => Mishap::Drain { back_after },
        _ if dice.chance(0.3) => Mishap::Leave,
        _ => Mishap::Cut { is_told: true },
    }
}
