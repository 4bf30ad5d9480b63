//! A receiver on loopback, exports made by hand, and asks in a row.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data,
        number_data_point,
    },
    resource::v1::Resource,
};
use prost::Message;
use tollgate::{
    domain::{Absence, CheckId, Counts, Match, Selector, ServiceName, Sli, Split, Tally, Timestamp},
    telemetry::{
        Answer, Ask, AskedCheck, Provider,
        otlp::{self, Config, Otlp, ServiceResources},
    },
};

pub(crate) const INTERVAL: Duration = Duration::from_millis(200);
pub(crate) const STALE: Duration = Duration::from_millis(1_500);
pub(crate) const GONE: Duration = Duration::from_millis(3_000);
pub(crate) const OLD: &str = "0aaaaaa1";
pub(crate) const NEW: &str = "0bbbbbb2";
pub(crate) const TOKEN: &str = "a-token-for-tests-0451";
/// Long enough for a busy machine; nothing waits that long unless something is wrong.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) fn now() -> Timestamp {
    Timestamp::from_millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
}

pub(crate) fn nanos() -> u64 {
    now().as_millis() * 1_000_000
}

pub(crate) fn shop() -> ServiceName {
    ServiceName::new("shop")
}

pub(crate) fn config() -> Config {
    let any = Some("127.0.0.1:0".parse().unwrap());
    let named = ServiceResources::named(&shop(), INTERVAL);
    let resources = ServiceResources { stale_after: STALE, gone_after: GONE, ..named };
    Config {
        listen_http: any,
        listen_grpc: any,
        allow_public: false,
        token: Some(TOKEN.into()),
        keep: Duration::from_secs(120),
        services: BTreeMap::from([(shop(), resources)]),
    }
}

pub(crate) fn start() -> Otlp {
    otlp::start(config(), Arc::new(now)).unwrap()
}

/// Asks in a row, each from where the last ended.
pub(crate) struct Asker {
    pub(crate) otlp: Otlp,
    pub(crate) after: Timestamp,
    pub(crate) checks: Vec<AskedCheck>,
}

impl Asker {
    pub(crate) fn of(otlp: Otlp, slis: &[Sli]) -> Self {
        let asked = |(at, sli): (usize, &Sli)| AskedCheck {
            check: CheckId(at as u16),
            sli: sli.clone(),
            split: Split::default(),
        };
        Self { otlp, after: now(), checks: slis.iter().enumerate().map(asked).collect() }
    }

    /// Everything through a time that is surely after what was exported.
    pub(crate) async fn window(&mut self) -> Answer {
        self.within(LONG).await
    }

    pub(crate) async fn within(&mut self, patience: Duration) -> Answer {
        let ask = Ask {
            service: shop(),
            control: Some(OLD.parse().unwrap()),
            canary: NEW.parse().unwrap(),
            checks: self.checks.clone(),
            after: self.after,
            through: now(),
            no_later_than: now() + patience,
        };
        let answer = self.otlp.measure(ask).await;
        self.after = answer.through;
        answer
    }
}

/// Control's and the canary's tally of one check.
pub(crate) fn arms(answer: &Answer, check: usize) -> [Result<Tally, Absence>; 2] {
    let mut of = answer.measurements.iter().filter(|m| m.check == CheckId(check as u16)).map(|m| m.tally.clone());
    [of.next().unwrap(), of.next().unwrap()]
}

pub(crate) fn errors() -> Sli {
    let total = Selector::metric("shop_requests_total");
    let bad = total.clone().with("http_response_status_code", Match::StartsWith("5".into()));
    Sli::Ratio { bad, total }
}

pub(crate) fn counts(bad: u64, total: u64) -> Result<Tally, Absence> {
    Ok(Tally::Counts(Counts { bad, total }))
}

pub(crate) fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.into())) };
    KeyValue { key: key.into(), value: Some(value), ..KeyValue::default() }
}

/// What one process is.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) version: &'static str,
    pub(crate) instance: &'static str,
    pub(crate) started: u64,
    pub(crate) temporality: AggregationTemporality,
}

impl Process {
    pub(crate) fn new(version: &'static str, instance: &'static str) -> Self {
        Self { version, instance, started: nanos(), temporality: AggregationTemporality::Cumulative }
    }

    /// An export of `shop.requests` by status, read at this time.
    pub(crate) fn export(&self, time: u64, shown: &[(&str, i64)]) -> ExportMetricsServiceRequest {
        self.between(self.started, time, shown)
    }

    pub(crate) fn between(&self, start: u64, time: u64, shown: &[(&str, i64)]) -> ExportMetricsServiceRequest {
        let point = |(code, value): &(&str, i64)| NumberDataPoint {
            attributes: vec![attribute("http.response.status_code", code)],
            start_time_unix_nano: start,
            time_unix_nano: time,
            value: Some(number_data_point::Value::AsInt(*value)),
            ..NumberDataPoint::default()
        };
        let sum = Sum {
            data_points: shown.iter().map(point).collect(),
            aggregation_temporality: self.temporality as i32,
            is_monotonic: true,
        };
        self.of(vec![Metric {
            name: "shop.requests".into(),
            unit: "{request}".into(),
            data: Some(Data::Sum(sum)),
            ..Metric::default()
        }])
    }

    pub(crate) fn of(&self, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
        let mut attributes = vec![attribute("service.name", "shop"), attribute("service.version", self.version)];
        if !self.instance.is_empty() {
            attributes.push(attribute("service.instance.id", self.instance));
        }
        let resource = Resource { attributes, ..Resource::default() };
        let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
        let resource_metrics =
            vec![ResourceMetrics { resource: Some(resource), scope_metrics, ..ResourceMetrics::default() }];
        ExportMetricsServiceRequest { resource_metrics }
    }
}

pub(crate) fn post(otlp: &Otlp, kind: &str, body: Vec<u8>) -> reqwest::RequestBuilder {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let url = format!("http://{}/v1/metrics", otlp.http_address().unwrap());
    let request = reqwest::Client::new().post(url).bearer_auth(TOKEN).header("content-type", kind);
    request.body(body)
}

/// Sends an export, and says how many points were rejected and why.
pub(crate) async fn send(otlp: &Otlp, request: ExportMetricsServiceRequest) -> (i64, String) {
    let answer = post(otlp, "application/x-protobuf", request.encode_to_vec()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let response = ExportMetricsServiceResponse::decode(answer.bytes().await.unwrap()).unwrap();
    response.partial_success.map_or((0, String::new()), |told| (told.rejected_data_points, told.error_message))
}

/// Sends an export that is surely taken.
pub(crate) async fn send_to(address: std::net::SocketAddr, request: ExportMetricsServiceRequest) {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let request = reqwest::Client::new()
        .post(format!("http://{address}/v1/metrics"))
        .bearer_auth(TOKEN)
        .header("content-type", "application/x-protobuf")
        .body(request.encode_to_vec());
    assert_eq!(request.send().await.unwrap().status(), 200);
}
