//! What can be written of a source: software that keeps metrics, which services name by the name of its table.

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
}

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum SourceKind {
    /// Whatever speaks Prometheus's HTTP API.
    Prometheus,
    /// A receiver of what OpenTelemetry's SDKs export.
    Otlp,
}
