//! How items and results become bytes, and back.
//!
//! A [`Parcel`] is what travels: a small head, and sections of plain elements that are neither encoded nor, where they
//! are large, copied. What arrives is a [`Received`], whose sections were read into allocations of their own type, so
//! that a large array is used where it was read to.

//!
//! Lists of plain types, and of vectors and arrays of them, travel as they lie in memory; [`is_raw`] names those types.
//! Anything else is encoded with postcard. The head of a list, which is its lengths and shapes or all of postcard's
//! bytes, is the first section where it would be too long for a head: then the head is empty.

mod decoder;
mod error;
mod form;
mod item;
mod list;
mod matrix;
mod opt_in;
mod plain;
mod raw;
mod serial;
mod spares;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub(crate) use decoder::Decoder;
pub use error::PayloadError;
pub use list::{Kept, Packed, is_raw, pack_list, pack_slice, unpack_list, unpack_list_into};
pub use matrix::{pack_matrix, pack_result, unpack_matrix, unpack_result};
pub use opt_in::Raw;
pub use raw::RawVec;
pub use spares::Spares;

use form::Sections;
use item::is_column_major;

use crate::shared_data::ElementType;

/// Elements of one type as they are sent: little-endian, in the order in which they lie in memory.
#[derive(Debug, Clone)]
pub struct Section {
    /// What they are.
    pub element: ElementType,
    /// Whole elements.
    pub bytes: Bytes,
}

/// Values on their way out.
#[derive(Debug, Clone, Default)]
pub struct Parcel {
    /// Small: at most [`MAX_HEAD_BYTES`].
    pub head: Vec<u8>,
    /// Everything large.
    pub sections: Vec<Section>,
}

/// Values as they came in.
#[derive(Debug, Default)]
pub struct Received {
    /// As in [`Parcel`].
    pub head: Vec<u8>,
    /// As in [`Parcel`], each in an allocation of its own.
    pub sections: Vec<RawVec>,
}

/// Longest head of a parcel in bytes; what is longer travels as a section of `u8`.
pub const MAX_HEAD_BYTES: usize = 32 << 10;

/// What may come before the head of a list.
const PREFIX_BYTES: usize = 16;

impl Parcel {
    /// With the head of a list in its place.
    fn of(head: Vec<u8>) -> Self {
        if head.len() <= MAX_HEAD_BYTES - PREFIX_BYTES {
            return Self { head, sections: Vec::new() };
        }
        Self { head: Vec::new(), sections: vec![Section { element: ElementType::U8, bytes: head.into() }] }
    }

    /// Size of everything, in bytes.
    pub fn bytes(&self) -> u64 {
        self.head.len() as u64 + self.sections.iter().map(|section| section.bytes.len() as u64).sum::<u64>()
    }
}

impl Received {
    /// The head of a list, wherever it came, and the other sections.
    fn open(self) -> Result<(Vec<u8>, Sections), PayloadError> {
        let mut sections = self.sections.into_iter();
        let first = if self.head.is_empty() { sections.next() } else { None };
        let head = match first {
            None => self.head,
            Some(RawVec::U8(head)) => head,
            Some(other) => {
                return Err(PayloadError::WrongSection { expected: ElementType::U8, got: other.element() });
            }
        };
        Ok((head, Sections(sections)))
    }
}

/// What a connection does: each section is read into an allocation of its own type.
///
/// For tests, which have no connection.
///
/// # Panics
/// If a section is not of whole elements, or there is no memory for it.
pub fn transport(parcel: Parcel) -> Received {
    let read = |section: Section| {
        let size = section.element.size();
        assert!(section.bytes.len().is_multiple_of(size), "{} bytes of {}", section.bytes.len(), section.element);
        let mut elements = RawVec::empty(section.element);
        elements.resize(section.bytes.len() / size).expect("memory for a section");
        elements.bytes_mut().copy_from_slice(&section.bytes);
        elements
    };
    Received { head: parcel.head, sections: parcel.sections.into_iter().map(read).collect() }
}
