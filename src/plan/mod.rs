//! Admission: a draft becomes a plan, or parts of it go back with reasons.
//!
//! Anyone may make a [`Draft`]: a model, the heuristics, a stranger. A [`Plan`] has private fields and only
//! [`admit`] makes one: it bounds what was proposed, adds the mandatory checks, and keeps the reasons of what it
//! refused. The judge and the rails read plans, never drafts.

mod admit;
mod fallback;
mod heuristic;
mod path_class;
mod tried;

pub use admit::{Admission, Bounds, PathRule, Plan, Rejection, Touched, Trial, admit, asked_of};
pub use fallback::fallback;
pub use heuristic::draft as heuristic_draft;
pub use path_class::{Role, path_class, role};
pub use tried::{Fallback, Found, PastLevel, Power, Reason, Source, Standing, Tried};

use serde::{Deserialize, Serialize};

use crate::domain::{Check, Risk, Text, WayBack};

/// What was proposed for one change and one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// The checks, most important first.
    pub checks: Vec<Check>,
    /// Whether the change can be taken back.
    pub way_back: WayBack,
    /// What else a person should know of how it was made.
    pub notes: Vec<Text>,
    /// How risky the change is taken to be. The operator's rules can raise it further.
    #[serde(default)]
    pub risk: Risk,
    /// Who made it.
    #[serde(default)]
    pub source: Source,
    /// Metrics beyond the catalogue that its checks measure and that telemetry was seen to have.
    #[serde(default)]
    pub found: Found,
    /// How its checks fared on the service's past, the refused ones included.
    #[serde(default)]
    pub tried: Vec<Tried>,
    /// Files of the diff that nobody looked at, or parts of them; strangers' words.
    #[serde(default)]
    pub uncovered: Vec<Text>,
}

impl Draft {
    /// A draft by plain rules.
    pub fn by_rules(checks: Vec<Check>, way_back: WayBack, notes: Vec<Text>) -> Self {
        Self {
            checks,
            way_back,
            notes,
            risk: Risk::Low,
            source: Source::Heuristic,
            found: Vec::new(),
            tried: Vec::new(),
            uncovered: Vec::new(),
        }
    }
}
