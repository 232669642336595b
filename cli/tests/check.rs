//! `distfun check` as whoever runs it sees it.

use std::{env, fs, process::Command};

use tempfile::TempDir;

/// What a run in a folder with this settings file writes to stdout and stderr, and its exit status.
fn check(file: &str, variables: &[(&str, &str)], arguments: &[&str]) -> (String, String, Option<i32>) {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("distfun.toml"), file).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_distfun"));
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DISTFUN_")) {
        command.env_remove(name);
    }
    command.current_dir(&folder).arg("check").args(arguments).envs(variables.iter().copied());
    let output = command.output().expect("it was just built");
    // The folder may be a link, which the program sees through.
    let path = fs::canonicalize(&folder).unwrap().display().to_string();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (stdout.replace(&path, "FOLDER"), stderr.replace(&path, "FOLDER"), output.status.code())
}

#[test]
fn it_shows_every_setting_with_the_source_it_is_from_and_that_results_are_equal() {
    let variables = [("DISTFUN_SLOTS", "3"), ("DISTFUN_MAX_CALLS", "7")];
    let (stdout, stderr, status) = check("max_calls = 5\nseed = 1", &variables, &["--max-cpu", "1"]);
    assert_eq!((stderr.as_str(), status), ("", Some(0)));
    let table = "\
settings file: FOLDER/distfun.toml
setting        value        from
slots          1            --max-cpu
max_gpu        all          default
gpu_policy     no_gpu       default
software_gpu   false        default
endaftercall   true         default
verbose        false        default
seed           1            seed in FOLDER/distfun.toml
max_calls      7            DISTFUN_MAX_CALLS
priority       normal       default
machines       none         default
port           2718         default
named_pipe     false        default
";
    assert!(stdout.starts_with(table), "{stdout}");
    assert!(stdout.ends_with(": equal\n"), "{stdout}");
    if cfg!(not(any(feature = "cuda", feature = "wgpu"))) {
        let why = "this program is built without the features that find one: cuda, wgpu";
        assert!(
            stdout.contains(&format!("\nGPUs: none ({why}; cargo install --path cli --features cuda,wgpu)\n")),
            "{stdout}"
        );
    }
}

#[test]
fn it_says_where_the_file_is_wrong_and_fails() {
    let (stdout, stderr, status) = check("slots = two", &[], &[]);
    let expected = "distfun: FOLDER/distfun.toml:1:9: invalid boolean, expected `true`, in `slots = two`; slots must be a whole number from 0 to 4096\n";
    assert_eq!((stdout.as_str(), stderr.as_str(), status), ("", expected, Some(1)));
}

#[test]
fn two_limits_on_the_command_line_are_refused_as_such() {
    let (stdout, stderr, status) = check("", &[], &["--slots", "1", "--max-cpu", "1"]);
    assert!(stdout.is_empty() && stderr.contains("cannot be used with"), "{stdout}{stderr}");
    assert_eq!(status, Some(2));
}
