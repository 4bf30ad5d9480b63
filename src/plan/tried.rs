//! What came of trying a proposed check on the service's past, before it counts for anything.

use serde::{Deserialize, Serialize};

use super::Trial;
use crate::domain::{CheckName, Metric, Share, Text};

/// Who made a draft.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Plain rules: no model is configured for the service, or the change needs none.
    #[default]
    Heuristic,
    /// A language model.
    Model {
        /// Its name.
        model: Text,
        /// Whether the same change, catalogue, prompt and model had been planned before.
        is_cached: bool,
    },
    /// Plain rules, since the model could not be used.
    Fallback {
        /// Why.
        why: Fallback,
        /// In words.
        detail: Text,
    },
}

/// Why a model's plan could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// It refused, or its provider's filter did.
    Refused,
    /// Its answers were cut off for length.
    Truncated,
    /// What it wrote could not be used, and did not become better.
    Malformed,
    /// It asked for the same thing again and again.
    Repeating,
    /// It said that nothing fits.
    Abstained,
    /// It did not answer, or not in time.
    Unavailable,
    /// Its provider did not take the request.
    Rejected,
    /// A budget was used up.
    OverBudget,
}

impl Fallback {
    /// All of them, for metrics and documents.
    pub const ALL: [Self; 8] = [
        Self::Refused,
        Self::Truncated,
        Self::Malformed,
        Self::Repeating,
        Self::Abstained,
        Self::Unavailable,
        Self::Rejected,
        Self::OverBudget,
    ];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Repeating => "repeating",
            Self::Abstained => "abstained",
            Self::Unavailable => "unavailable",
            Self::Rejected => "rejected",
            Self::OverBudget => "over_budget",
        }
    }
}

/// What a proposed check may do, after it was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// As proposed.
    Admitted,
    /// It may advise only.
    Demoted,
    /// Nothing.
    Rejected,
}

/// Why a check was demoted or rejected, or what is to be known of one that was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Tried, and fit to decide.
    Sound,
    /// Too little of the past is known to try it on.
    ShortHistory,
    /// It would have rolled back changes in which nothing had changed.
    Noisy,
    /// Its series had nothing in the past.
    NoData,
    /// No stage has the traffic for it to see harm.
    Blind,
    /// A metric, a label, a probe or an objective that there is not.
    Unknown,
    /// A metric of another kind than the check needs.
    WrongKind,
    /// A line that the diff does not have.
    NotInDiff,
    /// Another check measures the same, or has its name.
    Duplicate,
    /// A number or a word beyond what the policy allows.
    OutOfBounds,
    /// The plan is full.
    Full,
    /// It measures an improvement, which never decides.
    Improvement,
}

impl Reason {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::ShortHistory => "short_history",
            Self::Noisy => "noisy",
            Self::NoData => "no_data",
            Self::Blind => "blind",
            Self::Unknown => "unknown",
            Self::WrongKind => "wrong_kind",
            Self::NotInDiff => "not_in_diff",
            Self::Duplicate => "duplicate",
            Self::OutOfBounds => "out_of_bounds",
            Self::Full => "full",
            Self::Improvement => "improvement",
        }
    }
}

/// What the past of a check's SLI was like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PastLevel {
    /// Bad for each of all, or the mean of a gauge.
    pub rate: f64,
    /// How many of all there were in a second; of a gauge, readings.
    pub per_second: f64,
    /// The part of the past's blocks in which nothing was counted.
    pub empty: f64,
    /// How much of the past was looked at, in seconds.
    pub seconds: u64,
    /// Whether the noise was learnt well enough to be believed.
    pub is_calibrated: bool,
}

/// What a check can see at one stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Power {
    /// The stage's share.
    pub share: Share,
    /// The smallest ratio to control that is found within the stage's bake time; `None` where none is.
    pub smallest: Option<f64>,
    /// Seconds until a canary twice as bad is found; `None` where it never is.
    pub twice_seconds: Option<f64>,
}

/// What came of trying one proposed check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The check's name as proposed.
    pub check: CheckName,
    /// What it may do.
    pub standing: Standing,
    /// Why.
    pub reason: Reason,
    /// In words that say what to mend; empty where nothing is.
    pub detail: Text,
    /// What its SLI's past was like; `None` where there is none.
    pub baseline: Option<PastLevel>,
    /// How it fared in rollouts in which nothing had changed.
    pub trial: Trial,
    /// What it can see, stage after stage.
    pub power: Vec<Power>,
}

/// What a draft may rest on beyond the configured catalogue: metrics that the source itself was seen to have. It is our
/// own word, taken from telemetry when the check was tried, and never the proposer's.
pub type Found = Vec<Metric>;
