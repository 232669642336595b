//! What several packages of tests share. The tests themselves: see `tests/main.rs`.

pub mod line;
pub mod proxy;
