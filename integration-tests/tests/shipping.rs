//! Nodes that know nothing: programs are sent there, checked, kept, and run in processes of their own.

mod ssh;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures::executor::block_on;

use distfun::{Ending, NodeState, Status, distribute, function, node};

use crate::{
    events::check::{Memory, check_line, lines_of},
    isolation::bare,
    support::{END_WITHIN, LIMIT, alone, alone_heard, eventually, within},
};

fn square(x: f64) -> f64 {
    x * x
}

fn nap(x: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(5));
    x + 1
}

fn chatty(x: u32) -> u32 {
    println!("out of {x}");
    std::thread::sleep(Duration::from_millis(5));
    x
}

fn environment(name: String) -> Option<String> {
    std::env::var(name).ok()
}

#[test]
fn a_program_is_sent_once_and_started_again_from_the_cache() {
    within(|| {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache"); // which the node makes, for its user alone
        let node = node::start_programs(bare().slots(1).cache(&cache)).unwrap();
        let files = || std::fs::read_dir(&cache).unwrap().count();
        assert_eq!(files(), 0);
        for _ in 0..3 {
            let dfun = distribute!(square).max_cpu(0).machines([node.address()]).build().unwrap();
            assert_eq!(dfun.map([3.0]).wait().unwrap(), [9.0]);
            assert_eq!(files(), 1, "by its hash");
        }
        // Another node with the same cache.
        node.stop();
        let node = node::start_programs(bare().slots(1).cache(&cache)).unwrap();
        let dfun = distribute!(square).max_cpu(0).machines([node.address()]).build().unwrap();
        assert_eq!(dfun.map([4.0]).wait().unwrap(), [16.0]);
        assert_eq!(files(), 1);
    });
}

#[test]
fn a_program_that_was_damaged_in_the_cache_is_sent_again() {
    within(|| {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache"); // which the node makes, for its user alone
        let run = || {
            let node = node::start_programs(bare().slots(1).cache(&cache)).unwrap();
            let dfun = distribute!(square).max_cpu(0).machines([node.address()]).build().unwrap();
            assert_eq!(dfun.map([3.0]).wait().unwrap(), [9.0]);
        };
        run();
        let file = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, bytes).unwrap();
        run();
    });
}

#[test]
fn without_a_directory_it_runs_from_memory() {
    within(|| {
        let node = node::start_programs(bare().slots(1).cache("/proc/no/such/place")).unwrap();
        let dfun = distribute!(square).max_cpu(0).machines([node.address()]).build().unwrap();
        assert_eq!(dfun.map([3.0]).wait().unwrap(), [9.0]);
    });
}

#[test]
fn a_node_with_functions_of_its_own_cannot_stop_items_and_says_so() {
    within(|| {
        let node = node::start(bare().offer(function!(square))).unwrap();
        let dfun = distribute!(square).max_cpu(0).machines([node.address()]).item_timeout(Duration::from_secs(1));
        let error = dfun.build().unwrap().map([3.0]).wait().unwrap_err();
        assert!(error.to_string().contains("it can't stop an item"), "{error}");
    });
}

#[test]
fn nothing_of_the_managers_environment_travels() {
    within(|| {
        let node = node::start_programs(bare().slots(1)).unwrap();
        // Those of the node, which is in this process: what every program needs, and what says which GPUs there are.
        let ours = std::env::vars().map(|(name, _)| name).filter(|name| !name.starts_with("LC_"));
        let passed =
            ["PATH", "HOME", "USER", "LANG", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "XDG_RUNTIME_DIR", "NODEVICE_SELECT"];
        let names: Vec<_> = ours.filter(|name| !passed.contains(&name.as_str())).collect();
        assert!(!names.is_empty());
        let expected = vec![None; names.len()];
        let dfun = distribute!(environment).max_cpu(0).machines([node.address()]).build().unwrap();
        assert_eq!(dfun.map(names).wait().unwrap(), expected);
    });
}

#[test]
fn what_functions_print_comes_back_with_machine_and_item() {
    alone_heard(
        || {
            let node = node::start_programs(bare().slots(1)).unwrap();
            let dfun = distribute!(chatty).max_cpu(0).machines([node.address()]).build().unwrap();
            assert_eq!(dfun.map(0..3u32).wait().unwrap(), [0, 1, 2]);
            eprintln!("the node was at {}", node.address());
        },
        |stderr| assert!(stderr.contains("the node was at 127.0.0.1:"), "{stderr}"),
    );
}

/// The `distfun node` of this build, as a process of its own.
struct Daemon {
    process: Child,
    address: String,
}

impl Daemon {
    fn start(arguments: &[&str]) -> Self {
        // By the shell, which has it not killed for a file that gets too long: it is to see an error, as of a full disk.
        let mut process = Command::new("/bin/sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["shipping::serves_as_a_daemon", "--exact", "--nocapture"])
            .env("TEST_DAEMON", arguments.join(" "))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line =
            lines.by_ref().map(|line| line.unwrap()).find(|line| line.contains("serving at ")).expect("it says so");
        std::thread::spawn(move || lines.for_each(drop)); // it may go on to write
        let address = line.split("serving at ").nth(1).unwrap().to_owned();
        Self { process, address }
    }

    /// Lets it make no file longer than that, as on a full disk.
    fn limit_files(&self, current: Option<u64>) {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let pid = Pid::from_raw(self.process.id() as i32);
        prlimit(pid, Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
    }

    /// Processes that it has started.
    fn hosts(&self) -> Vec<u32> {
        let children = format!("/proc/{}/task", self.process.id());
        let tasks = std::fs::read_dir(children).into_iter().flatten().flatten();
        let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
        lists.flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Started as a process of its own by the tests below.
#[test]
fn serves_as_a_daemon() {
    let Ok(arguments) = std::env::var("TEST_DAEMON") else { return };
    let config = bare().slots(2).keep(arguments.contains("--keep"));
    node::serve_programs(config.when_ready(|address| println!("serving at {address}"))).unwrap();
}

/// Its items were given to others before they were back in their place: nobody found them, and the call never ended.
#[test]
fn what_a_node_has_that_refuses_the_program_is_computed_elsewhere() {
    within(|| {
        let refuses = Daemon::start(&[]);
        refuses.limit_files(Some(4096));
        let runs = node::start_programs(bare().slots(2)).unwrap();
        for _ in 0..30 {
            let dfun = distribute!(nap).max_cpu(0).machines([&*refuses.address, runs.address()]).build().unwrap();
            assert_eq!(dfun.map([1u64, 2]).wait().unwrap(), [2, 3]);
        }
    });
}

/// It was taken for a machine that can never run the program.
#[test]
fn a_daemon_whose_disk_is_full_is_of_use_when_there_is_room_again() {
    within(|| {
        let daemon = Daemon::start(&[]);
        daemon.limit_files(Some(4096));
        let manager = distfun::Manager::builder().slots(0).machines([&daemon.address]).start().unwrap();
        let call = || manager.call(distfun::Distribute::map(function!(square), [3.0])).wait();
        let error = call().unwrap_err();
        assert_eq!(error.ending, Ending::NoWorkers, "{error}");
        assert!(error.to_string().contains("the program can't be kept there"), "{error}");
        daemon.limit_files(None);
        eventually(LIMIT, "it computes", || call().is_ok_and(|results| results == [9.0]));
    });
}

fn is_there(pid: &u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn a_daemon_that_is_killed_takes_its_processes_along_and_loses_nothing() {
    within(|| {
        let mut daemon = Daemon::start(&[]);
        let manager = distfun::Manager::builder().slots(1).machines([&daemon.address]).start().unwrap();
        let status = || block_on(manager.send(Status)).unwrap();
        let call = manager.call(distfun::Distribute::map(function!(nap), 0..400u64));
        eventually(LIMIT, "it has chunks", || status().nodes.iter().any(|node| node.chunks > 0));
        eventually(LIMIT, "and processes", || daemon.hosts().len() == 2);
        let hosts = daemon.hosts();
        let killed = Instant::now();
        daemon.process.kill().unwrap();
        eventually(Duration::from_millis(1000), "its chunks are given to others", || {
            status().nodes.iter().all(|node| node.chunks == 0)
        });
        eventually(END_WITHIN, "its processes are gone", || !hosts.iter().any(is_there));
        assert!(killed.elapsed() < Duration::from_secs(3));
        assert_eq!(call.wait().unwrap(), (1..=400).collect::<Vec<_>>());
    });
}

/// It was started by a thread that had nothing else to do, and the system kills what a thread has started when it ends.
#[test]
fn the_process_that_shows_that_a_program_starts_is_there_for_the_first_call() {
    within(|| {
        let daemon = Daemon::start(&[]);
        let manager = distfun::Manager::builder().slots(0).machines([&daemon.address]).start().unwrap();
        eventually(LIMIT, "the program starts", || daemon.hosts().len() == 1);
        let first = daemon.hosts();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(daemon.hosts(), first, "it waits");
        let pids = block_on(manager.send(distfun::Distribute::map(function!(process), [0u8]))).unwrap().unwrap();
        assert_eq!(pids, first);
    });
}

fn process(_: u8) -> u32 {
    std::process::id()
}

#[test]
fn a_manager_that_leaves_takes_its_processes_along() {
    within(|| {
        let daemon = Daemon::start(&["--keep"]);
        let dfun = distribute!(nap).max_cpu(0).machines([&daemon.address]).endaftercall(false).build().unwrap();
        assert_eq!(dfun.map(0..20u64).wait().unwrap(), (1..=20).collect::<Vec<_>>());
        assert!(!daemon.hosts().is_empty());
        dfun.finished().unwrap();
        eventually(END_WITHIN, "its processes are gone", || daemon.hosts().is_empty());
        // It goes on for others, and shutdown() says why.
        let dfun = distribute!(nap).max_cpu(0).machines([&daemon.address]).endaftercall(false).build().unwrap();
        assert_eq!(dfun.map([1u64]).wait().unwrap(), [2]);
        let report = dfun.shutdown().unwrap();
        assert!(format!("{report:?}").contains("--keep"), "{report:?}");
        assert!(is_there(&daemon.process.id()));
    });
}

#[test]
fn shutdown_ends_a_daemon_that_serves_nobody_else() {
    within(|| {
        let mut daemon = Daemon::start(&[]);
        let dfun = distribute!(nap).max_cpu(0).machines([&daemon.address]).endaftercall(false).build().unwrap();
        assert_eq!(dfun.map([1u64]).wait().unwrap(), [2]);
        dfun.shutdown().unwrap();
        eventually(END_WITHIN, "it has ended", || daemon.process.try_wait().unwrap().is_some());
        let status = daemon.process.wait().unwrap();
        assert!(status.success(), "{status}");
    });
}

#[test]
fn two_managers_share_a_daemon_and_neither_sees_the_others_crashes() {
    fn fragile(x: u64) -> u64 {
        if x == 50 { std::process::abort() } else { x }
    }
    within(|| {
        let daemon = Daemon::start(&[]);
        let steady = distribute!(nap).max_cpu(0).machines([&daemon.address]).build().unwrap().map(0..200u64);
        let fragile = distribute!(fragile).max_cpu(0).machines([&daemon.address]).build().unwrap().map(0..100u64);
        let error = fragile.wait().unwrap_err();
        assert_eq!((error.failed.len(), error.failed[0].index), (1, 50));
        assert_eq!(error.failed[0].machine.as_deref(), Some(&*daemon.address), "{error}");
        assert_eq!(steady.wait().unwrap(), (1..=200).collect::<Vec<_>>());
    });
}

/// Only the Manager told it: whoever looks after the machine had nothing of it in the log that is there.
#[test]
fn a_node_says_which_process_died_in_its_own_log() {
    fn fragile(x: u64) -> u64 {
        match x {
            2 => std::process::abort(),
            5 => std::thread::sleep(LIMIT),
            _ => {}
        }
        x
    }
    alone(|| {
        let memory = Memory::default();
        let log = distfun::log::json().writer(memory.clone()).init().unwrap();
        let node = node::start_programs(bare().slots(1).name("oak")).unwrap();
        let dfun = distribute!(fragile).max_cpu(0).machines([node.address()]).item_timeout(Duration::from_millis(300));
        let error = dfun.build().unwrap().map(0..8u64).wait().unwrap_err();
        assert_eq!(error.failed().iter().map(|failure| failure.index).collect::<Vec<_>>(), [2, 5]);
        node.stop();
        drop(log);
        let lines = memory.lines();
        lines.iter().for_each(check_line);
        let died = lines_of(&lines, "node.process_died");
        let told: Vec<_> =
            died.iter().map(|line| (line["distfun.item.index"].as_u64(), line["error.type"].as_str())).collect();
        let [crash, hang] = [(Some(2), Some("worker_lost")), (Some(5), Some("item_timeout"))];
        assert_eq!(told.iter().filter(|it| **it == crash).count(), 3, "{told:?}");
        assert_eq!(told.iter().filter(|it| **it == hang).count(), 1, "{told:?}");
        assert_eq!(told.len(), lines_of(&lines, "node.worker_died").len(), "as often as the Manager");
        let message =
            died.iter().find(|line| line["error.type"] == "worker_lost").unwrap()["message"].as_str().unwrap();
        assert!(message.contains(", on worker 0 of oak, died in ") && message.contains(", at item 2: "), "{message}");
        assert!(message.ends_with("(signal 6)"), "{message}");
    });
}

#[test]
fn a_bare_node_and_this_machine_share_the_work() {
    within(|| {
        let daemon = Daemon::start(&[]);
        let manager = distfun::Manager::builder().slots(1).machines([&daemon.address]).start().unwrap();
        let is_up = || {
            let status = block_on(manager.send(Status)).unwrap();
            status.nodes.iter().any(|node| node.state == NodeState::Up)
        };
        eventually(LIMIT, "the node is up", is_up);
        let call = manager.call(distfun::Distribute::map(function!(nap), 0..400u64));
        assert_eq!(call.wait().unwrap(), (1..=400).collect::<Vec<_>>());
    });
}
