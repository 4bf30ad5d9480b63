//! What history says of a check's noise, and how the test is set because of it.
//!
//! Everything here is learnt from the old version alone, before the block it is used on: a test whose setting depends on
//! the past only stays valid.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::Counts;

/// A stable period of the old version.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Time between two looks.
    pub every: Duration,
    /// What each pod counted, look after look: `pods[pod][look]`; all of one length.
    pub pods: Vec<Vec<Counts>>,
}

/// What is known of a check's noise. The default is what holds where history is short: the wider setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Whether the history was long enough to be believed.
    pub is_trusted: bool,
    /// How clustered bad events are, as a correlation between the events of one look, 0 to 1; it counts what is
    /// correlated from look to look too.
    pub dispersion: f64,
    /// Lasting spread between pods, as the standard deviation of the logarithm of their rates.
    pub pod_log_sd: f64,
    /// Length of a block of evidence.
    pub block: Duration,
}

impl Calibration {
    /// Where history is short or missing.
    pub fn untrusted() -> Self {
        Self { is_trusted: false, dispersion: 0.1, pod_log_sd: 0.1, block: Duration::from_secs(60) }
    }

    /// Learns from a stable period.
    pub fn learn(_history: &History) -> Self {
        Self::untrusted()
    }
}
