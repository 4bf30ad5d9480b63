//! The same forecasts for a gauge: how soon a difference of the arms is seen, and which one at all.
//!
//! The growth of one look is `d^2 / 2` in units of the noise of the arms' difference at that look, shrunk by
//! `(1 - a) / (1 + a)` where the noise has the autocorrelation `a`, and bounded as a look's factor is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{BLOCK_LEAST, Foreseen, LOAD_MOST, Obstacle, threshold, time_for};

/// Most by which one look at a gauge may multiply the wealth.
const LEVEL_FACTOR_MAX: f64 = 10.0;
/// What a gauge's variance is taken to be larger than it looks, against tails.
const LEVEL_VARIANCE: f64 = 1.3;
/// What the mixture over effects costs, in logarithms of wealth.
const START_LEVEL: f64 = 3.0;

/// A gauge that is looked at again and again on both arms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelLoad {
    /// Time between two looks.
    pub every: Duration,
    /// Correlation of the arms' difference with itself one look before, 0 to 1.
    pub autocorrelation: f64,
}

impl LevelLoad {
    fn growth(&self, beyond: f64) -> f64 {
        let kept = if self.autocorrelation >= 0.0 { self.autocorrelation.min(1.0) } else { 0.0 };
        let independent = (1.0 - kept) / (1.0 + kept);
        (beyond * beyond / (2.0 * LEVEL_VARIANCE) * independent).min(LEVEL_FACTOR_MAX.ln())
    }
}

/// The median time until a gauge whose arms differ by `difference`, of which `margin` is tolerated, is rolled back. Both
/// are in standard deviations of the noise of the difference at one look.
pub fn level_time_to_detect(load: &LevelLoad, difference: f64, margin: f64, log_threshold: f64) -> Foreseen<Duration> {
    let beyond = difference.abs().min(LOAD_MOST) - if margin > 0.0 { margin } else { 0.0 };
    if beyond.is_nan() || beyond <= 0.0 {
        return Foreseen::Never(Obstacle::Tolerated);
    }
    time_for(threshold(log_threshold) + START_LEVEL, load.growth(beyond), 1.0, load.every.max(BLOCK_LEAST)).into()
}

/// The smallest difference that is detected within the time, in standard deviations of the noise of one look.
pub fn level_smallest_detectable(load: &LevelLoad, within: Duration, margin: f64, log_threshold: f64) -> Foreseen<f64> {
    let looks = (within.as_secs_f64() / load.every.max(BLOCK_LEAST).as_secs_f64()).floor();
    let needed = (threshold(log_threshold) + START_LEVEL) / looks;
    let unit = load.growth(1.0);
    if !needed.is_finite() || needed > LEVEL_FACTOR_MAX.ln() || unit <= 0.0 {
        return Foreseen::Never(Obstacle::TooLittleTime);
    }
    Foreseen::Is((needed / unit).sqrt() + if margin > 0.0 { margin.min(LOAD_MOST) } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::eval::noise::normal;

    const THRESHOLD: f64 = 6.907_755_278_982_137;

    /// A reference for the constant: a mixture over effects on autocorrelated noise that has been whitened.
    #[test]
    fn a_gauge_is_seen_when_foretold() {
        let mut rng = StdRng::seed_from_u64(5);
        for (difference, kept) in [(0.5, 0.0), (1.0, 0.0), (1.5, 0.5), (2.5, 0.8)] {
            let every = Duration::from_secs(15);
            let forecast =
                level_time_to_detect(&LevelLoad { every, autocorrelation: kept }, difference, 0.0, THRESHOLD);
            let looks = forecast.value().unwrap().as_secs_f64() / 15.0;
            let mut delays: Vec<f64> = (0..101)
                .map(|_| {
                    let innovation = (1.0 - kept * kept).sqrt();
                    let (mut noise, mut last) = (normal(&mut rng), None);
                    let mut wealth = [0.25; 4];
                    for look in 1..10_000 {
                        let seen = difference + noise;
                        if let Some(last) = last {
                            let white: f64 = (seen - kept * last) / innovation;
                            let unit = (1.0 - kept) / innovation;
                            for (wealth, effect) in wealth.iter_mut().zip([0.5, 1.0, 2.0, 4.0]) {
                                let supposed = effect * unit;
                                *wealth *=
                                    ((white * supposed - supposed * supposed / 2.0) / LEVEL_VARIANCE).exp().min(10.0);
                            }
                        }
                        last = Some(seen);
                        noise = kept * noise + innovation * normal(&mut rng);
                        if wealth.iter().sum::<f64>().ln() >= THRESHOLD {
                            return f64::from(look);
                        }
                    }
                    f64::INFINITY
                })
                .collect();
            delays.sort_by(f64::total_cmp);
            let off = looks / delays[50];
            assert!((1.0 / 1.5..=1.5).contains(&off), "{difference} {kept}: {looks} looks, simulated {}", delays[50]);
        }
    }

    #[test]
    fn the_smallest_difference_takes_the_whole_time_and_the_margin_is_added() {
        let load = LevelLoad { every: Duration::from_secs(15), autocorrelation: 0.5 };
        let within = Duration::from_secs(3_000);
        let smallest = level_smallest_detectable(&load, within, 0.5, THRESHOLD).value().unwrap();
        let takes = level_time_to_detect(&load, smallest * (1.0 + 1e-9), 0.5, THRESHOLD).value().unwrap();
        assert_eq!(takes, within);
        let unmoved = LevelLoad { autocorrelation: 1.0, ..load };
        assert_eq!(
            level_smallest_detectable(&unmoved, within, 0.0, THRESHOLD),
            Foreseen::Never(Obstacle::TooLittleTime)
        );
        assert_eq!(level_time_to_detect(&load, 0.5, 0.5, THRESHOLD), Foreseen::Never(Obstacle::Tolerated));
    }
}
