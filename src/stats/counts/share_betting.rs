//! Betting on the canary's share of the bad events: one step.
//!
//! # The argument
//! In one window, let `S` of the `K` bad events of both arms fall on the canary, and let `theta` be the canary's share
//! of that window's traffic. If the canary is at most `m` times as bad as control, its expected share of the bad events
//! is at most `pi = m theta / (m theta + 1 - theta)`, whatever the common level was: an outage or a surge that both
//! arms feel alike cancels out. A gambler who pays 1 and receives `1 + lambda (S/K - pi)` therefore has no edge for any
//! `lambda` in `[0, 1/pi]` fixed before `S` is seen. One window is one bounded observation, so events that come in
//! clusters inside it (retries) do no harm: no model of the noise is needed. Receiving less than that, because a window
//! may not pay more than a bound, does no harm either.
//!
//! `lambda` is the bet that grows the wealth fastest if the canary is `r` times as bad and the events are as clustered
//! as is supposed, to first order; no larger than lets a window be survived, and no larger than can pay: what a bound
//! on the payment would cut off is not bought.
//!
//! Sources: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B, 2024); Lindon
//! and Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022) for conditioning on the total.
//!
//! # Limits
//! The promise rests on the share that is expected of the canary *given all that came before*: a pod that drifts by
//! itself over many windows breaks it. One window can multiply the wealth by at most `1 + 0.9 (1/pi - 1)`.

use super::tempered::CanaryShare;

/// Largest part of the possible stake that one bet may take, so that no window can ruin it.
const BET_MAX: f64 = 0.9;

/// What a bet of 1 on "`worse` times as bad as is tolerated" pays after the window.
///
/// `inflation` is how many bad events count as one, at least 1; `pay_max` bounds the payment.
pub(super) fn factor(window: &CanaryShare, worse: f64, inflation: f64, pay_max: f64) -> f64 {
    let (tolerated, supposed) = (window.tolerated_share(), window.share_if(worse));
    let independent = window.bad / inflation;
    let fastest = (supposed - tolerated) * independent / (tolerated * (1.0 - tolerated));
    let good = (supposed + 0.5 * (supposed * (1.0 - supposed) / independent).sqrt()).min(1.0);
    let payable = (pay_max - 1.0) / (good - tolerated).max(1e-9);
    let lambda = fastest.min(BET_MAX / tolerated).min(payable);
    (1.0 + lambda * (window.on_canary / window.bad - tolerated)).min(pay_max)
}
