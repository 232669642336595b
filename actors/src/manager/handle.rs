//! Starting a Manager for a service, and talking to it.

use std::{fmt, sync::Arc};

use actix::{Addr, Handler, MailboxError, Message};
use distfun_core::options::{Overrides, Settings};

use super::Manager;
use crate::{
    error::StartError,
    messages::internal::Quit,
    options::options,
    pool::{Pool, Session, cpus},
};

/// Settings of a Manager; see [`Manager::builder`].
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until .start()"]
pub struct ManagerBuilder {
    told: Overrides,
}

impl ManagerBuilder {
    options!(max_cpu, slots, verbose, seed, max_calls);

    /// Starts the Manager on a System thread of its own, and its Workers, and waits until it can be talked to (well
    /// under a millisecond).
    ///
    /// # Errors
    /// [`StartError::Settings`] names a setting that can't hold; [`StartError::Thread`] says why no thread could be
    /// started. Nothing is left running.
    pub fn start(self) -> Result<ManagerHandle, StartError> {
        let settings = Settings::resolve(&self.told, std::env::vars_os(), cpus())?;
        let pool = Pool::start(settings, true)?;
        let session = Session(pool.clone());
        let address = pool.wait_for_manager().ok_or(StartError::Failed)?;
        Ok(ManagerHandle { owner: Arc::new(Owner { address, _session: session }) })
    }
}

/// A running [`Manager`]. Clones talk to the same one; when the last is dropped, it ends as with
/// [`Finished`](crate::Finished), without waiting.
#[derive(Clone)]
pub struct ManagerHandle {
    owner: Arc<Owner>,
}

struct Owner {
    address: Addr<Manager>,
    _session: Session,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.address.do_send(Quit);
    }
}

impl ManagerHandle {
    /// Sends a message and returns its answer, from any runtime or none: the Manager needs nothing of the caller's.
    ///
    /// # Errors
    /// `MailboxError::Closed` if the Manager has failed, which is a bug; after `Finished` or `Shutdown` it still
    /// answers.
    ///
    /// # Cancel safety
    /// Dropping the future of a [`Distribute`](crate::Distribute) cancels its call: chunks not yet started are not run.
    pub async fn send<M>(&self, message: M) -> Result<M::Result, MailboxError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Manager: Handler<M>,
    {
        self.owner.address.send(message).await
    }

    /// The actor's address, for other actors to keep. It does not keep the Manager running.
    pub fn address(&self) -> Addr<Manager> {
        self.owner.address.clone()
    }
}

impl fmt::Debug for ManagerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerHandle").field("connected", &self.owner.address.connected()).finish()
    }
}
