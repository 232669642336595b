//! Whether and when a dead compute thread is replaced.

use std::{collections::VecDeque, time::Duration};

use rand_chacha::ChaCha8Rng;

use super::{
    Stage, Time,
    retry::{FIRST_BACKOFF, full_jitter},
};

/// Deaths within [`WINDOW`], without an item finished in between, after which a slot is given up.
pub const MAX_RESTARTS: usize = 5;
/// See [`MAX_RESTARTS`].
pub const WINDOW: Duration = Duration::from_secs(10);

/// What becomes of a slot whose thread died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Start a new thread after this long (at once the first time).
    Restart(Duration),
    /// Give the slot up.
    Park,
}

/// The restart history of one slot: at once, then after a random wait of up to 50, 100 and 200 ms (full jitter:
/// "Exponential Backoff and Jitter", AWS Architecture Blog, 2015); the fifth death in ten seconds without a finished item
/// parks it. Deaths before any item had begun count however old they are: what can't be opened may take its time to say so.
#[derive(Debug, Default)]
pub(super) struct History {
    deaths: VecDeque<(Time, Stage)>,
}

impl History {
    /// An item finished: what went before is forgiven, but for what could not be opened if that `is_unopened` still.
    pub(super) fn finished_an_item(&mut self, is_unopened: bool) {
        planted!(NeverForgives, return);
        self.deaths.retain(|(_, stage)| is_unopened && *stage == Stage::Opening);
    }

    /// How many deaths it remembers.
    pub(super) fn footprint(&self) -> usize {
        self.deaths.len()
    }

    /// Deaths that count at `now`.
    pub(super) fn deaths(&self, now: Time) -> usize {
        self.deaths.iter().filter(|&&death| counts(death, now)).count()
    }

    pub(super) fn died(&mut self, now: Time, stage: Stage, jitter: &mut ChaCha8Rng) -> Verdict {
        if stage == Stage::Proven {
            self.finished_an_item(false);
        }
        self.deaths.retain(|&death| counts(death, now) || planted!(OldDeaths));
        self.deaths.push_back((now, stage));
        let count = self.deaths.len();
        if count >= MAX_RESTARTS - usize::from(planted!(ParksEarly)) {
            return Verdict::Park;
        }
        if count == 1 || planted!(BackoffIgnored) {
            return Verdict::Restart(Duration::ZERO);
        }
        Verdict::Restart(full_jitter(FIRST_BACKOFF * 2u32.pow(count as u32 - 2), jitter))
    }
}

/// Whether a death still counts at `now`.
fn counts((at, stage): (Time, Stage), now: Time) -> bool {
    stage == Stage::Opening || now.saturating_sub(at) <= WINDOW
}

#[cfg(test)]
mod tests {
    use super::{super::retry::jitter, *};

    #[test]
    fn restarts_at_once_then_backs_off_then_parks() {
        let (mut history, mut rng) = (History::default(), jitter(1));
        let at = |ms| Duration::from_millis(ms);
        assert_eq!(history.died(at(0), Stage::Running, &mut rng), Verdict::Restart(Duration::ZERO));
        for (death, most) in [(1, 50), (2, 100), (3, 200)] {
            match history.died(at(death), Stage::Running, &mut rng) {
                Verdict::Restart(after) => assert!(after <= at(most), "{after:?}"),
                Verdict::Park => panic!("too early"),
            }
        }
        assert_eq!(history.died(at(4), Stage::Running, &mut rng), Verdict::Park);
    }

    #[test]
    fn a_finished_item_or_ten_quiet_seconds_forgive() {
        let (mut history, mut rng) = (History::default(), jitter(1));
        for round in 0..20 {
            assert_eq!(
                history.died(Duration::from_millis(round), Stage::Running, &mut rng),
                Verdict::Restart(Duration::ZERO)
            );
            history.finished_an_item(false);
        }
        for round in 0..20 {
            let verdict = history.died(Duration::from_secs(100 + 11 * round), Stage::Running, &mut rng);
            assert_eq!(verdict, Verdict::Restart(Duration::ZERO));
        }
    }

    #[test]
    fn what_never_begins_is_parked_however_long_it_takes_to_find_out() {
        let (mut history, mut rng) = (History::default(), jitter(1));
        let mut died = |round: u64| history.died(Duration::from_secs(60 * round), Stage::Opening, &mut rng);
        assert!((1..5).all(|round| matches!(died(round), Verdict::Restart(_))));
        assert_eq!(died(5), Verdict::Park);
    }

    /// A GPU that could not be opened was tried without end beside calls that did not need it.
    #[test]
    fn an_item_that_needs_no_device_does_not_forgive_that_it_can_not_be_opened() {
        let (mut history, mut rng) = (History::default(), jitter(1));
        for round in 1..5 {
            assert!(matches!(
                history.died(Duration::from_secs(60 * round), Stage::Opening, &mut rng),
                Verdict::Restart(_)
            ));
            history.finished_an_item(true);
        }
        assert_eq!(history.died(Duration::from_secs(300), Stage::Opening, &mut rng), Verdict::Park);
    }
}
