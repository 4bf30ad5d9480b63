//! Tallies in, evidence out. Pure, and valid at any moment: evidence may be read after every measurement without
//! raising the rate of false rollbacks above what was asked for.
//!
//! [`TESTS`] is the one list of tests: admission asks it which kinds of SLI can be decided, and [`Running::start`]
//! which test serves a check. A test is one file, whose head argues why it is right.

mod share_betting;

use serde::{Deserialize, Serialize};

pub use share_betting::ShareBetting;

use crate::domain::{Check, Counts, Direction, Sli, Tally};

/// One kind of test.
pub struct Kind {
    /// Its name in reports.
    pub name: &'static str,
    /// The kinds of SLI it decides, as [`Sli::kind`] names them.
    pub serves: &'static [&'static str],
    /// What it does, in a sentence for the dashboard's legend.
    pub summary: &'static str,
}

/// Every test there is.
pub const TESTS: &[Kind] = &[share_betting::KIND];

/// The kinds of SLI that some test decides.
pub fn served() -> Vec<&'static str> {
    TESTS.iter().flat_map(|kind| kind.serves).copied().collect()
}

/// What both arms counted in one window.
#[derive(Clone, Debug, PartialEq)]
pub struct Block<'a> {
    /// The old version.
    pub control: &'a Tally,
    /// The new version.
    pub canary: &'a Tally,
}

/// A test that may be read after every block.
pub trait SequentialTest {
    /// Takes in one window of both arms. A block that cannot be compared (another shape, nothing counted) changes
    /// nothing.
    fn observe(&mut self, check: &Check, block: &Block<'_>);

    /// Natural logarithm of the e-value against "not worse than `ratio_max`".
    fn log_e_value(&self) -> f64;
}

/// A test under way, as it is kept with its rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Running {
    /// See [`ShareBetting`].
    ShareBetting(ShareBetting),
}

impl Running {
    /// The test that serves a check. Admission lets only served kinds pass, so the count test is the only answer now.
    pub fn start(_check: &Check) -> Self {
        Self::ShareBetting(ShareBetting::start())
    }
}

impl SequentialTest for Running {
    fn observe(&mut self, check: &Check, block: &Block<'_>) {
        match self {
            Self::ShareBetting(test) => test.observe(check, block),
        }
    }

    fn log_e_value(&self) -> f64 {
        match self {
            Self::ShareBetting(test) => test.log_e_value(),
        }
    }
}

/// A tally as bad among all, the way `check` reads it; `None` for a tally of another shape.
///
/// Where less is worse, the good ones are what is missing: bad is what did not happen. Events per traffic have no
/// "did not happen", so there the events themselves are kept and the test swaps the arms.
pub fn counts(check: &Check, tally: &Tally) -> Option<Counts> {
    match (&check.sli, tally) {
        (Sli::Ratio { .. }, Tally::Counts(counts)) => Some(match check.direction {
            Direction::HigherIsWorse => *counts,
            Direction::LowerIsWorse => Counts { bad: counts.total.saturating_sub(counts.bad), total: counts.total },
        }),
        (Sli::EventsPerTraffic { .. }, Tally::Counts(counts)) => Some(*counts),
        (Sli::Latency { slow_above_seconds, .. }, Tally::Histogram(histogram)) => {
            Some(histogram.above(*slow_above_seconds))
        }
        (
            Sli::Ratio { .. }
            | Sli::EventsPerTraffic { .. }
            | Sli::Latency { .. }
            | Sli::Level { .. }
            | Sli::Mix { .. },
            Tally::Counts(_) | Tally::Histogram(_) | Tally::Samples(_) | Tally::Mix(_),
        ) => None,
    }
}
