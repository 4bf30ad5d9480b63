//! Latency as services really have it: what a family of rollouts puts into the buckets of a classic histogram, pod by pod
//! and scrape by scrape.
//!
//! A request takes a lognormal time whose logarithm has a standard deviation of about 1 (median 100 ms, 99th percentile
//! 1 s). There are [`PODS`] pods in both arms together, of which the canary has its part. The families are those that
//! make textbook tests of latency fail: pods that are lastingly a few percent apart, pods that wander, one slow pod,
//! a mix of endpoints that moves, and arms that serve another mix because users keep their version.

use std::f64::consts::{SQRT_2, TAU};

use rand::{Rng, rngs::StdRng};

use super::noise::{PODS, SCRAPE_SECONDS, normal, poisson};
use crate::domain::{Histogram, Part, PartKind, Reading, Tally, Text};

/// The bounds that Prometheus client libraries have by default, in seconds.
pub const DEFAULT_BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// A finer choice of 20 bounds, in seconds.
pub const FINE_BOUNDS: [f64; 20] =
    [0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0];
/// Bounds as a native histogram of schema 3 has them: eight to each doubling, 160 of them from 1 ms.
pub fn native_bounds() -> Vec<f64> {
    (0..160).map(|i| 0.001 * 2_f64.powf(f64::from(i) / 8.0)).collect()
}

/// A shape of noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Independent requests at a steady rate.
    Independent,
    /// Pods differ lastingly: standard deviation 5%.
    PodOffset,
    /// Each pod wanders by itself: standard deviation 10%, memory 2 minutes.
    Wandering2m,
    /// Standard deviation 10%, memory 10 minutes.
    Wandering10m,
    /// All pods drift together: standard deviation 30%, memory 20 minutes.
    SharedDrift,
    /// One pod, any of both arms, is twice as slow for the whole watch. Where it is the canary's only one, it cannot be
    /// told from a slow version.
    HeavyPod,
    /// A pod is four times as slow for one to three minutes, every twenty pod-hours.
    PodIncidents,
    /// Three endpoints whose mix moves, alike in both arms.
    MovingMix,
    /// Users keep their version, and the canary's ask the slow endpoint half as often again as control's.
    UserSplit,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Independent,
        Self::PodOffset,
        Self::Wandering2m,
        Self::Wandering10m,
        Self::SharedDrift,
        Self::HeavyPod,
        Self::PodIncidents,
        Self::MovingMix,
        Self::UserSplit,
    ];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Independent => "independent",
            Self::PodOffset => "pod offset 5%",
            Self::Wandering2m => "pods wander 10%, 2 min",
            Self::Wandering10m => "pods wander 10%, 10 min",
            Self::SharedDrift => "shared drift",
            Self::HeavyPod => "one slow pod",
            Self::PodIncidents => "pod incidents",
            Self::MovingMix => "moving mix",
            Self::UserSplit => "split by user",
        }
    }

    /// Whether the arms' traffic is told apart by endpoint.
    const fn has_segments(self) -> bool {
        matches!(self, Self::MovingMix | Self::UserSplit)
    }
}

/// What is wrong with the canary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Every request takes this many times as long.
    Slower(f64),
    /// This part of the requests takes that many seconds more.
    Delayed(f64, f64),
    /// This part of the requests takes that many times as long: a second hump.
    Bimodal(f64, f64),
}

/// A rollout to be drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// The noise.
    pub family: Family,
    /// Upper bucket bounds, in seconds, rising.
    pub bounds: Vec<f64>,
    /// Median latency in seconds; the 99th percentile is ten times that.
    pub median_seconds: f64,
    /// Requests of both arms in one scrape, on average.
    pub requests_per_scrape: f64,
    /// Canary pods, of [`PODS`] that share the traffic evenly: 1 is 5%, 5 are 25%.
    pub canary_pods: usize,
    /// What is wrong with the canary.
    pub effect: Effect,
    /// How many scrapes.
    pub scrapes: usize,
}

/// One scrape of one rollout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape {
    /// Each canary pod.
    pub canary: Vec<Histogram>,
    /// Each pod of the old version; `PODS - canary_pods` of them.
    pub control: Vec<Histogram>,
    /// By endpoint, the canary's; empty in families without segments.
    pub canary_segments: Vec<Histogram>,
    /// By endpoint, control's.
    pub control_segments: Vec<Histogram>,
}

impl Scrape {
    /// What a scrape of the canary tells, with its parts.
    pub fn canary_reading(&self) -> Reading {
        reading(&self.canary, &self.canary_segments)
    }

    /// What a scrape of control tells, with its parts.
    pub fn control_reading(&self) -> Reading {
        reading(&self.control, &self.control_segments)
    }
}

fn reading(pods: &[Histogram], segments: &[Histogram]) -> Reading {
    let named = |kind, word: &str, i: usize, histogram: &Histogram| Part {
        kind,
        name: Text::new(format!("{word}-{i:02}")),
        tally: Tally::Histogram(histogram.clone()),
    };
    let mut parts: Vec<Part> = pods.iter().enumerate().map(|(i, h)| named(PartKind::Pod, "pod", i, h)).collect();
    parts.extend(segments.iter().enumerate().map(|(i, h)| named(PartKind::Segment, "endpoint", i, h)));
    Reading { tally: Tally::Histogram(sum(pods)), parts }
}

fn sum(histograms: &[Histogram]) -> Histogram {
    let Some(first) = histograms.first() else { return Histogram::default() };
    let mut counts = vec![0; first.counts.len()];
    for histogram in histograms {
        counts.iter_mut().zip(&histogram.counts).for_each(|(sum, n)| *sum += n);
    }
    Histogram { bounds: first.bounds.clone(), counts }
}

/// The standard deviation of the logarithm of the latency.
const LOG_DEVIATION: f64 = 1.0;
/// Endpoints: part of the traffic, and how many times slower than the first. Each has less spread than all together.
const ENDPOINTS: [(f64, f64); 3] = [(0.6, 0.6), (0.3, 1.5), (0.1, 6.0)];
const ENDPOINT_DEVIATION: f64 = 0.8;

/// A first-order autoregression around 0.
struct Wander {
    level: f64,
    keep: f64,
    step: f64,
}

impl Wander {
    fn new(deviation: f64, memory_seconds: f64, rng: &mut StdRng) -> Self {
        let keep = (-SCRAPE_SECONDS / memory_seconds).exp();
        Self { level: deviation * normal(rng), keep, step: deviation * (1.0 - keep * keep).sqrt() }
    }

    fn advance(&mut self, rng: &mut StdRng) {
        self.level = self.keep * self.level + self.step * normal(rng);
    }
}

/// Draws one rollout.
pub fn draw(shape: &Shape, rng: &mut StdRng) -> Vec<Scrape> {
    let steady = shape.family == Family::Independent;
    let (deviation, memory) = match shape.family {
        Family::PodOffset => (0.05, f64::INFINITY),
        Family::Wandering2m => (0.1, 120.0),
        Family::Wandering10m => (0.1, 600.0),
        _ => (0.0, 120.0),
    };
    let mut own: Vec<Wander> = (0..PODS).map(|_| Wander::new(deviation, memory, rng)).collect();
    let drift = if shape.family == Family::SharedDrift { 0.3 } else { 0.0 };
    let mut shared = Wander::new(drift, 1200.0, rng);
    let mut traffic = Wander::new(if steady { 0.0 } else { 0.15 }, 120.0, rng);
    let mut mix = Wander::new(if shape.family == Family::MovingMix { 0.4 } else { 0.0 }, 1200.0, rng);
    let phase = rng.random_range(0.0..TAU);
    let slow = slow_pods(shape, rng);
    (0..shape.scrapes)
        .map(|scrape| {
            let day = (TAU * scrape as f64 * SCRAPE_SECONDS / 86_400.0 + phase).sin();
            let swing = if steady { 1.0 } else { (1.0 + 0.5 * day) * traffic.level.exp() };
            let requests = shape.requests_per_scrape / PODS as f64 * swing;
            let mut drawn = Scrape::default();
            let endpoints = if shape.family.has_segments() { ENDPOINTS.len() } else { 0 };
            let empty = Histogram { bounds: shape.bounds.clone(), counts: vec![0; shape.bounds.len() + 1] };
            let mut segments = [vec![empty.clone(); endpoints], vec![empty.clone(); endpoints]];
            for (pod, own) in own.iter_mut().enumerate() {
                let is_canary = pod < shape.canary_pods;
                let log_slower = own.level + shared.level + slow.get(scrape).and_then(|s| s.get(pod)).unwrap_or(&0.0);
                let [of_control, of_canary] = &mut segments;
                let parts = if is_canary { of_canary } else { of_control };
                let law = Law { log_slower, effect: if is_canary { shape.effect } else { Effect::None } };
                let histogram = pod_counts(shape, &law, requests, mix.level, is_canary, parts, rng);
                if is_canary { &mut drawn.canary } else { &mut drawn.control }.push(histogram);
                own.advance(rng);
            }
            [drawn.control_segments, drawn.canary_segments] = segments;
            shared.advance(rng);
            traffic.advance(rng);
            mix.advance(rng);
            drawn
        })
        .collect()
}

/// What is added to the logarithm of each pod's latency at each scrape by slow pods.
fn slow_pods(shape: &Shape, rng: &mut StdRng) -> Vec<Vec<f64>> {
    let mut added = Vec::new();
    match shape.family {
        Family::HeavyPod => {
            let heavy = rng.random_range(0..PODS);
            let pods: Vec<f64> = (0..PODS).map(|pod| if pod == heavy { 2_f64.ln() } else { 0.0 }).collect();
            added = vec![pods; shape.scrapes];
        }
        Family::PodIncidents => {
            added = vec![vec![0.0; PODS]; shape.scrapes];
            let hours = shape.scrapes as f64 * SCRAPE_SECONDS / 3600.0;
            for pod in 0..PODS {
                for _ in 0..poisson(0.05 * hours, rng) {
                    let (start, length) = (rng.random_range(0..shape.scrapes), rng.random_range(4..13));
                    for scrape in added.iter_mut().skip(start).take(length) {
                        scrape.iter_mut().skip(pod).take(1).for_each(|level| *level = 4_f64.ln());
                    }
                }
            }
        }
        _ => {}
    }
    added
}

/// How long one pod's requests take.
struct Law {
    log_slower: f64,
    effect: Effect,
}

impl Law {
    /// Chance that a request takes longer than `seconds`.
    fn above(&self, seconds: f64, log_median: f64, deviation: f64) -> f64 {
        let above = |seconds: f64, log_factor: f64| {
            if seconds <= 0.0 {
                return 1.0;
            }
            normal_tail((seconds.ln() - log_median - self.log_slower - log_factor) / deviation)
        };
        match self.effect {
            Effect::None => above(seconds, 0.0),
            Effect::Slower(times) => above(seconds, times.ln()),
            Effect::Delayed(part, more) => (1.0 - part) * above(seconds, 0.0) + part * above(seconds - more, 0.0),
            Effect::Bimodal(part, times) => (1.0 - part) * above(seconds, 0.0) + part * above(seconds, times.ln()),
        }
    }

    /// Requests sorted into buckets, `requests` of them on average. They come at random, so those in one bucket are
    /// independent of those in another.
    fn draw(&self, requests: f64, bounds: &[f64], log_median: f64, deviation: f64, rng: &mut StdRng) -> Vec<u64> {
        let mut above = 1.0;
        let mut counts = Vec::with_capacity(bounds.len() + 1);
        for bound in bounds {
            let beyond = self.above(*bound, log_median, deviation).min(above);
            counts.push(poisson(requests * (above - beyond), rng));
            above = beyond;
        }
        counts.push(poisson(requests * above, rng));
        counts
    }
}

/// One pod's scrape; what each endpoint had is added to `segments`.
fn pod_counts(
    shape: &Shape,
    law: &Law,
    requests: f64,
    mix: f64,
    is_canary: bool,
    segments: &mut [Histogram],
    rng: &mut StdRng,
) -> Histogram {
    let mut counts = vec![0; shape.bounds.len() + 1];
    if segments.is_empty() {
        counts = law.draw(requests, &shape.bounds, shape.median_seconds.ln(), LOG_DEVIATION, rng);
        return Histogram { bounds: shape.bounds.clone(), counts };
    }
    let slow_asked = match shape.family {
        Family::UserSplit if is_canary => 1.5,
        _ => mix.exp(),
    };
    for (i, ((part, slower), segment)) in ENDPOINTS.iter().zip(segments).enumerate() {
        let asked = if i == ENDPOINTS.len() - 1 { slow_asked } else { 1.0 };
        let requests = requests * part * asked;
        let drawn = law.draw(requests, &shape.bounds, shape.median_seconds.ln() + slower.ln(), ENDPOINT_DEVIATION, rng);
        for ((sum, of_segment), n) in counts.iter_mut().zip(&mut segment.counts).zip(drawn) {
            *sum += n;
            *of_segment += n;
        }
    }
    Histogram { bounds: shape.bounds.clone(), counts }
}

/// Chance that a standard normal draw is above `z`; relative error below 1.2e-7 (Press et al., "Numerical Recipes",
/// erfc by a Chebyshev fit).
fn normal_tail(z: f64) -> f64 {
    const FIT: [f64; 10] = [
        -1.26551223,
        1.00002368,
        0.37409196,
        0.09678418,
        -0.18628806,
        0.27886807,
        -1.13520398,
        1.48851587,
        -0.82215223,
        0.17087277,
    ];
    let x = z / SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x.abs());
    let fit = FIT.iter().rev().fold(0.0, |sum, term| sum * t + term);
    let erfc = t * (fit - x * x).exp();
    if x >= 0.0 { erfc / 2.0 } else { 1.0 - erfc / 2.0 }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn shape(family: Family, effect: Effect) -> Shape {
        Shape {
            family,
            bounds: DEFAULT_BOUNDS.to_vec(),
            median_seconds: 0.1,
            requests_per_scrape: 3000.0,
            canary_pods: 5,
            effect,
            scrapes: 200,
        }
    }

    fn slow_parts(shape: &Shape, seed: u64) -> (f64, f64) {
        let drawn = draw(shape, &mut StdRng::seed_from_u64(seed));
        let rate = |arm: &dyn Fn(&Scrape) -> Reading| {
            let sum = drawn.iter().map(arm).reduce(|sum, next| sum.plus(&next).unwrap()).unwrap();
            let Tally::Histogram(histogram) = sum.tally else { unreachable!() };
            histogram.above(1.0).rate().unwrap()
        };
        (rate(&Scrape::control_reading), rate(&Scrape::canary_reading))
    }

    #[test]
    fn the_99th_percentile_is_about_a_second_and_an_effect_is_seen_on_the_canary_alone() {
        let (control, canary) = slow_parts(&shape(Family::Independent, Effect::None), 1);
        assert!((control - 0.0107).abs() < 0.0005 && (canary - 0.0107).abs() < 0.0005, "{control} {canary}");
        let (control, canary) = slow_parts(&shape(Family::Independent, Effect::Delayed(0.01, 2.0)), 1);
        assert!((control - 0.0107).abs() < 0.0005 && (canary - 0.0207).abs() < 0.0008, "{control} {canary}");
    }

    #[test]
    fn a_harmless_canary_is_like_control_except_where_its_users_ask_for_other_things() {
        for family in Family::ALL {
            let (control, canary) = slow_parts(&shape(family, Effect::None), 2);
            let alike = (canary / control - 1.0).abs() < 0.35;
            assert_eq!(alike, family != Family::UserSplit, "{}: {control} {canary}", family.name());
        }
    }

    #[test]
    fn pods_and_segments_each_make_up_the_whole() {
        let drawn = draw(&shape(Family::UserSplit, Effect::None), &mut StdRng::seed_from_u64(3));
        let reading = drawn[0].canary_reading();
        for kind in [PartKind::Pod, PartKind::Segment] {
            let sum = reading.parts_of(kind).map(|part| part.tally.clone()).reduce(|a, b| a.plus(&b).unwrap());
            assert_eq!(sum.unwrap(), reading.tally);
        }
    }
}
