//! What can happen, and what can be asked of the world. Both lists are closed: a new one is a decision.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Policy;
use crate::{
    domain::{
        Change, Command, Exposure, Measurement, Notice, Person, Repository, RequestId, Revision, RolloutId,
        ServiceName, Shift, Text, Timestamp,
    },
    plan::{Draft, Plan},
    rails::Cleared,
};

/// What happened. Every event is in the journal before anything is done about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The daemon started, for the first time or again, under this policy.
    Started {
        /// The policy from now on.
        policy: Arc<Policy>,
    },
    /// The forge says that a pull request was merged.
    PullRequestMerged {
        /// The delivery's own number; the same one twice is one event.
        delivery: Text,
        /// Where.
        repository: Repository,
        /// Its number.
        pull_request: u64,
        /// The branch it was merged into.
        branch: String,
        /// Whether that is the repository's default branch.
        into_default: bool,
    },
    /// Reply to [`Effect::FetchChange`].
    ChangeFetched {
        /// The request.
        request: RequestId,
        /// The change as the forge has it now, or why it could not be had.
        change: Result<Arc<Change>, FetchError>,
    },
    /// Reply to [`Effect::Draft`].
    Drafted {
        /// The request.
        request: RequestId,
        /// The rollout it is for.
        rollout: RolloutId,
        /// What was proposed, or why nothing was.
        draft: Result<Draft, Text>,
    },
    /// A revision of a service is running and can take traffic.
    RevisionDeployed {
        /// The service.
        service: ServiceName,
        /// The revision.
        revision: Revision,
        /// Who says so.
        by: Person,
    },
    /// Reply to [`Effect::Shift`].
    Shifted {
        /// The request.
        request: RequestId,
        /// The rollout.
        rollout: RolloutId,
        /// What the actuator read back, or why the shift failed.
        read: Result<Exposure, ShiftError>,
    },
    /// Reply to [`Effect::Measure`].
    Measured {
        /// The request.
        request: RequestId,
        /// The rollout.
        rollout: RolloutId,
        /// Up to when; the next measurement goes on from here.
        through: Timestamp,
        /// One for each check and arm.
        measurements: Vec<Measurement>,
    },
    /// A person asks for something of one rollout.
    Commanded {
        /// The rollout.
        rollout: RolloutId,
        /// What.
        command: Command,
        /// Who.
        by: Person,
    },
    /// A person turns the kill switch.
    KillSwitch {
        /// Whether it is on from now.
        on: bool,
        /// Who.
        by: Person,
    },
    /// The time asked for by `next_wakeup` has come.
    WokeUp,
}

/// Why a change could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FetchError {
    /// It may be had later.
    Unavailable(Text),
    /// Asking again will not help: it does not exist, is not merged, or we may not read it.
    Refused(Text),
}

/// Why a shift failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShiftError {
    /// It may work later.
    Unavailable(Text),
    /// The actuator will not do it, whenever asked.
    Refused(Text),
}

/// What is asked of the world.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Fetch a merged pull request from the forge; answer [`Event::ChangeFetched`].
    FetchChange {
        /// To be named in the reply.
        request: RequestId,
        /// Where.
        repository: Repository,
        /// Its number.
        pull_request: u64,
    },
    /// Draft checks for a change to a service; answer [`Event::Drafted`].
    Draft {
        /// To be named in the reply.
        request: RequestId,
        /// To be named in the reply.
        rollout: RolloutId,
        /// The service.
        service: ServiceName,
        /// The change; its diff is fetched from the forge again.
        change: Arc<Change>,
    },
    /// Move traffic; answer [`Event::Shifted`] with what is read back.
    Shift {
        /// To be named in the reply; the same one twice is one shift.
        request: RequestId,
        /// The move.
        shift: Cleared<Shift>,
    },
    /// Measure every check on both arms; answer [`Event::Measured`].
    Measure {
        /// To be named in the reply.
        request: RequestId,
        /// To be named in the reply.
        rollout: RolloutId,
        /// The service.
        service: ServiceName,
        /// The old version, when it is known by revision.
        control: Option<Revision>,
        /// The new version.
        canary: Revision,
        /// What to measure.
        plan: Arc<Plan>,
        /// Count what came after this.
        after: Timestamp,
        /// Answer as soon as there is data through this time, or with an absence once `no_later_than` has come.
        through: Timestamp,
        /// Answer by then, whatever there is.
        no_later_than: Timestamp,
    },
    /// Tell people.
    Announce(Notice),
}
