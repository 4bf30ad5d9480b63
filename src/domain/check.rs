//! A typed health check: the boundary between whoever proposes (configuration, a model, the heuristics) and the code
//! that decides. It holds no query, no address and no threshold that admission has not bounded.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CheckName, Sli, Text};

/// A check's place in its plan, by which measurements and evidence name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckId(pub u16);

/// Which way is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More is worse: errors, slow requests, misses.
    HigherIsWorse,
    /// Less is worse: hits, sign-ins, throughput.
    LowerIsWorse,
}

/// Who asked for a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The service's own objectives: in every plan.
    Slo,
    /// A language model, from the diff.
    Model,
    /// Plain rules, from the diff.
    Heuristic,
}

/// What a check looks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// Harm: its evidence speaks against the canary.
    #[default]
    Guard,
    /// What the change is meant to improve: its evidence says that control is worse by more than `ratio_max`, so that the
    /// improvement is there. It advises only: an improvement that fails to come is no reason to go back, and one that
    /// comes is none to go on.
    Improvement,
}

/// What a check may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Its finding can roll back.
    Critical,
    /// Its finding is shown to people and moves nothing.
    Advisory,
}

/// An absolute bound that needs no baseline and no model: the service's promise to its users.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HardLimit {
    /// Largest share of bad among all that is tolerated, 0 to 1.
    pub bad_share_max: f64,
    /// Fewer requests than this in the window say nothing.
    pub total_min: u64,
    /// Fewer bad ones than this say nothing.
    pub bad_min: u64,
}

/// A line of the diff that a check rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffLine {
    /// The file, after the change.
    pub path: String,
    /// Its line number there, from 1; for a removed line, the number before the change.
    pub line: u32,
}

impl fmt::Display for DiffLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path, self.line)
    }
}

/// By which labels a source splits what it reads for a check into parts, where the service says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The label whose values are segments of the traffic: endpoints, regions, client versions.
    #[serde(default)]
    pub segments: Option<String>,
    /// The label whose values are tenants, clients or users.
    #[serde(default)]
    pub tenants: Option<String>,
}

/// A typed health check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its name, unique in its plan.
    pub name: CheckName,
    /// What is measured.
    pub sli: Sli,
    /// Which way is worse.
    pub direction: Direction,
    /// How many times worse than control is tolerated, at least 1. The smallest degradation worth a rollback.
    pub ratio_max: f64,
    /// The absolute bound, where the service promises one.
    pub limit: Option<HardLimit>,
    /// What it looks for.
    #[serde(default)]
    pub aim: Aim,
    /// What it may do.
    pub weight: Weight,
    /// Who asked for it.
    pub origin: Origin,
    /// Why, in words for people.
    pub rationale: Text,
    /// The lines of the diff it rests on; none for an objective.
    #[serde(default)]
    pub lines: Vec<DiffLine>,
    /// How what is measured is split. It is the catalogue's word, never a draft's.
    #[serde(default)]
    pub split: Split,
}
