//! What can be wrong with an entry, in words: all of them in one place, so that they sound alike.

use super::{FIRST_PORT, MAX_SLOTS_PER_MACHINE, error::shortened, local::LocalNameError};

/// What is wrong with an entry, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("it is empty; leave it out, or name a machine")]
    Empty,
    #[error("it has a space in it; make each machine an entry of its own")]
    Space,
    #[error("it has a comma in it; make each machine an entry of its own: {}", quoted(.0))]
    Comma(Vec<String>),
    #[error("a node has no address of the web; did you mean {}?", meant(.0))]
    Url(String),
    #[error("a machine is named without a user; did you mean {}?", meant(.0))]
    User(String),
    #[error("a source is written in lower case; did you mean {}?", meant(.0))]
    SourceCase(String),

    #[error("a host name is missing{}", did_you_mean(.0))]
    NoHost(Option<String>),
    #[error("{} is not a host name: {found:?} can't be in one, only letters, digits, '-', '_' and '.'{hint}", shown(.host))]
    HostCharacter { host: String, found: char, hint: &'static str },
    #[error("{} is not a host name: a part of it between dots is empty", shown(.0))]
    EmptyLabel(String),
    #[error("{} is not a host name: a part of it between dots begins or ends with '-'", shown(.0))]
    Hyphen(String),
    #[error(
        "{} is not a host name: a part of it between dots has {len} characters, and {} is the most",
        shown(.host),
        super::host::MAX_LABEL
    )]
    LongLabel { host: String, len: usize },
    #[error("{} is not a host name: it has {len} characters, and {} is the most", shown(.host), super::host::MAX_HOST)]
    LongHost { host: String, len: usize },
    #[error("{} is not a host name, since it ends with a number, nor an IPv4 address, which has four from 0 to 255", shown(.0))]
    NotIpv4(String),
    #[error("{} is not an IPv6 address", shown(.0))]
    NotIpv6(String),
    #[error("an IPv6 address stands in brackets; did you mean {}?", meant(.0))]
    BareIpv6(String),
    #[error("behind an IPv6 address only :port may follow, and not {}", shown(.0))]
    Behind(String),
    #[error("it is an address; dns: takes a name, so did you mean {}?", meant(.0))]
    DnsOfAddress(String),

    #[error("there is no port behind the colon; did you mean {}?", meant(.0))]
    TrailingColon(String),
    #[error("it has more than one colon; a machine is written host:port, an IPv6 address in brackets")]
    Colons,
    #[error("port {} is not a number from 1 to 65535{hint}", shown(.port))]
    NotPort { port: String, hint: &'static str },
    #[error("port 0 is none that a node can be found at; choose one from {FIRST_PORT} to 65535, or leave it out")]
    PortZero,
    #[error("port {} is larger than 65535; choose one from {FIRST_PORT} to 65535, or leave it out", meant(.0))]
    PortLarge(String),
    #[error("port {port} is below {FIRST_PORT}, where nodes don't listen{}", did_you_mean(.meant))]
    PortLow { port: u16, meant: Option<String> },

    #[error("there is no number of slots behind the '*'; did you mean {}?", meant(.0))]
    NoSlots(String),
    #[error("{} is not a number of slots{}", shown(.slots), did_you_mean(.meant))]
    NotSlots { slots: String, meant: Option<String> },
    #[error("0 slots would leave the machine idle; leave it out, or use at least 1")]
    ZeroSlots,
    #[error("{} slots are more than the {MAX_SLOTS_PER_MACHINE} that a machine may be asked for", meant(.0))]
    ManySlots(String),

    #[error("its '[' has no ']'; did you mean {}?", meant(.0))]
    Unclosed(String),
    #[error("its ']' has no '['")]
    Unopened,
    #[error("a bracket is inside another; brackets may only follow each other")]
    Nested,
    #[error("a bracket is empty, or there is nothing beside one of its commas; write numbers, as in [1,3,5-7]")]
    EmptyBracket,
    #[error("{} is neither a number nor a range; write a bracket as in [1,3,5-7]", shown(.0))]
    NotRange(String),
    #[error("the range {from}-{to} runs backwards; did you mean {to}-{from}?")]
    Reversed { from: String, to: String },
    #[error(
        "the ends of the range {from}-{to} have leading zeros and not the same number of digits; write both alike, as in 08-10"
    )]
    Width { from: String, to: String },
    #[error("the number {} has more than {} digits", shown(.0), super::brackets::MAX_DIGITS)]
    LongNumber(String),

    #[error("a path is missing; did you mean file:hosts.txt?")]
    NoPath,
    #[error("{} is not the name of an environment variable{}", shown(.name), did_you_mean(.meant))]
    NotVariable { name: String, meant: Option<String> },
    #[error("a name for SRV records starts with service and protocol; did you mean srv:_distfun._tcp.{}?", meant(.0))]
    NotService(String),
    #[error("SRV records have their own ports; did you mean {}?", meant(.0))]
    ServicePort(String),
    #[error(
        "slurm: is not yet there; write the hosts to a file by `scontrol show hostnames`, and name it by file:PATH"
    )]
    Slurm,
    #[error("ssh: needs a host, as in ssh:bob or ssh:ann@bob")]
    SshNoHost,
    #[error("{0:?} is no name of a user; letters, digits and -_. may be in it, and no - before them")]
    SshUser(String),
    #[error("ssh: takes no port; give the host one in ~/.ssh/config, and write ssh:{0}")]
    SshPort(String),
    #[error("a file or variable that is named in a list can't name another; write its entries here")]
    Recursion,
    #[error("a socket of Unix is named by a path from the root, as in unix:/run/user/1000/distfun")]
    NotAbsolute,
    #[error(transparent)]
    Local(#[from] LocalNameError),
}

fn shown(text: &str) -> String {
    format!("{:?}", shortened(text))
}

/// What may be written instead: without quotes, and so without anything that could move a terminal's cursor.
fn meant(text: &str) -> String {
    shortened(text).replace(char::is_control, "\u{fffd}")
}

fn did_you_mean(text: &Option<String>) -> String {
    text.as_ref().map_or(String::new(), |text| format!("; did you mean {}?", meant(text)))
}

fn quoted(texts: &[String]) -> String {
    shortened(&texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", "))
}
