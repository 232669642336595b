//! The supervision events: what distfun says about itself, as one schema.
//!
//! Every decision of supervision is one `tracing` event with a stable name, flat fields and ids of its own, so that a
//! log alone tells who is alive, what runs where and since when, what failed and what was done about it. The table
//! ([`EVENTS`]) is the only definition: the types that are emitted, the checks of tests, `docs/EVENTS.md` and
//! `schema/events-v1.json` are all made from it.
//!
//! Within schema major 1 events and fields are only added, never renamed; a name is never used again for something
//! else. Levels are part of the schema.

mod field;
mod table;
mod text;
pub mod watch;

use std::time::Duration;

use tracing::Level;

pub use table::*;
pub(crate) use text::Seconds;

/// Version of the schema, on every line of a log: a larger second number has more events or fields, a larger first one
/// is another schema.
pub const SCHEMA: &str = "1.3";

/// The `tracing` target of every event here.
pub const TARGET: &str = "distfun::event";

/// Longest text of a panic or an error that an event carries, in bytes.
pub const MAX_TEXT_BYTES: usize = 512;

/// What one event is.
#[derive(Debug, Clone, Copy)]
pub struct EventSpec {
    /// Its stable name, as in `otel.event.name`.
    pub name: &'static str,
    /// The levels it may have; the first is the usual one.
    pub levels: &'static [Level],
    /// When it is emitted.
    pub when: &'static str,
    /// Its fields, beside those of the [`ENVELOPE`].
    pub fields: &'static [FieldUse],
}

/// A field as one event has it.
#[derive(Debug, Clone, Copy)]
pub struct FieldUse {
    /// The field.
    pub field: FieldSpec,
    /// Whether every such event has it; others leave it out where it is not known.
    pub is_required: bool,
}

/// What one field is, in whichever event.
#[derive(Debug, Clone, Copy)]
pub struct FieldSpec {
    /// Dotted, with the unit as its ending.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it says.
    pub doc: &'static str,
    /// All the texts it may be; empty for any.
    pub values: &'static [&'static str],
}

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A whole number, not negative.
    Whole,
    /// A finite number.
    Float,
    /// True or false.
    Flag,
}

impl FieldSpec {
    /// The unit that the name's ending stands for; empty for counts, ids and texts.
    pub fn unit(&self) -> &'static str {
        let endings = [("_per_s", "1/s"), ("_s", "s"), ("_bytes", "bytes"), ("_ratio", "0 to 1")];
        endings.iter().find(|(ending, _)| self.name.ends_with(ending)).map_or("", |(_, unit)| unit)
    }
}

impl EventSpec {
    /// The field of this name, of the event or of the envelope.
    pub fn field(&self, name: &str) -> Option<&FieldUse> {
        ENVELOPE.iter().chain(self.fields).find(|used| used.field.name == name)
    }
}

/// The event of this name.
pub fn spec(name: &str) -> Option<&'static EventSpec> {
    EVENTS.iter().find(|event| event.name == name)
}

/// An event of the table.
pub trait SupervisionEvent: std::fmt::Display {
    /// Its row.
    const SPEC: EventSpec;

    /// Hands it to the subscriber, if one listens at its level.
    fn emit(&self);
}

/// Whether anybody listens to supervision events at `level`; without a subscriber this is one load of a static.
#[macro_export]
#[doc(hidden)]
macro_rules! listened {
    ($level:ident) => {
        $crate::event::tracing::enabled!(target: $crate::event::TARGET, $crate::event::tracing::Level::$level)
    };
}
pub use listened;
#[doc(hidden)]
pub use tracing;

/// `text`, cut at a character boundary to [`MAX_TEXT_BYTES`].
pub fn capped(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_TEXT_BYTES)).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// A duration as events have it: in seconds, to the microsecond.
pub fn seconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}

#[cfg(test)]
mod tests;
