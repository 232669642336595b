//! The `embed_axum` example.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Client, Server, assert_refused};
use crate::support::{LIMIT, eventually};

fn serve(slots: usize) -> Server {
    Server::start("embed_axum", slots, &[])
}

/// Rates between 1 and 3, where the map has a fixed point of slope 2 - r, without those next to 2.
fn rates(count: usize) -> Vec<f64> {
    (0..count).map(|i| 2.1 + 0.8 * i as f64 / count as f64).collect()
}

fn assert_exponents(answer: &Value, rates: &[f64]) {
    let exponents = answer.as_array().expect("a list");
    assert_eq!(exponents.len(), rates.len());
    for (exponent, rate) in exponents.iter().zip(rates) {
        let exponent = exponent.as_f64().expect("a number");
        assert!((exponent - (rate - 2.0).ln()).abs() < 1e-9, "{exponent} for the rate {rate}");
    }
}

/// A job that no test waits for: at least ten seconds of every slot.
fn start_long_job(client: &Client) -> (Value, String) {
    let job = client.post("/jobs", &json!(rates(100_000)));
    let id = job["id"].clone();
    let path = format!("/jobs/{id}");
    eventually(LIMIT, "it runs", || client.get(&path)["done"].as_u64() > Some(0));
    (id, path)
}

#[test]
fn two_clients_at_once_get_each_their_own_exponents() {
    let server = serve(2);
    let clients: Vec<_> = (1..=2)
        .map(|number| {
            let client = server.client();
            thread::spawn(move || {
                for count in 0..20 {
                    let mine = rates(number * count);
                    assert_exponents(&client.post("/exponents", &json!(mine)), &mine);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("what the client asserts holds"));
}

#[test]
fn a_job_tells_its_progress_and_then_its_results() {
    let server = serve(2);
    let client = server.client();
    let rates = rates(1_000);
    let job = client.post("/jobs", &json!(rates));
    assert_eq!((&job["state"], &job["items"]), (&json!("running"), &json!(1_000)));
    let path = format!("/jobs/{}", job["id"]);
    let results = format!("{path}/results");
    assert_refused(client.ask("GET", &results, &Value::Null), 409, "still running");

    let mut seen = vec![0];
    eventually(LIMIT, "it is complete", || {
        let job = client.get(&path);
        let done = job["done"].as_u64().expect("a number");
        assert!(Some(&done) >= seen.last() && done <= 1_000, "{done} after {seen:?}");
        seen.push(done);
        job["state"] == "complete"
    });
    seen.dedup();
    assert!(seen.len() > 3 && seen.last() == Some(&1_000), "progress step by step: {seen:?}");
    assert_exponents(&client.get(&results), &rates);
    assert_refused(client.ask("DELETE", &path, &Value::Null), 409, "ended already");
    assert_exponents(&client.get(&results), &rates);
}

#[test]
fn a_long_job_on_every_slot_does_not_starve_short_requests() {
    let server = serve(2);
    let client = server.client();
    let (id, path) = start_long_job(&client);
    let busy = |slot: &Value| slot["state"] == "busy" && slot["call"] == id;
    eventually(LIMIT, "it has every slot", || {
        client.get("/status")["slots"].as_array().is_some_and(|slots| slots.len() == 2 && slots.iter().all(busy))
    });

    let mut waits: Vec<Duration> = (0..20)
        .map(|_| {
            let start = Instant::now();
            assert_exponents(&client.post("/exponents", &json!([2.5])), &[2.5]);
            start.elapsed()
        })
        .collect();
    waits.sort();
    println!("short requests beside a long job: median {:?}, worst {:?}", waits[10], waits[19]);
    let job = client.get(&path);
    assert_eq!(job["state"], "running", "short requests came first: {waits:?}, {job}");
    // Some 5 ms without optimisation on a quiet machine.
    assert!(waits[10] < Duration::from_millis(500), "{waits:?}");
}

#[test]
fn a_cancelled_job_keeps_what_it_has_and_frees_its_slots() {
    let server = serve(2);
    let client = server.client();
    let (id, path) = start_long_job(&client);
    let cancelled = client.ask("DELETE", &path, &Value::Null);
    assert_eq!((cancelled.0, &cancelled.1["state"], &cancelled.1["id"]), (200, &json!("cancelled"), &id));

    let results = client.get(&format!("{path}/results"));
    let results = results.as_array().expect("a list");
    assert_eq!(results.len(), 100_000);
    let finished = results.iter().zip(rates(100_000)).filter(|(result, _)| !result.is_null());
    let (finished, at): (Vec<&Value>, Vec<f64>) = finished.unzip();
    assert!((1..100_000).contains(&at.len()), "{}", at.len());
    assert_eq!(cancelled.1["done"], json!(at.len()));
    assert_exponents(&json!(finished), &at);

    eventually(LIMIT, "every slot is idle", || {
        let status = client.get("/status");
        status["calls"] == json!([]) && status["slots"].as_array().unwrap().iter().all(|slot| slot["state"] == "idle")
    });
    assert_refused(client.ask("DELETE", &path, &Value::Null), 409, "ended already");
}

#[test]
fn a_client_that_goes_away_cancels_its_call() {
    let server = serve(1);
    let client = server.client();
    let most = json!(rates(1_000));
    let undisturbed = Instant::now();
    client.post("/exponents", &most);
    let undisturbed = undisturbed.elapsed();

    let start = Instant::now();
    let leaving = server.send("/exponents", &most);
    let calls = || client.get("/status")["calls"].as_array().expect("a list").clone();
    eventually(LIMIT, "its call runs", || calls().first().is_some_and(|call| call["items"] == 1_000));
    drop(leaving);
    eventually(LIMIT, "its call is gone", || calls().is_empty());
    let gone = start.elapsed();
    assert!(gone < undisturbed / 2, "gone after {gone:?}, and it takes {undisturbed:?} to the end");
}

#[test]
fn bad_input_is_refused_with_the_reason() {
    let server = serve(1);
    let client = server.client();
    let many = json!(rates(1_001));
    for (method, path, body, status, text) in [
        ("POST", "/exponents", json!([1.0, 4.5]), 400, "the rate at index 1, 4.5, is not between 0 and 4"),
        ("POST", "/exponents", json!([-0.1]), 400, "index 0"),
        ("POST", "/exponents", many, 400, "1001 rates are more than the 1000"),
        ("POST", "/exponents", json!("3.8"), 400, "expected a sequence"),
        ("POST", "/jobs", json!([[3.8]]), 400, "expected f64"),
        ("POST", "/jobs", json!([null]), 400, "expected f64"),
        ("GET", "/exponents", Value::Null, 405, "method"),
        ("GET", "/jobs/999999", Value::Null, 404, "there is no job 999999"),
        ("GET", "/jobs/999999/results", Value::Null, 404, "there is no job 999999"),
        ("DELETE", "/jobs/the%20last", Value::Null, 404, "there is no job the last"),
        ("GET", "/", Value::Null, 404, "nothing here"),
    ] {
        assert_refused(client.ask(method, path, &body), status, text);
    }
    for body in ["[3.8,", "[1e999]", "[NaN]", ""] {
        assert_refused(client.ask_text("POST", "/exponents", "application/json", body), 400, "parse");
    }
    let answer = server.answer_to("/exponents", "text/plain", b"[3.8]");
    assert!(answer.starts_with("HTTP/1.1 415") && answer.contains("Content-Type: application/json"), "{answer}");
    assert_exponents(&client.post("/exponents", &json!([2.5])), &[2.5]);
}

#[test]
fn a_body_that_is_too_large_is_not_read_to_its_end() {
    let server = serve(1);
    let answer = server.answer_to("/jobs", "application/json", &vec![b' '; 64 << 20]);
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("{\"error\":\""), "{answer}");
    assert_exponents(&server.client().post("/exponents", &json!([2.5])), &[2.5]);
}

#[test]
fn one_call_too_many_is_told_to_come_back() {
    let server = Server::start("embed_axum", 1, &["--max-calls", "1"]);
    let client = server.client();
    let (_, path) = start_long_job(&client);
    let refused = server.answer_to("/exponents", "application/json", b"[2.5]").to_lowercase();
    assert!(refused.starts_with("http/1.1 503") && refused.contains("\nretry-after: 1\r"), "{refused}");
    for path in ["/exponents", "/jobs"] {
        assert_refused(client.ask("POST", path, &json!([2.5])), 503, "1 calls are active already");
    }
    assert_eq!(client.ask("DELETE", &path, &Value::Null).0, 200);
    assert_exponents(&client.post("/exponents", &json!([2.5])), &[2.5]);
}

#[test]
fn only_so_many_jobs_are_remembered() {
    let server = serve(1);
    let client = server.client();
    let (_, long) = start_long_job(&client);
    let started: Vec<Value> = (0..100).map(|_| client.post("/jobs", &json!([]))["id"].clone()).collect();
    assert_refused(client.ask("GET", &format!("/jobs/{}", started[0]), &Value::Null), 404, "no job");
    assert_eq!(client.get(&format!("/jobs/{}", started[1]))["state"], "complete");
    assert_eq!(client.get(&long)["state"], "running", "the oldest, but it runs");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_service_with_what_its_jobs_have() {
    for signal in ["-TERM", "-INT"] {
        let mut server = serve(2);
        let client = server.client(); // its connection stays open
        let (id, _) = start_long_job(&client);
        let said = server.stop(signal);
        let count = said.strip_prefix(&format!("job {id} ended with ")).and_then(|rest| rest.split_once(' '));
        let (count, rest) = count.unwrap_or_else(|| panic!("{said}"));
        assert!((1..100_000).contains(&count.parse().unwrap()), "{said}");
        assert_eq!(rest, "of 100000 results\nfinished\n");
    }
}

#[cfg(unix)]
#[test]
fn a_request_that_runs_is_answered_before_the_service_ends() {
    let mut server = serve(2);
    let client = server.client();
    let (watcher, rates) = (client.clone(), rates(300));
    let asked = rates.clone();
    let running = thread::spawn(move || client.post("/exponents", &json!(asked)));
    eventually(LIMIT, "it runs", || watcher.get("/status")["calls"] != json!([]));
    assert_eq!(server.stop("-TERM"), "finished\n");
    assert_exponents(&running.join().expect("an answer"), &rates);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let server = serve(1);
    let port = server.address.rsplit_once(':').expect("address:port").1;
    let second = crate::programs::example("embed_axum").args(["--serve", "--port", port]).output().expect("it starts");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains(&format!("port {port}: ")), "{said}");
}
