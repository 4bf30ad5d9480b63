//! How much of a draft a plan keeps. A draft may hold anything; a plan is in the state, in every snapshot and on every
//! page, so each list of it has an end.

use super::super::{PastLevel, Power, Source, Tried};
use crate::domain::{CheckName, DiffLine, Text};

/// Most notes of a draft that are kept.
pub(super) const NOTES_MAX: usize = 16;
/// Most lines of the diff that are kept of one check, and of the reasons against going back.
pub(super) const LINES_MAX: usize = 32;
/// Most bytes of the path of such a line.
pub(super) const PATH_BYTES_MAX: usize = 1_000;
/// Most trials that are kept.
pub(super) const TRIED_MAX: usize = 64;
/// Most stages whose power is kept of one trial.
pub(super) const POWER_MAX: usize = 16;
/// Most files that are named as not looked at.
pub(super) const UNCOVERED_MAX: usize = 64;

/// A name as it may be told: on one line and short.
pub(super) fn told_name(name: &CheckName) -> CheckName {
    CheckName::new(Text::new(name.as_str()).as_str())
}

/// The lines that are kept of a check.
pub(super) fn lines(lines: Vec<DiffLine>) -> Vec<DiffLine> {
    lines.into_iter().filter(|line| line.path.len() <= PATH_BYTES_MAX).take(LINES_MAX).collect()
}

/// The trials that are kept. A number that is none is left out.
pub(super) fn trials(tried: Vec<Tried>) -> Vec<Tried> {
    let kept = |tried: Tried| Tried {
        check: told_name(&tried.check),
        baseline: tried.baseline.filter(is_finite),
        power: tried.power.into_iter().take(POWER_MAX).map(finite).collect(),
        ..tried
    };
    tried.into_iter().take(TRIED_MAX).map(kept).collect()
}

fn is_finite(baseline: &PastLevel) -> bool {
    [baseline.rate, baseline.per_second, baseline.empty].iter().all(|number| number.is_finite())
}

fn finite(power: Power) -> Power {
    let number = |number: Option<f64>| number.filter(|number| number.is_finite());
    Power { smallest: number(power.smallest), twice_seconds: number(power.twice_seconds), ..power }
}

/// The files that are named; the last of them says how many are not.
pub(super) fn uncovered(mut files: Vec<Text>) -> Vec<Text> {
    let beyond = files.len().saturating_sub(UNCOVERED_MAX);
    if beyond > 0 {
        files.truncate(UNCOVERED_MAX - 1);
        files.push(Text::new(format!("and {} more", beyond + 1)));
    }
    files
}

/// Who made the plan, in words.
pub(super) fn source(source: &Source) -> String {
    match source {
        Source::Heuristic => "planned by rules".to_owned(),
        Source::Model { model, is_cached: false } => format!("planned by model {model}"),
        Source::Model { model, is_cached: true } => {
            format!("planned by model {model}, which had planned the same before")
        }
        Source::Fallback { why, detail } => {
            let why = why.word().replace('_', " ");
            format!("planned by rules, because the model could not be used ({why}): {detail}")
        }
    }
}
