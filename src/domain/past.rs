//! How earlier changes to a service ended: closed lists of words only, so that nothing a stranger wrote in one change
//! speaks in the planning of another.

use serde::{Deserialize, Serialize};

use super::{Origin, Outcome, Risk};

/// What kind of file a change touched, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathClass {
    /// What the service runs.
    Code,
    /// What changes the shape of stored data.
    Migration,
    /// Settings.
    Config,
    /// What it depends on.
    Dependencies,
    /// How it is built and deployed.
    Deployment,
    /// Prompts, models and their settings.
    Model,
    /// Tests.
    Tests,
    /// Documentation.
    Docs,
    /// Anything else.
    Other,
}

impl PathClass {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Code,
        Self::Migration,
        Self::Config,
        Self::Dependencies,
        Self::Deployment,
        Self::Model,
        Self::Tests,
        Self::Docs,
        Self::Other,
    ];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Migration => "migration",
            Self::Config => "config",
            Self::Dependencies => "dependencies",
            Self::Deployment => "deployment",
            Self::Model => "model",
            Self::Tests => "tests",
            Self::Docs => "docs",
            Self::Other => "other",
        }
    }
}

/// A check of an earlier change that had proof against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastProof {
    /// The kind of SLI, as [`super::Sli::kind`] says it.
    pub kind: String,
    /// Who had asked for it.
    pub origin: Origin,
}

/// How an earlier change ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastChange {
    /// The kinds of files it touched, sorted, each once.
    pub classes: Vec<PathClass>,
    /// How risky it was taken to be.
    pub risk: Risk,
    /// How it ended.
    pub outcome: Outcome,
    /// Greatest share that had it, in basis points.
    pub widest_share: u16,
    /// The checks that had proof against it.
    pub proofs: Vec<PastProof>,
}
