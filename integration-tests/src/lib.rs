//! What several packages of tests share. The tests themselves: see `tests/main.rs`.

pub mod driver;
pub mod line;
pub mod proxy;
