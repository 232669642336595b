//! The services among the examples, as programs of their own, asked by a real client over TCP.

mod actix_web;
mod axum;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    programs::example,
    support::{LIMIT, eventually},
};

/// A service that runs; killed when dropped, so that a test that fails leaves none.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// As in `127.0.0.1:2718`.
    address: String,
}

impl Server {
    fn start(name: &str, slots: usize, arguments: &[&str]) -> Self {
        let mut command = example(name);
        command.args(["--serve"]).args(arguments).env("DISTFUN_SLOTS", slots.to_string());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a program that was just built starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it says where it listens");
        let address = line.trim().strip_prefix("listening on http://").expect("its address").to_owned();
        Self { child, stdout, address }
    }

    /// A client with connections of its own.
    fn client(&self) -> Client {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(LIMIT));
        Client { agent: config.build().into(), address: self.address.clone() }
    }

    /// Starts a request whose answer is never read; the client is gone when this is dropped.
    fn send(&self, path: &str, body: &Value) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("sent");
        stream
    }

    /// What the service answers to a body, which it may refuse before it has read all of it, and hang up. A client that
    /// is still writing then would only see that; this one doesn't mind.
    fn answer_to(&self, path: &str, content_type: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("not zero");
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: here\r\ncontent-type: {content_type}\r\n");
        let head = format!("{head}content-length: {length}\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer); // a reset after the answer
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Sends a signal and returns what the program still says, once it has ended as it should.
    #[cfg(unix)]
    fn stop(&mut self, signal: &str) -> String {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        assert_eq!(std::fs::read_to_string(children).unwrap_or_default(), "", "nothing could be orphaned");
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill is there");
        assert!(sent.success());
        let mut status = None;
        eventually(LIMIT, "the program has ended", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).expect("UTF-8");
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{said}");
        assert!(TcpStream::connect(&self.address).is_err(), "nobody listens any more");
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

#[derive(Clone)]
struct Client {
    agent: ureq::Agent,
    address: String,
}

impl Client {
    /// The status and what came with it. Null sends no body: a service may hang up on one that it does not read.
    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask_text(method, path, "application/json", &body)
    }

    fn ask_text(&self, method: &str, path: &str, content_type: &str, body: &str) -> (u16, Value) {
        let request = ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        let request = request.header("content-type", content_type).body(body.to_owned()).expect("a request");
        let mut response = self.agent.run(request).expect("an answer");
        let status = response.status().as_u16();
        (status, response.body_mut().read_json().expect("every answer is JSON"))
    }

    fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, &Value::Null);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask("POST", path, body);
        assert!(status == 200 || status == 202, "{path}: {status} {answer}");
        answer
    }
}

/// Whether an answer is an error with this status that says `text`.
#[track_caller]
fn assert_refused((status, answer): (u16, Value), expected: u16, text: &str) {
    assert_eq!(status, expected, "{answer}");
    let reason = answer["error"].as_str().unwrap_or_else(|| panic!("an error: {answer}"));
    assert!(reason.contains(text), "{reason:?} should say {text:?}");
    assert_eq!(answer, json!({ "error": reason }));
}
