//! One event as one flat line of JSON.

use std::{
    fmt::{self, Write as _},
    io::Write as _,
    time::SystemTime,
};

use distfun_core::event::{ENVELOPE, TARGET};
use tracing::{
    Event, Level,
    field::{Field, Visit},
};

/// Longest text of one field, in bytes before escaping; what is longer ends with an ellipsis.
const MAX_TEXT: usize = 8 << 10;

/// A line that is this long gets no more fields.
const MAX_LINE: usize = 64 << 10;

/// Writes the event, up to what all lines have in common; the line is still open.
pub(super) fn write(line: &mut Vec<u8>, now: SystemTime, event: &Event<'_>) {
    let metadata = event.metadata();
    open(line, now, *metadata.level(), metadata.target());
    let is_ours = metadata.target() == TARGET;
    let mut fields = Fields { line, is_ours, has_message: false, renamed: Vec::new() };
    event.record(&mut fields);
    if !fields.has_message {
        text(line, "message", metadata.name());
    }
}

/// Begins a line.
pub(super) fn open(line: &mut Vec<u8>, now: SystemTime, level: Level, target: &str) {
    // Writing to memory does not fail, here and below.
    let _ = write!(line, "{{\"timestamp\":\"{}\",\"level\":\"{level}\"", humantime::format_rfc3339_micros(now));
    text(line, "target", target);
}

/// `,"name":"value"`
pub(super) fn text(line: &mut Vec<u8>, name: &str, value: &str) {
    key(line, name);
    let _ = Text::new(line).write_str(value);
    line.push(b'"');
}

/// `,"name":value`
pub(super) fn number(line: &mut Vec<u8>, name: &str, value: u64) {
    key(line, name);
    line.pop(); // the quote of a text
    let _ = write!(line, "{value}");
}

/// `,"name":value`, or null where JSON has no such number.
pub(super) fn float(line: &mut Vec<u8>, name: &str, value: f64) {
    key(line, name);
    line.pop();
    let _ = if value.is_finite() { write!(line, "{value:?}") } else { write!(line, "null") };
}

/// `,"name":"`, ready for a text.
fn key(line: &mut Vec<u8>, name: &str) {
    line.extend_from_slice(b",\"");
    escape(line, name);
    line.extend_from_slice(b"\":\"");
}

/// The inside of a JSON string. Everything that a terminal could take for a command or a line end is escaped, also
/// beyond what JSON asks for.
fn escape(line: &mut Vec<u8>, text: &str) {
    let mut done = 0;
    for (at, c) in text.char_indices() {
        let short: &[u8] = match c {
            '"' => b"\\\"",
            '\\' => b"\\\\",
            '\n' => b"\\n",
            '\r' => b"\\r",
            '\t' => b"\\t",
            '\u{2028}' | '\u{2029}' => b"",
            c if c.is_control() => b"",
            _ => continue,
        };
        line.extend_from_slice(&text.as_bytes()[done..at]);
        done = at + c.len_utf8();
        if short.is_empty() {
            let _ = write!(line, "\\u{:04x}", c as u32);
        } else {
            line.extend_from_slice(short);
        }
    }
    line.extend_from_slice(&text.as_bytes()[done..]);
}

/// Text that is escaped while it is formatted, and cut when it is too long.
struct Text<'a> {
    line: &'a mut Vec<u8>,
    left: usize,
}

impl<'a> Text<'a> {
    fn new(line: &'a mut Vec<u8>) -> Self {
        Self { line, left: MAX_TEXT }
    }
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() <= self.left {
            self.left -= text.len();
            escape(self.line, text);
            return Ok(());
        }
        if self.left > 0 {
            let end = (0..=self.left).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
            escape(self.line, &text[..end]);
            self.line.extend_from_slice("…".as_bytes());
            self.left = 0;
        }
        Err(fmt::Error) // stops what formats itself
    }
}

struct Fields<'a> {
    line: &'a mut Vec<u8>,
    /// Our own names need no look: tests hold that they differ from the envelope's.
    is_ours: bool,
    has_message: bool,
    /// Names of foreign fields that are on the line already.
    renamed: Vec<String>,
}

impl Fields<'_> {
    /// Writes the name; the line is ready for a text. None when the line has no room.
    fn key(&mut self, field: &Field) -> Option<&mut Vec<u8>> {
        if self.line.len() > MAX_LINE {
            return None;
        }
        let name = field.name();
        if name == "message" && !self.has_message {
            self.has_message = true;
            key(self.line, name);
        } else if self.is_ours {
            key(self.line, name);
        } else {
            let mut name = name.to_owned();
            let is_taken = |name: &String| ENVELOPE.iter().any(|used| used.field.name == *name);
            while is_taken(&name) || self.renamed.contains(&name) {
                name.insert_str(0, "fields.");
            }
            key(self.line, &name);
            self.renamed.push(name);
        }
        Some(self.line)
    }

    fn plain(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if let Some(line) = self.key(field) {
            line.pop(); // the quote of a text
            let _ = line.write_fmt(value);
        }
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(line) = self.key(field) {
            let _ = Text::new(line).write_str(value);
            line.push(b'"');
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if let Some(line) = self.key(field) {
            let _ = write!(Text::new(line), "{value:?}");
            line.push(b'"');
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field, format_args!("{value:?}"));
        } else {
            self.plain(field, format_args!("null"));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, format_args!("{value}"));
    }

    // Wider than any reader's numbers: texts.
    fn record_i128(&mut self, field: &Field, value: i128) {
        self.record_debug(field, &value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.record_debug(field, &value);
    }
}

#[cfg(test)]
mod tests;
