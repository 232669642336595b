//! Peers that know the secret and say whatever a test wants: a Manager to a node, and a node to a Manager.

use std::{
    future::pending,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use distfun_core::payload::Section;
use distfun_net::{
    handshake::{Hello, Trust, as_manager, as_node},
    identity::{Cookie, default_path},
    link::Link,
    message::{Call, Chunk, Done, Message, Welcome},
    session::{Incoming, SessionLimits},
    transport::{
        Listener,
        tcp::{TcpDoor, connect},
    },
};

use crate::support::LIMIT;

fn trust() -> Trust {
    Trust::Cookie(Cookie::load_or_create(&default_path()).expect("a cookie"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A Manager made by hand.
pub(super) struct ForgedManager {
    pub(super) link: Arc<Link>,
    heard: mpsc::Receiver<Message>,
    thread: Option<thread::JoinHandle<()>>,
}

impl ForgedManager {
    /// Returns when the node has introduced itself.
    pub(super) fn meet(address: &str) -> Self {
        let (host, port) = address.rsplit_once(':').expect("host:port");
        let (host, port) = (host.to_owned(), port.parse().expect("a port"));
        let (sender, heard) = mpsc::channel();
        let (met, link) = mpsc::channel();
        let thread = thread::spawn(move || {
            runtime().block_on(async {
                let wire = connect(&host, port, Duration::from_secs(3)).await.expect("it listens");
                let hello = Hello { instance: [9; 16], program: "forged".into() };
                let (wire, _) = as_manager(wire, &trust(), &hello).await.expect("it has the secret");
                let link = Link::new(wire, SessionLimits::default());
                met.send(link.clone()).expect("somebody waits");
                let theirs = link.clone();
                link.run(move |incoming| {
                    theirs.consumed(incoming.bytes);
                    let _ = sender.send(incoming.message);
                })
                .await;
            });
        });
        let this = Self { link: link.recv_timeout(LIMIT).expect("they meet"), heard, thread: Some(thread) };
        assert!(matches!(this.hear(), Some(Message::Welcome(_))));
        this
    }

    pub(super) fn say(&self, message: &Message) {
        let _ = self.link.send(message, Vec::new());
    }

    pub(super) fn say_with(&self, message: &Message, sections: Vec<Section>) {
        let _ = self.link.send(message, sections);
    }

    /// What the node says next; none once it has gone.
    pub(super) fn hear(&self) -> Option<Message> {
        match self.heard.recv_timeout(LIMIT) {
            Ok(message) => Some(message),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the node says nothing"),
        }
    }

    /// Whether the node ends the connection.
    pub(super) fn is_sent_away(&self) -> bool {
        while self.hear().is_some() {}
        true
    }
}

impl Drop for ForgedManager {
    fn drop(&mut self) {
        self.link.close("the test is over");
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A call as a Manager announces it.
pub(super) fn call(number: u64, function: &str, fingerprint: [u8; 16]) -> Message {
    Message::Call(Call {
        call: number,
        function: function.to_owned(),
        fingerprint,
        schema: "forged".into(),
        seed: 1,
        shared: None,
        is_lists: false,
        site: String::new(),
        item_timeout_us: None,
        gpu: None,
    })
}

pub(super) fn chunk(call: u64, lane: u32, start: u64, count: u64, head: Vec<u8>) -> Chunk {
    Chunk { lane, turn: 1, call, start, count, attempt: 1, budget_us: 20_000, is_for_gpu: false, head }
}

/// A node made by hand, that lives as long as the test's process.
pub(super) fn forge_node(slots: u32, mut answer: impl FnMut(&Arc<Link>, Incoming) + Send + 'static) -> String {
    let (sender, address) = mpsc::channel();
    thread::spawn(move || {
        runtime().block_on(async {
            let door = TcpDoor::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
            sender.send(door.address().to_string()).expect("somebody waits");
            loop {
                let wire = door.accept().await.expect("somebody comes");
                let Ok((wire, _)) = as_node(wire, &trust(), pending()).await else { continue };
                let link = Link::new(wire, SessionLimits::default());
                let _ = link.send(&Message::Welcome(welcome(slots)), Vec::new());
                let theirs = link.clone();
                link.run(|incoming| answer(&theirs, incoming)).await;
            }
        });
    });
    address.recv_timeout(LIMIT).expect("it listens")
}

pub(super) fn welcome(slots: u32) -> Welcome {
    Welcome {
        name: "forged".into(),
        instance: rand::random(),
        version: "0.0.0".into(),
        target: "nowhere".into(),
        slots,
        functions: 1,
        is_draining: false,
        runs_programs: false,
        gpus: Vec::new(),
    }
}

/// That nothing of a chunk was done.
pub(super) fn nothing_done(chunk: &Chunk) -> Done {
    Done {
        lane: chunk.lane,
        turn: chunk.turn,
        reached: chunk.start,
        failures: Vec::new(),
        elapsed_us: 0,
        worker: None,
        died: None,
        head: Vec::new(),
    }
}
