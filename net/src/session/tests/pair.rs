//! Two sessions, and what lies on the way between them.

use std::{collections::VecDeque, io::Read, time::Duration};

use bytes::Bytes;
use distfun_core::{payload::Section, shared_data::ElementType};

use crate::{
    message::{Call, Message},
    session::{Incoming, Session, SessionError, SessionLimits},
};

/// A session, and what it wrote that the other has not read.
pub(super) struct Side {
    pub(super) session: Session,
    pub(super) wire: VecDeque<u8>,
    pub(super) delivered: Vec<Incoming>,
}

impl Side {
    pub(super) fn new(limits: SessionLimits) -> Self {
        let session = Session::new(limits, Duration::ZERO);
        Self { session, wire: VecDeque::new(), delivered: Vec::new() }
    }

    /// Writes up to `max` bytes; how many it wrote.
    pub(super) fn write(&mut self, max: usize) -> usize {
        let mut written = 0;
        for slice in self.session.outgoing() {
            let part = &slice[..slice.len().min(max - written)];
            self.wire.extend(part);
            written += part.len();
        }
        self.session.wrote(written);
        written
    }

    /// Reads up to `max` bytes of what `other` wrote, as in one read; how many it read.
    pub(super) fn read(&mut self, other: &mut Side, max: usize, now: Duration) -> Result<usize, SessionError> {
        let place = self.session.incoming();
        assert!(!place.is_empty());
        let max = place.len().min(max);
        let bytes = other.wire.read(&mut place[..max]).unwrap();
        self.session.received(bytes, now)?;
        while let Some(incoming) = self.session.next() {
            self.delivered.push(incoming);
        }
        Ok(bytes)
    }

    /// Lets go of everything that was delivered.
    pub(super) fn let_go(&mut self) -> Vec<Incoming> {
        let delivered = std::mem::take(&mut self.delivered);
        delivered.iter().for_each(|incoming| self.session.consumed(incoming.bytes));
        delivered
    }
}

/// Lets both write and read until neither has anything to do; what arrives is kept.
pub(super) fn settle(one: &mut Side, other: &mut Side) {
    loop {
        let mut moved = one.write(usize::MAX) + other.write(usize::MAX);
        moved += other.read(one, usize::MAX, Duration::ZERO).unwrap();
        moved += one.read(other, usize::MAX, Duration::ZERO).unwrap();
        if moved == 0 && one.wire.is_empty() && other.wire.is_empty() {
            return;
        }
    }
}

pub(super) fn message(number: u64) -> Message {
    Message::CallEnded { call: number, overdue: false }
}

pub(super) fn long_message(bytes: usize) -> Message {
    Message::Call(Call {
        call: 1,
        function: "f".repeat(bytes),
        fingerprint: [0; 16],
        schema: String::new(),
        seed: 0,
        shared: None,
        is_lists: false,
        site: String::new(),
        item_timeout_us: None,
        gpu: None,
    })
}

/// `bytes` bytes that begin with `seed` and are not all the same.
pub(super) fn section(element: ElementType, bytes: usize, seed: u8) -> Section {
    let bytes: Vec<u8> = (0..bytes).map(|index| seed.wrapping_add((index % 251) as u8)).collect();
    Section { element, bytes: Bytes::from(bytes) }
}

/// Bytes that know whether they are still needed: the other end of the channel learns of their end.
pub(super) fn owned(bytes: usize) -> (Section, std::sync::Weak<()>) {
    struct Owner(Vec<u8>, #[allow(dead_code)] std::sync::Arc<()>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let token = std::sync::Arc::new(());
    let weak = std::sync::Arc::downgrade(&token);
    (Section { element: ElementType::U8, bytes: Bytes::from_owner(Owner(vec![1; bytes], token)) }, weak)
}
