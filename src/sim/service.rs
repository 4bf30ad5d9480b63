//! The generated service: how many requests each arm gets in a window, and how many of them fail.

use rand::{Rng, rngs::StdRng};
use rand_distr::{Distribution, Poisson};

use crate::domain::{
    Absence, Arm, Check, CheckId, Counts, Histogram, Measurement, Part, PartKind, Sli, Tally, Text, Window,
};

/// What is drawn for one window.
pub(super) struct Drawn {
    /// Mean requests on this arm.
    pub(super) requests: f64,
    /// Part of them that is bad.
    pub(super) bad_rate: f64,
    /// Pods that telemetry tells apart; 0 where it cannot.
    pub(super) pods: u8,
}

/// A measurement of one check on one arm.
pub(super) fn measure(
    check: (CheckId, &Check),
    arm: Arm,
    window: Window,
    drawn: &Drawn,
    rng: &mut StdRng,
) -> Measurement {
    let pods: Vec<Tally> = (0..drawn.pods.max(1)).map(|_| tally(&check.1.sli, drawn, rng)).collect();
    let whole = pods.iter().skip(1).fold(pods.first().cloned(), |sum, pod| sum?.plus(pod));
    let part = |(i, tally)| Part { kind: PartKind::Pod, name: Text::new(format!("{arm}-{i}")), tally };
    let parts = if drawn.pods > 0 { pods.into_iter().enumerate().map(part).collect() } else { Vec::new() };
    Measurement { check: check.0, arm, window, tally: whole.ok_or(Absence::NoData), parts, estimated: false }
}

/// What one pod of an arm counts.
fn tally(sli: &Sli, drawn: &Drawn, rng: &mut StdRng) -> Tally {
    let requests = drawn.requests / f64::from(drawn.pods.max(1));
    let total = poisson(requests, rng);
    let bad = poisson(requests * drawn.bad_rate, rng).min(total);
    match sli {
        Sli::Latency { slow_above_seconds, .. } => {
            Tally::Histogram(Histogram { bounds: vec![*slow_above_seconds], counts: vec![total - bad, bad] })
        }
        Sli::Ratio { .. } | Sli::EventsPerTraffic { .. } | Sli::Liveness { .. } | Sli::Probe { .. } => {
            Tally::Counts(Counts { bad, total })
        }
        Sli::Level { .. } => Tally::Samples(vec![bad as f64 / total.max(1) as f64]),
        Sli::Mix { .. } => Tally::Mix(vec![("bad".into(), bad), ("good".into(), total - bad)]),
    }
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
