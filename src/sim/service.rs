//! The generated service: how many requests each arm gets in a window, and how many of them fail.

use rand::{Rng, rngs::StdRng};
use rand_distr::{Distribution, Poisson};

use crate::domain::{Absence, Arm, Check, CheckId, Counts, Histogram, Measurement, Sli, Tally, Text, Window};

/// What is drawn for one window.
pub(super) struct Drawn {
    /// Mean requests on this arm.
    pub(super) requests: f64,
    /// Part of them that is bad.
    pub(super) bad_rate: f64,
}

/// A measurement of one check on one arm.
pub(super) fn measure(
    check: (CheckId, &Check),
    arm: Arm,
    window: Window,
    drawn: &Drawn,
    rng: &mut StdRng,
) -> Measurement {
    let total = poisson(drawn.requests, rng);
    let bad = poisson(drawn.requests * drawn.bad_rate, rng).min(total);
    let tally = match &check.1.sli {
        Sli::Latency { slow_above_seconds, .. } => {
            Tally::Histogram(Histogram { bounds: vec![*slow_above_seconds], counts: vec![total - bad, bad] })
        }
        Sli::Ratio { .. } | Sli::EventsPerTraffic { .. } | Sli::Level { .. } | Sli::Mix { .. } => {
            Tally::Counts(Counts { bad, total })
        }
    };
    Measurement { check: check.0, arm, window, tally: Ok(tally), parts: Vec::new() }
}

/// One of the ways in which telemetry has nothing to say.
pub(super) fn absence(rng: &mut StdRng) -> Absence {
    match rng.random_range(0..3) {
        0 => Absence::NoData,
        1 => Absence::Unavailable(Text::new("no answer")),
        _ => Absence::Malformed(Text::new("garbled")),
    }
}

fn poisson(mean: f64, rng: &mut StdRng) -> u64 {
    match Poisson::new(mean) {
        Ok(law) => law.sample(rng) as u64,
        Err(_) => 0,
    }
}
