//! The `embed_actix_web` example.

use std::{thread, time::Instant};

use serde_json::{Value, json};

use super::{Server, assert_refused};
use crate::support::{LIMIT, eventually};

/// Rows x, y and z of points off the fixed points; `sign` -1 mirrors them on the z axis.
fn points(count: usize, sign: f64) -> Value {
    let row = |sign: f64| (0..count).map(|i| sign * (1.0 + i as f64 / count as f64)).collect::<Vec<_>>();
    json!([row(sign), row(sign), row(1.0)])
}

fn rows(answer: Value) -> Vec<Vec<f64>> {
    serde_json::from_value(answer).expect("a matrix")
}

#[test]
fn two_clients_at_once_get_each_their_own_points() {
    let server = Server::start("embed_actix_web", 2, &[]);
    let clients = [1.0, -1.0].map(|sign| {
        let client = server.client();
        let ask = move || (1..=10).map(|count| rows(client.post("/lorenz", &points(count, sign)))).collect::<Vec<_>>();
        thread::spawn(ask)
    });
    let [plus, minus] = clients.map(|client| client.join().expect("answers"));
    // The system is the same when x and y change their signs, to the last bit.
    let mirrored = |rows: &Vec<Vec<f64>>| -> Vec<Vec<f64>> {
        rows.iter().zip([-1.0, -1.0, 1.0]).map(|(row, sign)| row.iter().map(|value| sign * value).collect()).collect()
    };
    assert_eq!(plus.iter().map(mirrored).collect::<Vec<_>>(), minus);
    assert!(plus[9][0].iter().all(|x| x.is_finite() && *x != 0.0), "{:?}", plus[9]);

    // Points that stay where they are: the origin, and the middle of each wing.
    let wing = 72_f64.sqrt();
    let fixed = vec![vec![0.0, wing, -wing], vec![0.0, wing, -wing], vec![0.0, 27.0, 27.0]];
    let after = rows(server.client().post("/lorenz", &json!(fixed)));
    for (after, before) in after.iter().flatten().zip(fixed.iter().flatten()) {
        assert!((after - before).abs() < 1e-9, "{after} and {before}");
    }
}

#[test]
fn a_client_that_goes_away_cancels_its_call() {
    let server = Server::start("embed_actix_web", 1, &["--max-calls", "1"]);
    let client = server.client();
    let most = points(1_000, 1.0);
    let undisturbed = Instant::now();
    client.post("/lorenz", &most);
    let undisturbed = undisturbed.elapsed();

    let start = Instant::now();
    let leaving = server.send("/lorenz", &most);
    let probe = || client.ask("POST", "/lorenz", &json!([[], [], []]));
    let is_busy = || {
        let (status, answer) = probe();
        if status == 503 {
            assert_refused((status, answer), 503, "1 calls are active already");
        }
        status == 503
    };
    eventually(LIMIT, "its call runs", is_busy);
    drop(leaving);
    eventually(LIMIT, "its call is gone", || !is_busy());
    let gone = start.elapsed();
    assert!(gone < undisturbed / 2, "gone after {gone:?}, and it takes {undisturbed:?} to the end");
}

#[test]
fn bad_input_is_refused_with_the_reason() {
    let server = Server::start("embed_actix_web", 1, &[]);
    let client = server.client();
    for (body, text) in [
        (json!([[1.0], [1.0]]), "2 rows are not the three"),
        (json!([[1.0], [1.0], []]), "rows of 1, 1 and 0 numbers are no matrix"),
        (json!([[1e3], [1.0], [1.0]]), "1000 is not between -100 and 100"),
        (points(1_001, 1.0), "1001 points are more than the 1000"),
        (json!([["one"], [1.0], [1.0]]), "expected f64"),
    ] {
        assert_refused(client.ask("POST", "/lorenz", &body), 400, text);
    }
    assert_refused(client.ask_text("POST", "/lorenz", "application/json", "[["), 400, "EOF");
    assert_refused(client.ask("GET", "/status", &Value::Null), 404, "only POST /lorenz");
    let answer = server.answer_to("/lorenz", "application/json", &vec![b' '; 64 << 20]);
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("{\"error\":\""), "{answer}");
    assert_eq!(client.post("/lorenz", &json!([[0.0], [0.0], [0.0]])), json!([[0.0], [0.0], [0.0]]));
}

#[cfg(unix)]
#[test]
fn a_request_that_runs_is_answered_before_the_service_ends() {
    let mut server = Server::start("embed_actix_web", 2, &["--max-calls", "1"]);
    let (client, watcher) = (server.client(), server.client());
    let running = thread::spawn(move || rows(client.post("/lorenz", &points(100, 1.0))));
    eventually(LIMIT, "it runs", || watcher.ask("POST", "/lorenz", &json!([[], [], []])).0 == 503);
    assert_eq!(server.stop("-TERM"), "finished\n");
    assert_eq!(running.join().expect("an answer")[0].len(), 100);
}
