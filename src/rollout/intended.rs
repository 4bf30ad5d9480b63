//! Intended effects: what a change was meant to improve. They are measured like everything else, told to people, and
//! decide nothing: one that does not come is no reason to go back, and one that comes is none to go on. So judge and
//! rails never see them, they take no weight from the checks that guard, and what they count is no traffic.
//!
//! The test runs with its arms exchanged: its proof says that the old version is worse by more than the check's ratio.

use serde::{Deserialize, Serialize};

use super::{desk::Desk, record, state::Rollout};
use crate::domain::{Aim, Check, Direction, Interval, Sli};

/// What has come of an intended effect so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intended {
    /// It is proven.
    Confirmed,
    /// Not yet seen.
    NotSeen,
    /// The new version is worse by it, not better.
    Opposite,
}

/// What the exchanged test's estimate says. The opposite is said only where its whole range says so.
pub(super) fn of_test(check: &Check, effect: Option<(f64, Interval)>) -> Intended {
    let is_opposite = |Interval { low, high }: Interval| match check.direction {
        // A difference is control's level less the canary's; a ratio is how many times as bad control is, whichever way.
        Direction::LowerIsWorse if is_difference(check) => low > 0.0,
        Direction::HigherIsWorse if is_difference(check) => high < 0.0,
        Direction::HigherIsWorse | Direction::LowerIsWorse => high < 1.0,
    };
    match effect {
        Some((_, interval)) if is_opposite(interval) => Intended::Opposite,
        Some(_) | None => Intended::NotSeen,
    }
}

/// An exchanged test's effect, told of the canary as every other one.
pub(super) fn turned(check: &Check, estimate: f64, Interval { low, high }: Interval) -> (f64, Interval) {
    if is_difference(check) {
        (-estimate, Interval { low: -high, high: -low })
    } else {
        (estimate.recip(), Interval { low: high.recip(), high: low.recip() })
    }
}

/// A gauge's effect is a difference in its own unit, all others are ratios.
fn is_difference(check: &Check) -> bool {
    matches!(check.sli, Sli::Level { .. })
}

impl Rollout {
    /// Says once of each intended effect that it is there.
    pub(super) fn tell_intended(&mut self, desk: &Desk<'_>) {
        let Some(plan) = self.plan.clone() else { return };
        let weighed = record::weigh(plan.checks(), &self.records, desk.policy.alpha);
        let checks = plan.checks().iter().zip(&mut self.records).zip(weighed);
        let confirmed: Vec<String> = checks
            .filter_map(|((check, record), weighed)| {
                let is_new = record.is_newly_confirmed(check, weighed.is_proof);
                is_new.then(|| format!("the intended effect is there: {}", check.name))
            })
            .collect();
        for text in confirmed {
            self.note(desk.now, text);
        }
    }

    /// At the end it is said which intended effects were seen.
    pub(super) fn sum_up_intended(&mut self, desk: &Desk<'_>) {
        let Some(plan) = self.plan.clone().filter(|_| self.stage.is_some()) else { return };
        let told = |(check, record): (&Check, &record::Record)| {
            let what = match record.intended(check)? {
                Intended::Confirmed => "seen",
                Intended::NotSeen => "not seen",
                Intended::Opposite => "the opposite was seen",
            };
            Some(format!("{}: {what}", check.name))
        };
        let told: Vec<String> = plan.checks().iter().zip(&self.records).filter_map(told).collect();
        if !told.is_empty() {
            self.note(desk.now, format!("intended effects: {}", told.join("; ")));
        }
    }

    /// The checks that guard, with their records: all that may decide.
    pub(super) fn guards(&self) -> impl Iterator<Item = (&Check, &record::Record)> {
        let checks = self.plan.iter().flat_map(|plan| plan.checks());
        checks.zip(&self.records).filter(|(check, _)| check.aim == Aim::Guard)
    }
}
