//! What a proposed check may measure: what narrows the catalogue; events of a metric that the diff itself adds; a probe
//! that there is; and, where the operator lets drafts go beyond the catalogue, metrics that telemetry was seen to have.
//!
//! Beyond the catalogue the source's own word counts and never the draft's: a metric of the right kind, and conditions
//! on labels that it bears.

use super::{
    Bounds,
    narrowing::{extra, narrows},
};
use crate::domain::{Catalogue, CatalogueEntry, Check, Metric, MetricKind, Selector, Sli};

/// Most metrics of a draft that are looked at.
pub(super) const FOUND_MAX: usize = 512;

/// The first entry of the catalogue that a proposed check narrows.
pub(super) fn narrowed_entry<'a>(check: &Check, catalogue: &'a Catalogue) -> Option<&'a CatalogueEntry> {
    catalogue.entries.iter().find(|entry| narrows(&check.sli, &entry.sli))
}

/// Why a proposed check may not measure what it wants to, if it may not.
pub(super) fn out_of_reach(check: &Check, bounds: &Bounds, found: &[Metric]) -> Option<String> {
    if let Sli::Probe { probe } = &check.sli {
        let is_known = bounds.probes.iter().any(|known| known == probe);
        return (!is_known).then(|| "there is no probe of this name".to_owned());
    }
    if narrowed_entry(check, &bounds.catalogue).is_some() {
        return None;
    }
    let refused = beyond_entries(check, &bounds.catalogue)?;
    if bounds.beyond_catalogue { unseen(&check.sli, &bounds.catalogue, found) } else { Some(refused) }
}

/// An added metric counts as known when a line of the diff bears it, which the proposer shows by naming that line; it is
/// counted against the catalogue's traffic.
fn beyond_entries(check: &Check, catalogue: &Catalogue) -> Option<String> {
    let known = |metric: &str| {
        catalogue.entries.iter().flat_map(|entry| entry.sli.selectors()).any(|s| s.metric == metric)
            || catalogue.traffic.as_ref().is_some_and(|t| t.metric == metric)
    };
    let unknown = check.sli.selectors().into_iter().find(|selector| !known(&selector.metric));
    let Some(unknown) = unknown else {
        return Some(format!(
            "it narrows no entry of the service's catalogue of kind {}: keep the metrics, conditions and edge of one",
            check.sli.kind()
        ));
    };
    match (&check.sli, &catalogue.traffic) {
        (Sli::EventsPerTraffic { events, traffic }, Some(unit)) if events == unknown && !check.lines.is_empty() => {
            against_traffic(events, traffic, unit)
        }
        _ => Some(format!("metric {} is not in the service's catalogue", unknown.metric)),
    }
}

/// Events are counted against the catalogue's traffic, narrowed only where the events are too.
fn against_traffic(events: &Selector, traffic: &Selector, unit: &Selector) -> Option<String> {
    let fits = extra(traffic, unit).is_some_and(|extra| extra.iter().all(|m| events.matchers.contains(m)));
    (!fits).then(|| format!("events of an added metric are counted against {unit}"))
}

/// Why telemetry does not have what an SLI measures, if it does not.
fn unseen(sli: &Sli, catalogue: &Catalogue, found: &[Metric]) -> Option<String> {
    let is = |selector: &Selector, kind: MetricKind| unlike(selector, kind, found);
    match sli {
        Sli::Ratio { bad, total } => {
            is(bad, MetricKind::Counter).or_else(|| is(total, MetricKind::Counter)).or_else(|| {
                // Of one metric, the bad ones must be among all, or the share means nothing.
                let is_part = bad.metric != total.metric || extra(bad, total).is_some();
                (!is_part).then(|| "the bad ones are not among all: keep every condition of the total".to_owned())
            })
        }
        Sli::Latency { histogram, .. } => is(histogram, MetricKind::Histogram),
        Sli::EventsPerTraffic { events, traffic } => is(events, MetricKind::Counter).or_else(|| {
            let Some(unit) = &catalogue.traffic else {
                return Some("the service names no traffic that events could be counted against".to_owned());
            };
            against_traffic(events, traffic, unit)
        }),
        Sli::Level { gauge } => is(gauge, MetricKind::Gauge),
        Sli::Mix { counter, by } => is(counter, MetricKind::Counter).or_else(|| {
            let has_label = metric(counter, found).is_some_and(|metric| metric.has_label(by));
            (!has_label).then(|| format!("metric {} has no label {by}", counter.metric))
        }),
        Sli::Liveness { series } => is(series, MetricKind::Counter),
        Sli::Probe { .. } => Some("a probe measures no metric".to_owned()),
    }
}

fn metric<'a>(selector: &Selector, found: &'a [Metric]) -> Option<&'a Metric> {
    found.iter().take(FOUND_MAX).find(|metric| metric.name == selector.metric)
}

fn unlike(selector: &Selector, kind: MetricKind, found: &[Metric]) -> Option<String> {
    let name = &selector.metric;
    let Some(metric) = metric(selector, found) else {
        return Some(format!("metric {name} is not in the service's catalogue, nor was telemetry seen to have it"));
    };
    if metric.kind != kind {
        return Some(format!("metric {name} is a {}, and a {} is needed", metric.kind.word(), kind.word()));
    }
    let unknown = selector.matchers.iter().find(|matcher| !metric.has_label(&matcher.label))?;
    Some(format!("metric {name} has no label {}", unknown.label))
}
