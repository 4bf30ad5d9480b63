//! What can be written of a source: software that keeps metrics, which services name by the name of its table.
//!
//! One struct holds the keys of every kind, as one does for SLIs: a key of another kind is then told to belong there, and
//! not merely to be unknown.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ProbeHeader, Secret, Span};

/// Software that keeps metrics. Which keys belong to it depends on its kind.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Source {
    /// What it is.
    pub(in crate::config) kind: Option<SourceKind>,
    /// Its address.
    pub(in crate::config) url: Option<String>,
    /// A bearer token.
    pub(in crate::config) bearer: Option<Secret>,
    /// A user, for basic authentication.
    pub(in crate::config) user: Option<String>,
    /// The user's password.
    pub(in crate::config) password: Option<Secret>,
    /// Headers that are sent.
    pub(in crate::config) headers: Option<BTreeMap<String, ProbeHeader>>,
    /// Authorities that are trusted besides the machine's.
    pub(in crate::config) ca_file: Option<PathBuf>,
    /// A certificate of ours.
    pub(in crate::config) client_cert_file: Option<PathBuf>,
    /// Its key.
    pub(in crate::config) client_key_file: Option<PathBuf>,
    /// Longest wait for one answer.
    pub(in crate::config) timeout: Option<Span>,
    /// Requests at the same moment.
    pub(in crate::config) concurrency: Option<u64>,
    /// Samples that may be read on one day.
    pub(in crate::config) samples_per_day: Option<u64>,
    /// Largest answer.
    pub(in crate::config) response_bytes_max: Option<u64>,
    /// Most series of a metric that are read raw.
    pub(in crate::config) raw_series_max: Option<u64>,
    /// Whether answers that are not whole are counted.
    pub(in crate::config) allow_partial: Option<bool>,
    /// Where exports over HTTP are received.
    pub(in crate::config) listen_http: Option<String>,
    /// Where exports over gRPC are received.
    pub(in crate::config) listen_grpc: Option<String>,
    /// Whether these may be addresses that other machines reach.
    pub(in crate::config) allow_public: Option<bool>,
    /// Length of a bucket.
    pub(in crate::config) step: Option<Span>,
    /// How long late data is waited for.
    pub(in crate::config) settle: Option<Span>,
    /// Queries at the same moment.
    pub(in crate::config) queries_at_once: Option<u64>,
    /// A key of the API.
    pub(in crate::config) api_key: Option<Secret>,
    /// An application's key.
    pub(in crate::config) application_key: Option<Secret>,
    /// The database, of InfluxQL.
    pub(in crate::config) database: Option<String>,
    /// The retention policy, of InfluxQL.
    pub(in crate::config) retention: Option<String>,
    /// The organisation, of Flux.
    pub(in crate::config) organisation: Option<String>,
    /// The bucket, of Flux.
    pub(in crate::config) bucket: Option<String>,
    /// The token, of Flux.
    pub(in crate::config) token: Option<Secret>,
    /// The one measurement of which metrics are fields.
    pub(in crate::config) measurement: Option<String>,
    /// The field of counters.
    pub(in crate::config) counter_field: Option<String>,
    /// The field of gauges.
    pub(in crate::config) gauge_field: Option<String>,
    /// What a counter's points are.
    pub(in crate::config) counters: Option<Counters>,
    /// The region.
    pub(in crate::config) region: Option<String>,
    /// The namespace of metrics.
    pub(in crate::config) namespace: Option<String>,
    /// The id of an access key.
    pub(in crate::config) access_key_id: Option<Secret>,
    /// The access key's secret.
    pub(in crate::config) secret_access_key: Option<Secret>,
    /// The session's token.
    pub(in crate::config) session_token: Option<Secret>,
    /// In what latencies are measured.
    pub(in crate::config) latency_unit: Option<LatencyUnit>,
    /// The number of the account.
    pub(in crate::config) account: Option<u64>,
}

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum SourceKind {
    /// Whatever speaks Prometheus's HTTP API.
    Prometheus,
    /// A receiver of what OpenTelemetry's SDKs export.
    Otlp,
    /// Datadog.
    Datadog,
    /// InfluxDB.
    #[serde(rename = "influxdb")]
    InfluxDb,
    /// Amazon CloudWatch.
    #[serde(rename = "cloudwatch")]
    CloudWatch,
    /// New Relic.
    #[serde(rename = "newrelic")]
    NewRelic,
    /// Any JSON endpoint.
    Web,
}

impl SourceKind {
    /// As it is written.
    pub(in crate::config) const fn word(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Otlp => "otlp",
            Self::Datadog => "datadog",
            Self::InfluxDb => "influxdb",
            Self::CloudWatch => "cloudwatch",
            Self::NewRelic => "newrelic",
            Self::Web => "web",
        }
    }
}

/// What a counter's points are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Counters {
    /// What was counted since the process began.
    Cumulative,
    /// What was counted since the last point.
    Delta,
}

/// In what latencies are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum LatencyUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// Where one metric of a service is read, for a source of kind `web`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Endpoint {
    /// Its address.
    pub(in crate::config) url: Option<String>,
    /// Headers that are sent.
    pub(in crate::config) headers: Option<BTreeMap<String, ProbeHeader>>,
    /// The JSONPath of the number.
    pub(in crate::config) path: Option<String>,
    /// The slow ones.
    pub(in crate::config) slow: Option<Slow>,
    /// What the number stands for.
    pub(in crate::config) numbers: Option<Numbers>,
    /// How times are written.
    pub(in crate::config) times: Option<Times>,
}

/// The slow ones of a latency.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Slow {
    /// What the endpoint counts as slow.
    pub(in crate::config) above: Option<Span>,
    /// The JSONPath of their number.
    pub(in crate::config) path: Option<String>,
}

/// What an endpoint's number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Numbers {
    /// What was counted from one time to another.
    Window,
    /// What was counted since some beginning.
    Cumulative,
    /// What is now.
    Now,
}

/// How times are written in an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Times {
    /// As RFC 3339.
    Rfc3339,
    /// As seconds since the epoch.
    Seconds,
    /// As milliseconds since the epoch.
    Milliseconds,
}
