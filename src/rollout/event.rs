//! What can happen, and what can be asked of the world. Both lists are closed: a new one is a decision.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Policy, Switch};
use crate::{
    domain::{
        Advice, Brief, Change, CheckId, Command, Conversation, Exposure, Measurement, Notice, PastChange, Person,
        Prose, Repository, RequestId, Revision, RolloutId, ServiceName, Shift, Story, Text, Timestamp,
    },
    plan::{Draft, Plan},
    rails::Cleared,
    stats::no_control::Expectation,
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
        draft: Result<Box<Draft>, Text>,
        /// What was said with a model on the way, masked; it decides nothing and is kept to be looked into.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conversation: Option<Box<Conversation>>,
    },
    /// Reply to [`Effect::Advise`].
    Advised {
        /// The request.
        request: RequestId,
        /// The rollout.
        rollout: RolloutId,
        /// What was recommended, or why nothing was.
        advice: Result<Advice, Text>,
        /// What was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conversation: Option<Box<Conversation>>,
    },
    /// Reply to [`Effect::Narrate`].
    Narrated {
        /// The request.
        request: RequestId,
        /// The rollout.
        rollout: RolloutId,
        /// The explanation, for people only, or why there is none.
        words: Result<Prose, Text>,
        /// What was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conversation: Option<Box<Conversation>>,
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
    /// Reply to [`Effect::Expect`].
    Expected {
        /// The request.
        request: RequestId,
        /// The rollout.
        rollout: RolloutId,
        /// What was learnt for each check, or why nothing; never history itself.
        learnt: Vec<(CheckId, Result<Expectation, Text>)>,
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
        /// The revision that everyone has, when it is known: the past that checks are tried on is its.
        stable: Option<Revision>,
        /// How earlier changes to the service ended, the newest first.
        past: Arc<[PastChange]>,
    },
    /// Ask a model what it would do at a stage; answer [`Event::Advised`].
    Advise {
        /// To be named in the reply.
        request: RequestId,
        /// To be named in the reply.
        rollout: RolloutId,
        /// The service, for its budget; the model is not told.
        service: ServiceName,
        /// All that the model is told.
        brief: Arc<Brief>,
        /// Later than this the answer is not waited for.
        no_later_than: Timestamp,
    },
    /// Have a model explain to people what happened; answer [`Event::Narrated`].
    Narrate {
        /// To be named in the reply.
        request: RequestId,
        /// To be named in the reply.
        rollout: RolloutId,
        /// All that the model is told.
        story: Arc<Story>,
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
    /// Learn what the same hours of past days let expect where there is no control; answer [`Event::Expected`].
    Expect {
        /// To be named in the reply.
        request: RequestId,
        /// To be named in the reply.
        rollout: RolloutId,
        /// The service.
        service: ServiceName,
        /// The version that everyone had, when it is known by revision: the past is its.
        stable: Option<Revision>,
        /// What is compared.
        plan: Arc<Plan>,
        /// From when on there is no control, and which times do not count.
        switch: Arc<Switch>,
        /// Later than this the answer is not waited for.
        no_later_than: Timestamp,
    },
    /// Tell people.
    Announce(Notice),
}
