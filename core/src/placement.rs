//! Who may work: what a [`GpuPolicy`] means for the machines there are.

use crate::options::GpuPolicy;

/// What a slot computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum SlotKind {
    /// A CPU.
    #[default]
    Cpu,
    /// A GPU, and the thread that tells it what to do.
    Gpu,
}

impl SlotKind {
    /// As events write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }
}

/// Which slots get work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Placement {
    /// None yet: what a machine has that is still to come decides.
    Undecided,
    /// Those of CPUs.
    #[default]
    Cpus,
    /// Those of GPUs.
    Gpus,
    /// All.
    Both,
    /// None: calls fail.
    Refused,
}

impl Placement {
    /// As events write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Cpus => "cpus",
            Self::Gpus => "gpus",
            Self::Both => "both",
            Self::Refused => "refused",
        }
    }

    /// Whether such slots get work.
    #[must_use]
    pub fn allows(self, kind: SlotKind) -> bool {
        match self {
            Self::Undecided | Self::Refused => false,
            Self::Cpus => kind == SlotKind::Cpu,
            Self::Gpus => kind == SlotKind::Gpu,
            Self::Both => true,
        }
    }
}

/// A machine, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineFacts<N> {
    /// What it is called.
    pub name: N,
    /// What it has; none if that is not known yet.
    pub slots: Option<MachineSlots>,
}

/// What a machine has for a Manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MachineSlots {
    /// Slots on CPUs.
    pub cpus: u32,
    /// GPUs, as many as `max_gpu` lets be used.
    pub gpus: u32,
}

/// What a policy comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement<N> {
    /// Which slots get work.
    pub placement: Placement,
    /// Machines without a GPU, where that is why no GPUs are used.
    pub without: Vec<N>,
}

/// What `policy` comes to on these `machines`. A machine that has nothing for the Manager is none. As soon as no answer of
/// those that are not known yet could change it, the judgement is made; and a policy that can be met on no machine at all
/// is met on CPUs, as far as it may be.
#[must_use]
pub fn judge<N>(policy: GpuPolicy, machines: impl IntoIterator<Item = MachineFacts<N>>) -> Judgement<N> {
    let (mut any, mut with_gpu, mut unknown, mut without) = (false, false, false, Vec::new());
    for MachineFacts { name, slots } in machines {
        match slots {
            None => unknown = true,
            Some(MachineSlots { cpus: 0, gpus: 0 }) => {}
            Some(MachineSlots { gpus: 0, .. }) => {
                any = true;
                without.push(name);
            }
            Some(_) => (any, with_gpu) = (true, true),
        }
    }
    let of = |placement| Judgement { placement, without: Vec::new() };
    match policy {
        GpuPolicy::NoGpu => of(Placement::Cpus),
        GpuPolicy::Mixed => of(Placement::Both),
        GpuPolicy::PreferGpu if with_gpu => of(Placement::Gpus),
        GpuPolicy::PreferGpu if unknown => of(Placement::Undecided),
        GpuPolicy::PreferGpu => Judgement { placement: Placement::Cpus, without },
        GpuPolicy::RequireAll if !without.is_empty() => Judgement { placement: Placement::Cpus, without },
        GpuPolicy::GpuOrFail if !without.is_empty() => Judgement { placement: Placement::Refused, without },
        GpuPolicy::RequireAll | GpuPolicy::GpuOrFail if unknown => of(Placement::Undecided),
        GpuPolicy::RequireAll | GpuPolicy::GpuOrFail if any => of(Placement::Gpus),
        GpuPolicy::RequireAll => of(Placement::Cpus),
        GpuPolicy::GpuOrFail => of(Placement::Refused),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Machines `a`, `b`, … with so many CPU slots and GPUs; none if not known.
    fn judged(policy: GpuPolicy, machines: &[Option<(u32, u32)>]) -> (Placement, String) {
        let slots = |(cpus, gpus)| MachineSlots { cpus, gpus };
        let facts = ('a'..).zip(machines).map(|(name, told)| MachineFacts { name, slots: told.map(slots) });
        let Judgement { placement, without } = judge(policy, facts);
        (placement, without.into_iter().collect())
    }

    const CPU: Option<(u32, u32)> = Some((8, 0));
    const GPU: Option<(u32, u32)> = Some((8, 2));
    /// A machine whose CPUs are left alone.
    const ONLY_GPU: Option<(u32, u32)> = Some((0, 1));
    /// `max_cpu(0)` on a machine without a GPU.
    const NOTHING: Option<(u32, u32)> = Some((0, 0));

    #[test]
    fn prefer_gpu_uses_only_gpus_if_any_machine_has_one() {
        use Placement::{Cpus, Gpus, Undecided};
        for (machines, placement, without) in [
            (&[CPU][..], Cpus, "a"),
            (&[GPU], Gpus, ""),
            (&[CPU, CPU, GPU], Gpus, ""),
            (&[CPU, None, GPU], Gpus, ""),
            (&[CPU, None], Undecided, ""),
            (&[NOTHING, CPU], Cpus, "b"),
            (&[NOTHING, ONLY_GPU], Gpus, ""),
            (&[], Cpus, ""),
        ] {
            assert_eq!(judged(GpuPolicy::PreferGpu, machines), (placement, without.into()), "{machines:?}");
        }
    }

    #[test]
    fn require_all_uses_gpus_only_if_every_machine_has_one_and_names_those_without() {
        use Placement::{Cpus, Gpus, Undecided};
        for (machines, placement, without) in [
            (&[CPU][..], Cpus, "a"),
            (&[GPU], Gpus, ""),
            (&[GPU, GPU, ONLY_GPU], Gpus, ""),
            (&[CPU, GPU, CPU], Cpus, "ac"),
            (&[CPU, None, GPU], Cpus, "a"),
            (&[GPU, None], Undecided, ""),
            (&[NOTHING, GPU], Gpus, ""),
            (&[NOTHING], Cpus, ""),
        ] {
            assert_eq!(judged(GpuPolicy::RequireAll, machines), (placement, without.into()), "{machines:?}");
        }
    }

    #[test]
    fn gpu_or_fail_refuses_where_require_all_would_fall_back() {
        use Placement::{Gpus, Refused, Undecided};
        for (machines, placement, without) in [
            (&[CPU][..], Refused, "a"),
            (&[GPU, GPU], Gpus, ""),
            (&[GPU, CPU], Refused, "b"),
            (&[GPU, CPU, None], Refused, "b"),
            (&[GPU, None], Undecided, ""),
            (&[NOTHING], Refused, ""),
        ] {
            assert_eq!(judged(GpuPolicy::GpuOrFail, machines), (placement, without.into()), "{machines:?}");
        }
    }

    #[test]
    fn the_others_do_not_wait_for_anybody() {
        assert_eq!(judged(GpuPolicy::NoGpu, &[GPU, None]).0, Placement::Cpus);
        assert_eq!(judged(GpuPolicy::Mixed, &[CPU, None]).0, Placement::Both);
    }

    fn machine() -> impl Strategy<Value = Option<(u32, u32)>> {
        proptest::option::weighted(0.8, (0u32..3, 0u32..3))
    }

    proptest! {
        #[test]
        fn a_judgement_that_is_made_stands_whatever_the_others_turn_out_to_have(
            machines in proptest::collection::vec(machine(), 0..6),
            answers in proptest::collection::vec((0u32..3, 0u32..3), 6),
            policy in proptest::sample::select(GpuPolicy::ALL.to_vec()),
        ) {
            let (early, _) = judged(policy, &machines);
            let known: Vec<_> = machines.iter().zip(answers).map(|(told, answer)| told.or(Some(answer))).collect();
            let (late, without) = judged(policy, &known);
            prop_assert_ne!(late, Placement::Undecided);
            if early != Placement::Undecided {
                prop_assert_eq!(early, late);
            }
            // Nothing that gets work is without what it needs for it.
            let has = |gpu: bool| known.iter().flatten().any(|(cpus, gpus)| if gpu { *gpus > 0 } else { *cpus > 0 });
            match late {
                Placement::Gpus => prop_assert!(has(true)),
                Placement::Cpus if policy != GpuPolicy::NoGpu => prop_assert!(has(false) || !has(true)),
                Placement::Refused => prop_assert_eq!(policy, GpuPolicy::GpuOrFail),
                _ => {}
            }
            prop_assert!(without.is_empty() || matches!(late, Placement::Cpus | Placement::Refused));
        }
    }
}
