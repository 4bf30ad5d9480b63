//! An operator has stopped all expansion. Traffic may still be taken back.

use super::{Case, Rail, Ruling};

pub(super) const RAIL: Rail =
    Rail { name: "kill_switch", summary: "while the kill switch is on, nothing expands", waivable: false, rule };

fn rule(case: &Case<'_>) -> Ruling {
    if case.kill_switch { Ruling::hold("the kill switch is on: nothing expands") } else { Ruling::Allow }
}
