//! Where a rollout is. Every phase but the last two is bounded in time.

use serde::{Deserialize, Serialize};

use crate::domain::{Exposure, Outcome, RequestId, Text, Timestamp};

/// A request that is out, or that failed and waits to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// The open request; `None` once it has failed. A reply to any other is stale.
    pub(super) request: Option<RequestId>,
    /// When to ask again.
    pub(super) until: Timestamp,
}

/// What a shift is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Goal {
    /// Enter this stage.
    Enter(usize),
    /// Put back in force what was last confirmed, after an attempt whose end is unknown.
    Restore,
    /// Take the traffic back.
    Retreat,
}

/// Where a rollout is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// Another rollout of the service is under way.
    Queued,
    /// Checks are being drafted.
    Drafting(Asked),
    /// The revision is not deployed yet.
    AwaitingRevision {
        /// Called off then.
        until: Timestamp,
    },
    /// Nobody has the new version yet, and the first stage waits for the rails or a person.
    Ready {
        /// Since when.
        since: Timestamp,
    },
    /// Traffic is being moved.
    Shifting {
        /// What for.
        goal: Goal,
        /// Where to.
        to: Exposure,
        /// The request.
        asked: Asked,
    },
    /// A stage is held and measured.
    Baking,
    /// The traffic was taken back; the canary's requests must be seen to end.
    Draining {
        /// A person is called then.
        until: Timestamp,
    },
    /// It has ended.
    Done(Outcome),
    /// Something that cannot be was found in its state: traffic stands, and only a person moves it.
    Quarantined {
        /// What was found.
        why: Text,
    },
}

impl Phase {
    /// The word for it in the API.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Drafting(_) => "drafting",
            Self::AwaitingRevision { .. } => "awaiting_revision",
            Self::Ready { .. } => "ready",
            Self::Shifting { .. } => "shifting",
            Self::Baking => "baking",
            Self::Draining { .. } => "draining",
            Self::Done(_) => "done",
            Self::Quarantined { .. } => "quarantined",
        }
    }

    /// Whether it has ended.
    pub(super) const fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}
