//! Which machines to compute on: how people write them, and what that means.
//!
//! A list of machines has entries:
//!
//! | entry | means |
//! |---|---|
//! | `bob`, `bob:2719`, `10.0.0.7`, `[fe80::1]:2719` | one machine, at the default port or at this one |
//! | `bob*4`, `bob:2719*4` | the same, of which 4 slots are used |
//! | `n[01-08]`, `n[1,3,5-7].lan:2718` | one machine per number, with as many digits as written; several brackets multiply |
//! | `dns:NAME`, `dns:NAME:2719`, `dns:NAME*4` | one machine per address of the name |
//! | `srv:_distfun._tcp.NAME` | one machine per SRV record, at its port |
//! | `file:PATH`, `env:NAME` | the entries in a file, or in an environment variable |
//! | `unix:PATH`, `pipe:NAME` | this machine, by a local socket |
//!
//! A `#` at the start or behind a space begins a comment. In files and variables, entries are separated by spaces, ends
//! of lines, or commas. `slurm:` and `ssh:HOST` are known, but not yet there.
//!
//! [`MachineList::parse`] reads a list, which needs nothing from outside; [`MachineList::expand`] looks up what it
//! names, through [`Sources`]. An error names the entry, where it stands, and what to write instead.

mod brackets;
mod entry;
mod error;
mod expand;
mod fault;
mod host;
mod list;
pub(crate) mod local;

use std::{fmt, path::PathBuf, sync::Arc};

pub(crate) use self::list::split;
pub use self::{
    error::{MachinesError, Spot},
    expand::{MAX_SOURCE_BYTES, Sources},
    list::MachineList,
};

/// Most machines in one list, brackets, files and names expanded.
pub const MAX_MACHINES: usize = 65_536;

/// Most slots that may be asked of one machine.
pub const MAX_SLOTS_PER_MACHINE: u32 = 4096;

/// Ports below this one are the system's.
const FIRST_PORT: u16 = 1024;

/// A machine to compute on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Machine {
    /// For people and logs.
    pub name: MachineName,
    /// Where its node listens.
    pub address: Address,
    /// How many of its slots to use; all, if none.
    pub slots: Option<u32>,
}

impl Machine {
    /// The machine at `address`, called as `default_port` has it.
    #[must_use]
    pub fn new(address: Address, slots: Option<u32>, default_port: u16) -> Self {
        Self { name: MachineName::of(&address, default_port), address, slots }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        write_slots(f, self.slots)
    }
}

/// What a machine is called: `bob` at the default port, otherwise `bob:2719`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MachineName(Arc<str>);

impl MachineName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of(address: &Address, default_port: u16) -> Self {
        Self(match address {
            Address::Tcp { host, port } if *port == default_port => bracketed(host).into(),
            address => address.to_string().into(),
        })
    }
}

impl From<&str> for MachineName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// At a port of a machine.
    Tcp {
        /// Name or address, in lower case; an IPv6 address without brackets.
        host: String,
        /// From 1.
        port: u16,
    },
    /// At a local socket: a Unix domain socket, or a named pipe of Windows.
    Local {
        /// A plain name; on Unix also a path from the root, on Windows also `\\server\pipe\name`.
        name: String,
    },
    /// Nowhere: one is started by ssh for the time of the connection.
    Ssh {
        /// `bob` or `ann@bob`, as ssh is told it.
        destination: String,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{}:{port}", bracketed(host)),
            Self::Local { name } if name.starts_with('/') => write!(f, "unix:{name}"),
            Self::Local { name } => write!(f, "pipe:{name}"),
            Self::Ssh { destination } => write!(f, "ssh:{destination}"),
        }
    }
}

/// An IPv6 address in brackets, anything else as it is.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.into() }
}

/// One entry of a list, brackets expanded, sources not yet looked up. Shown as it may be written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Entry {
    /// A machine by name or address.
    Machine(Machine),
    /// The entries in this file.
    File(PathBuf),
    /// The entries in this environment variable.
    Env(String),
    /// A machine per address of a name.
    Dns {
        /// The name.
        name: String,
        /// The port at each; none for the default.
        port: Option<u16>,
        /// Of each.
        slots: Option<u32>,
    },
    /// A machine per SRV record.
    Srv {
        /// As in `_distfun._tcp.example.org`.
        name: String,
        /// Of each.
        slots: Option<u32>,
    },
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(machine) => write!(f, "{machine}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Dns { name, port, slots } => {
                write!(f, "dns:{name}")?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))?;
                write_slots(f, *slots)
            }
            Self::Srv { name, slots } => {
                write!(f, "srv:{name}")?;
                write_slots(f, *slots)
            }
        }
    }
}

fn write_slots(f: &mut fmt::Formatter<'_>, slots: Option<u32>) -> fmt::Result {
    slots.map_or(Ok(()), |slots| write!(f, "*{slots}"))
}

/// Reads a single entry, which may stand for many machines.
///
/// # Errors
/// Says what is wrong with it and what to write instead.
pub fn parse(entry: &str, default_port: u16) -> Result<Vec<Entry>, MachinesError> {
    Ok(MachineList::parse(&[entry], default_port)?.entries().cloned().collect())
}

#[cfg(test)]
mod tests;
