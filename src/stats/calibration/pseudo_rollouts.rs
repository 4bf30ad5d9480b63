//! How often a check would have rolled back where nothing was wrong: each pod of a stable period plays the canary.
//!
//! The period is cut into watches of two hours, and in each of them every pod in turn is compared with the others, with
//! the setting that a rollout now would have. Nothing was shipped, so each proof is a false alarm. The pseudo-rollouts of
//! one watch share their noise, so they are fewer than they look: an estimate that no alarm is 3 in their number at 95% is
//! the best that can be said, and a check that alarms at all on an ordinary history is not fit to roll back.

use std::time::Duration;

use super::{Calibration, History};
use crate::domain::{Check, Counts, Direction, Part, PartKind, Reading, Sli, Tally, Text};
use crate::stats::{Block, CountTest, SequentialTest, Setting, counts::PROOF};

/// How long one pseudo-rollout is watched.
const WATCH_SECONDS: f64 = 7200.0;

/// False alarms, and pseudo-rollouts tried. The counts are bad among all, as [`counts`](crate::stats::counts) reads the check.
pub fn false_alarms(history: &History, check: &Check) -> (u32, u32) {
    let calibration = Calibration::learn(history);
    let check = as_counted(check);
    let every = history.every.as_secs_f64().max(0.001);
    let looks = history.pods.iter().map(Vec::len).min().unwrap_or(0);
    let per_block = ((calibration.block.as_secs_f64() / every).round() as usize).clamp(1, 1 << 16);
    let per_watch = ((WATCH_SECONDS / every) as usize).max(per_block);
    let (mut alarms, mut tried) = (0, 0);
    if history.pods.len() < 2 {
        return (alarms, tried);
    }
    for start in (0..looks).step_by(per_watch) {
        let watch = start..looks.min(start + per_watch);
        // The rest of a period is not a watch.
        if start > 0 && watch.len() * 2 < per_watch {
            break;
        }
        for pod in 0..history.pods.len() {
            tried += 1;
            alarms += u32::from(alarms_in(history, &check, &calibration, pod, watch.clone(), per_block));
        }
    }
    (alarms, tried)
}

/// The check on counts that are bad among all already.
fn as_counted(check: &Check) -> Check {
    let mut counted = check.clone();
    match &check.sli {
        Sli::EventsPerTraffic { .. } | Sli::Liveness { .. } | Sli::Probe { .. } => {}
        Sli::Ratio { bad, total } => counted.sli = Sli::Ratio { bad: bad.clone(), total: total.clone() },
        Sli::Latency { histogram: from, .. } | Sli::Level { gauge: from } | Sli::Mix { counter: from, .. } => {
            counted.sli = Sli::Ratio { bad: from.clone(), total: from.clone() };
        }
    }
    if matches!(counted.sli, Sli::Ratio { .. }) {
        counted.direction = Direction::HigherIsWorse;
    }
    counted
}

/// Whether one pod in one watch would have been proof.
fn alarms_in(
    history: &History,
    check: &Check,
    calibration: &Calibration,
    canary: usize,
    watch: std::ops::Range<usize>,
    per_block: usize,
) -> bool {
    let mut test = CountTest::start();
    let setting = Setting { check, calibration, safe_ratio: check.ratio_max, pod_incident: crate::stats::POD_INCIDENT };
    let mut at = watch.start;
    while at < watch.end {
        let block = at..watch.end.min(at + per_block);
        let looks = u32::try_from(block.len()).unwrap_or(1);
        at = block.end;
        let sums = history.pods.iter().map(|pod| {
            let looks = pod.get(block.clone()).unwrap_or_default();
            looks.iter().fold(Counts::default(), |sum, counts| sum.plus(*counts))
        });
        let (mut control, mut new) = (Counts::default(), Counts::default());
        for (pod, sum) in sums.enumerate() {
            let arm = if pod == canary { &mut new } else { &mut control };
            *arm = arm.plus(sum);
        }
        let part = Part { kind: PartKind::Pod, name: Text::new(canary.to_string()), tally: Tally::Counts(new) };
        let canary = Reading { tally: Tally::Counts(new), parts: vec![part] };
        let span: Duration = history.every.saturating_mul(looks);
        let control = Reading::whole(Tally::Counts(control));
        test.observe(&setting, &Block { control: &control, canary: &canary, span });
        if test.log_e_value() >= PROOF {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::stats::counts::tests::check;

    fn history(bad_pod: bool) -> History {
        let mut rng = StdRng::seed_from_u64(3);
        let mut look = |share| {
            let bad = (0..100).filter(|_| rng.random_bool(share)).count() as u64;
            Counts { bad, total: 100 }
        };
        let share = |pod| if bad_pod && pod == 0 { 0.3 } else { 0.02 };
        let pods = (0..8).map(|pod| (0..300).map(|_| look(share(pod))).collect()).collect();
        History { every: Duration::from_secs(15), pods }
    }

    #[test]
    fn quiet_pods_give_no_alarm_and_each_pod_is_tried() {
        assert_eq!(false_alarms(&history(false), &check(1.25)), (0, 8));
        assert_eq!(false_alarms(&History { every: Duration::ZERO, pods: vec![Vec::new(); 3] }, &check(1.25)).0, 0);
    }

    #[test]
    fn a_pod_that_always_differs_widens_the_margin() {
        let calibration = Calibration::learn(&history(true));
        assert!(calibration.pod_floor(1.0) > 2.0, "{calibration:?}");
    }
}
