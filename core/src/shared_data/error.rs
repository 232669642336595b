//! How making shared data, or reading it, fails.

use std::{
    error, fmt, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{element::ElementType, layout::Content};

/// Making shared data, or reading it, failed. Nothing is left behind by what could not be made, and what is there stays
/// as it is.
///
/// It is plain data, so that a function that runs elsewhere can return it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum SharedDataError {
    /// Nothing is stored under this key.
    #[error("there is no shared data {key:?}{}", hint(.key, .keys))]
    Missing {
        /// What was asked for.
        key: String,
        /// What there is.
        keys: Vec<String>,
    },
    /// The array has elements of another type.
    #[error("shared data {key:?} is {content} and was asked for as one of {asked}: ask for {}", view(.content))]
    WrongElement {
        /// The array's key.
        key: String,
        /// What is stored.
        content: Content,
        /// The type of elements it was asked for.
        asked: ElementType,
    },
    /// The array has another number of axes.
    #[error("shared data {key:?} is {content} and was asked for with {}: ask for {}", axes(*.asked), view(.content))]
    WrongDimension {
        /// The array's key.
        key: String,
        /// What is stored.
        content: Content,
        /// The number of axes it was asked for.
        asked: usize,
    },
    /// A value was asked for as an array.
    #[error("shared data {key:?} is {content} and was asked for as an array: read it with `value({key:?})`")]
    NotAnArray {
        /// The value's key.
        key: String,
        /// What is stored.
        content: Content,
    },
    /// An array was asked for as a value.
    #[error("shared data {key:?} is {content} and was asked for as a value: read it with `array({key:?})`")]
    NotAValue {
        /// The array's key.
        key: String,
        /// What is stored.
        content: Content,
    },
    /// The value is of another type.
    #[error("shared data {key:?} is {content} and was asked for as {asked}")]
    OtherValue {
        /// The value's key.
        key: String,
        /// What is stored.
        content: Content,
        /// The type it was asked for as.
        asked: String,
    },
    /// The value can't be written with postcard, or what was written can't be read back.
    ///
    /// Types whose form depends on what they hold can't: serde's `untagged`, `flatten`, `skip_serializing_if`, and
    /// `serde_json::Value`, for example.
    #[error(
        "shared data {key:?} of type {type_name} can't be {doing}: its serde form must say by its type alone what \
         follows what (no `untagged`, `flatten` or `skip_serializing_if`)"
    )]
    Value {
        /// The value's key.
        key: String,
        /// Its type.
        type_name: String,
        /// Written or read back.
        doing: String,
        /// What serde or postcard says.
        #[source]
        cause: Cause,
    },
    /// Two things were to be stored under one key.
    #[error("shared data {key:?} is given twice: give each its own key")]
    Twice {
        /// The key.
        key: String,
    },
    /// An array of this shape is larger than memory can be.
    #[error("shared data {key:?} of shape {shape:?} is larger than any memory")]
    Overflow {
        /// The array's key.
        key: String,
        /// Its length along each axis.
        shape: Vec<usize>,
    },
    /// The disk is full, or the user's share of it.
    #[error(
        "shared data needs {} in {}, where {} free: make space there, or name another directory with TMPDIR or \
         `SharedDataBuilder::dir`", Bytes(*.needed), .dir.display(), free_text(*.free)
    )]
    NoSpace {
        /// Where the file was to go.
        dir: PathBuf,
        /// The file's size in bytes.
        needed: u64,
        /// What is free, in bytes, where the system tells.
        free: Option<u64>,
    },
    /// There is not enough memory on this machine, or in this process's control group.
    #[error(
        "shared data needs {} of memory and {} are available to this process: keep it in a file on a disk \
         (`SharedDataBuilder::storage`, `dir`), or raise the limit", Bytes(*.needed), Bytes(*.available)
    )]
    TooLarge {
        /// What is needed in bytes.
        needed: u64,
        /// What is available in bytes.
        available: u64,
    },
    /// The process may not make files of this size.
    #[error(
        "shared data needs a file of {} and this process may make files of up to {}: raise the limit (`ulimit -f`)",
        Bytes(*.needed), Bytes(*.limit)
    )]
    FileLimit {
        /// The file's size in bytes.
        needed: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A NumPy file can't be used as it is.
    #[error("shared data {key:?}: {} {reason}", .path.display())]
    Npy {
        /// The array's key.
        key: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A NumPy file was written to or cut while it was mapped. Results since then may be wrong.
    #[error(
        "shared data {key:?}: {} was changed while it was in use: write to a new file and rename it, and make the \
         shared data again", .path.display()
    )]
    Changed {
        /// The array's key.
        key: String,
        /// The file.
        path: PathBuf,
    },
    /// A file of shared data is not as it was written.
    #[error("shared data is damaged: {reason}")]
    Damaged {
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused something.
    #[error("could not {doing} {}", .path.display())]
    Io {
        /// What was tried.
        doing: String,
        /// With what.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: Cause,
    },
}

impl SharedDataError {
    pub(super) fn io(doing: &str, path: &Path, cause: impl fmt::Display) -> Self {
        Self::Io { doing: doing.to_owned(), path: path.to_owned(), cause: Cause(cause.to_string()) }
    }
}

/// The text of an error below, from the operating system or from serde.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct Cause(pub(super) String);

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Debug for SharedDataError {
    /// What `main` prints of an error that it returns: the message for people, and its cause.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        match error::Error::source(self) {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

/// Keys that are shown before they are only counted.
const SHOWN: usize = 10;

fn hint(key: &str, keys: &[String]) -> String {
    if keys.is_empty() {
        return ": nothing is shared; give the call some with .shared_data(…)".to_owned();
    }
    let nearest = keys.iter().map(|other| (strsim::damerau_levenshtein(key, other), other)).min();
    let close = nearest.filter(|(distance, other)| *distance <= other.chars().count().max(3) / 3);
    let question = close.map(|(_, other)| format!(", perhaps {other:?}")).unwrap_or_default();
    let shown: Vec<String> = keys.iter().take(SHOWN).map(|key| format!("{key:?}")).collect();
    let more = match keys.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{question}; there {} {}{more}", if keys.len() == 1 { "is" } else { "are" }, shown.join(", "))
}

/// The type to ask for.
fn view(content: &Content) -> String {
    match content {
        Content::Array { element, shape, .. } if shape.len() <= 6 => format!("`ArrayView{}<{element}>`", shape.len()),
        Content::Array { element, .. } => format!("`ArrayViewD<{element}>`"),
        Content::Value { type_name } => format!("`&{type_name}`"),
    }
}

fn axes(count: usize) -> String {
    if count == 1 { "1 axis".to_owned() } else { format!("{count} axes") }
}

fn free_text(free: Option<u64>) -> String {
    free.map_or("less is".to_owned(), |free| format!("{} are", Bytes(free)))
}

/// A size for people.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut size = self.0 as f64;
        let mut unit = "";
        for larger in UNITS {
            if size < 1024.0 {
                break;
            }
            size /= 1024.0;
            unit = larger;
        }
        write!(f, "{size:.1} {unit}")
    }
}
