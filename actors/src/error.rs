//! One error per operation, and [`Error`], into which all of them convert.

use std::{error, fmt, io, ops::Deref};

use actix::MailboxError;
use distfun_core::{
    failure::{Ending, ItemFailure},
    ids::WorkerId,
    options::SettingsError,
    shared_data::SharedDataError,
};

use crate::call::Output;

/// Any error of distfun, for a `main` or a service that passes them on with `?`.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A distributed function could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A Manager could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A setting can't hold, as `settings()` of a builder says.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A log could not be started.
    #[cfg(feature = "log")]
    #[error(transparent)]
    Log(#[from] crate::log::LogError),
    /// Shared data could not be built or read.
    #[error(transparent)]
    SharedData(#[from] SharedDataError),
    /// A call did not end with all results. What it did finish stayed with the [`CallError`] this was made from.
    #[error(transparent)]
    Call(#[from] Box<CallFailure>),
    /// An item of a stream has no result.
    #[error(transparent)]
    Item(#[from] ItemFailure),
    /// A node could not be started.
    #[error(transparent)]
    Node(#[from] crate::node::NodeError),
    /// A machine could not be added or removed.
    #[error(transparent)]
    Machine(#[from] crate::messages::MachineError),
    /// Ending took too long.
    #[error(transparent)]
    End(#[from] EndError),
    /// The Manager is gone.
    #[error("the Manager did not answer; has its last handle been dropped?")]
    Mailbox(#[from] MailboxError),
}

/// A distributed function could not be built. Nothing has been started.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting, from the builder, the environment or the settings file, can't hold.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The function takes `&SharedData`, and none was given.
    #[error(
        "{function} takes &SharedData; give it some with .shared_data(…), or SharedData::default() if it comes with with_shared"
    )]
    NeedsSharedData {
        /// Name of the function.
        function: &'static str,
    },
    /// Items that failed shall be run again, and the function takes them along.
    #[error(
        "{function} takes its items by value, and they can't be cloned, so one that failed can't be run again; take them by reference, derive Clone for them, or (after distribute_local) add .clone_items()"
    )]
    CannotRetry {
        /// Name of the function.
        function: &'static str,
    },
    /// The form for GPUs takes single items, and was given behind `accept_lists`.
    #[error(
        "the form of {function} for GPUs takes single items, and stands behind .accept_lists(); write .gpu(…) before it, with a form of lists"
    )]
    LateForm {
        /// Name of the function.
        function: &'static str,
    },
    /// The form for GPUs was given as a plain function, which other processes can't find.
    #[error(
        "the form of {function} for GPUs can't be found in other processes; write .gpu(function!({form})), or leave out \
         machines and process isolation"
    )]
    UnregisteredForm {
        /// Name of the function.
        function: &'static str,
        /// Name of its form for GPUs.
        form: &'static str,
    },
    /// Processes can't be started of this program, or on this system.
    #[error(transparent)]
    NoProcesses(#[from] NoProcesses),
}

/// This program can't be started for slots, as [`Isolation::Process`](crate::Isolation) and `machines` do: nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoProcesses {
    /// The program would start itself without end, since nothing takes over in it.
    #[error(
        "{wants} needs distfun::init() as the first line of main, which lets this program also be a worker; in a test binary distfun::host_tests!() does"
    )]
    NotInitialised {
        /// The option that needs it.
        wants: &'static str,
    },
    /// Only Linux so far.
    #[error("functions run in processes of their own on Linux only; leave isolation at Isolation::Thread")]
    NotHere,
}

/// A Manager could not be started. Nothing is left running.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting, from the builder, the environment or the settings file, can't hold.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Processes can't be started of this program, or on this system.
    #[error(transparent)]
    NoProcesses(#[from] NoProcesses),
    /// The operating system gave no thread; raise its limit on threads or memory, or end other programs.
    #[error("the Manager's thread could not be started")]
    Thread(#[source] io::Error),
    /// The thread was there but its runtime failed (out of file descriptors, for example); the log has the text.
    #[error("the Manager failed while starting; see the log")]
    Failed,
}

/// `finished` or `shutdown` did not end everything within two seconds.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndError {
    /// These workers are inside an item that does not return. They are abandoned: each ends when its item does, and
    /// takes no more work. Everything else is freed.
    #[error("worker(s) {} are still inside an item and are abandoned; they end when it returns", list(.workers))]
    StillRunning {
        /// The workers.
        workers: Vec<WorkerId>,
    },
}

fn list(workers: &[WorkerId]) -> String {
    workers.iter().map(WorkerId::to_string).collect::<Vec<_>>().join(", ")
}

/// A call that did not end with all results: how it ended, which items failed, and the results that are there.
///
/// It derefs to [`CallFailure`], the part without the results.
pub struct CallError<O: Output> {
    failure: Box<CallFailure>,
    finished: O::Finished,
}

/// A [`CallError`] without the results, and so without their type.
#[derive(Clone)]
#[non_exhaustive]
pub struct CallFailure {
    /// Name of the function.
    pub function: &'static str,
    /// How the call ended; its text says what to do next.
    pub ending: Ending,
    /// What else there is to say about that: why each of the machines did not compute.
    pub reason: Option<String>,
    /// Number of items in the call.
    pub items: usize,
    /// Number of items with a result.
    pub finished_count: usize,
    /// The items that failed, in input order.
    pub failed: Vec<ItemFailure>,
}

impl<O: Output> CallError<O> {
    pub(crate) fn new(failure: CallFailure, finished: O::Finished) -> Self {
        Self { failure: Box::new(failure), finished }
    }

    /// How the call ended; its text says what to do next.
    pub fn ending(&self) -> Ending {
        self.failure.ending
    }

    /// The items that failed, in input order.
    pub fn failed(&self) -> &[ItemFailure] {
        &self.failure.failed
    }

    /// The results that are there, with their positions in the input.
    pub fn finished(&self) -> &O::Finished {
        &self.finished
    }

    /// The same by value.
    pub fn into_finished(self) -> O::Finished {
        self.finished
    }

    /// Everything but the results.
    pub fn into_failure(self) -> Box<CallFailure> {
        self.failure
    }
}

impl<O: Output> Deref for CallError<O> {
    type Target = CallFailure;
    fn deref(&self) -> &CallFailure {
        &self.failure
    }
}

impl<O: Output> fmt::Debug for CallError<O> {
    /// As [`CallFailure`]: without the results, since a user's data stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.failure, f)
    }
}

impl<O: Output> fmt::Display for CallError<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.failure, f)
    }
}

impl<O: Output> error::Error for CallError<O> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.failure.source()
    }
}

impl<O: Output> From<CallError<O>> for Error {
    fn from(error: CallError<O>) -> Self {
        Self::Call(error.failure)
    }
}

impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.function)?;
        match (self.ending, self.failed.as_slice()) {
            (Ending::ItemsFailed, [first, ..]) => {
                write!(f, "{} of {} items failed; first {first}", self.failed.len(), self.items)
            }
            (Ending::FirstFailure(_), [.., last]) => write!(f, "{last}"),
            (ending, _) => {
                match (ending, &self.reason) {
                    // Machines were to compute, and each says why it does not.
                    (Ending::NoWorkers, Some(reason)) => write!(f, "no worker is left: {reason}")?,
                    (Ending::NoGpu, Some(reason)) => write!(f, "no GPU for every machine: {reason}")?,
                    (_, Some(reason)) => write!(f, "{ending}: {reason}")?,
                    (_, None) => write!(f, "{ending}")?,
                }
                if self.finished_count > 0 {
                    write!(f, " ({} of {} items have results)", self.finished_count, self.items)?;
                }
                Ok(())
            }
        }
    }
}

/// Failures that `Debug` prints before it only counts them.
const SHOWN: usize = 5;

impl fmt::Debug for CallFailure {
    /// What `main` prints of an error that it returns: the message for people, and the first few failures.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        if self.failed.len() > 1 {
            for failure in self.failed.iter().take(SHOWN) {
                write!(f, "\n  {failure}")?;
            }
            if self.failed.len() > SHOWN {
                write!(f, "\n  and {} more", self.failed.len() - SHOWN)?;
            }
        }
        Ok(())
    }
}

/// What `main` prints of an error that it returns should be the message for people, not the names of variants.
macro_rules! debug_as_display {
    ($($error:ty),*) => {$(
        impl fmt::Debug for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")?;
                match error::Error::source(self) {
                    Some(source) => write!(f, ": {source}"),
                    None => Ok(()),
                }
            }
        }
    )*};
}
debug_as_display!(BuildError, StartError, EndError, crate::messages::MachineError);
#[cfg(feature = "log")]
debug_as_display!(crate::log::LogError);

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(error) => fmt::Debug::fmt(error, f),
            Self::Start(error) => fmt::Debug::fmt(error, f),
            Self::Call(failure) => fmt::Debug::fmt(failure, f),
            Self::SharedData(error) => fmt::Debug::fmt(error, f),
            Self::Settings(error) => write!(f, "{error}"),
            #[cfg(feature = "log")]
            Self::Log(error) => fmt::Debug::fmt(error, f),
            Self::Item(failure) => write!(f, "{failure}"),
            Self::Node(error) => fmt::Debug::fmt(error, f),
            Self::Machine(error) => fmt::Debug::fmt(error, f),
            Self::End(error) => write!(f, "{error}"),
            Self::Mailbox(error) => write!(f, "{self}: {error}"),
        }
    }
}

impl error::Error for CallFailure {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.failed.first().and_then(|failure| failure.source())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_main_prints_is_for_people_and_short() {
        let wrong = SettingsError::NoSlots { by: "slots(0)".into() };
        let error = Error::from(BuildError::from(wrong.clone()));
        assert_eq!(format!("{error:?}"), wrong.to_string());
        let failed = (0..300).map(|index| ItemFailure::not_run(index, Ending::Cancelled)).collect();
        let failure = CallFailure {
            function: "f",
            ending: Ending::ItemsFailed,
            reason: None,
            items: 300,
            finished_count: 0,
            failed,
        };
        let text = format!("{:?}", Error::Call(Box::new(failure)));
        assert!(text.starts_with("f: 300 of 300 items failed; first item 0"), "{text}");
        assert!(text.ends_with("and 295 more") && text.lines().count() == 7, "{text}");
    }

    #[test]
    fn errors_cross_threads() {
        fn holds<T: Send + Sync + 'static>() {}
        holds::<Error>();
        holds::<CallError<Vec<u8>>>();
    }
}
