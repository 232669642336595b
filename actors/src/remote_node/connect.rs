//! From an address to a node that is known: the way there, the handshake, and its welcome.

use std::{
    future::Future,
    io,
    net::IpAddr,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use distfun_core::machines::Address;
use distfun_net::{
    gate::is_of_this_machine,
    handshake::{HandshakeError, Hello, Side, Trust, as_manager},
    identity::{self, Cookie},
    link::Link,
    message::Message,
    session::SessionLimits,
    transport::{Wire, local, tcp},
};

#[cfg(unix)]
use super::ssh::Tunnel;
use crate::credentials::Own;

/// How long the way to a node may take, name and all addresses included.
const CONNECT_TIME: Duration = Duration::from_secs(3);

/// A node that is what it says.
pub(crate) struct Met {
    pub(crate) link: Arc<Link>,
    /// What carries it, as long as it lasts.
    #[cfg(unix)]
    pub(crate) _tunnel: Option<Tunnel>,
    pub(crate) round_trip: Duration,
    /// Of its certificate.
    pub(crate) serial: Option<String>,
}

/// Why a node can't be used.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub(crate) text: String,
    /// In one word, for the log.
    pub(crate) kind: &'static str,
    /// It must not be tried again.
    pub(crate) is_for_good: bool,
    /// Nothing should wait for it.
    pub(crate) is_hopeless: bool,
}

impl Trouble {
    pub(crate) fn for_good(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: "identity", is_for_good: true, is_hopeless: true }
    }

    /// The node is in this process.
    pub(crate) fn is_this_program() -> Self {
        Self::for_good("it is served by this very program, whose slots compute already; take it out of machines")
    }

    /// Another name leads to the same node.
    pub(crate) fn is_twice(other: &str) -> Self {
        Self::for_good(format!("it is the same node as {other}; name it once in machines"))
    }

    pub(crate) fn passing(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: "unreachable", is_for_good: false, is_hopeless: false }
    }

    /// It has nothing for this program now.
    pub(super) fn without_slots() -> Self {
        let text = "it leaves its CPUs alone, and has no GPU that this program would use";
        Self { text: text.into(), kind: "no_gpu", is_for_good: false, is_hopeless: true }
    }
}

/// The cookie of this user.
pub(crate) fn own_cookie() -> Result<Cookie, Trouble> {
    Cookie::load_or_create(&identity::default_path()).map_err(|error| Trouble::for_good(with_source(&error)))
}

pub(crate) fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The same, unless it takes too long.
async fn within<T>(limit: Duration, body: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match actix_rt::time::timeout(limit, body).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"))),
    }
}

/// Meets the node at an address.
pub(crate) async fn meet(address: &Address, limits: SessionLimits) -> Result<Met, Trouble> {
    #[cfg(unix)]
    let mut tunnel = None;
    let (wire, trust): (Arc<dyn Wire>, Trust) = match address {
        Address::Tcp { host, port } => {
            // A secret that can't be used is told at once, whoever listens there or does not.
            if host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback()) {
                own_cookie()?;
            }
            let wire = tcp::connect(host, *port, CONNECT_TIME).await.map_err(|error| unreachable(&error))?;
            let trust = trust_of(&*wire, host, *port)?;
            (wire, trust)
        }
        Address::Local { name } => {
            let path = local::path_of(name).map_err(|error| Trouble::for_good(error.to_string()))?;
            let wire = within(CONNECT_TIME, local::connect(&path)).await.map_err(|error| no_socket(name, &error))?;
            (wire, Trust::PeerChecked)
        }
        #[cfg(unix)]
        Address::Ssh { destination } => {
            let name = destination.clone();
            let started = tokio::task::spawn_blocking(move || Tunnel::start(&name)).await;
            let (running, end) = started.map_err(|error| Trouble::passing(error.to_string()))??;
            let wire = local::of_pair(end, format!("ssh {destination}"));
            tunnel = Some(running);
            (wire.map_err(|error| unreachable(&error))?, Trust::PeerChecked)
        }
        _ => return Err(Trouble::for_good("this release can't reach such an address")),
    };
    let before = Instant::now();
    let hello = Hello { instance: crate::instance::id(), program: program() };
    let (wire, node) = as_manager(wire, &trust, &hello).await.map_err(|error| refused(&error))?;
    // Two ways there and two back.
    let round_trip = before.elapsed() / 2;
    let link = Link::new(wire, limits);
    if node.machine.is_some()
        && let Some(list) = own_credentials().revocations()
    {
        let _ = link.send(&Message::Revoked { list }, Vec::new());
    }
    Ok(Met {
        link,
        #[cfg(unix)]
        _tunnel: tunnel,
        round_trip,
        serial: node.machine.map(|machine| machine.serial),
    })
}

/// What this user's Managers show to other machines.
pub(crate) fn own_credentials() -> &'static Own {
    static OWN: LazyLock<Own> = LazyLock::new(|| Own::of(Side::Manager, None));
    &OWN
}

/// By the cookie on this machine, by certificates beyond.
fn trust_of(wire: &dyn Wire, host: &str, port: u16) -> Result<Trust, Trouble> {
    if is_of_this_machine(&wire.peer()) {
        return own_cookie().map(Trust::Cookie);
    }
    let unknown = |text: String| Trouble { kind: "auth", ..Trouble::for_good(text) };
    own_credentials().trust().map_err(unknown)?.ok_or_else(|| {
        let tunnel =
            format!("`ssh -N -L {port}:127.0.0.1:{port} {host}` and the machine localhost, or the machine ssh:{host}");
        unknown(if cfg!(feature = "tls") {
            format!("it is another machine, and this one has no manager's certificate to show: {}, or take a tunnel: {tunnel}", own_credentials().remedy())
        } else {
            format!(
                "it is another machine, and this program is built without the feature `tls` of distfun: build it with \
                 that, or take a tunnel: {tunnel}"
            )
        })
    })
}

fn program() -> String {
    let path = std::env::current_exe().ok();
    let name = path.as_deref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "a program".into())
}

fn unreachable(error: &io::Error) -> Trouble {
    let is_unknown = is_unknown(error);
    let hint = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "; start `distfun node` there, or a program that serves functions (distfun::node::serve)"
        }
        _ if is_unknown => "; correct the name in machines, or make it known to this machine",
        _ => "",
    };
    Trouble { is_hopeless: is_unknown, ..Trouble::passing(format!("{error}{hint}")) }
}

/// Whether it is the name that is at fault, which waiting does not mend.
fn is_unknown(error: &io::Error) -> bool {
    let text = error.to_string();
    text.contains("failed to lookup address") || text.contains("has no address")
}

fn no_socket(name: &str, error: &io::Error) -> Trouble {
    let hint = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "; start a node on this machine with .named_pipe(…) of the same name"
        }
        _ => "",
    };
    Trouble::passing(format!("no connection to the local socket {name}: {error}{hint}"))
}

fn refused(error: &HandshakeError) -> Trouble {
    let text = with_source(error);
    let passing = Trouble::passing(text.clone());
    match error {
        HandshakeError::Version { .. } => Trouble { kind: "protocol_version", ..Trouble::for_good(text) },
        HandshakeError::WrongCookie { .. }
        | HandshakeError::TrustDiffers { .. }
        | HandshakeError::WithoutTls { .. }
        | HandshakeError::Credentials { .. } => Trouble { kind: "auth", ..Trouble::for_good(text) },
        HandshakeError::NotDistfun { .. } => Trouble { kind: "not_distfun", ..Trouble::for_good(text) },
        _ => passing,
    }
}
