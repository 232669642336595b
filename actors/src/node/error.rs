//! Why a node can't serve.

use std::io;

use distfun_core::options::SettingsError;
use distfun_net::{gate::OpenToOthers, identity::IdentityError};

/// A node could not be started. Nothing is left running.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A setting, from the configuration, the environment or the settings file, can't hold.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The secret that Managers must have can't be read or made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Others than this machine could reach it.
    #[error(transparent)]
    OpenToOthers(#[from] OpenToOthers),
    /// Its credentials are there, and can't be used.
    #[error("{0}")]
    Credentials(String),
    /// It runs programs only, and may not where it should listen.
    #[error(
        "a node that others reach at {address} and that runs no programs has nothing to serve: with --allow-ship \
         (NodeConfig::allow_ship) every Manager with credentials of this cluster may run any program as this user"
    )]
    NothingToServe {
        /// Where it should listen.
        address: String,
    },
    /// What it should listen at is no address.
    #[error(
        "{address:?} is no address to listen at; write an address of this machine, as in 127.0.0.1:2718 or [::1]:2718"
    )]
    Address {
        /// As given.
        address: String,
    },
    /// It can't listen there: somebody else does, or it is no address of this machine.
    #[error("a node can't start at {place}; if one runs there already, stop it, or take another port or name")]
    Listen {
        /// Where.
        place: String,
        /// What the operating system says.
        #[source]
        cause: io::Error,
    },
    /// Two functions of one name with different types are offered.
    #[error("two functions named {function} with different types are offered; offer one")]
    Twice {
        /// Their name.
        function: &'static str,
    },
    /// Nothing is offered.
    #[error("a node that offers no function is of no use; add .offer(function!(f))")]
    NothingOffered,
    /// Functions are offered by a node that is for programs of Managers.
    #[error(
        "a node that runs programs of Managers has no functions of its own; leave .offer(…) out, or use node::serve"
    )]
    OfferedAndPrograms,
    /// Programs of Managers run on Linux only.
    #[error("programs of Managers run on Linux only; offer functions from a program here, with node::serve")]
    NoPrograms,
    /// The operating system gave no thread; raise its limit on threads or memory, or end other programs.
    #[error("a thread of the node could not be started")]
    Thread(#[source] io::Error),
    /// A bug: the thread that lets Managers in has panicked; stderr has the text.
    #[error("the node has failed, by a bug: its thread has panicked; start it anew")]
    Failed,
    /// The Manager of its slots could not be started; the log has the text.
    #[error(transparent)]
    Start(#[from] crate::StartError),
}

impl std::fmt::Debug for NodeError {
    /// What `main` prints of an error that it returns: the message for people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")?;
        match std::error::Error::source(self) {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}
