//! What one process counted between two readings of its endpoint.
//!
//! # Exactness
//! A counter that rose gained the difference. One that fell began again, and gained what it shows. One that was not
//! there at an earlier reading was born since, and gained what it shows; but at the first reading of its metric nobody
//! knows how long it has been counting, so that reading is only where counting starts. A value that no counter can have
//! is not counted, and the next good one is a new start.
//!
//! When `process_start_time_seconds` has moved and some counter fell or vanished, the process started again, and every
//! counter counts from zero, those too that have already passed their old value. Neither sign is enough alone: the start
//! time of some runtimes jitters, and exporters drop single series. A histogram begins again as a whole.
//!
//! Endpoints are to be one process each. Behind a balancer, every reading would look like a restart.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    gain::{Buckets, CATEGORIES_MAX, Gain, add_present},
    rounds::SliId,
};
use crate::{
    domain::{Selector, Sli, Text},
    telemetry::exposition::{Exposition, Kind, SERIES_MAX, Series},
};

/// Most buckets of one histogram.
pub const BUCKETS_MAX: usize = 256;
/// Most series remembered of one process, those included that it no longer shows.
pub const REMEMBERED_MAX: usize = 2 * SERIES_MAX;
/// Start times closer than this, in seconds, are the same start: some runtimes compute them anew at each reading.
const START_JITTER_SECONDS: f64 = 1.5;
const START_METRIC: &str = "process_start_time_seconds";

/// Which metrics some SLI asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    counters: BTreeSet<String>,
    gauges: BTreeSet<String>,
    histograms: BTreeSet<String>,
}

impl Wanted {
    pub(super) fn of<'a>(slis: impl Iterator<Item = &'a Sli>) -> Self {
        let mut wanted = Self::default();
        for sli in slis {
            let names = match sli {
                Sli::Ratio { .. } | Sli::EventsPerTraffic { .. } | Sli::Mix { .. } => &mut wanted.counters,
                Sli::Level { .. } => &mut wanted.gauges,
                Sli::Latency { .. } => &mut wanted.histograms,
            };
            names.extend(sli.selectors().iter().map(|selector| selector.metric.clone()));
        }
        wanted
    }

    /// Whether a series of this name is to be kept.
    pub(super) fn takes(&self, name: &str) -> bool {
        self.counters.contains(name)
            || self.gauges.contains(name)
            || self.family(name).is_some()
            || name == START_METRIC
    }

    /// The histogram that a series of this name is part of, and whether it is its count.
    fn family<'a>(&self, name: &'a str) -> Option<(&'a str, bool)> {
        let part = |suffix, is_count| name.strip_suffix(suffix).map(|family| (family, is_count));
        part("_bucket", false).or_else(|| part("_count", true)).filter(|(family, _)| self.histograms.contains(*family))
    }
}

/// A counter's last value; `None` after one that could not be right.
type Last = Option<f64>;
/// A histogram's edges and cumulative counts as far as they were counted; `None` after what could not be right.
type LastHistogram = Option<Vec<(f64, f64)>>;
/// What each series gained, or what is wrong with it.
type Gained<T> = BTreeMap<Series, Result<T, Text>>;

/// One process as it was last seen.
#[derive(Debug, Default)]
pub(super) struct Target {
    counters: BTreeMap<Series, Last>,
    histograms: BTreeMap<Series, LastHistogram>,
    /// The metrics that have been read before, whether or not they had series then.
    known: BTreeSet<String>,
    started: Option<f64>,
}

/// What one body says of the wanted metrics, before it is compared with the last.
struct Seen {
    counters: Gained<f64>,
    gauges: Gained<f64>,
    histograms: Gained<Vec<(f64, f64)>>,
    started: Option<f64>,
}

impl Target {
    /// Takes in one body, and says what each SLI gained since the last. `mine` are labels that the arm's series bear.
    pub(super) fn read(
        &mut self,
        body: &Exposition,
        wanted: &Wanted,
        mine: &BTreeMap<String, String>,
        slis: &BTreeMap<SliId, Sli>,
    ) -> BTreeMap<SliId, Gain> {
        let seen = Seen::of(body, wanted, mine);
        // What was not looked for meanwhile is not remembered: it may have changed unseen.
        self.counters.retain(|series, _| wanted.counters.contains(&series.name));
        self.histograms.retain(|series, _| wanted.histograms.contains(&series.name));
        if self.has_started_again(&seen) {
            self.counters.clear();
            self.histograms.clear();
        }
        self.started = seen.started.or(self.started);
        let mut counters = Gained::new();
        for (series, value) in seen.counters {
            let known = self.known.contains(&series.name);
            let gained = value.map(|value| counter_gain(self.counters.get(&series), known, value));
            self.counters.insert(series.clone(), gained.as_ref().ok().map(|(_, last)| *last));
            counters.insert(series, gained.map(|(gain, _)| gain));
        }
        let mut histograms = Gained::new();
        for (series, now) in seen.histograms {
            let known = self.known.contains(&histogram_key(&series.name));
            let gained = now.and_then(|now| histogram_gain(self.histograms.get(&series), known, now));
            self.histograms.insert(series.clone(), gained.as_ref().ok().map(|(_, last)| last.clone()));
            histograms.insert(series, gained.map(|(gain, _)| gain));
        }
        self.known = wanted.counters.clone();
        self.known.extend(wanted.histograms.iter().map(|family| histogram_key(family)));
        let gauges = seen.gauges;
        let remembered = self.counters.len() + self.histograms.len();
        if remembered > REMEMBERED_MAX {
            *self = Self::default();
            let why =
                Text::new(format!("more than {REMEMBERED_MAX} series came and went: a label holds too many values"));
            return slis.keys().map(|id| (*id, Gain::Malformed(why.clone()))).collect();
        }
        slis.iter().map(|(id, sli)| (*id, gain(sli, &counters, &gauges, &histograms))).collect()
    }

    /// Whether the process has started again since the last reading, as far as two signs together can tell.
    fn has_started_again(&self, seen: &Seen) -> bool {
        let moved = match (self.started, seen.started) {
            (Some(before), Some(now)) => (now - before).abs() > START_JITTER_SECONDS,
            (_, _) => false,
        };
        let counter_fell = |(series, last): (&Series, &Last)| match (last, seen.counters.get(series)) {
            (_, None) => true,
            (Some(last), Some(Ok(now))) => now < last,
            (_, _) => false,
        };
        let histogram_fell = |(series, last): (&Series, &LastHistogram)| match (last, seen.histograms.get(series)) {
            (_, None) => true,
            (Some(last), Some(Ok(now))) => has_fallen(last, now),
            (_, _) => false,
        };
        moved && (self.counters.iter().any(counter_fell) || self.histograms.iter().any(histogram_fell))
    }
}

/// A histogram and a counter may bear the same name; what is known of one says nothing of the other.
fn histogram_key(family: &str) -> String {
    format!("{family}_bucket")
}

/// What a counter gained, and what to remember of it.
fn counter_gain(last: Option<&Last>, known: bool, now: f64) -> (f64, f64) {
    let gain = match last {
        Some(Some(last)) if now >= *last => now - last,
        // It fell: it began again at zero.
        Some(Some(_)) => now,
        // Its last value could not be right, so this one is where counting starts.
        Some(None) => 0.0,
        None if known => now,
        None => 0.0,
    };
    (gain, now)
}

fn has_fallen(last: &[(f64, f64)], now: &[(f64, f64)]) -> bool {
    last.iter().zip(now).any(|((_, last), (_, now))| now < last)
}

/// What a histogram gained by bucket, and what to remember of it: its cumulative counts as far as they were counted.
///
/// Clients raise a histogram's buckets one after the other, and a reading may fall between. What a higher bucket does
/// not show yet is left for the next reading.
fn histogram_gain(
    last: Option<&LastHistogram>,
    known: bool,
    now: Vec<(f64, f64)>,
) -> Result<(Buckets, Vec<(f64, f64)>), Text> {
    let zero = || now.iter().map(|(edge, _)| (*edge, 0.0)).collect::<Vec<_>>();
    let last = match last {
        Some(Some(last)) if !last.iter().map(|(edge, _)| edge).eq(now.iter().map(|(edge, _)| edge)) => {
            return Err(Text::new("the bucket bounds have changed"));
        }
        Some(Some(last)) if has_fallen(last, &now) => zero(),
        Some(Some(last)) => last.clone(),
        None if known => zero(),
        Some(None) | None => now.clone(),
    };
    let mut cumulative: Vec<f64> = last.iter().zip(&now).map(|((_, last), (_, now))| now - last).collect();
    let mut ceiling = f64::INFINITY;
    for gain in cumulative.iter_mut().rev() {
        ceiling = ceiling.min(*gain);
        *gain = ceiling;
    }
    let counted = last.iter().zip(&cumulative).map(|((edge, last), gain)| (*edge, last + gain)).collect();
    let below = std::iter::once(0.0).chain(cumulative.iter().copied());
    let counts = cumulative.iter().zip(below).map(|(gain, below)| gain - below).collect();
    let bounds = now.iter().map(|(edge, _)| *edge).filter(|edge| edge.is_finite()).collect();
    Ok((Buckets { bounds, counts }, counted))
}

impl Seen {
    fn of(body: &Exposition, wanted: &Wanted, mine: &BTreeMap<String, String>) -> Self {
        let mut seen =
            Self { counters: Gained::new(), gauges: Gained::new(), histograms: Gained::new(), started: None };
        let mut starts = Vec::new();
        let mut parts: BTreeMap<Series, Parts> = BTreeMap::new();
        for (series, value) in &body.samples {
            // The process is the same whichever arm's series it shows, so its start bears no label of an arm.
            if series.name == START_METRIC {
                starts.push(*value);
            }
            if mine.iter().any(|(label, value)| series.labels.get(label).map_or("", String::as_str) != value) {
                continue;
            }
            if wanted.counters.contains(&series.name) {
                put(&mut seen.counters, series, counter_value(body, series, *value));
            }
            if wanted.gauges.contains(&series.name) {
                put(&mut seen.gauges, series, gauge_value(body, series, *value));
            }
            if let Some((family, is_count)) = wanted.family(&series.name) {
                let mut labels = series.labels.clone();
                let edge = labels.remove("le");
                let parts = parts.entry(Series { name: family.to_owned(), labels }).or_default();
                parts.put(is_count, edge.as_deref(), *value);
            }
        }
        // A count alone is a summary's, or no histogram at all.
        let histograms = parts.into_iter().filter(|(_, parts)| !parts.buckets.is_empty() || parts.fault.is_some());
        seen.histograms = histograms
            .map(|(series, parts)| {
                let buckets = parts.cumulative().map_err(|what| fault(&series, &what));
                (series, buckets)
            })
            .collect();
        if let [start] = starts.as_slice() {
            seen.started = Some(*start).filter(|start| start.is_finite());
        }
        seen
    }
}

fn put(into: &mut Gained<f64>, series: &Series, value: Result<f64, Text>) {
    let value = if into.contains_key(series) { Err(fault(series, "is there twice")) } else { value };
    into.insert(series.clone(), value);
}

/// A reason that names its series.
fn fault(series: &Series, what: &str) -> Text {
    let labels: Vec<String> = series.labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
    Text::new(format!("{}{{{}}} {what}", series.name, labels.join(",")))
}

fn counter_value(body: &Exposition, series: &Series, value: f64) -> Result<f64, Text> {
    if body.kind(&series.name) == Kind::Gauge {
        return Err(fault(series, "is declared a gauge, not a counter"));
    }
    is_count(value).then_some(value).ok_or_else(|| fault(series, &format!("is {value}, which is no count")))
}

fn gauge_value(body: &Exposition, series: &Series, value: f64) -> Result<f64, Text> {
    if body.kind(&series.name) == Kind::Counter {
        return Err(fault(series, "is declared a counter, not a gauge"));
    }
    value.is_finite().then_some(value).ok_or_else(|| fault(series, &format!("is {value}, which is no level")))
}

fn is_count(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

/// The series of one histogram, as they are met.
#[derive(Default)]
struct Parts {
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    fault: Option<String>,
}

impl Parts {
    fn put(&mut self, is_total: bool, edge: Option<&str>, value: f64) {
        if !is_count(value) {
            self.fault = Some(format!("has {value} in a bucket, which is no count"));
        } else if is_total {
            self.count = Some(value);
        } else {
            match edge.and_then(|edge| edge.parse::<f64>().ok()).filter(|edge| *edge > f64::NEG_INFINITY) {
                Some(edge) => self.buckets.push((edge, value)),
                None => self.fault = Some("has a bucket without a bound that is a number".into()),
            }
        }
    }

    /// The buckets by rising edge, the last one without an end.
    fn cumulative(self) -> Result<Vec<(f64, f64)>, String> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut buckets = self.buckets;
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        if buckets.last().is_none_or(|(edge, _)| edge.is_finite()) {
            let all = self.count.ok_or("has neither a +Inf bucket nor a count")?;
            buckets.push((f64::INFINITY, all));
        }
        if buckets.len() > BUCKETS_MAX {
            return Err(format!("has more than {BUCKETS_MAX} buckets"));
        }
        for pair in buckets.windows(2) {
            if let [(below, fewer), (edge, more)] = pair {
                if below >= edge {
                    return Err(format!("has two buckets for {edge}"));
                }
                if fewer > more {
                    return Err(format!("has more at or below {below} than at or below {edge}"));
                }
            }
        }
        Ok(buckets)
    }
}

/// What one SLI gained, from what each series gained.
fn gain(sli: &Sli, counters: &Gained<f64>, gauges: &Gained<f64>, histograms: &Gained<Buckets>) -> Gain {
    let found = match sli {
        Sli::Ratio { bad, total } | Sli::EventsPerTraffic { events: bad, traffic: total } => sum(bad, counters)
            .and_then(|bad| {
                // A counter of errors is born at the first error: that there is none yet is a zero.
                Ok(Gain::Counts { bad: bad.unwrap_or(0.0), total: sum(total, counters)? })
            }),
        Sli::Latency { histogram, .. } => {
            matching(histogram, histograms).try_fold(Gain::Histogram(None), |mut gain, (_, buckets)| {
                gain.add(Gain::Histogram(Some(buckets.clone()?)));
                Ok(gain)
            })
        }
        Sli::Level { gauge } => {
            matching(gauge, gauges).try_fold(Gain::Level { sum: 0.0, series: 0 }, |mut gain, (_, value)| {
                gain.add(Gain::Level { sum: value.clone()?, series: 1 });
                Ok(gain)
            })
        }
        Sli::Mix { counter, by } => mix(counter, by, counters),
    };
    found.unwrap_or_else(Gain::Malformed)
}

fn matching<'a, T>(
    selector: &'a Selector,
    gained: &'a Gained<T>,
) -> impl Iterator<Item = (&'a Series, &'a Result<T, Text>)> {
    let first = Series { name: selector.metric.clone(), labels: BTreeMap::new() };
    gained
        .range(first..)
        .take_while(|(series, _)| series.name == selector.metric)
        .filter(|(series, _)| selector.accepts(&series.labels))
}

/// The sum over the series; nothing where there are none.
fn sum(selector: &Selector, counters: &Gained<f64>) -> Result<Option<f64>, Text> {
    matching(selector, counters).try_fold(None, |sum, (_, gain)| Ok(add_present(sum, Some(gain.clone()?))))
}

fn mix(counter: &Selector, by: &str, counters: &Gained<f64>) -> Result<Gain, Text> {
    let mut mix: Option<BTreeMap<String, f64>> = None;
    for (series, gain) in matching(counter, counters) {
        let gain = gain.clone()?;
        let mix = mix.get_or_insert_default();
        if gain > 0.0 {
            *mix.entry(series.labels.get(by).cloned().unwrap_or_default()).or_insert(0.0) += gain;
        }
        if mix.len() > CATEGORIES_MAX {
            return Err(Text::new(format!("{by} has more than {CATEGORIES_MAX} values")));
        }
    }
    Ok(Gain::Mix(mix))
}
