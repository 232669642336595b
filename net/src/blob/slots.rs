//! What this process knows about each blob.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak},
};

use distfun_core::shared_data::WeakSharedData;

use super::lease::{Held, Identity};
use crate::message::Digest;

/// All blobs that were asked for. The map's lock is held for looking up only; a blob has its own, which is held while
/// it is hashed or mapped, so that this is done once.
#[derive(Default)]
pub(super) struct Slots(Mutex<HashMap<Digest, Slot>>);

#[derive(Clone, Default)]
pub(super) struct Slot(Arc<Mutex<SlotState>>);

#[derive(Default)]
pub(super) struct SlotState {
    /// The file whose hash was right.
    pub(super) verified: Option<Identity>,
    /// The latest lease, if somebody has it.
    pub(super) leased: Weak<Held>,
    pub(super) shared: WeakSharedData,
}

impl SlotState {
    fn is_in_use(&self) -> bool {
        self.leased.strong_count() > 0 || self.shared.upgrade().is_some()
    }
}

impl Slots {
    pub(super) fn get(&self, digest: &Digest) -> Slot {
        self.lock().entry(*digest).or_default().clone()
    }

    /// Whether this process uses it. Filesystems without locks do not tell.
    pub(super) fn is_in_use(&self, digest: &Digest) -> bool {
        let Some(slot) = self.lock().get(digest).cloned() else { return false };
        match slot.0.try_lock() {
            Ok(state) => state.is_in_use(),
            Err(TryLockError::Poisoned(state)) => state.into_inner().is_in_use(),
            Err(TryLockError::WouldBlock) => true,
        }
    }

    /// Drops what is known of a blob that is not there, unless somebody uses it by now, or is about to.
    pub(super) fn forget(&self, digest: &Digest) {
        let mut slots = self.lock();
        let is_idle = |slot: &Slot| Arc::strong_count(&slot.0) == 1 && !slot.lock().is_in_use();
        if slots.get(digest).is_some_and(is_idle) {
            slots.remove(digest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    pub(super) fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
