//! One call to a vendor's API: bounded in time, bytes and number, tried again where that can help, and every way it can
//! fail put into the words that rails can judge.
//!
//! Redirects are off, for a redirected key is a given-away key. Nothing that a server answers is shown before every
//! secret that was sent is struck from it: some echo what they refuse.

use std::{
    error::Error as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use reqwest::{
    Client, RequestBuilder, StatusCode, Url,
    header::{HeaderMap, RETRY_AFTER},
    redirect,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::Error;
use crate::{
    domain::Text,
    retry::{self, Failure},
};

/// Most bytes of one answer.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Most calls of one source that are under way at the same moment.
pub const CALLS_AT_ONCE_MAX: usize = 32;
/// Longest time for one attempt.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Most attempts at one call, the first included.
const ATTEMPTS_MAX: u32 = 3;
/// Shortest secret that is struck from what a server says; shorter ones occur by chance.
const SECRET_BYTES_SHORT: usize = 4;

/// What a vendor says with a status that by itself says less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The credentials are wrong, expired or without the right.
    Credentials,
    /// Too many requests.
    Throttled,
    /// What the status says.
    AsTheStatus,
}

/// Reaches one vendor.
#[derive(Debug)]
pub(super) struct Caller {
    client: Client,
    timeout: Duration,
    slots: Semaphore,
    calls: AtomicU64,
    secrets: Vec<SecretString>,
    meaning: fn(&[u8]) -> Meaning,
}

/// Refuses limits that cannot work.
pub(super) fn check_limits(timeout: Duration, at_once: usize) -> Result<(), String> {
    if timeout.is_zero() || timeout > TIMEOUT_MAX {
        return Err(format!("the timeout is to be more than nothing and at most {} s", TIMEOUT_MAX.as_secs()));
    }
    if !(1..=CALLS_AT_ONCE_MAX).contains(&at_once) {
        return Err(format!("1 to {CALLS_AT_ONCE_MAX} queries may be made at once"));
    }
    Ok(())
}

/// An address that requests go to; it holds neither user nor password, which would be shown with it.
pub(super) fn base(url: &str) -> Result<Url, String> {
    let Ok(parsed) = Url::parse(url) else { return Err("the address is no URL".into()) };
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err("the address is neither http nor https".into());
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("the address holds a user or a password: leave them out".into());
    }
    let is_here = parsed.host_str().is_some_and(|host| {
        host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    });
    if parsed.scheme() == "http" && !is_here {
        return Err("the address is http, which would send secrets in the clear: write https".into());
    }
    Ok(parsed)
}

/// The same with a path after its own.
pub(super) fn at(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

impl Caller {
    /// A caller that strikes these secrets from what it tells. `meaning` reads a refusal's body.
    pub(super) fn new(
        timeout: Duration,
        at_once: usize,
        secrets: Vec<SecretString>,
        meaning: fn(&[u8]) -> Meaning,
    ) -> Result<Self, Error> {
        let client = Client::builder().redirect(redirect::Policy::none()).no_proxy().user_agent("tollgate").build();
        let failed = |error| Error::Config(Text::new(format!("the HTTP client cannot be made: {error}")));
        let (slots, calls) = (Semaphore::new(at_once.clamp(1, CALLS_AT_ONCE_MAX)), AtomicU64::new(0));
        Ok(Self { client: client.map_err(failed)?, timeout, slots, calls, secrets, meaning })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// How many requests were sent so far, those that were tried again included.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The body of a right answer, had within the time. `request` is made anew for each attempt, for signatures age.
    pub(super) async fn call(
        &self,
        within: Duration,
        request: impl Fn() -> Result<RequestBuilder, Error>,
    ) -> Result<Vec<u8>, Error> {
        let until = Instant::now() + within;
        let told = retry::attempt(ATTEMPTS_MAX, within, || self.once(until, &request));
        match timeout_at(until, told).await {
            Ok(told) => told,
            Err(_) => Err(unavailable(format!("no answer within the {} ms that were left", within.as_millis()))),
        }
    }

    async fn once(
        &self,
        until: Instant,
        request: &impl Fn() -> Result<RequestBuilder, Error>,
    ) -> Result<Vec<u8>, Failure<Error>> {
        let _slot = self.slots.acquire().await;
        let request = request().map_err(Failure::Final)?.timeout(self.timeout);
        self.calls.fetch_add(1, Ordering::Relaxed);
        let failed = |error: reqwest::Error| Failure::passing(unavailable(reason(&error, self.timeout)));
        let mut response = request.send().await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let too_long = || Failure::Final(malformed(format!("answered more than {ANSWER_BYTES_MAX} bytes")));
        if response.content_length().is_some_and(|bytes| bytes > ANSWER_BYTES_MAX as u64) {
            return Err(too_long());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
        }
        if status == StatusCode::OK { Ok(body) } else { Err(self.refusal(status, &headers, &body, until)) }
    }

    fn refusal(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], until: Instant) -> Failure<Error> {
        let code = status.as_u16();
        match ((self.meaning)(body), code) {
            (Meaning::Credentials, _) | (Meaning::AsTheStatus, 401 | 403) => {
                Failure::Final(refused(&format!("status {code}")))
            }
            (Meaning::Throttled, _) | (Meaning::AsTheStatus, 429) => {
                let asked_wait = asked_wait(headers);
                let error = unavailable(match asked_wait {
                    Some(wait) => format!("too many requests: wait {} s", wait.as_secs()),
                    None => "too many requests".into(),
                });
                let fits = asked_wait.is_none_or(|wait| Instant::now() + wait < until);
                if fits { Failure::Passing { error, asked_wait } } else { Failure::Final(error) }
            }
            (Meaning::AsTheStatus, 500..=599 | 408) => {
                Failure::passing(unavailable(format!("answered status {code}{}", self.words(body))))
            }
            (Meaning::AsTheStatus, 300..=399) => {
                Failure::Final(unavailable(format!("answered a redirect (status {code}), and none is followed")))
            }
            (Meaning::AsTheStatus, 200..=299) => {
                Failure::Final(malformed(format!("answered status {code} where 200 is meant")))
            }
            (Meaning::AsTheStatus, _) => {
                Failure::Final(malformed(format!("refused the query with status {code}{}", self.words(body))))
            }
        }
    }

    /// What a body says, without secrets.
    fn words(&self, body: &[u8]) -> String {
        let words = self.without_secrets(&String::from_utf8_lossy(&body[..body.len().min(4_096)]));
        let words = words.trim();
        if words.is_empty() { String::new() } else { format!(": {words}") }
    }

    /// What a server says, as it may be shown.
    pub(super) fn without_secrets(&self, said: &str) -> String {
        let mut said = said.to_owned();
        for secret in self.secrets.iter().map(SecretString::expose_secret) {
            if secret.len() >= SECRET_BYTES_SHORT {
                said = said.replace(secret, "***");
            }
        }
        said
    }
}

/// Seconds until the next request may come; vendors write them as a number.
fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let seconds = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    seconds(RETRY_AFTER.as_str()).or_else(|| seconds("x-ratelimit-reset")).map(Duration::from_secs)
}

/// What went wrong, without the address, which may hold a secret.
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

/// The credentials are wrong, expired or without the right.
pub(super) fn refused(why: &str) -> Error {
    unavailable(format!("credentials were refused: {why}; look at the key, its rights and its expiry"))
}

pub(super) fn unavailable(why: impl AsRef<str>) -> Error {
    Error::Unavailable(Text::new(why))
}

pub(super) fn malformed(why: impl AsRef<str>) -> Error {
    Error::Malformed(Text::new(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_or_here() {
        for good in ["https://api.datadoghq.com", "http://127.0.0.1:8086", "http://[::1]:1/x", "http://localhost"] {
            assert!(base(good).is_ok(), "{good}");
        }
        for bad in ["api.datadoghq.com", "ftp://a", "https://user:key@a", "http://influx:8086", "http://10.0.0.1"] {
            assert!(base(bad).is_err(), "{bad}");
        }
        assert_eq!(at(&base("https://a/b/").unwrap(), "/c").as_str(), "https://a/b/c");
    }

    #[test]
    fn limits_have_edges() {
        assert!(check_limits(TIMEOUT_MAX, CALLS_AT_ONCE_MAX).is_ok());
        assert!(check_limits(Duration::ZERO, 1).is_err());
        assert!(check_limits(TIMEOUT_MAX + Duration::from_millis(1), 1).is_err());
        assert!(check_limits(TIMEOUT_MAX, 0).is_err());
        assert!(check_limits(TIMEOUT_MAX, CALLS_AT_ONCE_MAX + 1).is_err());
    }

    #[test]
    fn secrets_are_struck_from_what_a_server_says() {
        let secret = SecretString::from("s3cret-key");
        let caller = Caller::new(TIMEOUT_MAX, 1, vec![secret], |_| Meaning::AsTheStatus).unwrap();
        assert_eq!(caller.words(b" no s3cret-key known "), ": no *** known");
        assert!(!format!("{caller:?}").contains("s3cret"));
    }
}
