//! Datadog: `GET /api/v1/query`, whose answer is one list of points for each group.
//!
//! Counters are counts, rates or distributions' counts, read with `as_count()` and an explicit `rollup`, so that a bucket
//! holds what was counted in it. Latencies are distributions with threshold queries (`count(v: v>0.5):...`), which need
//! "advanced query functionality" to be enabled on the metric.
//!
//! # What is never query syntax
//! Datadog's filters know no quotes, so a value is written as Datadog stores tags: in lower case, with an underscore for
//! every character that a tag cannot hold. Names that are not of a name's form are refused.

use std::time::Duration;

use futures_util::{FutureExt, future::BoxFuture};
use reqwest::{Url, header::HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    Clock, Error,
    buckets::{Latencies, Query, Reader, Series, Setting, Vendor, What, from_seconds},
    call::{Caller, Meaning, at, base, malformed, unavailable},
};
use crate::domain::{Match, Matcher, Text};

/// How long Datadog's data are waited for, where nothing else is set.
pub const SETTLE: Duration = Duration::from_secs(60);
/// Longest name of a metric or tag.
pub const NAME_BYTES_MAX: usize = 200;
/// Longest tag, and so longest value of one.
pub const TAG_BYTES_MAX: usize = 200;

/// How Datadog is reached, and what is read there.
#[derive(Clone, Debug)]
pub struct Config {
    /// The API's address, such as `https://api.datadoghq.eu`.
    pub url: String,
    /// The API key.
    pub api_key: SecretString,
    /// The application key, with the right `timeseries_query`.
    pub application_key: SecretString,
    /// What is common to all sources of buckets.
    pub setting: Setting,
}

impl Config {
    /// Refuses what cannot work, and says what to mend.
    pub fn check(&self) -> Result<(), Error> {
        let refused = |why: String| Error::Config(Text::new(format!("datadog: {why}")));
        base(&self.url).map_err(refused)?;
        self.setting.check().map_err(refused)?;
        header(&self.api_key)?;
        header(&self.application_key)?;
        for arms in self.setting.services.values() {
            for label in arms.control.keys().chain(arms.canary.keys()).chain(&arms.pod_label) {
                tag_name(label)?;
            }
        }
        Ok(())
    }
}

/// A provider that reads from Datadog. Fails on a configuration that cannot work.
pub fn start(config: Config, clock: Clock) -> Result<impl super::Provider, Error> {
    config.check()?;
    let url = base(&config.url).map_err(|why| Error::Config(Text::new(why)))?;
    let secrets = vec![config.api_key.clone(), config.application_key.clone()];
    let caller =
        Caller::new(config.setting.timeout, config.setting.queries_at_once, secrets, |_| Meaning::AsTheStatus)?;
    let keys = [header(&config.api_key)?, header(&config.application_key)?];
    Ok(Reader::new(Datadog { caller, url: at(&url, "/api/v1/query"), keys, setting: config.setting }, clock))
}

fn header(secret: &SecretString) -> Result<HeaderValue, Error> {
    let refused = |_| Error::Config(Text::new("datadog: a key holds characters that no key has"));
    let mut value = HeaderValue::from_str(secret.expose_secret()).map_err(refused)?;
    value.set_sensitive(true);
    Ok(value)
}

struct Datadog {
    caller: Caller,
    url: Url,
    keys: [HeaderValue; 2],
    setting: Setting,
}

impl Vendor for Datadog {
    fn name(&self) -> &'static str {
        "datadog"
    }

    fn setting(&self) -> &Setting {
        &self.setting
    }

    fn latencies(&self) -> Latencies {
        Latencies::Threshold
    }

    fn queries(&self) -> u64 {
        self.caller.calls()
    }

    fn read(&self, query: Query, within: Duration) -> BoxFuture<'_, Result<Vec<Series>, Error>> {
        async move {
            let mut url = self.url.clone();
            let seconds = |millis: u64| (millis / 1_000).to_string();
            url.query_pairs_mut()
                .append_pair("from", &seconds(query.span.start.as_millis()))
                .append_pair("to", &seconds(query.span.end.as_millis()))
                .append_pair("query", &compiled(&query)?);
            let [api_key, application_key] = &self.keys;
            let request = || {
                let request = self.caller.client().get(url.clone());
                Ok(request.header("DD-API-KEY", api_key).header("DD-APPLICATION-KEY", application_key))
            };
            let body = self.caller.call(within, request).await?;
            read(&body, &query.by, |said| self.caller.without_secrets(said))
        }
        .boxed()
    }
}

/// The query in Datadog's language.
fn compiled(query: &Query) -> Result<String, Error> {
    let metric = metric_name(&query.selector.metric)?;
    let mut filters = Vec::new();
    for matcher in &query.selector.matchers {
        filters.push(filter(matcher)?);
    }
    let filters = if filters.is_empty() { "*".to_owned() } else { filters.join(" AND ") };
    let mut by = Vec::new();
    for label in &query.by {
        by.push(tag_name(label)?);
    }
    let by = if by.is_empty() { String::new() } else { format!(" by {{{}}}", by.join(",")) };
    let step = query.step.as_secs();
    Ok(match query.what {
        What::Count => format!("sum:{metric}{{{filters}}}{by}.as_count().rollup(sum, {step})"),
        What::Observations => format!("count:{metric}{{{filters}}}{by}.as_count().rollup(sum, {step})"),
        What::Above(edge) => {
            let edge = decimal(edge)?;
            format!("count(v: v>{edge}):{metric}{{{filters}}}{by}.as_count().rollup(sum, {step})")
        }
        What::Mean => format!("avg:{metric}{{{filters}}}{by}.rollup(avg, {step})"),
    })
}

/// A number as no language takes for anything else.
pub(super) fn decimal(number: f64) -> Result<String, Error> {
    if number.is_finite() && number >= 0.0 {
        Ok(format!("{number}"))
    } else {
        Err(malformed("a threshold is no number"))
    }
}

fn filter(Matcher { label, value }: &Matcher) -> Result<String, Error> {
    let tag = tag_name(label)?;
    Ok(match value {
        Match::Is(value) => format!("{tag}:{}", tag_value(label, value)?),
        Match::IsNot(value) => format!("NOT {tag}:{}", tag_value(label, value)?),
        Match::OneOf(values) => {
            let values: Result<Vec<_>, _> = values.iter().map(|value| tag_value(label, value)).collect();
            let values = values?;
            if values.is_empty() {
                return Err(malformed(format!("no value is accepted for {}", Text::new(label))));
            }
            format!("{tag} IN ({})", values.join(", "))
        }
        Match::StartsWith(prefix) => format!("{tag}:{}*", tag_value(label, prefix)?),
    })
}

fn metric_name(name: &str) -> Result<&str, Error> {
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
    if is_name && name.len() <= NAME_BYTES_MAX {
        return Ok(name);
    }
    Err(malformed(format!("`{}` is no name of a Datadog metric", Text::new(name))))
}

fn tag_name(name: &str) -> Result<&str, Error> {
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/'));
    let is_word = ["and", "or", "not", "in", "by"].contains(&name.to_ascii_lowercase().as_str());
    if is_name && !is_word && name.len() <= NAME_BYTES_MAX {
        return Ok(name);
    }
    Err(malformed(format!("`{}` is no name of a Datadog tag", Text::new(name))))
}

/// A value as Datadog stores it. The empty value is none that a filter can name.
fn tag_value(label: &str, value: &str) -> Result<String, Error> {
    let stored = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '.' | '/') => c,
        _ => '_',
    };
    if value.is_empty() || !value.is_ascii() || value.len() > TAG_BYTES_MAX {
        let why = format!("a value of {} is empty, too long or not ASCII: Datadog has no such tag", Text::new(label));
        return Err(malformed(why));
    }
    Ok(value.chars().map(stored).collect())
}

/// What Datadog answers, as far as it is read.
#[derive(Deserialize)]
struct Answered {
    status: Option<String>,
    error: Option<String>,
    errors: Option<Vec<String>>,
    res_type: Option<String>,
    series: Option<Vec<Points>>,
}

#[derive(Deserialize)]
struct Points {
    #[serde(default)]
    tag_set: Vec<String>,
    pointlist: Vec<(f64, Option<f64>)>,
}

fn read(body: &[u8], by: &[String], shown: impl Fn(&str) -> String) -> Result<Vec<Series>, Error> {
    let answered: Answered =
        serde_json::from_slice(body).map_err(|error| malformed(format!("the answer is not of its form: {error}")))?;
    let errors = answered.errors.unwrap_or_default();
    let error = answered.error.into_iter().chain(errors).find(|error| !error.is_empty());
    if let Some(error) = error {
        return Err(unavailable(shown(&error)));
    }
    match (answered.status.as_deref(), answered.res_type.as_deref(), answered.series) {
        (Some("ok"), Some("time_series"), Some(series)) => series.into_iter().map(|one| one.series(by)).collect(),
        (Some("ok"), ..) => Err(malformed("the answer holds no series")),
        (Some(status), ..) => Err(unavailable(format!("the answer is not whole: status {}", shown(status)))),
        (None, ..) => Err(malformed("the answer has no status")),
    }
}

impl Points {
    fn series(self, by: &[String]) -> Result<Series, Error> {
        let mut labels = std::collections::BTreeMap::new();
        for label in by {
            let value = self.tag_set.iter().find_map(|tag| tag.strip_prefix(label.as_str())?.strip_prefix(':'));
            // What bears no such tag is told as `N/A`.
            let value = value.filter(|value| *value != "N/A").unwrap_or_default();
            labels.insert(label.clone(), value.to_owned());
        }
        let mut points = Vec::new();
        for (millis, value) in self.pointlist {
            points.push((from_seconds(millis / 1_000.0).ok_or_else(|| malformed("a point at no time"))?, value));
        }
        Ok(Series { labels, points })
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

    fn query(selector: Selector, what: What, by: &[&str]) -> Query {
        Query {
            service: ServiceName::new("shop"),
            arm: Arm::Canary,
            revision: "abc".into(),
            selector,
            what,
            by: by.iter().map(|label| (*label).to_owned()).collect(),
            span: Span { start: Timestamp::EPOCH, end: Timestamp::from_millis(60_000) },
            step: Duration::from_secs(60),
        }
    }

    #[test]
    fn selectors_become_queries() {
        let hits = Selector::metric("http.requests")
            .with("version", Match::Is("ABC".into()))
            .with("route", Match::IsNot("/health z".into()))
            .with("code", Match::OneOf(vec!["500".into(), "503".into()]))
            .with("env", Match::StartsWith("prod".into()));
        let filters = "version:abc AND NOT route:/health_z AND code IN (500, 503) AND env:prod*";
        let told = |what, by: &[&str]| compiled(&query(hits.clone(), what, by)).unwrap();
        assert_eq!(
            told(What::Count, &["pod_name"]),
            format!("sum:http.requests{{{filters}}} by {{pod_name}}.as_count().rollup(sum, 60)")
        );
        assert_eq!(
            told(What::Above(0.25), &[]),
            format!("count(v: v>0.25):http.requests{{{filters}}}.as_count().rollup(sum, 60)")
        );
        let all = compiled(&query(Selector::metric("load"), What::Mean, &[])).unwrap();
        assert_eq!(all, "avg:load{*}.rollup(avg, 60)");
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let refused = |selector: Selector| compiled(&query(selector, What::Count, &[])).is_err();
        assert!(refused(Selector::metric("a{*}")) && refused(Selector::metric("")));
        assert!(refused(Selector::metric("a").with("NOT", Match::Is("x".into()))));
        assert!(refused(Selector::metric("a").with("b", Match::Is(String::new()))));
        assert!(refused(Selector::metric("a").with("b", Match::OneOf(Vec::new()))));
        let long = |n| refused(Selector::metric("a").with("b", Match::Is("x".repeat(n))));
        assert!(!long(TAG_BYTES_MAX) && long(TAG_BYTES_MAX + 1));
        let name = |n| refused(Selector::metric("x".repeat(n)));
        assert!(!name(NAME_BYTES_MAX) && name(NAME_BYTES_MAX + 1));
        assert!(compiled(&query(Selector::metric("a"), What::Above(f64::NAN), &[])).is_err());
    }

    proptest! {
        #[test]
        fn nothing_that_a_stranger_wrote_becomes_syntax(
            metric in ".{0,12}", label in ".{0,12}", value in ".{0,24}", by in ".{0,8}", starts in any::<bool>(),
        ) {
            let value = if starts { Match::StartsWith(value) } else { Match::Is(value) };
            let selector = Selector::metric(metric).with(label, value);
            if let Ok(text) = compiled(&query(selector, What::Count, &[&by])) {
                let shape = regex::Regex::new(
                    r"^sum:[a-zA-Z][\w.]*\{[a-zA-Z][\w./-]*:[a-z0-9_:./-]+\*?\} by \{[a-zA-Z][\w./-]*\}\.as_count\(\)\.rollup\(sum, 60\)$",
                ).unwrap();
                prop_assert!(shape.is_match(&text), "{}", text);
            }
        }

        #[test]
        fn no_answer_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&body, &[], str::to_owned).is_err());
        }
    }

    #[test]
    fn groups_are_read_by_their_tags() {
        let body = br#"{"status":"ok","res_type":"time_series","series":[
            {"tag_set":["route:/a:b"],"pointlist":[[60000.0,1.5],[120000.0,null]]},{"tag_set":["route:N/A"],"pointlist":[]}]}"#;
        let series = read(body, &["route".into()], str::to_owned).unwrap();
        assert_eq!(series[0].labels["route"], "/a:b");
        assert_eq!(
            series[0].points,
            [(60_000, Some(1.5)), (120_000, None)].map(|(at, v)| (Timestamp::from_millis(at), v))
        );
        assert_eq!(series[1].labels["route"], "");
    }
}
