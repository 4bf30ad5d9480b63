//! What nobody should send, and what is answered: nothing of it is counted, and the receiver goes on.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient,
};
use prost::Message;
use reqwest::StatusCode;
use serde_json::Value;
use tollgate::telemetry::{
    Provider,
    otlp::{self, ATTRIBUTES_MAX, BODY_BYTES_MAX, Otlp, POD_SERIES_MAX, REQUESTS_MAX},
};
use tonic::{Code, Request, codec::CompressionEncoding};

use crate::house::{OLD, Process, TOKEN, attribute, config, nanos, now, post, send, shop, start};

const PROTOBUF: &str = "application/x-protobuf";

fn gzip(plain: Vec<u8>) -> Vec<u8> {
    let mut child = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = std::thread::spawn(move || stdin.write_all(&plain).unwrap());
    let packed = child.wait_with_output().unwrap().stdout;
    writing.join().unwrap();
    packed
}

fn export() -> ExportMetricsServiceRequest {
    Process::new(OLD, "a").export(nanos(), &[("200", 5)])
}

/// That it takes what is right, after whatever it was sent.
async fn goes_on(otlp: &Otlp) {
    assert_eq!(send(otlp, export()).await, (0, String::new()));
    assert!(otlp.metrics(&shop()).unwrap().find("shop_requests_total").is_some());
}

#[tokio::test]
async fn both_encodings_are_taken_packed_or_not() {
    for json in [false, true] {
        for packed in [false, true] {
            let otlp = start();
            let kind = if json { "application/json; charset=utf-8" } else { PROTOBUF };
            let body = if json { serde_json::to_vec(&export()).unwrap() } else { export().encode_to_vec() };
            let request = post(&otlp, kind, if packed { gzip(body) } else { body });
            let request = if packed { request.header("content-encoding", "gzip") } else { request };
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            let said = answer.headers().get("content-type").unwrap().to_str().unwrap().to_owned();
            assert_eq!(said, if json { "application/json" } else { PROTOBUF });
            assert_eq!(answer.bytes().await.unwrap(), if json { "{}" } else { "" });
            let catalogued = otlp.metrics(&shop()).unwrap();
            assert!(catalogued.find("shop_requests_total").is_some(), "json {json}, packed {packed}");
        }
    }
}

#[tokio::test]
async fn bodies_that_are_broken_or_of_another_kind_are_refused_with_a_word() {
    let otlp = start();
    let whole = export().encode_to_vec();
    let cut = whole[..whole.len() - 3].to_vec();
    let packed = gzip(whole.clone());
    let cut_gzip = packed[..packed.len() / 2].to_vec();
    for (kind, coding, body, status) in [
        (PROTOBUF, "", cut, StatusCode::BAD_REQUEST),
        (PROTOBUF, "", b"<html>Sign in</html>".to_vec(), StatusCode::BAD_REQUEST),
        (PROTOBUF, "gzip", cut_gzip, StatusCode::BAD_REQUEST),
        (PROTOBUF, "gzip", whole.clone(), StatusCode::BAD_REQUEST),
        (PROTOBUF, "gzip", Vec::new(), StatusCode::BAD_REQUEST),
        (PROTOBUF, "br", whole.clone(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("application/json", "", whole.clone(), StatusCode::BAD_REQUEST),
        ("application/json", "", br#"{"resourceMetrics":[{"scopeMetrics":7}]}"#.to_vec(), StatusCode::BAD_REQUEST),
        ("text/plain", "", whole.clone(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("", "", whole, StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let request = post(&otlp, kind, body);
        let request = if coding.is_empty() { request } else { request.header("content-encoding", coding) };
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{kind} {coding}");
        assert!(!answer.bytes().await.unwrap().is_empty(), "{kind} {coding}: the refusal says why");
    }
    goes_on(&otlp).await;
}

#[tokio::test]
async fn bodies_that_are_too_large_packed_or_unpacked_are_refused() {
    let otlp = start();
    let answer = post(&otlp, PROTOBUF, vec![0; BODY_BYTES_MAX + 1]).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let bomb = gzip(vec![0; 64 * 1024 * 1024]);
    assert!(bomb.len() < 100_000, "small on the way");
    let answer = post(&otlp, PROTOBUF, bomb).header("content-encoding", "gzip").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    goes_on(&otlp).await;
}

#[tokio::test]
async fn without_the_token_nothing_is_taken() {
    let otlp = start();
    let url = format!("http://{}/v1/metrics", otlp.http_address().unwrap());
    for given in [None, Some("Bearer "), Some("Bearer wrong"), Some("Basic YTpi"), Some(TOKEN)] {
        let request = reqwest::Client::new().post(&url).header("content-type", PROTOBUF).body(export().encode_to_vec());
        let request = match given {
            Some(given) => request.header("authorization", given),
            None => request,
        };
        assert_eq!(request.send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "{given:?}");
    }
    assert!(otlp.metrics(&shop()).is_err());
    goes_on(&otlp).await;
}

#[tokio::test]
async fn more_requests_than_there_is_room_for_are_told_to_come_again() {
    let otlp = start();
    let address = otlp.http_address().unwrap();
    let mut slow = Vec::new();
    for _ in 0..REQUESTS_MAX {
        // Each says that it has more to send, and waits.
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /v1/metrics HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: {PROTOBUF}\r\n\
             content-length: 1000\r\n\r\nx"
        );
        tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let answer = loop {
        let answer = post(&otlp, PROTOBUF, export().encode_to_vec()).send().await.unwrap();
        if answer.status() != StatusCode::OK {
            break answer;
        }
    };
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers().get("retry-after").unwrap(), "1");
    drop(slow);
    while post(&otlp, PROTOBUF, export().encode_to_vec()).send().await.unwrap().status() != StatusCode::OK {}
}

#[tokio::test]
async fn points_that_cannot_be_counted_are_rejected_and_the_others_are_kept() {
    let otlp = start();
    let process = Process::new(OLD, "a");
    let negative = process.export(nanos(), &[("200", 5), ("500", -1)]);
    let (rejected, why) = send(&otlp, negative).await;
    assert!(rejected == 1 && why.contains("-1"), "{why}");
    let mut crowded = process.export(nanos(), &[("200", 5)]);
    let point = |request: &mut ExportMetricsServiceRequest,
                 change: &dyn Fn(&mut opentelemetry_proto::tonic::metrics::v1::NumberDataPoint)| {
        let metric = &mut request.resource_metrics[0].scope_metrics[0].metrics[0];
        let Some(opentelemetry_proto::tonic::metrics::v1::metric::Data::Sum(sum)) = &mut metric.data else { panic!() };
        sum.data_points.iter_mut().for_each(change);
    };
    point(&mut crowded, &|point| {
        point.attributes = (0..=ATTRIBUTES_MAX).map(|at| attribute(&format!("a{at}"), "x")).collect();
    });
    let (rejected, why) = send(&otlp, crowded).await;
    assert!(rejected == 1 && why.contains("attributes"), "{why}");
    let mut long = process.export(nanos(), &[("200", 5)]);
    point(&mut long, &|point| point.attributes = vec![attribute("a", &"x".repeat(5_000))]);
    let (rejected, why) = send(&otlp, long).await;
    assert!(rejected == 1 && why.contains("bytes"), "{why}");
    let stranger = Process { version: OLD, ..process.clone() };
    let mut request = stranger.export(nanos(), &[("200", 5)]);
    request.resource_metrics[0].resource = None;
    let (rejected, why) = send(&otlp, request).await;
    assert!(rejected == 1 && why.contains("no arm of a service"), "{why}");

    let codes: Vec<String> = (0..=POD_SERIES_MAX).map(|code| code.to_string()).collect();
    let many: Vec<(&str, i64)> = codes.iter().map(|code| (code.as_str(), 1)).collect();
    let (rejected, why) = send(&otlp, Process::new(OLD, "many").export(nanos(), &many)).await;
    assert!(rejected == 1 && why.contains("more series than are kept"), "{rejected}: {why}");
    goes_on(&otlp).await;
}

#[tokio::test]
async fn what_is_rejected_is_said_in_json_as_protobuf_writes_it() {
    let otlp = start();
    let request = Process::new(OLD, "a").export(nanos(), &[("500", -1)]);
    let answer = post(&otlp, "application/json", serde_json::to_vec(&request).unwrap()).send().await.unwrap();
    let told: Value = answer.json().await.unwrap();
    assert_eq!(told["partialSuccess"]["rejectedDataPoints"], "1");
    assert!(told["partialSuccess"]["errorMessage"].as_str().unwrap().contains("no count"), "{told}");
}

#[tokio::test]
async fn two_processes_under_one_name_are_told_of() {
    let otlp = start();
    let (mut one, other) = (Process::new(OLD, ""), Process::new(OLD, ""));
    one.started -= 1_000_000_000;
    assert_eq!(send(&otlp, one.export(nanos(), &[("200", 5)])).await.0, 0);
    assert_eq!(send(&otlp, other.export(nanos(), &[("200", 5)])).await.0, 0, "it may be the first one, started again");
    let (rejected, why) = send(&otlp, one.export(nanos() + 1_000_000, &[("200", 6)])).await;
    assert!(rejected == 1 && why.contains("service.instance.id"), "{why}");
}

#[tokio::test]
async fn grpc_refuses_what_http_refuses_in_its_own_words() {
    let otlp = start();
    let url = format!("http://{}", otlp.grpc_address().unwrap());
    let client = || async { MetricsServiceClient::connect(url.clone()).await.unwrap() };
    let with_token = |message: ExportMetricsServiceRequest| {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
        request
    };
    let refused = client().await.export(export()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(!refused.message().contains(TOKEN));
    // Zeros pack to next to nothing.
    let mut bomb = export();
    bomb.resource_metrics[0].schema_url = "\0".repeat(4 * BODY_BYTES_MAX);
    let refused =
        client().await.send_compressed(CompressionEncoding::Gzip).export(with_token(bomb.clone())).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let refused = client().await.export(with_token(bomb)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    let mut many = export();
    let metric = &mut many.resource_metrics[0].scope_metrics[0].metrics[0];
    let Some(opentelemetry_proto::tonic::metrics::v1::metric::Data::Sum(sum)) = &mut metric.data else { panic!() };
    sum.data_points = vec![sum.data_points[0].clone(); otlp::POINTS_MAX + 1];
    let refused = client().await.export(with_token(many)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("smaller batches"), "{refused:?}");
    let taken = client().await.send_compressed(CompressionEncoding::Gzip).export(with_token(export())).await.unwrap();
    assert_eq!(taken.into_inner().partial_success, None);
    goes_on(&otlp).await;
}

#[test]
fn a_configuration_that_cannot_work_says_what_to_mend() {
    assert!(config().check().is_ok());
    let refused = |change: &dyn Fn(&mut otlp::Config), what: &str| {
        let mut config = config();
        change(&mut config);
        let why = config.check().unwrap_err().to_string();
        assert!(why.contains(what) && !why.contains(TOKEN), "{why}");
    };
    refused(&|config| (config.listen_http, config.listen_grpc) = (None, None), "listen_http or listen_grpc");
    refused(&|config| config.listen_grpc = Some("0.0.0.0:4317".parse().unwrap()), "allow_public");
    let public = |config: &mut otlp::Config| {
        config.listen_http = Some("0.0.0.0:4318".parse().unwrap());
        config.allow_public = true;
    };
    let mut fine = config();
    public(&mut fine);
    assert!(fine.check().is_ok());
    refused(
        &|config| {
            public(config);
            config.token = None;
        },
        "a token is needed",
    );
    let refused_of = |change: &dyn Fn(&mut otlp::ServiceResources), what: &str| {
        refused(&|config| config.services.values_mut().for_each(change), what);
    };
    refused_of(&|of| of.interval = std::time::Duration::from_millis(9), "shorter than 10 ms");
    refused_of(&|of| of.stale_after = of.interval / 2, "stale_after");
    refused_of(&|of| of.gone_after = of.stale_after / 2, "gone_after");
    refused(&|config| config.keep = crate::house::INTERVAL, "two intervals");
    refused_of(&|of| of.canary.clear(), "resource attributes");
    refused(
        &|config| {
            for of in config.services.values_mut() {
                of.canary = std::iter::once(("service.name".to_owned(), "shop".to_owned())).collect();
                of.control = of.canary.clone();
            }
        },
        "{revision}",
    );
    assert!(otlp::start(config(), std::sync::Arc::new(now)).is_err(), "there is no runtime here");
}
