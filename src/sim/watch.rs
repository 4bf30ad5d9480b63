//! The oracle: what must never be done, judged from what was seen and what is asked of traffic, without a line of the
//! rails' code.

use std::collections::BTreeMap;

use crate::domain::{
    Action, Arm, Check, Command, Counts, Exposure, Measurement, Origin, RolloutId, Shift, Tally, WayBack, Weight,
};

/// What the oracle knows of one rollout.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The newest canary tally of each check, or that there was none.
    newest: Vec<Option<Counts>>,
    breached: bool,
    measured: bool,
    one_way: bool,
    rollback_asked: bool,
    ended: bool,
}

/// What a model has just said of one rollout.
#[derive(Clone, Debug)]
pub struct Told {
    /// The rollout.
    pub rollout: RolloutId,
    /// What it recommends.
    pub action: Action,
    /// Whether the service lets it break ties.
    pub may_break_ties: bool,
    /// Whether a check leans against the canary at the service's lesser evidence.
    pub leans: bool,
}

/// Watches one world.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    rollouts: BTreeMap<RolloutId, Seen>,
    kill_switch: bool,
}

impl Watch {
    /// A draft said whether the change can be taken back.
    pub fn drafted(&mut self, rollout: RolloutId, way_back: &WayBack) {
        self.rollouts.entry(rollout).or_default().one_way = *way_back != WayBack::Open;
    }

    /// A person asked for something.
    pub fn commanded(&mut self, rollout: RolloutId, command: Command) {
        self.rollouts.entry(rollout).or_default().rollback_asked |= command == Command::Rollback;
    }

    /// The kill switch was turned.
    pub fn kill_switch(&mut self, on: bool) {
        self.kill_switch = on;
    }

    /// A rollout has ended.
    pub fn ended(&mut self, rollout: RolloutId) {
        self.rollouts.entry(rollout).or_default().ended = true;
    }

    /// Telemetry said something that the fleet has taken in.
    pub fn measured(&mut self, rollout: RolloutId, checks: &[Check], measurements: &[Measurement]) {
        let seen = self.rollouts.entry(rollout).or_default();
        seen.measured = true;
        seen.breached = false;
        seen.newest = vec![None; checks.len()];
        for measurement in measurements.iter().filter(|m| m.arm == Arm::Canary) {
            let place = usize::from(measurement.check.0);
            let (Some(check), Some(slot)) = (checks.get(place), seen.newest.get_mut(place)) else { continue };
            let Ok(Tally::Counts(counts)) = &measurement.tally else { continue };
            *slot = Some(*counts);
            if let Some(limit) = check.limit {
                seen.breached |= counts.total >= limit.total_min
                    && counts.bad >= limit.bad_min
                    && counts.bad as f64 > limit.bad_share_max * counts.total as f64;
            }
        }
    }

    /// Traffic is asked to move, and `unadvised` is what a fleet in the same state that no model ever advised asks of it.
    /// Says what is wrong with the difference, if anything.
    pub fn asked_beside(shift: &Shift, unadvised: &[Shift], told: Option<&Told>) -> Result<(), String> {
        let of_rollout = || unadvised.iter().filter(|other| other.rollout == shift.rollout);
        if of_rollout().any(|other| other.to == shift.to) {
            return Ok(());
        }
        let told = told.filter(|told| told.rollout == shift.rollout);
        let stays = of_rollout().all(|other| !shift.to.exceeds(&other.to)) && !shift.to.exceeds(&shift.from);
        match told {
            Some(told) if told.action == Action::Expand && told.may_break_ties && shift.to.exceeds(&shift.from) => {
                Ok(())
            }
            Some(told) if told.action == Action::RollBack && told.leans && shift.to.is_none() => Ok(()),
            Some(_) | None if stays && shift.from == shift.to => Ok(()),
            Some(_) | None => {
                Err(format!("{}: from {} to {} at the word of a model: {told:?}", shift.rollout, shift.from, shift.to))
            }
        }
    }

    /// Traffic is asked to move. Says what is wrong with it, if anything.
    pub fn asked(&self, shift: &Shift, checks: &[Check], standing: &Exposure) -> Result<(), String> {
        let nothing = Seen::default();
        let seen = self.rollouts.get(&shift.rollout).unwrap_or(&nothing);
        let raises = shift.to.exceeds(&shift.from);
        let lowers = shift.from.exceeds(&shift.to);
        // What was handed over, a person may take back.
        let is_settled_by_person = lowers && seen.rollback_asked;
        if seen.ended && shift.from != shift.to && !is_settled_by_person {
            return Err(format!("{}: traffic moved after the end", shift.rollout));
        }
        if raises && self.kill_switch {
            return Err(format!("{}: expanded with the kill switch on", shift.rollout));
        }
        if raises && seen.breached {
            return Err(format!("{}: expanded while a hard limit is broken", shift.rollout));
        }
        if raises && !shift.from.is_none() {
            let blind = |(i, check): (usize, &Check)| {
                check.weight == Weight::Critical
                    && check.origin == Origin::Slo
                    && seen.newest.get(i).copied().flatten().is_none()
            };
            if !seen.measured || checks.iter().enumerate().any(blind) {
                return Err(format!("{}: expanded without data", shift.rollout));
            }
        }
        if lowers && seen.one_way && !seen.rollback_asked {
            return Err(format!("{}: a one-way change was taken back with nobody asking", shift.rollout));
        }
        if raises && standing.exceeds(&shift.to) && standing.exceeds(&shift.from) {
            return Err(format!("{}: expanded from {} while {standing} stands", shift.rollout, shift.from));
        }
        Ok(())
    }
}
