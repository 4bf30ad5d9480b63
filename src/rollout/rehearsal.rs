//! What a check would have done to a change that changes nothing: the old version's own pods, one of them taken for a
//! canary and the others for control, judged by the same test and setting as a real one.
//!
//! The pods take turns, half an hour each. A check that rolls back such a pretended change now and then is noisier than
//! its test allows for, and admission lets it advise only.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    domain::{Check, Part, PartKind, Reading, Text, millis},
    plan::Trial,
    stats::{Block, Calibration, Running, SequentialTest, Setting},
};

/// How long one pod is taken for a canary.
const TURN: Duration = Duration::from_secs(1_800);
/// Fewer pods than this are no control for one of them.
const PODS_MIN: usize = 3;
/// Evidence that would have been proof, as a natural logarithm: an `alpha` of 0.001.
const PROOF: f64 = 6.907_755_278_982_137;

/// A pretended rollout, and how the earlier ones ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rehearsal {
    test: Running,
    pod: Text,
    #[serde(with = "millis")]
    lasted: Duration,
    is_alarmed: bool,
    alarms: u32,
    rollouts: u32,
}

impl Rehearsal {
    pub(super) fn begin(check: &Check) -> Self {
        Self {
            test: Running::start(check),
            pod: Text::default(),
            lasted: Duration::ZERO,
            is_alarmed: false,
            alarms: 0,
            rollouts: 0,
        }
    }

    /// Goes on with a look at control.
    pub(super) fn observe(&mut self, check: &Check, calibration: &Calibration, control: &Reading, span: Duration) {
        let pods: Vec<&Part> = control.parts_of(PartKind::Pod).collect();
        if pods.len() < PODS_MIN {
            return;
        }
        let Some(pretended) = self.turn(&pods, check) else { return };
        let others: Vec<Part> =
            pods.iter().filter(|pod| pod.name != pretended.name).map(|pod| (*pod).clone()).collect();
        let sum =
            others.iter().skip(1).fold(others.first().map(|pod| pod.tally.clone()), |sum, pod| sum?.plus(&pod.tally));
        let Some(tally) = sum else { return };
        let control = Reading { tally, parts: others };
        let canary = Reading { tally: pretended.tally.clone(), parts: vec![pretended.clone()] };
        let setting = Setting { check, calibration, safe_ratio: 2.0, pod_incident: crate::stats::POD_INCIDENT };
        self.test.observe(&setting, &Block { control: &control, canary: &canary, span });
        self.lasted = self.lasted.saturating_add(span);
        self.is_alarmed |= self.test.log_e_value() >= PROOF;
        if self.lasted >= TURN {
            self.rollouts = self.rollouts.saturating_add(1);
            self.alarms = self.alarms.saturating_add(u32::from(self.is_alarmed));
            self.start_over(check);
        }
    }

    /// The pod whose turn it is: the next by name once a turn is over, or when the pod is gone.
    fn turn<'a>(&mut self, pods: &[&'a Part], check: &Check) -> Option<&'a Part> {
        let is_new = self.lasted.is_zero();
        let same = pods.iter().find(|pod| pod.name == self.pod).filter(|_| !is_new);
        let pod = same.or_else(|| pods.iter().find(|pod| pod.name > self.pod)).or_else(|| pods.first())?;
        if pod.name != self.pod {
            self.start_over(check);
            self.pod = pod.name.clone();
        }
        Some(pod)
    }

    fn start_over(&mut self, check: &Check) {
        self.test = Running::start(check);
        self.lasted = Duration::ZERO;
        self.is_alarmed = false;
    }

    /// How the pretended rollouts ended.
    pub(super) fn trial(&self) -> Trial {
        Trial { alarms: self.alarms, rollouts: self.rollouts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Counts, Tally},
        sim::scenario,
    };

    const LOOK: Duration = Duration::from_secs(15);

    /// Four pods, of which the last fails `times` as often.
    fn control(times: u64) -> Reading {
        let part = |pod: u64| {
            let bad = if pod == 3 { 4 * times } else { 4 };
            let tally = Tally::Counts(Counts { bad, total: 1_000 });
            Part { kind: PartKind::Pod, name: Text::new(format!("pod-{pod}")), tally }
        };
        let parts: Vec<Part> = (0..4).map(part).collect();
        let bad = 12 + 4 * times;
        Reading { tally: Tally::Counts(Counts { bad, total: 4_000 }), parts }
    }

    fn after(turns: u32, times: u64) -> Trial {
        let check = &scenario::bounds().mandatory[0];
        let mut rehearsal = Rehearsal::begin(check);
        for _ in 0..turns * 120 {
            rehearsal.observe(check, &Calibration::untrusted(), &control(times), LOOK);
        }
        rehearsal.trial()
    }

    #[test]
    fn pods_that_are_alike_raise_no_alarm() {
        assert_eq!(after(8, 1), Trial { alarms: 0, rollouts: 8 });
    }

    #[test]
    fn every_pod_has_its_turn_and_the_odd_one_is_an_alarm() {
        assert_eq!(after(8, 30), Trial { alarms: 2, rollouts: 8 });
    }

    #[test]
    fn two_pods_are_no_rehearsal() {
        let check = &scenario::bounds().mandatory[0];
        let mut rehearsal = Rehearsal::begin(check);
        let mut two = control(1);
        two.parts.truncate(2);
        rehearsal.observe(check, &Calibration::untrusted(), &two, TURN);
        assert_eq!(rehearsal.trial(), Trial { alarms: 0, rollouts: 0 });
    }
}
