//! What a request's metrics show, in the words of this room; what cannot be counted is refused point by point, with a word.

use std::{borrow::Cow, collections::BTreeMap};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, DataPointFlags, ExponentialHistogramDataPoint, HistogramDataPoint, Metric,
        NumberDataPoint, SummaryDataPoint, metric::Data, number_data_point::Value as Number,
    },
};

use super::{
    exponential::{Exponential, SCALE_MAX, SCALE_MIN},
    names,
    series::{Flow, Point, Shown},
};
use crate::{
    domain::Text,
    telemetry::exposition::{Kind, LABEL_VALUE_BYTES_MAX, NAME_BYTES_MAX},
};

/// Most attributes of one data point.
pub const ATTRIBUTES_MAX: usize = 60;
/// Most buckets of one histogram; of an exponential one, as it is sent.
pub const BUCKETS_MAX: usize = 250;

/// A metric by its name in Prometheus' words.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Family {
    /// The name; of a histogram, without `_bucket`.
    pub(super) name: String,
    /// The name that the SDK knows it by.
    pub(super) raw: String,
    pub(super) kind: Kind,
    pub(super) help: Text,
}

/// One point of one series; `None` where it says that there is no value.
pub(super) struct Sighting {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) time: u64,
    pub(super) point: Option<Point>,
}

/// What a metric shows.
pub(super) struct Sightings {
    pub(super) family: Family,
    pub(super) flow: Flow,
    /// Each point, or why it is refused.
    pub(super) points: Vec<Result<Sighting, Cow<'static, str>>>,
    /// What is passed over in points that are counted.
    pub(super) word: Option<&'static str>,
}

/// How many points a metric has.
pub(super) fn count(metric: &Metric) -> usize {
    match &metric.data {
        Some(Data::Gauge(data)) => data.data_points.len(),
        Some(Data::Sum(data)) => data.data_points.len(),
        Some(Data::Histogram(data)) => data.data_points.len(),
        Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(Data::Summary(data)) => data.data_points.len(),
        None => 0,
    }
}

/// Reads one metric. `Err` refuses all its points.
pub(super) fn sightings(metric: Metric, scope: Option<&InstrumentationScope>) -> Result<Sightings, Cow<'static, str>> {
    if !(1..=NAME_BYTES_MAX / 2).contains(&metric.name.len()) || metric.unit.len() > NAME_BYTES_MAX / 4 {
        return Err("a metric has no name, or one too long".into());
    }
    let per_second = names::per_second(&metric.unit);
    let (kind, flow) = match &metric.data {
        Some(Data::Gauge(_)) => (Kind::Gauge, Flow::Level),
        Some(Data::Sum(sum)) => match (sum.is_monotonic, flow_of(sum.aggregation_temporality)?) {
            (true, flow) => (Kind::Counter, flow),
            (false, Flow::Delta) => return Err("a delta sum that may fall has no level that is known".into()),
            (false, Flow::Cumulative | Flow::Level) => (Kind::Gauge, Flow::Level),
        },
        Some(Data::Histogram(histogram)) => (Kind::Histogram, flow_of(histogram.aggregation_temporality)?),
        Some(Data::ExponentialHistogram(histogram)) => (Kind::Histogram, flow_of(histogram.aggregation_temporality)?),
        Some(Data::Summary(_)) => (Kind::Summary, Flow::Cumulative),
        None => return Err("a metric has no data of a kind that is known".into()),
    };
    let mut name = names::metric(&metric.name, &metric.unit, kind);
    if name.is_empty() {
        return Err("a metric's name has neither letters nor digits".into());
    }
    let mut raw = metric.name;
    if kind == Kind::Summary {
        // Of a summary only the count can be added up.
        name.push_str("_count");
        raw.push_str("_count");
    }
    let mut word = None;
    let points = match metric.data {
        Some(Data::Gauge(data)) => data.data_points.into_iter().map(|point| number(point, false, scope)).collect(),
        Some(Data::Sum(data)) => {
            data.data_points.into_iter().map(|point| number(point, data.is_monotonic, scope)).collect()
        }
        Some(Data::Histogram(data)) => {
            data.data_points.into_iter().map(|point| explicit(point, per_second, scope)).collect()
        }
        Some(Data::ExponentialHistogram(data)) => {
            data.data_points.into_iter().map(|point| exponential(point, per_second, scope, &mut word)).collect()
        }
        Some(Data::Summary(data)) => data.data_points.into_iter().map(|point| summary(point, scope)).collect(),
        None => Vec::new(),
    };
    Ok(Sightings { family: Family { name, raw, kind, help: Text::new(metric.description) }, flow, points, word })
}

fn flow_of(temporality: i32) -> Result<Flow, Cow<'static, str>> {
    match AggregationTemporality::try_from(temporality) {
        Ok(AggregationTemporality::Cumulative) => Ok(Flow::Cumulative),
        Ok(AggregationTemporality::Delta) => Ok(Flow::Delta),
        Ok(AggregationTemporality::Unspecified) | Err(_) => Err("a sum or histogram has no temporality".into()),
    }
}

/// A point of these attributes and times, and its value where it says it has one.
fn sighting(
    attributes: Vec<KeyValue>,
    (start, time, flags): (u64, u64, u32),
    scope: Option<&InstrumentationScope>,
    shown: impl FnOnce() -> Result<Shown, Cow<'static, str>>,
) -> Result<Sighting, Cow<'static, str>> {
    if time == 0 {
        return Err("a point does not say when it was read".into());
    }
    let labels = labels(attributes, scope)?;
    let has_none = flags & DataPointFlags::NoRecordedValueMask as u32 != 0;
    let point = if has_none { None } else { Some(Point { start, time, shown: shown()? }) };
    Ok(Sighting { labels, time, point })
}

fn number(
    point: NumberDataPoint,
    only_rises: bool,
    scope: Option<&InstrumentationScope>,
) -> Result<Sighting, Cow<'static, str>> {
    let times = (point.start_time_unix_nano, point.time_unix_nano, point.flags);
    sighting(point.attributes, times, scope, || match point.value {
        Some(Number::AsInt(value)) if value >= 0 || !only_rises => Ok(Shown::Whole(value)),
        Some(Number::AsDouble(value)) if value.is_finite() && (value >= 0.0 || !only_rises) => {
            Ok(Shown::Fraction(value))
        }
        Some(Number::AsInt(value)) => Err(format!("a counter shows {value}, which is no count").into()),
        Some(Number::AsDouble(value)) => Err(format!("a point shows {value}, which is no count or level").into()),
        None => Err("a point has no value".into()),
    })
}

fn summary(point: SummaryDataPoint, scope: Option<&InstrumentationScope>) -> Result<Sighting, Cow<'static, str>> {
    let times = (point.start_time_unix_nano, point.time_unix_nano, point.flags);
    sighting(point.attributes, times, scope, || Ok(Shown::Fraction(point.count as f64)))
}

fn explicit(
    point: HistogramDataPoint,
    per_second: f64,
    scope: Option<&InstrumentationScope>,
) -> Result<Sighting, Cow<'static, str>> {
    let times = (point.start_time_unix_nano, point.time_unix_nano, point.flags);
    let (bounds, mut counts, count) = (point.explicit_bounds, point.bucket_counts, point.count);
    sighting(point.attributes, times, scope, || {
        if counts.is_empty() && bounds.is_empty() {
            counts.push(count);
        }
        if counts.len() != bounds.len() + 1 || counts.len() > BUCKETS_MAX {
            return Err(format!("a histogram is to have one count more than bounds, and at most {BUCKETS_MAX}").into());
        }
        let sum = counts.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count));
        if sum != Some(count) {
            return Err("a histogram's buckets do not add up to its count".into());
        }
        let edges: Vec<f64> = bounds.iter().map(|bound| bound / per_second).collect();
        let rises = edges.windows(2).all(|pair| matches!(pair, [below, above] if below < above));
        if !rises || !edges.iter().all(|edge| edge.is_finite()) {
            return Err("a histogram's bounds do not rise".into());
        }
        Ok(Shown::Explicit { edges, counts })
    })
}

fn exponential(
    point: ExponentialHistogramDataPoint,
    per_second: f64,
    scope: Option<&InstrumentationScope>,
    word: &mut Option<&'static str>,
) -> Result<Sighting, Cow<'static, str>> {
    let times = (point.start_time_unix_nano, point.time_unix_nano, point.flags);
    let (scale, zero) = (point.scale, point.zero_count);
    let negative = point.negative.is_some_and(|buckets| buckets.bucket_counts.iter().any(|count| *count > 0));
    let positive = point.positive.unwrap_or_default();
    if negative {
        *word = Some("negative values of an exponential histogram are not counted");
    }
    sighting(point.attributes, times, scope, || {
        if !(SCALE_MIN..=SCALE_MAX).contains(&scale) {
            return Err(format!("an exponential histogram's scale is {scale}: from {SCALE_MIN} to {SCALE_MAX}").into());
        }
        if positive.bucket_counts.len() > BUCKETS_MAX {
            return Err(format!("an exponential histogram has more than {BUCKETS_MAX} buckets").into());
        }
        let counts = positive.bucket_counts;
        if counts.iter().try_fold(zero, |sum, count| sum.checked_add(*count)).is_none() {
            return Err("an exponential histogram's buckets are more than can be counted".into());
        }
        let shown = Exponential { scale, zero, offset: i64::from(positive.offset), counts };
        Ok(Shown::Exponential { shown, per_second })
    })
}

/// Attributes as labels; of two that have one name as labels the values are joined, as the specification says.
fn labels(
    attributes: Vec<KeyValue>,
    scope: Option<&InstrumentationScope>,
) -> Result<BTreeMap<String, String>, Cow<'static, str>> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(format!("a point has more than {ATTRIBUTES_MAX} attributes").into());
    }
    let mut labels = BTreeMap::new();
    let mut put = |name: &str, value: String| -> Result<(), Cow<'static, str>> {
        if !(1..=NAME_BYTES_MAX / 2).contains(&name.len()) {
            return Err("an attribute has no name, or one too long".into());
        }
        let label: &mut String = labels.entry(names::label(name)).or_default();
        if !label.is_empty() {
            label.push(';');
        }
        label.push_str(&value);
        if label.len() > LABEL_VALUE_BYTES_MAX {
            return Err(format!("attribute {}: more than {LABEL_VALUE_BYTES_MAX} bytes", Text::new(name)).into());
        }
        Ok(())
    };
    if let Some(scope) = scope {
        // Two libraries may count by one name.
        for (name, value) in [("otel_scope_name", &scope.name), ("otel_scope_version", &scope.version)] {
            if !value.is_empty() {
                put(name, value.clone())?;
            }
        }
    }
    let mut sorted = attributes;
    sorted.sort_by(|one, other| one.key.cmp(&other.key));
    for attribute in sorted {
        put(&attribute.key, value(attribute.value.as_ref()))?;
    }
    Ok(labels)
}

/// An attribute's value in writing; lists as JSON.
pub(super) fn value(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(other @ (Value::ArrayValue(_) | Value::KvlistValue(_))) => as_json(other, 0).to_string(),
        Some(Value::BytesValue(bytes)) => format!("{} bytes", bytes.len()),
        // Of profiles alone.
        Some(Value::StringValueStrindex(_)) | None => String::new(),
    }
}

fn as_json(value: &Value, depth: usize) -> serde_json::Value {
    let inner = |value: Option<&AnyValue>| {
        let value = value.and_then(|value| value.value.as_ref()).filter(|_| depth < 8);
        value.map_or(serde_json::Value::Null, |value| as_json(value, depth + 1))
    };
    match value {
        Value::StringValue(text) => text.clone().into(),
        Value::BoolValue(value) => (*value).into(),
        Value::IntValue(value) => (*value).into(),
        Value::DoubleValue(value) => (*value).into(),
        Value::ArrayValue(list) => list.values.iter().map(|value| inner(Some(value))).collect(),
        Value::KvlistValue(list) => {
            list.values.iter().map(|pair| (pair.key.clone(), inner(pair.value.as_ref()))).collect()
        }
        Value::BytesValue(bytes) => format!("{} bytes", bytes.len()).into(),
        Value::StringValueStrindex(_) => serde_json::Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        common::v1::ArrayValue,
        metrics::v1::{
            ExponentialHistogram, Gauge, Histogram, Sum, Summary, exponential_histogram_data_point::Buckets,
        },
    };

    use super::*;

    const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

    fn read(name: &str, unit: &str, data: Data) -> Result<Sightings, Cow<'static, str>> {
        let metric = Metric { name: name.into(), unit: unit.into(), data: Some(data), ..Metric::default() };
        sightings(metric, None)
    }

    fn only(of: Sightings) -> Result<Sighting, Cow<'static, str>> {
        let mut points = of.points;
        assert_eq!(points.len(), 1);
        points.remove(0)
    }

    fn pair(key: &str, value: Value) -> KeyValue {
        KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    }

    fn text(key: &str, value: &str) -> KeyValue {
        pair(key, Value::StringValue(value.into()))
    }

    #[test]
    fn sums_are_counters_or_levels_by_what_they_say_of_themselves() {
        let sum = |is_monotonic, aggregation_temporality, value| {
            let data_points =
                vec![NumberDataPoint { time_unix_nano: 1, value: Some(value), ..NumberDataPoint::default() }];
            Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic })
        };
        let counter = read("jobs.done", "", sum(true, CUMULATIVE, Number::AsInt(3))).unwrap();
        assert_eq!((counter.family.name.as_str(), counter.flow), ("jobs_done_total", Flow::Cumulative));
        let level = read("jobs.open", "", sum(false, CUMULATIVE, Number::AsInt(-3))).unwrap();
        assert_eq!((level.family.name.as_str(), level.flow), ("jobs_open", Flow::Level));
        assert_eq!(only(level).unwrap().point.unwrap().shown, Shown::Whole(-3));
        let delta = AggregationTemporality::Delta as i32;
        assert!(read("jobs.open", "", sum(false, delta, Number::AsInt(1))).is_err(), "its level is not known");
        assert!(read("jobs.done", "", sum(true, 0, Number::AsInt(1))).is_err(), "no temporality");
        for bad in
            [Number::AsInt(-1), Number::AsDouble(-0.5), Number::AsDouble(f64::NAN), Number::AsDouble(f64::INFINITY)]
        {
            assert!(only(read("jobs.done", "", sum(true, CUMULATIVE, bad)).unwrap()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_histogram_of_milliseconds_has_edges_in_seconds_and_must_add_up() {
        let histogram = |bounds: &[f64], counts: &[u64], count: u64| {
            let point = HistogramDataPoint {
                time_unix_nano: 1,
                count,
                bucket_counts: counts.into(),
                explicit_bounds: bounds.into(),
                ..HistogramDataPoint::default()
            };
            let data = Histogram { data_points: vec![point], aggregation_temporality: CUMULATIVE };
            only(read("http.server.duration", "ms", Data::Histogram(data)).unwrap())
        };
        let shown = histogram(&[5.0, 250.0], &[1, 2, 3], 6).unwrap().point.unwrap().shown;
        assert_eq!(shown, Shown::Explicit { edges: vec![0.005, 0.25], counts: vec![1, 2, 3] });
        let shown = histogram(&[], &[], 6).unwrap().point.unwrap().shown;
        assert_eq!(shown, Shown::Explicit { edges: vec![], counts: vec![6] }, "without buckets there is one");
        assert!(histogram(&[5.0, 250.0], &[1, 2], 3).is_err());
        assert!(histogram(&[5.0, 250.0], &[1, 2, 3], 7).is_err());
        assert!(histogram(&[5.0, 5.0], &[1, 2, 3], 6).is_err());
        assert!(histogram(&[5.0, f64::NAN], &[1, 2, 3], 6).is_err());
        assert!(histogram(&[5.0], &[u64::MAX, 2], 1).is_err());
        let bounds: Vec<f64> = (0..BUCKETS_MAX).map(|at| at as f64).collect();
        assert!(histogram(&bounds[1..], &vec![1; BUCKETS_MAX], BUCKETS_MAX as u64).is_ok());
        assert!(histogram(&bounds, &vec![1; BUCKETS_MAX + 1], BUCKETS_MAX as u64 + 1).is_err());
    }

    #[test]
    fn negative_values_of_an_exponential_histogram_are_passed_over_with_a_word() {
        let read = |scale: i32, negative: Vec<u64>, positive: Vec<u64>| {
            let buckets = |bucket_counts| Some(Buckets { offset: -3, bucket_counts });
            let point = ExponentialHistogramDataPoint {
                time_unix_nano: 1,
                scale,
                zero_count: 4,
                positive: buckets(positive),
                negative: buckets(negative),
                ..ExponentialHistogramDataPoint::default()
            };
            let data = ExponentialHistogram { data_points: vec![point], aggregation_temporality: CUMULATIVE };
            read("size", "By", Data::ExponentialHistogram(data)).unwrap()
        };
        let all = read(3, vec![1], vec![1, 2]);
        assert!(all.word.unwrap().contains("negative"));
        let shown = Exponential { scale: 3, zero: 4, offset: -3, counts: vec![1, 2] };
        assert_eq!(only(all).unwrap().point.unwrap().shown, Shown::Exponential { shown, per_second: 1.0 });
        assert_eq!(read(3, vec![0], vec![1]).word, None);
        for scale in [SCALE_MIN - 1, SCALE_MAX + 1, i32::MIN, i32::MAX] {
            assert!(only(read(scale, vec![], vec![1])).is_err(), "{scale}");
        }
        assert!(only(read(0, vec![], vec![1; BUCKETS_MAX])).is_ok());
        assert!(only(read(0, vec![], vec![1; BUCKETS_MAX + 1])).is_err());
        assert!(only(read(0, vec![], vec![u64::MAX, 2])).is_err());
    }

    #[test]
    fn of_a_summary_the_count_is_kept() {
        let point = SummaryDataPoint { time_unix_nano: 1, count: 9, ..SummaryDataPoint::default() };
        let all = read("rpc.duration", "s", Data::Summary(Summary { data_points: vec![point] })).unwrap();
        assert_eq!((all.family.name.as_str(), all.family.kind), ("rpc_duration_seconds_count", Kind::Summary));
        assert_eq!(only(all).unwrap().point.unwrap().shown, Shown::Fraction(9.0));
    }

    #[test]
    fn a_point_without_a_time_is_refused_and_one_without_a_value_says_so() {
        let gauge = |point| only(read("level", "", Data::Gauge(Gauge { data_points: vec![point] })).unwrap());
        let value = Some(Number::AsInt(1));
        assert!(gauge(NumberDataPoint { value, ..NumberDataPoint::default() }).is_err());
        assert!(gauge(NumberDataPoint { time_unix_nano: 1, ..NumberDataPoint::default() }).is_err());
        let none = NumberDataPoint { time_unix_nano: 1, flags: 1, ..NumberDataPoint::default() };
        assert_eq!(gauge(none).unwrap().point, None);
    }

    #[test]
    fn attributes_become_labels_and_two_of_one_name_are_joined() {
        let list = ArrayValue { values: vec![AnyValue { value: Some(Value::IntValue(7)) }, AnyValue::default()] };
        let attributes = vec![
            text("http.route", "/b"),
            text("http_route", "/a"),
            pair("n", Value::IntValue(-3)),
            pair("is", Value::BoolValue(true)),
            pair("list", Value::ArrayValue(list)),
        ];
        let scope = InstrumentationScope { name: "lib".into(), version: "1".into(), ..InstrumentationScope::default() };
        let labels = labels(attributes, Some(&scope)).unwrap();
        let expected = [
            ("http_route", "/b;/a"),
            ("is", "true"),
            ("list", "[7,null]"),
            ("n", "-3"),
            ("otel_scope_name", "lib"),
            ("otel_scope_version", "1"),
        ];
        assert_eq!(labels, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn the_limits_of_attributes_hold_at_their_edges() {
        let many = |n: usize| (0..n).map(|at| text(&format!("a{at}"), "x")).collect();
        assert!(labels(many(ATTRIBUTES_MAX), None).is_ok());
        assert!(labels(many(ATTRIBUTES_MAX + 1), None).is_err());
        let long = |n: usize| vec![text("a", &"x".repeat(n))];
        assert!(labels(long(LABEL_VALUE_BYTES_MAX), None).is_ok());
        assert!(labels(long(LABEL_VALUE_BYTES_MAX + 1), None).is_err());
        assert!(labels(vec![text("", "x")], None).is_err());
    }
}
