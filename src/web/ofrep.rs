//! Feature flags out, by OpenFeature's remote evaluation protocol (OFREP 0.3): the two endpoints that a server-side and a
//! client-side provider ask.
//!
//! Services ask here on the path of their own requests, so nothing waits: a handler reads its body, takes the flag's
//! state as it stands and answers. They need no token, and learn nothing but their own side of each flag.
//!
//! Every success has `metadata`: `version` counts the flag's changes since the start, and once a rollout has moved the
//! flag, `rollout` is its name, `share` the share in basis points, and `revision` what the side runs, where known.
//!
//! A context that is not there counts as an empty one: some providers leave it out when they have nothing to say.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    domain::{Revision, Share, Text},
    traffic::{Context, Failure, FlagState, Flags, evaluate},
};

/// Most bytes of a request's body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// How much of the bulk answer's digest its entity tag carries, in bytes.
const ETAG_BYTES: usize = 16;

/// The routes of the protocol. They are no part of the acting API and have their own body limit.
pub fn routes(flags: Flags) -> Router {
    Router::new()
        .route("/ofrep/v1/evaluate/flags/{key}", post(one))
        .route("/ofrep/v1/evaluate/flags", post(all))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(flags)
}

#[derive(Serialize)]
struct Success {
    key: String,
    reason: &'static str,
    variant: String,
    value: Value,
    metadata: Metadata,
}

#[derive(Serialize)]
struct Metadata {
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<Revision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<Share>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Mistake {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    error_code: &'static str,
    error_details: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Success(Success),
    Failure(Mistake),
}

#[derive(Serialize)]
struct Bulk {
    flags: Vec<Entry>,
}

/// Why a request is answered with an error, before a flag's key is put to it.
struct Rejected {
    status: StatusCode,
    code: &'static str,
    details: String,
}

impl Rejected {
    fn parse(details: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "PARSE_ERROR", details: details.into() }
    }

    fn mistake(self, key: Option<String>) -> Mistake {
        Mistake { key, error_code: self.code, error_details: self.details }
    }

    fn answer(self, key: Option<String>) -> Response {
        (self.status, Json(self.mistake(key))).into_response()
    }
}

impl From<Failure> for Rejected {
    fn from(failure: Failure) -> Self {
        let code = match &failure {
            Failure::TargetingKeyMissing => "TARGETING_KEY_MISSING",
            Failure::InvalidContext(_) => "INVALID_CONTEXT",
        };
        Self { status: StatusCode::BAD_REQUEST, code, details: failure.to_string() }
    }
}

impl From<BytesRejection> for Rejected {
    fn from(rejection: BytesRejection) -> Self {
        let status = rejection.status();
        let details = match status {
            StatusCode::PAYLOAD_TOO_LARGE => format!("the body is larger than {BODY_BYTES_MAX} bytes"),
            _ => "the body could not be read".into(),
        };
        Self { status, code: "GENERAL", details }
    }
}

async fn one(
    State(flags): State<Flags>,
    key: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    // A key that is no text is the key of no flag. What a stranger wrote is said back cut and cleaned.
    let key = key.map(|Path(key)| key).unwrap_or_default();
    let shown = Text::new(&key).as_str().to_owned();
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return Rejected::from(rejection).answer(Some(shown)),
    };
    let Some(state) = flags.state(&key) else {
        let details = format!("no service has a flag `{shown}`");
        return Rejected { status: StatusCode::NOT_FOUND, code: "FLAG_NOT_FOUND", details }.answer(Some(shown));
    };
    match context(&body).and_then(|context| Ok(success(&state, &context)?)) {
        Ok(success) => Json(success).into_response(),
        Err(rejected) => rejected.answer(Some(shown)),
    }
}

async fn all(State(flags): State<Flags>, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    let context = match body.map_err(Rejected::from).and_then(|body| context(&body)) {
        Ok(context) => context,
        Err(rejected) => return rejected.answer(None),
    };
    let entry = |state: &FlagState| match success(state, &context) {
        Ok(success) => Entry::Success(success),
        Err(failure) => Entry::Failure(Rejected::from(failure).mistake(Some(state.key.clone()))),
    };
    let bulk = Bulk { flags: flags.states().map(|state| entry(&state)).collect() };
    let Ok(answer) = serde_json::to_vec(&bulk) else {
        let details = "the answer could not be written".into();
        return Rejected { status: StatusCode::INTERNAL_SERVER_ERROR, code: "GENERAL", details }.answer(None);
    };
    // The tag is a digest of the answer itself: it changes with the flags and with the context, and with nothing else.
    let digest = Sha256::digest(&answer);
    let digits: String = digest.iter().take(ETAG_BYTES).map(|byte| format!("{byte:02x}")).collect();
    let tag = (header::ETAG, format!("\"{digits}\""));
    if knows(&headers, &digits) {
        return (StatusCode::NOT_MODIFIED, [tag]).into_response();
    }
    ([tag, (header::CONTENT_TYPE, "application/json".into())], answer).into_response()
}

/// Whether the asker has this tag already. Tags are compared without quotes and without the mark of a weak one, which
/// proxies that compress put there.
fn knows(headers: &HeaderMap, digits: &str) -> bool {
    let lists = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == digits)
}

/// The context in a body.
fn context(body: &[u8]) -> Result<Context, Rejected> {
    let body: Value =
        serde_json::from_slice(body).map_err(|why| Rejected::parse(format!("the body is not JSON: {why}")))?;
    let Value::Object(mut body) = body else {
        return Err(Rejected::parse("the body is not a JSON object"));
    };
    let context = body.remove("context").unwrap_or_else(|| Value::Object(Map::new()));
    Ok(Context::from_json(context)?)
}

fn success(state: &FlagState, context: &Context) -> Result<Success, Failure> {
    let evaluation = evaluate(state, context)?;
    let standing = state.standing.as_ref();
    Ok(Success {
        key: state.key.clone(),
        reason: evaluation.reason.as_str(),
        variant: evaluation.arm.to_string(),
        value: evaluation.value,
        metadata: Metadata {
            version: state.version,
            revision: evaluation.revision,
            rollout: standing.map(|standing| standing.rollout.to_string()),
            share: standing.map(|standing| standing.exposure.share),
        },
    })
}
