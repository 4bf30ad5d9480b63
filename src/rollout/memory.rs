//! What was learnt of the noise of one service's checks, rollout after rollout.
//!
//! Every look at control's pods teaches how this SLI varies without any change: how bad events cluster, how pods differ.
//! It is learnt from the old version alone and used on later blocks only, so that evidence stays valid; and it outlives
//! the rollout, so that the next one begins where this one ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rehearsal::Rehearsal;
use crate::{
    domain::{Check, Counts, Direction, PartKind, Reading, Sli, Timestamp},
    plan::Trial,
    stats::{self, Calibration, Learner},
};

/// Most SLIs of one service that are remembered; the one that was looked at longest ago goes.
const SLIS_MAX: usize = 64;

/// What was learnt of one SLI.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Learnt {
    sli: Sli,
    direction: Direction,
    looked_at: Timestamp,
    learner: Learner,
    rehearsal: Rehearsal,
}

/// What was learnt of the noise of one service's checks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    slis: Vec<Learnt>,
}

impl Memory {
    /// What is known of the noise of this check's SLI.
    pub(super) fn calibration(&self, check: &Check) -> Calibration {
        self.find(check).map_or_else(Calibration::untrusted, |learnt| learnt.learner.calibration())
    }

    /// How pretended rollouts of the old version ended under this check; nothing where there were none.
    pub(super) fn trial(&self, check: &Check) -> Trial {
        self.find(check).map_or_else(Trial::default, |learnt| learnt.rehearsal.trial())
    }

    /// Learns from a look at control. Only pods that can be told apart show how they differ; says whether they could.
    pub(super) fn learn(&mut self, check: &Check, control: &Reading, span: Duration, now: Timestamp) -> bool {
        let counted = |tally| stats::counts(check, tally);
        let pods: Vec<(&str, Counts)> =
            control.parts_of(PartKind::Pod).filter_map(|pod| Some((pod.name.as_str(), counted(&pod.tally)?))).collect();
        if pods.len() < 2 {
            return false;
        }
        let learnt = self.find_or_begin(check, now);
        learnt.looked_at = now;
        // By what was known before this look, as a real rollout would be judged.
        learnt.rehearsal.observe(check, &learnt.learner.calibration(), control, span);
        learnt.learner.observe(span, &pods);
        true
    }

    fn find(&self, check: &Check) -> Option<&Learnt> {
        self.slis.iter().find(|learnt| learnt.is_of(check))
    }

    fn find_or_begin(&mut self, check: &Check, now: Timestamp) -> &mut Learnt {
        let at = self.slis.iter().position(|learnt| learnt.is_of(check)).unwrap_or_else(|| {
            let begun = Learnt {
                sli: check.sli.clone(),
                direction: check.direction,
                looked_at: now,
                learner: Learner::default(),
                rehearsal: Rehearsal::begin(check),
            };
            if self.slis.len() < SLIS_MAX {
                self.slis.push(begun);
                return self.slis.len() - 1;
            }
            let oldest = (0..SLIS_MAX).min_by_key(|at| self.slis[*at].looked_at).unwrap_or(0);
            self.slis[oldest] = begun;
            oldest
        });
        &mut self.slis[at]
    }
}

impl Learnt {
    fn is_of(&self, check: &Check) -> bool {
        self.direction == check.direction && self.sli == check.sli
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Part, Tally, Text},
        sim::scenario,
    };

    const LOOK: Duration = Duration::from_secs(15);

    fn control(pods: u64, look: u64) -> Reading {
        let part = |pod| {
            let tally = Tally::Counts(Counts { bad: (pod * 7 + look * 3) % 5, total: 100 });
            Part { kind: PartKind::Pod, name: Text::new(format!("pod-{pod}")), tally }
        };
        Reading { tally: Tally::Counts(Counts { bad: 0, total: 100 * pods }), parts: (0..pods).map(part).collect() }
    }

    #[test]
    fn an_hour_of_pods_is_trusted_and_less_is_not() {
        let check = &scenario::bounds().mandatory[0];
        let mut memory = Memory::default();
        let now = Timestamp::from_millis(0);
        for look in 0..120 {
            assert!(memory.learn(check, &control(4, look), LOOK, now));
        }
        assert!(!memory.calibration(check).is_trusted);
        for look in 120..240 {
            memory.learn(check, &control(4, look), LOOK, now);
        }
        assert!(memory.calibration(check).is_trusted);
        let other = Check { direction: Direction::LowerIsWorse, ..check.clone() };
        assert!(!memory.calibration(&other).is_trusted, "another direction counts other events");
    }

    #[test]
    fn one_pod_shows_nothing() {
        let check = &scenario::bounds().mandatory[0];
        assert!(!Memory::default().learn(check, &control(1, 0), LOOK, Timestamp::from_millis(0)));
    }

    #[test]
    fn the_sli_that_was_looked_at_longest_ago_is_forgotten() {
        let check = &scenario::bounds().mandatory[0];
        let numbered = |number: usize| Check {
            sli: check.sli.narrowed("route", &crate::domain::Match::Is(number.to_string())),
            ..check.clone()
        };
        let mut memory = Memory::default();
        for number in 0..=SLIS_MAX {
            memory.learn(&numbered(number), &control(2, 0), LOOK, Timestamp::from_millis(number as u64));
        }
        assert_eq!(memory.slis.len(), SLIS_MAX);
        assert!(memory.find(&numbered(0)).is_none() && memory.find(&numbered(SLIS_MAX)).is_some());
    }
}
