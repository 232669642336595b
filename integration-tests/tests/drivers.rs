//! A program that can use CUDA, where there is a driver and no device behind it: it computes on what else there is.
#![cfg(target_os = "linux")]

use distfun_integration_tests::driver::driver;

use crate::programs::example;

/// How the example says that it has found no GPU, and what it has done.
const ON_CPUS: &str = "the CPUs compute: its drivers show none";
const SCALED: &str = "\n32 vectors of 60000 elements, scaled\n";

/// Runs an example with the driver whose source is `name`.
fn run_with(name: &str) -> (String, String) {
    let folder = driver(name, &[]);
    let mut example = example("gpu_scale");
    // No driver for graphics either, so that what computes is a CPU.
    example
        .env("LD_LIBRARY_PATH", folder.path())
        .env("VK_DRIVER_FILES", "/nowhere")
        .env("VK_ICD_FILENAMES", "/nowhere");
    let output = example.output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_driver_without_a_device_has_no_gpu() {
    let (shown, said) = run_with("no_device");
    assert!(shown.starts_with(ON_CPUS) && shown.ends_with(SCALED), "{shown}");
    assert_eq!(said, "");
}

#[test]
fn a_driver_that_lacks_what_is_asked_of_it_has_no_gpu() {
    let (shown, said) = run_with("of_another_age");
    assert!(shown.starts_with(ON_CPUS) && shown.ends_with(SCALED), "{shown}");
    assert!(!said.contains("RUST_BACKTRACE"), "a panic is shown: {said}");
}
