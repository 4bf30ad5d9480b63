//! One probe: one request, its redirects, and whether the answer is right.
//!
//! Every connection is new, for a kept one would say nothing of whether the arm can be reached. Redirects are followed by
//! hand and only among the arm's own origins: an answer of someone else says nothing of the arm, and headers that hold a
//! secret go nowhere else.

use std::{error::Error as _, time::Duration};

use reqwest::{
    Client, Response, Url,
    header::{HeaderMap, HeaderName, HeaderValue, LOCATION},
    redirect,
};
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout};

use super::{
    Method, Probe,
    address::{Judged, Lookup, Refused, check_literal},
};
use crate::{domain::Text, telemetry::Error};

/// Most redirects that are followed.
pub const REDIRECTS_MAX: usize = 3;
/// Most bytes of a body that are looked into.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// A client that connects only to addresses that may be asked.
pub(super) fn client(lookup: Lookup) -> Result<Client, Error> {
    Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .dns_resolver(Judged(lookup))
        .user_agent("tollgate")
        .build()
        .map_err(|error| Error::Config(Text::new(format!("the HTTP client cannot be made: {error}"))))
}

/// What came of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was answered as it should be.
    Right,
    /// It was not, or not at all.
    Wrong(Text),
    /// The address must not be asked, so nothing was.
    Refused(Text),
}

/// Asks one of the arm's `origins`, all of which are filled in, as is the path.
pub(super) async fn ask(client: &Client, probe: &Probe, path: &str, origin: &str, origins: &[String]) -> Outcome {
    let begun = Instant::now();
    let limit = probe.timeout;
    let outcome = match timeout(limit, follow(client, probe, path, origin, origins)).await {
        Ok(outcome) => outcome,
        Err(_) => wrong(format!("no whole answer within {} ms", limit.as_millis())),
    };
    let took = begun.elapsed();
    let is_slow = probe.slow_above.is_some_and(|slow| took > slow);
    if outcome == Outcome::Right && is_slow { wrong(slow(took)) } else { outcome }
}

fn slow(took: Duration) -> String {
    format!("answered after {} ms", took.as_millis())
}

async fn follow(client: &Client, probe: &Probe, path: &str, origin: &str, origins: &[String]) -> Outcome {
    let origins: Vec<_> = origins.iter().filter_map(|origin| Url::parse(origin).ok()).map(|url| url.origin()).collect();
    let Ok(mut url) = Url::parse(&format!("{}{path}", origin.trim_end_matches('/'))) else {
        return wrong("its address is no URL");
    };
    for _ in 0..=REDIRECTS_MAX {
        let is_plain = url.username().is_empty() && url.password().is_none();
        if !is_plain || !origins.contains(&url.origin()) {
            return wrong("redirected to a place that is not the arm's own");
        }
        if let Err(refused) = check_literal(&url) {
            return Outcome::Refused(Text::new(refused.to_string()));
        }
        let request = match probe.method {
            Method::Get => client.get(url.clone()),
            Method::Head => client.head(url.clone()),
        };
        let response = match request.headers(headers(probe)).send().await {
            Ok(response) => response,
            Err(error) => return failed(&error),
        };
        let status = response.status();
        if probe.expect.iter().any(|range| range.contains(&status.as_u16())) {
            if let Some(name) = missing_header(response.headers(), probe) {
                return wrong(format!("the header {name} is not what it must be"));
            }
            return look_into(response, probe).await;
        }
        let location = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        match location.filter(|_| status.is_redirection()).map(|to| url.join(to)) {
            Some(Ok(to)) => url = to,
            Some(Err(_)) | None => return wrong(format!("answered status {}", status.as_u16())),
        }
    }
    wrong(format!("redirected more than {REDIRECTS_MAX} times"))
}

fn headers(probe: &Probe) -> HeaderMap {
    let header = |(name, value): (&String, &secrecy::SecretString)| {
        let mut value = HeaderValue::try_from(value.expose_secret()).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(name).ok()?, value))
    };
    probe.headers.iter().filter_map(header).collect()
}

/// The first header that the answer does not bear, or not as it must.
fn missing_header<'a>(headers: &HeaderMap, probe: &'a Probe) -> Option<&'a str> {
    let is_right = |(name, wanted): (&String, &String)| {
        let wanted = wanted.to_ascii_lowercase();
        let mut values = headers.get_all(name.as_str()).iter().filter_map(|value| value.to_str().ok());
        values.any(|value| value.to_ascii_lowercase().contains(&wanted))
    };
    probe.answers_with.iter().find(|header| !is_right(*header)).map(|(name, _)| name.as_str())
}

/// Whether the body contains what it must.
async fn look_into(mut response: Response, probe: &Probe) -> Outcome {
    let Some(text) = &probe.contains else { return Outcome::Right };
    let mut body: Vec<u8> = Vec::new();
    while body.len() < BODY_BYTES_MAX {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend(chunk.iter().take(BODY_BYTES_MAX - body.len())),
            Ok(None) => break,
            Err(error) => return failed(&error),
        }
    }
    let is_there = body.windows(text.len().max(1)).any(|part| part == text.as_bytes());
    if is_there { Outcome::Right } else { wrong("the body does not contain what it must") }
}

/// What went wrong, without the address, which may hold a secret.
fn failed(error: &reqwest::Error) -> Outcome {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return Outcome::Refused(Text::new(refused.to_string()));
        }
    }
    let stage = if error.is_connect() { "cannot connect" } else { "the answer broke off" };
    let root = if error.source().is_some() { cause.to_string() } else { "the request could not be made".into() };
    wrong(format!("{stage}: {root}"))
}

fn wrong(why: impl AsRef<str>) -> Outcome {
    Outcome::Wrong(Text::new(why))
}
