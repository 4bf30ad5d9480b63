//! Betting on the canary's share of the bad events.
//!
//! # The argument
//! In one window, let `S` of the `K` bad events of both arms fall on the canary, and let `theta` be the canary's share
//! of that window's traffic. If the canary is at most `m` times as bad as control, its expected share of the bad events
//! is at most `pi = m theta / (m theta + 1 - theta)`, whatever the common level was: an outage or a surge that both
//! arms feel alike cancels out. A gambler who pays 1 and receives `1 + lambda (S/K - pi)` therefore has no edge for any
//! `lambda` in `[0, 1/pi]` fixed before the window, so the wealth is a non-negative supermartingale and by Ville's
//! inequality the chance that it *ever* reaches `1/alpha` is at most `alpha`. One window is one bounded observation, so
//! events that come in clusters inside it (retries) do no harm: no model of the noise is needed.
//!
//! The bet is a mixture over how much worse the canary might be (`r`) and how clustered the events are (`rho`), and over
//! the moment at which it turned bad: half the stake waits and is fed in at a constant rate, so a regression that
//! starts late is found as fast as one that was there from the beginning. A mixture of supermartingales is one.
//!
//! Sources: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B, 2024);
//! Shin, Ramdas and Rinaldo, "E-detectors" (2023) for the mixture over starts; Lindon and Malek, "Anytime-valid
//! inference for multinomial count data" (NeurIPS 2022) for conditioning on the total.
//!
//! # Limits
//! One window can multiply the wealth by at most `1 + 0.9 (1/pi - 1)`: at a share of 5% three or four bad windows are the
//! least that can prove anything, at 50% twelve to fourteen. Latency and gauges have tests of their own.
//!
//! The promise rests on the share that is expected of the canary, given all that came before. A user who has one version
//! keeps it, so a single client that fails all the time, whichever version it has, adds to the same arm in every window:
//! if it makes most of the errors and happens to be on the canary, it looks like a regression. The cure is to count
//! users rather than requests, or to judge again without the heaviest clients; counters alone cannot tell.

use serde::{Deserialize, Serialize};

use super::{Block, Kind, SequentialTest, Setting, counts};
use crate::domain::{Counts, Direction, Sli};

pub(super) const KIND: Kind = Kind {
    name: "share_betting",
    serves: &["ratio", "events_per_traffic"],
    summary: "bets on the canary's share of the bad events, given its share of the traffic",
};

/// How many times worse than tolerated the canary might be.
const WORSE: [f64; 5] = [1.5, 2.5, 5.0, 12.0, 40.0];
/// How clustered bad events might be inside one window: 0 is not at all, 1 is all of them one event.
const CLUSTERED: [f64; 3] = [0.0, 0.1, 1.0];
const CELLS: usize = WORSE.len() * CLUSTERED.len();
/// Part of the stake that bets from the start; the rest waits.
const STAKE_AT_START: f64 = 0.5;
/// Part of what waits that is fed in at each window.
const FED_EACH_WINDOW: f64 = 1.0 / 240.0;
/// Largest part of the possible stake that one bet may take, so that no window can ruin it.
const BET_MAX: f64 = 0.9;
/// Wealth is kept below this, far above any threshold, so that it stays finite; capping keeps the guarantee.
const WEALTH_MAX: f64 = 1e12;

/// The gambler's wealth, cell by cell, and the part of the stake that still waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShareBetting {
    wealth: [f64; CELLS],
    waiting: f64,
}

impl ShareBetting {
    /// A stake of 1, nothing seen.
    pub fn start() -> Self {
        Self { wealth: [STAKE_AT_START / CELLS as f64; CELLS], waiting: 1.0 - STAKE_AT_START }
    }

    /// Takes in one window: `bad` events of which `on_canary` fell on the canary, which had `theta` of the traffic.
    fn bet(&mut self, on_canary: f64, bad: f64, theta: f64, ratio_max: f64) {
        let expected = tolerated_share(ratio_max, theta);
        let fed = self.waiting * FED_EACH_WINDOW;
        self.waiting -= fed;
        for (cell, wealth) in self.wealth.iter_mut().enumerate() {
            let worse = WORSE[cell / CLUSTERED.len()];
            let clustered = CLUSTERED[cell % CLUSTERED.len()];
            let informative = bad / (1.0 + (bad - 1.0) * clustered);
            let supposed = tolerated_share(ratio_max * worse, theta);
            let lambda = ((supposed - expected) * informative / (expected * (1.0 - expected))).min(BET_MAX / expected);
            let factor = 1.0 + lambda * (on_canary / bad - expected);
            *wealth = ((*wealth + fed / CELLS as f64) * factor).min(WEALTH_MAX);
        }
    }
}

/// The share of bad events the canary may take if it is `ratio` times as bad and has `theta` of the traffic.
fn tolerated_share(ratio: f64, theta: f64) -> f64 {
    ratio * theta / (ratio * theta + 1.0 - theta)
}

impl SequentialTest for ShareBetting {
    fn observe(&mut self, setting: &Setting<'_>, block: &Block<'_>) {
        let check = setting.check;
        let both = (counts(check, &block.control.tally), counts(check, &block.canary.tally));
        let (Some(control), Some(canary)) = both else { return };
        if control.total == 0 || canary.total == 0 {
            return;
        }
        // Where fewer events are worse, control's events are the ones the canary failed to have.
        let (worse, better) = match (&check.sli, check.direction) {
            (Sli::EventsPerTraffic { .. }, Direction::LowerIsWorse) => (control, canary),
            _ => (canary, control),
        };
        let bad = worse.bad.saturating_add(better.bad);
        if bad == 0 {
            return;
        }
        let traffic = share_of(worse, better);
        self.bet(worse.bad as f64, bad as f64, traffic, check.ratio_max.max(1.0));
    }

    fn log_e_value(&self) -> f64 {
        (self.waiting + self.wealth.iter().sum::<f64>()).max(f64::MIN_POSITIVE).ln()
    }
}

/// `one`'s share of the traffic of both; both totals are above zero.
fn share_of(one: Counts, other: Counts) -> f64 {
    one.total as f64 / (one.total as f64 + other.total as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Check, CheckName, Origin, Reading, Selector, Tally, Text, Weight},
        stats::Calibration,
    };

    fn check(direction: Direction) -> Check {
        Check {
            name: CheckName::new("errors"),
            sli: Sli::Ratio { bad: Selector::metric("bad"), total: Selector::metric("all") },
            direction,
            ratio_max: 1.25,
            limit: None,
            weight: Weight::Critical,
            origin: Origin::Slo,
            rationale: Text::default(),
            lines: Vec::new(),
        }
    }

    fn observe(test: &mut ShareBetting, direction: Direction, control: &Tally, canary: &Tally) {
        let (check, calibration) = (check(direction), Calibration::untrusted());
        let setting = Setting { check: &check, calibration: &calibration, safe_ratio: 2.0 };
        let (control, canary) = (Reading::whole(control.clone()), Reading::whole(canary.clone()));
        let span = std::time::Duration::from_secs(15);
        test.observe(&setting, &Block { control: &control, canary: &canary, span });
    }

    /// Bad and all, of control and of the canary.
    type Windows<'a> = &'a [((u64, u64), (u64, u64))];

    fn after(blocks: Windows<'_>) -> f64 {
        let mut test = ShareBetting::start();
        for ((control_bad, control_total), (canary_bad, canary_total)) in blocks {
            let control = Tally::Counts(Counts { bad: *control_bad, total: *control_total });
            let canary = Tally::Counts(Counts { bad: *canary_bad, total: *canary_total });
            observe(&mut test, Direction::HigherIsWorse, &control, &canary);
        }
        test.log_e_value()
    }

    #[test]
    fn nothing_bad_proves_nothing() {
        assert_eq!(after(&[((0, 1000), (0, 10)); 100]), 0.0);
        assert_eq!(after(&[((0, 0), (5, 10)); 100]), 0.0, "without control there is nothing to compare");
    }

    #[test]
    fn a_few_errors_at_one_percent_are_proof_and_a_shared_outage_is_not() {
        let threshold = 1000.0_f64.ln();
        assert!(after(&[((0, 990), (2, 10)); 3]) > threshold);
        assert!(after(&[((300, 990), (3, 10)); 50]) < 1.0);
    }

    /// The definition of an e-value, by simulation: under the null its mean is at most one, and it passes 1/alpha on
    /// at most alpha of all paths. Bad events come in clusters of up to 20 that fall on one arm together.
    #[test]
    fn clustered_errors_keep_the_promised_rate() {
        use rand::{Rng, SeedableRng, rngs::StdRng};
        let mut rng = StdRng::seed_from_u64(7);
        let (theta, runs, alpha) = (0.05, 2_000, 0.01_f64);
        let mut crossed = 0;
        for _ in 0..runs {
            let mut test = ShareBetting::start();
            let mut highest = f64::NEG_INFINITY;
            for _ in 0..120 {
                let (mut canary, mut all) = (0.0, 0.0);
                for _ in 0..rng.random_range(0..6) {
                    let size = f64::from(rng.random_range(1..=20_u8));
                    all += size;
                    canary += if rng.random_bool(theta) { size } else { 0.0 };
                }
                if all > 0.0 {
                    test.bet(canary, all, theta, 1.0);
                }
                highest = highest.max(test.log_e_value());
            }
            crossed += u32::from(highest >= (1.0 / alpha).ln());
        }
        assert!(f64::from(crossed) <= alpha * f64::from(runs), "{crossed} of {runs} crossed 1/alpha");
    }

    #[test]
    fn fewer_sign_ins_are_found_where_less_is_worse() {
        let mut test = ShareBetting::start();
        let (control, canary) =
            (Tally::Counts(Counts { bad: 950, total: 1000 }), Tally::Counts(Counts { bad: 20, total: 50 }));
        for _ in 0..10 {
            observe(&mut test, Direction::LowerIsWorse, &control, &canary);
        }
        assert!(test.log_e_value() > 1000.0_f64.ln());
    }

    #[test]
    fn wealth_stays_finite_whatever_comes() {
        let huge = u64::MAX;
        assert!(after(&[((0, huge), (huge, huge)); 500]).is_finite());
        assert!(after(&[((huge, huge), (0, huge)); 500]).is_finite());
    }
}
