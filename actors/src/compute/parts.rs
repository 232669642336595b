//! An island of `unsafe`: one allocation that several threads fill or empty, each its own part.
//!
//! What keeps it sound is small enough to say:
//! - An [`Items`] or [`Output`] owns its range of a [`Buffer`] alone. Ranges are cut in two, and joined again where they
//!   meet; none is made from nothing. So no element is read, written or dropped by two of them.
//! - A [`Buffer`] frees memory, never elements, and lives as long as any part of it.
#![allow(unsafe_code)]

use std::{
    mem::{ManuallyDrop, needs_drop},
    ops::Range,
    ptr::{self, NonNull},
    sync::Arc,
};

use super::catch::contain;

/// An allocation for `rows` x `columns` elements, row by row, its columns numbered from `first` on. Lists have one row.
struct Buffer<T> {
    start: NonNull<T>,
    capacity: usize,
    rows: usize,
    first: usize,
    columns: usize,
}

// SAFETY: the buffer itself reads no element; its parts move elements from thread to thread, which `T: Send` allows.
unsafe impl<T: Send> Send for Buffer<T> {}
// SAFETY: as above; two threads never touch the same element, since parts do not overlap.
unsafe impl<T: Send> Sync for Buffer<T> {}

impl<T> Buffer<T> {
    fn new(vec: Vec<T>, rows: usize, first: usize, columns: usize) -> Self {
        assert!(rows.checked_mul(columns).is_some_and(|count| count <= vec.capacity()), "{rows} x {columns}");
        assert!(first.checked_add(columns).is_some(), "column numbers fit");
        let mut vec = ManuallyDrop::new(vec);
        let start = NonNull::new(vec.as_mut_ptr()).expect("a vector's pointer is never null");
        Self { start, capacity: vec.capacity(), rows, first, columns }
    }

    /// Where element `column` of `row` lies.
    fn at(&self, row: usize, column: usize) -> *mut T {
        let column = column - self.first;
        debug_assert!(row < self.rows.max(1) && column <= self.columns);
        // SAFETY: row * columns + column <= rows * columns <= capacity, checked in `new`.
        unsafe { self.start.as_ptr().add(row * self.columns + column) }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: `start` and `capacity` came from a vector in `new`; with length 0 no element is dropped.
        drop(unsafe { Vec::from_raw_parts(self.start.as_ptr(), 0, self.capacity) });
    }
}

/// Owns the elements of some columns of a buffer.
pub(crate) struct Items<T> {
    buffer: Arc<Buffer<T>>,
    range: Range<usize>,
}

impl<T> Items<T> {
    pub(crate) fn from_vec(vec: Vec<T>) -> Self {
        Self::numbered(0, vec)
    }

    /// The elements of `vec`, numbered from `first` on.
    pub(crate) fn numbered(first: usize, vec: Vec<T>) -> Self {
        let count = vec.len();
        Self { buffer: Arc::new(Buffer::new(vec, 1, first, count)), range: first..first + count }
    }

    pub(crate) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Cuts off the columns from `at` on.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        assert!(self.range.start <= at && at <= self.range.end);
        let rest = at..self.range.end;
        self.range.end = at;
        Self { buffer: self.buffer.clone(), range: rest }
    }

    /// Takes in the columns of `next`, which begin where these end; or hands them back if they do not.
    pub(crate) fn join(&mut self, mut next: Self) -> Option<Self> {
        if !Arc::ptr_eq(&self.buffer, &next.buffer) || self.range.end != next.range.start {
            return Some(next);
        }
        self.range.end = next.range.end;
        next.range.start = next.range.end; // has given its elements up
        None
    }

    /// The elements of a single row.
    pub(crate) fn as_slice(&self) -> &[T] {
        assert_eq!(self.buffer.rows, 1);
        // SAFETY: this part owns the elements of `range`, and they are initialised.
        unsafe { std::slice::from_raw_parts(self.buffer.at(0, self.range.start), self.range.len()) }
    }

    /// Moves the elements out, row by row.
    pub(crate) fn into_vec(mut self) -> Vec<T> {
        let (rows, range) = (self.buffer.rows, self.range.clone());
        let count = rows * range.len();
        let mut vec = Vec::<T>::with_capacity(count);
        self.range = range.end..range.end;
        for row in 0..rows {
            // SAFETY: the elements belong to this part, which has just given them up; `vec` has room for all rows.
            unsafe {
                let to = vec.as_mut_ptr().add(row * range.len());
                ptr::copy_nonoverlapping(self.buffer.at(row, range.start), to, range.len());
            }
        }
        // SAFETY: every row was written above.
        unsafe { vec.set_len(count) };
        vec
    }

    /// Moves the elements out and leaves their places blank, to be filled again.
    pub(crate) fn vacate(self) -> (Vec<T>, Output<T>) {
        let (buffer, range) = (self.buffer.clone(), self.range.clone());
        let elements = self.into_vec();
        (elements, Output { filled: Items { buffer, range: range.start..range.start }, end: range.end })
    }

    /// Moves the elements out, row by row, if `parts` make up a whole buffer; otherwise returns them in input order.
    pub(crate) fn assemble(mut parts: Vec<Self>) -> Result<Vec<T>, Vec<Self>> {
        parts.retain(|part| !part.range.is_empty());
        parts.sort_unstable_by_key(|part| part.range.start);
        let Some(buffer) = parts.first().map(|part| part.buffer.clone()) else { return Err(parts) };
        let mut next = buffer.first;
        for part in &parts {
            if part.range.start != next || !Arc::ptr_eq(&part.buffer, &buffer) {
                return Err(parts);
            }
            next = part.range.end;
        }
        if next != buffer.first + buffer.columns {
            return Err(parts);
        }
        for part in &mut parts {
            part.range = next..next; // gives its elements up, to `vec` below
        }
        drop(parts);
        let count = buffer.rows * buffer.columns;
        Ok(match Arc::try_unwrap(buffer) {
            Ok(buffer) => {
                let buffer = ManuallyDrop::new(buffer);
                // SAFETY: the allocation is a vector's, all `count` elements are initialised and owned by nobody else.
                unsafe { Vec::from_raw_parts(buffer.start.as_ptr(), count, buffer.capacity) }
            }
            Err(buffer) => {
                let mut vec = Vec::with_capacity(count);
                // SAFETY: as above, but somebody still holds an empty part of the allocation: the elements move.
                unsafe {
                    ptr::copy_nonoverlapping(buffer.start.as_ptr(), vec.as_mut_ptr(), count);
                    vec.set_len(count);
                }
                vec
            }
        })
    }
}

impl<T> Drop for Items<T> {
    fn drop(&mut self) {
        if !needs_drop::<T>() || self.range.is_empty() {
            return;
        }
        let (rows, columns) = (self.buffer.rows, self.range.clone());
        let mut elements = (0..rows).flat_map(|row| columns.clone().map(move |column| (row, column)));
        let mut are_left = true;
        while are_left {
            // A second panic while one unwinds would end the program, and the last part of a call may go anywhere: on
            // the Manager's thread, or while its caller panics. So each panic is contained alone.
            contain(|| {
                for (row, column) in elements.by_ref() {
                    // SAFETY: this part owns the elements of `range` in every row, and they are initialised; the
                    // iterator gives each once, also after a panic.
                    unsafe { ptr::drop_in_place(self.buffer.at(row, column)) };
                }
                are_left = false;
            });
        }
    }
}

/// Owns the blank places of some columns of a buffer, behind those it has filled.
pub(crate) struct Output<T> {
    filled: Items<T>,
    end: usize,
}

impl<T> Output<T> {
    /// Blank places for `rows` x `columns` elements, in the allocation of `reuse` if that is large enough.
    pub(crate) fn blank(reuse: Vec<T>, rows: usize, columns: usize) -> Self {
        Self::numbered(0, reuse, rows, columns)
    }

    /// The same, with columns numbered from `first` on.
    pub(crate) fn numbered(first: usize, mut reuse: Vec<T>, rows: usize, columns: usize) -> Self {
        reuse.clear();
        reuse.reserve_exact(rows.checked_mul(columns).expect("a result of more elements than memory has bytes"));
        let buffer = Arc::new(Buffer::new(reuse, rows, first, columns));
        Self { filled: Items { buffer, range: first..first }, end: first + columns }
    }

    /// The blank columns.
    pub(crate) fn room(&self) -> Range<usize> {
        self.filled.range.end..self.end
    }

    /// Cuts off the blank columns from `at` on.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        assert!(self.room().start <= at && at <= self.end);
        let rest = Self { filled: Items { buffer: self.filled.buffer.clone(), range: at..at }, end: self.end };
        self.end = at;
        rest
    }

    /// What has been filled since the last gap.
    pub(crate) fn filled(&self) -> &[T] {
        self.filled.as_slice()
    }

    /// Hands out what has been filled since the last gap.
    pub(crate) fn take_filled(&mut self) -> Items<T> {
        let next = self.filled.range.end;
        let blank = Items { buffer: self.filled.buffer.clone(), range: next..next };
        std::mem::replace(&mut self.filled, blank)
    }

    /// Hands out what has been filled since the last gap, and holds the allocation no longer.
    pub(crate) fn into_filled(self) -> Items<T> {
        self.filled
    }

    /// Fills all columns with `elements`, given row by row.
    pub(crate) fn fill(mut self, mut elements: Vec<T>) -> Items<T> {
        let (room, rows) = (self.room(), self.filled.buffer.rows);
        assert!(self.filled.range.is_empty() && elements.len() == rows * room.len());
        for row in 0..rows {
            // SAFETY: `elements` has `room.len()` elements for each row, and the places are this part's own and blank.
            unsafe {
                let from = elements.as_ptr().add(row * room.len());
                ptr::copy_nonoverlapping(from, self.filled.buffer.at(row, room.start), room.len());
            }
        }
        // SAFETY: the elements have moved; the vector keeps only its allocation. Nothing above can panic half-way.
        unsafe { elements.set_len(0) };
        self.filled.range = room;
        self.filled
    }
}

/// Counts the items that went through a strip, when it ends and when an item panics.
struct Strip<'a, A, R> {
    items: Option<&'a mut Items<A>>,
    output: &'a mut Output<R>,
    taken: usize,
    filled: usize,
}

impl<A, R> Drop for Strip<'_, A, R> {
    fn drop(&mut self) {
        if let Some(items) = &mut self.items {
            items.range.start += self.taken;
        }
        self.output.filled.range.end += self.filled;
    }
}

/// Moves the next `count` items through `function` into `output`. If it panics, the items before are in `output`, the
/// one that panicked is gone, and the rest are still there.
#[inline(always)]
pub(crate) fn map_owned<A, R>(
    items: &mut Items<A>,
    output: &mut Output<R>,
    count: usize,
    mut function: impl FnMut(A) -> R,
) {
    assert!(items.buffer.rows == 1 && output.filled.buffer.rows == 1);
    assert!(count <= items.range.len() && count <= output.room().len());
    let from = items.buffer.at(0, items.range.start);
    let to = output.filled.buffer.at(0, output.filled.range.end);
    let mut strip = Strip { items: Some(items), output, taken: 0, filled: 0 };
    for i in 0..count {
        // SAFETY: `from` has `count` items of this part, each read once and counted as taken before anything can
        // panic; `to` has as many blank places of this part, each written once and counted as filled afterwards.
        unsafe {
            let item = from.add(i).read();
            strip.taken = i + 1;
            to.add(i).write(function(item));
            strip.filled = i + 1;
        }
    }
}

/// Runs `function` over borrowed items into `output`; the same promises.
#[inline(always)]
pub(crate) fn map_borrowed<A, R>(items: &[A], output: &mut Output<R>, mut function: impl FnMut(&A) -> R) {
    assert!(output.filled.buffer.rows == 1 && items.len() <= output.room().len());
    let to = output.filled.buffer.at(0, output.filled.range.end);
    let mut strip = Strip::<A, R> { items: None, output, taken: 0, filled: 0 };
    for (i, item) in items.iter().enumerate() {
        // SAFETY: `to` has `items.len()` blank places of this part, each written once and counted afterwards.
        unsafe { to.add(i).write(function(item)) };
        strip.filled = i + 1;
    }
}

#[cfg(test)]
#[path = "parts_tests.rs"]
mod tests;
