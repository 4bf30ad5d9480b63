//! What the model was used for since this process began, counted for metrics. Counts only: nothing is decided by them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::talk::Said;
use crate::{
    domain::{Exchange, ModelRole, Usage},
    plan::Fallback,
};

/// How one question to a model went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallResult {
    /// It was answered.
    Answered,
    /// It was not.
    Failed,
}

impl CallResult {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
        }
    }
}

/// Counts since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Questions, by whom they were put as and how they went.
    pub calls: BTreeMap<(ModelRole, CallResult), u64>,
    /// Tokens that went in, cached ones included.
    pub input_tokens: u64,
    /// Of those, how many the provider had in its cache.
    pub cached_tokens: u64,
    /// Tokens that came out.
    pub output_tokens: u64,
    /// Millionths of a dollar, as far as prices are configured.
    pub micro_dollars: u64,
    /// Runs that came to what was wanted.
    pub runs: BTreeMap<ModelRole, u64>,
    /// Runs that did not, by why.
    pub fallbacks: BTreeMap<(ModelRole, Fallback), u64>,
    /// Answers that were given back to be mended.
    pub repairs: u64,
    /// Answers that were a refusal, or were stopped by a provider's filter.
    pub refusals: u64,
    /// Secrets that were masked in diffs before a model saw them.
    pub secrets: u64,
    /// Plans that were taken from the cache.
    pub cache_hits: u64,
    /// Changes that need no model: documents or tests only.
    pub not_needed: u64,
}

impl Totals {
    fn add(&mut self, role: ModelRole, said: &Said) {
        for Exchange { failure, usage, .. } in &said.conversation.exchanges {
            let result = if failure.is_none() { CallResult::Answered } else { CallResult::Failed };
            *self.calls.entry((role, result)).or_default() += 1;
            let Usage { input_tokens, cached_tokens, output_tokens, micro_dollars } = *usage;
            self.input_tokens = self.input_tokens.saturating_add(input_tokens);
            self.cached_tokens = self.cached_tokens.saturating_add(cached_tokens);
            self.output_tokens = self.output_tokens.saturating_add(output_tokens);
            self.micro_dollars = self.micro_dollars.saturating_add(micro_dollars.unwrap_or(0));
        }
        self.repairs += u64::from(said.repairs);
        self.refusals += u64::from(said.refusals);
        match &said.closed {
            Ok(_) => *self.runs.entry(role).or_default() += 1,
            Err((why, _)) => *self.fallbacks.entry((role, *why)).or_default() += 1,
        }
    }
}

/// The counts, shared by all runs.
#[derive(Default)]
pub(super) struct Counter(Mutex<Totals>);

impl Counter {
    pub(super) fn run(&self, role: ModelRole, said: &Said) {
        self.with(|totals| totals.add(role, said));
    }

    pub(super) fn with(&self, count: impl FnOnce(&mut Totals)) {
        // A panic while counting spoils no count for good.
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn snapshot(&self) -> Totals {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
