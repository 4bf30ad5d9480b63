//! OTLP over HTTP: `POST /v1/metrics`, protobuf or JSON, packed with gzip or not.
//!
//! Bodies are unpacked as gRPC unpacks a message, by the same code and to the same limit, so that what grows beyond it
//! is given up while it grows.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::StreamExt;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use prost::Message;
use serde_json::json;
use tonic::{Code, Streaming, codec::CompressionEncoding};
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

use super::{
    decode::BODY_BYTES_MAX,
    grpc::Whole,
    receive::{Encoding, Receiver, Refusal},
    store::Taken,
};
use crate::domain::Text;

/// Longest time that one request may take.
pub const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// What a sender is told to wait, in seconds.
const RETRY_AFTER: &str = "1";

/// `google.rpc.Status`, the body of every refusal.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// The routes.
pub(super) fn router(receiver: Arc<Receiver>) -> Router {
    Router::new()
        .route("/v1/metrics", post(export))
        .with_state(receiver)
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_WITHIN))
        .layer(CatchPanicLayer::new())
}

async fn export(State(receiver): State<Arc<Receiver>>, request: Request) -> Response {
    let encoding = encoding(request.headers());
    // A sender that writes what nobody reads gets its refusal in protobuf.
    let answers_in = *encoding.as_ref().unwrap_or(&Encoding::Protobuf);
    let taken = async {
        let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let _room = receiver.admit(authorization)?;
        let encoding = encoding?;
        let is_packed = is_packed(request.headers())?;
        let body = whole(request).await?;
        let body = if is_packed { unpacked(&body).await? } else { body };
        receiver.take_in(&body, encoding)
    };
    match taken.await {
        Ok(taken) => accepted(taken, answers_in),
        Err(refusal) => refused(&refusal, answers_in),
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" => Ok(Encoding::Protobuf),
        "application/json" => Ok(Encoding::Json),
        _ => Err(Refusal::WrongType(Text::new("send application/x-protobuf or application/json"))),
    }
}

fn is_packed(headers: &HeaderMap) -> Result<bool, Refusal> {
    let Some(said) = headers.get(header::CONTENT_ENCODING) else { return Ok(false) };
    match said.as_bytes() {
        b"gzip" => Ok(true),
        b"identity" | b"" => Ok(false),
        _ => Err(Refusal::WrongType(Text::new("pack the body with gzip or not at all"))),
    }
}

fn too_large() -> Refusal {
    Refusal::TooLarge(Text::new(format!("the body has more than {BODY_BYTES_MAX} bytes: send smaller batches")))
}

async fn whole(request: Request) -> Result<Bytes, Refusal> {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if length.and_then(|length| length.parse::<usize>().ok()).is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    let mut chunks = request.into_body().into_data_stream();
    let mut body = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Refusal::Malformed(Text::new("the body broke off")))?;
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

async fn unpacked(packed: &[u8]) -> Result<Bytes, Refusal> {
    let length = u32::try_from(packed.len()).map_err(|_| too_large())?;
    let mut message = Vec::with_capacity(packed.len() + 5);
    message.push(1);
    message.extend(length.to_be_bytes());
    message.extend(packed);
    let gzip = Some(CompressionEncoding::Gzip);
    let mut messages = Streaming::new_request(Whole, Body::from(message), gzip, Some(BODY_BYTES_MAX));
    match messages.message().await {
        Ok(Some(body)) => Ok(body),
        Err(status) if matches!(status.code(), Code::ResourceExhausted | Code::OutOfRange) => Err(too_large()),
        Ok(None) | Err(_) => Err(Refusal::Malformed(Text::new("the body is no whole gzip"))),
    }
}

/// The answer to an export, in protobuf.
pub(super) fn response(taken: Taken) -> ExportMetricsServiceResponse {
    let told = taken.word.map(|word| ExportMetricsPartialSuccess {
        rejected_data_points: i64::try_from(taken.rejected).unwrap_or(i64::MAX),
        error_message: word.as_str().to_owned(),
    });
    ExportMetricsServiceResponse { partial_success: told }
}

fn accepted(taken: Taken, encoding: Encoding) -> Response {
    let response = response(taken);
    match encoding {
        Encoding::Protobuf => answer(StatusCode::OK, encoding, response.encode_to_vec()),
        Encoding::Json => {
            // The crate's own JSON would write the number as a number, where protobuf's JSON has a string.
            let told = response.partial_success.map_or_else(
                || json!({}),
                |told| {
                    json!({"partialSuccess": {
                        "rejectedDataPoints": told.rejected_data_points.to_string(),
                        "errorMessage": told.error_message,
                    }})
                },
            );
            answer(StatusCode::OK, encoding, told.to_string().into_bytes())
        }
    }
}

fn refused(refusal: &Refusal, encoding: Encoding) -> Response {
    let status = Status { code: refusal.code() as i32, message: refusal.message().as_str().to_owned() };
    let body = match encoding {
        Encoding::Protobuf => status.encode_to_vec(),
        Encoding::Json => json!({"code": status.code, "message": status.message}).to_string().into_bytes(),
    };
    let mut response = answer(refusal.status(), encoding, body);
    if *refusal == Refusal::Busy {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    response
}

fn answer(status: StatusCode, encoding: Encoding, body: Vec<u8>) -> Response {
    let kind = match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    };
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}
