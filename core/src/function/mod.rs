//! What the user wrote: kinds of function, the context they may ask for, what their types are, and what travels.

mod context;
mod device;
mod fingerprint;
mod kind;
mod schema;
mod slot_state;
mod wire;

pub use context::{Context, ContextRng, ItemRng, Surroundings, Watch};
pub use device::{Device, DeviceLost, Gpu, Lost, Opened, SlotGpu};
pub use fingerprint::Fingerprint;
pub use kind::{
    ByRef, ByValue, ColumnsFunction, ColumnsKind, ColumnsOutput, Contextual, Plain, RefFunction, Sharing, ValueFunction,
};
pub use schema::{Schema, difference, schema_of_columns, schema_of_list};
pub use slot_state::{SlotState, SlotStates};
pub use wire::WireFunction;
