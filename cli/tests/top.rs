//! `distfun top` as whoever runs it sees it: on a terminal, where there is tmux, and in a pipe.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, Instant, SystemTime},
};

use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_distfun");

fn top(arguments: &[&str]) -> (String, String, Option<i32>) {
    let mut command = Command::new(PROGRAM);
    command.arg("top").args(arguments).env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
    let Output { stdout, stderr, status } = command.output().expect("it was just built");
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (stdout, stderr, status.code())
}

fn kept(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/screens").join(name);
    if env::var_os("REWRITE").is_some() {
        return fs::write(path, text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "{}: REWRITE=1 writes it", path.display());
}

/// A log that grows. It is of now: what is followed live is seen by the clock.
struct Log {
    folder: TempDir,
    began: SystemTime,
    seq: u64,
}

impl Log {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), began: SystemTime::now() - Duration::from_secs(10), seq: 0 }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("log.ndjson")
    }

    /// At so many seconds after it began, an event of Manager 1 with these fields.
    fn say(&mut self, second: u64, event: &str, level: &str, message: &str, fields: &str) {
        self.say_of(second, event, level, message, &format!(r#""distfun.manager.id":1,{fields}"#));
    }

    fn say_of(&mut self, second: u64, event: &str, level: &str, message: &str, fields: &str) {
        let time = humantime::format_rfc3339_micros(self.began + Duration::from_secs(second));
        let mut file = fs::File::options().append(true).create(true).open(self.path()).unwrap();
        writeln!(
            file,
            r#"{{"timestamp":"{time}","level":"{level}","target":"distfun::event","message":"{message}","otel.event.name":"distfun.{event}",{fields},"distfun.schema":"1.1","distfun.boot_id":"00000000-0000-4000-8000-000000000001","distfun.role":"manager","service.name":"farm","host.name":"here","process.pid":17,"distfun.seq":{}}}"#,
            self.seq
        )
        .unwrap();
        self.seq += 1;
    }

    fn begin(&mut self) {
        self.say(0, "manager.started", "INFO", "manager 1 runs", r#""distfun.workers.cpu":2"#);
        for worker in 0..2 {
            let fields = format!(r#""distfun.worker.id":{worker},"distfun.worker.generation":0"#);
            self.say(0, "worker.started", "INFO", "a worker has started", &fields);
        }
        let call = r#""distfun.job.id":7,"distfun.function.name":"farm::sow","distfun.mode":"items","distfun.items.total":100"#;
        self.say(1, "job.submitted", "INFO", "call 7: farm::sow on 100 items", call);
    }

    fn get_on(&mut self) {
        let call = r#""distfun.job.id":7,"distfun.function.name":"farm::sow","distfun.items.total":100"#;
        let fields = r#""distfun.items.done":50,"distfun.items.failed":0,"distfun.chunks.done":5,"distfun.running_s":5.0,"distfun.rate_per_s":10.0"#;
        self.say(6, "job.progress", "INFO", "call 7 gets on", &format!("{call},{fields}"));
        let chunk = r#""distfun.chunk.index":60,"distfun.chunk.items":10,"distfun.chunk.attempt":1,"distfun.worker.id":1,"distfun.worker.generation":0,"distfun.sampling_ratio":1.0"#;
        self.say(6, "chunk.started", "DEBUG", "a chunk begins", &format!("{call},{chunk}"));
    }

    fn crash(&mut self) {
        let worker =
            r#""distfun.worker.id":1,"distfun.worker.generation":1,"distfun.cause":"signal","distfun.backoff_s":0.0"#;
        self.say(8, "worker.restarted", "WARN", "worker 1 gets a new thread", worker);
    }
}

/// A detached terminal of 80 x 24 with a shell in it.
struct Terminal {
    socket: String,
}

impl Terminal {
    /// None where there is no tmux.
    fn open(name: &str) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            eprintln!("skipped: there is no tmux here");
            return None;
        }
        let this = Self { socket: format!("distfun-{}-{name}", std::process::id()) };
        // Nothing of the user's shell.
        this.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "env LC_ALL=C.UTF-8 PS1='> ' sh"]);
        this.wait_for("a prompt", |screen| screen.starts_with('>'));
        Some(this)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.env("LC_ALL", "C.UTF-8").env_remove("TMUX").env_remove("NO_COLOR").args(["-L", &self.socket]);
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn run(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press("Enter");
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn wait_for(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let since = Instant::now();
        loop {
            let screen = self.screen();
            if is_there(&screen) {
                return screen;
            }
            assert!(since.elapsed() < Duration::from_secs(20), "{what} does not come:\n{screen}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The shell is back, with the screen as it was, a cursor, and echo.
    fn is_clean_after(&self, line: &str) {
        let screen = self.wait_for("the shell", |screen| screen.contains("ended 0\n"));
        assert!(screen.starts_with("> ") && screen.contains(line) && !screen.contains("[1 overview]"), "{screen}");
        assert_eq!(self.tmux(&["display-message", "-p", "#{cursor_flag} #{alternate_on}"]).trim(), "1 0");
        self.run("clear; stty -a | tr ' ' '\\n' | grep -xc -e echo -e icanon");
        self.wait_for("echo and line editing", |screen| screen.lines().any(|line| line == "2"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.socket, "kill-server"]).output();
    }
}

/// The first line of the screen that has this in it.
fn line<'a>(screen: &'a str, part: &str) -> &'a str {
    screen.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part} in:\n{screen}"))
}

#[test]
fn it_shows_a_growing_log_heeds_keys_and_leaves_the_terminal_as_it_was() {
    let Some(terminal) = Terminal::open("grows") else { return };
    let mut log = Log::new();
    log.begin();
    let command = format!("{PROGRAM} top {}; echo ended $?", log.path().display());
    terminal.run(&command);
    let screen = terminal.wait_for("the call", |screen| screen.contains("sow"));
    assert!(screen.starts_with("[1 overview] 2 tree  3 workers"), "{screen}");
    assert_eq!(
        line(&screen, "sow "),
        "   ● 7    farm::sow      ────────   0%       0/100       -      -      0       0"
    );
    assert!(line(&screen, "live").starts_with(" ● live "), "{screen}");

    log.get_on();
    let screen = terminal.wait_for("progress", |screen| screen.contains("50%"));
    assert_eq!(
        line(&screen, "sow "),
        "   ● 7    farm::sow      ━━━━────  50%      50/100    10/s      -      0       0"
    );

    terminal.press("3");
    let screen = terminal.wait_for("workers", |screen| screen.contains("[3 workers]"));
    assert!(line(&screen, "busy  ").starts_with(" ● 1      busy"), "{screen}");
    // Its time goes on, though nothing more is written.
    let shown = || line(&terminal.screen(), "busy  ").to_owned();
    let before = shown();
    terminal.wait_for("a later time", |screen| line(screen, "busy  ") != before);

    log.crash();
    terminal.wait_for("the crash", |screen| screen.contains("◐ 1"));
    terminal.press("?");
    terminal.wait_for("help", |screen| screen.contains("any key closes this"));
    terminal.press("x");
    terminal.press("5");
    terminal.press("j");
    terminal.press("Enter");
    terminal.wait_for("details", |screen| screen.contains("call 7 of farm 17"));
    terminal.press("q");
    terminal.is_clean_after("top");
}

#[test]
fn it_reads_standard_input_and_restores_the_terminal_when_it_is_told_to_end() {
    let Some(terminal) = Terminal::open("pipe") else { return };
    let mut log = Log::new();
    log.begin();
    log.get_on();
    terminal.run(&format!("cat {} | {PROGRAM} top -; echo ended $?", log.path().display()));
    terminal.wait_for("the call", |screen| screen.contains("50%"));
    // Keys come from the terminal.
    terminal.press("5");
    terminal.wait_for("calls", |screen| screen.contains("[5 calls]"));
    terminal.press("p");
    terminal.wait_for("the freeze", |screen| screen.contains("frozen"));
    let pid = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]);
    let children = Command::new("pgrep").args(["-P", pid.trim(), "-x", "distfun"]).output();
    match children {
        Ok(children) => {
            let child = String::from_utf8(children.stdout).unwrap();
            assert!(Command::new("kill").args(["-TERM", child.trim()]).status().unwrap().success());
        }
        Err(_) => terminal.press("q"),
    }
    terminal.is_clean_after("cat");
}

/// It waited for keys of a terminal that was gone, for ever, and with all of a CPU.
#[cfg(target_os = "linux")]
#[test]
fn it_ends_with_its_terminal() {
    let Some(terminal) = Terminal::open("gone") else { return };
    terminal.run(&format!("exec {PROGRAM} top --demo"));
    terminal.wait_for("the first screen", |screen| screen.contains("[1 overview]"));
    let pid = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]);
    drop(terminal);
    let process = PathBuf::from(format!("/proc/{}", pid.trim()));
    let since = Instant::now();
    while process.exists() {
        assert!(since.elapsed() < Duration::from_secs(5), "it goes on");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let (stdout, stderr, status) = top(&["--demo"]);
    assert_eq!((stdout.as_str(), status), ("", Some(2)));
    assert_eq!(stderr, "distfun top: there is no terminal here; `--once` prints one screen as text\n");
}

#[test]
fn a_log_that_can_not_be_read_is_named() {
    for arguments in [&["--once", "/missing"][..], &["--once", "/dev/null"]] {
        let (stdout, stderr, status) = top(arguments);
        assert_eq!((stdout.as_str(), status), ("", Some(1)));
        assert!(stderr.starts_with("distfun top: the log "), "{stderr}");
    }
    let (_, stderr, status) = top(&[]);
    assert!(stderr.contains("<LOG>"), "{stderr}");
    assert_eq!(status, Some(2));
}

#[test]
fn once_prints_the_story_as_the_readme_shows_it() {
    let (stdout, stderr, status) = top(&["--demo", "--once", "--at", "20"]);
    assert_eq!((stderr.as_str(), status), ("", Some(0)));
    kept("once.txt", &stdout);
    assert_eq!(top(&["--demo", "--once"]).0, stdout);
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    assert!(readme.contains(&stdout), "the README shows another screen than this:\n{stdout}");
}

#[test]
fn once_has_the_size_and_the_screen_that_are_asked_for() {
    let mut log = Log::new();
    log.begin();
    let path = log.path();
    let (stdout, ..) = top(&["--once", "--screen", "calls", "--width", "60", "--height", "7", path.to_str().unwrap()]);
    assert_eq!(stdout.lines().count(), 7);
    assert!(stdout.lines().all(|line| line.chars().count() <= 60), "{stdout}");
    assert!(stdout.contains("[5 calls]") && stdout.contains("farm::sow"), "{stdout}");
    // In a terminal that knows ASCII only.
    let output = Command::new(PROGRAM).args(["top", "--once"]).arg(&path).env("LC_ALL", "C").output().unwrap();
    assert!(output.stdout.is_ascii());
}

#[test]
fn it_is_told_what_has_a_gpu() {
    let mut log = Log::new();
    for manager in [1, 2] {
        for (worker, kind) in [(0, "cpu"), (12, "gpu")] {
            let fields = format!(
                r#""distfun.manager.id":{manager},"distfun.worker.id":{worker},"distfun.worker.generation":0,"distfun.worker.kind":"{kind}""#
            );
            log.say_of(0, "worker.started", "INFO", "a worker has started", &fields);
        }
    }
    let node = r#""distfun.node.id":0,"distfun.machine":"bob","distfun.node.name":"bob","distfun.workers.total":2,"distfun.workers.gpu":3"#;
    log.say(1, "node.connected", "INFO", "bob is connected", node);
    let judged = r#""distfun.gpu.policy":"mixed","distfun.placement":"both""#;
    log.say(1, "placement.judged", "INFO", "all workers get work", judged);
    let (path, screen) = (log.path(), |name| ["--once", "--screen", name, "--width", "80", "--height", "12"]);
    let shown = |name| top(&[&screen(name)[..], &[path.to_str().unwrap()]].concat()).0;
    assert!(shown("workers").contains(" m2 w12 gpu "), "{}", shown("workers"));
    let nodes = shown("nodes");
    assert!(nodes.contains(" gpus ") && nodes.contains(" 0/5    3 "), "{nodes}");
    let status = Command::new(PROGRAM).arg("status").arg(&path).output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    let expected = "manager 1: 0 of 2 workers busy (1 on GPUs), 1 of 1 machines connected, with 3 GPUs";
    assert!(status.contains(expected), "{status}");
}
