//! The model of one slot.

use std::{collections::VecDeque, ops::Range, time::Duration};

use distfun_core::{
    engine::{MAX_RESTARTS, Stage, Time, WINDOW},
    ids::{CallId, Generation},
    placement::SlotKind,
};

/// The longest wait before the second, third and fourth restart.
const BACKOFF: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(200)];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SlotState {
    Starting,
    Idle,
    Busy {
        call: CallId,
        range: Range<usize>,
        abandon_at: Option<Time>,
    },
    /// Its thread died in this step: the engine must say what follows.
    Dead,
    /// Its thread has overstayed: the engine must replace it in this step.
    Overdue,
    Parked,
    Released,
}

#[derive(Debug)]
pub(crate) struct SlotModel {
    pub(crate) kind: SlotKind,
    pub(crate) generation: Generation,
    pub(crate) state: SlotState,
    /// When, and whether they count for ever.
    deaths: VecDeque<(Time, bool)>,
}

impl SlotModel {
    pub(crate) fn new(kind: SlotKind) -> Self {
        Self { kind, generation: Generation(0), state: SlotState::Starting, deaths: VecDeque::new() }
    }

    pub(crate) fn made_progress(&mut self, is_unopened: bool) {
        self.deaths.retain(|(_, counts_for_ever)| is_unopened && *counts_for_ever);
    }

    pub(crate) fn died(&mut self, now: Time, stage: Stage) {
        if stage == Stage::Proven {
            self.made_progress(false);
        }
        self.deaths.retain(|&(death, counts_for_ever)| counts_for_ever || now.saturating_sub(death) <= WINDOW);
        self.deaths.push_back((now, stage == Stage::Opening));
        self.state = SlotState::Dead;
    }

    /// How many deaths count.
    pub(crate) fn deaths(&self) -> usize {
        self.deaths.len()
    }

    /// Its thread has died once too often in this step.
    pub(crate) fn is_done_for(&self) -> bool {
        self.state == SlotState::Dead && self.must_park()
    }

    pub(crate) fn must_park(&self) -> bool {
        self.deaths.len() >= MAX_RESTARTS
    }

    /// Whether `after` is a wait that the last death may be followed by. A random wait of exactly nothing has one
    /// chance in four thousand million.
    pub(crate) fn is_fair_wait(&self, after: Duration) -> bool {
        match self.deaths.len() {
            0 | 1 => after == Duration::ZERO,
            more => after > Duration::ZERO && BACKOFF.get(more - 2).is_some_and(|&most| after <= most),
        }
    }
}
