//! What the quickstart needs: `use distfun::prelude::*;`
//!
//! The macros [`distribute!`] and [`function!`], the functions [`distribute_local`],
//! [`distribute_local_ref`] and [`distribute_local_columns`], [`Context`], [`Device`] and [`SharedData`], and how a function
//! uses a GPU, [`UseGpu`].

pub use crate::{
    Context, Device, SharedData, distribute, distribute_local, distribute_local_columns, distribute_local_ref,
    function, gpu::UseGpu,
};
