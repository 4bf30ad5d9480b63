//! A critical check had no tally for the canary in the newest window: nobody gets the new version on the strength of
//! what was not seen.
//!
//! Measured and nothing there, not answered, and answered with nonsense are told apart in the reason.

use super::{Case, Rail, Ruling};
use crate::domain::{Finding, Weight};

pub(super) const RAIL: Rail =
    Rail { name: "no_data", summary: "without data of a critical check nothing expands", waivable: false, rule };

fn rule(case: &Case<'_>) -> Ruling {
    if case.stage.is_none() {
        return Ruling::Allow;
    }
    let missing =
        case.checks.iter().filter(|facts| facts.check.weight == Weight::Critical).find_map(|facts| {
            match facts.latest {
                None => Some(format!("{}: not measured yet", facts.check.name)),
                Some(Err(_)) if facts.is_quiet() => None,
                Some(Err(absence)) => Some(format!("{}: {absence}", facts.check.name)),
                Some(Ok(_)) if facts.finding == Finding::NoData => Some(format!("{}: no data", facts.check.name)),
                Some(Ok(_)) => None,
            }
        });
    missing.map_or(Ruling::Allow, Ruling::hold)
}
