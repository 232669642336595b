//! Starting a Manager for a service, and talking to it.

use std::{fmt, future::Future, sync::Arc};

use actix::{Addr, ArbiterHandle, MailboxError, Message};
use distfun_core::options::Told;

use super::Manager;
use crate::{
    call::{Call, Output},
    compute::thread::is_slot_of,
    config,
    error::StartError,
    events, gpu, host,
    job::{JobCore, SharedJob, next_call_id},
    kernel::ListKernel,
    messages::{AddMachine, Cancel, Distribute, Finished, RemoveMachine, Shutdown, Status, internal::Quit},
    options::options,
    pool::{Pool, Session, gpus},
    stream::{Opened, ResultStream, Seat},
};

/// Settings of a Manager; see [`Manager::builder`].
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until .start()"]
pub struct ManagerBuilder {
    told: Told,
}

impl ManagerBuilder {
    options!(
        max_cpu,
        slots,
        max_gpu,
        gpu_policy,
        software_gpu,
        machines,
        port,
        named_pipe,
        isolation,
        item_timeout,
        max_memory,
        verbose,
        seed,
        max_calls,
        flags,
        settings
    );

    /// Starts the Manager on a System thread of its own, and its Workers, and waits until it can be talked to (well
    /// under a millisecond).
    ///
    /// # Errors
    /// [`StartError::Settings`] names a setting that can't hold; [`StartError::Thread`] says why no thread could be
    /// started. Nothing is left running.
    pub fn start(self) -> Result<ManagerHandle, StartError> {
        let settings = config::resolve(&self.told)?;
        host::check(&settings)?;
        settings.check_gpus(gpus(&settings).len(), || gpu::why_none(settings.software_gpu))?;
        let pool = Pool::start(settings, true)?;
        let session = Arc::new(Session(pool.clone()));
        let (address, arbiter) = pool.wait_for_manager().ok_or(StartError::Failed)?;
        Ok(ManagerHandle { owner: Arc::new(Owner { address, arbiter, session }) })
    }
}

/// A running [`Manager`]. Clones talk to the same one; when the last is dropped and no [`Call`] is left, it ends as with
/// [`Finished`](crate::Finished), without waiting.
#[derive(Clone)]
pub struct ManagerHandle {
    owner: Arc<Owner>,
}

struct Owner {
    address: Addr<Manager>,
    arbiter: ArbiterHandle,
    session: Arc<Session>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.address.do_send(Quit);
    }
}

impl ManagerHandle {
    /// Sends a message, now, and returns its answer, on any runtime or none: the Manager needs nothing of the caller's.
    ///
    /// A [`Distribute`](crate::Distribute) goes straight to the compute threads, past the Manager's mailbox and its
    /// thread, so there is no order between it and other messages that have not been answered yet.
    ///
    /// # Errors
    /// `MailboxError::Closed` if the Manager has failed, which is a bug; after `Finished` or `Shutdown` it still
    /// answers.
    ///
    /// # Cancel safety
    /// Dropping the future of a [`Distribute`](crate::Distribute) cancels its call: items that have not started are not run.
    pub fn send<M: ManagerMessage>(
        &self,
        message: M,
    ) -> impl Future<Output = Result<M::Result, MailboxError>> + Send + use<M> {
        message.deliver(self)
    }

    /// Starts the call of a [`Distribute`](crate::Distribute) and returns its handle, to wait for, await, watch or cancel.
    /// Inside a function that runs on this Manager's slots the call runs on the slot it has, before this returns.
    ///
    /// # Panics
    /// If the results would not fit the address space, as `Vec::with_capacity` does; so does [`send`](Self::send).
    pub fn call<O: Output>(&self, message: Distribute<O>) -> Call<O> {
        let started = message.start(&self.owner.session.0);
        if is_slot_of(&self.owner.session.0) {
            return started.run_here();
        }
        started.into_call(self.owner.session.clone())
    }

    /// Runs `function` on what an iterator gives, which may be endless, and gives the results one by one. It is one call,
    /// with the Manager's options. See [`ResultStream`].
    pub fn stream<A, R, I>(&self, function: ListKernel<A, R>, items: I) -> ResultStream<I::IntoIter, R>
    where
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A>,
    {
        let session = self.owner.session.clone();
        let settings = &session.0.settings;
        let job = function.clone().open(JobCore::new(next_call_id(), function.name(), 0, settings, false, false));
        let slots = session.0.slots();
        let shared = SharedJob::new(job.clone());
        let seat = if is_slot_of(&session.0) {
            events::job_submitted(&shared, events::Place::Here);
            if let Some(ending) = session.0.stopped() {
                job.end_here(ending);
            }
            Seat::Here
        } else {
            session.0.submit(shared);
            Seat::Slots { session, ends: false }
        };
        ResultStream::new(items.into_iter(), Opened { job, seat, slots })
    }

    /// The arbiter of the Manager's System thread, for light actors of your own beside it. Nothing there may block, and
    /// `wait` refuses to: await instead.
    pub fn arbiter(&self) -> ArbiterHandle {
        self.owner.arbiter.clone()
    }

    /// The actor's address, for other actors to keep. It does not keep the Manager running.
    pub fn address(&self) -> Addr<Manager> {
        self.owner.address.clone()
    }
}

/// What a [`ManagerHandle`] can send: [`Distribute`](crate::Distribute), [`Status`](crate::Status),
/// [`Cancel`](crate::Cancel), [`Finished`](crate::Finished), [`Shutdown`](crate::Shutdown).
pub trait ManagerMessage: Message + sealed::Sealed {
    #[doc(hidden)]
    fn deliver(
        self,
        manager: &ManagerHandle,
    ) -> impl Future<Output = Result<Self::Result, MailboxError>> + Send + use<Self>;
}

impl<O: Output> ManagerMessage for Distribute<O> {
    fn deliver(
        self,
        manager: &ManagerHandle,
    ) -> impl Future<Output = Result<Self::Result, MailboxError>> + Send + use<O> {
        let call = manager.call(self);
        async { Ok(call.await) }
    }
}

macro_rules! by_mailbox {
    ($($message:ty),*) => {$(
        impl ManagerMessage for $message {
            fn deliver(
                self,
                manager: &ManagerHandle,
            ) -> impl Future<Output = Result<Self::Result, MailboxError>> + Send + use<> {
                manager.owner.address.send(self)
            }
        }
    )*};
}
by_mailbox!(Status, Cancel, AddMachine, RemoveMachine, Finished, Shutdown);

mod sealed {
    pub trait Sealed {}
    impl<O: crate::Output> Sealed for crate::Distribute<O> {}
    impl Sealed for crate::Status {}
    impl Sealed for crate::Cancel {}
    impl Sealed for crate::AddMachine {}
    impl Sealed for crate::RemoveMachine {}
    impl Sealed for crate::Finished {}
    impl Sealed for crate::Shutdown {}
}

impl fmt::Debug for ManagerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerHandle").field("connected", &self.owner.address.connected()).finish()
    }
}
