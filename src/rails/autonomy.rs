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
    match case.autonomy {
        Autonomy::Auto => Ruling::Allow,
        Autonomy::Guard => Ruling::hold("the service is at `guard`: a person promotes"),
        Autonomy::Observe | Autonomy::Advise => {
            Ruling::stand("the service is below `guard`: a person promotes and rolls back")
        }
    }
}
