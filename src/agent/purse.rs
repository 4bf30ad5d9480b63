//! Who pays for a run. A question is paid for in two steps: the most it can cost is set aside before it is asked, and what
//! it did cost is taken when the answer is there, so that runs side by side cannot overshoot together.

use std::fmt;

use crate::domain::{Change, RolloutId, Text, Timestamp, Usage};

/// On whose account a run goes: a pull request's, all its runs together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Payer(String);

impl Payer {
    /// A pull request, wherever it ships to.
    pub fn of(change: &Change) -> Self {
        Self(format!("{}#{}", change.repository, change.pull_request))
    }

    /// A rollout whose pull request is not known, as after a restart.
    pub fn unknown(rollout: RolloutId) -> Self {
        Self(rollout.to_string())
    }

    /// The account's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was set aside for one question. Dropped unsettled, as when a run is called off, it counts as the purse sees fit.
pub trait Reserved: Send {
    /// Takes what the question did cost; the rest is free again.
    fn settle(self: Box<Self>, usage: Usage);
}

/// Who pays.
pub trait Purse: Send + Sync {
    /// Sets aside so many tokens, in and out, for one question.
    ///
    /// # Errors
    /// Which budget would be overrun, in words.
    fn reserve(&self, payer: &Payer, input: u64, output: u64) -> Result<Box<dyn Reserved>, Text>;

    /// Takes into account what was used before this process began, and when.
    fn seed(&self, payer: &Payer, at: Timestamp, used: Usage);
}
