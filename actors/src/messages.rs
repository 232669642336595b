//! What a Manager is told, and what it answers.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use actix::{Message, dev::OneshotSender};
use distfun_core::{
    engine::{EngineStatus, Priority},
    failure::Ending,
    ids::CallId,
    machines::MachinesError,
    shared_data::SharedData,
};

use crate::{
    call::{Call, CallBody, ColumnResult, Output, Prepared},
    compute::catch::contain,
    error::{CallError, EndError},
    input::{Columns, OwnedColumns},
    job::{JobCore, ListInput, SharedJob, next_call_id, run_on_own_slot},
    kernel::{ColumnKernel, ListKernel},
    pool::{Pool, Session},
};

/// Runs a function over its input on the Manager's slots.
///
/// Sent by any actor or task, in any state of the Manager. The answer comes when the call has ended, from the compute
/// thread that ended it: all results, or a [`CallError`] with the items that failed and the results that are there.
/// After [`Finished`] or [`Shutdown`] the answer is that ending, at once. Dropping the future of the answer cancels the
/// call. Function and input are moved, never serialized.
///
/// ```
/// use distfun::{Distribute, Manager, prelude::*};
///
/// # actix::System::new().block_on(async {
/// let manager = Manager::builder().slots(2).start()?;
/// let roots = manager.send(Distribute::map(function!(f64::sqrt), [4.0, 9.0])).await??;
/// assert_eq!(roots, [2.0, 3.0]);
/// # Ok::<(), distfun::Error>(()) }).unwrap();
/// ```
#[must_use = "a message does nothing until it is sent"]
pub struct Distribute<O: Output> {
    call: CallId,
    function: &'static str,
    items: usize,
    stops_at_failure: bool,
    priority: Option<Priority>,
    seed: Option<u64>,
    shared: SharedData,
    prepare: Box<dyn FnOnce(JobCore) -> Prepared<O> + Send>,
}

impl<O: Output> Distribute<O> {
    fn new(
        function: &'static str,
        items: usize,
        stops_at_failure: bool,
        prepare: impl FnOnce(JobCore) -> Prepared<O> + Send + 'static,
    ) -> Self {
        let prepare = Box::new(prepare);
        Self {
            call: next_call_id(),
            function,
            items,
            stops_at_failure,
            priority: None,
            seed: None,
            shared: SharedData::default(),
            prepare,
        }
    }

    /// The id under which [`Status`] lists the call and [`Cancel`] ends it.
    pub fn call_id(&self) -> CallId {
        self.call
    }

    /// Share of the slots against other active calls. Default: `DISTFUN_PRIORITY` or `priority` in the settings file of
    /// the Manager, else normal.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Seed of the random numbers for this call. Default: the Manager's.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The shared data its function gets. Default: none.
    pub fn shared_data(mut self, shared: SharedData) -> Self {
        self.shared = shared;
        self
    }

    pub(crate) fn start(self, pool: &Arc<Pool>) -> Started<O> {
        let mut settings = pool.settings.clone();
        settings.priority = self.priority.unwrap_or(settings.priority);
        settings.seed = self.seed.unwrap_or(settings.seed);
        let core = JobCore::new(self.call, self.function, self.items, &settings, self.stops_at_failure, false)
            .sharing(self.shared);
        let Prepared { job, body } = (self.prepare)(core);
        Started { body, job, pool: pool.clone() }
    }
}

impl<R: Send + 'static> Distribute<Vec<R>> {
    /// `function` on every item; results in input order. An `Err` from the function is an ordinary result.
    pub fn map<A: Send + 'static>(function: ListKernel<A, R>, items: impl IntoIterator<Item = A>) -> Self {
        let items = ListInput::Owned(items.into_iter().collect());
        Self::new(function.name(), items.len(), false, move |core| function.prepare(core, items, Vec::new()))
    }

    /// `function` on every item; the first `Err` (or panic) in input order ends the call.
    pub fn try_map<A, E>(function: ListKernel<A, Result<R, E>>, items: impl IntoIterator<Item = A>) -> Self
    where
        A: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let items = ListInput::Owned(items.into_iter().collect());
        Self::new(function.name(), items.len(), true, move |core| function.prepare_try(core, items))
    }
}

impl<Y: ColumnResult> Distribute<Y> {
    /// `function` on the columns of `x` (D x N: `Array2`, `ArcArray2` or `Arc<Array2>`); the result equals
    /// `function(x.view())`.
    pub fn columns<T>(function: ColumnKernel<T, Y>, x: impl OwnedColumns<T>) -> Self
    where
        T: Send + Sync + 'static,
    {
        let Columns(x) = x.into_columns();
        Self::new(function.name(), x.view().ncols(), false, move |core| function.prepare(core, x, Vec::new()))
    }
}

impl<O: Output> Message for Distribute<O> {
    type Result = Result<O, CallError<O>>;
}

impl<O: Output> fmt::Debug for Distribute<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distribute").field("call", &self.call).field("function", &self.function).finish_non_exhaustive()
    }
}

/// How the Manager answers [`Distribute`]; none if the call could not even be prepared.
pub struct CallReply<O: Output>(pub(crate) Option<Started<O>>);

/// A call whose answer's sender travels with it.
pub(crate) struct Started<O: Output> {
    body: Arc<dyn CallBody<O>>,
    job: SharedJob,
    pool: Arc<Pool>,
}

impl<O: Output> Started<O> {
    /// Starts the call; its end is its handle's to tell.
    pub(crate) fn into_call(self, session: Arc<Session>) -> Call<O> {
        self.pool.submit(self.job);
        Call::new(self.body, Some(session), false)
    }

    /// Runs the call on the slot that this thread is.
    pub(crate) fn run_here(self) -> Call<O> {
        run_on_own_slot(&self.pool, &self.job);
        Call::new(self.body, None, false)
    }

    /// Starts the call; its end is sent to `sender`.
    pub(crate) fn answer(self, sender: Option<OneshotSender<Result<O, CallError<O>>>>) {
        let Self { body: ours, job, pool } = self;
        let body = ours.clone();
        let sender = Arc::new(Mutex::new(sender));
        let asker = sender.clone();
        let take = move || lock(&sender).take();
        ours.core().when_ended(
            move || {
                if let Some(sender) = take() {
                    let _ = sender.send(body.take()); // fails if nobody waits any more
                }
            },
            move || lock(&asker).as_ref().is_none_or(OneshotSender::is_closed),
        );
        pool.submit(job);
        // The last share of a call that was refused: its items are dropped here.
        contain(|| drop(ours));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the slots and frees their memory; running calls return with what they finished. Sent by anyone, in any state;
/// idempotent. Answered when the slots are gone, within two seconds. Calls sent later return `Ending::Finished`.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), EndError>")]
pub struct Finished;

/// As [`Finished`], on every machine; calls sent later return `Ending::ShutDown`. Answered with one outcome per
/// machine.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<ShutdownReport, EndError>")]
pub struct Shutdown;

/// What [`Shutdown`] did, by machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// One entry per machine.
    pub machines: Vec<MachineEnd>,
}

/// How one machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MachineEnd {
    /// Its name; this machine is `local`.
    pub machine: String,
    /// What has become of its slots, or of its node.
    pub outcome: MachineOutcome,
}

/// What has become of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MachineOutcome {
    /// Its slots, or its node, have ended.
    Ended,
    /// Its node goes on, for the reason given; nothing of this Manager is left there.
    Stays(String),
    /// It was not connected, or did not answer in time; why, as far as is known.
    Unreached(String),
}

impl fmt::Display for MachineEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            MachineOutcome::Ended => write!(f, "{}: ended", self.machine),
            MachineOutcome::Stays(why) => write!(f, "{}: {why}", self.machine),
            MachineOutcome::Unreached(why) => write!(f, "{}: not reached: {why}", self.machine),
        }
    }
}

impl MachineEnd {
    pub(crate) fn answered(machine: String, answer: Option<Option<String>>) -> Self {
        let outcome = match answer {
            Some(None) => MachineOutcome::Ended,
            Some(Some(why)) => MachineOutcome::Stays(why),
            None => MachineOutcome::Unreached("it did not answer in time".into()),
        };
        Self { machine, outcome }
    }

    pub(crate) fn left(machine: String) -> Self {
        Self { machine, outcome: MachineOutcome::Stays("its node goes on".into()) }
    }

    pub(crate) fn unreached(machine: String, why: Option<String>) -> Self {
        let why = why.unwrap_or_else(|| "it was not connected".into());
        Self { machine, outcome: MachineOutcome::Unreached(why) }
    }
}

impl ShutdownReport {
    pub(crate) fn of(nodes: Vec<MachineEnd>) -> Self {
        let local = MachineEnd { machine: "local".into(), outcome: MachineOutcome::Ended };
        Self { machines: [vec![local], nodes].concat() }
    }
}

/// Adds machines while the Manager runs: calls that run use them too. Sent by anyone; answered at once with how many
/// there are, before any is connected. What an entry may be: see [`ManagerBuilder::machines`](crate::ManagerBuilder::machines).
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<usize, MachineError>")]
pub struct AddMachine(pub(crate) String);

impl AddMachine {
    /// `machine` as in `machines`: `"bob"`, `"bob:2719*4"`, `"n[01-08]"`.
    pub fn new(machine: impl Into<String>) -> Self {
        Self(machine.into())
    }
}

/// Parts from a machine: what it has of running calls is done elsewhere, its node goes on. Sent by anyone; answered when
/// it is told so.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), MachineError>")]
pub struct RemoveMachine(pub(crate) String);

impl RemoveMachine {
    /// `machine` by its name in logs: `"bob"`, or `"bob:2719"` if its port is not the usual one.
    pub fn new(machine: impl Into<String>) -> Self {
        Self(machine.into())
    }
}

/// A machine could not be added or removed. Nothing has changed.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// The entry is not right.
    #[error(transparent)]
    Malformed(#[from] MachinesError),
    /// There is one of this name already.
    #[error("{machine} is one of the machines already")]
    Twice {
        /// Its name.
        machine: String,
    },
    /// There is none of this name.
    #[error("{machine} is not one of the machines; there are: {known}")]
    Unknown {
        /// As given.
        machine: String,
        /// Their names.
        known: String,
    },
    /// The Manager has ended.
    #[error("{0}")]
    Ended(Ending),
    /// The operating system gave no thread for connections.
    #[error("no thread for connections could be started: {0}")]
    Thread(String),
}

/// Asks what every slot and call is doing. Sent by anyone, in any state; answered at once, changes nothing.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "EngineStatus")]
pub struct Status;

/// Ends one call with what it has finished; its caller gets `Ending::Cancelled`. Answered with whether the call was
/// active. An item that runs goes on unless it asks its context; its result is dropped.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "bool")]
pub struct Cancel(pub CallId);

/// What the parts of a Manager tell one another.
pub(crate) mod internal {
    use std::{sync::Arc, time::Duration};

    use actix::Message;
    use distfun_core::{
        ids::{Generation, NodeId, WorkerId},
        machines::Machine,
    };

    use crate::job::JobCore;

    /// Pool to Manager to Worker: start the thread of a new life.
    #[derive(Message)]
    #[rtype(result = "()")]
    pub(crate) struct Restart {
        pub(crate) slot: WorkerId,
        pub(crate) generation: Generation,
        pub(crate) after: Duration,
    }

    /// Pool to Manager: step the engine after this long.
    #[derive(Message)]
    #[rtype(result = "()")]
    pub(crate) struct WakeIn(pub(crate) Duration);

    /// Pool to Manager to Workers: the engine has released the slots.
    #[derive(Message)]
    #[rtype(result = "()")]
    pub(crate) struct SlotsReleased;

    /// Worker to Manager: its thread has ended for good.
    #[derive(Message)]
    #[rtype(result = "()")]
    pub(crate) struct WorkerGone(pub(crate) WorkerId);

    /// The last handle to Manager: nobody will ask any more.
    #[derive(Message)]
    #[rtype(result = "()")]
    pub(crate) struct Quit;

    /// The thread that looked up a list of machines to Manager: connect them.
    #[derive(Message)]
    #[rtype(result = "()")]
    pub(crate) struct Connect {
        pub(crate) machines: Vec<Machine>,
        /// What calls waited for meanwhile.
        pub(crate) placeholder: NodeId,
        pub(crate) trouble: Option<String>,
    }

    /// Pool to Manager: show the progress of this call.
    #[derive(Message)]
    #[rtype(result = "()")]
    pub(crate) struct Watch(pub(crate) Arc<JobCore>);

    /// Pool to Manager: a verbose call has ended; show it now.
    #[derive(Message)]
    #[rtype(result = "()")]
    pub(crate) struct Redraw;
}
