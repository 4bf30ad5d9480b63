//! Tallies in, evidence out. Pure, and valid at any moment: evidence may be read after every measurement without
//! raising the rate of false rollbacks above what was asked for.
//!
//! [`TESTS`] is the one list of tests: admission asks it which kinds of SLI can be decided, and [`Running::start`]
//! which test serves a check. A test is one file, whose head argues why it is right. What a test assumes of the noise it
//! learns from history ([`Calibration`]).

mod arms;
mod calibration;
mod counts;
mod equivalence;
mod latency;
mod level;
mod mix;
pub mod multiplicity;
pub mod no_control;
pub mod planning;
pub mod previous_stage;
mod quantile;
pub mod sample_ratio;
mod thinning;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use arms::{CHALLENGERS_MAX, Contest, Rank, Standing, Terms};
pub use calibration::{
    Calibration, History, Learner, Noise,
    pseudo_rollouts::{false_alarms, pretended},
};
pub use counts::{
    CountTest,
    share_process::{CanaryShare, ShareProcess, Stake},
};
pub use equivalence::{BelowRatio, Equivalence};
pub use latency::Latency;
pub use level::Level;
pub use mix::{
    Mix,
    drift_size::{DriftReading, kolmogorov_smirnov, kolmogorov_smirnov_of_samples, population_stability_index},
};
pub use quantile::{Quantile, quantile};
pub use thinning::Thinning;

use crate::domain::{Check, Concern, Counts, Direction, Interval, Reading, Sli, Tally};

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
pub const TESTS: &[Kind] = &[counts::KIND, latency::KIND, level::KIND, mix::KIND];

/// The kinds of SLI that some test decides.
pub fn served() -> Vec<&'static str> {
    TESTS.iter().flat_map(|kind| kind.serves).copied().collect()
}

/// What a test must know besides the data. It may change from block to block, as long as it is fixed before the block
/// is seen.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The check.
    pub check: &'a Check,
    /// What history says of its noise.
    pub calibration: &'a Calibration,
    /// A canary this many times as bad must not be called safe; above the check's `ratio_max`.
    pub safe_ratio: f64,
    /// How long one pod may fail by itself without that being proof against the change; [`POD_INCIDENT`] by default.
    pub pod_incident: Duration,
}

/// How long one pod may fail by itself, usually: what the tests' own limits on the growth of evidence are made for.
pub const POD_INCIDENT: Duration = Duration::from_secs(180);
/// Most that the proof of safety reaches: five times what `Evidence::BETA` asks for, so that a regression that begins
/// late soon takes it back.
const SAFETY_MAX: f64 = 100.0;
/// The time between two looks that the limits on the growth of evidence count in.
const LOOK_SECONDS: f64 = 15.0;
/// Evidence never grows by more than this in one block, as a logarithm: so that no factor is infinite.
const GROWTH_MAX: f64 = 300.0;

impl Setting<'_> {
    /// A limit on the growth of evidence that was made for [`POD_INCIDENT`], for the incident that is asked for.
    fn paced(&self, growth: f64) -> f64 {
        paced(growth, self.pod_incident)
    }

    /// How many seconds of a block evidence may grow for. A pod that fails for as long as is reckoned with can be in one
    /// block or across two; so that no two blocks are proof where twelve looks of 15 seconds are none, a longer one
    /// (after a gap in telemetry, or where looks are rare) counts for two thirds of that time.
    fn growing_seconds(&self, span: Duration) -> f64 {
        span.as_secs_f64().min((self.pod_incident.as_secs_f64() / 1.5).max(LOOK_SECONDS))
    }
}

fn paced(growth: f64, pod_incident: Duration) -> f64 {
    let times = POD_INCIDENT.as_secs_f64() / pod_incident.as_secs_f64();
    if times.is_finite() { (growth * times).min(GROWTH_MAX) } else { GROWTH_MAX }
}

/// What both arms showed in one window.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The old version.
    pub control: &'a Reading,
    /// The new version.
    pub canary: &'a Reading,
    /// How long the window was.
    pub span: Duration,
}

/// A test that may be read after every block.
pub trait SequentialTest {
    /// Takes in one window of both arms. A block that cannot be compared (another shape, an arm with nothing) changes
    /// nothing.
    fn observe(&mut self, setting: &Setting<'_>, block: &Block<'_>);

    /// Natural logarithm of the e-value against "not worse than tolerated". Finite, whatever was observed.
    fn log_e_value(&self) -> f64;

    /// Natural logarithm of the e-value against "at least `safe_ratio` times as bad". Finite; 0 where the test has none.
    fn log_e_safe(&self) -> f64 {
        0.0
    }

    /// How many times as bad as control the canary is, as far as the test can say: an estimate, and a range that holds
    /// it at every moment with 95%. A gauge's is a difference in its own unit.
    fn effect(&self) -> Option<(f64, Interval)> {
        None
    }

    /// What else stands out in the data.
    fn concern(&self) -> Option<Concern> {
        None
    }
}

/// A test under way, as it is kept with its rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Running {
    /// See [`CountTest`].
    Counts(Box<CountTest>),
    /// See [`Latency`].
    Latency(Box<Latency>),
    /// See [`Level`].
    Level(Box<Level>),
    /// See [`Mix`].
    Mix(Box<Mix>),
}

impl Running {
    /// The test that serves a check.
    pub fn start(check: &Check) -> Self {
        match &check.sli {
            Sli::Latency { .. } => Self::Latency(Box::new(Latency::start())),
            Sli::Level { .. } => Self::Level(Box::new(Level::start())),
            Sli::Mix { .. } => Self::Mix(Box::new(Mix::start())),
            Sli::Ratio { .. } | Sli::EventsPerTraffic { .. } | Sli::Liveness { .. } | Sli::Probe { .. } => {
                Self::Counts(Box::default())
            }
        }
    }

    fn test(&self) -> &dyn SequentialTest {
        match self {
            Self::Counts(test) => test.as_ref(),
            Self::Latency(test) => test.as_ref(),
            Self::Level(test) => test.as_ref(),
            Self::Mix(test) => test.as_ref(),
        }
    }
}

impl SequentialTest for Running {
    fn observe(&mut self, setting: &Setting<'_>, block: &Block<'_>) {
        match self {
            Self::Counts(test) => test.observe(setting, block),
            Self::Latency(test) => test.observe(setting, block),
            Self::Level(test) => test.observe(setting, block),
            Self::Mix(test) => test.observe(setting, block),
        }
    }

    fn log_e_value(&self) -> f64 {
        self.test().log_e_value()
    }

    fn log_e_safe(&self) -> f64 {
        self.test().log_e_safe()
    }

    fn effect(&self) -> Option<(f64, Interval)> {
        self.test().effect()
    }

    fn concern(&self) -> Option<Concern> {
        self.test().concern()
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
        (Sli::EventsPerTraffic { .. } | Sli::Liveness { .. } | Sli::Probe { .. }, Tally::Counts(counts)) => {
            Some(*counts)
        }
        (Sli::Latency { slow_above_seconds, .. }, Tally::Histogram(histogram)) => {
            Some(histogram.above(*slow_above_seconds))
        }
        (
            Sli::Ratio { .. }
            | Sli::EventsPerTraffic { .. }
            | Sli::Latency { .. }
            | Sli::Level { .. }
            | Sli::Mix { .. }
            | Sli::Liveness { .. }
            | Sli::Probe { .. },
            Tally::Counts(_) | Tally::Histogram(_) | Tally::Samples(_) | Tally::Mix(_),
        ) => None,
    }
}

/// A short stand-in for a name (FNV-1a), so that state stays small. Two names that meet in one value are taken for one.
fn name_hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
