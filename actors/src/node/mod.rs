//! Serving a machine: a program that offers functions to Managers of other programs.
//!
//! [`start`] begins to serve and returns a [`NodeHandle`]; [`serve`] does so until it is told to end. Chunks that
//! Managers send run on slots of this process, beside whatever else it does, and fairly among all that ask.
//!
//! A node believes a Manager of its own machine that has the same cookie, a file that only its owner can read; and one of
//! another machine that shows a certificate of the same cluster, within TLS. Without a certificate of its own it listens
//! where nobody but this machine can reach it.

#[cfg(target_os = "linux")]
mod brought;
mod config;
mod entrance;
mod error;
mod guest;
mod listen;
mod luggage;
#[cfg(target_os = "linux")]
mod needs;
mod offer;
#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
mod ship;
#[cfg(unix)]
mod stdio;
mod visit;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use distfun_core::failure::Ending;
use tokio::sync::Notify;

pub use config::NodeConfig;
pub use error::NodeError;
pub(crate) use luggage::{PIECE_BYTES, PIECES_AHEAD};
pub(crate) use offer::Served;
pub use offer::{Offer, Offered};
#[cfg(unix)]
pub(crate) use stdio::STDIO_GREETING;
#[cfg(unix)]
pub use stdio::serve_stdio;
#[cfg(target_os = "linux")]
pub(crate) use visit::{MOST_FAILURES, Over, Visitor};

use crate::{
    credentials::Own,
    events,
    messages::internal::Quit,
    pool::{Pool, Session},
};
use guest::Guest;
use luggage::Store;

/// Serves nobody: standard input and output are carried on Unix only.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
pub fn serve_stdio(_config: NodeConfig) -> Result<(), NodeError> {
    Err(NodeError::NoPrograms)
}

/// What may be said in a goodbye of a node.
const STOPS: &str = "the node stops";

/// Nothing yet; add functions with [`NodeConfig::offer`].
pub fn config() -> NodeConfig {
    NodeConfig::default()
}

/// Serves until the process gets SIGTERM or SIGINT, or a Manager's `Shutdown` finds nothing else that needs it: then
/// chunks that have come are finished first, for at most a minute.
///
/// # Errors
/// The node could not start, or has failed by a bug.
pub fn serve(config: NodeConfig) -> Result<(), NodeError> {
    let ready = config.ready.clone();
    let mut node = listen::start(config, false)?;
    if let Some(ready) = ready {
        ready(node.address());
    }
    node.wait()
}

/// As [`serve`], for programs that Managers bring: a node that knows nothing asks for the program of a Manager, checks
/// it, and runs its functions in processes of their own. Linux only.
///
/// It may run programs where only this machine reaches it, and elsewhere if [`NodeConfig::allow_ship`] says so.
///
/// # Errors
/// The node could not start.
pub fn serve_programs(config: NodeConfig) -> Result<(), NodeError> {
    serve(config.for_programs())
}

/// As [`start`], for programs that Managers bring; see [`serve_programs`].
///
/// # Errors
/// The node could not start.
pub fn start_programs(config: NodeConfig) -> Result<NodeHandle, NodeError> {
    listen::start(config.for_programs(), false)
}

/// Starts to serve, beside what the program does otherwise. It ends with [`NodeHandle::stop`], or when the handle is
/// dropped.
///
/// # Errors
/// The node could not start.
pub fn start(config: NodeConfig) -> Result<NodeHandle, NodeError> {
    listen::start(config, true)
}

/// What all parts of a node share.
pub(crate) struct Serving {
    name: String,
    /// Tells this node from all others.
    instance: [u8; 16],
    pool: Arc<Pool>,
    /// What it offers, by name.
    table: HashMap<&'static str, Arc<dyn Served>>,
    cache: Store,
    guests: Mutex<Vec<Weak<Guest>>>,
    credentials: Own,
    /// It has no functions of its own, but runs programs that Managers bring,
    runs_programs: bool,
    /// if it may.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    may_run_programs: bool,
    /// Memory that each process of such a program may have, in bytes.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    max_memory: Option<u64>,
    /// It does not stop when a Manager wishes it.
    keeps_on: bool,
    /// Other things of this program go on when the node ends.
    is_embedded: bool,
    draining: AtomicBool,
    stopping: AtomicBool,
    /// Whom to tell that the end begins.
    when_stopping: Option<Arc<config::Stopping>>,
    changed: Notify,
}

impl Serving {
    /// Those that are here; a weak one that is gone would keep its memory.
    fn guests(&self) -> MutexGuard<'_, Vec<Weak<Guest>>> {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        guests.retain(|guest| guest.strong_count() > 0);
        guests
    }

    fn all_guests(&self) -> Vec<Arc<Guest>> {
        self.guests().iter().filter_map(Weak::upgrade).collect()
    }

    fn welcome(&self, guest: &Arc<Guest>) {
        self.guests().push(Arc::downgrade(guest));
    }

    /// Ends the sessions of those whose certificates have been revoked since they came.
    fn send_revoked_away(&self) {
        let is_revoked = |guest: &Arc<Guest>| guest.serial().is_some_and(|serial| self.credentials.is_revoked(serial));
        for guest in self.all_guests().into_iter().filter(is_revoked) {
            tracing::warn!(manager = guest.name, "its certificate was revoked");
            guest.link().close("the certificate of this Manager was revoked");
        }
    }

    /// Whether other Managers than this one have chunks here.
    fn others_wait(&self, guest: &Arc<Guest>) -> bool {
        // Most nodes have one Manager, and this is asked for every chunk.
        self.guests().len() > 1
            && self.all_guests().iter().any(|other| !Arc::ptr_eq(other, guest) && other.chunks() > 0)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The offered name that is most like `name`, if one is like it.
    fn closest(&self, name: &str) -> Option<String> {
        let last = |path: &str| path.rsplit("::").next().unwrap_or(path).to_owned();
        let wanted = last(name);
        self.table.keys().find(|known| last(known) == wanted).map(|known| (*known).to_owned())
    }

    /// Why the node does not stop when `asker` wishes it; none if it does.
    fn stays_for(&self, asker: &Arc<Guest>) -> Option<String> {
        if self.is_embedded {
            return Some(format!("{} goes on: the node is part of another program", self.name));
        }
        if self.keeps_on {
            return Some(format!("{} goes on: it was started with --keep", self.name));
        }
        let others: Vec<_> = self.all_guests().into_iter().filter(|guest| !Arc::ptr_eq(guest, asker)).collect();
        let other = others.first()?;
        Some(format!("{} goes on: {} is connected too", self.name, other.name))
    }

    /// Takes nothing new from now on.
    fn drain(&self, why: Why<'_>, reason: &str) {
        if !self.draining.swap(true, Ordering::Relaxed) {
            let guests = self.all_guests();
            events::node_stopping(&self.name, why, guests.len());
            if let Some(tell) = &self.when_stopping {
                tell();
            }
            guests.iter().for_each(|guest| guest.say_draining(reason));
        }
    }

    fn stop(&self, why: Why<'_>) {
        self.drain(why, STOPS);
        self.stopping.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Whether every chunk that came is over, and its results have left.
    fn is_drained(&self) -> bool {
        self.all_guests().iter().all(|guest| guest.chunks() == 0 && guest.link().is_written())
    }
}

/// What tells a node to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Why<'a> {
    Signal,
    /// This one has sent `Shutdown`.
    Manager(&'a str),
    /// That it is part of.
    Program,
}

/// The slots of a node, and the Manager of them: they end with it.
struct Slots(Session);

impl Drop for Slots {
    fn drop(&mut self) {
        // That is how a node ends; nobody has forgotten anything.
        self.0.0.stop(Ending::Finished);
        self.0.0.tell(Quit);
    }
}

/// A node that serves.
#[must_use = "dropping it ends the node"]
pub struct NodeHandle {
    serving: Arc<Serving>,
    slots: Option<Slots>,
    thread: Option<JoinHandle<()>>,
    address: String,
    socket: Option<String>,
}

impl NodeHandle {
    /// Where it listens: what to put into `machines` of a program on this machine.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The local socket it listens at, if it does.
    pub fn socket(&self) -> Option<&str> {
        self.socket.as_deref()
    }

    /// As others see it.
    pub fn name(&self) -> &str {
        &self.serving.name
    }

    /// Managers that are connected.
    pub fn managers(&self) -> usize {
        self.serving.all_guests().len()
    }

    /// Takes nothing new, and waits until what has come is done, at most for `limit`. Says whether it is.
    pub fn drain(&self, limit: Duration) -> bool {
        self.serving.drain(Why::Program, "the node is about to stop");
        let limit = Instant::now() + limit;
        while !self.serving.is_drained() {
            if Instant::now() >= limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Ends it now: Managers do elsewhere what it has not done.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.serving.stop(Why::Program);
        let _ = self.wait();
    }

    /// Waits until somebody else ends it.
    fn wait(&mut self) -> Result<(), NodeError> {
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        self.slots = None;
        ended.map_err(|_| NodeError::Failed)
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeHandle").field("address", &self.address).field("managers", &self.managers()).finish()
    }
}
