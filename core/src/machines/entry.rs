//! The grammar of one entry.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    Address, Entry, FIRST_PORT, MAX_SLOTS_PER_MACHINE, Machine,
    brackets::{self, Template},
    fault::Fault,
    host::{host, ipv6},
    list::outside,
    local,
};

/// An entry, read and not yet expanded.
#[derive(Debug)]
pub(super) enum Read {
    /// One machine, or one source.
    One(Entry),
    /// The hosts of a template.
    Hosts { hosts: Template, port: u16, slots: Option<u32> },
}

impl Read {
    /// How many machines it stands for, as far as that is known: a source counts as one.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Hosts { hosts, .. } => hosts.count(),
        }
    }

    /// What it stands for.
    pub(super) fn entries(self, default_port: u16) -> Result<Vec<Entry>, Fault> {
        match self {
            Self::One(entry) => Ok(vec![entry]),
            Self::Hosts { hosts, port, slots } => {
                // A text that is too long for a name is refused before it is copied for each.
                host(&hosts.first())?;
                let machine = |text: String| {
                    let address = Address::Tcp { host: host(&text)?, port };
                    Ok(Entry::Machine(Machine::new(address, slots, default_port)))
                };
                hosts.expand().into_iter().map(machine).collect()
            }
        }
    }
}

/// Reads an entry, which has no comment and no space around it.
pub(super) fn read(text: &str, default_port: u16) -> Result<Read, Fault> {
    if text.is_empty() {
        return Err(Fault::Empty);
    }
    if let Some(meant) = from_url(text) {
        return Err(Fault::Url(meant));
    }
    if let Some((prefix, rest)) = text.split_once(':') {
        let plain = prefix.to_ascii_lowercase();
        if let Some((_, read)) = SOURCES.iter().find(|(name, _)| *name == plain) {
            let rest = rest.trim();
            return match prefix == plain {
                true => read(rest, default_port).map(Read::One),
                false => Err(Fault::SourceCase(format!("{plain}:{rest}"))),
            };
        }
    }
    machines(text, default_port)
}

type Source = fn(&str, u16) -> Result<Entry, Fault>;

/// What may stand before the first colon, and how the rest is read.
const SOURCES: [(&str, Source); 8] = [
    ("file", file),
    ("env", env),
    ("dns", dns),
    ("srv", srv),
    ("unix", unix),
    ("pipe", pipe),
    ("slurm", |_, _| Err(Fault::Slurm)),
    ("ssh", ssh),
];

/// One or more machines by TCP.
fn machines(text: &str, default_port: u16) -> Result<Read, Fault> {
    if text.starts_with(r"\\") {
        local::check(text, false)?;
    }
    is_single(text)?;
    if let Some((_, meant)) = text.rsplit_once('@') {
        return Err(Fault::User(meant.into()));
    }
    let (place, slots) = split_slots(text)?;
    if let Some(inside) = place.strip_prefix('[')
        && inside.split(']').next().is_some_and(|inside| inside.contains(':'))
    {
        return in_brackets(inside, slots, default_port).map(Read::One);
    }
    let colons: Vec<usize> = outside(place).filter(|(_, c)| *c == ':').map(|(at, _)| at).collect();
    let (host, port) = match colons[..] {
        [] => (place, default_port),
        [at] => (&place[..at], port(&place[at + 1..], &place[..at], slots, default_port)?),
        _ if place.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()) => {
            return Err(Fault::BareIpv6(format!("[{place}]")));
        }
        _ => return Err(Fault::Colons),
    };
    Ok(Read::Hosts { hosts: Template::read(host)?, port, slots })
}

/// A machine by IPv6, from behind the `[`.
fn in_brackets(inside: &str, slots: Option<u32>, default_port: u16) -> Result<Entry, Fault> {
    let Some((address, behind)) = inside.split_once(']') else {
        let is_address = ipv6(inside).is_ok();
        let meant = if is_address { format!("[{inside}]") } else { brackets::closed(&format!("[{inside}")) };
        return Err(Fault::Unclosed(meant));
    };
    let host = ipv6(address)?;
    let port = match behind.strip_prefix(':') {
        Some(text) => port(text, &format!("[{address}]"), slots, default_port)?,
        None if behind.is_empty() => default_port,
        None => return Err(Fault::Behind(behind.into())),
    };
    Ok(Entry::Machine(Machine::new(Address::Tcp { host, port }, slots, default_port)))
}

/// The port `text` behind `host` and a colon.
fn port(text: &str, host: &str, slots: Option<u32>, default_port: u16) -> Result<u16, Fault> {
    if host.is_empty() {
        return Err(Fault::NoHost(Some(format!("localhost:{text}"))));
    }
    if text.is_empty() {
        return Err(Fault::TrailingColon(host.into()));
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        let hint = if text.contains(['[', ']']) { "; brackets stand in the host" } else { "" };
        return Err(Fault::NotPort { port: text.into(), hint });
    }
    match text.parse::<u16>() {
        Ok(0) => Err(Fault::PortZero),
        Ok(port) if port < FIRST_PORT && port != default_port => {
            Err(Fault::PortLow { port, meant: slots.is_none().then(|| format!("{host}*{port}")) })
        }
        Ok(port) => Ok(port),
        Err(_) => Err(Fault::PortLarge(text.into())),
    }
}

/// What is before a `*`, and the number of slots behind it.
fn split_slots(text: &str) -> Result<(&str, Option<u32>), Fault> {
    let Some((place, slots)) = text.split_once('*') else {
        return Ok((text, None));
    };
    if slots.is_empty() {
        return Err(Fault::NoSlots(place.into()));
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(slots) {
        let meant = match slots.split_once(':') {
            Some((slots, port)) if is_number(slots) => Some(format!("{place}:{port}*{slots}")),
            _ => is_number(place).then(|| format!("{slots}*{place}")),
        };
        return Err(Fault::NotSlots { slots: slots.into(), meant });
    }
    match slots.parse() {
        Ok(0) => Err(Fault::ZeroSlots),
        Ok(slots) if slots <= MAX_SLOTS_PER_MACHINE => Ok((place, Some(slots))),
        _ => Err(Fault::ManySlots(slots.into())),
    }
}

/// That there is neither a space nor a comma that would make two entries of it.
fn is_single(text: &str) -> Result<(), Fault> {
    if outside(text).any(|(_, c)| c == ',') {
        let parts = super::list::split(text).map(|(_, part)| part.to_owned());
        return Err(Fault::Comma(parts.collect()));
    }
    if outside(text).any(|(_, c)| c.is_whitespace()) {
        return Err(Fault::Space);
    }
    Ok(())
}

/// What `http://ann@bob:2718/path` may mean.
fn from_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
        return None;
    }
    if ["file", "unix"].contains(&scheme) {
        return Some(format!("{scheme}:{rest}"));
    }
    let place = rest.split('/').next().unwrap_or(rest);
    Some(place.rsplit('@').next().filter(|place| !place.is_empty()).unwrap_or("bob").into())
}

fn file(path: &str, _: u16) -> Result<Entry, Fault> {
    if path.is_empty() { Err(Fault::NoPath) } else { Ok(Entry::File(path.into())) }
}

fn env(name: &str, _: u16) -> Result<Entry, Fault> {
    let is_name = |name: &str| {
        let is_start = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        is_start && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if is_name(name) {
        return Ok(Entry::Env(name.into()));
    }
    let bare = name.trim_start_matches(['$', '{']).trim_end_matches('}');
    Err(Fault::NotVariable { name: name.into(), meant: is_name(bare).then(|| format!("env:{bare}")) })
}

fn dns(text: &str, default_port: u16) -> Result<Entry, Fault> {
    is_single(text)?;
    let (place, slots) = split_slots(text)?;
    let (name, at) = match place.split_once(':') {
        _ if place.starts_with('[') => return Err(Fault::DnsOfAddress(text.into())),
        _ if place.parse::<Ipv6Addr>().is_ok() => return Err(Fault::DnsOfAddress(format!("[{place}]"))),
        Some((name, text)) => (name, Some(port(text, name, slots, default_port)?)),
        None => (place, None),
    };
    if name.parse::<Ipv4Addr>().is_ok() {
        return Err(Fault::DnsOfAddress(text.into()));
    }
    Ok(Entry::Dns { name: host(name)?, port: at, slots })
}

fn srv(text: &str, _: u16) -> Result<Entry, Fault> {
    is_single(text)?;
    let (name, slots) = split_slots(text)?;
    if let Some((name, _)) = name.split_once(':') {
        return Err(Fault::ServicePort(format!("srv:{name}")));
    }
    let name = host(name)?;
    let mut labels = name.splitn(3, '.');
    let mut is_tag = || labels.next().is_some_and(|label| label.len() > 1 && label.starts_with('_'));
    if !(is_tag() && is_tag()) || labels.next().is_none_or(str::is_empty) {
        let domain: Vec<&str> = name.split('.').skip_while(|label| label.starts_with('_')).collect();
        return Err(Fault::NotService(if domain.is_empty() { "example.org".into() } else { domain.join(".") }));
    }
    Ok(Entry::Srv { name, slots })
}

/// A host as ssh is told it. What could be taken for an option of ssh is refused.
fn ssh(text: &str, default_port: u16) -> Result<Entry, Fault> {
    is_single(text)?;
    let (place, slots) = split_slots(text)?;
    let (user, name) = place.rsplit_once('@').map_or((None, place), |(user, name)| (Some(user), name));
    if name.is_empty() {
        return Err(Fault::SshNoHost);
    }
    if let Some((name, _)) = name.split_once(':') {
        return Err(Fault::SshPort(user.map_or_else(|| name.to_owned(), |user| format!("{user}@{name}"))));
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if let Some(user) = user.filter(|user| user.is_empty() || user.starts_with('-') || !user.chars().all(is_allowed)) {
        return Err(Fault::SshUser(user.into()));
    }
    let name = host(name)?;
    let destination = user.map_or_else(|| name.clone(), |user| format!("{user}@{name}"));
    Ok(Entry::Machine(Machine::new(Address::Ssh { destination }, slots, default_port)))
}

fn unix(text: &str, default_port: u16) -> Result<Entry, Fault> {
    if text.starts_with('/') { pipe(text, default_port) } else { Err(Fault::NotAbsolute) }
}

fn pipe(text: &str, default_port: u16) -> Result<Entry, Fault> {
    let (name, slots) = split_slots(text)?;
    local::check(name, cfg!(windows))?;
    Ok(Entry::Machine(Machine::new(Address::Local { name: name.into() }, slots, default_port)))
}
