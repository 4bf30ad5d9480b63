//! How often a check would have rolled back where nothing was wrong: each pod of a stable period plays the canary.
//!
//! The period is cut into watches of two hours, and in each of them every pod in turn is compared with the others, with
//! the setting that a rollout now would have. Nothing was shipped, so each proof is a false alarm. The pseudo-rollouts of
//! one watch share their noise, so they are fewer than they look: an estimate that no alarm is 3 in their number at 95% is
//! the best that can be said, and a check that alarms at all on an ordinary history is not fit to roll back.

use std::{collections::BTreeMap, time::Duration};

use super::{Calibration, History};
use crate::domain::{Check, Counts, Direction, Part, PartKind, Reading, Sli, Tally, Text};
use crate::stats::{Block, CountTest, Running, SequentialTest, Setting, counts::PROOF};

/// How long one pseudo-rollout is watched.
const WATCH_SECONDS: f64 = 7200.0;
/// Fewer pods than this are no control for one of them.
const PODS_MIN: usize = 3;
/// Most pods that play the canary in one watch; where there are more, others do in the next.
const CANARIES_MAX: usize = 12;

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

/// False alarms, and pseudo-rollouts tried, of watches in a row: block after block of the old version, `None` where nothing
/// was heard, each of them `every` long. A period of less than half a watch is none, and so are fewer than three pods.
/// `log_threshold` is what the evidence must reach, as a natural logarithm.
pub fn pretended(
    blocks: &[Option<Reading>],
    every: Duration,
    watch: Duration,
    log_threshold: f64,
    setting: &Setting<'_>,
) -> (u32, u32) {
    let per_watch = (watch.as_secs_f64() / every.as_secs_f64().max(0.001)).clamp(1.0, 1e6) as usize;
    let (mut alarms, mut tried) = (0, 0);
    for (nth, watch) in blocks.chunks(per_watch).enumerate() {
        if watch.len() * 2 < per_watch {
            break;
        }
        for name in canaries(watch, nth) {
            tried += 1;
            alarms += u32::from(is_proof(watch, &name, every, log_threshold, setting));
        }
    }
    (alarms, tried)
}

/// The pods that play the canary in a watch: those that are there for most of it, taking turns.
fn canaries(watch: &[Option<Reading>], nth: usize) -> Vec<Text> {
    let mut seen: BTreeMap<&Text, usize> = BTreeMap::new();
    for reading in watch.iter().flatten() {
        reading.parts_of(PartKind::Pod).for_each(|pod| *seen.entry(&pod.name).or_default() += 1);
    }
    let heard = watch.iter().flatten().count();
    let names: Vec<&Text> = seen.into_iter().filter(|(_, blocks)| blocks * 2 > heard).map(|(name, _)| name).collect();
    if names.len() < PODS_MIN {
        return Vec::new();
    }
    let turns = names.len().min(CANARIES_MAX);
    (0..turns)
        .filter_map(|turn| names.get((nth * CANARIES_MAX + turn) % names.len()))
        .map(|name| (*name).clone())
        .collect()
}

fn is_proof(
    watch: &[Option<Reading>],
    name: &Text,
    every: Duration,
    log_threshold: f64,
    setting: &Setting<'_>,
) -> bool {
    let mut test = Running::start(setting.check);
    watch.iter().flatten().any(|reading| {
        let (mut new, mut old): (Vec<Part>, Vec<Part>) = (Vec::new(), Vec::new());
        for pod in reading.parts_of(PartKind::Pod) {
            if pod.name == *name { new.push(pod.clone()) } else { old.push(pod.clone()) }
        }
        let (Some(canary), Some(control)) = (sum(new), sum(old)) else { return false };
        test.observe(setting, &Block { control: &control, canary: &canary, span: every });
        test.log_e_value() >= log_threshold
    })
}

/// Pods as one arm; `None` where there are none, or they are of different shapes.
fn sum(parts: Vec<Part>) -> Option<Reading> {
    let first = parts.first()?.tally.clone();
    let tally = parts.iter().skip(1).try_fold(first, |sum, pod| sum.plus(&pod.tally))?;
    Some(Reading { tally, parts })
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

    fn readings(bad_pod: bool) -> Vec<Option<Reading>> {
        let History { pods, .. } = history(false);
        (0..300)
            .map(|look| {
                let counts = |pod: usize, looks: &[Counts]| {
                    let worse = if bad_pod && pod == 0 && look > 100 { 20 } else { 0 };
                    Counts { bad: looks[look].bad + worse, total: looks[look].total }
                };
                let parts = pods.iter().enumerate().map(|(pod, looks)| Part {
                    kind: PartKind::Pod,
                    name: Text::new(format!("pod-{pod}")),
                    tally: Tally::Counts(counts(pod, looks)),
                });
                sum(parts.collect())
            })
            .collect()
    }

    #[test]
    fn whole_readings_are_tried_with_the_kinds_own_test() {
        let (check, calibration) = (check(1.25), Calibration::untrusted());
        let setting = Setting {
            check: &check,
            calibration: &calibration,
            safe_ratio: 2.0,
            pod_incident: crate::stats::POD_INCIDENT,
        };
        let (look, hour) = (Duration::from_secs(15), Duration::from_secs(3600));
        let tried = |blocks: &[Option<Reading>]| pretended(blocks, look, hour, PROOF, &setting);
        assert_eq!(tried(&readings(false)), (0, 8), "the last quarter of an hour is no watch");
        assert_eq!(tried(&readings(true)).0, 1, "the pod that went bad would have been rolled back");
        assert_eq!(tried(&readings(true)[..119]), (0, 0), "less than half a watch");
        let two: Vec<_> =
            readings(true).into_iter().flatten().map(|reading| sum(reading.parts[..2].to_vec())).collect();
        assert_eq!(tried(&two), (0, 0), "two pods are no control for one of them");
        assert_eq!(tried(&vec![None; 300]), (0, 0));
    }

    #[test]
    fn many_pods_take_turns() {
        let part = |pod: u64| Part {
            kind: PartKind::Pod,
            name: Text::new(format!("pod-{pod:02}")),
            tally: Tally::Counts(Counts { bad: 1, total: 100 }),
        };
        let watch = vec![sum((0..30).map(part).collect())];
        let names = |nth| canaries(&watch, nth).iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!((names(0).len(), names(0)[0].as_str(), names(1)[0].as_str()), (12, "pod-00", "pod-12"));
    }
}
