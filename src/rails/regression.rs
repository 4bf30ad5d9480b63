//! A critical check has proof that the canary is worse than tolerated: take it back.
//!
//! The judge proposes the same; the rail holds even where the judge, or whatever joins it later, says otherwise. An
//! advisory check is shown and moves nothing: it may rest on a metric that the old version does not have, or on a guess.

use super::{Case, CheckFacts, Rail, Ruling};
use crate::domain::{Finding, Weight};

pub(super) const RAIL: Rail = Rail {
    name: "regression",
    summary: "proof of a regression on a critical check takes the traffic back",
    waivable: false,
    rule,
};

fn rule(case: &Case<'_>) -> Ruling {
    let degraded =
        |facts: &&CheckFacts<'_>| facts.finding == Finding::Degraded && facts.check.weight == Weight::Critical;
    let Some(facts) = case.checks.iter().find(degraded) else { return Ruling::Allow };
    let e = facts.evidence;
    Ruling::rollback(format!(
        "{}: {} of {} on the canary against {} of {} on control is proof of a regression (e-value {:.3e}, needs {:.3e})",
        facts.check.name,
        e.canary.bad,
        e.canary.total,
        e.control.bad,
        e.control.total,
        e.log_e_value.exp(),
        e.log_threshold.exp()
    ))
}
