//! The traffic on which a check is decided, and how its test is set: what a forecast starts from.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    domain::{Check, Counts, Direction, Sli},
    stats::{Calibration, CountTest},
};

/// How fast evidence may grow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// By betting on the share alone: one block multiplies the wealth by `1 + 0.9 (1/pi - 1)` at most.
    Betting,
    /// By the average of betting and a tempered likelihood ratio, of which one block multiplies by 10 at most.
    Averaged,
}

/// What is counted as bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Requests that are bad; there are no more bad ones than requests.
    Requests,
    /// Events, of which more are worse; there may be more of them than requests.
    MoreEvents,
    /// Events, of which fewer are worse.
    FewerEvents,
}

impl Counted {
    /// What a check counts; `None` for one that counts nothing.
    pub fn of(check: &Check) -> Option<Self> {
        match (&check.sli, check.direction) {
            (Sli::Ratio { .. } | Sli::Latency { .. }, _) => Some(Self::Requests),
            (Sli::EventsPerTraffic { .. }, Direction::HigherIsWorse) => Some(Self::MoreEvents),
            (Sli::EventsPerTraffic { .. }, Direction::LowerIsWorse) => Some(Self::FewerEvents),
            (Sli::Level { .. } | Sli::Mix { .. } | Sli::Liveness { .. } | Sli::Probe { .. }, _) => None,
        }
    }
}

/// The traffic on which a check of counts is decided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// What is counted.
    pub counted: Counted,
    /// Requests of both arms in a second.
    pub requests_per_second: f64,
    /// Bad ones for each request of control.
    pub bad_rate: f64,
    /// The canary's part of the requests, 0 to 1.
    pub share: f64,
    /// How long a block of evidence is.
    pub block: Duration,
    /// How clustered bad events are, 0 to 1, as [`super::Calibration`] says.
    pub dispersion: f64,
    /// How many bad events count as one at least, whatever the dispersion says; 1 or more.
    pub inflation: f64,
    /// How fast evidence may grow in a block.
    pub pace: Pace,
    /// The most that evidence may lastingly grow in 15 seconds, as a logarithm, besides a factor of 10 at once; `None`
    /// where the test has no such limit.
    pub growth_max: Option<f64>,
}

impl Load {
    /// A check as its test is set by what is known of its noise, with so many canary pods, and no traffic yet; `None`
    /// for a check that counts nothing.
    pub fn of(
        check: &Check,
        calibration: &Calibration,
        canary_pods: u8,
        block: Duration,
        pod_incident: Duration,
    ) -> Option<Self> {
        Some(Self {
            counted: Counted::of(check)?,
            requests_per_second: 0.0,
            bad_rate: calibration.base_rate,
            share: 0.0,
            block: block.max(calibration.block.min(pod_incident / 3)),
            dispersion: if calibration.is_trusted { 0.0 } else { calibration.dispersion },
            inflation: calibration.inflation,
            pace: Pace::Averaged,
            growth_max: Some(CountTest::growth_max(canary_pods, pod_incident)),
        })
    }

    /// The load that both arms had for a while.
    pub fn seen(&self, control: Counts, canary: Counts, lasted: Duration) -> Self {
        let all = control.total as f64 + canary.total as f64;
        let seconds = lasted.as_secs_f64();
        Self {
            requests_per_second: if seconds > 0.0 { all / seconds } else { 0.0 },
            bad_rate: control.rate().unwrap_or_default(),
            share: if all > 0.0 { canary.total as f64 / all } else { 0.0 },
            ..*self
        }
    }
}
