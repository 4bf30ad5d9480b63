//! What one body says of the metrics that are wanted, before it is compared with the last one: which values can be
//! counts, and which buckets belong to one histogram.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    domain::{Sli, Text},
    telemetry::exposition::{Exposition, Kind, Series},
};

/// Most buckets of one histogram.
pub const BUCKETS_MAX: usize = 256;
/// When the process started, in seconds since the epoch, as most client libraries expose it.
pub(in crate::telemetry) const START_METRIC: &str = "process_start_time_seconds";

/// A value for each series, or what is wrong with it.
pub(in crate::telemetry) type BySeries<T> = BTreeMap<Series, Result<T, Text>>;

/// Which metrics some SLI asks for.
#[derive(Clone, Debug, Default)]
pub(in crate::telemetry) struct Wanted {
    pub(in crate::telemetry) counters: BTreeSet<String>,
    pub(in crate::telemetry) gauges: BTreeSet<String>,
    pub(in crate::telemetry) histograms: BTreeSet<String>,
}

impl Wanted {
    pub(in crate::telemetry) fn of<'a>(slis: impl Iterator<Item = &'a Sli>) -> Self {
        let mut wanted = Self::default();
        for sli in slis {
            let names = match sli {
                Sli::Ratio { .. } | Sli::EventsPerTraffic { .. } | Sli::Mix { .. } | Sli::Liveness { .. } => {
                    &mut wanted.counters
                }
                Sli::Probe { .. } => continue,
                Sli::Level { .. } => &mut wanted.gauges,
                Sli::Latency { .. } => &mut wanted.histograms,
            };
            names.extend(sli.selectors().iter().map(|selector| selector.metric.clone()));
        }
        wanted
    }

    /// Whether a series of this name is to be kept.
    pub(in crate::telemetry) fn takes(&self, name: &str) -> bool {
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

/// What one body says of the wanted metrics, before it is compared with the last.
pub(in crate::telemetry) struct Seen {
    pub(in crate::telemetry) counters: BySeries<f64>,
    pub(in crate::telemetry) gauges: BySeries<f64>,
    pub(in crate::telemetry) histograms: BySeries<Vec<(f64, f64)>>,
    pub(in crate::telemetry) started: Option<f64>,
}

impl Seen {
    pub(in crate::telemetry) fn of(body: &Exposition, wanted: &Wanted, mine: &BTreeMap<String, String>) -> Self {
        let mut seen =
            Self { counters: BySeries::new(), gauges: BySeries::new(), histograms: BySeries::new(), started: None };
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

fn put(into: &mut BySeries<f64>, series: &Series, value: Result<f64, Text>) {
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
