//! What a rollout keeps of each of its checks: the running test, and the counts that rails and people read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ServicePolicy,
    intended::{self, Intended},
    standing_in::StandIn,
    warm_up::Cold,
};
use crate::{
    domain::{
        Absence, Aim, Arm, Baseline, Check, CheckBrief, CheckId, Concern, Counts, Evidence, Finding, PartKind, Reading,
        Sli, Tally, Text, Timestamp, millis,
    },
    rails::CheckFacts,
    stats::{
        self, Block, Calibration, Running, SequentialTest, Setting, Thinning,
        no_control::Expectation,
        planning::{self, Criterion, Foreseen, Leg, Load, Outlook},
    },
};

/// Windows that a hard limit looks back over, the newest included.
const RECENT_WINDOWS: usize = 4;

/// Evidence at which a check counts as leaning the wrong way: an e-value of 20, far from proof and far from chance.
const LEANING_LOG_E_VALUE: f64 = 2.995_732_273_553_991;

/// Looks that are being added up to a block of evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pending {
    control: Reading,
    canary: Reading,
    #[serde(with = "millis")]
    span: Duration,
}

/// What both arms counted side by side since the stage began: the traffic that forecasts start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Compared {
    control: Counts,
    canary: Counts,
    canary_pods: u8,
    #[serde(with = "millis")]
    lasted: Duration,
}

impl Compared {
    fn add(&mut self, control: Counts, canary: Counts, canary_pods: usize, span: Duration) {
        self.control = self.control.plus(control);
        self.canary = self.canary.plus(canary);
        self.canary_pods = u8::try_from(canary_pods).unwrap_or(u8::MAX);
        self.lasted = self.lasted.saturating_add(span);
    }
}

/// One check's record within a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    test: Running,
    calibration: Calibration,
    control: Counts,
    canary: Counts,
    this_stage: Counts,
    compared: Compared,
    recent: [Counts; RECENT_WINDOWS],
    latest: Option<Result<Counts, Absence>>,
    latest_control: Option<Absence>,
    /// The concern that people were told of last.
    told: Option<Concern>,
    /// What both arms showed since the last block of evidence.
    pending: Option<Pending>,
    /// What control and the canary are owed of their estimated looks.
    thinning: [Thinning; 2],
    /// Whether the newest look was estimated.
    is_estimated: bool,
    /// What is compared with where there is no control.
    stand_in: StandIn,
    /// An improvement was proven once; people were told, and proof does not lapse.
    is_confirmed: bool,
}

/// One look at both arms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// How long it is.
    pub(super) span: Duration,
    /// Whether a server estimated what was counted.
    pub(super) is_estimated: bool,
    /// Whether the stage has a control: then only what both arms showed is a sample.
    pub(super) is_compared: bool,
}

/// How looks become blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The shortest block.
    pub(super) block: Duration,
    /// A canary this many times as bad must not be called safe.
    pub(super) safe_ratio: f64,
    /// How long one pod may fail by itself without that being proof.
    pub(super) pod_incident: Duration,
}

impl Pace {
    pub(super) fn of(policy: &ServicePolicy) -> Self {
        Self { block: policy.measure_every, safe_ratio: policy.safe_ratio, pod_incident: policy.pod_incident }
    }
}

impl Record {
    /// `calibration`: what earlier rollouts taught of its noise.
    pub(super) fn start(check: &Check, calibration: Calibration) -> Self {
        Self {
            test: Running::start(check),
            calibration,
            control: Counts::default(),
            canary: Counts::default(),
            this_stage: Counts::default(),
            compared: Compared::default(),
            recent: [Counts::default(); RECENT_WINDOWS],
            latest: None,
            latest_control: None,
            told: None,
            pending: None,
            thinning: [Thinning::default(); 2],
            is_estimated: false,
            stand_in: StandIn::default(),
            is_confirmed: false,
        }
    }

    /// Takes in one look at both arms. What only one arm has cannot be compared and is no evidence; the hard limit and
    /// the least samples still see what the canary counted. A look of which an arm is `estimated` is evidence only as
    /// far as [`Thinning`] says; it counts whole for everything else.
    ///
    /// What is cold is left out of the evidence and of the samples; it is returned, as far as it is the canary's.
    pub(super) fn measured(
        &mut self,
        check: &Check,
        [control, canary]: [Result<Reading, Absence>; 2],
        cold: &Cold,
        Look { span, is_estimated: estimated, is_compared }: Look,
        pace: Pace,
    ) -> Counts {
        self.is_estimated = estimated;
        let counted = |reading: &Result<Reading, Absence>| {
            reading.as_ref().map_err(Clone::clone).and_then(|reading| seen(check, &reading.tally))
        };
        let (control_counts, canary_counts) = (counted(&control), counted(&canary));
        let warm = |arm, reading: &Result<Reading, Absence>| {
            let reading = cold.warm(arm, reading.as_ref().ok()?)?;
            Some((seen(check, &reading.tally).ok()?, reading))
        };
        let (warm_control, warm_canary) = (warm(Arm::Control, &control), warm(Arm::Canary, &canary));
        let warm = warm_canary.as_ref().map(|(counts, _)| *counts).unwrap_or_default();
        // A stage that is compared with control is not promoted on what the canary served while control was not seen.
        let samples = if is_compared && warm_control.is_none() { Counts::default() } else { warm };
        if let (Some((old, control)), Some((new, canary))) = (warm_control, warm_canary) {
            self.compared.add(old, new, canary.parts_of(PartKind::Pod).count(), span);
            let [of_control, of_canary] = &mut self.thinning;
            let (control, canary) =
                if estimated { (of_control.thin(&control), of_canary.thin(&canary)) } else { (control, canary) };
            self.add_to_block(check, Pending { control, canary, span }, pace);
            self.control = self.control.plus(old);
            self.canary = self.canary.plus(new);
        }
        let newest = canary_counts.as_ref().copied().unwrap_or_default();
        self.recent.rotate_left(1);
        if let Some(last) = self.recent.last_mut() {
            *last = newest;
        }
        self.this_stage = self.this_stage.plus(samples);
        self.latest = Some(canary_counts);
        self.latest_control = control_counts.err();
        Counts { bad: newest.bad.saturating_sub(warm.bad), total: newest.total.saturating_sub(warm.total) }
    }

    /// Takes what has been learnt since. Not while a block is being filled: it must be judged by what was known before
    /// it began.
    pub(super) fn recalibrate(&mut self, calibration: impl FnOnce() -> Calibration) {
        if self.pending.is_none() {
            self.calibration = calibration();
        }
    }

    /// Adds a look to the block. One of another shape ends the block before it; one that makes it long enough ends it.
    fn add_to_block(&mut self, check: &Check, look: Pending, pace: Pace) {
        let sum = self.pending.as_ref().and_then(|so_far| {
            let control = so_far.control.plus(&look.control)?;
            Some(Pending { control, canary: so_far.canary.plus(&look.canary)?, span: so_far.span + look.span })
        });
        if sum.is_none() {
            self.end_block(check, pace);
        }
        // Blocks are longer where little is known of the noise, though not so long that an incident that is taken for
        // proof would be over before they are. A reading that comes a moment early ends its block all the same.
        let asked = self.calibration.block.min(pace.pod_incident / 3);
        let almost = pace.block.max(asked).saturating_sub(look.span / 2);
        let pending = sum.unwrap_or(look);
        let is_full = pending.span >= almost;
        self.pending = Some(pending);
        if is_full {
            self.end_block(check, pace);
        }
    }

    /// The block is long enough, or the traffic split changes: the statistics take it in.
    pub(super) fn end_block(&mut self, check: &Check, pace: Pace) {
        if let Some(Pending { control, canary, span }) = self.pending.take() {
            let setting = Setting {
                check,
                calibration: &self.calibration,
                safe_ratio: pace.safe_ratio,
                pod_incident: pace.pod_incident,
            };
            // Of an improvement it is asked whether the old version is worse: the same test with the arms exchanged.
            let block = match check.aim {
                Aim::Guard => Block { control: &control, canary: &canary, span },
                Aim::Improvement => Block { control: &canary, canary: &control, span },
            };
            self.test.observe(&setting, &block);
        }
    }

    /// No answer came for a window: what was seen before it is not what is there now.
    pub(super) fn missed(&mut self) {
        self.latest = Some(Err(Absence::Unavailable(Text::new("no answer in time"))));
    }

    /// A new stage: what was seen of the one before says nothing of it. The evidence carries over.
    pub(super) fn stage_began(&mut self) {
        self.this_stage = Counts::default();
        self.compared = Compared::default();
        self.recent = [Counts::default(); RECENT_WINDOWS];
        self.latest = None;
        self.latest_control = None;
        self.is_estimated = false;
        self.stand_in.stage_began();
    }

    /// From now on there is no control.
    pub(super) fn alone_since(&mut self, now: Timestamp) {
        self.stand_in.alone_since(now);
    }

    /// What it is compared with in place of a control is chosen.
    pub(super) fn stand_in_chosen(&mut self, baseline: Baseline, expectation: Option<&Expectation>) {
        self.stand_in.chosen(baseline, expectation);
    }

    /// What is compared with in place of a control, and what it says.
    pub(super) fn stand_in(&self) -> &StandIn {
        &self.stand_in
    }

    /// The canary's look is compared with what stands in for a control.
    pub(super) fn look_alone(&mut self, check: &Check, canary: &Reading, through: Timestamp, estimated: bool) {
        self.stand_in.look(check, canary, (through, estimated), &self.calibration);
    }

    /// Requests of both arms in a second, as this stage has shown them.
    pub(super) fn requests_per_second(&self) -> Option<f64> {
        let Compared { control, canary, lasted, .. } = self.compared;
        let total = control.total.saturating_add(canary.total);
        (!lasted.is_zero() && total > 0).then(|| total as f64 / lasted.as_secs_f64())
    }

    /// Whether what was counted in the newest window was estimated by a server.
    pub(super) fn is_estimated(&self) -> bool {
        self.is_estimated
    }

    /// What the canary counted in the newest window.
    pub(super) fn newest(&self) -> Option<Counts> {
        self.latest.as_ref().and_then(|latest| latest.as_ref().ok()).copied()
    }

    /// Why an arm had no tally in the newest window, the canary first.
    pub(super) fn absent(&self) -> Option<String> {
        let canary = self.latest.as_ref().and_then(|latest| latest.as_ref().err()).map(|why| format!("canary: {why}"));
        canary.or_else(|| self.latest_control.as_ref().map(|why| format!("control: {why}")))
    }

    /// What the test knows, as far as judge and rails need it.
    fn evidence(&self, log_threshold: f64) -> Evidence {
        let effect = match (self.control.rate(), self.canary.rate()) {
            (Some(old), Some(new)) if old > 0.0 => Some(new / old),
            (Some(_) | None, Some(_) | None) => None,
        };
        Evidence {
            log_e_value: self.test.log_e_value(),
            log_threshold,
            effect,
            interval: None,
            log_e_safe: self.test.log_e_safe(),
            is_calibrated: self.calibration.is_trusted,
            more_seconds: None,
            control: self.control,
            canary: self.canary,
        }
    }

    /// What the test knows, with all that people want to see of it.
    pub(super) fn told(&self, check: &Check, log_threshold: f64, pace: Pace) -> Evidence {
        let mut evidence = self.evidence(log_threshold);
        if let Some((estimate, interval)) = self.test.effect() {
            let (estimate, interval) = match check.aim {
                Aim::Guard => (estimate, interval),
                Aim::Improvement => intended::turned(check, estimate, interval),
            };
            (evidence.effect, evidence.interval) = (Some(estimate), Some(interval));
        }
        if check.aim == Aim::Guard && !evidence.is_conclusive() && !evidence.is_shown_safe() {
            let Compared { control, canary, lasted, .. } = self.compared;
            let of_stage = Evidence { control, canary, ..evidence };
            let foreseen = self.load(check, pace).map(|load| {
                planning::until_decided(&of_stage, &load, &self.criterion(check, log_threshold, pace), lasted)
            });
            evidence.more_seconds = foreseen.and_then(Foreseen::value).map(|more| more.as_secs_f64());
        }
        evidence
    }

    /// What the check can see within a time at the stage's traffic; `None` before there is any, and for a check that
    /// counts nothing.
    pub(super) fn outlook(&self, check: &Check, log_threshold: f64, pace: Pace, lasts: Duration) -> Option<Outlook> {
        let Compared { control, canary, lasted, .. } = self.compared;
        if check.aim == Aim::Improvement || control.total == 0 || canary.total == 0 {
            return None;
        }
        let load = self.load(check, pace)?.seen(control, canary, lasted);
        let criterion = self.criterion(check, log_threshold, pace);
        Some(planning::stage_outlook(&[], &Leg { load, lasts }, &criterion))
    }

    fn load(&self, check: &Check, pace: Pace) -> Option<Load> {
        Load::of(check, &self.calibration, self.compared.canary_pods, pace.block, pace.pod_incident)
    }

    fn criterion(&self, check: &Check, log_threshold: f64, pace: Pace) -> Criterion {
        let criterion = Criterion { safe_ratio: pace.safe_ratio, ..Criterion::of(check, log_threshold) };
        criterion.among_pods(&self.calibration, self.compared.canary_pods)
    }

    /// What else stands out in its data. Of an improvement the test looks at the old version's pods, which are nobody's
    /// concern.
    pub(super) fn concern(&self, check: &Check) -> Option<Concern> {
        self.test.concern().filter(|_| check.aim == Aim::Guard)
    }

    /// A concern that people have not been told of: each is told once, until another takes its place.
    pub(super) fn new_concern(&mut self, check: &Check) -> Option<Concern> {
        let concern = self.concern(check)?;
        let is_known = self.told.as_ref().is_some_and(|told| told.subject() == concern.subject());
        self.told = Some(concern.clone());
        (!is_known).then_some(concern)
    }

    /// Whether its evidence against the canary reaches this, as a logarithm.
    pub(super) fn leans(&self, check: &Check, log_threshold: f64) -> bool {
        check.aim == Aim::Guard && self.log_e_value() >= log_threshold
    }

    /// The logarithm of its e-value.
    pub(super) fn log_e_value(&self) -> f64 {
        self.test.log_e_value()
    }

    /// `is_proof`: its share of the rollout's evidence is proof against the canary. Proof of an improvement is not.
    pub(super) fn finding(&self, check: &Check, evidence: &Evidence, is_proof: bool) -> Finding {
        match &self.latest {
            _ if is_proof && check.aim == Aim::Guard => Finding::Degraded,
            Some(Ok(_)) if check.aim == Aim::Improvement && (is_proof || self.is_confirmed) => Finding::Healthy,
            Some(Ok(_)) if check.aim == Aim::Improvement => Finding::Inconclusive,
            None | Some(Err(_)) => Finding::NoData,
            Some(Ok(_)) if evidence.log_e_value >= LEANING_LOG_E_VALUE => Finding::Inconclusive,
            Some(Ok(_)) if self.canary.total == 0 => Finding::Inconclusive,
            Some(Ok(_)) => Finding::Healthy,
        }
    }

    /// What has come of an intended effect so far; `None` for a check that guards.
    pub(super) fn intended(&self, check: &Check) -> Option<Intended> {
        match check.aim {
            Aim::Guard => None,
            Aim::Improvement if self.is_confirmed => Some(Intended::Confirmed),
            Aim::Improvement => Some(intended::of_test(check, self.test.effect())),
        }
    }

    /// Whether an intended effect is proven that people have not been told of.
    pub(super) fn is_newly_confirmed(&mut self, check: &Check, is_proof: bool) -> bool {
        let is_new = check.aim == Aim::Improvement && is_proof && !self.is_confirmed;
        self.is_confirmed |= is_new;
        is_new
    }

    /// What a model is told of the check.
    pub(super) fn brief(&self, check: &Check, id: CheckId, weighed: Weighed, pace: Pace) -> CheckBrief {
        let evidence = self.told(check, weighed.log_threshold, pace);
        let finite = |number: Option<f64>| number.filter(|number| number.is_finite());
        CheckBrief {
            check: id,
            kind: Text::new(check.sli.kind()),
            origin: check.origin,
            weight: check.weight,
            aim: check.aim,
            direction: check.direction,
            ratio_max: check.ratio_max,
            finding: self.finding(check, &evidence, weighed.is_proof),
            log_e_value: evidence.log_e_value,
            log_threshold: evidence.log_threshold,
            log_e_safe: evidence.log_e_safe,
            effect: finite(evidence.effect),
            interval: evidence.interval.filter(|interval| interval.low.is_finite() && interval.high.is_finite()),
            more_seconds: finite(evidence.more_seconds),
            control: self.control,
            canary: self.canary,
            this_stage: self.this_stage,
            recent: self.recent(),
        }
    }

    fn recent(&self) -> Counts {
        self.recent.iter().fold(Counts::default(), |sum, counts| sum.plus(*counts))
    }

    /// The facts for judge and rails.
    pub(super) fn facts<'a>(&'a self, check: &'a Check, weighed: Weighed) -> CheckFacts<'a> {
        let evidence = self.evidence(weighed.log_threshold);
        CheckFacts {
            check,
            finding: self.finding(check, &evidence, weighed.is_proof),
            evidence,
            latest: self.latest.as_ref(),
            recent: self.recent(),
            this_stage: self.this_stage,
            unusual: self.stand_in.unusual(),
        }
    }
}

/// What a tally counts for rails and people: bad among all; of a gauge its readings, none of them bad, and of a mix all
/// that was counted.
fn seen(check: &Check, tally: &Tally) -> Result<Counts, Absence> {
    let total_only = |total| Ok(Counts { bad: 0, total });
    match (&check.sli, tally) {
        (Sli::Level { .. }, Tally::Samples(samples)) => total_only(samples.len() as u64),
        (Sli::Mix { .. }, Tally::Mix(mix)) => total_only(mix.iter().fold(0_u64, |sum, (_, n)| sum.saturating_add(*n))),
        _ => stats::counts(check, tally).ok_or_else(|| Absence::Malformed(Text::new("a tally of another shape"))),
    }
}

/// What the evidence of one check means beside that of the rollout's other checks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weighed {
    /// What its logarithm must reach to be proof by itself.
    pub(super) log_threshold: f64,
    /// Whether the rollout's evidence is proof, and this check is what it rests on.
    pub(super) is_proof: bool,
}

/// Weighs the checks of one rollout. Several checks are several chances to be wrong: what counts is the weighted average
/// of their e-values, which is one itself however the checks depend on each other.
pub(super) fn weigh(checks: &[Check], records: &[Record], alpha: f64) -> Vec<Weighed> {
    let weights = stats::multiplicity::weights(&checks.iter().collect::<Vec<_>>());
    let log_e_values: Vec<f64> = records.iter().map(Record::log_e_value).collect();
    let weighted: Vec<(f64, f64)> = weights.iter().copied().zip(log_e_values.iter().copied()).collect();
    let proofs = stats::multiplicity::attributed(&weighted, alpha);
    // An advisory check has no part in the verdict; it is held to what a critical one of equal weight would be.
    let critical = weights.iter().filter(|weight| **weight > 0.0).count().max(1);
    let weigh_one = |((weight, log_e_value), is_proof): ((&f64, &f64), bool)| {
        let log_threshold = if *weight > 0.0 { -(alpha * weight).ln() } else { (critical as f64 / alpha).ln() };
        Weighed { log_threshold, is_proof: is_proof || *log_e_value >= log_threshold }
    };
    weights.iter().zip(&log_e_values).zip(proofs).map(weigh_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{rails, sim::scenario};

    /// Ten looks at a canary that is ten times as bad.
    fn after_ten_looks(estimated: bool) -> Record {
        let check = scenario::bounds().mandatory[0].clone();
        let mut record = Record::start(&check, Calibration::untrusted());
        let pace = Pace { block: Duration::from_secs(30), safe_ratio: 2.0, pod_incident: Duration::from_secs(180) };
        let reading = |bad, total| Ok(Reading::whole(Tally::Counts(Counts { bad, total })));
        for _ in 0..10 {
            let arms = [reading(2, 900), reading(2, 100)];
            let look = Look { span: Duration::from_secs(30), is_estimated: estimated, is_compared: true };
            record.measured(&check, arms, &Cold::default(), look, pace);
        }
        record
    }

    #[test]
    fn estimated_looks_are_less_evidence_and_everything_else_sees_them_whole() {
        let check = scenario::bounds().mandatory[0].clone();
        let (counted, estimated) = (after_ten_looks(false), after_ten_looks(true));
        assert!(counted.log_e_value() > 0.0);
        assert!(estimated.log_e_value() > 0.0, "estimated counts are evidence too");
        assert!(
            estimated.log_e_value() < counted.log_e_value(),
            "{} and {}",
            estimated.log_e_value(),
            counted.log_e_value()
        );
        assert!(estimated.is_estimated() && !counted.is_estimated());
        let weighed = Weighed { log_threshold: 6.9, is_proof: false };
        let facts: [rails::CheckFacts<'_>; 2] = [counted.facts(&check, weighed), estimated.facts(&check, weighed)];
        assert_eq!(facts[0].recent, facts[1].recent);
        assert_eq!((facts[0].this_stage, facts[1].latest), (facts[1].this_stage, facts[0].latest));
        assert_eq!(facts[0].evidence.canary, facts[1].evidence.canary);
    }

    #[test]
    fn a_stage_begins_without_a_word_of_estimates() {
        let mut record = after_ten_looks(true);
        record.stage_began();
        assert!(!record.is_estimated());
    }
}
