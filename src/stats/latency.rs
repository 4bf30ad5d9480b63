//! Latency as a whole distribution: the canary's share of the requests above several bucket edges, and of the shift of
//! the whole.
//!
//! # The argument
//! Take both arms' requests of one window together. If the canary is as fast as control, then which of the requests
//! above an edge are the canary's is a matter of the traffic split `theta` alone, whatever the common latency was. If the
//! odds of being above the edge are at most `m` times control's, the canary's expected share of them is at most
//! `pi = theta p / (theta p + 1 - theta)` with `p = m / (1 - q + m q)`, `q` being the part of all requests above it.
//! At each edge two processes bet on that share as for any count of bad events: one that needs no model of the noise
//! (a window is one bounded observation), and one that is a likelihood ratio, tempered by the dispersion of the pods and
//! capped. Over the whole distribution a likelihood ratio compares two shifts on the normal scale, which is the scale of
//! the logarithm where latency is lognormal: given how many requests of both arms fell into each bucket, a shift by `d`
//! multiplies the canary's odds in a bucket by `exp(d z)`, `z` being the bucket's normal score, up to a constant. All of
//! it is conditional on the sums over both arms, so that edges and scores may be chosen from these sums. An average of
//! e-processes is one, and so is one whose factors are capped.
//!
//! What is tolerated: at the check's own edge `ratio_max` times as many slow requests; elsewhere a shift of 0.15 of its
//! logarithm, and of at least 0.03 (3% slower, where the logarithm has a standard deviation of 1). Nowhere less than what pods of
//! one version differ: that spread is learnt from control's pods in past windows, over windows of growing length up to
//! four minutes, about as long as one pod needs for a proof. Learnt before the window it is used on, it leaves the
//! test valid against "not worse than tolerated".
//!
//! A last cell takes the canary for one more pod that wanders as control's do (see `follower`): where pods wander by more
//! than the effect, only that averages them out.
//!
//! With two or more canary pods the evidence is the least of all requests' and of what is left without each of three
//! groups of pods: one bad pod proves nothing. It is also at most what is left without the three tenants that stood out
//! most before, as long as they have less than half of an arm. Besides, the logarithm of the evidence may not rise faster than a limit:
//! what rises faster is taken back, which leaves a supermartingale one. From no evidence, three bad minutes of a canary's
//! only pod (12 scrapes) reach 6.84, short of the 6.91 of 1 in 1000; a fourth minute may do.
//!
//! Where both arms' traffic is told apart by segments, the expected share is that within segments, weighted by what fell
//! above the edge (Mantel and Haenszel): another mix of endpoints is no regression. A segment of one arm only then
//! speaks neither way.
//!
//! Sources: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B, 2024); Lindon and
//! Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022) for conditioning on the sums; Hoeffding,
//! "Probability inequalities for sums of bounded random variables" (1963), section 6, for labels drawn without
//! replacement; Shin, Ramdas and Rinaldo, "E-detectors" (2023) for the mixture over starts; Howard et al., "Time-uniform,
//! nonparametric, nonasymptotic confidence sequences" (2021) for the interval of the effect.
//!
//! # Limits
//! A canary whose only pod is slow for as long as the watch, though every pod of control is alike, is a regression to
//! this test. Where pods cannot be told apart, the spread is the calibration's. A shift is seen at the resolution of
//! the bounds only: none, if all requests fall into one bucket. A distribution that is slower in one place and faster in
//! another is judged by where it is slower.

mod arms;
pub(super) mod edges;
mod follower;
mod pods;
mod tenants;

use serde::{Deserialize, Serialize};

use self::{
    arms::{Arms, shortened},
    edges::EDGES,
    follower::Follower,
    pods::{Pods, Tolerated},
    tenants::Tenants,
};
use super::{Block, GROWTH_MAX, Kind, SAFETY_MAX, SequentialTest, Setting, counts::PROOF, name_hash};
use crate::domain::{Concern, Direction, Interval, PartKind, Sli};

pub(super) const KIND: Kind = Kind {
    name: "latency",
    serves: &["latency"],
    summary: "compares whole latency distributions: the canary's share above several edges, and the shift of the whole",
};

/// How many times the tolerated odds the canary might have at an edge, and how clustered slow requests might be inside
/// one window, for betting on the share.
const BETS: [(f64, f64); 1] = [(3.0, 0.05)];
/// How many times the tolerated odds, for the likelihood ratio.
const WORSE: [f64; 3] = [1.4, 2.0, 6.0];
/// How much more than the tolerated shift, in standard deviations, for the likelihood ratio of the whole.
const SHIFTED: [f64; 3] = [0.06, 0.16, 0.4];
/// The same for the likelihood ratio that follows the canary as a pod that wanders.
const WANDERED: [f64; 2] = [0.15, 0.3];
const CELLS: usize = BETS.len() + WORSE.len();
/// Edges that are bet on: the check's own and all but the first of the others, which is there for the whole.
pub(super) const SLOTS: usize = EDGES - 1;
/// Part of the stake on the check's own edge, on each other edge, and on the whole.
const ON_EDGES: [f64; SLOTS] = [0.2, 0.05, 0.05, 0.2, 0.15];
const ON_WHOLE: f64 = 0.2;
const ON_WANDER: f64 = 0.15;
/// All requests, what is left without each of three groups of canary pods, and without the heaviest tenants.
const VIEWS: usize = 5;
const POD_GROUPS: usize = 3;
const WITHOUT_TENANTS: usize = 4;

/// Part of the stake that bets from the start; the rest waits.
const STAKE_AT_START: f64 = 0.85;
/// Part of what waits that is fed in with each 15 seconds.
const FED_EACH_SCRAPE: f64 = 1.0 / 240.0;
const SCRAPE_SECONDS: f64 = 15.0;
/// Largest part of the possible stake that one bet may take.
const BET_MAX: f64 = 0.9;
/// Most that one window may multiply a cell by.
const FACTOR_MAX: f64 = 10.0;
/// How fast the logarithm of a view's evidence may rise: with each scrape, and in one go after it has not risen. With
/// one or two canary pods, and with more.
const RISE_FEW: (f64, f64) = (0.32, 3.0);
const RISE_MANY: (f64, f64) = (0.5, 3.0);
/// Wealth is kept below this so that it stays finite; capping keeps the guarantee.
const WEALTH_MAX: f64 = 1e12;
/// Differences of a segment's share between the arms from here on are told.
const MISMATCH_MIN: f64 = 0.1;
/// Shares of traffic are kept this far from 0 and 1.
const SHARE_MIN: f64 = 1e-9;

/// Evidence on one view of the data: the wealth of every cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Stakes {
    edges: [[f32; CELLS]; SLOTS],
    whole: [f32; SHIFTED.len()],
    wander: [f32; WANDERED.len()],
    follower: Follower,
    /// By how much the logarithm of the sum may rise in the next window.
    may_rise: f32,
}

/// What one window multiplies each cell's wealth by.
#[derive(Clone)]
struct Factors {
    edges: [[f64; CELLS]; SLOTS],
    whole: [f64; SHIFTED.len()],
    wander: [f64; WANDERED.len()],
}

impl Factors {
    const NONE: Self =
        Self { edges: [[1.0; CELLS]; SLOTS], whole: [1.0; SHIFTED.len()], wander: [1.0; WANDERED.len()] };
}

impl Stakes {
    fn start() -> Self {
        let mut stakes = Self {
            edges: [[0.0; CELLS]; SLOTS],
            whole: [0.0; SHIFTED.len()],
            wander: [(ON_WANDER / WANDERED.len() as f64) as f32; WANDERED.len()],
            follower: Follower::default(),
            may_rise: RISE_FEW.1 as f32,
        };
        stakes.multiply(&Factors::NONE, STAKE_AT_START);
        stakes
    }

    /// Shares `fed` out among the cells, then multiplies.
    fn multiply(&mut self, factors: &Factors, fed: f64) {
        let step = |wealth: &mut f32, factor: f64, fed: f64| {
            *wealth = ((f64::from(*wealth) + fed) * factor).min(WEALTH_MAX) as f32;
        };
        for ((edge, factors), weight) in self.edges.iter_mut().zip(&factors.edges).zip(ON_EDGES) {
            edge.iter_mut().zip(factors).for_each(|(w, factor)| step(w, *factor, fed * weight / CELLS as f64));
        }
        let on_each = fed * ON_WHOLE / SHIFTED.len() as f64;
        self.whole.iter_mut().zip(&factors.whole).for_each(|(w, factor)| step(w, *factor, on_each));
        // A pod that is followed has its past: a bet that begins later would mistake its return for a regression.
        self.wander.iter_mut().zip(&factors.wander).for_each(|(w, factor)| step(w, *factor, 0.0));
    }

    fn cells(&mut self) -> impl Iterator<Item = &mut f32> {
        self.edges.iter_mut().flatten().chain(&mut self.whole).chain(&mut self.wander)
    }

    /// Takes back what rose faster than it may: a process that is lowered stays one. `waiting` is the stake that does
    /// not bet.
    fn limit(&mut self, before: f64, waiting: f64, scrapes: f64, rise: (f64, f64)) {
        let (each, at_once) = rise;
        let rises = (each * scrapes).min(GROWTH_MAX);
        let may_rise = (f64::from(self.may_rise) + rises).min(at_once.max(rises));
        let bets = self.sum();
        let most = before * may_rise.exp();
        if bets + waiting > most && bets > 0.0 {
            let keep = ((most - waiting) / bets).clamp(0.0, 1.0) as f32;
            self.cells().for_each(|wealth| *wealth *= keep);
        }
        let after = self.sum() + waiting;
        let rose = if before > 0.0 && after > 0.0 { (after / before).ln() } else { 0.0 };
        self.may_rise = (may_rise - rose).clamp(0.0, at_once) as f32;
    }

    fn sum(&self) -> f64 {
        self.edges.iter().flatten().chain(&self.whole).chain(&self.wander).map(|wealth| f64::from(*wealth)).sum()
    }
}

/// The sums from which the ratio at the check's edge and its interval are computed (Mantel and Haenszel over windows).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Ratio {
    canary: f64,
    control: f64,
    variance: f64,
}

/// Latency, compared at bucket edges and as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    views: [Stakes; VIEWS],
    waiting: f64,
    safe: [f32; SAFE.len()],
    ratio: Ratio,
    pods: Pods,
    tenants: Tenants,
    concern: Option<Concern>,
}

/// Against "at least `safe_ratio` times as bad": ratios that the canary might have instead, as powers of it.
const SAFE: [f64; 3] = [0.0, 0.3, 0.6];
/// Safety's allowance for pods, in standard deviations: it needs less certainty than a rollback.
const SAFE_POD_DEVIATIONS: f64 = 2.0;

impl Latency {
    /// A stake of 1, nothing seen.
    pub fn start() -> Self {
        Self {
            views: std::array::from_fn(|_| Stakes::start()),
            waiting: (1.0 - STAKE_AT_START) * (1.0 - ON_WANDER),
            safe: [1.0 / SAFE.len() as f32; SAFE.len()],
            ratio: Ratio::default(),
            pods: Pods::default(),
            tenants: Tenants::default(),
            concern: None,
        }
    }

    fn wealth(&self, view: &Stakes) -> f64 {
        self.waiting + view.sum()
    }

    /// Evidence with all pods, and the least of what is left without a group of them.
    fn with_and_without(&self) -> (f64, f64) {
        let mut wealth = self.views.iter().map(|view| self.wealth(view));
        let all = wealth.next().unwrap_or(1.0);
        (all, wealth.fold(all, f64::min))
    }

    fn bet(&mut self, arms: &Arms, tolerated: &Tolerated, scrapes: f64, setting: &Setting<'_>) {
        let waited = self.waiting;
        let feed = waited * (FED_EACH_SCRAPE * scrapes).min(1.0);
        self.waiting -= feed;
        let feed = feed / (1.0 - ON_WANDER);
        let (each, at_once) = if arms.canary_pods.len() >= 3 { RISE_MANY } else { RISE_FEW };
        let rise = (setting.paced(each), at_once);
        let all = arms.factors(&arms.control, &arms.canary, tolerated);
        let without_tenants = arms.without(&self.tenants.heaviest());
        for (view, stakes) in self.views.iter_mut().enumerate() {
            let before = stakes.sum() + waited;
            let rest = match view {
                WITHOUT_TENANTS => without_tenants.clone(),
                _ => arms.without_group(view).map(|rest| (arms.control.clone(), rest)),
            };
            let mut factors = match &rest {
                None => all.clone(),
                Some((control, canary)) => arms.factors(control, canary, tolerated),
            };
            let (control, canary) = rest.as_ref().map_or((&arms.control, &arms.canary), |rest| (&rest.0, &rest.1));
            if let Some(look) = arms.shift(control, canary) {
                stakes.follower.follow(look, tolerated, scrapes, &mut factors.wander);
            }
            stakes.multiply(&factors, feed);
            stakes.limit(before, self.waiting, scrapes, rise);
        }
    }

    /// Follows the tenants, and names what a person should know.
    fn note(&mut self, arms: &Arms, block: &Block<'_>) {
        self.tenants.follow(arms.tenants.iter().map(|(name, _, canary)| (*name, arms.excess(canary))));
        let log_e = |view: &Stakes| self.wealth(view).max(f64::MIN_POSITIVE).ln();
        let [all, pods @ .., tenants] = self.views.each_ref().map(log_e);
        let (least, group) =
            pods.into_iter().zip(1..).fold((all, 0), |least, view| if view.0 < least.0 { view } else { least });
        self.concern = if let Some((differs, name)) = &arms.mismatch {
            Some(Concern::Mismatch(*differs, name.clone()))
        } else if all < PROOF {
            None
        } else if least < PROOF && least <= tenants {
            let samples = arms.canary_pods.iter().zip(block.canary.parts_of(PartKind::Pod)).enumerate();
            let of_group = samples.filter(|(i, _)| i % POD_GROUPS.min(arms.canary_pods.len()) + 1 == group);
            let worst = of_group.max_by(|a, b| arms.excess(a.1.0).total_cmp(&arms.excess(b.1.0)));
            worst.map(|(_, (_, part))| Concern::OnePod(shortened(&part.name)))
        } else if tenants < PROOF {
            let heaviest = self.tenants.heaviest();
            let mut names = block.canary.parts_of(PartKind::Tenant).map(|part| &part.name);
            let name = names.find(|name| heaviest.first() == Some(&name_hash(name.as_str())));
            name.map(|name| Concern::OneTenant(shortened(name)))
        } else {
            None
        };
    }

    /// Evidence of safety, and the size of the effect, both at the check's own edge.
    fn measure(&mut self, arms: &Arms, tolerated: &Tolerated, safe_ratio: f64) {
        let Some(split) = arms.edges.bet_on(0).and_then(|at| arms.split(&arms.control, &arms.canary, at)) else {
            return;
        };
        let phi = tolerated.phi(0, split.all, split.q);
        let kept = 1.0 - split.theta;
        self.ratio.canary = (self.ratio.canary + split.on_canary * kept).min(1e18);
        self.ratio.control = (self.ratio.control + (split.all - split.on_canary) * split.theta).min(1e18);
        self.ratio.variance = (self.ratio.variance + split.all * split.theta * kept * phi).min(1e18);
        let safe_ratio = safe_ratio / (SAFE_POD_DEVIATIONS * tolerated.pod_log_sd(0, split.q)).exp();
        if !(1.05..1e6).contains(&safe_ratio) {
            return;
        }
        let (bad, most) = (split.share(safe_ratio), SAFETY_MAX / SAFE.len() as f64);
        for (wealth, power) in self.safe.iter_mut().zip(SAFE) {
            let log = split.log_ratio(split.share(safe_ratio.powf(power)), bad) / phi;
            *wealth = (f64::from(*wealth) * log.min(FACTOR_MAX.ln()).exp()).min(most) as f32;
        }
    }
}

impl SequentialTest for Latency {
    fn observe(&mut self, setting: &Setting<'_>, block: &Block<'_>) {
        let Sli::Latency { slow_above_seconds, .. } = &setting.check.sli else { return };
        // That faster is worse is asked by mistake: admission refuses it.
        if setting.check.direction == Direction::LowerIsWorse {
            return;
        }
        let Some(arms) = Arms::read(block, *slow_above_seconds) else { return };
        if arms.control.n <= 0.0 || arms.canary.n <= 0.0 {
            return;
        }
        let (ratio_max, pods) = (setting.check.ratio_max, (arms.canary_pods.len(), arms.control_pods.len()));
        let tolerated = self.pods.tolerated(setting.calibration, ratio_max, &arms.canary, pods.0, pods.1);
        let scrapes = (setting.growing_seconds(block.span) / SCRAPE_SECONDS).clamp(1.0, 240.0);
        self.bet(&arms, &tolerated, scrapes, setting);
        self.measure(&arms, &tolerated, setting.safe_ratio);
        self.pods.learn(&arms.edges, &arms.control_pods);
        self.note(&arms, block);
    }

    fn log_e_value(&self) -> f64 {
        self.with_and_without().1.max(f64::MIN_POSITIVE).ln()
    }

    fn log_e_safe(&self) -> f64 {
        let wealth: f64 = self.safe.iter().map(|wealth| f64::from(*wealth)).sum();
        wealth.max(f64::MIN_POSITIVE).ln()
    }

    fn effect(&self) -> Option<(f64, Interval)> {
        self.ratio.interval()
    }

    fn concern(&self) -> Option<Concern> {
        self.concern.clone()
    }
}

impl Ratio {
    /// Chance that the interval ever misses.
    const ALPHA: f64 = 0.05;
    /// Where the mixture is narrowest, in variance: some twenty slow requests on the canary.
    const NARROWEST: f64 = 20.0;

    /// The estimate, and all ratios `r` at which `canary - r control`, a martingale if `r` is true, is inside the
    /// two-sided normal mixture boundary at its variance `r variance`.
    fn interval(&self) -> Option<(f64, Interval)> {
        if self.canary <= 0.0 || self.control <= 0.0 {
            return None;
        }
        let estimate = self.canary / self.control;
        let is_inside = |ratio: f64| {
            let variance = ratio * self.variance + Self::NARROWEST;
            let within = variance * (variance / (Self::NARROWEST * Self::ALPHA * Self::ALPHA)).ln();
            (self.canary - ratio * self.control).powi(2) <= within
        };
        let end = |outward: f64| {
            let (mut inside, mut outside) = (0.0, 20.0);
            for _ in 0..50 {
                let middle = (inside + outside) / 2.0;
                let ratio = estimate * f64::exp(outward * middle);
                *(if is_inside(ratio) { &mut inside } else { &mut outside }) = middle;
            }
            estimate * (outward * inside).exp()
        };
        Some((estimate, Interval { low: end(-1.0), high: end(1.0) }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        domain::{Aim, Check, CheckName, Histogram, Origin, Part, Reading, Selector, Tally, Text, Weight},
        eval::noise_latency::{DEFAULT_BOUNDS, Effect, Family, Scrape, Shape, draw, native_bounds},
        stats::Calibration,
    };

    fn check(slow_above_seconds: f64) -> Check {
        Check {
            name: CheckName::new("slow"),
            sli: Sli::Latency { histogram: Selector::metric("seconds"), slow_above_seconds },
            direction: Direction::HigherIsWorse,
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

    fn observe(test: &mut Latency, control: &Reading, canary: &Reading) {
        let (check, calibration) = (check(0.5), Calibration::untrusted());
        let setting = Setting {
            check: &check,
            calibration: &calibration,
            safe_ratio: 2.0,
            pod_incident: crate::stats::POD_INCIDENT,
        };
        test.observe(&setting, &Block { control, canary, span: Duration::from_secs(15) });
    }

    fn shape(family: Family, effect: Effect, canary_pods: usize, scrapes: usize) -> Shape {
        Shape {
            family,
            bounds: DEFAULT_BOUNDS.to_vec(),
            median_seconds: 0.1,
            requests_per_scrape: 3000.0,
            canary_pods,
            effect,
            scrapes,
        }
    }

    fn watch(shape: &Shape, seed: u64, see: impl Fn(&Scrape) -> (Reading, Reading)) -> (Option<usize>, Latency) {
        let (mut test, mut proven) = (Latency::start(), None);
        for (i, scrape) in draw(shape, &mut StdRng::seed_from_u64(seed)).iter().enumerate() {
            let (control, canary) = see(scrape);
            observe(&mut test, &control, &canary);
            if proven.is_none() && test.log_e_value() >= PROOF {
                proven = Some(i + 1);
            }
        }
        (proven, test)
    }

    fn all_parts(scrape: &Scrape) -> (Reading, Reading) {
        (scrape.control_reading(), scrape.canary_reading())
    }

    fn reading(bounds: &[f64], counts: &[u64]) -> Reading {
        Reading::whole(Tally::Histogram(Histogram { bounds: bounds.to_vec(), counts: counts.to_vec() }))
    }

    #[test]
    fn a_quarter_slower_is_proven_and_a_harmless_canary_is_shown_safe() {
        let (proven, test) = watch(&shape(Family::Independent, Effect::Slower(1.25), 1, 60), 1, all_parts);
        assert!(proven.is_some(), "{}", test.log_e_value());
        let (ratio, interval) = test.effect().unwrap();
        assert!(interval.low > 1.0 && interval.low < ratio && ratio < interval.high && interval.high < 3.0);
        let (proven, test) = watch(&shape(Family::Independent, Effect::None, 1, 60), 1, all_parts);
        assert_eq!(proven, None);
        let (_, interval) = test.effect().unwrap();
        assert!(interval.low < 1.0 && 1.0 < interval.high && test.log_e_safe() > 3.0);
    }

    #[test]
    fn a_regression_of_the_slowest_percent_alone_is_proven() {
        let (proven, _) = watch(&shape(Family::Independent, Effect::Delayed(0.01, 2.0), 5, 60), 2, all_parts);
        assert!(proven.is_some());
    }

    #[test]
    fn harmless_canaries_are_left_alone_in_every_family() {
        for family in Family::ALL {
            // A canary's only pod that is slow throughout cannot be told from a slow version.
            for canary_pods in if family == Family::HeavyPod { [2, 5] } else { [1, 5] } {
                let (proven, _) = watch(&shape(family, Effect::None, canary_pods, 120), 3, all_parts);
                assert_eq!(proven, None, "{} with {canary_pods}", family.name());
            }
        }
    }

    #[test]
    fn one_of_three_pods_ten_times_as_slow_proves_nothing_but_all_three_do() {
        let pod = |i: usize, counts: [u64; 4]| Part {
            kind: PartKind::Pod,
            name: Text::new(format!("pod-{i}")),
            tally: Tally::Histogram(Histogram { bounds: vec![0.1, 0.5, 1.0], counts: counts.to_vec() }),
        };
        let arm = |bad: usize, pods: usize| {
            let parts: Vec<Part> =
                (0..pods).map(|i| pod(i, if i < bad { [0, 10, 20, 70] } else { [50, 40, 8, 2] })).collect();
            let tally = parts.iter().map(|part| part.tally.clone()).reduce(|a, b| a.plus(&b).unwrap()).unwrap();
            Reading { tally, parts }
        };
        let after = |bad| {
            let mut test = Latency::start();
            (0..60).for_each(|_| observe(&mut test, &arm(0, 12), &arm(bad, 3)));
            test
        };
        assert!(after(1).log_e_value() < 0.0 && after(3).log_e_value() > PROOF);
        assert_eq!(after(1).concern(), Some(Concern::OnePod(Text::new("pod-0"))));
    }

    #[test]
    fn one_slow_tenant_of_the_canary_proves_nothing_and_is_named() {
        let part = |i: usize, counts: [u64; 4]| Part {
            kind: PartKind::Tenant,
            name: Text::new(format!("tenant-{i:02}")),
            tally: Tally::Histogram(Histogram { bounds: vec![0.1, 0.5, 1.0], counts: counts.to_vec() }),
        };
        let arm = |bad: std::ops::Range<usize>| {
            let counts = |i| if bad.contains(&i) { [0, 10, 20, 70] } else { [50, 40, 8, 2] };
            let parts: Vec<Part> = (0..12).map(|i| part(i, counts(i))).collect();
            let tally = parts.iter().map(|part| part.tally.clone()).reduce(|a, b| a.plus(&b).unwrap()).unwrap();
            Reading { tally, parts }
        };
        let after = |bad: std::ops::Range<usize>| {
            let mut test = Latency::start();
            (0..60).for_each(|_| observe(&mut test, &arm(0..0), &arm(bad.clone())));
            test
        };
        let one = after(7..8);
        assert!(one.log_e_value() < 0.0, "{}", one.log_e_value());
        assert_eq!(one.concern(), Some(Concern::OneTenant(Text::new("tenant-07"))));
        assert!(after(0..12).log_e_value() > PROOF && after(0..12).concern().is_none());
    }

    #[test]
    fn a_check_that_takes_faster_for_worse_learns_nothing() {
        let mut test = Latency::start();
        let (fast, slow) = (reading(&[0.1, 1.0], &[50, 40, 10]), reading(&[0.1, 1.0], &[5, 40, 55]));
        let check = Check { direction: Direction::LowerIsWorse, ..check(0.5) };
        let calibration = Calibration::untrusted();
        let pod_incident = crate::stats::POD_INCIDENT;
        let setting = Setting { check: &check, calibration: &calibration, safe_ratio: 2.0, pod_incident };
        for (control, canary) in [(&fast, &slow), (&slow, &fast)] {
            test.observe(&setting, &Block { control, canary, span: Duration::from_secs(15) });
        }
        assert_eq!(test, Latency::start());
    }

    #[test]
    fn three_bad_minutes_of_one_pod_are_no_proof() {
        let (fast, slow) =
            (reading(&[0.1, 0.5, 1.0], &[9000, 900, 90, 10]), reading(&[0.1, 0.5, 1.0], &[0, 0, 0, 500]));
        let mut test = Latency::start();
        (0..12).for_each(|_| observe(&mut test, &fast, &slow));
        assert!(test.log_e_value() < PROOF, "{}", test.log_e_value());
        (0..8).for_each(|_| observe(&mut test, &fast, &slow));
        assert!(test.log_e_value() > PROOF, "{}", test.log_e_value());
    }

    #[test]
    fn another_mix_of_endpoints_is_no_regression_where_segments_are_told_apart() {
        let shape = shape(Family::UserSplit, Effect::None, 1, 240);
        let (_, with) = watch(&shape, 4, all_parts);
        let (_, without) = watch(&shape, 4, |scrape| {
            let (mut control, mut canary) = all_parts(scrape);
            control.parts.retain(|part| part.kind == PartKind::Pod);
            canary.parts.retain(|part| part.kind == PartKind::Pod);
            (control, canary)
        });
        assert!(with.log_e_value() < 1.0 && without.log_e_value() > PROOF);
    }

    #[test]
    fn a_hundred_and_sixty_native_bounds_are_as_good() {
        let mut native = shape(Family::Independent, Effect::Slower(1.25), 5, 40);
        let (classic, _) = watch(&native, 5, all_parts);
        native.bounds = native_bounds();
        let (proven, _) = watch(&native, 5, all_parts);
        assert!(proven.unwrap().abs_diff(classic.unwrap()) <= 4, "{proven:?} {classic:?}");
    }

    #[test]
    fn what_cannot_be_compared_changes_nothing() {
        let sound = reading(&[0.1, 1.0], &[50, 40, 10]);
        let mut test = Latency::start();
        observe(&mut test, &sound, &sound);
        let before = test.clone();
        for other in [
            reading(&[0.2, 2.0], &[5, 4, 90]),
            reading(&[0.1, 1.0], &[0, 0, 0]),
            reading(&[0.1, 1.0], &[5, 4]),
            reading(&[1.0, 0.1], &[5, 4, 3]),
            reading(&[f64::NAN, 0.1], &[5, 4, 3]),
            reading(&[], &[]),
            Reading::whole(Tally::Samples(vec![1.0])),
        ] {
            observe(&mut test, &sound, &other);
            observe(&mut test, &other, &sound);
        }
        assert_eq!(test, before);
    }

    #[test]
    fn evidence_stays_finite_whatever_comes() {
        let odd = [0, 1, 3, u64::MAX / 2, u64::MAX];
        for parts in [false, true] {
            let mut test = Latency::start();
            for i in 0..300_usize {
                let counts: Vec<u64> = (0..3).map(|j| odd[(i * 7 + j * 3 + i / 5) % 5]).collect();
                let mut canary = reading(&[0.1, 1.0], &counts);
                let mut control = reading(&[0.1, 1.0], &[odd[i % 5], odd[(i / 3) % 5], odd[(i / 2) % 5]]);
                if parts {
                    for (n, arm) in [(3, &mut canary), (9, &mut control)] {
                        let part = |kind, i| Part { kind, name: Text::new(format!("{i}")), tally: arm.tally.clone() };
                        arm.parts = (0..n).map(|i| part(PartKind::Pod, i)).collect();
                        arm.parts.push(part(PartKind::Segment, n));
                    }
                }
                let calibration = Calibration { pod_log_sd: f64::NAN, dispersion: -1.0, ..Calibration::untrusted() };
                let check = check([0.5, f64::NAN, f64::INFINITY, -1.0][i % 4]);
                let setting = Setting {
                    check: &check,
                    calibration: &calibration,
                    safe_ratio: f64::INFINITY,
                    pod_incident: crate::stats::POD_INCIDENT,
                };
                test.observe(&setting, &Block { control: &control, canary: &canary, span: Duration::MAX });
                assert!(test.log_e_value().is_finite() && test.log_e_safe().is_finite(), "{i} {test:?}");
                assert!(test.effect().is_none_or(|(ratio, i)| (ratio + i.low + i.high).is_finite()), "{i}");
            }
            assert!(!format!("{test:?}").contains("NaN") && !format!("{test:?}").contains("inf"));
        }
    }

    #[test]
    fn a_test_kept_and_resumed_ends_bit_for_bit_alike_and_is_at_most_a_kibibyte() {
        let drawn = draw(&shape(Family::PodOffset, Effect::Slower(1.1), 3, 60), &mut StdRng::seed_from_u64(6));
        let (mut whole, mut resumed) = (Latency::start(), Latency::start());
        for (i, scrape) in drawn.iter().enumerate() {
            let (control, canary) = all_parts(scrape);
            observe(&mut whole, &control, &canary);
            observe(&mut resumed, &control, &canary);
            if i % 20 == 10 {
                resumed = postcard::from_bytes(&postcard::to_stdvec(&resumed).unwrap()).unwrap();
            }
        }
        assert_eq!(whole, resumed);
        whole.concern = Some(Concern::Mismatch(0.5, shortened(&Text::new("\u{1f40c}".repeat(40)))));
        assert!(postcard::to_stdvec(&whole).unwrap().len() <= 1024 && size_of::<Latency>() <= 1024);
    }
}
