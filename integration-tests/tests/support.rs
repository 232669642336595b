//! What the tests about endings, services, bad input and supervision share.

use std::{
    any::type_name,
    ffi::{OsStr, OsString},
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Condvar, Mutex, Once, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// Far longer than anything here takes: a test that would hang fails instead.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Ending everything is promised to take no longer; a loaded machine gets something on top.
pub(crate) const END_WITHIN: Duration = Duration::from_millis(2000 + 500);

/// Set in the process that a test runs for itself.
const ALONE: &str = "TEST_RUNS_ALONE";

/// Runs `body` on another thread, and fails if it does not return in bounded time. Panics come through.
pub(crate) fn within<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(catch_unwind(AssertUnwindSafe(body))));
    result.recv_timeout(LIMIT).expect("it returns in time").unwrap_or_else(|payload| resume_unwind(payload))
}

/// Runs the test `body` in a process of its own, where no other test has threads, hooks or variables. `body` is the
/// outermost closure of the test, whose name is found in its type.
pub(crate) fn alone(body: impl FnOnce()) {
    alone_with(&[], body);
}

/// The same with environment variables.
pub(crate) fn alone_with<F: FnOnce()>(variables: &[(&str, &std::ffi::OsStr)], body: F) {
    let prepare = |child: &mut Command| {
        child.envs(variables.iter().copied());
    };
    alone_as(prepare, body);
}

/// The same with `prepare` done to the process before it starts; what `prepare` returns is kept until it has ended.
pub(crate) fn alone_as<F: FnOnce(), T>(prepare: impl FnOnce(&mut Command) -> T, body: F) {
    run_alone(prepare, body);
}

/// The same, and gives `check` what the process wrote to stderr.
pub(crate) fn alone_heard(body: impl FnOnce(), check: impl FnOnce(&str)) {
    if let Some(stderr) = run_alone(|_| (), body) {
        check(&stderr);
    }
}

/// Returns what `body` wrote to stderr, unless this is the process that runs it.
fn run_alone<F: FnOnce(), T>(prepare: impl FnOnce(&mut Command) -> T, body: F) -> Option<String> {
    if std::env::var_os(ALONE).is_some() {
        thread::spawn(|| {
            thread::sleep(LIMIT);
            eprintln!("the test did not end in time");
            std::process::exit(3);
        });
        body();
        return None;
    }
    let path = type_name::<F>().trim_end_matches("::{{closure}}");
    let (_, name) = path.split_once("::").expect("crate::module::test");
    let mut child = Command::new(std::env::current_exe().expect("a path"));
    child.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(ALONE, "1");
    let _kept = prepare(&mut child);
    let output = child.output().expect("the test binary starts again");
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "in a process of its own: {}\n{stdout}\n{stderr}", output.status);
    assert!(stdout.contains("1 passed"), "the test {name} was not found by its name\n{stdout}\n{stderr}");
    Some(stderr)
}

/// The names of this process's threads that belong to distfun.
#[cfg(target_os = "linux")]
pub(crate) fn our_threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is there");
    // A thread may end between the listing and the reading.
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("distfun-")).map(|name| name.trim().to_owned()).collect()
}

/// Waits for something to become true, and fails if it does not.
#[track_caller]
pub(crate) fn eventually(limit: Duration, what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A place where items wait until a test opens it; in doubt they go on long after [`LIMIT`],
/// when whoever waited for them has failed.
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

struct GateState {
    arrived: usize,
    is_open: bool,
}

impl Gate {
    pub(crate) const fn new() -> Self {
        Self { state: Mutex::new(GateState { arrived: 0, is_open: false }), changed: Condvar::new() }
    }

    /// Waits until the gate is open.
    pub(crate) fn pass(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.arrived += 1;
        self.changed.notify_all();
        let closed = |state: &mut GateState| !state.is_open;
        drop(self.changed.wait_timeout_while(state, 3 * LIMIT, closed).unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until `count` items have come to the gate.
    #[track_caller]
    pub(crate) fn await_arrivals(&self, count: usize) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let too_few = |state: &mut GateState| state.arrived < count;
        let (state, waited) =
            self.changed.wait_timeout_while(state, LIMIT, too_few).unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "{} of {count} items came to the gate", state.arrived);
    }

    pub(crate) fn arrived(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).arrived
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_open = true;
        self.changed.notify_all();
    }
}

/// A directory of this process, for what its nodes keep. Nobody removes it when the process ends, so the first use removes
/// those of processes that are gone: each may have some hundred MB of programs.
pub(crate) fn dir_of_process(name: &str) -> PathBuf {
    static SWEPT: Once = Once::new();
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("of-processes");
    SWEPT.call_once(|| {
        // Where there is no /proc nobody knows who is gone.
        let owners = Path::new("/proc/self").exists().then(|| fs::read_dir(&all).ok()).flatten();
        for entry in owners.into_iter().flatten().flatten() {
            if !Path::new("/proc").join(entry.file_name()).exists() {
                let _ = fs::remove_dir_all(entry.path()); // another process may be at it too
            }
        }
    });
    let dir = all.join(std::process::id().to_string());
    fs::create_dir_all(&dir).expect("a directory under target");
    dir.join(name)
}

/// Set in a process that is a node: how many slots it has, and the port it listens at.
const NODE: &str = "TEST_IS_A_NODE";

/// A node in a process of its own, killed when it is dropped.
pub(crate) struct NodeProcess {
    child: Child,
    address: String,
    slots: usize,
    variables: Vec<(OsString, OsString)>,
    dir: tempfile::TempDir,
}

impl NodeProcess {
    /// Returns when it listens. It has a cache of its own.
    pub(crate) fn start(slots: usize) -> Self {
        Self::start_with(slots, &[])
    }

    /// The same with environment variables.
    pub(crate) fn start_with(slots: usize, variables: &[(&str, &OsStr)]) -> Self {
        let variables: Vec<_> = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let dir = tempfile::tempdir().expect("a directory");
        for _ in 0..20 {
            let port = some_port();
            if let Some((child, address)) = spawn_node(slots, port, &variables, &dir) {
                return Self { child, address, slots, variables, dir };
            }
        }
        panic!("no node has started");
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as the system does when memory is short.
    pub(crate) fn kill(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }

    /// Starts it again where it was, after it has ended.
    pub(crate) fn start_again(&mut self) {
        let port = self.address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let (child, _) = spawn_node(self.slots, port, &self.variables, &self.dir).expect("its port is free again");
        self.child = child;
    }

    /// Sends a signal by its name, as in `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "{name} could not be sent");
    }

    /// How it ended, if it does in time.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
        None
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nothing listens at, and that no system gives to outgoing connections.
fn some_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    (10_000 + (std::process::id().wrapping_mul(131) + next * 17) % 20_000) as u16
}

fn spawn_node(
    slots: usize,
    port: u16,
    variables: &[(OsString, OsString)],
    dir: &tempfile::TempDir,
) -> Option<(Child, String)> {
    let mut child = Command::new(std::env::current_exe().expect("a path"))
        .args(["nodes::is_a_node", "--exact", "--nocapture", "--test-threads=1"])
        .env(NODE, format!("{slots} {port}"))
        .env("DISTFUN_CACHE", dir.path().join("cache"))
        .env_remove(ALONE)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the test binary starts again");
    let address = format!("127.0.0.1:{port}");
    let until = Instant::now() + LIMIT;
    while Instant::now() < until {
        if child.try_wait().expect("it can be waited for").is_some() {
            return None; // the port was not free
        }
        if std::net::TcpStream::connect(&address).is_ok() {
            return Some((child, address));
        }
        thread::sleep(Duration::from_millis(5));
    }
    let _ = (child.kill(), child.wait());
    None
}

/// In the process of a [`NodeProcess`]: its slots and port.
pub(crate) fn node_to_be() -> Option<(usize, u16)> {
    let told = std::env::var(NODE).ok()?;
    let (slots, port) = told.split_once(' ')?;
    Some((slots.parse().ok()?, port.parse().ok()?))
}
