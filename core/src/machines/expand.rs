//! From what a list names to the machines themselves.

use std::{collections::BTreeSet, io, net::IpAddr, path::Path, sync::Arc};

use super::{
    Address, Entry, Machine, MachineList, MachinesError, Spot,
    fault::Fault,
    host::host,
    list::{Seen, fits, read, split},
};

/// Largest file or variable of machines: far more than 65,536 names need, and quick to refuse.
pub const MAX_SOURCE_BYTES: u64 = 1 << 20;

/// Looks up what a list names, by whoever knows files and networks. A call may take as long as a name server does.
pub trait Sources {
    /// All of a file.
    ///
    /// # Errors
    /// It can't be read, is no text, or is larger than [`MAX_SOURCE_BYTES`], which is a good place to stop reading.
    fn file(&mut self, path: &Path) -> io::Result<String>;

    /// An environment variable, if it is set.
    fn env(&mut self, name: &str) -> Option<String>;

    /// Every address of a name.
    ///
    /// # Errors
    /// The name is not known, or nobody answers.
    fn dns(&mut self, name: &str) -> io::Result<Vec<IpAddr>>;

    /// Target and port of every SRV record of a name.
    ///
    /// # Errors
    /// There is none, or nobody answers.
    fn srv(&mut self, name: &str) -> io::Result<Vec<(String, u16)>>;
}

impl MachineList {
    /// Looks up everything that the list names. The machines are in the order of the list; those of one name in that
    /// of its answer.
    ///
    /// # Errors
    /// Something can't be looked up or names no machine, an entry in a file or variable is wrong, an address is there
    /// twice, or they are more than [`MAX_MACHINES`](super::MAX_MACHINES).
    pub fn expand(&self, sources: &mut dyn Sources) -> Result<Vec<Machine>, MachinesError> {
        let mut expansion =
            Expansion { sources, default_port: self.default_port, seen: Seen::default(), machines: Vec::new() };
        for (entry, spot) in &*self.entries {
            match entry {
                Entry::File(path) => expansion.file(path, spot)?,
                Entry::Env(name) => expansion.variable(name, spot)?,
                entry => expansion.entry(entry, spot)?,
            }
        }
        Ok(expansion.machines)
    }
}

struct Expansion<'a> {
    sources: &'a mut dyn Sources,
    default_port: u16,
    seen: Seen,
    machines: Vec<Machine>,
}

impl Expansion<'_> {
    fn file(&mut self, path: &Path, of: &Arc<Spot>) -> Result<(), MachinesError> {
        let remedy = "correct the path, or make the file readable text";
        let text = self.sources.file(path).map_err(|error| unavailable(of, &error, remedy))?;
        let path: Arc<Path> = path.into();
        self.text(&text, of, |_, line, entry| of.in_file(&path, line, entry))
    }

    fn variable(&mut self, name: &str, of: &Arc<Spot>) -> Result<(), MachinesError> {
        let Some(text) = self.sources.env(name) else {
            let why = "the variable is not set; set it, or leave the entry out".into();
            return Err(MachinesError::Unavailable { spot: of.clone(), why });
        };
        let name: Arc<str> = name.into();
        self.text(&text, of, |position, _, entry| of.in_variable(&name, position, entry))
    }

    /// The entries of a text, each at the spot that `spot` makes of its position, its line and itself.
    fn text(
        &mut self,
        text: &str,
        of: &Arc<Spot>,
        spot: impl Fn(usize, usize, &str) -> Spot,
    ) -> Result<(), MachinesError> {
        if text.len() as u64 > MAX_SOURCE_BYTES {
            let why = format!("it has {} bytes, and {MAX_SOURCE_BYTES} is the most for machines", text.len());
            return Err(MachinesError::Malformed { spot: of.clone(), why });
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut position = 0;
        for (line, part) in split(text) {
            position += 1;
            let spot = Arc::new(spot(position, line, part));
            for entry in read(part, &spot, self.default_port, self.machines.len())? {
                self.entry(&entry, &spot)?;
            }
        }
        if position == 0 { Err(names_nothing(of)) } else { Ok(()) }
    }

    /// What is neither a file nor a variable, since one of those in another could go round in circles.
    fn entry(&mut self, entry: &Entry, spot: &Arc<Spot>) -> Result<(), MachinesError> {
        match entry {
            Entry::Machine(machine) => self.machine(machine.clone(), spot),
            Entry::Dns { name, port, slots } => {
                let remedy = "correct the name, or name the machines themselves";
                let found = self.sources.dns(name).map_err(|error| unavailable(spot, &error, remedy))?;
                let port = port.unwrap_or(self.default_port);
                self.found(found.into_iter().map(|ip| (ip.to_string(), port)), *slots, spot)
            }
            Entry::Srv { name, slots } => {
                let remedy = "correct the name, or name the machines themselves";
                let found = self.sources.srv(name).map_err(|error| unavailable(spot, &error, remedy))?;
                let mut right = Vec::new();
                // A dot says that the service is decidedly not there: RFC 2782.
                for (target, port) in found.into_iter().filter(|(target, _)| target != ".") {
                    let wrong = |fault: Fault| MachinesError::Unavailable {
                        spot: spot.clone(),
                        why: format!("a record has a target that can't be: {fault}; correct the record"),
                    };
                    let port = Some(port).filter(|&port| port > 0).ok_or_else(|| wrong(Fault::PortZero))?;
                    right.push((host(target.strip_suffix('.').unwrap_or(&target)).map_err(wrong)?, port));
                }
                self.found(right.into_iter(), *slots, spot)
            }
            Entry::File(_) | Entry::Env(_) => {
                Err(MachinesError::Malformed { spot: spot.clone(), why: Fault::Recursion.to_string() })
            }
        }
    }

    /// What a name server knows. That it says something twice is not the list's fault.
    fn found(
        &mut self,
        found: impl Iterator<Item = (String, u16)>,
        slots: Option<u32>,
        spot: &Arc<Spot>,
    ) -> Result<(), MachinesError> {
        let mut answered = BTreeSet::new();
        for (host, port) in found {
            if answered.insert((host.clone(), port)) {
                self.machine(Machine::new(Address::Tcp { host, port }, slots, self.default_port), spot)?;
            }
        }
        if answered.is_empty() { Err(names_nothing(spot)) } else { Ok(()) }
    }

    fn machine(&mut self, machine: Machine, spot: &Arc<Spot>) -> Result<(), MachinesError> {
        fits(self.machines.len(), 1, spot)?;
        self.seen.insert(&machine.address, spot)?;
        self.machines.push(machine);
        Ok(())
    }
}

fn unavailable(spot: &Arc<Spot>, error: &io::Error, remedy: &str) -> MachinesError {
    MachinesError::Unavailable { spot: spot.clone(), why: format!("{error}; {remedy}") }
}

fn names_nothing(spot: &Arc<Spot>) -> MachinesError {
    let why = "there is no machine in it; fill it, or leave the entry out".into();
    MachinesError::Unavailable { spot: spot.clone(), why }
}
