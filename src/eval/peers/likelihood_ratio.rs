//! The plain conditional likelihood ratio: how likely the labels of the bad events are if the canary is `r` times as bad,
//! against their likelihood at the split of the traffic, averaged over `r`. No margin, no allowance for clustering, no
//! second look at pods: the fastest test on independent requests, and what noise does to it.
//!
//! Source: Wald's sequential probability ratio test with a mixture over alternatives (Robbins, "Statistical methods
//! related to the law of the iterated logarithm", 1970), on the labels as in Lindon and Malek (NeurIPS 2022).

use crate::{
    domain::Counts,
    eval::contender::{ALPHA, Contender, Known, Seen},
};

const WORSE: [f64; 5] = [1.5, 2.5, 5.0, 12.0, 40.0];

/// The logarithm of the likelihood ratio for each `r`.
#[derive(Clone, Debug, Default)]
pub struct LikelihoodRatio {
    log_ratios: [f64; WORSE.len()],
}

impl LikelihoodRatio {
    /// Nothing seen.
    pub fn start(_: &Known<'_>) -> Self {
        Self::default()
    }

    fn take(&mut self, canary: Counts, control: Counts) {
        if canary.total == 0 || control.total == 0 || canary.bad + control.bad == 0 {
            return;
        }
        let split = canary.total as f64 / (canary.total as f64 + control.total as f64);
        for (worse, log_ratio) in WORSE.iter().zip(&mut self.log_ratios) {
            // The share is r split / d and the rest is (1 - split) / d, so their ratios to the split are r / d and 1 / d.
            let denominator = worse * split + 1.0 - split;
            *log_ratio += canary.bad as f64 * worse.ln() - (canary.bad + control.bad) as f64 * denominator.ln();
        }
    }

    fn log_e_value(&self) -> f64 {
        let largest = self.log_ratios.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = self.log_ratios.iter().map(|log_ratio| (log_ratio - largest).exp()).sum();
        largest + (sum / WORSE.len() as f64).ln()
    }
}

impl Contender for LikelihoodRatio {
    fn observe(&mut self, seen: &Seen<'_>) {
        self.take(seen.canary, seen.control);
    }

    fn has_rolled_back(&self) -> bool {
        self.log_e_value() >= -ALPHA.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::peers::testing::{feed, started};

    #[test]
    fn the_mixture_is_what_scipy_computes() {
        let mut test = started(0.01, LikelihoodRatio::start);
        test.take(Counts { bad: 3, total: 50 }, Counts { bad: 13, total: 950 });
        test.take(Counts { bad: 4, total: 100 }, Counts { bad: 10, total: 1900 });
        assert!((test.log_e_value() - 4.557_774_580_562_185).abs() < 1e-9);
    }

    #[test]
    fn three_bad_events_all_on_a_canary_of_five_percent_are_not_enough_and_four_are() {
        let scrapes = [[(1, 50), (0, 950), (0, 50)]; 10];
        assert_eq!(feed(&mut started(0.01, LikelihoodRatio::start), &scrapes), Some(4 * 15));
    }
}
