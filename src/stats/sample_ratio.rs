//! Sample ratio: does the canary get the share of requests that was set for it?
//!
//! A split that does not split as it was told, or telemetry that counts one arm twice, makes every other comparison
//! doubtful. It says nothing of the new version, so it holds and never takes back.
//!
//! # The test
//! In each look, `x` is the canary's share of the requests of both arms: a number between 0 and 1. As long as its expected
//! value, given what came before, is at most `high`, a gambler who pays 1 and receives `1 + lambda (x - high)` has no edge
//! for any fixed `lambda` in `[0, 1/high]`; nor has one who receives `1 + lambda (low - x)` for `lambda` in
//! `[0, 1/(1 - low)]` while it is at least `low`. Each side plays several `lambda` at once and takes their mean; both
//! sides together are one e-process. A look is one bounded observation however its requests are clustered, so no model
//! of the noise is needed; what users who stay on their arm do to the expected share is what the tolerance is for:
//! `low` and `high` are the set share, as odds, divided by and times the tolerance.
//!
//! Sources: Lindon and Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022), for watching a sample
//! ratio all the time; Waudby-Smith and Ramdas (JRSS B, 2024) for the bets.
//!
//! # It ends
//! A fault that was mended must not hold for ever: once the last looks together lie within the tolerance again, the
//! finding is withdrawn and the bets begin anew.
//!
//! # Limits
//! A look counts alike however many requests are in it, so few requests make it slow, and one with fewer than
//! [`REQUESTS_MIN`] is left out. Too small a share is found far later than one too large: nobody can lose much by it.

use serde::{Deserialize, Serialize};

use crate::domain::Shares;

/// A look at fewer requests of both arms says nothing of their shares.
pub const REQUESTS_MIN: u64 = 20;
/// Chance of calling a split off that lies within the tolerance, at each stage.
pub const ALPHA: f64 = 0.001;
/// Looks that are asked whether it is right again.
const RECENT: usize = 10;
/// The stakes that are played at once, as parts of the largest that is allowed.
const STAKES: [f64; 4] = [0.05, 0.15, 0.4, 0.8];

/// The running test. It begins anew with each stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SampleRatio {
    high: [f64; STAKES.len()],
    low: [f64; STAKES.len()],
    /// Requests of the canary and of both in the last looks, the newest last.
    recent: Vec<(u64, u64)>,
    is_off: bool,
}

impl SampleRatio {
    /// Takes in one look. `set` is the share that was set, between 0 and 1, both excluded; `tolerance` is more than 1.
    pub fn observe(&mut self, canary: u64, both: u64, set: f64, tolerance: f64) {
        let is_sound = set > 0.0 && set < 1.0 && tolerance > 1.0 && tolerance.is_finite();
        if both < REQUESTS_MIN || canary > both || !is_sound {
            return;
        }
        if self.recent.len() >= RECENT {
            self.recent.remove(0);
        }
        self.recent.push((canary, both));
        let (low, high) = (at_odds(set, 1.0 / tolerance), at_odds(set, tolerance));
        let share = canary as f64 / both as f64;
        let bet = |log_wealth: &mut [f64], most: f64, gain: f64| {
            log_wealth.iter_mut().zip(STAKES).for_each(|(log, stake)| *log += (1.0 + stake * most * gain).ln());
        };
        bet(&mut self.high, 1.0 / high, share - high);
        bet(&mut self.low, 1.0 / (1.0 - low), low - share);
        let all = self.high.iter().chain(&self.low);
        let wealth = all.map(|log| log.exp()).sum::<f64>() / (2 * STAKES.len()) as f64;
        self.is_off |= wealth >= 1.0 / ALPHA;
        let seen = self.seen();
        if self.is_off && seen.is_some_and(|seen| (low..=high).contains(&seen)) && self.recent.len() == RECENT {
            *self = Self::default();
        }
    }

    /// Both shares, while they do not fit.
    pub fn off(&self, set: f64) -> Option<Shares> {
        let seen = self.seen()?;
        self.is_off.then_some(Shares { set, seen })
    }

    /// The canary's share of the last looks.
    fn seen(&self) -> Option<f64> {
        let (canary, both) = self.recent.iter().fold((0_u64, 0_u64), |(canary, both), (more, of)| {
            (canary.saturating_add(*more), both.saturating_add(*of))
        });
        (both > 0).then(|| canary as f64 / both as f64)
    }
}

/// The share whose odds are so many times those of `share`.
fn at_odds(share: f64, times: f64) -> f64 {
    let odds = share / (1.0 - share) * times;
    odds / (1.0 + odds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    /// After how many looks it is called off, watching a canary with this share of users who ask in bursts.
    fn looks(set: f64, real: f64, users: usize, rng: &mut StdRng) -> Option<usize> {
        // Each user stays on one arm, and some ask far more often than others.
        let users: Vec<(bool, f64)> =
            (0..users).map(|_| (rng.random_bool(real), (-rng.random::<f64>().max(1e-9).ln()).powi(2))).collect();
        let mut test = SampleRatio::default();
        (0..120).find(|_| {
            let (mut canary, mut both) = (0, 0);
            for (is_canary, often) in &users {
                let asked = if rng.random_bool(0.2) { (often * 10.0 * rng.random::<f64>()) as u64 } else { 0 };
                both += asked;
                canary += if *is_canary { asked } else { 0 };
            }
            test.observe(canary, both, set, 2.0);
            test.off(set).is_some()
        })
    }

    #[test]
    fn a_split_that_is_right_is_hardly_ever_called_off() {
        let mut rng = StdRng::seed_from_u64(11);
        for (set, users) in [(0.05, 2_000), (0.25, 300), (0.5, 300)] {
            let runs = 40;
            let wrong = (0..runs).filter(|_| looks(set, set, users, &mut rng).is_some()).count();
            assert!(wrong <= 1, "{wrong} of {runs} at {set} of {users} users");
        }
    }

    #[test]
    fn a_share_four_times_as_large_is_found_in_a_few_looks_and_a_lost_one_in_the_end() {
        let mut rng = StdRng::seed_from_u64(12);
        let mut found: Vec<usize> = (0..20).filter_map(|_| looks(0.05, 0.2, 2_000, &mut rng)).collect();
        found.sort_unstable();
        assert!(found.len() == 20 && found[10] <= 15, "{found:?}");
        assert!(looks(0.25, 0.001, 2_000, &mut rng).is_some());
    }

    #[test]
    fn it_is_withdrawn_once_the_split_is_right_again() {
        let mut test = SampleRatio::default();
        (0..30).for_each(|_| test.observe(60, 100, 0.05, 2.0));
        assert_eq!(test.off(0.05), Some(Shares { set: 0.05, seen: 0.6 }));
        (0..9).for_each(|_| test.observe(5, 100, 0.05, 2.0));
        assert!(test.off(0.05).is_some(), "one of the last looks was still off");
        test.observe(5, 100, 0.05, 2.0);
        assert_eq!(test, SampleRatio::default());
    }

    #[test]
    fn looks_that_say_nothing_and_numbers_that_make_no_sense_are_left_out() {
        let mut test = SampleRatio::default();
        let senseless = [
            (19, 19, 0.05, 2.0),
            (101, 100, 0.05, 2.0),
            (90, 100, 0.0, 2.0),
            (90, 100, 1.0, 2.0),
            (90, 100, f64::NAN, 2.0),
            (90, 100, 0.05, 1.0),
            (90, 100, 0.05, f64::INFINITY),
        ];
        for (canary, both, set, tolerance) in senseless {
            (0..100).for_each(|_| test.observe(canary, both, set, tolerance));
            assert_eq!(test, SampleRatio::default(), "{canary} of {both}, {set}, {tolerance}");
        }
        test.observe(20, 20, 0.05, 2.0);
        assert_ne!(test, SampleRatio::default(), "at the edge it counts");
    }
}
