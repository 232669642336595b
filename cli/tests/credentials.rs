//! `distfun init`, `token`, `join`, `revoke` and `doctor`, as a shell sees them.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

/// A machine: a home of its own.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_distfun"));
        let others = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DISTFUN_"));
        for (name, _) in others {
            command.env_remove(name);
        }
        command.args(words).current_dir(self.0.path());
        command.env("HOME", self.0.path()).env("XDG_STATE_HOME", self.0.path().join("state"));
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("it starts")
    }

    #[track_caller]
    fn succeeds(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    #[track_caller]
    fn fails(&self, words: &[&str], code: i32) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", said(&output));
        said(&output)
    }

    fn credentials(&self) -> PathBuf {
        self.0.path().join("state/distfun/credentials")
    }

    /// Waits for machines; and what they are to type.
    fn wait_for_machines(&self, words: &[&str]) -> (Child, String) {
        let words = [&["token", "--address", "127.0.0.1:0"], words].concat();
        let mut waiting =
            self.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(waiting.stdout.as_mut().expect("it is piped")).read_line(&mut line).expect("UTF-8");
        (waiting, line.trim().to_owned())
    }
}

fn said(output: &Output) -> String {
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{stdout}{stderr}")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("it is there").file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn two_commands_make_a_machine_known() {
    let (bob, ann) = (Machine::new(), Machine::new());
    let made = bob.succeeds(&["init", "--name", "bob"]);
    assert!(made.contains("this machine is bob, manager and node of cluster"), "{made}");
    assert!(made.contains("`distfun token`"), "{made}");
    let (waiting, line) = bob.wait_for_machines(&["--ttl", "30s"]);
    let token = line.strip_prefix("distfun join ").expect("it says what to type");
    let joined = ann.succeeds(&["join", token, "--name", "ann"]);
    assert!(joined.contains("this machine is ann, node of cluster") && joined.contains("distfun node"), "{joined}");
    let output = waiting.wait_with_output().expect("it ends");
    assert!(output.status.success());
    assert!(said(&output).contains("ann has joined, from 127.0.0.1"), "{}", said(&output));
    assert_eq!(names(&ann.credentials()), ["ca.pem", "node.pem", "revoked.pem"], "no more than a node needs");
    let again = ann.fails(&["join", token], 1);
    assert!(again.contains("`distfun token` must still be waiting there"), "{again}");

    // Two machines of one name could not be told apart, least of all these two.
    let (mut other, line) = bob.wait_for_machines(&[]);
    let token = line.strip_prefix("distfun join ").expect("it says what to type");
    assert!(ann.fails(&["join", token, "--name", "bob"], 1).contains("the name of this machine itself"));
    assert!(ann.succeeds(&["join", token]).starts_with("this machine is ann"), "by its name of before");
    assert!(other.wait().expect("it ends").success());

    // Done again, it renews; and where the authority is not, it says so.
    assert!(bob.succeeds(&["init"]).starts_with("renewed: "));
    assert!(ann.fails(&["init"], 1).contains("whose authority is on another machine"));
    assert!(ann.fails(&["token"], 1).contains("run this where `distfun init` was run"));

    let revoked = bob.succeeds(&["revoke", "ann"]);
    assert!(revoked.starts_with("revoked: ann as a node"), "{revoked}");
    assert!(bob.fails(&["revoke", "ann"], 1).contains("no machine ann"));
}

#[test]
fn a_token_may_be_for_managers_for_many_and_come_by_a_pipe() {
    let (bob, ann) = (Machine::new(), Machine::new());
    bob.succeeds(&["init"]);
    let (mut waiting, line) =
        bob.wait_for_machines(&["--role", "manager", "--uses", "2", "--ttl", "2s", "--days", "7"]);
    let mut join = ann.command(&["join", "-", "--name", "ann"]);
    let mut join = join.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    join.stdin.take().expect("it is piped").write_all(line.as_bytes()).expect("it reads");
    assert!(join.wait().expect("it ends").success());
    assert_eq!(names(&ann.credentials()), ["ca.pem", "manager.pem", "revoked.pem"]);
    assert!(ann.succeeds(&["doctor"]).contains("soon  as manager  ann, valid until"));
    // Nobody else comes.
    assert_eq!(waiting.wait().expect("it ends").code(), Some(1));
    let mut stderr = String::new();
    waiting.stderr.take().expect("it is piped").read_to_string(&mut stderr).expect("UTF-8");
    assert!(stderr.contains("1 of 2 machines have joined in this time"), "{stderr}");
}

#[test]
fn what_can_not_be_is_said() {
    let ann = Machine::new();
    assert!(ann.fails(&["join", "dfj1.secret"], 1).contains("this is no token"));
    assert!(!ann.fails(&["join", "dfj1.secret"], 1).contains("secret"));
    assert!(ann.fails(&["token"], 1).contains("run this where `distfun init` was run"));
    ann.fails(&["token", "--uses", "0"], 2);
    assert!(ann.fails(&["init", "--name", "a b"], 1).contains("\"a b\" is no name for a machine"));
    ann.fails(&["join"], 2);
    // A slip in the name of a variable would have them look elsewhere.
    for command in ["init", "token", "doctor"] {
        let output = ann.command(&[command]).env("DISTFUN_CREDENTIAL", "/elsewhere").output().expect("it starts");
        let said = said(&output);
        assert!(output.status.code() == Some(1) && said.contains("did you mean DISTFUN_CREDENTIALS?"), "{said}");
    }
    for command in ["init", "token", "join", "revoke", "doctor"] {
        assert!(ann.succeeds(&[command, "--help"]).contains("Exit status"), "{command}");
    }
}

#[test]
fn an_address_that_others_reach_needs_credentials_and_says_what_to_type() {
    let ann = Machine::new();
    let no = ann.fails(&["node", "--listen", "0.0.0.0", "--allow-ship"], 1);
    for command in ["distfun init", "distfun token", "distfun join"] {
        assert!(no.contains(command), "{no}");
    }
    ann.succeeds(&["init"]);
    let no = ann.fails(&["node", "--listen", "0.0.0.0:0"], 1);
    assert!(no.contains("--allow-ship"), "{no}");
}

#[cfg(unix)]
#[test]
fn the_doctor_finds_what_is_wrong() {
    use std::os::unix::fs::PermissionsExt;
    let ann = Machine::new();
    let fine = ann.succeeds(&["doctor"]);
    assert!(fine.contains("ok    cluster     none") && !fine.contains("WRONG"), "{fine}");
    ann.succeeds(&["init", "--name", "ann"]);
    let fine = ann.succeeds(&["doctor"]);
    assert!(fine.contains("its key is here; 2 certificates issued, 0 of them revoked"), "{fine}");
    assert!(fine.contains("ok    as node     ann, valid until"), "{fine}");
    let node = ann.credentials().join("node.pem");
    fs::set_permissions(&node, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let wrong = ann.fails(&["doctor"], 1);
    assert!(wrong.contains("WRONG as node") && wrong.contains("chmod 600"), "{wrong}");
    fs::set_permissions(&node, fs::Permissions::from_mode(0o600)).expect("it is ours");
    assert!(ann.fails(&["revoke", "ann", "--role", "node"], 1).contains("--even-this"));
    ann.succeeds(&["revoke", "ann", "--role", "node", "--even-this"]);
    let wrong = ann.fails(&["doctor"], 1);
    assert!(wrong.contains("its certificate was revoked"), "{wrong}");
    assert!(ann.succeeds(&["init"]).starts_with("renewed: this machine is ann,"), "by its name of before");
    ann.succeeds(&["doctor"]);
    let issued = ann.credentials().join("issued");
    fs::rename(&issued, ann.credentials().join("away")).unwrap();
    assert!(ann.fails(&["doctor"], 1).contains("issued is missing"));
    fs::rename(ann.credentials().join("away"), &issued).unwrap();
    let list = ann.credentials().join("revoked.pem");
    fs::rename(&list, ann.credentials().join("away")).unwrap();
    assert!(ann.fails(&["doctor"], 1).contains("revoked.pem is missing"));
    fs::rename(ann.credentials().join("away"), &list).unwrap();
    fs::write(ann.credentials().join("revoked.pem"), "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
        .unwrap();
    assert!(ann.fails(&["doctor"], 1).contains("is no list of this authority's"));
}
