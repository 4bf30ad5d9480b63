//! What is meant: checked values, defaults filled in. Whoever holds one need not check again.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

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
    /// The flag that moves each service's traffic, no two alike. It has the same services as `policy`.
    pub traffic: BTreeMap<ServiceName, Flag>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Time between scrapes; never more than the service's `measure_every`.
    pub interval: Duration,
    /// Longest wait for one scrape; never more than `interval`.
    pub timeout: Duration,
    /// The label whose values are pods; `None` where each page is one pod.
    pub pod_label: Option<String>,
    /// The old version.
    pub control: ArmTargets,
    /// The new version.
    pub canary: ArmTargets,
}

/// Where one arm is measured. `{revision}` in an address or a label's value stands for the arm's revision; there is no
/// other placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmTargets {
    /// HTTP addresses of pages in the Prometheus text format; at least one.
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
