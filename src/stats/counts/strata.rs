//! Strata: the arms compared segment by segment.
//!
//! # The argument
//! In segment `h` the canary has `theta_h` of the traffic, so that of `K_h` bad events it may have
//! `K_h pi_h(m)`, `pi_h(m) = m theta_h / (m theta_h + 1 - theta_h)`. The sum of what it has beyond that, over the segments,
//! is the score of Mantel and Haenszel: a mix of segments that differs between the arms cancels out of it, as it does
//! not out of the sums. The segments are summed up as one window whose share of traffic is `sum K_h theta_h / sum K_h`:
//! exact for `m = 1`; for `m > 1`, `pi` is concave in `theta`, so the window tolerates no less than the score does. And
//! a sum of binomial counts with several shares is less spread than one with their mean (Hoeffding, 1956), so that the
//! likelihood ratio stays an e-value. A segment that only one arm serves says nothing about a difference, and is left
//! out.
//!
//! Source: Mantel and Haenszel, "Statistical aspects of the analysis of data from retrospective studies" (1959).

use crate::domain::{Check, Counts, Part, PartKind, Reading, Text};

use crate::stats::counts;

/// Both arms' counts as far as they can be compared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pooled {
    /// Control's bad events.
    pub control_bad: f64,
    /// The canary's bad events.
    pub canary_bad: f64,
    /// Canary's traffic over control's, as the bad events weigh the segments.
    pub odds: f64,
    /// The segment whose share of the traffic differs most between the arms: by how much at least, and its name;
    /// `None` where segments are not known.
    pub mismatch: Option<(f64, Text)>,
}

/// Both arms of one block, with totals above 0, summed up over their segments or as wholes.
pub(super) fn pooled(check: &Check, control: &Reading, canary: &Reading, wholes: (Counts, Counts)) -> Option<Pooled> {
    let whole = || Pooled {
        control_bad: wholes.0.bad as f64,
        canary_bad: wholes.1.bad as f64,
        odds: wholes.1.total as f64 / wholes.0.total as f64,
        mismatch: None,
    };
    let segments = |reading: &'_ Reading| -> Vec<(Text, Counts)> {
        let known = |part: &Part| Some((part.name.clone(), counts(check, &part.tally)?));
        reading.parts_of(PartKind::Segment).filter_map(known).collect()
    };
    let has_segments = |reading: &Reading| reading.parts_of(PartKind::Segment).next().is_some();
    if !has_segments(control) || !has_segments(canary) {
        return Some(whole());
    }
    let (old, new) = (segments(control), segments(canary));
    let sum = |all: &[(Text, Counts)]| all.iter().fold(Counts::default(), |sum, (_, counts)| sum.plus(*counts)).total;
    let totals = (sum(&old) as f64, sum(&new) as f64);
    let (mut control_bad, mut canary_bad, mut expected) = (0.0, 0.0, 0.0);
    let (mut traffic, mut mismatch) = ((0.0, 0.0), None::<(f64, Text)>);
    for (name, there) in &new {
        let here = old.iter().find(|(other, _)| other == name).map_or(Counts::default(), |(_, counts)| *counts);
        note_difference(&mut mismatch, name, (here, totals.0), (*there, totals.1));
        if here.total == 0 || there.total == 0 {
            continue;
        }
        let (all, bad) = (here.total as f64 + there.total as f64, here.bad as f64 + there.bad as f64);
        control_bad += here.bad as f64;
        canary_bad += there.bad as f64;
        expected += bad * (there.total as f64 / all);
        traffic = (traffic.0 + here.total as f64, traffic.1 + there.total as f64);
    }
    for (name, here) in old.iter().filter(|(name, _)| !new.iter().any(|(other, _)| other == name)) {
        note_difference(&mut mismatch, name, (*here, totals.0), (Counts::default(), totals.1));
    }
    if traffic.0 <= 0.0 || traffic.1 <= 0.0 {
        return mismatch.map(|mismatch| Pooled {
            control_bad: 0.0,
            canary_bad: 0.0,
            odds: 1.0,
            mismatch: Some(mismatch),
        });
    }
    let bad = control_bad + canary_bad;
    let odds = if bad > 0.0 { expected / (bad - expected) } else { traffic.1 / traffic.0 };
    Some(Pooled { control_bad, canary_bad, odds, mismatch })
}

/// Keeps the segment whose shares differ most, beyond four standard errors.
fn note_difference(largest: &mut Option<(f64, Text)>, name: &Text, old: (Counts, f64), new: (Counts, f64)) {
    if old.1 <= 0.0 || new.1 <= 0.0 {
        return;
    }
    let (here, there) = (old.0.total as f64 / old.1, new.0.total as f64 / new.1);
    let pooled = (old.0.total as f64 + new.0.total as f64) / (old.1 + new.1);
    let error = (pooled * (1.0 - pooled) * (1.0 / old.1 + 1.0 / new.1)).max(0.0).sqrt();
    let sure = ((here - there).abs() - 4.0 * error).max(0.0);
    if largest.as_ref().is_none_or(|(most, _)| sure > *most) {
        *largest = Some((sure, name.clone()));
    }
}
