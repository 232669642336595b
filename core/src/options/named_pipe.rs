//! The local socket of a node on this machine, as people name it.

use std::{fmt, sync::Arc};

use super::DEFAULT_PORT;
use crate::machines::{Address, Machine, local};

/// The local socket of a node: none, the usual one, or one of this name. It is a Unix domain socket, or a named pipe of
/// Windows.
///
/// ```
/// use distfun_core::options::NamedPipe;
///
/// assert_eq!(NamedPipe::from(true).name(), Some("distfun"));
/// assert_eq!(NamedPipe::from(false).name(), None);
/// assert_eq!(NamedPipe::from("mine").name(), Some("mine"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct NamedPipe(Option<Arc<str>>);

impl NamedPipe {
    /// The name of the usual one.
    pub const DEFAULT_NAME: &'static str = "distfun";

    /// Its name, if it is wanted.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Whether it is wanted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The machine behind it, if it is wanted.
    #[must_use]
    pub fn machine(&self) -> Option<Machine> {
        let address = Address::Local { name: self.name()?.into() };
        Some(Machine::new(address, None, DEFAULT_PORT))
    }

    /// That its name can be one here.
    pub(super) fn check(&self) -> Result<(), local::LocalNameError> {
        self.name().map_or(Ok(()), |name| local::check(name, cfg!(windows)))
    }
}

impl From<bool> for NamedPipe {
    fn from(yes: bool) -> Self {
        Self(yes.then(|| Self::DEFAULT_NAME.into()))
    }
}

impl From<&str> for NamedPipe {
    /// A name, or `true` or `false`. Whether the name can be one is found out when settings are resolved.
    fn from(text: &str) -> Self {
        match text {
            "true" => true.into(),
            "false" => false.into(),
            name => Self(Some(name.into())),
        }
    }
}

impl From<String> for NamedPipe {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl fmt::Display for NamedPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name().unwrap_or("false"))
    }
}
