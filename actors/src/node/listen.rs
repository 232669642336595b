//! Where Managers come in.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use distfun_core::options::{NamedPipe, Settings};
use distfun_net::{
    blob::{BlobCache, CacheLimits, default_dir},
    gate::may_listen,
    handshake::Side,
    identity::{self, Cookie},
    transport::{
        Listener,
        local::{LocalDoor, path_of},
        tcp::TcpDoor,
    },
};
use tokio::{sync::Notify, time::Instant};

use super::{NodeConfig, NodeError, NodeHandle, STOPS, Serving, Slots, Why, entrance::Entrance, luggage};
use crate::{
    credentials::Own,
    events, instance,
    pool::{Pool, Session},
};

/// How long chunks that have come may take when the process is told to end.
const DRAIN_TIME: Duration = Duration::from_secs(60);

/// How often those that are connected are compared with who was revoked.
const LOOK: Duration = Duration::from_secs(2);

pub(super) fn start(config: NodeConfig, is_embedded: bool) -> Result<NodeHandle, NodeError> {
    if let Some(function) = config.twice {
        return Err(NodeError::Twice { function });
    }
    if config.table.is_empty() != config.runs_programs {
        return Err(if config.runs_programs { NodeError::OfferedAndPrograms } else { NodeError::NothingOffered });
    }
    let settings = config.settings()?;
    let cookie = Cookie::load_or_create(&config.cookie.clone().unwrap_or_else(identity::default_path))?;
    let address = config.address(settings.port);
    let socket: SocketAddr = address.parse().map_err(|_| NodeError::Address { address: address.clone() })?;
    let credentials = Own::of(Side::Node, config.credentials.clone());
    if !socket.ip().to_canonical().is_loopback() {
        let has_credentials = credentials.trust().map_err(NodeError::Credentials)?.is_some();
        may_listen(socket, has_credentials)?;
        if config.runs_programs && !config.allow_ship {
            return Err(NodeError::NothingToServe { address });
        }
    }
    let named_pipe = settings.named_pipe.clone();

    let (sender, receiver) = std::sync::mpsc::channel();
    let is_local = socket.ip().to_canonical().is_loopback();
    let (serving, slots) = prepare(config, settings, is_embedded, is_local, credentials)?;
    let theirs = serving.clone();
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(cause) => return drop(sender.send(Err(NodeError::Thread(cause)))),
        };
        runtime.block_on(async {
            let doors = match open(socket, &named_pipe).await {
                Ok(doors) => doors,
                Err(error) => return drop(sender.send(Err(error))),
            };
            let local = doors.local.as_ref().map(LocalDoor::place);
            let (address, since) = (doors.tcp.address(), Instant::now());
            // Whoever hears that it serves may tell it to end at once.
            let told = Told::new(theirs.is_embedded);
            events::node_started(
                &theirs.name,
                &address.to_string(),
                theirs.pool.settings.slots,
                theirs.pool.gpus.len(),
            );
            let _ = sender.send(Ok((address, local)));
            run(theirs.clone(), doors, cookie, told).await;
            events::node_stopped(&theirs.name, since.elapsed());
        });
        runtime.shutdown_timeout(Duration::from_millis(200));
    };
    let thread = thread::Builder::new().name("distfun-node".into()).spawn(body).map_err(NodeError::Thread)?;
    let (address, local) = receiver.recv().unwrap_or(Err(NodeError::Start(crate::StartError::Failed)))?;
    let address = address.to_string();
    Ok(NodeHandle { serving, slots: Some(slots), thread: Some(thread), address, socket: local })
}

/// Everything but the doors. `is_local`: only this machine, or this user, can come in.
pub(super) fn prepare(
    config: NodeConfig,
    settings: Settings,
    is_embedded: bool,
    is_local: bool,
    credentials: Own,
) -> Result<(Arc<Serving>, Slots), NodeError> {
    if config.runs_programs && !cfg!(target_os = "linux") {
        return Err(NodeError::NoPrograms);
    }
    let porter = luggage::Porter::start().map_err(NodeError::Thread)?;
    let dir = config.cache.clone().unwrap_or_else(default_dir);
    let limits = config.cache_bytes.map_or_else(CacheLimits::default, |bytes| CacheLimits { bytes });
    let cache = BlobCache::open(dir, limits)
        .inspect_err(|error| tracing::warn!(%error, "no directory for shared data; it is kept in memory"))
        .ok();
    let pool = Pool::start(settings, true)?;
    let slots = Slots(Session(pool.clone()));
    pool.wait_for_manager().ok_or(crate::StartError::Failed)?;
    let serving = Arc::new(Serving {
        name: config.name.clone().unwrap_or_else(host),
        instance: config.instance.unwrap_or_else(instance::id),
        pool,
        table: config.table,
        cache: luggage::Store { cache, porter, in_memory: Arc::default() },
        guests: std::sync::Mutex::default(),
        credentials,
        runs_programs: config.runs_programs,
        may_run_programs: config.allow_ship || is_local,
        max_memory: config.max_memory,
        keeps_on: config.keep,
        is_embedded,
        draining: false.into(),
        stopping: false.into(),
        when_stopping: config.stopping,
        changed: Notify::new(),
    });
    Ok((serving, slots))
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .unwrap_or_else(|| "node".into())
}

struct Doors {
    tcp: TcpDoor,
    local: Option<LocalDoor>,
}

async fn open(address: SocketAddr, named_pipe: &NamedPipe) -> Result<Doors, NodeError> {
    let listen = |place: String| move |cause| NodeError::Listen { place, cause };
    let tcp = TcpDoor::bind(address).await.map_err(listen(address.to_string()))?;
    let local = match named_pipe.name() {
        Some(name) => {
            let bind = || LocalDoor::bind(&path_of(name)?);
            Some(bind().map_err(listen(name.to_owned()))?)
        }
        None => None,
    };
    Ok(Doors { tcp, local })
}

async fn run(serving: Arc<Serving>, doors: Doors, cookie: Cookie, mut told: Told) {
    let entrance = Entrance::new(cookie);
    let mut drain_until: Option<Instant> = None;
    let mut looks = tokio::time::interval(LOOK);
    loop {
        let local = async {
            match &doors.local {
                Some(door) => door.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            peer = doors.tcp.accept() => entrance.take_in(&serving, peer, false).await,
            peer = local => entrance.take_in(&serving, peer, true).await,
            () = serving.changed.notified() => {}
            () = told.end() => {
                if drain_until.is_some() {
                    break; // told twice
                }
                serving.drain(Why::Signal, "the node was told to end");
                drain_until = Some(Instant::now() + DRAIN_TIME);
            }
            () = tokio::time::sleep(Duration::from_millis(20)), if drain_until.is_some() => {}
            _ = looks.tick() => serving.send_revoked_away(),
        }
        let is_drained = drain_until.is_some_and(|until| serving.is_drained() || Instant::now() >= until);
        if is_drained || serving.stopping.load(Ordering::Relaxed) {
            break;
        }
    }
    let guests = serving.all_guests();
    guests.iter().for_each(|guest| guest.link().close(STOPS));
    // Goodbyes leave in the next moment; a peer that does not read is not waited for.
    let until = Instant::now() + Duration::from_millis(500);
    drop(guests);
    while !serving.all_guests().is_empty() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Signals that tell a process to end, where the node is all that it does.
struct Told {
    #[cfg(unix)]
    signals: Option<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>,
}

impl Told {
    #[cfg(unix)]
    fn new(is_embedded: bool) -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let both = || Some((signal(SignalKind::terminate()).ok()?, signal(SignalKind::interrupt()).ok()?));
        Self { signals: if is_embedded { None } else { both() } }
    }

    #[cfg(not(unix))]
    fn new(_: bool) -> Self {
        Self {}
    }

    async fn end(&mut self) {
        #[cfg(unix)]
        if let Some((terminate, interrupt)) = &mut self.signals {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            return;
        }
        std::future::pending().await
    }
}
