//! Events of `tracing` in a host: to its parent, as text.

use std::{
    fmt::{self, Write},
    ops::Range,
    os::fd::OwnedFd,
};

use distfun_core::function::Watch;
use distfun_net::message::Source;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};

use super::message::{FromHost, send};

/// A longer text is cut.
const MAX_TEXT: usize = 8 << 10;

/// As numbers, from 0 for nothing to 5 for traces.
pub(crate) fn level_now() -> u8 {
    LevelFilter::current().into_level().map_or(0, number)
}

fn number(level: Level) -> u8 {
    [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG]
        .iter()
        .position(|it| *it == level)
        .map_or(5, |at| at as u8 + 1)
}

fn filter(number: u8) -> LevelFilter {
    use LevelFilter as Is;
    [Is::OFF, Is::ERROR, Is::WARN, Is::INFO, Is::DEBUG].get(usize::from(number)).copied().unwrap_or(Is::TRACE)
}

/// Sends events of this process to its parent from now on, if it wants some, unless the program has a subscriber already.
pub(super) fn forward(socket: OwnedFd, watch: &'static Watch, level: u8) {
    if level > 0 {
        let _ = tracing::subscriber::set_global_default(Forwarder { socket, watch, level: filter(level) });
    }
}

struct Forwarder {
    socket: OwnedFd,
    watch: &'static Watch,
    level: LevelFilter,
}

impl Subscriber for Forwarder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What we say about slots and calls here is of no use there.
        let is_ours = metadata.target().starts_with("distfun::");
        metadata.is_event() && *metadata.level() <= self.level && !is_ours
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let (level, target) = (number(*event.metadata().level()), short(event.metadata().target().to_owned(), 256));
        let (source, items): (_, Range<usize>) = (Source::Log { level, target }, self.watch.items());
        let text = short(text.message + &text.fields, MAX_TEXT);
        let _ = send(&self.socket, &FromHost::Log { source, items, text }, &[]); // its end is noticed elsewhere
    }

    // Spans are not sent.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The message of an event, and its fields behind it.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A string takes whatever is written.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

fn short(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_numbers_and_back() {
        for (level, expected) in
            [(Level::ERROR, 1), (Level::WARN, 2), (Level::INFO, 3), (Level::DEBUG, 4), (Level::TRACE, 5)]
        {
            assert_eq!(number(level), expected);
            assert_eq!(filter(expected), level);
        }
        assert_eq!((filter(0), filter(200)), (LevelFilter::OFF, LevelFilter::TRACE));
        assert_eq!(short("aé".into(), 2), "a…");
    }
}
