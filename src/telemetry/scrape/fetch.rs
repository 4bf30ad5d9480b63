//! One answer of one endpoint: bounded in time and bytes, and refused unless it is an exposition.
//!
//! A page of a login or an error is often served with status 200, so the content type and the format itself are
//! checked. An answer from another host is refused: what it counts is not what the operator named.

use std::{error::Error as _, time::Duration};

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE},
    redirect,
};

use crate::{
    domain::Text,
    telemetry::{
        Error,
        exposition::{self, BODY_BYTES_MAX, Exposition},
    },
};

/// Most redirects that are followed, all within one host.
pub const REDIRECTS_MAX: usize = 3;
const FORMAT: &str = "text/plain;version=0.0.4,text/plain;q=0.5,*/*;q=0.1";

/// A client for scraping: no proxy, and no redirect away from the host that was named.
pub(super) fn client() -> Result<Client, Error> {
    let policy = redirect::Policy::custom(|attempt| {
        let within = attempt.previous().last().is_some_and(|from| is_same_host(from, attempt.url()));
        if within && attempt.previous().len() <= REDIRECTS_MAX { attempt.follow() } else { attempt.stop() }
    });
    Client::builder()
        .redirect(policy)
        .no_proxy()
        .user_agent("tollgate")
        .build()
        .map_err(|error| Error::Config(Text::new(format!("the HTTP client cannot be made: {error}"))))
}

fn is_same_host(one: &Url, other: &Url) -> bool {
    let host = |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default());
    host(one) == host(other)
}

/// The address as people may see it: without what could be a secret.
pub(super) fn place(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
        }
        Err(_) => "an address that is no URL".into(),
    }
}

/// Reads the series whose names are `wanted`. Every error names the address.
pub(super) async fn fetch(
    client: &Client,
    url: &str,
    timeout: Duration,
    wanted: impl Fn(&str) -> bool,
) -> Result<Exposition, Error> {
    read(client, url, timeout, wanted).await.map_err(|error| match error {
        Error::Unavailable(why) => Error::Unavailable(Text::new(format!("{}: {why}", place(url)))),
        Error::Malformed(why) => Error::Malformed(Text::new(format!("{}: {why}", place(url)))),
        Error::Config(why) => Error::Config(why),
    })
}

async fn read(
    client: &Client,
    url: &str,
    timeout: Duration,
    wanted: impl Fn(&str) -> bool,
) -> Result<Exposition, Error> {
    let url = Url::parse(url).map_err(|_| unavailable("no URL"))?;
    let failed = |error: reqwest::Error| unavailable(reason(&error, timeout));
    let mut response = client.get(url.clone()).header(ACCEPT, FORMAT).timeout(timeout).send().await.map_err(failed)?;
    if !is_same_host(&url, response.url()) {
        return Err(unavailable("the answer came from another host"));
    }
    if response.status() != StatusCode::OK {
        return Err(unavailable(format!("answered status {}", response.status().as_u16())));
    }
    let is_openmetrics = openmetrics(&response)?;
    let too_long = || malformed(format!("answered more than {BODY_BYTES_MAX} bytes"));
    if response.content_length().is_some_and(|bytes| bytes > BODY_BYTES_MAX as u64) {
        return Err(too_long());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    let exposition = exposition::parse(&body, wanted).map_err(|error| malformed(error.to_string()))?;
    if is_openmetrics && !exposition.eof {
        return Err(malformed("the body has no `# EOF`: it was cut"));
    }
    Ok(exposition)
}

/// Whether the answer says it is OpenMetrics, which must have an end; refuses what says it is something else.
fn openmetrics(response: &Response) -> Result<bool, Error> {
    let Some(said) = response.headers().get(CONTENT_TYPE) else {
        return Ok(false);
    };
    let said = String::from_utf8_lossy(said.as_bytes());
    let kind = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "text/plain" | "" => Ok(false),
        "application/openmetrics-text" => Ok(true),
        other => Err(malformed(format!("answered {other}, which is not the Prometheus text format"))),
    }
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

fn unavailable(why: impl AsRef<str>) -> Error {
    Error::Unavailable(Text::new(why))
}

fn malformed(why: impl AsRef<str>) -> Error {
    Error::Malformed(Text::new(why))
}
