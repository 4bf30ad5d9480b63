//! Going back is not always the safe side.
//!
//! A change that drops or rewrites data cannot be undone by moving traffic: the old version may not understand what it
//! finds. And once everyone has the new version, the old one may be gone: then the canary is the only healthy copy, and
//! sending traffic away from it is the outage. In both cases a rollback becomes a hold, and a person is called.

use super::{Case, Rail, Ruling};
use crate::domain::WayBack;

pub(super) const RAIL: Rail = Rail {
    name: "reversibility",
    summary: "a one-way change, or one whose old version is gone, is held and paged instead of rolled back",
    waivable: true,
    rule,
};

fn rule(case: &Case<'_>) -> Ruling {
    if let WayBack::OneWay { why, .. } = case.way_back {
        return Ruling::no_retreat(format!("the change is one-way: {why}"));
    }
    let full = case.retreat.as_ref().is_some_and(|retreat| retreat.from.is_full());
    if full && case.control_stands == Some(false) {
        return Ruling::no_retreat("everyone has the new version and the old one is not seen to run");
    }
    Ruling::Allow
}
