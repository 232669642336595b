//! What the layers of the log and of metrics have in common: which events they want.

use tracing::{Metadata, subscriber::Interest};
use tracing_subscriber::{
    filter::LevelFilter,
    layer::{Context, Filter},
};

/// A filter that is asked about each event.
///
/// Never does it say "always" of a callsite. `enabled!` leaves behind, for the thread, what a filter has said to it, and an event
/// that no filter is asked about takes that for its own: once another layer wants DEBUG, the next event at INFO after such a
/// question would be lost.
pub(crate) struct Wanted<F> {
    pub(crate) is_wanted: F,
    /// No event beyond this level is.
    pub(crate) level: LevelFilter,
}

impl<S, F: Fn(&Metadata<'_>) -> bool + 'static> Filter<S> for Wanted<F> {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        (self.is_wanted)(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if (self.is_wanted)(metadata) { Interest::sometimes() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }
}
