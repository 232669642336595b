//! How long a thread stays awake that waits for another one.

use std::{
    cell::Cell,
    thread,
    time::{Duration, Instant},
};

/// Waiting this long without sleeping saves the wake-up (5 to 50 us) when the answer is near; longer would burn a CPU.
const SPIN: Duration = Duration::from_micros(20);

/// The same for what comes from another machine, if the last time it came as soon. Such a wait leaves its CPU to whoever
/// can use it.
const PATIENCE: Duration = Duration::from_micros(500);

thread_local! {
    /// How long this thread's last wait for another machine took.
    static LAST: Cell<Duration> = const { Cell::new(Duration::MAX) };
}

/// Looks for at most [`SPIN`] whether `ready`.
pub(crate) fn spin_until(ready: impl Fn() -> bool) -> bool {
    if ready() {
        return true;
    }
    let start = Instant::now();
    while start.elapsed() < SPIN {
        for _ in 0..8 {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
    }
    false
}

/// Waits by `sleep` for what comes from another machine; before that awake, if it is known to come soon.
pub(crate) fn from_afar<R>(ready: impl Fn() -> bool, sleep: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    if LAST.get() < PATIENCE {
        while !ready() && start.elapsed() < PATIENCE {
            thread::yield_now();
        }
    }
    let woken = sleep();
    LAST.set(start.elapsed());
    woken
}
