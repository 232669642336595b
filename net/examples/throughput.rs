//! How fast a link is: arrays of a megabyte, and the shortest of messages, over loopback TCP between two threads.
//!
//! `cargo run --release -p distfun-net --example throughput`

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use distfun_core::{payload::Section, shared_data::ElementType};
use distfun_net::{
    link::Link,
    message::Message,
    session::{Incoming, SessionLimits},
    transport::{Listener, tcp},
};

const SECTION_BYTES: usize = 1 << 20;
const SECTIONS: u64 = 4000;
const WINDOW: u64 = 16;
const ROUNDS: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(5);

fn main() {
    let (to_client, door) = mpsc::channel();
    let server = thread::spawn(move || {
        block_on(async {
            let listener = tcp::TcpDoor::bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
            to_client.send(listener.address().port()).expect("the client waits");
            let link = Link::new(listener.accept().await.expect("a client"), SessionLimits::default());
            let answers = Arc::clone(&link);
            // Acknowledges each message by its number.
            Arc::clone(&link)
                .run(move |Incoming { message, sections, bytes }| {
                    drop(sections);
                    answers.consumed(bytes);
                    answers.send(&message, Vec::new()).expect("the client reads");
                })
                .await
        })
    });
    let port = door.recv().expect("the server listens");
    let (answered, answers) = mpsc::channel();
    let (to_main, links) = mpsc::channel();
    let client = thread::spawn(move || {
        block_on(async {
            let wire = tcp::connect("127.0.0.1", port, PATIENCE).await.expect("the server listens");
            let link = Link::new(wire, SessionLimits::default());
            to_main.send(Arc::clone(&link)).expect("main waits");
            link.run(move |incoming| drop(answered.send(incoming))).await
        })
    });
    let link = links.recv().expect("the client connects");

    let array = Bytes::from(vec![1; SECTION_BYTES]);
    for window in [1, 4, WINDOW] {
        let start = Instant::now();
        for number in 0..SECTIONS + window {
            if number >= window {
                drop(answers.recv().expect("an answer"));
            }
            if number < SECTIONS {
                let section = Section { element: ElementType::F64, bytes: array.clone() };
                link.send(&Message::CallEnded { call: number, overdue: false }, vec![section])
                    .expect("the server reads");
            }
        }
        let gigabytes = (SECTIONS as usize * SECTION_BYTES) as f64 / 1e9;
        println!("1 MiB arrays, window {window}: {:.2} GB/s", gigabytes / start.elapsed().as_secs_f64());
    }

    let mut times: Vec<_> = (0..ROUNDS)
        .map(|call| {
            let start = Instant::now();
            link.send(&Message::CallEnded { call, overdue: false }, Vec::new()).expect("the server reads");
            drop(answers.recv().expect("an answer"));
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("ping-pong: p50 {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);

    let (total, batch) = (2_000_000, 512);
    let start = Instant::now();
    for first in (0..total + batch).step_by(batch) {
        // One batch is on its way while the answers to the one before it come.
        if first < total {
            let messages: Vec<_> =
                (0..batch).map(|call| Message::CallEnded { call: call as u64, overdue: false }).collect();
            let sent = link.send_all(messages.iter().map(|message| (message, Vec::new())));
            assert!(sent.iter().all(Result::is_ok), "the server reads");
        }
        for _ in 0..if first > 0 { batch } else { 0 } {
            drop(answers.recv().expect("an answer"));
        }
    }
    println!(
        "batches of {batch}: {:.0} thousand messages/s, each answered",
        total as f64 / start.elapsed().as_secs_f64() / 1e3
    );

    link.close("done");
    println!("client: {}", client.join().expect("no panic"));
    println!("server: {}", server.join().expect("no panic"));
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}
