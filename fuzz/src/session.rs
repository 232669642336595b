//! Two sessions and a link between them that cuts and delays, with sends, abandons, credit and ticks in any order:
//! every message that is not abandoned arrives once and as it was sent, and nobody has more out than the window.

use std::time::Duration;

use distfun_net::session::{SessionError, SessionLimits};

use crate::input::Input;
use side::{Side, deliver, write};

mod side;

/// `data` is the limits, and then one step after the other.
///
/// # Panics
/// If a message is lost, changed, or there twice; if there is too much out; or if an honest peer is refused.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let limits = limits(input.byte());
    let mut sides = [Side::new(limits), Side::new(limits)];
    let mut now = Duration::ZERO;
    while !input.is_empty() {
        let step = input.byte();
        let (me, what) = (usize::from(step & 1), step >> 1);
        match what % 16 {
            0 | 1 => sides[me].send_plain(&mut input),
            2..=4 => sides[me].send_sections(&mut input, limits),
            5 => sides[me].abandon(usize::from(input.byte())),
            6 => sides[me].let_go(usize::from(input.byte()), u64::MAX),
            7 => sides[me].let_go(usize::from(input.byte()), u64::from(input.short())),
            8 | 9 => write(&mut sides[me], size(input.short())),
            10 | 11 => deliver(&mut sides, me, size(input.short())),
            12 => sides[me].hear(now),
            13 => {
                now += Duration::from_millis(u64::from(input.byte()) * 4);
                sides[me].tick(now);
            }
            // Seldom, as little happens afterwards.
            14 if input.byte() == 7 => sides[me].end(),
            _ => {
                write(&mut sides[me], usize::MAX);
                deliver(&mut sides, 1 - me, usize::MAX);
                sides[1 - me].hear(now);
            }
        }
    }
    settle(&mut sides, now);
    let [one, other] = sides;
    one.check_arrived_at(&other);
    other.check_arrived_at(&one);
}

/// Lets both go on until neither has anything to do.
fn settle(sides: &mut [Side; 2], mut now: Duration) {
    for _ in 0..100_000 {
        let mut has_moved = false;
        for me in 0..2 {
            sides[me].let_go_of_all();
            // What little credit there is travels with the next thing that is said.
            now += Duration::from_millis(300);
            sides[me].tick(now);
            let before = sides[me].wrote;
            write(&mut sides[me], usize::MAX);
            deliver(sides, 1 - me, usize::MAX);
            sides[1 - me].hear(now);
            // A heartbeat has less than this.
            has_moved |= sides[me].wrote - before > 100 || !sides[me].wire.is_empty() || sides[me].is_waiting();
        }
        if !has_moved {
            return;
        }
    }
    panic!("it stands still");
}

fn limits(number: u8) -> SessionLimits {
    let window_bytes = [700, 4 << 10, 100 << 10, 64 << 20][usize::from(number) % 4];
    let max_queued_bytes = if number & 4 == 0 { 64 << 20 } else { 20_000 };
    SessionLimits { window_bytes, max_item_bytes: 600 << 10, max_queued_bytes, ..SessionLimits::default() }
}

/// Small sizes as well as large ones: up to a megabyte.
fn size(number: u16) -> usize {
    let low = usize::from(number & 0x3fff);
    match number >> 14 {
        0 => low % 200,
        1 => low,
        2 => low * 8,
        _ => low * 64,
    }
}

/// What a send that is refused may be refused for.
fn is_fair(error: &SessionError) -> bool {
    matches!(error, SessionError::ItemTooLarge { .. } | SessionError::PeerDoesNotRead { .. } | SessionError::Ended)
}

/// A conversation of each kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let step = |what: u8, me: u8| what << 1 | me;
    let send = |me: u8, sizes: &[u16]| {
        let mut bytes = vec![step(2, me), sizes.len() as u8];
        sizes.iter().for_each(|size| bytes.extend([&[11][..], &size.to_le_bytes()].concat()));
        bytes
    };
    let short = |what: u8, me: u8, number: u16| [&[step(what, me)][..], &number.to_le_bytes()].concat();
    let mut seeds = Vec::new();
    for limits in 0..8 {
        let plain = [vec![limits, step(0, 0), 3, 0, step(1, 1), 0xff, 0x7f], short(8, 0, 20), short(10, 1, 7)].concat();
        let both = [
            vec![limits],
            send(0, &[8, 16_000, 0xffff]),
            send(1, &[0x8fff; 3]),
            vec![step(15, 0), step(15, 1)],
            vec![step(6, 1), 0],
        ]
        .concat();
        let cut = [
            vec![limits],
            send(0, &[0xc800; 2]),
            short(8, 0, 0x9000),
            vec![step(5, 0), 0],
            send(0, &[9]),
            vec![step(15, 0)],
        ]
        .concat();
        let waits = [
            vec![limits],
            send(1, &[0x4200]),
            send(1, &[0x4300]),
            vec![step(5, 1), 0, step(15, 1), step(7, 0), 0, 50, 0, step(13, 0), 255, step(12, 0)],
        ]
        .concat();
        let ends =
            [vec![limits], send(1, &[0x8300]), vec![step(0, 1), 9, 9], short(8, 1, 99), vec![step(14, 1), 7]].concat();
        seeds.extend([plain, both, cut, waits, ends]);
    }
    seeds
}
