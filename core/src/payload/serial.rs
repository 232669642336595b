//! Values that serde writes.

use std::cell::RefCell;

use serde::{Serialize, Serializer, ser::SerializeSeq};

use super::PayloadError;

/// Appends a value.
pub(super) fn encode(head: Vec<u8>, value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, PayloadError> {
    postcard::to_extend(value, head).map_err(PayloadError::Encode)
}

/// Items from several slices as one sequence; it can be written once.
pub(super) struct Sequence<'s, 'a, A> {
    pub(super) count: usize,
    pub(super) slices: RefCell<&'s mut dyn Iterator<Item = &'a [A]>>,
}

impl<A: Serialize> Serialize for Sequence<'_, '_, A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.count))?;
        for slice in &mut **self.slices.borrow_mut() {
            slice.iter().try_for_each(|item| sequence.serialize_element(item))?;
        }
        sequence.end()
    }
}
