//! Mixes of categories as services really have them: what each pod counted of each, look after look.
//!
//! A rollout that is drawn here has 20 pods, of which the canary has some, and ten categories whose shares fall off
//! geometrically from a quarter to about one in a hundred.

use rand::{Rng, rngs::StdRng};
use rand_distr::{Distribution, Geometric};

use super::noise::{PODS, SCRAPE_SECONDS, normal, poisson};

/// Categories that the old version answers with.
pub const CATEGORIES: usize = 10;

/// A shape of noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MixFamily {
    /// Independent requests of one steady mix.
    Independent,
    /// The mix drifts, for both arms alike.
    SharedDrift,
    /// Requests come in sessions of eight on average, on one pod and of one category each.
    Clustered,
    /// Each pod has a lasting mix of its own: the logarithm of each share differs with a standard deviation of 0.1.
    PodEffects,
    /// Users keep their arm; three of them make a tenth of the requests each, in a mix of their own.
    HeavyUsers,
}

impl MixFamily {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Independent, Self::SharedDrift, Self::Clustered, Self::PodEffects, Self::HeavyUsers];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Independent => "independent",
            Self::SharedDrift => "shared drift",
            Self::Clustered => "clustered",
            Self::PodEffects => "pod effects",
            Self::HeavyUsers => "few heavy users",
        }
    }
}

/// What the canary does differently.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MixChange {
    /// Nothing.
    None,
    /// This share of its requests moves from the third category to the fourth.
    Swap(f64),
    /// This share of its requests has the mix reversed.
    Shift(f64),
    /// This share of its requests is of a category that the old version does not have.
    New(f64),
}

/// A rollout to be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixShape {
    /// The noise.
    pub family: MixFamily,
    /// Requests a second of all pods.
    pub rate: f64,
    /// Canary pods, of [`PODS`].
    pub canary_pods: usize,
    /// What the canary does differently.
    pub change: MixChange,
    /// The look from which it does.
    pub onset: usize,
    /// How many looks.
    pub looks: usize,
}

/// One look: what each pod counted of each category; the last is the one that only a changed canary has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MixLook {
    /// Each canary pod.
    pub canary: Vec<[u64; CATEGORIES + 1]>,
    /// Each pod of the old version.
    pub control: Vec<[u64; CATEGORIES + 1]>,
}

type Weights = [f64; CATEGORIES + 1];

/// Draws one rollout.
pub fn draw(shape: &MixShape, rng: &mut StdRng) -> Vec<MixLook> {
    let mut common: Weights =
        std::array::from_fn(|category| if category < CATEGORIES { 0.72_f64.powi(category as i32) } else { 0.0 });
    let own: Vec<Weights> = (0..PODS).map(|_| tilted(shape.family == MixFamily::PodEffects, 0.1, rng)).collect();
    let users: Vec<(usize, Weights)> = (0..3).map(|_| (rng.random_range(0..PODS), tilted(true, 1.0, rng))).collect();
    (0..shape.looks)
        .map(|look| {
            if shape.family == MixFamily::SharedDrift {
                common.iter_mut().for_each(|weight| *weight *= (0.03 * normal(rng)).exp());
            }
            let mut pods: Vec<[u64; CATEGORIES + 1]> = (0..PODS)
                .map(|pod| {
                    let weights: Weights = std::array::from_fn(|category| common[category] * own[pod][category]);
                    let turned = pod < shape.canary_pods && look >= shape.onset;
                    let mix = changed(&weights, if turned { shape.change } else { MixChange::None });
                    let heavy = if shape.family == MixFamily::HeavyUsers { 0.7 } else { 1.0 };
                    let mut counts = [0; CATEGORIES + 1];
                    count(shape, shape.rate * heavy / PODS as f64, &mix, &mut counts, rng);
                    counts
                })
                .collect();
            for (pod, taste) in users.iter().filter(|_| shape.family == MixFamily::HeavyUsers) {
                let weights: Weights = std::array::from_fn(|category| common[category] * taste[category]);
                let turned = *pod < shape.canary_pods && look >= shape.onset;
                let mix = changed(&weights, if turned { shape.change } else { MixChange::None });
                count(shape, shape.rate * 0.1, &mix, &mut pods[*pod], rng);
            }
            let control = pods.split_off(shape.canary_pods.min(PODS));
            MixLook { canary: pods, control }
        })
        .collect()
}

fn tilted(really: bool, log_sd: f64, rng: &mut StdRng) -> Weights {
    std::array::from_fn(|_| if really { (log_sd * normal(rng)).exp() } else { 1.0 })
}

/// The shares that the weights make, changed.
fn changed(weights: &Weights, change: MixChange) -> Weights {
    let sum: f64 = weights.iter().sum();
    let mut mix: Weights = std::array::from_fn(|category| weights[category] / sum);
    match change {
        MixChange::None => {}
        MixChange::Swap(part) => {
            let part = part.min(mix[2]);
            mix[2] -= part;
            mix[3] += part;
        }
        MixChange::Shift(part) => {
            let reversed: Weights =
                std::array::from_fn(|at| if at < CATEGORIES { mix[CATEGORIES - 1 - at] } else { 0.0 });
            mix = std::array::from_fn(|at| (1.0 - part) * mix[at] + part * reversed[at]);
        }
        MixChange::New(part) => {
            mix.iter_mut().for_each(|share| *share *= 1.0 - part);
            mix[CATEGORIES] += part;
        }
    }
    mix
}

/// Counts what came in one look at this rate.
fn count(shape: &MixShape, rate: f64, mix: &Weights, counts: &mut [u64; CATEGORIES + 1], rng: &mut StdRng) {
    const SESSION: f64 = 8.0;
    let clustered = shape.family == MixFamily::Clustered;
    for (share, counted) in mix.iter().zip(counts) {
        let mean = share * rate * SCRAPE_SECONDS;
        if clustered {
            for _ in 0..poisson(mean / SESSION, rng) {
                *counted += 1 + Geometric::new(1.0 / SESSION).map_or(0, |law| law.sample(rng));
            }
        } else {
            *counted += poisson(mean, rng);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn arms_have_the_same_mix_on_average_and_a_swap_moves_what_it_says() {
        for family in MixFamily::ALL {
            let mut shares = [[0.0; CATEGORIES + 1]; 2];
            for seed in 0..200 {
                let change = MixChange::Swap(0.03);
                let shape = MixShape { family, rate: 20.0, canary_pods: 5, change, onset: 0, looks: 20 };
                for look in draw(&shape, &mut StdRng::seed_from_u64(seed)) {
                    for (arm, pods) in shares.iter_mut().zip([look.canary, look.control]) {
                        pods.iter().for_each(|pod| arm.iter_mut().zip(pod).for_each(|(sum, n)| *sum += *n as f64));
                    }
                }
            }
            let [canary, control] = shares.map(|arm| arm.map(|count| count / arm.iter().sum::<f64>()));
            for (category, moved) in [(0, 0.0), (2, -0.03), (3, 0.03), (CATEGORIES, 0.0)] {
                let by = canary[category] - control[category] - moved;
                assert!(by.abs() < 0.02, "{} {category}: {by}", family.name());
            }
        }
    }
}
