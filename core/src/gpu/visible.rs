//! Variables by which schedulers and people say which GPUs a process may use.
//!
//! Drivers for computing obey them themselves, drivers for graphics do not know them: so they are read here, with the
//! meaning that their makers gave them.

use super::Found;

/// Its number on the PCI bus.
pub(super) const NVIDIA: u32 = 0x10de;

/// NVIDIA, AMD and Intel.
const VENDORS: [u32; 3] = [NVIDIA, 0x1002, 0x8086];

/// The variables that are read, for NVIDIA, AMD and Intel: the first one that is set decides.
pub const VARIABLES: [&[&str]; 3] =
    [&["CUDA_VISIBLE_DEVICES"], &["ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"], &["ZE_AFFINITY_MASK"]];

/// How a variable is looked up.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What is hidden of the GPUs of each vendor.
#[derive(Debug, Clone, Default)]
pub struct Hidden {
    /// For each of [`VENDORS`]: what its variable lists, if one is set.
    shown: [Option<Vec<String>>; 3],
}

impl Hidden {
    /// As the environment says.
    #[must_use]
    pub fn read(variables: Variables<'_>) -> Self {
        let list = |text: String| text.split(',').map(|entry| entry.trim().to_owned()).collect();
        Self { shown: VARIABLES.map(|names| names.iter().find_map(|name| variables(name)).map(list)) }
    }

    /// Those that are not hidden, in the order in which the variables list them. The number of a GPU counts those of its
    /// vendor, as they were found.
    pub(super) fn keep(&self, found: Vec<Found>) -> Vec<Found> {
        let mut rest = found;
        let mut kept = Vec::new();
        for (vendor, shown) in VENDORS.iter().zip(&self.shown) {
            let Some(shown) = shown else { continue };
            let (of_vendor, others) = rest.into_iter().partition(|found: &Found| found.vendor == *vendor);
            rest = others;
            kept.extend(listed(of_vendor, shown));
        }
        kept.extend(rest);
        kept
    }
}

/// Those of `found` that are listed, as CUDA reads a list: up to the first entry that names none; nothing at all if one is
/// named twice. An entry is a number or the beginning of a UUID.
fn listed(found: Vec<Found>, shown: &[String]) -> Vec<Found> {
    let mut places = Vec::new();
    for entry in shown {
        // A part of a device of Intel's is written behind a dot; it is the device that is given here.
        let number = entry.split_once('.').map_or(entry.as_str(), |(device, _)| device).parse::<usize>();
        let place = match number {
            Ok(number) => Some(number).filter(|number| *number < found.len()),
            Err(_) => {
                let begins = |found: &Found| found.uuid.as_ref().is_some_and(|uuid| uuid.starts_with(entry));
                let mut alike = (0..found.len()).filter(|place| begins(&found[*place]));
                // A beginning that two have names neither.
                alike.next().filter(|_| !entry.is_empty() && alike.next().is_none())
            }
        };
        let Some(place) = place else { break };
        if places.contains(&place) {
            if entry.contains('.') {
                continue; // another part of it
            }
            return Vec::new();
        }
        places.push(place);
    }
    let mut found: Vec<_> = found.into_iter().map(Some).collect();
    places.into_iter().filter_map(|place| found[place].take()).collect()
}
