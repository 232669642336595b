//! What the compiler says about wrong uses. The messages belong to one toolchain; with another one the test says so and
//! ends. `TRYBUILD=overwrite` writes them anew: read the difference as one who meets the library for the first time.

use std::{env, process::Command};

/// The toolchain that wrote the messages.
const PINNED: &str = "rustc 1.95.";

#[test]
fn wrong_uses_are_refused_with_messages_one_can_act_on() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("cargo found rustc, so we do").stdout;
    let version = String::from_utf8_lossy(&version);
    if !version.starts_with(PINNED) {
        println!("skipped: the messages are those of {PINNED}x, this is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/cases/*.rs");
}
