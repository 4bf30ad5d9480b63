//! What a source says it has: metrics by name, with their kind, their labels and how many series they are.
//!
//! An SLI names metrics; this says which there are to name. It is the source's word and not the model's: a check on a
//! metric beyond the configured catalogue is admitted only where a [`Metric`] shows that the service exposes it.

use serde::{Deserialize, Serialize};

use super::Text;

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// Only rises, but for restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution in buckets, named without `_bucket`.
    Histogram,
}

impl MetricKind {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One label of a metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricLabel {
    /// Its name.
    pub name: String,
    /// Some of its values, sorted; strangers' words. At most [`Metric::VALUES_MAX`].
    pub values: Vec<String>,
    /// Whether there are more values than are listed.
    pub more: bool,
}

/// A metric that a source was seen to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name as selectors write it: of a histogram, without `_bucket`.
    pub name: String,
    /// What kind of number it is.
    pub kind: MetricKind,
    /// What its makers say of it; a stranger's words.
    pub help: Text,
    /// Its labels, sorted by name. At most [`Metric::LABELS_MAX`].
    pub labels: Vec<MetricLabel>,
    /// How many series it is.
    pub series: u32,
}

impl Metric {
    /// Most values that are listed of one label.
    pub const VALUES_MAX: usize = 16;
    /// Most labels that are listed of one metric.
    pub const LABELS_MAX: usize = 16;

    /// Whether it bears this label.
    pub fn has_label(&self, name: &str) -> bool {
        self.labels.iter().any(|label| label.name == name)
    }
}
