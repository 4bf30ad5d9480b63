//! The parts of what an arm gained: its pods, the segments of its traffic and its largest tenants.
//!
//! # What holds of them
//! Every series of an SLI falls into one part of a kind, and a part is counted like the whole, so pods and segments add
//! up to it whatever restarted, appeared or went away (fractions are rounded for each part, as they are for the whole).
//! Which segments and tenants are told apart is chosen for both arms together, by what both arms counted: a choice that
//! looked at one arm alone could favour it.
//!
//! Parts are an addition. Where there are too many of them, or a kind could not be told apart in one of the window's
//! rounds, that kind is left out, and the whole answers as if nobody had asked for parts.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use super::{
    gain::{Gain, tally},
    seen::BySeries,
    target::{Gains, matching, mix},
};
use crate::{
    domain::{Absence, PARTS_MAX, Part, PartKind, Selector, Sli, Split, Tally, Text},
    telemetry::exposition::Series,
};

/// Most parts of one kind that are kept of one reading of an arm. Of tenants the largest are kept; pods and segments are
/// then not told apart at all.
pub const VALUES_MAX: usize = 1_000;
/// Most segments of one window that are told apart; what is beyond the largest is one part, `other`.
pub const SEGMENTS_MAX: usize = 32;
/// Segments that are told apart before pods take their room.
const SEGMENTS_LEAST: usize = 16;
/// Most tenants of one window.
pub const TENANTS_MAX: usize = 8;
/// Most numbers in the parts of one answer; what is beyond is left out, the last checks first. An answer is one entry of
/// the journal, which has a limit of its own.
pub const ANSWER_CELLS_MAX: usize = 50_000;

/// The segment, or the pod, of series that do not bear the label.
const UNLABELLED: &str = "none";
/// All segments beyond the largest.
const REST: &str = "other";

/// What is looked for: an SLI and how it is split.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sought {
    pub(super) sli: Sli,
    pub(super) split: Split,
}

impl Sought {
    /// The labels whose values are parts; pods are by page where they have no label.
    fn labels<'a>(&'a self, pods: Option<&'a str>) -> impl Iterator<Item = (PartKind, &'a str)> {
        let labels = [
            (PartKind::Pod, pods),
            (PartKind::Tenant, self.split.tenants.as_deref()),
            (PartKind::Segment, self.split.segments.as_deref()),
        ];
        labels.into_iter().filter_map(|(kind, label)| Some((kind, label?)))
    }
}

/// What one SLI gained on one arm, and its parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gained {
    pub(super) whole: Gain,
    pub(super) parts: Parts,
}

impl Gained {
    /// Adds what another process, or a later reading, gained of the same SLI.
    pub(super) fn add(&mut self, other: Self, sli: &Sli) {
        self.whole.add(other.whole);
        self.parts.add(other.parts, sli);
    }

    /// Says that all of it is of this pod.
    pub(super) fn is_of_pod(&mut self, name: &Text) {
        let gain = match &self.whole {
            // A page without traffic may still show bad ones.
            Gain::Counts { bad, total } => Gain::Counts { bad: *bad, total: Some(total.unwrap_or(0.0)) },
            other => other.clone(),
        };
        self.parts.0.insert(PartKind::Pod, Some(BTreeMap::from([(name.clone(), gain)])));
    }
}

/// The parts of one kind by name; `None` where they could not be told apart.
type Named = Option<BTreeMap<Text, Gain>>;

/// The parts of each kind that is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Parts(BTreeMap<PartKind, Named>);

impl Parts {
    /// The parts of one page, by label.
    pub(super) fn of_page(sought: &Sought, pods: Option<&str>, gains: &Gains) -> Self {
        let of_kind = |(kind, label)| {
            let parts = split(kind, &sought.sli, label, gains);
            (kind, parts.and_then(|parts| kept(kind, parts, &sought.sli)))
        };
        Self(sought.labels(pods).map(of_kind).collect())
    }

    fn add(&mut self, other: Self, sli: &Sli) {
        for (kind, more) in other.0 {
            match self.0.entry(kind) {
                Entry::Vacant(none) => {
                    none.insert(more);
                }
                Entry::Occupied(mut mine) => {
                    let sum = mine.get_mut().take().zip(more).and_then(|(mut sum, more)| {
                        more.into_iter().for_each(|(name, gain)| add_part(&mut sum, name, gain));
                        kept(kind, sum, sli)
                    });
                    mine.insert(sum);
                }
            }
        }
    }

    /// Forgets them: a window that needs them has none.
    pub(super) fn leave_out(&mut self) {
        self.0.values_mut().for_each(|named| *named = None);
    }

    /// How many numbers they hold, roughly; none once they are left out.
    pub(super) fn cells(&self) -> usize {
        let parts = self.0.values().flatten().flatten();
        parts.map(|(name, gain)| 6 + name.as_str().len() / 8 + gain.cells()).sum()
    }
}

fn add_part(to: &mut BTreeMap<Text, Gain>, name: Text, gain: Gain) {
    match to.entry(name) {
        Entry::Occupied(mut sum) => sum.get_mut().add(gain),
        Entry::Vacant(none) => {
            none.insert(gain);
        }
    }
}

/// The same within [`VALUES_MAX`].
fn kept(kind: PartKind, mut parts: BTreeMap<Text, Gain>, sli: &Sli) -> Named {
    if parts.len() > VALUES_MAX {
        if kind != PartKind::Tenant {
            return None;
        }
        let mut weights = Weights::default();
        weights.count(sli, &parts);
        let largest: BTreeSet<Text> = weights.largest(VALUES_MAX).into_iter().cloned().collect();
        parts.retain(|name, _| largest.contains(name));
    }
    Some(parts)
}

/// What each value of a label gained; `None` where the page cannot be split by it.
fn split(kind: PartKind, sli: &Sli, label: &str, gains: &Gains) -> Named {
    let mut parts = BTreeMap::new();
    let mut put = |series: &Series, gain: Gain| {
        if let Some(name) = name_of(kind, series.labels.get(label), &gain) {
            add_part(&mut parts, name, gain);
        }
    };
    match sli {
        Sli::Ratio { bad, total } | Sli::EventsPerTraffic { events: bad, traffic: total } => {
            // Errors that nobody can place, beside traffic that can be placed, would all fall into one part.
            if let (Some(bad), Some(total)) =
                (is_borne(label, bad, &gains.counters), is_borne(label, total, &gains.counters))
                && bad != total
            {
                return None;
            }
            for (series, bad) in matching(bad, &gains.counters) {
                put(series, Gain::Counts { bad: *bad.as_ref().ok()?, total: Some(0.0) });
            }
            for (series, total) in matching(total, &gains.counters) {
                put(series, Gain::Counts { bad: 0.0, total: Some(*total.as_ref().ok()?) });
            }
        }
        Sli::Latency { histogram, .. } => {
            for (series, buckets) in matching(histogram, &gains.histograms) {
                put(series, Gain::Histogram(Some(buckets.as_ref().ok()?.clone())));
            }
        }
        Sli::Level { gauge } => {
            for (series, value) in matching(gauge, &gains.gauges) {
                put(series, Gain::Level { sum: *value.as_ref().ok()?, series: 1 });
            }
        }
        Sli::Mix { counter, by } => {
            for one in matching(counter, &gains.counters) {
                put(one.0, mix(by, [one].into_iter()).ok()?);
            }
        }
    }
    Some(parts)
}

/// Whether some of the selector's series bear the label; `None` where there are no series.
fn is_borne<T>(label: &str, selector: &Selector, gained: &BySeries<T>) -> Option<bool> {
    let mut series = matching(selector, gained).map(|(series, _)| series.labels.contains_key(label)).peekable();
    series.peek()?;
    Some(series.any(|bears| bears))
}

/// The part that a series with this value of the label falls into, if it falls into one.
fn name_of(kind: PartKind, value: Option<&String>, gain: &Gain) -> Option<Text> {
    let name = value.map(Text::new).filter(|name| !name.as_str().is_empty());
    match kind {
        // That there is a pod without traffic says something.
        PartKind::Pod => Some(name.unwrap_or_else(|| Text::new(UNLABELLED))),
        PartKind::Segment | PartKind::Tenant if gain.is_nothing() => None,
        PartKind::Segment => Some(name.unwrap_or_else(|| Text::new(UNLABELLED))),
        // All who are not named are not one tenant.
        PartKind::Tenant => name,
    }
}

/// How much of all requests, and of the bad ones, each part has.
#[derive(Default)]
struct Weights<'a>(BTreeMap<&'a Text, (f64, f64)>);

impl<'a> Weights<'a> {
    fn count(&mut self, sli: &Sli, parts: &'a BTreeMap<Text, Gain>) {
        for (name, gain) in parts {
            let (all, bad) = gain.weight(sli);
            let weight = self.0.entry(name).or_default();
            *weight = (weight.0 + all, weight.1 + bad);
        }
    }

    /// The parts with the largest share of all requests or of the bad ones, whichever is larger.
    fn largest(&self, most: usize) -> Vec<&'a Text> {
        let sum = |of: fn(&(f64, f64)) -> f64| self.0.values().map(of).sum::<f64>().max(f64::MIN_POSITIVE);
        let (all, bad) = (sum(|weight| weight.0), sum(|weight| weight.1));
        let mut shares: Vec<(f64, &Text)> =
            self.0.iter().map(|(name, weight)| ((weight.0 / all).max(weight.1 / bad), *name)).collect();
        // Of two that are equal the first by name, so that the same readings give the same parts.
        shares.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        shares.into_iter().take(most).map(|(_, name)| name).collect()
    }
}

/// The parts of a window, of control and of the canary, from what was read in it, oldest first. An arm that is not told
/// has no readings.
pub(super) fn of_window(sli: &Sli, arms: [&[&Gained]; 2]) -> [Vec<Part>; 2] {
    let pods = arms.map(|readings| pods_of(sli, readings));
    let tenants = chosen(sli, PartKind::Tenant, arms, TENANTS_MAX);
    let most = |parts: &[Vec<Part>; 2]| parts.iter().map(Vec::len).max().unwrap_or_default();
    let room = PARTS_MAX.saturating_sub(most(&pods) + most(&tenants));
    let segments = room.saturating_sub(1).clamp(SEGMENTS_LEAST, SEGMENTS_MAX);
    let segments = chosen(sli, PartKind::Segment, arms, segments);
    let mut parts = pods;
    for (parts, more) in parts.iter_mut().zip(tenants.into_iter().zip(segments)) {
        parts.extend(more.0);
        parts.extend(more.1);
        if parts.len() > PARTS_MAX {
            parts.retain(|part| part.kind != PartKind::Pod);
        }
    }
    parts
}

/// The pods of one arm. One pod is the whole.
fn pods_of(sli: &Sli, readings: &[&Gained]) -> Vec<Part> {
    let parts = named(PartKind::Pod, readings).and_then(|readings| {
        let all = readings.iter().flat_map(|parts| parts.keys()).collect();
        told(sli, PartKind::Pod, &readings, &all)
    });
    parts.filter(|parts| (2..=PARTS_MAX).contains(&parts.len())).unwrap_or_default()
}

/// The parts of one kind, the same of both arms: the largest `most`, and the rest of the segments. Where one arm cannot be
/// told apart, neither is.
fn chosen(sli: &Sli, kind: PartKind, arms: [&[&Gained]; 2], most: usize) -> [Vec<Part>; 2] {
    let [Some(control), Some(canary)] = arms.map(|readings| named(kind, readings)) else { return Default::default() };
    let mut weights = Weights::default();
    control.iter().chain(&canary).for_each(|parts| weights.count(sli, parts));
    let largest: BTreeSet<&Text> = weights.largest(most).into_iter().collect();
    if kind == PartKind::Segment && largest.iter().all(|name| name.as_str() == UNLABELLED) {
        return Default::default();
    }
    match [control, canary].map(|readings| told(sli, kind, &readings, &largest)) {
        [Some(control), Some(canary)] => [control, canary],
        [_, _] => Default::default(),
    }
}

/// The parts of one kind in each reading; `None` where one of them has none.
fn named<'a>(kind: PartKind, readings: &[&'a Gained]) -> Option<Vec<&'a BTreeMap<Text, Gain>>> {
    readings.iter().map(|gained| gained.parts.0.get(&kind)?.as_ref()).collect()
}

/// A tally for each of the parts `apart`, and one for the rest of the segments.
fn told(sli: &Sli, kind: PartKind, readings: &[&BTreeMap<Text, Gain>], apart: &BTreeSet<&Text>) -> Option<Vec<Part>> {
    let mut gains: BTreeMap<Text, Vec<Gain>> = BTreeMap::new();
    for reading in readings {
        let mut now = BTreeMap::new();
        for (name, gain) in *reading {
            if apart.contains(name) {
                add_part(&mut now, name.clone(), gain.clone());
            } else if kind == PartKind::Segment {
                add_part(&mut now, Text::new(REST), gain.clone());
            }
        }
        now.into_iter().for_each(|(name, gain)| gains.entry(name).or_default().push(gain));
    }
    let mut parts = Vec::new();
    for (name, gains) in gains {
        match tally(sli, gains.iter()) {
            Ok(tally) => parts.push(Part { kind, name, tally }),
            Err(Absence::NoData) => {}
            Err(Absence::Unavailable(_) | Absence::Malformed(_)) => return None,
        }
    }
    Some(parts)
}

/// How many numbers these parts hold, roughly.
pub(super) fn cells(parts: &[Part]) -> usize {
    let tally = |tally: &Tally| match tally {
        Tally::Counts(_) => 2,
        Tally::Histogram(histogram) => histogram.bounds.len() + histogram.counts.len(),
        Tally::Samples(samples) => samples.len(),
        Tally::Mix(mix) => mix.iter().map(|(category, _)| 2 + category.len() / 8).sum(),
    };
    parts.iter().map(|part| 6 + part.name.as_str().len() / 8 + tally(&part.tally)).sum()
}
