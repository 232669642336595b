//! Who may come in, before anybody knows who it is.
//!
//! Whoever reaches the port costs a place until its handshake is over. The gate bounds the places, and gives each
//! newcomer one: when they are taken, the oldest that waits goes, of the address that has the most. So a thousand
//! connections that say nothing can't keep out one that says the right thing, which takes a few milliseconds.
//!
//! An address whose handshakes fail is refused for the rest of its minute. Not so loopback: all programs of the machine
//! share it, and a user with a wrong cookie would keep himself out after he has mended it. A cookie has 256 bits, which
//! nobody guesses at any rate.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::handshake::Refusal;

#[cfg(test)]
mod tests;

/// At most one warning about those who are refused is worth writing in this time.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// Addresses whose failures are counted at once. With more, those that failed the longest ago are forgotten.
const MAX_WATCHED: usize = 1024;

/// How many may wait, and fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateLimits {
    /// Handshakes that are not over, in all. Default 64, at least 1.
    pub max_pending: usize,
    /// The same of one IPv4 address, or one IPv6 network of 64 bits, which is what one customer has. Default 16, at
    /// least 1. All programs of this machine count as one.
    pub max_pending_per_address: usize,
    /// Handshakes of one address that may fail within the window. Default 5.
    pub max_failures: u32,
    /// From the first failure on. Default one minute.
    pub failure_window: Duration,
    /// Whether loopback has no such limit. Default: so it is.
    pub spares_loopback: bool,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            max_pending: 64,
            max_pending_per_address: 16,
            max_failures: 5,
            failure_window: Duration::from_secs(60),
            spares_loopback: true,
        }
    }
}

/// Gives places to those whose handshake is not over.
#[derive(Debug, Clone)]
pub struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: GateLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the order in which they came.
    pending: BTreeMap<u64, Place>,
    next_place: u64,
    failures: HashMap<Origin, Failures>,
    last_warning: Option<Instant>,
    /// Since the last warning.
    unsaid: u64,
}

#[derive(Debug)]
struct Place {
    origin: Origin,
    evicted: Arc<Notify>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    first: Instant,
    count: u32,
}

impl Gate {
    /// A gate that nobody has come to.
    #[must_use]
    pub fn new(limits: GateLimits) -> Self {
        Self { inner: Arc::new(Inner { limits, state: Mutex::default() }) }
    }

    /// Gives a place to a newcomer. Another may lose its own by that. Peers of local sockets come from
    /// [`Ipv6Addr::LOCALHOST`].
    ///
    /// # Errors
    /// If too many handshakes of its address have failed.
    pub fn enter(&self, address: IpAddr, now: Instant) -> Result<Pass, TurnedAway> {
        let origin = Origin::of(address);
        let Inner { limits, .. } = &*self.inner;
        let mut state = self.inner.state();
        if let Some(failures) = state.failures.get(&origin).copied() {
            let left = limits.failure_window.saturating_sub(now.saturating_duration_since(failures.first));
            if left.is_zero() {
                state.failures.remove(&origin);
            } else if failures.count >= limits.max_failures {
                return Err(TurnedAway { address, failures: failures.count, wait: left });
            }
        }
        let has = state.pending_of(origin);
        let goes = if has >= limits.max_pending_per_address.max(1) {
            state.oldest_of(origin)
        } else if state.pending.len() >= limits.max_pending.max(1) {
            state.oldest_of_the_most()
        } else {
            None
        };
        if let Some(place) = goes.and_then(|goes| state.pending.remove(&goes)) {
            place.evicted.notify_waiters();
        }
        let (place, evicted) = (state.next_place, Arc::new(Notify::new()));
        state.next_place += 1;
        state.pending.insert(place, Place { origin, evicted: Arc::clone(&evicted) });
        drop(state);
        Ok(Pass { inner: Arc::clone(&self.inner), place, origin, evicted })
    }

    /// Handshakes that are not over.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.inner.state().pending.len()
    }

    /// Whether to write a warning about somebody who was refused, with the number of those that were not written since
    /// the last one. To be asked for each, and once only.
    #[must_use]
    pub fn may_warn(&self, now: Instant) -> Option<u64> {
        let mut state = self.inner.state();
        let is_early = |last| now.saturating_duration_since(last) < WARNING_INTERVAL;
        if state.last_warning.is_some_and(is_early) {
            state.unsaid += 1;
            return None;
        }
        state.last_warning = Some(now);
        Some(std::mem::take(&mut state.unsaid))
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn pending_of(&self, origin: Origin) -> usize {
        self.pending.values().filter(|place| place.origin == origin).count()
    }

    fn oldest_of(&self, origin: Origin) -> Option<u64> {
        self.pending.iter().find(|(_, place)| place.origin == origin).map(|(number, _)| *number)
    }

    fn oldest_of_the_most(&self) -> Option<u64> {
        let mut counts: HashMap<Origin, usize> = HashMap::new();
        for place in self.pending.values() {
            *counts.entry(place.origin).or_default() += 1;
        }
        let most = counts.values().max()?;
        self.pending.iter().find(|(_, place)| counts.get(&place.origin) == Some(most)).map(|(number, _)| *number)
    }

    fn failed(&mut self, origin: Origin, now: Instant, window: Duration) {
        if !self.failures.contains_key(&origin) && self.failures.len() >= MAX_WATCHED {
            self.failures.retain(|_, failures| now.saturating_duration_since(failures.first) < window);
            if self.failures.len() >= MAX_WATCHED {
                let oldest = self.failures.iter().min_by_key(|(_, failures)| failures.first).map(|(origin, _)| *origin);
                oldest.map(|oldest| self.failures.remove(&oldest));
            }
        }
        let failures = self.failures.entry(origin).or_insert(Failures { first: now, count: 0 });
        if now.saturating_duration_since(failures.first) >= window {
            *failures = Failures { first: now, count: 0 };
        }
        failures.count = failures.count.saturating_add(1);
    }
}

/// A place at the gate. Dropping it frees the place, and is held for neither success nor failure.
#[derive(Debug)]
#[must_use = "dropping it frees the place while the handshake goes on"]
pub struct Pass {
    inner: Arc<Inner>,
    place: u64,
    origin: Origin,
    evicted: Arc<Notify>,
}

impl Pass {
    /// Waits until the place has been given to another: the connection is to be closed then. To be selected beside the
    /// handshake.
    ///
    /// # Cancel safety
    /// Once evicted, each call returns at once.
    pub async fn evicted(&self) {
        // Made before it is looked, so that an eviction in between wakes it.
        let evicted = self.evicted.notified();
        if self.inner.state().pending.contains_key(&self.place) {
            evicted.await;
        }
    }

    /// The handshake has succeeded: earlier failures of the address are forgiven.
    pub fn succeeded(self) {
        self.inner.state().failures.remove(&self.origin);
    }

    /// The handshake has failed, in a way that
    /// [`counts_against_peer`](crate::handshake::HandshakeError::counts_against_peer).
    pub fn failed(self, now: Instant) {
        if self.origin != Origin::Loopback || !self.inner.limits.spares_loopback {
            self.inner.state().failed(self.origin, now, self.inner.limits.failure_window);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.inner.state().pending.remove(&self.place);
    }
}

/// Whom an address is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Origin {
    Loopback,
    Address(IpAddr),
}

impl Origin {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if address.is_loopback() => Self::Loopback,
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                Self::Address(Ipv6Addr::from(network).into())
            }
            address => Self::Address(address),
        }
    }
}

/// Too many handshakes of an address have failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} is refused for {} s, after {failures} handshakes that failed: if it is yours, see that it has the same \
     cookie, or credentials of this cluster", .wait.as_secs_f64().ceil()
)]
#[non_exhaustive]
pub struct TurnedAway {
    /// Who came.
    pub address: IpAddr,
    /// How many failed.
    pub failures: u32,
    /// How long it will be refused.
    pub wait: Duration,
}

impl TurnedAway {
    /// What the peer is told.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        Refusal::TooManyFailures
    }
}

/// Whether a peer is on this machine, by what its wire says of it: a local socket, or a loopback address.
#[must_use]
pub fn is_of_this_machine(peer: &str) -> bool {
    peer.parse::<SocketAddr>().map_or(true, |peer| peer.ip().to_canonical().is_loopback())
}

/// Whether a node may listen there: without credentials, only where nobody but this machine can reach it.
///
/// # Errors
/// If others can. The text says what to type.
pub fn may_listen(address: SocketAddr, has_credentials: bool) -> Result<(), OpenToOthers> {
    if has_credentials || address.ip().to_canonical().is_loopback() { Ok(()) } else { Err(OpenToOthers { address }) }
}

/// A node would listen where other machines reach it, and has nothing to know them by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address} would let {} run code here, and {}", who(*.address), remedy(port(*.address)))]
#[non_exhaustive]
pub struct OpenToOthers {
    /// Where it was to listen.
    pub address: SocketAddr,
}

fn who(address: SocketAddr) -> &'static str {
    if address.ip().to_canonical().is_unspecified() {
        "every machine on the network"
    } else {
        "every machine that reaches this address"
    }
}

fn remedy(port: u16) -> String {
    let tunnel = format!(
        "listen on 127.0.0.1:{port}, and reach it from there by `ssh -N -L {port}:127.0.0.1:{port} <this machine>`"
    );
    if cfg!(feature = "tls") {
        format!(
            "this machine has no credentials to know them by.\n  \
             once, on the machine that starts programs: distfun init\n  \
             there, for this machine:                   distfun token\n  \
             here, what that says:                      distfun join …\n\
             then this again, `distfun node` with --allow-ship; or {tunnel}"
        )
    } else {
        format!("this program is built without the feature `tls` of distfun: build it with that, or {tunnel}")
    }
}

/// Port 0 is any port, which nobody can tunnel to.
fn port(address: SocketAddr) -> u16 {
    if address.port() == 0 { crate::DEFAULT_PORT } else { address.port() }
}
