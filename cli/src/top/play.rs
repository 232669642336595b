//! Takes a view along its logs: as they are written, or again as fast as one likes.

use std::time::{Duration, Instant};

use distfun_core::view::{Time, View};

use super::{
    demo::Demo,
    seen::{Going, Seen},
};
use crate::{
    logs::{Logs, Reached},
    status::{Moment, Seek},
};

/// Where lines come from.
pub(crate) enum Feed {
    Logs(Logs),
    Demo(Demo),
}

impl Feed {
    fn advance(&mut self, view: &mut View, until: Option<Time>, budget: Duration) -> Result<Reached, String> {
        match self {
            Self::Logs(logs) => logs.advance(view, until, budget),
            Self::Demo(demo) => Ok(demo.advance(view, until)),
        }
    }

    /// The share that is read.
    fn share(&self) -> Option<f64> {
        match self {
            Self::Logs(logs) => match logs.bytes() {
                (_, 0) => None,
                (read, all) => Some(read as f64 / all as f64),
            },
            Self::Demo(_) => None,
        }
    }
}

enum Pace {
    /// To where it begins.
    Seek(Seek),
    /// By the user's clock, times the speed.
    Replay,
    /// Stopped in the midst of a replay.
    Still,
    /// As the lines come.
    Live,
}

pub(crate) struct Player {
    feed: Feed,
    view: View,
    pace: Pace,
    speed: f64,
    /// What time it is for those who write, if the logs were followed from the beginning on. A replay that has caught up
    /// with them keeps to the time that it has come to.
    wall_clock: Option<fn() -> Time>,
    /// The time that a replay has come to, and when that was.
    played: (Time, Instant),
    /// The time of the last line, and when that was read.
    heard: (Time, Instant),
    /// What was shown last: time does not go back.
    shown: Time,
    /// What the user looks at while the logs are read on.
    frozen: Option<Box<(View, Time)>>,
    is_reading: bool,
    /// Nothing more will come: a pipe was closed.
    has_ended: bool,
    rate: Rate,
}

impl Player {
    /// From `begin` on and standing still there; else from the beginning at `speed`, or live, by `wall_clock`.
    pub(crate) fn new(
        feed: Feed,
        view: View,
        begin: Option<Moment>,
        speed: Option<f64>,
        wall_clock: fn() -> Time,
        at: Instant,
    ) -> Self {
        let pace = match (begin, speed) {
            (Some(begin), _) => Pace::Seek(Seek::to(begin)),
            (None, Some(_)) => Pace::Seek(Seek::to(Moment::After(0.0))),
            (None, None) => Pace::Live,
        };
        Self {
            feed,
            view,
            wall_clock: matches!(pace, Pace::Live).then_some(wall_clock),
            pace,
            speed: speed.unwrap_or(1.0),
            played: (Time::default(), at),
            heard: (Time::default(), at),
            shown: Time::default(),
            frozen: None,
            is_reading: false,
            has_ended: false,
            rate: Rate { since: at, lines: 0, per_s: 0.0 },
        }
    }

    /// Reads on for about as long as `budget`; says whether there is more to read at once.
    ///
    /// # Errors
    /// In words, if a log can't be read any more.
    pub(crate) fn advance(&mut self, at: Instant, budget: Duration, starts: bool) -> Result<bool, String> {
        let lines = self.view.losses().lines;
        let reached = match &mut self.pace {
            Pace::Still => Reached::Time,
            Pace::Live => self.feed.advance(&mut self.view, None, budget)?,
            Pace::Seek(seek) => {
                let reached = match &mut self.feed {
                    Feed::Logs(logs) => seek.step(logs, &mut self.view, budget)?,
                    Feed::Demo(demo) => demo.seek(seek.moment, &mut self.view),
                };
                if matches!(reached, Reached::Time | Reached::End) {
                    self.played = (self.view.now(), at);
                    self.pace = if starts { Pace::Replay } else { Pace::Still };
                }
                reached
            }
            Pace::Replay => {
                let (time, since) = self.played;
                let until = time.after(at.saturating_duration_since(since).as_secs_f64() * self.speed);
                let reached = self.feed.advance(&mut self.view, Some(until), budget)?;
                let is_caught_up = matches!(reached, Reached::Time | Reached::End | Reached::Now);
                // What can't be read that fast is played slower.
                self.played = (if is_caught_up { until } else { self.view.now().max(time) }, at);
                if reached == Reached::Now {
                    self.pace = Pace::Live;
                }
                reached
            }
        };
        if self.view.losses().lines != lines || reached == Reached::More {
            self.heard = (self.view.now(), at);
        }
        self.is_reading = reached == Reached::More && !matches!(self.pace, Pace::Replay);
        self.has_ended = reached == Reached::End && matches!(self.pace, Pace::Live);
        self.rate.note(self.view.losses().lines, at);
        self.shown = self.time(at).max(self.shown);
        Ok(reached == Reached::More)
    }

    fn time(&self, at: Instant) -> Time {
        let now = self.view.now();
        match self.pace {
            Pace::Seek(_) | Pace::Still => now,
            Pace::Replay => now.max(self.played.0),
            // Of what is still read nobody knows whether it is over, and a time that was shown does not go back.
            Pace::Live if self.is_over() || self.is_reading || self.has_ended => now,
            Pace::Live => now.max(match self.wall_clock {
                Some(wall_clock) => wall_clock(),
                None => self.heard.0.after(at.saturating_duration_since(self.heard.1).as_secs_f64()),
            }),
        }
    }

    /// Whether every program has said that it ends.
    fn is_over(&self) -> bool {
        self.view.losses().lines > 0 && self.view.processes().all(|process| process.is_over())
    }

    /// Stops, or goes on.
    pub(crate) fn freeze(&mut self, at: Instant) {
        match self.pace {
            Pace::Live if self.frozen.is_none() => {
                self.frozen = Some(Box::new((self.view.clone(), self.shown)));
            }
            Pace::Live => self.frozen = None,
            Pace::Replay => self.pace = Pace::Still,
            Pace::Still => {
                self.played = (self.shown.max(self.view.now()), at);
                self.pace = Pace::Replay;
            }
            // It may never be written.
            Pace::Seek(_) => self.pace = Pace::Live,
        }
    }

    pub(crate) fn change_speed(&mut self, up: bool) {
        let speed = if up { self.speed * 2.0 } else { self.speed / 2.0 };
        self.speed = speed.clamp(1.0 / 64.0, 65_536.0);
    }

    pub(crate) fn seen(&self) -> Seen<'_> {
        let (view, now) = match &self.frozen {
            Some(frozen) => (&frozen.0, frozen.1),
            None => (&self.view, self.shown),
        };
        let going = match self.pace {
            _ if self.frozen.is_some() => Going::Frozen { is_live: true },
            Pace::Still => Going::Frozen { is_live: false },
            Pace::Seek(_) => Going::Seeking,
            Pace::Replay => Going::Replay(self.speed),
            Pace::Live if self.is_over() => Going::Over,
            Pace::Live if self.has_ended => Going::End,
            Pace::Live => Going::Live,
        };
        Seen {
            view,
            now,
            going,
            reading: if self.is_reading { self.feed.share() } else { None },
            lines_per_s: self.rate.per_s,
            is_demo: matches!(self.feed, Feed::Demo(_)),
        }
    }

    /// What changes when something is to be drawn anew, but for the time.
    pub(crate) fn lines(&self) -> u64 {
        let losses = self.view.losses();
        if self.frozen.is_some() { 0 } else { losses.lines + losses.unreadable }
    }
}

struct Rate {
    since: Instant,
    lines: u64,
    per_s: f64,
}

impl Rate {
    fn note(&mut self, lines: u64, at: Instant) {
        let took = at.saturating_duration_since(self.since).as_secs_f64();
        if took >= 1.0 {
            self.per_s = (lines - self.lines) as f64 / took;
            (self.since, self.lines) = (at, lines);
        }
    }
}
