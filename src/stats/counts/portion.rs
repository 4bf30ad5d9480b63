//! One part of an arm, a pod or a tenant, as a part of the whole that may be left out.

use crate::{
    domain::{Check, Counts, Part, PartKind, Reading, Text},
    stats::counts,
};

/// One canary part as a portion of the canary.
pub(super) struct Portion<'a> {
    pub(super) name: &'a Text,
    pub(super) bad: f64,
    pub(super) of_bad: f64,
    pub(super) of_traffic: f64,
}

pub(super) fn portions<'a>(check: &Check, reading: &'a Reading, kind: PartKind, whole: Counts) -> Vec<Portion<'a>> {
    let portion = |part: &'a Part| {
        let counted = counts(check, &part.tally)?;
        let of_bad = if whole.bad > 0 { counted.bad as f64 / whole.bad as f64 } else { 0.0 };
        let of_traffic = counted.total as f64 / whole.total as f64;
        (counted.total > 0).then_some(Portion {
            name: &part.name,
            bad: counted.bad as f64,
            of_bad: of_bad.min(1.0),
            of_traffic: of_traffic.min(1.0),
        })
    };
    reading.parts_of(kind).filter_map(portion).collect()
}
