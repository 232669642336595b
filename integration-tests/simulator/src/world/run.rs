//! What a compute thread does with a chunk, decided when it starts.

use std::{ops::Range, time::Duration};

use distfun_core::{
    engine::{BUDGET, Blame, Chunk, ChunkDone, Death, Sentence, Stage, Time},
    failure::{FailureCause, ItemFailure},
    ids::{CallId, WorkerId},
    placement::SlotKind,
};

use crate::{
    dice::Dice,
    scenario::{CallPlan, Faults, Truth},
};

/// A thread takes a look at the clock after about this long (`job/list.rs`).
const STRIP: Duration = Duration::from_micros(10);

/// An item that hangs does so until somebody ends it.
pub(crate) const FOREVER: Duration = Duration::from_secs(1_000_000);

/// Where a chunk is computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat {
    pub(crate) worker: WorkerId,
    pub(crate) kind: SlotKind,
    /// How many times longer than here an item takes.
    pub(crate) slowness: u32,
    /// At a node, which does not look at what fails: that is for the Manager.
    pub(crate) is_away: bool,
}

impl Seat {
    /// A slot of this machine.
    pub(crate) fn here(worker: WorkerId, kind: SlotKind) -> Self {
        Self { worker, kind, slowness: 1, is_away: false }
    }

    fn budget(self) -> Duration {
        if self.is_away { REMOTE_BUDGET } else { BUDGET }
    }
}

/// As in `actors/src/remote_node/conversation.rs`.
const REMOTE_BUDGET: Duration = Duration::from_millis(20);

/// How a chunk ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// With a report.
    Report,
    /// With the thread, at the item that was running, or between two.
    Death { blamed_is_kept: Option<bool> },
    /// With the thread, and all results so far.
    BlindDeath,
    /// With the process that ran it for the thread, and all results so far.
    Crash(Crash),
}

/// What is known of the end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    /// The item that ran.
    Item,
    /// That it was one of all.
    Block,
    /// It was stopped, because the item took too long.
    Overdue,
}

/// A chunk being computed.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) call: CallId,
    seat: Seat,
    attempt: u32,
    /// How often its items may be tried again, and how often they have failed.
    retries: u32,
    failures: u32,
    pub(crate) range: Range<usize>,
    start: Time,
    /// When each item gets its outcome, from the first of the chunk on.
    ends: Vec<Time>,
    /// When the thread dies or reports.
    pub(crate) end: Time,
    fate: Fate,
    is_block: bool,
}

/// What comes of a chunk.
pub(crate) enum Result {
    Done(ChunkDone),
    Died(Option<Death>),
}

impl Run {
    /// The story of `chunk` from `now` on; of its items, the thread has taken `range`.
    pub(crate) fn new(
        now: Time,
        seat: Seat,
        chunk: &Chunk<CallId>,
        range: Range<usize>,
        plan: &CallPlan,
        faults: &Faults,
        dice: &mut Dice,
    ) -> Self {
        let is_block = plan.takes_blocks;
        let mut run = Self {
            call: chunk.handle,
            seat,
            attempt: chunk.attempt,
            retries: chunk.retries,
            failures: plan.spec.retries.times.saturating_sub(chunk.retries),
            range: range.clone(),
            start: now,
            ends: Vec::with_capacity(range.len()),
            end: now,
            fate: Fate::Report,
            is_block,
        };
        let has_faults = faults.death > 0.0;
        let somewhere = |dice: &mut Dice, p: f64| dice.chance(p).then(|| dice.within(range.clone()));
        let death = somewhere(dice, faults.death);
        let blind_death = somewhere(dice, faults.blind_death);
        let hang = somewhere(dice, faults.hang);
        let (mut strip, mut left, mut looked) = (1, 1, now);
        for index in range.clone() {
            let dies = death == Some(index) || has_faults && plan.is_killer(index);
            if dies || blind_death == Some(index) {
                let of_function = Some(plan.keeps_items || is_block);
                let blamed_is_kept = if dice.chance(0.1) { None } else { of_function };
                run.fate = if dies { Fate::Death { blamed_is_kept } } else { Fate::BlindDeath };
                if dies && dice.chance(0.4) {
                    let known = [Crash::Item, Crash::Block, Crash::Overdue];
                    run.fate = Fate::Crash(if is_block { Crash::Block } else { known[dice.within(0..3)] });
                }
                run.end += dice.time(plan.cost(seat.kind, index) * seat.slowness);
                return run;
            }
            run.end += plan.cost(seat.kind, index) * seat.slowness;
            if hang == Some(index) {
                run.end += if dice.chance(0.5) { FOREVER } else { Duration::from_secs_f64(dice.magnitude(0.05, 1.0)) };
            }
            run.ends.push(run.end);
            if is_block {
                continue;
            }
            let stops = plan.spec.stops_at_failure && !seat.is_away;
            let fails = stops && run.fails_for_good(plan, index);
            left -= 1;
            if plan.truth_after(run.failures, index) == Truth::Panics {
                left = 0; // a panic ends its strip
            }
            if left > 0 && !(fails && dice.chance(0.5)) {
                continue;
            }
            // The thread looks at the clock.
            if fails || (stops && run.has_failed(plan)) || run.end - now > seat.budget() {
                break;
            }
            match run.end - looked {
                took if took < STRIP => strip = (2 * strip).min(range.len()),
                took if took > 4 * STRIP => strip = (strip / 4).max(1),
                _ => {}
            }
            (left, looked) = (strip, run.end);
        }
        run
    }

    /// Items before this one have their outcome.
    fn reached(&self) -> usize {
        self.range.start + self.ends.len()
    }

    /// The same, as the keeper of the results sees it.
    pub(crate) fn filled(&self) -> usize {
        match self.fate {
            Fate::BlindDeath | Fate::Crash(_) => self.range.start,
            _ => self.reached(),
        }
    }

    fn has_failed(&self, plan: &CallPlan) -> bool {
        (self.range.start..self.reached()).any(|index| self.fails_for_good(plan, index))
    }

    fn fails_for_good(&self, plan: &CallPlan, index: usize) -> bool {
        plan.truth_after(self.failures, index) != Truth::Fine && !self.fails_for_now(plan, index)
    }

    fn fails_for_now(&self, plan: &CallPlan, index: usize) -> bool {
        self.retries > 0 && plan.is_worth_retrying(index) && plan.truth_after(self.failures, index) != Truth::Fine
    }

    /// Items that have failed and are to be tried again.
    pub(crate) fn again(&self, plan: &CallPlan) -> Vec<usize> {
        (self.range.start..self.filled()).filter(|&index| self.fails_for_now(plan, index)).collect()
    }

    /// The thread does not start: its call has ended.
    pub(crate) fn not_started(&mut self) {
        self.ends.clear();
        (self.end, self.fate) = (self.start, Fate::Report);
    }

    /// The call has ended: the thread stops after the item it is at. False if that changes nothing.
    pub(crate) fn stop(&mut self, now: Time) -> bool {
        if self.is_block {
            return false;
        }
        let finished = self.ends.partition_point(|&end| end <= now);
        if finished + 1 >= self.ends.len() {
            return false;
        }
        self.ends.truncate(finished + 1);
        self.end = self.ends[finished];
        self.fate = Fate::Report;
        true
    }

    /// The faults are over: what would take for ever ends soon. False if that changes nothing.
    pub(crate) fn wake(&mut self, now: Time, soon: Duration) -> bool {
        let most = now + Duration::from_secs(3600);
        if self.end < most {
            return false;
        }
        let hanging = self.ends.partition_point(|&end| end < most);
        if self.is_block {
            let late = self.ends[hanging] - (now + soon);
            self.ends[hanging..].iter_mut().for_each(|end| *end -= late);
            self.end -= late;
        } else {
            self.ends.truncate(hanging);
            self.ends.push(now + soon);
            self.end = now + soon;
            self.fate = Fate::Report;
        }
        true
    }

    /// What the engine hears at the end.
    pub(crate) fn result(&self, plan: &CallPlan, has_coarse_clock: bool) -> Result {
        let reached = self.reached();
        let failed = |index: &usize| self.fails_for_good(plan, *index);
        // Where items are tried again an `Err` is a failure like others.
        let is_told = |index: &usize| {
            let truth = plan.truth_after(self.failures, *index);
            truth == Truth::Panics || truth == Truth::Errs && plan.spec.retries.times > 0
        };
        let told = |index: &usize| failed(index) && is_told(index);
        let failure = |index, cause| ItemFailure::new(index, self.seat.worker, self.attempt, cause);
        let done = self.range.start..reached;
        let panic = |index| failure(index, FailureCause::Panicked { message: "simulated".into(), place: None });
        let mut failures: Vec<ItemFailure> = done.clone().filter(told).map(panic).collect();
        let again: Vec<ItemFailure> = self.again(plan).into_iter().map(panic).collect();
        let mut first_failure = done.clone().find(failed).filter(|_| plan.spec.stops_at_failure);
        match self.fate {
            Fate::Report => {
                let elapsed = if has_coarse_clock { Duration::ZERO } else { self.end - self.start };
                Result::Done(ChunkDone { reached, failures, again, first_failure, elapsed, is_unopened: false })
            }
            Fate::BlindDeath => Result::Died(None),
            Fate::Crash(crash) => {
                let item = reached..reached + 1;
                let blame = match crash {
                    Crash::Item => Blame { items: item, sentence: Sentence::Again(None), away: None },
                    Crash::Block => Blame { items: self.range.clone(), sentence: Sentence::Again(None), away: None },
                    Crash::Overdue => {
                        let cause = FailureCause::TimedOut { limit: Duration::from_secs(1) };
                        let is_for_now = self.retries > 0 && plan.is_worth_retrying(item.start);
                        let sentence = if is_for_now { Sentence::FailsForNow(cause) } else { Sentence::Fails(cause) };
                        Blame { items: item, sentence, away: None }
                    }
                };
                let (reached, failures, again) = (self.range.start, Vec::new(), Vec::new());
                Result::Died(Some(Death {
                    reached,
                    stage: Stage::Running,
                    failures,
                    again,
                    first_failure: None,
                    blame: Some(blame),
                }))
            }
            Fate::Death { .. } if self.seat.is_away => {
                // What was sent there is still here.
                Result::Died(Some(Death {
                    reached,
                    stage: Stage::after(self.range.start, reached),
                    failures,
                    again,
                    first_failure,
                    blame: Some(Blame::of_thread(reached, true)),
                }))
            }
            Fate::Death { .. } if self.is_block && !plan.keeps_items => {
                // The function has the whole block and takes it along (`accept_lists`).
                let rest = reached..self.range.end;
                failures.extend(rest.map(|index| failure(index, FailureCause::WorkerDied { exit: None })));
                if plan.spec.stops_at_failure {
                    first_failure.get_or_insert(reached);
                }
                let stage = Stage::after(self.range.start, reached);
                let reached = self.range.end;
                Result::Died(Some(Death { reached, stage, failures, again, first_failure, blame: None }))
            }
            Fate::Death { blamed_is_kept } => {
                let blame = blamed_is_kept.map(|is_kept| Blame::of_thread(reached, is_kept));
                let stage = Stage::after(self.range.start, reached);
                Result::Died(Some(Death { reached, stage, failures, again, first_failure, blame }))
            }
        }
    }
}
