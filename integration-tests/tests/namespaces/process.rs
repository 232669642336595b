//! Processes on hosts: this binary again, as the story itself on M, or as a node or a Manager of the story.

use std::{
    any::type_name,
    env,
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio, exit},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    lan::{Host, Lan},
    log::Log,
};

/// The network that a process belongs to.
const LAN: &str = "NAMESPACES_LAN";
/// Set by those who want to hear that the tests can't run.
const MUST_RUN: &str = "NAMESPACES_MUST_RUN";
/// What a process is there for.
const ROLE: &str = "NAMESPACES_ROLE";

/// Far longer than any story takes.
const LIMIT: Duration = Duration::from_secs(50);

/// Stories have the machine to themselves.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `story`, the outermost closure of a test, on host M of a network of its own. Where there can be none it says
/// so, and that is all.
pub(crate) fn on_a_network<F: FnOnce(&Lan)>(story: F) {
    if let Some(lan) = lan_of_this_process() {
        end_with_parent();
        return story(&lan);
    }
    let path = type_name::<F>().trim_end_matches("::{{closure}}");
    let (_, name) = path.split_once("::").expect("crate::module::test");
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(trouble) = Lan::trouble() {
        assert!(env::var_os(MUST_RUN).is_none(), "no network namespaces: {trouble}");
        // Past the capturing of the test's output.
        let _ = writeln!(io::stderr(), "{name} is skipped, as there are no network namespaces: {trouble}");
        return;
    }
    Lan::sweep();
    let guard = Lan::build_one();
    let mut story =
        this_binary(&guard.0, Host::M, name, "story").stderr(Stdio::piped()).spawn().expect("it starts again");
    // It ends when this is closed, in whatever way.
    let _stdin = story.stdin.take();
    let output = story.wait_with_output().expect("it ends");
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    drop(guard);
    assert!(output.status.success(), "the story has failed: {}\n{stdout}\n{stderr}", output.status);
    assert!(stdout.contains("1 passed"), "the test {name} was not found by its name\n{stdout}\n{stderr}");
    print!("{stdout}\n{stderr}");
}

/// A process of a story, killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) log: Log,
}

impl Process {
    /// Starts the ignored test `name` on a host, and waits until it says that it is ready.
    pub(crate) fn start(lan: &Lan, host: Host, name: &str) -> Self {
        let mut command = this_binary(lan, host, name, &format!("{host:?}"));
        let mut child = command.arg("--ignored").spawn().expect("it starts again");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let is_ready = lines.map_while(Result::ok).any(|line| line.ends_with(READY));
        assert!(is_ready, "{name} on {host:?} did not start");
        Self { child, log: Log::of(lan, host) }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a process says on a line of its own once it is what it should be.
const READY: &str = "ready";

/// What an ignored test is that other tests start: nothing, unless one of them did.
pub(crate) fn as_part(part: impl FnOnce(&Lan, Host)) {
    let Some(lan) = lan_of_this_process() else { return };
    let own = env::var(ROLE).expect("it is set with the network");
    let Some(host) = [Host::M, Host::A, Host::B].into_iter().find(|host| own == format!("{host:?}")) else { return };
    end_with_parent();
    part(&lan, host);
}

/// To be said by a part; it then waits to be killed.
pub(crate) fn ready() -> ! {
    println!("\n{READY}");
    let _ = io::stdout().flush();
    loop {
        thread::park();
    }
}

fn lan_of_this_process() -> Option<Lan> {
    env::var(LAN).ok().map(|name| Lan { name })
}

fn this_binary(lan: &Lan, host: Host, test: &str, role: &str) -> Command {
    let mut command = lan.command(host, env::current_exe().expect("a path"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(LAN, &lan.name).env(ROLE, role).env("DISTFUN_COOKIE", lan.dir().join("cookie"));
    command.env("DISTFUN_CREDENTIALS", lan.dir().join("credentials"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Nobody outlives who started it, however that ended, nor any story.
fn end_with_parent() {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        exit(3);
    });
    thread::spawn(|| {
        thread::sleep(LIMIT);
        eprintln!("the story did not end in time");
        exit(3);
    });
}

/// Waits for something to become true, and fails if it does not.
#[track_caller]
pub(crate) fn eventually(limit: Duration, what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
