//! Parts of a call's input or output, by position.

use std::{collections::BTreeMap, ops::Range};

/// Parts of an input or output by where they start, to be taken by range.
pub(crate) struct Shelf<P>(BTreeMap<usize, P>);

impl<P> Default for Shelf<P> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// A part that can be cut in two.
pub(crate) trait Part: Sized {
    fn range(&self) -> Range<usize>;
    fn cut(&mut self, at: usize) -> Self;
    /// Takes in `next`, which begins where this ends; or hands it back if it can't.
    fn join(&mut self, next: Self) -> Option<Self>;
}

impl<P: Part> Shelf<P> {
    pub(crate) fn new(all: P) -> Self {
        let mut shelf = Self::default();
        shelf.put(all);
        shelf
    }

    pub(crate) fn put(&mut self, part: P) {
        if !part.range().is_empty() {
            self.0.insert(part.range().start, part);
        }
    }

    /// Puts `part` beside its neighbours and makes one part of them, so that parts do not pile up.
    pub(crate) fn put_joined(&mut self, mut part: P) {
        if let Some(next) = self.0.remove(&part.range().end)
            && let Some(next) = part.join(next)
        {
            self.put(next);
        }
        match self.0.range_mut(..part.range().start).next_back() {
            Some((_, before)) if before.range().end == part.range().start => {
                if let Some(part) = before.join(part) {
                    self.put(part);
                }
            }
            _ => self.put(part),
        }
    }

    pub(crate) fn into_parts(self) -> Vec<P> {
        self.0.into_values().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Where the part with `at` in it ends; `at` itself if there is none.
    pub(crate) fn end(&self, at: usize) -> usize {
        self.0.range(..=at).next_back().map_or(at, |(_, part)| part.range().end.max(at))
    }

    /// Takes the part that starts at `start` out.
    pub(crate) fn take_at(&mut self, start: usize) -> Option<P> {
        self.0.remove(&start)
    }

    /// Takes the first part out.
    pub(crate) fn take_first(&mut self) -> Option<P> {
        self.0.pop_first().map(|(_, part)| part)
    }

    /// Takes exactly `range` out; none if it is not all there in one part.
    pub(crate) fn take(&mut self, range: &Range<usize>) -> Option<P> {
        let (&key, part) = self.0.range(..=range.start).next_back()?;
        if part.range().end < range.end {
            return None;
        }
        let mut part = self.0.remove(&key)?;
        let rest = part.cut(range.end);
        self.put(rest);
        let wanted = part.cut(range.start);
        self.put(part);
        Some(wanted)
    }
}
