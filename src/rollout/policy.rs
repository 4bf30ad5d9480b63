//! What the operator wants of each service: the part of the configuration that decides. It is an event of the journal
//! ([`super::Event::Started`]), so that a fold needs nothing but the journal.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        Autonomy, Change, ControlAge, Exposure, PolicyVersion, Repository, ServiceName, Share, millis, millis_option,
    },
    plan::Bounds,
};

/// An exposure held for a bake time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Who gets the new version.
    pub exposure: Exposure,
    /// Least time before promotion.
    #[serde(with = "millis")]
    pub bake_time: Duration,
}

/// When a revision counts as deployed, so that traffic may be sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deployed {
    /// As soon as it is merged.
    OnMerge,
    /// When the API is told of it.
    WhenTold,
}

/// What advice may do to a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelMay {
    /// Only make it more careful.
    #[default]
    Hold,
    /// Also lift an inconclusive stage to a promotion, with the least samples and past no rail.
    BreakTies,
}

/// What a model is asked for, and what its word counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelPolicy {
    /// Whether it is asked for advice at a stage that the statistics leave open.
    pub advises: bool,
    /// Whether it explains to people how a rollout ended.
    pub narrates: bool,
    /// What its advice may do.
    pub may: ModelMay,
    /// Advice to roll back counts only where a critical check leans the same way at least this far: chance, for all of
    /// them together, that one leans so far on a harmless change; larger than the rollout's `alpha`.
    pub lean_alpha: f64,
    /// How long advice is waited for.
    #[serde(with = "millis")]
    pub advise_within: Duration,
}

/// What the operator wants of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServicePolicy {
    /// Where its code is.
    pub repository: Repository,
    /// Globs over paths; a change that touches one of them is a change to this service.
    pub paths: Vec<String>,
    /// The branch whose merges count; `None` for the repository's default branch.
    pub branch: Option<String>,
    /// When a revision counts as deployed.
    pub deployed: Deployed,
    /// How far we may act.
    pub autonomy: Autonomy,
    /// The ladder, rising; the last one is everybody.
    pub stages: Vec<Stage>,
    /// What a draft may ask for, and what every plan has.
    pub bounds: Bounds,
    /// Largest chance, per rollout, of rolling back a harmless change on evidence.
    pub alpha: f64,
    /// Time between looks at telemetry: the rails decide on every look.
    #[serde(with = "millis")]
    pub look_every: Duration,
    /// Length of a block of evidence: looks are added up to this before the statistics take them in, so that events
    /// which come in clusters stay in one block.
    #[serde(with = "millis")]
    pub measure_every: Duration,
    /// Least requests on the canary in a stage.
    pub samples_min: u64,
    /// Most that one step may add to the share.
    pub step_max: Share,
    /// How long telemetry may be silent.
    #[serde(with = "millis")]
    pub blackout_after: Duration,
    /// Longest time at one stage before it is taken back.
    #[serde(with = "millis")]
    pub patience: Duration,
    /// Longest time a person's pause lasts.
    #[serde(with = "millis")]
    pub pause_max: Duration,
    /// How long to keep watch after everyone has the new version.
    #[serde(with = "millis")]
    pub watch: Duration,
    /// How long to wait for the revision to be deployed.
    #[serde(with = "millis")]
    pub deploy_within: Duration,
    /// How long a shift, a draft or a fetch may take before it is asked for again.
    #[serde(with = "millis")]
    pub reply_within: Duration,
    /// How often one request is tried before a person is called.
    pub attempts_max: u32,
    /// How long after a rollback the canary's traffic may go on before a person is called.
    #[serde(with = "millis")]
    pub drained_within: Duration,
    /// How long one pod may fail by itself without that being proof against the change. Where few pods carry the canary,
    /// proof takes longer than this however bad it looks; hard limits do not wait.
    #[serde(default = "pod_incident_before_it_was_asked_for", with = "millis")]
    pub pod_incident: Duration,
    /// How long a canary, or a pod that appears later, may be cold: what it does meanwhile is not held against it, but by
    /// hard limits.
    #[serde(default, with = "millis")]
    pub warm_up: Duration,
    /// How many times as large or as small as it was set the canary's share of requests may be, as odds; more than 1.
    /// `None`: nobody watches it.
    #[serde(default)]
    pub share_tolerance: Option<f64>,
    /// A canary this many times as bad as control must not be called safe; more than 1.
    #[serde(default = "safe_ratio_before_it_was_asked_for")]
    pub safe_ratio: f64,
    /// Least time at a stage even when every critical check is shown safe. With it a stage may end before its bake time
    /// once that is shown; one longer than a stage's bake time never shortens that stage. `None`: none ends early.
    #[serde(default, with = "millis_option")]
    pub bake_time_shown_safe: Option<Duration>,
    /// How long a draft may take before it is asked for again, where a model makes it; `None`: as long as any reply.
    #[serde(default, with = "millis_option")]
    pub draft_within: Option<Duration>,
    /// What a model is asked for in a rollout; `None` where it is not asked. (Who drafts is the daemon's business.)
    #[serde(default)]
    pub model: Option<ModelPolicy>,
    /// How many times longer a risky change is baked, at least 1.
    #[serde(default)]
    pub risk_bake: RiskBake,
    /// What the operator says that the control is.
    #[serde(default)]
    pub control: ControlAge,
}

/// How many times longer a stage is baked, by the risk of the change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RiskBake {
    /// For one of medium risk.
    pub medium: f64,
    /// For one of high risk.
    pub high: f64,
}

impl Default for RiskBake {
    fn default() -> Self {
        Self { medium: 1.0, high: 1.0 }
    }
}

/// What holds for a policy of a journal that is older than the setting.
fn pod_incident_before_it_was_asked_for() -> Duration {
    Duration::from_secs(180)
}

/// What holds for a policy of a journal that is older than the setting.
fn safe_ratio_before_it_was_asked_for() -> f64 {
    2.0
}

/// What the operator wants of the fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// A digest of all that follows.
    pub version: PolicyVersion,
    /// Each service.
    pub services: BTreeMap<ServiceName, ServicePolicy>,
    /// Most rollouts that are not done; a merge beyond it is refused with a page.
    pub rollouts_max: usize,
    /// How many finished rollouts are kept to be looked at.
    pub finished_kept: usize,
}

impl ServicePolicy {
    /// Whether a change that was merged into `branch` is a change to this service. One whose list of files was cut
    /// counts as touching everything: better one rollout too many than one too few.
    pub fn is_touched_by(&self, change: &Change, branch: &str, into_default: bool) -> bool {
        let here = self.repository == change.repository && self.is_on_branch(branch, into_default);
        here && (change.files_cut
            || change
                .files
                .iter()
                .any(|file| self.owns(&file.path) || file.previous_path.as_ref().is_some_and(|path| self.owns(path))))
    }

    /// Whether merges into `branch` count for this service.
    pub fn is_on_branch(&self, branch: &str, into_default: bool) -> bool {
        self.branch.as_ref().map_or(into_default, |wanted| wanted == branch)
    }

    fn owns(&self, path: &str) -> bool {
        self.paths
            .iter()
            .filter_map(|pattern| globset::Glob::new(pattern).ok())
            .any(|glob| glob.compile_matcher().is_match(path))
    }
}
