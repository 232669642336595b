//! `distfun doctor`: what keeps this machine from working with others.

use std::{
    fs,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::Args;
use distfun::Manager;
use distfun_net::{
    DEFAULT_PORT, VERSION,
    handshake::Side,
    identity::{self, Cookie},
    tls::{Credentials, CredentialsError, Files, Watched, authority::Authority},
};

use crate::credentials::{Place, day, say};

/// Before a certificate ends, people are told.
const EARLY: Duration = Duration::from_secs(14 * 86_400);

/// Looks at versions, secrets, certificates, the clock and who listens, and says what to do about what is wrong.
#[derive(Args)]
#[command(after_help = "Exit status: 0 if nothing is wrong, 1 if something is.")]
pub(crate) struct Flags {
    #[command(flatten)]
    place: Place,
}

/// How it stands.
enum State {
    Fine,
    Soon,
    Wrong,
}

struct Finding(&'static str, State, String);

pub(crate) fn run(flags: Flags) -> ExitCode {
    let files = flags.place.files();
    let mut findings = vec![version(), cookie()];
    if let Err(error) = Manager::builder().settings() {
        findings.push(Finding("settings", State::Wrong, error.to_string()));
    }
    findings.extend(credentials(&files));
    findings.extend(listeners(&files));
    for Finding(about, state, text) in &findings {
        let mark = match state {
            State::Fine => "ok   ",
            State::Soon => "soon ",
            State::Wrong => "WRONG",
        };
        say!("{mark} {about:<11} {text}");
    }
    match findings.iter().any(|Finding(_, state, _)| matches!(state, State::Wrong)) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn version() -> Finding {
    let text = format!("distfun {}, protocol {VERSION}; peers must speak the same", env!("CARGO_PKG_VERSION"));
    Finding("version", State::Fine, text)
}

fn cookie() -> Finding {
    let path = identity::default_path();
    match Cookie::load(&path) {
        Ok(Some(_)) => Finding("cookie", State::Fine, format!("{}, for this machine", path.display())),
        Ok(None) => Finding("cookie", State::Fine, format!("none yet; {} is made when it is needed", path.display())),
        Err(error) => Finding("cookie", State::Wrong, error.to_string()),
    }
}

fn credentials(files: &Files) -> Vec<Finding> {
    let mut findings = Vec::new();
    match files.cluster() {
        Err(error) => findings.push(Finding("cluster", State::Wrong, error.to_string())),
        Ok(None) => {
            let text = format!(
                "none in {}: other machines are reached by tunnels or ssh: only; `distfun init` or `distfun join` changes that",
                files.dir().display()
            );
            findings.push(Finding("cluster", State::Fine, text));
        }
        Ok(Some(cluster)) => {
            findings.push(Finding("cluster", State::Fine, format!("{cluster}, in {}", files.dir().display())))
        }
    }
    match Authority::open(files.clone()) {
        Err(error) => findings.push(Finding("authority", State::Wrong, error.to_string())),
        Ok(None) => {}
        Ok(Some(authority)) => findings.push(match authority.issued() {
            Err(error) => Finding("authority", State::Wrong, error.to_string()),
            Ok(_) if !matches!(authority.is_published(), Ok(true)) => {
                let text =
                    "not all that was revoked is on the list that others believe: run `distfun init`, which mends that";
                Finding("authority", State::Wrong, text.into())
            }
            Ok(issued) => {
                let revoked = issued.iter().filter(|known| known.is_revoked).count();
                let text = format!("its key is here; {} certificates issued, {revoked} of them revoked", issued.len());
                Finding("authority", State::Fine, text)
            }
        }),
    }
    findings.extend([Side::Manager, Side::Node].into_iter().filter_map(|role| own(files, role)));
    findings
}

fn own(files: &Files, role: Side) -> Option<Finding> {
    let about = match role {
        Side::Manager => "as manager",
        Side::Node => "as node",
    };
    let (state, text) = match Credentials::load(files, role) {
        Ok(None) => return None,
        Err(error @ CredentialsError::OutOfTime { .. }) => {
            (State::Wrong, format!("{error}; it is {} by this machine's clock", day(SystemTime::now())))
        }
        Err(error) => (State::Wrong, error.to_string()),
        Ok(Some(own)) => {
            let facts = own.facts();
            let text = format!("{}, valid until {}", facts.name, day(facts.not_after));
            if matches!(Watched::new(files.clone(), role).is_revoked(&facts.serial), Ok(true)) {
                let anew = if files.authority_key().exists() {
                    "run `distfun init`"
                } else {
                    "to come back it has to join anew"
                };
                (State::Wrong, format!("{}: its certificate was revoked; {anew}", facts.name))
            } else if facts.left() < EARLY {
                (
                    State::Soon,
                    format!(
                        "{text}: renew it by `distfun token` and `distfun join` (where `distfun init` was, by that)"
                    ),
                )
            } else {
                (State::Fine, text)
            }
        }
    };
    Some(Finding(about, state, text))
}

/// Who listens at the port of nodes, as Linux tells.
fn listeners(files: &Files) -> Vec<Finding> {
    let port = Manager::builder().settings().map_or(DEFAULT_PORT, |settings| settings.port);
    let found: Vec<_> =
        ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().flat_map(|table| listening(table, port)).collect();
    if found.is_empty() {
        return vec![Finding("listens", State::Fine, format!("nobody at port {port} of this machine"))];
    }
    let has_credentials = matches!(Credentials::load(files, Side::Node), Ok(Some(_)));
    let finding = |address: SocketAddr| {
        if address.ip().to_canonical().is_loopback() {
            return Finding("listens", State::Fine, format!("{address}, for this machine only"));
        }
        match has_credentials {
            true => Finding("listens", State::Fine, format!("{address}, for other machines too")),
            false => {
                let text = format!(
                    "{address} is open to other machines, and these credentials are not its own: it is another user's, or no node"
                );
                Finding("listens", State::Soon, text)
            }
        }
    };
    found.into_iter().map(finding).collect()
}

/// Sockets of a table of Linux's that listen at a port.
fn listening(table: &str, port: u16) -> Vec<SocketAddr> {
    const LISTEN: &str = "0A";
    let text = fs::read_to_string(table).unwrap_or_default();
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        let (ip, at) = local.split_once(':')?;
        let at = u16::from_str_radix(at, 16).ok()?;
        (state == LISTEN && at == port).then(|| Some(SocketAddr::new(address(ip)?, at))).flatten()
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// Written as words of four bytes, each as this machine has numbers in memory.
fn address(digits: &str) -> Option<IpAddr> {
    let words: Option<Vec<[u8; 4]>> = (0..digits.len() / 8)
        .map(|word| u32::from_str_radix(digits.get(8 * word..8 * word + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect();
    match words?.as_slice() {
        [word] => Some(Ipv4Addr::from(*word).into()),
        words => <[u8; 16]>::try_from(words.concat()).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_are_read_as_linux_writes_them() {
        assert_eq!(address("0100007F"), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(address("00000000000000000000000001000000"), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(
            address("0000000000000000FFFF00000100007F").map(|ip| ip.to_canonical()),
            Some(Ipv4Addr::LOCALHOST.into())
        );
        for bad in ["", "x", "0100007", "010000"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    #[test]
    fn who_listens_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        if fs::exists("/proc/net/tcp").unwrap() {
            assert_eq!(listening("/proc/net/tcp", here.port()), [here]);
        }
        drop(listener);
        assert!(listening("/proc/net/tcp", here.port()).is_empty());
    }
}
