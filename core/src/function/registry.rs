//! Every distributed function of this program by name, and its form over bytes.
//!
//! `distribute!(f)` submits one [`Entry`] per call site. Several sites of one function are one function; a closure is
//! known by its place in the source, which holds within one build only.

use std::collections::BTreeSet;

use ndarray::Array2;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Context,
    kind::{ByRef, ByValue, ColumnsFunction, ColumnsKind, ColumnsOutput, RefFunction, ValueFunction},
};

/// One call site of `distribute!` or `function!`.
#[derive(Debug)]
pub struct Entry {
    /// The path of the function's type, as `std::any::type_name_of_val` gives it.
    pub path: fn() -> &'static str,
    /// `file:line:column` of the call site.
    pub site: &'static str,
    /// Decodes a list of items (or a matrix), runs the function over them, and encodes the results.
    pub run: fn(&Context<'_>, &[u8]) -> Result<Vec<u8>, PayloadError>,
}

inventory::collect!(Entry);

impl Entry {
    /// The function's name: its path, or its call site if it is a closure.
    pub fn name(&self) -> &'static str {
        let path = (self.path)();
        if path.contains("{{closure}}") { self.site } else { path }
    }
}

/// The names of all functions that this program distributes anywhere, sorted.
pub fn names() -> Vec<&'static str> {
    let names: BTreeSet<_> = inventory::iter::<Entry>.into_iter().map(Entry::name).collect();
    names.into_iter().collect()
}

/// Finds a function by [`Entry::name`].
pub fn find(name: &str) -> Option<&'static Entry> {
    inventory::iter::<Entry>.into_iter().find(|entry| entry.name() == name)
}

/// Arguments or results could not be turned into bytes or back.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The bytes are no value of the argument's type.
    #[error("could not decode the arguments")]
    Decode(#[source] postcard::Error),
    /// Bytes were left over after the arguments.
    #[error("{0} byte(s) follow the arguments; sender and receiver disagree about their type")]
    TrailingBytes(usize),
    /// The result's own `Serialize` failed.
    #[error("could not encode the results")]
    Encode(#[source] postcard::Error),
}

/// A function whose arguments and results have a form over bytes.
pub trait WireFunction<M>: Send + Sync + 'static {
    /// Decodes the arguments, runs the function on each, and encodes the results.
    fn run(&self, context: &Context<'_>, arguments: &[u8]) -> Result<Vec<u8>, PayloadError>;
}

impl<F, A, X> WireFunction<ByValue<A, X>> for F
where
    F: ValueFunction<A, X>,
    F::Out: Serialize,
    A: Serialize + DeserializeOwned,
{
    fn run(&self, context: &Context<'_>, arguments: &[u8]) -> Result<Vec<u8>, PayloadError> {
        let items: Vec<A> = decode(arguments)?;
        let one = |(index, item)| {
            context.enter(index);
            self.call(item, context)
        };
        encode(&items.into_iter().enumerate().map(one).collect::<Vec<_>>())
    }
}

impl<F, A, X> WireFunction<ByRef<A, X>> for F
where
    F: RefFunction<A, X>,
    F::Out: Serialize,
    A: Serialize + DeserializeOwned,
{
    fn run(&self, context: &Context<'_>, arguments: &[u8]) -> Result<Vec<u8>, PayloadError> {
        let items: Vec<A> = decode(arguments)?;
        let one = |(index, item)| {
            context.enter(index);
            self.call(item, context)
        };
        encode(&items.iter().enumerate().map(one).collect::<Vec<_>>())
    }
}

impl<F, T, X> WireFunction<ColumnsKind<T, X>> for F
where
    F: ColumnsFunction<T, X>,
    <F::Out as ColumnsOutput>::Elem: Serialize,
    T: Serialize + DeserializeOwned,
{
    fn run(&self, context: &Context<'_>, arguments: &[u8]) -> Result<Vec<u8>, PayloadError> {
        let block: Array2<T> = decode(arguments)?;
        context.enter_block(0..block.ncols());
        let result = self.call(block.view(), context);
        let (rows, columns, order) = (result.rows() as u64, result.columns() as u64, result.is_column_major());
        encode(&(rows, columns, order, result.into_elements(order)))
    }
}

/// Runs `function` over encoded arguments; what the closure of a registry [`Entry`] calls.
pub fn run<F: WireFunction<M>, M>(
    function: F,
    context: &Context<'_>,
    arguments: &[u8],
) -> Result<Vec<u8>, PayloadError> {
    function.run(context, arguments)
}

fn decode<A: DeserializeOwned>(bytes: &[u8]) -> Result<A, PayloadError> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(PayloadError::Decode)?;
    if rest.is_empty() { Ok(value) } else { Err(PayloadError::TrailingBytes(rest.len())) }
}

fn encode<R: Serialize>(results: &R) -> Result<Vec<u8>, PayloadError> {
    postcard::to_stdvec(results).map_err(PayloadError::Encode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn double(x: u32) -> u32 {
        2 * x
    }

    inventory::submit! {
        Entry { path: || std::any::type_name_of_val(&double), site: "here", run: |context, bytes| run(double, context, bytes) }
    }

    #[test]
    fn a_registered_function_runs_by_name_over_bytes() {
        let name = std::any::type_name_of_val(&double);
        assert!(names().contains(&name));
        let stop = AtomicBool::new(false);
        let context = Context::new(super::super::Surroundings::of_test(&stop));
        let bytes = encode(&vec![1u32, 300]).unwrap();
        let run = find(name).unwrap().run;
        assert_eq!(run(&context, &bytes).unwrap(), encode(&vec![2u32, 600]).unwrap());
        let longer = [bytes, vec![0]].concat();
        assert!(matches!(run(&context, &longer), Err(PayloadError::TrailingBytes(1))));
        assert!(matches!(run(&context, &[9]), Err(PayloadError::Decode(_))));
    }
}
