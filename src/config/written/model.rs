//! What can be written of a language model: how it is reached, what it may cost, and what one service asks of it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Secret, Span};

/// How a model is reached, and what it may cost.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Model {
    /// Whose form of the API it is.
    pub(in crate::config) flavour: Option<Flavour>,
    /// With Azure: the version of its API.
    pub(in crate::config) api_version: Option<String>,
    /// The API's root.
    pub(in crate::config) base_url: Option<String>,
    /// The model's name.
    pub(in crate::config) name: Option<String>,
    /// What is shown as a key.
    pub(in crate::config) key: Option<Secret>,
    /// Longest time of one attempt.
    pub(in crate::config) timeout: Option<Span>,
    /// Most attempts at one call.
    pub(in crate::config) attempts_max: Option<u64>,
    /// Longest time of a planning.
    pub(in crate::config) plan_within: Option<Span>,
    /// What tokens cost.
    pub(in crate::config) price: Option<Price>,
    /// The limits of one run.
    pub(in crate::config) limits: Option<Limits>,
    /// What runs may use together.
    pub(in crate::config) budget: Option<Budget>,
}

/// Whose form of the API it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Flavour {
    /// OpenAI's, which most others have too.
    Openai,
    /// Azure's.
    Azure,
}

/// What tokens cost, in dollars for each million.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Price {
    /// Tokens that go in.
    pub(in crate::config) input: Option<f64>,
    /// Tokens that go in and were in the provider's cache.
    pub(in crate::config) cached_input: Option<f64>,
    /// Tokens that come out.
    pub(in crate::config) output: Option<f64>,
}

/// The limits of one run.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Limits {
    /// Most answers of the model in a planning.
    pub(in crate::config) planner_turns_max: Option<u64>,
    /// Most answers of the model in an advice.
    pub(in crate::config) advisor_turns_max: Option<u64>,
    /// Most calls of tools in a run.
    pub(in crate::config) tool_calls_max: Option<u64>,
    /// Most wrong calls that are given back to be mended.
    pub(in crate::config) repairs_max: Option<u64>,
    /// Most tokens of one answer.
    pub(in crate::config) output_tokens_max: Option<u64>,
    /// Most tokens of a run.
    pub(in crate::config) run_tokens_max: Option<u64>,
    /// Most bytes of the diff in the first message.
    pub(in crate::config) diff_bytes_max: Option<u64>,
}

/// What runs may use together.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Budget {
    /// Most tokens for one pull request.
    pub(in crate::config) pull_request_tokens_max: Option<u64>,
    /// Most tokens in a day.
    pub(in crate::config) day_tokens_max: Option<u64>,
    /// Most dollars for one pull request.
    pub(in crate::config) pull_request_dollars_max: Option<f64>,
    /// Most dollars in a day.
    pub(in crate::config) day_dollars_max: Option<f64>,
}

/// What one service asks of the model.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ServiceModel {
    /// Whether it plans.
    pub(in crate::config) plans: Option<bool>,
    /// Whether it is asked for advice.
    pub(in crate::config) advises: Option<bool>,
    /// Whether it explains.
    pub(in crate::config) narrates: Option<bool>,
    /// What its advice may do.
    pub(in crate::config) may: Option<ModelMay>,
    /// From where on a check leans.
    pub(in crate::config) lean_alpha: Option<f64>,
    /// How long advice is waited for.
    pub(in crate::config) advise_within: Option<Span>,
}

/// What advice may do.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum ModelMay {
    /// Make a verdict more careful.
    Hold,
    /// Also promote where the statistics are undecided.
    BreakTies,
}

/// How many times longer a stage is baked, by the risk of the change.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RiskBake {
    /// For one of medium risk.
    pub(in crate::config) medium: Option<f64>,
    /// For one of high risk.
    pub(in crate::config) high: Option<f64>,
}
