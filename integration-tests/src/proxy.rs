//! A proxy in user space between a Manager and a node, which does what networks do: it delays, cuts, flips and swallows.
//! It needs no root.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use socket2::SockRef;

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Nothing comes through, and nobody is told.
    pub is_black_hole: bool,
    /// Each read waits so long before it is passed on.
    pub delay: Duration,
    /// Bytes per second.
    pub rate: Option<u64>,
    /// Passed on in pieces of at most so many bytes.
    pub slice: Option<usize>,
    /// The connection is reset when so many bytes of it have passed.
    pub cut_after: Option<u64>,
    /// The lowest bit of this byte of a connection is flipped, once.
    pub flip: Option<u64>,
    /// No more comes after so many bytes, but the other direction goes on.
    pub half_close_after: Option<u64>,
}

#[derive(Default)]
struct State {
    /// From the Manager to the node, and back.
    faults: [Faults; 2],
    bytes: [u64; 2],
    connections: usize,
    /// Both ends of each connection, by its number.
    live: HashMap<usize, Both>,
}

type Both = (TcpStream, TcpStream);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    has_ended: AtomicBool,
}

/// From the Manager to the node.
pub const UP: usize = 0;
/// From the node to the Manager.
pub const DOWN: usize = 1;

/// A proxy that listens at a port of its own on loopback. Everything ends with it.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

impl Proxy {
    /// To whoever listens at `target`.
    pub fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared =
            Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), has_ended: AtomicBool::new(false) });
        let (theirs, target) = (shared.clone(), target.to_owned());
        thread::spawn(move || {
            for client in listener.incoming() {
                if theirs.has_ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                theirs.state().connections += 1;
                connect(&theirs, client, &target);
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sets the faults of a direction, also for connections that are there.
    pub fn set(&self, direction: usize, faults: Faults) {
        self.shared.state().faults[direction] = faults;
        self.shared.changed.notify_all();
    }

    /// Nothing comes through, either way; or everything does, without any fault.
    pub fn black_hole(&self, yes: bool) {
        for direction in [UP, DOWN] {
            self.set(direction, Faults { is_black_hole: yes, ..Faults::default() });
        }
    }

    /// Resets all connections.
    pub fn cut(&self) {
        let live = std::mem::take(&mut self.shared.state().live);
        for (client, node) in live.into_values() {
            reset(&client);
            reset(&node);
        }
    }

    /// Bytes that have passed in a direction, of all connections.
    pub fn bytes(&self, direction: usize) -> u64 {
        self.shared.state().bytes[direction]
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::Relaxed);
        self.black_hole(false);
        self.cut();
        let _ = TcpStream::connect(&self.address); // wakes the thread that accepts
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The faults of a direction once something comes through.
    fn faults(&self, direction: usize) -> Faults {
        let is_hole = |state: &mut State| state.faults[direction].is_black_hole;
        let state = self.changed.wait_while(self.state(), is_hole).unwrap_or_else(PoisonError::into_inner);
        state.faults[direction].clone()
    }
}

fn connect(shared: &Arc<Shared>, client: TcpStream, target: &str) {
    let Ok(node) = TcpStream::connect(target) else { return reset(&client) };
    let number = shared.state().connections;
    let _ = (client.set_nodelay(true), node.set_nodelay(true));
    let both = || Some((client.try_clone().ok()?, node.try_clone().ok()?));
    let (Some(kept), Some(up), Some(down)) = (both(), both(), both()) else { return };
    shared.state().live.insert(number, kept);
    let shared = shared.clone();
    thread::spawn(move || {
        thread::scope(|scope| {
            scope.spawn(|| pump(&shared, UP, up.0, up.1));
            pump(&shared, DOWN, down.1, down.0);
        });
        // Until both directions have ended it can be cut.
        shared.state().live.remove(&number);
    });
}

fn pump(shared: &Shared, direction: usize, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    let mut passed = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let faults = shared.faults(direction);
        if !faults.delay.is_zero() {
            thread::sleep(faults.delay);
        }
        let bytes = &mut buffer[..read];
        if let Some(at) = faults.flip.filter(|at| (passed..passed + read as u64).contains(at)) {
            bytes[(at - passed) as usize] ^= 1;
            shared.state().faults[direction].flip = None;
        }
        let last = faults.cut_after.into_iter().chain(faults.half_close_after).min();
        let keep = last.map_or(read, |last| read.min(last.saturating_sub(passed) as usize));
        for piece in bytes[..keep].chunks(faults.slice.unwrap_or(read)) {
            if to.write_all(piece).is_err() {
                return;
            }
            passed += piece.len() as u64;
            shared.state().bytes[direction] += piece.len() as u64;
            if let Some(rate) = faults.rate {
                thread::sleep(Duration::from_secs_f64(piece.len() as f64 / rate as f64));
            }
        }
        if last.is_some_and(|last| passed >= last) {
            if faults.cut_after.is_some_and(|last| passed >= last) {
                reset(&from);
                reset(&to);
                return;
            }
            break;
        }
    }
    // Unless the connection was reset: then the end is to say so.
    if SockRef::from(&to).linger().is_ok_and(|linger| linger.is_none()) {
        let _ = to.shutdown(Shutdown::Write);
    }
}

/// Lets a connection end with a reset, as a machine does that has lost its memory, as soon as nobody has it open: who
/// reads from it is woken.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    let _ = stream.shutdown(Shutdown::Read);
}
