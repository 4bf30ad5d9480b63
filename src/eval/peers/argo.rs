//! Argo Rollouts: an analysis of five measurements, a minute apart, against a static bound.
//!
//! A measurement fails where the canary's failure rate of the last minute is above the bound; the analysis fails, and the
//! rollout is aborted, once more measurements than `failureLimit` have failed. After five measurements it has passed, and
//! nothing looks any more. A minute without traffic does not fail: what an empty answer means is up to the expression.
//!
//! Source: argoproj/argo-rollouts at 9f8d111, `analysis/analysis.go` (`failed > failureLimit`); the documentation has a
//! `failureLimit` of 0 by default and of 3 in its examples, and no comparison with the old version unless the query makes
//! one.

use super::{BOUND, Minute};
use crate::eval::contender::{Contender, Known, Seen};

const MEASUREMENTS: u32 = 5;

/// One analysis.
#[derive(Clone, Debug)]
pub struct Argo {
    bound: f64,
    failure_limit: u32,
    minute: Minute,
    measured: u32,
    failed: u32,
}

impl Argo {
    /// With the documentation's `failureLimit`.
    pub fn start(known: &Known<'_>, failure_limit: u32) -> Self {
        Self { bound: BOUND * known.error_rate, failure_limit, minute: Minute::default(), measured: 0, failed: 0 }
    }
}

impl Contender for Argo {
    fn observe(&mut self, seen: &Seen<'_>) {
        if let Some(minute) = self.minute.add(seen.canary)
            && self.measured < MEASUREMENTS
        {
            self.measured += 1;
            self.failed += u32::from(minute.rate().is_some_and(|rate| rate > self.bound));
        }
    }

    fn has_rolled_back(&self) -> bool {
        self.failed > self.failure_limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::peers::testing::{feed, started};

    #[test]
    fn more_failures_than_the_limit_abort_and_after_five_measurements_nothing_does() {
        let (good, bad) = ([(1, 100); 3], [(9, 100), (1, 100), (1, 100)]);
        let abort = |limit, scrapes: &[_]| feed(&mut started(0.01, |known| Argo::start(known, limit)), scrapes);
        assert_eq!(abort(0, &[bad; 480]), Some(60));
        assert_eq!(abort(3, &[bad; 480]), Some(240));
        assert_eq!(abort(0, &[[good; 20].as_slice(), [bad; 400].as_slice()].concat()), None);
        assert_eq!(abort(3, &[[bad; 12].as_slice(), [good; 400].as_slice()].concat()), None);
        assert_eq!(abort(0, &[[(0, 0), (1, 100), (1, 100)]; 20]), None, "an empty minute does not fail");
    }
}
