//! The settings of a distributed function or Manager: what the builder said, else the environment, else the default.

use std::{ffi::OsString, num::NonZeroUsize};

use crate::engine::{Limits, Priority};

/// Active calls a Manager accepts at once, unless told otherwise.
pub const DEFAULT_MAX_CALLS: usize = 10_000;

/// Largest number of slots: each is an operating system thread.
pub const MAX_SLOTS: usize = 4096;

/// What a builder was told; everything else comes from the environment or is the default.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `.max_cpu(n)`
    pub max_cpu: Option<usize>,
    /// `.slots(n)`
    pub slots: Option<usize>,
    /// `.endaftercall(yes)`
    pub endaftercall: Option<bool>,
    /// `.verbose(yes)`
    pub verbose: Option<bool>,
    /// `.seed(n)`
    pub seed: Option<u64>,
    /// `.max_calls(n)`
    pub max_calls: Option<usize>,
    /// `.priority(p)`
    pub priority: Priority,
}

/// Settings that hold.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Slots of this machine.
    pub slots: usize,
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
}

impl Settings {
    /// What the engine needs to know.
    pub fn limits(&self) -> Limits {
        Limits { slots: self.slots, max_calls: self.max_calls }
    }

    /// Resolves `told` over the `DISTFUN_*` variables in `environment`, on a machine where `cpus` CPUs may be used.
    ///
    /// # Errors
    /// Names the option or variable, its value, and what it must be.
    pub fn resolve(
        told: &Overrides,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        cpus: NonZeroUsize,
    ) -> Result<Self, SettingsError> {
        let env = Environment::read(environment)?;
        // Both say how many slots there are; the stronger source wins as a whole, so that a variable can't contradict
        // the program.
        let (max_cpu, slots) = match (told.max_cpu, told.slots) {
            (Some(max_cpu), Some(slots)) => return Err(SettingsError::BothLimits { max_cpu, slots }),
            (None, None) => (env.max_cpu, env.slots),
            said => said,
        };
        let cpus = cpus.get();
        let count = match (max_cpu, slots) {
            (Some(max_cpu), Some(slots)) => return Err(SettingsError::BothLimits { max_cpu, slots }),
            (None, None) => cpus,
            (Some(max_cpu), None) => max_cpu.min(cpus),
            (None, Some(slots)) => slots,
        };
        match count {
            0 => return Err(SettingsError::NoSlots),
            too_many if too_many > MAX_SLOTS => return Err(SettingsError::TooManySlots { slots: too_many }),
            _ => {}
        }
        let max_calls = told.max_calls.or(env.max_calls).unwrap_or(DEFAULT_MAX_CALLS);
        if max_calls == 0 {
            return Err(SettingsError::NoCalls);
        }
        Ok(Self {
            slots: count,
            pinned: count == cpus,
            endaftercall: told.endaftercall.or(env.endaftercall).unwrap_or(true),
            verbose: told.verbose.or(env.verbose).unwrap_or(false),
            seed: told.seed.or(env.seed).unwrap_or(0),
            max_calls,
            priority: told.priority,
        })
    }
}

/// A setting that can't hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// `max_cpu(0)` or `slots(0)`, and no other machine to do the work.
    #[error("max_cpu(0) or slots(0) leaves nothing to compute on, since no other machine is given; allow at least 1")]
    NoSlots,
    /// Both limits were given by one source.
    #[error(
        "both max_cpu({max_cpu}) and slots({slots}) are given, by the builder or by DISTFUN_MAX_CPU and DISTFUN_SLOTS; keep max_cpu to stay within the CPUs, or slots for an exact number"
    )]
    BothLimits {
        /// As given.
        max_cpu: usize,
        /// As given.
        slots: usize,
    },
    /// More slots than [`MAX_SLOTS`].
    #[error("slots({slots}) is more than the {MAX_SLOTS} threads that one Manager starts")]
    TooManySlots {
        /// As given.
        slots: usize,
    },
    /// `max_calls(0)`.
    #[error("max_calls(0) would refuse every call; allow at least 1")]
    NoCalls,
    /// An environment variable has a value of the wrong form.
    #[error("environment variable {name}={value:?} is not {expected}; correct or unset it")]
    Malformed {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A variable that starts with `DISTFUN_` but is not known.
    #[error("environment variable {name} is not a setting of distfun; {hint}")]
    Unknown {
        /// The variable.
        name: String,
        /// The closest known one, or all of them.
        hint: String,
    },
}

/// Every variable there is.
const VARIABLES: [&str; 6] = [
    "DISTFUN_MAX_CPU",
    "DISTFUN_SLOTS",
    "DISTFUN_ENDAFTERCALL",
    "DISTFUN_VERBOSE",
    "DISTFUN_SEED",
    "DISTFUN_MAX_CALLS",
];

#[derive(Debug, Default)]
struct Environment {
    max_cpu: Option<usize>,
    slots: Option<usize>,
    endaftercall: Option<bool>,
    verbose: Option<bool>,
    seed: Option<u64>,
    max_calls: Option<usize>,
}

impl Environment {
    fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, SettingsError> {
        let mut found = Self::default();
        for (name, value) in variables {
            let name = name.to_string_lossy();
            if !name.starts_with("DISTFUN_") {
                continue;
            }
            let value = value.to_string_lossy();
            match &*name {
                "DISTFUN_MAX_CPU" => found.max_cpu = Some(positive(VARIABLES[0], &value)?),
                "DISTFUN_SLOTS" => found.slots = Some(positive(VARIABLES[1], &value)?),
                "DISTFUN_ENDAFTERCALL" => found.endaftercall = Some(flag(VARIABLES[2], &value)?),
                "DISTFUN_VERBOSE" => found.verbose = Some(flag(VARIABLES[3], &value)?),
                "DISTFUN_SEED" => found.seed = Some(seed(VARIABLES[4], &value)?),
                "DISTFUN_MAX_CALLS" => found.max_calls = Some(positive(VARIABLES[5], &value)?),
                unknown => return Err(SettingsError::Unknown { name: unknown.into(), hint: hint(unknown) }),
            }
        }
        Ok(found)
    }
}

fn positive(name: &'static str, value: &str) -> Result<usize, SettingsError> {
    let expected = "a whole number, 1 or more";
    let number = value.trim().parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| SettingsError::Malformed { name, value: value.into(), expected })
}

fn seed(name: &'static str, value: &str) -> Result<u64, SettingsError> {
    let expected = "a whole number, 0 or more";
    value.trim().parse().map_err(|_| SettingsError::Malformed { name, value: value.into(), expected })
}

fn flag(name: &'static str, value: &str) -> Result<bool, SettingsError> {
    match value.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(SettingsError::Malformed { name, value: value.into(), expected: "1 or 0, true or false" }),
    }
}

fn hint(unknown: &str) -> String {
    let closest =
        VARIABLES.iter().max_by(|a, b| strsim::jaro_winkler(a, unknown).total_cmp(&strsim::jaro_winkler(b, unknown)));
    match closest {
        Some(known) if strsim::levenshtein(known, unknown) <= 4 => format!("did you mean {known}?"),
        _ => format!("known are {}", VARIABLES.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(told: Overrides, environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        Settings::resolve(&told, environment, NonZeroUsize::new(8).unwrap())
    }

    #[test]
    fn defaults_use_every_cpu_once_and_end_after_the_call() {
        let settings = resolve(Overrides::default(), &[("PATH", "/bin")]).unwrap();
        assert_eq!((settings.slots, settings.pinned), (8, true));
        assert_eq!((settings.endaftercall, settings.verbose, settings.seed), (true, false, 0));
    }

    #[test]
    fn the_builder_goes_before_the_environment() {
        let environment = [("DISTFUN_SLOTS", "3"), ("DISTFUN_VERBOSE", "yes"), ("DISTFUN_SEED", "5")];
        let settings = resolve(Overrides::default(), &environment).unwrap();
        assert_eq!((settings.slots, settings.verbose, settings.seed), (3, true, 5));
        let told = Overrides { max_cpu: Some(2), verbose: Some(false), ..Overrides::default() };
        let settings = resolve(told, &environment).unwrap();
        assert_eq!((settings.slots, settings.verbose, settings.seed, settings.pinned), (2, false, 5, false));
    }

    #[test]
    fn more_cpus_than_exist_means_all_but_slots_are_exact() {
        assert_eq!(resolve(Overrides { max_cpu: Some(99), ..Overrides::default() }, &[]).unwrap().slots, 8);
        assert_eq!(resolve(Overrides { slots: Some(99), ..Overrides::default() }, &[]).unwrap().slots, 99);
    }

    #[test]
    fn what_cannot_hold_is_refused_with_the_remedy() {
        let told = |max_cpu, slots| Overrides { max_cpu, slots, ..Overrides::default() };
        for (told, environment, text) in [
            (told(Some(0), None), vec![], "allow at least 1"),
            (told(None, Some(0)), vec![], "allow at least 1"),
            (told(Some(1), Some(1)), vec![], "keep max_cpu"),
            (told(None, Some(1_000_000)), vec![], "more than the 4096 threads"),
            (told(None, None), vec![("DISTFUN_MAX_CPU", "two")], "DISTFUN_MAX_CPU=\"two\" is not a whole number"),
            (told(None, None), vec![("DISTFUN_MAX_CPU", "-1")], "a whole number, 1 or more"),
            (told(None, None), vec![("DISTFUN_SLOTS", "0")], "DISTFUN_SLOTS=\"0\" is not a whole number, 1 or more"),
            (told(None, None), vec![("DISTFUN_SEED", "-1")], "0 or more"),
            (told(None, None), vec![("DISTFUN_VERBOSE", "maybe")], "1 or 0, true or false"),
            (told(None, None), vec![("DISTFUN_MAXCPU", "2")], "did you mean DISTFUN_MAX_CPU?"),
            (told(None, None), vec![("DISTFUN_COLOUR_OF_THE_BAR", "red")], "known are DISTFUN_MAX_CPU, "),
            (Overrides { max_calls: Some(0), ..Overrides::default() }, vec![], "would refuse every call"),
        ] {
            let error = resolve(told, &environment).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
