//! InfluxDB: InfluxQL by `GET /query` (1.x, and 3 as far as it keeps that endpoint) and Flux by `POST /api/v2/query` (2.x).
//!
//! # Points, not sums
//! Points are read as they were written and added up here. What a cumulative counter gained is the difference between
//! points in a row; one that fell began again and gained what it shows. The last point before the window is where counting
//! starts, so it is read too, up to [`LOOKBACK`] back. A series without one was born in the window where other series of
//! its metric have one, of the same pod where pods are told apart, and gained all it shows; where none has, the writer may
//! have been away, nobody knows, and its first point is where counting starts.
//!
//! # What is never query syntax
//! Only the metric's name, its field, and the arm's own labels are in a query, escaped; all other conditions are compared
//! here, on the answer.

mod csv;
mod points;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use reqwest::{RequestBuilder, Url, header::HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use self::points::{Raw, bucketed};
use super::{
    Clock, Error,
    buckets::{Latencies, Query, Reader, Series, Setting, Vendor, What},
    call::{Caller, Meaning, at, base, malformed, unavailable},
};
use crate::domain::{Match, Matcher, Text, Timestamp};

/// How long InfluxDB's data are waited for, where nothing else is set.
pub const SETTLE: Duration = Duration::from_secs(30);
/// How far back the point before a window is looked for.
pub const LOOKBACK: Duration = Duration::from_secs(300);
/// Longest name of a measurement, field or tag.
pub const NAME_BYTES_MAX: usize = 500;

/// Which language is spoken.
#[derive(Clone, Debug)]
pub enum Language {
    /// InfluxQL, on a database.
    InfluxQl {
        /// The database.
        database: String,
        /// The retention policy, where it is not the default one.
        retention: Option<String>,
        /// User and password.
        user: Option<(String, SecretString)>,
    },
    /// Flux, on a bucket of an organisation, with a token.
    Flux {
        /// The organisation.
        organisation: String,
        /// The bucket.
        bucket: String,
        /// A token that may read it.
        token: SecretString,
    },
}

/// Where a metric's numbers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A metric is a measurement, and its number in a field of this name: as most writers do.
    Measurement {
        /// The field of counters.
        counter: String,
        /// The field of gauges.
        gauge: String,
    },
    /// A metric is a field of this one measurement: as Telegraf's `prometheus` input does with `metric_version = 2`.
    Field {
        /// The measurement.
        measurement: String,
    },
}

/// What a counter's points are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counters {
    /// What was counted since the process began.
    Cumulative,
    /// What was counted since the last point.
    Delta,
}

/// How InfluxDB is reached, and what is read there.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its address, such as `https://influx.internal:8086`.
    pub url: String,
    /// The language.
    pub language: Language,
    /// Where numbers are.
    pub layout: Layout,
    /// What a counter's points are.
    pub counters: Counters,
    /// What is common to all sources of buckets.
    pub setting: Setting,
}

impl Config {
    /// Refuses what cannot work, and says what to mend.
    pub fn check(&self) -> Result<(), Error> {
        let refused = |why: String| Error::Config(Text::new(format!("influxdb: {why}")));
        base(&self.url).map_err(refused)?;
        self.setting.check().map_err(refused)?;
        let named = match &self.layout {
            Layout::Measurement { counter, gauge } => vec![counter, gauge],
            Layout::Field { measurement } => vec![measurement],
        };
        let arms = self.setting.services.values();
        let labels = arms.flat_map(|arms| arms.control.keys().chain(arms.canary.keys()).chain(&arms.pod_label));
        for name in named.into_iter().chain(labels) {
            checked(name)?;
        }
        Ok(())
    }
}

/// A provider that reads from InfluxDB. Fails on a configuration that cannot work.
pub fn start(config: Config, clock: Clock) -> Result<impl super::Provider, Error> {
    config.check()?;
    let url = base(&config.url).map_err(|why| Error::Config(Text::new(why)))?;
    let (path, secrets) = match &config.language {
        Language::InfluxQl { user, .. } => ("/query", user.iter().map(|(_, password)| password.clone()).collect()),
        Language::Flux { token, .. } => ("/api/v2/query", vec![token.clone()]),
    };
    let setting = &config.setting;
    let caller = Caller::new(setting.timeout, setting.queries_at_once, secrets, |_| Meaning::AsTheStatus)?;
    Ok(Reader::new(Influx { caller, url: at(&url, path), config }, clock))
}

struct Influx {
    caller: Caller,
    url: Url,
    config: Config,
}

impl Vendor for Influx {
    fn name(&self) -> &'static str {
        "influxdb"
    }

    fn setting(&self) -> &Setting {
        &self.config.setting
    }

    fn latencies(&self) -> Latencies {
        Latencies::Buckets
    }

    fn bears_all_labels(&self) -> bool {
        true
    }

    fn queries(&self) -> u64 {
        self.caller.calls()
    }

    fn read(&self, query: Query, within: Duration) -> BoxFuture<'_, Result<Vec<Series>, Error>> {
        async move {
            let wanted = Wanted::of(&query, &self.config)?;
            let body = self.caller.call(within, || self.request(&wanted)).await?;
            let shown = |said: &str| self.caller.without_secrets(said);
            let mut raw = match &self.config.language {
                Language::InfluxQl { .. } => influxql(&body, shown)?,
                Language::Flux { .. } => csv::read(&body, shown)?,
            };
            let pod_label = self.config.setting.services.get(&query.service).and_then(|arms| arms.pod_label.as_deref());
            let pod_of = |one: &Raw| pod_label.and_then(|label| one.labels.get(label).cloned());
            let is_before = |(at, _): &(Timestamp, f64)| *at < query.span.start;
            let known: BTreeSet<Option<String>> =
                raw.iter().filter(|one| one.points.iter().any(is_before)).map(pod_of).collect();
            raw.retain(|one| query.selector.accepts(&one.labels));
            let is_cumulative = query.what == What::Count && self.config.counters == Counters::Cumulative;
            let bucketed = |one: Raw| {
                let known = known.contains(&pod_of(&one));
                bucketed(one, &query, is_cumulative, known)
            };
            raw.into_iter().map(bucketed).collect()
        }
        .boxed()
    }
}

/// What is read: points of a field of a measurement whose tags are these.
struct Wanted<'a> {
    measurement: &'a str,
    field: &'a str,
    tags: BTreeMap<&'a str, &'a str>,
    from: Timestamp,
    to: Timestamp,
}

impl<'a> Wanted<'a> {
    fn of(query: &'a Query, config: &'a Config) -> Result<Self, Error> {
        let metric = checked(&query.selector.metric)?;
        let (measurement, field) = match (&config.layout, query.what) {
            (Layout::Measurement { counter, .. }, What::Count) => (metric, counter.as_str()),
            (Layout::Measurement { gauge, .. }, What::Mean) => (metric, gauge.as_str()),
            (Layout::Field { measurement }, What::Count | What::Mean) => (measurement.as_str(), metric),
            (_, What::Observations | What::Above(_)) => {
                return Err(malformed("InfluxDB tells latencies by counters of buckets, named with _bucket"));
            }
        };
        let arms = config.setting.services.get(&query.service);
        let mine = |label: &str| arms.is_some_and(|a| a.control.contains_key(label) || a.canary.contains_key(label));
        let tag = |Matcher { label, value }: &'a Matcher| match value {
            Match::Is(value) if mine(label) && !value.is_empty() => Some((label.as_str(), value.as_str())),
            Match::Is(_) | Match::IsNot(_) | Match::OneOf(_) | Match::StartsWith(_) => None,
        };
        // The arm's own labels come last, and a check's narrowing of the same label is compared on the answer.
        let tags = query.selector.matchers.iter().filter_map(tag).collect();
        let is_cumulative = query.what == What::Count && config.counters == Counters::Cumulative;
        let from = if is_cumulative { query.span.start - LOOKBACK } else { query.span.start };
        Ok(Self { measurement, field, tags, from, to: query.span.end })
    }

    fn influxql(&self) -> String {
        let tags: String =
            self.tags.iter().map(|(tag, value)| format!(" AND {} = {}", identifier(tag), literal(value))).collect();
        format!(
            "SELECT {} FROM {} WHERE time >= {}ms AND time < {}ms{tags} GROUP BY *",
            identifier(self.field),
            identifier(self.measurement),
            self.from.as_millis(),
            self.to.as_millis()
        )
    }

    fn flux(&self, bucket: &str) -> String {
        let equals = |(name, value): (&str, &str)| format!("r[{}] == {}", flux_string(name), flux_string(value));
        let ours = [("_measurement", self.measurement), ("_field", self.field)];
        let tags = self.tags.iter().map(|(tag, value)| (*tag, *value));
        let conditions: Vec<String> = ours.into_iter().chain(tags).map(equals).collect();
        format!(
            "from(bucket: {}) |> range(start: {}, stop: {}) |> filter(fn: (r) => {})",
            flux_string(bucket),
            self.from,
            self.to,
            conditions.join(" and ")
        )
    }
}

fn checked(name: &str) -> Result<&str, Error> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(malformed(format!("`{}` is no name in InfluxDB", Text::new(name))));
    }
    Ok(name)
}

/// A name as InfluxQL reads it: nothing in it ends the quotes.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// A value as InfluxQL reads it.
fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n"))
}

/// A text as Flux reads it: every byte that could end it, or begin an expression in it, is written as a number.
fn flux_string(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./: ".contains(&byte);
    let written = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("\\x{byte:02x}") };
    format!("\"{}\"", text.bytes().map(written).collect::<String>())
}

impl Influx {
    fn request(&self, wanted: &Wanted<'_>) -> Result<RequestBuilder, Error> {
        let mut url = self.url.clone();
        Ok(match &self.config.language {
            Language::InfluxQl { database, retention, user } => {
                let query = wanted.influxql();
                url.query_pairs_mut().append_pair("db", database).append_pair("epoch", "ms").append_pair("q", &query);
                if let Some(retention) = retention {
                    url.query_pairs_mut().append_pair("rp", retention);
                }
                let request = self.caller.client().get(url);
                match user {
                    Some((user, password)) => request.basic_auth(user, Some(password.expose_secret())),
                    None => request,
                }
            }
            Language::Flux { organisation, bucket, token } => {
                url.query_pairs_mut().append_pair("org", organisation);
                let no_token = |_| Error::Config(Text::new("influxdb: the token holds characters that no token has"));
                let header = format!("Token {}", token.expose_secret());
                let mut header = HeaderValue::from_str(&header).map_err(no_token)?;
                header.set_sensitive(true);
                let dialect = json!({"header": true, "delimiter": ",", "annotations": ["datatype", "default"]});
                let body = json!({"type": "flux", "query": wanted.flux(bucket), "dialect": dialect});
                self.caller.client().post(url).header("authorization", header).json(&body)
            }
        })
    }
}

#[derive(Deserialize)]
struct Answered {
    results: Vec<Outcome>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Outcome {
    #[serde(default)]
    series: Vec<Rows>,
    #[serde(default)]
    partial: bool,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Rows {
    #[serde(default)]
    tags: BTreeMap<String, String>,
    columns: Vec<String>,
    values: Vec<(u64, Option<f64>)>,
    #[serde(default)]
    partial: bool,
}

fn influxql(body: &[u8], shown: impl Fn(&str) -> String) -> Result<Vec<Raw>, Error> {
    let answered: Answered =
        serde_json::from_slice(body).map_err(|error| malformed(format!("the answer is not of its form: {error}")))?;
    if let Some(error) = answered.error.or_else(|| answered.results.iter().find_map(|one| one.error.clone())) {
        return Err(unavailable(shown(&error)));
    }
    let [outcome] = answered.results.as_slice() else {
        return Err(malformed("another number of results than of queries"));
    };
    if outcome.partial || outcome.series.iter().any(|rows| rows.partial) {
        return Err(unavailable("the answer is partial: there are more points than the server answers at once"));
    }
    let mut raw = Vec::new();
    for rows in &outcome.series {
        if rows.columns.len() != 2 || rows.columns.first().is_none_or(|column| column != "time") {
            return Err(malformed("other columns than a time and a value"));
        }
        let points = rows.values.iter().filter_map(|(at, value)| Some((Timestamp::from_millis(*at), (*value)?)));
        // A tag that a series does not bear is the empty value.
        let labels = rows.tags.clone().into_iter().filter(|(_, value)| !value.is_empty()).collect();
        raw.push(Raw { labels, points: points.collect() });
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a quoted text as the language does; `None` where it ends early or holds an expression.
    fn read_back(written: &str, quote: char) -> Option<String> {
        let inner = written.strip_prefix(quote)?.strip_suffix(quote)?;
        let (mut bytes, mut chars) = (Vec::new(), inner.chars().peekable());
        while let Some(c) = chars.next() {
            match c {
                c if c == quote => return None,
                '$' if quote == '"' && chars.peek() == Some(&'{') => return None,
                '\\' => match chars.next()? {
                    'n' => bytes.push(b'\n'),
                    'x' => {
                        let digits: String = [chars.next()?, chars.next()?].iter().collect();
                        bytes.push(u8::from_str_radix(&digits, 16).ok()?);
                    }
                    c if c == '\\' || c == quote => bytes.push(c as u8),
                    _ => return None,
                },
                '\n' => return None,
                c => bytes.extend(c.to_string().bytes()),
            }
        }
        String::from_utf8(bytes).ok()
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back_as_one_text(text in "[\\PC\\n\"'\\\\${}]{0,24}") {
            prop_assert_eq!(read_back(&literal(&text), '\''), Some(text.clone()));
            prop_assert_eq!(read_back(&flux_string(&text), '"'), Some(text.clone()));
            let is_plain = !flux_string(&text).contains("${");
            prop_assert!(is_plain);
            if !text.contains("${") {
                prop_assert_eq!(read_back(&identifier(&text), '"'), Some(text));
            }
        }

        #[test]
        fn no_answer_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (influxql(&body, str::to_owned), csv::read(&body, str::to_owned));
        }
    }

    #[test]
    fn queries_are_as_documented() {
        let wanted = Wanted {
            measurement: "http\"x",
            field: "count",
            tags: BTreeMap::from([("version", "a'b")]),
            from: Timestamp::from_millis(60_000),
            to: Timestamp::from_millis(120_000),
        };
        let influxql = "SELECT \"count\" FROM \"http\\\"x\" WHERE time >= 60000ms AND time < 120000ms \
                        AND \"version\" = 'a\\'b' GROUP BY *";
        assert_eq!(wanted.influxql(), influxql);
        assert_eq!(
            wanted.flux("b"),
            "from(bucket: \"b\") |> range(start: 1970-01-01T00:01:00.000Z, stop: 1970-01-01T00:02:00.000Z) |> \
             filter(fn: (r) => r[\"_measurement\"] == \"http\\x22x\" and r[\"_field\"] == \"count\" and \
             r[\"version\"] == \"a\\x27b\")"
        );
    }

    #[test]
    fn a_name_has_a_limit() {
        assert!(checked(&"x".repeat(NAME_BYTES_MAX)).is_ok());
        for wrong in ["", "a\nb", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert!(checked(wrong).is_err());
        }
    }
}
