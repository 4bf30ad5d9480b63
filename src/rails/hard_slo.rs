//! A service's promise to its users is broken on the canary: take it back, whatever anyone says.
//!
//! No baseline, no statistics and no model stand in the path. It decides on the measurement that shows it: on the
//! newest window alone, and on the last few together, so that a breach at little traffic is seen too. The least counts
//! of the limit keep one unlucky request from being a breach.

use super::{Case, CheckFacts, Rail, Ruling};
use crate::domain::{Counts, HardLimit};

pub(super) const RAIL: Rail = Rail {
    name: "hard_slo",
    summary: "an absolute bound that the canary breaks takes its traffic back at once",
    waivable: false,
    rule,
};

fn rule(case: &Case<'_>) -> Ruling {
    case.checks.iter().find_map(breach).map_or(Ruling::Allow, Ruling::rollback)
}

fn breach(facts: &CheckFacts<'_>) -> Option<String> {
    let limit = facts.check.limit?;
    let newest = facts.latest.and_then(|tally| tally.as_ref().ok()).copied();
    let counts = newest.into_iter().chain([facts.recent]).find(|counts| breaks(*counts, limit))?;
    Some(format!(
        "{}: {} of {} bad on the canary, the hard limit is {}",
        facts.check.name, counts.bad, counts.total, limit.bad_share_max
    ))
}

/// Whether these counts break this limit.
fn breaks(counts: Counts, limit: HardLimit) -> bool {
    counts.total >= limit.total_min
        && counts.bad >= limit.bad_min
        && counts.rate().is_some_and(|rate| rate > limit.bad_share_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_broken_only_above_it_and_with_enough_seen() {
        let limit = HardLimit { bad_share_max: 0.05, total_min: 20, bad_min: 3 };
        let broken = |bad, total| breaks(Counts { bad, total }, limit);
        assert!(broken(3, 59));
        assert!(!broken(3, 60), "exactly at the limit is within it");
        assert!(!broken(3, 19), "too few requests");
        assert!(!broken(2, 20), "too few bad ones");
    }
}
