//! Who may come in, and how each shows that it may.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use distfun_net::{
    gate::{Gate, GateLimits, is_of_this_machine},
    handshake::{Certified, Refusal, Trust, as_node, turn_away},
    identity::Cookie,
    link::Link,
    message::{Message, Welcome},
    session::SessionLimits,
    transport::Wire,
};

use super::{Serving, guest::Guest};
use crate::events;

/// What peers are asked for.
pub(super) struct Entrance {
    gate: Gate,
    cookie: Cookie,
}

impl Entrance {
    pub(super) fn new(cookie: Cookie) -> Arc<Self> {
        Arc::new(Self { gate: Gate::new(GateLimits::default()), cookie })
    }

    /// Meets a peer, in a task of its own, and serves it if it is a Manager. That of a local socket has shown who it is.
    pub(super) async fn take_in(
        self: &Arc<Self>,
        serving: &Arc<Serving>,
        peer: std::io::Result<Arc<dyn Wire>>,
        is_shown: bool,
    ) {
        let wire = match peer {
            Ok(wire) => wire,
            Err(error) => {
                tracing::warn!(%error, "a peer could not be let in");
                tokio::time::sleep(Duration::from_millis(50)).await;
                return;
            }
        };
        let address = wire.peer().parse::<SocketAddr>().map_or(IpAddr::V6(Ipv6Addr::LOCALHOST), |address| address.ip());
        let pass = match self.gate.enter(address, Instant::now()) {
            Ok(pass) => pass,
            Err(turned) => {
                self.warn(&turned);
                return turn_away(&*wire, turned.refusal());
            }
        };
        let trust = match self.trust_of(serving, &*wire, is_shown) {
            Ok(trust) => trust,
            Err(text) => {
                if let Some(more) = self.gate.may_warn(Instant::now()) {
                    tracing::warn!(error = text, more, "a peer was refused");
                }
                return turn_away(&*wire, Refusal::NoCredentials);
            }
        };
        let (this, serving) = (self.clone(), serving.clone());
        tokio::spawn(async move {
            let (wire, manager) = match as_node(wire, &trust, pass.evicted()).await {
                Ok(met) => {
                    pass.succeeded();
                    met
                }
                Err(error) => {
                    if error.counts_against_peer() {
                        pass.failed(Instant::now());
                    }
                    return this.warn(&error);
                }
            };
            host_guest(serving, wire, manager.program, manager.machine).await;
        });
    }

    /// By the cookie on this machine, by certificates beyond.
    fn trust_of(&self, serving: &Serving, wire: &dyn Wire, is_shown: bool) -> Result<Trust, String> {
        if is_shown {
            return Ok(Trust::PeerChecked);
        }
        if is_of_this_machine(&wire.peer()) {
            return Ok(Trust::Cookie(self.cookie.clone()));
        }
        serving.credentials.trust()?.ok_or_else(|| "this machine has no credentials any more".into())
    }

    fn warn(&self, error: &dyn std::error::Error) {
        if let Some(more) = self.gate.may_warn(Instant::now()) {
            tracing::warn!(%error, more, "a peer was refused");
        }
    }
}

pub(super) async fn host_guest(
    serving: Arc<Serving>,
    wire: Arc<dyn Wire>,
    program: String,
    machine: Option<Certified>,
) {
    let link = Link::new(wire, SessionLimits::default());
    let name = match &machine {
        Some(machine) => format!("{program} at {}", machine.name),
        None => program,
    };
    let guest = Guest::new(name, machine.map(|machine| machine.serial), link.clone(), serving.clone());
    serving.welcome(&guest);
    let welcome = Welcome {
        name: serving.name.clone(),
        instance: serving.instance,
        version: env!("CARGO_PKG_VERSION").into(),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        slots: serving.pool.settings.slots as u32,
        functions: serving.table.len() as u32,
        is_draining: serving.is_draining(),
        gpus: serving.pool.gpus_left().cloned().collect(),
        runs_programs: serving.runs_programs,
    };
    let _ = link.send(&Message::Welcome(welcome), Vec::new());
    events::node_joined(&serving.name, &guest.name, serving.all_guests().len());
    let hearing = guest.clone();
    let end = link.run(move |incoming| hearing.hear(incoming)).await;
    guest.leave();
    let others = serving.all_guests().iter().filter(|other| !Arc::ptr_eq(other, &guest)).count();
    events::node_left(&serving.name, &guest.name, others, &end.to_string());
}
