//! What a check's canary is compared with at one stage, and why that.
//!
//! Chosen when a stage begins and kept until it ends. Only a control that runs at the same time can prove a regression;
//! what stands in for it may call a person and hold, and never moves traffic. A [`super::HardLimit`] needs none of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Text;

/// What is compared with, in the order of choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// The old version, which serves beside the canary.
    Concurrent,
    /// The old version beside it, in a deployment that was started together with the canary: as cold and as young.
    SameAge,
    /// The same hours of earlier days.
    PastDays {
        /// Windows of history that were compared with.
        windows: u32,
        /// Windows that were left out, for an incident or another rollout was in them.
        left_out: u32,
    },
    /// The canary itself at the stage before.
    PreviousStage {
        /// Whether it is compared segment by segment, so that another mix of traffic makes no difference.
        segments: bool,
    },
    /// Nothing: only absolute limits are held.
    Nothing,
}

impl Baseline {
    /// Whether the old version is measured beside the canary, so that evidence can be proof.
    pub const fn is_control(self) -> bool {
        match self {
            Self::Concurrent | Self::SameAge => true,
            Self::PastDays { .. } | Self::PreviousStage { .. } | Self::Nothing => false,
        }
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Concurrent => f.write_str("concurrent control"),
            Self::SameAge => f.write_str("concurrent control of the same age"),
            Self::PastDays { windows, left_out: 0 } => write!(f, "the same hours of past days ({windows} windows)"),
            Self::PastDays { windows, left_out } => {
                write!(f, "the same hours of past days ({windows} windows, {left_out} left out)")
            }
            Self::PreviousStage { segments: true } => f.write_str("the previous stage, segment by segment"),
            Self::PreviousStage { segments: false } => f.write_str("the previous stage"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

/// A baseline, and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenBaseline {
    /// The baseline.
    pub baseline: Baseline,
    /// Why, in words for people: what spoke against each that would have been better.
    pub why: Text,
}

/// What the operator says that the control is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlAge {
    /// The old version as it has been running.
    #[default]
    Running,
    /// A deployment of the old version that is started together with the canary.
    SameAge,
}
