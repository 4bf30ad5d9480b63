//! What a service's versions come from: which revisions are deployed, which one everyone had when no rollout was under
//! way, and what is in the code that never was promoted.
//!
//! Changes build on one another. A one-way change that was called off, or shipped inside the next one, is in every later
//! revision, so what is said of it holds for them until one of them is promoted.

use serde::{Deserialize, Serialize};

use super::{phase::Phase, state::Rollout};
use crate::domain::{Outcome, Revision, Text, WayBack};

/// Most revisions that are remembered as deployed.
const DEPLOYED_MAX: usize = 64;
/// Most one-way changes that are remembered; a service with more has long been looked at.
const UNSETTLED_MAX: usize = 16;
/// How what is inherited begins, so that it is not inherited again in other words.
const INHERITED: &str = "it builds on ";

/// What a service's versions come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Lineage {
    /// The newest last.
    deployed: Vec<Revision>,
    stable: Option<Revision>,
    unsettled: Vec<Text>,
}

impl Lineage {
    /// A revision was deployed. The first thing we hear of a service is what everyone has.
    pub(super) fn told_deployed(&mut self, revision: &Revision, is_first: bool) {
        self.deployed.retain(|known| known != revision);
        self.deployed.push(revision.clone());
        if self.deployed.len() > DEPLOYED_MAX {
            self.deployed.remove(0);
        }
        if is_first && self.stable.is_none() {
            self.stable = Some(revision.clone());
        }
    }

    /// Whether a revision can take traffic.
    pub(super) fn is_deployed(&self, revision: &Revision) -> bool {
        self.deployed.iter().any(|deployed| deployed.names_same_commit(revision))
    }

    /// What everyone had when no rollout was under way.
    pub(super) fn stable(&self) -> Option<&Revision> {
        self.stable.as_ref()
    }

    /// Why a new change cannot be taken back although its own diff does not say so.
    pub(super) fn inherited(&self) -> Option<Text> {
        self.unsettled.first().map(|why| Text::new(format!("{INHERITED}{why}")))
    }

    /// A rollout has ended, or a person has settled it.
    pub(super) fn ended(&mut self, rollout: &Rollout) {
        if rollout.phase == Phase::Done(Outcome::Promoted) || rollout.is_kept {
            self.stable = Some(rollout.change.revision.clone());
            self.unsettled.clear();
            return;
        }
        if let Some(WayBack::OneWay { why, .. }) = rollout.plan.as_ref().map(|plan| plan.way_back())
            && !why.as_str().starts_with(INHERITED)
            && self.unsettled.len() < UNSETTLED_MAX
        {
            self.unsettled.push(Text::new(format!("{}, which is one-way: {why}", rollout.id)));
        }
    }
}
