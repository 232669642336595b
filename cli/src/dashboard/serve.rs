//! HTTP: the page, its events, and the picture for programs.

use std::{
    collections::VecDeque,
    net::{IpAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, uri::Authority},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    connections::Connections,
    is_loopback,
    reader::{Known, Reader},
};
use crate::page::{self, Document};

/// Pages that are told news.
const PAGES: usize = 64;

/// Without anything new, something is said as often: browsers and this server notice then that the other is gone.
const HEARTBEAT: Duration = Duration::from_secs(5);

struct Server {
    reader: Reader,
    pages: Arc<Semaphore>,
    policy: HeaderValue,
}

/// Until Ctrl-C, or until the logs can't be read any more.
pub(super) fn serve(listener: TcpListener, reader: Reader) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let failed = |error: std::io::Error| format!("no page can be served: {error}");
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let connections = Connections::new(tokio::net::TcpListener::from_std(listener).map_err(failed)?);
        let mut failure = reader.failure.clone();
        let server = routes(reader);
        crate::print(&format!("distfun dashboard at http://{address}/ (Ctrl-C ends it)"));
        tokio::select! {
            ended = async { axum::serve(connections, server).await } => ended.map_err(failed),
            ended = failure.wait_for(Option::is_some) => Err(match ended {
                Ok(error) => error.clone().unwrap_or_default(),
                Err(_) => "the logs are not read any more".into(),
            }),
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })
}

fn routes(reader: Reader) -> Router {
    let Document { policy, .. } = document(&reader);
    let policy = HeaderValue::from_str(&policy).expect("a policy is ASCII");
    let server = Arc::new(Server { reader, pages: Arc::new(Semaphore::new(PAGES)), policy });
    Router::new()
        .route("/", get(page))
        .route("/events", get(events))
        .route("/status.json", get(status))
        .fallback(async || (StatusCode::NOT_FOUND, "there is no such page: see /\n"))
        .layer(middleware::from_fn_with_state(server.clone(), guard))
        .with_state(server)
}

fn document(reader: &Reader) -> Document {
    let about = reader.ticks.borrow().about.clone();
    page::document(&about, None::<&()>).expect("it is JSON")
}

/// Lets only this machine's own pages and programs ask, and browsers do nothing with the answer but show it.
async fn guard(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&request) {
        Some(why) => (StatusCode::FORBIDDEN, why).into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, server.policy.clone());
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff"),
        (header::REFERRER_POLICY.as_str(), "no-referrer"),
        (header::CACHE_CONTROL.as_str(), "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(request: &Request) -> Option<&'static str> {
    // A page from elsewhere whose name leads here now (DNS rebinding) gives itself away by that name.
    let is_named = |text: &str| text.parse().is_ok_and(|name: Authority| is_this_machine(&name));
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_named) || hosts.next().is_some() || !request.uri().authority().is_none_or(is_this_machine) {
        return Some("the dashboard answers to localhost, 127.0.0.1 and [::1] only\n");
    }
    let from = |headers: &HeaderMap| headers.get("sec-fetch-site").map(|site| site.as_bytes().to_vec());
    let is_own = from(request.headers()).is_none_or(|site| site == b"same-origin" || site == b"none");
    if !is_own && request.uri().path() != "/" {
        return Some("the dashboard answers to its own page only\n");
    }
    None
}

fn is_this_machine(name: &Authority) -> bool {
    if name.as_str().contains('@') {
        return false;
    }
    let host = name.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(is_loopback)
}

async fn page(State(server): State<Arc<Server>>) -> Response {
    let html = document(&server.reader).html;
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

/// As `distfun status --json` prints it.
async fn status(State(server): State<Arc<Server>>) -> Response {
    let mut ticks = server.reader.ticks.clone();
    let is_there = ticks.wait_for(|tick| tick.version > 0).await.is_ok();
    match server.reader.picture(Known { told: 0, spans: u64::MAX }).await {
        Some((json, _)) if is_there => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// `about` whenever that changes, `whole` with a picture, and then `news` with pictures that have only what was not told yet.
async fn events(State(server): State<Arc<Server>>) -> Response {
    let Ok(permit) = server.pages.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n").into_response();
    };
    // Room for one: what a page is told is drawn when it can take it.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(tell(server.reader.clone(), sender));
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    (kind, Body::from_stream(Events { receiver, pieces: VecDeque::new(), _permit: permit })).into_response()
}

async fn tell(reader: Reader, page: mpsc::Sender<Event>) {
    let mut ticks = reader.ticks.clone();
    let (mut known, mut about, mut version) = (Known::default(), None, 0);
    loop {
        let Ok(permit) = page.reserve().await else { return };
        let tick = ticks.borrow_and_update().clone();
        if about.as_ref() != Some(&tick.about) {
            permit.send(event("about", serde_json::to_vec(&tick.about).expect("it is JSON").into()));
            about = Some(tick.about);
            continue;
        }
        if tick.version > version {
            let Some((json, next)) = reader.picture(known).await else { return };
            permit.send(event(if version == 0 { "whole" } else { "news" }, json));
            (known, version) = (next, tick.version);
            continue;
        }
        tokio::select! {
            changed = ticks.changed() => if changed.is_err() { return },
            () = page.closed() => return,
            () = tokio::time::sleep(HEARTBEAT) => permit.send([Bytes::from_static(b":\n\n"), Bytes::new(), Bytes::new()]),
        }
    }
}

/// In pieces: that in the middle is one for all pages that get it, also for those that never take it.
type Event = [Bytes; 3];

fn event(name: &str, json: Bytes) -> Event {
    [format!("event: {name}\ndata: ").into(), json, Bytes::from_static(b"\n\n")]
}

struct Events {
    receiver: mpsc::Receiver<Event>,
    /// Of the event that is being sent.
    pieces: VecDeque<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl futures_core::Stream for Events {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.pieces.pop_front() {
                Some(piece) if piece.is_empty() => {}
                Some(piece) => return Poll::Ready(Some(Ok(piece))),
                None => match ready!(self.receiver.poll_recv(context)) {
                    Some(event) => self.pieces.extend(event),
                    None => return Poll::Ready(None),
                },
            }
        }
    }
}
