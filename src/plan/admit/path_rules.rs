//! What the operator's rules ask of a change by the files it touches. It holds whatever a draft says: a draft adds to it
//! and takes nothing away.
//!
//! Where it cannot be said whether a rule fits (the list of files was cut, or a pattern is no pattern), it does: a guard
//! that fails must not make anything wider.

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::{PathRule, Touched};
use crate::domain::{Check, Risk};

/// What the rules that fit ask for together.
#[derive(Debug, Default)]
pub(super) struct Asked<'a> {
    /// The largest of their risks.
    pub(super) risk: Risk,
    /// All their checks, in order.
    pub(super) checks: Vec<&'a Check>,
}

/// What is asked of a change that touches these files.
pub(super) fn asked<'a>(rules: &'a [PathRule], touched: Touched<'_>) -> Asked<'a> {
    let mut all = Asked::default();
    for rule in rules.iter().filter(|rule| fits(rule, touched)) {
        all.risk = all.risk.max(rule.risk);
        all.checks.extend(&rule.checks);
    }
    all
}

fn fits(rule: &PathRule, touched: Touched<'_>) -> bool {
    let Some(globs) = globs(&rule.paths) else { return true };
    let hit = |path: &String| globs.is_match(path);
    touched.cut || touched.files.iter().any(|file| hit(&file.path) || file.previous_path.as_ref().is_some_and(hit))
}

/// The patterns as one; `None` where one of them is no pattern.
fn globs(patterns: &[String]) -> Option<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).ok()?);
    }
    set.build().ok()
}
