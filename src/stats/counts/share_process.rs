//! Evidence on the canary's share of the bad events, window after window: the building block of the tests that compare
//! counts.
//!
//! # The argument
//! Two gamblers play against "the canary is not worse than tolerated": one bets on the share
//! ([`share_betting`](super::share_betting)), one on the tempered likelihood ratio ([`tempered`](super::tempered)). Each
//! factor has a mean of at most 1 given the past, so each wealth is a non-negative supermartingale, and by Ville's
//! inequality the chance that it *ever* reaches `1/alpha` is at most `alpha`. A weighted average of supermartingales is
//! one; so they are mixed over how much worse the canary might be, and over the moment at which it turned bad: a part
//! of the stake waits and is fed in little by little, so that a regression that starts late is found too. Everything
//! that sets a bet ([`Stake`], the number of bad events, the split of the traffic) is known before the canary's part is.
//!
//! # The speed limit
//! Wealth may grow by no more than an allowance, which fills up with time. A pod that fails by itself for three minutes
//! cannot be told from a regression while it lasts, whatever is counted; so where few pods carry the canary, no three
//! minutes are allowed to be proof, while a regression that stays is proven soon after. Paying less than a fair game
//! would pay keeps the guarantee, and the bets are chosen for the bound rather than cut by it.
//!
//! Source: Shin, Ramdas and Rinaldo, "E-detectors" (2023) for the mixture over starts.

use serde::{Deserialize, Serialize};

use super::{share_betting, tempered};
use crate::stats::GROWTH_MAX;

pub use super::tempered::CanaryShare;

/// How many times worse than tolerated the canary might be.
const WORSE: [f64; CELLS] = [1.6, 2.6, 5.0, 12.0, 40.0];
/// Their natural logarithms.
const LOG_WORSE: [f64; CELLS] = [
    0.470_003_629_245_735_5,
    0.955_511_445_027_436_4,
    1.609_437_912_434_100_3,
    2.484_906_649_788_000_4,
    3.688_879_454_113_936,
];
/// How likely each of them is held: small degradations are the ones that take time, so they get the most.
const HELD: [f64; CELLS] = [0.3, 0.25, 0.2, 0.15, 0.1];
const CELLS: usize = 5;
/// Part of the stake that bets on the tempered likelihood ratio; the rest bets on the share.
const LIKELIHOOD: f64 = 0.6;
/// Part of the stake that waits at first.
const WAITING: f64 = 0.3;
/// What waits is fed in by one part of this many, plus those that have passed, with each 15 seconds: an hour holds as
/// much for the first hour, and there is something left after a week.
const FED_OVER: f64 = 240.0;
/// The time that [`Stake::pace`] and the feeding count in.
const PACE_SECONDS: f64 = 15.0;
/// What the allowance holds at most, as the logarithm of a factor: it is full when a regression begins.
const ALLOWANCE_MAX: f64 = std::f64::consts::LN_10;
/// Wealth is kept below this, above any threshold that a rollout with hundreds of checks could ask for; so evidence that
/// has turned does not take long to be taken back. Capping keeps the guarantee.
const WEALTH_MAX: f64 = 1e7;

/// How a window is bet on; whatever is in it may depend on the past, on the number of bad events and on the split, and
/// not on where the bad events fell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stake {
    /// Variance of the canary's number of bad events as a multiple of the binomial's, at least 1.
    pub inflation: f64,
    /// The same as betting on the share supposes it: a guess that sizes the bet, on which no promise rests.
    pub supposed_inflation: f64,
    /// Largest lasting growth of the wealth in 15 seconds, as the logarithm of a factor.
    pub pace: f64,
    /// Length of the window in seconds.
    pub seconds: f64,
}

/// An e-process on the canary's share of the bad events; 52 bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShareProcess {
    betting: [f32; CELLS],
    likelihood: [f32; CELLS],
    waiting: f32,
    /// Time that was bet on, in [`PACE_SECONDS`].
    passed: f32,
    allowance: f32,
}

impl Default for ShareProcess {
    fn default() -> Self {
        Self::start()
    }
}

impl ShareProcess {
    /// A stake of 1, nothing seen.
    pub fn start() -> Self {
        let active = 1.0 - WAITING;
        Self {
            betting: HELD.map(|held| (active * (1.0 - LIKELIHOOD) * held) as f32),
            likelihood: HELD.map(|held| (active * LIKELIHOOD * held) as f32),
            waiting: WAITING as f32,
            passed: 0.0,
            allowance: ALLOWANCE_MAX as f32,
        }
    }

    /// Takes in a window; `None`, in which nothing bad happened or nothing can be compared, lets time pass only.
    pub fn bet(&mut self, window: Option<CanaryShare>, stake: &Stake) {
        let seconds = if stake.seconds.is_finite() { stake.seconds.clamp(0.0, 3600.0) } else { PACE_SECONDS };
        let times = seconds / PACE_SECONDS;
        let paced = (stake.pace.max(0.01) * times).min(GROWTH_MAX);
        let allowance = (f64::from(self.allowance) + paced).min(paced.max(ALLOWANCE_MAX));
        self.allowance = allowance as f32;
        let Some(window) = window else { return };
        let before = self.wealth();
        let passed = f64::from(self.passed) + times;
        let fed = f64::from(self.waiting) * times / (FED_OVER + passed);
        self.passed = passed.min(1e7) as f32;
        self.waiting -= fed as f32;
        let sound = |inflation: f64| if inflation.is_finite() { inflation.max(1.0) } else { window.bad.max(1.0) };
        let (inflation, supposed) = (sound(stake.inflation), sound(stake.supposed_inflation));
        let pay_max = allowance.exp();
        let cells = self.betting.iter_mut().zip(&mut self.likelihood);
        for (((betting, likelihood), (worse, log_worse)), held) in cells.zip(WORSE.into_iter().zip(LOG_WORSE)).zip(HELD)
        {
            let pays = share_betting::factor(&window, worse, supposed, pay_max);
            *betting = grown(*betting, fed * (1.0 - LIKELIHOOD) * held, pays);
            let pays = tempered::log_factor(&window, worse, log_worse, inflation, allowance).exp();
            *likelihood = grown(*likelihood, fed * LIKELIHOOD * held, pays);
        }
        let grew = (self.wealth() / before).ln().max(0.0);
        self.allowance = (allowance - grew) as f32;
    }

    /// Gives away what is above `most`: a process that is lowered stays one.
    pub fn keep_below(&mut self, most: f64) {
        let keep = most / self.wealth();
        if keep < 1.0 {
            let all = self.betting.iter_mut().chain(&mut self.likelihood).chain(std::iter::once(&mut self.waiting));
            all.for_each(|wealth| *wealth = (f64::from(*wealth) * keep) as f32);
        }
    }

    fn wealth(&self) -> f64 {
        let bets: f64 = self.betting.iter().chain(&self.likelihood).map(|wealth| f64::from(*wealth)).sum();
        (bets + f64::from(self.waiting)).max(f64::from(f32::MIN_POSITIVE))
    }

    /// Natural logarithm of the e-value of the tempered likelihood ratio alone; finite.
    pub fn log_e_of_likelihood(&self) -> f64 {
        let bets: f64 = self.likelihood.iter().map(|wealth| f64::from(*wealth)).sum();
        (bets / LIKELIHOOD + f64::from(self.waiting)).max(f64::from(f32::MIN_POSITIVE)).ln()
    }

    /// Natural logarithm of the e-value; finite.
    pub fn log_e(&self) -> f64 {
        self.wealth().ln()
    }
}

fn grown(wealth: f32, fed: f64, factor: f64) -> f32 {
    let wealth = ((f64::from(wealth) + fed) * factor.max(0.0)).min(WEALTH_MAX);
    // Arithmetic on the smallest numbers is slow, and what is fed in is far above them.
    if wealth < 1e-30 { 0.0 } else { wealth as f32 }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    const FAST: Stake = Stake { inflation: 1.0, supposed_inflation: 1.0, pace: 2.0, seconds: 15.0 };

    /// The probability of `k` among `n`.
    fn binomial(n: u32, k: u32, p: f64) -> f64 {
        (0..k).map(|i| f64::from(n - i) / f64::from(i + 1) * p).product::<f64>() * (1.0 - p).powi((n - k) as i32)
    }

    #[test]
    fn no_bet_pays_more_than_it_costs_on_average() {
        for n in [1, 2, 5, 20, 60] {
            for theta in [0.01, 0.05, 0.25, 0.5, 0.9] {
                for tolerated in [0.5, 1.0, 1.25] {
                    for (inflation, log_pay_max) in [(1.0, 2.3_f64), (1.0, 0.3), (4.0, 1.0)] {
                        for worse in WORSE {
                            let (mut betting, mut likelihood) = (0.0, 0.0);
                            for k in 0..=n {
                                let window = CanaryShare::new(f64::from(k), f64::from(n), theta, tolerated).unwrap();
                                let chance = binomial(n, k, window.tolerated_share());
                                betting += chance * share_betting::factor(&window, worse, inflation, log_pay_max.exp());
                                let log = tempered::log_factor(&window, worse, worse.ln(), inflation, log_pay_max);
                                likelihood += chance * log.exp();
                            }
                            assert!(betting <= 1.0 + 1e-9 && likelihood <= 1.0 + 1e-9, "{betting} {likelihood}");
                        }
                    }
                }
            }
        }
    }

    /// Bad events in clusters of up to 20 that fall on one arm together: betting on the share keeps its promise. The
    /// likelihood ratio is told of them.
    #[test]
    fn clustered_events_keep_the_promised_rate() {
        let mut rng = StdRng::seed_from_u64(7);
        let (theta, runs, alpha) = (0.05, 2_000, 0.01_f64);
        let mut crossed = 0;
        for _ in 0..runs {
            let mut process = ShareProcess::start();
            let mut highest = f64::NEG_INFINITY;
            for _ in 0..120 {
                let (mut canary, mut all) = (0.0, 0.0);
                for _ in 0..rng.random_range(0..6) {
                    let size = f64::from(rng.random_range(1..=20_u8));
                    all += size;
                    canary += if rng.random_bool(theta) { size } else { 0.0 };
                }
                process.bet(CanaryShare::new(canary, all, theta, 1.0), &Stake { inflation: 14.0, ..FAST });
                highest = highest.max(process.log_e());
            }
            crossed += u32::from(highest >= (1.0 / alpha).ln());
        }
        assert!(f64::from(crossed) <= alpha * f64::from(runs), "{crossed} of {runs} crossed 1/alpha");
    }

    #[test]
    fn more_on_the_canary_is_more_evidence() {
        let after = |on_canary: f64| {
            let mut process = ShareProcess::start();
            (0..5).for_each(|_| process.bet(CanaryShare::new(on_canary, 10.0, 0.2, 1.1), &FAST));
            process.log_e()
        };
        assert!((0..10).all(|n| after(f64::from(n)) <= after(f64::from(n + 1))));
    }

    #[test]
    fn wealth_grows_no_faster_than_the_pace() {
        let mut process = ShareProcess::start();
        for block in 1..=12 {
            process.bet(CanaryShare::new(1e6, 1e6, 0.05, 1.1), &Stake { pace: 0.36, ..FAST });
            assert!(process.log_e() <= ALLOWANCE_MAX + 0.36 * f64::from(block), "{}", process.log_e());
        }
    }

    #[test]
    fn a_late_regression_is_found() {
        let mut process = ShareProcess::start();
        (0..400).for_each(|_| process.bet(CanaryShare::new(5.0, 100.0, 0.05, 1.1), &FAST));
        assert!(process.log_e() < 0.0);
        (0..12).for_each(|_| process.bet(CanaryShare::new(20.0, 115.0, 0.05, 1.1), &FAST));
        assert!(process.log_e() > 7.0, "{}", process.log_e());
    }

    #[test]
    fn what_says_nothing_is_no_window() {
        for (on, bad, theta) in [(1.0, 0.0, 0.5), (2.0, 1.0, 0.5), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0)] {
            assert_eq!(CanaryShare::new(on, bad, theta, 1.0), None);
        }
        assert_eq!(CanaryShare::new(f64::NAN, 1.0, 0.5, 1.0), None);
        assert_eq!(CanaryShare::new(1.0, f64::INFINITY, 0.5, 1.0), None);
    }

    #[test]
    fn any_stake_leaves_it_finite() {
        let mut process = ShareProcess::start();
        for wild in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0, 1e300] {
            let stake = Stake { inflation: wild, supposed_inflation: wild, pace: wild, seconds: wild };
            for on in [0.0, 1e18] {
                process.bet(CanaryShare::new(on, 1e18, 0.3, 1.0), &stake);
                assert!(process.log_e().is_finite() && process.log_e_of_likelihood().is_finite());
            }
        }
    }
}
