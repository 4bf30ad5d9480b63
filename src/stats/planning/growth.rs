//! What one block of evidence is expected to add: the mean logarithm of the factor by which a test's wealth grows.
//!
//! # The argument
//! The canary's share of the bad events, given how many there are, is all that a test of counts sees. If the canary is
//! `r` times as bad and `m` times is tolerated, one independent bad event adds `KL(pi(r) || pi(m))` in the mean, where
//! `pi(x) = x theta / (x theta + 1 - theta)`, and no test can add more (Wald). Two things slow a test of whole blocks
//! down: what one block may multiply the wealth by is bounded, and events that come together count as fewer. Both are
//! here as the tests have them: the factor of each cell of the mixture is averaged over the law of the block, and the
//! best cell's is the growth, since the mixture ends up in it.
//!
//! The bad events of either arm are taken as Poisson in units of `phi = 1 + (K - 1) rho` events, `K` being the mean of
//! both arms and `rho` the dispersion (or in units of the inflation, if that is more): `K` events that are correlated like this say as much as `K / phi` independent
//! ones.

use super::Pace;

/// The cells of the tests: how many times worse than tolerated the canary might be.
const WORSE: [f64; 5] = [1.5, 2.5, 5.0, 12.0, 40.0];
/// How clustered a bet takes the events of one block to be.
const CLUSTERED: [f64; 3] = [0.0, 0.1, 1.0];
/// Largest part of the possible stake that one bet may take.
const BET_MAX: f64 = 0.9;

/// A mean up to which a count is taken outcome by outcome; above, at the points of [`NORMAL_POINTS`].
const ENUMERATED_MAX: f64 = 6.0;
/// Points and weights of the five-point Gauss-Hermite rule for the standard normal law.
const NORMAL_POINTS: [(f64, f64); 5] = [
    (-2.856_970_013_872_806, 0.011_257_411_327_720_691),
    (-1.355_626_179_974_266, 0.222_075_922_005_612_6),
    (0.0, 0.533_333_333_333_333_3),
    (1.355_626_179_974_266, 0.222_075_922_005_612_6),
    (2.856_970_013_872_806, 0.011_257_411_327_720_691),
];

/// What a block is expected to hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Expected {
    /// Bad events on the arm that is suspected, in the mean.
    pub(super) suspect: f64,
    /// Bad events on the other arm, in the mean.
    pub(super) other: f64,
    /// The suspected arm's part of the traffic, above 0 and below 1.
    pub(super) share: f64,
    /// How bad events come together.
    pub(super) clustered: Clustered,
}

/// How many correlated events weigh as much as one independent event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Clustered {
    /// Correlation between the events of one block, 0 to 1.
    pub(super) dispersion: f64,
    /// No fewer than this, 1 or more.
    pub(super) inflation: f64,
}

impl Clustered {
    fn units(self, bad: f64) -> f64 {
        (1.0 + (bad - 1.0).max(0.0) * self.dispersion).max(self.inflation)
    }
}

/// One outcome of a block, in the mean of many.
struct Outcome {
    probability: f64,
    /// Bad events of both arms, above 0.
    bad: f64,
    /// The suspected arm's part of them.
    part: f64,
}

/// Mean logarithm of a block's factor against "the suspected arm is at most `ratio_max` times as bad"; not above 0 where
/// the test learns nothing. `block_most` bounds what one block adds to a likelihood ratio.
pub(super) fn growth(expected: &Expected, ratio_max: f64, pace: Pace, block_most: f64) -> f64 {
    let outcomes = outcomes(expected);
    let tolerated = part_of_bad(ratio_max, expected.share);
    if !(tolerated > 0.0 && tolerated < 1.0) {
        return 0.0;
    }
    let best = |logs: &mut dyn Iterator<Item = f64>| logs.fold(0.0_f64, f64::max);
    let mean = |log: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(|o| o.probability * log(o)).sum::<f64>();
    let supposed: Vec<f64> = WORSE.iter().map(|worse| part_of_bad(ratio_max * worse, expected.share)).collect();
    let betting = best(&mut supposed.iter().flat_map(|supposed| {
        CLUSTERED.iter().map(|clustered| mean(&|outcome| bet(outcome, *supposed, tolerated, *clustered)))
    }));
    match pace {
        Pace::Betting => betting,
        Pace::Averaged => best(
            &mut supposed
                .iter()
                .map(|supposed| {
                    mean(&|outcome| likelihood(outcome, *supposed, tolerated, expected.clustered).min(block_most))
                })
                .chain([betting]),
        ),
    }
}

/// The part of the bad events that an arm takes if it is `ratio` times as bad and has `share` of the traffic.
pub(super) fn part_of_bad(ratio: f64, share: f64) -> f64 {
    ratio * share / (ratio * share + 1.0 - share)
}

fn bet(outcome: &Outcome, supposed: f64, tolerated: f64, clustered: f64) -> f64 {
    let informative = outcome.bad / (1.0 + (outcome.bad - 1.0).max(0.0) * clustered);
    let stake = ((supposed - tolerated) * informative / (tolerated * (1.0 - tolerated))).min(BET_MAX / tolerated);
    (stake * (outcome.part - tolerated)).ln_1p()
}

fn likelihood(outcome: &Outcome, supposed: f64, tolerated: f64, clustered: Clustered) -> f64 {
    let together = clustered.units(outcome.bad);
    let here = outcome.part * (supposed / tolerated).ln();
    let elsewhere = (1.0 - outcome.part) * ((1.0 - supposed) / (1.0 - tolerated)).ln();
    outcome.bad * (here + elsewhere) / together
}

fn outcomes(expected: &Expected) -> Vec<Outcome> {
    let together = expected.clustered.units(expected.suspect + expected.other);
    let (suspect, other) = (law(expected.suspect / together), law(expected.other / together));
    let pairs = suspect.iter().flat_map(|one| other.iter().map(move |other| (*one, *other)));
    pairs
        .filter(|((here, _), (elsewhere, _))| here + elsewhere > 0.0)
        .map(|((here, chance), (elsewhere, other_chance))| Outcome {
            probability: chance * other_chance,
            bad: (here + elsewhere) * together,
            part: here / (here + elsewhere),
        })
        .collect()
}

/// A Poisson law as values and their probabilities.
fn law(mean: f64) -> Vec<(f64, f64)> {
    if mean > ENUMERATED_MAX {
        return NORMAL_POINTS.iter().map(|(z, weight)| ((mean + z * mean.sqrt()).max(0.0), *weight)).collect();
    }
    let most = (mean + 5.0 * mean.sqrt() + 4.0).ceil();
    let mut law = vec![(0.0, (-mean).exp())];
    let mut n = 0.0;
    while n < most {
        let last = law.last().map_or(0.0, |(_, probability)| *probability);
        n += 1.0;
        law.push((n, last * mean / n));
    }
    law
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Clustered = Clustered { dispersion: 0.0, inflation: 1.0 };

    fn kl(p: f64, q: f64) -> f64 {
        p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln()
    }

    #[test]
    fn a_rare_event_adds_the_divergence_of_the_shares() {
        // The canary is as bad as the cell 5 supposes, so that the best cell is the right one.
        let (share, ratio_max, ratio) = (0.05, 1.25, 6.25);
        let rate = 1e-3;
        let expected = Expected { suspect: rate * share * ratio, other: rate * (1.0 - share), share, clustered: ALONE };
        let limit = (expected.suspect + expected.other) * kl(part_of_bad(ratio, share), part_of_bad(ratio_max, share));
        for pace in [Pace::Betting, Pace::Averaged] {
            let growth = growth(&expected, ratio_max, pace, 10_f64.ln());
            assert!((growth / limit - 1.0).abs() < 0.01, "{growth} against {limit}");
        }
    }

    #[test]
    fn one_block_adds_no_more_than_its_factor_may() {
        let expected = Expected { suspect: 1e9, other: 1e3, share: 0.25, clustered: ALONE };
        let bound = (1.0 + 0.9 * (1.0 / part_of_bad(1.25, 0.25) - 1.0)).ln();
        let betting = growth(&expected, 1.25, Pace::Betting, 2.0);
        assert!(betting <= bound && betting > 0.9 * bound, "{betting} against {bound}");
        assert!(growth(&expected, 1.25, Pace::Averaged, 2.0) <= 2.0);
    }

    #[test]
    fn clustered_events_say_less() {
        let with = |dispersion| {
            let clustered = Clustered { dispersion, inflation: 1.0 };
            let expected = Expected { suspect: 20.0, other: 60.0, share: 0.05, clustered };
            growth(&expected, 1.25, Pace::Averaged, 2.0)
        };
        assert!(with(0.0) > with(0.1) && with(0.1) > with(1.0) && with(1.0) > 0.0);
    }
}
