//! Evidence on the canary's share of the bad events, window after window: the building block of the tests that compare
//! counts.
//!
//! # The argument
//! Two gamblers play against "the canary is not worse than tolerated": one bets on the share
//! ([`share_betting`](super::share_betting)), one on the tempered likelihood ratio ([`tempered`](super::tempered)). Each
//! factor has a mean of at most 1 given the past, so each wealth is a non-negative supermartingale, and by Ville's
//! inequality the chance that it *ever* reaches `1/alpha` is at most `alpha`. A weighted average of supermartingales is
//! one; so they are mixed over how much worse the canary might be, and over the moment at which it turned bad: a part
//! of the stake waits and is fed in at a constant rate, so that a regression that starts late is found too. Everything
//! that sets a bet ([`Stake`], the number of bad events, the split of the traffic) is known before the canary's part is.
//!
//! # The speed limit
//! Wealth may grow by no more than an allowance, which fills up with time. A pod that fails by itself for three minutes
//! cannot be told from a regression while it lasts, whatever is counted; so where few pods carry the canary, no three
//! minutes are allowed to be proof, while a regression that stays is proven soon after. Paying less than a fair game
//! would keeps the guarantee, and the bets are chosen for the bound rather than cut by it.
//!
//! Source: Shin, Ramdas and Rinaldo, "E-detectors" (2023) for the mixture over starts.

use serde::{Deserialize, Serialize};

use super::{share_betting, tempered};

pub use super::tempered::Window;

/// How many times worse than tolerated the canary might be.
const WORSE: [f64; CELLS] = [1.6, 2.6, 5.0, 12.0, 40.0];
/// How likely each of them is held: small degradations are the ones that take time, so they get the most.
const HELD: [f64; CELLS] = [0.3, 0.25, 0.2, 0.15, 0.1];
const CELLS: usize = 5;
/// Part of the stake that bets on the tempered likelihood ratio; the rest bets on the share.
const LIKELIHOOD: f64 = 0.6;
/// Part of the stake that waits at first.
const WAITING: f64 = 0.3;
/// Part of what waits that is fed in with each 15 seconds.
const FED: f64 = 1.0 / 240.0;
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
            allowance: ALLOWANCE_MAX as f32,
        }
    }

    /// Takes in a window; `None`, in which nothing bad happened or nothing can be compared, lets time pass only.
    pub fn bet(&mut self, window: Option<Window>, stake: &Stake) {
        let seconds = if stake.seconds.is_finite() { stake.seconds.clamp(0.0, 3600.0) } else { PACE_SECONDS };
        let times = seconds / PACE_SECONDS;
        let paced = stake.pace.max(0.01) * times;
        let allowance = (f64::from(self.allowance) + paced).min(paced.max(ALLOWANCE_MAX));
        self.allowance = allowance as f32;
        let Some(window) = window else { return };
        let before = self.wealth();
        let fed = f64::from(self.waiting) * (1.0 - (1.0 - FED).powf(times));
        self.waiting -= fed as f32;
        let sound = |inflation: f64| if inflation.is_finite() { inflation.max(1.0) } else { window.bad.max(1.0) };
        let (inflation, supposed) = (sound(stake.inflation), sound(stake.supposed_inflation));
        for (((betting, likelihood), worse), held) in
            self.betting.iter_mut().zip(&mut self.likelihood).zip(WORSE).zip(HELD)
        {
            let pays = share_betting::factor(&window, worse, supposed, allowance);
            *betting = grown(*betting, fed * (1.0 - LIKELIHOOD) * held, pays);
            let pays = tempered::log_factor(&window, worse, inflation, allowance).exp();
            *likelihood = grown(*likelihood, fed * LIKELIHOOD * held, pays);
        }
        let grew = (self.wealth() / before).ln().max(0.0);
        self.allowance = (allowance - grew) as f32;
    }

    fn wealth(&self) -> f64 {
        let bets: f64 = self.betting.iter().chain(&self.likelihood).map(|wealth| f64::from(*wealth)).sum();
        (bets + f64::from(self.waiting)).max(f64::from(f32::MIN_POSITIVE))
    }

    /// Natural logarithm of the e-value; finite.
    pub fn log_e(&self) -> f64 {
        self.wealth().ln()
    }
}

fn grown(wealth: f32, fed: f64, factor: f64) -> f32 {
    ((f64::from(wealth) + fed) * factor.max(0.0)).min(WEALTH_MAX) as f32
}
