//! Only tests live here; see `tests/main.rs`.
