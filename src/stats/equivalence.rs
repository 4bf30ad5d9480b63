//! Proof that the new version is *below* a bound: not worse than tolerated, as good as, or better than the old one.
//!
//! A test that looks for a regression and finds none has shown nothing: it may have had too little data. Here the roles
//! are exchanged. What is to be refuted is "the canary is at least `bound` times as bad as control". With a bound above
//! 1 that is *non-inferiority* (a stage may end early, as shown safe), with a bound below 1 it is *superiority* (a
//! challenger beats the champion), and both sides at once are *equivalence*.
//!
//! # The argument
//! Let `S` of the `K` bad events of one block fall on the canary, which has `theta` of the traffic, and let
//! `pi(r) = r theta / (r theta + 1 - theta)` be the share of a canary that is `r` times as bad. Given `K`, whatever the
//! common level was, a canary at least `bound` times as bad has `S` stochastically no smaller than binomial with
//! `pi(bound)`. The likelihood ratio of `pi(r)`, `r < bound`, against `pi(bound)` falls in `S`, so its mean is at most 1
//! under the whole null, and products over blocks are an e-process: by Ville's inequality the chance that it *ever*
//! reaches `1/beta` is at most `beta`. Averages over several `r` keep that, and so do both caps below.
//!
//! Events that come in clusters make `S` vary more than binomial. The logarithm is divided by
//! `phi = 1 + (K - 1) dispersion`, the factor by which the variance grows; for independent events that only makes the
//! mean smaller (Jensen), for events that all come together it is exact, and in between it is exact to a few per cent.
//! This part rests on the dispersion, which history must have told.
//!
//! Where failures are not rare, `1 - p` matters, and conditioning on `K` gives evidence away. [`BelowRatio::compare`]
//! uses the safe test for two proportions: for a supposed pair of rates outside the null, its likelihood ratio against
//! the *nearest* pair inside it (nearest by the block's Kullback-Leibler divergence). As the set of pairs with
//! `p_canary >= bound p_control` is convex, that ratio is an e-value under every pair in it, from block to block
//! another one: proof in the test below. With the supposed rate going to 0 it becomes the ratio above, so it is
//! one process. The supposed pooled rate comes from earlier blocks alone; if it is wrong, only power is lost.
//!
//! Sources: Turner, Ly and Grunwald, "Generic E-variables for exact sequential k-sample tests that allow for optional
//! stopping" (2021); Turner and Grunwald, "Exact anytime-valid confidence intervals for contingency tables" (2022);
//! Lindon and Malek (NeurIPS 2022) for conditioning on the total; Schuirmann (1987) for equivalence as two one-sided tests.
//!
//! # Limits
//! It speaks of the whole time since the start. A regression that begins late is not in the null; against that, the
//! evidence of [`BelowRatio::for_safety`] is capped not far above what is needed, so that a few bad blocks take it back.
//! A lasting difference between pods or a client that keeps its version shifts the ratio, as in every test of sums: lower
//! the bound by what the pods differ. One block multiplies the evidence by at most 3, so three blocks are the least, and
//! an incident on one control pod must last as long to be taken for a good canary.
//!
//! Measured at beta 0.05 (1,000 rollouts of 2 h, canary exactly at the bound of 2, dispersion from 12 h of history): 0 to 5%
//! are called safe with independent, drifting, negative binomial counts, outages and one bad pod; 4 to 9% where each pod
//! drifts by itself and the canary is one pod; 4 to 17% with retry clusters that reach into the next block (use longer
//! blocks); more than half where one client on control makes a quarter of all errors (leave it out).

use serde::{Deserialize, Serialize};

use crate::domain::Counts;

/// How much of the stake each supposed ratio gets: far below the bound, in the middle, close to it.
const STAKES: [f64; 3] = [0.15, 0.7, 0.15];
/// Part of the stake that bets from the start. The rest is fed in later, so that a bad start, such as a cold cache, does
/// not have to be made up for; it is small because waiting costs time.
const STAKE_AT_START: f64 = 0.95;
/// Part of what waits that is fed in at each block.
const FED_EACH_BLOCK: f64 = 1.0 / 60.0;
/// Most that one block may multiply the evidence by.
const FACTOR_MAX: f64 = 3.0;
/// Most that the proof of safety reaches: five times what `Evidence::BETA` asks for.
const SAFETY_MAX: f32 = 100.0;
/// Most that other proofs reach, far above any threshold.
const PROOF_MAX: f32 = 1e9;
/// Less than this is nothing: it keeps the state free of numbers too small to be kept exactly.
const LEAST: f64 = 1e-30;
/// Bounds outside of this are moved to its ends.
const BOUNDS: (f64, f64) = (1e-3, 1e3);

/// An e-process against "the canary is at least `bound` times as bad as control".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BelowRatio {
    wealth: [f32; STAKES.len()],
    waiting: f32,
    highest: f32,
}

impl BelowRatio {
    /// For the proof that lets a stage end: it stays low enough to be taken back by a regression that begins late.
    pub fn for_safety() -> Self {
        Self::up_to(SAFETY_MAX)
    }

    /// For a proof that stands once it is reached, at any threshold.
    pub fn for_proof() -> Self {
        Self::up_to(PROOF_MAX)
    }

    fn up_to(highest: f32) -> Self {
        let wealth = STAKES.map(|stake| (stake * STAKE_AT_START) as f32);
        Self { wealth, waiting: (1.0 - STAKE_AT_START) as f32, highest }
    }

    /// Takes in one block: `bad` events in both arms, of which `on_canary` fell on the canary, which had `theta` of the
    /// traffic; `dispersion` as in [`super::Calibration`]. What makes no sense changes nothing.
    pub fn observe(&mut self, on_canary: f64, bad: f64, theta: f64, bound: f64, dispersion: f64) {
        let is_comparable = bad > 0.0 && bad.is_finite() && on_canary >= 0.0 && theta > 0.0 && theta < 1.0;
        if !is_comparable || bound.is_nan() {
            return;
        }
        let (on_canary, bound) = (on_canary.min(bad), bound.clamp(BOUNDS.0, BOUNDS.1));
        self.multiply(bound, tempering(bad, dispersion), |ratio| log_share_ratio(on_canary, bad, theta, ratio, bound));
    }

    /// Takes in one block of counts where failures need not be rare. `rate` is the pooled share of bad ones that
    /// *earlier* blocks let expect; 0 where nothing is known. An arm with nothing changes nothing.
    pub fn compare(&mut self, canary: Counts, control: Counts, rate: f64, bound: f64, dispersion: f64) {
        if canary.total == 0 || control.total == 0 || bound.is_nan() {
            return;
        }
        let bad = canary.bad as f64 + control.bad as f64;
        let (n_canary, n_control) = (canary.total as f64, control.total as f64);
        let theta = n_canary / (n_canary + n_control);
        let is_share = canary.bad <= canary.total && control.bad <= control.total;
        if !(is_share && rate > RATE_MIN && rate < 1.0) {
            self.observe(canary.bad as f64, bad, theta, bound, dispersion);
            return;
        }
        let bound = bound.clamp(BOUNDS.0, BOUNDS.1);
        let phi = tempering(bad, dispersion);
        self.multiply(bound, phi, |ratio| log_two_by_two(canary, control, rate, ratio, bound));
    }

    /// Multiplies each stake by its tempered and capped likelihood ratio.
    fn multiply(&mut self, bound: f64, phi: f64, log_ratio: impl Fn(f64) -> f64) {
        let fed = f64::from(self.waiting) * FED_EACH_BLOCK;
        self.waiting = kept(f64::from(self.waiting) - fed);
        let mut sum = f64::from(self.waiting);
        for ((wealth, stake), ratio) in self.wealth.iter_mut().zip(STAKES).zip(supposed(bound)) {
            let factor = (log_ratio(ratio) / phi).min(FACTOR_MAX.ln()).exp();
            *wealth = kept((f64::from(*wealth) + fed * stake) * factor);
            sum += f64::from(*wealth);
        }
        let highest = f64::from(self.highest);
        if sum > highest {
            self.wealth = self.wealth.map(|wealth| kept(f64::from(wealth) * highest / sum));
        }
    }

    /// Natural logarithm of the e-value. Finite.
    pub fn log_e(&self) -> f64 {
        let sum = f64::from(self.waiting) + self.wealth.iter().copied().map(f64::from).sum::<f64>();
        sum.max(LEAST).ln()
    }
}

/// An e-process against "the arms differ by at least `margin` times, one way or the other".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Equivalence {
    not_worse: BelowRatio,
    not_better: BelowRatio,
}

impl Equivalence {
    /// Nothing seen.
    pub fn start() -> Self {
        Self { not_worse: BelowRatio::for_proof(), not_better: BelowRatio::for_proof() }
    }

    /// Takes in one block, as [`BelowRatio::compare`] does; `margin` is above 1.
    pub fn compare(&mut self, canary: Counts, control: Counts, rate: f64, margin: f64, dispersion: f64) {
        self.not_worse.compare(canary, control, rate, margin, dispersion);
        self.not_better.compare(control, canary, rate, margin, dispersion);
    }

    /// Natural logarithm of the e-value: the smaller of both sides, as in either part of the null one of them is an
    /// e-process.
    pub fn log_e(&self) -> f64 {
        self.not_worse.log_e().min(self.not_better.log_e())
    }
}

/// Below this pooled rate the two forms of the ratio are the same to within a few per cent.
const RATE_MIN: f64 = 0.02;

/// The ratios that are supposed instead of the bound: as good as control where the bound allows it, else a quarter
/// better than the bound; half of that; and half-way to the bound.
fn supposed(bound: f64) -> [f64; STAKES.len()] {
    let middle = if bound > 1.05 { 1.0 } else { bound * 0.75 };
    [middle * 0.5, middle, (middle * bound).sqrt()]
}

/// By how much the variance of the share is larger than for independent events. An unknown dispersion is the largest.
fn tempering(bad: f64, dispersion: f64) -> f64 {
    let dispersion = if dispersion.is_nan() { 1.0 } else { dispersion.clamp(0.0, 1.0) };
    1.0 + (bad - 1.0).max(0.0) * dispersion
}

/// What is kept of a stake.
fn kept(wealth: f64) -> f32 {
    if wealth < LEAST { 0.0 } else { wealth as f32 }
}

/// Logarithm of the binomial likelihood ratio of `ratio` against `bound`, in a form that is exact at any share.
fn log_share_ratio(on_canary: f64, bad: f64, theta: f64, ratio: f64, bound: f64) -> f64 {
    let whole = |r: f64| r * theta + 1.0 - theta;
    on_canary * (ratio / bound).ln() + bad * (whole(bound) / whole(ratio)).ln()
}

/// Logarithm of the likelihood ratio of a supposed pair of rates (pooled rate `rate`, ratio `ratio`) against the nearest
/// pair whose ratio is `bound`.
fn log_two_by_two(canary: Counts, control: Counts, rate: f64, ratio: f64, bound: f64) -> f64 {
    let (n_canary, n_control) = (canary.total as f64, control.total as f64);
    let theta = n_canary / (n_canary + n_control);
    let p_control = (rate / (ratio * theta + 1.0 - theta)).min(0.999).min(0.999 / ratio);
    let p_canary = ratio * p_control;
    let q_control = nearest(p_canary, p_control, theta, bound);
    let q_canary = (bound * q_control).min(1.0 - f64::EPSILON);
    let of = |counts: Counts, p: f64, q: f64| {
        counts.bad as f64 * (p / q).ln() + (counts.total - counts.bad) as f64 * ((1.0 - p) / (1.0 - q)).ln()
    };
    of(canary, p_canary, q_canary) + of(control, p_control, q_control)
}

/// Control's rate in the pair `(bound q, q)` that is nearest to the supposed pair. Setting the derivative of
/// `theta KL(p_canary, bound q) + (1 - theta) KL(p_control, q)` to 0 leaves a quadratic, of which this is the root
/// below `min(1, 1/bound)`.
fn nearest(p_canary: f64, p_control: f64, theta: f64, bound: f64) -> f64 {
    let linear = theta * (p_canary + bound) + (1.0 - theta) * (bound * p_control + 1.0);
    let constant = theta * p_canary + (1.0 - theta) * p_control;
    let root = (linear * linear - 4.0 * bound * constant).max(0.0).sqrt();
    2.0 * constant / (linear + root)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    fn counts(bad: u64, total: u64) -> Counts {
        Counts { bad, total }
    }

    fn binomial(n: u64, p: f64, rng: &mut StdRng) -> u64 {
        (0..n).filter(|_| rng.random_bool(p)).count() as u64
    }

    /// The largest mean of one block's factor over a lattice of rates in the null, computed exactly.
    fn largest_mean(n_canary: u64, n_control: u64, rate: f64, ratio: f64, bound: f64) -> f64 {
        let outcomes = |n: u64, p: f64| -> Vec<f64> {
            let mut law = vec![1.0];
            for _ in 0..n {
                let mut next = vec![0.0; law.len() + 1];
                law.iter().enumerate().for_each(|(k, mass)| {
                    next[k] += mass * (1.0 - p);
                    next[k + 1] += mass * p;
                });
                law = next;
            }
            law
        };
        let mut largest = 0.0_f64;
        for step in 1..100 {
            let q = f64::from(step) / 100.0;
            for above in [1.0, 1.2, 3.0] {
                let q_canary = bound * q * above;
                if q_canary > 1.0 {
                    continue;
                }
                let mut mean = 0.0;
                for (bad_canary, mass_canary) in outcomes(n_canary, q_canary).iter().enumerate() {
                    for (bad_control, mass_control) in outcomes(n_control, q).iter().enumerate() {
                        let of = (counts(bad_canary as u64, n_canary), counts(bad_control as u64, n_control));
                        mean += mass_canary * mass_control * log_two_by_two(of.0, of.1, rate, ratio, bound).exp();
                    }
                }
                largest = largest.max(mean);
            }
        }
        largest
    }

    #[test]
    fn for_two_proportions_no_pair_in_the_null_has_a_mean_above_one() {
        for (n_canary, n_control) in [(1, 1), (2, 7), (5, 3)] {
            for rate in [0.05, 0.3, 0.7] {
                for bound in [0.5, 0.9, 1.0, 1.5, 3.0] {
                    for ratio in supposed(bound) {
                        let mean = largest_mean(n_canary, n_control, rate, ratio, bound);
                        assert!(mean <= 1.0 + 1e-9, "{n_canary} {n_control} {rate} {ratio} {bound}: {mean}");
                    }
                }
            }
        }
    }

    #[test]
    fn both_forms_agree_where_failures_are_rare() {
        let (canary, control) = (counts(3, 10_000), counts(70, 190_000));
        let share = log_share_ratio(3.0, 73.0, 0.05, 1.0, 2.0);
        let two_by_two = log_two_by_two(canary, control, 1e-6, 1.0, 2.0);
        assert!((share - two_by_two).abs() < 1e-3, "{share} {two_by_two}");
    }

    /// The mean of the e-value, and how often it ever passes 1/beta, on streams at the edge of the null. `draw` gives
    /// the block of each look.
    fn at_the_edge(runs: u32, blocks: u32, observe: impl Fn(&mut BelowRatio, &mut StdRng)) -> (f64, f64) {
        let mut rng = StdRng::seed_from_u64(11);
        let (mut sum, mut crossed) = (0.0, 0);
        for _ in 0..runs {
            let (mut test, mut highest) = (BelowRatio::for_proof(), f64::NEG_INFINITY);
            for _ in 0..blocks {
                observe(&mut test, &mut rng);
                highest = highest.max(test.log_e());
            }
            sum += test.log_e().exp().min(1e3);
            crossed += u32::from(highest >= 20_f64.ln());
        }
        (sum / f64::from(runs), f64::from(crossed) / f64::from(runs))
    }

    #[test]
    fn a_canary_exactly_as_bad_as_the_bound_is_called_safe_no_more_often_than_promised() {
        let (theta, bound) = (0.2, 2.0);
        let expected = bound * theta / (bound * theta + 1.0 - theta);
        let (mean, crossed) = at_the_edge(4_000, 60, |test, rng| {
            let bad = rng.random_range(0..6);
            test.observe(binomial(bad, expected, rng) as f64, bad as f64, theta, bound, 0.0);
        });
        assert!(mean < 1.1 && crossed <= 0.05, "{mean} {crossed}");
    }

    #[test]
    fn clusters_are_harmless_once_the_dispersion_is_known() {
        let (theta, bound) = (0.2, 2.0);
        let expected = bound * theta / (bound * theta + 1.0 - theta);
        let (mean, crossed) = at_the_edge(4_000, 60, |test, rng| {
            let clusters = rng.random_range(1..6);
            let bad = 5.0 * clusters as f64;
            // Clusters of five that stay together: two events of a block are of one cluster with this probability.
            let dispersion = 4.0 / (bad - 1.0);
            test.observe(5.0 * binomial(clusters, expected, rng) as f64, bad, theta, bound, dispersion);
        });
        assert!(mean < 1.1 && crossed <= 0.05, "{mean} {crossed}");
    }

    #[test]
    fn a_champion_that_is_as_good_is_not_beaten_and_success_rates_may_drift() {
        let (mean, crossed) = at_the_edge(2_000, 60, |test, rng| {
            let rate = rng.random_range(0.1..0.6);
            let (canary, control) = (binomial(8, rate, rng), binomial(24, rate, rng));
            test.compare(counts(canary, 8), counts(control, 24), 0.3, 1.0, 0.0);
        });
        assert!(mean < 1.1 && crossed <= 0.05, "{mean} {crossed}");
    }

    #[test]
    fn where_failures_are_common_both_arms_tell_more_than_the_share_does() {
        let (mut rng, mut blocks) = (StdRng::seed_from_u64(5), [0_u32; 2]);
        for _ in 0..100 {
            let mut tests = [BelowRatio::for_proof(), BelowRatio::for_proof()];
            let threshold = 20_f64.ln();
            while tests.iter().any(|test| test.log_e() < threshold) {
                let (canary, control) = (binomial(20, 0.4, &mut rng), binomial(20, 0.5, &mut rng));
                for ((test, rate), blocks) in tests.iter_mut().zip([0.45, 0.0]).zip(&mut blocks) {
                    if test.log_e() < threshold {
                        test.compare(counts(canary, 20), counts(control, 20), rate, 1.0, 0.0);
                        *blocks += 1;
                    }
                }
            }
        }
        assert!(f64::from(blocks[0]) < 0.75 * f64::from(blocks[1]), "{blocks:?}");
    }

    #[test]
    fn fewer_bad_events_on_the_canary_never_speak_against_its_safety() {
        let after = |on_canary: u64| {
            let mut test = BelowRatio::for_proof();
            test.observe(2.0, 30.0, 0.1, 2.0, 0.05);
            test.observe(on_canary as f64, 30.0, 0.1, 2.0, 0.05);
            test.log_e()
        };
        assert!((0..30).all(|bad| after(bad) >= after(bad + 1)));
        let compared = |bad: u64| {
            let mut test = BelowRatio::for_proof();
            test.compare(counts(bad, 40), counts(15, 50), 0.3, 1.2, 0.0);
            test.log_e()
        };
        assert!((0..40).all(|bad| compared(bad) >= compared(bad + 1)));
    }

    #[test]
    fn three_good_blocks_are_the_least_and_a_late_regression_takes_safety_back() {
        let mut test = BelowRatio::for_safety();
        test.compare(counts(0, 1_000_000), counts(9_000, 1_000_000), 0.01, 2.0, 0.0);
        test.compare(counts(0, 1_000_000), counts(9_000, 1_000_000), 0.01, 2.0, 0.0);
        assert!(test.log_e() < 20_f64.ln());
        for _ in 0..1000 {
            test.observe(5.0, 100.0, 0.05, 2.0, 0.0);
        }
        assert!(test.log_e() > 20_f64.ln() && test.log_e() <= 100_f64.ln() + 1e-6);
        for _ in 0..5 {
            test.observe(15.0, 100.0, 0.05, 2.0, 0.0);
        }
        assert!(test.log_e() < 20_f64.ln());
    }

    #[test]
    fn anything_at_all_leaves_it_finite() {
        let odd = [0.0, -1.0, 0.5, 1.0, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE];
        let many = [0, 1, 7, u64::MAX];
        let mut test = BelowRatio::for_safety();
        let untouched = test.clone();
        test.observe(f64::NAN, 10.0, 0.5, 2.0, 0.0);
        test.observe(1.0, 10.0, 1.0, 2.0, 0.0);
        test.compare(counts(1, 0), counts(1, 1), 0.5, 2.0, 0.0);
        assert_eq!(test, untouched, "what cannot be compared changes nothing");
        for a in odd {
            for b in odd {
                for c in odd {
                    test.observe(a, b, c, b, a);
                    test.observe(a, b, 0.5, c, 0.1);
                    test.observe(1.0, 2.0, a, b, c);
                    for bad in many {
                        for total in many {
                            test.compare(counts(bad, total), counts(total, bad), a, b, c);
                        }
                    }
                    assert!(test.log_e().is_finite() && test.wealth.iter().all(|wealth| wealth.is_finite()));
                }
            }
        }
    }

    #[test]
    fn arms_are_equivalent_only_if_neither_is_much_better_whichever_is_called_canary() {
        let after = |p_canary: f64, p_control: f64, swapped: bool| {
            let (mut test, mut rng) = (Equivalence::start(), StdRng::seed_from_u64(8));
            for _ in 0..60 {
                let arms =
                    [counts(binomial(50, p_canary, &mut rng), 50), counts(binomial(50, p_control, &mut rng), 50)];
                let [canary, control] = if swapped { [arms[1], arms[0]] } else { arms };
                test.compare(canary, control, 0.3, 1.25, 0.0);
            }
            test.log_e()
        };
        assert!(after(0.3, 0.3, false) > 20_f64.ln());
        assert!(after(0.2, 0.3, false) < 0.0 && after(0.4, 0.3, false) < 0.0);
        assert_eq!(after(0.28, 0.3, false), after(0.28, 0.3, true));
    }

    #[test]
    fn it_resumes_bit_for_bit() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut test = BelowRatio::for_safety();
        for _ in 0..200 {
            let mut again: BelowRatio = postcard::from_bytes(&postcard::to_allocvec(&test).unwrap()).unwrap();
            let (canary, control) = (counts(rng.random_range(0..9), 100), counts(rng.random_range(0..90), 1000));
            test.compare(canary, control, 0.04, 2.0, 0.01);
            again.compare(canary, control, 0.04, 2.0, 0.01);
            assert_eq!(test, again);
        }
    }
}
