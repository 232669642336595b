//! The bytes of a file of shared data.
//!
//! ```text
//! offset  size
//!      0     8  magic: "distfun" and a zero byte
//!      8     2  version, 1
//!     10     1  byte order of the sections, and of nothing else: 0 little, 1 big
//!     11     5  zeros
//!     16     8  size of the directory in bytes
//!     24     8  size of the file in bytes
//!     32        directory: postcard of a sequence of `Entry`
//!      …        zeros up to a multiple of 64: here the data starts
//!      …        sections, one per entry in the order of the directory, each at a multiple of 64, zeros between them
//! ```
//!
//! Numbers in the header are little-endian. An entry's offset counts from the start of the data, so that the directory
//! does not depend on its own size. The file ends with its last section. Nothing in it depends on time or place: equal
//! data, given in the same order by the same build, is an equal file, which can be named by its hash.

use std::{collections::BTreeSet, fmt, ops::Range};

use serde::{Deserialize, Serialize};

use super::element::ElementType;

const MAGIC: [u8; 8] = *b"distfun\0";
const VERSION: u16 = 1;
pub(super) const HEADER: usize = 32;
/// Sections start at multiples of this: a cache line, and more than any element needs.
pub(super) const ALIGNMENT: usize = 64;
const BYTE_ORDER: u8 = if cfg!(target_endian = "big") { 1 } else { 0 };

/// What is stored under one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Content {
    /// An array.
    Array {
        /// The type of its elements.
        element: ElementType,
        /// Its length along each axis.
        shape: Vec<u64>,
        /// How its elements lie in memory.
        order: Order,
    },
    /// A value that serde wrote.
    Value {
        /// Its type, as `std::any::type_name` calls it.
        type_name: String,
    },
}

/// How the elements of an array lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Order {
    /// Row by row: the last index varies fastest.
    C,
    /// Column by column: the first index varies fastest.
    F,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Array { element, shape, .. } => write!(f, "an array of {element} with shape {shape:?}"),
            Self::Value { type_name } => write!(f, "a value of type {type_name}"),
        }
    }
}

/// One line of the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) content: Content,
    /// From the start of the data, in bytes; a multiple of [`ALIGNMENT`].
    offset: u64,
    /// In bytes.
    len: u64,
}

/// A file that is to be written.
pub(super) struct Plan {
    /// Everything before the first section.
    pub(super) head: Vec<u8>,
    /// Where each section goes.
    pub(super) sections: Vec<Range<usize>>,
    /// Size of the file in bytes.
    pub(super) total: usize,
}

/// Places sections of these sizes. None if the file would be larger than an address can say.
pub(super) fn plan<'k>(contents: impl IntoIterator<Item = (&'k str, Content, usize)>) -> Option<Plan> {
    let mut end = 0;
    let mut entries = Vec::new();
    for (key, content, len) in contents {
        let offset = align(end)?;
        end = offset.checked_add(len)?;
        entries.push(Entry { key: key.to_owned(), content, offset: offset as u64, len: len as u64 });
    }
    let directory = postcard::to_stdvec(&entries).expect("a directory has nothing that postcard can't write");
    let start = align(HEADER + directory.len())?;
    let total = start.checked_add(end)?;

    let mut head = Vec::with_capacity(start);
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend([BYTE_ORDER, 0, 0, 0, 0, 0]);
    head.extend((directory.len() as u64).to_le_bytes());
    head.extend((total as u64).to_le_bytes());
    head.extend(directory);
    head.resize(start, 0);
    let sections = entries.iter().map(|entry| {
        let from = start + entry.offset as usize;
        from..from + entry.len as usize
    });
    Some(Plan { sections: sections.collect(), head, total })
}

fn align(at: usize) -> Option<usize> {
    at.checked_next_multiple_of(ALIGNMENT)
}

/// Why bytes are no shared data.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LayoutError {
    #[error("it does not start like shared data")]
    Magic,
    #[error("it is of version {0} and this build reads version {VERSION}")]
    Version(u16),
    #[error("it was made on a machine with another byte order")]
    ByteOrder,
    #[error("it should have {should} bytes and has {has}")]
    Length { should: u64, has: u64 },
    #[error("its directory can't be read")]
    Directory,
    #[error("the key {0:?} is there twice")]
    Twice(String),
    #[error("the section of {0:?} is not where it can be")]
    Section(String),
    #[error("the section of {0:?} is not as long as its shape says")]
    Shape(String),
}

/// Reads the directory of a file and checks all of it against the file's length. Each entry comes with the place of its
/// section. What is in the sections is not looked at.
pub(super) fn open(bytes: &[u8]) -> Result<Vec<(Entry, Range<usize>)>, LayoutError> {
    let header: &[u8; HEADER] = bytes.first_chunk().ok_or(LayoutError::Magic)?;
    if header[..8] != MAGIC {
        return Err(LayoutError::Magic);
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version != VERSION {
        return Err(LayoutError::Version(version));
    }
    if header[10] != BYTE_ORDER {
        return Err(LayoutError::ByteOrder);
    }
    let number = |at: usize| u64::from_le_bytes(*header[at..].first_chunk().expect("it lies inside the header"));
    let (directory_len, total) = (number(16), number(24));
    if total != bytes.len() as u64 {
        return Err(LayoutError::Length { should: total, has: bytes.len() as u64 });
    }
    let end = usize::try_from(directory_len).ok().and_then(|len| HEADER.checked_add(len));
    let end = end.filter(|end| *end <= bytes.len()).ok_or(LayoutError::Directory)?;
    let (entries, rest) =
        postcard::take_from_bytes::<Vec<Entry>>(&bytes[HEADER..end]).map_err(|_| LayoutError::Directory)?;
    let start = align(end).filter(|start| rest.is_empty() && (entries.is_empty() || *start <= bytes.len()));
    let start = start.ok_or(LayoutError::Directory)?;

    let mut keys = BTreeSet::new();
    let mut before = start;
    let mut found = Vec::with_capacity(entries.len());
    for entry in entries {
        let place = entry.place(start, bytes.len()).filter(|place| place.start >= before);
        let place = place.ok_or_else(|| LayoutError::Section(entry.key.clone()))?;
        if let Content::Array { element, shape, .. } = &entry.content
            && array_bytes(*element, shape.iter().map(|len| usize::try_from(*len).ok())) != Some(place.len())
        {
            return Err(LayoutError::Shape(entry.key));
        }
        if !keys.insert(entry.key.clone()) {
            return Err(LayoutError::Twice(entry.key));
        }
        before = place.end;
        found.push((entry, place));
    }
    Ok(found)
}

impl Entry {
    fn place(&self, start: usize, total: usize) -> Option<Range<usize>> {
        let offset = usize::try_from(self.offset).ok().filter(|offset| offset.is_multiple_of(ALIGNMENT))?;
        let from = start.checked_add(offset)?;
        let to = from.checked_add(usize::try_from(self.len).ok()?)?;
        (to <= total).then_some(from..to)
    }
}

/// Size of an array in bytes. None if it, or without its empty axes it, is larger than memory can be, as ndarray has it.
pub(super) fn array_bytes(element: ElementType, shape: impl Iterator<Item = Option<usize>>) -> Option<usize> {
    let mut is_empty = false;
    let mut bytes = element.size();
    for len in shape {
        match len? {
            0 => is_empty = true,
            len => bytes = bytes.checked_mul(len).filter(|bytes| isize::try_from(*bytes).is_ok())?,
        }
    }
    Some(if is_empty { 0 } else { bytes })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn array(element: ElementType, shape: &[u64]) -> (Content, usize) {
        let content = Content::Array { element, shape: shape.to_vec(), order: Order::C };
        let bytes = array_bytes(element, shape.iter().map(|len| Some(*len as usize))).unwrap();
        (content, bytes)
    }

    /// A whole file, its sections zero.
    fn file(contents: &[(&str, Content, usize)]) -> Vec<u8> {
        let plan = plan(contents.iter().cloned()).unwrap();
        let mut bytes = plan.head;
        bytes.resize(plan.total, 0);
        bytes
    }

    fn example() -> Vec<u8> {
        let (matrix, matrix_len) = array(ElementType::F64, &[2, 5]);
        let (empty, empty_len) = array(ElementType::Bool, &[0]);
        let value = Content::Value { type_name: "u8".to_owned() };
        file(&[("matrix", matrix, matrix_len), ("empty", empty, empty_len), ("value", value, 1)])
    }

    /// With a change in the directory, and the header's lengths made to fit.
    fn forged(change: impl FnOnce(&mut Vec<Entry>)) -> Vec<u8> {
        let bytes = example();
        let mut entries: Vec<Entry> = open(&bytes).unwrap().into_iter().map(|(entry, _)| entry).collect();
        change(&mut entries);
        let directory = postcard::to_stdvec(&entries).unwrap();
        let mut forged = bytes[..HEADER].to_vec();
        forged[16..24].copy_from_slice(&(directory.len() as u64).to_le_bytes());
        forged.extend(directory);
        forged.resize(align(forged.len()).unwrap() + 129, 0);
        let total = forged.len() as u64;
        forged[24..32].copy_from_slice(&total.to_le_bytes());
        forged
    }

    #[test]
    fn what_is_planned_is_what_is_opened() {
        let bytes = example();
        let found = open(&bytes).unwrap();
        let keys: Vec<_> = found.iter().map(|(entry, _)| entry.key.as_str()).collect();
        assert_eq!(keys, ["matrix", "empty", "value"]);
        let places: Vec<_> = found.iter().map(|(_, place)| place.clone()).collect();
        assert!(places.iter().all(|place| place.start % ALIGNMENT == 0));
        assert_eq!(places.iter().map(Range::len).collect::<Vec<_>>(), [80, 0, 1]);
        assert_eq!(places[2].end, bytes.len());
        assert_eq!(places[2].start - places[0].start, 128);
        assert!(open(&file(&[])).unwrap().is_empty());
    }

    #[test]
    fn the_bytes_of_version_1_stay_what_they_are() {
        let value = Content::Value { type_name: "u8".to_owned() };
        let bytes = file(&[("a", array(ElementType::F32, &[1, 2]).0, 8), ("v", value, 1)]);
        let directory = b"\x02\x01a\x00\x0a\x02\x01\x02\x00\x00\x08\x01v\x01\x02u8\x40\x01";
        let mut expected = b"distfun\0\x01\0".to_vec();
        expected.extend([
            BYTE_ORDER,
            0,
            0,
            0,
            0,
            0,
            directory.len() as u8,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            129,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
        expected.extend(directory);
        expected.resize(129, 0);
        expected[24] = 129;
        assert_eq!(bytes, expected);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = example();
        for len in 0..bytes.len() {
            assert!(open(&bytes[..len]).is_err(), "{len}");
        }
        assert!(matches!(open(&[bytes, vec![0]].concat()), Err(LayoutError::Length { .. })));
    }

    #[test]
    fn directories_that_lie_are_errors() {
        assert!(open(&forged(|_| ())).is_ok());
        let section = |key: &str| Err(LayoutError::Section(key.to_owned()));
        let keys = |bytes: Vec<u8>| open(&bytes).map(|found| found.len());
        assert_eq!(keys(forged(|entries| entries[0].offset = 8)), section("matrix"));
        assert_eq!(keys(forged(|entries| entries[2].offset = 64)), section("value"));
        assert_eq!(keys(forged(|entries| entries[2].len = 2)), section("value"));
        assert_eq!(keys(forged(|entries| entries[2].len = u64::MAX)), section("value"));
        assert_eq!(keys(forged(|entries| entries[2].offset = u64::MAX - 63)), section("value"));
        assert_eq!(keys(forged(|entries| entries[0].len = 79)), Err(LayoutError::Shape("matrix".to_owned())));
        let shape = |shape: &[u64]| {
            let content = array(ElementType::F64, &[]).0;
            let Content::Array { element, order, .. } = content else { unreachable!() };
            let content = Content::Array { element, order, shape: shape.to_vec() };
            keys(forged(|entries| entries[0].content = content))
        };
        assert_eq!(shape(&[10]), Ok(3));
        for other in [&[11][..], &[u64::MAX, 10], &[1 << 62, 1 << 62], &[0, u64::MAX], &[]] {
            assert_eq!(shape(other), Err(LayoutError::Shape("matrix".to_owned())), "{other:?}");
        }
        let twice = forged(|entries| entries[1].key = "matrix".to_owned());
        assert_eq!(keys(twice), Err(LayoutError::Twice("matrix".to_owned())));
    }

    #[test]
    fn headers_that_lie_are_errors() {
        let with = |at: usize, byte: u8| {
            let mut bytes = example();
            bytes[at] = byte;
            open(&bytes).map(|found| found.len())
        };
        assert_eq!(with(0, b'D'), Err(LayoutError::Magic));
        assert_eq!(with(8, 2), Err(LayoutError::Version(2)));
        assert_eq!(with(10, 1 - BYTE_ORDER), Err(LayoutError::ByteOrder));
        assert_eq!(with(16, 255), Err(LayoutError::Directory));
        assert_eq!(with(23, 255), Err(LayoutError::Directory));
        assert!(matches!(with(24, 0), Err(LayoutError::Length { .. })));
    }

    proptest! {
        #[test]
        fn junk_never_panics(junk: Vec<u8>) {
            prop_assert!(open(&junk).is_err());
            let mut bytes = example()[..16].to_vec();
            bytes.extend((junk.len() as u64).to_le_bytes());
            bytes.extend((junk.len() as u64 + 32).to_le_bytes());
            bytes.extend(junk);
            let _ = open(&bytes);
        }

        #[test]
        fn changed_bytes_never_lead_outside(changes in prop::collection::vec((0usize..512, any::<u8>()), 1..8)) {
            let mut bytes = example();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            if let Ok(found) = open(&bytes) {
                for (_, place) in found {
                    prop_assert!(place.start % ALIGNMENT == 0 && place.end <= bytes.len());
                }
            }
        }

        #[test]
        fn any_sizes_are_placed_apart(lens in prop::collection::vec(0usize..300, 0..20)) {
            let keys: Vec<String> = (0..lens.len()).map(|index| index.to_string()).collect();
            let contents: Vec<_> = keys
                .iter()
                .zip(&lens)
                .map(|(key, len)| (key.as_str(), Content::Value { type_name: "T".repeat(len % 7) }, *len))
                .collect();
            let bytes = file(&contents);
            let found = open(&bytes).unwrap();
            prop_assert_eq!(found.iter().map(|(_, place)| place.len()).collect::<Vec<_>>(), lens);
            prop_assert!(found.windows(2).all(|pair| pair[0].1.end <= pair[1].1.start));
        }
    }
}
