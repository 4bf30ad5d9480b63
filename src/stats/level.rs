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
//! `v` being taken 1.3 times as large. `phi` is known to lie between two bounds only: where `d'` is above the margin the
//! upper one is used, else the lower, so that `y` has no mean above 0 for any `phi` between them. Where less is worse and
//! most of the variance comes from few looks, evidence grows more slowly: what is rare may not have happened yet.
//!
//! Evidence may grow by no more than an allowance that fills up with time: no three minutes of one canary pod (or of an
//! unknown number) are proof, since a pod that fails by itself is no regression. Where pods are told apart, the evidence is
//! the least of the whole's and of those without each canary pod, which make the whole's bets on the others' mean; each is a
//! supermartingale, whichever bets it copies, since those are set by the past.
//! Where a few jumps make up the noise, as in a queue that is mostly empty, no five minutes are proof.
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
mod readings;
mod stakes;

use serde::{Deserialize, Serialize};

use self::{
    amount_share::AmountShare,
    autoregression::{Mean, Noise, Steps},
    pods::{PodLooks, Pods},
    readings::{mean, pods_of, readings, runs},
    stakes::{ALLOWANCE_MAX, Stakes, WEALTH_MAX, refilled},
};
use super::{Block, Kind, SAFETY_MAX, SequentialTest, Setting, name_hash};
use crate::domain::{Check, Concern, Direction, Interval, PartKind, Text};

pub(super) const KIND: Kind = Kind {
    name: "level",
    serves: &["level"],
    summary: "bets on what is new in the difference between the arms' levels at each look",
};

/// Seconds between two looks; a block is split into as many looks as it has room for.
const LOOK_SECONDS: f64 = 15.0;
/// Most looks in one block.
const LOOKS_MAX: usize = 240;
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
/// What is taken for their standard deviation, as a part of the level, where there is no history.
const POD_LOG_SD_UNKNOWN: f64 = 0.06;
/// Part of the noise's own deviation that is tolerated.
const NOISE_PART: f64 = 0.1;
/// Largest factor of one look, with several canary pods and with one.
const FACTOR_MAX: f64 = 10.0;
const FACTOR_MAX_ONE_POD: f64 = 4.0;
/// Growth in one look with one (or an unknown number), two, ... canary pods, as logarithms: with the allowance, twelve
/// looks of one pod are not proof.
const PACES: [f64; 5] = [0.34, 0.45, 0.7, 1.0, 1.6];
/// The same without one of the pods.
const PACES_WITHOUT: [f64; 5] = [0.34, 0.4, 0.45, 0.6, 0.6];
/// Part of the pace where noise is rare and less is worse.
const PACE_OF_RARE: f64 = 0.2;
/// Pods, or groups of pods, that are left out one at a time.
const LEFT_OUT_MAX: usize = 5;
/// Without each of two, three, ... pods a little less proof is enough, as a logarithm: the whole still has to be proof.
const SLACKS: [f64; 5] = [0.0, 2.0, 1.5, 2.0, 2.2];
/// Largest factor of one look while the noise is not known well, or comes in bursts: no five minutes are proof.
const FACTOR_MAX_UNSTEADY: f64 = 1.3;
/// Part of a stake that bets from the start, and part of the rest that is fed in at each look.
const STAKE_AT_START: f64 = 0.5;
/// Looks after which ranks are compared, each with an equal part of the stake on ranks.
const RANKS_AFTER: [u32; 6] = [4, 12, 32, 80, 200, 480];
/// Readings for each look from which they are amounts of single requests rather than readings of a gauge.
const AMOUNTS_EACH_LOOK: usize = 4;
/// The evidence that is proof at the default alpha, for concerns.
const PROOF: f64 = 1000.0;
/// Length of the name that is kept of the pod without which least is left.
const NAME_CHARS: usize = 40;
/// Chance of the interval to miss, on either side, and the number of looks at which it is narrowest.
const INTERVAL_MISSES: f64 = 0.025;
const INTERVAL_LOOKS: f64 = 20.0;
/// Least part of the noise that is taken to be new in each look, for the interval.
const INTERVAL_RENEWED_MIN: f64 = 0.01;

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
    /// How much the evidence may grow at once, as the logarithm of a factor.
    allowance: f32,
    left_out: Vec<LeftOut>,
    slack: f32,
    suspect: Option<Text>,
}

/// The evidence without one of the canary's pods: what the whole's bets would have won on the others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct LeftOut {
    pod: u32,
    wealth: f32,
    ranked: f32,
    allowance: f32,
    /// The difference at the last look.
    last: Option<f32>,
}

/// What is fixed for one block.
struct Terms {
    relative: f64,
    relative_safe: f64,
    /// In units of one pod.
    pods_floor: f64,
    floor_of_level: f64,
    unit: f64,
    factor_max: f64,
    noise: Option<Noise>,
    pace: f64,
    pace_without: f64,
    slack: f64,
}

impl LeftOut {
    fn log_e(&self) -> f64 {
        (f64::from(self.wealth + self.ranked) / 2.0).max(f64::MIN_POSITIVE).ln()
    }
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
            allowance: ALLOWANCE_MAX as f32,
            left_out: Vec::new(),
            slack: 0.0,
            suspect: None,
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
            Some((sd, pods)) => (POD_DEVIATIONS * sd * (1.0 + 3.0 / pods as f64), 0.0),
            None => (0.0, POD_DEVIATIONS_OF_HISTORY * pod_log_sd(setting)),
        };
        // Only where each pod can be left out does it help that there are several.
        let paced_as = if self.shape == Some(Shape::Pods) { canary_pods } else { 1 };
        // Where less is worse, a canary in which nothing rare has happened yet looks worse for as long.
        let is_rare = noise.is_some_and(|noise| noise.is_sparse) && check.direction == Direction::LowerIsWorse;
        let times = if is_rare { PACE_OF_RARE } else { 1.0 };
        let with = |each: [f64; 5]| each.get(paced_as.clamp(1, 5) - 1).copied().unwrap_or(0.0);
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
            pace: setting.paced(with(PACES) * times),
            pace_without: setting.paced(with(PACES_WITHOUT) * times),
            slack: with(SLACKS),
        }
    }

    /// What is new in a difference since the last look, in deviations: beyond what `tolerated` leaves of it, whatever part
    /// of itself the noise keeps of all that are likely.
    fn fresh(d: f64, last: f64, tolerated: f64, noise: Noise, deviation: f64) -> f64 {
        let kept = if last > tolerated { noise.kept } else { noise.kept_at_least };
        // A gauge that never moved and stands at 0 says nothing.
        if deviation > 0.0 { (d - tolerated - kept * (last - tolerated)) / deviation } else { 0.0 }
    }

    /// Deviation of what is new in a difference of this unit.
    fn deviation(noise: Noise, unit: f64, largest: f64) -> f64 {
        (noise.fresh * VARIANCE_TAKEN).sqrt().max(DEVIATION_MIN * largest) * unit
    }

    /// Takes in one look; `pods` are those that are told apart.
    fn look(&mut self, control: f64, canary: f64, pods: &[PodLooks], terms: &Terms) {
        self.looks = self.looks.saturating_add(1);
        self.level.add(control, LEVEL_LOOKS);
        let level = self.level.value.abs();
        let d = self.sign * (canary - control);
        self.difference.add(d, f64::MAX);
        if self.shape == Some(Shape::Pods) {
            self.bet_without_pods(pods, terms);
        }
        let before = self.mixed(true);
        let allowance = refilled(self.allowance, terms.pace);
        self.allowance = allowance as f32;
        if let (Some(last), Some(noise)) = (self.last, terms.noise) {
            let (last, deviation) = (last * self.unit, Self::deviation(noise, terms.unit, level.max(canary.abs())));
            let y = Self::fresh(d, last, self.margin(terms, terms.unit), noise, deviation);
            let factor_max = terms.factor_max.min(allowance.exp());
            self.worse.bet(y, factor_max);
            self.ranked.bet(y, factor_max);
            let floor = (terms.pods_floor * terms.unit).max(terms.floor_of_level * terms.unit * level);
            let unsafe_from = terms.relative_safe * level - floor;
            self.safe.bet(Self::fresh(-d, -last, -unsafe_from, noise, deviation), terms.factor_max);
            self.safe.keep_below(SAFETY_MAX);
            self.allowance = (allowance - (self.mixed(true) / before).ln().max(0.0)) as f32;
        }
        let now = d / terms.unit;
        if let Some(last) = self.last {
            self.steps.learn(now, last, self.before, DEVIATION_MIN * level, STEPS_REMEMBERED);
        }
        self.steps.learn_long(now, STEPS_REMEMBERED);
        self.before = self.last;
        self.last = Some(now);
        self.unit = terms.unit;
    }

    /// The largest difference that is tolerated now, between arms of which the difference has this unit.
    fn margin(&self, terms: &Terms, unit: f64) -> f64 {
        let level = self.level.value.abs();
        let of_noise =
            terms.noise.map_or(0.0, |noise| NOISE_PART * (noise.fresh / (1.0 - noise.kept * noise.kept)).sqrt());
        (terms.relative * level).max(terms.pods_floor.max(terms.floor_of_level * level).max(of_noise) * unit)
    }

    /// The slots in which pods are left out; a new one begins as the whole, since its pod was never in it.
    fn claim(&mut self, canary: &[&PodLooks]) -> Vec<usize> {
        let (wealth, ranked) = (self.worse.sum() as f32, self.ranked.sum() as f32);
        canary
            .iter()
            .map(|pod| {
                let gone = |left_out: &LeftOut| !canary.iter().any(|pod| pod.name == left_out.pod);
                if let Some(at) = self.left_out.iter().position(|left_out| left_out.pod == pod.name) {
                    at
                } else if self.left_out.len() < LEFT_OUT_MAX {
                    let allowance = self.allowance;
                    self.left_out.push(LeftOut { pod: pod.name, wealth, ranked, allowance, last: None });
                    self.left_out.len() - 1
                } else if let Some(at) = self.left_out.iter().position(gone) {
                    if let Some(left_out) = self.left_out.get_mut(at) {
                        left_out.pod = pod.name;
                    }
                    at
                } else {
                    pod.name as usize % LEFT_OUT_MAX
                }
            })
            .collect()
    }

    /// Makes the bets of this look without each of the canary's pods.
    fn bet_without_pods(&mut self, pods: &[PodLooks], terms: &Terms) {
        let canary: Vec<&PodLooks> = pods.iter().filter(|pod| pod.is_canary).collect();
        let control = mean(pods.iter().filter(|pod| !pod.is_canary));
        let Some((control, control_pods)) = control else { return };
        if canary.len() < 2 && self.left_out.is_empty() {
            return;
        }
        self.slack = terms.slack as f32;
        let slots = self.claim(&canary);
        let mut left_out = std::mem::take(&mut self.left_out);
        for (at, without) in left_out.iter_mut().enumerate() {
            let others = || canary.iter().zip(&slots).filter(|(_, slot)| **slot != at).map(|(pod, _)| *pod);
            let Some((value, count)) = mean(others()).or_else(|| mean(canary.iter().copied())) else { continue };
            let (d, unit) = (self.sign * (value - control), (1.0 / count + 1.0 / control_pods).sqrt());
            let allowance = refilled(without.allowance, terms.pace_without);
            without.allowance = allowance as f32;
            let largest = self.level.value.abs().max(value.abs());
            if let (Some(last), Some(noise)) = (without.last, terms.noise) {
                let deviation = Self::deviation(noise, unit, largest);
                let y = Self::fresh(d, f64::from(last), self.margin(terms, unit), noise, deviation);
                let factor_max = terms.factor_max.min(allowance.exp());
                let before = without.wealth + without.ranked;
                let grown = |wealth: f32, growth: f64| (f64::from(wealth) * growth).clamp(1e-30, WEALTH_MAX) as f32;
                without.wealth = grown(without.wealth, self.worse.growth(y, factor_max));
                without.ranked = grown(without.ranked, self.ranked.growth(y, factor_max));
                let grew = f64::from((without.wealth + without.ranked) / before).ln().max(0.0);
                without.allowance = (allowance - grew) as f32;
            }
            without.last = Some(d as f32);
        }
        self.left_out = left_out;
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
            let stake = e_value * parts as f64 / RANKS_AFTER.len() as f64;
            self.ranked.add(stake);
            // One pod's rank counts for little among those of several, so none has to be left out.
            self.left_out.iter_mut().for_each(|without| without.ranked = (without.ranked + stake as f32).min(1e9));
        }
    }

    /// Remembers the name of the pod without which least is left.
    fn name_suspect(&mut self, block: &Block<'_>) {
        let weakest = self.left_out.iter().min_by(|one, other| one.log_e().total_cmp(&other.log_e()));
        let Some(weakest) = weakest else { return };
        let named = block.canary.parts_of(PartKind::Pod).find(|part| name_hash(part.name.as_str()) == weakest.pod);
        if let Some(part) = named {
            self.suspect = Some(Text::new(part.name.as_str().chars().take(NAME_CHARS).collect::<String>()));
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

/// Spread between pods, as a part of the level, where it cannot be told from control's pods.
fn pod_log_sd(setting: &Setting<'_>) -> f64 {
    let spread = setting.calibration.pod_log_sd;
    match setting.calibration.is_trusted && spread.is_finite() {
        true => spread.clamp(0.0, 1.0),
        false => POD_LOG_SD_UNKNOWN,
    }
}

impl SequentialTest for Level {
    fn observe(&mut self, setting: &Setting<'_>, block: &Block<'_>) {
        let both = (readings(&block.control.tally), readings(&block.canary.tally));
        let (Some(control), Some(canary)) = both else {
            // What comes after a gap is not what follows the last look.
            (self.last, self.before) = (None, None);
            self.steps.interrupt();
            self.left_out.iter_mut().for_each(|without| without.last = None);
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
            let at_look: Vec<PodLooks> = pods
                .iter()
                .filter_map(|pod| Some(PodLooks { looks: vec![*pod.looks.get(look)?], ..pod.clone() }))
                .collect();
            self.look(control, canary, &at_look, &terms);
            self.pods.observe(&at_look, 1, DEVIATION_MIN * self.level.value.abs());
            self.compare_ranks(&terms);
        }
        self.name_suspect(block);
        if shape == Shape::Amounts {
            let before = self.mixed(true);
            let allowance = f64::from(self.allowance);
            self.amounts.observe(setting, &control, &canary, allowance.exp());
            self.allowance = (allowance - (self.mixed(true) / before).ln().max(0.0)) as f32;
        }
    }

    fn log_e_value(&self) -> f64 {
        let without = self.left_out.iter().map(|without| without.log_e() + f64::from(self.slack));
        without.fold(self.mixed(true).max(f64::MIN_POSITIVE).ln(), f64::min)
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
        let unknown = POD_DEVIATIONS_OF_HISTORY * POD_LOG_SD_UNKNOWN * self.level.value.abs();
        let lasting = self.pods.lasting_sd(noise.fresh, noise.kept).map_or(unknown, |(sd, _)| POD_DEVIATIONS * sd);
        let radius = chance + lasting * self.unit;
        let effect = self.sign * self.difference.value;
        radius.is_finite().then_some((effect, Interval { low: effect - radius, high: effect + radius }))
    }

    fn concern(&self) -> Option<Concern> {
        let is_one_pod = self.mixed(true) >= PROOF && self.log_e_value() < PROOF.ln();
        self.suspect.clone().filter(|_| is_one_pod).map(Concern::OnePod)
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        domain::{Aim, CheckName, Origin, Part, Reading, Selector, Sli, Tally, Weight},
        stats::Calibration,
    };

    fn check(direction: Direction) -> Check {
        Check {
            name: CheckName::new("cpu"),
            sli: Sli::Level { gauge: Selector::metric("cpu") },
            direction,
            ratio_max: 1.1,
            limit: None,
            aim: Aim::Guard,
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
    fn one_bad_pod_of_three_is_named_and_is_no_proof_and_no_three_minutes_of_one_pod_are() {
        let (mut test, mut rng) = (Level::start(), StdRng::seed_from_u64(7));
        for look in 0..100 {
            let (control, mut canary) = (noisy(&mut rng, 15, 50.0), noisy(&mut rng, 3, 50.0));
            if look > 40 {
                canary[1] += 200.0;
            }
            observe(&mut test, Direction::HigherIsWorse, &arm("old", &control), &arm("new", &canary), 15);
        }
        assert!(test.log_e_value() < PROOF.ln(), "{}", test.log_e_value());
        assert_eq!(test.concern(), Some(Concern::OnePod(Text::new("new01"))));
        let mut alone = Level::start();
        for look in 0..32 {
            let level = if look < 20 { 50.0 } else { 500.0 };
            let (control, canary) = (noisy(&mut rng, 15, 50.0), noisy(&mut rng, 1, level));
            observe(&mut alone, Direction::HigherIsWorse, &arm("old", &control), &arm("new", &canary), 15);
        }
        assert!(alone.log_e_value() < PROOF.ln(), "{}", alone.log_e_value());
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
