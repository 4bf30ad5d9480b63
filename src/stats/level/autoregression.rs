//! How a gauge wobbles from look to look: the variance of what is new in each look, and how much of the last one stays.
//!
//! # The argument
//! For a series `x` with a lasting offset and noise that keeps the part `phi` of itself from one look to the next, half
//! the mean square of its steps is `g1 = v (1 - phi)` over one look and `g2 = v (1 - phi^2)` over two, `v` being the
//! variance of the noise. Their ratio is `1 + phi` whatever the offset is, and no mean is subtracted that had to be
//! estimated, so the usual bias towards independence of a short series does not arise. What is new in each look has the
//! variance `v (1 - phi^2) = g1 (1 + phi)`. A step that is a regression's onset is one step among many; it is clipped.
//!
//! Where the noise is a slow part below a fast one, `phi` is told too low. What remains is seen as a lasting offset between
//! pods, and is allowed for there.
//!
//! Source: the variogram (Cressie, "Statistics for Spatial Data", 1993, section 2.4) at two lags.

use serde::{Deserialize, Serialize};

/// Steps beyond this many times their usual size are clipped when they are learnt from.
const STEP_CLIP: f64 = 5.0;
/// Steps that must have been seen before anything is said.
const TOLD_AFTER: f64 = 8.0;
/// As many normal steps' worth must have been seen before any step is called usual.
const STEADY_FROM: f64 = 12.0;
/// Where less than this part of all steps makes up the variance, the noise comes in bursts.
const STEADY_PART: f64 = 0.03;
/// Where less than this part of all steps makes up the variance, it is told by the rare ones.
const SPARSE_PART: f64 = 0.15;
/// Standard errors that are taken off where too much would cost validity.
const KEPT_ERRORS_DOWN: f64 = 1.5;
/// Largest part that noise is taken to keep of which only a few jumps were seen.
const KEPT_MAX_OF_JUMPS: f64 = 0.9;
/// Largest part of itself that noise is taken to keep.
const KEPT_MAX: f64 = 0.995;
/// Standard errors that are added to the estimate of what is kept: too much costs power, too little costs validity.
const KEPT_ERRORS: f64 = 1.0;
/// The same where no single pods are seen.
const KEPT_ERRORS_ALONE: f64 = 1.5;
/// Steps that are allowed for besides, so that a handful of them is not believed.
const SMALL_SAMPLE: f64 = 4.0;

/// Looks of a long step.
const LONG: u8 = 8;
/// Long steps from which they say anything.
const LONG_TOLD_AFTER: f64 = 4.0;

/// Mean squared steps of one or more series, over one look and over two. What is long past is forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Steps {
    one: Mean,
    two: Mean,
    /// Squares of the squares over one look.
    fourth: Mean,
    /// Over [`LONG`] looks, one after the other; and where the present one began.
    long: Mean,
    began: Option<f32>,
    since: u8,
}

/// A mean that forgets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Mean {
    /// Its value.
    pub(super) value: f64,
    /// How many were taken in, up to what is remembered.
    pub(super) weight: f64,
}

impl Mean {
    /// Takes one more in; the last `memory` weigh most.
    pub(super) fn add(&mut self, value: f64, memory: f64) {
        self.weight = (self.weight + 1.0).min(memory.max(1.0));
        self.value += (value - self.value) / self.weight;
    }
}

impl Steps {
    /// Takes in what a series was at this look, at the last and at the one before. `floor` is the smallest deviation
    /// worth telling apart, `memory` the number of steps that are remembered.
    pub(super) fn learn(&mut self, now: f64, last: f64, before: Option<f64>, floor: f64, memory: f64) {
        let usual = if self.effective() >= STEADY_FROM { self.one.value.sqrt().max(floor) } else { f64::MAX };
        // The clip is on both lags, so that the onset of a regression does not look like noise that stays for ever.
        let half_square = |step: f64| {
            let clipped = step.abs().min(f64::sqrt(2.0) * STEP_CLIP * usual);
            clipped * clipped / 2.0
        };
        let one = half_square(now - last);
        self.one.add(one, memory);
        self.fourth.add(one * one, memory);
        if let Some(before) = before {
            self.two.add(half_square(now - before), memory);
        }
    }

    /// Takes in what a single series is at each look, for its long steps. What stays of noise from look to look is told
    /// badly by steps over one and two looks, so that by chance slow noise passes for quick; of the long ones it is not
    /// likely too at the same time.
    pub(super) fn learn_long(&mut self, now: f64, memory: f64) {
        self.since = self.since.saturating_add(1);
        let Some(began) = self.began else {
            (self.began, self.since) = (Some(now as f32), 0);
            return;
        };
        if self.since >= LONG {
            let most = (STEP_CLIP * STEP_CLIP * self.one.value).max(f64::MIN_POSITIVE);
            self.long.add(((now - f64::from(began)).powi(2) / 2.0).min(most), memory / f64::from(LONG));
            (self.began, self.since) = (Some(now as f32), 0);
        }
    }

    /// The series was interrupted.
    pub(super) fn interrupt(&mut self) {
        self.began = None;
    }

    /// The part that is kept, by long steps: the solution of `(1 - phi^8) / (1 - phi) = g8 / g1`.
    fn kept_by_long(&self) -> f64 {
        if self.long.weight < LONG_TOLD_AFTER || self.one.value <= 0.0 {
            return 0.0;
        }
        let ratio = self.long.value / self.one.value;
        let sum = |kept: f64| (0..LONG).fold(0.0, |sum, _| sum * kept + 1.0);
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..12 {
            let middle = (low + high) / 2.0;
            if sum(middle) < ratio { low = middle } else { high = middle }
        }
        low
    }

    /// How many steps over two looks were seen, up to what is remembered.
    fn weight(&self) -> f64 {
        self.two.weight
    }

    /// How many normal steps would tell the variance as well: few where all of it comes from a few jumps.
    fn effective(&self) -> f64 {
        if self.fourth.value > 0.0 { 3.0 * self.one.weight * self.one.value.powi(2) / self.fourth.value } else { 0.0 }
    }
}

/// What is known of the noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Noise {
    /// The part of itself that it keeps from one look to the next, 0 to below 1; rather too high.
    pub(super) kept: f64,
    /// The same, rather too low.
    pub(super) kept_at_least: f64,
    /// Variance of what is new in each look.
    pub(super) fresh: f64,
    /// Whether it was seen often enough to be known; not where most of it came in a few jumps.
    pub(super) is_steady: bool,
    /// Whether few of the steps make up most of the variance, so that it is not known what has not happened yet.
    pub(super) is_sparse: bool,
    /// Standard error of `kept`.
    pub(super) error: f64,
}

impl Noise {
    /// From the steps of single pods and of the difference between the arms, both in units of one pod; `None` until
    /// enough was seen. `pods_weight` is how many steps of the difference those of the pods are worth at most: in the
    /// long run the difference itself tells best how it varies.
    pub(super) fn learn(pods: &Steps, difference: &Steps, pods_weight: f64) -> Option<Self> {
        let weight = pods.weight() + difference.weight();
        if weight < TOLD_AFTER {
            return None;
        }
        let pooled = |one: Mean, other: Mean, most: f64| {
            let one_weight = one.weight.min(most);
            let weight = one_weight + other.weight;
            if weight > 0.0 { (one.value * one_weight + other.value * other.weight) / weight } else { 0.0 }
        };
        let one = pooled(pods.one, difference.one, f64::MAX);
        let two = pooled(pods.two, difference.two, f64::MAX);
        let by_short = if one > 0.0 { (two / one - 1.0).clamp(0.0, 1.0) } else { 0.0 };
        let told = if pods.weight() > 0.0 { by_short } else { by_short.max(difference.kept_by_long()) };
        let error = ((1.05 - told * told) / weight).sqrt() + SMALL_SAMPLE / weight;
        let effective = pods.effective() + difference.effective();
        let is_steady = effective >= STEADY_FROM && effective >= STEADY_PART * weight;
        // A level that stood still and jumped once looks as if it kept all of itself.
        let most = if is_steady { KEPT_MAX } else { KEPT_MAX_OF_JUMPS };
        let errors = if pods.weight() > 0.0 { KEPT_ERRORS } else { KEPT_ERRORS_ALONE };
        let kept = (told + errors * error).clamp(0.0, most);
        let kept_at_least = (by_short - KEPT_ERRORS_DOWN * error).clamp(0.0, kept);
        let is_sparse = effective < SPARSE_PART * weight;
        let mut of_steps = pooled(pods.one, difference.one, pods_weight);
        if pods.effective() < SPARSE_PART * pods.one.weight {
            // What is rare has been seen in many pods rather than in a few.
            of_steps = of_steps.max(pods.one.value);
        }
        let fresh = of_steps * (1.0 + kept) * (1.0 + 4.0 / weight);
        // Of independence the ratio of the steps tells less than the formula above, and of memory much less.
        Some(Self { kept, kept_at_least, fresh, is_steady, is_sparse, error: 2.0 / weight.sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    /// Noise of variance 1 that keeps `kept` of itself, on an offset of 100.
    fn learnt(kept: f64, looks: usize, seed: u64) -> Noise {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut fresh = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        let mut series = vec![fresh()];
        for _ in 1..looks {
            let last = series[series.len() - 1];
            series.push(kept * last + (1.0 - kept * kept).sqrt() * fresh());
        }
        let mut steps = Steps::default();
        for at in 1..series.len() {
            let before = at.checked_sub(2).map(|before| series[before] + 100.0);
            steps.learn(series[at] + 100.0, series[at - 1] + 100.0, before, 0.0, 1e9);
        }
        Noise::learn(&Steps::default(), &steps, 0.0).unwrap()
    }

    #[test]
    fn what_is_kept_and_what_is_new_are_told_whatever_the_offset() {
        for kept in [0.0, 0.5, 0.9, 0.98] {
            let noise = learnt(kept, 20_000, 3);
            assert!((noise.kept - kept).abs() < 0.03, "{kept}: {noise:?}");
            assert!((noise.fresh / (1.0 - kept * kept) - 1.0).abs() < 0.05, "{kept}: {noise:?}");
        }
    }

    #[test]
    fn a_short_series_is_not_biased_towards_independence() {
        let mean = (0..500).map(|seed| learnt(0.9, 30, seed).kept).sum::<f64>() / 500.0;
        assert!(mean > 0.85, "{mean}");
    }
}
