//! Wealth that bets on what is new in each look.
//!
//! Each factor is at most `1 + x + x^2/2` times the matching constant (Catoni), so its mean is at most 1 where the mean and
//! the variance of `y` are as supposed, whatever the shape of its distribution.

use serde::{Deserialize, Serialize};

/// Bets on a shift of about so many deviations of what is new.
const SHIFTS: [f64; 3] = [0.15, 0.4, 0.9];
const CELLS: usize = SHIFTS.len() + 1;
/// Part of what waits that is fed in at each look.
const FED_EACH_LOOK: f64 = 1.0 / 240.0;
/// Wealth is kept below this, so that it stays finite; capping keeps the guarantee.
pub(super) const WEALTH_MAX: f64 = 1e9;

/// What the allowance for growth holds at most, as the logarithm of a factor.
pub(super) const ALLOWANCE_MAX: f64 = std::f64::consts::LN_10;

/// Wealth that bets on what is new in each look being above 0, by the size of the shift.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stakes {
    wealth: [f64; CELLS],
    waiting: f64,
}

impl Stakes {
    pub(super) const fn start(at_once: f64, waiting: f64) -> Self {
        Self { wealth: [at_once / CELLS as f64; CELLS], waiting }
    }

    /// Bets on `y`, in deviations.
    pub(super) fn bet(&mut self, y: f64, factor_max: f64) {
        let fed = self.waiting * FED_EACH_LOOK;
        self.waiting -= fed;
        for (wealth, factor) in self.wealth.iter_mut().zip(factors(y)) {
            *wealth = ((*wealth + fed / CELLS as f64) * factor.min(factor_max)).min(WEALTH_MAX);
        }
    }

    /// By what the wealth would grow with another outcome of the same look.
    pub(super) fn growth(&self, y: f64, factor_max: f64) -> f64 {
        let fed = self.waiting * FED_EACH_LOOK;
        let bets = self.wealth.iter().zip(factors(y));
        let after = bets.map(|(wealth, factor)| (wealth + fed / CELLS as f64) * factor.min(factor_max)).sum::<f64>();
        let before = self.sum();
        if before > 0.0 { (after + self.waiting - fed) / before } else { 1.0 }
    }

    pub(super) fn add(&mut self, stake: f64) {
        self.wealth.iter_mut().for_each(|wealth| *wealth = (*wealth + stake / CELLS as f64).min(WEALTH_MAX));
    }

    /// Gives away what is above `most`: a process that is lowered stays one.
    pub(super) fn keep_below(&mut self, most: f64) {
        let keep = (most / self.sum()).min(1.0);
        self.wealth.iter_mut().for_each(|wealth| *wealth *= keep);
        self.waiting *= keep;
    }

    pub(super) fn sum(&self) -> f64 {
        self.waiting + self.wealth.iter().sum::<f64>()
    }
}

/// What each of the bets pays where `y` is seen, in deviations.
fn factors(y: f64) -> [f64; CELLS] {
    let [small, middle, large] = SHIFTS.map(|shift| catoni(shift * y) * (-shift * shift / 2.0).exp());
    let steep = if y > -1.0 { (1.0 + y).powi(2) / 2.0 } else { 0.0 };
    [small, middle, large, steep]
}

/// At most `1 + x + x^2/2`, rising everywhere, and above 0.
fn catoni(x: f64) -> f64 {
    if x >= 0.0 { 1.0 + x + x * x / 2.0 } else { 1.0 / (1.0 - x + x * x / 2.0) }
}

/// An allowance for growth after one more look.
pub(super) fn refilled(allowance: f32, pace: f64) -> f64 {
    let pace = pace.max(0.01);
    (f64::from(allowance) + pace).min(pace.max(ALLOWANCE_MAX))
}
