//! `/metrics` and `/health` over HTTP, for this machine only.
//!
//! One thread does it all. Nobody who connects is trusted: a request has 16 KiB and a connection ten seconds; when there are
//! many, the oldest makes way, so that those who are slow cost those who are not nothing but a place in the queue.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::Mutex,
    thread::JoinHandle,
    time::Duration,
};

use ::metrics::set_global_recorder;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{runtime::Runtime, sync::oneshot, task::AbortHandle};

use super::{
    lock, state as state_of_process,
    state::Health,
    table::{Kind, METRICS},
};

/// The port of Prometheus exporters of OpenTelemetry.
const PORT: u16 = 9464;
/// Of a request, up to its body, of which nothing is read.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// From connecting to the end of the request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// From connecting to the last byte of the answer.
const DONE_WITHIN: Duration = Duration::from_secs(10);
const MAX_CONNECTIONS: usize = 64;
/// What histograms have taken in is put in order this often, also if nobody asks: it takes memory until then.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// After connections could not be taken, for want of file descriptors, say.
const PAUSE: Duration = Duration::from_millis(50);
/// From a tiny call to one of ten hours.
const BUCKETS: &[f64] = &[0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36000.0];

/// Serves the metrics of this process for Prometheus to fetch, until what is returned is dropped: `GET /metrics`, and
/// `GET /health`, which says 200, or 503 while a Manager is stalled or no [`layer`](super::layer) is part of the program's
/// subscriber.
///
/// `address` is one of this machine alone, as in `127.0.0.1:9464`, `[::1]` or `localhost`; the port is 9464 if it has none, and
/// any that is free if it is 0. Whoever can connect, which is every user of this machine, can read what is served: numbers and
/// names of functions.
///
/// It becomes the program's recorder of the `metrics` facade: metrics of the program's own are served too.
///
/// # Errors
/// If the address is none or not of this machine alone, can't be listened at, or the program has a recorder of another kind.
pub fn serve(address: &str) -> Result<Server, ServeError> {
    let asked = parse(address).ok_or_else(|| ServeError::NoAddress { text: address.into() })?;
    if !asked.ip().to_canonical().is_loopback() {
        return Err(ServeError::NotLoopback { address: asked });
    }
    let listen = |source| ServeError::Listen { address: asked, source };
    let listener = TcpListener::bind(asked).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let recorded = recorded()?;
    lock(&state_of_process()).begin();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)?;
    let (stop, stopped) = oneshot::channel();
    let body = move || run(&runtime, listener, recorded, stopped);
    let thread = std::thread::Builder::new().name("distfun-metrics".into()).spawn(body).map_err(ServeError::Thread)?;
    Ok(Server { address, stop: Some(stop), thread: Some(thread) })
}

/// Serves the metrics until it is dropped, which frees the port; see [`serve`].
#[must_use = "dropping it ends the serving; keep it: let _metrics = …"]
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it does not panic
        }
    }
}

/// Metrics can't be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It is no address.
    #[error("{text:?} is no address to serve metrics at; write it as in 127.0.0.1, 127.0.0.1:{PORT} or [::1]:{PORT}")]
    NoAddress {
        /// As given.
        text: String,
    },
    /// Others than this machine could connect.
    #[error(
        "metrics are not served at {address}, which other machines may reach: nobody is asked who they are; serve at \
         127.0.0.1:{port}, with a proxy in front of it that authenticates (nginx, say, or an ssh tunnel)",
        port = .address.port()
    )]
    NotLoopback {
        /// As given.
        address: SocketAddr,
    },
    /// The address can't be listened at.
    #[error(
        "metrics can't be served at {address}; if something serves there already, choose another port, or 0 for any"
    )]
    Listen {
        /// As given.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else takes the program's metrics.
    #[error("the program has a recorder of metrics already; serve them with its exporter, and add only the layer")]
    AlreadySet,
    /// There is no thread for it.
    #[error("the thread that serves metrics could not be started")]
    Thread(#[source] io::Error),
}

fn parse(text: &str) -> Option<SocketAddr> {
    let host = |host: &str| match host {
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        host => host.parse::<IpAddr>().ok(),
    };
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Some(ip) = host(bare) {
        return Some((ip, PORT).into());
    }
    let (name, port) = text.split_once(':')?;
    Some((host(name)?, port.parse().ok()?).into())
}

/// What there is to render: of the recorder that the first server has installed, since a process has only one.
fn recorded() -> Result<PrometheusHandle, ServeError> {
    static RECORDED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut recorded = RECORDED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(recorded) = &*recorded {
        return Ok(recorded.clone());
    }
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Histogram) {
        let name = Matcher::Full(metric.name.into());
        builder = builder.set_buckets_for_metric(name, BUCKETS).expect("there are buckets");
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    set_global_recorder(recorder).map_err(|_| ServeError::AlreadySet)?;
    *recorded = Some(handle.clone());
    Ok(handle)
}

/// The body of the thread.
fn run(runtime: &Runtime, listener: TcpListener, recorded: PrometheusHandle, mut stopped: oneshot::Receiver<()>) {
    runtime.block_on(async {
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        let mut upkeep = tokio::time::interval(UPKEEP_EVERY);
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                _ = upkeep.tick() => recorded.run_upkeep(),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        open.retain(|connection| !connection.is_finished());
                        if open.len() >= MAX_CONNECTIONS && let Some(oldest) = open.pop_front() {
                            oldest.abort();
                        }
                        let connection = tokio::time::timeout(DONE_WITHIN, connection(stream, recorded.clone()));
                        open.push_back(tokio::spawn(connection).abort_handle());
                        // Those who have asked already are answered before more come in.
                        tokio::task::yield_now().await;
                    }
                    Err(_) => tokio::time::sleep(PAUSE).await,
                },
            }
        }
    });
}

/// One request, and its answer.
fn connection(stream: tokio::net::TcpStream, recorded: PrometheusHandle) -> impl Future<Output = ()> + Send {
    let answer = move |request: Request<Incoming>| {
        let answer = answer(&request, &recorded);
        async { Ok::<_, Infallible>(answer) }
    };
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(MAX_HEAD_BYTES).keep_alive(false);
    let served = builder.serve_connection(TokioIo::new(stream), service_fn(answer));
    async {
        let _ = served.await; // whoever is gone, or speaks something else, is not told
    }
}

fn answer<B>(request: &Request<B>, recorded: &PrometheusHandle) -> Response<String> {
    let known = matches!(request.uri().path(), "/metrics" | "/health");
    let (status, kind, text) = match request.uri().path() {
        _ if known && request.method() != Method::GET => {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".into())
        }
        "/metrics" => (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", recorded.render()),
        "/health" => {
            let (status, text) = health(lock(&state_of_process()).health());
            (status, "application/json", text)
        }
        _ => (StatusCode::NOT_FOUND, "text/plain", "there are /metrics and /health\n".into()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET"));
    }
    response
}

fn health(health: Health) -> (StatusCode, String) {
    let (status, word) = match health {
        Health { is_heard: false, .. } => (StatusCode::SERVICE_UNAVAILABLE, "no_layer"),
        Health { stalled: 1.., .. } => (StatusCode::SERVICE_UNAVAILABLE, "stalled"),
        _ => (StatusCode::OK, "ok"),
    };
    let Health { uptime_s, managers, stalled, threads, jobs_active, .. } = health;
    let version = env!("CARGO_PKG_VERSION");
    let text = format!(
        "{{\"status\":\"{word}\",\"version\":\"{version}\",\"uptime_s\":{uptime_s:.3},\"managers\":{managers},\
         \"managers_stalled\":{stalled},\"worker_threads\":{threads},\"jobs_active\":{jobs_active}}}\n"
    );
    (status, text)
}
