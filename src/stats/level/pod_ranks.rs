//! Whether the canary's pods stand above control's, by ranks.
//!
//! # The argument
//! If the canary is harmless, its pods and control's are drawn alike, each with its own lasting offset and its own slow
//! wobble: whichever pods they are, every way to pick the canary's `c` among all `n` by rank is as likely as any other. A
//! weight `q^(n - rank)` for each pod of the canary, multiplied up and divided by its average over all picks, therefore has
//! mean one: an e-value that knows nothing of variance, tails or autocorrelation. Its largest value is near the number of
//! picks (5 of 20: 15,504), so a handful of pods can prove in one look what one pod cannot prove in an hour. A canary that
//! is less bad than the margin has lower ranks, and a smaller value; ties rank the canary lowest.
//!
//! One such e-value is valid at one moment. Several of them, at moments fixed beforehand and each with its own part of the
//! stake, are valid together.
//!
//! # Limits
//! What all canary pods have in common and control's pods have not, such as being freshly started or on newer machines, is
//! a difference, and is found. With one pod the value is at most the number of pods.

/// Weight of a rank against the next one above it.
const NEXT_LOWER: f64 = 0.4;

/// The e-value of the canary's pods standing above control's by more than what was taken off `canary` beforehand; 1 where
/// either arm has none. Values are finite.
pub(super) fn e_value(canary: &[f64], control: &[f64]) -> f64 {
    if canary.is_empty() || control.is_empty() {
        return 1.0;
    }
    let mut pods: Vec<(f64, bool)> =
        canary.iter().map(|value| (*value, false)).chain(control.iter().map(|value| (*value, true))).collect();
    // Highest first; among equals control's come first, so that a tie never speaks against the canary.
    pods.sort_by(|one, other| other.0.total_cmp(&one.0).then(other.1.cmp(&one.1)));
    let (mut weight, mut observed) = (1.0, 1.0);
    // `picks[j]` is the sum, over all ways to pick j of the pods so far, of the product of their weights, divided by the
    // number of ways there are in the end.
    let mut picks = vec![0.0; canary.len() + 1];
    let mut ways = vec![0.0; canary.len() + 1];
    if let (Some(first), Some(way)) = (picks.first_mut(), ways.first_mut()) {
        (*first, *way) = (1.0, 1.0);
    }
    for (_, is_control) in &pods {
        if !is_control {
            observed *= weight;
        }
        add_one(&mut picks, weight);
        add_one(&mut ways, 1.0);
        weight *= NEXT_LOWER;
    }
    match (picks.last(), ways.last()) {
        (Some(sum), Some(ways)) if *sum > 0.0 && ways.is_finite() => observed * ways / sum,
        _ => 1.0,
    }
}

/// One more pod that may be picked, of this weight.
fn add_one(picks: &mut [f64], weight: f64) {
    for picked in (1..picks.len()).rev() {
        let one_less = picks.get(picked - 1).copied().unwrap_or(0.0);
        if let Some(sum) = picks.get_mut(picked) {
            *sum += weight * one_less;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_over_all_picks_is_one() {
        let values = [3.0, -1.0, 7.0, 2.5, 0.0, 9.0, 4.0];
        let (mut sum, mut picks) = (0.0, 0.0);
        for mask in 0..1_u32 << values.len() {
            if mask.count_ones() == 3 {
                let arm = |wanted: bool| -> Vec<f64> {
                    let picked = |i: &usize| (mask >> i & 1 == 1) == wanted;
                    (0..values.len()).filter(picked).map(|i| values[i]).collect()
                };
                sum += e_value(&arm(true), &arm(false));
                picks += 1.0;
            }
        }
        assert!((sum / picks - 1.0_f64).abs() < 1e-9, "{sum} over {picks}");
    }

    #[test]
    fn five_pods_above_fifteen_are_strong_evidence_and_equal_ones_are_none() {
        let control: Vec<f64> = (0..15).map(f64::from).collect();
        assert!(e_value(&[20.0; 5], &control) > 6_000.0);
        assert!(e_value(&[20.0], &control) < 16.0);
        assert!(e_value(&[1.0; 5], &[1.0; 15]) < 1e-9, "a tie is not above");
        assert_eq!(e_value(&[], &control), 1.0);
    }
}
