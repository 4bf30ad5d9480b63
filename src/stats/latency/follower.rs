//! The canary as one more pod that wanders: a likelihood ratio that takes a pod's own shift for a random effect.
//!
//! # The argument
//! Pods of one version are lastingly apart, or wander. Let the canary's shift be what is tolerated plus a stationary
//! first-order autoregression around 0, with the variance and memory that control's pods show, seen through the noise
//! of counting. The Kalman filter gives the law of the next look given all before it; if the canary is worse by `d`
//! besides, that law's mean moves by a known part of `d`. The ratio of the two normal densities has mean 1 if it is not
//! worse. So a pod that is lastingly apart pays once, not with every look, and one that wanders is averaged out as fast
//! as it forgets.
//!
//! Sources: Kalman (1960); Harvey, "Forecasting, structural time series models and the Kalman filter" (1989), section 3.4
//! for the prediction error decomposition.
//!
//! # Limits
//! The promise is about pods drawn at random from those that control shows, and rests on their learnt variance and
//! memory. Until memory is known, a pod's shift is taken to last for ever.

use serde::{Deserialize, Serialize};

use super::{FACTOR_MAX, WANDERED, pods::Tolerated};

/// What is thought of the canary's own shift.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Follower {
    is_started: bool,
    mean: f32,
    variance: f32,
    /// By how much `mean` would have moved for each unit of a lasting difference.
    taken_in: f32,
}

impl Follower {
    /// Takes in a look, as a shift and its inverse variance, and says what each cell is multiplied by.
    pub(super) fn follow(&mut self, look: (f64, f64), tolerated: &Tolerated, scrapes: f64, factors: &mut [f64]) {
        let kept = tolerated.kept.powf(scrapes);
        let stationary = tolerated.wander_variance;
        let (mut mean, mut variance) = (f64::from(self.mean) * kept, stationary);
        if self.is_started {
            variance = kept * kept * f64::from(self.variance) + (1.0 - kept * kept) * stationary;
        }
        let taken_in = f64::from(self.taken_in) * kept;
        let surprise = (look.0 - tolerated.asked - mean).clamp(-1e3, 1e3);
        let spread = variance + 1.0 / look.1;
        let seen = 1.0 - taken_in;
        for (factor, worse) in factors.iter_mut().zip(WANDERED) {
            let moved = worse * seen;
            *factor = ((moved * surprise - moved * moved / 2.0) / spread).min(FACTOR_MAX.ln()).exp();
        }
        let gain = variance / spread;
        mean += gain * surprise;
        self.is_started = true;
        self.mean = mean as f32;
        self.variance = ((1.0 - gain) * variance) as f32;
        self.taken_in = (taken_in + gain * seen) as f32;
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        eval::noise::normal,
        stats::{Calibration, latency::pods::Pods},
    };

    fn tolerated(variance: f64, kept: f64) -> Tolerated {
        let mut tolerated =
            Pods::default().tolerated(&Calibration::untrusted(), 1.1, &super::super::edges::Sample::default(), 1, 19);
        (tolerated.wander_variance, tolerated.kept, tolerated.asked) = (variance, kept, 0.03);
        tolerated
    }

    /// The logarithm of the product of factors over `looks` of a pod that wanders around `worse`.
    fn followed(worse: f64, looks: usize, seed: u64) -> f64 {
        let (deviation, kept) = (0.1_f64, 0.975_f64);
        let tolerated = tolerated(deviation * deviation, kept);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut own = deviation * normal(&mut rng);
        let (mut follower, mut log, mut factors) = (Follower::default(), 0.0, [1.0; WANDERED.len()]);
        for _ in 0..looks {
            let known = rng.random_range(100.0..200.0_f64);
            let look = 0.03 + worse + own + normal(&mut rng) / known.sqrt();
            follower.follow((look, known), &tolerated, 1.0, &mut factors);
            log += factors[0].ln();
            own = kept * own + deviation * (1.0 - kept * kept).sqrt() * normal(&mut rng);
        }
        log
    }

    #[test]
    fn a_pod_that_wanders_pays_one_on_average_and_one_that_is_worse_pays_more_and_more() {
        let mean = (0..20_000).map(|seed| followed(0.0, 40, seed).exp()).sum::<f64>() / 20_000.0;
        assert!((mean - 1.0).abs() < 0.1, "{mean}");
        let worse = |looks| (0..200).map(|seed| followed(0.2, looks, seed)).sum::<f64>() / 200.0;
        assert!(worse(400) > worse(100) + 2.0 && worse(100) > 0.5, "{} {}", worse(100), worse(400));
    }
}
