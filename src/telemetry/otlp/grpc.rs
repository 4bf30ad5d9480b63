//! OTLP over gRPC: `MetricsService/Export`.
//!
//! The service that the protocol's crate generates would make messages of the bytes before anything is known of them.
//! Here the bytes themselves are the message, so that they are bounded as those of HTTP are.

use std::{convert::Infallible, sync::Arc};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::{
    Message,
    bytes::{Buf, Bytes},
};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http,
    server::Grpc,
    transport::{Server, server::TcpIncoming},
};
use tower::service_fn;

use super::{
    decode::BODY_BYTES_MAX,
    http::{REQUEST_WITHIN, response},
    receive::{Encoding, REQUESTS_MAX, Receiver, Refusal},
};

const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// A message as it is, unpacked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole;

impl Decoder for Whole {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}

impl Encoder for Whole {
    type Item = ExportMetricsServiceResponse;
    type Error = Status;

    fn encode(&mut self, message: ExportMetricsServiceResponse, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(to).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Codec for Whole {
    type Encode = ExportMetricsServiceResponse;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, receiver: Arc<Receiver>) {
    let service = service_fn(move |request: http::Request<Body>| {
        let receiver = Arc::clone(&receiver);
        async move { Ok::<_, Infallible>(export(receiver, request).await) }
    });
    let streams = u32::try_from(REQUESTS_MAX).unwrap_or(u32::MAX);
    let server = Server::builder().timeout(REQUEST_WITHIN).max_concurrent_streams(streams);
    if let Err(error) = server.serve_with_incoming(service, TcpIncoming::from(listener)).await {
        tracing::error!(%error, "the gRPC listener has ended");
    }
}

async fn export(receiver: Arc<Receiver>, request: http::Request<Body>) -> http::Response<Body> {
    if request.uri().path() != EXPORT {
        return Status::unimplemented("metrics are received here, and nothing else").into_http();
    }
    let status = |refusal: &Refusal| Status::new(refusal.code(), refusal.message().as_str());
    let authorization = request.headers().get(http::header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
    let _room = match receiver.admit(authorization) {
        Ok(room) => room,
        Err(refusal) => return status(&refusal).into_http(),
    };
    let mut grpc =
        Grpc::new(Whole).accept_compressed(CompressionEncoding::Gzip).max_decoding_message_size(BODY_BYTES_MAX);
    let take_in = service_fn(move |request: Request<Bytes>| {
        let taken = receiver.take_in(request.get_ref(), Encoding::Protobuf);
        std::future::ready(taken.map(|taken| Response::new(response(taken))).map_err(|refusal| status(&refusal)))
    });
    grpc.unary(take_in, request).await
}
