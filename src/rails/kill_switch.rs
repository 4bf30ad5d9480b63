//! An operator has stopped all expansion. Traffic may still be taken back.

use super::{Case, Rail, Ruling};

pub(super) const RAIL: Rail =
    Rail { name: "kill_switch", summary: "while the kill switch is on, nothing expands", waivable: false, rule };

fn rule(case: &Case<'_>) -> Ruling {
    // A rollout that everyone has may end its watch: that expands nothing.
    if case.kill_switch && case.advance.is_some() {
        Ruling::hold("the kill switch is on: nothing expands")
    } else {
        Ruling::Allow
    }
}
