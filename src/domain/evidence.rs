//! What a test knows at a moment, and what it means for the check.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Counts, Text};

/// A range with its ends, low first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Something about the data that a person should know, and that is no proof against the change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Concern {
    /// Without this pod nothing speaks against the change: restart the pod.
    OnePod(Text),
    /// Without this tenant nothing speaks against the change: look at what it does.
    OneTenant(Text),
    /// The arms serve another mix of segments, so that their sums cannot be compared: the largest difference of a
    /// segment's share, and the segment.
    Mismatch(f64, Text),
}

/// The canary's share of requests, as it was set and as it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// As it was set, 0 to 1.
    pub set: f64,
    /// As the last looks show it, 0 to 1.
    pub seen: f64,
}

/// One tenant that makes much of one arm's traffic and little of the other's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Concentration {
    /// The tenant, a stranger's word.
    pub tenant: Text,
    /// Its share of control's requests, 0 to 1.
    pub control: f64,
    /// Its share of the canary's requests, 0 to 1.
    pub canary: f64,
}

impl fmt::Display for Concentration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenant, control, canary } = self;
        let (control, canary) = (control * 100.0, canary * 100.0);
        write!(f, "tenant {tenant} makes {canary:.0}% of the canary's requests and {control:.0}% of control's")
    }
}

impl Concern {
    /// The pod, tenant or segment it is about.
    pub fn subject(&self) -> &Text {
        match self {
            Self::OnePod(name) | Self::OneTenant(name) | Self::Mismatch(_, name) => name,
        }
    }
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnePod(pod) => {
                write!(f, "only pod {pod} of the canary is worse: restart it; if it comes back as bad, look there")
            }
            Self::OneTenant(tenant) => {
                write!(f, "only tenant {tenant} is worse off: nothing speaks against the canary without it")
            }
            Self::Mismatch(difference, segment) => {
                let points = difference * 100.0;
                write!(f, "the arms do not serve the same mix: the share of {segment} differs by {points:.1} points")
            }
        }
    }
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
    /// Natural logarithm of the e-value against "at least `safe_ratio` times as bad": the proof that it is safe.
    #[serde(default)]
    pub log_e_safe: f64,
    /// Whether enough is known of the check's noise for a proof of safety to be believed.
    #[serde(default)]
    pub is_calibrated: bool,
    /// About how many more seconds at this traffic the check needs until it is decided either way; `None` where that
    /// cannot be said, or nothing is missing.
    #[serde(default)]
    pub more_seconds: Option<f64>,
    /// What control has counted since the rollout began.
    pub control: Counts,
    /// What the canary has counted since the rollout began.
    pub canary: Counts,
}

impl Evidence {
    /// Chance of calling a canary safe that is `safe_ratio` times as bad.
    pub const BETA: f64 = 0.05;

    /// Whether the canary is shown to be less than `safe_ratio` times as bad as control, at [`Self::BETA`]. Where too
    /// little is known of the noise it never is: clusters that nobody knows of look like safety.
    pub fn is_shown_safe(&self) -> bool {
        self.is_calibrated && self.log_e_safe >= -Self::BETA.ln() && !self.is_conclusive()
    }

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
