//! How risky a change is taken to be.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How risky a change is taken to be: the larger of what the operator's rules say of its paths and what was proposed. A
/// riskier one is baked longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// As most changes.
    #[default]
    Low,
    /// Something that has hurt before: timeouts, queries, configuration.
    Medium,
    /// Something that hurts everyone or cannot be undone: sign-in, payment, data.
    High,
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        })
    }
}
