//! New Relic: NRQL through NerdGraph, its GraphQL API.
//!
//! Metrics are dimensional (`FROM Metric`): counts, gauges and distributions. A bucket in which nothing was recorded is
//! told from a zero by counting its points beside it. The slow ones of a latency are all observations of a distribution
//! less those that `getCdfCount` finds at or below the threshold.
//!
//! # What is never query syntax
//! The query is a variable of the GraphQL document. In it names stand in backticks, and what could end them is refused;
//! values of letters, digits and a few marks stand in quotes, and all others are patterns that write every character as
//! its number, which means no other value.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use reqwest::{Url, header::HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Clock, Error,
    buckets::{Latencies, Query, Reader, Series, Setting, Vendor, What, from_seconds},
    call::{Caller, Meaning, base, malformed, refused, unavailable},
    datadog::decimal,
};
use crate::domain::{Match, Matcher, Text};

/// How long New Relic's data are waited for, where nothing else is set.
pub const SETTLE: Duration = Duration::from_secs(60);
/// Longest name of a metric or attribute, as New Relic has it.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest value of an attribute.
pub const VALUE_BYTES_MAX: usize = 4_096;

const DOCUMENT: &str = "query($account: Int!, $nrql: Nrql!, $timeout: Seconds) { actor { account(id: $account) { \
                        nrql(query: $nrql, timeout: $timeout) { results } } } }";

/// How New Relic is reached, and what is read there.
#[derive(Clone, Debug)]
pub struct Config {
    /// NerdGraph's address: `https://api.newrelic.com/graphql`, or `https://api.eu.newrelic.com/graphql`.
    pub url: String,
    /// The account's number.
    pub account: u64,
    /// A user key.
    pub api_key: SecretString,
    /// What is common to all sources of buckets.
    pub setting: Setting,
}

impl Config {
    /// Refuses what cannot work, and says what to mend.
    pub fn check(&self) -> Result<(), Error> {
        let refused = |why: String| Error::Config(Text::new(format!("newrelic: {why}")));
        base(&self.url).map_err(refused)?;
        self.setting.check().map_err(refused)?;
        header(&self.api_key)?;
        for arms in self.setting.services.values() {
            for label in arms.control.keys().chain(arms.canary.keys()).chain(&arms.pod_label) {
                identifier(label)?;
            }
        }
        Ok(())
    }
}

/// A provider that reads from New Relic. Fails on a configuration that cannot work.
pub fn start(config: Config, clock: Clock) -> Result<impl super::Provider, Error> {
    config.check()?;
    let url = base(&config.url).map_err(|why| Error::Config(Text::new(why)))?;
    let setting = &config.setting;
    let secrets = vec![config.api_key.clone()];
    let caller = Caller::new(setting.timeout, setting.queries_at_once, secrets, |_| Meaning::AsTheStatus)?;
    Ok(Reader::new(NewRelic { caller, url, key: header(&config.api_key)?, config }, clock))
}

fn header(secret: &SecretString) -> Result<HeaderValue, Error> {
    let refused = |_| Error::Config(Text::new("newrelic: the key holds characters that no key has"));
    let mut value = HeaderValue::from_str(secret.expose_secret()).map_err(refused)?;
    value.set_sensitive(true);
    Ok(value)
}

struct NewRelic {
    caller: Caller,
    url: Url,
    key: HeaderValue,
    config: Config,
}

impl Vendor for NewRelic {
    fn name(&self) -> &'static str {
        "newrelic"
    }

    fn setting(&self) -> &Setting {
        &self.config.setting
    }

    fn latencies(&self) -> Latencies {
        Latencies::Threshold
    }

    fn queries(&self) -> u64 {
        self.caller.calls()
    }

    fn read(&self, query: Query, within: Duration) -> BoxFuture<'_, Result<Vec<Series>, Error>> {
        async move {
            let timeout = self.config.setting.timeout.as_secs().max(1);
            let variables = json!({"account": self.config.account, "nrql": compiled(&query)?, "timeout": timeout});
            let body = json!({"query": DOCUMENT, "variables": variables});
            let request = || Ok(self.caller.client().post(self.url.clone()).header("API-Key", &self.key).json(&body));
            let answer = self.caller.call(within, request).await?;
            read(&answer, query.by.first(), |said| self.caller.without_secrets(said))
        }
        .boxed()
    }
}

/// The query in NRQL.
fn compiled(query: &Query) -> Result<String, Error> {
    let metric = identifier(&query.selector.metric)?;
    let number = match query.what {
        What::Count => format!("sum({metric})"),
        What::Mean => format!("average({metric})"),
        What::Observations => format!("count({metric})"),
        What::Above(edge) => format!("count({metric}) - getCdfCount({metric}, {})", decimal(edge)?),
    };
    let mut conditions = vec![format!("metricName = {}", quoted(&query.selector.metric)?)];
    for matcher in &query.selector.matchers {
        conditions.push(condition(matcher)?);
    }
    let facet = match query.by.as_slice() {
        [] => String::new(),
        [by] => format!(" FACET {} LIMIT MAX", identifier(by)?),
        [_, ..] => return Err(malformed("New Relic is asked by one label at a time")),
    };
    Ok(format!(
        "SELECT {number} AS 'n', count({metric}) AS 'points' FROM Metric WHERE {} SINCE {} UNTIL {} TIMESERIES {} \
         SECONDS{facet}",
        conditions.join(" AND "),
        query.span.start.as_millis(),
        query.span.end.as_millis(),
        query.step.as_secs()
    ))
}

fn identifier(name: &str) -> Result<String, Error> {
    let is_odd = |c: char| c.is_control() || matches!(c, '`' | '\\');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(is_odd) {
        return Err(malformed(format!("`{}` is no name in New Relic", Text::new(name))));
    }
    Ok(format!("`{name}`"))
}

fn quoted(name: &str) -> Result<String, Error> {
    if is_plain(name) { Ok(format!("'{name}'")) } else { Err(malformed("the metric's name holds odd characters")) }
}

/// Whether a value can stand in quotes as it is.
fn is_plain(value: &str) -> bool {
    value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '@' | ' '))
}

/// A pattern that only this text matches: each character by its number.
fn pattern(text: &str) -> String {
    let written = |c: char| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\x{{{:x}}}", c as u32) };
    text.chars().map(written).collect()
}

/// A condition. A label that is not there is the empty value.
fn condition(Matcher { label, value }: &Matcher) -> Result<String, Error> {
    let name = identifier(label)?;
    let is = |value: &str| {
        if value.len() > VALUE_BYTES_MAX {
            return Err(malformed(format!("a value of {} is too long", Text::new(label))));
        }
        Ok(match value {
            "" => format!("({name} IS NULL OR {name} = '')"),
            value if is_plain(value) => format!("{name} = '{value}'"),
            value => format!("{name} RLIKE r'^{}$'", pattern(value)),
        })
    };
    Ok(match value {
        Match::Is(value) => is(value)?,
        Match::IsNot(value) if value.is_empty() => format!("({name} IS NOT NULL AND {name} != '')"),
        Match::IsNot(value) => format!("({name} IS NULL OR NOT ({}))", is(value)?),
        Match::OneOf(values) if values.is_empty() => {
            return Err(malformed(format!("no value is accepted for {}", Text::new(label))));
        }
        Match::OneOf(values) => {
            let any: Result<Vec<_>, _> = values.iter().map(|value| is(value)).collect();
            format!("({})", any?.join(" OR "))
        }
        Match::StartsWith(prefix) if prefix.len() > VALUE_BYTES_MAX => {
            return Err(malformed(format!("a value of {} is too long", Text::new(label))));
        }
        Match::StartsWith(prefix) => format!("{name} RLIKE r'^{}.*'", pattern(prefix)),
    })
}

#[derive(Deserialize)]
struct Answered {
    data: Option<Value>,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(default)]
    message: String,
    #[serde(default)]
    extensions: Extensions,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Extensions {
    error_class: Option<String>,
}

fn read(body: &[u8], by: Option<&String>, shown: impl Fn(&str) -> String) -> Result<Vec<Series>, Error> {
    let answered: Answered =
        serde_json::from_slice(body).map_err(|error| malformed(format!("the answer is not of its form: {error}")))?;
    // Errors beside data mean that not all of it is there.
    if let Some(Fault { message, extensions }) = answered.errors.first() {
        let class = extensions.error_class.as_deref().unwrap_or_default();
        return Err(match class {
            "UNAUTHORIZED" | "ACCESS_DENIED" | "FORBIDDEN" => refused(&shown(message)),
            "TOO_MANY_REQUESTS" => unavailable(format!("too many requests: {}", shown(message))),
            _ => unavailable(format!("the answer is not whole: {}", shown(message))),
        });
    }
    let results = answered.data.as_ref().and_then(|data| data.pointer("/actor/account/nrql/results")?.as_array());
    let results = results.ok_or_else(|| malformed("the answer holds no results"))?;
    let mut series: BTreeMap<String, Series> = BTreeMap::new();
    for result in results {
        let result = result.as_object().ok_or_else(|| malformed("a result is no object"))?;
        let number = |name: &str| number(result, name);
        let begin =
            number("beginTimeSeconds")?.and_then(from_seconds).ok_or_else(|| malformed("a bucket at no time"))?;
        let points = number("points")?.ok_or_else(|| malformed("a bucket without the count of its points"))?;
        let value = number("n")?.filter(|_| points > 0.0);
        let facet = by.map(|_| facet(result)).unwrap_or_default();
        let labels = by.map(|by| (by.clone(), facet.clone())).into_iter().collect();
        let one = series.entry(facet).or_insert_with(|| Series { labels, points: Vec::new() });
        one.points.push((begin, value));
    }
    Ok(series.into_values().collect())
}

/// A number of a result; `None` where it is null or not there.
fn number(result: &Map<String, Value>, name: &str) -> Result<Option<f64>, Error> {
    match result.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => Ok(number.as_f64()),
        Some(_) => Err(malformed(format!("{name} is no number"))),
    }
}

/// The value a result is grouped by: a text, or a list of one.
fn facet(result: &Map<String, Value>) -> String {
    let of = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    match result.get("facet") {
        Some(Value::Array(list)) => list.first().map(of).unwrap_or_default(),
        Some(value) => of(value),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::{Arm, Selector, ServiceName, Timestamp},
        telemetry::buckets::Span,
    };

    fn nrql(selector: Selector, what: What, by: &[&str]) -> Result<String, Error> {
        compiled(&Query {
            service: ServiceName::new("shop"),
            arm: Arm::Canary,
            revision: "abc".into(),
            selector,
            what,
            by: by.iter().map(|label| (*label).to_owned()).collect(),
            span: Span { start: Timestamp::EPOCH, end: Timestamp::from_millis(60_000) },
            step: Duration::from_secs(60),
        })
    }

    #[test]
    fn selectors_become_nrql() {
        let selector = Selector::metric("http.requests")
            .with("version", Match::Is("abc".into()))
            .with("route", Match::IsNot("it's".into()))
            .with("code", Match::StartsWith("5".into()));
        assert_eq!(
            nrql(selector, What::Count, &["pod.name"]).unwrap(),
            "SELECT sum(`http.requests`) AS 'n', count(`http.requests`) AS 'points' FROM Metric WHERE metricName = \
             'http.requests' AND `version` = 'abc' AND (`route` IS NULL OR NOT (`route` RLIKE r'^it\\x{27}s$')) AND \
             `code` RLIKE r'^5.*' SINCE 0 UNTIL 60000 TIMESERIES 60 SECONDS FACET `pod.name` LIMIT MAX"
        );
        let slow = nrql(Selector::metric("took"), What::Above(0.5), &[]).unwrap();
        assert!(slow.starts_with("SELECT count(`took`) - getCdfCount(`took`, 0.5) AS 'n'"), "{slow}");
    }

    #[test]
    fn names_and_values_have_limits() {
        let named = |n: usize| nrql(Selector::metric("x".repeat(n)), What::Count, &[]);
        assert!(named(NAME_BYTES_MAX).is_ok() && named(NAME_BYTES_MAX + 1).is_err() && named(0).is_err());
        let valued = |n: usize| nrql(Selector::metric("m").with("l", Match::Is("x".repeat(n))), What::Count, &[]);
        assert!(valued(VALUE_BYTES_MAX).is_ok() && valued(VALUE_BYTES_MAX + 1).is_err());
        assert!(nrql(Selector::metric("m").with("l`", Match::Is("x".into())), What::Count, &[]).is_err());
        assert!(nrql(Selector::metric("m").with("l", Match::OneOf(Vec::new())), What::Count, &[]).is_err());
    }

    proptest! {
        #[test]
        fn nothing_that_a_stranger_wrote_becomes_syntax(
            label in ".{1,8}", value in "[\\PC\\n'\\\\`\"]{0,24}", kind in 0..4,
        ) {
            let value = match kind {
                0 => Match::Is(value),
                1 => Match::IsNot(value),
                2 => Match::OneOf(vec![value.clone(), value]),
                _ => Match::StartsWith(value),
            };
            if let Ok(text) = condition(&Matcher { label: label.clone(), value }) {
                let rest = text.replace(&format!("`{label}`"), "L");
                let shape = regex::Regex::new(
                    r"^(\(?(L IS (NOT )?NULL (OR|AND) )?(NOT \()?\(?(L( IS NULL OR L)? !?= '[\w\-./:@ ]*'|L RLIKE r'\^([a-zA-Z0-9]|\\x\{[0-9a-f]+\})*(\$|\.\*)')\)*( OR )?)+$",
                ).unwrap();
                prop_assert!(shape.is_match(&rest), "{}", text);
            }
        }

        #[test]
        fn no_answer_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&body, None, str::to_owned).is_err());
        }
    }

    #[test]
    fn facets_are_series_and_a_bucket_without_points_is_none() {
        let body = json!({"data": {"actor": {"account": {"nrql": {"results": [
            {"beginTimeSeconds": 60, "endTimeSeconds": 120, "facet": "a", "host": "a", "n": 5.0, "points": 2},
            {"beginTimeSeconds": 60, "endTimeSeconds": 120, "facet": ["b"], "n": 0.0, "points": 0},
            {"beginTimeSeconds": 120, "endTimeSeconds": 180, "facet": "a", "n": 0, "points": 1}]}}}}});
        let series = read(body.to_string().as_bytes(), Some(&"host".to_owned()), str::to_owned).unwrap();
        let told: Vec<_> = series.iter().map(|one| (one.labels["host"].as_str(), one.points.clone())).collect();
        let at = |minute: u64| Timestamp::from_millis(minute * 60_000);
        assert_eq!(told, [("a", vec![(at(1), Some(5.0)), (at(2), Some(0.0))]), ("b", vec![(at(1), None)])]);
    }
}
