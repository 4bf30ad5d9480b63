//! How others decide, on the same draws: one file a rival, each with the source of its procedure in its head.
//!
//! Where a procedure has a setting, it gets what its documentation recommends or, where that is to the rival's advantage,
//! something better: static bounds are told the true failure rate and stand at twice that.

mod argo;
mod beta_binomial;
mod chi_square;
mod flagger;
mod kayenta;
mod likelihood_ratio;
mod stability_index;
mod z_test;

pub use argo::Argo;
pub use beta_binomial::BetaBinomial;
pub use chi_square::ChiSquare;
pub use flagger::{Flagger, FlaggerChecks};
pub use kayenta::{Kayenta, KayentaJudge};
pub use likelihood_ratio::LikelihoodRatio;
pub use stability_index::StabilityIndex;
pub use z_test::ZTest;

use super::noise::SCRAPE_SECONDS;
use crate::domain::Counts;

/// A static bound stands at this many times the true failure rate of the old version.
const BOUND: f64 = 2.0;

/// Adds scrapes up to minutes.
#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    sum: Counts,
    scrapes: u32,
}

impl Minute {
    /// Takes a scrape in; every fourth time, the minute that is full.
    fn add(&mut self, scrape: Counts) -> Option<Counts> {
        self.sum = self.sum.plus(scrape);
        self.scrapes += 1;
        if f64::from(self.scrapes) * SCRAPE_SECONDS < 60.0 {
            return None;
        }
        Some(std::mem::take(self).sum)
    }
}

#[cfg(test)]
mod testing {
    use crate::{
        domain::Counts,
        eval::{
            contender::{Contender, Known, Seen, seconds},
            noise::Scrape,
        },
        stats::Calibration,
    };

    /// What a rival is told at the start of a rollout whose old version fails at `error_rate`.
    pub(super) fn started<T>(error_rate: f64, start: impl Fn(&Known<'_>) -> T) -> T {
        let calibration = Calibration::untrusted();
        start(&Known { canary_pods: 1, control_pods: 19, error_rate, calibration: &calibration })
    }

    /// Feeds (bad, all) of canary, control and baseline; the second at which it rolled back.
    pub(super) fn feed(contender: &mut dyn Contender, scrapes: &[[(u64, u64); 3]]) -> Option<u32> {
        let pod = |(bad, total)| vec![Counts { bad, total }];
        scrapes
            .iter()
            .position(|[canary, control, baseline]| {
                let scrape = Scrape {
                    canary: pod(*canary),
                    control: pod(*control),
                    baseline: pod(*baseline),
                    tenants: Vec::new(),
                };
                contender.observe(&Seen::of(&scrape));
                contender.has_rolled_back()
            })
            .map(seconds)
    }
}
