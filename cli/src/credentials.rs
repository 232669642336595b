//! `distfun init`, `token`, `join` and `revoke`: which machines know each other.

use std::{
    fmt::Display,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::{Args, ValueEnum};
use distfun::Manager;
use distfun_net::{
    handshake::Side,
    identity::default_credentials,
    tls::{
        Facts, Files,
        authority::{Authority, AuthorityError, LIFE, own_name},
        join::{self as joining, Admission, Joining, Terms},
        token,
    },
    transport::tcp::TcpDoor,
};

/// What is said to somebody who may not listen any more.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = writeln!(io::stdout(), $($text)*);
    }};
}
pub(crate) use say;

/// Where machines join unless told otherwise: beside the port of nodes.
const JOIN_PORT: u16 = distfun_net::DEFAULT_PORT + 1;

/// Makes this machine the one that says which machines belong together.
///
/// It makes an authority, of which only this machine has the key, and gives this machine certificates as a manager, whose
/// programs may name other machines, and as a node. Where there is an authority already, it renews these two.
#[derive(Args)]
#[command(after_help = "\
Next, for each other machine: `distfun token` here, and there the `distfun join …` that it says.

Exit status: 0 if it was made or renewed, 1 if not, 2 for a wrong command line.")]
pub(crate) struct Init {
    /// This machine's name in its certificates. Default: as before, else the host's.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Lets another machine join: says what to type there, and waits until it has.
///
/// The first line on stdout is the command for the other machine. It has a secret in it that can be used once, or --uses
/// times, while this command waits.
#[derive(Args)]
#[command(after_help = "\
Exit status: 0 if as many machines have joined as may, 1 if not, 2 for a wrong command line.")]
pub(crate) struct Token {
    /// What those that join may be.
    #[arg(long, value_enum, default_value_t = Role::Node)]
    role: Role,
    /// How many machines may join.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    uses: u32,
    /// How long to wait for them, as in 10m or 1h.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = ttl)]
    ttl: Duration,
    /// How many days their certificates are valid.
    #[arg(long, default_value_t = LIFE.as_secs() as u32 / 86_400, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// This machine, as the others reach it: host, or host:port. Default: the address by which it reaches others, port 2719.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Where to listen, if that is not the same, as behind a router: address:port.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    place: Place,
}

/// Makes this machine one of those that know each other, by what `distfun token` has said.
///
/// It checks that it speaks to the authority of the token before it shows the secret, and makes its key itself. Done again
/// with a new token, it renews the certificate.
#[derive(Args)]
#[command(after_help = "Exit status: 0 if it has joined, 1 if not, 2 for a wrong command line.")]
pub(crate) struct Join {
    /// As `distfun token` says; `-` reads it from stdin.
    token: String,
    /// This machine's name in its certificate. Default: as before, else the host's.
    #[arg(long)]
    name: Option<String>,
    /// Leave the cluster that this machine is part of.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    place: Place,
}

/// Takes a machine's certificates back. To be run where `distfun init` was.
///
/// Programs of this machine refuse it from then on, and end what they have with it in two seconds. Other machines learn of it
/// from the next program that connects to them from here, or from any machine that has learned of it, and do the same.
#[derive(Args)]
#[command(after_help = "Exit status: 0 if it was revoked, 1 if not, 2 for a wrong command line.")]
pub(crate) struct Revoke {
    /// The machine's name, as it has joined.
    name: String,
    /// In this role only.
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// Even if it is this machine.
    #[arg(long)]
    even_this: bool,
    #[command(flatten)]
    place: Place,
}

fn ttl(text: &str) -> Result<Duration, String> {
    const MOST: Duration = Duration::from_secs(30 * 86_400);
    let expected = || "it is no time from 1s to 30days, as in 10m or 1h".to_owned();
    let ttl = humantime::parse_duration(text).map_err(|_| expected())?;
    if (Duration::from_secs(1)..=MOST).contains(&ttl) { Ok(ttl) } else { Err(expected()) }
}

#[derive(Args)]
pub(crate) struct Place {
    /// The directory of this machine's credentials. Default: $DISTFUN_CREDENTIALS, or one of this user's.
    #[arg(long, value_name = "DIR")]
    credentials: Option<PathBuf>,
}

impl Place {
    /// The same, once it is sure that a slip in a variable's name is not the reason for another directory.
    fn checked(&self) -> Result<Files, Box<dyn std::error::Error>> {
        Manager::builder().settings()?;
        Ok(self.files())
    }

    pub(crate) fn files(&self) -> Files {
        Files::at(self.credentials.clone().unwrap_or_else(default_credentials))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Computes for others.
    Node,
    /// Has others compute for it.
    Manager,
}

impl From<Role> for Side {
    fn from(role: Role) -> Self {
        match role {
            Role::Node => Self::Node,
            Role::Manager => Self::Manager,
        }
    }
}

type Done = Result<(), Box<dyn std::error::Error>>;

fn exit(command: &str, done: Done) -> ExitCode {
    let Err(error) = done else { return ExitCode::SUCCESS };
    eprintln!("distfun {command}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
    ExitCode::FAILURE
}

pub(crate) fn init(flags: Init) -> ExitCode {
    let make = || {
        let files = flags.place.checked()?;
        let (authority, is_new) = match Authority::open(files.clone())? {
            Some(authority) => (authority, false),
            None => (Authority::create(files.clone()).map_err(elsewhere)?, true),
        };
        let name = name(flags.name, &files);
        authority.publish_revoked()?; // whatever has kept that from being done before
        authority.issue_here(Side::Manager, &name, LIFE)?;
        authority.issue_here(Side::Node, &name, LIFE)?;
        let (done, key) = (if is_new { "made" } else { "renewed" }, files.authority_key());
        say!("{done}: this machine is {name}, manager and node of cluster {}", authority.cluster());
        say!("valid until {}, in {}", day(SystemTime::now() + LIFE), files.dir().display());
        if is_new {
            say!("keep {} safe: whoever has it can let any machine in", key.display());
            say!("next, for each other machine: `distfun token` here, and there the `distfun join …` that it says");
        }
        Ok(())
    };
    exit("init", make())
}

/// The one reason why an authority can't be made that is not what it seems.
fn elsewhere(error: AuthorityError) -> Box<dyn std::error::Error> {
    match error {
        AuthorityError::ThereAlready { .. } => format!(
            "{error}, whose authority is on another machine; name another directory by --credentials for a second one"
        )
        .into(),
        other => other.into(),
    }
}

fn authority(place: &Place) -> Result<Authority, Box<dyn std::error::Error>> {
    let files = place.checked()?;
    Authority::open(files.clone())?.ok_or_else(|| {
        format!(
            "{} has no key of an authority: run this where `distfun init` was run, or that first",
            files.dir().display()
        )
        .into()
    })
}

pub(crate) fn token(flags: Token) -> ExitCode {
    exit("token", wait_for_machines(flags))
}

fn wait_for_machines(flags: Token) -> Done {
    let authority = authority(&flags.place)?;
    let (address, listen) = reached_at(flags.address.as_deref(), flags.listen)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (role, uses) = (Side::from(flags.role), flags.uses as usize);
    let life = Duration::from_secs(86_400 * u64::from(flags.days));
    runtime.block_on(async {
        let door = TcpDoor::bind(listen).await.map_err(|error| {
            format!(
                "{error}; another `distfun token` may be waiting there (--uses lets several machines join), or {address} is no \
                 address of this machine (say where to listen by --listen)"
            )
        })?;
        // Port 0 is any that is free.
        let address = match address.strip_suffix(":0") {
            Some(host) => format!("{host}:{}", door.address().port()),
            None => address,
        };
        let admission = Admission::new(authority, address.clone(), Terms { role, uses, ttl: flags.ttl, life })?;
        let mut stdout = io::stdout();
        writeln!(stdout, "distfun join {}", admission.token().text())?;
        stdout.flush()?;
        let machines = if uses == 1 { "the machine that is to join".to_owned() } else { format!("{uses} machines") };
        eprintln!("type this on {machines}, as a {role}, within {}", humantime::format_duration(flags.ttl));
        eprintln!("waiting at {address}; Ctrl-C ends it");
        admission
            .serve(&door, |joining| match joining {
                Joining::Joined { name, peer } => eprintln!("{name} has joined, from {peer}"),
                Joining::Refused { peer, why } => eprintln!("{peer} was refused: {why}"),
                _ => {}
            })
            .await;
        match admission.left() {
            0 => Ok(()),
            left if left == uses => Err("nobody has joined in this time".into()),
            left => Err(format!("{} of {uses} machines have joined in this time", uses - left).into()),
        }
    })
}

/// This machine as others reach it, and where to listen.
fn reached_at(
    address: Option<&str>,
    listen: Option<SocketAddr>,
) -> Result<(String, SocketAddr), Box<dyn std::error::Error>> {
    let Some(address) = address else {
        let ip = outward().ok_or("this machine has no address that others reach: name one by --address")?;
        let here = SocketAddr::new(ip, listen.map_or(JOIN_PORT, |listen| listen.port()));
        return Ok((here.to_string(), listen.unwrap_or(here)));
    };
    let with_port = if let Ok(ip) = address.parse::<IpAddr>() {
        SocketAddr::new(ip, JOIN_PORT).to_string()
    } else if address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        address.to_owned()
    } else {
        format!("{address}:{JOIN_PORT}")
    };
    let listen = match listen {
        Some(listen) => listen,
        None => {
            let unknown =
                |error| format!("{address} is no address of this machine ({error}): say where to listen by --listen");
            with_port.to_socket_addrs().map_err(unknown)?.next().ok_or("the name has no address")?
        }
    };
    Ok((with_port, listen))
}

/// The address by which this machine reaches others. Nothing is sent.
fn outward() -> Option<IpAddr> {
    // Addresses for documentation, where nobody is: what counts is the way that leads there.
    [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")].into_iter().find_map(|(from, to)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
    })
}

pub(crate) fn join(flags: Join) -> ExitCode {
    let ask = || {
        let mut text = flags.token;
        if text == "-" {
            text.clear();
            io::stdin().take(4096).read_to_string(&mut text)?;
        }
        // What is pasted may be the whole command.
        let text = text.trim().trim_start_matches("distfun join ").to_owned();
        let token: token::Token = text.parse()?;
        let files = flags.place.checked()?;
        let name = name(flags.name, &files);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let facts = runtime.block_on(joining::join(&token, &name, &files, flags.replace))?;
        let Facts { name, role, not_after, .. } = facts;
        say!("this machine is {name}, {role} of cluster {}", token.cluster());
        say!("valid until {}, in {}", day(not_after), files.dir().display());
        match role {
            Side::Node => {
                say!("next: `distfun node --listen 0.0.0.0 --allow-ship`, or a program that serves functions")
            }
            Side::Manager => say!("next: a program that names machines"),
        }
        Ok(())
    };
    exit("join", ask())
}

pub(crate) fn revoke(flags: Revoke) -> ExitCode {
    let take_back = || {
        let authority = authority(&flags.place)?;
        if !flags.even_this && authority.own_names().contains(&flags.name) {
            let why = format!(
                "{} is this machine itself, whose programs and nodes nobody would believe any more; `distfun init` renews its \
                 certificates, and --even-this takes them back",
                flags.name
            );
            return Err(why.into());
        }
        for revoked in authority.revoke(&flags.name, flags.role.map(Side::from))? {
            say!("revoked: {} as a {}, certificate {}", revoked.name, revoked.role, revoked.serial);
        }
        say!("nodes learn of it from the next program that connects to them");
        Ok(())
    };
    exit("revoke", take_back())
}

/// As given, else as before, else the host's.
fn name(given: Option<String>, files: &Files) -> String {
    let before = || [Side::Manager, Side::Node].into_iter().find_map(|role| own_name(files, role));
    given.or_else(before).unwrap_or_else(|| {
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        host.split('.').next().unwrap_or_default().to_owned()
    })
}

pub(crate) fn day(time: SystemTime) -> impl Display {
    let time = humantime::format_rfc3339_seconds(time).to_string();
    time.split('T').next().unwrap_or_default().to_owned()
}
