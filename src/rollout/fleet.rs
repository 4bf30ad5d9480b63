//! The fleet: every rollout there is.

use serde::{Deserialize, Serialize};

use super::{Effect, Event, view::FleetView};
use crate::domain::{Stamped, Timestamp};

/// Every rollout there is, as the fold of the journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fleet {
    now: Timestamp,
}

impl Fleet {
    /// Takes in one event and says what is to be done about it.
    pub fn handle(&mut self, entry: &Stamped<Event>) -> Vec<Effect> {
        self.now = self.now.max(entry.at);
        Vec::new()
    }

    /// When it wants to be woken, if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        None
    }

    /// What may be seen of it.
    pub fn view(&self) -> FleetView {
        FleetView {
            at: self.now,
            policy_version: String::new(),
            kill_switch: false,
            stale_replies: 0,
            fetching: 0,
            rollouts: Vec::new(),
        }
    }
}
