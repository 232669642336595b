//! How one item fails, and how a whole call ends.

use std::{error::Error, fmt, ops::Range, sync::Arc, time::Duration};

use crate::ids::WorkerId;

/// One item (a list element or a column) that has no result, and why.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ItemFailure {
    /// Position in the input, from 0: the list index or the column.
    pub index: usize,
    /// The worker that ran it last; none when it never ran, or ran in the calling thread.
    pub worker: Option<WorkerId>,
    /// The machine of that worker, as `machines` names it; none if it is this one.
    pub machine: Option<Arc<str>>,
    /// How often it was tried, from 1; 0 when it never ran.
    pub attempt: u32,
    /// What went wrong.
    pub cause: FailureCause,
}

impl ItemFailure {
    /// An item that failed at its `attempt`-th try, on `worker` unless the caller ran it itself.
    pub fn new(index: usize, worker: impl Into<Option<WorkerId>>, attempt: u32, cause: FailureCause) -> Self {
        Self { index, worker: worker.into(), machine: None, attempt, cause }
    }

    /// The same, on another machine.
    pub fn on(mut self, machine: Arc<str>) -> Self {
        self.machine = Some(machine);
        self
    }

    /// An item that had no outcome when its call ended.
    pub fn not_run(index: usize, ending: Ending) -> Self {
        Self { index, worker: None, machine: None, attempt: 0, cause: FailureCause::NotRun(ending) }
    }
}

impl fmt::Display for ItemFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "item {}", self.index)?;
        match (self.worker, &self.machine) {
            (Some(worker), None) => write!(f, " on worker {worker}")?,
            (Some(worker), Some(machine)) => write!(f, " on worker {worker} of {machine}")?,
            (None, Some(machine)) => write!(f, " on {machine}")?,
            (None, None) => {}
        }
        match self.attempt {
            1 if self.worker.is_some() || self.machine.is_some() => write!(f, ", attempt 1")?,
            0 | 1 => {}
            attempts => write!(f, ", after {attempts} attempts")?,
        }
        write!(f, ": {}", self.cause)
    }
}

impl Error for ItemFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            FailureCause::Returned(error) => error.source(),
            _ => None,
        }
    }
}

/// Why an item has no result.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum FailureCause {
    /// The function panicked. Other items are not affected and the worker goes on.
    Panicked {
        /// The text given to `panic!`, or a note that the payload was no text.
        message: Arc<str>,
        /// Source file, line and column, where the panic hook saw them.
        place: Option<Arc<str>>,
    },
    /// The function returned `Err` under `try_map`; downcast it to get the typed error back.
    Returned(Arc<dyn Error + Send + Sync>),
    /// A function over a block of items returned another number of results. All items of the block fail.
    WrongLength {
        /// The items the function was given.
        block: Range<usize>,
        /// How many results (columns of the result) it returned.
        got: usize,
    },
    /// A column function returned a matrix with another number of rows than for the first block that finished.
    WrongRows {
        /// The columns the function was given.
        block: Range<usize>,
        /// Rows of the result for the first block that finished.
        expected: usize,
        /// Rows of this block's result.
        got: usize,
    },
    /// The worker died while it ran this item, which went with it: it can't be tried again. Every other item is redone.
    WorkerDied {
        /// How its process ended; none where it was a thread.
        exit: Option<WorkerExit>,
    },
    /// The item was running each time when one worker after another died; it is not tried again. Every other item is
    /// redone.
    Poisoned {
        /// How many workers died at it.
        deaths: u32,
        /// How the last one's process ended; none where it was a thread.
        exit: Option<WorkerExit>,
    },
    /// The item ran longer than `item_timeout` allows; its worker was killed and replaced.
    TimedOut {
        /// What was allowed.
        limit: Duration,
    },
    /// The item could not be sent to another machine, or its result not come back.
    Payload {
        /// What is wrong, and what to do.
        message: Arc<str>,
    },
    /// The call ended before the item had an outcome.
    NotRun(Ending),
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked { message, place: Some(place) } => write!(f, "panicked at {place}: {message}"),
            Self::Panicked { message, place: None } => write!(f, "panicked: {message}"),
            Self::Returned(error) => write!(f, "returned an error: {error}"),
            Self::WrongLength { block, got } => write!(
                f,
                "the function was given the {} items {}..{} and returned {got} results; it must return one for each",
                block.len(),
                block.start,
                block.end
            ),
            Self::WrongRows { block, expected, got } => write!(
                f,
                "the function returned {got} rows for columns {}..{} but {expected} rows for an earlier block; \
                 the number of rows must not depend on the block",
                block.start, block.end
            ),
            Self::WorkerDied { exit: None } => {
                write!(f, "its compute thread died while running it, and the item is gone; other items were redone")
            }
            Self::WorkerDied { exit: Some(exit) } => {
                write!(f, "its worker died while running it, and the item is gone: {exit}")
            }
            Self::Poisoned { deaths, exit: None } => {
                write!(f, "{deaths} compute threads died while running it; other items were redone")
            }
            Self::Poisoned { deaths, exit: Some(exit) } => {
                write!(f, "{deaths} workers died while running it; the last {exit}")
            }
            Self::TimedOut { limit } => {
                write!(f, "it ran longer than {limit:?} and was stopped; allow more with item_timeout")
            }
            Self::Payload { message } => f.write_str(message),
            Self::NotRun(ending) => write!(f, "not run: {ending}"),
        }
    }
}

impl FailureCause {
    /// The same without what a dead worker had written, which may be anything.
    pub fn without_output(&self) -> Self {
        let silent =
            |exit: &Option<WorkerExit>| exit.as_ref().map(|exit| WorkerExit { stderr: Arc::default(), ..exit.clone() });
        match self {
            Self::WorkerDied { exit } => Self::WorkerDied { exit: silent(exit) },
            Self::Poisoned { deaths, exit } => Self::Poisoned { deaths: *deaths, exit: silent(exit) },
            other => other.clone(),
        }
    }

    /// What kind of error it is, as in the field `error.type` of events.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Panicked { .. } => "panic",
            Self::Returned(_) => "error",
            Self::WrongLength { .. } => "wrong_length",
            Self::WrongRows { .. } => "wrong_rows",
            Self::WorkerDied { .. } => "worker_lost",
            Self::Poisoned { .. } => "poisoned",
            Self::TimedOut { .. } => "item_timeout",
            Self::Payload { .. } => "payload",
            Self::NotRun(ending) => ending.error_type().unwrap_or("other"),
        }
    }
}

/// How a worker ended that was not asked to: its process, or with the GPU that it lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerExit {
    /// The signal that killed it: 9 is SIGKILL, 11 SIGSEGV, 6 SIGABRT.
    pub signal: Option<i32>,
    /// What happened, in words: `was killed by SIGSEGV (signal 11)`.
    pub story: Arc<str>,
    /// The last that it wrote to its standard error, a few kilobytes at most.
    pub stderr: Arc<str>,
}

impl WorkerExit {
    /// By this signal, if it was one.
    pub fn new(signal: Option<i32>, story: impl Into<Arc<str>>, stderr: impl Into<Arc<str>>) -> Self {
        Self { signal, story: story.into(), stderr: stderr.into() }
    }
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.story)?;
        match self.stderr.trim_end() {
            "" => Ok(()),
            stderr => write!(f, "; its last words: {stderr}"),
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ending {
    /// Every item has a result.
    Complete,
    /// Every item ran and at least one failed.
    ItemsFailed,
    /// Under `try_map`: the item with this index is the first that failed, in input order.
    FirstFailure(usize),
    /// Cancelled by a canceller, a `Cancel` message, or because the handle was dropped.
    Cancelled,
    /// `wait_timeout` ran out of time.
    TimedOut,
    /// Ctrl-C, under `catch_interrupt`.
    Interrupted,
    /// `finished` was called, before or during the call.
    Finished,
    /// `shutdown` was called, before or during the call.
    ShutDown,
    /// The distributed function ended after its first call, as `endaftercall` says.
    EndedAfterCall,
    /// More than `max_calls` calls were active at once; this one did not start.
    Busy {
        /// The limit in force.
        max_calls: usize,
    },
    /// Every slot gave up: its compute threads could not be started or died again and again.
    NoWorkers,
    /// The policy is [`GpuOrFail`](crate::options::GpuPolicy::GpuOrFail), and some machine has no GPU that can be used.
    NoGpu,
    /// `wait` was called on the Manager's own thread, which must never block. The call was cancelled.
    WaitOnManager,
    /// A file that is mapped as shared data has changed since; the call did not start.
    SharedDataChanged,
}

impl Ending {
    /// What kind of error it is, as in the field `error.type` of events; none where that is success, or the caller's
    /// wish, or its items' to tell.
    pub fn error_type(self) -> Option<&'static str> {
        match self {
            Self::Complete | Self::ItemsFailed | Self::FirstFailure(_) | Self::Cancelled | Self::Interrupted => None,
            Self::TimedOut => Some("timeout"),
            Self::Finished => Some("finished"),
            Self::ShutDown => Some("shutdown"),
            Self::EndedAfterCall => Some("ended_after_call"),
            Self::Busy { .. } => Some("busy"),
            Self::NoWorkers => Some("no_workers"),
            Self::NoGpu => Some("no_gpu"),
            Self::WaitOnManager => Some("wait_on_manager"),
            Self::SharedDataChanged => Some("shared_data_changed"),
        }
    }

    /// The same in one of four words, as in the field `distfun.outcome` of events.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Complete => "success",
            Self::TimedOut => "timeout",
            Self::Cancelled | Self::Interrupted | Self::Finished | Self::ShutDown => "cancelled",
            Self::ItemsFailed
            | Self::FirstFailure(_)
            | Self::EndedAfterCall
            | Self::Busy { .. }
            | Self::NoWorkers
            | Self::NoGpu
            | Self::WaitOnManager
            | Self::SharedDataChanged => "failure",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => write!(f, "every item has a result"),
            Self::ItemsFailed => write!(f, "some items failed"),
            Self::FirstFailure(index) => write!(f, "item {index} failed, the first in input order"),
            Self::Cancelled => write!(f, "the call was cancelled; call again to run it anew"),
            Self::Interrupted => write!(f, "the call was interrupted (Ctrl-C)"),
            Self::TimedOut => {
                write!(f, "the call ran out of time; allow more with wait_timeout, or wait without a limit")
            }
            Self::Finished => write!(f, "finished() has ended this distributed function; build it again to go on"),
            Self::ShutDown => write!(f, "shutdown() has ended this distributed function; build it again to go on"),
            Self::EndedAfterCall => write!(
                f,
                "this distributed function ended after its first call; build it with .endaftercall(false) to call it again"
            ),
            Self::Busy { max_calls } => {
                write!(f, "{max_calls} calls are active already; wait for one to end, or raise .max_calls({max_calls})")
            }
            Self::NoWorkers => write!(
                f,
                "no worker is left: every compute thread failed to start or died again and again; see the log, then build anew"
            ),
            Self::NoGpu => write!(
                f,
                "not every machine has a GPU, which the policy gpu_or_fail demands; take another gpu_policy, or leave those machines out"
            ),
            Self::SharedDataChanged => write!(
                f,
                "a file that is mapped as shared data has changed since; check_unchanged() of the data says which, build it anew"
            ),
            Self::WaitOnManager => write!(
                f,
                "wait() was called on the Manager's own thread, which must not block; await the call there, or wait on another thread"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_item_worker_attempt_and_cause() {
        let cause = FailureCause::Panicked { message: "odd".into(), place: Some("src/main.rs:3:5".into()) };
        let failure = ItemFailure::new(17, WorkerId(1), 2, cause);
        assert_eq!(failure.to_string(), "item 17 on worker 1, after 2 attempts: panicked at src/main.rs:3:5: odd");
        let first = ItemFailure { attempt: 1, ..failure.clone() };
        assert_eq!(first.to_string(), "item 17 on worker 1, attempt 1: panicked at src/main.rs:3:5: odd");
        let here = ItemFailure { worker: None, attempt: 4, ..failure };
        assert_eq!(here.to_string(), "item 17, after 4 attempts: panicked at src/main.rs:3:5: odd");
    }

    #[test]
    fn failures_cross_threads() {
        fn holds<T: Send + Sync + 'static>() {}
        holds::<ItemFailure>();
        holds::<Ending>();
    }
}
