//! Betting on the canary's share of the sum of amounts: cost per query, tokens, bytes.
//!
//! # The argument
//! If requests are assigned to the arms at random, the canary's expected share of the sum of their amounts, given how many
//! requests each arm had, is its share `theta` of the requests: exactly, however skewed and heavy-tailed the
//! amounts are. If the canary's amounts are up to `m` times as large, it is at most `pi = m theta / (m theta + 1 - theta)`:
//! the share is concave in the canary's part. The share is between 0 and 1, so `1 + lambda (share - pi)` has a mean of at
//! most 1 for each `lambda` in `[0, 1/pi]` fixed beforehand. Bets are sized by the share's own variance so far; a wrong
//! size costs growth only. Where less is worse, control's share is bet on. The mirror bets against "at least
//! `safe_ratio` times as large".
//!
//! Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B, 2024).
//!
//! # Limits
//! Amounts of the same user or pod that stay high for the whole rollout are no random assignment: the margin, raised by
//! the spread of pods from history, has to hold that.

use serde::{Deserialize, Serialize};

use super::autoregression::Mean;
use crate::domain::Direction;
use crate::stats::{SAFETY_MAX, Setting};

/// How many times worse than tolerated the canary might be.
const WORSE: [f64; 4] = [1.2, 1.5, 2.5, 6.0];
/// Part of the stake that bets from the start, and part of the rest that is fed in with each block.
const STAKE_AT_START: f64 = 0.5;
const FED_EACH_BLOCK: f64 = 1.0 / 240.0;
/// Largest part of the possible stake that one bet may take.
const BET_MAX: f64 = 0.9;
/// Wealth is kept below this; capping keeps the guarantee.
const WEALTH_MAX: f64 = 1e9;
/// Blocks over which the variance of the share is averaged.
const BLOCKS_REMEMBERED: f64 = 60.0;

/// The gamblers' wealth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct AmountShare {
    worse: [f64; WORSE.len()],
    waiting: f64,
    safe: f64,
    /// Square of the distance of the share from that of the requests, over what a fair coin's would be.
    variance: Mean,
}

impl AmountShare {
    pub(super) const fn start() -> Self {
        Self {
            worse: [STAKE_AT_START / WORSE.len() as f64; WORSE.len()],
            waiting: 1.0 - STAKE_AT_START,
            safe: 1.0,
            variance: Mean { value: 0.05, weight: 2.0 },
        }
    }

    /// Takes in the amounts of one block, of which there is at least one on each arm. Negative ones cannot be compared.
    pub(super) fn observe(&mut self, setting: &Setting<'_>, control: &[f64], canary: &[f64], pay_max: f64) {
        if control.iter().chain(canary).any(|amount| *amount < 0.0) {
            return;
        }
        let (worse, better) = match setting.check.direction {
            Direction::HigherIsWorse => (canary, control),
            Direction::LowerIsWorse => (control, canary),
        };
        let (sum, all) = (worse.iter().sum::<f64>(), worse.iter().chain(better).sum::<f64>());
        let theta = worse.len() as f64 / (worse.len() + better.len()) as f64;
        if all > 0.0 && theta > 0.0 && theta < 1.0 {
            let lasting = (2.0 * super::pod_log_sd(setting).min(0.5)).exp();
            let ratio = |ratio: f64| if ratio.is_finite() { ratio.clamp(1.0, 1e6) } else { 1.0 };
            let tolerated = ratio(setting.check.ratio_max).max(lasting);
            self.bet(sum / all, theta, tolerated, ratio(setting.safe_ratio) / lasting, pay_max);
        }
    }

    fn bet(&mut self, share: f64, theta: f64, tolerated: f64, unsafe_from: f64, pay_max: f64) {
        let coin = theta * (1.0 - theta);
        let variance = (self.variance.value * coin).max(1e-9);
        let expected = part(tolerated, theta);
        let fed = self.waiting * FED_EACH_BLOCK / WORSE.len() as f64;
        self.waiting *= 1.0 - FED_EACH_BLOCK;
        for (wealth, worse) in self.worse.iter_mut().zip(WORSE) {
            let lead = part(tolerated * worse, theta) - expected;
            // A bet that is expected to pay more than may be paid is made smaller, so that it loses less.
            let payable = (pay_max - 1.0) / (lead + 0.5 * variance.sqrt()).max(1e-9);
            let lambda = (lead / (variance + lead * lead)).min(BET_MAX / expected).min(payable);
            let factor = (1.0 + lambda * (share - expected)).min(pay_max);
            *wealth = ((*wealth + fed) * factor).min(WEALTH_MAX);
        }
        let unsafe_share = part(unsafe_from, theta);
        let lead = (unsafe_share - theta).max(0.0);
        let lambda = (lead / (variance + lead * lead)).min(BET_MAX / (1.0 - unsafe_share));
        self.safe = (self.safe * (1.0 + lambda * (unsafe_share - share))).min(SAFETY_MAX);
        self.variance.add((share - theta).powi(2) / coin, BLOCKS_REMEMBERED);
    }

    /// The wealth that bets on "worse than tolerated", or on "safe".
    pub(super) fn wealth(&self, worse: bool) -> f64 {
        if worse { self.waiting + self.worse.iter().sum::<f64>() } else { self.safe }
    }
}

/// The share of the sum that an arm with the share `theta` of the requests takes if its amounts are `ratio` times as large.
fn part(ratio: f64, theta: f64) -> f64 {
    ratio * theta / (ratio * theta + 1.0 - theta)
}
