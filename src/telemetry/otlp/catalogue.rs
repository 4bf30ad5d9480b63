//! The index of metrics: what is sent, in the words of the domain.

use std::collections::{BTreeMap, BTreeSet};

use super::store::{Group, Pod};
use crate::{
    domain::{Metric, MetricKind, MetricLabel, Text},
    telemetry::{Catalogued, exposition::Kind},
};

/// Most metrics that are listed.
const METRICS_MAX: usize = 20_000;

/// One metric as it is put together from several processes.
struct Listed<'a> {
    kind: MetricKind,
    help: &'a Text,
    series: usize,
    labels: BTreeMap<&'a str, (BTreeSet<&'a str>, bool)>,
}

/// The metrics of these processes; nothing where there is no process.
pub(super) fn catalogued<'a>(pods: impl Iterator<Item = &'a Pod>) -> Option<Catalogued> {
    let mut seen = None;
    let mut cut = false;
    let mut metrics: BTreeMap<String, Listed<'_>> = BTreeMap::new();
    for pod in pods {
        seen = seen.max(Some(pod.collected));
        for group in pod.groups.values() {
            for (name, kind) in names(group) {
                if metrics.len() >= METRICS_MAX && !metrics.contains_key(&name) {
                    cut = true;
                    continue;
                }
                let new = || Listed { kind, help: &group.family.help, series: 0, labels: BTreeMap::new() };
                let listed = metrics.entry(name).or_insert_with(new);
                listed.take_in(group);
            }
        }
    }
    let metrics = metrics.into_iter().map(|(name, listed)| listed.metric(name)).collect();
    Some(Catalogued { metrics, seen: seen?, cut })
}

/// The names a selector may write: a histogram's count counts requests as any counter does.
fn names(group: &Group) -> Vec<(String, MetricKind)> {
    let name = &group.family.name;
    match group.family.kind {
        Kind::Counter | Kind::Summary => vec![(name.clone(), MetricKind::Counter)],
        Kind::Gauge | Kind::Untyped => vec![(name.clone(), MetricKind::Gauge)],
        Kind::Histogram => {
            vec![(name.clone(), MetricKind::Histogram), (format!("{name}_count"), MetricKind::Counter)]
        }
    }
}

impl<'a> Listed<'a> {
    fn take_in(&mut self, group: &'a Group) {
        self.series += group.series.len();
        for (label, value) in group.series.keys().flatten() {
            if self.labels.len() >= Metric::LABELS_MAX && !self.labels.contains_key(label.as_str()) {
                continue;
            }
            let (values, more) = self.labels.entry(label).or_default();
            if values.len() < Metric::VALUES_MAX {
                values.insert(value);
            } else {
                *more |= !values.contains(value.as_str());
            }
        }
    }

    fn metric(self, name: String) -> Metric {
        let label = |(name, (values, more)): (&str, (BTreeSet<&str>, bool))| MetricLabel {
            name: name.to_owned(),
            values: values.into_iter().map(str::to_owned).collect(),
            more,
        };
        Metric {
            name,
            kind: self.kind,
            help: self.help.clone(),
            labels: self.labels.into_iter().map(label).collect(),
            series: u32::try_from(self.series).unwrap_or(u32::MAX),
        }
    }
}
