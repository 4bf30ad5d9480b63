//! Flagger: a check a minute against a static bound, five failed checks in all.
//!
//! A check fails where the canary's success rate of the last minute is below the bound, or where there was nothing to see
//! ("no values found"). Failed checks add up over the rollout and are never forgotten. The rollback comes with the tick
//! *after* the counter has reached the threshold, since a tick looks at the counter before it runs the analysis.
//!
//! Source: fluxcd/flagger at 15bd6ad, `pkg/controller/scheduler.go`; an interval of one minute and a threshold of five are
//! the documentation's examples.

use super::{BOUND, Minute};
use crate::eval::contender::{Contender, Known, Seen};

const THRESHOLD: u32 = 5;

/// The failed checks of one canary analysis.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlaggerChecks {
    failed: u32,
    has_rolled_back: bool,
}

impl FlaggerChecks {
    /// Takes in the next check.
    pub fn take(&mut self, has_failed: bool) {
        if self.failed >= THRESHOLD {
            self.has_rolled_back = true;
        } else {
            self.failed += u32::from(has_failed);
        }
    }

    /// Whether there were too many.
    pub fn has_rolled_back(&self) -> bool {
        self.has_rolled_back
    }
}

/// One canary analysis of the failure rate.
#[derive(Clone, Debug)]
pub struct Flagger {
    bound: f64,
    minute: Minute,
    checks: FlaggerChecks,
}

impl Flagger {
    /// With the bound at twice the true rate.
    pub fn start(known: &Known<'_>) -> Self {
        Self { bound: BOUND * known.error_rate, minute: Minute::default(), checks: FlaggerChecks::default() }
    }
}

impl Contender for Flagger {
    fn observe(&mut self, seen: &Seen<'_>) {
        if let Some(minute) = self.minute.add(seen.canary) {
            self.checks.take(minute.rate().is_none_or(|rate| rate > self.bound));
        }
    }

    fn has_rolled_back(&self) -> bool {
        self.checks.has_rolled_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::peers::testing::{feed, started};

    #[test]
    fn five_failed_checks_however_far_apart_roll_back_with_the_next_tick() {
        let (good, bad) = ([(1, 100); 3], [(9, 100), (1, 100), (1, 100)]);
        let rollback = |scrapes: &[_]| feed(&mut started(0.01, Flagger::start), scrapes);
        assert_eq!(rollback(&[bad; 480]), Some(360));
        assert_eq!(rollback(&[good; 480]), None);
        let now_and_then = [[bad; 4].as_slice(), [good; 36].as_slice()].concat().repeat(12);
        assert_eq!(rollback(&now_and_then), Some(4 * 600 + 120));
        assert_eq!(rollback(&[[(0, 0), (1, 100), (1, 100)]; 480]), Some(360), "silence is a failed check");
    }
}
