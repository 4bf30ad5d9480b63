//! One step adds at most so much to the share: a mistake in the ladder of stages must not reach everyone at once.

use super::{Case, Rail, Ruling};

pub(super) const RAIL: Rail =
    Rail { name: "step_size", summary: "one step adds at most the configured share", waivable: false, rule };

fn rule(case: &Case<'_>) -> Ruling {
    let Some(advance) = &case.advance else {
        return Ruling::Allow;
    };
    let added = advance.to.share.basis_points().saturating_sub(advance.from.share.basis_points());
    if added > case.step_max.basis_points() {
        Ruling::hold_and_page(format!(
            "the step from {} to {} is larger than the largest allowed, {}",
            advance.from, advance.to, case.step_max
        ))
    } else {
        Ruling::Allow
    }
}
