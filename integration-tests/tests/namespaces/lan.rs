//! Hosts in network namespaces of this machine, each with a cable to one switch. Cables are cut, healed and slowed.

use std::{
    fs, io,
    net::Ipv4Addr,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::SystemTime,
};

use distfun_net::{
    handshake::Side,
    tls::{
        Files,
        authority::{Authority, LIFE},
    },
};

/// What all names of ours begin with; the process that made them and a number follow.
const PREFIX: &str = "distfun-";

/// A host of the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// Where the story itself runs.
    M,
    A,
    B,
}

impl Host {
    const ALL: [Self; 3] = [Self::M, Self::A, Self::B];

    /// M is nearer to [`DEAD`] than B is, so that resolvers name the dead address first (RFC 6724, rule 9).
    pub(crate) fn address(self) -> Ipv4Addr {
        let last = match self {
            Self::M => 16,
            Self::A => 130,
            Self::B => 131,
        };
        Ipv4Addr::new(10, 77, 0, last)
    }

    fn label(self) -> &'static str {
        match self {
            Self::M => "host-m",
            Self::A => "host-a",
            Self::B => "host-b",
        }
    }
}

/// An address of the network at which nobody is.
pub(crate) const DEAD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 17);

/// A network, known by its name.
#[derive(Debug, Clone)]
pub(crate) struct Lan {
    pub(crate) name: String,
}

impl Lan {
    /// Why there can't be any; None if there can.
    pub(crate) fn trouble() -> Option<String> {
        let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        if !is_root {
            return Some("they need root".into());
        }
        let name = format!("{PREFIX}{}-try-switch", std::process::id());
        let tries: [&[&str]; 3] = [
            &["ip", "netns", "add", &name],
            &["ip", "-n", &name, "link", "add", "one", "type", "veth", "peer", "name", "other"],
            &[
                "tc", "-n", &name, "qdisc", "add", "dev", "one", "root", "tbf", "rate", "1mbit", "burst", "16kb",
                "latency", "1s",
            ],
        ];
        let trouble = tries.iter().find_map(|words| output(words).err());
        let _ = output(&["ip", "netns", "del", &name]);
        trouble
    }

    /// Deletes what runs have left behind whose process is gone.
    pub(crate) fn sweep() {
        let all = output(&["ip", "netns", "list"]).unwrap_or_default();
        for name in all.lines().filter_map(|line| line.split_whitespace().next()) {
            let Some((pid, rest)) = name.strip_prefix(PREFIX).and_then(|name| name.split_once('-')) else { continue };
            if let Some((number, _)) = rest.split_once('-')
                && !Path::new("/proc").join(pid).exists()
            {
                Self { name: format!("{PREFIX}{pid}-{number}") }.delete();
            }
        }
    }

    /// A new network, until the guard is dropped.
    pub(crate) fn build_one() -> LanGuard {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let guard = LanGuard(Self { name });
        guard.0.build();
        guard
    }

    fn build(&self) {
        let _ = fs::remove_dir_all(self.dir()); // of an old process of the same number
        fs::DirBuilder::new().mode(0o700).create(self.dir()).expect("a directory");
        let authority = Authority::create(Files::at(self.dir().join("credentials"))).expect("an authority");
        for role in [Side::Manager, Side::Node] {
            authority.issue_here(role, "any", LIFE).expect("a certificate");
        }
        let switch = self.switch();
        run(&["ip", "netns", "add", &switch]);
        run(&["ip", "-n", &switch, "link", "add", "switch", "type", "bridge"]);
        run(&["ip", "-n", &switch, "link", "set", "switch", "up"]);
        for host in Host::ALL {
            let (namespace, port) = (self.namespace(host), host.label());
            run(&["ip", "netns", "add", &namespace]);
            run(&[
                "ip", "-n", &switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
            ]);
            run(&["ip", "-n", &switch, "link", "set", port, "master", "switch", "up"]);
            let address = format!("{}/24", host.address());
            run(&["ip", "-n", &namespace, "address", "add", &address, "dev", "eth0"]);
            run(&["ip", "-n", &namespace, "link", "set", "lo", "up"]);
            run(&["ip", "-n", &namespace, "link", "set", "eth0", "up"]);
        }
        // These take the place of the files in /etc for what is run on M.
        let etc = self.etc();
        fs::create_dir_all(&etc).expect("a directory");
        let hosts = format!("127.0.0.1 localhost\n{DEAD} node-b\n{} node-b\n", Host::B.address());
        fs::write(etc.join("hosts"), hosts).expect("it can be written");
        fs::write(etc.join("host.conf"), "multi on\n").expect("it can be written");
    }

    fn delete(&self) {
        let namespaces = Host::ALL.map(|host| self.namespace(host)).into_iter().chain([self.switch()]);
        for namespace in namespaces {
            // Only the network's own processes are in there.
            for pid in output(&["ip", "netns", "pids", &namespace]).unwrap_or_default().lines() {
                // The shell's own, since not every machine has another.
                let _ = output(&["sh", "-c", &format!("kill -9 {pid}")]);
            }
            let _ = output(&["ip", "netns", "del", &namespace]);
        }
        let _ = fs::remove_dir_all(self.etc());
        let _ = fs::remove_dir_all(self.dir());
    }

    /// Where its processes keep what they need.
    pub(crate) fn dir(&self) -> PathBuf {
        std::env::temp_dir().join(&self.name)
    }

    fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(self.namespace(Host::M))
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    fn namespace(&self, host: Host) -> String {
        format!("{}-{}", self.name, host.label())
    }

    /// A program on a host.
    pub(crate) fn command(&self, host: Host, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host)]).arg(program);
        command
    }

    /// Runs a program on a host; what it says, or why it failed.
    pub(crate) fn run(&self, host: Host, words: &[&str]) -> Result<String, String> {
        let namespace = self.namespace(host);
        output(&[&["ip", "netns", "exec", &namespace], words].concat())
    }

    /// Pulls the cable of a host; the time just before.
    pub(crate) fn cut(&self, host: Host) -> SystemTime {
        let before = SystemTime::now();
        run(&["ip", "-n", &self.switch(), "link", "set", host.label(), "down"]);
        before
    }

    /// Puts it in again.
    pub(crate) fn heal(&self, host: Host) {
        run(&["ip", "-n", &self.switch(), "link", "set", host.label(), "up"]);
    }

    /// From now on the cable of a host carries so much (`10mbit`), each way, and what waits in its buffers up to a second.
    pub(crate) fn slow_down(&self, host: Host, rate: &str) {
        for (namespace, port) in [(self.switch(), host.label()), (self.namespace(host), "eth0")] {
            let shape = ["root", "tbf", "rate", rate, "burst", "32kb", "latency", "1s"];
            run(&[&["tc", "-n", &namespace, "qdisc", "replace", "dev", port], &shape[..]].concat());
        }
    }

    /// Bytes that M, where the caller is, has sent.
    pub(crate) fn bytes_sent() -> u64 {
        let text = fs::read_to_string("/sys/class/net/eth0/statistics/tx_bytes").expect("M has one cable");
        text.trim().parse().expect("a number")
    }
}

/// Deletes the network, its processes and its files when it is dropped.
pub(crate) struct LanGuard(pub(crate) Lan);

impl Drop for LanGuard {
    fn drop(&mut self) {
        self.0.delete();
    }
}

fn output(words: &[&str]) -> Result<String, String> {
    let told = || words.join(" ");
    let output = match Command::new(words[0]).args(&words[1..]).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("there is no program {}", words[0]));
        }
        Err(error) => return Err(format!("{}: {error}", told())),
        Ok(output) => output,
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{}: {}", told(), String::from_utf8_lossy(&output.stderr).trim()))
}

#[track_caller]
fn run(words: &[&str]) {
    if let Err(trouble) = output(words) {
        panic!("{trouble}");
    }
}
