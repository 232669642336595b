//! Names and addresses of machines.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::fault::Fault;

/// Longest part between two dots: RFC 1035, section 2.3.4.
pub(super) const MAX_LABEL: usize = 63;

/// Longest name: 255 bytes on the wire are 253 characters.
pub(super) const MAX_HOST: usize = 253;

/// A host name or IPv4 address, in lower case, since names have no case.
pub(super) fn host(text: &str) -> Result<String, Fault> {
    let host = || text.to_owned();
    if text.is_empty() {
        return Err(Fault::NoHost(None));
    }
    // Underscores are in no host name by the book, and in many by habit.
    let is_allowed = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    if let Some(found) = text.chars().find(|c| !is_allowed(c)) {
        return Err(Fault::HostCharacter { host: host(), found, hint: hint(found) });
    }
    // One dot at the end says that the name is complete.
    let relative = text.strip_suffix('.').unwrap_or(text);
    if relative.len() > MAX_HOST {
        return Err(Fault::LongHost { host: host(), len: relative.len() });
    }
    for label in relative.split('.') {
        if label.is_empty() {
            return Err(Fault::EmptyLabel(host()));
        }
        if label.len() > MAX_LABEL {
            return Err(Fault::LongLabel { host: host(), len: label.len() });
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(Fault::Hyphen(host()));
        }
    }
    // As browsers do: otherwise 10.0.0.256 would be asked of the name servers.
    let last = relative.rsplit('.').next().unwrap_or(relative);
    if last.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<Ipv4Addr>().is_err() {
        return Err(Fault::NotIpv4(host()));
    }
    Ok(text.to_ascii_lowercase())
}

/// An IPv6 address, perhaps with a zone, in its shortest form.
pub(super) fn ipv6(text: &str) -> Result<String, Fault> {
    let wrong = || Fault::NotIpv6(text.into());
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    let address: Ipv6Addr = address.parse().map_err(|_| wrong())?;
    match zone {
        None => Ok(address.to_string()),
        Some(zone) => {
            let is_zone = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let is_right = (1..=MAX_LABEL).contains(&zone.len()) && zone.chars().all(is_zone);
            is_right.then(|| format!("{address}%{zone}")).ok_or_else(wrong)
        }
    }
}

fn hint(found: char) -> &'static str {
    match found {
        '#' => "; a comment needs a space before its '#'",
        '/' | '\\' => "; for a local socket write unix:PATH or pipe:NAME, for a file of machines file:PATH",
        '{' | '}' | '(' | ')' => "; ranges stand in brackets, as in n[01-08]",
        '$' => "; for a variable write env:NAME",
        ';' => "; make each machine an entry of its own",
        c if !c.is_ascii() => "; write an international name in its form that begins with xn--",
        _ => "",
    }
}
