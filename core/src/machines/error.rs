//! Why a list of machines can't be used, said so that whoever wrote it can put it right.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Address, MAX_MACHINES};

/// A list of machines that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MachinesError {
    /// An entry is not written as one is.
    #[error("{spot}: {why}")]
    Malformed {
        /// The entry.
        spot: Arc<Spot>,
        /// What is wrong with it, and what to write instead.
        why: String,
    },
    /// The list, with everything it names, has more than [`MAX_MACHINES`].
    #[error("{spot}: with it the list has {count} machines, and {MAX_MACHINES} is the most; leave some out")]
    TooMany {
        /// The entry that is too many.
        spot: Arc<Spot>,
        /// Machines of the list up to and with this entry.
        count: u64,
    },
    /// Two entries, or one that is there twice, name the same address.
    #[error("{second}: it names {address}, {}; leave one of them out", twice(first, second))]
    Twice {
        /// What is named.
        address: Address,
        /// The first entry that names it.
        first: Arc<Spot>,
        /// The second, which may be the same entry.
        second: Arc<Spot>,
    },
    /// What an entry names could not be looked up.
    #[error("{spot}: it can't be looked up: {why}")]
    Unavailable {
        /// The entry.
        spot: Arc<Spot>,
        /// What the system says, and what to do.
        why: String,
    },
}

fn twice(first: &Spot, second: &Spot) -> String {
    if first == second { "which it names already".into() } else { format!("as does {first}") }
}

/// Where an entry stands, shown with the entry: `entry 2 ("bob:4")`, and for one in a file
/// `entry 2 ("file:hosts"), hosts:7 ("bob:4")`, which editors and terminals make a link of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    text: Arc<str>,
    at: At,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum At {
    /// In the list itself.
    List(usize),
    File {
        path: Arc<Path>,
        line: usize,
        of: Arc<Spot>,
    },
    Variable {
        name: Arc<str>,
        position: usize,
        of: Arc<Spot>,
    },
}

impl Spot {
    /// The entry `text`, at this position of the list from 1.
    pub(super) fn listed(text: &str, position: usize) -> Self {
        Self { text: text.into(), at: At::List(position) }
    }

    /// The entry `text` in a file that `self` names.
    pub(super) fn in_file(self: &Arc<Self>, path: &Arc<Path>, line: usize, text: &str) -> Self {
        Self { text: text.into(), at: At::File { path: path.clone(), line, of: self.clone() } }
    }

    /// The entry `text` in a variable that `self` names.
    pub(super) fn in_variable(self: &Arc<Self>, name: &Arc<str>, position: usize, text: &str) -> Self {
        Self { text: text.into(), at: At::Variable { name: name.clone(), position, of: self.clone() } }
    }

    /// The entry as it is written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its position in the list from 1; for one in a file or variable, the position of the entry that names that.
    #[must_use]
    pub fn position(&self) -> usize {
        match &self.at {
            At::List(position) => *position,
            At::File { of, .. } | At::Variable { of, .. } => of.position(),
        }
    }

    /// The file and the line in it, from 1.
    #[must_use]
    pub fn file(&self) -> Option<(PathBuf, usize)> {
        match &self.at {
            At::File { path, line, .. } => Some((path.to_path_buf(), *line)),
            _ => None,
        }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::List(position) => write!(f, "entry {position}")?,
            At::File { path, line, of } => {
                // Without quotes, for terminals to make a link of, and so without what moves their cursor.
                let path = path.display().to_string().replace(char::is_control, "\u{fffd}");
                write!(f, "{of}, {path}:{line}")?;
            }
            At::Variable { name, position, of } => write!(f, "{of}, entry {position} of {name}")?,
        }
        write!(f, " ({:?})", shortened(&self.text))
    }
}

/// Characters of an entry that an error shows.
const SHOWN: usize = 60;

/// At most as much of a text as an error shows.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into(),
    }
}
