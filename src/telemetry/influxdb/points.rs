//! What points in a row add up to, bucket by bucket.

use std::collections::BTreeMap;

use super::super::{
    Error,
    buckets::{Query, Series, What},
    call::malformed,
};
use crate::domain::Timestamp;

/// A series as it was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Raw {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) points: Vec<(Timestamp, f64)>,
}

/// The same in buckets. `known`: other points of the metric are from before the window.
pub(super) fn bucketed(raw: Raw, query: &Query, is_cumulative: bool, known: bool) -> Result<Series, Error> {
    let Raw { labels, mut points } = raw;
    points.sort_by_key(|(at, _)| *at);
    if points.iter().any(|(_, value)| !value.is_finite() || (query.what == What::Count && *value < 0.0)) {
        return Err(malformed("a number that this metric cannot have"));
    }
    let step = u64::try_from(query.step.as_millis()).unwrap_or(u64::MAX).max(1);
    let begin = |at: Timestamp| Timestamp::from_millis(at.as_millis() / step * step);
    let mut buckets: BTreeMap<Timestamp, (f64, f64)> = BTreeMap::new();
    let mut last = None;
    for (at, value) in points {
        let gained = match (is_cumulative, last) {
            (false, _) => value,
            (true, Some(last)) if value >= last => value - last,
            // It fell: it began again at zero.
            (true, Some(_)) => value,
            (true, None) if known => value,
            (true, None) => 0.0,
        };
        last = Some(value);
        if (query.span.start..query.span.end).contains(&at) {
            let (sum, n) = buckets.entry(begin(at)).or_default();
            (*sum, *n) = (*sum + gained, *n + 1.0);
        }
    }
    let is_mean = query.what == What::Mean;
    let value = |(sum, n): (f64, f64)| Some(if is_mean { sum / n } else { sum });
    Ok(Series { labels, points: buckets.into_iter().map(|(at, sums)| (at, value(sums))).collect() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::{Arm, Selector, ServiceName},
        telemetry::buckets::Span,
    };

    fn query(what: What, from: u64, to: u64) -> Query {
        let at = |minute: u64| Timestamp::from_millis(minute * 60_000);
        Query {
            service: ServiceName::new("shop"),
            arm: Arm::Canary,
            revision: String::new(),
            selector: Selector::metric("m"),
            what,
            by: Vec::new(),
            span: Span { start: at(from), end: at(to) },
            step: Duration::from_secs(60),
        }
    }

    fn gained(points: &[(u64, f64)], known: bool) -> Vec<(u64, f64)> {
        let points = points.iter().map(|(s, value)| (Timestamp::from_millis(s * 1_000), *value)).collect();
        let raw = Raw { points, ..Raw::default() };
        let series = bucketed(raw, &query(What::Count, 5, 7), true, known).unwrap();
        series.points.iter().map(|(at, value)| (at.as_millis() / 60_000, value.unwrap())).collect()
    }

    #[test]
    fn counting_starts_at_the_last_point_before_and_goes_on_over_resets() {
        assert_eq!(gained(&[(290, 10.0), (310, 12.0), (359, 15.0), (360, 2.0)], true), [(5, 5.0), (6, 2.0)]);
        assert_eq!(gained(&[(310, 12.0), (320, 15.0)], true), [(5, 15.0)], "born in the window");
        assert_eq!(gained(&[(310, 12.0), (320, 15.0)], false), [(5, 3.0)], "nobody knows since when");
        assert_eq!(gained(&[(420, 12.0)], true), [], "the end is of the next window");
    }

    #[test]
    fn a_gauge_is_the_mean_of_its_points() {
        let at = |s: u64| Timestamp::from_millis(s * 1_000);
        let raw = Raw { points: vec![(at(300), 1.0), (at(310), -5.0)], ..Raw::default() };
        let series = bucketed(raw, &query(What::Mean, 5, 7), false, true).unwrap();
        assert_eq!(series.points, [(at(300), Some(-2.0))]);
    }

    #[test]
    fn a_counter_is_never_negative() {
        for wrong in [-1.0, f64::NAN, f64::INFINITY] {
            let raw = Raw { points: vec![(Timestamp::from_millis(300_000), wrong)], ..Raw::default() };
            assert!(bucketed(raw, &query(What::Count, 5, 7), true, true).is_err());
        }
    }

    proptest! {
        #[test]
        fn windows_in_a_row_gain_what_was_counted(
            steps in prop::collection::vec((1..90_u64, 0..50_u32, any::<bool>()), 1..60), cut in 6..30_u64,
        ) {
            let (mut at, mut value, mut truth) = (200, 7.0, 0.0);
            let mut points = vec![(at, value)];
            for (pause, more, resets) in steps {
                at += pause;
                let (before, more) = (value, f64::from(more));
                // A reset that is not seen to fall cannot be told from a rise.
                value = if resets && more < before { more } else { value + more };
                if (300..1_800).contains(&at) { truth += more; }
                points.push((at, value));
                if at >= 1_800 { break; }
            }
            let window = |from: u64, to: u64| {
                let points = points.iter().filter(|(s, _)| *s + 300 >= from * 60 && *s < to * 60);
                let points = points.map(|(s, value)| (Timestamp::from_millis(s * 1_000), *value)).collect();
                let raw = Raw { points, ..Raw::default() };
                let series = bucketed(raw, &query(What::Count, from, to), true, true).unwrap();
                series.points.iter().filter_map(|(_, value)| *value).sum::<f64>()
            };
            let first = points[1..].iter().find(|(s, _)| *s >= 300).map_or(0.0, |_| 0.0);
            // Points from 200 s on are within the lookback of both windows' starts as long as they are 300 s apart.
            prop_assume!(points.windows(2).all(|pair| pair[1].0 - pair[0].0 <= 300));
            prop_assert_eq!(window(5, cut) + window(cut, 30) + first, truth);
        }
    }
}
