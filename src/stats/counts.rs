//! Counts of bad among all: errors, slow requests, events per unit of traffic.
//!
//! # The argument
//! Given the traffic split of a block, the share of the bad events that falls on the canary is judged by a
//! [`ShareProcess`]: an e-process against "not more than `m` times as bad". What keeps its promise on real noise:
//!
//! - *Margin*: `m` is what the check tolerates, and no less than pods of one version differ by lastingly.
//! - *Inflation*: bad events that come in clusters, and pods that drift by themselves, count for less, as history says.
//! - *Jackknife*: the evidence is the least of the whole's and of those without each canary pod, and without the
//!   heaviest tenants. Each of these is an e-process of its own or at most another one, and the least of e-processes
//!   is at most each of them, so the promise is kept whatever is left out.
//! - *Pace*: with few canary pods, no three minutes are proof ([`Stake::pace`]).
//! - *Surge*: in an outage that both arms share, they do not share it equally, and history does not say how unequally.
//!   While control (in the blocks before) or both arms together (in this block) have far more bad events than usual,
//!   margin and inflation are raised.
//! - *Strata*: where segments are known in both arms, they are compared segment by segment (see `strata`).
//!
//! All of these are set by the past, by the number of bad events of both arms and by the split; so validity is
//! [`ShareProcess`]'s.
//!
//! The mirror, against "at least `safe_ratio` times as bad", is the same process with the arms swapped and a margin of
//! `1/safe_ratio`, raised by the pods' spread and tempered in the same way. A client that fails all the time and stays
//! on control makes any canary look good, so the least of it and of that without control's heaviest tenants counts. It is
//! kept below five times what is asked for, so that a regression that begins late soon takes it back.
//!
//! The interval of the effect inverts a test of each ratio `r` on three running sums. With odds `o = theta/(1-theta)`,
//! `D = sum (S (1-theta) - r (K-S) theta)` has mean 0 and variance `r V`, `V = sum K theta (1-theta)`, where the canary is
//! `r` times as bad; one event moves it by at most 1 up and `b = r theta` down. So (Bennett) `exp(l D - r V (e^l - 1 -
//! l))` is a supermartingale for every `l > 0`, and `exp(-l D/b - r V (e^l - 1 - l)/b^2)` is; each is mixed over a grid of
//! `l`, and the interval holds the `r` that neither rejects at 2.5%. Sums are divided by the inflation block by block;
//! the ends are moved out by the pods' spread. The estimate is that of Mantel and Haenszel.
//!
//! # Limits
//! Inflation and the pods' spread are learnt; a canary pod that differs by itself for longer than minutes, and by more
//! than history shows, is a regression to this test if it is the only one. A tenant who fails wherever it is, is taken
//! for one if telemetry does not tell tenants apart.

mod portion;
mod pulse;
mod share_betting;
pub(super) mod share_process;
mod strata;
mod tempered;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::{
    portion::{Portion, portions},
    pulse::{Pulse, rate},
    strata::Pooled,
};
use super::{
    Block, CanaryShare, Kind, Noise, SAFETY_MAX, SequentialTest, Setting, ShareProcess, Stake, counts, name_hash, paced,
};
use crate::domain::{Concern, Counts, Direction, Interval, PartKind, Sli, Text};

pub(super) const KIND: Kind = Kind {
    name: "counts",
    serves: &["ratio", "events_per_traffic", "liveness", "probe"],
    summary: "bets on the canary's share of the bad events, given its share of the traffic, with each pod left out",
};

/// Pods, or groups of pods, that are left out one at a time.
const LEFT_OUT_MAX: usize = 5;
/// Where pods were told apart and no longer are, what is left without each of them waits so long for them to come back:
/// the one that is bad may be any of them.
const UNTOLD_SECONDS: f32 = 600.0;
/// Less of the traffic than this is not missed among the pods that are told apart.
const UNTOLD_LEAST: f64 = 0.02;
/// Tenants that are left out together.
const TENANTS_MAX: usize = 3;
/// The evidence that would be proof at the default alpha, for concerns.
pub(super) const PROOF: f64 = 6.907_755_278_982_137;
/// Without each of two, three, ... pods, a little less proof is enough, as a logarithm: the whole still has to be proof.
const SLACKS: [f64; 5] = [0.0, 2.0, 1.5, 2.0, 2.2];
/// Growth in 15 seconds with one, two, ... canary pods, as logarithms: with the allowance's ln 10, twelve scrapes of one
/// pod are not proof, and with more pods as much faster as it is less likely that two fail at once.
const PACES: [f64; 5] = [PACE_OF_ONE_POD, 0.45, 0.7, 1.0, 1.6];
pub(super) const PACE_OF_ONE_POD: f64 = 0.34;
/// The same without one of the pods.
const PACES_WITHOUT: [f64; 5] = [PACE_OF_ONE_POD, 0.4, 0.45, 0.6, 0.6];
/// A surge is this many times the usual rate of bad events, two standard deviations up.
const SURGE: f64 = 3.0;
/// The same for both arms together in the block itself, which a regression raises too.
const SURGE_OF_BOTH: f64 = 5.0;
/// What pods feel of one outage differs by this much: a standard deviation of the logarithm.
const SURGE_LOG_SD: f64 = 0.3;
/// How long that lasts, in seconds.
const SURGE_SECONDS: f64 = 300.0;
/// Growth of the proof of safety in 15 seconds, as a logarithm.
const PACE_OF_SAFETY: f64 = 2.0;

/// A part of the canary that is left out of one process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LeftOut {
    pod: u32,
    process: ShareProcess,
}

/// Running sums for the estimate and its interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    worse: f64,
    better: f64,
    variance: f64,
    theta_max: f64,
    floor: f32,
}

/// The test of bad among all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CountTest {
    whole: ShareProcess,
    pods: Vec<LeftOut>,
    slack: f32,
    /// For how many seconds no pods have been told apart.
    untold: f32,
    without_tenants: Option<ShareProcess>,
    safe: ShareProcess,
    safe_without_tenants: Option<ShareProcess>,
    pulse: Pulse,
    sums: Sums,
    suspect_pod: Option<Text>,
    suspect_tenant: Option<(Text, f32)>,
    mismatch: Option<(f32, Text)>,
}

/// How one block is bet on.
struct Bet {
    margin: f64,
    safe_margin: Option<f64>,
    stake: Stake,
    pace_without: f64,
    slack: f64,
    /// The largest rate of bad events that is taken for usual.
    usual_max: f64,
    is_swapped: bool,
}

impl Bet {
    /// What control and canary had, against "not worse than tolerated".
    fn window(&self, control_bad: f64, canary_bad: f64, odds: f64) -> Option<CanaryShare> {
        let bad = control_bad + canary_bad;
        let (on, odds) = if self.is_swapped { (control_bad, 1.0 / odds) } else { (canary_bad, odds) };
        CanaryShare::with_odds(on.min(bad), bad, odds, self.margin)
    }

    /// The same against "at least the safe ratio".
    fn safe_window(&self, control_bad: f64, canary_bad: f64, odds: f64) -> Option<CanaryShare> {
        let bad = control_bad + canary_bad;
        let (on, odds) = if self.is_swapped { (canary_bad, odds) } else { (control_bad, 1.0 / odds) };
        CanaryShare::with_odds(on.min(bad), bad, odds, self.safe_margin?)
    }
}

/// What holds with so many canary pods; five and more are alike.
fn by_pods(each: [f64; 5], pods: f64) -> f64 {
    each.get((pods.round() as usize).clamp(1, 5) - 1).copied().unwrap_or(0.0)
}

impl CountTest {
    /// Nothing seen.
    pub fn start() -> Self {
        Self::default()
    }

    /// The most that evidence lastingly grows in 15 seconds with so many canary pods, as a logarithm.
    pub fn growth_max(canary_pods: u8, pod_incident: Duration) -> f64 {
        paced(by_pods(PACES, f64::from(canary_pods)), pod_incident)
    }

    /// How to bet on this block: from the past, the number of bad events, and the split.
    fn bet(&self, setting: &Setting<'_>, wholes: (Counts, Counts), pooled: &Pooled, pods: f64, span: Duration) -> Bet {
        let (check, calibration) = (setting.check, setting.calibration);
        let (seconds, growing) = (seconds_of(span), setting.growing_seconds(span));
        let (control, canary) = wholes;
        let bad = pooled.control_bad + pooled.canary_bad;
        let tolerated = if check.ratio_max.is_finite() { check.ratio_max.clamp(1.0, 1e3) } else { 1e3 };
        let floor = calibration.pod_floor(pods);
        let a_pod = canary.total as f64 / pods / seconds;
        let base = calibration.base_rate;
        let lately = rate(self.pulse.lately).unwrap_or(base);
        // Both arms together bound how much the rate may have risen by now.
        let both = (control.bad as f64 + canary.bad as f64) / (control.total as f64 + canary.total as f64);
        let expected = lately.max(both / 4.0) * a_pod;
        // With few pods, one that drifts for longer than an hour of history shows is not averaged out by others.
        let excess = (calibration.inflation_at(expected, bad) - 1.0) * (1.0 + 1.0 / (pods * pods));
        let mut supposed_inflation = 1.0 + excess;
        // Without a history, the likelihood ratio takes the events of a block for little more than one.
        let mut inflation =
            if calibration.is_trusted { supposed_inflation } else { supposed_inflation.max(0.5 * (bad + 1.0)) };
        let mut margin = tolerated.max(floor);
        let usual = rate(self.pulse.usually).unwrap_or(base).max(base);
        let is_surge = usual > 0.0 && {
            let now = f64::from(self.pulse.now.0);
            let sure = (now - 2.0 * now.sqrt()) / f64::from(self.pulse.now.1).max(1.0);
            let both_sure = (bad - 2.0 * bad.sqrt()) / (control.total as f64 + canary.total as f64);
            sure > SURGE * usual || both_sure > SURGE_OF_BOTH * usual
        };
        if is_surge {
            let now = rate(self.pulse.now).unwrap_or(both).max(both / 4.0);
            let unequal = SURGE_LOG_SD.powi(2) * SURGE_SECONDS * now * a_pod;
            inflation += unequal;
            supposed_inflation += unequal;
            margin *= ((2.0 + 0.5 / pods) * SURGE_LOG_SD / pods.sqrt()).exp();
        }
        let safe = if setting.safe_ratio.is_finite() { setting.safe_ratio / floor } else { 0.0 };
        let with = |each| by_pods(each, pods);
        let pace = setting.paced(with(PACES));
        Bet {
            margin,
            safe_margin: (safe > 1.0).then_some(1.0 / safe),
            stake: Stake { inflation, supposed_inflation, pace, seconds: growing },
            pace_without: setting.paced(with(PACES_WITHOUT)),
            slack: if calibration.noise == Noise::Autocorrelated || !calibration.is_trusted {
                0.0
            } else {
                with(SLACKS)
            },
            usual_max: SURGE * usual,
            is_swapped: matches!(
                (&check.sli, check.direction),
                (Sli::EventsPerTraffic { .. }, Direction::LowerIsWorse)
            ),
        }
    }

    /// The slot in which a pod is left out; a new one begins as the whole, since the pod was left out of it so far.
    fn claim(&mut self, pods: &[Portion<'_>]) -> Vec<usize> {
        let hashes: Vec<u32> = pods.iter().map(|pod| name_hash(pod.name.as_str())).collect();
        let mut slots = vec![None; hashes.len()];
        for (slot, hash) in slots.iter_mut().zip(&hashes) {
            *slot = self.pods.iter().position(|left_out| left_out.pod == *hash);
        }
        for (slot, hash) in slots.iter_mut().zip(&hashes).filter(|(slot, _)| slot.is_none()) {
            if self.pods.len() < LEFT_OUT_MAX {
                self.pods.push(LeftOut { pod: *hash, process: self.whole.clone() });
                *slot = Some(self.pods.len() - 1);
            } else if let Some(at) = self.pods.iter().position(|left_out| !hashes.contains(&left_out.pod)) {
                if let Some(left_out) = self.pods.get_mut(at) {
                    left_out.pod = *hash;
                }
                *slot = Some(at);
            } else {
                *slot = Some(*hash as usize % LEFT_OUT_MAX);
            }
        }
        slots.into_iter().flatten().collect()
    }

    fn bet_without_pods(&mut self, bet: &Bet, pooled: &Pooled, pods: &[Portion<'_>], seconds: f64) {
        if pods.len() < 2 && self.pods.is_empty() {
            return;
        }
        self.untold = if pods.is_empty() { (self.untold + seconds as f32).min(1e6) } else { 0.0 };
        let waits = pods.is_empty() && self.untold < UNTOLD_SECONDS;
        // A pod that is not told of may be in what the others do not make up.
        let told = pods.iter().fold((0.0, 0.0), |told, pod| (told.0 + pod.of_bad, told.1 + pod.of_traffic));
        let untold = (1.0 - told.0.min(1.0), 1.0 - told.1.min(1.0));
        let slots = self.claim(pods);
        for (at, left_out) in self.pods.iter_mut().enumerate() {
            let own = pods.iter().zip(&slots).filter(|(_, slot)| **slot == at);
            let (many, of_bad, of_traffic) = own.fold((0, 0.0, 0.0), |(many, of_bad, of_traffic), (pod, _)| {
                (many + 1, of_bad + pod.of_bad, of_traffic + pod.of_traffic)
            });
            let (of_bad, of_traffic) = if many == 0 && untold.1 > UNTOLD_LEAST { untold } else { (of_bad, of_traffic) };
            let window = without(bet, pooled, of_bad, of_traffic).filter(|_| !waits);
            left_out.process.bet(window, &Stake { pace: bet.pace_without, ..bet.stake });
        }
        self.suspect_pod = self.weakest().and_then(|weakest| {
            let of_slot = pods.iter().zip(&slots).filter(|(_, slot)| **slot == weakest);
            let worst = of_slot.max_by(|a, b| a.0.bad.total_cmp(&b.0.bad));
            worst.map(|(pod, _)| shortened(pod.name))
        });
    }

    /// Bets on safety, with all tenants and without control's heaviest.
    fn bet_on_safety(&mut self, bet: &Bet, pooled: &Pooled, mut tenants: Vec<Portion<'_>>) {
        let patient = Stake { pace: PACE_OF_SAFETY, ..bet.stake };
        if !tenants.is_empty() || self.safe_without_tenants.is_some() {
            let safe = &self.safe;
            let process = self.safe_without_tenants.get_or_insert_with(|| safe.clone());
            let (of_bad, of_traffic) = heaviest(&mut tenants);
            let control_bad = pooled.control_bad * (1.0 - of_bad.min(1.0));
            let odds = pooled.odds / (1.0 - of_traffic);
            process.bet(bet.safe_window(control_bad, pooled.canary_bad, odds), &patient);
            process.keep_below(SAFETY_MAX);
        }
        self.safe.bet(bet.safe_window(pooled.control_bad, pooled.canary_bad, pooled.odds), &patient);
        self.safe.keep_below(SAFETY_MAX);
    }

    /// The pod without which least is left.
    fn weakest(&self) -> Option<usize> {
        let each = self.pods.iter().map(|left_out| left_out.process.log_e()).enumerate();
        each.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
    }

    /// Leaves out the canary's tenants with most bad events in this block.
    fn bet_without_tenants(&mut self, bet: &Bet, pooled: &Pooled, mut tenants: Vec<Portion<'_>>) {
        if tenants.is_empty() && self.without_tenants.is_none() {
            return;
        }
        let (of_bad, of_traffic) = heaviest(&mut tenants);
        let whole = &self.whole;
        let process = self.without_tenants.get_or_insert_with(|| whole.clone());
        process.bet(without(bet, pooled, of_bad, of_traffic), &bet.stake);
        if let Some(heaviest) = tenants.first() {
            self.suspect_tenant = match self.suspect_tenant.take() {
                Some((name, bad)) if name == *heaviest.name => Some((name, bad + heaviest.bad as f32)),
                Some((name, bad)) if f64::from(bad) > heaviest.bad => Some((name, bad - heaviest.bad as f32)),
                _ => Some((shortened(heaviest.name), heaviest.bad as f32)),
            };
        }
    }
}

/// What the tenants with most bad events have of an arm, as long as they are not most of its traffic. They are sorted.
fn heaviest(tenants: &mut [Portion<'_>]) -> (f64, f64) {
    tenants.sort_by(|a, b| b.bad.total_cmp(&a.bad).then_with(|| a.name.cmp(b.name)));
    tenants.iter().take(TENANTS_MAX).fold((0.0, 0.0), |(of_bad, of_traffic), tenant| {
        let more = of_traffic + tenant.of_traffic;
        if more <= 0.5 { (of_bad + tenant.of_bad, more) } else { (of_bad, of_traffic) }
    })
}

/// The canary without a portion of it; the whole where nothing of it would be left.
fn without(bet: &Bet, pooled: &Pooled, of_bad: f64, of_traffic: f64) -> Option<CanaryShare> {
    let (of_bad, of_traffic) = if of_traffic < 0.99 { (of_bad.min(1.0), of_traffic) } else { (0.0, 0.0) };
    bet.window(pooled.control_bad, pooled.canary_bad * (1.0 - of_bad), pooled.odds * (1.0 - of_traffic))
}

/// The number of pods that would share the traffic equally.
fn effective_pods(pods: &[Portion<'_>]) -> f64 {
    let (sum, squares) =
        pods.iter().fold((0.0, 0.0), |(sum, squares), pod| (sum + pod.of_traffic, squares + pod.of_traffic.powi(2)));
    if squares > 0.0 { (sum * sum / squares).max(1.0) } else { 1.0 }
}

fn seconds_of(span: Duration) -> f64 {
    span.as_secs_f64().clamp(0.001, 86_400.0)
}

fn shortened(name: &Text) -> Text {
    Text::new(name.as_str().chars().take(40).collect::<String>())
}

impl SequentialTest for CountTest {
    fn observe(&mut self, setting: &Setting<'_>, block: &Block<'_>) {
        let check = setting.check;
        let both = (counts(check, &block.control.tally), counts(check, &block.canary.tally));
        let (Some(control), Some(canary)) = both else { return };
        if control.total == 0 || canary.total == 0 {
            return;
        }
        let Some(pooled) = strata::pooled(check, block.control, block.canary, (control, canary)) else { return };
        let pods = portions(check, block.canary, PartKind::Pod, canary);
        let bet = self.bet(setting, (control, canary), &pooled, effective_pods(&pods), block.span);
        self.bet_without_pods(&bet, &pooled, &pods, seconds_of(block.span));
        self.bet_without_tenants(&bet, &pooled, portions(check, block.canary, PartKind::Tenant, canary));
        self.whole.bet(bet.window(pooled.control_bad, pooled.canary_bad, pooled.odds), &bet.stake);
        self.bet_on_safety(&bet, &pooled, portions(check, block.control, PartKind::Tenant, control));
        self.sums.add(&pooled, bet.stake.inflation, setting.calibration.pod_floor(effective_pods(&pods)));
        self.slack = bet.slack as f32;
        self.pulse.follow(control, seconds_of(block.span), bet.usual_max);
        if let Some((differs, name)) = pooled.mismatch {
            self.mismatch = (differs > 0.1).then(|| (differs as f32, shortened(&name)));
        }
    }

    fn log_e_value(&self) -> f64 {
        let tenants = self.without_tenants.iter().map(ShareProcess::log_e);
        let pods = self.pods.iter().map(|left_out| left_out.process.log_e());
        pods.map(|log_e| log_e + f64::from(self.slack)).chain(tenants).fold(self.whole.log_e(), f64::min)
    }

    fn log_e_safe(&self) -> f64 {
        self.safe_without_tenants.iter().map(ShareProcess::log_e).fold(self.safe.log_e(), f64::min)
    }

    fn effect(&self) -> Option<(f64, Interval)> {
        self.sums.effect()
    }

    fn concern(&self) -> Option<Concern> {
        if let Some((differs, name)) = &self.mismatch {
            return Some(Concern::Mismatch(f64::from(*differs), name.clone()));
        }
        if self.whole.log_e() < PROOF {
            return None;
        }
        let without_tenants = self.without_tenants.as_ref().map_or(f64::INFINITY, ShareProcess::log_e);
        let without_pod = self
            .pods
            .iter()
            .map(|left_out| left_out.process.log_e() + f64::from(self.slack))
            .fold(f64::INFINITY, f64::min);
        if without_pod < PROOF && without_pod <= without_tenants {
            return self.suspect_pod.clone().map(Concern::OnePod);
        }
        if without_tenants < PROOF {
            return self.suspect_tenant.clone().map(|(name, _)| Concern::OneTenant(name));
        }
        None
    }
}

/// The multiples that the interval's tests bet on, `l` in the head of this file: halving from 2.
const TILTS: usize = 12;
/// Half of the interval's error.
const INTERVAL_PROOF: f64 = 3.688_879_454_113_936;

impl Sums {
    fn add(&mut self, pooled: &Pooled, inflation: f64, floor: f64) {
        let bad = pooled.control_bad + pooled.canary_bad;
        let theta = pooled.odds / (1.0 + pooled.odds);
        if bad <= 0.0 || !(1e-9..=1.0 - 1e-9).contains(&theta) {
            return;
        }
        self.worse = (self.worse + pooled.canary_bad * (1.0 - theta) / inflation).min(1e18);
        self.better = (self.better + pooled.control_bad * theta / inflation).min(1e18);
        self.variance = (self.variance + bad * theta * (1.0 - theta) / inflation).min(1e18);
        self.theta_max = self.theta_max.max(theta);
        self.floor = floor as f32;
    }

    /// Evidence that the canary is more than `ratio` times as bad.
    fn above(&self, ratio: f64) -> f64 {
        let difference = self.worse - ratio * self.better;
        mixed(|tilt| tilt * difference - ratio * self.variance * (tilt.exp_m1() - tilt))
    }

    /// Evidence that it is less.
    fn below(&self, ratio: f64) -> f64 {
        let step = ratio * self.theta_max;
        let difference = (ratio * self.better - self.worse) / step;
        mixed(|tilt| tilt * difference - ratio * self.variance / (step * step) * (tilt.exp_m1() - tilt))
    }

    fn effect(&self) -> Option<(f64, Interval)> {
        if self.better <= 0.0 {
            return None;
        }
        let ratio = self.worse / self.better;
        let (mut low, mut high) = ((-14.0_f64, 14.0_f64), (-14.0_f64, 14.0_f64));
        for _ in 0..40 {
            let middle = 0.5 * (low.0 + low.1);
            if self.above(middle.exp()) >= INTERVAL_PROOF {
                low.0 = middle
            } else {
                low.1 = middle
            }
            let middle = 0.5 * (high.0 + high.1);
            if self.below(middle.exp()) >= INTERVAL_PROOF { high.1 = middle } else { high.0 = middle }
        }
        let floor = f64::from(self.floor).max(1.0);
        let interval = Interval { low: (low.0.exp() / floor).min(ratio), high: (high.1.exp() * floor).max(ratio) };
        (ratio.is_finite() && interval.high.is_finite()).then_some((ratio, interval))
    }
}

/// The logarithm of the mean of the exponentials of `log_e`, over the tilts.
fn mixed(log_e: impl Fn(f64) -> f64) -> f64 {
    let each: [f64; TILTS] = std::array::from_fn(|halvings| log_e(2.0 * 0.5_f64.powi(halvings as i32)));
    let most = each.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !most.is_finite() {
        return 0.0;
    }
    most + (each.iter().map(|one| (one - most).exp()).sum::<f64>() / TILTS as f64).ln()
}

#[cfg(test)]
pub(super) mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        domain::{Aim, Check, CheckName, Origin, Part, Reading, Selector, Tally, Weight},
        stats::{Calibration, Noise, POD_INCIDENT, Running},
    };

    pub(in crate::stats) fn check(ratio_max: f64) -> Check {
        Check {
            name: CheckName::new("errors"),
            sli: Sli::Ratio { bad: Selector::metric("bad"), total: Selector::metric("all") },
            direction: Direction::HigherIsWorse,
            ratio_max,
            limit: None,
            aim: Aim::Guard,
            weight: Weight::Critical,
            origin: Origin::Slo,
            rationale: Text::default(),
            lines: Vec::new(),
            split: Default::default(),
        }
    }

    fn trusted() -> Calibration {
        Calibration {
            is_trusted: true,
            dispersion: 0.0,
            pod_log_sd: 0.02,
            block: Duration::from_secs(15),
            inflation: 1.02,
            pod_events_per_second: 0.5,
            base_rate: 0.0,
            noise: Noise::Independent,
        }
    }

    fn whole(bad: u64, total: u64) -> Reading {
        Reading::whole(Tally::Counts(Counts { bad, total }))
    }

    fn with_parts(kind: PartKind, parts: &[(&str, u64, u64)], rest: (u64, u64)) -> Reading {
        let sum = parts.iter().fold(rest, |sum, (_, bad, total)| (sum.0 + bad, sum.1 + total));
        let part = |(name, bad, total): &(&str, u64, u64)| Part {
            kind,
            name: Text::new(name),
            tally: Tally::Counts(Counts { bad: *bad, total: *total }),
        };
        Reading { parts: parts.iter().map(part).collect(), ..whole(sum.0, sum.1) }
    }

    fn observe(test: &mut CountTest, check: &Check, control: &Reading, canary: &Reading) {
        let calibration = trusted();
        let setting =
            Setting { check, calibration: &calibration, safe_ratio: 2.0, pod_incident: crate::stats::POD_INCIDENT };
        test.observe(&setting, &Block { control, canary, span: Duration::from_secs(15) });
    }

    fn after(blocks: usize, control: &Reading, canary: &Reading) -> CountTest {
        let mut test = CountTest::start();
        (0..blocks).for_each(|_| observe(&mut test, &check(1.1), control, canary));
        test
    }

    #[test]
    fn nothing_bad_proves_nothing_and_an_arm_without_traffic_is_no_zero() {
        assert!(after(100, &whole(0, 1000), &whole(0, 10)).log_e_value().abs() < 1e-6);
        assert_eq!(after(100, &whole(0, 0), &whole(5, 10)), CountTest::start());
        assert_eq!(after(100, &whole(5, 10), &whole(0, 0)), CountTest::start());
    }

    #[test]
    fn a_regression_of_every_pod_is_proof_and_a_shared_outage_is_not() {
        let pods = [("a", 6, 200), ("b", 5, 200), ("c", 6, 200), ("d", 5, 200), ("e", 6, 200)];
        let bad = after(8, &whole(15, 3000), &with_parts(PartKind::Pod, &pods, (0, 0)));
        assert!(bad.log_e_value() > PROOF, "{}", bad.log_e_value());
        let pods = [("a", 60, 200), ("b", 60, 200), ("c", 60, 200)];
        let shared = after(100, &whole(900, 3000), &with_parts(PartKind::Pod, &pods, (0, 0)));
        assert!(shared.log_e_value() < 1.0 && shared.concern().is_none());
    }

    #[test]
    fn three_minutes_of_a_lone_pod_are_no_proof_and_five_are() {
        let at = |blocks| after(blocks, &whole(95, 19_000), &whole(150, 1000)).log_e_value();
        assert!(at(12) < PROOF, "{}", at(12));
        assert!(at(20) > PROOF, "{}", at(20));
    }

    #[test]
    fn three_bad_minutes_of_a_lone_pod_are_no_proof_after_a_gap_either() {
        let (check, calibration) = (check(1.1), trusted());
        for minutes in [3, 5, 10, 60] {
            let mut test = after(60, &whole(95, 19_000), &whole(5, 1000));
            let canary = whole(5 * 4 * minutes + 3600, 1000 * 4 * minutes);
            let control = whole(95 * 4 * minutes, 19_000 * 4 * minutes);
            let setting =
                Setting { check: &check, calibration: &calibration, safe_ratio: 2.0, pod_incident: POD_INCIDENT };
            let span = Duration::from_secs(60 * minutes);
            test.observe(&setting, &Block { control: &control, canary: &canary, span });
            test.observe(&setting, &Block { control: &control, canary: &canary, span });
            assert!(test.log_e_value() < PROOF, "{minutes} min: {}", test.log_e_value());
            (0..3).for_each(|_| test.observe(&setting, &Block { control: &control, canary: &canary, span }));
            assert!(test.log_e_value() > PROOF, "what lasts is found");
        }
    }

    #[test]
    fn one_bad_pod_is_a_concern_and_no_proof() {
        let pods = [("a", 1, 200), ("b", 60, 200), ("c", 1, 200), ("d", 1, 200), ("e", 1, 200)];
        let test = after(40, &whole(15, 3000), &with_parts(PartKind::Pod, &pods, (0, 0)));
        assert!(test.log_e_value() < PROOF);
        assert_eq!(test.concern(), Some(Concern::OnePod(Text::new("b"))));
    }

    #[test]
    fn one_bad_pod_is_no_proof_where_pods_are_not_always_told_apart() {
        let pods = [("a", 1, 200), ("b", 60, 200), ("c", 1, 200), ("d", 1, 200), ("e", 1, 200)];
        let all = with_parts(PartKind::Pod, &pods, (0, 0));
        let mut but_the_bad = all.clone();
        but_the_bad.parts.remove(1);
        let no_parts = whole(64, 1000);
        for sometimes in [&but_the_bad, &no_parts] {
            let mut test = CountTest::start();
            for look in 0..120 {
                observe(&mut test, &check(1.1), &whole(15, 3000), if look % 4 == 0 { &all } else { sometimes });
            }
            assert!(test.log_e_value() < PROOF, "{}", test.log_e_value());
        }
        // Where they are told apart no more, a regression is found all the same.
        let mut test = after(10, &whole(15, 3000), &with_parts(PartKind::Pod, &pods, (0, 0)));
        (0..80).for_each(|_| observe(&mut test, &check(1.1), &whole(15, 3000), &no_parts));
        assert!(test.log_e_value() > PROOF, "{}", test.log_e_value());
    }

    #[test]
    fn heavy_tenants_are_a_concern_and_no_proof() {
        let tenants = [("bot", 30, 40), ("crawler", 10, 20)];
        let test = after(60, &whole(40, 8000), &with_parts(PartKind::Tenant, &tenants, (10, 1940)));
        assert!(test.log_e_value() < PROOF);
        assert_eq!(test.concern(), Some(Concern::OneTenant(Text::new("bot"))));
        // A tenant that is all there is, is not left out.
        let test = after(60, &whole(40, 8000), &with_parts(PartKind::Tenant, &[("only", 50, 2000)], (0, 0)));
        assert!(test.log_e_value() > PROOF);
    }

    #[test]
    fn another_mix_of_segments_is_no_regression() {
        // Exports fail ten times as often in both arms; the canary has more of them.
        let control = with_parts(PartKind::Segment, &[("export", 10, 100), ("read", 90, 9000)], (0, 0));
        let canary = with_parts(PartKind::Segment, &[("export", 90, 900), ("read", 1, 100)], (0, 0));
        let test = after(60, &control, &canary);
        assert!(test.log_e_value() < 1.0, "{}", test.log_e_value());
        assert!(matches!(test.concern(), Some(Concern::Mismatch(differs, _)) if differs > 0.5));
        let unknown = after(60, &whole(100, 9100), &whole(91, 1000));
        assert!(unknown.log_e_value() > PROOF, "without segments it cannot be told");
        // Without a segment in common nothing can be compared.
        let canary = with_parts(PartKind::Segment, &[("upload", 900, 1000)], (0, 0));
        assert!(after(60, &control, &canary).log_e_value().abs() < 1e-6);
    }

    #[test]
    fn fewer_sign_ins_are_found_where_less_is_worse() {
        let mut fewer = Check { direction: Direction::LowerIsWorse, ..check(1.1) };
        let mut test = CountTest::start();
        (0..40).for_each(|_| observe(&mut test, &fewer, &whole(950, 1000), &whole(20, 50)));
        assert!(test.log_e_value() > PROOF);
        fewer.sli = Sli::EventsPerTraffic { events: Selector::metric("a"), traffic: Selector::metric("b") };
        let mut test = CountTest::start();
        (0..400).for_each(|_| observe(&mut test, &fewer, &whole(2000, 1000), &whole(900, 1000)));
        assert!(test.log_e_value() > PROOF, "{}", test.log_e_value());
        let mut test = CountTest::start();
        (0..400).for_each(|_| observe(&mut test, &fewer, &whole(2000, 1000), &whole(4000, 1000)));
        assert!(test.log_e_value() < 1.0);
    }

    #[test]
    fn rare_events_that_only_the_canary_has_are_soon_proof() {
        for (share, at_most) in [(0.01, 4), (0.05, 5), (0.25, 9)] {
            let canary = (1e6 * share) as u64;
            let mut test = CountTest::start();
            let mut events = 0;
            while test.log_e_value() < PROOF && events < 100 {
                (0..20).for_each(|_| observe(&mut test, &check(1.1), &whole(0, 1_000_000 - canary), &whole(0, canary)));
                observe(&mut test, &check(1.1), &whole(0, 1_000_000 - canary), &whole(1, canary));
                events += 1;
            }
            assert!(events <= at_most, "{events} at {share}");
        }
    }

    #[test]
    fn an_equal_canary_is_shown_safe_and_one_twice_as_bad_is_not() {
        assert!(after(60, &whole(95, 19_000), &whole(5, 1000)).log_e_safe() > 20_f64.ln());
        assert!(after(60, &whole(95, 19_000), &whole(10, 1000)).log_e_safe() < 1.0);
    }

    #[test]
    fn safety_is_soon_taken_back_by_a_regression_that_begins_late() {
        let mut test = after(240, &whole(95, 19_000), &whole(5, 1000));
        (0..12).for_each(|_| observe(&mut test, &check(1.1), &whole(95, 19_000), &whole(10, 1000)));
        assert!(test.log_e_safe() < 20_f64.ln() && test.log_e_value() < PROOF, "{}", test.log_e_safe());
    }

    #[test]
    fn a_tenant_that_fails_on_control_alone_does_not_show_a_bad_canary_safe() {
        let control = with_parts(PartKind::Tenant, &[("bot", 120, 200)], (95, 18_800));
        assert!(after(60, &whole(215, 19_000), &whole(10, 1000)).log_e_safe() > 20_f64.ln(), "where it is not known");
        assert!(after(60, &control, &whole(10, 1000)).log_e_safe() < 1.0);
        assert!(after(60, &control, &whole(5, 1000)).log_e_safe() > 20_f64.ln(), "a good one is shown safe");
    }

    /// The interval holds the truth at every moment, on at least 95 of 100 paths.
    #[test]
    fn the_interval_holds_the_truth_at_every_moment() {
        let mut rng = StdRng::seed_from_u64(11);
        for truth in [1.0, 3.0] {
            let mut missed = 0;
            for _ in 0..100 {
                let mut test = CountTest::start();
                let mut is_missed = false;
                for block in 0..60 {
                    let canary = crate::eval::noise::poisson(5.0 * truth, &mut rng);
                    let control = crate::eval::noise::poisson(20.0, &mut rng);
                    observe(&mut test, &check(1.1), &whole(control, 2000), &whole(canary, 500));
                    if block % 10 == 9 {
                        let (estimate, interval) = test.effect().unwrap();
                        assert!(interval.low <= estimate && estimate <= interval.high);
                        is_missed |= truth < interval.low || truth > interval.high;
                    }
                }
                let (_, interval) = test.effect().unwrap();
                assert!(interval.high / interval.low < 2.5, "{interval:?} says little");
                missed += i32::from(is_missed);
            }
            assert!(missed <= 5, "{missed} at {truth}");
        }
        assert_eq!(after(5, &whole(0, 10), &whole(3, 10)).effect(), None);
    }

    #[test]
    fn any_numbers_leave_it_finite() {
        let numbers = [0, 1, 7, u64::MAX / 2, u64::MAX];
        let mut check = check(f64::NAN);
        let mut test = CountTest::start();
        for calibration in [trusted(), Calibration::untrusted(), Calibration { inflation: f64::NAN, ..trusted() }] {
            for safe_ratio in [f64::NAN, f64::INFINITY, 0.0, 2.0] {
                check.ratio_max = safe_ratio;
                for a in numbers {
                    for b in numbers {
                        let control =
                            with_parts(PartKind::Segment, &[("a", a / 4, b / 4), ("b", b / 4, a / 4)], (1, 1));
                        let canary = with_parts(PartKind::Pod, &[("x", b / 4, a / 4), ("y", a / 4, b / 4)], (0, 1));
                        let setting = Setting {
                            check: &check,
                            calibration: &calibration,
                            safe_ratio,
                            pod_incident: crate::stats::POD_INCIDENT,
                        };
                        for span in [Duration::ZERO, Duration::MAX] {
                            test.observe(&setting, &Block { control: &control, canary: &canary, span });
                            test.observe(&setting, &Block { control: &whole(a, b), canary: &whole(b, a), span });
                        }
                        assert!(test.log_e_value().is_finite() && test.log_e_safe().is_finite());
                        if let Some((estimate, interval)) = test.effect() {
                            assert!(estimate.is_finite() && interval.low.is_finite() && interval.high.is_finite());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn state_is_small_and_resumes_bit_for_bit() {
        let long = "a-tenant-with-a-name-that-is-as-long-as-names-may-ever-become-in-kubernetes";
        let control = with_parts(PartKind::Segment, &[("export", 10, 100), ("read", 90, 9000)], (0, 0));
        let pods: Vec<String> = (0..9).map(|pod| format!("{long}-{pod}")).collect();
        let parts: Vec<_> = pods.iter().map(|name| (name.as_str(), 3, 100)).collect();
        let mut canary = with_parts(PartKind::Pod, &parts, (0, 0));
        canary.parts.extend(with_parts(PartKind::Tenant, &[(long, 9, 100)], (0, 0)).parts);
        canary.parts.extend(with_parts(PartKind::Segment, &[(long, 9, 100), ("read", 18, 800)], (0, 0)).parts);
        let mut test = after(30, &control, &canary);
        let bytes = postcard::to_allocvec(&Running::Counts(Box::new(test.clone()))).unwrap();
        assert!(bytes.len() <= 1024, "{}", bytes.len());
        let mut resumed: CountTest = postcard::from_bytes(&postcard::to_allocvec(&test).unwrap()).unwrap();
        for _ in 0..30 {
            observe(&mut test, &check(1.1), &control, &canary);
            observe(&mut resumed, &check(1.1), &control, &canary);
        }
        assert_eq!(test, resumed);
    }
}
