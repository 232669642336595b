//! Memory of large items that are done with, for the results that come.
//!
//! An allocator that gives large vectors back to the system gets the next one anew, a page fault for every 4 KiB, which
//! takes longer than to copy what goes there.

use super::{RawVec, form::form};
use crate::shared_data::ElementType;

/// Vectors below this come from the allocator at once.
const MIN_BYTES: usize = 64 << 10;

/// What is kept at most, in bytes: as much as is on its way between two places at once.
const MAX_BYTES: usize = 16 << 20;

/// Vectors to be used again. Kept beside a call, and gone with it.
#[derive(Debug, Default)]
pub struct Spares {
    vectors: Vec<RawVec>,
    bytes: usize,
    /// Somebody has asked for a large one: before that, none is kept.
    are_wanted: bool,
}

impl Spares {
    /// A vector of `count` elements, whatever they are, if there is one of about that size.
    pub fn take(&mut self, element: ElementType, count: usize) -> Option<RawVec> {
        let bytes = count.checked_mul(element.size()).filter(|bytes| *bytes >= MIN_BYTES)?;
        self.are_wanted = true;
        let fits = |has: usize| has >= bytes && has / 2 <= bytes;
        let found = self.vectors.iter().position(|one| one.element() == element && fits(one.bytes().len()))?;
        let mut vector = self.vectors.swap_remove(found);
        self.bytes -= vector.bytes().len();
        vector.resize(count).ok()?;
        Some(vector)
    }

    /// Keeps the memory of items that are done with, if they have some that could be of use; else they are given back, to
    /// be dropped.
    pub fn give<A: 'static>(&mut self, items: Vec<A>) -> Option<Vec<A>> {
        match form::<A>().filter(|_| self.are_wanted) {
            Some(form) => form.spend(Box::new(items), self),
            None => return Some(items),
        }
        None
    }

    pub(super) fn keep(&mut self, vector: RawVec) {
        let bytes = vector.bytes().len();
        if bytes >= MIN_BYTES && self.bytes + bytes <= MAX_BYTES {
            self.bytes += bytes;
            self.vectors.push(vector);
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, ShapeBuilder};

    use super::*;

    const COUNT: usize = 10_000;

    fn wanted() -> Spares {
        let mut spares = Spares::default();
        assert!(spares.take(ElementType::F64, COUNT).is_none());
        spares
    }

    #[test]
    fn memory_is_used_again_by_what_is_like_it() {
        let mut spares = wanted();
        let item = vec![1.5f64; COUNT];
        let place = item.as_ptr();
        assert!(spares.give(vec![item]).is_none());
        assert!(spares.take(ElementType::F32, COUNT).is_none(), "of another type");
        assert!(spares.take(ElementType::F64, COUNT + 1).is_none(), "too small");
        assert!(spares.take(ElementType::F64, COUNT / 2 - 1).is_none(), "too large, or below what is worth it");
        let Some(RawVec::F64(again)) = spares.take(ElementType::F64, COUNT - 1) else { panic!("it fits") };
        assert_eq!((again.as_ptr(), again.len()), (place, COUNT - 1));
        assert!(spares.take(ElementType::F64, COUNT).is_none(), "it was the only one");
        assert_eq!(spares.bytes, 0);
    }

    #[test]
    fn items_of_all_kinds_have_memory() {
        let mut spares = wanted();
        spares.give(vec![vec![1u8; 8 * COUNT].into_boxed_slice()]);
        spares.give(vec![Array2::<f64>::zeros((100, 100).f())]);
        spares.give(vec![true; 8 * COUNT]);
        spares.give(vec![7usize; COUNT]);
        for (element, count) in [
            (ElementType::U8, 8 * COUNT),
            (ElementType::F64, 9_000),
            (ElementType::Bool, 8 * COUNT),
            (ElementType::U64, COUNT),
        ] {
            assert_eq!(spares.take(element, count).map(|vector| vector.len()), Some(count), "{element}");
        }
    }

    #[test]
    fn no_more_is_kept_than_is_of_use() {
        let mut spares = Spares::default();
        assert!(spares.give(vec![vec![1.5f64; COUNT]]).is_none() || spares.bytes == 0, "nobody has asked");
        let mut spares = wanted();
        assert_eq!(spares.give(vec![String::new()]), Some(vec![String::new()]), "it is given back to be dropped");
        spares.give(vec![vec![1.5f64; 100]; 3]);
        assert_eq!(spares.bytes, 0, "small ones");
        spares.give(vec![vec![1.5f64; COUNT]; 1000]);
        assert!((MAX_BYTES / 2..=MAX_BYTES).contains(&spares.bytes), "{}", spares.bytes);
    }
}
