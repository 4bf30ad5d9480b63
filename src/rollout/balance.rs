//! How requests fall on the two arms: as much on the canary as was set, and not mostly one tenant's on one of them.
//!
//! Both are read from the service's first objective that counts requests, since what a change's own checks count may be no
//! traffic of users. A share that does not fit holds, by a rail. A tenant that weighs on one arm is told and shown, and moves
//! nothing: where users stay on their arm a large one is always on one of them, and the tests see to it that it alone is
//! no proof.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ServicePolicy, phase::Phase, state::Rollout};
use crate::{
    domain::{Arm, Check, Concentration, Counts, Exposure, Measurement, Origin, Part, PartKind, Shares, Tally, Text},
    stats::{self, sample_ratio::SampleRatio},
};

/// Fewer requests of an arm than this say nothing of its tenants.
const REQUESTS_MIN: u64 = 500;
/// A tenant with less than this share of an arm's requests does not weigh on it.
const HEAVY: f64 = 0.3;
/// One whose share of the other arm is more than this part of it is on both.
const ELSEWHERE: f64 = 1.0 / 3.0;
/// Most tenants that are counted.
const TENANTS_MAX: usize = 64;

/// What is known of how requests fall on the arms, at the stage that is held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Balance {
    ratio: SampleRatio,
    /// Requests of control and of the canary, of all and of each tenant that is told apart.
    all: [u64; 2],
    tenants: BTreeMap<Text, [u64; 2]>,
    /// The tenant that people were told of last.
    told: Option<Text>,
    /// Whether people were told that the shares do not fit.
    is_off_told: bool,
}

impl Balance {
    /// Another exposure is in force: what was counted before says nothing of it.
    pub(super) fn stage_began(&mut self) {
        (self.ratio, self.all) = (SampleRatio::default(), [0; 2]);
        self.tenants.clear();
        self.is_off_told = false;
    }

    /// Both shares, while they do not fit.
    pub(super) fn shares_off(&self, set: Option<f64>) -> Option<Shares> {
        self.ratio.off(set?)
    }

    /// The tenant that weighs most on one arm and little on the other.
    pub(super) fn concentration(&self) -> Option<Concentration> {
        let [control, canary] = self.all;
        if control < REQUESTS_MIN || canary < REQUESTS_MIN {
            return None;
        }
        let of = |(tenant, [old, new]): (&Text, &[u64; 2])| Concentration {
            tenant: tenant.clone(),
            control: *old as f64 / control as f64,
            canary: *new as f64 / canary as f64,
        };
        let larger = |c: &Concentration| c.control.max(c.canary);
        let weighs = |c: &Concentration| larger(c) >= HEAVY && c.control.min(c.canary) <= larger(c) * ELSEWHERE;
        self.tenants.iter().map(of).filter(weighs).max_by(|one, other| larger(one).total_cmp(&larger(other)))
    }

    /// Takes in one look at the objective that counts requests.
    fn observe(&mut self, arms: [(Counts, &[Part]); 2], check: &Check, set: Option<(f64, f64)>) {
        let [old, new] = arms.map(|(counts, _)| counts.total);
        if let Some((share, tolerance)) = set {
            self.ratio.observe(new, old.saturating_add(new), share, tolerance);
        }
        for (at, (counts, parts)) in arms.into_iter().enumerate() {
            self.all[at] = self.all[at].saturating_add(counts.total);
            for Part { name, tally, .. } in parts.iter().filter(|part| part.kind == PartKind::Tenant) {
                let total = stats::counts(check, tally).map_or(0, |counts| counts.total);
                if self.tenants.len() < TENANTS_MAX || self.tenants.contains_key(name) {
                    let so_far = &mut self.tenants.entry(name.clone()).or_default()[at];
                    *so_far = so_far.saturating_add(total);
                }
            }
        }
    }

    /// What people have not been told of yet, each once.
    fn news(&mut self, set: Option<f64>) -> Vec<String> {
        let off = self.shares_off(set);
        let is_new = off.is_some() && !self.is_off_told;
        self.is_off_told = off.is_some();
        let told = off.filter(|_| is_new).map(|Shares { set, seen }| {
            format!(
                "the canary gets {:.1}% of the requests where {:.1}% was set: the split or the telemetry is wrong",
                seen * 100.0,
                set * 100.0
            )
        });
        let heavy = self.concentration().filter(|heavy| self.told.as_ref() != Some(&heavy.tenant));
        if let Some(heavy) = &heavy {
            self.told = Some(heavy.tenant.clone());
        }
        told.into_iter().chain(heavy.map(|heavy| heavy.to_string())).collect()
    }
}

impl Rollout {
    /// The canary's share as it was set, where both arms have traffic and nothing but the share decides who has which.
    pub(super) fn set_share(&self) -> Option<f64> {
        let share = self.exposure.share.fraction();
        let is_plain = self.exposure == Exposure::share(self.exposure.share);
        (self.phase == Phase::Baking && is_plain && share > 0.0 && share < 1.0).then_some(share)
    }

    /// Takes in how the requests of one look fell on the arms, and says what is new about it.
    pub(super) fn weigh_arms(&mut self, measurements: &[Measurement], policy: &ServicePolicy) -> Vec<String> {
        let Some(plan) = self.plan.clone() else { return Vec::new() };
        let counting = |check: &Check| check.origin == Origin::Slo && check.sli.counts_requests();
        let Some((place, check)) = plan.checks().iter().enumerate().find(|(_, check)| counting(check)) else {
            return Vec::new();
        };
        let counted = |arm: Arm| {
            let mut of_check = measurements.iter().filter(|m| usize::from(m.check.0) == place && m.arm == arm);
            let measurement = of_check.next().filter(|m| m.window.after >= self.measured_through)?;
            let tally: &Tally = measurement.tally.as_ref().ok()?;
            Some((stats::counts(check, tally)?, measurement.parts.as_slice()))
        };
        let (Some(control), Some(canary)) = (counted(Arm::Control), counted(Arm::Canary)) else { return Vec::new() };
        let set = self.set_share();
        self.balance.observe([control, canary], check, set.zip(policy.share_tolerance));
        self.balance.news(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::scenario;

    fn counts(total: u64) -> Counts {
        Counts { bad: 0, total }
    }

    fn tenant(name: &str, total: u64) -> Part {
        Part { kind: PartKind::Tenant, name: Text::new(name), tally: Tally::Counts(counts(total)) }
    }

    /// A look at so many requests of both arms, `heavy` of them one tenant's.
    fn look(balance: &mut Balance, all: [u64; 2], heavy: [u64; 2]) {
        let check = scenario::bounds().mandatory.remove(0);
        let parts = heavy.map(|total| vec![tenant("acme", total), tenant("small", 1)]);
        balance.observe([(counts(all[0]), &parts[0]), (counts(all[1]), &parts[1])], &check, Some((0.05, 2.0)));
    }

    #[test]
    fn a_tenant_that_weighs_on_one_arm_is_told_once() {
        let mut balance = Balance::default();
        look(&mut balance, [10_000, 499], [400, 310]);
        assert_eq!(balance.concentration(), None, "too few requests to tell");
        look(&mut balance, [0, 1], [0, 0]);
        let words = "tenant acme makes 62% of the canary's requests and 4% of control's";
        assert_eq!(balance.news(Some(0.05)), [words]);
        look(&mut balance, [10_000, 500], [400, 310]);
        assert_eq!(balance.news(Some(0.05)), Vec::<String>::new());
        assert!(balance.concentration().is_some(), "it goes on being shown");
    }

    #[test]
    fn one_that_weighs_on_both_or_on_none_is_no_news() {
        for heavy in [[400, 300], [150, 400], [10, 299]] {
            let mut balance = Balance::default();
            look(&mut balance, [1_000, 1_000], heavy);
            assert_eq!(balance.concentration(), None, "{heavy:?}");
        }
        let mut balance = Balance::default();
        look(&mut balance, [1_000, 1_000], [300, 99]);
        assert!(balance.concentration().is_some());
    }

    #[test]
    fn shares_that_do_not_fit_are_told_once_and_anew_after_they_fitted() {
        let mut balance = Balance::default();
        let told = |balance: &mut Balance, all: [u64; 2]| {
            (0..40)
                .map(|_| {
                    look(balance, all, [0, 0]);
                    balance.news(Some(0.05)).len()
                })
                .sum::<usize>()
        };
        assert_eq!(told(&mut balance, [60, 40]), 1);
        assert_eq!(told(&mut balance, [95, 5]), 0);
        assert_eq!(balance.shares_off(Some(0.05)), None);
        assert_eq!(told(&mut balance, [60, 40]), 1);
        balance.stage_began();
        assert_eq!(balance.shares_off(Some(0.05)), None);
    }

    #[test]
    fn no_more_tenants_are_counted_than_the_limit() {
        let mut balance = Balance::default();
        let check = scenario::bounds().mandatory.remove(0);
        let parts: Vec<Part> = (0..=TENANTS_MAX).map(|at| tenant(&format!("t{at:03}"), 1)).collect();
        balance.observe([(counts(100), &parts), (counts(100), &[])], &check, None);
        assert_eq!(balance.tenants.len(), TENANTS_MAX);
    }
}
