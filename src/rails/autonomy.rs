//! How far the service lets Tollgate act without a person.

use super::{Case, Rail, Ruling};
use crate::domain::Autonomy;

pub(super) const RAIL: Rail = Rail {
    name: "autonomy",
    summary: "below `auto` people promote; below `guard` they roll back too",
    waivable: true,
    rule,
};

fn rule(case: &Case<'_>) -> Ruling {
    // After the last stage there is nothing left to promote: that the watch is over moves nobody.
    if case.stage.is_some() && case.advance.is_none() && case.autonomy == Autonomy::Guard {
        return Ruling::Allow;
    }
    match case.autonomy {
        Autonomy::Auto => Ruling::Allow,
        Autonomy::Guard => Ruling::hold("the service is at `guard`: a person promotes"),
        Autonomy::Observe | Autonomy::Advise => {
            Ruling::stand("the service is below `guard`: a person promotes and rolls back")
        }
    }
}
