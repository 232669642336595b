//! Where the functions of a machine's slots run.

use std::fmt;

/// Where slots of this machine run the function: on threads of this process, or each in a process of its own.
///
/// Results are the same. Threads are faster and need no copy of the items; a function that crashes or never returns ends
/// or blocks the whole program there. In a process of its own it costs one slot, which is replaced, and items travel as
/// to another machine, through memory that both processes share. So items and results implement serde, which functions of
/// `distribute!` have anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Isolation {
    /// On threads of this process.
    #[default]
    Thread,
    /// Each slot in a process of its own: this program again, where `distfun::init()` takes over. Linux only.
    Process,
}

impl fmt::Display for Isolation {
    /// As environment and file write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Thread => "thread",
            Self::Process => "process",
        })
    }
}
