//! The loop between prompt, model and tools. It ends in a draft or in advice, within a budget, whatever the model does.
//!
//! Three roles are kept apart. The planner reads the untrusted diff and has readers for tools; the adviser sees numbers
//! only; the narrator writes for people and is never read back. Each has a prompt (`prompts/*.md`) and one typed struct of
//! its variables. Nothing here decides: a draft goes through admission, advice through the judge and the rails.

mod breaker;
mod budget;
mod capabilities;
mod client;
mod client_answers;
mod client_request;
mod config;
pub mod model;

pub use breaker::{FAILURES_MAX, PAUSE_FIRST, PAUSE_MAX};
pub use budget::{Exhausted, Ledger, Limit, Most, PULL_REQUESTS_MAX, Payer, Reservation, Run, Spending};
pub use capabilities::{Capabilities, Schemas};
pub use client::{ANSWER_BYTES_MAX, Client};
pub use client_request::OutputLimit;
pub use config::{Budgets, Config, Flavour, Limits, Price};

use crate::{
    domain::{Advice, Conversation, Prose},
    plan::{Draft, Fallback},
};

/// What came of asking for a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The model's draft, or why there is none and in which words.
    pub draft: Result<Draft, (Fallback, String)>,
    /// What was said; `None` where nothing was, as for a plan from the cache.
    pub conversation: Option<Conversation>,
}

/// What came of asking for advice.
#[derive(Clone, Debug, PartialEq)]
pub struct Advised {
    /// The advice, or why there is none and in which words.
    pub advice: Result<Advice, (Fallback, String)>,
    /// What was said.
    pub conversation: Option<Conversation>,
}

/// What came of asking for an explanation.
#[derive(Clone, Debug, PartialEq)]
pub struct Narrated {
    /// The words, or why there are none.
    pub words: Result<Prose, (Fallback, String)>,
    /// What was said.
    pub conversation: Option<Conversation>,
}

// Contract, to be filled in `config.rs`, `client.rs`, `talk.rs`, `budget.rs`, `cache.rs`, `prompts.rs`:
//
// pub struct Agent { .. }               // cheap to clone; safe to use from many tasks
// impl Agent {
//     pub fn new(config: Config, clock: telemetry-like Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Result<Self, Error>;
//     pub async fn plan(&self, rollout: RolloutId, context: Context) -> Planned;
//     pub async fn advise(&self, rollout: RolloutId, service: &ServiceName, brief: Arc<Brief>, within: Duration) -> Advised;
//     pub async fn narrate(&self, rollout: RolloutId, story: Arc<Story>) -> Narrated;
//     pub async fn probe(&self) -> Result<Capabilities, Error>;      // check-config --online
//     pub fn spent(&self, day: &[(Timestamp, Usage)]);               // what the journal says was used today, at start
// }
// pub fn replayed(conversation: Conversation) -> Agent-like client that answers from the record  // plan --replay
