//! Whether and when an item that failed is run again.

use std::{collections::BTreeMap, time::Duration};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{ActiveCall, Command, Commands, Engine, Time};
use crate::ids::CallId;

/// How often the items of a call are run again after they failed, and how long they wait before: at random up to `first`,
/// then twice as long each time, at most `most` (full jitter: "Exponential Backoff and Jitter", AWS Architecture Blog,
/// 2015).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How often an item is run again; what its workers' deaths take has a rule of its own.
    pub times: u32,
    /// The longest wait before an item is run for the second time.
    pub first: Duration,
    /// The longest wait of all.
    pub most: Duration,
}

impl Retries {
    /// What fails has failed.
    pub const NONE: Self = Self::times(0);

    /// So often, after waits of up to 50, 100 and 200 ms and so on, at most 5 s.
    pub const fn times(times: u32) -> Self {
        Self { times, first: FIRST_BACKOFF, most: Duration::from_secs(5) }
    }

    /// How long an item waits that has failed so often.
    pub fn wait(&self, failures: u32, jitter: &mut ChaCha8Rng) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        full_jitter(self.first.saturating_mul(doubled).min(self.most).min(FOR_EVER), jitter)
    }
}

/// The first wait of everything that is tried again.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// Nothing waits longer: no clock counts beyond.
const FOR_EVER: Duration = Duration::from_secs(1 << 32);

/// A random time up to `most`: what failed together is not tried again together.
pub(super) fn full_jitter(most: Duration, jitter: &mut ChaCha8Rng) -> Duration {
    most.mul_f64(f64::from(jitter.next_u32()) / f64::from(u32::MAX))
}

/// A generator of jitter; equal seeds repeat.
pub fn jitter(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

impl<H: Clone> Engine<H> {
    /// Lets the items of a call that failed, and are worth another try, wait for it.
    pub(super) fn defer(&mut self, now: Time, id: CallId, commands: &mut Commands<H>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        for failure in call.ledger.take_again() {
            let item = failure.index;
            let wait = call.retries.wait(call.ledger.failures_of(item), &mut self.jitter);
            let at = now.saturating_add(if planted!(RetriedAtOnce) { Duration::ZERO } else { wait });
            if call.ledger.defer(item, at) {
                self.alarms.insert((at, id, item));
                commands.push(Command::Retried { handle: call.handle.clone(), failure, wait });
            }
        }
    }

    /// Items whose wait is over are given out like any that came back.
    pub(super) fn resume(&mut self, now: Time) {
        while let Some(&(at, id, item)) = self.alarms.first().filter(|(at, ..)| *at <= now) {
            self.alarms.remove(&(at, id, item));
            let Some(call) = self.calls.get_mut(&id) else { continue };
            let has_waited = self.queue.remove(&(call.served, id));
            call.rejoin(has_waited, self.served);
            call.ledger.resume(item);
            if call.ledger.pending() > 0 {
                self.queue.insert((call.served, id));
            }
        }
    }

    /// Asks to be woken when the first of those that wait is to be tried again.
    pub(super) fn set_alarm(&mut self, now: Time, commands: &mut Commands<H>) {
        self.alarm_at = self.alarm_at.filter(|at| *at > now);
        let Some(&(at, ..)) = self.alarms.first().filter(|_| !planted!(AlarmForgotten)) else { return };
        if self.alarm_at.is_none_or(|before| at < before) {
            self.alarm_at = Some(at);
            commands.push(Command::WakeAt(at));
        }
    }

    /// These items of a call are not waited for any more.
    pub(super) fn forget_waits(&mut self, id: CallId, waits: &BTreeMap<usize, Time>) {
        for (&item, &at) in waits {
            self.alarms.remove(&(at, id, item));
        }
    }

    /// Items behind `index`, which has failed, are not wanted any more.
    pub(super) fn stop_at(&mut self, id: CallId, index: usize) {
        let waits = self.calls.get_mut(&id).map(|call: &mut ActiveCall<H>| call.stop_at(index)).unwrap_or_default();
        self.forget_waits(id, &waits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_limit() {
        let mut rng = jitter(7);
        let retries = Retries::times(u32::MAX);
        for (failures, most) in [(1, 50), (2, 100), (3, 200), (7, 3200), (8, 5000), (1000, 5000), (u32::MAX, 5000)] {
            let waits: Vec<_> = (0..200).map(|_| retries.wait(failures, &mut rng)).collect();
            let (most, longest) = (Duration::from_millis(most), *waits.iter().max().unwrap());
            assert!(longest <= most && longest > most / 2, "{failures} failures: {longest:?} of {most:?}");
        }
        let longest = Retries { first: Duration::MAX, most: Duration::MAX, ..retries };
        assert!((0..100).all(|_| longest.wait(1, &mut rng) <= FOR_EVER));
        let at_once = Retries { first: Duration::ZERO, ..retries };
        assert_eq!(at_once.wait(5, &mut rng), Duration::ZERO);
    }
}
