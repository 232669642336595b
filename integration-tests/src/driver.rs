//! Drivers of CUDA's that are none: small libraries in C that a program finds in place of the real one.

use std::{fs, process::Command};

use tempfile::TempDir;

/// A folder for `LD_LIBRARY_PATH` with the driver whose source is `testdata/drivers/{name}.c`, and its settings.
pub fn driver(name: &str, settings: &[(&str, u32)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let settings: String = settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    fs::write(folder.path().join("settings"), settings).expect("a file");
    let source = format!("{}/testdata/drivers/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let library = folder.path().join("libcuda.so.1");
    // Rust links by the same compiler.
    let built = Command::new("cc").args(["-shared", "-fPIC", "-w", "-o"]).arg(&library).arg(source).status();
    assert!(built.expect("a C compiler").success());
    fs::copy(&library, folder.path().join("libcuda.so")).expect("a copy");
    folder
}
