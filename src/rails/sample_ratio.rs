//! A canary that gets another share of requests than was set is not promoted: the split or the telemetry is wrong, and
//! with either of them wrong no comparison of the arms is worth anything.
//!
//! It speaks against the delivery and not against the new version, so it holds and never takes back.

use super::{Case, Rail, Ruling};

pub(super) const RAIL: Rail = Rail {
    name: "sample_ratio",
    summary: "the canary gets the share of requests that was set for it",
    waivable: true,
    rule,
};

fn rule(case: &Case<'_>) -> Ruling {
    case.shares_off.map_or(Ruling::Allow, |off| {
        let (seen, set) = (off.seen * 100.0, off.set * 100.0);
        Ruling::hold(format!(
            "the canary gets {seen:.1}% of the requests where {set:.1}% was set: the split or the telemetry is wrong"
        ))
    })
}
