//! What a function takes and returns, as a text for people and as a [`Fingerprint`] for builds to compare.
//!
//! A type's `Deserialize` is run on sample values and what it asks for is written down: numbers, names of fields and
//! variants, in their order. That is what postcard's bytes depend on, and all that two builds must agree about. Names
//! from the compiler are left out, but for types that can't be looked into (`opaque`), because compilers write them
//! differently.
//!
//! | in the text | type |
//! |---|---|
//! | `f64`, `String`, `bytes`, `()` | as in Rust; `usize` is `u64` |
//! | `[f64]`, `[f64; 3]`, `Array2<f64>` | any list, an array or tuple of equals, ndarray's arrays |
//! | `Option<f64>`, `Map<String, f64>`, `Result<f64, String>` | |
//! | `Point { x: f64 }`, `Id(u64)`, `enum Step { Stop, Go(f64) }` | the first time; then `Point` alone, `^Point` within itself, and `Point@2` for another type of the same name |
//! | `opaque(my::Color from String)` | it refuses all samples, here each `String`; or it can't travel at all |
//! | `?` | was not reached because of something opaque before it |
//! | `A { x / y / z: (f64, u8) }` | there is an `alias`, so serde gives more names than fields |
//! | `u8 \| f64` | depends on a value before it |

mod deserializer;
mod difference;
mod graph;
mod samples;
#[cfg(test)]
mod tests;
mod text;
mod tracer;

use std::fmt;

use serde::de::DeserializeOwned;

pub use difference::difference;

use super::fingerprint::{self, Fingerprint};
use text::Writer;
use tracer::Tracer;

/// What a function takes and returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    text: String,
    opaque: Vec<String>,
}

impl Schema {
    /// For people, such as `item by value fn(f64) -> Result<u32, String>, version 1`. Equal texts mean equal types,
    /// except for what is [`opaque`](Self::opaque).
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same text in 16 bytes.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint::of(&self.text)
    }

    /// Types that could not be looked into, or not to their end: they are compared by name, and by the version that
    /// the user gives. Empty is the usual case.
    pub fn opaque(&self) -> &[String] {
        &self.opaque
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The schema of a function from `A` to `R` for each item of a list. `kind` says how it takes them, such as `item by
/// value`; `version` is the user's. It takes microseconds, milliseconds for huge types, and calls `A`'s and `R`'s
/// `Deserialize`, whose panics are contained (the panic hook still reports them).
#[must_use]
pub fn schema_of_list<A: DeserializeOwned, R: DeserializeOwned>(kind: &'static str, version: u32) -> Schema {
    schema::<A, R>(kind, ["", ""], ["", ""], version)
}

/// The schema of a function of blocks of columns of `T`, whose results are `rows_kind` (`Array1` or `Array2`) of `R`.
/// Otherwise as [`schema_of_list`].
#[must_use]
pub fn schema_of_columns<T: DeserializeOwned, R: DeserializeOwned>(rows_kind: &'static str, version: u32) -> Schema {
    schema::<T, R>("columns", ["ArrayView2<", ">"], [&format!("{rows_kind}<"), ">"], version)
}

fn schema<A: DeserializeOwned, R: DeserializeOwned>(
    kind: &str,
    argument_in: [&str; 2],
    result_in: [&str; 2],
    version: u32,
) -> Schema {
    let tracer = Tracer::new();
    let (argument, result) = (tracer.trace::<A>(), tracer.trace::<R>());
    let graph = tracer.graph.into_inner();
    let mut writer = Writer::new(&graph);
    writer.push(&format!("{kind} fn({}", argument_in[0]));
    writer.place(argument, graph.places[argument].type_name);
    writer.push(&format!("{}) -> {}", argument_in[1], result_in[0]));
    writer.place(result, graph.places[result].type_name);
    writer.push(&format!("{}, version {version}", result_in[1]));
    Schema { text: writer.text, opaque: writer.opaque }
}

/// What is known of one type.
#[cfg(test)]
fn trace<T: DeserializeOwned>() -> Schema {
    let tracer = Tracer::new();
    let root = tracer.trace::<T>();
    let graph = tracer.graph.into_inner();
    let mut writer = Writer::new(&graph);
    writer.place(root, graph.places[root].type_name);
    Schema { text: writer.text, opaque: writer.opaque }
}
