//! How large a drift is, in the two numbers that people who watch models know. They are sizes, not proofs: both grow when
//! counts are few, so a rollout is decided by the tests, and these are shown beside them.

use crate::domain::Histogram;

/// The usual reading of a population stability index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DriftReading {
    /// Below 0.1: as good as none.
    Little,
    /// From 0.1: worth a look.
    Moderate,
    /// From 0.25: another population.
    Large,
}

impl DriftReading {
    /// What an index means.
    pub fn of(index: f64) -> Self {
        match index {
            index if index >= 0.25 => Self::Large,
            index if index >= 0.1 => Self::Moderate,
            _ => Self::Little,
        }
    }
}

/// The population stability index of two counts of the same categories: the sum of `(p - q) ln(p/q)` over their shares `p`
/// and `q`. Half a count is added to each, so that an empty category does not make it infinite. `None` where the lists
/// differ in length, or an arm has nothing, or a count is no number.
pub fn population_stability_index(control: &[f64], canary: &[f64]) -> Option<f64> {
    let (control_sum, canary_sum) = (sum(control)?, sum(canary)?);
    if control.len() != canary.len() {
        return None;
    }
    let added = 0.5 * control.len() as f64;
    let share = |count: &f64, sum: f64| (count + 0.5) / (sum + added);
    let terms = control.iter().zip(canary).map(|(control, canary)| {
        let (q, p) = (share(control, control_sum), share(canary, canary_sum));
        (p - q) * (p / q).ln()
    });
    Some(terms.sum::<f64>().max(0.0))
}

/// Kolmogorov and Smirnov's distance of two distributions in the same buckets: the largest difference between their
/// cumulative shares, 0 to 1. `None` where bounds differ, or an arm has nothing.
pub fn kolmogorov_smirnov(control: &Histogram, canary: &Histogram) -> Option<f64> {
    if control.bounds != canary.bounds || control.counts.len() != canary.counts.len() {
        return None;
    }
    let counts = |histogram: &Histogram| histogram.counts.iter().map(|count| *count as f64).collect::<Vec<f64>>();
    let (control, canary) = (counts(control), counts(canary));
    let (control_sum, canary_sum) = (sum(&control)?, sum(&canary)?);
    let (mut below, mut largest) = ((0.0, 0.0), 0.0_f64);
    for (control, canary) in control.iter().zip(&canary) {
        below = (below.0 + control / control_sum, below.1 + canary / canary_sum);
        largest = largest.max((below.0 - below.1).abs());
    }
    Some(largest.min(1.0))
}

/// The same distance of two samples; readings that are no numbers are left out. `None` where a sample has none.
pub fn kolmogorov_smirnov_of_samples(control: &[f64], canary: &[f64]) -> Option<f64> {
    let sorted = |sample: &[f64]| {
        let mut sample: Vec<f64> = sample.iter().copied().filter(|reading| !reading.is_nan()).collect();
        sample.sort_by(f64::total_cmp);
        (!sample.is_empty()).then_some(sample)
    };
    let (control, canary) = (sorted(control)?, sorted(canary)?);
    let below = |sample: &[f64], at: f64| sample.partition_point(|reading| *reading <= at) as f64 / sample.len() as f64;
    let apart = control.iter().chain(&canary).map(|at| (below(&control, *at) - below(&canary, *at)).abs());
    Some(apart.fold(0.0, f64::max))
}

/// The sum of counts; `None` if it is not above zero and finite, or a count is below zero.
fn sum(counts: &[f64]) -> Option<f64> {
    let sum: f64 = counts.iter().sum();
    (counts.iter().all(|count| *count >= 0.0) && sum > 0.0 && sum.is_finite()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values by numpy: `p = (c + .5) / (c + .5).sum()`, `((p - q) * np.log(p / q)).sum()`.
    #[test]
    fn the_index_is_what_numpy_computes() {
        let cases: &[(&[f64], &[f64], f64)] = &[
            (&[500.0, 300.0, 200.0], &[50.0, 30.0, 20.0], 2.607100169399982e-05),
            (&[500.0, 300.0, 200.0], &[20.0, 30.0, 50.0], 0.5404677884036218),
            (&[100.0, 0.0, 7.0, 3.0], &[10.0, 20.0, 0.0, 1.0], 3.7267640367009416),
        ];
        for (control, canary, expected) in cases {
            let index = population_stability_index(control, canary).unwrap();
            assert!((index - expected).abs() < 1e-12, "{control:?} {canary:?}: {index}");
        }
        assert_eq!(population_stability_index(&[0.0, 0.0], &[1.0, 2.0]), None);
        assert_eq!(population_stability_index(&[1.0], &[1.0, 2.0]), None);
        assert_eq!(DriftReading::of(0.5404677884036218), DriftReading::Large);
        assert_eq!(DriftReading::of(0.1), DriftReading::Moderate);
    }

    /// Values by `scipy.stats.ks_2samp`.
    #[test]
    fn the_distance_is_what_scipy_computes() {
        let (one, other) = ([1.0, 2.0, 2.5, 3.0, 7.0, 8.5], [0.5, 2.0, 4.0, 9.0, 9.5]);
        let distance = kolmogorov_smirnov_of_samples(&one, &other).unwrap();
        assert!((distance - 0.4).abs() < 1e-12, "{distance}");
        let (one, other) = ([1.0, 1.0, 1.0, 2.0], [2.0, 2.0, 3.0]);
        let distance = kolmogorov_smirnov_of_samples(&one, &other).unwrap();
        assert!((distance - 0.75).abs() < 1e-12, "{distance}");
        assert_eq!(kolmogorov_smirnov_of_samples(&one, &[f64::NAN]), None);
    }

    #[test]
    fn buckets_and_samples_agree_where_the_bounds_are_the_values() {
        let histogram = |counts: &[u64]| Histogram { bounds: vec![1.0, 2.0], counts: counts.to_vec() };
        let distance = kolmogorov_smirnov(&histogram(&[3, 1, 0]), &histogram(&[0, 2, 1])).unwrap();
        assert!((distance - 0.75).abs() < 1e-12);
        assert_eq!(kolmogorov_smirnov(&histogram(&[0, 0, 0]), &histogram(&[1, 0, 0])), None);
        let huge = kolmogorov_smirnov(&histogram(&[u64::MAX, u64::MAX, 0]), &histogram(&[1, 0, u64::MAX])).unwrap();
        assert!((0.0..=1.0).contains(&huge));
    }
}
