//! Kayenta's judge (NetflixACAJudge-v1.0), asked again every few minutes about all data so far.
//!
//! One critical metric, the failure rate, in points of one minute, on the canary and on a baseline of its own that has as
//! many pods as the canary. The metric is High, and the score 0, where the two-sided 98% interval of the shift between the
//! two is above a quarter of the estimated shift; the interval is the Mann-Whitney test's, by the normal approximation with
//! corrections for ties and continuity. Minutes without traffic are left out (`nanStrategy: remove`). Identical arms pass.
//! The means' ratio must be above 1, the default of `allowedIncrease`, unless a mean is 0.
//!
//! The interval's ends are looked for with an absolute tolerance of 1e-4, which is coarse for failure rates; so they are
//! given in percent, to Kayenta's advantage.
//!
//! Source: spinnaker/kayenta at a69573b, `MannWhitneyClassifier.scala`, `MannWhitney.scala`, `KayentaBrentSolver.java`,
//! `NetflixACAJudge.scala`; the interval is that of R's `wilcox.test`. Left out: noise is added where both arms are constant
//! and differ, which does not occur here.

use super::Minute;
use crate::{
    domain::Counts,
    eval::contender::{Contender, Known, Seen},
};

/// `scipy.stats.norm.ppf(0.99)`: a confidence of 0.98, both sides.
const QUANTILE: f64 = 2.326_347_874_040_840_8;
/// How far above 0 the interval must be, in estimated shifts.
const TOLERANCE: f64 = 0.25;
/// Precision of the interval's ends, in percent.
const PRECISION: f64 = 1e-4;

/// The judge of one metric whose points are already there: one of each arm a minute.
#[derive(Clone, Debug)]
pub struct KayentaJudge {
    every_minutes: u32,
    minutes: u32,
    /// In rising order, as the baseline's.
    canary: Vec<f64>,
    baseline: Vec<f64>,
    is_high: bool,
}

impl KayentaJudge {
    /// Judges every so many minutes.
    pub fn start(every_minutes: u32) -> Self {
        let (canary, baseline) = (Vec::new(), Vec::new());
        Self { every_minutes: every_minutes.max(1), minutes: 0, canary, baseline, is_high: false }
    }

    /// Takes in the points of the next minute, as far as there are any.
    pub fn take(&mut self, canary: Option<f64>, baseline: Option<f64>) {
        for (points, point) in [(&mut self.canary, canary), (&mut self.baseline, baseline)] {
            if let Some(point) = point.filter(|point| point.is_finite()) {
                points.insert(points.partition_point(|other| *other < point), point);
            }
        }
        self.minutes += 1;
        if self.minutes.is_multiple_of(self.every_minutes) {
            self.is_high |= is_high(&self.canary, &self.baseline);
        }
    }

    /// Whether the metric was High at any time.
    pub fn is_high(&self) -> bool {
        self.is_high
    }
}

/// The judge of failure rates.
#[derive(Clone, Debug)]
pub struct Kayenta {
    judge: KayentaJudge,
    canary: Minute,
    baseline: Minute,
}

impl Kayenta {
    /// Judges every so many minutes.
    pub fn start(_: &Known<'_>, every_minutes: u32) -> Self {
        let judge = KayentaJudge::start(every_minutes);
        Self { judge, canary: Minute::default(), baseline: Minute::default() }
    }
}

impl Contender for Kayenta {
    fn observe(&mut self, seen: &Seen<'_>) {
        let percent = |minute: Counts| minute.rate().map(|rate| 100.0 * rate);
        if let (Some(canary), Some(baseline)) = (self.canary.add(seen.canary), self.baseline.add(seen.baseline)) {
            self.judge.take(percent(canary), percent(baseline));
        }
    }

    fn has_rolled_back(&self) -> bool {
        self.judge.is_high
    }
}

/// Whether the canary's points are classified as High; both in rising order.
fn is_high(canary: &[f64], baseline: &[f64]) -> bool {
    if canary.is_empty() || baseline.is_empty() || canary == baseline {
        return false;
    }
    let mean = |points: &[f64]| points.iter().sum::<f64>() / points.len() as f64;
    let effect = mean(canary) / mean(baseline);
    if mean(canary) > 0.0 && mean(baseline) > 0.0 && effect < 1.0 {
        return false;
    }
    // An interval that is above 0, as far as its ends are precise, needs a significant statistic there: quick to see.
    if statistic(canary, baseline, -PRECISION).is_none_or(|z| z <= QUANTILE) {
        return false;
    }
    let (low, estimate) = (root(canary, baseline, QUANTILE), root(canary, baseline, 0.0));
    low > TOLERANCE * estimate.abs()
}

/// The Mann-Whitney statistic of `canary`, moved down by `shift`, against `baseline`, corrected for ties and continuity;
/// both in rising order. `None` where everything is tied.
fn statistic(canary: &[f64], baseline: &[f64], shift: f64) -> Option<f64> {
    let (m, n) = (canary.len() as f64, baseline.len() as f64);
    let (mut moved, mut other) =
        (canary.iter().map(|point| point - shift).peekable(), baseline.iter().copied().peekable());
    let (mut ranked, mut rank_sum, mut ties) = (0.0, 0.0, 0.0);
    loop {
        let value = match (moved.peek(), other.peek()) {
            (Some(one), Some(another)) => one.min(*another),
            (Some(one), None) | (None, Some(one)) => *one,
            (None, None) => break,
        };
        let (mut from_canary, mut tied) = (0.0, 0.0);
        while moved.next_if(|point| *point <= value).is_some() {
            from_canary += 1.0;
        }
        while other.next_if(|point| *point <= value).is_some() {
            tied += 1.0;
        }
        tied += from_canary;
        if tied == 0.0 {
            // Only a point that is not a number gets here, and a rate is one.
            return None;
        }
        rank_sum += from_canary * (ranked + (tied + 1.0) / 2.0);
        ranked += tied;
        ties += tied * tied * tied - tied;
    }
    let above = rank_sum - m * (m + 1.0) / 2.0 - m * n / 2.0;
    let variance = m * n / 12.0 * ((m + n + 1.0) - ties / ((m + n) * (m + n - 1.0)));
    let continuity = if above == 0.0 { 0.0 } else { 0.5 * above.signum() };
    (variance > 0.0).then(|| (above - continuity) / variance.sqrt())
}

/// The shift at which the statistic is `quantile`: an end of the interval, or for 0 the Hodges-Lehmann estimate.
fn root(canary: &[f64], baseline: &[f64], quantile: f64) -> f64 {
    let (Some(first), Some(last)) = (canary.first(), canary.last()) else { return 0.0 };
    let (Some(least), Some(most)) = (baseline.first(), baseline.last()) else { return 0.0 };
    let above = |shift| statistic(canary, baseline, shift).map_or(0.0, |z| z - quantile);
    let (low, high) = (first - most, last - least);
    if above(low) <= 0.0 {
        low
    } else if above(high) >= 0.0 {
        high
    } else {
        brent(above, low, high)
    }
}

/// A zero of `f` between `low` and `high`, where it has opposite signs, within [`PRECISION`]. What it returns at a jump, on
/// which side and how far from it, decides sparse cases; so the search is Brent's, step by step, as in Kayenta.
///
/// Source: Brent, "Algorithms for minimization without derivatives" (1973), chapter 4.
fn brent(f: impl Fn(f64) -> f64, low: f64, high: f64) -> f64 {
    // `best` is the nearest so far, `across` has the other sign, `before` is the best but one.
    let (mut before, mut best) = ((low, f(low)), (high, f(high)));
    let mut across = before;
    for _ in 0..1000 {
        let last_step = best.0 - before.0;
        if across.1.abs() < best.1.abs() {
            (before, best, across) = (best, across, best);
        }
        let tolerance = 2.0 * f64::EPSILON * best.0.abs() + PRECISION / 2.0;
        let half = (across.0 - best.0) / 2.0;
        if half.abs() <= tolerance || best.1 == 0.0 {
            break;
        }
        let mut step = half;
        if last_step.abs() >= tolerance && before.1.abs() > best.1.abs() {
            let width = across.0 - best.0;
            let ratio = best.1 / before.1;
            let (mut p, mut q) = if before.0 == across.0 {
                (width * ratio, 1.0 - ratio)
            } else {
                let (far, near) = (before.1 / across.1, best.1 / across.1);
                let p = ratio * (width * far * (far - near) - (best.0 - before.0) * (near - 1.0));
                (p, (far - 1.0) * (near - 1.0) * (ratio - 1.0))
            };
            if p > 0.0 {
                q = -q
            } else {
                p = -p
            }
            if p < 0.75 * width * q - (tolerance * q).abs() / 2.0 && p < (last_step * q / 2.0).abs() {
                step = p / q;
            }
        }
        if step.abs() < tolerance {
            step = if step > 0.0 { tolerance } else { -tolerance };
        }
        before = best;
        best = (best.0 + step, f(best.0 + step));
        if (best.1 > 0.0 && across.1 > 0.0) || (best.1 < 0.0 && across.1 < 0.0) {
            across = before;
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::peers::testing::{feed, started};

    fn sorted(mut points: Vec<f64>) -> Vec<f64> {
        points.sort_by(f64::total_cmp);
        points
    }

    #[test]
    fn the_statistic_and_the_interval_are_what_scipy_computes() {
        let canary = sorted(vec![3.1, 4.7, 2.9, 5.5, 6.2, 4.1, 5.0, 7.3, 3.8, 4.4]);
        let baseline = sorted(vec![2.2, 3.0, 1.9, 2.8, 4.0, 2.5, 3.3, 3.1, 2.7, 1.5]);
        let near =
            |got: f64, expected: f64| assert!((got - expected).abs() <= PRECISION, "{got} instead of {expected}");
        near(statistic(&canary, &baseline, 0.0).unwrap(), 3.176_095_818_786_466);
        near(root(&canary, &baseline, QUANTILE), 0.7);
        near(root(&canary, &baseline, -QUANTILE), 3.3);
        near(root(&canary, &baseline, 0.0), 1.9);
        let ties = ([0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
        near(statistic(&ties.0, &ties.1, 0.0).unwrap(), 1.694_776_610_519_168_6);
    }

    #[test]
    fn the_interval_is_that_of_kayentas_own_test() {
        // MannWhitneySuite.scala, "returns expected values": 95%, so 1.96 on both sides.
        let (experiment, control) = ([10.0, 20.0, 30.0, 40.0], [1.0, 2.0, 3.0, 4.0]);
        let z = 1.959_963_984_540_054;
        assert_eq!((root(&experiment, &control, z), root(&experiment, &control, -z)), (6.0, 39.0));
        assert_eq!(root(&experiment, &control, 0.0), 22.5);
    }

    #[test]
    fn arms_that_have_mostly_nothing_are_not_told_apart() {
        let points = |errors: usize| sorted((0..60).map(|i| if i < errors { 0.1 } else { 0.0 }).collect());
        assert!(!is_high(&points(4), &points(4)));
        assert!(is_high(&points(60), &points(2)));
        assert!(!is_high(&[], &points(2)));
        assert!(!is_high(&points(2), &points(60)), "better is not High");
    }

    #[test]
    fn it_judges_at_its_interval_only() {
        let wave = |i: u64, bad| [(bad + i % 3, 1000), (5, 1000), (1 + i % 2, 1000)];
        let judged = |minutes, bad| {
            let scrapes: Vec<_> = (0..480).map(|i| wave(i / 4, bad)).collect();
            feed(&mut started(0.001, |known| Kayenta::start(known, minutes)), &scrapes)
        };
        assert_eq!((judged(5, 20), judged(10, 20), judged(30, 20)), (Some(300), Some(600), Some(1800)));
        assert_eq!(judged(5, 0), None);
    }
}
