//! The handshake over wires that have their own will.

use std::{
    collections::VecDeque,
    sync::Mutex,
    task::{Context, Poll, Waker},
};

use super::*;

/// One direction of a wire in memory.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    is_shut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct TestWire {
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
    /// Bytes that the other side need not have read.
    capacity: usize,
}

fn wires(capacity: usize) -> (Arc<dyn Wire>, Arc<dyn Wire>) {
    let (a, b) = (Arc::new(Mutex::default()), Arc::new(Mutex::default()));
    let one = TestWire { incoming: Arc::clone(&a), outgoing: Arc::clone(&b), capacity };
    (Arc::new(one), Arc::new(TestWire { incoming: b, outgoing: a, capacity }))
}

impl Wire for TestWire {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.incoming.lock().unwrap();
        let got = pipe.bytes.len().min(buffer.len());
        if got == 0 && !pipe.is_shut {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for (to, from) in buffer.iter_mut().zip(pipe.bytes.drain(..got)) {
            *to = from;
        }
        pipe.writer.take().into_iter().for_each(Waker::wake);
        Ok(got)
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut pipe = self.outgoing.lock().unwrap();
        if pipe.is_shut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = self.capacity - pipe.bytes.len();
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = pipe.bytes.len();
        pipe.bytes.extend(slices.iter().flat_map(|slice| slice.iter()).take(room));
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Ok(pipe.bytes.len() - before)
    }

    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.incoming.lock().unwrap();
        if pipe.is_shut || !pipe.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        pipe.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.outgoing.lock().unwrap();
        if pipe.is_shut || pipe.bytes.len() < self.capacity {
            return Poll::Ready(Ok(()));
        }
        pipe.writer = Some(context.waker().clone());
        Poll::Pending
    }

    fn shut(&self) {
        for pipe in [&self.incoming, &self.outgoing] {
            let mut pipe = pipe.lock().unwrap();
            pipe.is_shut = true;
            pipe.reader.take().into_iter().for_each(Waker::wake);
            pipe.writer.take().into_iter().for_each(Waker::wake);
        }
    }

    fn peer(&self) -> String {
        "bob".into()
    }
}

fn is_shut(wire: &Arc<dyn Wire>) -> bool {
    wire.try_write_vectored(&[IoSlice::new(b"x")]).is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[tokio::test(start_paused = true)]
async fn both_drivers_agree_over_wires_of_any_size() {
    for capacity in [1, 3, 50, 5000] {
        let (manager, node) = wires(capacity);
        let trust = cookie(1);
        let greeting = hello();
        let (at_manager, at_node) =
            tokio::join!(as_manager(manager.clone(), &trust, &greeting), as_node(node.clone(), &trust, pending()));
        assert_eq!(at_manager.unwrap().1.build, env!("CARGO_PKG_VERSION"));
        assert_eq!(at_node.unwrap().1.program, PROGRAM);
        assert!(!is_shut(&manager) && !is_shut(&node));
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_behind_the_handshake_are_left_to_who_reads_next() {
    let trust = cookie(1);
    let (manager, node) = wires(5000);
    let mut machine = self::manager(&trust);
    let task = tokio::spawn({
        let (node, trust) = (Arc::clone(&node), trust.clone());
        async move { as_node(node.clone(), &trust, pending()).await }
    });
    write(&manager, &machine.take_output()).await.unwrap();
    while machine.wanted() > 0 {
        let mut buffer = [0; 512];
        let wanted = machine.wanted();
        let got = read(&manager, &mut buffer[..wanted]).await.unwrap();
        machine.feed(&buffer[..got]);
        let mut output = machine.take_output();
        if output.len() == 33 {
            // The first frame is in the same packet as the proof.
            output.extend(b"frame");
        }
        write(&manager, &output).await.unwrap();
    }
    task.await.unwrap().unwrap();
    let mut buffer = [0; 16];
    assert_eq!(read(&node, &mut buffer).await.unwrap(), 5);
    assert_eq!(&buffer[..5], b"frame");
}

#[tokio::test(start_paused = true)]
async fn who_sends_a_byte_a_second_has_five_seconds_in_all() {
    let (client, server) = wires(5000);
    let start = Instant::now();
    let drip = async {
        for byte in manager(&cookie(1)).take_output() {
            let _ = write(&client, &[byte]).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            if start.elapsed() > Duration::from_secs(20) {
                break;
            }
        }
    };
    let trust = cookie(1);
    let serve = async {
        let error = as_node(server.clone(), &trust, pending()).await.unwrap_err();
        assert!(matches!(error, HandshakeError::TimedOut { .. }), "{error}");
        assert!(error.counts_against_peer());
        assert_eq!(start.elapsed(), HANDSHAKE_TIME);
    };
    tokio::join!(drip, serve);
    assert!(is_shut(&client));
    let mut said = [0; 512];
    let got = client.try_read(&mut said).unwrap();
    assert!(said[..got].ends_with(Refusal::TooSlow.text().as_bytes()), "it is told");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_and_who_reads_nothing_has_five_seconds() {
    for capacity in [1, 5000] {
        let (wire, _silent) = wires(capacity);
        let (start, greeting) = (Instant::now(), hello());
        let error = as_manager(wire.clone(), &cookie(1), &greeting).await.unwrap_err();
        assert!(matches!(error, HandshakeError::TimedOut { .. }), "{error}");
        assert_eq!(start.elapsed(), HANDSHAKE_TIME);
    }
}

#[tokio::test(start_paused = true)]
async fn something_foreign_that_stays_connected_is_named_at_once() {
    let (wire, http) = wires(5000);
    http.try_write_vectored(&[IoSlice::new(b"HTTP/1.1 400")]).unwrap();
    let (start, greeting) = (Instant::now(), hello());
    let said = message(as_manager(wire.clone(), &cookie(1), &greeting).await);
    assert!(said.contains("says: HTTP/1.1 400"), "{said}");
    assert_eq!(start.elapsed(), FOREIGN_TIME);
    assert!(is_shut(&http));
}

#[tokio::test(start_paused = true)]
async fn who_is_turned_away_hears_why_though_nobody_listens() {
    let (manager, node) = wires(5000);
    turn_away(&*node, Refusal::TooManyFailures);
    let said = message(as_manager(manager.clone(), &cookie(1), &hello()).await);
    assert!(said.contains("wait a minute"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn who_loses_its_place_is_told_to_try_again() {
    use crate::gate::{Gate, GateLimits};
    let gate = Gate::new(GateLimits { max_pending: 1, ..GateLimits::default() });
    let enter = || gate.enter([10, 0, 0, 1].into(), std::time::Instant::now()).unwrap();
    for has_said_hello in [false, true] {
        let (client, server) = wires(5000);
        let pass = enter();
        let mut machine = manager(&cookie(1));
        if has_said_hello {
            write(&client, &machine.take_output()).await.unwrap();
        }
        let trust = cookie(1);
        let serve = async { as_node(server.clone(), &trust, pass.evicted()).await.unwrap_err() };
        let push = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            enter()
        };
        let (error, _newcomer) = tokio::join!(serve, push);
        assert!(matches!(error, HandshakeError::Evicted { .. }) && !error.counts_against_peer(), "{error}");
        let mut said = [0; 512];
        let got = client.try_read(&mut said).unwrap();
        machine.feed_all(&said[..got]);
        machine.take_output();
        assert!(message(machine.take_outcome().unwrap()).ends_with("try again"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_is_said_to_have_ended() {
    let (manager, node) = wires(5000);
    manager.shut();
    assert!(matches!(as_node(node.clone(), &cookie(1), pending()).await, Err(HandshakeError::Closed { .. })));
    assert!(matches!(as_manager(manager.clone(), &cookie(1), &hello()).await, Err(HandshakeError::Closed { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_dropped_shuts_its_wire() {
    let (manager, node) = wires(5000);
    let trust = cookie(1);
    assert!(tokio::time::timeout(Duration::from_secs(1), as_node(node.clone(), &trust, pending())).await.is_err());
    assert!(is_shut(&manager));
}

struct TestTcp(tokio::net::TcpStream);

impl Wire for TestTcp {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(context)
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_write_ready(context)
    }

    fn shut(&self) {
        // Dropping it does the rest.
    }

    fn peer(&self) -> String {
        "bob".into()
    }
}

async fn tcp_wires() -> (Arc<dyn Wire>, Arc<dyn Wire>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Arc::new(TestTcp(client)), Arc::new(TestTcp(listener.accept().await.unwrap().0)))
}

#[tokio::test]
async fn both_drivers_agree_over_tcp() {
    let (manager, node) = tcp_wires().await;
    let (trust, greeting) = (cookie(1), hello());
    let (at_manager, at_node) =
        tokio::join!(as_manager(manager.clone(), &trust, &greeting), as_node(node.clone(), &trust, pending()));
    at_manager.unwrap();
    at_node.unwrap();
    let (manager, node) = tcp_wires().await;
    let (other, greeting) = (cookie(2), hello());
    let (at_manager, at_node) =
        tokio::join!(as_manager(manager.clone(), &trust, &greeting), as_node(node.clone(), &other, pending()));
    assert!(matches!(at_manager, Err(HandshakeError::WrongCookie { .. })));
    assert!(matches!(at_node, Err(HandshakeError::WrongCookie { .. })));
}

/// A system that closes a connection with unread bytes resets it, which must not cost the peer the reason.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_reset_does_not_hide_the_reason() {
    for has_written_before in [false, true] {
        let (manager, node) = tcp_wires().await;
        let turned_away = async move {
            if has_written_before {
                poll_fn(|context| node.poll_read_ready(context)).await.unwrap();
            }
            turn_away(&*node, Refusal::Busy);
        };
        let greeting = hello();
        let said = if has_written_before {
            let trust = cookie(1);
            let (outcome, ()) = tokio::join!(as_manager(manager.clone(), &trust, &greeting), turned_away);
            message(outcome)
        } else {
            turned_away.await;
            message(as_manager(manager.clone(), &cookie(1), &greeting).await)
        };
        assert!(said.ends_with("try again"), "{said}");
    }
}
