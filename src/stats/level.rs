//! Comparing the level of a gauge or of an amount: saturation, queue depth, cost, tokens per second, quality scores.
//!
//! # The argument
//! At each look let `d` be the canary's mean minus control's, signed so that more is worse. If the canary is not worse than
//! tolerated, `d` wanders around at most the margin `m`. Gauges remember: the part `phi` of the noise stays from look
//! to look, so what is judged is what is new, `y = d - phi d' - (1 - phi) m`, `d'` being the last look's. Given the
//! past its mean is at most 0, and its variance `v` is learnt from the past. Then
//!     `1 + x + x^2/2 - v l^2/2`  with  `x = l y`,  and  `(1 + y/sqrt(v))^2 / 2`
//! have means of at most 1 whatever the distribution of `y`, skewed and heavy-tailed ones included: only a mean and a
//! variance are assumed. Products over looks are supermartingales, mixed over `l` and over the moment of the
//! onset, and Ville's inequality makes them valid at every moment. Instead of a normal law's tails, which
//! costs and queues do not have, the price is some growth when a shift is many deviations large.
//!
//! `phi` and `v` are learnt from the steps of control's pods and of `d` itself ([`autoregression`](self::autoregression)),
//! on the side of too much; `v` is taken 1.3 times as large. A single look pays at most ten to one, with one
//! canary pod (or an unknown number) less: a pod that fails for a minute by itself is no regression. Where a few jumps make
//! up the noise, as in a queue that is mostly empty, no five minutes are proof.
//!
//! Where pods are told apart, half of the stake bets on ranks ([`pod_ranks`](self::pod_ranks)) at fixed moments, which
//! needs no model of the noise at all, and goes on as above from there. Where readings are amounts of single
//! requests, that is non-negative and several for each look, half bets on the canary's share of their sum
//! ([`amount_share`](self::amount_share)), which is exact if requests are assigned at random.
//!
//! # The margin
//! The largest of: `ratio_max` applied to control's level; three lasting deviations between pods, learnt from control's
//! pods, or from history where pods are not told apart; a tenth of the noise's own deviation.
//!
//! # Limits
//! Nothing is bet before noise was seen: eight steps, which is three looks with several pods and ten without. Noise that
//! keeps 98% of itself says almost nothing new in two hours; only ranks of several pods help then. A mean that is
//! proven is one of looks, each weighing the same, not of requests.
//!
//! Sources: Wang and Ramdas, "Catoni-style confidence sequences for heavy-tailed mean estimation" (2023); Howard,
//! Ramdas, McAuliffe and Sekhon (2021) for the interval; Shin, Ramdas and Rinaldo (2023) for the mixture over starts.

mod amount_share;
mod autoregression;
mod pod_ranks;
mod pods;

use serde::{Deserialize, Serialize};

use self::{
    amount_share::AmountShare,
    autoregression::{Mean, Noise, Steps},
    pods::{PodLooks, Pods},
};
use super::{Block, Kind, SAFETY_MAX, SequentialTest, Setting, name_hash};
use crate::domain::{Check, Direction, Interval, PartKind, Reading, Tally};

pub(super) const KIND: Kind = Kind {
    name: "level",
    serves: &["level"],
    summary: "bets on what is new in the difference between the arms' levels at each look",
};

/// Seconds between two looks; a block is split into as many looks as it has room for.
const LOOK_SECONDS: f64 = 15.0;
/// Most looks in one block.
const LOOKS_MAX: usize = 240;
/// Larger readings are taken for this; its square still fits everywhere.
const READING_MAX: f64 = 1e18;
/// Looks over which control's usual level is averaged.
const LEVEL_LOOKS: f64 = 12.0;
/// Steps of the difference that are remembered.
const STEPS_REMEMBERED: f64 = 240.0;
/// Steps of the difference that those of the pods are worth at most.
const PODS_WEIGHT: f64 = 16.0;
/// Variance of what is new, as a multiple of what was learnt.
const VARIANCE_TAKEN: f64 = 1.3;
/// Smallest deviation of what is new, as a part of the level: a gauge that never moved is not infinitely sure.
const DEVIATION_MIN: f64 = 0.002;
/// Lasting deviations between pods that are tolerated.
const POD_DEVIATIONS: f64 = 3.0;
/// The same where they come from history.
const POD_DEVIATIONS_OF_HISTORY: f64 = 2.0;
/// Part of the noise's own deviation that is tolerated.
const NOISE_PART: f64 = 0.1;
/// Largest factor of one look, with several canary pods and with one.
const FACTOR_MAX: f64 = 10.0;
const FACTOR_MAX_ONE_POD: f64 = 4.0;
/// Largest factor of one look while the noise is not known well, or comes in bursts: no five minutes are proof.
const FACTOR_MAX_UNSTEADY: f64 = 1.3;
/// Bets on a shift of about so many deviations of what is new.
const SHIFTS: [f64; 3] = [0.15, 0.4, 0.9];
const CELLS: usize = SHIFTS.len() + 1;
/// Part of a stake that bets from the start, and part of the rest that is fed in at each look.
const STAKE_AT_START: f64 = 0.5;
const FED_EACH_LOOK: f64 = 1.0 / 240.0;
/// Wealth is kept below this, so that it stays finite; capping keeps the guarantee.
const WEALTH_MAX: f64 = 1e9;
/// Looks after which ranks are compared, each with an equal part of the stake on ranks.
const RANKS_AFTER: [u32; 6] = [4, 12, 32, 80, 200, 480];
/// Readings for each look from which they are amounts of single requests rather than readings of a gauge.
const AMOUNTS_EACH_LOOK: usize = 4;
/// Chance of the interval to miss, on either side, and the number of looks at which it is narrowest.
const INTERVAL_MISSES: f64 = 0.025;
const INTERVAL_LOOKS: f64 = 20.0;
/// Least part of the noise that is taken to be new in each look, for the interval.
const INTERVAL_RENEWED_MIN: f64 = 0.01;

/// Wealth that bets on what is new in each look being above 0, by the size of the shift.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Stakes {
    wealth: [f64; CELLS],
    waiting: f64,
}

impl Stakes {
    const fn start(at_once: f64, waiting: f64) -> Self {
        Self { wealth: [at_once / CELLS as f64; CELLS], waiting }
    }

    /// Bets on `y`, in deviations.
    fn bet(&mut self, y: f64, factor_max: f64) {
        let fed = self.waiting * FED_EACH_LOOK;
        self.waiting -= fed;
        let steep = if y > -1.0 { (1.0 + y).powi(2) / 2.0 } else { 0.0 };
        let factors = SHIFTS.iter().map(|shift| catoni(shift * y) * (-shift * shift / 2.0).exp());
        for (wealth, factor) in self.wealth.iter_mut().zip(factors.chain([steep])) {
            *wealth = ((*wealth + fed / CELLS as f64) * factor.min(factor_max)).min(WEALTH_MAX);
        }
    }

    fn add(&mut self, stake: f64) {
        self.wealth.iter_mut().for_each(|wealth| *wealth = (*wealth + stake / CELLS as f64).min(WEALTH_MAX));
    }

    /// Gives away what is above `most`: a process that is lowered stays one.
    fn keep_below(&mut self, most: f64) {
        let keep = (most / self.sum()).min(1.0);
        self.wealth.iter_mut().for_each(|wealth| *wealth *= keep);
        self.waiting *= keep;
    }

    fn sum(&self) -> f64 {
        self.waiting + self.wealth.iter().sum::<f64>()
    }
}

/// At most `1 + x + x^2/2`, rising everywhere, and above 0.
fn catoni(x: f64) -> f64 {
    if x >= 0.0 { 1.0 + x + x * x / 2.0 } else { 1.0 / (1.0 - x + x * x / 2.0) }
}

/// What kind of readings the first block had; decided once, and from their number and kind only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Shape {
    /// Of a gauge, pods unknown.
    Gauge,
    /// Of a gauge, pods told apart.
    Pods,
    /// Of single requests.
    Amounts,
}

/// The test's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    shape: Option<Shape>,
    looks: u32,
    /// Control's usual level.
    level: Mean,
    /// The difference, signed so that more is worse, in the gauge's unit and over all looks.
    difference: Mean,
    /// -1 where less is worse.
    sign: f64,
    /// Steps of the difference, in units of one pod.
    steps: Steps,
    last: Option<f64>,
    before: Option<f64>,
    unit: f64,
    pods: Pods,
    worse: Stakes,
    safe: Stakes,
    ranked: Stakes,
    ranks_taken: u8,
    amounts: AmountShare,
}

/// What is fixed for one block.
struct Terms {
    relative: f64,
    relative_safe: f64,
    pods_floor: f64,
    floor_of_level: f64,
    unit: f64,
    factor_max: f64,
    noise: Option<Noise>,
}

impl Level {
    /// Nothing seen.
    pub fn start() -> Self {
        Self {
            shape: None,
            looks: 0,
            level: Mean::default(),
            difference: Mean::default(),
            sign: 1.0,
            steps: Steps::default(),
            last: None,
            before: None,
            unit: 1.0,
            pods: Pods::default(),
            worse: Stakes::start(STAKE_AT_START, 1.0 - STAKE_AT_START),
            safe: Stakes::start(1.0, 0.0),
            ranked: Stakes::start(0.0, 0.0),
            ranks_taken: 0,
            amounts: AmountShare::start(),
        }
    }

    fn terms(&self, setting: &Setting<'_>, canary_pods: usize, control_pods: usize) -> Terms {
        let check = setting.check;
        let pods_known = canary_pods > 0 && control_pods > 0;
        let unit = if pods_known { (1.0 / canary_pods as f64 + 1.0 / control_pods as f64).sqrt() } else { 1.0 };
        let noise = Noise::learn(&self.pods.steps, &self.steps, PODS_WEIGHT);
        let lasting = noise.and_then(|noise| self.pods.lasting_sd(noise.fresh, noise.kept));
        let (pods_floor, floor_of_level) = match lasting {
            // A spread told from few pods may be larger by chance; the factor is near Student's.
            Some((sd, pods)) => (POD_DEVIATIONS * sd * unit * (1.0 + 3.0 / pods as f64), 0.0),
            None => (0.0, POD_DEVIATIONS_OF_HISTORY * unit * finite(setting.calibration.pod_log_sd).clamp(0.0, 1.0)),
        };
        Terms {
            relative: tolerated(check, check.ratio_max),
            relative_safe: tolerated(check, setting.safe_ratio),
            pods_floor,
            floor_of_level,
            unit,
            factor_max: match (noise.is_some_and(|noise| noise.is_steady), canary_pods) {
                (false, _) => FACTOR_MAX_UNSTEADY,
                (true, 0 | 1) => FACTOR_MAX_ONE_POD,
                (true, _) => FACTOR_MAX,
            },
            noise,
        }
    }

    /// Takes in one look.
    fn look(&mut self, control: f64, canary: f64, terms: &Terms) {
        self.looks = self.looks.saturating_add(1);
        self.level.add(control, LEVEL_LOOKS);
        let level = self.level.value.abs();
        let d = self.sign * (canary - control);
        self.difference.add(d, f64::MAX);
        if let (Some(last), Some(noise)) = (self.last, terms.noise) {
            let last = last * self.unit;
            let deviation =
                (noise.fresh * VARIANCE_TAKEN).sqrt().max(DEVIATION_MIN * level.max(canary.abs())) * terms.unit;
            if deviation > 0.0 {
                let fresh = d - noise.kept * last;
                let margin = self.margin(terms);
                let y = (fresh - (1.0 - noise.kept) * margin) / deviation;
                self.worse.bet(y, terms.factor_max);
                self.ranked.bet(y, terms.factor_max);
                let unsafe_from = terms.relative_safe * level - terms.pods_floor.max(terms.floor_of_level * level);
                self.safe.bet(((1.0 - noise.kept) * unsafe_from - fresh) / deviation, terms.factor_max);
                self.safe.keep_below(SAFETY_MAX);
            }
        }
        let now = d / terms.unit;
        if let Some(last) = self.last {
            self.steps.learn(now, last, self.before, DEVIATION_MIN * level, STEPS_REMEMBERED);
        }
        self.before = self.last;
        self.last = Some(now);
        self.unit = terms.unit;
    }

    /// The largest difference that is tolerated now.
    fn margin(&self, terms: &Terms) -> f64 {
        let level = self.level.value.abs();
        let of_noise = terms
            .noise
            .map_or(0.0, |noise| NOISE_PART * (noise.fresh / (1.0 - noise.kept * noise.kept)).sqrt() * terms.unit);
        (terms.relative * level).max(terms.pods_floor).max(terms.floor_of_level * level).max(of_noise)
    }

    /// Bets on ranks if the moment has come.
    fn compare_ranks(&mut self, terms: &Terms) {
        let due = RANKS_AFTER.iter().filter(|after| self.looks >= **after).count();
        if self.shape == Some(Shape::Pods) && due > usize::from(self.ranks_taken) {
            // Moments that passed in one long block share one comparison, and their parts of the stake.
            let parts = due - usize::from(self.ranks_taken);
            self.ranks_taken = u8::try_from(due).unwrap_or(u8::MAX);
            let margin = terms.relative * self.level.value.abs();
            let e_value = self.pods.take_ranks(self.sign, margin);
            self.ranked.add(e_value * parts as f64 / RANKS_AFTER.len() as f64);
        }
    }

    /// Both e-values, from those of the parts of the stake.
    fn mixed(&self, worse: bool) -> f64 {
        let own = if worse { self.worse.sum() } else { self.safe.sum() };
        match (self.shape, worse) {
            (Some(Shape::Amounts), _) => (own + self.amounts.wealth(worse)) / 2.0,
            (Some(Shape::Pods), true) => (own + self.ranked.sum()) / 2.0,
            (Some(Shape::Gauge | Shape::Pods) | None, _) => own,
        }
    }
}

/// How far from control's level is tolerated, as a part of it.
fn tolerated(check: &Check, ratio: f64) -> f64 {
    let ratio = if ratio.is_finite() { ratio.clamp(1.0, 1e6) } else { 1.0 };
    match check.direction {
        Direction::HigherIsWorse => ratio - 1.0,
        Direction::LowerIsWorse => 1.0 - 1.0 / ratio,
    }
}

fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

/// A tally's readings that are numbers; `None` where it has none.
fn readings(tally: &Tally) -> Option<Vec<f64>> {
    let Tally::Samples(samples) = tally else { return None };
    let readings = samples.iter().filter(|reading| reading.is_finite());
    let readings: Vec<f64> = readings.map(|reading| reading.clamp(-READING_MAX, READING_MAX)).collect();
    (!readings.is_empty()).then_some(readings)
}

/// The readings as the means of `looks` runs in a row, as even as can be; there are at least as many readings.
fn runs(readings: &[f64], looks: usize) -> Vec<f64> {
    let edge = |look: usize| look * readings.len() / looks.max(1);
    let run = |look| readings.get(edge(look)..edge(look + 1)).unwrap_or_default();
    (0..looks).map(run).filter(|run| !run.is_empty()).map(|run| run.iter().sum::<f64>() / run.len() as f64).collect()
}

/// The pods of one arm that have a reading for each look.
fn pods_of(reading: &Reading, is_canary: bool, looks: usize) -> impl Iterator<Item = PodLooks> {
    reading.parts_of(PartKind::Pod).filter_map(move |part| {
        let readings = readings(&part.tally).filter(|readings| readings.len() >= looks)?;
        Some(PodLooks { name: name_hash(part.name.as_str()), is_canary, looks: runs(&readings, looks) })
    })
}

impl SequentialTest for Level {
    fn observe(&mut self, setting: &Setting<'_>, block: &Block<'_>) {
        let both = (readings(&block.control.tally), readings(&block.canary.tally));
        let (Some(control), Some(canary)) = both else {
            // What comes after a gap is not what follows the last look.
            (self.last, self.before) = (None, None);
            return;
        };
        let room = (block.span.as_secs_f64() / LOOK_SECONDS).round().clamp(1.0, LOOKS_MAX as f64) as usize;
        let looks = room.min(control.len()).min(canary.len());
        let pods: Vec<PodLooks> =
            pods_of(block.canary, true, looks).chain(pods_of(block.control, false, looks)).collect();
        let canary_pods = pods.iter().filter(|pod| pod.is_canary).count();
        let control_pods = pods.len() - canary_pods;
        let amounts = control.iter().chain(&canary).all(|amount| *amount >= 0.0)
            && control.len().min(canary.len()) >= room * AMOUNTS_EACH_LOOK;
        let shape = *self.shape.get_or_insert(match (amounts, canary_pods, control_pods) {
            (true, _, _) => Shape::Amounts,
            (false, 0, _) | (false, _, 0..=2) => Shape::Gauge,
            (false, _, _) => Shape::Pods,
        });
        self.sign = if setting.check.direction == Direction::HigherIsWorse { 1.0 } else { -1.0 };
        for (look, (control, canary)) in runs(&control, looks).into_iter().zip(runs(&canary, looks)).enumerate() {
            let terms = self.terms(setting, canary_pods, control_pods);
            self.look(control, canary, &terms);
            let at_look: Vec<PodLooks> = pods
                .iter()
                .filter_map(|pod| Some(PodLooks { looks: vec![*pod.looks.get(look)?], ..pod.clone() }))
                .collect();
            self.pods.observe(&at_look, 1, DEVIATION_MIN * self.level.value.abs());
            self.compare_ranks(&terms);
        }
        if shape == Shape::Amounts {
            self.amounts.observe(setting, &control, &canary);
        }
    }

    fn log_e_value(&self) -> f64 {
        self.mixed(true).max(f64::MIN_POSITIVE).ln()
    }

    fn log_e_safe(&self) -> f64 {
        self.mixed(false).max(f64::MIN_POSITIVE).ln()
    }

    fn effect(&self) -> Option<(f64, Interval)> {
        let noise = Noise::learn(&self.pods.steps, &self.steps, PODS_WEIGHT).filter(|noise| noise.is_steady)?;
        let looks = f64::from(self.looks);
        // The least that is new, and so the widest: a mean of looks that remember is worth few looks.
        let renewed = (1.0 - noise.kept - noise.error).max(INTERVAL_RENEWED_MIN);
        let long_run = noise.fresh.sqrt() / renewed * self.unit;
        let wide = (looks + INTERVAL_LOOKS) / INTERVAL_LOOKS;
        let chance = long_run * (2.0 * (looks + INTERVAL_LOOKS) * (wide.sqrt() / INTERVAL_MISSES).ln()).sqrt() / looks;
        let lasting = self.pods.lasting_sd(noise.fresh, noise.kept).map_or(0.0, |(sd, _)| POD_DEVIATIONS * sd);
        let radius = chance + lasting * self.unit;
        let effect = self.sign * self.difference.value;
        radius.is_finite().then_some((effect, Interval { low: effect - radius, high: effect + radius }))
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        domain::{CheckName, Origin, Part, Selector, Sli, Text, Weight},
        stats::Calibration,
    };

    fn check(direction: Direction) -> Check {
        Check {
            name: CheckName::new("cpu"),
            sli: Sli::Level { gauge: Selector::metric("cpu") },
            direction,
            ratio_max: 1.1,
            limit: None,
            weight: Weight::Critical,
            origin: Origin::Slo,
            rationale: Text::default(),
            lines: Vec::new(),
            split: Default::default(),
        }
    }

    /// Readings of each pod at one look.
    fn arm(name: &str, pods: &[f64]) -> Reading {
        let part = |(i, reading): (usize, &f64)| Part {
            kind: PartKind::Pod,
            name: Text::new(format!("{name}{i:02}")),
            tally: Tally::Samples(vec![*reading]),
        };
        let whole = pods.iter().sum::<f64>() / pods.len() as f64;
        Reading { tally: Tally::Samples(vec![whole]), parts: pods.iter().enumerate().map(part).collect() }
    }

    fn observe(test: &mut Level, direction: Direction, control: &Reading, canary: &Reading, seconds: u64) {
        let (check, calibration) = (check(direction), Calibration::untrusted());
        let setting = Setting {
            check: &check,
            calibration: &calibration,
            safe_ratio: 1.5,
            pod_incident: crate::stats::POD_INCIDENT,
        };
        let span = std::time::Duration::from_secs(seconds);
        test.observe(&setting, &Block { control, canary, span });
    }

    fn noisy(rng: &mut StdRng, pods: usize, level: f64) -> Vec<f64> {
        (0..pods).map(|_| level + rng.random_range(-5.0..5.0)).collect()
    }

    fn after(direction: Direction, level: f64, looks: usize) -> Level {
        let (mut test, mut rng) = (Level::start(), StdRng::seed_from_u64(1));
        for _ in 0..looks {
            let (control, canary) = (noisy(&mut rng, 15, 50.0), noisy(&mut rng, 5, level));
            observe(&mut test, direction, &arm("old", &control), &arm("new", &canary), 15);
        }
        test
    }

    #[test]
    fn a_higher_level_is_found_where_more_is_worse_and_a_lower_one_where_less_is() {
        let proof = 1000_f64.ln();
        assert!(after(Direction::HigherIsWorse, 65.0, 12).log_e_value() > proof);
        assert!(after(Direction::LowerIsWorse, 35.0, 12).log_e_value() > proof);
        assert!(after(Direction::HigherIsWorse, 35.0, 60).log_e_value() < 0.0);
        assert!(after(Direction::LowerIsWorse, 65.0, 60).log_e_value() < 0.0);
    }

    #[test]
    fn a_level_like_controls_is_shown_safe_and_the_effect_is_a_difference() {
        let test = after(Direction::LowerIsWorse, 50.0, 60);
        assert!(test.log_e_safe() > 20_f64.ln() && test.log_e_value() < 1.0);
        let (effect, interval) = after(Direction::LowerIsWorse, 42.0, 60).effect().unwrap();
        assert!((-9.5..-6.5).contains(&effect) && interval.low < -8.0 && interval.high > -8.0, "{effect} {interval:?}");
        assert!(interval.high < 0.0);
    }

    #[test]
    fn a_block_of_many_looks_is_like_the_looks_one_by_one() {
        let mut rng = StdRng::seed_from_u64(2);
        let (mut one_by_one, mut at_once) = (Level::start(), Level::start());
        for _ in 0..10 {
            let (control, canary) = (noisy(&mut rng, 4, 50.0), noisy(&mut rng, 4, 60.0));
            for (control, canary) in control.iter().zip(&canary) {
                let whole = |reading: f64| Reading::whole(Tally::Samples(vec![reading]));
                observe(&mut one_by_one, Direction::HigherIsWorse, &whole(*control), &whole(*canary), 15);
            }
            let whole = |readings: Vec<f64>| Reading::whole(Tally::Samples(readings));
            observe(&mut at_once, Direction::HigherIsWorse, &whole(control), &whole(canary), 60);
        }
        assert_eq!(one_by_one, at_once);
    }

    #[test]
    fn what_cannot_be_compared_proves_nothing_and_what_is_absurd_breaks_nothing() {
        let whole = |samples: Vec<f64>| Reading::whole(Tally::Samples(samples));
        let odd = [
            whole(Vec::new()),
            whole(vec![f64::NAN]),
            whole(vec![f64::INFINITY, 1.0]),
            whole(vec![f64::MAX; 7]),
            whole(vec![f64::MIN, f64::MAX]),
            whole(vec![0.0]),
            whole(vec![f64::MIN_POSITIVE]),
            Reading::whole(Tally::Mix(Vec::new())),
            arm("x", &[f64::MAX, 0.0, -1.0, f64::NAN]),
        ];
        let mut test = after(Direction::HigherIsWorse, 50.0, 10);
        let before = test.log_e_value();
        observe(&mut test, Direction::HigherIsWorse, &odd[0], &odd[3], 15);
        observe(&mut test, Direction::HigherIsWorse, &odd[5], &odd[7], 15);
        assert_eq!(test.log_e_value(), before);
        for _ in 0..5 {
            for control in &odd {
                for canary in &odd {
                    observe(&mut test, Direction::LowerIsWorse, control, canary, u64::MAX);
                    assert!(test.log_e_value().is_finite() && test.log_e_safe().is_finite());
                    assert!(test.effect().is_none_or(|(effect, interval)| {
                        effect.is_finite() && interval.low.is_finite() && interval.high.is_finite()
                    }));
                }
            }
        }
        let written = postcard::to_allocvec(&test).unwrap();
        assert_eq!(postcard::from_bytes::<Level>(&written).unwrap(), test);
    }

    #[test]
    fn the_state_is_small_and_resumes_bit_for_bit() {
        let mut straight = Level::start();
        let mut resumed = Level::start();
        let mut rng = StdRng::seed_from_u64(4);
        for _ in 0..40 {
            let (control, canary) = (noisy(&mut rng, 40, 50.0), noisy(&mut rng, 20, 55.0));
            let (control, canary) = (arm("old", &control), arm("new", &canary));
            for test in [&mut straight, &mut resumed] {
                observe(test, Direction::HigherIsWorse, &control, &canary, 15);
            }
            let written = postcard::to_allocvec(&resumed).unwrap();
            assert!(written.len() <= 1024, "{}", written.len());
            resumed = postcard::from_bytes(&written).unwrap();
        }
        assert_eq!(straight, resumed);
    }
}
