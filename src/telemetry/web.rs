//! Any JSON endpoint: a number of an answer, found by JSONPath (RFC 9535), for sources that nothing else reads.
//!
//! The operator writes, for each service and metric, where it is asked and which number of the answer is meant; an SLI
//! names metrics as everywhere. Nothing that a model or a stranger writes gets into an address but the arm's revision,
//! encoded. An endpoint has no labels, so an SLI that is narrowed, and a mix, cannot be read from it, and say so.
//!
//! # Cumulative numbers
//! An endpoint that takes a time is asked for the number at both ends of the window. One that does not is read once a
//! window, when the window has ended; the difference to the reading before is the window's, so that between two readings
//! nothing is lost or counted twice. The first reading is where counting starts. Several buckets between two readings
//! share what was gained evenly. A number that fell began again at zero.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use serde_json_path::JsonPath;

use super::{
    Clock, Error,
    buckets::{Arms, Latencies, Query, Reader, Series, Setting, Span, Vendor, What},
    call::{Caller, Meaning, base, malformed},
};
use crate::domain::{Arm, ServiceName, Text, Timestamp};

/// Most metrics of one service.
pub const METRICS_MAX: usize = 100;
/// Most headers of one metric.
pub const HEADERS_MAX: usize = 16;
/// Longest address.
pub const URL_BYTES_MAX: usize = 2_000;
/// Most buckets of one window: an endpoint is asked for each.
pub const BUCKETS_MAX: u64 = 10;
/// Most series whose last readings are kept; beyond it counting starts anew.
pub const KEPT_MAX: usize = 10_000;
/// Most readings that are kept of one series.
const READINGS_MAX: usize = 8;

/// What an endpoint's number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// What was counted from `{after}` to `{through}`.
    Window,
    /// What was counted since some beginning.
    Cumulative,
    /// What is now: a level.
    Now,
}

/// How `{after}` and `{through}` are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// As RFC 3339, in UTC.
    #[default]
    Rfc3339,
    /// As whole seconds since the epoch.
    Seconds,
    /// As milliseconds since the epoch.
    Milliseconds,
}

/// The slow ones of a latency.
#[derive(Clone, Debug, PartialEq)]
pub struct Slow {
    /// What the endpoint counts as slow: longer than this many seconds.
    pub above_seconds: f64,
    /// The JSONPath of their number.
    pub path: String,
}

/// Where one metric is read.
#[derive(Clone, Debug)]
pub struct Metric {
    /// The address, in which `{revision}`, `{arm}` (`control` or `canary`), `{after}` and `{through}` are filled in.
    pub url: String,
    /// Headers that are sent.
    pub headers: BTreeMap<String, SecretString>,
    /// The JSONPath of the number.
    pub path: String,
    /// The slow ones, where it is a latency; `path` is then the number of all.
    pub slow: Option<Slow>,
    /// What the number stands for.
    pub numbers: Numbers,
    /// How times are written.
    pub times: Times,
}

/// What is read, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// Each service's metrics by name.
    pub services: BTreeMap<ServiceName, BTreeMap<String, Metric>>,
    /// What is common to all sources of buckets; its services are left empty.
    pub setting: Setting,
}

impl Config {
    /// Refuses what cannot work, and says what to mend.
    pub fn check(&self) -> Result<(), Error> {
        self.ready().map(drop)
    }

    fn ready(&self) -> Result<BTreeMap<(ServiceName, String), Ready>, Error> {
        let refused = |why: String| Error::Config(Text::new(format!("web: {why}")));
        self.setting.check().map_err(refused)?;
        let mut all = BTreeMap::new();
        for (service, metrics) in &self.services {
            if metrics.len() > METRICS_MAX {
                return Err(refused(format!("service {service}: more than {METRICS_MAX} metrics")));
            }
            for (name, metric) in metrics {
                let ready =
                    metric.ready().map_err(|why| refused(format!("service {service}, {}: {why}", Text::new(name))))?;
                all.insert((service.clone(), name.clone()), ready);
            }
        }
        Ok(all)
    }
}

/// A metric whose paths and headers have been read.
struct Ready {
    metric: Metric,
    path: JsonPath,
    slow: Option<(f64, JsonPath)>,
    headers: HeaderMap,
}

impl Metric {
    fn ready(&self) -> Result<Ready, String> {
        let at = |revision: &str, arm, millis| {
            let (after, through) = (Timestamp::from_millis(millis), Timestamp::from_millis(millis * 2));
            self.address(revision, arm, Span { start: after, end: through })
        };
        let (one, other) = (at("a", Arm::Control, 1_000)?, at("b", Arm::Canary, 5_000)?);
        if one.origin() != other.origin() {
            return Err("the host is to be the same whatever is filled in".into());
        }
        if one == at("b", Arm::Canary, 1_000)? {
            return Err("control and canary are the same: write {revision} or {arm} in the address".into());
        }
        if self.numbers == Numbers::Window && !(self.url.contains("{after}") && self.url.contains("{through}")) {
            return Err("numbers of a window need {after} and {through} in the address".into());
        }
        if self.headers.len() > HEADERS_MAX {
            return Err(format!("more than {HEADERS_MAX} headers"));
        }
        let mut headers = HeaderMap::new();
        for (name, secret) in &self.headers {
            let odd = || format!("the header {} cannot be sent", Text::new(name));
            let name = HeaderName::try_from(name.as_str()).map_err(|_| odd())?;
            let mut value = HeaderValue::from_str(secret.expose_secret()).map_err(|_| odd())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let path = |path: &str| {
            JsonPath::parse(path).map_err(|error| format!("`{}` is no JSONPath: {error}", Text::new(path)))
        };
        let slow = self.slow.as_ref().map(|slow| Ok::<_, String>((slow.above_seconds, path(&slow.path)?)));
        Ok(Ready { path: path(&self.path)?, slow: slow.transpose()?, headers, metric: self.clone() })
    }

    /// Whether it can be asked for the number at a time.
    fn takes_a_time(&self) -> bool {
        self.url.contains("{through}")
    }

    fn address(&self, revision: &str, arm: Arm, span: Span) -> Result<Url, String> {
        if self.url.len() > URL_BYTES_MAX {
            return Err(format!("the address is longer than {URL_BYTES_MAX} bytes"));
        }
        let time = |time: Timestamp| match self.times {
            Times::Rfc3339 => time.to_string(),
            Times::Seconds => (time.as_millis() / 1_000).to_string(),
            Times::Milliseconds => time.as_millis().to_string(),
        };
        let fills = [
            ("{revision}", revision.to_owned()),
            ("{arm}", arm.to_string()),
            ("{after}", time(span.start)),
            ("{through}", time(span.end)),
        ];
        // What is filled in is encoded, so that it holds no brace that a later one could take for its own.
        let url = fills.iter().fold(self.url.clone(), |url, (place, value)| url.replace(place, &encoded(value)));
        if url.contains(['{', '}']) {
            return Err("the address holds braces that are none of {revision}, {arm}, {after} and {through}".into());
        }
        base(&url)
    }
}

/// Percent-encoded but for what is safe everywhere in an address.
fn encoded(text: &str) -> String {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|b| if is_safe(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// A provider that reads these endpoints. Fails on a configuration that cannot work.
pub fn start(config: Config, clock: Clock) -> Result<impl super::Provider, Error> {
    let ready = config.ready()?;
    let mut setting = config.setting;
    setting.services = config.services.keys().map(|service| (service.clone(), Arms::default())).collect();
    let secrets = ready.values().flat_map(|ready| ready.metric.headers.values()).cloned().collect();
    let caller = Caller::new(setting.timeout, setting.queries_at_once, secrets, |_| Meaning::AsTheStatus)?;
    Ok(Reader::new(Web { caller, setting, ready, kept: Mutex::default() }, clock))
}

/// A cumulative number: service, arm, revision, metric, and whether it is of the slow ones.
type Key = (ServiceName, Arm, String, String, bool);

struct Web {
    caller: Caller,
    setting: Setting,
    ready: BTreeMap<(ServiceName, String), Ready>,
    kept: Mutex<BTreeMap<Key, BTreeMap<Timestamp, f64>>>,
}

impl Vendor for Web {
    fn name(&self) -> &'static str {
        "web"
    }

    fn setting(&self) -> &Setting {
        &self.setting
    }

    fn latencies(&self) -> Latencies {
        Latencies::Threshold
    }

    fn buckets_max(&self) -> u64 {
        BUCKETS_MAX
    }

    fn queries(&self) -> u64 {
        self.caller.calls()
    }

    fn read(&self, query: Query, within: Duration) -> BoxFuture<'_, Result<Vec<Series>, Error>> {
        async move {
            let (ready, path) = self.found(&query)?;
            let points = match ready.metric.numbers {
                Numbers::Window => {
                    let mut points = Vec::new();
                    for bucket in buckets(&query) {
                        let number = self.number(ready, path, &query, bucket, within).await?;
                        points.push((bucket.start, number));
                    }
                    points
                }
                Numbers::Now => {
                    let number = self.number(ready, path, &query, query.span, within).await?;
                    vec![(query.span.end - query.step, number)]
                }
                Numbers::Cumulative => self.gained(ready, path, &query, within).await?,
            };
            Ok(vec![Series { labels: BTreeMap::new(), points }])
        }
        .boxed()
    }
}

/// Each bucket of a query.
fn buckets(query: &Query) -> Vec<Span> {
    let mut all = Vec::new();
    let mut start = query.span.start;
    while start < query.span.end {
        let end = start + query.step;
        all.push(Span { start, end });
        start = end;
    }
    all
}

impl Web {
    /// The metric that is meant, and the path of the number.
    fn found<'a>(&'a self, query: &Query) -> Result<(&'a Ready, &'a JsonPath), Error> {
        let name = &query.selector.metric;
        let Some(ready) = self.ready.get(&(query.service.clone(), name.clone())) else {
            return Err(malformed(format!("no endpoint is configured for the metric `{}`", Text::new(name))));
        };
        if !query.selector.matchers.is_empty() || !query.by.is_empty() {
            return Err(malformed("an endpoint has no labels: configure one metric for each number"));
        }
        match (query.what, &ready.slow, ready.metric.numbers) {
            (What::Mean, None, Numbers::Now) => Ok((ready, &ready.path)),
            (What::Count, None, Numbers::Window | Numbers::Cumulative) => Ok((ready, &ready.path)),
            (What::Observations, Some(_), Numbers::Window | Numbers::Cumulative) => Ok((ready, &ready.path)),
            (What::Above(edge), Some((above, path)), Numbers::Window | Numbers::Cumulative) if edge == *above => {
                Ok((ready, path))
            }
            (What::Above(_), Some((above, _)), _) => {
                Err(malformed(format!("the endpoint counts what is slower than {above} s, and no other threshold")))
            }
            (What::Above(_) | What::Observations, None, _) => {
                Err(malformed("the metric has no number of slow ones: configure `slow`"))
            }
            (_, _, _) => Err(malformed("the endpoint's numbers are of another kind than the check's")),
        }
    }

    /// The number for a time.
    async fn number(
        &self,
        ready: &Ready,
        path: &JsonPath,
        query: &Query,
        span: Span,
        within: Duration,
    ) -> Result<Option<f64>, Error> {
        let url = ready.metric.address(&query.revision, query.arm, span).map_err(malformed)?;
        let request = || Ok(self.caller.client().get(url.clone()).headers(ready.headers.clone()));
        let body = self.caller.call(within, request).await?;
        let answer: Value =
            serde_json::from_slice(&body).map_err(|error| malformed(format!("the answer is no JSON: {error}")))?;
        match path.query(&answer).all().as_slice() {
            [Value::Number(number)] => Ok(number.as_f64()),
            [Value::Null] => Ok(None),
            [] => Err(malformed(format!("the path {path} finds nothing"))),
            [_] => Err(malformed(format!("the path {path} finds something that is no number"))),
            [_, ..] => Err(malformed(format!("the path {path} finds more than one value"))),
        }
    }

    /// What a cumulative number gained.
    async fn gained(
        &self,
        ready: &Ready,
        path: &JsonPath,
        query: &Query,
        within: Duration,
    ) -> Result<Vec<(Timestamp, Option<f64>)>, Error> {
        if ready.metric.takes_a_time() {
            let mut points = Vec::new();
            let begin = Span { start: query.span.start - query.step, end: query.span.start };
            let mut last = self.number(ready, path, query, begin, within).await?;
            for bucket in buckets(query) {
                let now = self.number(ready, path, query, bucket, within).await?;
                points.push((bucket.start, difference(last, now)));
                last = now.or(last);
            }
            return Ok(points);
        }
        let is_slow = matches!(query.what, What::Above(_));
        let (service, revision) = (query.service.clone(), query.revision.clone());
        let key: Key = (service, query.arm, revision, query.selector.metric.clone(), is_slow);
        let known = |at: &Timestamp| {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.get(&key).and_then(|readings| readings.get(at).copied())
        };
        let (before, mut now) = (known(&query.span.start), known(&query.span.end));
        if now.is_none() {
            now = self.number(ready, path, query, query.span, within).await?;
        }
        if let Some(now) = now {
            self.keep(key, query.span.end, now);
        }
        let all = buckets(query);
        let gained = before.and_then(|before| difference(Some(before), now)).map(|gained| gained / all.len() as f64);
        Ok(all.into_iter().map(|bucket| (bucket.start, gained)).collect())
    }

    fn keep(&self, key: Key, at: Timestamp, number: f64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX && !kept.contains_key(&key) {
            kept.clear();
        }
        let readings = kept.entry(key).or_default();
        readings.insert(at, number);
        while readings.len() > READINGS_MAX {
            readings.pop_first();
        }
    }
}

/// What was gained between two readings; one that fell began again at zero.
fn difference(before: Option<f64>, now: Option<f64>) -> Option<f64> {
    let (before, now) = (before?, now?);
    Some(if now >= before { now - before } else { now })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metric(url: &str) -> Metric {
        Metric {
            url: url.into(),
            headers: BTreeMap::new(),
            path: "$.n".into(),
            slow: None,
            numbers: Numbers::Now,
            times: Times::Rfc3339,
        }
    }

    fn span() -> Span {
        Span { start: Timestamp::from_millis(60_000), end: Timestamp::from_millis(120_000) }
    }

    #[test]
    fn an_address_is_filled_in() {
        let metric = metric("https://a/x?r={revision}&arm={arm}&from={after}&to={through}");
        let url = metric.address("a&b={arm}", Arm::Canary, span()).unwrap();
        let filled = "https://a/x?r=a%26b%3D%7Barm%7D&arm=canary&from=1970-01-01T00%3A01%3A00.000Z\
                      &to=1970-01-01T00%3A02%3A00.000Z";
        assert_eq!(url.as_str(), filled);
        let seconds = Metric { times: Times::Seconds, ..metric };
        assert!(seconds.address("a", Arm::Control, span()).unwrap().as_str().ends_with("from=60&to=120"));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let why = |metric: Metric| metric.ready().map(drop).unwrap_err();
        assert!(metric("https://a/{arm}").ready().is_ok());
        assert!(why(metric("https://a/")).contains("control and canary are the same"));
        assert!(why(metric("https://{arm}.a/")).contains("host"));
        assert!(why(metric("https://a/{arm}/{other}")).contains("braces"));
        assert!(why(metric("http://a/{arm}")).contains("https"));
        assert!(why(Metric { path: "$[".into(), ..metric("https://a/{arm}") }).contains("no JSONPath"));
        let window = Metric { numbers: Numbers::Window, ..metric("https://a/{arm}?{after}") };
        assert!(why(window).contains("{through}"));
        let sent = |n: usize| (0..n).map(|i| (format!("h{i}"), "v".into())).collect();
        assert!(Metric { headers: sent(HEADERS_MAX), ..metric("https://a/{arm}") }.ready().is_ok());
        assert!(why(Metric { headers: sent(HEADERS_MAX + 1), ..metric("https://a/{arm}") }).contains("headers"));
        let long = |n: usize| metric(&format!("https://a/{{arm}}{}", "x".repeat(n - 15)));
        assert!(long(URL_BYTES_MAX).ready().is_ok());
        assert!(why(long(URL_BYTES_MAX + 1)).contains("longer"));
    }

    #[test]
    fn a_number_that_fell_began_again() {
        assert_eq!(difference(Some(5.0), Some(7.0)), Some(2.0));
        assert_eq!(difference(Some(5.0), Some(3.0)), Some(3.0));
        assert_eq!(difference(None, Some(3.0)), None);
    }

    proptest! {
        #[test]
        fn whatever_is_filled_in_stays_in_its_place(revision in "\\PC{0,24}") {
            let url = metric("https://a/x/{revision}/y?r={revision}").address(&revision, Arm::Canary, span());
            let dots = [".", ".."].contains(&revision.as_str());
            if let (Ok(url), false) = (url, dots) {
                prop_assert_eq!(url.origin().ascii_serialization(), "https://a");
                prop_assert!(url.path().starts_with("/x/") && url.path().ends_with("/y"));
                prop_assert_eq!(url.path().matches('/').count(), 3);
                let pairs: Vec<_> = url.query_pairs().map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
                prop_assert_eq!(pairs, vec![("r".to_owned(), revision)]);
            }
        }
    }
}
