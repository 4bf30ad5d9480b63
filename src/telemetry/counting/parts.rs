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

/// The segment, or the pod, of series that do not bear the label. It is told even where it is the only one, so that the
/// segments of windows in a row still add up.
const UNLABELLED: &str = "none";
/// All segments beyond the largest.
const REST: &str = "other";

/// What is looked for: an SLI and how it is split.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::telemetry) struct Sought {
    pub(in crate::telemetry) sli: Sli,
    pub(in crate::telemetry) split: Split,
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
pub(in crate::telemetry) struct Gained {
    pub(in crate::telemetry) whole: Gain,
    pub(in crate::telemetry) parts: Parts,
}

impl Gained {
    /// What is gained where no page was shown; pods are parts where they have a label, or pages come with their names.
    pub(in crate::telemetry) fn nothing(sought: &Sought, pods: Option<&str>, is_named: bool) -> Self {
        let mut parts: BTreeMap<PartKind, Named> =
            sought.labels(pods).map(|(kind, _)| (kind, Some(BTreeMap::new()))).collect();
        if is_named {
            parts.insert(PartKind::Pod, Some(BTreeMap::new()));
        }
        Self { whole: Gain::nothing(&sought.sli), parts: Parts(parts) }
    }

    /// Adds what another process, or a later reading, gained of the same SLI.
    pub(in crate::telemetry) fn add(&mut self, other: Self, sli: &Sli) {
        self.whole.add(other.whole);
        self.parts.add(other.parts, sli);
    }

    /// Says that all of it is of this pod.
    pub(in crate::telemetry) fn is_of_pod(&mut self, name: &Text) {
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
pub(in crate::telemetry) struct Parts(BTreeMap<PartKind, Named>);

impl Parts {
    /// The parts of one page, by label.
    pub(in crate::telemetry) fn of_page(sought: &Sought, pods: Option<&str>, gains: &Gains) -> Self {
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
    pub(in crate::telemetry) fn leave_out(&mut self) {
        self.0.values_mut().for_each(|named| *named = None);
    }

    /// How many numbers they hold, roughly; none once they are left out.
    pub(in crate::telemetry) fn cells(&self) -> usize {
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
        // A part in which nothing goes on is none that can be told from one that is not there.
        Sli::Liveness { .. } | Sli::Probe { .. } => return None,
        Sli::Ratio { bad, total } | Sli::EventsPerTraffic { events: bad, traffic: total } => {
            // Errors that nobody can place, beside traffic that can be placed, would all fall into one part.
            let borne = [bad, total].map(|selector| is_borne(label, &selector.metric, &gains.counters));
            if let [Some(by_bad), Some(by_total)] = borne
                && by_bad != by_total
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

/// Whether some series of the metric bear the label; `None` where it has no series.
fn is_borne<T>(label: &str, metric: &str, gained: &BySeries<T>) -> Option<bool> {
    let of_metric = Selector::metric(metric);
    let mut series = matching(&of_metric, gained).map(|(series, _)| series.labels.contains_key(label)).peekable();
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
pub(in crate::telemetry) fn of_window(sli: &Sli, arms: [&[&Gained]; 2]) -> [Vec<Part>; 2] {
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

/// How many pods of an arm have a tally in the window; `None` where they could not be told apart.
#[cfg(test)]
pub(in crate::telemetry) fn pods_with_a_tally(sli: &Sli, readings: &[&Gained]) -> Option<usize> {
    let readings = named(PartKind::Pod, readings)?;
    let all = readings.iter().flat_map(|parts| parts.keys()).collect();
    told(sli, PartKind::Pod, &readings, &all).map(|parts| parts.len())
}

/// The parts of one kind, the same of both arms: the largest `most`, and the rest of the segments. Where one arm cannot be
/// told apart, neither is.
fn chosen(sli: &Sli, kind: PartKind, arms: [&[&Gained]; 2], most: usize) -> [Vec<Part>; 2] {
    let [Some(control), Some(canary)] = arms.map(|readings| named(kind, readings)) else { return Default::default() };
    let mut weights = Weights::default();
    control.iter().chain(&canary).for_each(|parts| weights.count(sli, parts));
    let largest: BTreeSet<&Text> = weights.largest(most).into_iter().collect();
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
pub(in crate::telemetry) fn cells(parts: &[Part]) -> usize {
    let tally = |tally: &Tally| match tally {
        Tally::Counts(_) => 2,
        Tally::Histogram(histogram) => histogram.bounds.len() + histogram.counts.len(),
        Tally::Samples(samples) => samples.len(),
        Tally::Mix(mix) => mix.iter().map(|(category, _)| 2 + category.len() / 8).sum(),
    };
    parts.iter().map(|part| 6 + part.name.as_str().len() / 8 + tally(&part.tally)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Counts, Match},
        telemetry::{
            counting::{rounds::SliId, seen::Wanted, target::Target},
            exposition::parse,
        },
    };

    fn ratio() -> Sli {
        let total = Selector::metric("hits");
        Sli::Ratio { bad: total.clone().with("code", Match::StartsWith("5".into())), total }
    }

    /// What one page gained that showed nothing before.
    fn gained(sli: &Sli, pods: Option<&str>, body: &str) -> Gained {
        let split = Split { segments: Some("route".into()), tenants: Some("tenant".into()) };
        let sought = BTreeMap::from([(SliId(0), Sought { sli: sli.clone(), split })]);
        let wanted = Wanted::of([sli].into_iter());
        let mut target = Target::default();
        let mut read = |body: &str| {
            let body = parse(format!("{body}\n").as_bytes(), |name| wanted.takes(name)).unwrap();
            target.read(&body, &wanted, &BTreeMap::new(), pods, &sought).remove(&SliId(0)).unwrap()
        };
        read("other 1");
        read(body)
    }

    /// Series with one label of these values, each with so many good and bad requests.
    fn hits(label: &str, values: impl Iterator<Item = (String, u64, u64)>) -> String {
        let lines = values.map(|(value, good, bad)| {
            format!("hits{{{label}=\"{value}\",code=\"200\"}} {good}\nhits{{{label}=\"{value}\",code=\"500\"}} {bad}\n")
        });
        lines.collect::<String>().trim_end().to_owned()
    }

    fn told(parts: &[Part], kind: PartKind) -> Vec<(&str, u64, u64)> {
        let of_kind = parts.iter().filter(|part| part.kind == kind);
        of_kind
            .map(|part| match &part.tally {
                Tally::Counts(Counts { bad, total }) => (part.name.as_str(), *bad, *total),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn window(control: &Gained, canary: &Gained) -> [Vec<Part>; 2] {
        of_window(&ratio(), [&[control], &[canary]])
    }

    #[test]
    fn segments_are_told_by_their_label_and_those_without_it_are_one() {
        let body = "hits{route=\"/a\",code=\"200\"} 5\nhits{route=\"/a\",code=\"500\"} 1\nhits{code=\"404\"} 2\n\
                    hits{route=\"\",code=\"500\"} 1\nhits{route=\"/quiet\",code=\"200\"} 0";
        let one = gained(&ratio(), None, body);
        let [control, canary] = window(&one, &one);
        assert_eq!(control, canary);
        assert_eq!(told(&control, PartKind::Segment), [("/a", 1, 6), ("none", 1, 3)]);
        assert_eq!(told(&control, PartKind::Tenant), [], "nobody is named");
        let unlabelled = gained(&ratio(), None, "hits{code=\"200\"} 5");
        assert_eq!(told(&window(&unlabelled, &unlabelled)[0], PartKind::Segment), [("none", 0, 5)]);
    }

    #[test]
    fn errors_that_cannot_be_placed_beside_traffic_that_can_are_not_split() {
        let sli = Sli::EventsPerTraffic { events: Selector::metric("errors"), traffic: Selector::metric("hits") };
        let parts = |body: &str| {
            let gained = gained(&sli, None, body);
            of_window(&sli, [&[&gained], &[&gained]])[0].clone()
        };
        assert_eq!(parts("errors 4\nhits{route=\"/a\"} 5\nhits{route=\"/b\"} 5"), []);
        assert_eq!(
            told(&parts("errors{route=\"/a\"} 4\nhits{route=\"/a\"} 5"), PartKind::Segment),
            [("/a", 4, 5)],
            "more than one event a request would do too"
        );
        assert_eq!(told(&parts("hits{route=\"/a\"} 5"), PartKind::Segment), [("/a", 0, 5)], "no error yet");
    }

    #[test]
    fn the_largest_segments_of_both_arms_together_are_told_apart_and_the_rest_is_one() {
        let largest = |large: u64| {
            let routes = (0..40_u64).map(move |i| (format!("/{i:02}"), if i == large { 900 } else { 40 - i }, 0));
            gained(&ratio(), None, &hits("route", routes))
        };
        // The last route is small in control, and large in the canary.
        let [control, canary] = window(&largest(0), &largest(39));
        let segments = [&control, &canary].map(|parts| told(parts, PartKind::Segment));
        for told in &segments {
            assert_eq!(told.len(), SEGMENTS_MAX + 1);
            assert_eq!(
                told.iter().map(|(_, _, total)| total).sum::<u64>(),
                if told[0].2 == 900 { 1_680 } else { 1_719 }
            );
        }
        let names = segments.map(|told| told.iter().map(|(name, _, _)| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(names[0], names[1]);
        assert!(names[0].contains(&"/39".to_owned()) && !names[0].contains(&"/31".to_owned()));
    }

    #[test]
    fn tenants_are_the_largest_by_requests_or_by_errors() {
        let tenants = (0..20_u64).map(|i| (format!("t{i:02}"), 100 + 10 * i, u64::from(i == 3) * 50));
        let all = gained(&ratio(), None, &hits("tenant", tenants));
        let nobody = gained(&ratio(), None, "hits{code=\"200\"} 1");
        let [control, canary] = window(&all, &nobody);
        let names: Vec<&str> = told(&control, PartKind::Tenant).iter().map(|told| told.0).collect();
        assert_eq!(names, ["t03", "t13", "t14", "t15", "t16", "t17", "t18", "t19"]);
        assert_eq!(told(&canary, PartKind::Tenant), []);
    }

    #[test]
    fn a_label_with_too_many_values_leaves_out_segments_and_keeps_the_largest_tenants() {
        let many = |label: &str, n: usize| {
            let values = (0..n).map(|i| (format!("v{i:04}"), 1 + u64::from(i == n - 1), 0));
            gained(&ratio(), Some("pod"), &hits(label, values))
        };
        let full = many("route", VALUES_MAX);
        assert_eq!(told(&window(&full, &full)[0], PartKind::Segment).len(), SEGMENTS_MAX + 1);
        let over = many("route", VALUES_MAX + 1);
        assert_eq!(window(&over, &over)[0], []);
        assert_eq!(window(&over, &full)[1], [], "where one arm cannot be split, neither is");
        let tenants = many("tenant", VALUES_MAX + 1);
        let largest = format!("v{VALUES_MAX:04}");
        assert!(told(&window(&tenants, &tenants)[0], PartKind::Tenant).contains(&(largest.as_str(), 0, 2)));
        let pods = many("pod", VALUES_MAX + 1);
        assert_eq!(told(&window(&pods, &pods)[0], PartKind::Pod), []);
    }

    #[test]
    fn pods_by_label_take_room_from_segments_until_few_of_those_are_left() {
        let page = |pods: usize| {
            let series = (0..pods.max(40)).map(|i| {
                let (pod, route) = (i % pods, i % 40);
                format!("hits{{pod=\"p{pod:02}\",route=\"/{route:02}\",code=\"200\"}} 1\n")
            });
            let body = series.collect::<String>();
            let page = gained(&ratio(), Some("pod"), body.trim_end());
            let [parts, _] = window(&page, &page);
            assert!(parts.len() <= PARTS_MAX);
            [PartKind::Pod, PartKind::Segment].map(|kind| told(&parts, kind).len())
        };
        assert_eq!(page(1), [0, 33], "one pod is the whole");
        assert_eq!(page(2), [2, 33]);
        assert_eq!(page(40), [40, 24]);
        assert_eq!(page(47), [47, 17]);
        assert_eq!(page(48), [0, 17], "there is no room for all of the pods");
    }

    #[test]
    fn histograms_levels_and_mixes_are_split_alike() {
        let parts = |sli: &Sli, body: &str| {
            let gained = gained(sli, None, body);
            let [parts, _] = of_window(sli, [&[&gained, &gained], &[]]);
            parts.into_iter().map(|part| (part.name.to_string(), part.tally)).collect::<Vec<_>>()
        };
        let took = Sli::Latency { histogram: Selector::metric("took"), slow_above_seconds: 0.5 };
        let told = parts(&took, "took_bucket{route=\"/a\",le=\"1\"} 2\ntook_bucket{route=\"/a\",le=\"+Inf\"} 5");
        assert!(matches!(&told[..], [(name, Tally::Histogram(h))] if name == "/a" && h.counts == [4, 6]), "{told:?}");
        let load = Sli::Level { gauge: Selector::metric("load") };
        let told = parts(&load, "load{route=\"/a\"} 2\nload{route=\"/a\",cpu=\"1\"} 4\nload{route=\"/b\"} 9");
        let samples = |name: &str, level| (name.to_owned(), Tally::Samples(vec![level; 2]));
        assert_eq!(told, [samples("/a", 3.0), samples("/b", 9.0)]);
        let mix = Sli::Mix { counter: Selector::metric("hits"), by: "code".into() };
        let told = parts(&mix, "hits{route=\"/a\",code=\"200\"} 2\nhits{route=\"/a\",code=\"404\"} 1");
        assert_eq!(told, [("/a".to_owned(), Tally::Mix(vec![("200".into(), 4), ("404".into(), 2)]))]);
    }

    #[test]
    fn the_name_of_a_part_is_a_strangers_word_and_is_cut() {
        let long = format!("/{}", "x".repeat(4_000));
        let page = gained(&ratio(), None, &hits("route", [(long.clone(), 5, 0)].into_iter()));
        let [parts, _] = window(&page, &page);
        assert_eq!(parts[0].name, Text::new(long));
    }

    #[test]
    fn a_window_with_a_reading_that_lost_its_parts_has_none() {
        let page = gained(&ratio(), None, &hits("route", [("/a".into(), 5, 0)].into_iter()));
        let mut without = page.clone();
        assert!(without.parts.cells() > 0);
        without.parts.leave_out();
        assert_eq!(without.parts.cells(), 0);
        let [control, canary] = of_window(&ratio(), [&[&page, &without], &[&page]]);
        assert_eq!((control, canary), (Vec::new(), Vec::new()));
    }
}
