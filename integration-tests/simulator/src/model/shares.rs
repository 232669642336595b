//! How much slot time calls have had against one another.
//!
//! The bound is that of start-time fair queueing: while two calls both have waiting items, the times they had per
//! weight differ by no more than what each may have in flight. So their shares converge to the weights: the difference
//! does not grow, what they had does.

use std::{collections::BTreeMap, time::Duration};

use distfun_core::{
    engine::{BUDGET, Priority},
    ids::CallId,
};

use crate::law::{Law, Verdict, check};

#[derive(Debug)]
struct Account {
    weight: f64,
    /// Seconds of slot time, as reported.
    had: f64,
    /// The longest chunk, or what may be charged for one in advance.
    longest: f64,
    /// Charged for chunks that were never reported.
    lost: f64,
    is_waiting: bool,
}

/// The slot time of all active calls.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    accounts: BTreeMap<CallId, Account>,
    /// What two calls had had when both began to wait.
    since: BTreeMap<(CallId, CallId), (f64, f64)>,
    /// Pairs that were watched for long enough to call their shares converged.
    pub(crate) converged: u64,
}

impl Shares {
    pub(crate) fn open(&mut self, call: CallId, priority: Priority) {
        let weight = match priority {
            Priority::Low => 0.25,
            Priority::Normal => 1.0,
            Priority::High => 4.0,
        };
        let longest = BUDGET.as_secs_f64();
        self.accounts.insert(call, Account { weight, had: 0.0, longest, lost: 0.0, is_waiting: false });
    }

    pub(crate) fn close(&mut self, call: CallId) {
        self.accounts.remove(&call);
        self.since.retain(|&(a, b), _| a != call && b != call);
    }

    pub(crate) fn had(&mut self, call: CallId, elapsed: Duration) {
        let Some(account) = self.accounts.get_mut(&call) else { return };
        account.had += elapsed.as_secs_f64();
        account.longest = account.longest.max(elapsed.as_secs_f64());
    }

    pub(crate) fn lost(&mut self, call: CallId) {
        if let Some(account) = self.accounts.get_mut(&call) {
            account.lost += BUDGET.as_secs_f64();
        }
    }

    pub(crate) fn waits(&mut self, call: CallId, is_waiting: bool) {
        if let Some(account) = self.accounts.get_mut(&call) {
            account.is_waiting = is_waiting;
        }
    }

    pub(crate) fn verdict(&mut self, slots: usize) -> Verdict {
        for (&one, a) in &self.accounts {
            for (&other, b) in self.accounts.range((std::ops::Bound::Excluded(one), std::ops::Bound::Unbounded)) {
                if !(a.is_waiting && b.is_waiting) {
                    self.since.remove(&(one, other));
                    continue;
                }
                let &mut (base_a, base_b) = self.since.entry((one, other)).or_insert((a.had, b.had));
                let (had_a, had_b) = ((a.had - base_a) / a.weight, (b.had - base_b) / b.weight);
                let in_flight = (a.longest / a.weight + b.longest / b.weight) * (slots + 1) as f64;
                let bound = in_flight + a.lost / a.weight + b.lost / b.weight;
                check((had_a - had_b).abs() <= bound, Law::FairShare, || {
                    format!(
                        "while calls {one} and {other} both waited, they had {had_a:.4} s and {had_b:.4} s of slot time \
                         per weight; what is in flight explains a difference of {bound:.4} s"
                    )
                })?;
                if had_a.min(had_b) > 10.0 * bound {
                    self.converged += 1;
                }
            }
        }
        Ok(())
    }
}
