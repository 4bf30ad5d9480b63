//! A critical check has proof that the canary is worse than tolerated: take it back. An advisory one holds.
//!
//! The judge proposes the same; the rail holds even where the judge, or whatever joins it later, says otherwise.

use super::{Case, Rail, Ruling};
use crate::domain::{Finding, Weight};

pub(super) const RAIL: Rail = Rail {
    name: "regression",
    summary: "proof of a regression takes the traffic back; on an advisory check it holds",
    waivable: false,
    rule,
};

fn rule(case: &Case<'_>) -> Ruling {
    let degraded =
        |weight| case.checks.iter().find(|facts| facts.finding == Finding::Degraded && facts.check.weight == weight);
    if let Some(facts) = degraded(Weight::Critical) {
        let e = facts.evidence;
        return Ruling::rollback(format!(
            "{}: {} of {} on the canary against {} of {} on control is proof of a regression (e-value {:.3e}, needs {:.3e})",
            facts.check.name,
            e.canary.bad,
            e.canary.total,
            e.control.bad,
            e.control.total,
            e.log_e_value.exp(),
            e.log_threshold.exp()
        ));
    }
    match degraded(Weight::Advisory) {
        Some(facts) => {
            Ruling::hold(format!("{} is worse on the canary; it is advisory, so it holds", facts.check.name))
        }
        None => Ruling::Allow,
    }
}
