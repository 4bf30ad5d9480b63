//! What may be seen of a fleet: plain values for the API, the page and the terminal, computed from the state alone.

use serde::{Deserialize, Serialize};

use super::{Explanation, Intended};
use crate::{
    domain::{
        self, Aim, Autonomy, Concentration, Concern, Counts, Evidence, Finding, HardLimit, Interval, Objection, Origin,
        Outcome, Risk, RolloutId, ServiceName, Shares, Timestamp, Upcoming, Usage, Verdict, Weight,
    },
    plan::{PastLevel, Power, Source, Standing},
};

/// The whole fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetView {
    /// As of when.
    pub at: Timestamp,
    /// The policy in force.
    pub policy_version: String,
    /// Whether expansion is stopped.
    pub kill_switch: bool,
    /// Replies that came too late to count, since the journal began.
    pub stale_replies: u64,
    /// Pull requests whose change is being fetched.
    pub fetching: usize,
    /// Rollouts, the newest first.
    pub rollouts: Vec<RolloutView>,
}

/// One rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutView {
    /// Its number.
    pub id: RolloutId,
    /// The service.
    pub service: ServiceName,
    /// `owner/name`.
    pub repository: String,
    /// The pull request's number.
    pub pull_request: u64,
    /// The pull request's title, a stranger's words.
    pub title: String,
    /// Who wrote it.
    pub author: String,
    /// The revision that is rolled out.
    pub revision: String,
    /// The revision it is compared with, when known.
    pub control_revision: Option<String>,
    /// How far the service lets us act.
    pub autonomy: Option<Autonomy>,
    /// One of `queued`, `drafting`, `awaiting_revision`, `shifting`, `baking`, `watching`, `draining`, `done`,
    /// `quarantined`.
    pub phase: String,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Whether a person has paused it.
    pub paused: bool,
    /// What happens next if nobody does anything.
    pub next: Option<Upcoming>,
    /// Share of traffic in basis points, as last read back.
    pub share: u16,
    /// The whole exposure in words, as last read back.
    pub exposure: String,
    /// The stage that is held or being entered, from 0.
    pub stage: Option<usize>,
    /// The ladder.
    pub stages: Vec<StageView>,
    /// When the rollout began.
    pub opened: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The verdict of the last review.
    pub verdict: Option<Verdict>,
    /// What the rails had against a bolder one.
    pub objections: Vec<Objection>,
    /// Why the change cannot simply be taken back, if it cannot.
    pub one_way: Option<String>,
    /// Each check.
    pub checks: Vec<CheckView>,
    /// Checks that were proposed and refused: name and reason.
    pub rejections: Vec<(String, String)>,
    /// What else was noted when the plan was made.
    pub notes: Vec<String>,
    /// Each confirmed exposure: when, and the share in basis points.
    pub exposures: Vec<(Timestamp, u16)>,
    /// What happened, oldest first.
    pub timeline: Vec<Moment>,
    /// Who made the plan: a model, rules, or rules because a model could not be used; `None` before there is one.
    #[serde(default)]
    pub source: Option<Source>,
    /// How risky the change is taken to be; `None` before there is a plan.
    #[serde(default)]
    pub risk: Option<Risk>,
    /// Proposed checks that were tried on the past and did not come into the plan.
    #[serde(default)]
    pub rejected_trials: Vec<TrialView>,
    /// Files of the diff that nobody looked at, strangers' words.
    #[serde(default)]
    pub uncovered: Vec<String>,
    /// What models have used for it; `None` where none was asked.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Until when a model's advice keeps a promotion waiting, if it does.
    #[serde(default)]
    pub held_by_advice_until: Option<Timestamp>,
    /// Until when the canary warms up: what it does before is not held against it, but by hard limits. `None` where it is
    /// warm, or has no traffic yet.
    #[serde(default)]
    pub warming_up_until: Option<Timestamp>,
    /// What the canary's first objective counted and the evidence leaves out, since the arm or some pod was cold.
    #[serde(default)]
    pub cold: Counts,
    /// The canary's share of requests, while it does not fit what was set.
    #[serde(default)]
    pub shares_off: Option<Shares>,
    /// A tenant that makes much of one arm's requests and little of the other's.
    #[serde(default)]
    pub concentration: Option<Concentration>,
    /// How it ended in a model's words, which may be wrong.
    #[serde(default)]
    pub explanation: Option<Explanation>,
}

/// One step of the ladder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageView {
    /// Its exposure in words.
    pub exposure: String,
    /// Its share in basis points.
    pub share: u16,
    /// Its bake time in milliseconds.
    pub bake_time_ms: u64,
    /// When its exposure was confirmed, if it was.
    pub entered: Option<Timestamp>,
    /// What its checks are to be compared with, as far as that is known beforehand.
    #[serde(default)]
    pub baseline: String,
}

/// One check and what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckView {
    /// Its name.
    pub name: String,
    /// What it measures, in words.
    pub sli: String,
    /// Kind of SLI.
    pub kind: String,
    /// Who asked for it.
    pub origin: Origin,
    /// What it may do.
    pub weight: Weight,
    /// How many times worse than control is tolerated.
    pub ratio_max: f64,
    /// Its absolute bound.
    pub limit: Option<HardLimit>,
    /// Why.
    pub rationale: String,
    /// The lines of the diff it rests on, as `path:line`.
    pub lines: Vec<String>,
    /// What its evidence means.
    pub finding: Finding,
    /// The evidence.
    pub evidence: Evidence,
    /// What else stands out in its data: one pod, one tenant, another mix of segments.
    #[serde(default)]
    pub concern: Option<Concern>,
    /// What it can see at the stage that is held; `None` before there is traffic, and for kinds without a forecast.
    #[serde(default)]
    pub outlook: Option<Sight>,
    /// What it is compared with at the stage that is held, and why; `None` before that is chosen.
    #[serde(default)]
    pub baseline: Option<BaselineView>,
    /// Why there was no tally in the newest window, by arm.
    pub absent: Option<String>,
    /// Whether a server estimated the newest window's tallies; four fifths of such count as evidence.
    #[serde(default)]
    pub estimated: bool,
    /// Control's rate since the rollout began.
    pub control_rate: Option<f64>,
    /// The canary's rate since the rollout began.
    pub canary_rate: Option<f64>,
    /// A range for the ratio of the two, where the test gives one.
    pub interval: Option<Interval>,
    /// What it looks for.
    #[serde(default)]
    pub aim: Aim,
    /// What has come of the intended effect; `None` for a check that guards.
    #[serde(default)]
    pub intended: Option<Intended>,
    /// How it fared on the service's past; `None` where it was not tried.
    #[serde(default)]
    pub trial: Option<TrialView>,
}

/// What a check is compared with at the stage that is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineView {
    /// The baseline.
    #[serde(rename = "is")]
    pub baseline: domain::Baseline,
    /// The same in words.
    pub words: String,
    /// Why it is this one.
    pub why: String,
    /// What it says so far, where it stands in for a control.
    pub says: Option<String>,
    /// Whether that holds the stage and has called a person.
    pub is_unusual: bool,
}

/// How a proposed check fared on the service's past.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialView {
    /// The check's name as proposed.
    pub check: String,
    /// What it may do since.
    pub standing: Standing,
    /// Why, as a word of a closed list.
    pub reason: String,
    /// In words; empty where there is nothing to say.
    pub detail: String,
    /// What its SLI's past was like.
    pub baseline: Option<PastLevel>,
    /// In how many rollouts in which nothing had changed it would have rolled back.
    pub alarms: u32,
    /// How many such rollouts it was tried on.
    pub rollouts: u32,
    /// What it can see, stage after stage.
    pub power: Vec<Power>,
}

/// What a check can see at the stage that is held, at the traffic that the stage has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sight {
    /// The smallest ratio to control that is detected within the bake time; `None` where none is.
    pub smallest: Option<f64>,
    /// Seconds until a canary twice as bad is detected; `None` where it never is.
    pub twice_seconds: Option<f64>,
    /// Seconds until a canary that is like control is shown safe; `None` where it never is.
    pub safe_seconds: Option<f64>,
    /// Whether a canary that must not be called safe passes the stage without being detected.
    pub is_blind: bool,
    /// The bake time in seconds at which it would not be blind; `None` where no time is enough.
    pub bake_time_needed_seconds: Option<f64>,
    /// The share in basis points at which it would not be blind; `None` where it is not, or no share is enough.
    pub share_needed: Option<u16>,
}

/// Something that happened to a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// What, in words.
    pub text: String,
}
