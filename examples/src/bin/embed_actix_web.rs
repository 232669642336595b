//! A Manager inside an actix-web service: its handle is app data like any other.
//!
//! `cargo run --release -p distfun-examples --features actix-web --bin embed_actix_web [-- --serve --port 8080]`
//!
//! Without `--serve` it takes a free port, is its own client, shows what it asked and got, and ends. `POST /lorenz` takes
//! a matrix of 3 rows (x, y, z), one column per starting point of the Lorenz system, and answers with the points 20 time
//! units later. `embed_axum` shows more: jobs, progress, cancelling, status.
//!
//! The Manager has a thread of its own and needs no runtime of its host's, so the same handle serves every worker of
//! actix-web, and awaiting a call blocks none of them. When a client goes away its call is cancelled, thanks to
//! `h1_allow_half_closed(false)`: by default actix-web lets a handler go on for a client that may only have stopped
//! sending. SIGTERM lets requests that run be answered first; Ctrl-C, in actix-web, does not. Either way `Finished` then
//! frees the slots.

use std::{error::Error, net::Ipv4Addr, thread};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, ResponseError,
    error::{ErrorInternalServerError, InternalError, JsonPayloadError},
    http::StatusCode,
    web,
};
use clap::Parser;
use distfun::{Distribute, Ending, Finished, Manager, ManagerHandle, Priority, function};
use ndarray::{Array2, ArrayView2, Axis};
use serde_json::{Value, json};

/// Starting points in one request: half a second or so of one CPU.
const MAX_POINTS: usize = 1_000;
/// Bytes in a body, enough for those.
const MAX_BODY: usize = 256 << 10;

/// Serves trajectories of the Lorenz system over HTTP, on this machine only (127.0.0.1).
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

/// Where the points in the columns of `start` are after 20 time units, by 20000 steps of the midpoint rule. Parameters
/// of Lorenz, J. Atmos. Sci. 20 (1963), 130-141.
fn lorenz(start: ArrayView2<f64>) -> Array2<f64> {
    const STEP: f64 = 1e-3;
    let slope = |[x, y, z]: [f64; 3]| [10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z];
    let after = |point: [f64; 3], slope: [f64; 3], time: f64| [0, 1, 2].map(|axis| point[axis] + time * slope[axis]);
    let mut end = start.to_owned();
    for mut column in end.axis_iter_mut(Axis(1)) {
        let point = (0..20_000).fold([column[0], column[1], column[2]], |point, _| {
            let middle = after(point, slope(point), STEP / 2.0);
            after(point, slope(middle), STEP)
        });
        point.into_iter().enumerate().for_each(|(axis, value)| column[axis] = value);
    }
    end
}

/// A matrix of three equally long rows of numbers, or what is wrong with it.
fn matrix(rows: Vec<Vec<f64>>) -> Result<Array2<f64>, String> {
    let [x, y, z] = &rows[..] else { return Err(format!("{} rows are not the three x, y and z", rows.len())) };
    if [y.len(), z.len()] != [x.len(); 2] {
        return Err(format!("rows of {}, {} and {} numbers are no matrix", x.len(), y.len(), z.len()));
    }
    if x.len() > MAX_POINTS {
        return Err(format!("{} points are more than the {MAX_POINTS} that fit here", x.len()));
    }
    if let Some(far) = rows.iter().flatten().find(|value| value.abs() > 100.0) {
        return Err(format!("{far} is not between -100 and 100, where the steps are short enough"));
    }
    Ok(Array2::from_shape_fn((3, x.len()), |(row, column)| rows[row][column]))
}

fn failure(status: StatusCode, reason: String) -> HttpResponse {
    HttpResponse::build(status).json(json!({ "error": reason }))
}

/// The handler: an ordinary one, with the Manager among its arguments.
async fn serve_lorenz(
    manager: web::Data<ManagerHandle>,
    rows: web::Json<Vec<Vec<f64>>>,
) -> actix_web::Result<HttpResponse> {
    let start = match matrix(rows.into_inner()) {
        Ok(start) => start,
        Err(reason) => return Ok(failure(StatusCode::BAD_REQUEST, reason)),
    };
    let message = Distribute::columns(function!(lorenz), start).priority(Priority::High);
    Ok(match manager.send(message).await.map_err(ErrorInternalServerError)? {
        Ok(end) => HttpResponse::Ok().json(rows_of(&end)),
        Err(error) => {
            let is_busy = matches!(error.ending(), Ending::Busy { .. } | Ending::Finished | Ending::ShutDown);
            let status = if is_busy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR };
            failure(status, error.to_string())
        }
    })
}

fn rows_of(matrix: &Array2<f64>) -> Vec<Vec<f64>> {
    matrix.rows().into_iter().map(|row| row.to_vec()).collect()
}

fn not_json(error: JsonPayloadError, _: &HttpRequest) -> actix_web::Error {
    let response = failure(error.status_code(), error.to_string());
    InternalError::from_response(error, response).into()
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let manager = Manager::builder().max_calls(arguments.max_calls).start()?;

    let data = web::Data::new(manager.clone());
    let server = HttpServer::new(move || {
        let json = web::JsonConfig::default().limit(MAX_BODY).error_handler(not_json);
        App::new()
            .app_data(data.clone())
            .app_data(json)
            .route("/lorenz", web::post().to(serve_lorenz))
            .default_service(web::to(async || failure(StatusCode::NOT_FOUND, "there is only POST /lorenz".into())))
    });
    let server = server.h1_allow_half_closed(false).workers(2).shutdown_timeout(5);
    let server = server.bind((Ipv4Addr::LOCALHOST, arguments.port));
    let server = server.map_err(|error| format!("port {}: {error}", arguments.port))?;
    let address = format!("http://{}", server.addrs()[0]);
    println!("listening on {address}");
    let server = server.run(); // ends by Ctrl-C or SIGTERM

    let mut client = None;
    if !arguments.serve {
        let handle = server.handle();
        client = Some(thread::spawn(move || {
            let shown = demonstrate(&address).map_err(|error| error.to_string());
            drop(handle.stop(true)); // asked for already; its future only tells when it is done
            shown
        }));
    }
    server.await?;
    manager.send(Finished).await??;
    println!("finished");
    client.map_or(Ok(Ok(())), thread::JoinHandle::join).map_err(|_| "the client panicked")??;
    Ok(())
}

/// A client that shows what the service does, and compares its result with the function itself.
fn demonstrate(address: &str) -> Result<(), Box<dyn Error>> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let ask = |rows: &Value| -> Result<Value, ureq::Error> {
        let mut response = agent.post(format!("{address}/lorenz")).send_json(rows)?;
        let answer: Value = response.body_mut().read_json()?;
        let (asked, answered) = (rows.to_string(), answer.to_string());
        println!("POST /lorenz {asked:.60}\n    {} {answered:.100}", response.status().as_u16());
        Ok(answer)
    };
    // Points that are one part in a million apart.
    let start =
        Array2::from_shape_fn((3, 200), |(axis, point)| if axis == 0 { 1.0 + 1e-6 * point as f64 } else { 1.0 });
    let end = ask(&json!(rows_of(&start)))?;
    assert_eq!(end, json!(rows_of(&lorenz(start.view()))), "as the function itself");
    ask(&json!([[1.0], [1.0]]))?;
    ask(&json!("a point"))?;
    Ok(())
}
