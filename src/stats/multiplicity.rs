//! Several tests at once: what they prove together, and which of them prove it.
//!
//! # The argument
//! An average of e-values whose weights sum to at most 1 is an e-value, whatever the tests have to do with one another:
//! its mean is the average of their means. So a rollout with any number of checks keeps its one `alpha` if the average
//! must reach `1/alpha`. The same holds for the average over every subset, which gives closed testing: a hypothesis is
//! refuted, with the chance of any false refutation at most `alpha`, once every subset that it belongs to is. Among
//! subsets of one size the worst is that with the smallest others, so only as many averages as there are tests need be
//! looked at. Where the share of false refutations among all is enough, e-BH refutes the `k` largest as soon as the
//! `k`-th reaches `J/(alpha k)`; it too needs no independence.
//!
//! Sources: Vovk and Wang, "E-values: calibration, combination and applications" (Annals of Statistics, 2021) for the
//! average and closed testing; Wang and Ramdas, "False discovery rate control with e-values" (JRSS B, 2022) for e-BH and
//! its weights.
//!
//! # Limits
//! An average of `J` equal weights costs `ln J`: a check has to be that much surer alone than among others. Half of all
//! weight therefore lies on the service's own objectives, which are few.
//!
//! Everything is in natural logarithms. Minus infinity is an e-value of 0; plus infinity is taken for the largest
//! number, and NaN for no evidence either way (an e-value of 0 adds nothing to an average).

use crate::domain::{Check, Origin, Weight};

/// The weight of each check in the average over a rollout: half for the service's objectives, half for the other
/// critical checks, in equal parts; all of it for the one group where the other is empty; none for advisory checks. The
/// sum is at most 1.
pub fn weights(checks: &[&Check]) -> Vec<f64> {
    let is_objective = |check: &Check| check.origin == Origin::Slo;
    let critical = || checks.iter().filter(|check| check.weight == Weight::Critical);
    let objectives = critical().filter(|check| is_objective(check)).count();
    let others = critical().count() - objectives;
    let each = |group: usize, other: usize| if other == 0 { 1.0 / group as f64 } else { 0.5 / group as f64 };
    let weight = |check: &&Check| match check.weight {
        Weight::Advisory => 0.0,
        Weight::Critical if is_objective(check) => each(objectives, others),
        Weight::Critical => each(others, objectives),
    };
    checks.iter().map(weight).collect()
}

/// Logarithm of the weighted average of e-values, each a weight and the logarithm of an e-value; minus infinity for none.
/// Weights below 0 and NaN count as 0, and weights that sum to more than 1 are scaled down to it.
pub fn combined(parts: &[(f64, f64)]) -> f64 {
    let terms = weighted(parts);
    let highest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if highest == f64::NEG_INFINITY {
        return highest;
    }
    // Sorted, so that the sum does not depend on the order of the parts.
    let mut scaled: Vec<f64> = terms.iter().map(|term| (term - highest).exp()).collect();
    scaled.sort_by(f64::total_cmp);
    highest + scaled.iter().sum::<f64>().ln()
}

/// Which of the e-values, each a weight and the logarithm of an e-value, are refuted by weighted e-BH: at most `alpha` of
/// them are expected to be false. None where `alpha` is no chance.
pub fn listed(parts: &[(f64, f64)], alpha: f64) -> Vec<bool> {
    largest(parts, refuted(parts, alpha))
}

/// Which checks are to blame at `alpha`: those that [`listed`] names, and, once the average reaches `1/alpha`, the one
/// with the largest weighted e-value in any case. That some check is bad is proven then, and this is the likeliest.
pub fn attributed(parts: &[(f64, f64)], alpha: f64) -> Vec<bool> {
    let has_crossed = alpha > 0.0 && alpha <= 1.0 && combined(parts) >= -alpha.ln();
    largest(parts, refuted(parts, alpha).max(usize::from(has_crossed)))
}

/// How many e-BH refutes.
fn refuted(parts: &[(f64, f64)], alpha: f64) -> usize {
    if !(alpha > 0.0 && alpha <= 1.0) {
        return 0;
    }
    let mut falling = weighted(parts);
    falling.sort_by(|one, other| other.total_cmp(one));
    let passes = |(at, term): (usize, &f64)| (*term >= -(alpha * (at + 1) as f64).ln()).then_some(at + 1);
    falling.iter().enumerate().filter_map(passes).max().unwrap_or(0)
}

/// Those with the `many` largest weighted e-values, and others that equal the last of them.
fn largest(parts: &[(f64, f64)], many: usize) -> Vec<bool> {
    let terms = weighted(parts);
    let mut falling = terms.clone();
    falling.sort_by(|one, other| other.total_cmp(one));
    let least = many.checked_sub(1).and_then(|last| falling.get(last)).copied();
    terms.iter().map(|term| least.is_some_and(|least| *term >= least)).collect()
}

/// Logarithms of the e-values after closed testing: one that reaches `1/alpha` is refuted, with the chance of any false
/// refutation among all at most `alpha`. Never above what went in.
pub fn closed(log_e_values: &[f64]) -> Vec<f64> {
    let clean: Vec<f64> = log_e_values.iter().copied().map(finite).collect();
    let mut rising = clean.clone();
    rising.sort_by(f64::total_cmp);
    let adjust = |own: f64| {
        // The others, from the smallest: one of equal value stands for itself.
        let skip = rising.iter().position(|value| *value == own);
        let others = rising.iter().enumerate().filter(|(at, _)| Some(*at) != skip).map(|(_, value)| *value);
        let (mut sum, mut least) = (own, own);
        for (many, other) in others.enumerate() {
            sum = log_sum(sum, other);
            least = least.min(sum - ((many + 2) as f64).ln());
        }
        least
    };
    clean.iter().map(|own| adjust(*own)).collect()
}

/// `ln(w e)` of each part, with weights that sum to at most 1.
fn weighted(parts: &[(f64, f64)]) -> Vec<f64> {
    let weight = |weight: f64| if weight > 0.0 { weight.min(1.0) } else { 0.0 };
    let mut sorted: Vec<f64> = parts.iter().map(|(of, _)| weight(*of)).collect();
    sorted.sort_by(f64::total_cmp);
    // A sum that is above 1 by rounding alone is 1.
    let sum: f64 = sorted.iter().sum();
    let scale = if sum > 1.0 + 1e-9 { sum } else { 1.0 };
    parts.iter().map(|(of, log_e)| (weight(*of) / scale).ln() + finite(*log_e)).collect()
}

/// The logarithm of an e-value as it is counted.
fn finite(log_e: f64) -> f64 {
    if log_e.is_nan() { f64::NEG_INFINITY } else { log_e.min(f64::MAX) }
}

/// `ln(exp(one) + exp(other))`.
fn log_sum(one: f64, other: f64) -> f64 {
    let (high, low) = (one.max(other), one.min(other));
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Aim, CheckName, Direction, Selector, Sli, Text};

    fn check(weight: Weight, origin: Origin) -> Check {
        Check {
            name: CheckName::new("errors"),
            sli: Sli::Ratio { bad: Selector::metric("bad"), total: Selector::metric("all") },
            direction: Direction::HigherIsWorse,
            ratio_max: 1.25,
            limit: None,
            aim: Aim::Guard,
            weight,
            origin,
            rationale: Text::default(),
            lines: Vec::new(),
            split: Default::default(),
        }
    }

    #[test]
    fn half_the_weight_is_on_the_objectives_and_none_on_advisory_checks() {
        let (slo, model) = (check(Weight::Critical, Origin::Slo), check(Weight::Critical, Origin::Model));
        let (rule, advisory) = (check(Weight::Critical, Origin::Heuristic), check(Weight::Advisory, Origin::Slo));
        assert_eq!(weights(&[&slo, &model, &advisory, &rule]), [0.5, 0.25, 0.0, 0.25]);
        assert_eq!(weights(&[&slo, &slo]), [0.5, 0.5]);
        assert_eq!(weights(&[&model, &advisory]), [1.0, 0.0]);
        assert_eq!(weights(&[&advisory]), [0.0]);
        assert!(weights(&[]).is_empty());
    }

    #[test]
    fn nothing_proves_nothing() {
        assert_eq!(combined(&[]), f64::NEG_INFINITY);
        assert_eq!(combined(&[(0.0, 50.0)]), f64::NEG_INFINITY);
        assert!(attributed(&[], 0.001).is_empty() && closed(&[]).is_empty());
    }

    #[test]
    fn one_test_alone_needs_the_plain_threshold() {
        let threshold = 1000_f64.ln();
        assert!((combined(&[(1.0, 3.5)]) - 3.5).abs() < 1e-12);
        assert_eq!(attributed(&[(1.0, threshold + 1e-9)], 0.001), [true]);
        assert_eq!(attributed(&[(1.0, threshold - 1e-9)], 0.001), [false]);
        assert_eq!(closed(&[3.5]), [3.5]);
    }

    #[test]
    fn several_that_share_the_blame_are_all_named() {
        let bad = 2100_f64.ln();
        let parts = [(0.25, bad), (0.25, bad), (0.25, 0.0), (0.25, -3.0)];
        assert!(combined(&parts) >= 1000_f64.ln());
        assert_eq!(attributed(&parts, 0.001), [true, true, false, false]);
        let spread = [(0.5, 1500_f64.ln()), (0.5, 600_f64.ln())];
        assert_eq!(attributed(&spread, 0.001), [true, false], "the average passed: the likeliest is named");
    }

    #[test]
    fn closed_testing_refutes_one_that_stands_out_and_spares_the_rest() {
        let adjusted = closed(&[200_f64.ln(), 1_f64.ln(), 0.5_f64.ln()]);
        let expected = (201.5_f64 / 3.0).ln().min((200.5_f64 / 2.0).ln());
        assert!((adjusted[0] - expected).abs() < 1e-12, "{adjusted:?}");
        assert!(adjusted[1] <= 0.0 && adjusted[2] <= 0.5_f64.ln());
    }

    fn anything() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => -50.0..50.0,
            1 => Just(f64::INFINITY),
            1 => Just(f64::NEG_INFINITY),
            1 => Just(f64::NAN),
            1 => Just(f64::MAX),
            1 => Just(f64::MIN),
            1 => Just(0.0),
        ]
    }

    proptest! {
        #[test]
        fn the_average_is_no_nan_and_at_most_the_largest(parts in prop::collection::vec((anything(), anything()), 0..12)) {
            let average = combined(&parts);
            let largest = parts.iter().map(|(_, e)| finite(*e)).fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(!average.is_nan() && average < f64::INFINITY);
            prop_assert!(average == f64::NEG_INFINITY || average <= largest + 1e-9 * largest.abs().max(1.0));
        }

        #[test]
        fn the_order_of_the_checks_does_not_matter(
            parts in prop::collection::vec((0.0..0.3_f64, -20.0..20.0_f64), 1..10), by in 0_usize..10,
        ) {
            let mut turned = parts.clone();
            turned.rotate_left(by % parts.len());
            prop_assert_eq!(combined(&parts), combined(&turned));
            let mut blamed = attributed(&parts, 0.01);
            blamed.rotate_left(by % parts.len());
            prop_assert_eq!(blamed, attributed(&turned, 0.01));
            let values: Vec<f64> = parts.iter().map(|(_, e)| *e).collect();
            let again: Vec<f64> = turned.iter().map(|(_, e)| *e).collect();
            let mut closed_one = closed(&values);
            closed_one.rotate_left(by % parts.len());
            prop_assert_eq!(closed_one, closed(&again));
        }

        #[test]
        fn whatever_crosses_is_attributed_and_more_evidence_never_acquits(
            parts in prop::collection::vec((anything(), anything()), 1..10), alpha in 0.0001..0.5_f64, more in 0.0..10.0_f64,
        ) {
            let blamed = attributed(&parts, alpha);
            if combined(&parts) >= -alpha.ln() {
                prop_assert!(blamed.contains(&true));
            }
            let raised: Vec<_> = parts.iter().map(|(weight, e)| (*weight, e + more)).collect();
            let after = attributed(&raised, alpha);
            prop_assert!(blamed.iter().filter(|b| **b).count() <= after.iter().filter(|b| **b).count());
        }

        #[test]
        fn closed_testing_agrees_with_every_subset(values in prop::collection::vec(-6.0..12.0_f64, 1..8)) {
            let adjusted = closed(&values);
            for (at, adjusted) in adjusted.iter().enumerate() {
                let least = (0..1_usize << values.len())
                    .filter(|set| set >> at & 1 == 1)
                    .map(|set| {
                        let inside = values.iter().enumerate().filter(|(j, _)| set >> j & 1 == 1);
                        (inside.map(|(_, e)| e.exp()).sum::<f64>() / f64::from(set.count_ones())).ln()
                    })
                    .fold(f64::INFINITY, f64::min);
                prop_assert!((adjusted - least).abs() < 1e-9, "{adjusted} {least}");
            }
        }
    }
}
