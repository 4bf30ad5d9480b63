//! A stage that hardly anyone used has shown nothing: hold until the canary has served enough.
//!
//! The count is that of the mandatory check with the most traffic; a check on a rare endpoint need not reach it. What was
//! proposed for the change does not count: whoever proposes could choose a counter that is busier than the service.

use super::{Case, Rail, Ruling};
use crate::domain::Origin;

pub(super) const RAIL: Rail = Rail {
    name: "minimum_samples",
    summary: "a stage needs its least number of requests on the canary",
    waivable: true,
    rule,
};

fn rule(case: &Case<'_>) -> Ruling {
    if case.stage.is_none() {
        return Ruling::Allow;
    }
    let mandatory = case.checks.iter().filter(|facts| facts.check.origin == Origin::Slo);
    let counting = mandatory.filter(|facts| facts.check.sli.counts_requests());
    let most = counting.map(|facts| facts.this_stage.total).max().unwrap_or(0);
    if most < case.samples_min {
        Ruling::hold(format!("the canary has served {most} of the {} requests this stage needs", case.samples_min))
    } else {
        Ruling::Allow
    }
}
