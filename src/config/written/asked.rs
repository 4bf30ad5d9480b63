//! What can be written of requests of our own (probes), and of what changes to certain paths must have.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Secret, Slo, Span};

/// Where probes go, and how often.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Probing {
    /// Where the old version answers.
    pub(in crate::config) control: Option<Vec<String>>,
    /// Where the new version answers.
    pub(in crate::config) canary: Option<Vec<String>>,
    /// Time between two rounds.
    pub(in crate::config) every: Option<Span>,
    /// Most requests in a second.
    pub(in crate::config) per_second: Option<u64>,
    /// Longest wait for one answer.
    pub(in crate::config) timeout: Option<Span>,
}

/// A request of our own, sent to both arms.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Probe {
    /// Its name.
    pub(in crate::config) name: Option<String>,
    /// What is asked for.
    pub(in crate::config) path: Option<String>,
    /// How it is asked for.
    pub(in crate::config) method: Option<ProbeMethod>,
    /// Which answers are good.
    pub(in crate::config) status: Option<Vec<u64>>,
    /// What a good answer holds.
    pub(in crate::config) contains: Option<String>,
    /// What headers of a good answer hold.
    pub(in crate::config) answers_with: Option<BTreeMap<String, String>>,
    /// A slower answer is bad.
    pub(in crate::config) slow_above: Option<Span>,
    /// Headers that are sent.
    pub(in crate::config) headers: Option<BTreeMap<String, ProbeHeader>>,
}

/// How a probe asks: only ways that change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(in crate::config) enum ProbeMethod {
    /// For the whole answer.
    #[serde(rename = "GET")]
    Get,
    /// For its head.
    #[serde(rename = "HEAD")]
    Head,
}

/// What a header holds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("x-form" = "a value, or { env = \"NAME\" } or { file = \"path\" } for a secret"))]
pub(in crate::config) enum ProbeHeader {
    /// Something that anyone may know.
    Open(String),
    /// A secret, by where it is found.
    Secret(Secret),
}

/// What changes that touch certain paths must have.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PathRule {
    /// Globs over paths.
    pub(in crate::config) paths: Option<Vec<String>>,
    /// How risky such a change is at least.
    pub(in crate::config) risk: Option<Risk>,
    /// Checks that its plan has besides the objectives.
    pub(in crate::config) checks: Option<Vec<Slo>>,
}

/// How risky a change is.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Risk {
    /// As most changes.
    Low,
    /// Something that has hurt before.
    Medium,
    /// Something that hurts everyone or cannot be undone.
    High,
}
