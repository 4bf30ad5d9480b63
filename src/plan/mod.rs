//! Admission: a draft becomes a plan, or parts of it go back with reasons.
//!
//! Anyone may make a [`Draft`]: a model, the heuristics, a stranger. A [`Plan`] has private fields and only
//! [`admit`] makes one: it bounds what was proposed, adds the mandatory checks, and keeps the reasons of what it
//! refused. The judge and the rails read plans, never drafts.

mod admit;
mod fallback;
mod heuristic;

pub use admit::{Admission, Bounds, Plan, Rejection, Trial, admit};
pub use fallback::fallback;
pub use heuristic::draft as heuristic_draft;

use serde::{Deserialize, Serialize};

use crate::domain::{Check, Text, WayBack};

/// What was proposed for one change and one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// The checks, most important first.
    pub checks: Vec<Check>,
    /// Whether the change can be taken back.
    pub way_back: WayBack,
    /// What else a person should know of how it was made.
    pub notes: Vec<Text>,
}
