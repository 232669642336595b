//! `distfun node`: serves Managers of other programs, and runs what they bring.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use distfun::{
    Overrides,
    log::Role,
    metrics::ServeError,
    node::{self, NodeError},
};
use distfun_core::options::bytes;
use tracing::Subscriber;
use tracing_subscriber::{
    Layer,
    filter::LevelFilter,
    layer::SubscriberExt,
    registry::LookupSpan,
    util::{SubscriberInitExt, TryInitError},
};

use crate::notify::notify;

/// Serves this machine: programs that name it in `machines` run their functions here, though nothing of them is installed.
///
/// A program that connects is asked for its executable, once; it is checked before anything of it runs, kept in the cache by
/// its hash, and started for each slot in a process of its own. Whoever has the cookie can run programs as this user; so can,
/// with --allow-ship, whoever has a certificate of the same cluster (`distfun init`, `distfun token`, `distfun join`).
#[derive(Args)]
#[command(after_help = "\
The node ends at SIGTERM or SIGINT, after the chunks that it has (a minute at most; a second signal ends it at once), and \
when a program calls shutdown() and no other is connected, unless it was started with --keep.

Exit status: 0 if it was told to end, 1 if it could not start, 2 for a wrong command line.")]
pub(crate) struct Flags {
    /// Where to listen: an address of this machine, with or without a port. Default: 127.0.0.1. Any that other machines reach
    /// needs credentials, and --allow-ship.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The port, if the address has none. Default: 2718.
    #[arg(long)]
    port: Option<u16>,
    /// Listen at a local socket too: `true`, or its name.
    #[arg(long, value_name = "NAME")]
    named_pipe: Option<String>,
    /// Use at most so many CPUs. Default: all.
    #[arg(long, value_name = "N", conflicts_with = "slots")]
    max_cpu: Option<usize>,
    /// Have exactly so many slots.
    #[arg(long, value_name = "N")]
    slots: Option<usize>,
    /// Use at most so many GPUs. Default: all that a process may use, if this command is built with the feature `cuda` or `wgpu`.
    #[arg(long, value_name = "N")]
    max_gpu: Option<usize>,
    /// Count what computes on CPUs and only looks like a GPU, for tests.
    #[arg(long)]
    software_gpu: bool,
    /// The node's name, as others see it. Default: the host's.
    #[arg(long)]
    name: Option<String>,
    /// The file with the secret that Managers of this machine must have too. Default: $DISTFUN_COOKIE, or a file of this user's.
    #[arg(long, value_name = "FILE")]
    cookie: Option<PathBuf>,
    /// The directory of this machine's credentials. Default: $DISTFUN_CREDENTIALS, or one of this user's.
    #[arg(long, value_name = "DIR")]
    credentials: Option<PathBuf>,
    /// The directory where programs and shared data are kept. Default: $DISTFUN_CACHE, or one of this user's for caches.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// What that directory may take, as in 512MiB. Default: 4GiB.
    #[arg(long, value_name = "BYTES", value_parser = size)]
    cache_bytes: Option<u64>,
    /// Memory that each process of a program may have, as in 512MiB. Default: no limit but the system's.
    #[arg(long, value_name = "BYTES", value_parser = size)]
    max_memory: Option<u64>,
    /// Write a log there, a line of JSON for each event. Without it, warnings go to stderr.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Serve metrics to Prometheus at this address of this machine, with or without a port (9464): /metrics, and /health. Every
    /// user of this machine can read them. Default: none.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<String>,
    /// Serve one program by standard input and output, until it leaves: what machines `ssh:HOST` are for.
    #[arg(long, conflicts_with_all = ["listen", "port", "named_pipe", "cookie", "credentials", "keep", "allow_ship", "metrics"])]
    stdio: bool,
    /// Let programs be brought also where other machines reach the node: every Manager with credentials of this cluster may
    /// run any program as this user.
    #[arg(long)]
    allow_ship: bool,
    /// Go on when a program's shutdown() wishes the node to stop.
    #[arg(long)]
    keep: bool,
}

/// What takes the events, as long as it is there.
type Taken = (Option<distfun::log::Guard>, Option<distfun::metrics::Server>);

/// Where events go: to a log or, if they are warnings, to stderr; and to those who ask for metrics at an address.
fn listen_to_events(log: Option<PathBuf>, metrics: Option<&str>) -> Result<Taken, Box<dyn std::error::Error>> {
    let server = metrics.map(distfun::metrics::serve).transpose()?;
    // A layer that is not there would answer for itself when it is asked what it listens to.
    let guard = match log {
        Some(file) => {
            let (layer, guard) = distfun::log::json().role(Role::Node).file(file).build()?;
            begin(tracing_subscriber::registry().with(layer), server.is_some())?;
            Some(guard)
        }
        None => {
            let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).compact();
            // It would write what can't be written to stderr, and panic there.
            let layer = layer.log_internal_errors(false);
            begin(tracing_subscriber::registry().with(layer.with_filter(LevelFilter::WARN)), server.is_some())?;
            None
        }
    };
    Ok((guard, server))
}

fn begin<S>(subscriber: S, has_metrics: bool) -> Result<(), TryInitError>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    match has_metrics {
        true => subscriber.with(distfun::metrics::layer()).try_init(),
        false => subscriber.try_init(),
    }
}

/// An error with what has caused it, in one line.
fn line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// An address that is none, or that can never be one to serve at, is a wrong command line.
fn status_of(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    let is_listen = matches!(error.downcast_ref(), Some(NodeError::Address { .. }));
    let is_metrics =
        matches!(error.downcast_ref(), Some(ServeError::NoAddress { .. } | ServeError::NotLoopback { .. }));
    if is_listen || is_metrics { ExitCode::from(2) } else { ExitCode::FAILURE }
}

fn size(text: &str) -> Result<u64, String> {
    bytes(text).ok_or_else(|| "it is no number of bytes, as in 1000000 or 512MiB".into())
}

/// Whether this command can use GPUs.
pub(crate) const CAN_USE_GPUS: bool = cfg!(any(feature = "cuda", feature = "wgpu"));

/// How one is made that can.
pub(crate) const WITH_GPUS: &str = "cargo install --path cli --features cuda,wgpu";

/// What the flags ask of GPUs that this command can't use.
fn warning(flags: &Flags) -> Option<String> {
    let asked = if flags.software_gpu {
        Some("--software-gpu")
    } else {
        flags.max_gpu.filter(|limit| *limit > 0).map(|_| "--max-gpu")
    };
    let asked = asked.filter(|_| !CAN_USE_GPUS)?;
    Some(format!("{asked} has no effect: this command is built without the features that find GPUs ({WITH_GPUS})"))
}

pub(crate) fn run(flags: Flags) -> ExitCode {
    if let Some(warning) = warning(&flags) {
        // Whoever started it may not listen.
        let _ = writeln!(std::io::stderr(), "distfun node: {warning}");
    }
    let Flags {
        listen,
        port,
        named_pipe,
        max_cpu,
        slots,
        max_gpu,
        software_gpu,
        name,
        cookie,
        credentials,
        cache,
        cache_bytes,
        max_memory,
        log,
        metrics,
        stdio,
        allow_ship,
        keep,
    } = flags;
    let taken = match listen_to_events(log, metrics.as_deref()) {
        Ok(taken) => taken,
        Err(error) => {
            eprintln!("distfun node: {}", line(&*error));
            return status_of(&*error);
        }
    };
    let metrics = taken.1.as_ref().map(|server| server.address());
    let (named_pipe, software_gpu) = (named_pipe.map(Into::into), software_gpu.then_some(true));
    let said = Overrides { port, named_pipe, max_cpu, slots, max_gpu, software_gpu, ..Overrides::default() };
    let mut config = node::config().flags(said).allow_ship(allow_ship).keep(keep).when_ready(move |address| {
        let version = env!("CARGO_PKG_VERSION");
        // Whoever started it may not listen.
        let _ = writeln!(std::io::stdout(), "distfun node {version} serves at {address}; Ctrl-C ends it");
        if let Some(metrics) = metrics {
            let _ = writeln!(std::io::stdout(), "metrics at http://{metrics}/metrics");
        }
        notify("READY=1");
    });
    config = config.when_stopping(|| notify("STOPPING=1"));
    if let Some(listen) = listen {
        config = config.listen(listen);
    }
    if let Some(name) = name {
        config = config.name(name);
    }
    if let Some(cookie) = cookie {
        config = config.cookie(cookie);
    }
    if let Some(credentials) = credentials {
        config = config.credentials(credentials);
    }
    if let Some(cache) = cache {
        config = config.cache(cache);
    }
    if let Some(bytes) = cache_bytes {
        config = config.cache_bytes(bytes);
    }
    if let Some(bytes) = max_memory {
        config = config.max_memory(bytes);
    }
    match if stdio { node::serve_stdio(config) } else { node::serve_programs(config) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("distfun node: {error:?}");
            status_of(&error)
        }
    }
}
