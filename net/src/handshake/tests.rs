use proptest::prelude::*;

use super::{machine::Me, preamble::Preamble, *};

mod driver;

const PROGRAM: &str = "fit";

fn cookie(byte: u8) -> Trust {
    Trust::Cookie(Cookie::from_bytes([byte; 32]))
}

fn me(trust: &Trust) -> Me {
    Me::new(trust, "bob".into()).unwrap()
}

fn hello() -> Hello {
    Hello { instance: [9; 16], program: PROGRAM.into() }
}

fn manager(trust: &Trust) -> Machine {
    Machine::manager(me(trust), &hello())
}

fn node(trust: &Trust) -> Machine {
    Machine::node(me(trust))
}

/// What became of two machines, and what each sent.
struct Meeting {
    manager: Result<machine::Met, HandshakeError>,
    node: Result<machine::Met, HandshakeError>,
    from_manager: Vec<u8>,
    from_node: Vec<u8>,
}

/// Carries bytes between them, `chunk` at once, until both are over.
fn run(mut manager: Machine, mut node: Machine, chunk: usize) -> Meeting {
    let (mut from_manager, mut from_node) = (Vec::new(), Vec::new());
    let (mut read_by_node, mut read_by_manager) = (0, 0);
    let (mut manager_is, mut node_is) = (None, None);
    for _ in 0..10_000 {
        from_manager.extend(manager.take_output());
        from_node.extend(node.take_output());
        manager_is = manager_is.or_else(|| manager.take_outcome());
        node_is = node_is.or_else(|| node.take_outcome());
        let is_fed = deliver(&mut node, &from_manager, &mut read_by_node, chunk)
            | deliver(&mut manager, &from_node, &mut read_by_manager, chunk);
        if !is_fed && manager_is.is_some() && node_is.is_some() {
            break;
        }
        if !is_fed && manager_is.is_some() && node.wanted() > 0 {
            node.ended();
        } else if !is_fed && node_is.is_some() && manager.wanted() > 0 {
            manager.ended();
        }
    }
    assert_eq!((manager.wanted(), node.wanted()), (0, 0), "nothing is wanted once it is over");
    Meeting { manager: manager_is.unwrap(), node: node_is.unwrap(), from_manager, from_node }
}

fn deliver(to: &mut Machine, sent: &[u8], read: &mut usize, chunk: usize) -> bool {
    let bytes = to.wanted().min(chunk).min(sent.len() - *read);
    if bytes > 0 {
        to.feed(&sent[*read..*read + bytes]);
        *read += bytes;
    }
    bytes > 0
}

/// Lets a machine read these bytes and then the end.
fn play(mut machine: Machine, bytes: &[u8]) -> (Result<machine::Met, HandshakeError>, Vec<u8>) {
    let (mut read, mut said) = (0, machine.take_output());
    while deliver(&mut machine, bytes, &mut read, usize::MAX) {
        said.extend(machine.take_output());
    }
    if machine.wanted() > 0 {
        machine.ended();
        said.extend(machine.take_output());
    }
    assert!(read <= MAX_HANDSHAKE_BYTES);
    (machine.take_outcome().unwrap(), said)
}

fn message<T: std::fmt::Debug>(outcome: Result<T, HandshakeError>) -> String {
    outcome.unwrap_err().to_string()
}

#[test]
fn both_sides_agree_however_the_bytes_are_cut() {
    for trust in [cookie(1), Trust::PeerChecked] {
        for chunk in [1, 2, 3, 11, 12, 13, 100, usize::MAX] {
            let Meeting { manager, node, from_manager, from_node } = run(manager(&trust), node(&trust), chunk);
            let build = env!("CARGO_PKG_VERSION").to_owned();
            assert_eq!(manager.unwrap(), machine::Met { build: build.clone(), ..Default::default() });
            assert_eq!(
                node.unwrap(),
                machine::Met { build, instance: [9; 16], program: PROGRAM.into(), machine: None }
            );
            assert!(from_manager.len() < 256 && from_node.len() < 256);
        }
    }
}

#[test]
fn a_long_name_of_a_program_is_cut_between_characters() {
    let hello = Hello { instance: [0; 16], program: "é".repeat(40) + "\x1b[2J" };
    let met = run(Machine::manager(me(&cookie(1)), &hello), node(&cookie(1)), usize::MAX).node.unwrap();
    assert_eq!(met.program, "é".repeat(32));
    let hello = Hello { instance: [0; 16], program: "a\x1b[2J".into() };
    let met = run(Machine::manager(me(&cookie(1)), &hello), node(&cookie(1)), usize::MAX).node.unwrap();
    assert_eq!(met.program, r"a\u{1b}[2J", "a terminal is safe from it");
}

#[test]
fn another_cookie_is_refused_on_both_sides() {
    let Meeting { manager, node, from_manager, .. } = run(manager(&cookie(1)), node(&cookie(2)), 7);
    assert!(matches!(&manager, Err(HandshakeError::WrongCookie { .. })));
    assert!(matches!(&node, Err(HandshakeError::WrongCookie { .. })));
    assert!(message(manager).contains("copy the cookie file"));
    assert!(from_manager.ends_with(b"the cookies differ"));
}

#[test]
fn a_manager_without_the_cookie_is_refused_by_the_node_itself() {
    // One that does not care what the node proves, and makes up a proof.
    let mut node = node(&cookie(1));
    node.feed_all(&manager(&cookie(2)).take_output());
    node.take_output();
    node.feed_all(&[0]);
    node.feed_all(&[0; 32]);
    assert_eq!(node.take_output(), b"\x02\x12the cookies differ");
    assert!(matches!(node.take_outcome(), Some(Err(HandshakeError::WrongCookie { .. }))));
}

impl Machine {
    /// As the driver does, with bytes that are all wanted at some time.
    fn feed_all(&mut self, bytes: &[u8]) {
        let mut read = 0;
        while deliver(self, bytes, &mut read, usize::MAX) {}
        assert_eq!(read, bytes.len());
    }
}

#[test]
fn a_cookie_and_a_checked_user_do_not_go_together() {
    let zeros = cookie(0);
    for (ours, theirs) in [(&zeros, &Trust::PeerChecked), (&Trust::PeerChecked, &zeros)] {
        let Meeting { manager, node, .. } = run(manager(ours), node(theirs), 5);
        for said in [message(manager), message(node)] {
            assert!(said.contains("cookie") && said.contains("local socket"), "{said}");
        }
    }
}

#[test]
fn each_side_says_both_versions() {
    let (ours, next) = (crate::VERSION, crate::VERSION + 1);
    let newer = || Me { version: next, build: "0.3.0".into(), ..me(&cookie(1)) };
    let build = env!("CARGO_PKG_VERSION");
    let older_says = format!(
        "bob speaks protocol {next} (distfun 0.3.0), this program speaks {ours} ({build}): use one release on both"
    );
    let newer_says = format!(
        "bob speaks protocol {ours} (distfun {build}), this program speaks {next} (0.3.0): use one release on both"
    );
    for chunk in [1, usize::MAX] {
        let meeting = run(manager(&cookie(1)), Machine::node(newer()), chunk);
        assert_eq!((message(meeting.manager), message(meeting.node)), (older_says.clone(), newer_says.clone()));
        let meeting = run(Machine::manager(newer(), &hello()), node(&cookie(1)), chunk);
        assert_eq!((message(meeting.manager), message(meeting.node)), (newer_says.clone(), older_says.clone()));
    }
}

#[test]
fn another_version_is_told_before_its_hello_is_read_and_whatever_it_is() {
    for size in [0, 1, 4084, 4085, u16::MAX] {
        let preamble = Preamble { version: 7, size }.bytes();
        let mut node = node(&cookie(1));
        node.feed(&preamble);
        let told = node.take_output();
        assert_eq!(told[..10], [&b"distfun\0"[..], &crate::VERSION.to_le_bytes()].concat(), "told at once");
        let (outcome, _) = play(self::node(&cookie(1)), &[&preamble[..], &vec![0xff; size.into()]].concat());
        let ours = crate::VERSION;
        assert!(message(outcome).starts_with(&format!("bob speaks protocol 7, this program speaks {ours}")));
        let (outcome, _) = play(manager(&cookie(1)), &[&preamble[..], b"\x050.9.0"].concat());
        let said = message(outcome);
        assert!(said.starts_with("bob speaks protocol 7"), "{said}");
    }
}

#[test]
fn something_else_on_the_port_is_called_by_its_name() {
    let names = [
        (&b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n"[..], "HTTP/1.1 400 Bad Request"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0-OpenSSH_9.6"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "a TLS record"),
        (b"220 mail ESMTP", "220 mail ESMTP"),
        (b"no", "no"),
        (b"dist\x1b[2J\n", r"dist\u{1b}[2J"),
    ];
    for (bytes, name) in names {
        let said = message(play(manager(&cookie(1)), bytes).0);
        assert!(said.starts_with(&format!("bob is not a distfun node; it says: {name} (a node listens")), "{said}");
    }
    for bytes in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and more"] {
        let (outcome, said) = play(node(&cookie(1)), bytes);
        assert!(message(outcome).starts_with("bob is not a distfun manager; it says: "));
        assert_eq!(said, b"distfun: this port is for distfun managers only\r\n");
    }
}

#[test]
fn a_hello_that_is_too_long_is_not_read() {
    for size in [4085, u16::MAX] {
        let mut node = node(&cookie(1));
        node.feed(&Preamble { version: crate::VERSION, size }.bytes());
        assert_eq!(node.wanted(), 0);
        assert!(node.take_output().len() < 100);
        let said = message(node.take_outcome().unwrap());
        assert!(said.contains(&format!("{size} bytes")) && said.contains("4096"), "{said}");
    }
    // As long as may be, but then no proof may follow it, and it is none of this version.
    let bytes = [&Preamble { version: crate::VERSION, size: 4084 }.bytes()[..], &[0; 5000]].concat();
    assert!(matches!(play(node(&cookie(1)), &bytes).0, Err(HandshakeError::Malformed { .. })));
    assert!(matches!(
        play(node(&cookie(1)), &Preamble { version: crate::VERSION, size: 0 }.bytes()).0,
        Err(HandshakeError::Malformed { .. })
    ));
}

#[test]
fn what_an_earlier_run_said_proves_nothing_now() {
    let trust = cookie(1);
    let earlier = run(manager(&trust), node(&trust), usize::MAX);
    assert!(matches!(play(node(&trust), &earlier.from_manager).0, Err(HandshakeError::WrongCookie { .. })));
    assert!(matches!(play(manager(&trust), &earlier.from_node).0, Err(HandshakeError::WrongCookie { .. })));
}

#[test]
fn what_one_said_itself_proves_nothing_to_it() {
    // An echo, and a node that is asked to prove what a Manager would have to.
    let mut echoed = manager(&cookie(1));
    let hello = echoed.take_output();
    echoed.feed_all(&hello);
    echoed.take_output();
    assert!(message(echoed.take_outcome().unwrap()).contains("sends back what it is sent"));

    let mut node = node(&cookie(1));
    node.feed_all(&manager(&cookie(1)).take_output());
    let answer = node.take_output();
    node.feed_all(&[0]);
    node.feed_all(&answer[answer.len() - 32..]);
    node.take_output();
    assert!(matches!(node.take_outcome(), Some(Err(HandshakeError::WrongCookie { .. }))));
}

#[test]
fn every_truncation_is_an_error() {
    let trust = cookie(1);
    let Meeting { from_manager, from_node, .. } = run(manager(&trust), node(&trust), usize::MAX);
    for end in 0..from_manager.len() {
        play(node(&trust), &from_manager[..end]).0.unwrap_err();
    }
    for end in 0..from_node.len() {
        play(manager(&trust), &from_node[..end]).0.unwrap_err();
    }
}

#[test]
fn every_changed_bit_is_an_error() {
    let trust = cookie(1);
    let fixed = |nonce| Me { nonce: [nonce; 32], ..me(&trust) };
    let pair = || (Machine::manager(fixed(1), &hello()), Machine::node(fixed(2)));
    let Meeting { from_manager, from_node, .. } = run(pair().0, pair().1, usize::MAX);
    play(pair().1, &from_manager).0.expect("with equal nonces, equal bytes do");
    play(pair().0, &from_node).0.expect("with equal nonces, equal bytes do");
    for bit in 0..from_manager.len() * 8 {
        let mut bytes = from_manager.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        play(pair().1, &bytes).0.unwrap_err();
    }
    for bit in 0..from_node.len() * 8 {
        let mut bytes = from_node.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        play(pair().0, &bytes).0.unwrap_err();
    }
}

#[test]
fn refusals_are_said_in_the_words_of_who_refuses() {
    let stranger = hello::refusal_of_a_stranger(Refusal::Busy);
    let said = message(play(manager(&cookie(1)), &stranger).0);
    assert_eq!(said, "bob refused: too many connections have not finished their handshake; try again");
    let trust = cookie(1);
    let mut from_node = run(manager(&trust), node(&trust), usize::MAX).from_node;
    from_node.pop();
    for (tail, said) in [(&b"\x63\x05later"[..], "later"), (b"\x63\x00", "code 99, without a reason")] {
        let mut manager = manager(&trust);
        let mut node = node(&trust);
        node.feed_all(&manager.take_output());
        manager.feed_all(&node.take_output());
        manager.feed_all(tail);
        assert!(manager.take_output().starts_with(&[0]));
        assert_eq!(message(manager.take_outcome().unwrap()), format!("bob refused: {said}"));
    }
}

#[test]
fn all_refusals_fit() {
    use Refusal::{
        Busy, NeedsTls, NoCredentials, TooManyFailures, TooSlow, TrustDiffers, Unreadable, Version, WrongCookie,
    };
    let all = [Version, WrongCookie, TrustDiffers, Unreadable, TooSlow, Busy, TooManyFailures, NeedsTls, NoCredentials];
    for (index, refusal) in all.into_iter().enumerate() {
        assert_eq!(usize::from(refusal.code()), index + 1);
        assert!((1..=hello::MAX_REASON_BYTES).contains(&refusal.text().len()));
    }
}

#[test]
fn errors_are_sent_between_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<HandshakeError>();
}

proptest! {
    #[test]
    fn no_bytes_make_either_side_panic_or_believe(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(play(node(&cookie(1)), &bytes).0.is_err());
        prop_assert!(play(manager(&cookie(1)), &bytes).0.is_err());
    }

    #[test]
    fn no_hello_of_this_version_makes_either_side_panic_or_believe(
        build in 0u8..8, kind in 0u8..4, bytes in proptest::collection::vec(any::<u8>(), 0..300)
    ) {
        let mut hello = vec![build];
        hello.extend(vec![b'1'; build.into()]);
        hello.push(kind);
        hello.extend(&bytes);
        let bytes = [hello::framed(crate::VERSION, &hello), bytes].concat();
        prop_assert!(play(node(&cookie(1)), &bytes).0.is_err());
        prop_assert!(play(manager(&cookie(1)), &bytes).0.is_err());
    }
}
