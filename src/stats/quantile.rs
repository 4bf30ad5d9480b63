//! Quantiles of a latency histogram for people, with intervals that hold at every moment.
//!
//! # The argument
//! With chance `1 - alpha`, the empirical distribution function of `t` independent requests is within
//! `0.85 sqrt((ln ln(e t) + 0.8 ln(1612 / alpha)) / t)` of the true one, everywhere and for all `t` at once (Howard and
//! Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm identification", Bernoulli
//! 2022, Corollary 2). A histogram knows that function exactly at its bounds, so the ends of an interval are bounds:
//! the last one that is surely below the quantile and the first one that is surely not.
//!
//! # Limits
//! An end that lies beyond the last bound is unknown, and said to be; so is an estimate. The estimate supposes that
//! requests are spread evenly inside a bucket, as Prometheus does; the interval supposes nothing of the kind. Requests
//! that come in clusters make it too narrow: it is for reading, and decides nothing.

use super::latency::edges::is_sound;
use crate::domain::Histogram;

/// A quantile of a histogram, in the unit of its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile {
    /// Interpolated inside its bucket; `None` where it is beyond the last bound.
    pub estimate: Option<f64>,
    /// The true quantile is not below this; `None` where no bound is surely below it.
    pub low: Option<f64>,
    /// The true quantile is not above this; `None` where no bound is surely above it.
    pub high: Option<f64>,
}

/// The quantile at `p`, with an interval that holds at every moment with chance `1 - alpha`; `None` for a histogram
/// that is empty or not sound, and for a `p` or an `alpha` outside (0, 1).
pub fn quantile(histogram: &Histogram, p: f64, alpha: f64) -> Option<Quantile> {
    let is_chance = |chance: f64| chance > 0.0 && chance < 1.0;
    let all: f64 = histogram.counts.iter().map(|n| *n as f64).sum();
    if !is_sound(histogram) || all < 1.0 || !is_chance(p) || !is_chance(alpha) {
        return None;
    }
    let off = band(all, alpha);
    let mut found = Quantile { estimate: None, low: None, high: None };
    let (mut below, mut from) = (0.0, 0.0_f64);
    for (bound, n) in histogram.bounds.iter().zip(&histogram.counts).filter(|(bound, _)| bound.is_finite()) {
        let through = below + *n as f64;
        if found.estimate.is_none() && *n > 0 && through >= p * all {
            let start = if below == 0.0 && *bound <= 0.0 { *bound } else { from.min(*bound) };
            found.estimate = Some(start + (bound - start) * ((p * all - below) / *n as f64).clamp(0.0, 1.0));
        }
        if through / all + off < p {
            found.low = Some(*bound);
        }
        if found.high.is_none() && through / all - off >= p {
            found.high = Some(*bound);
        }
        (below, from) = (through, *bound);
    }
    Some(found)
}

/// How far the empirical distribution function of `n` requests may be from the true one, ever.
fn band(n: f64, alpha: f64) -> f64 {
    0.85 * (((1.0 + n.ln()).ln() + 0.8 * (1612.0 / alpha).ln()) / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: &[u64]) -> Histogram {
        Histogram { bounds: vec![0.1, 0.2, 0.5, 1.0], counts: counts.to_vec() }
    }

    #[test]
    fn a_median_is_interpolated_and_its_interval_ends_at_bounds() {
        let median = quantile(&histogram(&[3_000, 4_000, 2_000, 900, 100]), 0.5, 0.05).unwrap();
        assert!((median.estimate.unwrap() - 0.15).abs() < 1e-12);
        assert_eq!((median.low, median.high), (Some(0.1), Some(0.2)));
    }

    #[test]
    fn what_is_beyond_the_last_bound_is_unknown() {
        let tail = quantile(&histogram(&[3_000, 4_000, 2_000, 900, 100]), 0.999, 0.05).unwrap();
        assert_eq!((tail.estimate, tail.high), (None, None));
        assert!(tail.low.is_some());
    }

    #[test]
    fn few_requests_have_an_estimate_and_no_interval() {
        let few = quantile(&histogram(&[1, 1, 1, 1, 0]), 0.5, 0.05).unwrap();
        assert_eq!((few.low, few.high), (None, None));
        assert!((few.estimate.unwrap() - 0.2).abs() < 1e-12);
    }

    #[test]
    fn the_band_is_that_of_the_paper() {
        // 0.85 sqrt((ln(1 + ln 10000) + 0.8 ln 32240) / 10000)
        assert!((band(10_000.0, 0.05) - 0.027_710_7).abs() < 1e-6, "{}", band(10_000.0, 0.05));
    }

    #[test]
    fn what_is_not_sound_has_no_quantile() {
        assert_eq!(quantile(&Histogram::default(), 0.5, 0.05), None);
        assert_eq!(quantile(&histogram(&[0; 5]), 0.5, 0.05), None);
        assert_eq!(quantile(&histogram(&[1; 4]), 0.5, 0.05), None);
        for p in [0.0, 1.0, f64::NAN, -1.0] {
            assert_eq!(quantile(&histogram(&[1; 5]), p, 0.05), None);
        }
        let huge = quantile(&histogram(&[u64::MAX; 5]), 0.5, 0.05).unwrap();
        assert!(huge.estimate.is_some_and(f64::is_finite));
    }
}
