//! What the storm has seen so far: figures, what was struck, who waits, and which law is broken.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use distfun::{FailureCause, ItemFailure};

/// A call that takes longer than this will never return.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct Record {
    state: Mutex<State>,
    is_over: AtomicBool,
}

#[derive(Default)]
struct State {
    faults: BTreeMap<&'static str, u64>,
    /// Calls and their items.
    calls: BTreeMap<&'static str, (u64, u64)>,
    items: u64,
    longest: Duration,
    /// Items by where they ran, as far as they say so.
    places: BTreeMap<String, u64>,
    places_since: BTreeSet<String>,
    /// When a process of a slot was struck, and whether it was only stopped.
    struck: Vec<(Instant, bool)>,
    /// Items that failed since their process was killed each time.
    unlucky: u64,
    running: BTreeMap<usize, (&'static str, Instant)>,
    broken: Option<String>,
}

impl Record {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fault(&self, name: &'static str) {
        *self.state().faults.entry(name).or_default() += 1;
    }

    /// A process of a slot was killed, or stopped, so that it will be.
    pub(crate) fn struck(&self, is_stopped: bool) {
        self.state().struck.push((Instant::now(), is_stopped));
    }

    /// An item ran there.
    pub(crate) fn place(&self, place: String) {
        let mut state = self.state();
        if self.is_over() {
            state.places_since.insert(place.clone());
        }
        *state.places.entry(place).or_default() += 1;
    }

    /// Whether an item says since the storm has ended that it ran on this node.
    pub(crate) fn was_at(&self, node: &str) -> bool {
        self.state().places_since.iter().any(|place| place.contains(node))
    }

    pub(crate) fn begins(&self, caller: usize, what: &'static str) {
        self.state().running.insert(caller, (what, Instant::now()));
    }

    pub(crate) fn ends(&self, caller: usize, outcome: Result<usize, String>) {
        let mut state = self.state();
        let Some((what, since)) = state.running.remove(&caller) else { return };
        state.longest = state.longest.max(since.elapsed());
        match outcome {
            Ok(items) => {
                let figures = state.calls.entry(what).or_default();
                *figures = (figures.0 + 1, figures.1 + items as u64);
                state.items += items as u64;
            }
            Err(why) => {
                drop(state);
                self.broken(format!("a call of {what}, for {:.1?}: {why}", since.elapsed()));
            }
        }
    }

    /// A law is broken, and the storm over.
    pub(crate) fn broken(&self, what: String) {
        self.state().broken.get_or_insert(what);
        self.end();
    }

    pub(crate) fn what_is_broken(&self) -> Option<String> {
        self.state().broken.clone()
    }

    /// Callers call no more.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(crate) fn calls(&self) -> u64 {
        self.state().calls.values().map(|(calls, _)| calls).sum()
    }

    pub(crate) fn is_anyone_waiting(&self) -> bool {
        !self.state().running.is_empty()
    }

    /// The call that has run for too long, if one has.
    pub(crate) fn stuck(&self) -> Option<String> {
        let state = self.state();
        let (caller, (what, since)) = state.running.iter().find(|(_, (_, since))| since.elapsed() > PATIENCE)?;
        Some(format!("a call of {what} (caller {caller}) has not returned for {:.1?}", since.elapsed()))
    }

    /// A kill from outside looks the same as one that the item has caused, and the third one fails it. That is right if it
    /// was hit so often: by a signal of ours each time, since the call began, or by one that has stopped the process before.
    ///
    /// # Errors
    /// It failed of something else.
    pub(crate) fn excuse(&self, failure: &ItemFailure, since: Instant) -> Result<(), String> {
        let FailureCause::Poisoned { deaths, exit: Some(exit) } = &failure.cause else {
            return Err(failure.to_string());
        };
        let mut state = self.state();
        let long_before = since.checked_sub(PATIENCE).unwrap_or(since);
        let counts = |(at, is_stopped): &&(Instant, bool)| *at >= since || *is_stopped && *at >= long_before;
        let ours = state.struck.iter().filter(counts).count();
        // One of its devices may have been lost too, which is not counted.
        let lost = usize::from(cfg!(feature = "cuda"));
        let is_lost = lost == 1 && exit.story.contains("the device is lost");
        if !is_lost && !matches!(exit.signal, Some(9 | 19)) || ours + lost < *deaths as usize {
            return Err(format!("{failure}; {ours} processes were killed or stopped meanwhile"));
        }
        state.unlucky += 1;
        Ok(())
    }

    /// The figures, for people.
    pub(crate) fn summary(&self) -> String {
        let state = self.state();
        let mut text = String::new();
        let calls: u64 = state.calls.values().map(|(calls, _)| calls).sum();
        let faults: u64 = state.faults.values().sum();
        let _ = writeln!(
            text,
            "{calls} calls, {} items, {faults} faults; the longest call took {:.1?}; {} items failed since all their processes were killed",
            state.items, state.longest, state.unlucky
        );
        for (what, times) in &state.faults {
            let _ = writeln!(text, "{times:>12}  {what}");
        }
        for (what, (calls, items)) in &state.calls {
            let _ = writeln!(text, "{calls:>12}  calls of {what}, {items} items");
        }
        for (place, items) in &state.places {
            let place = place.rsplit('/').nth(1).filter(|_| place.contains("node")).unwrap_or("this machine");
            let _ = writeln!(text, "{items:>12}  items that ran on {place}, of those that say so");
        }
        text
    }
}
