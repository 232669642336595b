//! What metrics read of an event.

use std::fmt;

use tracing::field::{Field, Visit};

/// The numbers of one event, and those of its texts that are labels or tell things apart.
#[derive(Default)]
pub(super) struct Fields {
    numbers: Vec<(&'static str, f64)>,
    texts: Vec<(&'static str, String)>,
}

/// The texts that are kept.
pub(super) const TEXTS: &[&str] = &[
    "distfun.function.name",
    "distfun.outcome",
    "distfun.cause",
    "distfun.reason",
    "distfun.worker.kind",
    "distfun.node.name",
    "error.type",
];

impl Fields {
    pub(super) fn has(&self, name: &str) -> bool {
        self.float(name).is_some()
    }

    pub(super) fn float(&self, name: &str) -> Option<f64> {
        self.numbers.iter().find(|(is, _)| *is == name).map(|(_, number)| *number)
    }

    /// 0 if it is not there. Exact up to 2^53, as in JSON.
    pub(super) fn whole(&self, name: &str) -> u64 {
        self.float(name).unwrap_or(0.0) as u64
    }

    /// Empty if it is not there.
    pub(super) fn text(&self, name: &str) -> &str {
        self.texts.iter().find(|(is, _)| *is == name).map_or("", |(_, text)| text)
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.numbers.push((field.name(), value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.numbers.push((field.name(), value as f64));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if TEXTS.contains(&field.name()) {
            self.texts.push((field.name(), value.to_owned()));
        }
    }

    fn record_bool(&mut self, _: &Field, _: bool) {}

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
