//! Peers that do not keep to the protocol: strangers without the secret, and peers that have it and say nonsense.

use std::{
    io::Write,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use distfun::{Distribute, Ending, FailureCause, function};
use distfun_core::{
    payload::{Section, pack_list},
    shared_data::ElementType,
};
use distfun_net::message::{Cause, Chunk, Died, Done, Failure, Message, Refusal};

use super::{
    blank,
    loss::{manager, naps},
    nap,
    peer::{ForgedManager, call, chunk, forge_node, nothing_done},
    square, start,
};
use crate::support::{NodeProcess, eventually, within};

fn died(first: u64) -> Option<Died> {
    Some(Died { first, count: 1, exit: None, is_overdue: false })
}

#[test]
fn junk_lengths_and_slow_hellos_do_not_disturb_a_node() {
    let node = start(1);
    let manager = manager(0, node.address());
    let mut sockets = Vec::new();
    for number in 0..40u8 {
        let mut socket = TcpStream::connect(node.address()).expect("it listens");
        let bytes: Vec<u8> = match number % 4 {
            0 => vec![number; 5000],
            1 => [&b"distfun\0\x01\0"[..], &[0xff; 2]].concat(),
            2 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            _ => b"distfun\0\x01".to_vec(),
        };
        let _ = socket.write_all(&bytes);
        sockets.push(socket);
    }
    let call = manager.call(Distribute::map(function!(nap), 0..100));
    assert_eq!(within(|| call.wait()).unwrap(), naps(100));
}

#[cfg(target_os = "linux")]
fn open_files(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).expect("/proc is there").count()
}

#[cfg(target_os = "linux")]
fn memory_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("/proc is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
#[cfg(target_os = "linux")]
fn a_thousand_idle_sockets_leave_a_call_alone_and_are_gone_afterwards() {
    let node = NodeProcess::start(1);
    let manager = manager(0, node.address());
    let first = manager.call(Distribute::map(function!(nap), 0..20));
    assert_eq!(within(|| first.wait()).unwrap(), naps(20));
    let (files, memory) = (open_files(node.id()), memory_kib(node.id()));
    let call = manager.call(Distribute::map(function!(nap), 0..500));
    let sockets: Vec<_> = (0..1000).filter_map(|_| TcpStream::connect(node.address()).ok()).collect();
    assert_eq!(within(|| call.wait()).unwrap(), naps(500));
    eventually(Duration::from_secs(8), "strangers are sent away", || open_files(node.id()) <= files + 2);
    drop(sockets);
    let grown = memory_kib(node.id()).saturating_sub(memory);
    assert!(grown < 64 << 10, "{grown} KiB more");
    let last = manager.call(Distribute::map(function!(nap), 0..20));
    assert_eq!(within(|| last.wait()).unwrap(), naps(20));
}

/// The name and the fingerprint of a function, as a Manager says them.
fn known(function: &'static str) -> (String, [u8; 16]) {
    let schema = match function {
        "blank" => distfun_core::function::schema_of_list::<(), ()>("item by value", 0),
        _ => distfun_core::function::schema_of_list::<f64, f64>("item by value", 0),
    };
    (format!("{}::{function}", module_path!().rsplit_once("::").expect("a path").0), schema.fingerprint())
}

/// Nothing that a Manager says brings a node down, or keeps it from serving others.
#[test]
fn nonsense_from_a_manager_ends_its_own_session_at_most() {
    let node = NodeProcess::start(2);
    let others = manager(0, node.address());
    let nonsense: [fn(&ForgedManager); 12] = [
        |peer| peer.say(&Message::Chunk(chunk(99, 0, 0, 10, vec![1, 2, 3]))),
        |peer| peer.say(&Message::Chunk(chunk(1, u32::MAX, u64::MAX, u64::MAX, Vec::new()))),
        |peer| peer.say(&Message::Recall { lane: 5, turn: 7 }),
        |peer| peer.say(&Message::CallEnded { call: 12345, overdue: true }),
        |peer| peer.say(&call(2, "no::such::function", [0; 16])),
        |peer| peer.say(&Message::Welcome(super::peer::welcome(u32::MAX))),
        |peer| peer.say(&Message::BlobPiece { digest: [1; 32], offset: u64::MAX, total: 0 }),
        |peer| {
            let section = Section { element: ElementType::U8, bytes: vec![0; 100].into() };
            peer.say_with(&Message::BlobPiece { digest: [1; 32], offset: 1 << 40, total: u64::MAX }, vec![section]);
        },
        |peer| peer.say(&Message::Done(nothing_done(&chunk(1, 0, 0, 1, Vec::new())))),
        |peer| peer.say(&Message::Credit { bytes: u64::MAX }),
        |peer| (0..1000).for_each(|sent_us| peer.say(&Message::Ping { sent_us })),
        |peer| peer.say(&Message::ShutdownAnswer { stays: None }),
    ];
    for (number, say) in nonsense.into_iter().enumerate() {
        let peer = ForgedManager::meet(node.address());
        let (name, fingerprint) = known("square");
        peer.say(&call(1, &name, fingerprint));
        say(&peer);
        drop(peer);
        let call = others.call(Distribute::map(function!(nap), 0..20));
        assert_eq!(within(|| call.wait()).unwrap(), naps(20), "after nonsense {number}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn huge_counts_take_no_memory_and_no_time() {
    let node = NodeProcess::start(1);
    let others = manager(0, node.address());
    let memory = memory_kib(node.id());
    for count in [u64::MAX, 1 << 40, 1 << 33, 1 << 25, 1 << 22, 5] {
        for function in ["square", "blank"] {
            let peer = ForgedManager::meet(node.address());
            let (name, fingerprint) = known(function);
            peer.say(&call(1, &name, fingerprint));
            // As long a list as it says, of items without bytes.
            let head = postcard::to_allocvec(&count).expect("bytes");
            peer.say(&Message::Chunk(chunk(1, 0, 0, count, head)));
            // It is answered, or the peer is sent away.
            match peer.hear() {
                None => {}
                Some(Message::Done(done)) => assert!(done.failures.len() <= 1000),
                Some(other) => println!("{count} of {function}: {other:?}"),
            }
        }
    }
    let call = others.call(Distribute::map(function!(nap), 0..20));
    assert_eq!(within(|| call.wait()).unwrap(), naps(20));
    let grown = memory_kib(node.id()).saturating_sub(memory);
    assert!(grown < 200 << 10, "{grown} KiB more");
}

#[test]
fn lists_of_nothing_are_lists() {
    let node = start(1);
    let manager = manager(0, node.address());
    let call = manager.call(Distribute::map(function!(blank), vec![(); 100_000]));
    assert_eq!(within(|| call.wait()).unwrap().len(), 100_000);
}

#[test]
fn a_manager_that_forgets_to_end_its_calls_is_sent_away() {
    let node = start(1);
    let peer = ForgedManager::meet(node.address());
    let (name, fingerprint) = known("square");
    for number in 0..70_000 {
        peer.say(&call(number, &name, fingerprint));
    }
    assert!(peer.is_sent_away());
}

#[test]
fn a_manager_that_sends_chunks_without_end_is_sent_away() {
    let node = start(1);
    let peer = ForgedManager::meet(node.address());
    let (name, fingerprint) = known("square");
    // Its shared data never comes, so its chunks wait.
    let Message::Call(mut announced) = call(1, &name, fingerprint) else { unreachable!() };
    announced.shared = Some([3; 32]);
    peer.say(&Message::Call(announced));
    for lane in 0..20_000 {
        peer.say(&Message::Chunk(chunk(1, lane, 0, 1, vec![0; 8])));
    }
    assert!(peer.is_sent_away());
}

/// A chunk of numbers as the Manager sent it.
fn numbers(results: &[f64]) -> Vec<Section> {
    pack_list(results.to_vec()).map(|packed| packed.parcel.sections).unwrap_or_default()
}

/// What a forged node answers to a chunk.
type Lie = fn(&Chunk) -> Vec<(Done, Vec<Section>)>;

/// What a forged node answers to the chunk that comes as the n-th, and to others that it has done nothing.
fn answering(lie: Lie) -> String {
    let lies = Arc::new(AtomicU64::new(0));
    forge_node(1, move |link, incoming| {
        if let Message::Chunk(chunk) = &incoming.message {
            link.consumed(incoming.bytes);
            // Now and then, so that what is left can be done by others.
            let mut answers = lie(chunk);
            if lies.fetch_add(1, Ordering::Relaxed) > 200 {
                std::thread::sleep(Duration::from_millis(1));
                answers = vec![(nothing_done(chunk), Vec::new())];
            }
            for (done, sections) in answers {
                let _ = link.send(&Message::Done(done), sections);
            }
        }
    })
}

#[test]
fn nonsense_from_a_node_is_no_result() {
    let lies: [Lie; 12] = [
        // Of other lanes and turns.
        |chunk| {
            let other = Done { lane: chunk.lane + 1000, ..nothing_done(chunk) };
            let old = Done { turn: chunk.turn.wrapping_sub(1), ..nothing_done(chunk) };
            [other, old, nothing_done(chunk)].map(|done| (done, Vec::new())).into()
        },
        // More than it was given, less, and nonsense.
        |chunk| vec![(Done { reached: u64::MAX, ..nothing_done(chunk) }, Vec::new())],
        |chunk| vec![(Done { reached: 0, ..nothing_done(chunk) }, Vec::new())],
        |chunk| {
            let done = Done { reached: chunk.start + chunk.count, ..nothing_done(chunk) };
            vec![(done, numbers(&vec![1.0; chunk.count as usize / 2]))]
        },
        |chunk| {
            let done = Done { reached: chunk.start + 1, head: vec![255; 100], ..nothing_done(chunk) };
            vec![(done, Vec::new())]
        },
        // Failures of items that it does not have, and results for those that failed.
        |chunk| {
            let cause = Cause::WrongLength { start: u64::MAX, end: 0, got: 7 };
            let of = |index: u64| Failure { index, cause: cause.clone() };
            let failures = [u64::MAX, 0, chunk.start, chunk.start, chunk.start + chunk.count].map(of).into();
            let done = Done { reached: chunk.start + 1, failures, ..nothing_done(chunk) };
            vec![(done, numbers(&[1.0, 2.0, 3.0]))]
        },
        // Twice.
        |chunk| vec![(nothing_done(chunk), Vec::new()), (nothing_done(chunk), Vec::new())],
        // Of a thread that died behind the end, and of one that took for ever.
        |chunk| vec![(Done { died: died(u64::MAX), reached: u64::MAX, ..nothing_done(chunk) }, Vec::new())],
        |chunk| vec![(Done { died: died(chunk.start), ..nothing_done(chunk) }, Vec::new())],
        // Of a process that died at all items there could be, and of one stopped at items that it does not have.
        |chunk| {
            let died = Some(Died { first: 0, count: u64::MAX, exit: None, is_overdue: false });
            vec![(Done { died, ..nothing_done(chunk) }, Vec::new())]
        },
        |chunk| {
            let died = Some(Died { first: u64::MAX, count: u64::MAX, exit: None, is_overdue: true });
            vec![(Done { died, ..nothing_done(chunk) }, Vec::new())]
        },
        |chunk| vec![(Done { elapsed_us: u64::MAX, ..nothing_done(chunk) }, Vec::new())],
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let address = answering(lie);
        let manager = manager(1, &address);
        let items: Vec<f64> = (0..20_000).map(f64::from).collect();
        let call = manager.call(Distribute::map(function!(square), items.clone()));
        let settled = within(|| call.settle());
        assert_eq!(settled.len(), items.len());
        for (index, result) in settled.iter().enumerate() {
            // It can't be seen whether a number is the right one, but these lies have no numbers in the right place.
            match result {
                Ok(result) => assert_eq!(*result, (index * index) as f64, "lie {number}"),
                Err(failure) => assert!(
                    matches!(
                        failure.cause,
                        FailureCause::Payload { .. }
                            | FailureCause::WrongLength { .. }
                            | FailureCause::WorkerDied { .. }
                    ),
                    "{failure}"
                ),
            }
        }
    }
}

/// The thread of the connections took such an answer in, and waited for items that it had to send itself.
#[test]
fn a_node_that_answers_before_it_has_the_chunk_stops_nothing() {
    let (mut chunks, mut has_lied) = (0, false);
    // Nothing is let go of, so after 64 MiB chunks are announced no more. What was never seen is guessed.
    let address = forge_node(64, move |link, incoming| {
        let Message::Chunk(chunk) = incoming.message else { return };
        chunks += 1;
        if has_lied {
            std::thread::sleep(Duration::from_millis(5));
            link.consumed(incoming.bytes);
            let _ = link.send(&Message::Done(nothing_done(&chunk)), Vec::new());
        } else if chunks == 20 {
            has_lied = true;
            for lane in 0..300 {
                let guess = Done { lane, reached: 0, ..nothing_done(&chunk) };
                let _ = link.send(&Message::Done(guess), Vec::new());
            }
            link.close("enough");
        }
    });
    let manager = manager(1, &address);
    let arrays: Vec<_> = (0..100).map(|n| ndarray::Array1::from_elem(1 << 17, f64::from(n))).collect();
    let call = manager.call(Distribute::map(function!(super::doubled), arrays.clone()));
    let results = within(|| call.wait()).unwrap();
    assert!(results.iter().zip(&arrays).all(|(result, array)| *result == array * 2.0));
}

#[test]
fn a_node_with_other_types_is_told_from_ours() {
    let address = forge_node(1, |link, incoming| match incoming.message {
        Message::Call(call) => {
            let refusal = Refusal::Differs { schema: call.schema.replace("u64", "u32"), version: "0.0.1".into() };
            let _ = link.send(&Message::Refused { call: call.call, refusal }, Vec::new());
        }
        Message::Chunk(chunk) => drop(link.send(&Message::Done(nothing_done(&chunk)), Vec::new())),
        _ => {}
    });
    let manager = manager(0, &address);
    let call = manager.call(Distribute::map(function!(nap), 0..20));
    let error = within(|| call.wait()).unwrap_err();
    assert_eq!(error.ending(), Ending::NoWorkers);
    let text = error.to_string();
    assert!(text.contains("u32") && text.contains("u64") && text.contains("nap") && text.contains("0.0.1"), "{text}");
}

#[test]
fn a_node_that_says_nothing_and_one_that_floods_are_left() {
    let silent = forge_node(1, |_, _| {});
    let flood = forge_node(1, |link, incoming| {
        if let Message::Call(call) = incoming.message {
            for offset in 0..100_000 {
                let digest = [offset as u8; 32];
                let _ = link.send(&Message::BlobWanted { digest, offset }, Vec::new());
                let _ = link.send(&Message::Draining { reason: "x".repeat(100) }, Vec::new());
                let _ = link.send(&Message::Refused { call: call.call + offset, refusal: refusal() }, Vec::new());
            }
        }
    });
    fn refusal() -> Refusal {
        Refusal::NoSuchFunction { closest: None }
    }
    let manager = distfun::Manager::builder().max_cpu(1).machines([silent, flood]).start().unwrap();
    // The silent one answers heartbeats, and keeps what it has: so the call ends with what time allows.
    let call = manager.call(Distribute::map(function!(nap), 0..60));
    let error = within(|| call.wait_timeout(Duration::from_secs(3)));
    if let Err(error) = error {
        assert_eq!(error.ending(), Ending::TimedOut);
        assert!(error.finished().iter().all(|(index, result)| *result == *index as u64 + 1));
    }
}
