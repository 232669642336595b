//! What a node offers, and where.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use distfun_core::options::{GpuPolicy, Settings, SettingsError, Told};

use super::offer::{Offer, Served};
use crate::{config, gpu, options::options, pool::gpus};

/// Is told the address.
pub(super) type Ready = dyn Fn(&str) + Send + Sync;

/// Is told that the end begins.
pub(super) type Stopping = dyn Fn() + Send + Sync;

/// What a node offers, and where. Given to [`serve`](super::serve) or [`start`](super::start).
///
/// ```no_run
/// use distfun::{function, node};
///
/// fn score(x: f64) -> f64 {
///     x * x
/// }
///
/// # fn main() -> Result<(), distfun::Error> {
/// let node = node::start(node::config().offer(function!(score)).max_cpu(2))?;
/// println!("listens at {}", node.address());
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
#[must_use = "a configuration does nothing until it is served"]
pub struct NodeConfig {
    pub(super) table: HashMap<&'static str, Arc<dyn Served>>,
    pub(super) twice: Option<&'static str>,
    pub(super) listen: Option<String>,
    pub(super) name: Option<String>,
    pub(super) cookie: Option<PathBuf>,
    pub(super) cache: Option<PathBuf>,
    pub(super) cache_bytes: Option<u64>,
    pub(super) instance: Option<[u8; 16]>,
    pub(super) ready: Option<Arc<Ready>>,
    pub(super) stopping: Option<Arc<Stopping>>,
    pub(super) credentials: Option<PathBuf>,
    pub(super) runs_programs: bool,
    pub(super) allow_ship: bool,
    pub(super) keep: bool,
    pub(super) max_memory: Option<u64>,
    pub(super) told: Told,
}

impl NodeConfig {
    /// Offers a function to Managers. Those that ask for a function of this name with the same types are served, whatever
    /// their build. What computes on GPUs in place of a function ([`gpu`](crate::DistributeBuilder::gpu)) is offered beside it:
    /// `.offer(function!(scale)).offer(function!(scale_on_gpu))`. Where it is not, `scale` runs on the GPU's worker.
    pub fn offer(mut self, function: impl Offer) -> Self {
        let served = function.offered().0;
        // Looks at its types now, which runs code of theirs.
        let fingerprint = served.fingerprint();
        if let Some(other) = self.table.insert(served.name(), served.clone())
            && other.fingerprint() != fingerprint
        {
            self.twice = Some(served.name());
        }
        self
    }

    /// Listens at this address, `127.0.0.1` at [`port`](Self::port) by default. Port 0 takes any that is free. An address
    /// that other machines reach needs [`credentials`](Self::credentials), since a node runs what a Manager asks for;
    /// without, reach it through a tunnel (`ssh -L`).
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// As others see it in their logs and errors; the host's name by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The file with the secret that Managers of this machine must have too. Default: `DISTFUN_COOKIE`, or a file of the user's that is
    /// made when it is first needed.
    pub fn cookie(mut self, path: impl Into<PathBuf>) -> Self {
        self.cookie = Some(path.into());
        self
    }

    /// The directory with this machine's certificate, as `distfun join` makes it. Managers of other machines are let in by
    /// certificates of the same cluster only; those of this machine by the [`cookie`](Self::cookie). It is read again when
    /// its files change. Default: `DISTFUN_CREDENTIALS`, or a directory of the user's.
    pub fn credentials(mut self, dir: impl Into<PathBuf>) -> Self {
        self.credentials = Some(dir.into());
        self
    }

    /// The directory where shared data is kept for the next time. Default: `DISTFUN_CACHE`, or one of the user's for
    /// caches.
    pub fn cache(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache = Some(dir.into());
        self
    }

    /// What that directory may take, in bytes. Default: 4 GiB. Shared data that is larger is kept in memory.
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = Some(bytes);
        self
    }

    /// Called by [`serve`](super::serve) once Managers can come in, with the address to put into their `machines`: to
    /// print it, or to tell whoever watches the service. ([`start`](super::start) returns it.)
    ///
    /// ```no_run
    /// use distfun::{function, node};
    ///
    /// # fn main() -> Result<(), distfun::Error> {
    /// let config = node::config().offer(function!(f64::sqrt));
    /// node::serve(config.when_ready(|address| println!("serving at {address}")))?;
    /// # Ok(()) }
    /// ```
    pub fn when_ready(mut self, ready: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.ready = Some(Arc::new(ready));
        self
    }

    /// Called once, when the node begins to stop: it takes nothing new from then on and finishes what it has, which may take
    /// a while. For whoever watches the service; it should return at once.
    pub fn when_stopping(mut self, stopping: impl Fn() + Send + Sync + 'static) -> Self {
        self.stopping = Some(Arc::new(stopping));
        self
    }

    /// Lets Managers bring their programs also where others than this machine reach the node. They run as this node's user,
    /// who can do whatever the programs want to do. Where only this machine reaches it that is allowed anyway. For
    /// [`serve_programs`](super::serve_programs).
    pub fn allow_ship(mut self, yes: bool) -> Self {
        self.allow_ship = yes;
        self
    }

    /// Goes on when a Manager's `Shutdown` wishes it to stop, as a service that others start and stop. Default: no.
    pub fn keep(mut self, yes: bool) -> Self {
        self.keep = yes;
        self
    }

    /// Memory that each process of a program that is brought may have, in bytes; see
    /// [`max_memory`](crate::DistributeBuilder::max_memory). Default: no limit but the system's. For
    /// [`serve_programs`](super::serve_programs).
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = Some(bytes);
        self
    }

    pub(super) fn for_programs(mut self) -> Self {
        self.runs_programs = true;
        self
    }

    /// Lets Managers of the same process use it, which they refuse otherwise. For tests.
    #[cfg(feature = "fault-injection")]
    pub fn as_another_process(mut self) -> Self {
        self.instance = Some(rand::random());
        self
    }

    options!(max_cpu, slots, max_gpu, software_gpu, port, named_pipe, flags);

    /// What holds. A node has slots for its GPUs too, since it is its Managers that judge a policy.
    pub(super) fn settings(&self) -> Result<Settings, SettingsError> {
        let mut told = self.told.clone();
        told.builder.gpu_policy = Some(GpuPolicy::Mixed);
        let settings = config::resolve_here(&told)?;
        settings.check_gpus(gpus(&settings).len(), || gpu::why_none(settings.software_gpu))?;
        Ok(settings)
    }

    pub(super) fn address(&self, port: u16) -> String {
        match &self.listen {
            None => format!("127.0.0.1:{port}"),
            Some(address) if address.parse::<std::net::SocketAddr>().is_ok() => address.clone(),
            Some(address) => match address.parse::<std::net::IpAddr>() {
                Ok(ip) => std::net::SocketAddr::new(ip, port).to_string(),
                Err(_) => address.clone(),
            },
        }
    }
}

impl std::fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let functions: Vec<_> = self.table.keys().collect();
        f.debug_struct("NodeConfig")
            .field("functions", &functions)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}
