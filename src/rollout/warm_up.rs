//! Warm-up: what a fresh canary does before its caches, pools and compilers are warm is neither held against it nor hidden.
//!
//! Looks at a cold canary are no evidence, no samples and no bake time. Hard limits see every request from the first, and
//! people see how many were left out and how bad they were.
//!
//! - The canary warms up once for the whole rollout, from its first traffic.
//! - Where telemetry tells pods apart, one that appears later warms up by itself: its requests are left out of the looks of
//!   its first minutes, of either arm alike, so that old pods are compared with old pods. The pods that control shows in
//!   the first look were there before.
//!
//! # The bound
//! Pods that come and go without end would never count. So at one stage pods that appeared later are left out for at most
//! [`LEFT_OUT_TIMES`] warm-ups in all; from then on whatever is served counts.
//!
//! # Limits
//! A restart that keeps the pod's name is not seen. Where some pods are left out, tenants and segments are not told apart
//! in that look, since nobody knows how much of them was served by cold pods.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::domain::{Arm, Counts, Measurement, Part, PartKind, Reading, Tally, Text, Timestamp, millis};

/// At one stage pods that appeared later are left out for at most so many warm-ups together.
const LEFT_OUT_TIMES: u32 = 4;
/// Most pods whose first appearance is remembered; further ones count as warm.
const PODS_MAX: usize = 1_024;

/// How long the arms of one rollout have been up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct WarmUp {
    /// When each pod was first seen.
    seen: BTreeMap<(Arm, Text), Timestamp>,
    has_looked: bool,
    /// How long pods that appeared later have been left out at this stage.
    #[serde(with = "millis")]
    left_out: Duration,
    /// How much of that is newer than the last time it was asked for.
    #[serde(with = "millis")]
    newly_left_out: Duration,
    /// Of which arms pods were told apart before: control's, and the canary's.
    told_apart: [bool; 2],
    /// What of the canary's busiest objective was left out of the evidence.
    pub(super) cold: Counts,
    /// People were told that it is over.
    is_told: bool,
}

/// One look's pods that are still cold, and whether the whole canary is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cold {
    canary: bool,
    pods: Vec<(Arm, Text)>,
}

impl WarmUp {
    /// Who is cold in a look that began at `after` and is `span` long, where the canary has had traffic from `began`.
    pub(super) fn look(
        &mut self,
        measurements: &[Measurement],
        began: Option<Timestamp>,
        (after, span): (Timestamp, Duration),
        lasts: Duration,
    ) -> Cold {
        if lasts.is_zero() {
            return Cold::default();
        }
        let Some(began) = began else { return Cold::default() };
        self.has_looked = true;
        let known = self.told_apart;
        for measurement in measurements {
            for part in measurement.parts.iter().filter(|part| part.kind == PartKind::Pod) {
                // An arm of one pod tells none apart: with a second one its first is seen for the first time too.
                let (appeared, place) = match measurement.arm {
                    Arm::Control if !known[0] => (None, 0),
                    Arm::Canary if !known[1] => (Some(began), 1),
                    Arm::Control => (Some(after.max(began)), 0),
                    Arm::Canary => (Some(after.max(began)), 1),
                };
                self.told_apart[place] = true;
                let key = (measurement.arm, part.name.clone());
                if self.seen.len() < PODS_MAX || self.seen.contains_key(&key) {
                    self.seen.entry(key).or_insert(appeared.unwrap_or(Timestamp::from_millis(0)));
                }
            }
        }
        let is_young = |since: Timestamp| after < since + lasts;
        let canary = is_young(began);
        let mut pods: Vec<(Arm, Text)> =
            self.seen.iter().filter(|(_, since)| is_young(**since)).map(|(pod, _)| pod.clone()).collect();
        if !canary && !pods.is_empty() {
            if self.left_out < lasts.saturating_mul(LEFT_OUT_TIMES) {
                self.left_out = self.left_out.saturating_add(span);
                self.newly_left_out = self.newly_left_out.saturating_add(span);
            } else {
                pods.clear();
            }
        }
        Cold { canary, pods }
    }

    /// How long pods that appeared later were left out since this was last asked: it is no bake time.
    pub(super) fn newly_left_out(&mut self) -> Duration {
        std::mem::take(&mut self.newly_left_out)
    }

    /// A new stage may leave out as much as any.
    pub(super) fn stage_began(&mut self) {
        self.left_out = Duration::ZERO;
    }

    /// Whether the warm-up that was told of is over, once.
    pub(super) fn is_newly_over(&mut self, until: Timestamp, now: Timestamp) -> bool {
        let is_new = self.has_looked && now >= until && !self.is_told;
        self.is_told |= is_new;
        is_new
    }
}

impl Cold {
    /// The part of a reading that is no longer cold; `None` where all of it is.
    pub(super) fn warm(&self, arm: Arm, reading: &Reading) -> Option<Reading> {
        let is_cold = |part: &&Part| {
            part.kind == PartKind::Pod && self.pods.iter().any(|(of, name)| *of == arm && *name == part.name)
        };
        if reading.parts_of(PartKind::Pod).next().is_none() {
            // One pod, or nobody knows how many.
            return (!(self.canary && arm == Arm::Canary)).then(|| reading.clone());
        }
        if !reading.parts.iter().any(|part| is_cold(&part)) {
            return Some(reading.clone());
        }
        // Readings of a gauge are means over the pods, and cannot be put together from some of them.
        if matches!(reading.tally, Tally::Samples(_)) {
            return None;
        }
        let pods: Vec<Part> = reading.parts_of(PartKind::Pod).filter(|part| !is_cold(part)).cloned().collect();
        let (first, others) = pods.split_first()?;
        let tally = others.iter().try_fold(first.tally.clone(), |sum, part| sum.plus(&part.tally))?;
        Some(Reading { tally, parts: pods })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CheckId, Window};

    const LASTS: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + seconds * 1_000)
    }

    fn counts(bad: u64, total: u64) -> Tally {
        Tally::Counts(Counts { bad, total })
    }

    fn reading(pods: &[(&str, u64)]) -> Reading {
        let part =
            |(name, bad): &(&str, u64)| Part { kind: PartKind::Pod, name: Text::new(*name), tally: counts(*bad, 100) };
        let total = 100 * pods.len().max(1) as u64;
        Reading { tally: counts(pods.iter().map(|(_, bad)| bad).sum(), total), parts: pods.iter().map(part).collect() }
    }

    fn measurement(arm: Arm, reading: &Reading) -> Measurement {
        let window = Window { after: at(0), through: at(1) };
        let (tally, parts) = (Ok(reading.tally.clone()), reading.parts.clone());
        Measurement { check: CheckId(0), arm, window, tally, parts, estimated: false }
    }

    /// What is warm of both arms in a look that begins then.
    fn look(warm_up: &mut WarmUp, after: u64, arms: [&Reading; 2]) -> [Option<Reading>; 2] {
        let [control, canary] = arms;
        let told = [measurement(Arm::Control, control), measurement(Arm::Canary, canary)];
        let cold = warm_up.look(&told, Some(at(0)), (at(after), Duration::from_secs(10)), LASTS);
        [cold.warm(Arm::Control, control), cold.warm(Arm::Canary, canary)]
    }

    #[test]
    fn a_canary_whose_pods_are_not_told_apart_is_cold_until_its_time_is_over() {
        let (mut warm_up, whole) = (WarmUp::default(), reading(&[]));
        for after in [0, 30, 59] {
            assert_eq!(look(&mut warm_up, after, [&whole; 2]), [Some(whole.clone()), None], "after {after} s");
        }
        assert_eq!(look(&mut warm_up, 60, [&whole; 2]), [Some(whole.clone()), Some(whole)]);
    }

    #[test]
    fn without_a_warm_up_and_before_any_traffic_nothing_is_cold() {
        let whole = reading(&[("a", 1), ("b", 2)]);
        let told = [measurement(Arm::Canary, &whole)];
        let span = Duration::from_secs(10);
        assert_eq!(WarmUp::default().look(&told, Some(at(0)), (at(0), span), Duration::ZERO), Cold::default());
        assert_eq!(WarmUp::default().look(&told, None, (at(0), span), LASTS), Cold::default());
    }

    #[test]
    fn a_pod_that_appears_later_is_left_out_of_either_arm_until_it_is_warm() {
        let mut warm_up = WarmUp::default();
        let (control, canary) = (reading(&[("a", 1)]), reading(&[("x", 2)]));
        assert_eq!(look(&mut warm_up, 0, [&control, &canary]), [Some(control.clone()), None]);
        assert_eq!(look(&mut warm_up, 60, [&control, &canary]), [Some(control), Some(canary)]);
        let (control, canary) = (reading(&[("a", 1), ("b", 9)]), reading(&[("x", 2), ("y", 90)]));
        let old = [Some(reading(&[("a", 1)])), Some(reading(&[("x", 2)]))];
        assert_eq!(look(&mut warm_up, 100, [&control, &canary]), old);
        assert_eq!(look(&mut warm_up, 159, [&control, &canary]), old);
        assert_eq!(look(&mut warm_up, 160, [&control, &canary]), [Some(control), Some(canary)]);
    }

    #[test]
    fn pods_that_come_and_go_without_end_count_in_the_end_and_anew_at_the_next_stage() {
        let mut warm_up = WarmUp::default();
        let control = reading(&[("a", 1)]);
        look(&mut warm_up, 0, [&control, &reading(&[("x", 2)])]);
        let churned = |look_at: u64| reading(&[("x", 2), (&format!("y{look_at}") as &str, 90)]);
        // 24 looks of 10 s are four warm-ups of 60 s.
        let is_whole = |warm_up: &mut WarmUp, number: u64| {
            let canary = churned(number);
            look(warm_up, 60 + 10 * number, [&control, &canary])[1] == Some(canary)
        };
        assert!((0..24).all(|number| !is_whole(&mut warm_up, number)), "within the bound");
        assert!((24..40).all(|number| is_whole(&mut warm_up, number)), "beyond it");
        warm_up.stage_began();
        assert!(!is_whole(&mut warm_up, 40));
    }

    #[test]
    fn its_end_is_told_once() {
        let mut warm_up = WarmUp::default();
        look(&mut warm_up, 0, [&reading(&[]); 2]);
        assert!(!warm_up.is_newly_over(at(60), at(59)));
        assert!(warm_up.is_newly_over(at(60), at(60)));
        assert!(!warm_up.is_newly_over(at(60), at(70)));
    }
}
