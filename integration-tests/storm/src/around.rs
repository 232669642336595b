//! Around the storm: starts it in a process of its own, and looks at what it leaves.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::process::Signal;

use crate::{linux::Arguments, logs, processes};

/// Set in the process of the storm: the directory for all that it writes.
pub(crate) const DIR: &str = "STORM_DIR";

/// The Manager's log, in that directory.
pub(crate) const LOG: &str = "manager.ndjson";

/// Beyond the time for faults: what a storm may take at most.
const EXTRA: Duration = Duration::from_secs(300);

/// Processes that were killed are gone after that.
const GONE_WITHIN: Duration = Duration::from_secs(2);

pub(crate) fn run(mut arguments: Arguments) -> ExitCode {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = *arguments.seed.get_or_insert(now.as_millis() as u64 % 1_000_000);
    println!("seed {seed}, {} seconds, a fault every {} ms", arguments.seconds, arguments.fault_every);
    let begun = Instant::now();
    let dir = env::temp_dir().join(format!("distfun-storm-{}", std::process::id()));
    match storm(&arguments, seed, &dir) {
        Ok(()) => {
            told_by_log(&dir);
            let _ = fs::remove_dir_all(&dir);
            println!("seed {seed}: every law held, in {:.0?}", begun.elapsed());
            ExitCode::SUCCESS
        }
        Err(why) => {
            let Arguments { seconds, fault_every, only, .. } = &arguments;
            let only = only.as_ref().map_or_else(String::new, |only| format!(" --only '{only}'"));
            println!("{why}\nWhat it has written is in {}. Once more:", dir.display());
            println!(
                "  cargo run --release -p distfun-storm -- --seed {seed} --seconds {seconds} --fault-every {fault_every}{only}"
            );
            ExitCode::FAILURE
        }
    }
}

fn storm(arguments: &Arguments, seed: u64, dir: &Path) -> Result<(), String> {
    for name in ["tmp", "home", "run"] {
        fs::create_dir_all(dir.join(name)).map_err(|error| format!("{}: {error}", dir.display()))?;
    }
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let mut inside = Command::new(program);
    #[cfg(feature = "cuda")]
    let driver = distfun_integration_tests::driver::driver("several_devices", &[("LOSE_ONE_IN", 300)]);
    #[cfg(feature = "cuda")]
    inside.env("LD_LIBRARY_PATH", driver.path()).env("VK_DRIVER_FILES", "/nowhere");
    inside.args(["--seed", &seed.to_string(), "--seconds", &arguments.seconds.to_string()]);
    inside.args(["--fault-every", &arguments.fault_every.to_string()]);
    if let Some(only) = &arguments.only {
        inside.args(["--only", only]);
    }
    if let Some(distfun) = &arguments.distfun {
        inside.arg("--distfun").arg(fs::canonicalize(distfun).map_err(|error| error.to_string())?);
    }
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"DISTFUN_")) {
        inside.env_remove(name);
    }
    inside.current_dir(dir).env(DIR, dir).env("TMPDIR", dir.join("tmp")).env("DISTFUN_COOKIE", dir.join("cookie"));
    for (name, path) in [("HOME", "home"), ("XDG_RUNTIME_DIR", "run")] {
        inside.env(name, dir.join(path));
    }
    for name in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"] {
        inside.env_remove(name);
    }
    let mut inside = inside.spawn().map_err(|error| error.to_string())?;
    let until = Instant::now() + arguments.time() + EXTRA;
    let status = loop {
        match inside.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break Ok(status),
            None if Instant::now() > until => {
                let _ = (inside.kill(), inside.wait());
                break Err("the storm does not end".to_owned());
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    let left = processes_left(dir);
    match status?.success() {
        true => left.and_then(|()| files_left(dir)).and_then(|()| logs::check(dir)),
        false => Err("the storm has broken a law, as it says above".into()),
    }
}

/// Ends them too.
fn processes_left(dir: &Path) -> Result<(), String> {
    let since = Instant::now();
    loop {
        let left = processes::of_storm(dir);
        if left.is_empty() {
            return Ok(());
        }
        if since.elapsed() > GONE_WITHIN {
            let all: Vec<_> = left.iter().map(|process| process.describe()).collect();
            left.iter().for_each(|process| {
                process.signal(Signal::KILL);
            });
            return Err(format!("processes are left: {}", all.join(", ")));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whatever is not a log, the cookie or in a node's cache: temporary files, sockets.
fn files_left(dir: &Path) -> Result<(), String> {
    let mut left = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_kept = ["cache", "cookie", "log", "events", LOG].iter().any(|name| entry.file_name() == *name);
            match entry.file_type() {
                _ if is_kept => {}
                Ok(kind) if kind.is_dir() => folders.push(path),
                _ => left.push(path),
            }
        }
    }
    let shown = |path: &PathBuf| path.display().to_string();
    match left.is_empty() {
        true => Ok(()),
        false => Err(format!("files are left: {}", left.iter().map(shown).collect::<Vec<_>>().join(", "))),
    }
}

/// What the Manager's log says of it.
fn told_by_log(dir: &Path) {
    let log = fs::read_to_string(dir.join(LOG)).unwrap_or_default();
    let times = |event: &str| log.lines().filter(|line| line.contains(event)).count();
    let retries = log.lines().filter_map(|line| {
        let number = line.split("\"distfun.retries\":").nth(1)?;
        number.split([',', '}']).next()?.parse::<u64>().ok()
    });
    let figures = [
        ("distfun.node.connected", "times a node was connected"),
        ("distfun.node.lost", "times it was lost"),
        ("distfun.worker.restarted", "slots of this machine were restarted"),
    ];
    for (event, what) in figures {
        println!("{:>12}  {what}", times(&format!("\"{event}\"")));
    }
    println!("{:>12}  items were tried again", retries.sum::<u64>());
}
