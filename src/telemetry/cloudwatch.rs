//! Amazon CloudWatch: `GetMetricData` by its JSON protocol, signed with Signature Version 4.
//!
//! A query without groups is a `MetricStat`, which names every dimension by its exact value; one value of several is as
//! many statistics, added up. A query by label is Metrics Insights with the exact set of dimensions as its schema. The
//! slow ones of a latency are the trimmed count above the threshold, `TC(0.5:)`, which needs a metric that was not put as
//! a statistic set; latencies cannot be told apart by label.
//!
//! # What is never query syntax
//! In a `MetricStat` names and values are JSON. In Metrics Insights names stand in double quotes and values in single ones,
//! and what holds a quote, a backslash or a control character is refused.

mod sign;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use reqwest::{RequestBuilder, Url};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

pub use self::sign::Credentials;
use super::{
    Clock, Error,
    buckets::{Latencies, Query, Reader, Series, Setting, Vendor, What, from_seconds},
    call::{Caller, Meaning, base, malformed, refused, unavailable},
    datadog::decimal,
};
use crate::domain::{Match, Matcher, Text};

/// How long CloudWatch's data are waited for, where nothing else is set.
pub const SETTLE: Duration = Duration::from_secs(120);
/// Most statistics of one query: what the values of several conditions multiply to.
pub const STATISTICS_MAX: usize = 50;
/// Most dimensions, as CloudWatch has it.
pub const DIMENSIONS_MAX: usize = 30;
/// Most pages of one answer.
pub const PAGES_MAX: usize = 10;
/// Longest name, as CloudWatch has it.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest value of a dimension, as CloudWatch has it.
pub const VALUE_BYTES_MAX: usize = 1_024;
const TARGET: &str = "GraniteServiceVersion20100801.GetMetricData";

/// In what a latency metric is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyUnit {
    /// Seconds, as of load balancers.
    Seconds,
    /// Milliseconds, as of Lambda and gateways.
    Milliseconds,
}

/// How CloudWatch is reached, and what is read there.
#[derive(Clone, Debug)]
pub struct Config {
    /// The endpoint, such as `https://monitoring.eu-central-1.amazonaws.com`.
    pub url: String,
    /// The region that requests are signed for.
    pub region: String,
    /// Who asks: an access key that may `cloudwatch:GetMetricData`.
    pub credentials: Credentials,
    /// The metrics' namespace, such as `AWS/ApplicationELB`.
    pub namespace: String,
    /// In what latencies are measured.
    pub latency_unit: LatencyUnit,
    /// What is common to all sources of buckets; the labels are dimensions, and all of a metric's must be named.
    pub setting: Setting,
}

impl Config {
    /// Refuses what cannot work, and says what to mend.
    pub fn check(&self) -> Result<(), Error> {
        let refused = |why: String| Error::Config(Text::new(format!("cloudwatch: {why}")));
        base(&self.url).map_err(refused)?;
        self.setting.check().map_err(refused)?;
        let is_region = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.region.is_empty() || !self.region.chars().all(is_region) {
            return Err(refused("the region is none, such as eu-central-1".into()));
        }
        if !self.credentials.are_plain() {
            return Err(refused("the access key or the session token holds characters that none has".into()));
        }
        name(&self.namespace)?;
        let step = self.setting.step.as_secs();
        if !step.is_multiple_of(60) && ![1, 5, 10, 20, 30].contains(&step) {
            return Err(refused("a bucket is to be 1, 5, 10, 20, 30 or a multiple of 60 seconds".into()));
        }
        for arms in self.setting.services.values() {
            for label in arms.control.keys().chain(arms.canary.keys()).chain(&arms.pod_label) {
                name(label)?;
            }
        }
        Ok(())
    }
}

/// A provider that reads from CloudWatch. Fails on a configuration that cannot work.
pub fn start(config: Config, clock: Clock) -> Result<impl super::Provider, Error> {
    config.check()?;
    let url = base(&config.url).map_err(|why| Error::Config(Text::new(why)))?;
    let setting = &config.setting;
    let secrets: Vec<SecretString> = config.credentials.secrets();
    let caller = Caller::new(setting.timeout, setting.queries_at_once, secrets, meaning)?;
    Ok(Reader::new(CloudWatch { caller, url, clock: clock.clone(), config }, clock))
}

/// CloudWatch says most things with status 400, and what it means in the body.
fn meaning(body: &[u8]) -> Meaning {
    #[derive(Deserialize)]
    struct Fault {
        #[serde(rename = "__type")]
        kind: String,
    }
    let Ok(Fault { kind }) = serde_json::from_slice(body) else { return Meaning::AsTheStatus };
    match kind.rsplit('#').next().unwrap_or_default() {
        "ExpiredTokenException"
        | "ExpiredToken"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "InvalidClientTokenId"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignatureException"
        | "AccessDeniedException"
        | "AccessDenied" => Meaning::Credentials,
        "ThrottlingException" | "Throttling" | "RequestLimitExceeded" | "LimitExceededException" => Meaning::Throttled,
        _ => Meaning::AsTheStatus,
    }
}

struct CloudWatch {
    caller: Caller,
    url: Url,
    clock: Clock,
    config: Config,
}

impl Vendor for CloudWatch {
    fn name(&self) -> &'static str {
        "cloudwatch"
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
            let body = body(&query, &self.config)?;
            let mut gathered = Gathered::default();
            let mut next: Option<String> = None;
            for _ in 0..PAGES_MAX {
                let mut page = body.clone();
                if let (Some(token), Value::Object(page)) = (&next, &mut page) {
                    page.insert("NextToken".into(), json!(token));
                }
                let page = page.to_string();
                let answer = self.caller.call(within, || self.request(&page)).await?;
                next = gathered.take_in(&answer, |said| self.caller.without_secrets(said))?;
                if next.is_none() {
                    return gathered.series(query.by.first());
                }
            }
            Err(unavailable(format!("the answer has more than {PAGES_MAX} pages")))
        }
        .boxed()
    }
}

impl CloudWatch {
    fn request(&self, body: &str) -> Result<RequestBuilder, Error> {
        let mut request = self.caller.client().post(self.url.clone()).body(body.to_owned());
        let headers = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", TARGET)];
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let (credentials, region) = (&self.config.credentials, &self.config.region);
        let signed = sign::headers(credentials, region, "monitoring", (self.clock)(), &self.url, &headers, body);
        for (name, value) in signed? {
            request = request.header(name, value);
        }
        Ok(request)
    }
}

fn name(name: &str) -> Result<&str, Error> {
    let is_odd = |c: char| c.is_control() || matches!(c, '"' | '\'' | '\\') || !c.is_ascii();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.starts_with(':') || name.contains(is_odd) {
        return Err(malformed(format!("`{}` is no name in CloudWatch", Text::new(name))));
    }
    Ok(name)
}

fn value<'a>(label: &str, value: &'a str) -> Result<&'a str, Error> {
    let is_odd = |c: char| c.is_control() || !c.is_ascii();
    if value.is_empty() || value.len() > VALUE_BYTES_MAX || value.contains(is_odd) {
        let why = format!("a value of {} is empty, too long or not ASCII: no dimension has it", Text::new(label));
        return Err(malformed(why));
    }
    Ok(value)
}

/// The exact values that each dimension may have.
fn dimensions(matchers: &[Matcher]) -> Result<BTreeMap<&str, BTreeSet<&str>>, Error> {
    let mut dimensions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for Matcher { label, value: wanted } in matchers {
        let accepted: BTreeSet<&str> = match wanted {
            Match::Is(one) => BTreeSet::from([value(label, one)?]),
            Match::OneOf(some) => some.iter().map(|one| value(label, one)).collect::<Result<_, _>>()?,
            Match::IsNot(_) | Match::StartsWith(_) => {
                let why = "CloudWatch finds metrics by the exact values of their dimensions";
                return Err(malformed(format!("{why}: list those of {} that are meant", Text::new(label))));
            }
        };
        let both = match dimensions.remove(name(label)?) {
            Some(before) => before.intersection(&accepted).copied().collect(),
            None => accepted,
        };
        if both.is_empty() {
            return Err(malformed(format!("no value of {} is accepted", Text::new(label))));
        }
        dimensions.insert(label, both);
    }
    if dimensions.len() > DIMENSIONS_MAX {
        return Err(malformed(format!("more than {DIMENSIONS_MAX} dimensions")));
    }
    Ok(dimensions)
}

fn body(query: &Query, config: &Config) -> Result<Value, Error> {
    let dimensions = dimensions(&query.selector.matchers)?;
    let period = query.step.as_secs();
    let queries = match query.by.as_slice() {
        [] => statistics(query, config, &dimensions)?,
        [by] => vec![json!({"Id": "q0", "Expression": insights(query, config, &dimensions, by)?, "Period": period})],
        [_, ..] => return Err(malformed("CloudWatch is asked by one label at a time")),
    };
    let seconds = |millis: u64| millis / 1_000;
    Ok(json!({
        "StartTime": seconds(query.span.start.as_millis()),
        "EndTime": seconds(query.span.end.as_millis()),
        "ScanBy": "TimestampAscending",
        "MetricDataQueries": queries,
    }))
}

/// A statistic for each combination of the dimensions' values.
fn statistics(
    query: &Query,
    config: &Config,
    dimensions: &BTreeMap<&str, BTreeSet<&str>>,
) -> Result<Vec<Value>, Error> {
    let metric = name(&query.selector.metric)?;
    let statistic = match query.what {
        What::Count => "Sum".to_owned(),
        What::Mean => "Average".to_owned(),
        What::Observations => "SampleCount".to_owned(),
        What::Above(seconds) => match config.latency_unit {
            LatencyUnit::Seconds => format!("TC({}:)", decimal(seconds)?),
            LatencyUnit::Milliseconds => format!("TC({}:)", decimal(seconds * 1_000.0)?),
        },
    };
    let mut combinations: Vec<Vec<Value>> = vec![Vec::new()];
    for (dimension, values) in dimensions {
        if combinations.len().saturating_mul(values.len()) > STATISTICS_MAX {
            return Err(malformed(format!("the conditions' values make more than {STATISTICS_MAX} statistics")));
        }
        combinations = combinations
            .iter()
            .flat_map(|so_far| {
                values
                    .iter()
                    .map(|value| so_far.iter().cloned().chain([json!({"Name": dimension, "Value": value})]).collect())
            })
            .collect();
    }
    let of = |(at, dimensions): (usize, Vec<Value>)| {
        let metric = json!({"Namespace": config.namespace, "MetricName": metric, "Dimensions": dimensions});
        json!({"Id": format!("q{at}"), "MetricStat": {"Metric": metric, "Period": query.step.as_secs(), "Stat": statistic}})
    };
    Ok(combinations.into_iter().enumerate().map(of).collect())
}

/// The query by a label, in Metrics Insights.
fn insights(
    query: &Query,
    config: &Config,
    dimensions: &BTreeMap<&str, BTreeSet<&str>>,
    by: &str,
) -> Result<String, Error> {
    let function = match query.what {
        What::Count => "SUM",
        What::Mean => "AVG",
        What::Observations => "COUNT",
        What::Above(_) => return Err(malformed("CloudWatch cannot tell latencies apart by a label")),
    };
    let (metric, by) = (name(&query.selector.metric)?, name(by)?);
    let schema: BTreeSet<&str> = dimensions.keys().copied().chain([by]).collect();
    let schema: String = schema.iter().map(|label| format!(", \"{label}\"")).collect();
    let mut conditions = Vec::new();
    for (label, values) in dimensions {
        let mut any = Vec::new();
        for value in values {
            if value.contains(['\'', '"', '\\']) {
                return Err(malformed(format!("a value of {label} holds a quote, which Metrics Insights cannot name")));
            }
            any.push(format!("\"{label}\" = '{value}'"));
        }
        conditions.push(if any.len() == 1 { any.concat() } else { format!("({})", any.join(" OR ")) });
    }
    let conditions = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let from = format!("SCHEMA(\"{}\"{schema})", config.namespace);
    Ok(format!("SELECT {function}(\"{metric}\") FROM {from}{conditions} GROUP BY \"{by}\""))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    metric_data_results: Vec<Outcome>,
    next_token: Option<String>,
    #[serde(default)]
    messages: Vec<Message>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    id: String,
    #[serde(default)]
    label: String,
    status_code: String,
    timestamps: Vec<f64>,
    values: Vec<f64>,
    #[serde(default)]
    messages: Vec<Message>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    #[serde(default)]
    code: String,
    #[serde(default)]
    value: String,
}

/// Points of a series: when, and how much.
type Points = Vec<(f64, f64)>;

/// What the pages so far held, by a series' query and label: whether it is whole, and its points.
#[derive(Default)]
struct Gathered(BTreeMap<(String, String), (bool, Points)>);

impl Gathered {
    /// Takes in a page, and says how the next one is asked for.
    fn take_in(&mut self, body: &[u8], shown: impl Fn(&str) -> String) -> Result<Option<String>, Error> {
        let page: Page = serde_json::from_slice(body)
            .map_err(|error| malformed(format!("the answer is not of its form: {error}")))?;
        let results = page.metric_data_results;
        if let Some(Message { code, value }) =
            page.messages.iter().chain(results.iter().flat_map(|result| &result.messages)).next()
        {
            return Err(unavailable(format!("the answer may not be whole: {}", shown(&format!("{code}: {value}")))));
        }
        for Outcome { id, label, status_code, timestamps, values, .. } in results {
            let is_whole = match status_code.as_str() {
                "Complete" => true,
                "PartialData" => false,
                "Forbidden" => return Err(refused("CloudWatch forbids this metric")),
                "InternalError" => return Err(unavailable("CloudWatch had an internal error")),
                _ => return Err(malformed(format!("a status {}", shown(&status_code)))),
            };
            if timestamps.len() != values.len() {
                return Err(malformed("not as many values as times"));
            }
            let (whole, points) = self.0.entry((id, label)).or_default();
            *whole = is_whole;
            points.extend(timestamps.into_iter().zip(values));
        }
        Ok(page.next_token.filter(|token| !token.is_empty()))
    }

    /// The series; those by a label are named by its value.
    fn series(self, by: Option<&String>) -> Result<Vec<Series>, Error> {
        let mut all = Vec::new();
        for ((_, label), (is_whole, points)) in self.0 {
            if !is_whole {
                return Err(unavailable("CloudWatch answered a part of the data"));
            }
            let points: Option<Vec<_>> =
                points.into_iter().map(|(at, value)| Some((from_seconds(at)?, Some(value)))).collect();
            let labels = by.map(|by| (by.clone(), label)).into_iter().collect();
            all.push(Series { labels, points: points.ok_or_else(|| malformed("a point at no time"))? });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::{Arm, Selector, ServiceName, Timestamp},
        telemetry::buckets::Span,
    };

    fn config() -> Config {
        Config {
            url: "https://monitoring.eu-central-1.amazonaws.com".into(),
            region: "eu-central-1".into(),
            credentials: Credentials::new("AKIDEXAMPLE", "secret".into(), None),
            namespace: "AWS/ApplicationELB".into(),
            latency_unit: LatencyUnit::Milliseconds,
            setting: Setting::default(),
        }
    }

    fn asked(selector: Selector, what: What, by: &[&str]) -> Result<Value, Error> {
        let query = Query {
            service: ServiceName::new("shop"),
            arm: Arm::Canary,
            revision: "abc".into(),
            selector,
            what,
            by: by.iter().map(|label| (*label).to_owned()).collect(),
            span: Span { start: Timestamp::EPOCH, end: Timestamp::from_millis(60_000) },
            step: Duration::from_secs(60),
        };
        body(&query, &config())
    }

    #[test]
    fn several_values_are_several_statistics() {
        let selector = Selector::metric("Latency")
            .with("TargetGroup", Match::Is("tg/1".into()))
            .with("Zone", Match::OneOf(vec!["a".into(), "b".into()]));
        let body = asked(selector, What::Above(0.25), &[]).unwrap();
        let queries = body["MetricDataQueries"].as_array().unwrap();
        assert_eq!(queries.len(), 2);
        assert_eq!(queries[1]["MetricStat"]["Stat"], "TC(250:)");
        let dimensions = &queries[1]["MetricStat"]["Metric"]["Dimensions"];
        assert_eq!(*dimensions, json!([{"Name": "TargetGroup", "Value": "tg/1"}, {"Name": "Zone", "Value": "b"}]));
        let many = |n: usize| Selector::metric("m").with("d", Match::OneOf((0..n).map(|i| i.to_string()).collect()));
        assert!(asked(many(STATISTICS_MAX), What::Count, &[]).is_ok());
        assert!(asked(many(STATISTICS_MAX + 1), What::Count, &[]).is_err());
    }

    #[test]
    fn a_group_is_metrics_insights_with_the_exact_schema() {
        let selector = Selector::metric("RequestCount").with("TargetGroup", Match::Is("tg/1".into()));
        let body = asked(selector.clone(), What::Count, &["Zone"]).unwrap();
        assert_eq!(
            body["MetricDataQueries"][0]["Expression"],
            "SELECT SUM(\"RequestCount\") FROM SCHEMA(\"AWS/ApplicationELB\", \"TargetGroup\", \"Zone\") WHERE \
             \"TargetGroup\" = 'tg/1' GROUP BY \"Zone\""
        );
        assert!(asked(selector.clone(), What::Above(0.1), &["Zone"]).is_err());
        assert!(asked(selector, What::Count, &["Zone", "Az"]).is_err());
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let starts = Selector::metric("m").with("d", Match::StartsWith("a".into()));
        assert!(asked(starts, What::Count, &[]).unwrap_err().to_string().contains("exact values"));
        let both = Selector::metric("m").with("d", Match::Is("a".into())).with("d", Match::Is("b".into()));
        assert!(asked(both, What::Count, &[]).is_err());
        let long = |n: usize| asked(Selector::metric("m").with("d", Match::Is("x".repeat(n))), What::Count, &[]);
        assert!(long(VALUE_BYTES_MAX).is_ok() && long(VALUE_BYTES_MAX + 1).is_err());
        let named = |n: usize| asked(Selector::metric("x".repeat(n)), What::Count, &[]);
        assert!(named(NAME_BYTES_MAX).is_ok() && named(NAME_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn a_configuration_that_cannot_work_is_refused() {
        let stepped = |seconds| Setting {
            step: Duration::from_secs(seconds),
            timeout: Duration::from_secs(1),
            queries_at_once: 1,
            ..Setting::default()
        };
        let checked = |step| Config { setting: stepped(step), ..config() }.check();
        assert!(checked(60).is_ok() && checked(10).is_ok() && checked(45).is_err());
        let odd = Config { region: "eu/../x".into(), setting: stepped(60), ..config() };
        assert!(odd.check().is_err());
    }

    proptest! {
        #[test]
        fn nothing_that_a_stranger_wrote_becomes_syntax(
            metric in ".{1,8}", label in ".{1,8}", value in ".{1,24}", by in ".{1,8}",
        ) {
            let selector = Selector::metric(metric.clone()).with(label.clone(), Match::Is(value.clone()));
            if let Ok(body) = asked(selector, What::Count, &[&by]) {
                let text = body["MetricDataQueries"][0]["Expression"].as_str().unwrap();
                // Outside of quotes there is nothing but ours.
                let mut quotes = BTreeMap::from([('"', 0), ('\'', 0)]);
                text.chars().for_each(|c| if let Some(n) = quotes.get_mut(&c) { *n += 1; });
                let labels = if label == by { 1 } else { 2 };
                prop_assert_eq!(quotes[&'\''], 2);
                prop_assert_eq!(quotes[&'"'], 2 * (4 + labels));
                prop_assert!(!text.contains('\\'));
            }
        }
    }
}
