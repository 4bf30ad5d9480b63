//! The virtual traffic: each service's exposure over time, moved by an actuator that is slow, fails, and does what it was
//! told in the order it was told.

use std::collections::BTreeMap;

use crate::domain::{RequestId, ServiceName, Shift, Timestamp};

/// One service's exposure over time.
#[derive(Clone, Debug, Default)]
struct Road {
    /// Each change of exposure: when it took effect, for which pull request's revision, and to what.
    history: Vec<(Timestamp, Shift)>,
    newest: Option<RequestId>,
    busy_until: Timestamp,
}

/// All traffic.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    roads: BTreeMap<ServiceName, Road>,
}

impl Traffic {
    /// Takes effect at `at`, or after what was asked before. A request older than one already taken is refused: a
    /// straggler must not undo what came after it. Returns when it takes effect.
    pub(super) fn shift(&mut self, request: RequestId, shift: &Shift, at: Timestamp) -> Option<Timestamp> {
        let road = self.roads.entry(shift.service.clone()).or_default();
        if road.newest.is_some_and(|newest| newest > request) {
            return None;
        }
        road.newest = Some(request);
        road.busy_until = road.busy_until.max(at);
        road.history.push((road.busy_until, shift.clone()));
        Some(road.busy_until)
    }

    /// What is in force at a moment.
    pub(super) fn standing(&self, service: &ServiceName, at: Timestamp) -> Option<&Shift> {
        let road = self.roads.get(service)?;
        road.history.iter().rev().find(|(since, _)| *since <= at).map(|(_, shift)| shift)
    }

    /// The mean share of traffic over a window, for one revision's rollout.
    pub(super) fn mean_share(
        &self,
        shift_of: (&ServiceName, crate::domain::RolloutId),
        after: Timestamp,
        through: Timestamp,
    ) -> f64 {
        const STEPS: u64 = 8;
        let span = through.as_millis().saturating_sub(after.as_millis());
        let share_at = |step: u64| {
            let at = Timestamp::from_millis(after.as_millis() + span * step / STEPS);
            let standing = self.standing(shift_of.0, at).filter(|shift| shift.rollout == shift_of.1);
            standing.map_or(0.0, |shift| shift.to.share.fraction())
        };
        (1..=STEPS).map(share_at).sum::<f64>() / STEPS as f64
    }
}
