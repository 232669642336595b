//! What somebody who watches sees, from the logs alone, while workers and nodes are killed: by the commands that they use.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use distfun::{Manager, function, log};
use serde_json::Value;
use tempfile::TempDir;
use tracing::Level;

use crate::{
    programs::{example, program},
    support::{LIMIT, alone, eventually},
};

/// A fault is to be seen this soon after it.
const SEEN_WITHIN: Duration = Duration::from_secs(1);

fn nap(x: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(50));
    x * x
}

struct Daemon {
    process: Child,
    address: String,
}

impl Daemon {
    fn start(home: &Path, name: &str) -> Self {
        let mut node = example("distfun");
        node.args(["node", "--listen", "127.0.0.1:0", "--slots", "2", "--name", name, "--log", name]);
        node.env("DISTFUN_CACHE", home.join("cache")).current_dir(home).stdout(Stdio::piped()).stderr(Stdio::null());
        let cookie = std::env::var_os("DISTFUN_COOKIE");
        cookie.map(|cookie| node.env("DISTFUN_COOKIE", cookie));
        let mut process = node.spawn().expect("it starts");
        let mut said = String::new();
        BufReader::new(process.stdout.as_mut().expect("it is piped")).read_line(&mut said).expect("UTF-8");
        let address = said.split(" serves at ").nth(1).and_then(|rest| rest.split(';').next()).expect("it says where");
        Self { process, address: address.to_owned() }
    }

    /// The processes of its slots.
    fn hosts(&self) -> Vec<i32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("it runs").flatten();
        let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        lists.flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<_>>()).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = (self.process.kill(), self.process.wait());
    }
}

/// What a command says of the logs in `home`.
fn says(home: &Path, arguments: &[&str]) -> String {
    let output = example("distfun").args(arguments).current_dir(home).output().expect("it starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn status(home: &Path) -> Value {
    serde_json::from_str(&says(home, &["status", "--json", "here", "one", "two"])).expect("JSON")
}

fn process<'a>(status: &'a Value, role: &str, name: &str) -> &'a Value {
    let all = status["processes"].as_array().expect("processes");
    let is_it = |process: &&Value| process["role"] == role && (name.is_empty() || process["node"]["name"] == name);
    all.iter().find(is_it).unwrap_or_else(|| panic!("no {role} {name}"))
}

/// Asks until `holds`, and says how long after `since` the question was put that was answered so.
fn seen(since: Instant, home: &Path, holds: impl Fn(&Value) -> bool) -> Duration {
    loop {
        let asked = since.elapsed();
        let status = status(home);
        if holds(&status) {
            return asked;
        }
        assert!(asked < LIMIT, "never seen: {status:#}");
    }
}

#[test]
fn a_killed_worker_and_a_killed_node_are_seen_within_a_second_and_afterwards() {
    program("distfun"); // built before time is limited
    alone(|| {
        let home = TempDir::new().expect("a folder");
        let home = home.path();
        let written = log::json().file(home.join("here")).level(Level::DEBUG).init().expect("no other log");
        let mut nodes = ["one", "two"].map(|name| Daemon::start(home, name));
        let machines: Vec<_> = nodes.iter().map(|node| node.address.clone()).collect();
        let manager = Manager::builder().slots(1).machines(&machines).start().expect("it starts");
        let call = manager.call(distfun::Distribute::map(function!(nap), 0..600));
        eventually(LIMIT, "both compute", || {
            let status = status(home);
            let nodes = process(&status, "manager", "")["managers"]["1"]["nodes"].as_object().expect("nodes").clone();
            nodes.len() == 2 && nodes.values().all(|node| node["chunks"].as_u64() > Some(2))
        });

        let host = nodes[0].hosts()[0];
        let killed = Instant::now();
        let pid = rustix::process::Pid::from_raw(host).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is ours");
        let of_machine = |status: &Value, machine: &str| {
            let nodes = process(status, "manager", "")["managers"]["1"]["nodes"].as_object().expect("nodes").clone();
            nodes.into_iter().map(|(_, node)| node).find(|node| node["machine"] == *machine).expect("the node")
        };
        let worker_seen = seen(killed, home, |status| of_machine(status, &machines[0])["deaths"] == 1);

        let killed = Instant::now();
        nodes[1].process.kill().expect("it runs");
        let node_seen = seen(killed, home, |status| {
            let node = of_machine(status, &machines[1]);
            node["requeued"].as_u64() > Some(0) && node["running"] == Value::Array(Vec::new())
        });
        println!("seen: the worker by a question {worker_seen:?} after it was killed, the node {node_seen:?}");
        assert!(worker_seen <= SEEN_WITHIN && node_seen <= SEEN_WITHIN, "{worker_seen:?} {node_seen:?}");

        let results = call.wait().expect("it is complete");
        assert!(results.into_iter().eq((0..600).map(|x| x * x)));
        drop(manager);
        drop(nodes);
        drop(written);
        // The day after, by the logs alone.
        let after = status(home);
        assert_eq!(of_machine(&after, &machines[1])["losses"], 1);
        assert!(
            says(home, &["explain", "1", "here", "one", "two"])
                .starts_with("call 1 (all::watch::nap) is complete: 600 items")
        );
        let failures = says(
            home,
            &["top", "--once", "--width", "120", "--height", "100", "--screen", "failures", "here", "one", "two"],
        );
        assert!(machines.iter().all(|machine| failures.contains(machine)), "{failures}");
    });
}
