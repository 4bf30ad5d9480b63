//! Noise as services really have it: what a family of rollouts counts, pod by pod and scrape by scrape.
//!
//! A rollout that is drawn here has 20 pods of the old version and as many canary pods as its share of 20 calls for. Its
//! traffic has a daily cycle and swings of its own in every family but the first. The families are those on which
//! textbook tests break their promise: an outage that both arms share but not equally, a burst of retries on one pod, a
//! pod that drifts or fails by itself, a client that fails all the time and keeps its arm.

use std::f64::consts::TAU;

use rand::{Rng, rngs::StdRng};
use rand_distr::{Binomial, Distribution, Gamma, Geometric, StandardNormal};

use super::intervals::ln_gamma;
use crate::domain::Counts;

/// Seconds from one scrape to the next.
pub const SCRAPE_SECONDS: f64 = 15.0;
/// Pods of the old version; the canary has as many again as its share of these.
pub const PODS: usize = 20;

/// A shape of noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Independent requests at a steady rate.
    Independent,
    /// The common error rate drifts slowly.
    SharedDrift,
    /// Each pod's rate is drawn anew at each scrape, with a coefficient of variation of 0.5.
    NegativeBinomial,
    /// Outages that all pods feel, each a little differently.
    SharedOutage,
    /// Each pod drifts by itself: standard deviation 0.3, memory 2 minutes.
    Autoregressive2m,
    /// Standard deviation 0.3, memory 10 minutes.
    Autoregressive10m,
    /// Standard deviation 0.6, memory 2 minutes.
    AutoregressiveStrong,
    /// Errors come in retries, eight to a cluster, a third of them one scrape later.
    RetryClusters,
    /// A pod has 30 times the errors for one to three minutes, every twenty pod-hours.
    PodIncidents,
    /// Users keep their arm, and one of them makes a quarter of all errors.
    UserSplit,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Independent,
        Self::SharedDrift,
        Self::NegativeBinomial,
        Self::SharedOutage,
        Self::Autoregressive2m,
        Self::Autoregressive10m,
        Self::AutoregressiveStrong,
        Self::RetryClusters,
        Self::PodIncidents,
        Self::UserSplit,
    ];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Independent => "independent",
            Self::SharedDrift => "shared drift",
            Self::NegativeBinomial => "negative binomial",
            Self::SharedOutage => "shared outage",
            Self::Autoregressive2m => "AR 0.3, 2 min",
            Self::Autoregressive10m => "AR 0.3, 10 min",
            Self::AutoregressiveStrong => "AR 0.6, 2 min",
            Self::RetryClusters => "retry clusters",
            Self::PodIncidents => "one bad pod",
            Self::UserSplit => "split by user",
        }
    }
}

/// A rollout to be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// The noise.
    pub family: Family,
    /// Requests of all pods in one scrape, on average.
    pub requests_per_scrape: f64,
    /// Canary pods, of [`PODS`] that share its part of the traffic: 1 is 5%, 5 are 25%.
    pub canary_pods: usize,
    /// Part of the requests that fail on the old version.
    pub error_rate: f64,
    /// How many times as bad the canary is; 1 for a harmless one.
    pub ratio: f64,
    /// How many scrapes.
    pub scrapes: usize,
}

/// Tenants that are told apart in [`Family::UserSplit`], the heaviest first.
pub const TENANTS: usize = 3;

/// One scrape of one rollout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape {
    /// Each canary pod.
    pub canary: Vec<Counts>,
    /// Each pod of the old version beside it; `PODS - canary_pods` of them.
    pub control: Vec<Counts>,
    /// As many more pods of the old version as the canary has, for rivals that want a baseline of their own.
    pub baseline: Vec<Counts>,
    /// What the heaviest tenants counted, in the arm they are in: (tenant, on the canary, counts). Part of the above.
    pub tenants: Vec<(usize, bool, Counts)>,
}

/// A pod's own disturbance: the logarithm of its rate.
struct Drift {
    level: Vec<f64>,
    keep: f64,
    step: f64,
}

impl Drift {
    fn new(pods: usize, deviation: f64, memory_seconds: f64, rng: &mut StdRng) -> Self {
        let keep = (-SCRAPE_SECONDS / memory_seconds).exp();
        let level = (0..pods).map(|_| deviation * normal(rng)).collect();
        Self { level, keep, step: deviation * (1.0 - keep * keep).sqrt() }
    }

    fn advance(&mut self, rng: &mut StdRng) {
        for level in &mut self.level {
            *level = self.keep * *level + self.step * normal(rng);
        }
    }
}

/// Part of all errors that the one heavy user of [`Family::UserSplit`] makes, and of all requests.
const HEAVY_ERRORS: f64 = 0.27;
const HEAVY_REQUESTS: f64 = 0.01;

/// Draws one rollout whose pods all get the same traffic.
pub fn draw(shape: &Shape, rng: &mut StdRng) -> Vec<Scrape> {
    draw_weighted(shape, shape.canary_pods as f64 / PODS as f64, rng)
}

/// Draws one rollout whose canary gets `share` of the traffic, however many pods it has; pods of `baseline` get as much
/// as canary pods.
pub fn draw_weighted(shape: &Shape, share: f64, rng: &mut StdRng) -> Vec<Scrape> {
    let pods = PODS + shape.canary_pods;
    let each_canary = shape.requests_per_scrape * share / shape.canary_pods.max(1) as f64;
    let each_control = shape.requests_per_scrape * (1.0 - share) / (PODS - shape.canary_pods.min(PODS - 1)) as f64;
    let steady = shape.family == Family::Independent;
    let phase = rng.random_range(0.0..TAU);
    let mut traffic = Drift::new(1, 0.15, 120.0, rng);
    let mut shared = Drift::new(1, if shape.family == Family::SharedDrift { 0.7 } else { 0.0 }, 1200.0, rng);
    let (deviation, memory) = match shape.family {
        Family::Autoregressive2m => (0.3, 120.0),
        Family::Autoregressive10m => (0.3, 600.0),
        Family::AutoregressiveStrong => (0.6, 120.0),
        _ => (0.0, 120.0),
    };
    let mut own = Drift::new(pods, deviation, memory, rng);
    let episodes = episodes(shape, pods, rng);
    // The heavy users' arms: the canary's share of them, for the whole rollout.
    let on_canary: [bool; TENANTS] = std::array::from_fn(|_| rng.random_bool(share));
    let mut echoes = vec![0_u64; pods];
    (0..shape.scrapes)
        .map(|scrape| {
            let at = scrape as f64 * SCRAPE_SECONDS;
            let swing =
                if steady { 1.0 } else { (1.0 + 0.5 * (TAU * at / 86_400.0 + phase).sin()) * traffic.level[0].exp() };
            let counts: Vec<Counts> = (0..pods)
                .map(|pod| {
                    let mut log_rate =
                        shared.level[0] + own.level[pod] - deviation * deviation / 2.0 + episodes[scrape][pod];
                    if shape.family == Family::NegativeBinomial {
                        log_rate += gamma(4.0, 0.25, rng).ln();
                    }
                    let worse = if pod < shape.canary_pods { shape.ratio } else { 1.0 };
                    let rate = ((shape.error_rate * log_rate.exp()).min(0.9) * worse).min(0.95);
                    let is_control = (shape.canary_pods..PODS).contains(&pod);
                    let requests = if is_control { each_control } else { each_canary };
                    pod_counts(shape.family, requests * swing, rate, &mut echoes[pod], rng)
                })
                .collect();
            let (mut traffic_drawn, tenants) = split(shape, counts, &on_canary, shape.requests_per_scrape * swing, rng);
            traffic.advance(rng);
            shared.advance(rng);
            if deviation > 0.0 {
                own.advance(rng);
            }
            let baseline = traffic_drawn.split_off(PODS);
            let control = traffic_drawn.split_off(shape.canary_pods);
            Scrape { canary: traffic_drawn, control, baseline, tenants }
        })
        .collect()
}

/// What is added to the logarithm of each pod's rate at each scrape by outages and incidents.
fn episodes(shape: &Shape, pods: usize, rng: &mut StdRng) -> Vec<Vec<f64>> {
    let mut added = vec![vec![0.0; pods]; shape.scrapes];
    let hours = shape.scrapes as f64 * SCRAPE_SECONDS / 3600.0;
    match shape.family {
        Family::SharedOutage => {
            for _ in 0..poisson(2.0 * hours, rng) {
                let (start, length) = (rng.random_range(0..shape.scrapes), rng.random_range(4..21));
                let felt: Vec<f64> = (0..pods).map(|_| (0.2 / shape.error_rate).ln() + 0.3 * normal(rng)).collect();
                for scrape in added.iter_mut().skip(start).take(length) {
                    scrape.iter_mut().zip(&felt).for_each(|(level, felt)| *level += felt);
                }
            }
        }
        Family::PodIncidents => {
            for pod in 0..pods {
                for _ in 0..poisson(0.05 * hours, rng) {
                    let (start, length) = (rng.random_range(0..shape.scrapes), rng.random_range(4..13));
                    added.iter_mut().skip(start).take(length).for_each(|scrape| scrape[pod] += 30_f64.ln());
                }
            }
        }
        _ => {}
    }
    added
}

/// One pod's scrape. Requests come at random, so those that fail and those that do not are independent of each other:
/// two Poisson draws are the same as one and a binomial, and cheaper.
fn pod_counts(family: Family, requests: f64, rate: f64, echo: &mut u64, rng: &mut StdRng) -> Counts {
    if family != Family::RetryClusters {
        let bad = poisson(requests * rate, rng);
        return Counts { bad, total: bad + poisson(requests * (1.0 - rate), rng) };
    }
    const CLUSTER: f64 = 8.0;
    let clusters = poisson(requests * rate / CLUSTER, rng);
    let total = clusters + poisson(requests * (1.0 - rate / CLUSTER), rng);
    let mut bad = std::mem::take(echo);
    for _ in 0..clusters {
        let size = 1 + geometric(1.0 / CLUSTER, rng);
        bad += size - size / 3;
        *echo += size / 3;
    }
    Counts { bad, total: total.max(bad) }
}

/// In a split by user, what the heavy users did, moved to the arm they are in: the first makes [`HEAVY_ERRORS`] of all
/// errors, each further one a third of the one before. The others' errors are fewer by as much.
fn split(
    shape: &Shape,
    mut pods: Vec<Counts>,
    on_canary: &[bool; TENANTS],
    requests: f64,
    rng: &mut StdRng,
) -> (Vec<Counts>, Vec<(usize, bool, Counts)>) {
    if shape.family != Family::UserSplit {
        return (pods, Vec::new());
    }
    for pod in &mut pods {
        pod.bad = binomial(pod.bad, 1.0 - HEAVY_ERRORS * (1.0 + 1.0 / 3.0 + 1.0 / 9.0), rng);
    }
    let mut tenants = Vec::new();
    for (tenant, canary) in on_canary.iter().enumerate() {
        let weight = 3_f64.powi(-(tenant as i32));
        let worse = if *canary { shape.ratio } else { 1.0 };
        let bad = poisson(requests * shape.error_rate * HEAVY_ERRORS * weight * worse, rng);
        let total = poisson(requests * HEAVY_REQUESTS * weight, rng).max(bad);
        let (first, last) = if *canary { (0, shape.canary_pods) } else { (shape.canary_pods, PODS) };
        let pod = &mut pods[rng.random_range(first..last)];
        *pod = pod.plus(Counts { bad, total });
        tenants.push((tenant, *canary, Counts { bad, total }));
    }
    (pods, tenants)
}

/// A standard normal draw.
pub fn normal(rng: &mut StdRng) -> f64 {
    StandardNormal.sample(rng)
}

/// A Poisson draw; 0 for a mean that is not above 0.
///
/// Most of the time of the suites goes here, so small means are inverted from one uniform draw and large ones are taken by
/// transformed rejection. Source: Hoermann, "The transformed rejection method for generating Poisson random variables"
/// (1993), algorithm PTRS.
pub fn poisson(mean: f64, rng: &mut StdRng) -> u64 {
    if mean.is_nan() || mean <= 0.0 {
        return 0;
    }
    if mean < 10.0 {
        return inverted_poisson(mean, rng);
    }
    let log_mean = mean.ln();
    let b = 0.931 + 2.53 * mean.sqrt();
    let a = -0.059 + 0.024_83 * b;
    let inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
    let accepted = 0.9277 - 3.6224 / (b - 2.0);
    loop {
        let u = rng.random::<f64>() - 0.5;
        let v = rng.random::<f64>();
        let us = 0.5 - u.abs();
        let k = ((2.0 * a / us + b) * u + mean + 0.43).floor();
        if us >= 0.07 && v <= accepted {
            return k as u64;
        }
        if k < 0.0 || (us < 0.013 && v > us) {
            continue;
        }
        let log_probability = k * log_mean - mean - ln_gamma(k + 1.0);
        if v.ln() + inverse_alpha.ln() - (a / (us * us) + b).ln() <= log_probability {
            return k as u64;
        }
    }
}

/// The smallest count that is as likely not to be exceeded as a uniform draw says.
fn inverted_poisson(mean: f64, rng: &mut StdRng) -> u64 {
    let mut left = rng.random::<f64>();
    let mut probability = (-mean).exp();
    let mut k = 0.0;
    // Beyond 100 the probability is below the precision of the draw.
    while left >= probability && k < 100.0 {
        left -= probability;
        k += 1.0;
        probability *= mean / k;
    }
    k as u64
}

fn binomial(n: u64, p: f64, rng: &mut StdRng) -> u64 {
    Binomial::new(n, p.clamp(0.0, 1.0)).map_or(0, |law| law.sample(rng))
}

fn gamma(shape: f64, scale: f64, rng: &mut StdRng) -> f64 {
    Gamma::new(shape, scale).map_or(1.0, |law| law.sample(rng))
}

/// Failures before the first success.
fn geometric(p: f64, rng: &mut StdRng) -> u64 {
    Geometric::new(p).map_or(0, |law| law.sample(rng))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn totals(family: Family) -> (Counts, Counts) {
        let shape =
            Shape { family, requests_per_scrape: 2000.0, canary_pods: 5, error_rate: 0.005, ratio: 1.0, scrapes: 480 };
        let (mut canary, mut control) = (Counts::default(), Counts::default());
        for seed in 0..20 {
            for scrape in draw(&shape, &mut StdRng::seed_from_u64(seed)) {
                assert_eq!((scrape.canary.len(), scrape.control.len(), scrape.baseline.len()), (5, 15, 5));
                canary = scrape.canary.iter().fold(canary, |sum, counts| sum.plus(*counts));
                control = scrape.control.iter().fold(control, |sum, counts| sum.plus(*counts));
            }
        }
        (canary, control)
    }

    #[test]
    fn a_harmless_canary_is_like_control_in_every_family() {
        for family in Family::ALL {
            let (canary, control) = totals(family);
            let (new, old) = (canary.rate().unwrap(), control.rate().unwrap());
            assert!((new / old - 1.0).abs() < 0.35, "{}: {new} against {old}", family.name());
            let share = canary.total as f64 / (canary.total + control.total) as f64;
            assert!((share - 0.25).abs() < 0.01, "{}: {share}", family.name());
        }
    }

    #[test]
    fn poisson_draws_have_the_laws_probabilities() {
        for mean in [0.02, 0.7, 4.0, 9.9, 10.1, 37.0, 700.0] {
            let mut rng = StdRng::seed_from_u64(11);
            let drawn: Vec<f64> = (0..40_000).map(|_| poisson(mean, &mut rng) as f64).collect();
            let n = drawn.len() as f64;
            let average = drawn.iter().sum::<f64>() / n;
            let variance = drawn.iter().map(|k| (k - average).powi(2)).sum::<f64>() / n;
            assert!((average - mean).abs() < 4.0 * (mean / n).sqrt(), "mean {average} instead of {mean}");
            assert!((variance / mean - 1.0).abs() < 4.0 * ((2.0 + 1.0 / mean) / n).sqrt(), "{variance} at {mean}");
            // The distribution itself, at a few points around the middle.
            for k in [mean.floor() - mean.sqrt().floor(), mean.floor(), mean.floor() + mean.sqrt().ceil()] {
                let law: f64 = (0..=k.max(0.0) as u64)
                    .map(|i| (i as f64 * mean.ln() - mean - ln_gamma(i as f64 + 1.0)).exp())
                    .sum();
                let share = drawn.iter().filter(|drawn| **drawn <= k.max(0.0)).count() as f64 / n;
                assert!((share - law).abs() < 4.0 * (law * (1.0 - law) / n).sqrt() + 1e-4, "{share}, {law} at {mean}");
            }
        }
        let mut rng = StdRng::seed_from_u64(1);
        assert_eq!((poisson(0.0, &mut rng), poisson(-1.0, &mut rng), poisson(f64::NAN, &mut rng)), (0, 0, 0));
    }

    #[test]
    fn a_seed_is_a_rollout() {
        let shape = Shape {
            family: Family::RetryClusters,
            requests_per_scrape: 200.0,
            canary_pods: 1,
            error_rate: 0.005,
            ratio: 3.0,
            scrapes: 50,
        };
        let drawn = |seed| draw(&shape, &mut StdRng::seed_from_u64(seed));
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
