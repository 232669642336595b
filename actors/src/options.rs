//! Methods that several public types share, each documented once.

/// Writes builder methods for the named options, over a field `told: Told`.
macro_rules! options {
    ($($option:ident),*) => { $( $crate::options::options!(@ $option); )* };
    ($($option:ident),*; where $bound:tt) => { $( $crate::options::options!(@ $option $bound); )* };
    (@ max_cpu) => {
        /// Uses at most `n` CPUs. Default: every CPU this process may use, by affinity and cgroup limit; more than
        /// that means all of them. `0` leaves all work to other machines, and is refused if there are none. Not together
        /// with [`slots`](Self::slots). Environment: `DISTFUN_MAX_CPU`;
        /// file: `max_cpu`.
        pub fn max_cpu(mut self, n: usize) -> Self {
            self.told.builder.max_cpu = Some(n);
            self
        }
    };
    (@ slots) => {
        /// Uses exactly `n` slots, which may be more than there are CPUs: for functions that wait more than they
        /// compute, and for tests. At most 4096; each slot is a thread. `0` leaves all work to other machines. Environment: `DISTFUN_SLOTS`;
        /// file: `slots`.
        pub fn slots(mut self, n: usize) -> Self {
            self.told.builder.slots = Some(n);
            self
        }
    };
    (@ max_gpu) => {
        /// Uses at most `n` GPUs of each machine. Default: every GPU that a process there may use (`CUDA_VISIBLE_DEVICES`
        /// and its relatives); more than that means all of them. Of a program that calls: only with a
        /// [`gpu_policy`](crate::DistributeBuilder::gpu_policy).
        /// Environment: `DISTFUN_MAX_GPU`; file: `max_gpu`.
        pub fn max_gpu(mut self, n: usize) -> Self {
            self.told.builder.max_gpu = Some(n);
            self
        }
    };
    (@ gpu_policy) => {
        /// Whether functions run on CPUs or on GPUs, judged over all machines ([`GpuPolicy`](crate::GpuPolicy)). On a GPU a
        /// function finds its device in [`Context::device`](crate::Context::device). Default: `NoGpu`. Environment:
        /// `DISTFUN_GPU_POLICY`; file: `gpu_policy = "no_gpu"`, `"prefer_gpu"`, `"require_all"`, `"gpu_or_fail"` or
        /// `"mixed"`.
        pub fn gpu_policy(mut self, policy: $crate::GpuPolicy) -> Self {
            self.told.builder.gpu_policy = Some(policy);
            self
        }
    };
    (@ software_gpu) => {
        /// Whether a driver that computes on the CPUs, as Mesa's llvmpipe does, counts as a GPU: for tests on machines
        /// without one. (llvmpipe ends each loop of a kernel after 65 535 rounds and says nothing: the result is wrong.)
        /// Default: no. Of a program that calls: only with a [`gpu_policy`](crate::DistributeBuilder::gpu_policy).
        /// Environment: `DISTFUN_SOFTWARE_GPU`; file: `software_gpu`.
        pub fn software_gpu(mut self, yes: bool) -> Self {
            self.told.builder.software_gpu = Some(yes);
            self
        }
    };
    (@ endaftercall) => {
        /// Whether everything is freed after the first call (default: yes). Then a second call, even one made while
        /// the first runs, returns `Ending::EndedAfterCall`. With `false`, the slots stay warm until `finished`,
        /// `shutdown` or drop. Environment: `DISTFUN_ENDAFTERCALL`; file: `endaftercall`.
        pub fn endaftercall(mut self, yes: bool) -> Self {
            self.told.builder.endaftercall = Some(yes);
            self
        }
    };
    (@ verbose) => {
        /// Shows progress and a summary on stderr: a bar on a terminal, otherwise a line every five seconds. Default:
        /// no. Environment: `DISTFUN_VERBOSE`; file: `verbose`.
        pub fn verbose(mut self, yes: bool) -> Self {
            self.told.builder.verbose = Some(yes);
            self
        }
    };
    (@ seed) => {
        /// Seed of the random numbers a function gets from its [`Context`](crate::Context). They depend on it and on
        /// the item's index only, so equal seeds repeat a call exactly, whatever the slots. Default: 0. Environment:
        /// `DISTFUN_SEED`; file: `seed`.
        pub fn seed(mut self, seed: u64) -> Self {
            self.told.builder.seed = Some(seed);
            self
        }
    };
    (@ max_calls) => {
        /// How many calls may be active at once; one more returns `Ending::Busy`. Default: 10 000. Too low refuses
        /// work that a queue could hold; too high lets a flood of calls fill the memory. Environment:
        /// `DISTFUN_MAX_CALLS`; file: `max_calls`.
        pub fn max_calls(mut self, n: usize) -> Self {
            self.told.builder.max_calls = Some(n);
            self
        }
    };
    (@ priority) => {
        /// Share of the slots against other active calls: `Low`, `Normal` (default) or `High`, four times as much per
        /// step. Environment: `DISTFUN_PRIORITY`; file: `priority = "low"`, `"normal"` or `"high"`.
        pub fn priority(mut self, priority: $crate::Priority) -> Self {
            self.told.builder.priority = Some(priority);
            self
        }
    };
    (@ machines) => { $crate::options::options!(@ machines []); };
    (@ machines [$($bound:tt)*]) => {
        /// Other machines to compute on, beside this one. On each a program serves that offers the function
        /// ([`node::serve`](crate::node::serve)). Each entry is
        /// - `bob`, `bob:2719`, `192.168.0.7`, `[fe80::1]:2718`, optionally with `*4` for at most four of its slots;
        /// - `n[01-08]`, which stands for `n01` to `n08`;
        /// - `ssh:bob` or `ssh:ann@bob`: `distfun node` is started there by ssh for the time of the connection, which needs no
        ///   cookie and no open port; `ssh bob true` must work without being asked anything;
        /// - `file:PATH` or `env:NAME`, with more entries; `dns:NAME`, every address of a name; `srv:_distfun._tcp.NAME`.
        ///
        /// Machines are connected when the first call starts, all at once, and again whenever a connection breaks; what
        /// a lost machine had is done elsewhere. Calls go on as long as anything computes. At addresses that are not
        /// loopback both sides show certificates, by TLS (`distfun init`, `distfun token`, `distfun join`). Environment:
        /// `DISTFUN_MACHINES`, entries between spaces or commas; file: `machines = ["bob", "ann:2719"]`.
        pub fn machines<M: Into<String>>(mut self, machines: impl IntoIterator<Item = M>) -> Self
        where
            $($bound)*
        {
            self.told.builder.machines = Some(machines.into_iter().map(Into::into).collect());
            self
        }
    };
    (@ port) => { $crate::options::options!(@ port []); };
    (@ port [$($bound:tt)*]) => {
        /// The port of nodes that are named without one. Default: 2718. Environment: `DISTFUN_PORT`; file: `port`.
        pub fn port(mut self, port: u16) -> Self
        where
            $($bound)*
        {
            self.told.builder.port = Some(port);
            self
        }
    };
    (@ named_pipe) => { $crate::options::options!(@ named_pipe []); };
    (@ named_pipe [$($bound:tt)*]) => {
        /// A node on this machine, by a local socket: a Unix domain socket, or a named pipe of Windows. `true` is the one
        /// called `distfun`; a text is another name. Both sides must belong to one user. Default: none. Environment:
        /// `DISTFUN_NAMED_PIPE`; file: `named_pipe`. (The side of Windows was never run.)
        pub fn named_pipe(mut self, name: impl Into<$crate::NamedPipe>) -> Self
        where
            $($bound)*
        {
            self.told.builder.named_pipe = Some(name.into());
            self
        }
    };
    (@ isolation) => { $crate::options::options!(@ isolation []); };
    (@ isolation [$($bound:tt)*]) => {
        /// Where slots of this machine run the function: on threads of this process (default), or each in a process of its
        /// own ([`Isolation`](crate::Isolation)). There an abort, a segmentation fault, a full stack or `exit` costs one
        /// slot, which is replaced; the item that ran is tried up to three times, alone from the second time on, and then
        /// fails as [`FailureCause::Poisoned`](crate::FailureCause); all others finish. What the function prints comes
        /// back as `distfun.worker.output` events, or to this program's own stdout and stderr if nobody listens to INFO.
        /// The program calls [`init`](crate::init) first. Linux only. Environment: `DISTFUN_ISOLATION`; file:
        /// `isolation = "process"`.
        ///
        /// ```standalone_crate
        /// use distfun::{FailureCause, Isolation, prelude::*};
        ///
        /// fn careful(x: u32) -> u32 {
        ///     if x == 3 { std::process::abort() } else { 2 * x }
        /// }
        ///
        /// # fn main() {
        /// distfun::init(); // the first line of `main`
        /// let error = distribute!(careful).isolation(Isolation::Process).build().unwrap().map(0..5u32).wait().unwrap_err();
        /// assert!(matches!(error.failed[0].cause, FailureCause::Poisoned { deaths: 3, .. }));
        /// assert_eq!(error.finished(), &[(0, 0), (1, 2), (2, 4), (4, 8)]);
        /// # }
        /// ```
        pub fn isolation(mut self, isolation: $crate::Isolation) -> Self
        where
            $($bound)*
        {
            self.told.builder.isolation = Some(isolation);
            self
        }
    };
    (@ item_timeout) => { $crate::options::options!(@ item_timeout []); };
    (@ item_timeout [$($bound:tt)*]) => {
        /// Longest that one item may run (under `accept_lists` and for column functions: one block of items). What runs
        /// longer is killed and fails as [`FailureCause::TimedOut`](crate::FailureCause), and its slot is replaced; other
        /// items go on. Only with [`isolation`](Self::isolation) in processes: a thread can't be stopped. Zero is no limit,
        /// which is the default. Environment: `DISTFUN_ITEM_TIMEOUT`; file: `item_timeout = "2.5s"`.
        pub fn item_timeout(mut self, limit: std::time::Duration) -> Self
        where
            $($bound)*
        {
            self.told.builder.item_timeout = Some(limit);
            self
        }
    };
    (@ max_memory) => { $crate::options::options!(@ max_memory []); };
    (@ max_memory [$($bound:tt)*]) => {
        /// Memory that each process of a slot may have, in bytes. An item that wants more dies with its process, which is
        /// replaced; after three times it fails as [`FailureCause::Poisoned`](crate::FailureCause), and nothing else of the
        /// machine is in want. What a process may ask for is bounded (`RLIMIT_DATA`), and where this user may make groups of
        /// processes in the kernel's memory controller (cgroup), what it has together with what it starts. Only with
        /// [`isolation`](Self::isolation) in processes. Zero is no limit, which is the default. Environment:
        /// `DISTFUN_MAX_MEMORY`; file: `max_memory = "512MiB"`.
        pub fn max_memory(mut self, bytes: u64) -> Self
        where
            $($bound)*
        {
            self.told.builder.max_memory = Some(bytes);
            self
        }
    };
    (@ flags) => {
        /// What the program's command line said, for options of your own that set these. It goes before the environment
        /// and the settings file; what the other methods here say goes before it.
        ///
        /// ```
        /// use distfun::{Overrides, prelude::*};
        ///
        /// // With clap, for example, from `#[arg(long)] slots: Option<usize>`.
        /// let flags = Overrides { slots: Some(2), ..Overrides::default() };
        /// assert_eq!(distribute!(f64::sqrt).flags(flags).build()?.map([4.0]).wait()?, [2.0]);
        /// # Ok::<(), distfun::Error>(())
        /// ```
        pub fn flags(mut self, flags: $crate::Overrides) -> Self {
            self.told.flags = flags;
            self
        }
    };
    (@ settings) => {
        /// The settings as they hold now, each with the source it is from. Starts nothing.
        ///
        /// # Errors
        /// Names an option, environment variable or place in the settings file that can't hold.
        pub fn settings(&self) -> Result<$crate::Settings, $crate::SettingsError> {
            $crate::config::resolve(&self.told)
        }
    };
}
pub(crate) use options;

/// Writes the methods that end what is built, over a field `lifecycle`.
macro_rules! endings {
    () => {
        /// The same function, on the same slots, with other shared data; what ends one ends both. Nothing is built or
        /// started anew, and calls that run keep the data they have.
        ///
        /// ```
        /// use distfun::{SharedData, prelude::*};
        ///
        /// fn shift(x: i64, shared: &SharedData) -> i64 {
        ///     x + shared.value::<i64>("by").copied().unwrap_or(0)
        /// }
        ///
        /// let by = |n: i64| SharedData::builder().value("by", &n)?.build();
        /// let shifted = distribute!(shift).shared_data(by(1)?).endaftercall(false).build()?;
        /// assert_eq!(shifted.map([1, 2]).wait()?, [2, 3]);
        /// assert_eq!(shifted.with_shared(by(10)?).map([1, 2]).wait()?, [11, 12]);
        /// # Ok::<(), distfun::Error>(())
        /// ```
        pub fn with_shared(&self, shared: $crate::SharedData) -> Self {
            Self { share: self.lifecycle.shares.add(shared), ..self.clone() }
        }

        /// How many slots there are on this machine: one for each CPU that calls may use, and one for each GPU.
        pub fn slots(&self) -> usize {
            self.lifecycle.slots()
        }

        /// Ends this distributed function: running calls return at once with what they finished, and the slots
        /// and their memory are freed. Waits for the items that run, at most two seconds. Idempotent.
        ///
        /// # Errors
        /// [`EndError::StillRunning`] if a thread is stuck inside an item; everything else is freed.
        pub fn finished(&self) -> Result<(), EndError> {
            self.lifecycle.end(Ending::Finished)
        }

        /// As [`finished`](Self::finished), on every machine: nodes that serve nobody else, and are no part of another
        /// program, stop too. Says what came of each.
        ///
        /// # Errors
        /// As [`finished`](Self::finished).
        pub fn shutdown(&self) -> Result<ShutdownReport, EndError> {
            self.lifecycle.shut_down()
        }
    };
}
pub(crate) use endings;
