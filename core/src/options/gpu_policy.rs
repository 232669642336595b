//! Whether functions run on CPUs or GPUs.

use std::fmt;

/// Whether functions run on CPUs or on GPUs. It is judged over all machines, the Manager's included; one that neither has
/// slots nor GPUs for the Manager is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum GpuPolicy {
    /// On CPUs only.
    #[default]
    NoGpu,
    /// On GPUs only, if any machine has one; else on CPUs.
    PreferGpu,
    /// On GPUs only, if every machine has one; else on CPUs, with a warning that names those without.
    RequireAll,
    /// On GPUs only; calls fail unless every machine has one. What comes later without one gets no work. A function that is
    /// `sequential`, and a call in the calling thread, runs on its CPU all the same.
    GpuOrFail,
    /// On CPUs and GPUs at once, each as much as its speed is worth.
    Mixed,
}

impl GpuPolicy {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::NoGpu, Self::PreferGpu, Self::RequireAll, Self::GpuOrFail, Self::Mixed];

    /// Whether GPUs matter to it.
    #[must_use]
    pub fn wants_gpus(self) -> bool {
        self != Self::NoGpu
    }
}

impl fmt::Display for GpuPolicy {
    /// As environment and file write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NoGpu => "no_gpu",
            Self::PreferGpu => "prefer_gpu",
            Self::RequireAll => "require_all",
            Self::GpuOrFail => "gpu_or_fail",
            Self::Mixed => "mixed",
        })
    }
}
