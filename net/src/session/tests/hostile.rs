//! Peers that do not keep to the protocol.

use std::time::Duration;

use distfun_core::shared_data::ElementType;
use proptest::{
    collection::vec,
    prelude::{any, prop_oneof, proptest},
    strategy::Strategy,
};

use crate::{
    frame::{self, HEADER_BYTES, Header, Kind},
    message::{Message, SectionHeader},
    session::{Session, SessionError, SessionLimits},
};

fn session() -> Session {
    Session::new(SessionLimits::default(), Duration::ZERO)
}

/// Gives a session bytes, as far as it takes them.
fn feed(session: &mut Session, mut bytes: &[u8]) -> Result<(), SessionError> {
    while !bytes.is_empty() {
        let place = session.incoming();
        let now = place.len().min(bytes.len());
        place[..now].copy_from_slice(&bytes[..now]);
        bytes = &bytes[now..];
        session.received(now, Duration::ZERO)?;
    }
    Ok(())
}

fn announce(stream: u64, element: ElementType, counts: &[u64]) -> Vec<u8> {
    let headers: Vec<_> = counts.iter().map(|count| SectionHeader { element, count: *count }).collect();
    let mut frame = Vec::new();
    frame::encode(&Message::Shutdown, &headers, stream, &mut frame).unwrap();
    frame
}

fn piece(stream: u64, bytes: usize) -> Vec<u8> {
    let header = Header { kind: Kind::Piece, bytes: bytes as u32, stream }.to_bytes();
    [&header[..], &vec![0; bytes]].concat()
}

fn message(message: &Message) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::encode(message, &[], 0, &mut frame).unwrap();
    frame
}

#[track_caller]
fn check(parts: &[Vec<u8>]) -> SessionError {
    feed(&mut session(), &parts.concat()).unwrap_err()
}

#[test]
fn what_no_peer_sends_is_an_error() {
    use ElementType::U8;
    assert_eq!(check(&[piece(1, 5)]), SessionError::StreamNotOpen { stream: 1, bytes: 5 });
    assert_eq!(
        check(&[announce(1, U8, &[10]), piece(1, 11)]),
        SessionError::PieceTooLong { stream: 1, bytes: 11, left: 10 }
    );
    assert_eq!(
        check(&[announce(1, U8, &[10]), piece(1, 10), piece(1, 1)]),
        SessionError::StreamNotOpen { stream: 1, bytes: 1 }
    );
    assert_eq!(
        check(&[announce(5, U8, &[10]), announce(5, U8, &[10])]),
        SessionError::StreamNotNew { stream: 5, last: 5 }
    );
    assert_eq!(
        check(&[announce(1, U8, &[10]), piece(1, 0), piece(1, 1)]),
        SessionError::StreamNotOpen { stream: 1, bytes: 1 }
    );
    assert_eq!(check(&[message(&Message::Credit { bytes: 1 })]), SessionError::CreditUnfounded { bytes: 1, out: 0 });
    assert!(matches!(check(&[vec![b'G'; 16]]), SessionError::Frame(_)));
}

#[test]
fn lengths_that_are_too_large_are_errors() {
    for counts in [&[u64::MAX][..], &[1 << 40], &[u64::MAX, 1], &[1 << 26, 1 << 26, 1]] {
        let error = check(&[announce(1, ElementType::F64, counts)]);
        assert!(matches!(error, SessionError::ItemTooLarge { .. }), "{counts:?}: {error}");
    }
}

#[test]
fn more_than_there_is_credit_for_is_an_error() {
    let error = check(&[announce(1, ElementType::U8, &[1]), announce(2, ElementType::U8, &[64 << 20])]);
    assert!(matches!(error, SessionError::CreditExceeded { window_bytes: 0x400_0000, .. }), "{error}");
    let many: Vec<_> = (1..200_000).map(|stream| announce(stream, ElementType::U8, &[1])).collect();
    assert!(matches!(check(&many), SessionError::CreditExceeded { .. }));
    // Alone it is allowed to be larger than the window.
    feed(&mut session(), &announce(1, ElementType::U8, &[1 << 30])).unwrap();
}

#[test]
fn a_length_takes_no_memory() {
    let mut session = session();
    feed(&mut session, &announce(1, ElementType::U8, &[1 << 30])).unwrap();
    let piece = piece(1, 256 << 10);
    feed(&mut session, &piece[..HEADER_BYTES]).unwrap();
    assert!(session.incoming().len() <= 4 << 20);
    // The same for a message of a megabyte.
    let mut session = self::session();
    let header = Header { kind: Kind::Control, bytes: 1 << 20, stream: 0 }.to_bytes();
    feed(&mut session, &header).unwrap();
    assert!(session.incoming().len() < 128 << 10);
}

#[test]
fn a_message_as_long_as_may_be_is_read() {
    let mut session = session();
    let long = Message::Draining { reason: "r".repeat((1 << 20) - 10) };
    for _ in 0..3 {
        feed(&mut session, &message(&long)).unwrap();
        feed(&mut session, &message(&Message::Shutdown)).unwrap();
        assert_eq!(session.next().unwrap().message, long);
        assert_eq!(session.next().unwrap().message, Message::Shutdown);
    }
}

#[test]
fn a_flood_of_pings_is_answered_once() {
    let mut session = session();
    for sent_us in 0..100_000 {
        feed(&mut session, &message(&Message::Ping { sent_us })).unwrap();
    }
    let slices = session.outgoing();
    assert_eq!(
        slices.iter().map(|slice| slice.to_vec()).collect::<Vec<_>>(),
        [message(&Message::Pong { sent_us: 99_999 })]
    );
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let announce =
        (1u64..5, vec(0u64..100_000, 1..4)).prop_map(|(stream, counts)| announce(stream, ElementType::U16, &counts));
    prop_oneof![
        announce,
        (1u64..5, 0usize..3000).prop_map(|(stream, bytes)| piece(stream, bytes)),
        any::<u64>().prop_map(|bytes| message(&Message::Credit { bytes: bytes >> 40 })),
        any::<u64>().prop_map(|sent_us| message(&Message::Pong { sent_us })),
        vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #[test]
    fn nothing_that_a_peer_says_makes_us_panic(parts in vec(any_bytes(), 0..30)) {
        let mut session = session();
        let _ = feed(&mut session, &parts.concat());
        while session.next().is_some() {}
        session.outgoing();
    }
}
