//! Something a person should know, and what comes next.

use serde::{Deserialize, Serialize};

use super::{RolloutId, ServiceName, Text, Timestamp};

/// How loudly a notice is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For whoever looks.
    Info,
    /// Something went wrong that Tollgate deals with.
    Warning,
    /// A person is needed.
    Page,
}

/// What will happen next if nobody does anything, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upcoming {
    /// What will happen.
    pub what: Text,
    /// When, at the latest.
    pub at: Timestamp,
}

/// Something a person should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// When it was said.
    pub at: Timestamp,
    /// The rollout it is about, if one.
    pub rollout: Option<RolloutId>,
    /// The service it is about, if one.
    pub service: Option<ServiceName>,
    /// How loudly.
    pub severity: Severity,
    /// The words.
    pub text: Text,
    /// What comes next.
    pub next: Option<Upcoming>,
}
