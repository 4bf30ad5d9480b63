//! Trying a proposed check on the service's own past, before it counts for anything. Arithmetic only.
//!
//! # What is tried
//! The old version's past has changes of load, of hour and of neighbours in it, and no change of version. So a check that
//! would have rolled back there is not fit to roll back: each pod in turn plays the canary against the others, judged by
//! the test and the setting that a rollout would have, for as long as this rollout's stages last. At the past's traffic
//! and each stage's share it is foretold what the check could see at all.
//!
//! # What follows
//! - Nothing in the past: *rejected*, unless the change itself adds the metric. A check that measures nothing would only
//!   hold the rollout.
//! - Noisy, or blind at every stage: *demoted*, so that it advises only. It is still worth a look.
//! - Too little past, or pods that are not told apart: a check that narrows what the operator configured is *admitted*, any
//!   other is *demoted*. The argument for: what the operator configured has a known meaning of bad, the objectives on it roll
//!   back untried as well, and where nothing is known of its noise the tests take the wider setting. The argument against
//!   everything else: nobody but a model has said what this metric means, and an untried check of hers should not move
//!   traffic. Short history is the normal state in the first hour after a start, so demoting all would leave the change's
//!   own checks without a say just when Tollgate is new to a service.
//!
//! # Limits
//! The setting is learnt from the same past that is tried, as a rollout that began now would be set: where counts are
//! unsteady in a way that is learnt, the test becomes careful rather than noisy, and that shows in its power. Of gauges and
//! mixes nothing is learnt beforehand. Pseudo-rollouts of one watch share their noise: no alarm in `n` of them says at best that alarms are rarer than 3 in `n`.
//! A mix, a liveness and a probe have no forecast: their `power` is empty and they are never called blind. A past without
//! bad ones is foretold as if 1 in 10,000 were bad, since several times nothing is nothing.

use std::time::Duration;

use crate::{
    domain::{Absence, Aim, Check, Counts, PartKind, Reading, Share, Sli, Tally, Text, Weight},
    plan::{PastLevel, Power, Reason, Standing, Trial, Tried},
    stats::{
        self, Calibration, History, Learner, Setting,
        planning::{Criterion, Leg, Load, smallest_detectable, smallest_detectable_over, time_to_detect},
    },
    telemetry::Past,
};

mod level;

/// Most blocks of the past that are looked at, the newest: twelve hours of 15 seconds.
pub const BLOCKS_MAX: usize = 2_880;
/// Less of the past than this is short, in seconds: what a calibration believes.
pub const SHORT_SECONDS: f64 = 3_500.0;
/// Nothing in less of the past than this, in seconds, is no proof that there is nothing.
pub const EMPTY_SECONDS: f64 = 600.0;
/// How long a pretended rollout is watched, at least and at most, in seconds.
const WATCH_SECONDS: (f64, f64) = (1_800.0, 7_200.0);
/// A forecast reckons with at least this many bad for each of all.
const BAD_RATE_MIN: f64 = 1e-4;
/// Canary pods that are reckoned with: how many there will be is not known yet.
const CANARY_PODS: u8 = 1;
/// Blocks in a row that stand for pods where those are not told apart.
const SLICES: usize = 4;

/// What the rollout would be like.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Share and bake time of each stage.
    pub stages: &'a [(Share, Duration)],
    /// Chance of rolling back a harmless change, per rollout.
    pub alpha: f64,
    /// What this check's evidence must reach by itself, as a natural logarithm.
    pub log_threshold: f64,
    /// A canary this many times as bad must not be called safe.
    pub safe_ratio: f64,
    /// Length of a block of evidence.
    pub block: Duration,
    /// How long one pod may fail by itself.
    pub pod_incident: Duration,
}

/// What is known of a check besides its past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinship {
    /// The change itself adds its metric.
    pub is_added: bool,
    /// It narrows what the operator configured.
    pub is_configured: bool,
    /// Telemetry was seen to have its metrics.
    pub is_seen: bool,
}

/// The past in blocks of evidence.
struct Blocks {
    every: Duration,
    /// What was shown; `None` where nothing was, or nothing was heard.
    shown: Vec<Option<Reading>>,
    /// How many blocks were answered, with something or with nothing.
    answered: usize,
}

/// Tries a check on the past of its SLI.
pub fn on_past(check: &Check, past: Result<&Past, &Absence>, kinship: Kinship, terms: &Terms<'_>) -> Tried {
    let mut tried = Tried {
        check: check.name.clone(),
        standing: Standing::Demoted,
        reason: Reason::ShortHistory,
        detail: Text::default(),
        baseline: None,
        trial: Trial::default(),
        power: Vec::new(),
    };
    // What is known is the past of the traffic alone, in which the metric was not there to be counted.
    if kinship.is_added {
        return settled(tried, check.weight, kinship, Reason::ShortHistory);
    }
    let blocks = match past {
        Ok(past) => Blocks::of(past, terms.block),
        Err(why) => {
            let is_nothing = *why == Absence::NoData && !kinship.is_seen && !kinship.is_configured;
            let reason = if is_nothing { Reason::NoData } else { Reason::ShortHistory };
            return settled(tried, check.weight, kinship, reason);
        }
    };
    let counted =
        blocks.shown.iter().flatten().fold(Counts::default(), |sum, block| sum.plus(seen(check, &block.tally)));
    let seconds = blocks.every.as_secs_f64() * blocks.answered as f64;
    if counted.total == 0 {
        let is_empty = seconds >= EMPTY_SECONDS;
        return settled(tried, check.weight, kinship, if is_empty { Reason::NoData } else { Reason::ShortHistory });
    }
    let calibration = blocks.calibration(check);
    tried.baseline = Some(blocks.baseline(check, counted, seconds, &calibration));
    tried.power = match &check.sli {
        Sli::Level { .. } => level::power(check, &blocks.shown, terms),
        _ => power(check, counted, seconds, &calibration, terms),
    };
    if check.aim == Aim::Guard {
        tried.trial = blocks.trial(check, &calibration, terms);
    }
    let is_blind = !tried.power.is_empty()
        && tried.power.iter().all(|power| power.smallest.is_none())
        && !is_seen_together(check, counted, seconds, &calibration, terms);
    let is_short = seconds < SHORT_SECONDS || tried.trial.rollouts == 0;
    let reason = if tried.trial.is_noisy() {
        Reason::Noisy
    } else if is_blind {
        Reason::Blind
    } else if check.aim == Aim::Improvement {
        Reason::Improvement
    } else if is_short {
        Reason::ShortHistory
    } else {
        Reason::Sound
    };
    settled(tried, check.weight, kinship, reason)
}

/// What a reason means for a check of this weight.
fn settled(tried: Tried, weight: Weight, kinship: Kinship, reason: Reason) -> Tried {
    let standing = match (reason, weight) {
        (Reason::NoData, _) => Standing::Rejected,
        // What advises only has nothing to lose.
        (_, Weight::Advisory) | (Reason::Sound | Reason::Improvement, Weight::Critical) => Standing::Admitted,
        (Reason::ShortHistory, Weight::Critical) if kinship.is_configured => Standing::Admitted,
        (_, Weight::Critical) => Standing::Demoted,
    };
    let detail = detail(&tried, reason, standing, kinship);
    Tried { standing, reason, detail: Text::new(detail), ..tried }
}

fn detail(tried: &Tried, reason: Reason, standing: Standing, kinship: Kinship) -> String {
    match (reason, standing) {
        (Reason::NoData, _) => "its series showed nothing in the past: look at the metric's labels and values with \
                                search_metrics and get_metric_profile, and widen the matchers"
            .into(),
        (Reason::Noisy, _) => {
            let Trial { alarms, rollouts } = tried.trial;
            format!(
                "it would have rolled back {alarms} of {rollouts} rollouts in which nothing had changed: raise \
                 largest_ratio, or measure more traffic"
            )
        }
        (Reason::Blind, _) => "no stage has the traffic for it to see harm: measure more traffic, or something that \
                               happens more often"
            .into(),
        (Reason::ShortHistory, Standing::Demoted) if kinship.is_added => {
            "the change adds its metric, so that it has no past: it advises only".into()
        }
        (Reason::ShortHistory, Standing::Demoted) => "too little is known of its past to try it, so that it advises \
                                                      only: narrow a configured SLI for one that decides"
            .into(),
        (Reason::ShortHistory, _) => "too little is known of its past to try it".into(),
        _ => String::new(),
    }
}

/// What a tally holds: bad among all; of a gauge its readings and of a mix its requests, of which none is bad.
fn seen(check: &Check, tally: &Tally) -> Counts {
    if let Some(counts) = stats::counts(check, tally) {
        return counts;
    }
    let total = match tally {
        Tally::Samples(samples) => samples.iter().filter(|sample| sample.is_finite()).count() as u64,
        Tally::Mix(mix) => mix.iter().fold(0_u64, |sum, (_, n)| sum.saturating_add(*n)),
        Tally::Counts(_) | Tally::Histogram(_) => 0,
    };
    Counts { bad: 0, total }
}

impl Blocks {
    /// The newest part of the past, in blocks of at least this length.
    fn of(past: &Past, block: Duration) -> Self {
        let every = past.every.max(Duration::from_millis(1));
        let each = (block.as_secs_f64() / every.as_secs_f64()).ceil().clamp(1.0, 1e6) as usize;
        let newest = past.blocks.len().saturating_sub(BLOCKS_MAX.saturating_mul(each));
        let kept = past.blocks.get(newest..).unwrap_or_default();
        let mut blocks = Self { every: every.saturating_mul(each as u32), shown: Vec::new(), answered: 0 };
        for group in kept.chunks(each) {
            let sum =
                group.iter().filter_map(|block| block.as_ref().ok()).fold(
                    None,
                    |sum: Option<Reading>, block| match sum {
                        None => Some(block.clone()),
                        Some(sum) => sum.plus(block).or(Some(sum)),
                    },
                );
            let is_answered = sum.is_some() || group.iter().any(|block| matches!(block, Err(Absence::NoData)));
            blocks.answered += usize::from(is_answered);
            blocks.shown.push(sum);
        }
        blocks
    }

    /// What is learnt of the noise: from pods, or from slices of time where pods are not told apart.
    fn calibration(&self, check: &Check) -> Calibration {
        let mut learner = Learner::default();
        let mut has_pods = false;
        for reading in self.shown.iter().flatten() {
            let pods: Vec<(&str, Counts)> = reading
                .parts_of(PartKind::Pod)
                .filter_map(|pod| Some((pod.name.as_str(), stats::counts(check, &pod.tally)?)))
                .collect();
            has_pods |= pods.len() > 1;
            learner.observe(self.every, &pods);
        }
        if has_pods {
            return learner.calibration();
        }
        // Blocks in a row stand for pods: how bad events come together in time is seen, how pods differ is not.
        let wholes = self.shown.iter().flatten().filter_map(|reading| stats::counts(check, &reading.tally));
        let mut slices = vec![Vec::new(); SLICES];
        for (at, whole) in wholes.enumerate() {
            if let Some(slice) = slices.get_mut(at % SLICES) {
                slice.push(whole);
            }
        }
        let learnt = Calibration::learn(&History { every: self.every.saturating_mul(SLICES as u32), pods: slices });
        let Calibration { inflation, base_rate, .. } = learnt;
        Calibration { inflation, base_rate, ..Calibration::untrusted() }
    }

    fn baseline(&self, check: &Check, counted: Counts, seconds: f64, calibration: &Calibration) -> PastLevel {
        let full = self.shown.iter().flatten().filter(|block| seen(check, &block.tally).total > 0).count();
        let rate = match &check.sli {
            Sli::Level { .. } => level::mean(&self.shown).unwrap_or_default(),
            _ => counted.rate().unwrap_or_default(),
        };
        PastLevel {
            rate,
            per_second: counted.total as f64 / seconds.max(0.001),
            empty: 1.0 - full as f64 / self.answered.max(1) as f64,
            seconds: seconds as u64,
            is_calibrated: calibration.is_trusted,
        }
    }

    /// Rollouts in which nothing had changed.
    fn trial(&self, check: &Check, calibration: &Calibration, terms: &Terms<'_>) -> Trial {
        let lasts: f64 = terms.stages.iter().map(|(_, bake)| bake.as_secs_f64()).sum();
        let watch = Duration::from_secs_f64(lasts.clamp(WATCH_SECONDS.0, WATCH_SECONDS.1));
        let (safe_ratio, pod_incident) = (terms.safe_ratio, terms.pod_incident);
        let setting = Setting { check, calibration, safe_ratio, pod_incident };
        // What is proof for a rollout with this check alone: no smaller evidence could roll back.
        let proof = if terms.alpha > 0.0 && terms.alpha < 1.0 { -terms.alpha.ln() } else { terms.log_threshold };
        let (alarms, rollouts) = stats::pretended(&self.shown, self.every, watch, proof, &setting);
        Trial { alarms, rollouts }
    }
}

/// The traffic and criterion of a check of counts at the past's traffic; `None` for a kind without a forecast.
fn load(
    check: &Check,
    counted: Counts,
    seconds: f64,
    calibration: &Calibration,
    terms: &Terms<'_>,
) -> Option<(Load, Criterion)> {
    let set = Load::of(check, calibration, CANARY_PODS, terms.block, terms.pod_incident)?;
    let bad_rate = ((counted.bad as f64 + 0.5) / (counted.total as f64 + 1.0)).max(BAD_RATE_MIN);
    let load = Load { requests_per_second: counted.total as f64 / seconds.max(0.001), bad_rate, ..set };
    let criterion = Criterion { safe_ratio: terms.safe_ratio, ..Criterion::of(check, terms.log_threshold) };
    Some((load, criterion.among_pods(calibration, CANARY_PODS)))
}

fn power(check: &Check, counted: Counts, seconds: f64, calibration: &Calibration, terms: &Terms<'_>) -> Vec<Power> {
    let Some((load, criterion)) = load(check, counted, seconds, calibration, terms) else { return Vec::new() };
    let Criterion { ratio_max, log_threshold, .. } = criterion;
    let of_stage = |(share, bake): &(Share, Duration)| {
        let load = Load { share: share.fraction(), ..load };
        let twice = time_to_detect(&load, 2.0, ratio_max, log_threshold).value();
        Power {
            share: *share,
            smallest: smallest_detectable(&load, *bake, ratio_max, log_threshold).value(),
            twice_seconds: twice.map(|time| time.as_secs_f64()),
        }
    };
    terms.stages.iter().map(of_stage).collect()
}

/// Whether all stages together would see some harm: evidence carries over.
fn is_seen_together(
    check: &Check,
    counted: Counts,
    seconds: f64,
    calibration: &Calibration,
    terms: &Terms<'_>,
) -> bool {
    let Some((load, criterion)) = load(check, counted, seconds, calibration, terms) else { return false };
    let legs: Vec<Leg> = terms
        .stages
        .iter()
        .map(|(share, bake)| Leg { load: Load { share: share.fraction(), ..load }, lasts: *bake })
        .collect();
    smallest_detectable_over(&legs, criterion.ratio_max, criterion.log_threshold).value().is_some()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use rand_distr::{Binomial, Distribution};

    use super::*;
    use crate::domain::{CheckName, Direction, Match, Origin, Part, Selector, Split};

    const LOOK: Duration = Duration::from_secs(15);
    const OWN: Kinship = Kinship { is_added: false, is_configured: false, is_seen: true };
    const CONFIGURED: Kinship = Kinship { is_configured: true, ..OWN };

    fn stages() -> Vec<(Share, Duration)> {
        let stage = |points| (Share::from_basis_points(points).unwrap(), Duration::from_secs(900));
        vec![stage(500), stage(2_500), stage(10_000)]
    }

    fn terms(stages: &[(Share, Duration)]) -> Terms<'_> {
        Terms {
            stages,
            alpha: 0.001,
            log_threshold: 7.6,
            safe_ratio: 2.0,
            block: LOOK,
            pod_incident: Duration::from_secs(180),
        }
    }

    fn check(sli: Sli) -> Check {
        Check {
            name: CheckName::new("x"),
            sli,
            direction: Direction::HigherIsWorse,
            ratio_max: 1.5,
            limit: None,
            aim: Aim::Guard,
            weight: Weight::Critical,
            origin: Origin::Model,
            rationale: Text::default(),
            lines: Vec::new(),
            split: Split::default(),
        }
    }

    fn errors() -> Check {
        let all = Selector::metric("requests");
        check(Sli::Ratio { bad: all.clone().with("code", Match::Is("500".into())), total: all })
    }

    fn whole(parts: Vec<Part>) -> Reading {
        let sum = parts.iter().skip(1).fold(parts[0].tally.clone(), |sum, pod| sum.plus(&pod.tally).unwrap());
        Reading { tally: sum, parts }
    }

    /// Pods whose tally at a look is drawn.
    fn past(pods: usize, looks: usize, mut draw: impl FnMut(usize, usize, &mut StdRng) -> Tally) -> Past {
        let mut rng = StdRng::seed_from_u64(7);
        let mut part = |pod: usize, look| {
            let name = Text::new(format!("pod-{pod}"));
            Part { kind: PartKind::Pod, name, tally: draw(pod, look, &mut rng) }
        };
        let blocks = (0..looks).map(|look| Ok(whole((0..pods).map(|pod| part(pod, look)).collect()))).collect();
        Past { every: LOOK, blocks }
    }

    fn counts(rng: &mut StdRng, rate: f64, total: u64) -> Tally {
        Tally::Counts(Counts { bad: Binomial::new(total, rate).unwrap().sample(rng), total })
    }

    fn quiet(pods: usize, looks: usize) -> Past {
        past(pods, looks, |_, _, rng| counts(rng, 0.01, 300))
    }

    fn tried(check: &Check, past: &Past, kinship: Kinship) -> Tried {
        on_past(check, Ok(past), kinship, &terms(&stages()))
    }

    fn verdict(tried: &Tried) -> (Standing, Reason) {
        (tried.standing, tried.reason)
    }

    #[test]
    fn a_steady_past_admits_and_tells_what_is_seen_at_each_stage() {
        let tried = tried(&errors(), &quiet(6, 500), OWN);
        assert_eq!(verdict(&tried), (Standing::Admitted, Reason::Sound), "{tried:?}");
        let baseline = tried.baseline.unwrap();
        assert!((baseline.rate - 0.01).abs() < 0.002 && (baseline.per_second - 120.0).abs() < 0.1, "{baseline:?}");
        assert_eq!((baseline.empty, baseline.seconds, baseline.is_calibrated), (0.0, 7_500, true));
        // Stages of 45 minutes: two whole watches of six pods and most of a third.
        assert_eq!((tried.trial.alarms, tried.trial.rollouts), (0, 18));
        let smallest: Vec<_> = tried.power.iter().map(|power| power.smallest).collect();
        assert!(smallest[1].unwrap() < smallest[0].unwrap() && smallest[2].is_none(), "{smallest:?}");
        assert!(tried.power[1].twice_seconds.unwrap() < 900.0, "{:?}", tried.power);
    }

    #[test]
    fn a_check_that_alarms_on_its_own_past_only_advises() {
        // Each pod in turn has three times the level for half an hour.
        let is_high = |pod: usize, look: usize| (180 * pod + 60..180 * pod + 180).contains(&look);
        let gauge = check(Sli::Level { gauge: Selector::metric("g") });
        let moody = past(5, 900, |pod, look, rng| {
            Tally::Samples(vec![rng.random_range(9.0..11.0) * if is_high(pod, look) { 3.0 } else { 1.0 }])
        });
        let tried = tried(&gauge, &moody, CONFIGURED);
        assert_eq!(verdict(&tried), (Standing::Demoted, Reason::Noisy), "{tried:?}");
        assert!(tried.trial.is_noisy() && tried.detail.as_str().contains("nothing had changed"), "{tried:?}");
        let signal = Check { weight: Weight::Advisory, ..gauge };
        let tried = on_past(&signal, Ok(&moody), OWN, &terms(&stages()));
        assert_eq!(verdict(&tried), (Standing::Admitted, Reason::Noisy), "what advises only has nothing to lose");
    }

    #[test]
    fn nothing_in_the_past_is_rejected_and_little_past_is_not() {
        let nothing = |looks| Past { every: LOOK, blocks: vec![Err(Absence::NoData); looks] };
        let enough = (EMPTY_SECONDS / 15.0) as usize;
        assert_eq!(verdict(&tried(&errors(), &nothing(enough), CONFIGURED)), (Standing::Rejected, Reason::NoData));
        assert_eq!(
            verdict(&tried(&errors(), &nothing(enough - 1), CONFIGURED)),
            (Standing::Admitted, Reason::ShortHistory)
        );
        let added = Kinship { is_added: true, is_configured: false, is_seen: false };
        assert_eq!(verdict(&tried(&errors(), &nothing(500), added)), (Standing::Demoted, Reason::ShortHistory));
        let traffic_alone = past(3, 500, |_, _, _| Tally::Counts(Counts { bad: 0, total: 50 }));
        let of_added = tried(&errors(), &traffic_alone, added);
        assert_eq!(verdict(&of_added), (Standing::Demoted, Reason::ShortHistory), "it was not there to be counted");
        assert_eq!(of_added.baseline, None);
        let unheard = Past { every: LOOK, blocks: vec![Err(Absence::Unavailable(Text::default())); 500] };
        assert_eq!(verdict(&tried(&errors(), &unheard, OWN)), (Standing::Demoted, Reason::ShortHistory));
        let no_requests = past(3, 100, |_, _, _| Tally::Counts(Counts::default()));
        assert_eq!(verdict(&tried(&errors(), &no_requests, OWN)), (Standing::Rejected, Reason::NoData));
    }

    #[test]
    fn a_source_that_knows_no_past_rejects_only_what_was_never_seen() {
        let of = |absence: Absence, kinship| verdict(&on_past(&errors(), Err(&absence), kinship, &terms(&stages())));
        let unseen = Kinship { is_seen: false, ..OWN };
        assert_eq!(of(Absence::NoData, unseen), (Standing::Rejected, Reason::NoData));
        assert_eq!(of(Absence::NoData, OWN), (Standing::Demoted, Reason::ShortHistory));
        assert_eq!(of(Absence::NoData, CONFIGURED), (Standing::Admitted, Reason::ShortHistory));
        assert_eq!(of(Absence::Unavailable(Text::default()), unseen), (Standing::Demoted, Reason::ShortHistory));
    }

    #[test]
    fn short_history_decides_only_where_the_operator_said_what_is_bad() {
        let short = quiet(4, 100);
        assert_eq!(verdict(&tried(&errors(), &short, CONFIGURED)), (Standing::Admitted, Reason::ShortHistory));
        assert_eq!(verdict(&tried(&errors(), &short, OWN)), (Standing::Demoted, Reason::ShortHistory));
        // A long past in which pods are not told apart says nothing of false alarms.
        let mut untold = quiet(4, 500);
        untold.blocks.iter_mut().flatten().for_each(|reading| reading.parts.clear());
        let tried = tried(&errors(), &untold, OWN);
        assert_eq!(verdict(&tried), (Standing::Demoted, Reason::ShortHistory));
        assert_eq!((tried.trial.rollouts, tried.baseline.unwrap().is_calibrated), (0, false));
        assert!(tried.power[1].smallest.is_some(), "what it sees is foretold all the same");
    }

    #[test]
    fn a_trickle_of_traffic_is_blind() {
        let trickle =
            past(4, 500, |pod, look, _| Tally::Counts(Counts { bad: 0, total: u64::from(look % 60 == 0 && pod == 0) }));
        let tried = tried(&errors(), &trickle, CONFIGURED);
        assert_eq!(verdict(&tried), (Standing::Demoted, Reason::Blind), "{tried:?}");
        assert!(tried.baseline.unwrap().empty > 0.9);
    }

    #[test]
    fn what_is_meant_to_improve_advises_and_is_measured() {
        let hoped = Check { aim: Aim::Improvement, weight: Weight::Advisory, ..errors() };
        let tried = tried(&hoped, &quiet(4, 500), OWN);
        assert_eq!(verdict(&tried), (Standing::Admitted, Reason::Improvement));
        assert!(tried.baseline.is_some() && !tried.power.is_empty());
    }

    #[test]
    fn latency_gauges_and_mixes_are_tried_with_their_own_tests() {
        let histogram = |_: usize, _: usize, rng: &mut StdRng| {
            let slow = (0..200).filter(|_| rng.random_bool(0.05)).count() as u64;
            Tally::Histogram(crate::domain::Histogram {
                bounds: vec![0.1, 0.5],
                counts: vec![150, 50 - slow.min(50), slow],
            })
        };
        let latency = check(Sli::Latency { histogram: Selector::metric("h"), slow_above_seconds: 0.5 });
        let of_latency = tried(&latency, &past(4, 400, histogram), OWN);
        assert_eq!(verdict(&of_latency), (Standing::Admitted, Reason::Sound), "{of_latency:?}");
        let gauge = |_: usize, _: usize, rng: &mut StdRng| Tally::Samples(vec![10.0 + rng.random::<f64>()]);
        let level = check(Sli::Level { gauge: Selector::metric("g") });
        let of_level = tried(&level, &past(4, 400, gauge), OWN);
        assert_eq!(verdict(&of_level), (Standing::Admitted, Reason::Sound), "{of_level:?}");
        let smallest = of_level.power[0].smallest.unwrap();
        assert!((1.5..2.0).contains(&smallest) && of_level.power[2].smallest.is_none(), "{:?}", of_level.power);
        assert!((of_level.baseline.unwrap().rate - 10.5).abs() < 0.1);
        let mix = check(Sli::Mix { counter: Selector::metric("m"), by: "model".into() });
        let models = |_: usize, _: usize, rng: &mut StdRng| {
            let large = (0..100).filter(|_| rng.random_bool(0.3)).count() as u64;
            Tally::Mix(vec![("large".into(), large), ("small".into(), 100 - large)])
        };
        let of_mix = tried(&mix, &past(4, 400, models), OWN);
        assert_eq!((verdict(&of_mix), of_mix.power.len()), ((Standing::Admitted, Reason::Sound), 0), "{of_mix:?}");
        assert!(of_level.trial.rollouts > 0 && of_latency.trial.rollouts > 0 && of_mix.trial.rollouts > 0);
    }

    #[test]
    fn blocks_are_added_up_to_the_length_of_evidence_and_the_oldest_go() {
        let short = Past { every: Duration::from_secs(5), ..quiet(3, 10) };
        let blocks = Blocks::of(&short, LOOK);
        assert_eq!((blocks.every, blocks.shown.len(), blocks.answered), (LOOK, 4, 4));
        let long = Past { every: LOOK, blocks: vec![Err(Absence::NoData); BLOCKS_MAX + 5] };
        assert_eq!(Blocks::of(&long, LOOK).shown.len(), BLOCKS_MAX);
    }

    #[test]
    fn absurd_pasts_give_numbers_all_the_same() {
        let absurd = [
            Tally::Counts(Counts { bad: u64::MAX, total: u64::MAX }),
            Tally::Counts(Counts { bad: u64::MAX, total: 1 }),
            Tally::Samples(vec![f64::NAN, f64::INFINITY]),
            Tally::Samples(vec![f64::MAX, -f64::MAX]),
            Tally::Mix(vec![(String::new(), u64::MAX); 3]),
            Tally::Histogram(crate::domain::Histogram::default()),
        ];
        let slis = [
            errors().sli,
            Sli::Latency { histogram: Selector::metric("h"), slow_above_seconds: f64::NAN },
            Sli::Level { gauge: Selector::metric("g") },
            Sli::Mix { counter: Selector::metric("m"), by: String::new() },
            Sli::Liveness { series: Selector::metric("l") },
        ];
        for tally in absurd {
            for sli in &slis {
                let past = past(3, 300, |_, _, _| tally.clone());
                let tried = tried(&check(sli.clone()), &past, OWN);
                let is_number = |n: f64| n.is_finite();
                assert!(tried.baseline.is_none_or(|b| is_number(b.rate) && is_number(b.per_second)), "{tried:?}");
                assert!(tried.power.iter().all(|power| power.smallest.is_none_or(is_number)), "{tried:?}");
            }
        }
        let zero = Past { every: Duration::ZERO, blocks: quiet(2, 3).blocks };
        assert_eq!(tried(&errors(), &zero, OWN).reason, Reason::ShortHistory);
    }
}
