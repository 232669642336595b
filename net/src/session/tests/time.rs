//! Heartbeats.

use std::time::Duration;

use distfun_core::shared_data::ElementType;

use super::pair::{Side, message, section, settle};
use crate::session::{Health, SessionLimits};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_silent_peer_is_suspect_and_then_dead() {
    let mut one = Side::new(SessionLimits::default());
    let mut now = ms(0);
    let mut seen = Vec::new();
    while one.session.tick(now) != Health::Dead {
        while one.write(usize::MAX) > 0 {}
        seen.push((now.as_millis(), one.session.tick(now)));
        let next = one.session.next_tick(now);
        assert!(next > now);
        now = next;
    }
    assert_eq!(now, ms(3000));
    let suspect_since = seen.iter().find(|(_, health)| *health == Health::Suspect).unwrap().0;
    assert_eq!(suspect_since, 1500);
    assert!(seen.len() < 12, "{seen:?}");
}

#[test]
fn two_that_hear_each_other_stay_alive_and_know_how_far_they_are() {
    let (mut one, mut other) = (Side::new(SessionLimits::default()), Side::new(SessionLimits::default()));
    for step in 0..400 {
        let now = ms(25 * step);
        assert_eq!(one.session.tick(now), Health::Alive);
        assert_eq!(other.session.tick(now), Health::Alive);
        // What is written in one step is read in the next.
        one.read(&mut other, usize::MAX, now).unwrap();
        other.read(&mut one, usize::MAX, now).unwrap();
        one.write(usize::MAX);
        other.write(usize::MAX);
    }
    let round_trip = one.session.round_trip().unwrap();
    assert!((ms(25)..=ms(75)).contains(&round_trip), "{round_trip:?}");
}

/// 64 MiB at 1 MB/s take a minute. The heartbeats of both sides are on time all along.
#[test]
fn heartbeats_do_not_wait_behind_sections() {
    let (mut one, mut other) = (Side::new(SessionLimits::default()), Side::new(SessionLimits::default()));
    for number in 0..60 {
        one.session.send(&message(number), vec![section(ElementType::F64, 1 << 20, 0)]).unwrap();
    }
    // 64 KiB of kernel's buffers.
    const BUFFER: usize = 64 << 10;
    let mut now = ms(0);
    while other.delivered.len() < 60 {
        now += ms(20);
        for side in [&mut one, &mut other] {
            assert_eq!(side.session.tick(now), Health::Alive);
            let room = BUFFER - side.wire.len();
            side.write(room);
        }
        let mut budget = 20_000;
        while budget > 0 {
            let read = other.read(&mut one, budget, now).unwrap();
            if read == 0 {
                break;
            }
            budget -= read;
        }
        one.read(&mut other, usize::MAX, now).unwrap();
        if now > ms(2000) {
            let round_trip = one.session.round_trip().unwrap();
            // The rest of a piece, and what is in the buffer.
            assert!(round_trip < ms(500), "{round_trip:?}");
        }
    }
    assert!(now > ms(60_000));
}

#[test]
fn who_waits_for_credit_asks_more_often() {
    let limits = SessionLimits { window_bytes: 100_000, ..SessionLimits::default() };
    let (mut one, mut other) = (Side::new(limits), Side::new(limits));
    one.session.send(&message(1), vec![section(ElementType::U8, 100, 0)]).unwrap();
    one.session.send(&message(2), vec![section(ElementType::U8, 200_000, 0)]).unwrap();
    settle(&mut one, &mut other);
    other.let_go();
    assert!(!other.session.wants_to_write());
    assert_eq!(one.session.next_tick(ms(1)), ms(25));
    one.session.tick(ms(25));
    settle(&mut one, &mut other);
    assert_eq!(other.delivered.len(), 1);
    assert_eq!(one.session.next_tick(ms(26)), ms(525));
}
