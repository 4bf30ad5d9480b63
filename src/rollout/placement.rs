//! What stands where: for each service, the last confirmed exposure, beyond the end of its rollout. After a restart it is
//! put in force again, since some actuators (our own feature flags) live in this process and forget.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Effect, ShiftError, state::Rollout};
use crate::{
    domain::{Exposure, RequestId, RolloutId, ServiceName, Shift, Timestamp},
    rails,
};

/// How long a reply may take before the placement is asserted again.
const REPLY_WITHIN: Duration = Duration::from_secs(10);

/// What stands where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Placements {
    /// Each service's last confirmed exposure, as a move from itself to itself.
    standing: BTreeMap<ServiceName, Shift>,
    /// The open requests to put it back in force, and when to ask again; few, and only after a restart.
    asked: BTreeMap<ServiceName, (RequestId, Timestamp)>,
}

impl Placements {
    /// Keeps what was last confirmed of this rollout. A rollout that has not moved anything yet leaves its
    /// predecessor's placement.
    pub(super) fn keep(&mut self, rollout: &Rollout) {
        let moved = !rollout.exposures.is_empty();
        let unchanged = self.standing.get(&rollout.service).is_some_and(|standing| {
            standing.rollout > rollout.id || (standing.rollout == rollout.id && standing.to == rollout.exposure)
        });
        if moved && !unchanged {
            let shift = Shift { from: rollout.exposure.clone(), ..rollout.shift_to(rollout.exposure.clone()) };
            self.standing.insert(rollout.service.clone(), shift);
            self.asked.remove(&rollout.service);
        }
    }

    /// Asks for every placement whose rollout is over; an open rollout restores its own.
    pub(super) fn restarted(
        &mut self,
        open: &BTreeSet<RolloutId>,
        now: Timestamp,
        requests: &mut u64,
        effects: &mut Vec<Effect>,
    ) {
        self.asked.clear();
        let over = self.standing.values().filter(|standing| !open.contains(&standing.rollout));
        for service in over.map(|standing| standing.service.clone()).collect::<Vec<_>>() {
            self.ask(&service, now, requests, effects);
        }
    }

    /// Takes a reply to one of these requests; `None` if it was to none of them. An error says what a person must know:
    /// a refusal is not asked again.
    pub(super) fn reasserted(
        &mut self,
        request: RequestId,
        read: &Result<Exposure, ShiftError>,
        now: Timestamp,
    ) -> Option<Result<(), String>> {
        let service = self.asked.iter().find(|(_, (open, _))| *open == request).map(|(service, _)| service.clone())?;
        let standing = self.standing.get(&service)?;
        if let Err(ShiftError::Refused(why)) = read {
            self.asked.remove(&service);
            let to = &standing.to;
            return Some(Err(format!("{service}: traffic could not be put back at {to} after the restart: {why}")));
        }
        if read.as_ref().is_ok_and(|read| *read == standing.to) {
            self.asked.remove(&service);
        } else {
            self.asked.insert(service, (request, now + REPLY_WITHIN));
        }
        Some(Ok(()))
    }

    pub(super) fn next_wakeup(&self) -> Option<Timestamp> {
        self.asked.values().map(|(_, until)| *until).min()
    }

    pub(super) fn wake_due(&mut self, now: Timestamp, requests: &mut u64, effects: &mut Vec<Effect>) {
        let due = self.asked.iter().filter(|(_, (_, until))| *until <= now).map(|(service, _)| service.clone());
        for service in due.collect::<Vec<_>>() {
            self.ask(&service, now, requests, effects);
        }
    }

    fn ask(&mut self, service: &ServiceName, now: Timestamp, requests: &mut u64, effects: &mut Vec<Effect>) {
        let Some(shift) = self.standing.get(service).cloned().and_then(rails::reassert) else { return };
        *requests += 1;
        let request = RequestId(*requests);
        self.asked.insert(service.clone(), (request, now + REPLY_WITHIN));
        effects.push(Effect::Shift { request, shift });
    }
}
