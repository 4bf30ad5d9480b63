//! What a model may reach for: readers, and sheets to fill in. No tool acts.
//!
//! A tool has a name, a sheet for the model (`tools/<name>.md`), a schema that is made from the type of its arguments
//! (`tools/<name>.schema.json` is the same, for people and for servers' makers to look at), and a run. [`TOOLS`] is the
//! one list. What a model passes is parsed again and checked for sense, whatever its server promised.
//!
//! A [`Toolbox`] is what one conversation has at hand: the planner's ([`Planning`]) holds readers and a draft that grows;
//! the adviser's ([`Advising`]) holds numbers. Neither holds anything that moves, writes or sends.

mod advising;
mod closing;
mod form;
mod known;
mod metrics;
mod planning;
mod proposal;
mod reading;
mod reply;
mod review;
pub mod schema;
pub mod trial;

use std::{sync::Arc, time::Duration};

pub use advising::Advising;
pub use metrics::ranked;
pub use planning::{PAST_WAIT, Planning, REACH, TRIED_MAX};
pub use reply::{ANSWER_BYTES_MAX, ARGUMENTS_BYTES_MAX};
pub use review::{LINE_BYTES_MAX, PATH_BYTES_MAX, Review, ReviewFile, Shown, Unshown};

use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::{
    domain::{Advice, Change, Diff, ModelRole, PastChange, Revision, ServiceName, Share, ToolCall},
    forge::GitHub,
    plan::Bounds,
    telemetry::Provider,
};

/// A tool, as it is offered.
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// Whom it is offered to.
    pub role: ModelRole,
    /// Whether it ends the conversation.
    pub is_terminal: bool,
    /// What the model is told of it: `tools/<name>.md`.
    pub sheet: &'static str,
    /// The JSON Schema of its arguments, in the strict subset.
    pub schema: fn() -> serde_json::Value,
}

/// One row of [`TOOLS`].
macro_rules! tool {
    ($role:ident, $name:literal, $arguments:ty) => {
        tool!($role, $name, $arguments, false)
    };
    ($role:ident, $name:literal, $arguments:ty, terminal) => {
        tool!($role, $name, $arguments, true)
    };
    ($role:ident, $name:literal, $arguments:ty, $is_terminal:literal) => {
        Tool {
            name: $name,
            role: ModelRole::$role,
            is_terminal: $is_terminal,
            sheet: include_str!(concat!("../../tools/", $name, ".md")),
            schema: schema::of::<$arguments>,
        }
    };
}

/// Every tool, in the order in which they are offered.
pub const TOOLS: &[Tool] = &[
    tool!(Planner, "get_diff_hunks", reading::Hunks),
    tool!(Planner, "get_file", reading::WholeFile),
    tool!(Planner, "search_metrics", metrics::Search),
    tool!(Planner, "get_metric_profile", metrics::Profile),
    tool!(Planner, "list_slos", known::Nothing),
    tool!(Planner, "get_similar_changes", known::Similar),
    tool!(Planner, "add_ratio_check", form::Ratio),
    tool!(Planner, "add_latency_check", form::Latency),
    tool!(Planner, "add_events_check", form::Events),
    tool!(Planner, "add_level_check", form::Level),
    tool!(Planner, "add_mix_check", form::Mix),
    tool!(Planner, "add_liveness_check", form::Liveness),
    tool!(Planner, "add_probe_check", form::Probe),
    tool!(Planner, "drop_check", closing::DropCheck),
    tool!(Planner, "submit_plan", closing::Submit, terminal),
    tool!(Planner, "abstain", closing::Abstain, terminal),
    tool!(Advisor, "get_stage_evidence", known::Nothing),
    tool!(Advisor, "compare_windows", advising::Compare),
    tool!(Advisor, "recommend", advising::Recommend, terminal),
];

/// The kinds of SLI that a proposed check may have: those that some test decides.
pub fn served() -> Vec<&'static str> {
    crate::stats::served()
}

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As asked.
    Ok,
    /// There is nothing of the kind.
    NoData,
    /// It is against the rules.
    Denied,
    /// There is more than is shown.
    Truncated,
    /// The call could not be understood: mend it.
    Error,
}

/// What a tool answers, in one shape for all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Envelope {
    /// How it went.
    pub status: Status,
    /// Why, in a word of a closed list; empty where nothing is to be said.
    pub reason: String,
    /// What was asked for.
    pub data: serde_json::Value,
}

/// What ends a conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// A plan was submitted; [`Planning::finish`] has it.
    Submitted,
    /// The planner says that nothing fits; the word is of a closed list.
    Abstained(&'static str),
    /// The adviser recommends.
    Advised(Advice),
}

/// What came of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What the model is told.
    pub envelope: Envelope,
    /// Set by a terminal tool that was accepted.
    pub ended: Option<Ended>,
    /// Whether the call itself was wrong (no such tool, no JSON, no sense in its shape), so that it counts as a repair.
    pub is_malformed: bool,
}

/// What one conversation has at hand.
pub trait Toolbox: Send {
    /// The tools that are offered, in order; only terminal ones on the last turn.
    fn offered(&self, only_terminal: bool) -> Vec<&'static Tool>;

    /// The JSON Schema of a tool's arguments in this conversation: the tool's own, with lists of words that are closed for
    /// this conversation only, such as the actions that are legal now.
    fn schema(&self, tool: &Tool) -> serde_json::Value {
        (tool.schema)()
    }

    /// Runs one call. Never fails and never panics: what cannot be done is said in the envelope.
    fn call<'a>(&'a mut self, call: &'a ToolCall) -> BoxFuture<'a, Outcome>;
}

/// What a planner may read.
#[derive(Clone)]
pub struct Context {
    /// The service.
    pub service: ServiceName,
    /// The change.
    pub change: Arc<Change>,
    /// Its diff.
    pub diff: Arc<Diff>,
    /// The files that the model may see, in the order of the ranked diff; the others are generated, vendored or binary.
    pub bounds: Arc<Bounds>,
    /// The kinds of SLI that some test decides.
    pub served: Vec<&'static str>,
    /// The stages that the change will go through: share and bake time.
    pub stages: Vec<(Share, Duration)>,
    /// Chance of rolling back a harmless change, per rollout.
    pub alpha: f64,
    /// A canary this many times as bad must not be called safe.
    pub safe_ratio: f64,
    /// Length of a block of evidence.
    pub block: Duration,
    /// How long one pod may fail by itself without that being proof.
    pub pod_incident: Duration,
    /// The revision that everyone has, when it is known.
    pub stable: Option<Revision>,
    /// How earlier changes ended, the newest first.
    pub past: Arc<[PastChange]>,
    /// Where the service is measured.
    pub telemetry: Arc<dyn Provider>,
    /// Where files are read; `None` where there is no forge, as for a diff from a file.
    pub forge: Option<Arc<GitHub>>,
}
