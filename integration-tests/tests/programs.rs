//! The programs of this workspace, built for the tests that start them.

use std::{
    collections::BTreeMap,
    env,
    io::Cursor,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use cargo_metadata::Message;

/// The programs by name, built once, with the profile of this test.
static PROGRAMS: LazyLock<BTreeMap<String, PathBuf>> = LazyLock::new(|| {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args([
        "build",
        "--quiet",
        "--package",
        "distfun-examples",
        "--package",
        "distfun-cli",
        "--bins",
        "--all-features",
        "--message-format=json",
    ]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo starts");
    assert!(built.status.success(), "the examples do not compile: {}", String::from_utf8_lossy(&built.stderr));
    let messages = Message::parse_stream(Cursor::new(built.stdout)).map(|message| message.expect("cargo's own format"));
    let programs = messages.filter_map(|message| match message {
        Message::CompilerArtifact(artifact) => Some((artifact.target.name, artifact.executable?.into())),
        _ => None,
    });
    programs.collect()
});

/// Their names.
#[allow(dead_code, reason = "one of the two binaries that have this module needs no names")]
pub(crate) fn programs() -> impl Iterator<Item = &'static str> {
    PROGRAMS.keys().map(String::as_str)
}

/// The path of a program that was built.
pub(crate) fn program(name: &str) -> &'static Path {
    &PROGRAMS[name]
}

/// An example, built, and ready to start.
pub(crate) fn example(name: &str) -> Command {
    let mut command = Command::new(&PROGRAMS[name]);
    // A layer of Mesa's for Vulkan complains where no screen is.
    command.env("NODEVICE_SELECT", "1");
    // The environment of whoever runs the tests must not change what the examples do.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DISTFUN_")) {
        command.env_remove(name);
    }
    command
}
