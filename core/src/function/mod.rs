//! What the user wrote: kinds of function, the context they may ask for, their names, and their form over bytes.

mod context;
mod kind;
mod registry;

pub use context::{Context, ContextRng, ItemRng};
pub use kind::{
    ByRef, ByValue, ColumnsFunction, ColumnsKind, ColumnsOutput, Contextual, Plain, RefFunction, ValueFunction,
};
pub use registry::{Entry, PayloadError, WireFunction, find, names, run};

#[doc(hidden)]
pub use inventory;
