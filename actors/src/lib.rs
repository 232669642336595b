//! distfun runs any function, transparently, over the CPUs of this machine and of others.
//!
//! ```
//! use distfun::prelude::*;
//! use ndarray::{Array1, Array2, ArrayView2, Axis, array};
//!
//! fn inverse(a: f64) -> f64 {
//!     1.0 / a
//! }
//!
//! fn sums(x: ArrayView2<f64>) -> Array1<f64> {
//!     x.sum_axis(Axis(0))
//! }
//!
//! // A list: results in input order.
//! assert_eq!(distribute!(inverse).build()?.map([2.0, 4.0]).wait()?, [0.5, 0.25]);
//!
//! // A matrix, split by columns: equal to `sums(x)`.
//! let x = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
//! assert_eq!(distribute!(sums).build()?.columns(&x).wait()?, array![5.0, 7.0, 9.0]);
//! # Ok::<(), distfun::Error>(())
//! ```
//!
//! # Main types
//! - [`distribute!`] and [`distribute_local`] make a [`DistributeBuilder`]; built, a [`DistributedFunction`] or a
//!   [`ColumnFunction`], which own their slots.
//! - Calls return a [`Call`] (owned input: wait, await, cancel) or a [`Scoped`] (borrowed input: wait).
//! - [`SharedData`]: arrays and values that every item may read, in memory once.
//! - `stream` gives a [`ResultStream`]: results one by one, from input that may be endless. [`Call::fold_tree`] combines
//!   results where they are made. [`Context::slot_state`] keeps what a function opens once per slot.
//! - [`retries`](DistributeBuilder::retries) and [`Retry`] run items that fail again.
//! - Services start a [`Manager`] and send it [`Distribute`], [`Status`], [`Cancel`], [`Finished`] and [`Shutdown`].
//! - [`node::serve`] offers functions to other programs, which name this one in
//!   [`machines`](DistributeBuilder::machines); [`machines::check`] asks whether machines can be used.
//! - A function may take a [`Context`]: random numbers that repeat, its index, whether it is cancelled.
//!
//! # Settings
//! What a builder leaves open comes from the strongest source that has it: the program's command line, if it hands that
//! on by [`flags`](DistributeBuilder::flags); `DISTFUN_*` environment variables; the file `distfun.toml` in the current
//! directory, or the one that `DISTFUN_CONFIG` names; the default. Each option names its variable and key.
//! [`settings`](DistributeBuilder::settings) tells what holds and where it is from.
//!
//! # Other machines
//! A machine computes for whoever names it in [`machines`](DistributeBuilder::machines) and is known to it: on one machine by the
//! same cookie file, between machines by certificates of one cluster (`distfun init`, `distfun token`, `distfun join`).
//! - **`distfun node`** (from the package `distfun-cli`, Linux only) knows nothing: it asks a program for its executable, once,
//!   checks and keeps it, and runs its functions in processes of their own.
//! - **A program that calls [`node::serve`]** runs functions that it offers itself, found by path and types, whatever its build.
//!
//! A program that names machines calls [`init`] first. What a lost machine had is done elsewhere, so an item may run more than
//! once. `docs/NODES.md` in the repository says what is promised, with all limits.
//!
//! ```standalone_crate
//! use distfun::{node, prelude::*};
//!
//! fn square(x: f64) -> f64 {
//!     x * x
//! }
//!
//! # fn main() -> Result<(), distfun::Error> {
//! distfun::init(); // the first line of a program that names machines
//!
//! // In one program. It may be the same as the other, started differently; port 0 is any that is free.
//! let node = node::start(node::config().listen("127.0.0.1:0").offer(function!(square)))?;
//!
//! // In the other: this machine's CPUs and the node's. (Here both are one process, which gains nothing by itself; the
//! // call goes on without it.)
//! let squares = distribute!(square).machines([node.address()]).build()?.map([2.0, 3.0]).wait()?;
//! assert_eq!(squares, [4.0, 9.0]);
//! # Ok(()) }
//! ```
//!
//! # Panics and the log
//! A panic inside a distributed function becomes a failure of its item, with text and place, and is not printed; to that
//! end the first call sets a panic hook, which passes all other panics on to the hook that was there. What supervision
//! does is said as `tracing` events with stable names and fields (`docs/EVENTS.md`); without a subscriber they go nowhere
//! and cost nothing. [`log::json`] writes them as lines of JSON, and [`view`] reads such lines: what a log tells, as a state.
//!
//! # Features
//! - `cuda`: GPUs of NVIDIA's through CUDA, which is loaded where it is there ([`gpu`]). Off by default.
//! - `wgpu`: GPUs through Vulkan, Metal or DirectX 12 ([`gpu`]). Off by default.
//! - `log` (on by default): [`log`], the log as lines of JSON.
//! - `metrics`: what the events tell, as metrics, through the `metrics` facade. Off by default.
//! - `metrics-server`: serves them for Prometheus, at an address of this machine. Off by default.
//! - `tls` (on by default): nodes on other machines. Without it only those of this machine can be reached, at loopback
//!   addresses, tunnels among them, and local sockets, and those by `ssh:`.
//! - `fault-injection`: lets a test kill the compute thread it runs on. Off by default, for tests only.
//!
//! # Where to read next
//! `ARCHITECTURE.md` in the repository has the code map, the life of one call, and the promises; the `examples` folder
//! has whole programs.

mod call;
mod compute;
mod config;
mod credentials;
mod distribute;
mod error;
mod events;
mod failures;
#[cfg(feature = "fault-injection")]
pub mod fault;
pub mod gpu;
#[cfg(target_os = "linux")]
mod host;
#[cfg(not(target_os = "linux"))]
#[path = "host/nowhere.rs"]
mod host;
mod input;
mod instance;
mod interrupt;
mod job;
mod kernel;
#[cfg(any(feature = "log", feature = "metrics"))]
mod layers;
mod lifecycle;
#[cfg(feature = "log")]
pub mod log;
pub mod machines;
mod manager;
mod messages;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod node;
mod options;
mod pool;
pub mod prelude;
#[allow(missing_docs, reason = "what the macros expand to")]
mod probe;
mod progress;
#[allow(missing_docs, reason = "what the macros expand to")]
mod registry;
mod remote_node;
mod retry;
mod share;
mod stream;
mod wire;
mod worker;

pub use call::{Call, Canceller, ColumnResult, Folded, Output, Progress, Scoped};
#[doc(inline)]
pub use distfun_core::view;
pub use distfun_core::{
    engine::{Activity, CallStatus, EngineStatus as StatusReport, NodeState, NodeStatus, Priority, SlotStatus},
    failure::{Ending, FailureCause, ItemFailure, WorkerExit},
    function::{Context, ContextRng, Device, Gpu, ItemRng, SlotState},
    ids::{CallId, Generation, NodeId, WorkerId},
    machines::MachinesError,
    options::{GpuPolicy, Held, Isolation, NamedPipe, Origin, Overrides, Place, Settings, SettingsError},
    placement::{Placement, SlotKind},
    shared_data::{Element, ElementType, SharedData, SharedDataBuilder, SharedDataError, Storage},
};
pub use distribute::{
    Anywhere, ColumnFunction, DistributeBuilder, DistributedFunction, Kernel, ThisMachine, Travels, distribute_local,
    distribute_local_columns, distribute_local_ref,
};
pub use error::{BuildError, CallError, CallFailure, EndError, Error, NoProcesses, StartError};
pub use host::init;
pub use input::{ColumnsInput, MapInput, OwnedColumns};
pub use interrupt::catch_interrupt;
pub use kernel::{AsFunction, AsKernel, ColumnKernel, Distributable, GpuForm, GpuFormOf, ListKernel};
pub use manager::{Manager, ManagerBuilder, ManagerHandle, ManagerMessage};
pub use messages::{
    AddMachine, Cancel, Distribute, Finished, MachineEnd, MachineError, MachineOutcome, RemoveMachine, Shutdown,
    ShutdownReport, Status,
};
pub use registry::function_names;
pub use retry::Retry;
pub use stream::{AsCompleted, InOrder, ResultIter, ResultStream, StreamOrder};

// Types of these crates are part of the signatures above.
pub use actix;
pub use ndarray;

/// What the macros expand to; not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use inventory;

    #[cfg(target_os = "linux")]
    pub use crate::host::HostTest;
    pub use crate::{
        probe::{ClonesItems, Function, Probe, Registered, RegisteredUnsized, Unregistered, UnsizedArgument},
        registry::Entry,
    };
}

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "wgpu"))]
#[doc = include_str!("../../docs/GPU.md")]
struct GpuPage;
