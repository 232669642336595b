//! A web service with a Manager inside: short work is answered at once, long work becomes a job to ask about.
//!
//! `cargo run --release -p distfun-examples --features axum --bin embed_axum [-- --serve --port 8080]`
//!
//! Without `--serve` it takes a free port, is its own client, shows what it asked and got, and ends. The work is the
//! Lyapunov exponent of the logistic map x' = r x (1 - x) for every rate r of a list: negative where the map settles,
//! positive where it is chaotic.
//!
//! | request | answer |
//! |---|---|
//! | `POST /exponents` with `[2.5, 4]` (1000 rates at most) | the exponents, when they are there: `[-0.693, 0.693]` |
//! | `POST /jobs` with a list of rates (100000 at most) | 202 at once: `{"id": 7, "state": "running", …}` |
//! | `GET /jobs/7` | state and progress |
//! | `GET /jobs/7/results` | the exponents, `null` where there is none; 409 while it runs |
//! | `DELETE /jobs/7` | cancels it: state and progress; 409 if it has ended |
//! | `GET /status` | what every slot does, and every active call |
//!
//! Errors are `{"error": "…"}`: 400 bad input, 404 no such job, 409 not in this state, 413 too large, 415 not sent as JSON,
//! 503 busy. With curl: `curl --json '[2.5, 4]' 127.0.0.1:8080/exponents`.
//!
//! What to keep in a service of your own:
//! - Short work awaits inside its handler. When a client goes away, axum drops the handler's future, and with it the
//!   call: what has not started is not run.
//! - Long work keeps its `Call`, which tells progress, gives partial results, and can be cancelled.
//! - Short work has `Priority::High`, so that a job of an hour does not slow it down. No item is interrupted, so what
//!   remains is the length of one item of a job, here under a millisecond: keep items short.
//! - Ctrl-C or SIGTERM: requests that run are answered, then `Finished` ends the jobs, which return with what they have.

use std::{
    collections::BTreeMap,
    error::Error,
    future::Future,
    net::Ipv4Addr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, State, rejection::JsonRejection},
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use clap::Parser;
use distfun::{
    Activity, Call, CallError, CallFailure, Distribute, Ending, Finished, Manager, ManagerHandle, Priority, Progress,
    Status, function,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, time::sleep};

/// Rates in a request that is answered at once: a second or so of one CPU.
const MAX_RATES: usize = 1_000;
/// Rates in a job.
const MAX_JOB_RATES: usize = 100_000;
/// Bytes in a body, enough for those.
const MAX_BODY: usize = 4 << 20;
/// Jobs that are remembered, running ones included.
const MAX_JOBS: usize = 100;
/// How long a shutdown waits for requests that run.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves Lyapunov exponents over HTTP, on this machine only (127.0.0.1).
#[derive(Parser)]
struct Arguments {
    /// Serve until Ctrl-C or SIGTERM; without it: serve a built-in client, then end
    #[arg(long)]
    serve: bool,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Calls active at once; more are answered with 503
    #[arg(long, default_value_t = 64)]
    max_calls: usize,
}

/// The mean of ln |f'(x)| along an orbit of f(x) = rate x (1 - x), 100000 steps long after 1000 to settle.
fn lyapunov(rate: f64) -> f64 {
    let settled = (0..1_000).fold(0.4, |x, _| rate * x * (1.0 - x));
    let (sum, _) = (0..100_000).fold((0.0, settled), |(sum, x), _| {
        // Where the slope is 0 the exponent is minus infinity, which JSON can't say.
        let slope = (rate * (1.0 - 2.0 * x)).abs().max(f64::MIN_POSITIVE);
        (sum + slope.ln(), rate * x * (1.0 - x))
    });
    sum / 100_000.0
}

/// What every handler shares.
struct Service {
    manager: ManagerHandle,
    /// By the id of their call, so the oldest first.
    jobs: Mutex<BTreeMap<u64, Job>>,
}

/// A call while it runs, then what came of it.
enum Job {
    Running(Call<Vec<f64>>),
    Ended(Progress, Result<Vec<f64>, CallError<Vec<f64>>>),
}

impl Job {
    /// Takes the results out of a call that has ended, without waiting for one that has not.
    fn refresh(&mut self) {
        if let Self::Running(call) = self
            && let Poll::Ready(result) = Pin::new(&mut *call).poll(&mut Context::from_waker(Waker::noop()))
        {
            *self = Self::Ended(call.progress(), result);
        }
    }

    fn describe(&self, id: u64) -> Value {
        let (progress, state, reason) = match self {
            Self::Running(call) => (call.progress(), "running", None),
            Self::Ended(progress, Ok(_)) => (*progress, "complete", None),
            Self::Ended(progress, Err(error)) => {
                let state = if error.ending() == Ending::Cancelled { "cancelled" } else { "failed" };
                (*progress, state, Some(error.to_string()))
            }
        };
        let eta = progress.eta().filter(|_| state == "running");
        json!({
            "id": id, "state": state, "reason": reason,
            "items": progress.items, "done": progress.done, "failed": progress.failed,
            "elapsed_ms": milliseconds(progress.elapsed), "eta_ms": eta.map(milliseconds),
        })
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Service {
    fn jobs(&self) -> MutexGuard<'_, BTreeMap<u64, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `answer` says about a job, brought up to date.
    fn with_job(&self, id: &str, answer: impl FnOnce(u64, &mut Job) -> Result<Value, Failure>) -> Reply {
        let mut jobs = self.jobs();
        let found = id.parse().ok().and_then(|id| Some((id, jobs.get_mut(&id)?)));
        let (id, job) = found.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, format!("there is no job {id}")))?;
        job.refresh();
        answer(id, job).map(Json)
    }
}

type Reply = Result<Json<Value>, Failure>;

/// A status and the reason.
struct Failure(StatusCode, String);

impl Failure {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self(status, reason.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(status, reason) = self;
        let mut response = (status, Json(json!({ "error": reason }))).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, 1.into());
        }
        response
    }
}

impl From<&CallFailure> for Failure {
    fn from(failure: &CallFailure) -> Self {
        let status = match failure.ending {
            Ending::Busy { .. } | Ending::Finished | Ending::ShutDown => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, failure.to_string())
    }
}

/// A body as axum read it, or not.
type Body = Result<Json<Vec<f64>>, JsonRejection>;

fn checked(body: Body, at_most: usize) -> Result<Vec<f64>, Failure> {
    let Json(rates) = body.map_err(|rejection| match rejection.status() {
        // JSON, but no list of numbers: as bad as any other input.
        StatusCode::UNPROCESSABLE_ENTITY => Failure::new(StatusCode::BAD_REQUEST, rejection.body_text()),
        status => Failure::new(status, rejection.body_text()),
    })?;
    let bad = |reason| Err(Failure::new(StatusCode::BAD_REQUEST, reason));
    if rates.len() > at_most {
        return bad(format!("{} rates are more than the {at_most} that fit here", rates.len()));
    }
    match rates.iter().position(|rate| !(0.0..=4.0).contains(rate)) {
        Some(index) => bad(format!("the rate at index {index}, {}, is not between 0 and 4", rates[index])),
        None => Ok(rates),
    }
}

async fn exponents(State(service): State<Arc<Service>>, body: Body) -> Result<Json<Vec<f64>>, Failure> {
    let rates = checked(body, MAX_RATES)?;
    let message = Distribute::map(function!(lyapunov), rates).priority(Priority::High);
    let answer = service.manager.send(message).await;
    let answer = answer.map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    answer.map(Json).map_err(|error| Failure::from(&*error))
}

async fn start_job(State(service): State<Arc<Service>>, body: Body) -> Result<(StatusCode, Json<Value>), Failure> {
    let rates = checked(body, MAX_JOB_RATES)?;
    let mut jobs = service.jobs();
    if jobs.len() >= MAX_JOBS {
        jobs.values_mut().for_each(Job::refresh);
        let oldest = jobs.iter().find_map(|(id, job)| matches!(job, Job::Ended(..)).then_some(*id));
        let full = || Failure::new(StatusCode::SERVICE_UNAVAILABLE, format!("{MAX_JOBS} jobs are running already"));
        jobs.remove(&oldest.ok_or_else(full)?);
    }
    let call = service.manager.call(Distribute::map(function!(lyapunov), rates));
    let id = call.id().0;
    let mut job = Job::Running(call);
    job.refresh();
    if let Job::Ended(_, Err(error)) = &job {
        return Err(Failure::from(&**error)); // it never started
    }
    let described = job.describe(id);
    jobs.insert(id, job);
    Ok((StatusCode::ACCEPTED, Json(described)))
}

async fn show_job(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Reply {
    service.with_job(&id, |id, job| Ok(job.describe(id)))
}

async fn show_results(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Reply {
    service.with_job(&id, |id, job| match job {
        Job::Running(_) => Err(Failure::new(StatusCode::CONFLICT, format!("job {id} is still running"))),
        Job::Ended(_, Ok(results)) => Ok(json!(results)),
        Job::Ended(progress, Err(error)) => {
            let mut results = vec![None; progress.items];
            error.finished().iter().for_each(|&(index, result)| results[index] = Some(result));
            Ok(json!(results))
        }
    })
}

async fn cancel_job(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Reply {
    service.with_job(&id, |id, job| {
        let Job::Running(call) = job else {
            return Err(Failure::new(StatusCode::CONFLICT, format!("job {id} has ended already")));
        };
        call.canceller().cancel(); // ends the call at once, with the results it has
        job.refresh();
        Ok(job.describe(id))
    })
}

async fn status(State(service): State<Arc<Service>>) -> Reply {
    let status = service.manager.send(Status).await;
    let status = status.map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let slots = status.slots.iter().map(|slot| match &slot.activity {
        Activity::Busy { call, items, running_for } => json!({
            "slot": slot.worker.0, "state": "busy", "call": call.0,
            "items": [items.start, items.end], "running_ms": milliseconds(*running_for),
        }),
        Activity::Idle => json!({ "slot": slot.worker.0, "state": "idle" }),
        other => json!({ "slot": slot.worker.0, "state": format!("{other:?}").to_lowercase() }),
    });
    let calls = status.calls.iter().map(|call| {
        json!({
            "id": call.id.0, "function": call.function, "items": call.items, "done": call.done,
            "failed": call.failed, "running_ms": milliseconds(call.running_for),
        })
    });
    Ok(Json(json!({ "slots": slots.collect::<Vec<_>>(), "calls": calls.collect::<Vec<_>>() })))
}

fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route("/exponents", post(exponents))
        .route("/jobs", post(start_job))
        .route("/jobs/{id}", get(show_job).delete(cancel_job))
        .route("/jobs/{id}/results", get(show_results))
        .route("/status", get(status))
        .fallback(|| async { Failure::new(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async { Failure::new(StatusCode::METHOD_NOT_ALLOWED, "not by this method") })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(service)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let manager = Manager::builder().max_calls(arguments.max_calls).start()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await;
    let listener = listener.map_err(|error| format!("port {}: {error}", arguments.port))?;
    let address = format!("http://{}", listener.local_addr()?);
    println!("listening on {address}");

    let service = Arc::new(Service { manager, jobs: Mutex::default() });
    if arguments.serve {
        return serve(listener, service, asked_to_stop()?).await;
    }
    let (done, is_done) = oneshot::channel();
    let client = thread::spawn(move || {
        let shown = demonstrate(&address);
        let _ = done.send(()); // the service may have failed by itself
        shown.map_err(|error| error.to_string())
    });
    serve(listener, service, async { is_done.await.unwrap_or_default() }).await?;
    client.join().map_err(|_| "the client panicked")??;
    Ok(())
}

/// Ready at the first Ctrl-C or SIGTERM after it was made.
fn asked_to_stop() -> Result<impl Future<Output = ()> + Send + 'static, Box<dyn Error>> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        let terminated = terminate.recv();
        #[cfg(not(unix))]
        let terminated = std::future::pending::<()>();
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated => {}
        }
    })
}

/// Serves until `stop` is ready, answers what runs, and frees the slots.
async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    let (stopping, is_stopping) = oneshot::channel();
    let server = axum::serve(listener, routes(service.clone())).with_graceful_shutdown(async {
        stop.await;
        let _ = stopping.send(()); // heard below
    });
    tokio::select! {
        served = server => served?,
        () = async { _ = is_stopping.await; sleep(DRAIN).await } => println!("connections left open are closed"),
    }
    service.manager.send(Finished).await??;
    for (id, job) in service.jobs().iter_mut() {
        let was_running = matches!(job, Job::Running(_));
        job.refresh();
        // A service that must not lose them would store these results.
        if let (true, Job::Ended(progress, Err(error))) = (was_running, &*job) {
            println!("job {id} ended with {} of {} results", error.finished_count, progress.items);
        }
    }
    println!("finished");
    Ok(())
}

/// A client that shows what the service does, and compares its results with a plain loop.
fn demonstrate(address: &str) -> Result<(), Box<dyn Error>> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let ask = |method: &str, path: &str, body: &str| -> Result<Value, Box<dyn Error>> {
        let request = ureq::http::Request::builder().method(method).uri(format!("{address}{path}"));
        let request = request.header("content-type", "application/json").body(body.to_owned())?;
        let mut response = agent.run(request)?;
        let answer: Value = response.body_mut().read_json()?;
        let (asked, answered) = (format!("{method} {path} {body}"), answer.to_string());
        println!("{asked:.40}\n    {} {answered:.100}", response.status().as_u16());
        Ok(answer)
    };
    let plain = |rates: &[f64]| json!(rates.iter().copied().map(lyapunov).collect::<Vec<_>>());

    let chaotic = [3.6, 3.8, 4.0];
    let answer = ask("POST", "/exponents", &json!(chaotic).to_string())?;
    assert_eq!(answer, plain(&chaotic), "as in a plain loop");

    // A job of half a minute or more, and short requests meanwhile.
    let long: Vec<f64> = (0..MAX_JOB_RATES).map(|i| 2.5 + 1.5 * i as f64 / MAX_JOB_RATES as f64).collect();
    let job = ask("POST", "/jobs", &json!(long).to_string())?["id"].clone();
    let mut waits = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        agent.post(format!("{address}/exponents")).send_json([4.0])?.body_mut().read_to_string()?;
        waits.push(start.elapsed());
    }
    waits.sort();
    println!("20 short requests meanwhile: median {:.1?}, worst {:.1?}", waits[10], waits[19]);
    ask("GET", "/status", "")?;
    ask("GET", &format!("/jobs/{job}/results"), "")?;
    ask("DELETE", &format!("/jobs/{job}"), "")?;
    let partial = ask("GET", &format!("/jobs/{job}/results"), "")?;
    let first = partial.as_array().into_iter().flatten().zip(&long).take(20);
    assert!(first.clone().all(|(result, &rate)| *result == json!(lyapunov(rate))), "what is there is right");

    let job = ask("POST", "/jobs", &json!(chaotic).to_string())?["id"].clone();
    while ask("GET", &format!("/jobs/{job}"), "")?["state"] == "running" {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(ask("GET", &format!("/jobs/{job}/results"), "")?, plain(&chaotic), "as in a plain loop");

    ask("POST", "/exponents", "[3.8, 5]")?;
    ask("POST", "/exponents", "[3.8,")?;
    Ok(())
}
