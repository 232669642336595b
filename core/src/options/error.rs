//! Why settings can't hold, said so that whoever wrote them can put it right.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{CONFIG_VARIABLE, DEFAULT_PORT, MAX_FILE_BYTES, MAX_SLOTS};
use crate::machines::MachinesError;

/// A setting that can't hold.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// `max_cpu(0)` or `slots(0)`, and no other machine to do the work.
    #[error("{by} is not enough to compute on, since no other machine is given; allow at least 1, or name machines")]
    NoSlots {
        /// The limit as its source has it: `slots(0)`, `DISTFUN_SLOTS="0"`, or `/home/ann/distfun.toml:1:9: slots = 0`.
        by: String,
    },
    /// Both limits were given by one source.
    #[error(
        "both max_cpu ({max_cpu}) and slots ({slots}) are given by {by}; keep max_cpu to stay within the CPUs, or slots for an exact number"
    )]
    BothLimits {
        /// As given.
        max_cpu: usize,
        /// As given.
        slots: usize,
        /// The source.
        by: String,
    },
    /// More slots than [`MAX_SLOTS`].
    #[error("slots({slots}) is more than the {MAX_SLOTS} threads that one Manager starts")]
    TooManySlots {
        /// As given.
        slots: usize,
    },
    /// `max_calls(0)`.
    #[error("max_calls(0) would refuse every call; allow at least 1")]
    NoCalls,
    /// `port(0)`.
    #[error("port(0) is none that a node can be found at; leave it out for {DEFAULT_PORT}, or give one up to 65535")]
    NoPort,
    /// The list of machines is not right.
    #[error("{by}: {error}")]
    Machines {
        /// Where it is said.
        by: String,
        /// What is wrong.
        error: MachinesError,
    },
    /// The name of the local socket can't be one.
    #[error("{by}: {why}")]
    NamedPipe {
        /// Where it is said.
        by: String,
        /// What is wrong, and what to write instead.
        why: String,
    },
    /// `max_gpu`, or `software_gpu`, where no function runs on a GPU.
    #[error("{by} has no meaning without GPUs; add .gpu_policy(GpuPolicy::PreferGpu), or leave it out")]
    NoPolicy {
        /// Where it is said.
        by: String,
    },
    /// [`GpuOrFail`](super::GpuPolicy::GpuOrFail), no other machine is named, and this one has no GPU that can be used.
    #[error("{by} demands a GPU, and this machine has none that can be used: {why}")]
    NoGpu {
        /// Where the policy is said.
        by: String,
        /// Why it has none, and the remedy.
        why: String,
    },
    /// `item_timeout` where items run on threads, which nobody can stop.
    #[error(
        "{by} can't hold on threads, which can't be stopped inside an item; add .isolation(Isolation::Process), or bound \
         the whole call with wait_timeout"
    )]
    TimeoutOnThreads {
        /// Where it is said.
        by: String,
    },
    /// `max_memory` where items run on threads, which share all memory.
    #[error("{by} can't hold on threads, which share the program's memory; add .isolation(Isolation::Process)")]
    MemoryOnThreads {
        /// Where it is said.
        by: String,
    },
    /// An environment variable has a value of the wrong form.
    #[error("environment variable {name}={value:?} is not {expected}; correct or unset it")]
    Malformed {
        /// The variable.
        name: String,
        /// Its value.
        value: String,
        /// What it must be.
        expected: String,
    },
    /// A variable that starts with `DISTFUN_` but is not known.
    #[error("environment variable {name} is not a setting of distfun; {hint}")]
    Unknown {
        /// The variable.
        name: String,
        /// The closest known one, or all of them.
        hint: String,
    },
    /// `DISTFUN_CONFIG` names a file that is not there.
    #[error("{CONFIG_VARIABLE} names {path:?}, which does not exist; correct or unset it")]
    NoFile {
        /// As given.
        path: PathBuf,
    },
    /// What should be the settings file is a directory, a pipe or a device.
    #[error("{} is not a file, so it can't hold settings; name a file in {CONFIG_VARIABLE}, or rename this", path.display())]
    NotAFile {
        /// Where it is.
        path: PathBuf,
    },
    /// The settings file is there but can't be read.
    #[error("{} can't be read: {why}; make it readable, or name another file in {CONFIG_VARIABLE}", path.display())]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// What the operating system says.
        why: String,
    },
    /// The settings file is larger than [`MAX_FILE_BYTES`].
    #[error(
        "{} is larger than {MAX_FILE_BYTES} bytes, which is no file of settings; name the right one in {CONFIG_VARIABLE}",
        path.display()
    )]
    TooLarge {
        /// Where it is.
        path: PathBuf,
    },
    /// The settings file is not text.
    #[error("{place}: byte {offset} of the file (0x{byte:02x}) is not UTF-8; save it as UTF-8")]
    NotUtf8 {
        /// Where the first wrong byte is.
        place: Place,
        /// How many bytes are before it.
        offset: usize,
        /// The byte.
        byte: u8,
    },
    /// The settings file is not TOML; this includes a key that is there twice.
    #[error("{place}: {message}, in `{line}`{remedy}")]
    NotToml {
        /// Where it stops being TOML.
        place: Place,
        /// What the parser says.
        message: String,
        /// The line.
        line: String,
        /// What the key of the line must be, if the value is what is wrong.
        remedy: String,
    },
    /// The settings file has a key that is not known.
    #[error("{place}: {key} is not a setting of distfun; {hint}")]
    UnknownKey {
        /// Where the key is.
        place: Place,
        /// The key.
        key: String,
        /// The closest known one, or all of them.
        hint: String,
    },
    /// A value in the settings file has the wrong type or is out of range.
    #[error("{place}: {said} is not {expected}")]
    WrongValue {
        /// Where the value is.
        place: Place,
        /// Key and value.
        said: String,
        /// What it must be.
        expected: String,
    },
}

/// A place in the settings file, shown as `path:line:column`, which editors and terminals make a link of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Place {
    /// The place in the file `path` behind the text `before`.
    pub(super) fn behind(before: &str, path: &Path) -> Self {
        let line = before.rsplit('\n').next().unwrap_or("");
        Self { path: path.into(), line: before.matches('\n').count() + 1, column: line.chars().count() + 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

impl std::fmt::Debug for SettingsError {
    /// What `main` prints of an error that it returns: the message for people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
