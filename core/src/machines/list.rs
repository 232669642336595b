//! A list of machines as it is given, and how a text is cut into entries.

use std::{
    collections::{HashMap, hash_map},
    fmt,
    sync::Arc,
};

use super::{Address, Entry, MAX_MACHINES, MachinesError, Spot, entry};

/// A list of machines, read and found right as far as that can be known without looking anything up. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MachineList {
    texts: Arc<[String]>,
    pub(super) entries: Arc<[(Entry, Arc<Spot>)]>,
    pub(super) default_port: u16,
}

impl MachineList {
    /// No machines.
    #[must_use]
    pub fn none() -> Self {
        Self { texts: Arc::default(), entries: Arc::default(), default_port: crate::options::DEFAULT_PORT }
    }

    /// Reads the entries of a list; machines without a port are at `default_port`.
    ///
    /// # Errors
    /// The first entry that is wrong, names an address again, or makes more than [`MAX_MACHINES`].
    pub fn parse<S: AsRef<str>>(texts: &[S], default_port: u16) -> Result<Self, MachinesError> {
        let mut seen = Seen::default();
        let mut entries = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let text = without_comment(text.as_ref()).trim();
            let spot = Arc::new(Spot::listed(text, index + 1));
            for entry in read(text, &spot, default_port, entries.len())? {
                if let Entry::Machine(machine) = &entry {
                    seen.insert(&machine.address, &spot)?;
                }
                entries.push((entry, spot.clone()));
            }
        }
        let texts = texts.iter().map(|text| text.as_ref().to_owned()).collect();
        Ok(Self { texts, entries: entries.into(), default_port })
    }

    /// Whether it names nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Its entries in order, brackets expanded.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter().map(|(entry, _)| entry)
    }
}

impl fmt::Display for MachineList {
    /// The entries as they were given, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&if self.texts.is_empty() { "none".into() } else { self.texts.join(" ") })
    }
}

/// Reads one entry behind `before` others.
pub(super) fn read(
    text: &str,
    spot: &Arc<Spot>,
    default_port: u16,
    before: usize,
) -> Result<Vec<Entry>, MachinesError> {
    let malformed = |fault| MachinesError::Malformed { spot: spot.clone(), why: format!("{fault}") };
    let read = entry::read(text, default_port).map_err(malformed)?;
    fits(before, read.count(), spot)?;
    read.entries(default_port).map_err(malformed)
}

/// That there may be `more` machines behind `before` others.
pub(super) fn fits(before: usize, more: u64, spot: &Arc<Spot>) -> Result<(), MachinesError> {
    let count = (before as u64).saturating_add(more);
    if count > MAX_MACHINES as u64 { Err(MachinesError::TooMany { spot: spot.clone(), count }) } else { Ok(()) }
}

/// Which entry names which address.
#[derive(Default)]
pub(super) struct Seen(HashMap<Address, Arc<Spot>>);

impl Seen {
    /// Takes note of an address, unless it is there already.
    pub(super) fn insert(&mut self, address: &Address, spot: &Arc<Spot>) -> Result<(), MachinesError> {
        match self.0.entry(address.clone()) {
            hash_map::Entry::Vacant(free) => {
                free.insert(spot.clone());
                Ok(())
            }
            hash_map::Entry::Occupied(first) => {
                Err(MachinesError::Twice { address: address.clone(), first: first.get().clone(), second: spot.clone() })
            }
        }
    }
}

/// The entries of a text, each with its line from 1: separated by spaces, ends of lines and commas, all of which may
/// be inside brackets too; without comments.
pub(crate) fn split(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(index, line)| {
        let line = without_comment(line);
        let mut ends: Vec<usize> =
            outside(line).filter(|(_, c)| c.is_whitespace() || *c == ',').map(|(at, _)| at).collect();
        ends.push(line.len());
        let mut start = 0;
        let parts = ends.into_iter().map(move |end| {
            let part = line[start..end].trim_matches(|c: char| c.is_whitespace() || c == ',');
            start = end;
            (index + 1, part)
        });
        parts.filter(|(_, part)| !part.is_empty())
    })
}

/// The characters of a text that are in no bracket, each with its place.
pub(super) fn outside(text: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut is_inside = false;
    text.char_indices().filter(move |(_, c)| {
        match c {
            '[' => is_inside = true,
            ']' => is_inside = false,
            _ => return !is_inside,
        }
        false
    })
}

/// A `#` inside a word is no comment: it may be part of a path.
fn without_comment(text: &str) -> &str {
    let is_start = |at: usize| text[..at].chars().next_back().is_none_or(char::is_whitespace);
    text.match_indices('#').find(|(at, _)| is_start(*at)).map_or(text, |(at, _)| &text[..at])
}
