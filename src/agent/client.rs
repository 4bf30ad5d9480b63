//! The client of a language model's server, over async-openai: the one file that names that crate.
//!
//! Of the crate we use the path, the headers' place and the sending of bytes that we made. Its types are exact where
//! servers are not, so requests and answers are our own ([`super::client_request`], [`super::client_answers`]); its retries
//! are replaced by [`crate::retry`], for only one place may decide how often a paid call is made; and its reading is done
//! here, up to a limit, for it reads all that comes and logs what it cannot parse. It reads no environment variable here:
//! a key that happens to lie there must not go to whatever address is configured.

use std::{
    fmt, io,
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_openai::{config::Config as Access, error::OpenAIError, middleware::HttpRequestFactory};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    Config, Flavour, Price,
    breaker::Breaker,
    client_answers::{self as answers, Answer, Counted, Setback},
    client_request::{Dialect, Request, request},
    model::{Asked, CallError, Finish, Model, Question, Reply},
};
use crate::{
    domain::{Digest, Message, Text, Usage},
    retry::{self, Failure},
};

/// Most bytes of an answer.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Most bytes of an error's body; what goes beyond is left unread.
const COMPLAINT_BYTES_MAX: usize = 64 << 10;
/// Bytes that make a token at least, where the server does not count: on the dear side for text and code.
const BYTES_A_TOKEN: u64 = 3;

/// A client of a model's server. Many tasks may ask at once.
pub struct Client {
    config: Config,
    api: async_openai::Client<Address>,
    /// What the server is known to take; learnt from its first refusals.
    dialect: Mutex<Dialect>,
    breaker: Breaker,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base_url", &self.config.base_url).field("model", &self.config.model).finish()
    }
}

/// Where requests go and what they show, in the crate's terms.
#[derive(Clone)]
struct Address {
    endpoint: String,
    headers: HeaderMap,
    api_version: Option<String>,
    /// The crate wants to be able to ask for it; it never does for a chat.
    no_key: SecretString,
}

impl Access for Address {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.endpoint)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        self.api_version.iter().map(|version| ("api-version", version.as_str())).collect()
    }

    fn api_base(&self) -> &str {
        &self.endpoint
    }

    fn api_key(&self) -> &SecretString {
        &self.no_key
    }
}

/// Why the crate's call ended without a body to read. It comes back through the crate's own error.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("status {0}")]
    Status(StatusCode, Option<Duration>, Vec<u8>),
    #[error("{why}")]
    Broken { why: String, sent: bool },
    #[error("larger than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    #[error("no JSON")]
    NotJson(&'static str),
}

impl From<Trouble> for OpenAIError {
    fn from(trouble: Trouble) -> Self {
        Self::Boxed(Box::new(trouble))
    }
}

/// What came of a question, before it is put into the caller's words.
pub(super) struct Heard {
    pub(super) answer: Result<Answer, Setback>,
    pub(super) digest: Digest,
    pub(super) request_bytes: usize,
    pub(super) attempts: u32,
    pub(super) unanswered: u32,
}

impl Client {
    /// A client for this configuration. It reaches nothing yet.
    ///
    /// Fails with [`CallError::Rejected`] where the address is none, where the key would go over the network in the clear,
    /// or where the model or the key cannot be sent.
    pub fn new(config: Config) -> Result<Self, CallError> {
        let refused = |why: &str| CallError::Rejected(Text::new(why));
        let base = address(&config)?;
        let host = host(&base);
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION"))));
        if let Some(key) = &config.key {
            let (name, prefix) = match config.flavour {
                Flavour::OpenAi => (header::AUTHORIZATION, "Bearer "),
                Flavour::Azure { .. } => (header::HeaderName::from_static("api-key"), ""),
            };
            let shown = HeaderValue::from_str(&format!("{prefix}{}", key.expose_secret()));
            let mut shown =
                shown.map_err(|_| refused("the key holds characters that no key has, such as a line end"))?;
            if key.expose_secret().is_empty() {
                return Err(refused("the key is empty: leave it out where the server wants none"));
            }
            shown.set_sensitive(true);
            headers.insert(name, shown);
        }
        let root = config.base_url.trim_end_matches('/');
        let (endpoint, api_version) = match &config.flavour {
            Flavour::OpenAi => (root.to_owned(), None),
            Flavour::Azure { api_version } => {
                let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                if config.model.is_empty() || !config.model.chars().all(fits) {
                    return Err(refused("the deployment's name goes into the path: letters, digits, `-`, `_` and `.`"));
                }
                (format!("{root}/openai/deployments/{}", config.model), Some(api_version.clone()))
            }
        };
        let address = Address { endpoint, headers, api_version, no_key: SecretString::from("") };
        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(config.timeout);
        if is_loopback(host) {
            // What a proxy would be given to carry to itself, key and all.
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| refused(&format!("no client can be made: {}", error.without_url())))?;
        let key = config.key.clone();
        let service = tower::service_fn(move |factory| send(http.clone(), key.clone(), factory));
        let api = async_openai::Client::with_config(address).with_http_service(service);
        let dialect = Mutex::new(Dialect::first(host));
        Ok(Self { config, api, dialect, breaker: Breaker::new() })
    }

    pub(super) fn dialect(&self) -> MutexGuard<'_, Dialect> {
        // A plain value: what a panic elsewhere left is whole.
        self.dialect.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks with at most so many attempts, and besides once for each parameter that the server turns out not to take.
    pub(super) async fn hear(&self, question: &Question<'_>, attempts_max: u32) -> Heard {
        let began = Instant::now();
        let attempts_max = attempts_max.min(question.tries.most());
        let within = self.config.timeout.saturating_mul(attempts_max);
        let (attempts, unanswered) = (AtomicU32::new(0), AtomicU32::new(0));
        let mut dialect = *self.dialect();
        let mut given_up = Vec::new();
        loop {
            let request = match request(&self.config.model, question, dialect) {
                Ok(request) => request,
                Err(error) => {
                    let rejected = CallError::Rejected(Text::new(format!("it cannot be written: {error}")));
                    let (digest, answer) = (Digest::new(""), Err(Setback::Call(rejected)));
                    return Heard { answer, digest, request_bytes: 0, attempts: 0, unanswered: 0 };
                }
            };
            let changes = u32::try_from(given_up.len()).unwrap_or(u32::MAX);
            let left = attempts_max.saturating_sub(attempts.load(Ordering::Relaxed).saturating_sub(changes)).max(1);
            let answer = retry::attempt(left, within.saturating_sub(began.elapsed()), || {
                attempts.fetch_add(1, Ordering::Relaxed);
                question.tries.begin();
                self.once(&request, question.messages, &unanswered)
            })
            .await;
            let next = match &answer {
                Err(Setback::Parameter(parameter, _)) => dialect.without(parameter),
                Err(_) | Ok(_) => None,
            };
            // No dialect is spoken twice, so this ends: each of six parameters is given up once.
            if let Some(next) = next.filter(|next| !given_up.contains(next)) {
                tracing::info!(model = %self.config.model, ?next, "the model's server does not take a parameter");
                given_up.push(std::mem::replace(&mut dialect, next));
                continue;
            }
            if answer.is_ok() {
                // Only now: a parameter that was refused for another reason must not be lost for good.
                *self.dialect() = dialect;
            }
            return Heard {
                answer,
                digest: request.digest,
                request_bytes: request.body.get().len(),
                attempts: attempts.into_inner(),
                unanswered: unanswered.into_inner(),
            };
        }
    }

    async fn once(
        &self,
        request: &Request,
        said: &[Message],
        unanswered: &AtomicU32,
    ) -> Result<Answer, Failure<Setback>> {
        let call = async { self.api.chat().create_byot::<_, Value>(&request.body).await };
        match tokio::time::timeout(self.config.timeout, call).await {
            Ok(Ok(answer)) => answers::read(&answer, said),
            Ok(Err(OpenAIError::Boxed(boxed))) => Err(match boxed.downcast::<Trouble>().map(|trouble| *trouble) {
                Ok(Trouble::Status(status, asked_wait, body)) => answers::failure(status, asked_wait, &body),
                Ok(Trouble::Broken { why, sent }) => {
                    unanswered.fetch_add(u32::from(sent), Ordering::Relaxed);
                    Failure::passing(Setback::unavailable(why))
                }
                Ok(trouble @ Trouble::TooLarge) => Failure::Final(Setback::malformed(trouble.to_string())),
                Ok(Trouble::NotJson(what)) => Failure::Final(Setback::malformed(what)),
                Err(_) => Failure::Final(Setback::malformed("it could not be asked")),
            }),
            // Nothing of what the crate says is repeated: it may hold the whole answer.
            Ok(Err(_)) => Err(Failure::Final(Setback::malformed("it could not be asked"))),
            Err(_) => {
                unanswered.fetch_add(1, Ordering::Relaxed);
                let why = format!("no whole answer within {} ms", self.config.timeout.as_millis());
                Err(Failure::passing(Setback::unavailable(why)))
            }
        }
    }

    /// What was used: as the server counted, or reckoned from bytes where it does not, for a server that counts nothing
    /// must not be free.
    pub(super) fn usage(&self, counted: Option<Counted>, request_bytes: usize, message: &Message) -> Usage {
        let counted = counted.unwrap_or_else(|| Counted {
            input: reckoned(request_bytes),
            cached: 0,
            output: reckoned(answer_bytes(message)),
        });
        usage(self.config.price, counted)
    }

    async fn asked(&self, question: Question<'_>) -> Asked {
        let began = Instant::now();
        let pass = match self.breaker.pass() {
            Ok(pass) => pass,
            Err(left) => return self.refused(&question, left),
        };
        let heard = self.hear(&question, if pass.is_trial() { 1 } else { self.attempts_max() }).await;
        let reply = match heard.answer {
            Ok(answer) => Ok(Reply {
                usage: self.usage(answer.counted, heard.request_bytes, &answer.message),
                message: answer.message,
                finish: answer.finish,
                served_by: answer.served_by,
            }),
            Err(Setback::Call(error) | Setback::Parameter(_, error)) => Err(error),
            Err(Setback::Filtered) => {
                // Its provider reads a question before it refuses it, and charges for that.
                let message = Message::Assistant { text: None, refusal: None, calls: Vec::new() };
                let usage = self.usage(None, heard.request_bytes, &message);
                Ok(Reply { message, finish: Finish::ContentFilter, served_by: Text::default(), usage })
            }
        };
        pass.report(!matches!(reply, Err(CallError::Unavailable(_))));
        if let Err(error) = &reply {
            tracing::warn!(model = %self.config.model, attempts = heard.attempts, %error, "the model did not answer");
        }
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Asked { reply, request: heard.digest, attempts: heard.attempts, unanswered: heard.unanswered, millis }
    }

    /// A question that is not asked, since the model is being left alone.
    fn refused(&self, question: &Question<'_>, left: Duration) -> Asked {
        let words = if left.is_zero() {
            "it failed again and again, and is being tried".to_owned()
        } else {
            format!("it failed again and again, and is left alone for {} s more", left.as_secs() + 1)
        };
        let dialect = *self.dialect();
        let digest = request(&self.config.model, question, dialect).map(|request| request.digest);
        Asked {
            reply: Err(CallError::Unavailable(Text::new(words))),
            request: digest.unwrap_or_else(|_| Digest::new("")),
            attempts: 0,
            unanswered: 0,
            millis: 0,
        }
    }
}

impl Model for Client {
    fn name(&self) -> &str {
        &self.config.model
    }

    fn attempts_max(&self) -> u32 {
        self.config.attempts_max.max(1)
    }

    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Asked> {
        Box::pin(self.asked(question))
    }
}

/// Sends one request and reads its answer up to the limit. Success comes back as the crate expects it; all else as
/// [`Trouble`], for the crate would log what it cannot read.
async fn send(
    http: reqwest::Client,
    key: Option<SecretString>,
    factory: HttpRequestFactory,
) -> Result<reqwest::Response, OpenAIError> {
    let request = factory.build().await?;
    let mut response = http.execute(request).await.map_err(|error| {
        let sent = !error.is_connect() && !error.is_builder();
        Trouble::Broken { why: cause(error), sent }
    })?;
    let (status, asked_wait) = (response.status(), answers::asked_wait(response.headers()));
    let bytes_max = if status.is_success() { ANSWER_BYTES_MAX } else { COMPLAINT_BYTES_MAX };
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= bytes_max => body.extend_from_slice(&chunk),
            Ok(Some(_)) if status.is_success() => return Err(Trouble::TooLarge.into()),
            Ok(Some(_) | None) => break,
            // An error's status says enough, even where its body is cut off.
            Err(_) if !status.is_success() => break,
            Err(error) => return Err(Trouble::Broken { why: cause(error), sent: true }.into()),
        }
    }
    if let Some(key) = &key {
        body = without_key(body, key.expose_secret());
    }
    if !status.is_success() {
        return Err(Trouble::Status(status, asked_wait, body).into());
    }
    if serde_json::from_slice::<Value>(&body).is_err() {
        let is_page = body.trim_ascii_start().starts_with(b"<");
        let what = if is_page { "it is a web page: is the base URL the API's?" } else { "it is no JSON" };
        return Err(Trouble::NotJson(what).into());
    }
    Ok(axum::http::Response::new(body).into())
}

/// The innermost reason, which names no address: a base URL may be a secret in itself.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut reason: &dyn std::error::Error = &error;
    while let Some(inner) = reason.source() {
        reason = inner;
    }
    match reason.downcast_ref::<io::Error>() {
        Some(error) => error.kind().to_string(),
        None => reason.to_string(),
    }
}

/// A server may repeat the key that it was shown, in an error or in an answer. From here on nobody knows it.
fn without_key(body: Vec<u8>, key: &str) -> Vec<u8> {
    let holds_key = body.windows(key.len()).any(|window| window == key.as_bytes());
    if holds_key { String::from_utf8_lossy(&body).replace(key, "(the key)").into_bytes() } else { body }
}

fn reckoned(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(BYTES_A_TOKEN)
}

fn answer_bytes(message: &Message) -> usize {
    match message {
        Message::Assistant { text, refusal, calls } => {
            let calls: usize = calls.iter().map(|call| call.name.len() + call.arguments.len()).sum();
            calls + text.as_ref().map_or(0, String::len) + refusal.as_ref().map_or(0, String::len)
        }
        Message::System(text) | Message::User(text) => text.len(),
        Message::Tool { answer, .. } => answer.len(),
    }
}

fn usage(price: Option<Price>, counted: Counted) -> Usage {
    let Counted { input, cached, output } = counted;
    let micro_dollars = price.map(|price| price.of(input, cached, output));
    Usage { input_tokens: input, cached_tokens: cached, output_tokens: output, micro_dollars }
}

fn host(base: &Uri) -> &str {
    base.host().unwrap_or_default().trim_matches(['[', ']'])
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The API's address. An error does not repeat it, for people write credentials into addresses.
fn address(config: &Config) -> Result<Uri, CallError> {
    let refused = |why: &str| Err(CallError::Rejected(Text::new(why)));
    let plain = config.base_url.parse::<Uri>().ok().filter(|uri| {
        let schemed = matches!(uri.scheme_str(), Some("https" | "http"));
        schemed && uri.query().is_none() && uri.authority().is_some_and(|host| !host.as_str().contains('@'))
    });
    let Some(uri) = plain else {
        return refused(
            "the base URL is none: write `https://api.openai.com/v1`, with nothing but a path after the host",
        );
    };
    if config.key.is_some() && uri.scheme_str() == Some("http") && !is_loopback(host(&uri)) {
        return refused("the key would be sent in the clear: write the base URL with https");
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{Budgets, Limits};

    const KEY: &str = "sk-0123456789abcdef";

    fn config(base_url: &str) -> Config {
        Config {
            flavour: Flavour::OpenAi,
            base_url: base_url.into(),
            model: "m".into(),
            key: Some(KEY.into()),
            timeout: Duration::from_secs(1),
            attempts_max: 1,
            price: None,
            limits: Limits::default(),
            budgets: Budgets::default(),
        }
    }

    fn refusal(config: Config) -> String {
        match Client::new(config) {
            Err(CallError::Rejected(words)) => words.to_string(),
            other => panic!("was not refused: {other:?}"),
        }
    }

    #[test]
    fn a_key_goes_to_https_or_loopback_only() {
        for open in [
            "http://models.example.com/v1",
            "http://10.0.0.7/v1",
            "http://localhost.example.com",
            "http://[2001:db8::1]/v1",
        ] {
            let refused = refusal(config(open));
            assert!(refused.contains("https") && !refused.contains("example"), "{refused}");
            let keyless = Config { key: None, ..config(open) };
            assert!(Client::new(keyless).is_ok(), "without a key there is nothing to lose: {open}");
        }
        for kept in
            ["https://models.example.com/v1/", "http://127.0.0.1:8000/v1", "http://localhost/v1", "http://[::1]:1"]
        {
            assert!(Client::new(config(kept)).is_ok(), "{kept}");
        }
    }

    #[test]
    fn an_address_that_is_none_or_holds_a_secret_is_refused_without_repeating_it() {
        for wrong in
            ["", "models", "ftp://models/v1", "https://user:hunter2@models/v1", "https://models/v1?key=hunter2"]
        {
            let refused = refusal(config(wrong));
            assert!(refused.contains("base URL") && !refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn a_key_or_a_deployment_that_cannot_be_sent_is_refused_without_showing_the_key() {
        let broken = refusal(Config { key: Some(format!("{KEY}\n").into()), ..config("https://models/v1") });
        assert!(broken.contains("line end") && !broken.contains(KEY), "{broken}");
        assert!(refusal(Config { key: Some("".into()), ..config("https://models/v1") }).contains("empty"));
        let azure = Flavour::Azure { api_version: "2024-10-21".into() };
        let climbing = Config { flavour: azure, model: "../x".into(), ..config("https://models") };
        assert!(refusal(climbing).contains("deployment"));
    }

    #[test]
    fn neither_the_client_nor_its_address_shows_the_key() {
        let client = Client::new(config("https://models.example.com/v1")).unwrap();
        let shown = format!("{client:?} {:?} {:?}", client.config, client.api.config().headers());
        assert!(!shown.contains(KEY), "{shown}");
        assert_eq!(without_key(format!("a {KEY} b").into_bytes(), KEY), b"a (the key) b");
    }

    #[test]
    fn what_is_not_counted_is_reckoned_on_the_dear_side() {
        let client = Client::new(config("https://models.example.com/v1")).unwrap();
        let message = Message::Assistant { text: Some("abcd".into()), refusal: None, calls: vec![] };
        let usage = client.usage(None, 10, &message);
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.micro_dollars), (4, 2, None));
    }
}
