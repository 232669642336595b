//! What functions keep on a slot between items: an open model, a scratch buffer, a connection.

use std::{
    any::{Any, TypeId, type_name},
    cell::RefCell,
    collections::HashMap,
    fmt,
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

/// The states of all functions that have run on one slot. It never leaves the slot's thread, so states need no `Send`.
#[doc(hidden)]
#[derive(Default)]
pub struct SlotStates(RefCell<HashMap<Key, State>>);

/// Functions do not see one another's states.
type Key = (&'static str, TypeId);

enum State {
    /// Made while the function had the shared data of this id: what it took from there may differ in other data.
    Kept(u64, Box<dyn Any>),
    InUse,
    /// Its item panicked while it had the state. Dropped later: a panic in `Drop` while unwinding would abort.
    Broken(Box<dyn Any>),
}

/// Drops a state of the user's. A panic of it is neither the next item's fault, nor a reason to keep other states.
fn bury(state: Box<dyn Any>) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(state))) {
        tracing::warn!("a slot state panicked while it was dropped; contained");
        if !payload.is::<&str>() && !payload.is::<String>() {
            std::mem::forget(payload); // its own drop could panic again
        }
    }
}

impl Drop for SlotStates {
    fn drop(&mut self) {
        for state in std::mem::take(self.0.get_mut()).into_values() {
            if let State::Kept(_, state) | State::Broken(state) = state {
                bury(state);
            }
        }
    }
}

impl SlotStates {
    #[track_caller]
    pub(super) fn get<T: 'static, E>(
        &self,
        function: &'static str,
        shared: u64,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<SlotState<'_, T>, E> {
        let key = (function, TypeId::of::<T>());
        let before = self.0.borrow_mut().insert(key, State::InUse);
        let kept = match before {
            Some(State::Kept(id, kept)) if id == shared => kept.downcast().ok(),
            Some(State::Kept(_, stale)) => {
                bury(stale);
                None
            }
            Some(State::InUse) => {
                panic!("{function} has its slot state {} already; drop the one it has first", type_name::<T>())
            }
            Some(State::Broken(broken)) => {
                bury(broken);
                None
            }
            None => None,
        };
        if let Some(value) = kept {
            return Ok(SlotState { states: self, key, shared, value: Some(value) });
        }
        // Until there is a state, and whichever way `make` ends, the key must be free.
        let free = Free { states: self, key };
        let value = Box::new(make()?);
        std::mem::forget(free);
        Ok(SlotState { states: self, key, shared, value: Some(value) })
    }
}

struct Free<'c> {
    states: &'c SlotStates,
    key: Key,
}

impl Drop for Free<'_> {
    fn drop(&mut self) {
        self.states.0.borrow_mut().remove(&self.key);
    }
}

/// A state of the slot that runs the function, from [`Context::slot_state`](super::Context::slot_state). Others can have
/// it again when this is dropped.
pub struct SlotState<'c, T: 'static> {
    states: &'c SlotStates,
    key: Key,
    shared: u64,
    /// Always there, but for the end of `drop`.
    value: Option<Box<T>>,
}

impl<T> Deref for SlotState<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_deref().expect("taken only by drop")
    }
}

impl<T> DerefMut for SlotState<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_deref_mut().expect("taken only by drop")
    }
}

impl<T> Drop for SlotState<'_, T> {
    fn drop(&mut self) {
        let Some(value) = self.value.take() else { return };
        let state = if thread::panicking() { State::Broken(value) } else { State::Kept(self.shared, value) };
        self.states.0.borrow_mut().insert(self.key, state);
    }
}

impl<T: fmt::Debug> fmt::Debug for SlotState<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Debug for SlotStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotStates({})", self.0.borrow().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn count(states: &SlotStates, function: &'static str) -> u32 {
        let made = states.get(function, 0, || Ok::<_, Infallible>(0u32));
        let mut state = made.unwrap_or_else(|never| match never {});
        *state += 1;
        *state
    }

    #[test]
    fn a_state_is_made_once_per_function_and_type() {
        let states = SlotStates::default();
        assert_eq!((count(&states, "f"), count(&states, "f"), count(&states, "g")), (1, 2, 1));
        let other = states.get("f", 0, || Ok::<_, Infallible>(7u8)).unwrap();
        assert_eq!((*other, count(&states, "f")), (7, 3));
    }

    #[test]
    fn a_state_made_from_other_shared_data_is_made_anew() {
        let states = SlotStates::default();
        for (shared, made, expected) in [(1, 10, 10), (1, 11, 10), (2, 12, 12), (1, 13, 13)] {
            let state = states.get("f", shared, || Ok::<_, Infallible>(made)).unwrap();
            assert_eq!(*state, expected);
        }
    }

    #[test]
    fn a_state_whose_item_panicked_is_made_anew() {
        let states = SlotStates::default();
        count(&states, "f");
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _state = states.get("f", 0, || Ok::<_, Infallible>(0u32)).unwrap();
            panic!("in the middle of a change");
        }));
        assert!(panicked.is_err());
        assert_eq!(count(&states, "f"), 1);
    }

    #[test]
    fn a_state_that_could_not_be_made_is_tried_again() {
        let states = SlotStates::default();
        assert_eq!(states.get("f", 0, || Err::<u32, _>("no model")).unwrap_err(), "no model");
        let panicked = catch_unwind(AssertUnwindSafe(|| drop(states.get("f", 0, || -> Result<u32, ()> { panic!() }))));
        assert!(panicked.is_err());
        assert_eq!(count(&states, "f"), 1);
    }

    #[test]
    #[should_panic(expected = "f has its slot state u32 already")]
    fn a_state_in_use_is_refused() {
        let states = SlotStates::default();
        let _first = states.get("f", 0, || Ok::<_, Infallible>(0u32)).unwrap();
        count(&states, "f");
    }
}
