//! Which slots of a story are on GPUs, and who decides which slots get work.

use std::time::Duration;

use distfun_core::{
    options::GpuPolicy,
    placement::{Placement, SlotKind},
};

use super::{Act, Kind, Scenario};
use crate::dice::Dice;

pub(crate) const KINDS: [SlotKind; 2] = [SlotKind::Cpu, SlotKind::Gpu];

/// Those to which it matters what a slot is.
const POLICIES: [GpuPolicy; 4] = [GpuPolicy::PreferGpu, GpuPolicy::RequireAll, GpuPolicy::GpuOrFail, GpuPolicy::Mixed];

/// Who decides which slots get work.
#[derive(Debug, Clone, Copy)]
pub enum Judge {
    /// Nobody: those on CPUs do.
    Nobody,
    /// A policy, by what is known of the machines.
    Policy(GpuPolicy),
    /// Chance: these do, until something else is said.
    Chance(Placement),
}

impl Scenario {
    /// Slots of two kinds, in about half of the stories; not in those of shares, which are about slots that are alike.
    pub(super) fn add_kinds(&mut self, may_have_none: bool) {
        // Dice of their own, so that stories of CPUs stay what they are.
        let mut dice = Dice::new(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x0067_7075);
        if self.kind == Kind::Shares || dice.chance(0.4) {
            return;
        }
        self.gpus = dice.pick(&[0, 1, 1, 2, 2, 5]);
        if may_have_none && self.gpus > 0 && dice.chance(0.15) {
            self.slots = 0;
            self.acts.retain(|(_, act)| !matches!(act, Act::Strike(_)));
        }
        let of_gpus = dice.pick(&[0.0, 0.3, 0.6, 0.6]);
        for node in self.nodes.iter_mut().filter(|_| dice.chance(of_gpus)) {
            node.kind = SlotKind::Gpu;
        }
        let choosy = dice.pick(&[0.0, 0.3, 0.7]);
        for call in &mut self.calls {
            call.on_gpu = dice.magnitude(0.02, 4.0);
            call.spec.only = dice.chance(choosy).then(|| dice.pick(&KINDS));
        }
        self.strike_gpus(&mut dice);
        self.judge = if dice.chance(0.4) { Judge::Policy(dice.pick(&POLICIES)) } else { self.chance(&mut dice) };
    }

    /// The threads of some GPUs die now and then, and some of them are given up.
    fn strike_gpus(&mut self, dice: &mut Dice) {
        let often = if self.kind == Kind::Storm { dice.pick(&[0, 0, 7, 15]) } else { 0 };
        for slot in (self.slots..self.slots + self.gpus).filter(|_| often > 0) {
            for _ in 0..dice.within(0..often) {
                self.acts.push((dice.time(self.calm_from), Act::Strike(slot as u32)));
            }
        }
    }

    /// It is decided now and then which slots get work, the last time when the faults end.
    fn chance(&mut self, dice: &mut Dice) -> Judge {
        use Placement::{Both, Cpus, Gpus, Refused, Undecided};
        let end = self.calm_from.max(Duration::from_millis(30));
        for _ in 0..dice.pick(&[0, 0, 1, 2, 6]) {
            let placement = dice.pick(&[Undecided, Cpus, Gpus, Both, Both, Refused]);
            self.acts.push((dice.time(end), Act::Place(placement)));
        }
        if dice.chance(0.3) {
            // A machine without a GPU comes where all have had one.
            let at = dice.time(end);
            self.acts.push((at, Act::Place(Gpus)));
            self.acts.push((at + dice.time(end - at), Act::Place(Refused)));
        }
        self.acts.push((end, Act::Place(dice.pick(&[Cpus, Gpus, Gpus, Both, Both, Both, Refused]))));
        Judge::Chance(dice.pick(&[Undecided, Undecided, Cpus, Gpus, Both, Both]))
    }
}
