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
//! `1/safe_ratio`, raised by the pods' spread and tempered in the same way.
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

use serde::{Deserialize, Serialize};

use super::{
    Block, Kind, Noise, SequentialTest, Setting, ShareProcess, Stake, Window, counts, name_hash,
    strata::{self, Pooled},
};
use crate::domain::{Check, Concern, Counts, Direction, Interval, PartKind, Reading, Sli, Text};

pub(super) const KIND: Kind = Kind {
    name: "bad_among_all",
    serves: &["ratio", "latency", "events_per_traffic"],
    summary: "bets on the canary's share of the bad events, given its share of the traffic, with each pod left out",
};

/// Pods, or groups of pods, that are left out one at a time.
const LEFT_OUT_MAX: usize = 5;
/// Tenants that are left out together.
const TENANTS_MAX: usize = 3;
/// The evidence that would be proof at the default alpha, for concerns.
const PROOF: f64 = 6.907_755_278_982_137;
/// Without each of two, three, ... pods, a little less proof is enough, as a logarithm: the whole still has to be proof.
const SLACKS: [f64; 5] = [0.0, 2.0, 1.5, 2.0, 2.5];
/// Growth in 15 seconds with one, two, ... canary pods, as logarithms: with the allowance's ln 10, twelve scrapes of one
/// pod are not proof, and with more pods as much faster as it is less likely that two fail at once.
const PACES: [f64; 5] = [0.34, 0.45, 0.7, 1.0, 1.6];
/// The same without one of the pods.
const PACES_WITHOUT: [f64; 5] = [0.34, 0.4, 0.45, 0.6, 0.7];
/// A surge is this many times the usual rate of bad events, two standard deviations up.
const SURGE: f64 = 3.0;
/// The same for both arms together in the block itself, which a regression raises too.
const SURGE_OF_BOTH: f64 = 5.0;
/// What pods feel of one outage differs by this much: a standard deviation of the logarithm.
const SURGE_LOG_SD: f64 = 0.3;
/// How long that lasts, in seconds.
const SURGE_SECONDS: f64 = 300.0;
/// Control's rate is followed with these memories, in seconds: now, lately, and usually.
const NOW_SECONDS: f64 = 30.0;
const LATELY_SECONDS: f64 = 240.0;
const USUALLY_SECONDS: f64 = 3600.0;

/// A part of the canary that is left out of one process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LeftOut {
    pod: u32,
    process: ShareProcess,
}

/// Control's bad events per second and canary-sized unit: how fast they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Pulse {
    /// Bad events and requests of control, with the memories above.
    now: (f32, f32),
    lately: (f32, f32),
    usually: (f32, f32),
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
    without_tenants: Option<ShareProcess>,
    safe: ShareProcess,
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
    fn window(&self, control_bad: f64, canary_bad: f64, odds: f64) -> Option<Window> {
        let bad = control_bad + canary_bad;
        let (on, odds) = if self.is_swapped { (control_bad, 1.0 / odds) } else { (canary_bad, odds) };
        Window::with_odds(on.min(bad), bad, odds, self.margin)
    }

    /// The same against "at least the safe ratio".
    fn safe_window(&self, control_bad: f64, canary_bad: f64, odds: f64) -> Option<Window> {
        let bad = control_bad + canary_bad;
        let (on, odds) = if self.is_swapped { (canary_bad, odds) } else { (control_bad, 1.0 / odds) };
        Window::with_odds(on.min(bad), bad, odds, self.safe_margin?)
    }
}

/// One canary part as a portion of the canary.
struct Portion<'a> {
    name: &'a Text,
    bad: f64,
    of_bad: f64,
    of_traffic: f64,
}

fn portions<'a>(check: &Check, reading: &'a Reading, kind: PartKind, whole: Counts) -> Vec<Portion<'a>> {
    let portion = |part: &'a crate::domain::Part| {
        let counted = counts(check, &part.tally)?;
        let of_bad = if whole.bad > 0 { counted.bad as f64 / whole.bad as f64 } else { 0.0 };
        let of_traffic = counted.total as f64 / whole.total as f64;
        (counted.total > 0).then_some(Portion {
            name: &part.name,
            bad: counted.bad as f64,
            of_bad: of_bad.min(1.0),
            of_traffic: of_traffic.min(1.0),
        })
    };
    reading.parts_of(kind).filter_map(portion).collect()
}

impl CountTest {
    /// Nothing seen.
    pub fn start() -> Self {
        Self::default()
    }

    /// How to bet on this block: from the past, the number of bad events, and the split.
    fn bet(&self, setting: &Setting<'_>, wholes: (Counts, Counts), pooled: &Pooled, pods: f64, seconds: f64) -> Bet {
        let (check, calibration) = (setting.check, setting.calibration);
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
        let mut supposed_inflation = calibration.inflation_at(expected, bad);
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
        let with = |each: [f64; 5]| each.get((pods.round() as usize).clamp(1, 5) - 1).copied().unwrap_or(0.0);
        let pace = with(PACES);
        Bet {
            margin,
            safe_margin: (safe > 1.0).then_some(1.0 / safe),
            stake: Stake { inflation, supposed_inflation, pace, seconds },
            pace_without: with(PACES_WITHOUT),
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

    fn bet_without_pods(&mut self, bet: &Bet, pooled: &Pooled, pods: &[Portion<'_>]) {
        if pods.len() < 2 && self.pods.is_empty() {
            return;
        }
        let slots = self.claim(pods);
        for (at, left_out) in self.pods.iter_mut().enumerate() {
            let (mut of_bad, mut of_traffic) = (0.0, 0.0);
            for (pod, _) in pods.iter().zip(&slots).filter(|(_, slot)| **slot == at) {
                of_bad += pod.of_bad;
                of_traffic += pod.of_traffic;
            }
            let stake = Stake { pace: bet.pace_without, ..bet.stake };
            left_out.process.bet(without(bet, pooled, of_bad, of_traffic), &stake);
        }
        self.suspect_pod = self.weakest().and_then(|weakest| {
            let of_slot = pods.iter().zip(&slots).filter(|(_, slot)| **slot == weakest);
            let worst = of_slot.max_by(|a, b| a.0.bad.total_cmp(&b.0.bad));
            worst.map(|(pod, _)| shortened(pod.name))
        });
    }

    /// The pod without which least is left.
    fn weakest(&self) -> Option<usize> {
        let each = self.pods.iter().map(|left_out| left_out.process.log_e()).enumerate();
        each.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
    }

    /// Leaves out the tenants with most bad events in this block, as long as they are not most of the traffic.
    fn bet_without_tenants(&mut self, bet: &Bet, pooled: &Pooled, mut tenants: Vec<Portion<'_>>) {
        if tenants.is_empty() && self.without_tenants.is_none() {
            return;
        }
        tenants.sort_by(|a, b| b.bad.total_cmp(&a.bad).then_with(|| a.name.cmp(b.name)));
        let (mut of_bad, mut of_traffic) = (0.0, 0.0);
        for tenant in tenants.iter().take(TENANTS_MAX) {
            if of_traffic + tenant.of_traffic <= 0.5 {
                of_bad += tenant.of_bad;
                of_traffic += tenant.of_traffic;
            }
        }
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

/// The canary without a portion of it; the whole where nothing of it would be left.
fn without(bet: &Bet, pooled: &Pooled, of_bad: f64, of_traffic: f64) -> Option<Window> {
    let (of_bad, of_traffic) = if of_traffic < 0.99 { (of_bad.min(1.0), of_traffic) } else { (0.0, 0.0) };
    bet.window(pooled.control_bad, pooled.canary_bad * (1.0 - of_bad), pooled.odds * (1.0 - of_traffic))
}

/// The number of pods that would share the traffic equally.
fn effective_pods(pods: &[Portion<'_>]) -> f64 {
    let (sum, squares) =
        pods.iter().fold((0.0, 0.0), |(sum, squares), pod| (sum + pod.of_traffic, squares + pod.of_traffic.powi(2)));
    if squares > 0.0 { (sum * sum / squares).max(1.0) } else { 1.0 }
}

fn rate(sums: (f32, f32)) -> Option<f64> {
    (sums.1 > 0.0).then(|| f64::from(sums.0) / f64::from(sums.1))
}

fn shortened(name: &Text) -> Text {
    Text::new(name.as_str().chars().take(40).collect::<String>())
}

impl Pulse {
    fn follow(&mut self, control: Counts, seconds: f64, usual_max: f64) {
        let usual_bad = if usual_max > 0.0 {
            (control.bad as f64).min(usual_max * control.total as f64)
        } else {
            control.bad as f64
        };
        for (sums, memory, bad) in [
            (&mut self.now, NOW_SECONDS, control.bad as f64),
            (&mut self.lately, LATELY_SECONDS, control.bad as f64),
            (&mut self.usually, USUALLY_SECONDS, usual_bad),
        ] {
            let keep = (-seconds / memory).exp();
            sums.0 = (f64::from(sums.0) * keep + bad).min(1e30) as f32;
            sums.1 = (f64::from(sums.1) * keep + control.total as f64).min(1e30) as f32;
        }
    }
}

impl SequentialTest for CountTest {
    fn observe(&mut self, setting: &Setting<'_>, block: &Block<'_>) {
        let check = setting.check;
        let both = (counts(check, &block.control.tally), counts(check, &block.canary.tally));
        let (Some(control), Some(canary)) = both else { return };
        if control.total == 0 || canary.total == 0 {
            return;
        }
        let seconds = block.span.as_secs_f64().clamp(0.001, 86_400.0);
        let Some(pooled) = strata::pooled(check, block.control, block.canary, (control, canary)) else { return };
        let pods = portions(check, block.canary, PartKind::Pod, canary);
        let bet = self.bet(setting, (control, canary), &pooled, effective_pods(&pods), seconds);
        self.bet_without_pods(&bet, &pooled, &pods);
        self.bet_without_tenants(&bet, &pooled, portions(check, block.canary, PartKind::Tenant, canary));
        self.whole.bet(bet.window(pooled.control_bad, pooled.canary_bad, pooled.odds), &bet.stake);
        let patient = Stake { pace: 2.0, ..bet.stake };
        self.safe.bet(bet.safe_window(pooled.control_bad, pooled.canary_bad, pooled.odds), &patient);
        self.sums.add(&pooled, bet.stake.inflation, setting.calibration.pod_floor(effective_pods(&pods)));
        self.slack = bet.slack as f32;
        self.pulse.follow(control, seconds, bet.usual_max);
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
        self.safe.log_e()
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
