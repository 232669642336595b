//! The settings of a distributed function or Manager, from five sources. The strongest that says something holds:
//! the builder, the command line, the environment, the settings file, the default.

mod environment;
mod error;
mod file;
mod gpu_policy;
mod isolation;
mod named_pipe;
mod table;

use std::{ffi::OsString, fmt, num::NonZeroUsize, path::Path, sync::Arc, time::Duration};

pub use self::{
    error::{Place, SettingsError},
    file::ConfigFile,
    gpu_policy::GpuPolicy,
    isolation::Isolation,
    named_pipe::NamedPipe,
    table::bytes,
};
use crate::{
    engine::{Limits, Priority},
    machines::MachineList,
};

/// Active calls a Manager accepts at once, unless told otherwise.
pub const DEFAULT_MAX_CALLS: usize = 10_000;

/// Largest number of slots: each is an operating system thread.
pub const MAX_SLOTS: usize = 4096;

/// The TCP port a node listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 2718;

/// The settings file, if [`CONFIG_VARIABLE`] names no other.
pub const CONFIG_FILE: &str = "distfun.toml";

/// The environment variable that names the settings file.
pub const CONFIG_VARIABLE: &str = "DISTFUN_CONFIG";

/// The environment variable that names the file with the secret that managers and nodes share; no setting.
pub const COOKIE_VARIABLE: &str = "DISTFUN_COOKIE";

/// Names the directory of this machine's credentials.
pub const CREDENTIALS_VARIABLE: &str = "DISTFUN_CREDENTIALS";

/// The environment variable with the command that reaches machines by ssh, `ssh` if it is not set; no setting.
pub const SSH_VARIABLE: &str = "DISTFUN_SSH";

/// The environment variable that names the folder in which a node keeps what it was sent; no setting.
pub const CACHE_VARIABLE: &str = "DISTFUN_CACHE";

/// Largest settings file: thousands of times what all settings need, and quick to refuse.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// What one source says; what it leaves out comes from a weaker one.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// At most this many CPUs.
    pub max_cpu: Option<usize>,
    /// Exactly this many slots.
    pub slots: Option<usize>,
    /// At most this many GPUs of each machine.
    pub max_gpu: Option<usize>,
    /// Whether functions run on CPUs or GPUs.
    pub gpu_policy: Option<GpuPolicy>,
    /// What computes on CPUs and looks like a GPU counts as one.
    pub software_gpu: Option<bool>,
    /// Free everything after the first call.
    pub endaftercall: Option<bool>,
    /// Show progress on stderr.
    pub verbose: Option<bool>,
    /// Seed of the random numbers that functions get.
    pub seed: Option<u64>,
    /// Active calls at once.
    pub max_calls: Option<usize>,
    /// Share against other calls.
    pub priority: Option<Priority>,
    /// Other machines to compute on, as [`machines`](crate::machines) has them.
    pub machines: Option<Vec<String>>,
    /// The port of machines that are named without one.
    pub port: Option<u16>,
    /// A node on this machine, by a local socket.
    pub named_pipe: Option<NamedPipe>,
    /// Where slots of this machine run.
    pub isolation: Option<Isolation>,
    /// Longest that one item may run; zero for no limit.
    pub item_timeout: Option<Duration>,
    /// Memory that each process of a slot may have, in bytes; zero for no limit.
    pub max_memory: Option<u64>,
}

/// What the program itself says.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// By methods of a builder.
    pub builder: Overrides,
    /// On its command line.
    pub flags: Overrides,
}

/// A source of settings, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A method of the builder.
    Builder,
    /// The program's command line.
    Flag,
    /// A `DISTFUN_*` variable.
    Environment,
    /// The settings file.
    File,
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Builder => "builder",
            Self::Flag => "command line",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        })
    }
}

/// Settings that hold.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Slots on CPUs of this machine.
    pub slots: usize,
    /// At most this many GPUs of each machine are used.
    pub max_gpu: usize,
    /// Whether functions run on CPUs or GPUs.
    pub gpu_policy: GpuPolicy,
    /// What computes on CPUs and looks like a GPU counts as one.
    pub software_gpu: bool,
    /// Whether each compute thread is bound to a CPU of its own: only when there is a slot for every CPU, since two
    /// programs that each use some CPUs would otherwise bind to the same ones.
    pub pinned: bool,
    /// Free everything after the first call.
    pub endaftercall: bool,
    /// Show progress on stderr.
    pub verbose: bool,
    /// Seed of the random numbers that functions get.
    pub seed: u64,
    /// Active calls at once.
    pub max_calls: usize,
    /// Share against other calls.
    pub priority: Priority,
    /// Other machines to compute on, not yet looked up.
    pub machines: MachineList,
    /// The port of machines that are named without one.
    pub port: u16,
    /// A node on this machine, by a local socket.
    pub named_pipe: NamedPipe,
    /// Where slots of this machine run.
    pub isolation: Isolation,
    /// Longest that one item may run.
    pub item_timeout: Option<Duration>,
    /// Memory that each process of a slot may have, in bytes.
    pub max_memory: Option<u64>,
    /// The settings file, if there was one.
    pub file: Option<Arc<Path>>,
    origins: Origins,
}

#[derive(Debug, Clone, Copy)]
struct Origins {
    slots: Origin,
    /// The setting that gave the number of slots.
    limit: &'static str,
    max_gpu: Origin,
    gpu_policy: Origin,
    software_gpu: Origin,
    endaftercall: Origin,
    verbose: Origin,
    seed: Origin,
    max_calls: Origin,
    priority: Origin,
    machines: Origin,
    port: Origin,
    named_pipe: Origin,
    isolation: Origin,
    item_timeout: Origin,
    max_memory: Origin,
}

/// One setting as it holds, to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// Its name.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// The source it is from.
    pub origin: Origin,
    /// Where exactly it is said: `DISTFUN_MAX_CPU`, or `max_cpu in /home/ann/distfun.toml`.
    pub said: String,
}

impl Settings {
    /// What the engine needs to know, of a machine with so many GPUs that may be used.
    pub fn limits(&self, gpus: usize) -> Limits {
        Limits { slots: self.slots, gpus, max_calls: self.max_calls }
    }

    /// Whether there is something to compute on, on a machine with so many GPUs that may be used: as far as that shows before
    /// anything starts. `why_none` says why nobody finds a GPU, and is asked only where that is an error.
    ///
    /// # Errors
    /// [`SettingsError::NoSlots`], [`SettingsError::NoGpu`].
    pub fn check_gpus(&self, gpus: usize, why_none: impl FnOnce() -> String) -> Result<(), SettingsError> {
        if gpus > 0 || !self.machines.is_empty() || self.named_pipe.is_on() {
            return Ok(());
        }
        let path = self.file.as_deref();
        if self.gpu_policy == GpuPolicy::GpuOrFail {
            let by = said(self.origins.gpu_policy, "gpu_policy", path);
            return Err(SettingsError::NoGpu { by, why: self.why_no_gpu(why_none) });
        }
        if self.slots == 0 {
            return Err(no_slots(self.origins.slots, self.origins.limit, None));
        }
        Ok(())
    }

    /// Why no GPU of this machine is used: for a limit of none, or as `why_none` says.
    pub fn why_no_gpu(&self, why_none: impl FnOnce() -> String) -> String {
        match self.max_gpu {
            0 => format!("{} is 0", said(self.origins.max_gpu, "max_gpu", self.file.as_deref())),
            _ => why_none(),
        }
    }

    /// Every setting, with where it is from.
    pub fn held(&self) -> Vec<Held> {
        let of = &self.origins;
        let held = |key, value, origin, by| Held { key, value, origin, said: said(origin, by, self.file.as_deref()) };
        let plain = |key, value, origin| held(key, value, origin, key);
        vec![
            held("slots", self.slots.to_string(), of.slots, of.limit),
            plain("max_gpu", table::gpus(self.max_gpu), of.max_gpu),
            plain("gpu_policy", self.gpu_policy.to_string(), of.gpu_policy),
            plain("software_gpu", self.software_gpu.to_string(), of.software_gpu),
            plain("endaftercall", self.endaftercall.to_string(), of.endaftercall),
            plain("verbose", self.verbose.to_string(), of.verbose),
            plain("seed", self.seed.to_string(), of.seed),
            plain("max_calls", self.max_calls.to_string(), of.max_calls),
            plain("priority", table::name(self.priority).into(), of.priority),
            plain("machines", self.machines.to_string(), of.machines),
            plain("port", self.port.to_string(), of.port),
            plain("named_pipe", self.named_pipe.to_string(), of.named_pipe),
            plain("isolation", self.isolation.to_string(), of.isolation),
            plain("item_timeout", table::limit(self.item_timeout), of.item_timeout),
            plain("max_memory", table::memory(self.max_memory), of.max_memory),
        ]
    }

    /// Resolves what is `told` over the `DISTFUN_*` variables in `environment`, those over the settings `file`, and
    /// that over the defaults, on a machine where `cpus` CPUs may be used.
    ///
    /// `max_cpu` and `slots` both say how many slots there are: the strongest source that has one of them decides, so
    /// that a variable can't contradict the program.
    ///
    /// # Errors
    /// Every source must be right, even where a stronger one makes it of no account. The error names the option,
    /// variable, or place in the file, its value, and what it must be.
    pub fn resolve(
        told: &Told,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        file: Option<&ConfigFile>,
        cpus: NonZeroUsize,
    ) -> Result<Self, SettingsError> {
        let environment = environment::read(environment)?;
        let in_file = file.map(ConfigFile::read).transpose()?.unwrap_or_default();
        let sources = Sources([
            (Origin::Builder, &told.builder),
            (Origin::Flag, &told.flags),
            (Origin::Environment, &environment),
            (Origin::File, &in_file),
        ]);
        let path = file.map(|file| file.path.as_path());
        sources.check(path)?;
        let (port, port_from) = sources.strongest(|said| said.port, DEFAULT_PORT);
        let (machines, machines_from) = sources.machines(port, path)?;
        let (named_pipe, named_pipe_from) = sources.strongest(|said| said.named_pipe.clone(), NamedPipe::from(false));
        let (gpu_policy, gpu_policy_from) = sources.strongest(|said| said.gpu_policy, GpuPolicy::NoGpu);
        // Whether there are GPUs shows later.
        if machines.is_empty() && !named_pipe.is_on() && !gpu_policy.wants_gpus() {
            sources.check_slots(file)?;
        }
        let (max_gpu, max_gpu_from) = sources.strongest(|said| said.max_gpu, usize::MAX);
        let (software_gpu, software_gpu_from) = sources.strongest(|said| said.software_gpu, false);
        let software_gpu_means = if software_gpu { software_gpu_from } else { Origin::Default };
        for (key, from) in [("max_gpu", max_gpu_from), ("software_gpu", software_gpu_means)] {
            // In the environment, or a file, it may be meant for other programs.
            if !gpu_policy.wants_gpus() && from <= Origin::Flag {
                return Err(SettingsError::NoPolicy { by: said(from, key, path) });
            }
        }
        let cpus = cpus.get();
        // A machine may have more CPUs than a Manager starts threads.
        let all = cpus.min(MAX_SLOTS);
        let ((limit, slots), slots_from) = sources.strongest(
            |said| {
                let max_cpu = said.max_cpu.map(|count| ("max_cpu", count.min(all)));
                max_cpu.or(said.slots.map(|count| ("slots", count)))
            },
            ("slots", all),
        );
        let (endaftercall, endaftercall_from) = sources.strongest(|said| said.endaftercall, true);
        let (verbose, verbose_from) = sources.strongest(|said| said.verbose, false);
        let (seed, seed_from) = sources.strongest(|said| said.seed, 0);
        let (max_calls, max_calls_from) = sources.strongest(|said| said.max_calls, DEFAULT_MAX_CALLS);
        let (isolation, isolation_from) = sources.strongest(|said| said.isolation, Isolation::Thread);
        let (item_timeout, item_timeout_from) = sources.strongest(|said| said.item_timeout, Duration::ZERO);
        let item_timeout = Some(item_timeout).filter(|limit| !limit.is_zero());
        if item_timeout.is_some() && isolation == Isolation::Thread && slots > 0 {
            return Err(SettingsError::TimeoutOnThreads { by: said(item_timeout_from, "item_timeout", path) });
        }
        let (max_memory, max_memory_from) = sources.strongest(|said| said.max_memory, 0);
        let max_memory = Some(max_memory).filter(|bytes| *bytes > 0);
        if max_memory.is_some() && isolation == Isolation::Thread && slots > 0 {
            return Err(SettingsError::MemoryOnThreads { by: said(max_memory_from, "max_memory", path) });
        }
        let (priority, priority_from) = sources.strongest(|said| said.priority, Priority::Normal);
        let origins = Origins {
            slots: slots_from,
            limit,
            max_gpu: max_gpu_from,
            gpu_policy: gpu_policy_from,
            software_gpu: software_gpu_from,
            endaftercall: endaftercall_from,
            verbose: verbose_from,
            seed: seed_from,
            max_calls: max_calls_from,
            priority: priority_from,
            machines: machines_from,
            port: port_from,
            named_pipe: named_pipe_from,
            isolation: isolation_from,
            item_timeout: item_timeout_from,
            max_memory: max_memory_from,
        };
        Ok(Self {
            slots,
            max_gpu,
            gpu_policy,
            software_gpu,
            pinned: slots == cpus,
            endaftercall,
            verbose,
            seed,
            max_calls,
            priority,
            machines,
            port,
            named_pipe,
            isolation,
            item_timeout,
            max_memory,
            file: path.map(Arc::from),
            origins,
        })
    }

    /// The same for what runs on the threads of this process only, whatever machines there are and wherever else it could run.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve), and [`SettingsError::NoSlots`] also where other machines are given.
    pub fn resolve_alone(
        told: &Told,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        file: Option<&ConfigFile>,
        cpus: NonZeroUsize,
    ) -> Result<Self, SettingsError> {
        let settings = Self::resolve(told, environment, file, cpus)?;
        if settings.slots == 0 && !settings.gpu_policy.wants_gpus() {
            return Err(no_slots(settings.origins.slots, settings.origins.limit, file));
        }
        Ok(Self {
            machines: MachineList::none(),
            isolation: Isolation::Thread,
            item_timeout: None,
            max_memory: None,
            ..settings
        })
    }
}

/// That the limit `key` is 0, as its source has it.
fn no_slots(origin: Origin, key: &str, file: Option<&ConfigFile>) -> SettingsError {
    let by = match origin {
        Origin::Flag => format!("--{} 0", key.replace('_', "-")),
        Origin::Environment => format!("{}=\"0\"", environment::variable(key)),
        Origin::File => file.and_then(|file| file.written(key)).unwrap_or_else(|| format!("{key} = 0")),
        Origin::Builder | Origin::Default => format!("{key}(0)"),
    };
    SettingsError::NoSlots { by }
}

/// Where exactly a setting is said.
fn said(origin: Origin, key: &str, file: Option<&Path>) -> String {
    match (origin, file) {
        (Origin::Builder, _) => format!(".{key}()"),
        (Origin::Flag, _) => format!("--{}", key.replace('_', "-")),
        (Origin::Environment, _) => environment::variable(key),
        (Origin::File, Some(path)) => format!("{key} in {}", path.display()),
        _ => origin.to_string(),
    }
}

/// Who says what, strongest first.
struct Sources<'a>([(Origin, &'a Overrides); 4]);

impl Sources<'_> {
    /// What the strongest source says that says anything.
    fn strongest<T>(&self, of: impl Fn(&Overrides) -> Option<T>, default: T) -> (T, Origin) {
        let found = self.0.iter().find_map(|(origin, said)| Some((of(said)?, *origin)));
        found.unwrap_or((default, Origin::Default))
    }

    /// That no source contradicts itself, or says what environment and file could not.
    fn check(&self, file: Option<&Path>) -> Result<(), SettingsError> {
        for (origin, said) in &self.0 {
            if let (Some(max_cpu), Some(slots)) = (said.max_cpu, said.slots) {
                let by = match (origin, file) {
                    (Origin::File, Some(path)) => path.display().to_string(),
                    _ => format!("the {origin}"),
                };
                return Err(SettingsError::BothLimits { max_cpu, slots, by });
            }
            if let Some(slots) = said.slots.filter(|&slots| slots > MAX_SLOTS) {
                return Err(SettingsError::TooManySlots { slots });
            }
            if said.max_calls == Some(0) {
                return Err(SettingsError::NoCalls);
            }
            if said.port == Some(0) {
                return Err(SettingsError::NoPort);
            }
            if let Some(Err(error)) = said.named_pipe.as_ref().map(NamedPipe::check) {
                let by = self::said(*origin, "named_pipe", file);
                return Err(SettingsError::NamedPipe { by, why: error.to_string() });
            }
        }
        Ok(())
    }

    /// That every source leaves something to compute on, where there is this machine only.
    fn check_slots(&self, file: Option<&ConfigFile>) -> Result<(), SettingsError> {
        for (origin, said) in &self.0 {
            for (key, limit) in [("max_cpu", said.max_cpu), ("slots", said.slots)] {
                if limit == Some(0) {
                    return Err(no_slots(*origin, key, file));
                }
            }
        }
        Ok(())
    }

    /// The machines that the strongest source names, all of them read, since each must be right.
    fn machines(&self, port: u16, file: Option<&Path>) -> Result<(MachineList, Origin), SettingsError> {
        let none = MachineList::parse::<String>(&[], port).expect("an empty list is right");
        let mut strongest = (none, Origin::Default);
        for (origin, said) in self.0.iter().rev() {
            if let Some(texts) = &said.machines {
                let wrong = |error| SettingsError::Machines { by: self::said(*origin, "machines", file), error };
                strongest = (MachineList::parse(texts, port).map_err(wrong)?, *origin);
            }
        }
        Ok(strongest)
    }
}

#[cfg(test)]
mod tests;
