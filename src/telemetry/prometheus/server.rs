//! One server: how it is reached, how much is asked of it, and how far its clock is from ours.
//!
//! # The clocks
//! Samples bear the time of the server, windows the time of this process. How far the two are apart is read from the
//! `Date` of every answer, which has a resolution of a second, against the middle of the request. What is small is taken
//! for nothing, and what is not goes in steps, so that a window's edge does not wander with the measurement. What is
//! larger than any clock is wrong by is not believed: a rehearsal on the past has a clock of its own.

use std::{error::Error as _, sync::Mutex, time::Duration};

use reqwest::{
    Certificate, Client, Identity, Response, StatusCode, Url,
    header::{AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use secrecy::ExposeSecret;
use serde::{Deserialize, de::IgnoredAny};
use tokio::sync::Semaphore;

use super::{
    Auth, Config, Usage,
    reply::{self, Row, malformed, unavailable},
};
use crate::{
    domain::{Absence, Text, Timestamp},
    telemetry::{Clock, Error, counting::locked},
};

/// A difference of the clocks is applied in steps of this.
const SKEW_STEP: Duration = Duration::from_secs(5);
/// It is applied anew when it is measured further than this from what is applied: half a step, the resolution of the
/// measurement, and a little.
const SKEW_SLACK: Duration = Duration::from_millis(3_750);
/// A difference beyond this is not believed.
pub const SKEW_MAX: Duration = Duration::from_secs(300);
/// Most bytes that are read of an answer that is a refusal.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;
const DAY: u64 = 86_400_000;

/// Where the server's clock is: added to ours it gives the server's, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Skew {
    /// Nothing was measured yet.
    #[default]
    Unknown,
    /// What is applied.
    Applied(i64),
}

/// One server.
pub(super) struct Server {
    client: Client,
    base: Url,
    headers: HeaderMap,
    config: Config,
    clock: Clock,
    at_once: Semaphore,
    usage: Mutex<(u64, Usage)>,
    skew: Mutex<Skew>,
}

impl Server {
    pub(super) fn new(config: Config, clock: Clock) -> Result<Self, Error> {
        let base = base(&config.url).map_err(|why| Error::Config(Text::new(why)))?;
        let headers = headers(&config).map_err(|why| Error::Config(Text::new(why)))?;
        Ok(Self {
            client: client(&config)?,
            base,
            headers,
            at_once: Semaphore::new(config.concurrency),
            usage: Mutex::default(),
            skew: Mutex::new(if config.follows_server_clock { Skew::Unknown } else { Skew::Applied(0) }),
            config,
            clock,
        })
    }

    /// How much was asked so far.
    pub(super) fn usage(&self) -> Usage {
        locked(&self.usage).1
    }

    /// Most series of a metric that are read raw.
    pub(super) fn raw_series_max(&self) -> usize {
        self.config.raw_series_max
    }

    /// Longest time for one answer.
    pub(super) fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// How far the server's clock is from ours, in milliseconds; asks once where nothing was asked before.
    pub(super) async fn skew(&self) -> Result<i64, Absence> {
        if let Skew::Applied(skew) = *locked(&self.skew) {
            return Ok(skew);
        }
        self.post::<IgnoredAny>("query", &[("query", "1")]).await?;
        match *locked(&self.skew) {
            Skew::Applied(skew) => Ok(skew),
            Skew::Unknown => Ok(0),
        }
    }

    /// Whether it answers as such a server does.
    pub(super) async fn reach(&self) -> Result<(), Absence> {
        self.post::<IgnoredAny>("query", &[("query", "1")]).await.map(drop)
    }

    /// The answer to a query at a time by the server's clock: series of this type.
    pub(super) async fn query(&self, query: &str, at: i64, result_type: &str) -> Result<Vec<Row>, Absence> {
        let at = seconds(at);
        let timeout = seconds(i64::try_from(self.config.timeout.as_millis()).unwrap_or(i64::MAX));
        let body = self.ask("query", &[("query", query), ("time", &at), ("timeout", &timeout)]).await?;
        self.rows(body, result_type).await
    }

    /// The answer at all times from `start` to `end`, `step` apart.
    pub(super) async fn query_range(
        &self,
        query: &str,
        (start, end): (i64, i64),
        step: Duration,
    ) -> Result<Vec<Row>, Absence> {
        let (start, end) = (seconds(start), seconds(end));
        let step = seconds(i64::try_from(step.as_millis()).unwrap_or(i64::MAX));
        let form = [("query", query), ("start", start.as_str()), ("end", &end), ("step", &step)];
        let body = self.ask("query_range", &form).await?;
        self.rows(body, "matrix").await
    }

    async fn rows(&self, body: Vec<u8>, result_type: &str) -> Result<Vec<Row>, Absence> {
        let allow_partial = self.config.allow_partial;
        let rows = if body.len() < 128 * 1024 {
            reply::rows(&body, result_type, allow_partial)
        } else {
            let result_type = result_type.to_owned();
            let parsed = tokio::task::spawn_blocking(move || reply::rows(&body, &result_type, allow_partial)).await;
            parsed.unwrap_or_else(|_| Err(unavailable("the answer could not be read".into())))
        }?;
        let samples: usize = rows.iter().map(Row::len).sum();
        self.account(|usage| usage.samples += samples as u64);
        Ok(rows)
    }

    /// What one of the API's other methods answers.
    pub(super) async fn post<T: for<'a> Deserialize<'a>>(
        &self,
        method: &str,
        form: &[(&str, &str)],
    ) -> Result<T, Absence> {
        let body = self.ask(method, form).await?;
        reply::data(&body, self.config.allow_partial)
    }

    /// What one of the API's methods without a form answers.
    pub(super) async fn get<T: for<'a> Deserialize<'a>>(
        &self,
        method: &str,
        form: &[(&str, &str)],
    ) -> Result<T, Absence> {
        let mut url = self.method(method);
        url.query_pairs_mut().extend_pairs(form);
        let body = self.send(self.client.get(url)).await?;
        reply::data(&body, self.config.allow_partial)
    }

    async fn ask(&self, method: &str, form: &[(&str, &str)]) -> Result<Vec<u8>, Absence> {
        let mut encoded = self.base.clone();
        encoded.query_pairs_mut().clear().extend_pairs(form);
        let body = encoded.query().unwrap_or_default().to_owned();
        let request = self.client.post(self.method(method));
        self.send(request.header("content-type", "application/x-www-form-urlencoded").body(body)).await
    }

    fn method(&self, method: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/api/v1/{method}", self.base.path().trim_end_matches('/')));
        url
    }

    /// The body of an answer that is one.
    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>, Absence> {
        self.is_within_budget()?;
        let permit = self.at_once.acquire().await;
        let Ok(_permit) = permit else { return Err(unavailable("shutting down".into())) };
        self.account(|usage| usage.queries += 1);
        let sent = (self.clock)();
        let timeout = self.config.timeout;
        let failed =
            |error: reqwest::Error| unavailable(format!("{}: {}", self.config.place(), reason(&error, timeout)));
        let mut request = request.headers(self.headers.clone()).timeout(timeout);
        if let Auth::Basic { user, password } = &self.config.auth {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        let response = request.send().await.map_err(failed)?;
        self.measure_skew(&response, sent, (self.clock)());
        let status = response.status();
        if status == StatusCode::OK {
            return self.body(response, self.config.response_bytes_max).await.map_err(|error| match error {
                Some(error) => failed(error),
                None => malformed(format!("answered more than {} bytes", self.config.response_bytes_max)),
            });
        }
        // What a refusal says is of use, but it is none the less one where it cannot be read.
        let said = self.body(response, REFUSAL_BYTES_MAX).await.unwrap_or_default();
        Err(refusal(&self.config.place(), status, &said))
    }

    async fn body(&self, mut response: Response, most: usize) -> Result<Vec<u8>, Option<reqwest::Error>> {
        if response.content_length().is_some_and(|bytes| bytes > most as u64) {
            return Err(None);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(Some)? {
            if body.len() + chunk.len() > most {
                return Err(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn account(&self, used: impl FnOnce(&mut Usage)) {
        let today = (self.clock)().as_millis() / DAY;
        let mut usage = locked(&self.usage);
        if usage.0 != today {
            *usage = (today, Usage { samples_today: 0, ..usage.1 });
        }
        let before = usage.1.samples;
        used(&mut usage.1);
        usage.1.samples_today += usage.1.samples - before;
    }

    fn is_within_budget(&self) -> Result<(), Absence> {
        self.account(|_| {});
        let Some(budget) = self.config.samples_per_day else { return Ok(()) };
        if self.usage().samples_today < budget {
            return Ok(());
        }
        Err(unavailable(format!("the {budget} samples a day of samples_per_day are used up")))
    }

    fn measure_skew(&self, response: &Response, sent: Timestamp, received: Timestamp) {
        if !self.config.follows_server_clock {
            return;
        }
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(http_date);
        let mut skew = locked(&self.skew);
        let Some(date) = date else {
            if *skew == Skew::Unknown {
                tracing::warn!(server = %self.config.place(), "answers have no date: its clock is taken to be ours");
                *skew = Skew::Applied(0);
            }
            return;
        };
        // The date is cut to a second, so the truth is half of one later on average.
        let middle = i64::try_from(sent.as_millis() / 2 + received.as_millis() / 2).unwrap_or(i64::MAX);
        let measured = date + 500 - middle;
        if measured.unsigned_abs() > millis(SKEW_MAX) {
            if *skew == Skew::Unknown {
                let seconds = measured / 1_000;
                tracing::warn!(server = %self.config.place(), seconds, "its clock is too far from ours to be believed");
                *skew = Skew::Applied(0);
            }
            return;
        }
        let next = followed(*skew, measured);
        if *skew != Skew::Applied(next) {
            if next != 0 || *skew != Skew::Unknown {
                tracing::warn!(server = %self.config.place(), seconds = next / 1_000, "its clock is apart from ours");
            }
            *skew = Skew::Applied(next);
        }
    }
}

/// What is applied after a measurement.
fn followed(applied: Skew, measured: i64) -> i64 {
    let step = i64::try_from(millis(SKEW_STEP)).unwrap_or(i64::MAX);
    let steps = (measured as f64 / step as f64).round() as i64 * step;
    match applied {
        Skew::Applied(applied) if (measured - applied).unsigned_abs() <= millis(SKEW_SLACK) => applied,
        Skew::Applied(_) | Skew::Unknown => steps,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds as the API takes them.
pub(super) fn seconds(millis: i64) -> String {
    let sign = if millis < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", millis.unsigned_abs() / 1_000, millis.unsigned_abs() % 1_000)
}

/// A date as HTTP writes it, in milliseconds since the epoch.
fn http_date(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once(", ")?;
    let rest = rest.strip_suffix(" GMT")?;
    jiff::civil::DateTime::strptime("%d %b %Y %H:%M:%S", rest)
        .ok()
        .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).ok())
        .map(|date| date.timestamp().as_millisecond())
}

fn refusal(place: &str, status: StatusCode, said: &[u8]) -> Absence {
    let code = status.as_u16();
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            unavailable(format!("{place}: refused our credentials (status {code})"))
        }
        StatusCode::TOO_MANY_REQUESTS => unavailable(format!("{place}: too many requests (status 429)")),
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => match reply::refusal(said) {
            Some(Absence::Unavailable(why)) => unavailable(format!("{place}: {why}")),
            Some(Absence::Malformed(why)) => malformed(format!("{place}: {why}")),
            Some(Absence::NoData) | None => malformed(format!("{place}: answered status {code}")),
        },
        StatusCode::NOT_FOUND => unavailable(format!("{place}: has no Prometheus API there (status 404)")),
        _ => unavailable(format!("{place}: answered status {code}")),
    }
}

/// What went wrong, without the address.
fn reason(error: &reqwest::Error, timeout: Duration) -> String {
    if error.is_timeout() {
        return format!("no whole answer within {} ms", timeout.as_millis());
    }
    let mut root: &dyn std::error::Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    let root = if error.source().is_some() { root.to_string() } else { "the request could not be made".into() };
    let stage = if error.is_connect() { "cannot connect" } else { "the answer broke off" };
    format!("{stage}: {root}")
}

/// The address, as far as it can be one.
pub(super) fn base(url: &str) -> Result<Url, String> {
    let base = Url::parse(url).map_err(|_| "the url is no URL".to_owned())?;
    if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
        return Err("the url is neither http nor https".into());
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err("the url holds a user or a password: write them as basic_auth".into());
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err("the url is to end with a path, without a query".into());
    }
    Ok(base)
}

fn headers(config: &Config) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let secret = |value: &str| {
        let mut value = HeaderValue::from_str(value).map_err(|_| "cannot be sent in a header".to_owned())?;
        value.set_sensitive(true);
        Ok::<_, String>(value)
    };
    for (name, value) in &config.headers {
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header's name"))?;
        let value = secret(value.expose_secret()).map_err(|why| format!("the value of header {name} {why}"))?;
        headers.insert(parsed, value);
    }
    match &config.auth {
        Auth::None => {}
        Auth::Bearer(token) => {
            let value = secret(&format!("Bearer {}", token.expose_secret()));
            headers.insert(AUTHORIZATION, value.map_err(|why| format!("the bearer token {why}"))?);
        }
        Auth::Basic { user, password } => {
            if user.contains(':') {
                return Err("a user cannot hold a colon".into());
            }
            // It is encoded with each request.
            secret(password.expose_secret()).map_err(|why| format!("the password {why}"))?;
        }
    }
    Ok(headers)
}

/// A client for one server: no proxy, no redirect, and no certificate that the operator did not name or the machine
/// does not trust.
fn client(config: &Config) -> Result<Client, Error> {
    let refused = |what: &str| Error::Config(Text::new(what));
    let mut client = Client::builder().redirect(redirect::Policy::none()).no_proxy().user_agent("tollgate");
    if let Some(ca) = &config.ca_pem {
        let certificates =
            Certificate::from_pem_bundle(ca.as_bytes()).map_err(|_| refused("the CA file holds no PEM certificate"))?;
        if certificates.is_empty() {
            return Err(refused("the CA file holds no PEM certificate"));
        }
        client = client.tls_certs_merge(certificates);
    }
    if let Some(identity) = &config.client_pem {
        let identity = Identity::from_pem(identity.expose_secret().as_bytes());
        client = client.identity(identity.map_err(|_| refused("the client certificate and key are no PEM pair"))?);
    }
    client.build().map_err(|error| Error::Config(Text::new(format!("the HTTP client cannot be made: {error}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_the_clocks_goes_in_steps_and_does_not_wander() {
        assert_eq!(followed(Skew::Unknown, 900), 0);
        assert_eq!(followed(Skew::Unknown, -2_400), 0);
        assert_eq!(followed(Skew::Unknown, 40_300), 40_000);
        for measured in [37_000, 40_000, 43_700] {
            assert_eq!(followed(Skew::Applied(40_000), measured), 40_000);
        }
        assert_eq!(followed(Skew::Applied(40_000), 300), 0);
        assert_eq!(followed(Skew::Applied(0), -40_300), -40_000);
    }

    #[test]
    fn a_date_is_read_and_what_is_none_is_not() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
        assert_eq!(http_date("yesterday"), None);
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 CET"), None);
    }

    #[test]
    fn times_are_written_to_the_millisecond() {
        assert_eq!(seconds(1_700_000_000_007), "1700000000.007");
        assert_eq!(seconds(-1_500), "-1.500");
    }
}
