//! Something is unusual where no control is left to compare with: hold, and call a person.
//!
//! Past days and the stage before are weak baselines: an odd day looks like a bad version. So what they find neither takes
//! traffic back nor lets it on, and a person who asks for the promotion has looked.

use super::{Case, CheckFacts, Rail, Ruling};
use crate::domain::Weight;

pub(super) const RAIL: Rail = Rail {
    name: "baseline",
    summary: "what is unusual where there is no control holds, and a person is called",
    waivable: true,
    rule,
};

fn rule(case: &Case<'_>) -> Ruling {
    let critical = case.checks.iter().filter(|facts| facts.check.weight == Weight::Critical);
    let unusual = |facts: &CheckFacts<'_>| facts.unusual.map(|why| format!("{}: {why}", facts.check.name));
    critical.filter_map(unusual).next().map_or(Ruling::Allow, Ruling::hold_and_page)
}
