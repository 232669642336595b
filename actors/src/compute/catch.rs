//! Catches panics of user code at one place, with their text and where they came from.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    mem::needs_drop,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::{Arc, Once},
};

use distfun_core::{event::capped, failure::FailureCause, function::DeviceLost};

thread_local! {
    /// Whether this thread runs user code whose panics become item failures.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Payload of the panic with which a test kills its compute thread.
#[cfg(feature = "fault-injection")]
pub(crate) struct KillThread;

/// Runs `body` and turns a panic into a cause. The payload is never dropped where its own `Drop` could panic further.
pub(crate) fn catch<R>(body: impl FnOnce() -> R) -> Result<R, FailureCause> {
    install_hook();
    let _ = PLACE.try_with(RefCell::take); // of a panic that was contained, or that the function caught itself
    let outer = INSIDE.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    INSIDE.set(outer);
    result.map_err(|payload| {
        let place = PLACE.try_with(RefCell::take).ok().flatten();
        #[cfg(feature = "fault-injection")]
        if payload.is::<KillThread>() {
            panic::resume_unwind(payload);
        }
        // A second panic while one unwinds would end the program; the first will do.
        let is_lost = payload.is::<DeviceLost>() || super::thread::lost_gpu().is_some();
        if is_lost && !std::thread::panicking() {
            // Whatever the function made of it.
            contain(|| drop(payload));
            panic::resume_unwind(Box::new(DeviceLost));
        }
        let message = text(&*payload);
        contain(|| drop(payload));
        FailureCause::Panicked { message, place }
    })
}

/// Runs the `Drop` of user values, whose panics nobody could be told about, except in the log.
pub(crate) fn contain(body: impl FnOnce()) {
    let outer = INSIDE.replace(true);
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(body)) {
        tracing::warn!(
            panic = capped(&text(&*payload)),
            "a value of the user's panicked while it was dropped; contained"
        );
        if !payload.is::<&str>() && !payload.is::<String>() {
            // Dropping this payload could panic again, without end; leaking it is the only safe thing left.
            std::mem::forget(payload);
        }
    }
    INSIDE.set(outer);
}

/// Drops values of the user's one by one, each panic contained alone: a second one while one unwinds would end the program.
pub(crate) fn discard<T>(mut values: impl Iterator<Item = T>) {
    let mut are_left = needs_drop::<T>();
    while are_left {
        contain(|| {
            values.by_ref().for_each(drop);
            are_left = false;
        });
    }
}

fn text(payload: &(dyn Any + Send)) -> Arc<str> {
    if let Some(text) = payload.downcast_ref::<&str>() {
        Arc::from(*text)
    } else if let Some(text) = payload.downcast_ref::<String>() {
        Arc::from(text.as_str())
    } else {
        Arc::from("(a payload that is no text)")
    }
}

/// Notes the place of panics in user code instead of printing them: they are reported with their item. All other
/// panics go to the hook that was there before. A hook that the program sets later replaces this one; then the place
/// is missing from failures, and nothing else.
fn install_hook() {
    static ONCE: Once = Once::new();
    if std::thread::panicking() {
        return; // a hook can't be set now; the next call does
    }
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if !INSIDE.get() || cfg!(panic = "abort") {
                return before(info);
            }
            let place = info.location().map(|place| Arc::from(place.to_string()));
            let _ = PLACE.try_with(|cell| cell.replace(place)); // gone when a thread's own values are dropped
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsWhenDropped;
    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }

    #[test]
    fn text_and_place_of_a_panic_are_kept() {
        let number = 3;
        let Err(FailureCause::Panicked { message, place }) = catch::<()>(|| panic!("odd: {number}")) else { panic!() };
        assert_eq!(&*message, "odd: 3");
        assert!(place.is_some_and(|place| place.contains("catch.rs:")));
    }

    #[test]
    fn payloads_that_are_no_text_or_panic_when_dropped_are_contained() {
        let cause = catch::<()>(|| panic::panic_any(PanicsWhenDropped)).unwrap_err();
        assert!(cause.to_string().contains("no text"), "{cause}");
        contain(|| drop(PanicsWhenDropped));
    }
}
