//! The suite for switches without a control beside them: three weeks of history, then the new version for everybody.
//!
//! Four hours after the switch are watched. There is no rollback here: what may be wrong is a page in the night.

use rand::{SeedableRng, rngs::StdRng};

use super::{
    noise_history::{DAY, HistoryShape, draw_history, shift_level},
    suite::{Case, Method, Suite, Words},
};
use crate::{
    domain::Direction,
    stats::no_control::{Expectation, Outlook, Past},
};

/// See the head of the file.
pub const SUITE: Suite = Suite {
    name: "no_control",
    summary: "a switch of all traffic, three weeks of history, watched for four hours",
    methods,
    words: Words {
        harmless: "harmless switches",
        wrong: "called unusual",
        harmful: "harmful switches",
        right: "noticed",
        files: ("false-warnings", "delays"),
    },
    runs: 300,
    power_runs: 30,
    harmless,
    harmful,
    exceptions: &[],
};

/// Chance of calling a harmless switch unusual.
const ALPHA: f64 = 0.01;
/// Minutes that are watched, and between two looks.
const WATCH: usize = 240;
const EVERY: usize = 5;

/// Services and their history.
const FAMILIES: &[(&str, HistoryShape)] = &[
    ("usual", HistoryShape::USUAL),
    ("two siblings", HistoryShape { siblings: 2, ..HistoryShape::USUAL }),
    ("many odd days", HistoryShape { odd_days: 0.15, outages: (2.0, 0.4), ..HistoryShape::USUAL }),
    ("few events", HistoryShape { level: 10.0, ..HistoryShape::USUAL }),
];

fn methods() -> Vec<Method> {
    vec![
        Method::ours(
            "tollgate",
            "a synthetic control from sibling series and past days, conformal p-values",
            Some(ALPHA),
        ),
        Method::ours("tollgate, past days alone", "the same where there are no sibling series", Some(ALPHA)),
    ]
}

fn harmless() -> Vec<Case> {
    cases("harmless", &[("", 1.0)])
}

fn harmful() -> Vec<Case> {
    cases("higher", &[("+25%", 1.25), ("+50%", 1.5), ("x2", 2.0)])
}

fn cases(table: &'static str, ratios: &[(&str, f64)]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, shape) in FAMILIES {
        for (name, ratio) in ratios {
            let mut setting = vec![("siblings", shape.siblings.to_string())];
            setting.extend((!name.is_empty()).then(|| ("effect", (*name).to_owned())));
            let ratio = *ratio;
            let run = move |seed| switch(shape, ratio, seed);
            cases.push(Case { table, family, setting, limit_seconds: None, run: Box::new(run) });
        }
    }
    cases
}

fn switch(shape: &HistoryShape, ratio: f64, seed: u64) -> Vec<Option<u32>> {
    let mut drawn = draw_history(shape, &mut StdRng::seed_from_u64(seed));
    let at = (shape.days * DAY).saturating_sub(WATCH);
    shift_level(&mut drawn.target, at, ratio);
    [drawn.siblings.as_slice(), &[]].map(|siblings| noticed(&drawn.target, siblings, at)).into()
}

/// After how many seconds the switch was called unusual, if it was.
fn noticed(target: &[Option<f64>], siblings: &[Vec<Option<f64>>], at: usize) -> Option<u32> {
    let (before, since) = target.split_at_checked(at)?;
    let siblings: Vec<_> = siblings.iter().filter_map(|sibling| sibling.split_at_checked(at)).collect();
    let (earlier, now): (Vec<_>, Vec<_>) = siblings.into_iter().unzip();
    let direction = Direction::HigherIsWorse;
    let expectation =
        Expectation::learn(&Past { target: before, siblings: &earlier, watch: WATCH, direction, left_out: &[] });
    let is_unusual = |minutes: &usize| {
        let seen: Vec<_> = now.iter().map(|sibling| sibling.get(..*minutes).unwrap_or(sibling)).collect();
        let since = since.get(..*minutes).unwrap_or(since);
        matches!(expectation.look(since, &seen, ALPHA), Outlook::Unusual(_))
    };
    (EVERY..=WATCH).step_by(EVERY).find(is_unusual).map(|minutes| 60 * minutes as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_level_is_noticed_and_the_old_one_is_not() {
        let shape = HistoryShape { siblings: 2, ..HistoryShape::USUAL };
        assert_eq!(switch(&shape, 1.0, 1), [None, None]);
        let doubled = switch(&shape, 2.0, 1);
        assert!(doubled[0].is_some_and(|seconds| seconds <= 3600 && seconds % 300 == 0), "{doubled:?}");
    }
}
