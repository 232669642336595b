//! What every slot and call is doing, for those who ask.

use std::{ops::Range, time::Duration};

use super::CallStatus;
use crate::{
    failure::Ending,
    ids::{CallId, Generation, WorkerId},
};

/// Every slot and call at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EngineStatus {
    /// By worker number.
    pub slots: Vec<SlotStatus>,
    /// Active calls, by id.
    pub calls: Vec<CallStatus>,
    /// How everything was ended, if it was.
    pub stopped: Option<Ending>,
}

/// One slot at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SlotStatus {
    /// Which slot.
    pub worker: WorkerId,
    /// How often its thread was replaced.
    pub generation: Generation,
    /// What it does.
    pub activity: Activity,
}

/// What a slot does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// Its compute thread is being started.
    Starting,
    /// It waits for work, at no cost.
    Idle,
    /// It computes.
    Busy {
        /// For this call.
        call: CallId,
        /// These items.
        items: Range<usize>,
        /// For so long.
        running_for: Duration,
    },
    /// Its thread died too often; it is not used any more.
    GaveUp,
    /// It was ended.
    Released,
}
