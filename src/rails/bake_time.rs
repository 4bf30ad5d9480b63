//! A stage is held for its bake time: some faults need time rather than traffic.

use super::{Case, Rail, Ruling};

pub(super) const RAIL: Rail =
    Rail { name: "bake_time", summary: "a stage is held for its bake time", waivable: true, rule };

fn rule(case: &Case<'_>) -> Ruling {
    match case.stage {
        Some(stage) if stage.held < stage.bake_time => {
            let left = stage.bake_time.saturating_sub(stage.held);
            Ruling::hold(format!("{:.0} s of bake time are left", left.as_secs_f64().ceil()))
        }
        Some(_) | None => Ruling::Allow,
    }
}
