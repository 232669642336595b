//! A made-up log, for those who have none yet, and for tests: the same one each time.

mod program;
mod story;

use std::collections::VecDeque;

use distfun_core::view::{Line, Time, View};
use serde_json::{Map, Value, json};

use crate::{logs::Reached, status::Moment};

/// When it begins: 2026-01-01T12:00:00Z.
pub(crate) const BEGIN: Time = Time(1_767_268_800_000_000);

/// A story takes so long, then another one begins.
const ROUND_S: f64 = 66.0;

/// Tells story after story.
#[derive(Default)]
pub(crate) struct Demo {
    lines: VecDeque<(Time, String)>,
    rounds: u64,
}

impl Demo {
    /// Hands the lines up to `until` to `view`; without it those of the present story.
    pub(crate) fn advance(&mut self, view: &mut View, until: Option<Time>) -> Reached {
        loop {
            let Some((time, _)) = self.lines.front() else {
                if until.is_none() && self.rounds > 0 {
                    return Reached::End;
                }
                self.lines = lines(self.rounds).into();
                self.rounds += 1;
                continue;
            };
            if until.is_some_and(|until| *time > until) {
                return Reached::Time;
            }
            let (_, text) = self.lines.pop_front().expect("it was looked at");
            match serde_json::from_str::<Line<'_>>(&text) {
                Ok(line) => view.apply(&line),
                Err(_) => view.note_unreadable(),
            }
        }
    }

    pub(crate) fn seek(&mut self, moment: Moment, view: &mut View) -> Reached {
        let until = match moment {
            Moment::At(time) => time,
            Moment::After(seconds) => BEGIN.after(seconds),
        };
        // Nobody waits for weeks of stories.
        self.advance(view, Some(until.min(BEGIN.after(3600.0))))
    }
}

/// The lines of the n-th story.
pub(crate) fn lines(round: u64) -> Vec<(Time, String)> {
    let mut log = Log::new(round);
    story::tell(&mut log);
    log.finish()
}

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Bootstrap,
    Forecast,
    NodeA,
    NodeB,
}

impl Who {
    const ALL: [Self; 4] = [Self::Bootstrap, Self::Forecast, Self::NodeA, Self::NodeB];

    /// Role, program, machine, process.
    fn about(self) -> (&'static str, &'static str, &'static str, u64) {
        match self {
            Self::Bootstrap => ("manager", "bootstrap", "alpha", 4711),
            Self::Forecast => ("manager", "forecast", "alpha", 4815),
            Self::NodeA => ("node", "distfun", "beta", 310),
            Self::NodeB => ("node", "distfun", "gamma", 298),
        }
    }
}

struct Said {
    at: f64,
    who: Who,
    fields: Map<String, Value>,
    /// Lines that were lost before it.
    lost: u64,
}

/// What was said so far.
struct Log {
    round: u64,
    said: Vec<Said>,
    random: u64,
}

impl Log {
    fn new(round: u64) -> Self {
        Self { round, said: Vec::new(), random: round.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 2718 }
    }

    /// An event of distfun.
    fn say(&mut self, at: f64, who: Who, level: &str, event: &str, message: String, fields: Value) {
        let mut line = Map::new();
        line.insert("level".into(), level.into());
        line.insert("target".into(), "distfun::event".into());
        line.insert("message".into(), message.into());
        line.insert("otel.event.name".into(), format!("distfun.{event}").into());
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        self.said.push(Said { at, who, fields: line, lost: 0 });
    }

    /// A line of the program itself.
    fn remark(&mut self, at: f64, who: Who, level: &str, message: &str) {
        let fields = json!({ "level": level, "target": who.about().1, "message": message });
        let Value::Object(fields) = fields else { return };
        self.said.push(Said { at, who, fields, lost: 0 });
    }

    /// Before the last line, so many were lost.
    fn lose(&mut self, count: u64) {
        if let Some(said) = self.said.last_mut() {
            said.lost = count;
        }
    }

    /// From `low` to `high`, by the seed (SplitMix64, Steele and others, 2014).
    fn random(&mut self, low: f64, high: f64) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        low + (high - low) * ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn finish(mut self) -> Vec<(Time, String)> {
        self.said.sort_by(|a, b| a.at.total_cmp(&b.at));
        let mut numbers = [0; Who::ALL.len()];
        let begin = BEGIN.after(self.round as f64 * ROUND_S);
        let mut line = |said: Said| {
            let (role, service, host, pid) = said.who.about();
            let number = &mut numbers[said.who as usize];
            *number += said.lost;
            let time = begin.after(said.at);
            let boot_id = format!("{:08x}-0000-4000-8000-{:012x}", said.who as u64 + 1, self.round);
            let Value::Object(mut fields) = json!({
                "timestamp": time.to_string(),
                "distfun.schema": "1.1",
                "distfun.boot_id": boot_id,
                "distfun.role": role,
                "service.name": service,
                "host.name": host,
                "process.pid": pid + self.round,
                "distfun.seq": *number,
            }) else {
                unreachable!("an object was written")
            };
            *number += 1;
            fields.extend(said.fields);
            (time, Value::Object(fields).to_string())
        };
        self.said.into_iter().map(&mut line).collect()
    }
}

#[cfg(test)]
mod tests {
    use distfun_core::view::{JobState, Limits};

    use super::*;

    #[test]
    fn the_story_is_the_same_each_time_and_every_line_is_read() {
        assert_eq!(lines(0), lines(0));
        let mut view = View::new(Limits::default());
        Demo::default().seek(Moment::After(ROUND_S - 0.001), &mut view);
        let losses = view.losses();
        assert_eq!((losses.unreadable, losses.duplicates, losses.missing), (0, 0, 0), "{losses:?}");
        assert!(losses.dropped > 0);
        assert!(view.processes().all(|process| process.is_over()));
        let ends: Vec<_> = view.jobs().map(|(_, job)| job.state).collect();
        assert!(ends.iter().all(|state| *state != JobState::Running), "{ends:?}");
        assert!(ends.contains(&JobState::Failure) && ends.contains(&JobState::Success), "{ends:?}");
    }

    #[test]
    fn another_story_follows() {
        let mut view = View::new(Limits::default());
        Demo::default().seek(Moment::After(2.5 * ROUND_S), &mut view);
        assert_eq!(view.processes().count(), 3 * Who::ALL.len());
    }
}
