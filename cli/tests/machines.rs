//! `distfun machines check` as whoever runs it sees it.

use std::{
    env, fs,
    io::Read,
    net::TcpListener,
    process::Command,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use distfun::{
    function,
    node::{self, NodeConfig, NodeHandle},
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

fn square(x: f64) -> f64 {
    x * x
}

/// A folder with a cookie and whatever else a test has.
struct Home(TempDir);

/// What a run has shown.
struct Shown {
    stdout: String,
    stderr: String,
    status: Option<i32>,
}

impl Home {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn node(&self, change: impl FnOnce(NodeConfig) -> NodeConfig) -> NodeHandle {
        let config = node::config()
            .listen("127.0.0.1:0")
            .slots(3)
            .cookie(self.path("cookie"))
            .cache(self.path("cache"))
            .offer(function!(square));
        node::start(change(config)).unwrap()
    }

    fn check(&self, arguments: &[&str]) -> Shown {
        self.check_with(&[], arguments)
    }

    fn check_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Shown {
        let mut command = Command::new(env!("CARGO_BIN_EXE_distfun"));
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DISTFUN_")) {
            command.env_remove(name);
        }
        command
            .current_dir(&self.0)
            .env("DISTFUN_COOKIE", self.path("cookie"))
            .env("DISTFUN_CREDENTIALS", self.path("credentials"))
            .envs(variables.iter().copied());
        let output = command.args(["machines", "check"]).args(arguments).output().expect("it was just built");
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        Shown { stdout, stderr, status: output.status.code() }
    }
}

impl Shown {
    fn objects(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A port where nobody listens, as long as the socket is kept.
fn deaf() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap().to_string();
    (socket, address)
}

#[test]
fn a_node_has_a_row_and_forgets_who_asked() {
    let home = Home::new();
    let node = home.node(|config| config);
    let shown = home.check(&[node.address()]);
    assert_eq!((shown.stderr.as_str(), shown.status), ("", Some(0)), "{}", shown.stdout);
    let [heading, row] = shown.stdout.lines().collect::<Vec<_>>().try_into().expect("two lines");
    assert!(heading.starts_with("machine ") && heading.ends_with("round trip"), "{heading}");
    let cells: Vec<&str> = row.split_whitespace().collect();
    let built_for = format!("{}-{}", env::consts::ARCH, env::consts::OS);
    assert_eq!(cells[..7], [node.address(), node.address(), "yes", env!("CARGO_PKG_VERSION"), &built_for, "3", "-"]);
    assert!(cells[7].parse::<f64>().unwrap() > 0.0 && cells[8] == "ms", "{row}");

    let start = Instant::now();
    while node.managers() > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "it still waits for who asked");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn one_that_does_not_answer_is_told_with_its_reason_and_the_status_is_1() {
    let home = Home::new();
    let node = home.node(|config| config);
    let (_kept, deaf) = deaf();
    let limited = format!("{}*2", node.address());
    let shown = home.check(&["--json", &deaf, &limited]);
    assert_eq!(shown.status, Some(1), "{}", shown.stderr);
    let [no, yes] = shown.objects().try_into().expect("an object per machine, in their order");
    assert_eq!((&no["machine"], &no["usable"], &no["slots"]), (&deaf.as_str().into(), &false.into(), &Value::Null));
    assert_eq!(no["error_type"], "unreachable");
    let problem = no["problem"].as_str().unwrap();
    assert!(problem.contains("start `distfun node` there"), "{problem}");
    assert_eq!((&yes["usable"], &yes["slots"], &yes["slot_limit"]), (&true.into(), &3.into(), &2.into()));
    assert_eq!((&yes["functions"], &yes["addresses"][0]), (&1.into(), &node.address().into()));
    assert!(yes["round_trip_s"].as_f64().unwrap() > 0.0);
    let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&no), keys(&yes), "every line has every key");

    let shown = home.check(&[&deaf, &limited]);
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert_eq!((lines.len(), shown.status), (3, Some(1)), "a pipe gets a line per machine: {}", shown.stdout);
    assert!(lines[1].contains("  no: no connection to 127.0.0.1:") && lines[2].contains("  2 of 3  "), "{lines:?}");
}

#[test]
fn without_arguments_the_machines_of_the_settings_are_asked() {
    let home = Home::new();
    let socket = home.path("node.sock");
    let node = home.node(|config| config.named_pipe(socket.as_str()));
    let port = node.address().rsplit(':').next().unwrap();
    let shown = home.check_with(&[("DISTFUN_MACHINES", "127.0.0.1"), ("DISTFUN_PORT", port)], &[]);
    assert_eq!((shown.stderr.as_str(), shown.status), ("", Some(0)), "{}", shown.stdout);
    assert!(shown.stdout.contains(&format!("\n127.0.0.1  {}  yes", node.address())), "{}", shown.stdout);

    // Both at once would name one node twice.
    fs::write(home.path("distfun.toml"), format!("named_pipe = {socket:?}")).unwrap();
    if cfg!(unix) {
        let shown = home.check(&[]);
        assert_eq!((shown.stderr.as_str(), shown.status), ("", Some(0)), "{}", shown.stdout);
        assert!(shown.stdout.contains(&format!("\nunix:{socket}  {socket}  yes")), "{}", shown.stdout);
    }
    let shown = home.check(&["--port", port, "127.0.0.1"]);
    assert_eq!((shown.stderr.as_str(), shown.status), ("", Some(0)), "named ones alone: {}", shown.stdout);
    assert_eq!(shown.stdout.lines().count(), 2);
}

#[test]
fn a_wrong_command_line_is_status_2_and_a_wrong_setting_1() {
    let home = Home::new();
    for (variables, arguments, status, text) in [
        (&[][..], &[][..], 2, "distfun: there are no machines to check; name some"),
        (&[], &["bob*x"], 2, "distfun: entry 1 (\"bob*x\"): \"x\" is not a number of slots"),
        (&[], &["bob", "bob"], 2, "leave one of them out"),
        (&[], &["--port", "0", "bob"], 2, "--port"),
        (&[], &["file:nowhere"], 1, "it can't be looked up"),
        (&[("DISTFUN_MACHINES", "bob*x")], &[], 1, "DISTFUN_MACHINES"),
    ] {
        let shown = home.check_with(variables, arguments);
        assert_eq!((shown.stdout.as_str(), shown.status), ("", Some(status)), "{arguments:?}: {}", shown.stderr);
        assert!(shown.stderr.contains(text), "{arguments:?}: {}", shown.stderr);
    }
}

#[test]
fn machines_are_asked_at_once() {
    let home = Home::new();
    let barrier = Arc::new(Barrier::new(3));
    let (addresses, threads): (Vec<String>, Vec<_>) = (0..3)
        .map(|_| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (address, barrier) = (listener.local_addr().unwrap().to_string(), barrier.clone());
            let one = thread::spawn(move || {
                let (mut peer, _) = listener.accept().unwrap();
                // Read, or the end would be a reset.
                let _ = peer.read(&mut [0; 4096]);
                barrier.wait();
            });
            (address, one)
        })
        .unzip();
    let shown = home.check(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
    // Whoever asks one after the other hears that the first does not finish in time.
    let closed = shown.stdout.matches("closed the connection during the handshake").count();
    assert_eq!((closed, shown.status), (3, Some(1)), "{}", shown.stdout);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn what_a_manager_would_refuse_is_refused() {
    let home = Home::new();
    let node = home.node(|config| config);
    let by_name = node.address().replace("127.0.0.1", "localhost");
    let shown = home.check(&[node.address(), &by_name]);
    let twice = format!("no: it is the same node as {}; name it once", node.address());
    assert!(shown.status == Some(1) && shown.stdout.contains(&twice), "{}", shown.stdout);

    let other = Home::new();
    let shown = other.check(&["--json", node.address()]);
    assert_eq!((&shown.objects()[0]["error_type"], shown.status), (&"auth".into(), Some(1)), "{}", shown.stdout);
    assert!(shown.stdout.contains("copy the cookie file"), "{}", shown.stdout);

    assert!(node.drain(Duration::ZERO));
    let shown = home.check(&[node.address()]);
    assert!(shown.status == Some(1) && shown.stdout.contains("  stopping  "), "{}", shown.stdout);
}
