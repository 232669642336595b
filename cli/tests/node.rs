//! `distfun node` as operators meet it.
#![cfg(target_os = "linux")]

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

fn distfun(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_distfun"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DISTFUN_")) {
        command.env_remove(name);
    }
    command.env("DISTFUN_COOKIE", home.join("cookie")).env("DISTFUN_CACHE", home.join("cache"));
    command.env("DISTFUN_CREDENTIALS", home.join("credentials")).current_dir(home);
    command
}

/// That were set for `command`.
fn vars(command: &Command) -> Vec<(OsString, OsString)> {
    let set = command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    set.collect()
}

/// A node that ends with the test.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ended(node: &mut Node) -> Option<i32> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        if let Some(status) = node.0.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it goes on");
}

fn signal(node: &Node, name: &str) {
    let sent = Command::new("kill").args([name, &node.0.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_service_manager_is_told_and_sigterm_ends_it_with_0() {
    let home = tempfile::tempdir().unwrap();
    let place = home.path().join("notify");
    let manager = UnixDatagram::bind(&place).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut node = distfun(home.path());
    node.args(["node", "--listen", "127.0.0.1:0", "--slots", "1", "--name", "one", "--log", "log"]);
    node.env("NOTIFY_SOCKET", &place).stdout(Stdio::piped());
    let mut node = Node(node.spawn().unwrap());
    let mut said = String::new();
    BufReader::new(node.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with("distfun node ") && said.contains(" serves at 127.0.0.1:"), "{said}");
    let told = || {
        let mut buffer = [0; 64];
        let count = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    assert_eq!(told(), "READY=1");
    signal(&node, "-TERM");
    assert_eq!(ended(&mut node), Some(0));
    assert_eq!(told(), "STOPPING=1");
    let log = std::fs::read_to_string(home.path().join("log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["distfun.role"] == "node"), "{log}");
    let of_node = |line: &&Value| line["distfun.node.name"] == "one";
    let texts: Vec<_> = lines.iter().filter(of_node).map(|line| line["message"].as_str().unwrap()).collect();
    let [started, stopping, stopped] = texts[..] else { panic!("{log}") };
    assert!(started.starts_with("one serves at 127.0.0.1:") && started.ends_with(", with 1 slot"), "{started}");
    assert_eq!(stopping, "one stops, told so by a signal");
    assert!(stopped.starts_with("one has stopped after "), "{stopped}");
}

#[test]
fn a_node_that_cannot_start_says_why_and_exits_with_1() {
    let home = tempfile::tempdir().unwrap();
    let why = |arguments: &[&str]| {
        let output = distfun(home.path()).arg("node").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = why(&["--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("distfun node: ") && said.contains("0.0.0.0"), "{said}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, said) = why(&["--listen", &taken.local_addr().unwrap().to_string()]);
    assert_eq!(code, Some(1));
    assert!(said.contains("if one runs there already"), "{said}");
    let (code, said) = why(&["--listen", "here"]);
    assert_eq!(code, Some(2), "that is a wrong command line: {said}");
    assert!(said.contains("127.0.0.1:2718"), "{said}");
    assert_eq!(why(&["--slots", "many"]).0, Some(2));
    assert_eq!(why(&["--stdio", "--listen", "127.0.0.1"]).0, Some(2));
}

#[test]
fn a_node_that_can_use_no_gpu_says_so_where_one_is_asked_for() {
    let home = tempfile::tempdir().unwrap();
    // It ends at once, as it can't listen there.
    let said = |arguments: &[&str]| {
        let output = distfun(home.path()).args(["node", "--listen", "0.0.0.0:0"]).args(arguments).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let warning = "has no effect: this command is built without the features that find GPUs";
    for arguments in [&["--software-gpu"][..], &["--max-gpu", "1"]] {
        let said = said(arguments);
        let expected =
            format!("distfun node: {} {warning} (cargo install --path cli --features cuda,wgpu)", arguments[0]);
        assert_eq!(said.contains(&expected), cfg!(not(any(feature = "cuda", feature = "wgpu"))), "{said}");
    }
    assert!(!said(&[]).contains(warning) && !said(&["--max-gpu", "0"]).contains(warning));
}

/// Its stderr was a file on a full disk, and a warning that could not be written ended it.
#[test]
fn a_node_whose_warnings_can_not_be_written_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let node = distfun(home.path());
    let mut shell = Command::new("/bin/sh");
    // Few files: it can't let everybody in, and says so where nobody else would notice.
    shell.args(["-c", "ulimit -n 60; exec \"$0\" \"$@\""]).arg(node.get_program()).envs(vars(&node));
    let mut node = shell;
    node.args(["node", "--listen", "127.0.0.1:0", "--slots", "1"]).stdout(Stdio::piped()).stderr(full);
    let mut node = Node(node.spawn().unwrap());
    let mut said = String::new();
    BufReader::new(node.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let address = said.split(" serves at ").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
    let silent: Vec<_> = (0..300).map(|_| TcpStream::connect(address).unwrap()).collect();
    let loud = |mut peer: TcpStream| (peer.write_all(b"GET / HTTP/1.0\r\n\r\n"), peer.read_to_end(&mut Vec::new()));
    silent.into_iter().for_each(|peer| drop(loud(peer)));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(node.0.try_wait().unwrap(), None, "it goes on");
    signal(&node, "-TERM");
    assert_eq!(ended(&mut node), Some(0));
}

/// Status and body of what is served there, once something is.
fn fetched(address: &str, path: &str) -> (String, String) {
    let start = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(5), "{error}"),
        }
    };
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().into(), body.into())
}

#[test]
fn a_node_serves_metrics_beside_its_log_or_its_warnings() {
    for log in [&["--log", "log"][..], &[]] {
        let home = tempfile::tempdir().unwrap();
        // A port that is free, as far as one can know.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut node = distfun(home.path());
        node.args(["node", "--listen", "127.0.0.1:0", "--slots", "3", "--metrics", &address]).args(log);
        let mut node = Node(node.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let mut said = String::new();
        BufReader::new(node.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.starts_with("distfun node ") && said.ends_with("Ctrl-C ends it\n"), "{said}");
        let has = |line: &str| fetched(&address, "/metrics").1.lines().any(|is| is == line);
        assert!(has("distfun_node_serving 1") && has("distfun_node_slots 3") && has("distfun_node_managers 0"));
        let start = Instant::now();
        while !has("distfun_worker_threads{kind=\"cpu\"} 3") {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        let (status, health) = fetched(&address, "/health");
        let health: Value = serde_json::from_str(&health).unwrap();
        assert_eq!((status.as_str(), &health["status"]), ("HTTP/1.1 200 OK", &"ok".into()));
        signal(&node, "-TERM");
        assert_eq!(ended(&mut node), Some(0));
        assert!(TcpStream::connect(&address).is_err());
        let mut warned = String::new();
        node.0.stderr.take().unwrap().read_to_string(&mut warned).unwrap();
        assert_eq!(warned, "");
        let lines = std::fs::read_to_string(home.path().join("log")).unwrap_or_default();
        assert_eq!(lines.contains("distfun.node.stopped"), !log.is_empty(), "{lines}");
    }
}

#[test]
fn a_node_that_cannot_serve_metrics_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (address, remedy, status) in
        [("0.0.0.0", "a proxy in front", 2), ("here", "127.0.0.1:9464", 2), (&taken, "another port", 1)]
    {
        let output = distfun(home.path()).args(["node", "--metrics", address]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(status), 1), "{said}");
        assert!(said.starts_with("distfun node: ") && said.contains(address) && said.contains(remedy), "{said}");
        assert!(output.stdout.is_empty());
    }
    let output = distfun(home.path()).args(["node", "--stdio", "--metrics", "127.0.0.1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// What is no Manager must not keep it.
#[test]
fn standard_input_that_is_no_manager_ends_it() {
    let home = tempfile::tempdir().unwrap();
    let mut node = distfun(home.path());
    node.args(["node", "--stdio", "--slots", "1"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = node.spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.starts_with(b"distfun-stdio 1\n"));
}
