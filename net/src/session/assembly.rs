//! A message whose sections are still arriving.

use std::sync::{Mutex, PoisonError, Weak};

use distfun_core::payload::{RawVec, Spares};

use super::{Incoming, SessionError};
use crate::message::{Message, SectionHeader};

/// What a section is given when its first bytes arrive, unless it is smaller. Memory behind what has arrived is zeros
/// from the system that nobody has touched.
const FIRST_BYTES: usize = 4 << 20;

/// Sections below this are read together with what surrounds them and copied: the copy costs less than a read of their
/// own.
const DIRECT_BYTES: usize = 32 << 10;

#[derive(Debug)]
pub(super) struct Assembly {
    message: Message,
    headers: std::vec::IntoIter<SectionHeader>,
    sections: Vec<RawVec>,
    /// The section that is filled now.
    open: Option<Open>,
    /// Bytes that have not arrived.
    left: u64,
    weight: u64,
    /// Memory for sections, if somebody has some.
    spares: Weak<Mutex<Spares>>,
}

#[derive(Debug)]
struct Open {
    section: RawVec,
    total: usize,
    filled: usize,
}

impl Assembly {
    /// For sections of `bytes` in all.
    pub(super) fn new(
        message: Message,
        headers: Vec<SectionHeader>,
        bytes: u64,
        weight: u64,
        spares: Weak<Mutex<Spares>>,
    ) -> Self {
        let sections = Vec::with_capacity(headers.len());
        let headers = headers.into_iter();
        let mut new = Self { message, headers, sections, open: None, left: bytes, weight, spares };
        new.open_next();
        new
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// Whether the next bytes are worth a read of their own.
    pub(super) fn is_direct(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.total >= DIRECT_BYTES)
    }

    /// The place for the next bytes, at most `max`. Not empty after [`make_room`](Self::make_room).
    pub(super) fn room(&mut self, max: usize) -> &mut [u8] {
        let Some(open) = &mut self.open else { return &mut [] };
        let room = &mut open.section.bytes_mut()[open.filled..];
        let len = room.len().min(max);
        &mut room[..len]
    }

    /// Sees to it that the next byte has a place.
    pub(super) fn make_room(&mut self) -> Result<(), SessionError> {
        self.open.as_mut().map_or(Ok(()), |open| open.make_room(&self.spares))
    }

    /// Takes note of bytes that were read into [`room`](Self::room).
    pub(super) fn filled(&mut self, bytes: usize) {
        let Some(open) = &mut self.open else { return };
        open.filled += bytes;
        self.left -= bytes as u64;
        if open.filled == open.total {
            self.open_next();
        }
    }

    /// Takes bytes that were read elsewhere; there are no more than [`left`](Self::left).
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), SessionError> {
        while let Some(open) = self.open.as_mut().filter(|_| !bytes.is_empty()) {
            open.make_room(&self.spares)?;
            let room = &mut open.section.bytes_mut()[open.filled..];
            let (now, later) = bytes.split_at(room.len().min(bytes.len()));
            room[..now.len()].copy_from_slice(now);
            self.filled(now.len());
            bytes = later;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Incoming {
        Incoming { message: self.message, sections: self.sections, bytes: self.weight }
    }

    /// Puts away the section that is full, and goes on to the next that has bytes.
    fn open_next(&mut self) {
        self.sections.extend(self.open.take().map(|open| open.section));
        for header in &mut self.headers {
            let section = RawVec::empty(header.element);
            // The sum of all sections was looked at, and is no more than memory can be.
            match header.count as usize * header.element.size() {
                0 => self.sections.push(section),
                total => return self.open = Some(Open { section, total, filled: 0 }),
            }
        }
    }
}

impl Open {
    fn make_room(&mut self, spares: &Weak<Mutex<Spares>>) -> Result<(), SessionError> {
        let has = self.section.bytes().len();
        if self.filled < has {
            return Ok(());
        }
        if has == 0
            && let Some(spares) = spares.upgrade()
        {
            let element = self.section.element();
            let mut spares = spares.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(spare) = spares.take(element, self.total / element.size()) {
                self.section = spare;
                return Ok(());
            }
        }
        // Whole elements: `total` is, and so are 4 MiB and twice what is there.
        let wants = self.total.min(FIRST_BYTES.max(has.saturating_mul(2)));
        self.section
            .resize(wants / self.section.element().size())
            .map_err(|_| SessionError::OutOfMemory { bytes: wants as u64 })
    }
}
