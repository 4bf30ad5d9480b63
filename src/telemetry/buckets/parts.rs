//! The parts of a window: pods, segments and the largest tenants, from the same questions asked by label.
//!
//! Which segments and tenants are told apart is chosen for both arms together, by what both counted: a choice that looked
//! at one arm alone could favour it. Pods and segments make up the whole: what the listed segments do not hold is `other`,
//! and pods that do not add up to the whole are left out. Parts are an addition; where they cannot be told, the whole
//! answers as if nobody had asked for them.

use std::collections::{BTreeMap, BTreeSet};

use super::tally::{Answered, grouped, tally};
use crate::domain::{Absence, Counts, Histogram, Part, PartKind, Sli, Tally, Text};

/// Most pods of an arm; where there are more, they are not told apart.
pub const PODS_MAX: usize = 24;
/// Most segments that are told apart; what is beyond the largest is one part, `other`.
pub const SEGMENTS_MAX: usize = 31;
/// Most tenants.
pub const TENANTS_MAX: usize = 8;
/// All segments beyond the largest, and what bears no such label.
const REST: &str = "other";

/// The answers to an SLI's questions asked by one label, of control and of the canary.
pub(super) struct ByLabel<'a> {
    pub(super) kind: PartKind,
    pub(super) label: &'a str,
    pub(super) arms: [Vec<&'a Answered>; 2],
}

type Named = BTreeMap<Text, Tally>;

/// The parts of both arms, sorted by kind and name.
pub(super) fn parts(sli: &Sli, wholes: [&Result<Tally, Absence>; 2], by: &[ByLabel<'_>]) -> [Vec<Part>; 2] {
    let mut parts = [Vec::new(), Vec::new()];
    for ByLabel { kind, label, arms: [control, canary] } in by {
        let (Some(control), Some(canary)) = (named(sli, label, control), named(sli, label, canary)) else { continue };
        let told = match kind {
            PartKind::Pod => [pods(control, wholes[0]), pods(canary, wholes[1])],
            PartKind::Tenant => largest([control, canary], TENANTS_MAX),
            PartKind::Segment => {
                let [control, canary] = largest([control, canary], SEGMENTS_MAX);
                match [whole_of(control, wholes[0]), whole_of(canary, wholes[1])] {
                    [Some(control), Some(canary)] => [control, canary],
                    [_, _] => continue,
                }
            }
        };
        for (parts, told) in parts.iter_mut().zip(told) {
            parts.extend(told.into_iter().map(|(name, tally)| Part { kind: *kind, name, tally }));
        }
    }
    parts
        .iter_mut()
        .for_each(|parts| parts.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name))));
    parts
}

/// The tally of each value of a label; `None` where one of them has none for another reason than that it is not there.
fn named(sli: &Sli, label: &str, answers: &[&Answered]) -> Option<Named> {
    let mut groups = Vec::new();
    for answer in answers {
        groups.push(grouped(answer.as_ref().ok()?, label));
    }
    let names: BTreeSet<Text> = groups.iter().flat_map(|groups| groups.keys().cloned()).collect();
    let mut named = BTreeMap::new();
    for name in names {
        let of_name: Vec<Answered> = groups.iter().map(|of| Ok(of.get(&name).cloned().unwrap_or_default())).collect();
        match tally(sli, &of_name.iter().collect::<Vec<_>>()) {
            Ok(tally) => {
                named.insert(name, tally);
            }
            Err(Absence::NoData) => {}
            Err(Absence::Unavailable(_) | Absence::Malformed(_)) => return None,
        }
    }
    Some(named)
}

/// The pods of one arm, where they are some and make it up.
fn pods(named: Named, whole: &Result<Tally, Absence>) -> Named {
    let are_some = (2..=PODS_MAX).contains(&named.len());
    let is_level = matches!(whole, Ok(Tally::Samples(_)));
    let make_it_up = || whole.as_ref().ok().and_then(|whole| rest(whole, &named)).is_some_and(|rest| is_zero(&rest));
    if are_some && (is_level || make_it_up()) { named } else { Named::new() }
}

/// The listed segments, and what the whole has beside them; `None` where they are more than the whole.
fn whole_of(mut named: Named, whole: &Result<Tally, Absence>) -> Option<Named> {
    let Ok(whole) = whole else { return Some(Named::new()) };
    if matches!(whole, Tally::Samples(_)) {
        return Some(named);
    }
    let rest = rest(whole, &named)?;
    if !is_zero(&rest) {
        let name = Text::new(REST);
        let rest = named.get(&name).map_or(Some(rest.clone()), |mine| mine.plus(&rest))?;
        named.insert(name, rest);
    }
    Some(named)
}

/// What the whole has beside these; `None` where they are more.
fn rest(whole: &Tally, named: &Named) -> Option<Tally> {
    named.values().try_fold(whole.clone(), |rest, part| match (rest, part) {
        (Tally::Counts(rest), Tally::Counts(part)) => Some(Tally::Counts(Counts {
            bad: rest.bad.checked_sub(part.bad)?,
            total: rest.total.checked_sub(part.total)?,
        })),
        (Tally::Histogram(rest), Tally::Histogram(part)) if rest.bounds == part.bounds => {
            let counts: Option<Vec<u64>> =
                rest.counts.iter().zip(&part.counts).map(|(rest, part)| rest.checked_sub(*part)).collect();
            Some(Tally::Histogram(Histogram { counts: counts?, bounds: rest.bounds }))
        }
        (Tally::Counts(_) | Tally::Histogram(_) | Tally::Samples(_) | Tally::Mix(_), _) => None,
    })
}

/// How many requests it stands for, and how many bad ones.
fn weight(tally: &Tally) -> (f64, f64) {
    match tally {
        Tally::Counts(Counts { bad, total }) => (*total as f64, *bad as f64),
        Tally::Histogram(histogram) => {
            let Counts { bad, total } = histogram.above(histogram.bounds.first().copied().unwrap_or(f64::MAX));
            (total as f64, bad as f64)
        }
        Tally::Samples(samples) => (samples.len() as f64, 0.0),
        Tally::Mix(mix) => (mix.iter().map(|(_, n)| *n as f64).sum(), 0.0),
    }
}

fn is_zero(tally: &Tally) -> bool {
    weight(tally) == (0.0, 0.0)
}

/// The same parts of both arms: those with the largest share of all requests, or of the bad ones, in both together.
fn largest(arms: [Named; 2], most: usize) -> [Named; 2] {
    let mut weights: BTreeMap<&Text, (f64, f64)> = BTreeMap::new();
    for (name, tally) in arms.iter().flatten() {
        let (more, sum) = (weight(tally), weights.entry(name).or_default());
        *sum = (sum.0 + more.0, sum.1 + more.1);
    }
    let total = |of: fn(&(f64, f64)) -> f64| weights.values().map(of).sum::<f64>().max(f64::MIN_POSITIVE);
    let (all, bad) = (total(|weight| weight.0), total(|weight| weight.1));
    let mut shares: Vec<(f64, &Text)> =
        weights.iter().map(|(name, weight)| ((weight.0 / all).max(weight.1 / bad), *name)).collect();
    // Of two that are equal the first by name, so that the same answers give the same parts.
    shares.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let kept: BTreeSet<Text> = shares.into_iter().take(most).map(|(_, name)| name.clone()).collect();
    arms.map(|mut named| {
        named.retain(|name, _| kept.contains(name));
        named
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Selector, Timestamp},
        telemetry::buckets::Series,
    };

    fn ratio() -> Sli {
        Sli::Ratio { bad: Selector::metric("bad"), total: Selector::metric("all") }
    }

    fn answer(counts: &[(String, f64)]) -> Answered {
        let series = |(name, n): &(String, f64)| Series {
            labels: BTreeMap::from([("l".to_owned(), name.clone())]),
            points: vec![(Timestamp::EPOCH, Some(*n))],
        };
        Ok(counts.iter().map(series).collect())
    }

    fn told(kind: PartKind, bad: &[(String, f64)], total: &[(String, f64)], whole: Counts) -> Vec<(String, Counts)> {
        let answers = [answer(bad), answer(total)];
        let arm = || answers.iter().collect::<Vec<_>>();
        let whole = Ok(Tally::Counts(whole));
        let by = [ByLabel { kind, label: "l", arms: [arm(), arm()] }];
        let [control, canary] = parts(&ratio(), [&whole, &whole], &by);
        assert_eq!(control, canary);
        let counts = |part: &Part| if let Tally::Counts(counts) = part.tally { counts } else { Counts::default() };
        canary.iter().map(|part| (part.name.to_string(), counts(part))).collect()
    }

    fn of(names: &[(&str, f64)]) -> Vec<(String, f64)> {
        names.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
    }

    fn counts(bad: u64, total: u64) -> Counts {
        Counts { bad, total }
    }

    #[test]
    fn segments_make_up_the_whole_with_what_is_not_listed() {
        let parts = told(PartKind::Segment, &of(&[("a", 1.0)]), &of(&[("a", 4.0), ("b", 5.0)]), counts(2, 12));
        assert_eq!(parts, [("a".into(), counts(1, 4)), ("b".into(), counts(0, 5)), ("other".into(), counts(1, 3))]);
        let more = told(PartKind::Segment, &[], &of(&[("a", 4.0), ("b", 5.0)]), counts(0, 8));
        assert!(more.is_empty(), "parts that are more than the whole are none of it: {more:?}");
    }

    #[test]
    fn pods_are_told_where_they_are_some_and_add_up() {
        let pods = of(&[("p1", 4.0), ("p2", 5.0)]);
        assert_eq!(told(PartKind::Pod, &[], &pods, counts(0, 9)).len(), 2);
        assert!(told(PartKind::Pod, &[], &pods, counts(0, 10)).is_empty());
        assert!(told(PartKind::Pod, &[], &of(&[("p1", 4.0)]), counts(0, 4)).is_empty(), "one pod is the whole");
        let many = |n: u64| (0..n).map(|i| (format!("{i:02}"), 1.0)).collect::<Vec<_>>();
        let most = PODS_MAX as u64;
        assert_eq!(told(PartKind::Pod, &[], &many(most), counts(0, most)).len(), PODS_MAX);
        assert!(told(PartKind::Pod, &[], &many(most + 1), counts(0, most + 1)).is_empty());
    }

    #[test]
    fn only_the_largest_tenants_are_listed_by_requests_or_by_errors() {
        let total: Vec<_> = (0..20).map(|n| (format!("t{n:02}"), f64::from(n) + 1.0)).collect();
        let parts = told(PartKind::Tenant, &of(&[("t00", 1.0)]), &total, counts(1, 210));
        assert_eq!(parts.len(), TENANTS_MAX);
        assert_eq!(parts[0], ("t00".into(), counts(1, 1)), "the one with all errors is among them");
        assert_eq!(parts[7].0, "t19");
    }

    #[test]
    fn segments_beyond_the_largest_are_one() {
        let total: Vec<_> = (0..60).map(|n| (format!("s{n:02}"), 1.0)).collect();
        let parts = told(PartKind::Segment, &[], &total, counts(0, 60));
        assert_eq!(parts.len(), SEGMENTS_MAX + 1);
        let rest = parts.iter().find(|(name, _)| name == "other").map(|(_, counts)| counts.total);
        assert_eq!(rest, Some(60 - SEGMENTS_MAX as u64));
        const { assert!(PODS_MAX + SEGMENTS_MAX + 1 + TENANTS_MAX <= crate::domain::PARTS_MAX) };
    }
}
