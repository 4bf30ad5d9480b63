//! A sequential test with a beta-binomial mixture, as Netflix describes for counts: whose is the next bad event?
//!
//! The labels of the bad events are compared with the split of the traffic by a likelihood ratio that is averaged over a
//! beta prior with its mean at the split and a concentration of 10. Each scrape is judged at its own split, which is to the
//! test's advantage. The mixture is two-sided; a canary that has fewer bad events than its share is not rolled back.
//!
//! Source: Lindon and Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022); Netflix's
//! technology blog, "Sequential A/B testing keeps the world streaming Netflix", part 2 (2024).

use crate::{
    domain::Counts,
    eval::{
        contender::{ALPHA, Contender, Known, Seen},
        intervals::ln_gamma,
    },
};

const CONCENTRATION: f64 = 10.0;

/// The events so far, and how likely their labels were without a difference.
#[derive(Clone, Debug)]
pub struct BetaBinomial {
    on_canary: f64,
    on_control: f64,
    /// Of the labels, without a difference.
    log_likelihood: f64,
    /// What the bad events were expected to put on the canary.
    expected: f64,
    prior: Option<(f64, f64)>,
}

impl BetaBinomial {
    /// Nothing seen; the prior's mean is the first split of the traffic.
    pub fn start(_: &Known<'_>) -> Self {
        Self { on_canary: 0.0, on_control: 0.0, log_likelihood: 0.0, expected: 0.0, prior: None }
    }

    fn take(&mut self, canary: Counts, control: Counts) {
        if canary.total == 0 || control.total == 0 {
            return;
        }
        let split = canary.total as f64 / (canary.total as f64 + control.total as f64);
        self.prior.get_or_insert((CONCENTRATION * split, CONCENTRATION * (1.0 - split)));
        let (here, there) = (canary.bad as f64, control.bad as f64);
        self.on_canary += here;
        self.on_control += there;
        self.expected += split * (here + there);
        self.log_likelihood += here * split.ln() + there * (1.0 - split).ln();
    }

    fn log_e_value(&self) -> f64 {
        let Some((a, b)) = self.prior else { return 0.0 };
        ln_beta(a + self.on_canary, b + self.on_control) - ln_beta(a, b) - self.log_likelihood
    }
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

impl Contender for BetaBinomial {
    fn observe(&mut self, seen: &Seen<'_>) {
        self.take(seen.canary, seen.control);
    }

    fn has_rolled_back(&self) -> bool {
        self.on_canary > self.expected && self.log_e_value() >= -ALPHA.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::peers::testing::{feed, started};

    #[test]
    fn the_mixture_is_what_scipy_computes() {
        let mut test = started(0.01, BetaBinomial::start);
        test.take(Counts { bad: 3, total: 50 }, Counts { bad: 13, total: 950 });
        test.take(Counts { bad: 4, total: 100 }, Counts { bad: 10, total: 1900 });
        // betaln(a + 7, b + 23) - betaln(a, b) - 7 ln 0.05 - 23 ln 0.95 with a = 0.5, b = 9.5.
        assert!((test.log_e_value() - 3.413_790_191_880_736_7).abs() < 1e-9);
    }

    #[test]
    fn four_bad_events_all_on_the_canary_are_not_proof_and_enough_are() {
        // statistics.md A.4: six at a share of 5%.
        let scrapes = [[(1, 50), (0, 950), (0, 50)]; 10];
        assert_eq!(feed(&mut started(0.01, BetaBinomial::start), &scrapes), Some(6 * 15));
        let fewer = [[(0, 50), (19, 950), (0, 50)]; 400];
        assert_eq!(feed(&mut started(0.01, BetaBinomial::start), &fewer), None, "better is no reason");
    }
}
