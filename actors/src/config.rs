//! The settings file: which one, and what is in it. What it says is read in `distfun_core::options`.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    path::{self, Path, PathBuf},
};

use distfun_core::options::{CONFIG_FILE, CONFIG_VARIABLE, ConfigFile, MAX_FILE_BYTES, Settings, SettingsError, Told};

use crate::pool::cpus;

/// Stands for no file, as it does elsewhere; so a `distfun.toml` in the current directory can be left unread.
const NO_FILE: &str = "/dev/null";

/// Resolves what the program has `told` over the environment and the settings file, as they are now: a program that
/// lives long may change both, and its directory.
pub(crate) fn resolve(told: &Told) -> Result<Settings, SettingsError> {
    Settings::resolve(told, env::vars_os(), file()?.as_ref(), cpus())
}

/// The same for what runs on this machine only, whatever machines there are.
pub(crate) fn resolve_here(told: &Told) -> Result<Settings, SettingsError> {
    Settings::resolve_alone(told, env::vars_os(), file()?.as_ref(), cpus())
}

fn file() -> Result<Option<ConfigFile>, SettingsError> {
    find(env::var_os(CONFIG_VARIABLE))
}

/// The file that the environment has `named`, or else the one in the current directory, if it is there.
fn find(named: Option<OsString>) -> Result<Option<ConfigFile>, SettingsError> {
    let path = PathBuf::from(named.as_deref().unwrap_or(CONFIG_FILE.as_ref()));
    if path == Path::new(NO_FILE) {
        return Ok(None);
    }
    // Links are not followed here, so that one which leads nowhere is not taken for no file at all.
    match fs::symlink_metadata(&path) {
        Ok(_) => read(path::absolute(&path).unwrap_or(path)).map(Some),
        // Nor is there a file where this process may not look: a service often starts in its starter's directory.
        Err(_) if named.is_none() => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SettingsError::NoFile { path }),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn read(path: PathBuf) -> Result<ConfigFile, SettingsError> {
    let mut bytes = Vec::new();
    // Asked before it is opened, since opening a pipe waits for a writer.
    match fs::metadata(&path) {
        Ok(found) if !found.is_file() => return Err(SettingsError::NotAFile { path }),
        Err(error) => return Err(unreadable(path, &error)),
        Ok(_) => {}
    }
    match File::open(&path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)) {
        Ok(_) if bytes.len() as u64 > MAX_FILE_BYTES => Err(SettingsError::TooLarge { path }),
        Ok(_) => Ok(ConfigFile { path, bytes }),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: PathBuf, error: &io::Error) -> SettingsError {
    SettingsError::Unreadable { path, why: error.to_string() }
}
