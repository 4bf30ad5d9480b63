//! What a model is told of a stage, and what it may say of it.
//!
//! A [`Brief`] holds numbers, numbers of checks and closed lists of words only. No text of a diff, a pull request, a log
//! or a label's value is in it, so a stranger who can write those cannot speak to the adviser through it. A [`Story`] is
//! for the narrator, whose words are read by people only; it may bear names.

use serde::{Deserialize, Serialize};

use super::{
    Aim, Autonomy, CheckId, CheckName, Counts, Direction, Finding, Interval, Origin, Outcome, Risk, ServiceName, Text,
    Verdict, Weight,
};

/// What an adviser may recommend. Which of them are legal at a moment is in the brief.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Go on to the next stage.
    Expand,
    /// Stay.
    Hold,
    /// Take the traffic back.
    RollBack,
    /// Stay, and call a person.
    AskPerson,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Expand, Self::Hold, Self::RollBack, Self::AskPerson];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Expand => "expand",
            Self::Hold => "hold",
            Self::RollBack => "roll_back",
            Self::AskPerson => "ask_person",
        }
    }
}

/// How sure an adviser says it is. It is shown and decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Hardly.
    Low,
    /// Somewhat.
    Medium,
    /// Very.
    High,
}

/// What a model recommends at a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// What to do.
    pub action: Action,
    /// The checks whose evidence it rests on, each of them in the brief; at least one.
    pub cites: Vec<CheckId>,
    /// How sure it says it is.
    pub confidence: Confidence,
    /// Why, for people; a model's words.
    pub rationale: Text,
}

/// What a model is told of one check: no names, no words from outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckBrief {
    /// Its number in the plan, by which advice cites it.
    pub check: CheckId,
    /// The kind of SLI, as [`super::Sli::kind`] says it.
    pub kind: Text,
    /// Who asked for it.
    pub origin: Origin,
    /// What it may do.
    pub weight: Weight,
    /// What it looks for.
    pub aim: Aim,
    /// Which way is worse.
    pub direction: Direction,
    /// How many times worse than control is tolerated.
    pub ratio_max: f64,
    /// What its evidence means.
    pub finding: Finding,
    /// Natural logarithm of its evidence against the canary.
    pub log_e_value: f64,
    /// What that must reach for a rollback.
    pub log_threshold: f64,
    /// Natural logarithm of its evidence that the canary is safe.
    pub log_e_safe: f64,
    /// Canary's rate over control's.
    pub effect: Option<f64>,
    /// A range for the effect.
    pub interval: Option<Interval>,
    /// Seconds still needed for a decision either way, at this traffic.
    pub more_seconds: Option<f64>,
    /// What control counted since the rollout began.
    pub control: Counts,
    /// What the canary counted since the rollout began.
    pub canary: Counts,
    /// What the canary counted since the stage began.
    pub this_stage: Counts,
    /// What the canary counted in the last few windows.
    pub recent: Counts,
}

/// What a model is told of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Brief {
    /// The stage that is held, from 0.
    pub stage: u16,
    /// How many stages the ladder has.
    pub stages: u16,
    /// Who has the new version, in basis points.
    pub share: u16,
    /// Who would have it after the next promotion, in basis points.
    pub next_share: Option<u16>,
    /// How long the stage has been held.
    pub held_seconds: u64,
    /// How long it must be.
    pub bake_seconds: u64,
    /// How long it may still be before it is taken back or a person is asked.
    pub patience_seconds: u64,
    /// How far the service lets us act.
    pub autonomy: Autonomy,
    /// How risky the change is.
    pub risk: Risk,
    /// The verdict without advice.
    pub verdict: Verdict,
    /// What may be recommended at this moment.
    pub legal: Vec<Action>,
    /// The checks.
    pub checks: Vec<CheckBrief>,
}

/// What a narrator is told of a rollout that has come to something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// The service.
    pub service: ServiceName,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in our own words.
    pub reason: Text,
    /// Greatest share that had the new version, in basis points.
    pub widest_share: u16,
    /// How long it lasted.
    pub lasted_seconds: u64,
    /// The numbers at the end.
    pub brief: Brief,
    /// The checks' names, in the order of the brief's checks.
    pub names: Vec<CheckName>,
}
