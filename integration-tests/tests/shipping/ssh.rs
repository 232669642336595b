//! Machines by ssh, against a real server of it on loopback, which is started for the test.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use distfun::{Ending, distribute};
use tempfile::TempDir;

use super::square;
use crate::{
    programs::{example, program},
    support::{END_WITHIN, alone_with, eventually},
};

/// A server with a key and a host of its own. None where there is no such program.
struct Server {
    process: Child,
    dir: TempDir,
    port: u16,
}

fn sshd() -> Option<PathBuf> {
    ["/usr/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd"].into_iter().map(PathBuf::from).find(|path| path.exists())
}

impl Server {
    /// Logins find programs in `path` only.
    fn start(path: &Path) -> Option<Self> {
        let Some(sshd) = sshd() else {
            assert!(std::env::var_os("SSH_MUST_RUN").is_none(), "no sshd is installed");
            eprintln!("skipped: no sshd is installed");
            return None;
        };
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let file = |name: &str| dir.path().join(name).display().to_string();
        for name in ["host", "key"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &file(name)]).status();
            assert!(made.unwrap().success());
        }
        fs::copy(file("key.pub"), file("authorized")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nPidFile none\nAuthorizedKeysFile {}\nStrictModes no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPermitRootLogin yes\n\
             SetEnv PATH={}:/usr/bin:/bin DISTFUN_CACHE={}\n",
            file("host"),
            file("authorized"),
            path.display(),
            file("cache"),
        );
        fs::write(file("config"), config).unwrap();
        let _ = fs::create_dir_all("/run/sshd"); // it wants one, where it runs as root
        let mut server = Command::new(sshd);
        let process = server.args(["-D", "-e", "-f", &file("config")]).stderr(Stdio::null()).spawn().unwrap();
        eventually(Duration::from_secs(5), "sshd listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Self { process, dir, port })
    }

    /// How it is reached.
    fn command(&self) -> String {
        let key = self.dir.path().join("key").display().to_string();
        let port = self.port;
        format!(
            "ssh -F none -p {port} -i {key} -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
             -o LogLevel=ERROR"
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Processes whose command line has these words.
fn running(words: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let lines = all.map(|entry| fs::read(entry.path().join("cmdline")).unwrap_or_default());
    lines.filter(|line| String::from_utf8_lossy(line).replace('\0', " ").contains(words)).count()
}

#[test]
fn a_machine_by_ssh_computes_and_leaves_nothing_behind() {
    let command = program("distfun").parent().map(Path::to_owned).unwrap();
    let Some(server) = Server::start(&command) else { return };
    let output = example("shipped").arg("ssh:127.0.0.1*1").env("DISTFUN_SSH", server.command()).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stdout, "sum of digits 10017, in a plain loop 10017\n");
    let left = || running(&format!("-p {} ", server.port));
    eventually(END_WITHIN, "ssh and the node have ended", || left() == 0);
    // On a line of the shell there; others of this name may be other tests'.
    let kept = fs::read_dir(server.dir.path().join("cache")).unwrap().count();
    assert_eq!(kept, 1, "the program, for the next time");
}

#[test]
fn a_machine_by_ssh_without_distfun_says_so() {
    let Some(server) = Server::start(Path::new("/nowhere")) else { return };
    let ssh = server.command();
    alone_with(&[("DISTFUN_SSH", ssh.as_ref())], || {
        let dfun = distribute!(square).max_cpu(0).machines(["ssh:127.0.0.1"]).build().unwrap();
        let error = dfun.map([1.0]).wait().unwrap_err();
        let text = error.to_string();
        assert_eq!(error.ending, Ending::NoWorkers, "{text}");
        assert!(text.contains("not found") && text.contains("install distfun there"), "{text}");
    });
}

#[test]
fn a_machine_by_ssh_that_lets_nobody_in_says_so() {
    alone_with(&[("DISTFUN_SSH", "ssh -F none -p 9 -o ConnectTimeout=2".as_ref())], || {
        let dfun = distribute!(square).max_cpu(0).machines(["ssh:127.0.0.1"]).build().unwrap();
        let text = dfun.map([1.0]).wait().unwrap_err().to_string();
        assert!(text.contains("no node by ssh at 127.0.0.1: ssh: connect to host"), "{text}");
    });
}

#[test]
fn without_ssh_it_says_so() {
    alone_with(&[("DISTFUN_SSH", "no-such-program".as_ref())], || {
        let dfun = distribute!(square).max_cpu(0).machines(["ssh:bob"]).build().unwrap();
        let text = dfun.map([1.0]).wait().unwrap_err().to_string();
        assert!(text.contains("no-such-program can't be started"), "{text}");
    });
}
