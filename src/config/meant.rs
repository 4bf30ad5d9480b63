//! What is meant: checked values, defaults filled in. Whoever holds one need not check again.

mod vendors;

pub use vendors::{
    Buckets, CloudWatchSource, DatadogSource, Endpoint, InfluxDbSource, InfluxLanguage, InfluxLayout, NewRelicSource,
    Numbers, Times,
};

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use secrecy::SecretString;

use crate::{domain::ServiceName, rollout};

/// The whole configuration. Secrets in it do not print.
#[derive(Clone, Debug)]
pub struct Config {
    /// What decides: services, ladders, objectives and limits.
    pub policy: rollout::Policy,
    /// Address of the API, the page and the webhooks; loopback unless `public`.
    pub listen: SocketAddr,
    /// Whether an address that other machines reach was asked for. Then `api_token` is set.
    pub public: bool,
    /// Names under which the page and the API may be asked for, besides the address itself.
    pub allowed_hosts: Vec<String>,
    /// What a caller must show to act; with `None` nobody can act over the API. Reading needs none.
    pub api_token: Option<SecretString>,
    /// Where the record is kept.
    pub journal: Journal,
    /// Where changes come from.
    pub github: Github,
    /// Where each service is measured. It has the same services as `policy`.
    pub telemetry: BTreeMap<ServiceName, Telemetry>,
    /// Software that keeps metrics, by name. Every source that a service names is here.
    pub sources: BTreeMap<String, Source>,
    /// The flag that moves each service's traffic, no two alike. It has the same services as `policy`.
    pub traffic: BTreeMap<ServiceName, Flag>,
    /// The language model; `None` where there is none.
    pub model: Option<Model>,
    /// The services whose changes the model plans; empty where there is none.
    pub planned_by_model: BTreeSet<ServiceName>,
    /// What is logged.
    pub log: Log,
    /// What is legal and yet worth a second look, one line each.
    pub warnings: Vec<String>,
}

/// Where the record is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Its folder. A relative one has been resolved against the folder of the configuration file.
    pub dir: PathBuf,
    /// Events from one snapshot to the next, at least 1.
    pub snapshot_every: u64,
    /// Entries kept before the older of the two snapshots.
    pub keep: u64,
}

/// Where changes come from.
#[derive(Clone, Debug)]
pub struct Github {
    /// Root of the API, without a slash at its end. HTTPS, or HTTP on a loopback address.
    pub api: String,
    /// What we show it; `None` reads public repositories at a low rate and writes nothing.
    pub token: Option<SecretString>,
    /// What webhooks are signed with.
    pub webhook_secret: SecretString,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Largest body, in bytes, that is taken from it: a webhook's or an answer's.
    pub body_bytes_max: usize,
}

/// Where one service is measured.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Time between scrapes; never more than the service's `measure_every`.
    pub interval: Duration,
    /// Longest wait for one scrape; never more than `interval`.
    pub timeout: Duration,
    /// The label whose values are pods; `None` where each page is one pod.
    pub pod_label: Option<String>,
    /// The source that keeps its metrics; `None` where its pages are scraped.
    pub from: Option<FromSource>,
    /// The old version.
    pub control: ArmTargets,
    /// The new version.
    pub canary: ArmTargets,
    /// Where each metric is read, where the source is of kind `web`.
    pub metrics: BTreeMap<String, Endpoint>,
    /// Requests of our own.
    pub probing: Probing,
}

/// How a service is read from a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromSource {
    /// The source's name.
    pub name: String,
    /// How long after its time a sample may be stored.
    pub settle: Duration,
    /// How far before a window samples are read; at least `gone_after`.
    pub lookback: Duration,
    /// An arm is not told while a pod has shown nothing for longer.
    pub stale_after: Duration,
    /// A pod that has shown nothing for longer is none; at least `stale_after`.
    pub gone_after: Duration,
}

/// Software that keeps metrics.
#[derive(Clone, Debug)]
pub enum Source {
    /// Whatever speaks Prometheus's HTTP API.
    Prometheus(PrometheusSource),
    /// A receiver of what OpenTelemetry's SDKs export.
    Otlp(OtlpSource),
    /// Datadog.
    Datadog(DatadogSource),
    /// InfluxDB.
    InfluxDb(InfluxDbSource),
    /// Amazon CloudWatch.
    CloudWatch(CloudWatchSource),
    /// New Relic.
    NewRelic(NewRelicSource),
    /// JSON endpoints, which each service names.
    Web(Buckets),
}

impl Source {
    /// Its kind, as it is written.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Prometheus(_) => "prometheus",
            Self::Otlp(_) => "otlp",
            Self::Datadog(_) => "datadog",
            Self::InfluxDb(_) => "influxdb",
            Self::CloudWatch(_) => "cloudwatch",
            Self::NewRelic(_) => "newrelic",
            Self::Web(_) => "web",
        }
    }

    /// How it answers in buckets; `None` where it is no source of that kind.
    pub const fn buckets(&self) -> Option<&Buckets> {
        match self {
            Self::Prometheus(_) | Self::Otlp(_) => None,
            Self::Datadog(DatadogSource { buckets, .. })
            | Self::InfluxDb(InfluxDbSource { buckets, .. })
            | Self::CloudWatch(CloudWatchSource { buckets, .. })
            | Self::NewRelic(NewRelicSource { buckets, .. })
            | Self::Web(buckets) => Some(buckets),
        }
    }
}

/// A receiver of OTLP. At least one of its listeners is set, and where other machines reach one there is a token.
#[derive(Clone, Debug)]
pub struct OtlpSource {
    /// Where HTTP is listened to.
    pub listen_http: Option<SocketAddr>,
    /// Where gRPC is listened to.
    pub listen_grpc: Option<SocketAddr>,
    /// Whether other machines may reach them.
    pub public: bool,
    /// What senders must show.
    pub token: Option<SecretString>,
}

/// A server that speaks Prometheus's HTTP API.
#[derive(Clone, Debug)]
pub struct PrometheusSource {
    /// Its address, without `/api/v1` and without a slash at its end.
    pub url: String,
    /// What we show it.
    pub auth: SourceAuth,
    /// Headers that are sent, by lower-case name. They do not print.
    pub headers: BTreeMap<String, SecretString>,
    /// Authorities that are trusted besides the machine's, as PEM.
    pub ca_pem: Option<String>,
    /// A certificate of ours and its key, as PEM.
    pub client_pem: Option<SecretString>,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Requests at the same moment, at least 1.
    pub concurrency: usize,
    /// Samples that may be read on one day (UTC).
    pub samples_per_day: Option<u64>,
    /// Most bytes of one answer.
    pub response_bytes_max: usize,
    /// A metric with more series is left to the server to count.
    pub raw_series_max: usize,
    /// Whether answers that are not whole are counted.
    pub allow_partial: bool,
}

/// What we show a source.
#[derive(Clone, Debug)]
pub enum SourceAuth {
    /// Nothing.
    None,
    /// A bearer token.
    Bearer(SecretString),
    /// A user and a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: SecretString,
    },
}

/// The requests of our own to one service.
#[derive(Clone, Debug, Default)]
pub struct Probing {
    /// Where the old version answers: schemes, hosts and ports; `{revision}` stands for its revision. At least one where
    /// there are probes.
    pub control: Vec<String>,
    /// Where the new version answers.
    pub canary: Vec<String>,
    /// Time between two rounds.
    pub every: Duration,
    /// Most requests in a second.
    pub per_second: u32,
    /// An answer that is not there by then is bad.
    pub timeout: Duration,
    /// The probes, no two of one name.
    pub probes: Vec<Probe>,
}

/// One request of our own, sent to both arms.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Its name, under which SLIs measure it.
    pub name: String,
    /// What is asked for: begins with a slash.
    pub path: String,
    /// Whether only the head of the answer is asked for.
    pub only_head: bool,
    /// Which answers are good, each 100 to 599; at least one.
    pub status: Vec<u16>,
    /// What a good answer holds; `None` where anything will do.
    pub contains: Option<String>,
    /// What headers of a good answer hold, by lower-case name.
    pub answers_with: BTreeMap<String, String>,
    /// A slower answer is bad; never more than the timeout.
    pub slow_above: Option<Duration>,
    /// Headers that are sent, by lower-case name. They do not print.
    pub headers: BTreeMap<String, SecretString>,
}

/// Where one arm is measured. `{revision}` in an address or a label's value stands for the arm's revision; there is no
/// other placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmTargets {
    /// HTTP addresses of pages in the Prometheus text format; at least one, and none where a source is read.
    pub urls: Vec<String>,
    /// Only series with these labels are the arm's.
    pub labels: BTreeMap<String, String>,
}

/// The flag that moves one service's traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its name.
    pub key: String,
    /// What it holds.
    pub value: FlagValue,
}

/// What a flag holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagValue {
    /// True for the new version.
    Boolean,
    /// The arm's name, `control` or `canary`.
    Variant,
    /// The revision to be served.
    Revision,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// Which lines there are, as `tracing_subscriber::EnvFilter` reads it; it has been parsed once.
    pub filter: String,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// How a language model is reached, and what it may cost.
#[derive(Clone, Debug)]
pub struct Model {
    /// The version of Azure's API; `None` for everyone else's form of it.
    pub azure: Option<String>,
    /// The API's root, without a slash at its end. HTTPS where a key is sent, or a loopback address.
    pub base_url: String,
    /// Its name; with Azure the deployment's.
    pub name: String,
    /// What is shown as a key.
    pub key: Option<SecretString>,
    /// Longest time of one attempt at one call.
    pub timeout: Duration,
    /// Most attempts at one call, the first included.
    pub attempts_max: u32,
    /// Longest time of a planning.
    pub plan_within: Duration,
    /// What tokens cost; where it is `None`, so are the budgets of money.
    pub price: Option<Price>,
    /// The limits of one run.
    pub limits: ModelLimits,
    /// What runs may use together.
    pub budget: ModelBudget,
}

/// What tokens cost, in millionths of a dollar for each million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Tokens that go in.
    pub input: u64,
    /// Tokens that go in and were in the provider's cache.
    pub cached_input: u64,
    /// Tokens that come out.
    pub output: u64,
}

/// The limits of one run of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelLimits {
    /// Most answers of the model in a planning.
    pub planner_turns_max: u32,
    /// Most answers of the model in an advice.
    pub advisor_turns_max: u32,
    /// Most calls of tools in a run.
    pub tool_calls_max: u32,
    /// Most wrong calls or texts that are given back to be mended.
    pub repairs_max: u32,
    /// Most tokens of one answer.
    pub output_tokens_max: u32,
    /// Most tokens of a run, in and out.
    pub run_tokens_max: u64,
    /// Most bytes of the diff in the first message.
    pub diff_bytes_max: usize,
}

/// What runs of a model may use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelBudget {
    /// Most tokens for one pull request.
    pub pull_request_tokens_max: u64,
    /// Most tokens in a day, by UTC.
    pub day_tokens_max: u64,
    /// Most millionths of a dollar for one pull request.
    pub pull_request_micro_dollars_max: Option<u64>,
    /// Most millionths of a dollar in a day, by UTC.
    pub day_micro_dollars_max: Option<u64>,
}
