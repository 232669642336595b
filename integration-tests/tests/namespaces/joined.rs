//! Hosts that know nothing become machines of one cluster, by tokens, and run a program that they never saw.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
};

use crate::{
    functions::machine,
    lan::{Host, Lan},
    process::on_a_network,
    programs::{example, program},
};

/// Ends with the story, however that ends.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> (Self, String) {
        let mut running = Self(command.stdout(Stdio::piped()).spawn().expect("it starts"));
        let mut said = String::new();
        BufReader::new(running.0.stdout.as_mut().expect("it is piped")).read_line(&mut said).expect("UTF-8");
        (running, said.trim().to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// A program on a host, which has its own of everything.
fn on(lan: &Lan, host: Host, name: &str, words: &[&str]) -> Command {
    let own = lan.dir().join(format!("own-{host:?}"));
    let mut command = lan.command(host, program(name));
    command.args(words).env("DISTFUN_COOKIE", own.join("cookie")).env("DISTFUN_CACHE", own.join("cache"));
    command.env("DISTFUN_CREDENTIALS", own.join("credentials"));
    command
}

fn output(mut command: Command) -> Output {
    command.output().expect("it starts")
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn succeeds(command: Command) -> String {
    let Output { status, stdout, stderr } = output(command);
    assert!(status.success(), "{}{}", said(&stdout), said(&stderr));
    said(&stdout)
}

/// What is said by one that must fail, and not by its command line.
#[track_caller]
fn fails(command: Command) -> String {
    let Output { status, stdout, stderr } = output(command);
    let all = format!("{}{}", said(&stdout), said(&stderr));
    assert_eq!(status.code(), Some(1), "{all}");
    all
}

#[test]
fn hosts_that_joined_by_a_token_run_a_program_that_they_never_saw() {
    let alone = succeeds(example("shipped")); // built before the story's time begins
    on_a_network(|lan| {
        let (a, b) = (machine(Host::A), machine(Host::B));
        let serve = |host: Host| {
            let (node, line) =
                Running::start(on(lan, host, "distfun", &["node", "--listen", &machine(host), "--allow-ship"]));
            assert!(line.contains(" serves at "), "{line}");
            node
        };
        let check = |from: Host, machine: &str| output(on(lan, from, "distfun", &["machines", "check", machine]));

        // Nobody has credentials: no host listens, and none is trusted.
        let refusal = fails(on(lan, Host::A, "distfun", &["node", "--listen", &a, "--allow-ship"]));
        for command in ["distfun init", "distfun token", "distfun join"] {
            assert!(refusal.contains(command), "{refusal}");
        }
        succeeds(on(lan, Host::M, "distfun", &["init"]));
        let join = |host: Host, name: &str| {
            let listen = machine(Host::M);
            let (mut waiting, command) = Running::start(on(lan, Host::M, "distfun", &["token", "--address", &listen]));
            let token = command.strip_prefix("distfun join ").expect("it says what to type");
            succeeds(on(lan, host, "distfun", &["join", token, "--name", name]));
            assert!(waiting.0.wait().expect("it ends").success(), "as many have joined as may");
            // Once only.
            fails(on(lan, Host::B, "distfun", &["join", token, "--name", "eve", "--credentials", "/nowhere"]));
        };
        join(Host::A, "ann");
        join(Host::B, "bert");
        assert!(fails(on(lan, Host::A, "distfun", &["node", "--listen", &a])).contains("--allow-ship"));
        let nodes = [serve(Host::A), serve(Host::B)];

        assert_eq!(succeeds(on(lan, Host::M, "shipped", &[&a, &b])), alone);
        // A node's certificate is not that of a Manager.
        let no = check(Host::B, &a);
        assert!(
            !no.status.success() && said(&no.stdout).contains("distfun token --role manager"),
            "{}",
            said(&no.stdout)
        );

        succeeds(on(lan, Host::M, "distfun", &["revoke", "bert"]));
        let no = check(Host::M, &b);
        assert!(!no.status.success() && said(&no.stdout).contains("was revoked"), "{}", said(&no.stdout));
        assert!(check(Host::M, &a).status.success());
        assert_eq!(succeeds(on(lan, Host::M, "shipped", &[&a])), alone);
        assert!(fails(on(lan, Host::M, "shipped", &[&b])).contains("was revoked"));
        drop(nodes);
    });
}
