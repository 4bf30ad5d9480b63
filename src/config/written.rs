//! The file exactly as typed: every key there is, nothing checked and nothing filled in.
//!
//! Every setting is optional here, so that a missing one is a problem of the same list as all others. The JSON Schema
//! that is derived from these structs is what [`super::form`] holds a file against and what the tests hold the example
//! against: a key exists once, here. `x-form` is how a problem tells people what to write.

mod asked;
mod model;
mod sources;

pub(super) use asked::{PathRule, Probe, ProbeHeader, ProbeMethod, Probing, Risk};
pub(super) use model::{Budget, Flavour, Limits, Model, ModelMay, Price, RiskBake, ServiceModel};
pub(super) use sources::{Counters, Endpoint, LatencyUnit, Numbers, Source, SourceKind, Times};

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Address and port of the API, the page and the webhooks.
    pub(super) listen: Option<String>,
    /// Whether `listen` may be an address that other machines reach.
    pub(super) allow_public: Option<bool>,
    /// Names under which the page and the API may be asked for, besides the address itself.
    pub(super) allowed_hosts: Option<Vec<String>>,
    /// What a caller of the API must show.
    pub(super) api_token: Option<Secret>,
    /// Limits over all services.
    pub(super) fleet: Option<Fleet>,
    /// Where the record is kept.
    pub(super) journal: Option<Journal>,
    /// Where changes come from.
    pub(super) github: Option<Github>,
    /// What is logged.
    pub(super) log: Option<Log>,
    /// The language model that plans, advises and explains.
    pub(super) model: Option<Model>,
    /// Software that keeps metrics, by names that services use.
    pub(super) sources: Option<BTreeMap<String, Source>>,
    /// Each service by its name.
    pub(super) services: Option<BTreeMap<String, Service>>,
}

/// Limits over all services.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Fleet {
    /// Most rollouts that are not done.
    pub(super) rollouts_max: Option<u64>,
    /// Finished rollouts that are kept to be looked at.
    pub(super) finished_kept: Option<u64>,
}

/// Where the record is kept.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    /// Its folder.
    pub(super) dir: Option<PathBuf>,
    /// Events from one snapshot to the next.
    pub(super) snapshot_every: Option<u64>,
    /// Entries kept before the older of the two snapshots.
    pub(super) keep: Option<u64>,
}

/// Where changes come from.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Github {
    /// Root of its API.
    pub(super) api: Option<String>,
    /// What we show it.
    pub(super) token: Option<Secret>,
    /// What its webhooks are signed with.
    pub(super) webhook_secret: Option<Secret>,
    /// Longest wait for one answer.
    pub(super) timeout: Option<Span>,
    /// Largest body that is taken from it.
    pub(super) body_bytes_max: Option<u64>,
}

/// What is logged.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    /// How a line looks.
    pub(super) format: Option<LogFormat>,
    /// Which lines there are.
    pub(super) filter: Option<String>,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// One service.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    /// Where its code is.
    pub(super) repository: Option<String>,
    /// Globs over paths.
    pub(super) paths: Option<Vec<String>>,
    /// The branch whose merges count.
    pub(super) branch: Option<String>,
    /// When a revision counts as deployed.
    pub(super) deployed: Option<Deployed>,
    /// How far we may act.
    pub(super) autonomy: Option<Autonomy>,
    /// What the old version that serves beside the canary is.
    pub(super) control: Option<Control>,
    /// The ladder.
    pub(super) stages: Option<Vec<Stage>>,
    /// Largest chance of rolling back a harmless change.
    pub(super) alpha: Option<f64>,
    /// Time between measurements.
    pub(super) measure_every: Option<Span>,
    /// Least requests on the canary in a stage.
    pub(super) samples_min: Option<u64>,
    /// Most that one step may add to the share.
    pub(super) step_max: Option<Percent>,
    /// How long telemetry may be silent.
    pub(super) blackout_after: Option<Span>,
    /// Longest time at one stage.
    pub(super) patience: Option<Span>,
    /// Longest time a pause lasts.
    pub(super) pause_max: Option<Span>,
    /// Time of watch after everyone has the new version.
    pub(super) watch: Option<Span>,
    /// Longest wait for a deployment.
    pub(super) deploy_within: Option<Span>,
    /// Longest wait for a shift, a draft or a fetch.
    pub(super) reply_within: Option<Span>,
    /// How often one request is tried.
    pub(super) attempts_max: Option<u64>,
    /// Longest time the canary's traffic goes on after a rollback.
    pub(super) drained_within: Option<Span>,
    /// How long one pod may fail by itself without that being proof.
    pub(super) pod_incident: Option<Span>,
    /// How long a canary may be cold.
    pub(super) warm_up: Option<Span>,
    /// How far the canary's share of requests may be from what was set.
    pub(super) share_tolerance: Option<f64>,
    /// A canary this many times as bad must not be called safe.
    pub(super) safe_ratio: Option<f64>,
    /// Least time at a stage even when the canary is shown safe.
    pub(super) bake_time_shown_safe: Option<Span>,
    /// Most proposed checks in a plan.
    pub(super) proposed_checks_max: Option<u64>,
    /// The most lenient ratio of a proposed check.
    pub(super) ratio_max: Option<f64>,
    /// Whether a proposed check may measure what the SLIs do not name.
    pub(super) beyond_catalogue: Option<bool>,
    /// How many times longer risky changes are baked.
    pub(super) risk_bake: Option<RiskBake>,
    /// What is asked of the model.
    pub(super) model: Option<ServiceModel>,
    /// The counter of a unit of traffic.
    pub(super) traffic_metric: Option<Selector>,
    /// Where the arms are measured.
    pub(super) telemetry: Option<Telemetry>,
    /// The flag that moves traffic.
    pub(super) flag: Option<Flag>,
    /// What can be measured.
    pub(super) slis: Option<Vec<Sli>>,
    /// What is owed.
    pub(super) slos: Option<Vec<Slo>>,
    /// Where requests of our own go, and how often.
    pub(super) probing: Option<Probing>,
    /// Requests of our own.
    pub(super) probes: Option<Vec<Probe>>,
    /// What changes to certain paths must have.
    pub(super) path_rules: Option<Vec<PathRule>>,
}

/// When a revision counts as deployed.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Deployed {
    /// As soon as it is merged.
    OnMerge,
    /// When the API is told of it.
    WhenTold,
}

/// What the old version that serves beside the canary is.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Control {
    /// The old version as it has been running.
    Running,
    /// A deployment of it that is started together with the canary.
    SameAge,
}

/// How far we may act.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Autonomy {
    /// Watches.
    Observe,
    /// People promote and roll back.
    Advise,
    /// Rolls back by itself.
    Guard,
    /// Promotes and rolls back by itself.
    Auto,
}

/// One step of the ladder.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Stage {
    /// The share of everyone.
    pub(super) share: Option<Percent>,
    /// Who has it besides, by attribute.
    pub(super) cohorts: Option<BTreeMap<String, Words>>,
    /// Least time before promotion.
    pub(super) bake_time: Option<Span>,
}

/// Where the arms are measured.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Telemetry {
    /// The source that keeps its metrics.
    pub(super) source: Option<String>,
    /// How long after its time a sample may be stored there.
    pub(super) settle: Option<Span>,
    /// How far before a window samples are read.
    pub(super) lookback: Option<Span>,
    /// How long a pod may show nothing.
    pub(super) stale_after: Option<Span>,
    /// How long a pod that shows nothing is a pod.
    pub(super) gone_after: Option<Span>,
    /// For a source of kind `web`: where each metric is read.
    pub(super) metrics: Option<BTreeMap<String, Endpoint>>,
    /// Time between scrapes.
    pub(super) interval: Option<Span>,
    /// Longest wait for one scrape.
    pub(super) timeout: Option<Span>,
    /// The label of the pod.
    pub(super) pod_label: Option<String>,
    /// The old version.
    pub(super) control: Option<Arm>,
    /// The new version.
    pub(super) canary: Option<Arm>,
}

/// Where one arm is measured.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Arm {
    /// Pages in the Prometheus text format.
    pub(super) urls: Option<Vec<String>>,
    /// Labels by which its series are told apart.
    pub(super) labels: Option<BTreeMap<String, String>>,
}

/// The flag that moves traffic.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Flag {
    /// Its name.
    pub(super) key: Option<String>,
    /// What it holds.
    pub(super) value: Option<FlagValue>,
}

/// What a flag holds.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum FlagValue {
    /// True for the new version.
    Boolean,
    /// `canary` or `control`.
    Variant,
    /// The revision itself.
    Revision,
}

/// Something that can be measured. Which keys belong to it depends on its kind.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sli {
    /// Its name.
    pub(super) name: Option<String>,
    /// What kind it is.
    pub(super) kind: Option<SliKind>,
    /// For `ratio`: the bad ones.
    pub(super) bad: Option<Selector>,
    /// For `ratio`: all of them.
    pub(super) total: Option<Selector>,
    /// For `latency`: the histogram.
    pub(super) histogram: Option<Selector>,
    /// For `latency`: slower than this is bad.
    pub(super) slow_above: Option<Span>,
    /// For `events_per_traffic`: what is counted.
    pub(super) events: Option<Selector>,
    /// For `events_per_traffic`: what it is counted against.
    pub(super) traffic: Option<Selector>,
    /// For `level`: the gauge.
    pub(super) gauge: Option<Selector>,
    /// For `mix`: the counter.
    pub(super) counter: Option<Selector>,
    /// For `mix`: the label of the categories.
    pub(super) by: Option<String>,
    /// For `liveness`: what must go on rising.
    pub(super) series: Option<Selector>,
    /// For `probe`: its name.
    pub(super) probe: Option<String>,
    /// The label of the route.
    pub(super) route_label: Option<String>,
    /// The label of the segment.
    pub(super) segment_label: Option<String>,
    /// The label of the tenant.
    pub(super) tenant_label: Option<String>,
}

/// What kind of SLI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SliKind {
    /// Bad among all.
    Ratio,
    /// Slow among all.
    Latency,
    /// Events for each unit of traffic.
    EventsPerTraffic,
    /// A gauge.
    Level,
    /// Shares of categories.
    Mix,
    /// Whether a counter goes on rising.
    Liveness,
    /// A request of our own.
    Probe,
}

/// A target.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Slo {
    /// Name of the SLI.
    pub(super) sli: Option<String>,
    /// How many times worse than control is tolerated.
    pub(super) ratio_max: Option<f64>,
    /// Which way is worse.
    pub(super) direction: Option<Direction>,
    /// An absolute bound.
    pub(super) limit: Option<Limit>,
    /// Why, for people.
    pub(super) rationale: Option<String>,
}

/// Which way is worse.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Direction {
    /// More is worse.
    HigherIsWorse,
    /// Less is worse.
    LowerIsWorse,
}

/// An absolute bound.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    /// Largest share of bad ones.
    pub(super) bad_share_max: Option<Percent>,
    /// Fewer requests say nothing.
    pub(super) total_min: Option<u64>,
    /// Fewer bad ones say nothing.
    pub(super) bad_min: Option<u64>,
}

/// A set of series.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-form" = "a selector such as { metric = \"http_requests_total\" }"))]
pub(super) struct Selector {
    /// The metric's name.
    pub(super) metric: Option<String>,
    /// Conditions on labels.
    #[serde(rename = "where")]
    pub(super) conditions: Option<BTreeMap<String, Condition>>,
}

/// A condition on one label.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("x-form" = "a value, or one of { is }, { is_not }, { one_of }, { starts_with }"))]
pub(super) enum Condition {
    /// Equality.
    Is(String),
    /// Anything else.
    Table(ConditionTable),
}

/// A condition that says how it compares: one of its keys.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConditionTable {
    /// Equal to this.
    pub(super) is: Option<String>,
    /// Different from this.
    pub(super) is_not: Option<String>,
    /// One of these.
    pub(super) one_of: Option<Vec<String>>,
    /// Begins with this.
    pub(super) starts_with: Option<String>,
}

/// A span of time as people write it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("x-form" = "a duration such as \"15s\", \"5m\" or \"24h\""))]
pub(super) struct Span(pub(super) String);

/// A share: a string with its sign, or a number of per cent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("x-form" = "a share such as \"5%\""))]
pub(super) enum Percent {
    /// `"0.5%"`.
    Words(String),
    /// `0.5` is half of one per cent.
    Number(f64),
}

/// One word or several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("x-form" = "a value or a list of values"))]
pub(super) enum Words {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// Where a secret is found; never the secret itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-form" = "{ env = \"NAME\" } or { file = \"path\" }", "x-secret" = true))]
pub(super) struct Secret {
    /// Name of an environment variable.
    pub(super) env: Option<String>,
    /// Path of a file.
    pub(super) file: Option<PathBuf>,
}
