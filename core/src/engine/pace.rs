//! How long the chunks of a call take, and so which of them is slow.

use std::time::Duration;

/// Nothing shorter is ever called slow.
const SLOW: Duration = Duration::from_secs(10);

/// A chunk is slow beyond this many medians.
const MEDIANS: u32 = 5;

/// Times below this are only counted: five medians of it are half of [`SLOW`], so they decide nothing.
const COUNTED: Duration = Duration::from_secs(1);

/// Longest list of times that is kept, so that a call of years does not fill the memory.
const KEPT: usize = 4096;

/// The times of the chunks of one call.
#[derive(Debug, Default)]
pub(super) struct Pace {
    chunks: u64,
    /// How many of them are not in `long`.
    short: u64,
    /// The last of those that took [`COUNTED`] or more.
    long: Vec<Duration>,
}

impl Pace {
    pub(super) fn note(&mut self, took: Duration) {
        self.chunks += 1;
        if took < COUNTED {
            self.short += 1;
        } else if self.long.len() < KEPT {
            self.long.push(took);
        } else {
            self.long[(self.chunks % KEPT as u64) as usize] = took;
        }
    }

    /// Chunks that have ended.
    pub(super) fn chunks(&self) -> u64 {
        self.chunks
    }

    /// The median, where it is a second or more.
    pub(super) fn median(&self) -> Option<Duration> {
        let middle = (self.short + self.long.len() as u64) / 2;
        let at = middle.checked_sub(self.short)? as usize;
        let mut long = self.long.clone();
        (at < long.len()).then(|| *long.select_nth_unstable(at).1)
    }

    /// A chunk that runs longer than this is slow.
    pub(super) fn slow_after(&self) -> Duration {
        self.median().map_or(SLOW, |median| SLOW.max(median * MEDIANS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(seconds: &[f64]) -> Pace {
        let mut pace = Pace::default();
        seconds.iter().for_each(|&took| pace.note(Duration::from_secs_f64(took)));
        pace
    }

    #[test]
    fn slow_is_ten_seconds_or_five_medians() {
        for (seconds, median, slow) in [
            (&[][..], None, 10),
            (&[0.1, 0.2, 30.0], None, 10),
            (&[1.0, 1.0, 1.0], Some(1), 10),
            (&[0.5, 4.0, 100.0], Some(4), 20),
            (&[7.0], Some(7), 35),
        ] {
            let pace = pace(seconds);
            assert_eq!(pace.median(), median.map(Duration::from_secs), "{seconds:?}");
            assert_eq!(pace.slow_after(), Duration::from_secs(slow), "{seconds:?}");
            assert_eq!(pace.chunks(), seconds.len() as u64);
        }
    }

    #[test]
    fn a_call_of_years_keeps_the_last_times_only() {
        let mut pace = pace(&[2.0; KEPT]);
        (0..KEPT).for_each(|_| pace.note(Duration::from_secs(8)));
        assert_eq!((pace.long.len(), pace.median()), (KEPT, Some(Duration::from_secs(8))));
    }
}
