//! Whether the peer is alive, and how far away it is.

use std::time::Duration;

use super::SessionLimits;

/// While something waits for credit the peer is asked this often, so that credit which it holds back until it has
/// something to say comes at once.
const ASK_FOR_CREDIT_EVERY: Duration = Duration::from_millis(25);

/// What is known of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Health {
    /// Heard from lately.
    Alive,
    /// Silent for longer than [`suspect_after`](SessionLimits::suspect_after): give it nothing new.
    Suspect,
    /// Silent for longer than [`dead_after`](SessionLimits::dead_after): the session is over.
    Dead,
}

#[derive(Debug)]
pub(super) struct Heartbeat {
    limits: SessionLimits,
    heard: Duration,
    asked: Duration,
    round_trip: Option<Duration>,
}

impl Heartbeat {
    pub(super) fn new(limits: SessionLimits, now: Duration) -> Self {
        Self { limits, heard: now, asked: now, round_trip: None }
    }

    /// Any byte from the peer is a sign of life.
    pub(super) fn heard(&mut self, now: Duration) {
        self.heard = self.heard.max(now);
    }

    /// Takes the answer to a question that was asked at `sent_us`.
    pub(super) fn answered(&mut self, sent_us: u64, now: Duration) {
        // A peer may answer nonsense; then it is not known how far away it is, that is all.
        let Some(sample) = now.checked_sub(Duration::from_micros(sent_us)) else { return };
        // Smoothed as TCP does it (RFC 6298, section 2).
        self.round_trip = Some(self.round_trip.map_or(sample, |known| (known * 7 + sample) / 8));
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    pub(super) fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.heard)
    }

    pub(super) fn health(&self, now: Duration) -> Health {
        let silence = self.silence(now);
        if silence >= self.limits.dead_after {
            Health::Dead
        } else if silence >= self.limits.suspect_after {
            Health::Suspect
        } else {
            Health::Alive
        }
    }

    /// Whether it is time to ask; it is then taken as asked.
    pub(super) fn asks(&mut self, now: Duration, waits_for_credit: bool) -> bool {
        let is_time = now >= self.asked + self.interval(waits_for_credit);
        if is_time {
            self.asked = now;
        }
        is_time
    }

    /// When something changes by itself next.
    pub(super) fn next(&self, now: Duration, waits_for_credit: bool) -> Duration {
        let ask = self.asked + self.interval(waits_for_credit);
        let [suspect, dead] = [self.limits.suspect_after, self.limits.dead_after].map(|after| self.heard + after);
        let silence = if suspect > now { suspect } else { dead };
        ask.min(silence).max(now)
    }

    fn interval(&self, waits_for_credit: bool) -> Duration {
        if waits_for_credit { ASK_FOR_CREDIT_EVERY.min(self.limits.heartbeat) } else { self.limits.heartbeat }
    }
}
