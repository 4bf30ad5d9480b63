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

/// One service's last confirmed exposure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Placement {
    shift: Shift,
    /// The open request to put it back in force, and when to ask again.
    asked: Option<(RequestId, Timestamp)>,
}

/// What stands where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Placements {
    placements: BTreeMap<ServiceName, Placement>,
}

impl Placements {
    /// Keeps what was last confirmed of this rollout. A rollout that has not moved anything yet leaves its
    /// predecessor's placement.
    pub(super) fn keep(&mut self, rollout: &Rollout) {
        let moved = !rollout.exposures.is_empty();
        let unchanged = self.placements.get(&rollout.service).is_some_and(|p| {
            p.shift.rollout > rollout.id || (p.shift.rollout == rollout.id && p.shift.to == rollout.exposure)
        });
        if moved && !unchanged {
            let shift = Shift { from: rollout.exposure.clone(), ..rollout.shift_to(rollout.exposure.clone()) };
            self.placements.insert(rollout.service.clone(), Placement { shift, asked: None });
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
        for placement in self.placements.values_mut() {
            if open.contains(&placement.shift.rollout) {
                placement.asked = None;
            } else {
                placement.ask(now, requests, effects);
            }
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
        let asked = |placement: &&mut Placement| placement.asked.is_some_and(|(open, _)| open == request);
        let placement = self.placements.values_mut().find(asked)?;
        if let Err(ShiftError::Refused(why)) = read {
            placement.asked = None;
            let Shift { service, to, .. } = &placement.shift;
            return Some(Err(format!("{service}: traffic could not be put back at {to} after the restart: {why}")));
        }
        let stands = read.as_ref().is_ok_and(|read| *read == placement.shift.to);
        placement.asked = if stands { None } else { Some((request, now + REPLY_WITHIN)) };
        Some(Ok(()))
    }

    pub(super) fn next_wakeup(&self) -> Option<Timestamp> {
        self.placements.values().filter_map(|placement| placement.asked).map(|(_, until)| until).min()
    }

    pub(super) fn wake_due(&mut self, now: Timestamp, requests: &mut u64, effects: &mut Vec<Effect>) {
        for placement in self.placements.values_mut() {
            if placement.asked.is_some_and(|(_, until)| until <= now) {
                placement.ask(now, requests, effects);
            }
        }
    }
}

impl Placement {
    fn ask(&mut self, now: Timestamp, requests: &mut u64, effects: &mut Vec<Effect>) {
        let Some(shift) = rails::reassert(self.shift.clone()) else { return };
        *requests += 1;
        let request = RequestId(*requests);
        self.asked = Some((request, now + REPLY_WITHIN));
        effects.push(Effect::Shift { request, shift });
    }
}
