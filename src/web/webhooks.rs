//! Where GitHub delivers its webhook: `POST /webhooks/github`.
//!
//! A stranger may post here, so the order matters: cheap looks at the headers, then the body up to a limit, then its
//! signature, and only then is anything of the body parsed. A merge is answered once it is in the journal, never
//! before: GitHub does not deliver again by itself what it believes was taken. The same delivery twice is one event of
//! the fleet, so delivering again is always safe, and every answer that asks for it says so.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use secrecy::SecretString;
use serde_json::json;

use crate::{
    daemon::Handle,
    domain::Text,
    forge::webhook::{self, Delivery, Refusal},
    rollout::Event,
};

/// The path that is to be given to GitHub.
pub const PATH: &str = "/webhooks/github";
/// Most bytes of a body, unless set otherwise.
pub const BODY_BYTES_DEFAULT: usize = 5 << 20;
/// Most bytes that GitHub ever sends; a limit cannot be set higher.
pub const BODY_BYTES_MAX: usize = 25 << 20;
/// Most characters of a delivery's number and of an event's name.
pub const HEADER_CHARS_MAX: usize = 100;

/// How long a sender may take to send the body, unless set otherwise. GitHub gives up on a delivery after 10 seconds.
pub const BODY_WITHIN_DEFAULT: Duration = Duration::from_secs(10);
/// How long the journal may take, unless set otherwise; then the sender is asked to come back, which is safe.
pub const DURABLE_WITHIN_DEFAULT: Duration = Duration::from_secs(8);
/// The wait asked for, in seconds, when the daemon takes nothing.
const RETRY_AFTER_SECONDS: &str = "10";

/// What the endpoint needs.
#[derive(Clone, Debug)]
pub struct Inlet {
    handle: Handle,
    secret: SecretString,
    body_bytes_max: usize,
    body_within: Duration,
    durable_within: Duration,
}

/// Why a request is not taken, as it is told to the sender.
struct Refused(StatusCode, Text);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, why) = self;
        // Anyone can cause one of these, so it is no warning.
        tracing::info!(%status, %why, "a delivery was refused");
        let mut response = (status, Json(json!({ "status": "refused", "why": why }))).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let wait = header::HeaderValue::from_static(RETRY_AFTER_SECONDS);
            response.headers_mut().insert(header::RETRY_AFTER, wait);
        }
        response
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Signature => StatusCode::UNAUTHORIZED,
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
        };
        Self(status, Text::new(refusal.to_string()))
    }
}

/// The endpoint with the default limit of a body's size.
pub fn routes(handle: Handle, secret: SecretString) -> Router {
    Inlet::new(handle, secret).routes()
}

impl Inlet {
    /// Deliveries signed under `secret` become events of `handle`. An empty secret takes no delivery at all.
    pub fn new(handle: Handle, secret: SecretString) -> Self {
        Self {
            handle,
            secret,
            body_bytes_max: BODY_BYTES_DEFAULT,
            body_within: BODY_WITHIN_DEFAULT,
            durable_within: DURABLE_WITHIN_DEFAULT,
        }
    }

    /// With another limit of a body's size in bytes, at most [`BODY_BYTES_MAX`].
    pub fn body_bytes_max(self, bytes: usize) -> Self {
        Self { body_bytes_max: bytes.min(BODY_BYTES_MAX), ..self }
    }

    /// With other times for a body to come in and for an event to become durable.
    pub fn within(self, body_within: Duration, durable_within: Duration) -> Self {
        Self { body_within, durable_within, ..self }
    }

    /// The endpoint.
    pub fn routes(self) -> Router {
        let limit = DefaultBodyLimit::max(self.body_bytes_max);
        Router::new().route(PATH, post(deliver)).layer(limit).with_state(Arc::new(self))
    }
}

async fn deliver(State(inlet): State<Arc<Inlet>>, request: Request) -> Result<Response, Refused> {
    let headers = request.headers();
    check_content_type(headers)?;
    let event = plain_header(headers, webhook::EVENT_HEADER)?;
    let delivery = plain_header(headers, webhook::DELIVERY_HEADER)?;
    let signature = headers.get(webhook::SIGNATURE_HEADER).and_then(|value| value.to_str().ok());
    let signature = signature.ok_or(Refusal::Signature)?.to_owned();
    let body = body(request, &inlet).await?;
    webhook::verify(&inlet.secret, &body, &signature)?;

    let (repository, pull_request, branch, into_default) = match webhook::read(&event, &body)? {
        Delivery::Ignored { why } => {
            let answer = json!({ "status": "ignored", "why": why });
            return Ok((StatusCode::ACCEPTED, Json(answer)).into_response());
        }
        Delivery::Merged { repository, pull_request, branch, into_default } => {
            (repository, pull_request, branch, into_default)
        }
    };
    tracing::info!(%repository, pull_request, delivery, "a pull request was merged");
    let merged =
        Event::PullRequestMerged { delivery: Text::new(&delivery), repository, pull_request, branch, into_default };
    let unavailable = |why: &str| Refused(StatusCode::SERVICE_UNAVAILABLE, Text::new(why));
    match tokio::time::timeout(inlet.durable_within, inlet.handle.submit(merged)).await {
        Ok(Ok(())) => {
            Ok((StatusCode::ACCEPTED, Json(json!({ "status": "accepted", "delivery": delivery }))).into_response())
        }
        Ok(Err(closed)) => Err(unavailable(&format!("{closed}; deliver it again later"))),
        Err(_) => Err(unavailable("the journal is slow; deliver it again later, twice counts once")),
    }
}

/// GitHub can send the same payload as a form; a form is not read, and the setting is easy to mistake.
fn check_content_type(headers: &HeaderMap) -> Result<(), Refused> {
    let named = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = named.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let why = format!("the content type is `{named}`: choose application/json in the webhook's settings");
    Err(Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, Text::new(why)))
}

/// A header that must be there, short and printable: it is kept and shown.
fn plain_header(headers: &HeaderMap, name: &str) -> Result<String, Refused> {
    let bad = |why: String| Refused(StatusCode::BAD_REQUEST, Text::new(why));
    let value = headers.get(name).ok_or_else(|| bad(format!("the header {name} is missing")))?.as_bytes();
    let printable = value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    match std::str::from_utf8(value) {
        Ok(text) if printable && (1..=HEADER_CHARS_MAX).contains(&text.len()) => Ok(text.to_owned()),
        Ok(_) | Err(_) => {
            Err(bad(format!("the header {name} needs 1 to {HEADER_CHARS_MAX} printable ASCII characters")))
        }
    }
}

async fn body(request: Request, inlet: &Inlet) -> Result<Bytes, Refused> {
    match tokio::time::timeout(inlet.body_within, Bytes::from_request(request, &())).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let why = format!("the body is larger than {} bytes: raise the limit", inlet.body_bytes_max);
            Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, Text::new(why)))
        }
        Ok(Err(rejection)) => Err(Refused(rejection.status(), Text::new(rejection.body_text()))),
        Err(_) => Err(Refused(StatusCode::REQUEST_TIMEOUT, Text::new("the body did not come in time"))),
    }
}
