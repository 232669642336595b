//! What the user wrote: kinds of function, the context they may ask for, their names, and their form over bytes.

mod context;
mod kind;
mod registry;
mod slot_state;

pub use context::{Context, ContextRng, ItemRng, Surroundings};
pub use kind::{
    ByRef, ByValue, ColumnsFunction, ColumnsKind, ColumnsOutput, Contextual, Plain, RefFunction, Sharing, ValueFunction,
};
pub use registry::{Entry, PayloadError, WireFunction, find, names, run};
pub use slot_state::{SlotState, SlotStates};

#[doc(hidden)]
pub use inventory;
