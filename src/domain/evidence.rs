//! What a test knows at a moment, and what it means for the check.

use serde::{Deserialize, Serialize};

use super::Counts;

/// A range with its ends, low first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// What a test knows. It may be read after every measurement without spending anything.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Natural logarithm of the e-value against "not worse than tolerated". Reaching `ln(1/alpha)` is proof at `alpha`.
    pub log_e_value: f64,
    /// Natural logarithm of what it must reach for a rollback.
    pub log_threshold: f64,
    /// Canary's rate over control's; `None` while either has nothing to compare.
    pub effect: Option<f64>,
    /// A range for `effect`, where the test gives one.
    pub interval: Option<Interval>,
    /// What control has counted since the rollout began.
    pub control: Counts,
    /// What the canary has counted since the rollout began.
    pub canary: Counts,
}

impl Evidence {
    /// Whether the evidence is enough for a rollback.
    pub fn is_conclusive(&self) -> bool {
        self.log_e_value >= self.log_threshold
    }
}

/// What a check's evidence means now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Enough was seen, and nothing speaks against the canary.
    Healthy,
    /// Not enough was seen, or what was seen leans the wrong way without being proof.
    Inconclusive,
    /// Nothing was seen of the canary, whatever the reason.
    NoData,
    /// Proven worse than tolerated.
    Degraded,
}
