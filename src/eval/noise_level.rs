//! Gauges and amounts as services really have them: what single pods read, look after look.
//!
//! A rollout that is drawn here has 20 pods, of which the canary has some. Each pod's reading is a common level, an offset
//! of its own that lasts, and noise of its own that may keep part of itself from look to look.

use rand::{Rng, rngs::StdRng};
use rand_distr::{Distribution, StudentT};

use super::noise::{PODS, normal, poisson};

/// A shape of noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LevelFamily {
    /// Normal noise of which each pod keeps this part from look to look.
    Kept(f64),
    /// The same with noise of Student's law with 4 degrees of freedom.
    HeavyTailed(f64),
    /// The same with normal noise and a lasting offset of each pod, with a standard deviation of 4% of the level.
    PodOffsets(f64),
    /// A slow part (98% kept) of half the deviation below a fast one of the whole.
    SlowBelowFast,
    /// The common level moves by a third over the hours and in swings; each pod's noise keeps half.
    SharedDrift,
    /// One reading a look, the mean of thirty amounts with a logarithm of standard deviation 1.5.
    MeanAmounts,
    /// Readings of single requests, this many a second on all pods, with a logarithm of standard deviation 1.5.
    Amounts(f64),
    /// A queue that is empty, save that every pod has a burst of one to three minutes every two hours.
    Bursts,
    /// Normal noise; a pod reads 5 deviations more for one to three minutes, every twenty pod-hours.
    PodIncidents,
}

impl LevelFamily {
    /// All of them, as a suite should go through them.
    pub const ALL: [Self; 19] = [
        Self::Kept(0.0),
        Self::Kept(0.5),
        Self::Kept(0.9),
        Self::Kept(0.98),
        Self::HeavyTailed(0.0),
        Self::HeavyTailed(0.5),
        Self::HeavyTailed(0.9),
        Self::HeavyTailed(0.98),
        Self::PodOffsets(0.0),
        Self::PodOffsets(0.5),
        Self::PodOffsets(0.9),
        Self::PodOffsets(0.98),
        Self::SlowBelowFast,
        Self::SharedDrift,
        Self::MeanAmounts,
        Self::Amounts(2.0),
        Self::Amounts(20.0),
        Self::Bursts,
        Self::PodIncidents,
    ];

    /// Its name in tables.
    pub fn name(self) -> String {
        match self {
            Self::Kept(kept) => format!("normal, keeps {kept}"),
            Self::HeavyTailed(kept) => format!("heavy-tailed, keeps {kept}"),
            Self::PodOffsets(kept) => format!("pod offsets, keeps {kept}"),
            Self::SlowBelowFast => "slow below fast".into(),
            Self::SharedDrift => "shared drift".into(),
            Self::MeanAmounts => "means of amounts".into(),
            Self::Amounts(rate) => format!("amounts, {rate}/s"),
            Self::Bursts => "bursts".into(),
            Self::PodIncidents => "one bad pod".into(),
        }
    }
}

/// A rollout to be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LevelShape {
    /// The noise.
    pub family: LevelFamily,
    /// Canary pods, of [`PODS`].
    pub canary_pods: usize,
    /// The usual level.
    pub level: f64,
    /// Standard deviation of one pod's noise at one look; for amounts it follows from the level.
    pub deviation: f64,
    /// What is added to each reading of the canary; 0 for a harmless one. Amounts are raised by `shift / level` of them.
    pub shift: f64,
    /// The look at which the canary turns.
    pub onset: usize,
    /// How many looks.
    pub looks: usize,
}

/// One look of one rollout: the readings of each pod; one each, or those of single requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LevelLook {
    /// Each canary pod.
    pub canary: Vec<Vec<f64>>,
    /// Each pod of the old version.
    pub control: Vec<Vec<f64>>,
}

/// Standard deviation of the logarithm of an amount.
const AMOUNT_LOG_SD: f64 = 1.5;

/// Draws one rollout.
pub fn draw(shape: &LevelShape, rng: &mut StdRng) -> Vec<LevelLook> {
    let (kept, offset) = match shape.family {
        LevelFamily::Kept(kept) | LevelFamily::HeavyTailed(kept) => (kept, 0.0),
        LevelFamily::PodOffsets(kept) => (kept, 0.04 * shape.level),
        LevelFamily::SharedDrift => (0.5, 0.0),
        _ => (0.0, 0.0),
    };
    let offsets: Vec<f64> = (0..PODS).map(|_| offset * normal(rng)).collect();
    let mut noise: Vec<f64> = (0..PODS).map(|_| innovation(shape.family, rng)).collect();
    let mut slow: Vec<f64> = (0..PODS).map(|_| normal(rng)).collect();
    let incidents = incidents(shape, rng);
    let (mut swing, phase) = (0.0, rng.random_range(0.0..std::f64::consts::TAU));
    (0..shape.looks)
        .map(|look| {
            swing = 0.98 * swing + 0.2 * normal(rng);
            let common = if shape.family == LevelFamily::SharedDrift {
                shape.level * (1.0 + 0.2 * (look as f64 / 400.0 + phase).sin() + 0.1 * swing)
            } else {
                shape.level
            };
            let mut pods: Vec<Vec<f64>> = (0..PODS)
                .map(|pod| {
                    noise[pod] = kept * noise[pod] + (1.0 - kept * kept).sqrt() * innovation(shape.family, rng);
                    slow[pod] = 0.98 * slow[pod] + (1.0_f64 - 0.98 * 0.98).sqrt() * normal(rng);
                    let turned = pod < shape.canary_pods && look >= shape.onset;
                    let shift = if turned { shape.shift } else { 0.0 };
                    let own = offsets[pod] + shape.deviation * noise[pod];
                    match shape.family {
                        LevelFamily::MeanAmounts => vec![amounts(30, shape, shift, rng).iter().sum::<f64>() / 30.0],
                        LevelFamily::Amounts(rate) => {
                            let count = poisson(rate * super::noise::SCRAPE_SECONDS / PODS as f64, rng);
                            amounts(count, shape, shift, rng)
                        }
                        LevelFamily::Bursts => vec![shift + incidents[look][pod] * 4.0 * shape.deviation],
                        LevelFamily::PodIncidents => {
                            vec![common + own + shift + incidents[look][pod] * 5.0 * shape.deviation]
                        }
                        LevelFamily::SlowBelowFast => vec![common + own + shift + 0.5 * shape.deviation * slow[pod]],
                        _ => vec![common + own + shift],
                    }
                })
                .collect();
            let control = pods.split_off(shape.canary_pods.min(PODS));
            LevelLook { canary: pods, control }
        })
        .collect()
}

fn innovation(family: LevelFamily, rng: &mut StdRng) -> f64 {
    match family {
        // Of variance 1, as the normal one.
        LevelFamily::HeavyTailed(_) => StudentT::new(4.0).map_or(0.0, |law| law.sample(rng)) / f64::sqrt(2.0),
        _ => normal(rng),
    }
}

/// Amounts of single requests, with the shape's level as their mean.
fn amounts(count: u64, shape: &LevelShape, shift: f64, rng: &mut StdRng) -> Vec<f64> {
    let mean = shape.level + shift;
    let median = mean * (-AMOUNT_LOG_SD * AMOUNT_LOG_SD / 2.0).exp();
    (0..count).map(|_| median * (AMOUNT_LOG_SD * normal(rng)).exp()).collect()
}

/// How much of an incident or a burst each pod feels at each look.
fn incidents(shape: &LevelShape, rng: &mut StdRng) -> Vec<Vec<f64>> {
    let mut felt = vec![vec![0.0; PODS]; shape.looks];
    let each_hour = match shape.family {
        LevelFamily::Bursts => 0.5,
        LevelFamily::PodIncidents => 0.05,
        _ => return felt,
    };
    let hours = shape.looks as f64 * super::noise::SCRAPE_SECONDS / 3600.0;
    for pod in 0..PODS {
        for _ in 0..poisson(each_hour * hours, rng) {
            let (start, length) = (rng.random_range(0..shape.looks), rng.random_range(4..13));
            felt.iter_mut().skip(start).take(length).for_each(|look| look[pod] = 1.0);
        }
    }
    felt
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_harmless_canary_reads_like_control_in_every_family() {
        for family in LevelFamily::ALL {
            let (level, deviation) = (50.0, 5.0);
            let shape = LevelShape { family, canary_pods: 5, level, deviation, shift: 0.0, onset: 0, looks: 200 };
            let (mut canary, mut control) = ((0.0, 0.0), (0.0, 0.0));
            for seed in 0..30 {
                for look in draw(&shape, &mut StdRng::seed_from_u64(seed)) {
                    for (arm, pods) in [(&mut canary, look.canary), (&mut control, look.control)] {
                        arm.0 += pods.iter().flatten().sum::<f64>();
                        arm.1 += pods.iter().flatten().count() as f64;
                    }
                }
            }
            let (canary, control) = (canary.0 / canary.1, control.0 / control.1);
            assert!((canary - control).abs() < 1.5, "{}: {canary} against {control}", family.name());
        }
    }
}
