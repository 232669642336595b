//! A program that can use CUDA, where there is a driver and no device behind it: it computes on what else there is.
#![cfg(target_os = "linux")]

use distfun_integration_tests::driver::driver;

use crate::programs::example;

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
    assert_eq!(run_with("no_device"), ("32 vectors of 60000 elements, scaled\n".into(), String::new()));
}

#[test]
fn a_driver_that_lacks_what_is_asked_of_it_has_no_gpu() {
    let (shown, said) = run_with("of_another_age");
    assert_eq!(shown, "32 vectors of 60000 elements, scaled\n");
    assert!(!said.contains("RUST_BACKTRACE"), "a panic is shown: {said}");
}
