//! The index of metrics: what control's pages have to name, in the words of the domain.
//!
//! A histogram is named as selectors name it, and its count is a metric of its own, for it counts requests as any counter
//! does. Of a metric without a `TYPE` only a name that ends in `_total` says what it is; others are not listed, since a
//! check on the wrong kind of number would be worse than none.

use std::collections::{BTreeMap, BTreeSet};

use super::ring::{Family, Ring, unpack};
use crate::{
    domain::{Metric, MetricKind, MetricLabel, Timestamp},
    telemetry::{Catalogued, exposition::Kind},
};

/// The metrics that the ring holds.
pub(in crate::telemetry) fn catalogued(ring: &Ring, seen: Timestamp) -> Catalogued {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for (name, family) in &ring.families {
        if let Some((name, kind)) = listed(name, family.kind) {
            // A counter and a histogram of one name: the counter is what is shown by that name.
            metrics.entry(name.to_owned()).or_insert_with(|| metric(name, kind, family));
        }
    }
    Catalogued { metrics: metrics.into_values().collect(), seen, cut: ring.is_cut() }
}

/// The name a selector writes and the kind, where the exposed name and what is declared of it tell.
fn listed(exposed: &str, kind: Kind) -> Option<(&str, MetricKind)> {
    match kind {
        Kind::Counter => Some((exposed, MetricKind::Counter)),
        Kind::Gauge => Some((exposed, MetricKind::Gauge)),
        Kind::Histogram => match exposed.strip_suffix("_bucket") {
            Some(base) => Some((base, MetricKind::Histogram)),
            None if exposed.ends_with("_count") => Some((exposed, MetricKind::Counter)),
            // A native histogram is one series.
            None => Some((exposed, MetricKind::Histogram)),
        },
        // Of a summary only the count is kept.
        Kind::Summary => Some((exposed, MetricKind::Counter)),
        Kind::Untyped => exposed.ends_with("_total").then_some((exposed, MetricKind::Counter)),
    }
}

fn metric(name: &str, kind: MetricKind, family: &Family) -> Metric {
    let mut labels: BTreeMap<&str, (BTreeSet<&str>, bool)> = BTreeMap::new();
    for (label, value) in family.series.keys().flat_map(|packed| unpack(packed)) {
        let is_edge = kind == MetricKind::Histogram && label == "le";
        if is_edge || (labels.len() >= Metric::LABELS_MAX && !labels.contains_key(label)) {
            continue;
        }
        let (values, more) = labels.entry(label).or_default();
        if values.len() < Metric::VALUES_MAX {
            values.insert(value);
        } else {
            *more |= !values.contains(value);
        }
    }
    let label = |(name, (values, more)): (&str, (BTreeSet<&str>, bool))| MetricLabel {
        name: name.to_owned(),
        values: values.into_iter().map(str::to_owned).collect(),
        more,
    };
    let series: usize = family.series.values().map(Vec::len).sum();
    Metric {
        name: name.to_owned(),
        kind,
        help: family.help.clone(),
        labels: labels.into_iter().map(label).collect(),
        series: u32::try_from(series).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write, time::Duration};

    use super::*;
    use crate::{
        domain::Text,
        telemetry::{
            counting::ring::{Limits, Ring},
            exposition::parse,
        },
    };

    fn index(body: &str) -> Catalogued {
        let mut ring = Ring::new(vec!["u".into()], BTreeMap::new(), Duration::from_secs(60), Limits::default());
        let seen = ring.begin(Timestamp::from_millis(5));
        ring.take_in("u", Ok(&parse(body.as_bytes(), |_| true).unwrap()));
        ring.end();
        catalogued(&ring, seen)
    }

    #[test]
    fn kinds_are_what_is_declared_and_a_name_alone_tells_only_a_total() {
        let found = index(
            "# TYPE took histogram\n# HELP took Seconds.\ntook_bucket{le=\"1\",route=\"/b\"} 1\n\
             took_bucket{le=\"+Inf\",route=\"/a\"} 1\ntook_sum 1\ntook_count 1\n# TYPE hits counter\nhits_total 1\n\
             # TYPE load gauge\nload 1\nodd 1\nerrors_total 1\n# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_count 1\n\
             plain_bucket{le=\"+Inf\"} 1\n",
        );
        let told: Vec<_> = found.metrics.iter().map(|metric| (metric.name.as_str(), metric.kind)).collect();
        let (counter, histogram) = (MetricKind::Counter, MetricKind::Histogram);
        assert_eq!(
            told,
            [
                ("errors_total", counter),
                ("hits_total", counter),
                ("load", MetricKind::Gauge),
                ("s_count", counter),
                ("took", histogram),
                ("took_count", counter)
            ]
        );
        let took = found.find("took").unwrap();
        let route = MetricLabel { name: "route".into(), values: vec!["/a".into(), "/b".into()], more: false };
        assert_eq!((&took.help, &took.labels, took.series), (&Text::new("Seconds."), &vec![route], 2));
        assert_eq!((found.seen.as_millis(), found.cut), (5, false));
    }

    #[test]
    fn labels_and_their_values_are_listed_up_to_their_limits() {
        let body = |values: usize, labels: usize| {
            let mut body = String::from("# TYPE m counter\n");
            (0..values).for_each(|n| writeln!(body, "m{{a=\"{n:0>3}\"}} 1").unwrap());
            let names: String = (1..labels).map(|n| format!("b{n:0>2}=\"x\",")).collect();
            writeln!(body, "m{{a=\"000\",{names}}} 1").unwrap();
            index(&body).find("m").unwrap().clone()
        };
        let full = body(Metric::VALUES_MAX, Metric::LABELS_MAX);
        assert_eq!((full.labels.len(), full.labels[0].values.len()), (Metric::LABELS_MAX, Metric::VALUES_MAX));
        assert!(!full.labels[0].more);
        let more = body(Metric::VALUES_MAX + 1, Metric::LABELS_MAX + 1);
        assert_eq!((more.labels.len(), more.labels[0].values.len()), (Metric::LABELS_MAX, Metric::VALUES_MAX));
        assert!(more.labels[0].more);
    }
}
