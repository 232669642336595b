//! GPUs as they are told of: which there are, and which of them this process may use.
//!
//! What finds them knows drivers, and lives elsewhere. Here is what must hold wherever they were found: a device that two
//! drivers show is one device, what `CUDA_VISIBLE_DEVICES` and its relatives hide is hidden from all of them, and what only
//! looks like a GPU counts as none.

mod lack;
mod visible;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use lack::Lack;
use visible::NVIDIA;
pub use visible::{Hidden, VARIABLES, Variables};

/// A GPU that functions may be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuInfo {
    /// Its number among those that this process may use, from 0.
    pub ordinal: u32,
    /// Its UUID as its driver writes it (`GPU-5f3b…`); where the driver has none, its PCI address; else its name.
    pub uuid: String,
    /// As its vendor calls it.
    pub name: String,
    /// Its memory, in bytes; 0 if nobody tells.
    pub memory_bytes: u64,
    /// What it is.
    pub kind: GpuKind,
    /// Through what it can be used.
    pub apis: GpuApis,
}

/// What a GPU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum GpuKind {
    /// With memory of its own.
    Discrete,
    /// It shares the memory of the CPUs.
    Integrated,
    /// Lent by a hypervisor.
    Virtual,
    /// Its driver does not tell.
    Other,
    /// None at all: its driver computes on the CPUs. It counts as a GPU only where `software_gpu` says so, for tests.
    Software,
}

impl fmt::Display for GpuKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Other => "other",
            Self::Software => "software",
        })
    }
}

/// Interfaces through which a GPU can be used by this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GpuApis {
    /// By CUDA, under this ordinal of its driver.
    pub cuda: Option<u32>,
    /// By wgpu, as the adapter of this position in its list.
    pub wgpu: Option<u32>,
}

impl fmt::Display for GpuApis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match (self.cuda, self.wgpu) {
            (Some(_), Some(_)) => "cuda, wgpu",
            (Some(_), None) => "cuda",
            (None, Some(_)) => "wgpu",
            (None, None) => "none",
        })
    }
}

impl fmt::Display for GpuInfo {
    /// `0: NVIDIA H100 80GB HBM3, 79 GiB (cuda)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.ordinal, self.name)?;
        if self.memory_bytes > 0 {
            write!(f, ", {:.0} GiB", self.memory_bytes as f64 / f64::from(1 << 30))?;
        }
        write!(f, " ({})", self.apis)
    }
}

/// A device as one interface shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its UUID, if the interface tells it.
    pub uuid: Option<String>,
    /// Where it is plugged in, as `0000:01:00.0`, if the interface tells.
    pub pci: Option<String>,
    /// Number of its vendor on the PCI bus.
    pub vendor: u32,
    /// As its vendor calls it.
    pub name: String,
    /// In bytes; 0 if the interface does not tell.
    pub memory_bytes: u64,
    /// What it is.
    pub kind: GpuKind,
    /// Its place in the list of the interface that showed it.
    pub apis: GpuApis,
}

/// What may be used of what each interface has `found`, CUDA's first: each device once, discrete ones before others, and
/// then in the order in which they were found. `software` has those count that compute on CPUs.
///
/// The driver of CUDA hides what its variable hides itself: where it shows any, no other shows more of NVIDIA's. Of all others
/// what `hidden` says is left out.
#[must_use]
pub fn inventory(cuda: Vec<Found>, others: Vec<Found>, hidden: &Hidden, software: bool) -> Vec<GpuInfo> {
    let is_shown = |found: &Found| found.pci.is_some() && cuda.iter().any(|known| known.pci == found.pci);
    let is_ruled = |found: &Found| found.vendor == NVIDIA && !cuda.is_empty();
    let (ruled, others): (Vec<_>, Vec<_>) = others.into_iter().partition(is_ruled);
    let shown: Vec<_> = ruled.into_iter().filter(is_shown).collect();
    let mut all = cuda;
    for found in shown.into_iter().chain(hidden.keep(others)) {
        // One device may be shown by several drivers of one interface, and by several interfaces.
        let is_it = |known: &&mut Found| found.pci.is_some() && known.pci == found.pci;
        match all.iter_mut().find(is_it) {
            Some(known) => known.apis.wgpu = known.apis.wgpu.or(found.apis.wgpu),
            None => all.push(found),
        }
    }
    all.retain(|found| software || found.kind != GpuKind::Software);
    all.sort_by_key(|found| found.kind);
    let numbered = (0..).zip(all);
    let told = |(ordinal, found): (u32, Found)| GpuInfo {
        ordinal,
        uuid: found.uuid.or(found.pci).unwrap_or_else(|| found.name.clone()),
        name: found.name,
        memory_bytes: found.memory_bytes,
        kind: found.kind,
        apis: found.apis,
    };
    numbered.map(told).collect()
}

#[cfg(test)]
mod tests;
