//! What the quickstart needs: `use distfun::prelude::*;`
//!
//! The macros [`distribute!`] and [`function!`], the functions [`distribute_local`],
//! [`distribute_local_ref`] and [`distribute_local_columns`], [`Context`] and [`SharedData`].

pub use crate::{
    Context, SharedData, distribute, distribute_local, distribute_local_columns, distribute_local_ref, function,
};
