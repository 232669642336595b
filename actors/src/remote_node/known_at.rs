//! Which nodes know of a call, so that they hear of its end.

use std::sync::{
    Mutex, PoisonError, Weak,
    atomic::{AtomicBool, Ordering, fence},
};

use distfun_core::{failure::Ending, ids::CallId};

use super::Conversation;

/// The conversations in which a call was announced.
#[derive(Default)]
pub(crate) struct KnownAt {
    /// A call that stays at home never takes the lock.
    is_known: AtomicBool,
    conversations: Mutex<Vec<Weak<Conversation>>>,
}

impl KnownAt {
    pub(crate) fn add(&self, conversation: Weak<Conversation>) {
        self.conversations.lock().unwrap_or_else(PoisonError::into_inner).push(conversation);
        self.is_known.store(true, Ordering::Release);
        // With the one below: either the end of the call sees this, or who announces it sees that it has ended.
        fence(Ordering::SeqCst);
    }

    /// Whether there were any when this was asked.
    pub(crate) fn is_any(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    pub(crate) fn call_ended(&self, call: CallId, ending: Ending) {
        fence(Ordering::SeqCst);
        if !self.is_known.load(Ordering::Acquire) {
            return;
        }
        let all = std::mem::take(&mut *self.conversations.lock().unwrap_or_else(PoisonError::into_inner));
        for conversation in all.iter().filter_map(Weak::upgrade) {
            conversation.call_ended(call, ending == Ending::TimedOut);
        }
    }
}
