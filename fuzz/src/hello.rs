//! Both sides of the handshake, and any bytes: a side is content only with the very bytes of a peer that has the key.

use std::sync::LazyLock;

use distfun_net::{
    handshake::{
        Hello, MAX_HANDSHAKE_BYTES, Trust,
        fuzzing::{End, Party},
    },
    identity::Cookie,
};

use crate::input::{Input, chops};

/// One of the four conversations of a Manager and a node who trust each other: what each of them read.
struct Conversation {
    by_manager: Vec<u8>,
    by_node: Vec<u8>,
}

static CONVERSATIONS: LazyLock<[Conversation; 2]> = LazyLock::new(|| [false, true].map(converse));

/// `data` is which side, how it ends, how the bytes are cut, and the bytes.
///
/// # Panics
/// If a side believes somebody who has no key, or reads more than it may.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let (mode, chop) = (input.byte(), input.byte());
    let (is_node, is_cookie) = (mode & 1 != 0, mode & 2 != 0);
    let end = [End::Closed, End::Failed, End::TimedOut, End::Evicted][usize::from(mode >> 2) % 4];
    let bytes = input.0;

    let mut party = party(is_node, is_cookie);
    let mut said = party.take_output();
    let mut read = 0;
    for chop in chops(chop) {
        let count = party.wanted().min(bytes.len() - read).min(chop);
        if count == 0 {
            break;
        }
        party.feed(&bytes[read..read + count]);
        read += count;
        said.extend(party.take_output());
        assert!(read <= MAX_HANDSHAKE_BYTES && party.wanted() <= MAX_HANDSHAKE_BYTES - read);
    }
    if party.wanted() > 0 {
        party.end(end);
        said.extend(party.take_output());
    }
    assert!(said.len() < 1024, "{} bytes", said.len());
    assert_eq!(party.wanted(), 0);
    let outcome = party.take_outcome().expect("nothing is wanted any more");
    let honest = &CONVERSATIONS[usize::from(is_cookie)];
    let honest = if is_node { &honest.by_node } else { &honest.by_manager };
    match outcome {
        Ok(_) => assert_eq!(&bytes[..read], honest, "it believes a forger"),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains(char::is_control) && text.len() < 2048, "{text:?}");
            assert!(!bytes.starts_with(honest), "it refuses a friend: {text}");
        }
    }
}

fn party(is_node: bool, is_cookie: bool) -> Party {
    let trust = if is_cookie { Trust::Cookie(Cookie::from_bytes([5; 32])) } else { Trust::PeerChecked };
    if is_node {
        return Party::node(&trust, [2; 32]);
    }
    Party::manager(&trust, [1; 32], &Hello { instance: [9; 16], program: "fit".into() })
}

fn converse(is_cookie: bool) -> Conversation {
    let mut parties = [party(false, is_cookie), party(true, is_cookie)];
    let mut sent = [Vec::new(), Vec::new()];
    let mut read = [0, 0];
    for turn in 0..16 {
        let (from, to) = (turn % 2, 1 - turn % 2);
        sent[from].extend(parties[from].take_output());
        while read[to] < sent[from].len() {
            let count = parties[to].wanted().min(sent[from].len() - read[to]);
            assert!(count > 0);
            parties[to].feed(&sent[from][read[to]..read[to] + count]);
            read[to] += count;
        }
    }
    assert!(parties.iter_mut().all(|party| party.take_outcome().is_some_and(|outcome| outcome.is_ok())));
    let [by_node, by_manager] = sent;
    Conversation { by_manager, by_node }
}

/// Good conversations, and others who come to the wrong port.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for mode in 0..4 {
        let honest = &CONVERSATIONS[usize::from(mode & 2 != 0)];
        let honest = if mode & 1 != 0 { &honest.by_node } else { &honest.by_manager };
        seeds.push([&[mode, 255][..], honest].concat());
        seeds.push([&[mode, 0][..], honest].concat());
        let mut other_version = honest.clone();
        other_version[8] = 9;
        seeds.push([&[mode | 4, 7][..], &other_version].concat());
        seeds.push([&[mode, 9][..], b"distfun\0\x01\x00\x0e\x00\x050.1.0\x02\x06\x04full"].concat());
    }
    for foreign in [&b"GET / HTTP/1.1\r\nHost: bob\r\n\r\n"[..], b"\x16\x03\x01\x02\x00", b"SSH-2.0-OpenSSH_9.6\r\n"] {
        seeds.push([&[1, 3][..], foreign].concat());
    }
    seeds
}
