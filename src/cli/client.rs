//! The client side of the HTTP API: where a running tollgate is, how to speak with it, and what to say when it does not
//! answer. `status`, `watch` and the commands share it.

use std::{
    env, fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Method, RequestBuilder, StatusCode, Url, header, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    domain::{RolloutId, Text, Timestamp},
    rollout::{FleetView, RolloutView},
    web::RefusalBody,
};

/// Where a tollgate listens when nobody says otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:7420";
/// The environment variable that holds the API token; it is never taken from the command line, which others can read.
pub const TOKEN_VARIABLE: &str = "TOLLGATE_TOKEN";
/// Most bytes of an answer, and of one event of the stream.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most bytes of a token file.
pub const TOKEN_BYTES_MAX: u64 = 4096;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longer than the server's own limit, so that its word comes first.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Where the tollgate is.
#[derive(Clone, Debug, clap::Args)]
pub struct Connection {
    /// Address of the running tollgate.
    #[arg(long, env = "TOLLGATE_URL", default_value = DEFAULT_URL, value_name = "URL")]
    pub url: String,
    /// File that holds the API token; without it the variable TOLLGATE_TOKEN is read.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Why a tollgate could not be spoken with. The words are for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing listens there.
    #[error("no tollgate answers at {url}; start one with `tollgate serve`, or name another with --url")]
    NoAnswer {
        /// Where.
        url: String,
    },
    /// The connection was made, and broke or stayed silent.
    #[error("lost the tollgate at {url}: {why}; see its log, and try again")]
    Lost {
        /// Where.
        url: String,
        /// How.
        why: Text,
    },
    /// It answered with a refusal.
    #[error("refused with {status}: {error}; {fix}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// What is wrong, in the server's words.
        error: Text,
        /// How to mend it, in the server's words.
        fix: Text,
    },
    /// Something else than a tollgate answered, or another version of it.
    #[error(
        "what answers at {url} does not speak as a tollgate of this version does: {why}; see whether --url is right"
    )]
    Malformed {
        /// Where.
        url: String,
        /// What was odd.
        why: Text,
    },
    /// The address cannot be used.
    #[error("`{url}` is no address of a tollgate; write it as in {DEFAULT_URL}")]
    Address {
        /// As given.
        url: Text,
    },
    /// The token cannot be used.
    #[error("no API token from {source_name}: {why}; put the token alone into it")]
    Token {
        /// The file or variable.
        source_name: String,
        /// What is wrong.
        why: Text,
    },
}

/// Something the server said, and when by its own clock.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// What it said.
    pub body: T,
    /// When it said so, to the second; `None` when it does not tell the time.
    pub at: Option<Timestamp>,
}

/// A client of one tollgate.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<SecretString>,
}

impl Client {
    /// Prepares a client; nothing is asked yet. Fails on a bad address or an unreadable token.
    pub fn new(connection: &Connection) -> Result<Self, Error> {
        let base = address(&connection.url)?;
        // A redirect would carry commands and the token elsewhere.
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT_WITHIN).redirect(redirect::Policy::none());
        if is_loopback(&base) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|why| Error::Lost { url: base.to_string(), why: said(&why) })?;
        Ok(Self { http, token: token(connection.token_file.as_deref())?, base })
    }

    /// The address, as messages name it.
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Every rollout that can be seen.
    pub async fn fleet(&self) -> Result<Answer<FleetView>, Error> {
        self.json(self.request(Method::GET, &["v1", "rollouts"])?.timeout(ANSWER_WITHIN)).await
    }

    /// One rollout.
    pub async fn rollout(&self, id: RolloutId) -> Result<Answer<RolloutView>, Error> {
        self.json(self.request(Method::GET, &["v1", "rollouts", &id.to_string()])?.timeout(ANSWER_WITHIN)).await
    }

    /// Sends a command; returns once it is durable there.
    pub async fn act(&self, path: &[&str], body: &impl Serialize) -> Result<(), Error> {
        let request = self.request(Method::POST, path)?.json(body).timeout(ANSWER_WITHIN);
        self.json::<serde_json::Value>(request).await.map(|_accepted| ())
    }

    /// Opens the live stream.
    pub async fn events(&self) -> Result<reqwest::Response, Error> {
        self.checked(self.request(Method::GET, &["v1", "events"])?).await
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, Error> {
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().extend(path),
            Err(()) => return Err(Error::Address { url: Text::new(self.base.as_str()) }),
        };
        // The token goes with commands only: reading needs none.
        let token = self.token.as_ref().filter(|_| method == Method::POST);
        let request = self.http.request(method, url);
        Ok(match token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        })
    }

    async fn checked(&self, request: RequestBuilder) -> Result<reqwest::Response, Error> {
        let response = request.send().await.map_err(|why| self.lost(&why))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.read(response).await?;
        match serde_json::from_slice::<RefusalBody>(&body) {
            Ok(RefusalBody { error, fix }) => Err(Error::Refused { status, error, fix }),
            Err(_) => Err(self.malformed(format!("it answered {status}"))),
        }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<Answer<T>, Error> {
        let response = self.checked(request).await?;
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let at = date.and_then(date_millis);
        let body = self.read(response).await?;
        let body = serde_json::from_slice(&body).map_err(|why| self.malformed(why.to_string()))?;
        Ok(Answer { body, at })
    }

    async fn read(&self, mut response: reqwest::Response) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|why| self.lost(&why))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.malformed(format!("its answer is larger than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The error for a transport that failed.
    pub(super) fn lost(&self, why: &reqwest::Error) -> Error {
        if why.is_connect() {
            Error::NoAnswer { url: self.url().into() }
        } else {
            Error::Lost { url: self.url().into(), why: said(why) }
        }
    }

    /// The error for an answer that makes no sense.
    pub(super) fn malformed(&self, why: impl AsRef<str>) -> Error {
        Error::Malformed { url: self.url().into(), why: Text::new(why) }
    }
}

/// What a transport error says at its root; the layers above it only repeat the address.
fn said(why: &reqwest::Error) -> Text {
    let mut cause: &dyn std::error::Error = why;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Text::new(cause.to_string())
}

fn address(url: &str) -> Result<Url, Error> {
    let refused = || Error::Address { url: Text::new(url) };
    let parsed = Url::parse(url).map_err(|_| refused())?;
    let is_plain = parsed.username().is_empty() && parsed.password().is_none() && parsed.query().is_none();
    (matches!(parsed.scheme(), "http" | "https") && is_plain).then_some(parsed).ok_or_else(refused)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The `Date` header as a time.
fn date_millis(date: &str) -> Option<Timestamp> {
    let zoned = jiff::fmt::rfc2822::parse(date).ok()?;
    u64::try_from(zoned.timestamp().as_millisecond()).ok().map(Timestamp::from_millis)
}

fn token(file: Option<&Path>) -> Result<Option<SecretString>, Error> {
    let (source_name, held) = match file {
        Some(path) => (path.display().to_string(), read_token(path).map(Some)),
        None => match env::var(TOKEN_VARIABLE) {
            Ok(token) => (TOKEN_VARIABLE.into(), Ok(Some(token))),
            Err(env::VarError::NotPresent) => (TOKEN_VARIABLE.into(), Ok(None)),
            Err(env::VarError::NotUnicode(_)) => (TOKEN_VARIABLE.into(), Err("it is not text".into())),
        },
    };
    let usable = |token: String| {
        let token = token.trim();
        let legal = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        legal.then(|| SecretString::from(token)).ok_or("it is empty or holds more than one word".to_owned())
    };
    match held.and_then(|held| held.map(usable).transpose()) {
        Ok(token) => Ok(token),
        Err(why) => Err(Error::Token { source_name, why: Text::new(why) }),
    }
}

fn read_token(path: &Path) -> Result<String, String> {
    let mut token = String::new();
    let file = fs::File::open(path).map_err(|why| why.to_string())?;
    file.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut token).map_err(|why| why.to_string())?;
    if token.len() as u64 > TOKEN_BYTES_MAX {
        return Err(format!("it is larger than {TOKEN_BYTES_MAX} bytes"));
    }
    Ok(token)
}

/// Words of strangers as a terminal may show them: one line, no control characters, bounded.
pub(super) fn shown(words: impl AsRef<str>) -> String {
    Text::new(words).as_str().to_owned()
}

/// The word for a plain value, as the API writes it.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word.replace('_', " "),
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// Writes a line to standard output. A reader that went away (`| head`) is an error here and not a panic.
pub(super) fn say(line: impl AsRef<str>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_ref().as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_and_bears_no_credentials() {
        for url in ["http://127.0.0.1:7420", "https://gate.example/tollgate/", "http://[::1]:7420"] {
            assert!(address(url).is_ok(), "{url}");
        }
        for url in ["", "127.0.0.1:7420", "file:///etc/passwd", "http://me:secret@gate", "http://gate/?x=1"] {
            assert!(address(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_path_prefix_of_a_proxy_is_kept() {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let connection = Connection { url: "https://gate.example/tollgate/".into(), token_file: None };
        let client = Client::new(&connection).unwrap();
        let request = client.request(Method::GET, &["v1", "services", "a/b"]).unwrap().build().unwrap();
        assert_eq!(request.url().as_str(), "https://gate.example/tollgate/v1/services/a%2Fb");
    }

    #[test]
    fn the_servers_date_is_read() {
        assert_eq!(date_millis("Tue, 14 Nov 2023 22:13:20 GMT"), Some(Timestamp::from_millis(1_700_000_000_000)));
        assert_eq!(date_millis("yesterday"), None);
    }

    #[test]
    fn a_token_file_holds_one_word_within_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let limit = usize::try_from(TOKEN_BYTES_MAX).unwrap();
        for (held, fine) in [
            ("s3cret\n".to_owned(), true),
            ("x".repeat(limit), true),
            ("x".repeat(limit + 1), false),
            (" \n".into(), false),
            ("two words".into(), false),
        ] {
            fs::write(&path, &held).unwrap();
            assert_eq!(token(Some(&path)).is_ok(), fine, "{} bytes", held.len());
        }
        let missing = token(Some(&dir.path().join("nothing"))).unwrap_err().to_string();
        assert!(missing.contains("nothing") && missing.contains("No such file"), "{missing}");
    }
}
