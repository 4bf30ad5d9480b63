//! A stage is held for its bake time: some faults need time rather than traffic.
//!
//! Where the service says so, proof of safety on every critical check may end it sooner, though not before a least time
//! of its own. Evidence that nothing was found is not such proof.

use super::{Case, CheckFacts, Rail, Ruling, StageFacts};
use crate::domain::Weight;

pub(super) const RAIL: Rail =
    Rail { name: "bake_time", summary: "a stage is held for its bake time, or until shown safe", waivable: true, rule };

fn rule(case: &Case<'_>) -> Ruling {
    let Some(stage) = case.stage else { return Ruling::Allow };
    let may_end = |least| stage.held >= least && is_shown_safe(case.checks);
    if stage.held >= stage.bake_time || stage.bake_time_shown_safe.is_some_and(may_end) {
        return Ruling::Allow;
    }
    Ruling::hold(left(&stage))
}

/// Whether every critical check is shown safe; false where there is none.
fn is_shown_safe(checks: &[CheckFacts<'_>]) -> bool {
    let mut critical = checks.iter().filter(|facts| facts.check.weight == Weight::Critical).peekable();
    critical.peek().is_some() && critical.all(|facts| facts.evidence.is_shown_safe())
}

fn left(stage: &StageFacts) -> String {
    let seconds = |least: std::time::Duration| least.saturating_sub(stage.held).as_secs_f64().ceil();
    match stage.bake_time_shown_safe {
        Some(least) if least < stage.bake_time && stage.held < least => {
            format!("{:.0} s of bake time are left, {:.0} s once shown safe", seconds(stage.bake_time), seconds(least))
        }
        Some(least) if least < stage.bake_time => {
            format!("{:.0} s of bake time are left, none once shown safe", seconds(stage.bake_time))
        }
        Some(_) | None => format!("{:.0} s of bake time are left", seconds(stage.bake_time)),
    }
}
