//! The one table of settings that environment and file share: a new setting is one row.

use std::{ops::RangeInclusive, time::Duration};

use super::{GpuPolicy, Isolation, MAX_SLOTS, NamedPipe, Overrides};
use crate::{engine::Priority, machines};

/// Every setting there is. The key `max_cpu` is the variable `DISTFUN_MAX_CPU`, the flag `--max-cpu` and the builder's
/// `.max_cpu()`.
pub(super) static SETTINGS: [Setting; 16] = [
    Setting { key: "max_cpu", form: Form::Count(0..=usize::MAX, |said| &mut said.max_cpu) },
    Setting { key: "slots", form: Form::Count(0..=MAX_SLOTS, |said| &mut said.slots) },
    Setting { key: "max_gpu", form: Form::Count(0..=usize::MAX, |said| &mut said.max_gpu) },
    Setting { key: "gpu_policy", form: Form::Policy(|said| &mut said.gpu_policy) },
    Setting { key: "software_gpu", form: Form::Flag(|said| &mut said.software_gpu) },
    Setting { key: "endaftercall", form: Form::Flag(|said| &mut said.endaftercall) },
    Setting { key: "verbose", form: Form::Flag(|said| &mut said.verbose) },
    Setting { key: "seed", form: Form::Number(|said| &mut said.seed) },
    Setting { key: "max_calls", form: Form::Count(1..=usize::MAX, |said| &mut said.max_calls) },
    Setting { key: "priority", form: Form::Share(|said| &mut said.priority) },
    Setting { key: "machines", form: Form::Machines(|said| &mut said.machines) },
    Setting { key: "port", form: Form::Port(|said| &mut said.port) },
    Setting { key: "named_pipe", form: Form::Pipe(|said| &mut said.named_pipe) },
    Setting { key: "isolation", form: Form::Isolation(|said| &mut said.isolation) },
    Setting { key: "item_timeout", form: Form::Limit(|said| &mut said.item_timeout) },
    Setting { key: "max_memory", form: Form::Size(|said| &mut said.max_memory) },
];

pub(super) struct Setting {
    pub(super) key: &'static str,
    form: Form,
}

/// What a setting may be, and where a source keeps what it says of it.
enum Form {
    /// A whole number in this range.
    Count(RangeInclusive<usize>, fn(&mut Overrides) -> &mut Option<usize>),
    /// Any whole number of 64 bits.
    Number(fn(&mut Overrides) -> &mut Option<u64>),
    Flag(fn(&mut Overrides) -> &mut Option<bool>),
    Share(fn(&mut Overrides) -> &mut Option<Priority>),
    /// Entries of a list of machines, not yet read: that needs the port.
    Machines(fn(&mut Overrides) -> &mut Option<Vec<String>>),
    Port(fn(&mut Overrides) -> &mut Option<u16>),
    /// A flag or a name.
    Pipe(fn(&mut Overrides) -> &mut Option<NamedPipe>),
    Isolation(fn(&mut Overrides) -> &mut Option<Isolation>),
    Policy(fn(&mut Overrides) -> &mut Option<GpuPolicy>),
    /// A length of time; zero is none.
    Limit(fn(&mut Overrides) -> &mut Option<Duration>),
    /// A number of bytes; zero is none.
    Size(fn(&mut Overrides) -> &mut Option<u64>),
}

/// A value as its source has it.
#[derive(Clone)]
pub(super) enum Raw<'a> {
    /// From the environment, which has text only: a number, a flag or a word.
    Untyped(&'a str),
    Text(&'a str),
    Integer {
        digits: &'a str,
        radix: u32,
    },
    Boolean(bool),
    Texts(Vec<&'a str>),
    /// Of a type that no setting has.
    Other,
}

impl Setting {
    /// Has `said` say `value`, or returns what the value must be instead.
    pub(super) fn put(&self, said: &mut Overrides, value: Raw<'_>) -> Result<(), String> {
        match &self.form {
            Form::Count(range, at) => {
                let count = whole(value, *range.start() as u64..=*range.end() as u64)?;
                *at(said) = Some(usize::try_from(count).expect("no more than a usize"));
            }
            Form::Number(at) => *at(said) = Some(whole(value, 0..=u64::MAX)?),
            Form::Flag(at) => *at(said) = Some(flag(value)?),
            Form::Share(at) => *at(said) = Some(share(value)?),
            Form::Machines(at) => *at(said) = Some(list(value)?),
            Form::Port(at) => {
                let port = whole(value, 1..=u16::MAX.into())?;
                *at(said) = Some(u16::try_from(port).expect("no more than a u16"));
            }
            Form::Pipe(at) => *at(said) = Some(pipe(value)?),
            Form::Isolation(at) => *at(said) = Some(isolation(value)?),
            Form::Policy(at) => *at(said) = Some(policy(value)?),
            Form::Limit(at) => *at(said) = Some(length(value)?),
            Form::Size(at) => *at(said) = Some(size(value)?),
        }
        Ok(())
    }

    /// What it must be in a file.
    pub(super) fn expected(&self) -> String {
        self.put(&mut Overrides::default(), Raw::Other).expect_err("no setting is of another type")
    }
}

fn whole(value: Raw<'_>, range: RangeInclusive<u64>) -> Result<u64, String> {
    let (least, most) = (range.start(), range.end());
    let expected = match most {
        &u64::MAX => format!("a whole number, {least} or more"),
        most => format!("a whole number from {least} to {most}"),
    };
    let (digits, radix) = match value {
        Raw::Untyped(text) => (text.trim(), 10),
        Raw::Integer { digits, radix } => (digits, radix),
        _ => return Err(expected),
    };
    match u64::from_str_radix(digits, radix) {
        Ok(number) if range.contains(&number) => Ok(number),
        // It is a whole number, so it must be told how large it may be.
        Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => {
            Err(format!("a whole number from {least} to {most}"))
        }
        _ => Err(expected),
    }
}

fn flag(value: Raw<'_>) -> Result<bool, String> {
    match value {
        Raw::Boolean(yes) => Ok(yes),
        Raw::Untyped(text) => match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err("1 or 0, true or false".into()),
        },
        _ => Err("true or false".into()),
    }
}

fn share(value: Raw<'_>) -> Result<Priority, String> {
    let text = match value {
        Raw::Untyped(text) | Raw::Text(text) => text.trim().to_ascii_lowercase(),
        _ => String::new(),
    };
    let known = [Priority::Low, Priority::Normal, Priority::High];
    let found = known.into_iter().find(|&priority| name(priority) == text);
    found.ok_or_else(|| "\"low\", \"normal\" or \"high\"".into())
}

fn list(value: Raw<'_>) -> Result<Vec<String>, String> {
    match value {
        Raw::Untyped(text) | Raw::Text(text) => Ok(machines::split(text).map(|(_, entry)| entry.into()).collect()),
        Raw::Texts(texts) => Ok(texts.into_iter().map(str::to_owned).collect()),
        _ => Err("a list of machines, as in [\"bob\", \"ann:2719\"]".into()),
    }
}

fn pipe(value: Raw<'_>) -> Result<NamedPipe, String> {
    match value {
        Raw::Text(text) => Ok(text.into()),
        Raw::Untyped(text) => Ok(flag(value).map_or_else(|_| text.trim().into(), NamedPipe::from)),
        Raw::Boolean(yes) => Ok(yes.into()),
        _ => Err("true, false, or the name of a local socket in quotes".into()),
    }
}

fn isolation(value: Raw<'_>) -> Result<Isolation, String> {
    let text = match value {
        Raw::Untyped(text) | Raw::Text(text) => text.trim().to_ascii_lowercase(),
        _ => String::new(),
    };
    let found = [Isolation::Thread, Isolation::Process].into_iter().find(|one| one.to_string() == text);
    found.ok_or_else(|| "\"thread\" or \"process\"".into())
}

fn policy(value: Raw<'_>) -> Result<GpuPolicy, String> {
    let text = match value {
        Raw::Untyped(text) | Raw::Text(text) => text.trim().to_ascii_lowercase(),
        _ => String::new(),
    };
    let found = GpuPolicy::ALL.into_iter().find(|one| one.to_string() == text);
    found.ok_or_else(|| "\"no_gpu\", \"prefer_gpu\", \"require_all\", \"gpu_or_fail\" or \"mixed\"".into())
}

/// Units of time, and how many seconds each is.
const UNITS: [(&str, f64); 4] = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

fn length(value: Raw<'_>) -> Result<Duration, String> {
    let text = match value {
        Raw::Untyped(text) | Raw::Text(text) => text.trim(),
        _ => "",
    };
    if text == "none" {
        return Ok(Duration::ZERO);
    }
    let of = |(unit, seconds): &(&str, f64)| {
        let number: f64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        Duration::try_from_secs_f64(number * seconds).ok()
    };
    UNITS.iter().find_map(of).ok_or_else(|| "a length of time, as in \"500ms\", \"2.5s\", \"10m\", or \"none\"".into())
}

fn size(value: Raw<'_>) -> Result<u64, String> {
    let expected = || "a number of bytes, as in 1000000 or \"512MiB\", or \"none\"".to_owned();
    let text = match value {
        Raw::Untyped(text) | Raw::Text(text) => text.trim(),
        Raw::Integer { digits, radix } => return u64::from_str_radix(digits, radix).map_err(|_| expected()),
        _ => "",
    };
    if text == "none" {
        return Ok(0);
    }
    bytes(text).ok_or_else(expected)
}

/// A number of bytes as people write it: alone, or in `KiB`, `MiB`, `GiB` or `TiB`.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let (number, shift) = UNITS
        .into_iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?.trim_end(), shift)))
        .unwrap_or((text, 0));
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A number of GPUs as environment and file write it, all of them being what is said if nothing is.
pub(super) fn gpus(most: usize) -> String {
    if most == usize::MAX { "all".into() } else { most.to_string() }
}

/// Bytes as environment and file write them.
pub(super) fn memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "none".into(), |bytes| bytes.to_string())
}

/// A length of time as environment and file write it.
pub(super) fn limit(limit: Option<Duration>) -> String {
    limit.map_or_else(|| "none".into(), |limit| format!("{limit:?}"))
}

/// A priority as environment and file write it.
pub(super) fn name(priority: Priority) -> &'static str {
    match priority {
        Priority::Low => "low",
        Priority::Normal => "normal",
        Priority::High => "high",
    }
}

/// How alike two names must be for one to be a slip for the other: of 1, by the measure of Jaro and Winkler. So
/// `maxcpu` and `prio` find their setting, and `colour` finds none.
const ALIKE: f64 = 0.85;

/// What whoever wrote `unknown` may have meant: the closest of the `known` names, or all. `spell` writes them as the
/// source does.
pub(super) fn hint<'a>(
    unknown: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    spell: impl Fn(&str) -> String,
) -> String {
    let plain = unknown.to_lowercase().replace('-', "_");
    let plain = plain.strip_prefix("distfun_").unwrap_or(&plain);
    let likeness = |key: &str| strsim::jaro_winkler(key, plain);
    match known.clone().max_by(|a, b| likeness(a).total_cmp(&likeness(b))) {
        Some(key) if likeness(key) >= ALIKE => format!("did you mean {}?", spell(key)),
        _ => format!("known are {}", known.map(spell).collect::<Vec<_>>().join(", ")),
    }
}
