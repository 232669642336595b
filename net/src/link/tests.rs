use std::{
    io::{self, IoSlice},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use distfun_core::{payload::Section, shared_data::ElementType};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{Link, LinkEnd};
use crate::{
    message::Message,
    session::{Health, Incoming, SessionError, SessionLimits},
    transport::{
        Listener, Wire,
        memory::{self, MemoryWire},
        tcp,
    },
};

/// A link that runs, and what comes out of it.
struct Running {
    link: Arc<Link>,
    task: JoinHandle<LinkEnd>,
    incoming: mpsc::UnboundedReceiver<Incoming>,
}

impl Running {
    fn new(wire: Arc<dyn Wire>, limits: SessionLimits) -> Self {
        let link = Link::new(wire, limits);
        let (sender, incoming) = mpsc::unbounded_channel();
        let task = tokio::spawn(Arc::clone(&link).run(move |incoming| drop(sender.send(incoming))));
        Self { link, task, incoming }
    }

    async fn next(&mut self) -> Incoming {
        timeout(Duration::from_secs(20), self.incoming.recv()).await.expect("it hangs").expect("it ended")
    }

    async fn end(self) -> LinkEnd {
        timeout(Duration::from_secs(20), self.task).await.expect("it hangs").unwrap()
    }
}

fn over(wires: (Arc<MemoryWire>, Arc<MemoryWire>)) -> (Running, Running) {
    over_any((wires.0, wires.1))
}

fn over_any(wires: (Arc<dyn Wire>, Arc<dyn Wire>)) -> (Running, Running) {
    let limits = SessionLimits::default();
    (Running::new(wires.0, limits), Running::new(wires.1, limits))
}

fn message(number: u64) -> Message {
    Message::CallEnded { call: number, overdue: false }
}

fn section(bytes: usize) -> Vec<Section> {
    vec![Section { element: ElementType::F64, bytes: Bytes::from(vec![7; bytes]) }]
}

#[tokio::test]
async fn messages_and_sections_go_both_ways_at_once() {
    both_ways_at_once(over(memory::pair(300_000))).await;
}

/// Where what was written may wait, encrypted, for room; nothing else is sent after the last message.
#[cfg(feature = "authority")]
#[tokio::test]
async fn the_same_within_tls() {
    for capacity in [1000, 300_000] {
        let wires = memory::pair(capacity);
        both_ways_at_once(over_any(crate::tls::tests::encrypted((wires.0, wires.1)).await)).await;
    }
}

/// What waits in the wire does not wait for the next message, or the next heartbeat.
#[cfg(feature = "authority")]
#[tokio::test]
async fn the_last_words_within_tls_do_not_wait() {
    let wires = memory::pair(1000);
    let (one, mut other) = over_any(crate::tls::tests::encrypted((wires.0, wires.1)).await);
    let begun = tokio::time::Instant::now();
    for number in 0..20 {
        one.link.send(&message(number), section(100_000)).unwrap();
        let incoming = other.next().await;
        other.link.consumed(incoming.bytes);
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

async fn both_ways_at_once((mut one, mut other): (Running, Running)) {
    for number in 0..40 {
        one.link.send(&message(number), section(1 << 20)).unwrap();
        other.link.send(&message(number), section(3 << 20)).unwrap();
        other.link.send(&message(100), Vec::new()).unwrap();
    }
    for (side, count, bytes) in [(&mut one, 80, 120 << 20), (&mut other, 40, 40 << 20)] {
        let mut sum = 0;
        for _ in 0..count {
            let incoming = side.next().await;
            sum += incoming.sections.iter().map(|section| section.bytes().len()).sum::<usize>();
            side.link.consumed(incoming.bytes);
        }
        assert_eq!(sum, bytes);
    }
    one.link.close("enough");
    assert!(matches!(one.end().await, LinkEnd::ClosedHere));
    assert!(matches!(other.end().await, LinkEnd::Goodbye(reason) if reason == "enough"));
}

#[tokio::test]
async fn a_thread_without_a_runtime_writes_what_it_sends() {
    let (one, other) = memory::pair(1000);
    let link = Link::new(one, SessionLimits::default());
    std::thread::spawn(move || link.send(&message(1), Vec::new()).unwrap()).join().unwrap();
    let mut buffer = [0; 100];
    assert_eq!(other.try_read(&mut buffer).unwrap(), 16 + 4);
}

/// Counts the writes that go through it.
struct Counted(Arc<MemoryWire>, AtomicUsize);

impl Wire for Counted {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.1.fetch_add(1, SeqCst);
        self.0.try_write_vectored(slices)
    }
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(context)
    }
    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_write_ready(context)
    }
    fn shut(&self) {
        self.0.shut();
    }
    fn peer(&self) -> String {
        self.0.peer()
    }
}

#[tokio::test]
async fn a_thousand_messages_and_their_answers_take_few_writes() {
    let (one, other) = memory::pair(1 << 20);
    let [one, other] = [one, other].map(|wire| Arc::new(Counted(wire, AtomicUsize::new(0))));
    let mut client = Running::new(Arc::clone(&one) as _, SessionLimits::default());
    let server = Link::new(Arc::clone(&other) as _, SessionLimits::default());
    let answers = Arc::clone(&server);
    tokio::spawn(server.run(move |incoming| drop(answers.send(&incoming.message, Vec::new()))));
    let messages: Vec<_> = (0..1000).map(message).collect();
    let sent = client.link.send_all(messages.iter().map(|message| (message, Vec::new())));
    assert!(sent.iter().all(Result::is_ok));
    for message in messages {
        assert_eq!(client.next().await.message, message);
    }
    let writes = [one, other].map(|wire| wire.1.load(SeqCst));
    assert!(writes[0] <= 3 && writes[1] <= 8, "{writes:?}");
}

/// Sends from many threads while the wire is nearly always full: nothing is lost, nobody waits for ever.
#[tokio::test]
async fn what_nobody_waits_for_is_written_with_what_comes_next() {
    let (one, other) = memory::pair(1000);
    let counted = Arc::new(Counted(one, AtomicUsize::new(0)));
    let link = Link::new(counted.clone(), SessionLimits::default());
    link.send_idly(&message(1)).unwrap();
    link.send_idly(&message(2)).unwrap();
    assert_eq!(counted.1.load(SeqCst), 0);
    link.send(&message(3), Vec::new()).unwrap();
    assert_eq!(counted.1.load(SeqCst), 1);
    let mut other = Running::new(other, SessionLimits::default());
    for number in 1..=3 {
        assert_eq!(other.next().await.message, message(number));
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_goes_alone_if_nothing_comes() {
    let (one, other) = memory::pair(1000);
    let mut one = Running::new(one, SessionLimits::default());
    let answering = Link::new(other, SessionLimits::default());
    let link = Arc::clone(&answering);
    tokio::spawn(answering.run(move |_| link.send_idly(&message(2)).unwrap()));
    let start = tokio::time::Instant::now();
    one.link.send(&message(1), Vec::new()).unwrap();
    assert_eq!(one.next().await.message, message(2));
    assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
    // Outside of a delivery it is the next heartbeat that takes it along.
    let (one, other) = memory::pair(1000);
    let (one, mut other) = (Running::new(one, SessionLimits::default()), Running::new(other, SessionLimits::default()));
    one.link.send_idly(&message(3)).unwrap();
    assert_eq!(other.next().await.message, message(3));
}

#[tokio::test]
async fn what_nobody_waits_for_is_sent_before_a_goodbye() {
    let (one, mut other) = over(memory::pair(1000));
    one.link.send_idly(&message(1)).unwrap();
    one.link.close("enough");
    assert_eq!(other.next().await.message, message(1));
    assert!(matches!(other.end().await, LinkEnd::Goodbye(reason) if reason == "enough"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_threads_send_into_a_narrow_wire() {
    let (one, mut other) = over(memory::pair(1000));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let link = Arc::clone(&one.link);
            std::thread::spawn(move || {
                for number in 0..300 {
                    let sections = if number % 10 == 0 { section(8000) } else { Vec::new() };
                    link.send(&message(1000 * thread + number), sections).unwrap();
                }
            })
        })
        .collect();
    let mut last = [None; 4];
    for _ in 0..1200 {
        let incoming = other.next().await;
        other.link.consumed(incoming.bytes);
        let Message::CallEnded { call, .. } = incoming.message else { panic!("{:?}", incoming.message) };
        if incoming.sections.is_empty() {
            // Messages without sections keep their order.
            assert!(last[call as usize / 1000].replace(call).is_none_or(|last| last < call));
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_frozen_connection_ends_after_three_seconds() {
    let wires = memory::pair(1000);
    let (one, other) = over((Arc::clone(&wires.0), Arc::clone(&wires.1)));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(one.link.health(), Health::Alive);
    assert!(one.link.round_trip().is_some());
    wires.0.freeze(true);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(one.link.health(), Health::Suspect);
    let link = Arc::clone(&one.link);
    for end in [one.end().await, other.end().await] {
        assert!(matches!(end, LinkEnd::Silent(silence) if silence >= Duration::from_secs(3)), "{end}");
    }
    assert_eq!(link.send(&message(1), Vec::new()), Err(SessionError::Ended));
}

#[tokio::test(start_paused = true)]
async fn who_was_stopped_for_long_reads_before_it_judges() {
    let wires = memory::pair(1000);
    let one = Running::new(Arc::clone(&wires.0) as _, SessionLimits::default());
    tokio::task::yield_now().await;
    // As if the process had been stopped for ten seconds: bytes came, and nobody read them.
    wires.1.try_write_vectored(&[IoSlice::new(&[1])]).unwrap();
    tokio::time::advance(Duration::from_secs(10)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!one.task.is_finished());
}

#[tokio::test]
async fn each_end_is_told_apart() {
    let wires = memory::pair(1000);
    let one = Running::new(wires.0, SessionLimits::default());
    wires.1.shut();
    assert!(matches!(one.end().await, LinkEnd::Closed));

    let wires = memory::pair(1000);
    let one = Running::new(Arc::clone(&wires.0) as _, SessionLimits::default());
    wires.1.cut();
    assert!(matches!(one.end().await, LinkEnd::Io(_)));

    let wires = memory::pair(1000);
    let one = Running::new(wires.0, SessionLimits::default());
    wires.1.try_write_vectored(&[IoSlice::new(b"GET / HTTP/1.1\r\n\r\n")]).unwrap();
    let end = one.end().await;
    assert!(matches!(end, LinkEnd::Broken(SessionError::Frame(_))), "{end}");
    let mut buffer = [0; 400];
    let bytes = wires.1.try_read(&mut buffer).unwrap();
    assert!(String::from_utf8_lossy(&buffer[..bytes]).contains("speaks another protocol"));

    let (one, other) = over(memory::pair(1000));
    drop(other.link);
    other.task.abort();
    assert!(matches!(one.end().await, LinkEnd::Closed));
}

/// Whoever writes to a peer that has said goodbye and gone learns of the goodbye, not of the write that failed.
#[tokio::test]
async fn a_goodbye_says_more_than_a_failed_write() {
    for _ in 0..50 {
        let door = tcp::TcpDoor::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let connect = tcp::connect("127.0.0.1", door.address().port(), Duration::from_secs(5));
        let (one, other) = tokio::join!(connect, door.accept());
        let leaving = Link::new(other.unwrap(), SessionLimits::default());
        leaving.close("so long");
        drop(leaving);
        let one = Running::new(one.unwrap(), SessionLimits::default());
        for number in 0..10 {
            let _ = one.link.send(&message(number), section(100_000));
        }
        let end = one.end().await;
        assert!(matches!(&end, LinkEnd::Goodbye(reason) if reason == "so long"), "{end:?}");
    }
}

#[tokio::test]
async fn what_was_sent_before_a_goodbye_arrives_before_it() {
    let (one, mut other) = over(memory::pair(100));
    for number in 0..100 {
        one.link.send(&message(number), Vec::new()).unwrap();
    }
    one.link.close("done");
    assert_eq!(one.link.send(&message(1), Vec::new()), Err(SessionError::Ended));
    for number in 0..100 {
        assert_eq!(other.next().await.message, message(number));
    }
    assert!(matches!(other.end().await, LinkEnd::Goodbye(_)));
    assert!(matches!(one.end().await, LinkEnd::ClosedHere));
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_a_peer_that_does_not_read() {
    let wires = memory::pair(10);
    let one = Running::new(Arc::clone(&wires.0) as _, SessionLimits::default());
    one.link.send(&message(1), section(1000)).unwrap();
    one.link.close("done");
    assert!(matches!(one.end().await, LinkEnd::ClosedHere));
}

#[tokio::test]
async fn a_link_that_never_ran_can_be_closed() {
    let (one, other) = memory::pair(1000);
    let link = Link::new(one, SessionLimits::default());
    link.close("never mind");
    let mut buffer = [0; 100];
    assert!(other.try_read(&mut buffer).unwrap() > 16);
    assert_eq!(other.try_read(&mut buffer).unwrap(), 0);
}

#[tokio::test]
async fn a_peer_that_does_not_read_ends_the_link() {
    let wires = memory::pair(1000);
    let limits = SessionLimits { max_queued_bytes: 100_000, ..SessionLimits::default() };
    let one = Running::new(Arc::clone(&wires.0) as _, limits);
    let error = (0..1_000_000).find_map(|number| one.link.send(&message(number), Vec::new()).err()).unwrap();
    assert!(matches!(error, SessionError::PeerDoesNotRead { .. }));
    assert!(matches!(one.end().await, LinkEnd::Broken(SessionError::PeerDoesNotRead { .. })));
}

#[tokio::test]
async fn the_owners_of_what_was_sent_are_let_go_of_at_the_end() {
    let wires = memory::pair(1000);
    let one = Running::new(Arc::clone(&wires.0) as _, SessionLimits::default());
    let bytes = Bytes::from(vec![0; 1 << 20]);
    let sections = vec![Section { element: ElementType::U8, bytes: bytes.clone() }];
    let stream = one.link.send(&message(1), sections.clone()).unwrap();
    drop(sections);
    assert!(!bytes.is_unique());
    assert!(one.link.abandon(stream));
    assert!(bytes.is_unique());
    one.link.send(&message(1), vec![Section { element: ElementType::U8, bytes: bytes.clone() }]).unwrap();
    wires.1.shut();
    one.end().await;
    assert!(bytes.is_unique());
}

/// A single-threaded runtime, a peer that floods it: other tasks still run.
#[tokio::test]
async fn a_flood_does_not_starve_the_runtime() {
    let door = tcp::TcpDoor::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = door.address().port();
    let (one, other) = tokio::join!(tcp::connect("127.0.0.1", port, Duration::from_secs(5)), door.accept());
    let other = Running::new(other.unwrap(), SessionLimits::default());
    let sender = Link::new(one.unwrap(), SessionLimits::default());
    let count = Arc::new(AtomicUsize::new(0));
    let flood = {
        let (sender, count) = (Arc::clone(&sender), Arc::clone(&count));
        std::thread::spawn(move || while count.load(SeqCst) < 50 && sender.send(&message(1), Vec::new()).is_ok() {})
    };
    let running = tokio::spawn(Arc::clone(&sender).run(|_| {}));
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        count.fetch_add(1, SeqCst);
    }
    flood.join().unwrap();
    sender.close("done");
    assert!(matches!(other.end().await, LinkEnd::Goodbye(_)));
    running.await.unwrap();
}

#[test]
fn a_link_and_its_task_go_to_any_thread() {
    fn check<T: Send + Sync>(_: &T) {}
    fn check_send<T: Send>(_: &T) {}
    let (one, _) = memory::pair(10);
    let link = Link::new(one, SessionLimits::default());
    check(&link);
    check_send(&link.run(|_| {}));
}
