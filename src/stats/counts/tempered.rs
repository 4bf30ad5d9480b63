//! The tempered likelihood ratio of the canary's share of the bad events: one step.
//!
//! # The argument
//! Given `K` bad events in a window, let the number `S` that falls on the canary be binomial with the share `pi(r)` if
//! the canary is `r` times as bad as control. The likelihood ratio of `pi(r)` against the tolerated `pi(m)` has mean 1
//! if the canary is exactly `m` times as bad, and less if it is better. Raised to the power `1/phi`, `phi >= 1`, its
//! mean is at most 1 (Jensen), and so it is after capping. Sampling without replacement among a finite traffic is less
//! spread than the binomial and keeps the mean at most 1 (Hoeffding, 1963).
//!
//! Real events are more spread than the binomial. With a variance `phi` times as large, the power `1/phi` restores
//! the mean to second order: the log ratio's drift and variance both shrink to those of independent events `phi` times as
//! few. `phi` counts what is correlated from window to window too, so that the sums over many windows are right.
//! **This part rests on a learnt constant**, other than share betting: where `phi` is too small it promises too much.
//!
//! Where a window may not pay more than a bound, `phi` is raised (before `S` is seen) until a window that goes as the
//! alternative says pays about the bound: what is cut off at the top would be paid for at the bottom.
//!
//! Sources: Lindon and Malek (NeurIPS 2022) for the conditional ratio; Wedderburn, "Quasi-likelihood functions" (1974) for
//! dispersion as a divisor; Grunwald, "The safe Bayesian" (2012) for tempering.

/// The counts of a window, as the canary's share of bad events is judged by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CanaryShare {
    /// Bad events on the canary.
    pub on_canary: f64,
    /// Bad events in both arms; above 0.
    pub bad: f64,
    /// Canary's traffic over control's; above 0.
    pub odds: f64,
}

impl CanaryShare {
    /// What `on_canary` of `bad` events mean where the canary has `theta` of the traffic and may be `tolerated` times as
    /// bad; `None` where they say nothing.
    pub fn new(on_canary: f64, bad: f64, theta: f64, tolerated: f64) -> Option<Self> {
        Self::with_odds(on_canary, bad, theta / (1.0 - theta), tolerated)
    }

    /// The same with the canary's traffic as a multiple of control's. The tolerated ratio becomes part of the odds.
    pub(super) fn with_odds(on_canary: f64, bad: f64, odds: f64, tolerated: f64) -> Option<Self> {
        let odds = odds * tolerated;
        let is_sound = bad > 0.0 && bad.is_finite() && (0.0..=bad).contains(&on_canary);
        (is_sound && (1e-9..1e9).contains(&odds)).then_some(Self { on_canary, bad, odds })
    }

    /// Share of the bad events that the canary may take.
    pub(super) fn tolerated_share(&self) -> f64 {
        self.share_if(1.0)
    }

    /// Share of the bad events that it takes if it is `worse` times as bad as is tolerated.
    pub(super) fn share_if(&self, worse: f64) -> f64 {
        worse * self.odds / (1.0 + worse * self.odds)
    }
}

/// Natural logarithm of what a bet of 1 on "`worse` times as bad as is tolerated" pays after the window.
///
/// `log_worse` is the logarithm of `worse`; `inflation` is the variance of the events as a multiple of the binomial's, at least 1; `log_pay_max` bounds the
/// result.
pub(super) fn log_factor(window: &CanaryShare, worse: f64, log_worse: f64, inflation: f64, log_pay_max: f64) -> f64 {
    let all = window.bad * ((1.0 + worse * window.odds) / (1.0 + window.odds)).ln();
    let supposed = window.share_if(worse);
    let spread = (window.bad * supposed * (1.0 - supposed) * inflation).sqrt();
    let if_so = (window.bad * supposed + 0.5 * spread) * log_worse - all;
    let power = inflation.max(if_so / log_pay_max.max(1e-9));
    ((window.on_canary * log_worse - all) / power).min(log_pay_max)
}
