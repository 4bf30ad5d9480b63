//! What can be measured: a search over the metrics that the service was seen to have, and what one of them showed lately.
//!
//! The search compares words and nothing else: no pattern of a stranger's runs over an index, and none reaches the
//! source. What metrics say of themselves (help, label values) is their makers' and their traffic's word.

use std::{cmp::Reverse, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Context, Outcome,
    form::Condition,
    proposal::with,
    reply::{self, Refusal, fitting, round, said},
};
use crate::{
    domain::{Absence, Histogram, Metric, MetricKind, Reading, Selector, Sli, Tally},
    plan::{Bounds, Reason},
    telemetry::{Catalogued, Past},
};

/// Most words of a search that are looked for.
pub(super) const WORDS_MAX: usize = 8;
/// Most bytes of a search.
pub(super) const SEARCH_BYTES_MAX: usize = 80;
/// Most metrics of one answer.
pub(super) const METRICS_MAX: u32 = 20;
/// Labels and values of a metric that are told.
const LABELS_TOLD: usize = 12;
const VALUES_TOLD: usize = 6;
/// Names of configured SLIs that are told of a metric.
const SLIS_TOLD: usize = 4;
/// The part of a day around the same moment of yesterday that counts as the same hour.
const SAME_HOUR: (f64, f64) = (84_600.0, 88_200.0);
/// The past that yesterday's hour needs, in seconds.
const DAY_SECONDS: f64 = 88_200.0;

/// A kind of metric, or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Wanted {
    Any,
    Counter,
    Gauge,
    Histogram,
}

impl Wanted {
    fn accepts(self, kind: MetricKind) -> bool {
        match self {
            Self::Any => true,
            Self::Counter => kind == MetricKind::Counter,
            Self::Gauge => kind == MetricKind::Gauge,
            Self::Histogram => kind == MetricKind::Histogram,
        }
    }
}

/// Words to look for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    /// Words of a metric's name, help, labels or their values; at most 80 characters; empty for all. No patterns.
    text: String,
    /// The kind of metric.
    kind: Wanted,
    /// Most metrics to list, 1 to 20.
    limit: u32,
}

/// What one metric showed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    /// The metric's name, as search_metrics lists it.
    pub(super) metric: String,
    /// Conditions on its labels; empty for all of it.
    pub(super) matchers: Vec<Condition>,
}

pub(super) fn search(context: &Context, index: Result<&Catalogued, &Absence>, asked: &Search) -> Outcome {
    let index = match index {
        Ok(index) => index,
        Err(_) => {
            let detail = "which metrics the service has is not known yet: name a configured SLI of list_slos";
            return reply::no_data("no_index", detail);
        }
    };
    if asked.text.len() > SEARCH_BYTES_MAX {
        return reply::denied("out_of_bounds", &format!("text: at most {SEARCH_BYTES_MAX} bytes"));
    }
    let is_known = |metric: &Metric| slis_of(&context.bounds, &metric.name).next().is_some();
    let mut hits = found(index, &asked.text, is_known);
    hits.retain(|metric| asked.kind.accepts(metric.kind));
    if hits.is_empty() {
        return reply::no_data("no_match", "no metric has these words: use fewer or others, or kind any");
    }
    let limit = asked.limit.clamp(1, METRICS_MAX) as usize;
    let rows = hits.iter().take(limit).map(|metric| row(metric, &context.bounds));
    let (rows, is_cut) = fitting(rows, reply::ANSWER_BYTES_MAX - 1_024);
    let data = json!({
        "metrics": rows,
        "matching": hits.len(),
        "may_measure_beyond_configured": context.bounds.beyond_catalogue,
    });
    if is_cut || hits.len() > limit || index.cut { reply::truncated("more_metrics", data) } else { reply::ok(data) }
}

/// The metrics that have words of a text, the best first; all of them where it has no words.
pub fn ranked<'a>(index: &'a Catalogued, text: &str) -> Vec<&'a Metric> {
    found(index, text, |_| false)
}

/// The same, of those that fit as well the known ones first.
fn found<'a>(index: &'a Catalogued, text: &str, is_known: impl Fn(&Metric) -> bool) -> Vec<&'a Metric> {
    let words: Vec<String> = words(text).take(WORDS_MAX).collect();
    let fitting = |metric: &'a Metric| {
        let score = score(metric, &words);
        (score > 0 || words.is_empty()).then(|| (Reverse(score), !is_known(metric), metric))
    };
    let mut hits: Vec<(Reverse<u32>, bool, &Metric)> = index.metrics.iter().filter_map(fitting).collect();
    hits.sort_by(|one, other| (one.0, one.1, &one.2.name).cmp(&(other.0, other.1, &other.2.name)));
    hits.into_iter().map(|(_, _, metric)| metric).collect()
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// How well a metric fits: a word of its name counts most, then a part of its name, then what is said of it.
fn score(metric: &Metric, wanted: &[String]) -> u32 {
    let name = metric.name.to_lowercase();
    let help = metric.help.as_str().to_lowercase();
    let labels: Vec<String> = metric
        .labels
        .iter()
        .flat_map(|label| std::iter::once(&label.name).chain(&label.values))
        .map(|word| word.to_lowercase())
        .collect();
    let of_word = |word: &String| {
        let in_name =
            if words(&name).any(|own| own == *word) { 6 } else { u32::from(name.contains(word.as_str())) * 3 };
        let in_labels = u32::from(labels.iter().any(|label| label.contains(word.as_str())));
        in_name + u32::from(help.contains(word.as_str())) + in_labels
    };
    wanted.iter().map(of_word).sum()
}

fn slis_of<'a>(bounds: &'a Bounds, metric: &'a str) -> impl Iterator<Item = &'a str> {
    let uses = move |sli: &Sli| sli.selectors().iter().any(|selector| selector.metric == metric);
    bounds.catalogue.entries.iter().filter(move |entry| uses(&entry.sli)).map(|entry| entry.name.as_str())
}

fn row(metric: &Metric, bounds: &Bounds) -> Value {
    let labels = metric.labels.iter().take(LABELS_TOLD).map(|label| {
        let values: Vec<String> = label.values.iter().take(VALUES_TOLD).map(|value| said(value)).collect();
        json!({ "name": said(&label.name), "values": values, "more": label.more || label.values.len() > VALUES_TOLD })
    });
    let slis: Vec<String> = slis_of(bounds, &metric.name).take(SLIS_TOLD).map(said).collect();
    json!({
        "name": said(&metric.name),
        "kind": metric.kind.word(),
        "help": said(metric.help.as_str()),
        "labels": labels.collect::<Vec<_>>(),
        "series": metric.series,
        "configured_slis": slis,
    })
}

/// The SLI whose past shows what a metric is like.
pub(super) fn profiled(context: &Context, index: Option<&Catalogued>, asked: &Profile) -> Result<Sli, Refusal> {
    let known = index.and_then(|index| index.find(&asked.metric)).map(|metric| metric.kind);
    let Some(kind) = known.or_else(|| configured_kind(&context.bounds, &asked.metric)) else {
        let detail = "metric: the service has no metric of this name: look it up with search_metrics";
        return Err(Refusal::new(Reason::Unknown, detail));
    };
    let selector = with(Selector::metric(&asked.metric), "matchers", &asked.matchers)?;
    Ok(match kind {
        MetricKind::Gauge => Sli::Level { gauge: selector },
        MetricKind::Histogram => Sli::Latency { histogram: selector, slow_above_seconds: 1.0 },
        MetricKind::Counter => {
            let traffic = context.bounds.catalogue.traffic.clone().unwrap_or_else(|| selector.clone());
            Sli::EventsPerTraffic { events: selector, traffic }
        }
    })
}

fn configured_kind(bounds: &Bounds, metric: &str) -> Option<MetricKind> {
    let of_entry = |sli: &Sli| match sli {
        Sli::Latency { .. } => MetricKind::Histogram,
        Sli::Level { .. } => MetricKind::Gauge,
        Sli::Ratio { .. }
        | Sli::EventsPerTraffic { .. }
        | Sli::Mix { .. }
        | Sli::Liveness { .. }
        | Sli::Probe { .. } => MetricKind::Counter,
    };
    let entries = bounds.catalogue.entries.iter();
    let mut kinds =
        entries.filter(|entry| entry.sli.selectors().iter().any(|s| s.metric == metric)).map(|e| of_entry(&e.sli));
    let is_traffic = bounds.catalogue.traffic.as_ref().is_some_and(|traffic| traffic.metric == metric);
    kinds.next().or(is_traffic.then_some(MetricKind::Counter))
}

/// What one block showed: how much there was of it, and what a gauge read.
fn amount(reading: &Reading) -> f64 {
    match &reading.tally {
        Tally::Counts(counts) => counts.bad as f64,
        Tally::Histogram(histogram) => histogram.counts.iter().map(|n| *n as f64).sum(),
        Tally::Samples(samples) => mean(&samples.iter().copied().filter(|s| s.is_finite()).collect::<Vec<_>>()),
        Tally::Mix(mix) => mix.iter().map(|(_, n)| *n as f64).sum(),
    }
}

fn mean(numbers: &[f64]) -> f64 {
    if numbers.is_empty() { 0.0 } else { numbers.iter().sum::<f64>() / numbers.len() as f64 }
}

/// What a metric's past was like, in numbers.
pub(super) fn profile(past: &Past) -> Outcome {
    let every = past.every.max(Duration::from_millis(1)).as_secs_f64();
    let shown: Vec<(usize, &Reading)> =
        past.blocks.iter().enumerate().filter_map(|(at, block)| Some((at, block.as_ref().ok()?))).collect();
    let Some((_, first)) = shown.first() else {
        return reply::no_data("no_data", "it showed nothing in the past that is known");
    };
    let is_gauge = matches!(first.tally, Tally::Samples(_));
    let unit = if is_gauge { 1.0 } else { every };
    let amounts: Vec<(usize, f64)> = shown.iter().map(|(at, reading)| (*at, amount(reading) / unit)).collect();
    let values: Vec<f64> = amounts.iter().map(|(_, value)| *value).collect();
    let level = mean(&values);
    let deviation = (values.iter().map(|value| (value - level).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
    let zero = values.iter().filter(|value| **value == 0.0).count() as f64 / values.len() as f64;
    let reaches = every * past.blocks.len() as f64;
    let ago = |at: usize| (past.blocks.len() - at) as f64 * every;
    let yesterday: Vec<f64> = amounts
        .iter()
        .filter(|(at, _)| (SAME_HOUR.0..=SAME_HOUR.1).contains(&ago(*at)))
        .map(|(_, value)| *value)
        .collect();
    let spread = quantiles(shown.iter().map(|(_, reading)| &reading.tally), &values);
    reply::ok(json!({
        "of": if is_gauge { "its level" } else { "events a second" },
        "mean": round(level),
        "coefficient_of_variation": if level == 0.0 { None } else { round(deviation / level.abs()) },
        "zero_share": round(zero),
        "quantiles": spread,
        "same_hour_yesterday": if yesterday.is_empty() { None } else { round(mean(&yesterday)) },
        "reaches_back_a_day": reaches >= DAY_SECONDS,
        "seconds": reaches as u64,
        "blocks": past.blocks.len(),
        "blocks_without_data": past.blocks.len() - shown.len(),
    }))
}

/// Quantiles of the requests of a histogram, else of the blocks.
fn quantiles<'a>(tallies: impl Iterator<Item = &'a Tally>, values: &[f64]) -> Value {
    let mut sum: Option<Tally> = None;
    for tally in tallies.filter(|tally| matches!(tally, Tally::Histogram(_))) {
        sum = match sum {
            None => Some(tally.clone()),
            Some(sum) => sum.plus(tally).or(Some(sum)),
        };
    }
    let mut rising = values.to_vec();
    rising.sort_by(f64::total_cmp);
    let of_blocks = |part: f64| rising.get((part * (rising.len().saturating_sub(1)) as f64).round() as usize).copied();
    let (what, histogram) = match sum {
        Some(Tally::Histogram(histogram)) => ("what it measures, in its own unit", Some(histogram)),
        Some(_) | None => ("blocks", None),
    };
    let told = |part: f64| match &histogram {
        Some(histogram) => bucket(histogram, part).and_then(round),
        None => of_blocks(part).and_then(round),
    };
    json!({ "of": what, "p50": told(0.5), "p95": told(0.95), "p99": told(0.99) })
}

/// The quantile, as far as buckets tell: between the edges of its bucket; beyond the last edge nothing is told.
fn bucket(histogram: &Histogram, part: f64) -> Option<f64> {
    let total: f64 = histogram.counts.iter().map(|n| *n as f64).sum();
    if total <= 0.0 {
        return None;
    }
    let (mut below, wanted) = (0.0, part * total);
    for (at, n) in histogram.counts.iter().enumerate() {
        let here = *n as f64;
        if below + here >= wanted && here > 0.0 {
            let high = *histogram.bounds.get(at)?;
            let low = at.checked_sub(1).and_then(|before| histogram.bounds.get(before)).copied().unwrap_or(0.0);
            return Some(low + (high - low) * ((wanted - below) / here));
        }
        below += here;
    }
    None
}
