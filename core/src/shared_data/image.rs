//! Shared data as the bytes of one file, to be sent.

use std::{collections::BTreeSet, fmt, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    SharedData,
    element::ElementType,
    layout::{self, ALIGNMENT, Content},
    map::Section,
};

/// All of some [`SharedData`] as the bytes of one file, which is nowhere written down: its parts are where they are
/// mapped. It keeps the data, and a clone is another handle of it.
///
/// For data in one file it is that file. Arrays in mapped NumPy files follow as further sections, in alphabetical order
/// of their keys. Equal data, given in the same order by the same build, has equal bytes.
///
/// As long as the data can change so can these bytes: [`SharedData::check_unchanged`] tells, for NumPy files.
#[derive(Clone)]
pub struct Image(Arc<Parts>);

struct Parts {
    /// One behind the other, without gaps.
    parts: Vec<(u64, Part)>,
    len: u64,
    /// Keeps what is published until the last byte has been sent.
    _shared: SharedData,
}

/// Bytes that lie together in memory.
enum Part {
    Head(Vec<u8>),
    Mapped(Section),
    /// Up to the next section.
    Zeros(usize),
}

static ZEROS: [u8; ALIGNMENT] = [0; ALIGNMENT];

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Head(bytes) => bytes,
            Self::Mapped(section) => section.bytes(),
            Self::Zeros(len) => &ZEROS[..*len],
        }
    }
}

impl SharedData {
    /// All of it as the bytes of one file.
    pub fn image(&self) -> Image {
        let inner = &self.0;
        let mut parts = Vec::new();
        match &inner.file {
            Some(file) if inner.all.len() == in_file(file.bytes()).len() => {
                let all = file.section(0..file.bytes().len(), ElementType::U8);
                parts.push(Part::Mapped(all.expect("bytes can be read anywhere")));
            }
            _ => self.lay_out(&mut parts),
        }
        let mut len = 0;
        let parts = parts.into_iter().map(|part| {
            let start = len;
            len += part.bytes().len() as u64;
            (start, part)
        });
        let parts = parts.collect();
        Image(Arc::new(Parts { parts, len, _shared: self.clone() }))
    }

    /// Places what is in the one file, and what is in others behind it.
    fn lay_out(&self, parts: &mut Vec<Part>) {
        let inner = &self.0;
        let mut order = inner.file.as_ref().map_or_else(Vec::new, |file| in_file(file.bytes()));
        let first: BTreeSet<String> = order.iter().cloned().collect();
        order.extend(inner.all.keys().filter(|key| !first.contains(*key)).cloned());
        let stored: Vec<_> = order.iter().map(|key| (key, &inner.all[key])).collect();
        let contents: Vec<(&str, Content, usize)> = stored
            .iter()
            .map(|(key, stored)| (key.as_str(), stored.content().clone(), stored.section().bytes().len()))
            .collect();
        let plan = layout::plan(contents).expect("all of it is in memory at this time");
        let mut end = plan.head.len();
        parts.push(Part::Head(plan.head));
        for ((_, stored), place) in stored.into_iter().zip(plan.sections) {
            parts.push(Part::Zeros(place.start - end));
            parts.push(Part::Mapped(stored.section().clone()));
            end = place.end;
        }
        parts.retain(|part| !part.bytes().is_empty());
    }

    /// BLAKE3 of the [image](Self::image): a name for the data that any machine can check. None if nothing is shared.
    ///
    /// It is computed when it is first asked for, about 0.25 s per GiB, by the thread that asks; others that ask
    /// meanwhile wait.
    pub fn digest(&self) -> Option<[u8; 32]> {
        if self.is_empty() {
            return None;
        }
        Some(*self.0.digest.get_or_init(|| {
            let image = self.image();
            let mut hasher = blake3::Hasher::new();
            image.slices(0..image.len()).for_each(|bytes| {
                hasher.update(bytes);
            });
            *hasher.finalize().as_bytes()
        }))
    }

    /// Whether [`digest`](Self::digest) is there at once.
    pub fn is_hashed(&self) -> bool {
        self.is_empty() || self.0.digest.get().is_some()
    }
}

/// The keys in a file of shared data, in its order.
fn in_file(bytes: &[u8]) -> Vec<String> {
    // What is shared was read from it, so it can be read; and if not, everything is laid out anew.
    let entries = layout::open(bytes).unwrap_or_default();
    entries.into_iter().map(|(entry, _)| entry.key).collect()
}

impl Image {
    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.0.len
    }

    /// Never: there is a header even where nothing is shared.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of a range, or of what there is of it, without a copy: one slice for each part of memory they lie in.
    pub fn slices(&self, range: Range<u64>) -> impl Iterator<Item = &[u8]> {
        self.cut(range).map(|(part, range)| &part.bytes()[range])
    }

    /// Copies bytes from `offset` on, and returns how many there were: less than asked for at the end.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        for bytes in self.slices(offset..offset.saturating_add(buffer.len() as u64)) {
            buffer[filled..filled + bytes.len()].copy_from_slice(bytes);
            filled += bytes.len();
        }
        filled
    }

    /// The bytes of a range, or of what there is of it. They are copied only if they lie in more than one part of
    /// memory, which happens where a section of a NumPy file begins or ends; and they keep the data.
    pub fn bytes(&self, range: Range<u64>) -> Bytes {
        let mut slices = self.slices(range.clone());
        match (slices.next(), slices.next()) {
            (None, _) => Bytes::new(),
            (Some(_), None) => Bytes::from_owner(Piece { image: self.clone(), range }),
            (Some(_), Some(_)) => self.slices(range).collect::<Vec<_>>().concat().into(),
        }
    }

    /// The parts that a range touches, and what it touches of them.
    fn cut(&self, range: Range<u64>) -> impl Iterator<Item = (&Part, Range<usize>)> {
        let (from, to) = (range.start, range.end.min(self.len()));
        let parts = &self.0.parts;
        let first = parts.partition_point(|(start, part)| start + part.bytes().len() as u64 <= from);
        let touched = parts[first..].iter().take_while(move |(start, _)| *start < to && from < to);
        touched.map(move |(start, part)| {
            let len = part.bytes().len() as u64;
            let inside = from.saturating_sub(*start) as usize..(to - start).min(len) as usize;
            (part, inside)
        })
    }
}

/// Bytes of an image that lie together.
struct Piece {
    image: Image,
    range: Range<u64>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.image.slices(self.range.clone()).next().unwrap_or_default()
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image of {}", super::error::Bytes(self.len()))
    }
}
