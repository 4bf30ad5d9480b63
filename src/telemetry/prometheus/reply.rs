//! What the server's JSON says, bounded and refused unless it is what was asked for.
//!
//! A server says in `warnings` that what it answers is not all there is: a store of Thanos that cannot be reached, a shard
//! of Mimir. Counts of a part of the truth are no counts, so such an answer is none, unless the operator allows it.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, Visitor},
};

use crate::{
    domain::{Absence, Text},
    telemetry::exposition::{LABEL_VALUE_BYTES_MAX, LABELS_MAX, SERIES_MAX},
};

/// Most series in one answer.
pub const ROWS_MAX: usize = SERIES_MAX;

/// One series of an answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Row {
    /// Its labels, `__name__` included.
    pub(super) metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, Number)>,
    #[serde(default)]
    value: Option<(f64, Number)>,
    #[serde(default)]
    histograms: Vec<(f64, Native)>,
}

impl Row {
    /// A series of these values, as if it had been answered.
    pub(super) fn of(name: &str, mut labels: BTreeMap<String, String>, values: Vec<(i64, f64)>) -> Self {
        labels.insert("__name__".into(), name.to_owned());
        let values = values.into_iter().map(|(at, value)| (at as f64 / 1_000.0, Number(value))).collect();
        Self { metric: labels, values, ..Self::default() }
    }

    /// Its samples: time in milliseconds by the server's clock, and value.
    pub(super) fn samples(&self) -> impl Iterator<Item = (i64, f64)> + '_ {
        self.values.iter().chain(&self.value).map(|(at, value)| (millis(*at), value.0))
    }

    /// Its native histograms.
    pub(super) fn histograms(&self) -> impl Iterator<Item = (i64, &Native)> + '_ {
        self.histograms.iter().map(|(at, histogram)| (millis(*at), histogram))
    }

    /// How many samples it holds.
    pub(super) fn len(&self) -> usize {
        self.values.len() + usize::from(self.value.is_some()) + self.histograms.len()
    }
}

/// Seconds with a fraction; the sender writes at most three digits of it.
fn millis(seconds: f64) -> i64 {
    (seconds * 1_000.0).round() as i64
}

/// A native histogram at one time.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Native {
    pub(super) count: Number,
    /// Which bounds are inside, the lower bound, the upper bound, and how many lie between; by rising bounds.
    #[serde(default)]
    pub(super) buckets: Vec<(u8, Number, Number, Number)>,
}

/// A number that is written as a text, as every value is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Number(pub(super) f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Digits;

        impl Visitor<'_> for Digits {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number within quotes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                text.parse().map(Number).map_err(|_| E::custom("a value that is no number"))
            }
        }

        from.deserialize_str(Digits)
    }
}

/// What the server wraps every answer in. A field of a wrong type makes the whole no answer.
#[derive(Deserialize)]
struct Wrapped<'a, T> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    data: Option<T>,
    #[serde(borrow, rename = "errorType")]
    error_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
    /// VictoriaMetrics and Mimir say it here.
    #[serde(default, rename = "isPartial")]
    is_partial: bool,
    #[serde(default, rename = "infos")]
    _infos: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Series {
    #[serde(rename = "resultType")]
    result_type: String,
    result: Vec<Row>,
}

/// The series of an answer of this type, such as `matrix`.
pub(super) fn rows(body: &[u8], result_type: &str, allow_partial: bool) -> Result<Vec<Row>, Absence> {
    let data: Series = data(body, allow_partial)?;
    if data.result_type != result_type {
        return Err(malformed(format!("answered a {} where a {result_type} was asked for", data.result_type)));
    }
    if data.result.len() > ROWS_MAX {
        return Err(malformed(format!("answered more than {ROWS_MAX} series")));
    }
    for row in &data.result {
        let is_long = |(name, value): (&String, &String)| name.len().max(value.len()) > LABEL_VALUE_BYTES_MAX;
        if row.metric.len() > LABELS_MAX + 1 || row.metric.iter().any(is_long) {
            return Err(malformed("answered a series with too many labels, or one that is too long".into()));
        }
    }
    Ok(data.result)
}

/// What an answer holds.
pub(super) fn data<'a, T: Deserialize<'a>>(body: &'a [u8], allow_partial: bool) -> Result<T, Absence> {
    let wrapped: Wrapped<'a, T> = serde_json::from_slice(body).map_err(|error| {
        let what = format!("answered what is no answer of Prometheus: line {}, {}", error.line(), kind(&error));
        malformed(what)
    })?;
    if wrapped.status != "success" {
        return Err(refused(wrapped.error_type.as_deref(), wrapped.error.as_deref()));
    }
    let said = wrapped.warnings.iter().flatten().find(|warning| !warning.starts_with("PromQL info"));
    if !allow_partial && (wrapped.is_partial || said.is_some()) {
        let said = said.map_or("", String::as_str);
        return Err(unavailable(format!("the answer is not whole: {said}")));
    }
    wrapped.data.ok_or_else(|| malformed("answered success without data".into()))
}

/// Why a server that speaks this API refused, by what it says of it; nothing where it says nothing that is known.
pub(super) fn refusal(body: &[u8]) -> Option<Absence> {
    let wrapped: Wrapped<'_, IgnoredAny> = serde_json::from_slice(body).ok()?;
    (wrapped.status == "error").then(|| refused(wrapped.error_type.as_deref(), wrapped.error.as_deref()))
}

fn refused(kind: Option<&str>, why: Option<&str>) -> Absence {
    let (kind, why) = (kind.unwrap_or("error"), why.unwrap_or("no reason given"));
    let text = format!("{kind}: {why}");
    match kind {
        "timeout" | "canceled" | "unavailable" | "internal" | "too_many_requests" => unavailable(text),
        _ => malformed(text),
    }
}

fn kind(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Io => "not read",
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Data => "a field of a wrong type",
        serde_json::error::Category::Eof => "cut off",
    }
}

pub(super) fn unavailable(why: String) -> Absence {
    Absence::Unavailable(Text::new(why))
}

pub(super) fn malformed(why: String) -> Absence {
    Absence::Malformed(Text::new(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_malformed(body: &str, what: &str) {
        match rows(body.as_bytes(), "matrix", false) {
            Err(Absence::Malformed(why)) => assert!(why.as_str().contains(what), "{why}"),
            other => panic!("{body}: {other:?}"),
        }
    }

    const ONE: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[
        {"metric":{"__name__":"m","a":"b"},"values":[[1700000000.123,"4"],[1700000015,"NaN"],[1700000030,"+Inf"]]}]}}"#;

    #[test]
    fn samples_are_read_with_their_times_to_the_millisecond() {
        let rows = rows(ONE.as_bytes(), "matrix", false).unwrap();
        let samples: Vec<(i64, f64)> = rows[0].samples().collect();
        assert_eq!(samples[0], (1_700_000_000_123, 4.0));
        assert!(samples[1].1.is_nan() && samples[2].1.is_infinite());
        assert_eq!((rows[0].metric["a"].as_str(), rows[0].len()), ("b", 3));
    }

    #[test]
    fn what_is_no_answer_is_malformed_and_says_so() {
        is_malformed("<html>", "not JSON");
        is_malformed(&ONE[..60], "cut off");
        is_malformed(&ONE.replace("\"4\"", "4"), "wrong type");
        is_malformed(&ONE.replace("\"4\"", "\"four\""), "wrong type");
        is_malformed(&ONE.replace("\"matrix\"", "\"vector\""), "a vector where a matrix");
        is_malformed(r#"{"status":"success"}"#, "without data");
        is_malformed(r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#, "parse error");
        is_malformed("[]", "wrong type");
    }

    #[test]
    fn an_answer_that_is_not_whole_is_none_unless_that_is_allowed() {
        let thanos = ONE.replacen('{', r#"{"warnings":["partial response: store a:1 gone"],"#, 1);
        let victoria = ONE.replacen('{', r#"{"isPartial":true,"#, 1);
        for body in [thanos, victoria] {
            let why = rows(body.as_bytes(), "matrix", false).unwrap_err();
            assert!(matches!(why, Absence::Unavailable(why) if why.as_str().contains("not whole")));
            assert!(rows(body.as_bytes(), "matrix", true).is_ok());
        }
        let info = ONE.replacen('{', r#"{"infos":["PromQL info: m may be no counter"],"#, 1);
        assert!(rows(info.as_bytes(), "matrix", false).is_ok());
    }

    #[test]
    fn a_server_that_has_no_time_is_unavailable() {
        let timeout = r#"{"status":"error","errorType":"timeout","error":"query timed out"}"#;
        assert!(matches!(refusal(timeout.as_bytes()), Some(Absence::Unavailable(_))));
        assert_eq!(refusal(b"nginx"), None);
    }

    #[test]
    fn the_number_of_series_and_of_labels_has_a_limit() {
        let body = |rows: usize, labels: usize| {
            let labels: Vec<String> = (0..labels).map(|n| format!("\"l{n}\":\"v\"")).collect();
            let row = format!("{{\"metric\":{{{}}},\"values\":[]}}", labels.join(","));
            let rows = vec![row; rows].join(",");
            format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{rows}]}}}}"#)
        };
        assert!(rows(body(ROWS_MAX, 1).as_bytes(), "matrix", false).is_ok());
        is_malformed(&body(ROWS_MAX + 1, 1), "more than 50000 series");
        assert!(rows(body(1, LABELS_MAX + 1).as_bytes(), "matrix", false).is_ok(), "the name is a label too");
        is_malformed(&body(1, LABELS_MAX + 2), "too many labels");
    }
}
