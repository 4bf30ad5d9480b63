//! What is decided of a stage, what stands in its way, and how a rollout ends.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Text;

/// What to do with a stage, boldest first: a later one is the more careful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Go on to the next stage.
    Promote,
    /// Stay.
    Hold,
    /// Take the traffic back.
    Rollback,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promote => "promote",
            Self::Hold => "hold",
            Self::Rollback => "rollback",
        })
    }
}

/// A rail's reason for lowering a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objection {
    /// The rail's name, as in `RAILS`.
    pub rail: String,
    /// The boldest verdict it lets pass.
    pub at_most: Verdict,
    /// Why, in words for people.
    pub why: Text,
    /// Whether a person is needed.
    pub page: bool,
}

/// How far a service lets Tollgate act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Autonomy {
    /// Watches, and says what it would do.
    Observe,
    /// Moves nothing by itself; people promote and roll back.
    Advise,
    /// Rolls back by itself; people promote.
    Guard,
    /// Promotes and rolls back by itself.
    Auto,
}

/// What a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Stay at this stage until told otherwise. The rails go on: a paused rollout still rolls back.
    Pause,
    /// Take up where it was paused.
    Resume,
    /// Go on to the next stage now; the rails that only wait are waived, the others are not.
    Promote,
    /// Take the traffic back now.
    Rollback,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Rollback => "rollback",
        })
    }
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everyone has the new version, and it held through the watch after it.
    Promoted,
    /// The traffic went back.
    RolledBack,
    /// A person has it now; traffic stands where it stood.
    HandedOver,
    /// A later change took its place before it began.
    Superseded,
    /// It was called off before anyone saw the new version.
    Cancelled,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled back",
            Self::HandedOver => "handed over",
            Self::Superseded => "superseded",
            Self::Cancelled => "cancelled",
        })
    }
}
