//! Findings in, proposed verdict out. The rails have the last word.
//!
//! Proof on a critical check proposes a rollback. Promotion is proposed when every critical check is either healthy or,
//! for a check that a diff proposed, has merely seen no traffic of its kind: a quiet endpoint must not block a rollout
//! whose objectives are all healthy. Everything else holds.

use crate::{
    domain::{Finding, Origin, Verdict, Weight},
    rails::CheckFacts,
};

/// The verdict that the findings alone call for.
pub(super) fn propose(checks: &[CheckFacts<'_>]) -> Verdict {
    checks.iter().filter(|facts| facts.check.weight == Weight::Critical).map(verdict_of).max().unwrap_or(Verdict::Hold)
}

fn verdict_of(facts: &CheckFacts<'_>) -> Verdict {
    let quiet = facts.evidence.canary.total == 0 && facts.check.origin != Origin::Slo;
    match facts.finding {
        Finding::Degraded => Verdict::Rollback,
        Finding::Inconclusive if quiet => Verdict::Promote,
        Finding::NoData if facts.is_quiet() => Verdict::Promote,
        Finding::NoData | Finding::Inconclusive => Verdict::Hold,
        Finding::Healthy => Verdict::Promote,
    }
}
