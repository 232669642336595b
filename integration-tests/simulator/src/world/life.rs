//! One life of a slot: its compute thread and the port where that is handed chunks.
//!
//! It does what `actors/src/compute/port.rs` and `compute/thread.rs` do.

use distfun_core::{engine::Chunk, ids::CallId};

use super::run::Run;
use crate::law::{Law, Verdict, check};

#[derive(Debug)]
pub(crate) enum Thread {
    /// The port is there, its thread is not yet, or never will be.
    Absent,
    /// Asleep at the port, or about to be.
    Waiting,
    Running(Run),
    /// It carries out the commands of a step.
    Carrying,
    Ended,
}

/// Where one life of a slot is handed its chunks.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) thread: Thread,
    door: Option<Chunk<CallId>>,
    pub(crate) is_released: bool,
    pub(crate) is_closed: bool,
    /// Counts what was planned, so that what was planned before is not done.
    pub(crate) plans: u64,
}

impl Life {
    pub(crate) fn new() -> Self {
        Self { thread: Thread::Absent, door: None, is_released: false, is_closed: false, plans: 0 }
    }

    /// Puts a chunk into the door; dropped if nobody will come there any more.
    pub(crate) fn put(&mut self, chunk: Chunk<CallId>) -> Verdict {
        if self.is_closed {
            return Ok(());
        }
        let before = self.door.replace(chunk);
        check(before.is_none(), Law::Door, || format!("{:?} was put on top of {before:?}", self.door))
    }

    /// The thread looks into the door: a chunk, or the end, or neither.
    pub(crate) fn take(&mut self) -> Option<Chunk<CallId>> {
        let chunk = self.door.take();
        if chunk.is_none() && self.is_released {
            self.is_closed = true;
        }
        chunk
    }
}
