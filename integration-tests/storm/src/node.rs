//! A `distfun node` as a process of its own, behind a proxy.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use distfun_integration_tests::proxy::Proxy;
use rustix::process::Signal;

use crate::processes::Process;

/// What a node says when it does.
const SERVES: &str = " serves at ";

/// A node that was told to end may finish what it has, for a minute at most.
const ENDS_WITHIN: Duration = Duration::from_secs(75);

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) proxy: Proxy,
    dir: PathBuf,
    port: u16,
    program: PathBuf,
    /// It writes events; otherwise only warnings go to its stderr.
    has_log: bool,
    state: State,
    starts: usize,
}

enum State {
    Up(Child),
    /// It was told to end, and is started again after so long.
    Leaving(Child, Instant, Duration),
    /// It is started again then.
    Down(Instant),
}

impl Node {
    pub(crate) fn start(number: usize, dir: &Path, program: &Path) -> std::io::Result<Self> {
        let name = format!("node-{number}");
        let dir = dir.join(&name);
        fs::create_dir_all(dir.join("tmp"))?;
        let port = free_port(number);
        let proxy = Proxy::to(&format!("127.0.0.1:{port}"));
        let (program, has_log, state) = (program.to_owned(), number != 1, State::Down(Instant::now()));
        let mut node = Self { name, proxy, dir, port, program, has_log, state, starts: 0 };
        node.state = State::Up(node.spawn()?);
        Ok(node)
    }

    /// By the shell, which has it not killed for a file that gets too long: it is to see an error, as of a full disk.
    fn spawn(&mut self) -> std::io::Result<Child> {
        self.starts += 1;
        let log = File::options().append(true).create(true).open(self.dir.join("log"))?;
        let file = |name: &str| self.dir.join(name);
        let mut node = Command::new("/bin/sh");
        node.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(&self.program)
            .args(["node", "--listen", "127.0.0.1", "--slots", "2"])
            .args(["--port", &self.port.to_string(), "--name", &self.name])
            .arg("--cache")
            .arg(file("cache"));
        if self.has_log {
            node.arg("--log").arg(file("events"));
        }
        node.env("TMPDIR", file("tmp")).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
    }

    /// Starts it again where it is time, and says what is wrong with it.
    ///
    /// # Errors
    /// It has ended though nobody wanted it to, or does not end.
    pub(crate) fn look(&mut self) -> Result<(), String> {
        match &mut self.state {
            State::Up(child) => match child.try_wait() {
                Ok(None) => {}
                ended => return Err(format!("{} ended by itself: {ended:?}\n{}", self.name, self.log())),
            },
            State::Leaving(child, since, rest) => match child.try_wait() {
                Ok(None) if since.elapsed() > ENDS_WITHIN => {
                    return Err(format!("{} does not end, told so {:.1?} ago", self.name, since.elapsed()));
                }
                Ok(None) => {}
                Ok(Some(status)) if status.success() => self.state = State::Down(Instant::now() + *rest),
                ended => return Err(format!("{} was told to end: {ended:?}\n{}", self.name, self.log())),
            },
            State::Down(until) if *until <= Instant::now() => {
                self.state = State::Up(self.spawn().map_err(|error| format!("{}: {error}", self.name))?);
            }
            State::Down(_) => {}
        }
        Ok(())
    }

    /// Its process, while it is to be there.
    pub(crate) fn process(&self) -> Option<Process> {
        match &self.state {
            State::Up(child) => Process::of(child.id()),
            State::Leaving(..) | State::Down(_) => None,
        }
    }

    /// Its process, also while it is about to end.
    fn any_process(&self) -> Option<Process> {
        match &self.state {
            State::Up(child) | State::Leaving(child, ..) => Process::of(child.id()),
            State::Down(_) => None,
        }
    }

    pub(crate) fn hosts(&self) -> Vec<Process> {
        self.any_process().map_or_else(Vec::new, |process| process.hosts())
    }

    /// Ends it as the system does when memory is short, for a while; what it has kept may be lost with it.
    pub(crate) fn kill(&mut self, rest: Duration, is_wiped: bool) {
        if let State::Up(child) = &mut self.state {
            let _ = (child.kill(), child.wait());
            self.state = State::Down(Instant::now() + rest);
            if is_wiped {
                let _ = fs::remove_dir_all(self.dir.join("cache"));
            }
        }
    }

    /// Whether it has said that it serves, each time it was started. Before, a signal ends it as any program.
    pub(crate) fn serves(&self) -> bool {
        self.lines("log").filter(|line| line.contains(SERVES)).count() >= self.starts && self.process().is_some()
    }

    /// Tells it to end, for a while.
    pub(crate) fn drain(&mut self, rest: Duration) {
        let state = std::mem::replace(&mut self.state, State::Down(Instant::now() + rest));
        self.state = match state {
            State::Up(child) => {
                Process::of(child.id()).map(|process| process.signal(Signal::TERM));
                State::Leaving(child, Instant::now(), rest)
            }
            other => other,
        };
    }

    /// Lets no file of it, or of its hosts, be longer than `bytes`.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        // Its own limit first: what it starts from now on has it too.
        for process in self.any_process().into_iter().chain(self.hosts()) {
            process.limit_files(bytes);
        }
    }

    /// Whatever strikes it has an end.
    pub(crate) fn calm(&mut self) {
        self.proxy.black_hole(false);
        self.limit_files(None);
        if let Some(process) = self.any_process() {
            process.signal(Signal::CONT);
        }
    }

    /// How it has ended, if it does within `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + limit;
        let (State::Up(child) | State::Leaving(child, ..)) = &mut self.state else { return None };
        loop {
            match child.try_wait() {
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                ended => return ended.ok().flatten(),
            }
        }
    }

    /// The last it has written.
    pub(crate) fn log(&self) -> String {
        let said: Vec<_> = self.lines("log").filter(|line| !line.contains(SERVES)).collect();
        let events: Vec<_> = self.lines("events").collect();
        let last = [said, events].into_iter().flat_map(|lines| lines[lines.len().saturating_sub(20)..].to_vec());
        last.map(|line| format!("  {}: {line}\n", self.name)).collect()
    }

    fn lines(&self, file: &str) -> impl Iterator<Item = String> + use<> {
        let text = fs::read(self.dir.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
    }

    /// Whether it has ever written that it panicked.
    pub(crate) fn has_panicked(&self) -> bool {
        self.lines("log").any(|line| line.contains("panicked"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let State::Up(child) | State::Leaving(child, ..) = &mut self.state {
            let _ = (child.kill(), child.wait());
        }
    }
}

/// A port that nothing listens at, and that no system gives to outgoing connections while its node is down.
fn free_port(number: usize) -> u16 {
    let first = std::process::id().wrapping_mul(131) + number as u32 * 6007;
    let ports = (0..20_000).map(|n| (10_000 + (first + n) % 20_000) as u16);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.into_iter().find(is_free).expect("a port is free")
}
