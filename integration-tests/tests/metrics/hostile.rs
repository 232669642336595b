//! Those who connect and are no Prometheus.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::{
    metrics,
    scrape::{answer, ask, get},
};
use crate::support::{LIMIT, alone, eventually};

/// Whether the server has let go of the connection.
fn is_closed(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.read(&mut [0; 4096]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

fn status(address: SocketAddr, request: &[u8]) -> Option<u16> {
    // One who is sent away while it still talks may miss the answer.
    let answer = ask(address, request).unwrap_or_default();
    answer.strip_prefix("HTTP/1.1 ").or_else(|| answer.strip_prefix("HTTP/1.0 "))?.get(..3)?.parse().ok()
}

#[test]
fn what_is_no_request_for_metrics_is_refused() {
    alone(|| {
        let server = metrics::serve("127.0.0.1:0").unwrap();
        let address = server.address();
        let ask = |text: &str| status(address, text.as_bytes());
        assert_eq!(ask("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"), Some(405));
        assert_eq!(ask("HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n"), Some(405));
        assert_eq!(ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Some(404));
        assert_eq!(ask("GET /metrics/../metrics HTTP/1.1\r\nHost: a\r\n\r\n"), Some(404));
        assert_eq!(ask("GET /metrics?name[]=x HTTP/1.1\r\nHost: a\r\n\r\n"), Some(200));
        assert_eq!(ask("GET /metrics HTTP/1.0\r\n\r\n"), Some(200));
        assert_eq!(ask("nonsense\r\n\r\n"), Some(400));
        assert_ne!(ask(&format!("GET /metrics HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(1 << 20))), Some(200));
        assert_ne!(ask(&format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: a\r\n".repeat(10_000))), Some(200));
        assert_ne!(ask(&format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20))), Some(200));
        assert_ne!(status(address, &[0xff; 100_000]), Some(200));
        assert_ne!(status(address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), Some(200));
        assert_eq!(answer(address, "/metrics").0, 200);
    });
}

#[test]
fn those_who_are_slow_keep_nobody_else_waiting_and_are_let_go() {
    alone(|| {
        let server = metrics::serve("127.0.0.1:0").unwrap();
        let address = server.address();
        let begin = |text: &[u8]| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(text).unwrap();
            stream
        };
        let start = Instant::now();
        let silent = begin(b"");
        let mut drips = begin(b"GET /metrics HTTP/1.1\r\n");
        for _ in 0..10 {
            get(address, "/metrics");
            let _ = drips.write_all(b"A: a\r\n");
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        let within = Duration::from_secs(12);
        eventually(within, "both are let go", || {
            let _ = drips.write_all(b"A: a\r\n");
            is_closed(&silent) && is_closed(&drips)
        });
    });
}

#[test]
fn a_thousand_connections_at_once_break_nothing() {
    alone(|| {
        let server = metrics::serve("127.0.0.1:0").unwrap();
        let address = server.address();
        let mut held = Vec::new();
        for at in 0..1000 {
            match TcpStream::connect_timeout(&address, LIMIT) {
                Ok(stream) => held.push(stream),
                Err(error) => panic!("connection {at}: {error}"),
            }
            if at % 100 == 0 {
                get(address, "/metrics");
            }
        }
        get(address, "/metrics");
        let open = || held.iter().filter(|stream| !is_closed(stream)).count();
        eventually(LIMIT, "the oldest have made way", || open() <= 64);
        let start = Instant::now();
        drop(server);
        assert!(start.elapsed() < Duration::from_secs(1), "it waits for nobody");
        eventually(LIMIT, "all are let go", || open() == 0);
        assert!(TcpStream::connect(address).is_err());
    });
}
