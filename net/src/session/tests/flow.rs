//! Messages and sections from one side to the other.

use std::time::Duration;

use distfun_core::{payload::Section, shared_data::ElementType};
use proptest::{
    collection::vec,
    prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest},
};

use super::pair::{Side, long_message, message, owned, section, settle};
use crate::{
    frame::tests::any_element,
    session::{Incoming, SessionError, SessionLimits, StreamId},
};

const SMALL_WINDOW: SessionLimits = SessionLimits {
    window_bytes: 100 << 10,
    max_item_bytes: 1 << 20,
    max_queued_bytes: 64 << 20,
    heartbeat: Duration::from_millis(500),
    suspect_after: Duration::from_millis(1500),
    dead_after: Duration::from_secs(3),
};

fn two(limits: SessionLimits) -> (Side, Side) {
    (Side::new(limits), Side::new(limits))
}

#[track_caller]
fn check_arrived(incoming: &Incoming, number: u64, sections: &[Section]) {
    assert_eq!(incoming.message, message(number));
    assert_eq!(incoming.sections.len(), sections.len());
    for (got, sent) in incoming.sections.iter().zip(sections) {
        assert_eq!(got.element(), sent.element);
        assert_eq!(got.bytes(), &sent.bytes[..]);
    }
}

#[test]
fn a_message_arrives_with_its_sections() {
    let (mut one, mut other) = two(SessionLimits::default());
    let sections = [
        section(ElementType::F64, 10 << 20, 1),
        section(ElementType::U8, 0, 2),
        section(ElementType::ComplexF64, 48, 3),
        section(ElementType::Bool, 40_000, 0),
    ];
    assert_eq!(one.session.send(&message(0), Vec::new()), Ok(StreamId::NONE));
    one.session.send(&message(1), sections.to_vec()).unwrap();
    one.session.send(&message(2), vec![section(ElementType::U8, 0, 0)]).unwrap();
    settle(&mut one, &mut other);
    let arrived = other.let_go();
    check_arrived(&arrived[0], 0, &[]);
    check_arrived(&arrived[1], 2, &[section(ElementType::U8, 0, 0)]);
    check_arrived(&arrived[2], 1, &sections);
    assert!(arrived[2].bytes > (10 << 20) + 40_048);
}

#[test]
fn a_thousand_small_messages_take_few_writes_and_reads() {
    let (mut one, mut other) = two(SessionLimits::default());
    for number in 0..500 {
        one.session.send(&message(number), Vec::new()).unwrap();
        one.session.send(&message(number), vec![section(ElementType::U8, 100, 0)]).unwrap();
    }
    let slices = one.session.outgoing().len();
    assert!(slices <= 3, "{slices}");
    while one.write(usize::MAX) > 0 {}
    let mut reads = 0;
    while other.read(&mut one, usize::MAX, Duration::ZERO).unwrap() > 0 {
        reads += 1;
    }
    assert_eq!(other.delivered.len(), 1000);
    assert!(reads <= 4, "{reads}");
}

#[test]
fn large_sections_are_read_to_where_they_stay() {
    let (mut one, mut other) = two(SessionLimits::default());
    for number in 0..8 {
        one.session.send(&message(number), vec![section(ElementType::F64, 1 << 20, 0)]).unwrap();
    }
    while one.write(usize::MAX) > 0 {}
    let mut copied = 0;
    while !one.wire.is_empty() {
        let place = other.session.incoming().len();
        copied += if place <= 64 << 10 { place.min(one.wire.len()) } else { 0 };
        other.read(&mut one, usize::MAX, Duration::ZERO).unwrap();
    }
    assert_eq!(other.delivered.len(), 8);
    assert!(copied < 400 << 10, "{copied} bytes of 8 MiB were read elsewhere");
}

#[test]
fn a_message_overtakes_sections() {
    let (mut one, mut other) = two(SessionLimits::default());
    one.session.send(&message(1), vec![section(ElementType::U8, 10 << 20, 0)]).unwrap();
    one.write(100_000);
    one.session.send(&message(2), Vec::new()).unwrap();
    // What is left of the piece that was begun, and the message.
    one.write((256 << 10) + 200 - 100_000);
    while other.read(&mut one, usize::MAX, Duration::ZERO).unwrap() > 0 {}
    assert_eq!(other.delivered.len(), 1);
    assert_eq!(other.delivered[0].message, message(2));
}

#[test]
fn streams_take_turns() {
    let (mut one, mut other) = two(SessionLimits::default());
    one.session.send(&message(1), vec![section(ElementType::U8, 30 << 20, 0)]).unwrap();
    one.session.send(&message(2), vec![section(ElementType::U8, 1 << 20, 0)]).unwrap();
    let mut written = 0;
    while other.delivered.is_empty() {
        written += one.write(10_000);
        while other.read(&mut one, usize::MAX, Duration::ZERO).unwrap() > 0 {}
    }
    assert_eq!(other.delivered[0].message, message(2));
    assert!(written < 3 << 20, "{written}");
}

#[test]
fn what_is_too_large_is_refused_and_nothing_is_queued() {
    let (mut one, _) = two(SMALL_WINDOW);
    let error = one.session.send(&message(1), vec![section(ElementType::U8, (1 << 20) + 1, 0)]).unwrap_err();
    assert_eq!(error, SessionError::ItemTooLarge { bytes: (1 << 20) + 1, max_item_bytes: 1 << 20 });
    let error = one.session.send(&message(1), vec![section(ElementType::F64, 12, 0)]).unwrap_err();
    assert_eq!(error, SessionError::PartialElement { element: ElementType::F64, bytes: 12 });
    let error = one.session.send(&long_message(1 << 20), Vec::new()).unwrap_err();
    assert!(matches!(error, SessionError::Frame(_)));
    assert_eq!(
        error.to_string(),
        "a message of 1048605 bytes is longer than a control frame can be (1048576 bytes); send what is large as sections"
    );
    assert!(one.session.send(&long_message(1 << 20), vec![section(ElementType::U8, 1, 0)]).is_err());
    assert!(!one.session.wants_to_write());
    assert!(one.session.outgoing().is_empty());
}

#[test]
fn more_than_the_window_waits_for_credit() {
    let (mut one, mut other) = two(SMALL_WINDOW);
    for number in 0..4 {
        one.session.send(&message(number), vec![section(ElementType::U8, 40 << 10, 0)]).unwrap();
    }
    settle(&mut one, &mut other);
    assert_eq!(other.delivered.len(), 2);
    assert_eq!(other.let_go().len(), 2);
    settle(&mut one, &mut other);
    assert_eq!(other.delivered.len(), 2);
}

#[test]
fn what_is_larger_than_the_window_goes_alone_and_is_not_overtaken() {
    let (mut one, mut other) = two(SMALL_WINDOW);
    one.session.send(&message(0), vec![section(ElementType::U8, 10, 0)]).unwrap();
    one.session.send(&message(1), vec![section(ElementType::U8, 1 << 20, 0)]).unwrap();
    one.session.send(&message(2), vec![section(ElementType::U8, 10, 0)]).unwrap();
    for number in 0..3 {
        // Credit for so little is not sent by itself, but with the next thing that is said.
        one.session.tick(Duration::from_millis(600 * number));
        settle(&mut one, &mut other);
        let arrived = other.let_go();
        assert_eq!(arrived.len(), 1, "{number}");
        assert_eq!(arrived[0].message, message(number));
    }
}

#[test]
fn credit_travels_with_the_answer() {
    let (mut one, mut other) = two(SessionLimits::default());
    one.session.send(&message(1), vec![section(ElementType::U8, 1 << 20, 0)]).unwrap();
    settle(&mut one, &mut other);
    other.let_go();
    assert!(!other.session.wants_to_write());
    other.session.send(&message(2), Vec::new()).unwrap();
    assert!(other.write(usize::MAX) > 2 * 16);
    assert!(!other.session.wants_to_write());
}

#[test]
fn a_peer_that_does_not_read_fills_no_memory() {
    let (mut one, _) = two(SMALL_WINDOW);
    let error = (0..).find_map(|_| one.session.send(&long_message(500_000), Vec::new()).err()).unwrap();
    assert!(matches!(error, SessionError::PeerDoesNotRead { bytes, .. } if bytes < 66 << 20));
    let (mut one, _) = two(SessionLimits { max_queued_bytes: 100_000, ..SMALL_WINDOW });
    let small = || vec![section(ElementType::U8, 1, 0)];
    let count = (0..).take_while(|number| one.session.send(&message(*number), small()).is_ok()).count();
    assert!((200..2000).contains(&count), "{count}");
}

#[test]
fn abandoned_before_it_began_it_never_was() {
    let (mut one, mut other) = two(SMALL_WINDOW);
    one.session.send(&message(1), vec![section(ElementType::U8, 90 << 10, 0)]).unwrap();
    let (bytes, owner) = owned(50 << 10);
    let second = one.session.send(&message(2), vec![bytes]).unwrap();
    assert!(one.session.abandon(second));
    assert_eq!(owner.strong_count(), 0);
    assert!(!one.session.abandon(second));
    assert!(!one.session.abandon(StreamId::NONE));
    settle(&mut one, &mut other);
    assert_eq!(other.delivered.len(), 1);
}

/// Wherever the writing stands, the owner is let go of at once, the peer delivers all or nothing, credit comes back,
/// and what follows arrives.
#[test]
fn a_stream_may_be_abandoned_at_any_point() {
    let steps = [0, 1, 15, 16, 17, 24, 40, 41, 60, 100, 5_000, 150_000, 262_144, 262_200, 262_300, 400_000, 524_000];
    for total in [3_000, 200_000, 600_000] {
        for written in steps.into_iter().filter(|step| *step <= total) {
            let (mut one, mut other) = two(SMALL_WINDOW);
            let (bytes, owner) = owned(total);
            let stream = one.session.send(&message(1), vec![bytes]).unwrap();
            let mut left = written;
            while left > 0 {
                left -= one.write(left);
            }
            let is_cut = one.session.abandon(stream);
            assert_eq!(owner.strong_count(), 0, "{written} of {total}");
            one.session.send(&message(2), vec![section(ElementType::U8, 90 << 10, 0)]).unwrap();
            for round in 0..3 {
                one.session.tick(Duration::from_millis(600 * round));
                settle(&mut one, &mut other);
                if round == 0 && !is_cut {
                    assert_eq!(other.delivered.remove(0).message, message(1));
                    assert!(total < 200_001);
                    other.session.consumed(u64::MAX);
                }
            }
            assert_eq!(other.delivered.len(), 1, "{written} of {total}");
            assert_eq!(other.delivered[0].message, message(2));
        }
    }
}

#[test]
fn goodbye_comes_last_and_drops_sections() {
    let limits = SessionLimits::default();
    let (mut one, mut other) = two(limits);
    let (_, writer) = std::mem::replace(&mut one.session, crate::session::Session::new(limits, Duration::ZERO)).split();
    let mut writer = writer;
    let (bytes, owner) = owned(1 << 20);
    writer.send(&message(1), vec![bytes]).unwrap();
    writer.send(&message(2), Vec::new()).unwrap();
    writer.end("enough");
    assert_eq!(owner.strong_count(), 0);
    assert_eq!(writer.send(&message(3), Vec::new()), Err(SessionError::Ended));
    let bytes: Vec<u8> = writer.outgoing().iter().flat_map(|slice| slice.to_vec()).collect();
    one.wire.extend(bytes);
    other.read(&mut one, usize::MAX, Duration::ZERO).unwrap();
    assert_eq!(other.delivered.len(), 2);
    assert_eq!(other.delivered[1].message, crate::message::Message::Goodbye { reason: "enough".into() });
}

fn any_sections() -> impl Strategy<Value = Vec<Section>> {
    let len = proptest::prop_oneof![0usize..200, 1000usize..6000, 30_000usize..70_000];
    vec((any_element(), len, any::<u8>()), 0..4).prop_map(|all| {
        let each = |(element, len, seed): (ElementType, usize, u8)| {
            section(element, len / element.size() * element.size(), seed)
        };
        all.into_iter().map(each).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However the bytes are cut, both ways at once, everything arrives as it was sent, and neither side ever has more
    /// out than its window.
    #[test]
    fn any_chopping_gives_the_same(
        there in vec(any_sections(), 0..8),
        back in vec(any_sections(), 0..8),
        cuts in vec((1usize..80_000, 1usize..80_000), 1..20),
        lets_go_every in 1usize..4,
    ) {
        let (mut one, mut other) = two(SMALL_WINDOW);
        let mut arrived = [Vec::new(), Vec::new()];
        for (side, sent) in [(&mut one, &there), (&mut other, &back)] {
            for (number, sections) in sent.iter().enumerate() {
                side.session.send(&message(number as u64), sections.clone()).unwrap();
            }
        }
        let mut round = 0;
        while arrived[0].len() < there.len() || arrived[1].len() < back.len() {
            prop_assert!(round < 200_000, "it stands still");
            let now = Duration::from_millis(round as u64);
            let (write, read) = cuts[round % cuts.len()];
            one.session.tick(now);
            other.session.tick(now);
            one.write(write);
            other.write(read);
            other.read(&mut one, read, now).unwrap();
            one.read(&mut other, write, now).unwrap();
            for (index, side) in [(0, &mut other), (1, &mut one)] {
                let heavy = side.delivered.iter().filter(|incoming| incoming.bytes > 0);
                let held: u64 = heavy.clone().map(|incoming| incoming.bytes).sum();
                prop_assert!(held <= SMALL_WINDOW.window_bytes || heavy.count() == 1);
                if round % lets_go_every == 0 {
                    arrived[index].extend(side.let_go());
                }
            }
            round += 1;
        }
        for (arrived, sent) in arrived.iter().zip([&there, &back]) {
            prop_assert_eq!(arrived.len(), sent.len());
            for (number, sections) in sent.iter().enumerate() {
                let incoming = arrived.iter().find(|incoming| incoming.message == message(number as u64)).unwrap();
                check_arrived(incoming, number as u64, sections);
            }
        }
    }
}
