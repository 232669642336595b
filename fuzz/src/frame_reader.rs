//! The reading side of a session, and any bytes: however they are cut, the same messages and the same error come of
//! them, and they take little memory.

use std::time::Duration;

use distfun_core::payload::RawVec;
use distfun_net::{
    frame::{self, HEADER_BYTES, Header, Kind},
    message::{Message, SectionHeader},
    session::{Incoming, Session, SessionError, SessionLimits},
};

use crate::{
    input::{Input, chops},
    samples::{ELEMENTS, messages},
};

/// `data` is which limits, how the bytes are cut, and the bytes.
///
/// # Panics
/// If cutting the bytes makes a difference, or a message is let through that should not be.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let (limits, chop) = (limits(input.byte()), input.byte());
    let (there, error) = read(limits, input.0, chop);
    let whole = read(limits, input.0, 255);
    assert!(is_same(&there, &whole.0), "{} messages, and {} if nothing is cut", there.len(), whole.0.len());
    assert_eq!(error, whole.1);
    let weights: Vec<u64> = there.iter().map(|incoming| incoming.bytes).filter(|bytes| *bytes > 0).collect();
    assert!(weights.len() <= 1 || weights.iter().sum::<u64>() <= limits.window_bytes);
    for incoming in &there {
        let bytes: u64 = incoming.sections.iter().map(|section| section.bytes().len() as u64).sum();
        assert!(bytes <= limits.max_item_bytes && bytes <= incoming.bytes && bytes <= data.len() as u64);
    }
    if let Some(error) = error {
        assert!(!error.to_string().contains(char::is_control));
    }
}

fn limits(number: u8) -> SessionLimits {
    let all = SessionLimits::default();
    match number % 4 {
        0 => all,
        1 => SessionLimits { window_bytes: 4 << 10, max_item_bytes: 8 << 10, ..all },
        2 => SessionLimits { window_bytes: 100 << 10, max_item_bytes: 1 << 20, ..all },
        _ => SessionLimits { window_bytes: u64::MAX, max_item_bytes: u64::MAX, ..all },
    }
}

/// Sections are compared by their bytes, as not every number equals itself.
fn is_same(some: &[Incoming], others: &[Incoming]) -> bool {
    let parts = |incoming: &Incoming| {
        let section = |section: &RawVec| (section.element(), section.bytes().to_vec());
        (incoming.message.clone(), incoming.sections.iter().map(section).collect::<Vec<_>>(), incoming.bytes)
    };
    some.iter().map(parts).eq(others.iter().map(parts))
}

/// Everything that comes of the bytes, none of which is let go of. The writing side hears of it at the end: what it
/// gives back for messages that are abandoned would depend on when it does.
fn read(limits: SessionLimits, mut bytes: &[u8], chop: u8) -> (Vec<Incoming>, Option<SessionError>) {
    let (mut reader, mut writer) = Session::new(limits, Duration::ZERO).split();
    let mut there = Vec::new();
    let mut error = None;
    let mut chops = chops(chop);
    while !bytes.is_empty() && error.is_none() {
        let place = reader.incoming();
        assert!(!place.is_empty(), "there is always room");
        let count = place.len().min(bytes.len()).min(chops.next().unwrap_or(1));
        let (part, rest) = bytes.split_at(count);
        place[..count].copy_from_slice(part);
        bytes = rest;
        error = reader.received(count).err();
        there.extend(std::iter::from_fn(|| reader.next()));
    }
    if writer.hear(reader.take_heard(), Duration::ZERO).is_ok() {
        assert!(writer.outgoing().iter().map(|slice| slice.len()).sum::<usize>() < 200, "an answer and some credit");
    }
    (there, error)
}

/// Good conversations, and beginnings of large ones.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let control = |message: &Message, sections: &[SectionHeader], stream: u64| {
        let mut frame = Vec::new();
        frame::encode(message, sections, stream, &mut frame).expect("it is short");
        frame
    };
    let piece = |stream: u64, bytes: usize| {
        let header = Header { kind: Kind::Piece, bytes: bytes as u32, stream }.to_bytes();
        [&header[..], &vec![1; bytes]].concat()
    };
    let section = |element: usize, count: u64| SectionHeader { element: ELEMENTS[element], count };
    let shutdown = |sections: &[SectionHeader], stream| control(&Message::Shutdown, sections, stream);
    let plain = messages()
        .iter()
        .filter(|message| !matches!(message, Message::Credit { .. }))
        .map(|message| control(message, &[], 0))
        .collect::<Vec<_>>()
        .concat();
    let several = [
        shutdown(&[section(11, 8), section(0, 0), section(12, 36)], 1),
        shutdown(&[section(14, 700)], 2),
        piece(2, 5000),
        piece(1, 100),
        control(&Message::Ping { sent_us: 1 }, &[], 0),
        piece(2, 6200),
        shutdown(&[section(3, 8)], 9),
        piece(9, 10),
        piece(9, 0),
        shutdown(&[section(0, 0), section(4, 0)], 10),
    ]
    .concat();
    let large = [shutdown(&[section(11, 5000)], 1), piece(1, 33_000), piece(1, 7000)].concat();
    let huge = [shutdown(&[section(0, 1 << 30)], 1), piece(1, 200)].concat();
    let boundless = [shutdown(&[section(11, (1 << 59) - 64)], 1), piece(1, 200)].concat();
    let long = [&Header { kind: Kind::Control, bytes: 1 << 20, stream: 0 }.to_bytes()[..], &[9; 300]].concat();
    let mut seeds = Vec::new();
    for stream in [plain, several, large, huge, boundless, long, vec![0; HEADER_BYTES]] {
        for start in [[0, 255], [1, 0], [2, 7], [3, 90]] {
            seeds.push([&start[..], &stream].concat());
        }
    }
    seeds
}
