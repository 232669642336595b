//! The decisions of distfun, and nothing that carries them out.
//!
//! Here live the kinds of function, the split of a matrix by columns, the settings, and the [`engine`]: a state
//! machine that takes events with the time as an argument and returns commands. The [`event`] module has what a log
//! says about it. No sockets, no actors, no tokio, no
//! clock and no threads: so a test, or a simulator, drives the real decisions through any story it likes.
//!
//! People depend on the `distfun` package, which re-exports what they need from here.
#![deny(unsafe_code)]

pub mod columns;
pub mod engine;
pub mod event;
pub mod failure;
pub mod function;
pub mod gpu;
pub mod ids;
pub mod machines;
pub mod options;
pub mod payload;
pub mod placement;
pub mod shared_data;
pub mod view;
