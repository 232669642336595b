//! What happened, as text for people and as a number to compare.

use std::{
    fmt::{self, Write},
    hash::{DefaultHasher, Hasher},
};

use distfun_core::engine::Time;

use crate::law::at;

/// The story of one seed.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hasher: DefaultHasher,
    text: Option<String>,
    buffer: String,
}

impl Trace {
    /// Keeps the text too if `readable`.
    pub(crate) fn new(readable: bool) -> Self {
        Self { text: readable.then(String::new), ..Self::default() }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, now: Time, line: fmt::Arguments<'_>) {
        self.buffer.clear();
        self.buffer.write_fmt(line).expect("a string takes everything");
        self.hasher.write_u128(now.as_nanos());
        self.hasher.write(self.buffer.as_bytes());
        if let Some(text) = &mut self.text {
            writeln!(text, "{}  {}", at(now), self.buffer).expect("a string takes everything");
        }
    }

    /// A number that two equal stories share.
    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// The text, if it was kept.
    pub(crate) fn into_text(self) -> String {
        self.text.unwrap_or_default()
    }
}
