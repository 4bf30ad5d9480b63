//! What a stage can see before it begins, and what is still missing while it runs: the time to detect a given effect at
//! a traffic and share, the smallest effect that is seen within a bake time, and the time to show that a canary is safe.
//!
//! # The argument
//! A test rolls back when the logarithm of its e-value reaches `log_threshold`. A canary that is `ratio` times as bad
//! adds `growth` to it with each block (see [`growth`]), so the number of blocks is about
//! `(log_threshold + start) / growth`, rounded up, where `start` is what the mixture costs: the stake is spread over the
//! cells and half of it waits. Where a test limits how fast its evidence grows, no fewer blocks than that are foretold.
//!
//! For latency the rate is the part of requests above the bucket edge; where several edges are judged together, the
//! winner's part of the stake belongs into the threshold. Gauges are in `level`.
//!
//! `start` was fitted to the medians of 201 simulated rollouts each, on independent counts: base rate 0.01 to 1%, ratio 2
//! to 10, share 1 to 50%, 10 to 1,000 requests a second, margin 1 to 1.5, blocks of 15 and 60 s, both paces. At a
//! threshold of 1,000 the forecast was 0.71 to 1.24 of the median at all of 1,566 settings, at 1,000,000 0.82 to 1.18, and
//! at 20, where blocks are few, 0.50 to 1.30. With a dispersion of 0.02 to 0.1 it was 0.80 to 1.67, and within 1.5 at 1,036
//! of 1,042; to show safety, 0.50 to 1.46. This file's tests repeat a part of that with the test that is registered.
//!
//! To show a canary safe is the same question with the arms exchanged: control is then suspected of having more than
//! its share of the bad events.
//!
//! # Limits
//! A forecast is a median for a regression that is there from the beginning, at a steady rate: half of all regressions
//! take longer, one that starts later takes longer by up to as long as it waited, and errors that come in bursts which
//! the dispersion does not know of take longer by the size of a burst. It decides nothing.
//!
//! Sources: Wald, "Sequential tests of statistical hypotheses" (1945) for the divergence as the limit; the tests' own
//! files for their factors.

mod growth;
mod level;
mod load;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::growth::{Clustered, Expected, growth};
pub use self::level::{LevelLoad, level_smallest_detectable, level_time_to_detect};
pub use self::load::{Counted, Load, Pace};
use super::Calibration;
use crate::domain::{Check, Evidence, Share};

/// What a mixture costs: this part of the threshold, and no more than [`START_MOST`] logarithms of wealth. Fitted to
/// simulated medians at thresholds of 20 to 1,000,000; the cells beside the best one help more than their number hurts.
const START_PART: f64 = 0.15;
const START_MOST: f64 = 1.1;
/// A test that lost what it had bet goes on with what waited: no more than this many logarithms behind its start.
const BEHIND_MAX: f64 = 3.0;
/// What a limit of the growth is counted in, and what one block may add at once: a factor of 10.
const PACE_SECONDS: f64 = 15.0;
const ALLOWANCE: f64 = std::f64::consts::LN_10;
/// A pace below this is none that a test has.
const PACE_LEAST: f64 = 0.01;
/// Effects above this are no forecast any more.
const RATIO_MOST: f64 = 1_000.0;
/// Times above this are no forecast any more: a year.
const SECONDS_MOST: f64 = 365.0 * 86_400.0;
/// Blocks are taken as no shorter than this.
const BLOCK_LEAST: Duration = Duration::from_millis(1);
/// Numbers from outside are cut here, so that no product of them overflows.
const LOAD_MOST: f64 = 1e15;
/// Shares that are proposed where one is too small, in basis points.
const SHARES: [u16; 10] = [100, 200, 500, 1_000, 1_500, 2_000, 2_500, 3_000, 4_000, 5_000];
/// Halvings of the range in which the smallest detectable effect is looked for.
const HALVINGS: u32 = 32;

/// Why something is never reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// There is no traffic.
    NoTraffic,
    /// Nothing bad is expected of control, so there is nothing of which to be several times.
    NoBadEvents,
    /// Nobody has the new version.
    NoCanary,
    /// Everybody has the new version: there is no control beside it.
    NoControl,
    /// The effect is no larger than what is tolerated, or so little larger that the test does not tell them apart.
    Tolerated,
    /// Not even the largest effect there can be is seen in the time.
    TooLittleTime,
    /// It would take more than a year.
    TooSlow,
}

/// A forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Foreseen<T> {
    /// What is expected.
    Is(T),
    /// It does not come.
    Never(Obstacle),
}

impl<T> Foreseen<T> {
    /// What is expected, if it comes at all.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Never(_) => None,
        }
    }
}

impl<T> From<Result<T, Obstacle>> for Foreseen<T> {
    fn from(result: Result<T, Obstacle>) -> Self {
        result.map_or_else(Self::Never, Self::Is)
    }
}

/// What has to be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Criterion {
    /// How many times as bad is tolerated, at least 1.
    pub ratio_max: f64,
    /// A canary this many times as bad must not be called safe; above `ratio_max`.
    pub safe_ratio: f64,
    /// Natural logarithm of what the evidence must reach for a rollback.
    pub log_threshold: f64,
}

impl Criterion {
    /// What a check has to tell apart: a canary twice as bad must not be called safe, nor one a third beyond what is
    /// tolerated, where that is more.
    pub fn of(check: &Check, log_threshold: f64) -> Self {
        let ratio_max = at_least_one(check.ratio_max);
        Self { ratio_max, safe_ratio: (ratio_max * 4.0 / 3.0).max(2.0), log_threshold }
    }

    /// The same where so many canary pods differ by themselves as history says: less than that is tolerated by nobody.
    pub fn among_pods(self, calibration: &Calibration, pods: u8) -> Self {
        let ratio_max = self.ratio_max.max(calibration.pod_floor(f64::from(pods)));
        Self { ratio_max, safe_ratio: self.safe_ratio.max(ratio_max * 1.1), ..self }
    }
}

/// A load that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leg {
    /// The load.
    pub load: Load,
    /// How long it lasts.
    pub lasts: Duration,
}

/// What one check can see at one stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// The smallest effect that is detected within the stage's bake time by itself, as a ratio.
    pub smallest: Foreseen<f64>,
    /// The same for a regression that was there from the first stage, since evidence carries over.
    pub smallest_from_first: Foreseen<f64>,
    /// Time to detect a canary that is twice as bad.
    pub twice: Foreseen<Duration>,
    /// Time to detect a canary that is five times as bad.
    pub fivefold: Foreseen<Duration>,
    /// Time to detect one that is `safe_ratio` times as bad: the bake time that the stage would need.
    pub unsafe_ratio: Foreseen<Duration>,
    /// Time to show that a canary which is like control is less than `safe_ratio` times as bad.
    pub safe: Foreseen<Duration>,
    /// Whether a canary that is `safe_ratio` times as bad passes the stage without being detected.
    pub is_blind: bool,
    /// Where it is blind, the next larger share at which the bake time would be enough.
    pub share_needed: Option<Share>,
}

impl Load {
    fn block(&self) -> Duration {
        self.block.max(BLOCK_LEAST)
    }

    /// What a block may lastingly add, and what it may add at once, where there is a limit. The allowance is full when a
    /// regression begins.
    fn limit(&self) -> Option<(f64, f64)> {
        let lasting = self.growth_max?.max(PACE_LEAST) * self.block().as_secs_f64() / PACE_SECONDS;
        Some((lasting, lasting.max(ALLOWANCE)))
    }

    /// The fewest blocks in which `missing` logarithms of wealth may be gained.
    fn blocks_least(&self, missing: f64) -> f64 {
        self.limit().map_or(1.0, |(lasting, at_once)| 1.0 + ((missing - at_once) / lasting).max(0.0))
    }

    /// Most logarithms of wealth that may be gained in so many blocks.
    fn gain_most(&self, blocks: f64) -> f64 {
        match self.limit() {
            None => f64::INFINITY,
            Some((lasting, at_once)) => {
                if blocks < 1.0 {
                    0.0
                } else {
                    at_once + (blocks - 1.0) * lasting
                }
            }
        }
    }

    /// The most that one block adds to a likelihood ratio.
    fn block_most(&self) -> f64 {
        self.limit().map_or(ALLOWANCE, |(_, at_once)| at_once)
    }

    /// The largest ratio that the canary can have.
    fn ratio_most(&self) -> f64 {
        match self.counted {
            Counted::Requests => (1.0 / self.bad_rate.max(1.0 / RATIO_MOST)).max(1.0),
            Counted::MoreEvents | Counted::FewerEvents => RATIO_MOST,
        }
    }

    /// What a block holds if the canary is `ratio` times as bad.
    fn expected(&self, ratio: f64) -> Result<Expected, Obstacle> {
        let positive = |x: f64| x > 0.0;
        if !positive(self.requests_per_second) {
            return Err(Obstacle::NoTraffic);
        }
        if !positive(self.bad_rate) {
            return Err(Obstacle::NoBadEvents);
        }
        if !positive(self.share) {
            return Err(Obstacle::NoCanary);
        }
        if self.share >= 1.0 {
            return Err(Obstacle::NoControl);
        }
        if !positive(ratio) {
            return Err(Obstacle::Tolerated);
        }
        let requests = (self.requests_per_second.min(LOAD_MOST) * self.block().as_secs_f64()).min(LOAD_MOST);
        let bad = requests * self.bad_rate.min(LOAD_MOST);
        let ratio = ratio.min(self.ratio_most());
        let (canary, control) = (bad * self.share, bad * (1.0 - self.share));
        let clustered = Clustered {
            dispersion: if self.dispersion >= 0.0 { self.dispersion.min(1.0) } else { 0.0 },
            inflation: at_least_one(self.inflation),
        };
        Ok(match self.counted {
            Counted::Requests | Counted::MoreEvents => {
                Expected { suspect: canary * ratio, other: control, share: self.share, clustered }
            }
            Counted::FewerEvents => {
                Expected { suspect: control, other: canary / ratio, share: 1.0 - self.share, clustered }
            }
        })
    }

    /// What a block adds to the evidence for a rollback.
    fn growth(&self, ratio: f64, ratio_max: f64) -> Result<f64, Obstacle> {
        let expected = self.expected(ratio)?;
        let ratio_max = at_least_one(ratio_max);
        // Written so that a ratio which is no number is not above anything.
        let is_worse = ratio.min(self.ratio_most()) > ratio_max;
        if is_worse { Ok(growth(&expected, ratio_max, self.pace, self.block_most())) } else { Err(Obstacle::Tolerated) }
    }

    /// What a block adds to the evidence that the canary is safe.
    fn growth_safe(&self, ratio: f64, safe_ratio: f64) -> Result<f64, Obstacle> {
        let Expected { suspect, other, share, clustered } = self.expected(ratio)?;
        let safe_ratio = at_least_one(safe_ratio);
        let exchanged = Expected { suspect: other, other: suspect, share: 1.0 - share, clustered };
        let is_better = ratio < safe_ratio;
        if is_better {
            Ok(growth(&exchanged, 1.0 / safe_ratio, self.pace, ALLOWANCE))
        } else {
            Err(Obstacle::Tolerated)
        }
    }
}

fn at_least_one(ratio: f64) -> f64 {
    if ratio > 1.0 { ratio.min(LOAD_MOST) } else { 1.0 }
}

/// A threshold from outside, as something that can be reached.
fn threshold(log_threshold: f64) -> f64 {
    if log_threshold > 0.0 { log_threshold.min(LOAD_MOST) } else { 0.0 }
}

/// What the mixture costs on the way to a threshold.
fn start(log_threshold: f64) -> f64 {
    (START_PART * threshold(log_threshold)).min(START_MOST)
}

/// The time in which blocks that add `growth` add up to `missing`, if they are no fewer than `blocks_least`.
fn time_for(missing: f64, growth: f64, blocks_least: f64, block: Duration) -> Result<Duration, Obstacle> {
    if growth.is_nan() || growth <= f64::EPSILON {
        return Err(Obstacle::Tolerated);
    }
    let seconds = (missing / growth).max(blocks_least).ceil().max(1.0) * block.as_secs_f64();
    if seconds <= SECONDS_MOST { Ok(Duration::from_secs_f64(seconds)) } else { Err(Obstacle::TooSlow) }
}

/// The median time until a canary that is `ratio` times as bad from the beginning is rolled back.
pub fn time_to_detect(load: &Load, ratio: f64, ratio_max: f64, log_threshold: f64) -> Foreseen<Duration> {
    remaining(0.0, load, ratio, ratio_max, log_threshold)
}

/// The smallest ratio that is detected within the time.
pub fn smallest_detectable(load: &Load, within: Duration, ratio_max: f64, log_threshold: f64) -> Foreseen<f64> {
    smallest_detectable_over(&[Leg { load: *load, lasts: within }], ratio_max, log_threshold)
}

/// The smallest ratio that is detected by the end of the last leg, if it was there from the first on.
pub fn smallest_detectable_over(legs: &[Leg], ratio_max: f64, log_threshold: f64) -> Foreseen<f64> {
    let least = at_least_one(ratio_max);
    let most = legs.iter().map(|leg| leg.load.ratio_most()).fold(1.0, f64::max);
    // A leg in which nothing can be compared adds nothing; if none can, the last one's reason stands.
    let can_compare = |leg: &&Leg| leg.load.expected(most).is_ok();
    if !legs.iter().any(|leg| can_compare(&leg)) {
        let obstacle = legs.last().and_then(|leg| leg.load.expected(most).err());
        return Foreseen::Never(obstacle.unwrap_or(Obstacle::TooLittleTime));
    }
    let is_seen = |ratio: f64| {
        let grown = legs.iter().map(|leg| {
            let blocks = (leg.lasts.as_secs_f64() / leg.load.block().as_secs_f64()).floor();
            let growth = leg.load.growth(ratio, ratio_max).unwrap_or_default();
            let most = leg.load.gain_most(blocks);
            (blocks * growth).min(most)
        });
        grown.sum::<f64>() >= threshold(log_threshold) + start(log_threshold)
    };
    if !is_seen(most) {
        return Foreseen::Never(Obstacle::TooLittleTime);
    }
    let (mut unseen, mut seen) = (least.ln(), most.ln());
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(unseen, seen);
        if is_seen(middle.exp()) {
            seen = middle;
        } else {
            unseen = middle;
        }
    }
    Foreseen::Is(seen.exp())
}

/// The median time until a canary that is `ratio` times as bad as control is shown to be less than `safe_ratio` times as
/// bad; `log_threshold` is of that proof.
pub fn time_to_show_safe(load: &Load, ratio: f64, safe_ratio: f64, log_threshold: f64) -> Foreseen<Duration> {
    remaining_until_safe(0.0, load, ratio, safe_ratio, log_threshold)
}

/// What is missing from a logarithm of the threshold, given what the evidence is now. At the start the cell that will
/// carry the wealth has a part `exp(-start)` of it; whatever the wealth gained since is taken to be that cell's.
fn missing(log_e_now: f64, log_threshold: f64) -> f64 {
    let start = start(log_threshold);
    let carried = (log_e_now.clamp(-LOAD_MOST, 700.0)).exp() - 1.0 + (-start).exp();
    let carried = if carried > 0.0 { carried.ln() } else { f64::NEG_INFINITY };
    (threshold(log_threshold) - carried.max(-start - BEHIND_MAX)).max(0.0)
}

/// How much longer until a rollback, if the canary stays `ratio` times as bad; `log_e_now` is the evidence so far.
pub fn remaining(log_e_now: f64, load: &Load, ratio: f64, ratio_max: f64, log_threshold: f64) -> Foreseen<Duration> {
    let now = finite(log_e_now);
    if now >= threshold(log_threshold) && now > 0.0 {
        return Foreseen::Is(Duration::ZERO);
    }
    let blocks_least = load.blocks_least(threshold(log_threshold) - now.max(0.0));
    let missing = missing(now, log_threshold);
    load.growth(ratio, ratio_max).and_then(|growth| time_for(missing, growth, blocks_least, load.block())).into()
}

/// How much longer until the canary is shown safe, if it stays `ratio` times as bad.
pub fn remaining_until_safe(
    log_e_safe_now: f64,
    load: &Load,
    ratio: f64,
    safe_ratio: f64,
    log_threshold: f64,
) -> Foreseen<Duration> {
    let now = finite(log_e_safe_now);
    if now >= threshold(log_threshold) && now > 0.0 {
        return Foreseen::Is(Duration::ZERO);
    }
    let missing = missing(now, log_threshold);
    load.growth_safe(ratio, safe_ratio).and_then(|growth| time_for(missing, growth, 1.0, load.block())).into()
}

fn finite(x: f64) -> f64 {
    if x.is_nan() { 0.0 } else { x }
}

/// How much longer until a check is decided either way, whichever is sooner, if both arms go on as they did; `load` says
/// what is not in the evidence, and `lasted` how long the counts in it took.
pub fn until_decided(evidence: &Evidence, load: &Load, criterion: &Criterion, lasted: Duration) -> Foreseen<Duration> {
    let load = load.seen(evidence.control, evidence.canary, lasted);
    let ratio = match (load.counted, evidence.effect) {
        (_, None) => 1.0,
        (Counted::Requests | Counted::MoreEvents, Some(effect)) => effect,
        (Counted::FewerEvents, Some(effect)) => 1.0 / effect.max(1.0 / RATIO_MOST),
    };
    let worse = remaining(evidence.log_e_value, &load, ratio, criterion.ratio_max, evidence.log_threshold);
    let safe = remaining_until_safe(evidence.log_e_safe, &load, ratio, criterion.safe_ratio, log_threshold_safe());
    match (worse, safe) {
        (Foreseen::Is(worse), Foreseen::Is(safe)) => Foreseen::Is(worse.min(safe)),
        (Foreseen::Is(time), Foreseen::Never(_)) | (Foreseen::Never(_), Foreseen::Is(time)) => Foreseen::Is(time),
        (Foreseen::Never(obstacle), Foreseen::Never(_)) => Foreseen::Never(obstacle),
    }
}

/// What the evidence for a safe canary must reach, as a natural logarithm.
fn log_threshold_safe() -> f64 {
    -Evidence::BETA.ln()
}

/// What a check can see at a stage that comes after others.
pub fn stage_outlook(before: &[Leg], stage: &Leg, criterion: &Criterion) -> Outlook {
    let Criterion { ratio_max, safe_ratio, log_threshold } = *criterion;
    let Leg { load, lasts } = stage;
    let detected = |ratio| time_to_detect(load, ratio, ratio_max, log_threshold);
    let unsafe_ratio = detected(safe_ratio);
    let is_blind = unsafe_ratio.value().is_none_or(|time| time > *lasts);
    let is_enough = |share: &Share| {
        let load = Load { share: share.fraction(), ..*load };
        time_to_detect(&load, safe_ratio, ratio_max, log_threshold).value().is_some_and(|time| time <= *lasts)
    };
    let larger = SHARES.into_iter().filter_map(Share::from_basis_points).filter(|share| share.fraction() > load.share);
    let mut legs = before.to_vec();
    legs.push(*stage);
    Outlook {
        smallest: smallest_detectable(load, *lasts, ratio_max, log_threshold),
        smallest_from_first: smallest_detectable_over(&legs, ratio_max, log_threshold),
        twice: detected(2.0),
        fivefold: detected(5.0),
        unsafe_ratio,
        safe: time_to_show_safe(load, 1.0, safe_ratio, log_threshold_safe()),
        is_blind,
        share_needed: if is_blind { larger.into_iter().find(is_enough) } else { None },
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        domain::{Aim, CheckName, Counts, Direction, Origin, Reading, Selector, Sli, Tally, Text, Weight},
        eval::noise::poisson,
        stats::{Block, Calibration, Running, SequentialTest, Setting},
    };

    const THRESHOLD: f64 = 6.907_755_278_982_137;

    fn load(requests_per_second: f64, bad_rate: f64, share: f64) -> Load {
        Load {
            counted: Counted::Requests,
            requests_per_second,
            bad_rate,
            share,
            block: Duration::from_secs(15),
            dispersion: 0.0,
            inflation: 1.0,
            pace: Pace::Betting,
            growth_max: None,
        }
    }

    /// What an hour of independent events teaches.
    fn trusted(pod_events_per_second: f64, base_rate: f64) -> Calibration {
        Calibration {
            is_trusted: true,
            dispersion: 0.0,
            pod_log_sd: 0.05,
            block: Duration::from_secs(15),
            inflation: 1.05,
            pod_events_per_second,
            base_rate,
            noise: crate::stats::Noise::Independent,
        }
    }

    fn check() -> Check {
        Check {
            name: CheckName::new("errors"),
            sli: Sli::Ratio { bad: Selector::metric("bad"), total: Selector::metric("all") },
            direction: Direction::HigherIsWorse,
            ratio_max: 1.25,
            limit: None,
            aim: Aim::Guard,
            weight: Weight::Critical,
            origin: Origin::Slo,
            rationale: Text::default(),
            lines: Vec::new(),
            split: Default::default(),
        }
    }

    /// Blocks until the registered test rolls back, of one rollout on independent requests.
    fn simulated(load: &Load, calibration: &Calibration, ratio: f64, most: u32, rng: &mut StdRng) -> f64 {
        let check = check();
        let setting = Setting { check: &check, calibration, safe_ratio: 2.0, pod_incident: crate::stats::POD_INCIDENT };
        let mut test = Running::start(&check);
        let requests = load.requests_per_second * load.block.as_secs_f64();
        let mut arm = |share: f64, ratio: f64| {
            let total = requests * share;
            let bad = poisson(total * load.bad_rate * ratio, rng);
            Reading::whole(Tally::Counts(Counts { bad, total: (total as u64).max(bad) }))
        };
        for block in 1..=most {
            let (control, canary) = (arm(1.0 - load.share, 1.0), arm(load.share, ratio));
            test.observe(&setting, &Block { control: &control, canary: &canary, span: load.block });
            if test.log_e_value() >= THRESHOLD {
                return f64::from(block);
            }
        }
        f64::INFINITY
    }

    #[test]
    fn the_forecast_is_near_the_median_of_simulated_rollouts() {
        let mut rng = StdRng::seed_from_u64(11);
        for (requests, bad_rate, share, ratio) in [
            (1_000.0, 0.001, 0.01, 10.0),
            (1_000.0, 0.001, 0.05, 5.0),
            (1_000.0, 0.001, 0.25, 3.0),
            (100.0, 0.01, 0.05, 3.0),
            (100.0, 0.01, 0.25, 2.0),
            (100.0, 0.001, 0.5, 5.0),
            (20.0, 0.01, 0.25, 5.0),
            (20.0, 0.001, 0.25, 10.0),
        ] {
            for calibration in [Calibration::untrusted(), trusted(requests * share * bad_rate, bad_rate)] {
                let of = |look| Load::of(&check(), &calibration, 1, look, crate::stats::POD_INCIDENT).unwrap();
                let load = Load { requests_per_second: requests, bad_rate, share, ..of(Duration::from_secs(15)) };
                let criterion = Criterion::of(&check(), THRESHOLD).among_pods(&calibration, 1);
                let forecast = time_to_detect(&load, ratio, criterion.ratio_max, THRESHOLD).value().unwrap();
                let blocks = forecast.as_secs_f64() / load.block.as_secs_f64();
                let most = (6.0 * blocks) as u32 + 10;
                let mut delays: Vec<f64> =
                    (0..41).map(|_| simulated(&load, &calibration, ratio, most, &mut rng)).collect();
                delays.sort_by(f64::total_cmp);
                let off = blocks / delays[20];
                // Without a history the forecast is rougher.
                let most_off = if calibration.is_trusted { 1.6 } else { 2.6 };
                assert!(
                    (1.0 / most_off..=most_off).contains(&off),
                    "{load:?} {ratio}: {blocks} blocks, simulated {}",
                    delays[20]
                );
            }
        }
    }

    #[test]
    fn what_never_comes_has_its_reason() {
        let never = |load: Load, ratio| time_to_detect(&load, ratio, 1.25, THRESHOLD);
        let good = load(100.0, 0.01, 0.1);
        assert_eq!(never(Load { requests_per_second: 0.0, ..good }, 5.0), Foreseen::Never(Obstacle::NoTraffic));
        assert_eq!(never(Load { bad_rate: 0.0, ..good }, 5.0), Foreseen::Never(Obstacle::NoBadEvents));
        assert_eq!(never(Load { share: 0.0, ..good }, 5.0), Foreseen::Never(Obstacle::NoCanary));
        assert_eq!(never(Load { share: 1.0, ..good }, 5.0), Foreseen::Never(Obstacle::NoControl));
        assert_eq!(never(good, 1.25), Foreseen::Never(Obstacle::Tolerated));
        assert_eq!(never(good, 1.0), Foreseen::Never(Obstacle::Tolerated));
        assert_eq!(never(load(1e-6, 1e-6, 0.1), 5.0), Foreseen::Never(Obstacle::TooSlow));
        // Where half of all is bad, nothing can be five times as bad, and what is tolerated is close to all there can be.
        assert_eq!(never(load(100.0, 0.9, 0.1), 5.0), Foreseen::Never(Obstacle::Tolerated));
        assert_eq!(
            smallest_detectable(&load(1.0, 0.001, 0.01), Duration::from_secs(60), 1.25, THRESHOLD),
            Foreseen::Never(Obstacle::TooLittleTime)
        );
    }

    #[test]
    fn the_smallest_effect_is_the_one_that_takes_the_whole_time() {
        for share in [0.01, 0.05, 0.25] {
            let load = load(300.0, 0.002, share);
            let within = Duration::from_secs(3_600);
            let smallest = smallest_detectable(&load, within, 1.25, THRESHOLD).value().unwrap();
            let takes = time_to_detect(&load, smallest, 1.25, THRESHOLD).value().unwrap();
            assert_eq!(takes, within, "{share}: {smallest}");
            let less = time_to_detect(&load, smallest * 0.999, 1.25, THRESHOLD).value().unwrap();
            assert!(less > within);
        }
    }

    #[test]
    fn a_limit_of_the_growth_is_kept() {
        let free = Load { pace: Pace::Averaged, ..load(10_000.0, 0.01, 0.25) };
        let limited = Load { growth_max: Some(0.36), ..free };
        let detected = |load| time_to_detect(load, 10.0, 1.25, THRESHOLD).value().unwrap();
        // A factor of 10 at once, then 0.36 in each block.
        assert_eq!(detected(&limited), Duration::from_secs(15 * 14));
        assert!(detected(&free) <= Duration::from_secs(15 * 4));
        let smallest = |seconds| smallest_detectable(&limited, Duration::from_secs(seconds), 1.25, THRESHOLD).value();
        assert!(smallest(15 * 17).is_some() && smallest(15 * 12).is_none());
    }

    #[test]
    fn evidence_from_earlier_stages_lets_a_stage_see_more() {
        let leg = |share| Leg { load: load(300.0, 0.002, share), lasts: Duration::from_secs(600) };
        let criterion = Criterion { ratio_max: 1.25, safe_ratio: 2.0, log_threshold: THRESHOLD };
        let outlook = stage_outlook(&[leg(0.01), leg(0.05)], &leg(0.1), &criterion);
        let (alone, together) = (outlook.smallest.value().unwrap(), outlook.smallest_from_first.value().unwrap());
        assert!(together < alone, "{together} {alone}");
        assert!(outlook.is_blind);
        let share = outlook.share_needed.unwrap();
        let enough = stage_outlook(&[], &leg(share.fraction()), &criterion);
        assert!(!enough.is_blind && enough.smallest.value().unwrap() <= 2.0);
        let last = stage_outlook(&[leg(0.01)], &leg(1.0), &criterion);
        assert_eq!((last.smallest, last.is_blind), (Foreseen::Never(Obstacle::NoControl), true));
        assert!(last.smallest_from_first.value().is_some());
    }

    #[test]
    fn what_is_missing_shrinks_with_the_evidence_and_grows_with_what_was_lost() {
        let load = load(100.0, 0.01, 0.1);
        let left = |log_e| remaining(log_e, &load, 5.0, 1.25, THRESHOLD).value().unwrap();
        assert_eq!(left(0.0), time_to_detect(&load, 5.0, 1.25, THRESHOLD).value().unwrap());
        assert!(left(-0.5) > left(0.0) && left(0.0) > left(3.0) && left(3.0) > left(6.0));
        assert_eq!((left(7.0), left(f64::INFINITY)), (Duration::ZERO, Duration::ZERO));
        assert_eq!(left(f64::NAN), left(0.0));
        assert!(left(f64::NEG_INFINITY) < left(0.0) * 2);
    }

    #[test]
    fn a_canary_like_control_is_decided_by_safety_and_a_bad_one_by_rollback() {
        let evidence = |canary| Evidence {
            log_e_value: 0.0,
            log_threshold: THRESHOLD,
            effect: Some(canary as f64 / 100.0),
            interval: None,
            log_e_safe: 0.0,
            is_calibrated: true,
            more_seconds: None,
            control: Counts { bad: 900, total: 90_000 },
            canary: Counts { bad: canary, total: 10_000 },
        };
        let criterion = Criterion { ratio_max: 1.25, safe_ratio: 2.0, log_threshold: THRESHOLD };
        let lasted = Duration::from_secs(1_000);
        let decided = |canary| until_decided(&evidence(canary), &load(1.0, 0.5, 0.5), &criterion, lasted).value();
        let here = load(100.0, 0.01, 0.1);
        assert_eq!(decided(100), time_to_show_safe(&here, 1.0, 2.0, log_threshold_safe()).value());
        assert_eq!(decided(500), time_to_detect(&here, 5.0, 1.25, THRESHOLD).value());
        // Between what is tolerated and what is unsafe, neither proof comes soon.
        assert!(decided(180).is_none_or(|time| time > decided(100).unwrap()));
    }

    #[test]
    fn fewer_events_are_seen_where_fewer_are_worse() {
        let fewer = Load { counted: Counted::FewerEvents, ..load(100.0, 0.5, 0.25) };
        let time = time_to_detect(&fewer, 3.0, 1.25, THRESHOLD).value().unwrap();
        assert!(time > Duration::from_secs(60), "control's share has little room above it: {time:?}");
        assert!(time_to_detect(&fewer, 10.0, 1.25, THRESHOLD).value().unwrap() < time);
    }

    #[test]
    fn no_number_is_too_odd() {
        let odd = [0.0, -1.0, 1e-300, 0.5, 1.0, 1e300, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        let spans = [Duration::ZERO, Duration::from_secs(15), Duration::MAX];
        let criterion = |x| Criterion { ratio_max: x, safe_ratio: x, log_threshold: x };
        for a in odd {
            for b in odd {
                for block in spans {
                    let counted = [Counted::Requests, Counted::MoreEvents, Counted::FewerEvents];
                    for (load, counted) in
                        [load(a, b, 0.5), load(a, 0.5, b), load(1e300, a, b)].into_iter().zip(counted)
                    {
                        let load = Load {
                            counted,
                            block,
                            dispersion: b,
                            inflation: a,
                            pace: Pace::Averaged,
                            growth_max: Some(b),
                            ..load
                        };
                        for lasts in spans {
                            let outlook = stage_outlook(&[], &Leg { load, lasts }, &criterion(a));
                            assert!(outlook.smallest.value().is_none_or(f64::is_finite), "{load:?}");
                        }
                        let _ = remaining(a, &load, b, a, b).value();
                        let _ = remaining_until_safe(a, &load, b, a, b).value();
                    }
                    let level = LevelLoad { every: block, autocorrelation: a };
                    let _ = level_time_to_detect(&level, b, a, 7.0).value();
                    let smallest = level_smallest_detectable(&level, block, b, 7.0);
                    assert!(smallest.value().is_none_or(f64::is_finite), "{level:?} {b}");
                }
            }
        }
    }
}
