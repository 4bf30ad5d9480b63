//! How fast control's bad events come: now, lately and usually. A surge is told by it, from past blocks only.

use serde::{Deserialize, Serialize};

use crate::domain::Counts;

/// Control's rate is followed with these memories, in seconds: now, lately, and usually.
const NOW_SECONDS: f64 = 30.0;
const LATELY_SECONDS: f64 = 240.0;
const USUALLY_SECONDS: f64 = 3600.0;

/// Control's bad events per second and canary-sized unit: how fast they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pulse {
    /// Bad events and requests of control, with the memories above.
    pub(super) now: (f32, f32),
    pub(super) lately: (f32, f32),
    pub(super) usually: (f32, f32),
}

/// Bad for each request of a followed sum; `None` where there was none.
pub(super) fn rate(sums: (f32, f32)) -> Option<f64> {
    (sums.1 > 0.0).then(|| f64::from(sums.0) / f64::from(sums.1))
}

impl Pulse {
    pub(super) fn follow(&mut self, control: Counts, seconds: f64, usual_max: f64) {
        let usual_bad = if usual_max > 0.0 {
            (control.bad as f64).min(usual_max * control.total as f64)
        } else {
            control.bad as f64
        };
        for (sums, memory, bad) in [
            (&mut self.now, NOW_SECONDS, control.bad as f64),
            (&mut self.lately, LATELY_SECONDS, control.bad as f64),
            (&mut self.usually, USUALLY_SECONDS, usual_bad),
        ] {
            let keep = (-seconds / memory).exp();
            sums.0 = (f64::from(sums.0) * keep + bad).min(1e30) as f32;
            sums.1 = (f64::from(sums.1) * keep + control.total as f64).min(1e30) as f32;
        }
    }
}
