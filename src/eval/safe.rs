//! The suite for the proof of safety: how often a canary that is exactly too bad is called safe, and how long it takes to
//! show that one like control is.
//!
//! The counts, families and history are those of [`super::counts`]. Reaching the proof at any moment of the two hours
//! counts, also where it is taken back later.

use rand::{SeedableRng, rngs::StdRng};

use super::{
    contender::{Contender, Known, Ours, SAFE_RATIO, Seen, Watcher, watch_each},
    counts::{history, percent},
    noise::{Family, PODS, SCRAPE_SECONDS, Scrape, Shape, draw},
    suite::{Case, Exception, Method, Suite, Words},
};
use crate::{domain::Evidence, stats::Calibration};

/// See the head of the file.
pub const SUITE: Suite = Suite {
    name: "safe",
    summary: "the proof that a canary is less than twice as bad, on failed requests of 20 pods, watched for two hours",
    methods,
    words: Words {
        harmless: "rollouts twice as bad",
        wrong: "called safe",
        harmful: "harmless rollouts",
        right: "shown safe",
        files: ("false-proofs", "times-to-proof"),
    },
    runs: 1_000,
    power_runs: 100,
    harmless,
    harmful,
    exceptions: &[Exception {
        method: BLIND,
        family: "split by user",
        reason: "one user who makes a quarter of all errors and stays on control makes the canary look good; only tenants \
                 that are told apart show it",
    }],
};

const OURS: &str = "tollgate";
const BLIND: &str = "tollgate, pods unknown";
const UNTAUGHT: &str = "tollgate, no history";

/// How long a rollout is watched.
const SCRAPES: usize = 480;
/// The margin of a check by default.
const RATIO_MAX: f64 = 1.1;
/// Part of the requests that fail on the old version.
const ERROR_RATE: f64 = 0.005;

fn methods() -> Vec<Method> {
    let promise = Some(Evidence::BETA);
    vec![
        Method::ours(OURS, "as shipped, pods and tenants are told apart", promise),
        Method::ours(BLIND, "where telemetry cannot tell pods and tenants apart", promise),
        Method::ours(UNTAUGHT, "as shipped, where there was nothing to learn from", promise),
    ]
}

fn harmless() -> Vec<Case> {
    cases("twice as bad", SAFE_RATIO)
}

fn harmful() -> Vec<Case> {
    cases("like control", 1.0)
}

fn cases(table: &'static str, ratio: f64) -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::ALL {
        for requests_per_scrape in [200.0, 2000.0] {
            for canary_pods in [1, 5] {
                let error_rate = ERROR_RATE;
                let shape = Shape { family, requests_per_scrape, canary_pods, error_rate, ratio, scrapes: SCRAPES };
                let setting = vec![
                    ("requests/s", format!("{}", (requests_per_scrape / SCRAPE_SECONDS).round())),
                    ("share", percent(canary_pods as f64 / PODS as f64)),
                    ("canary pods", canary_pods.to_string()),
                ];
                let run = move |seed| roll_out(&shape, seed);
                cases.push(Case { table, family: family.name(), setting, limit_seconds: None, run: Box::new(run) });
            }
        }
    }
    cases
}

fn roll_out(shape: &Shape, seed: u64) -> Vec<Option<u32>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let learnt = Calibration::learn(&history(shape, &mut rng));
    let scrapes = draw(shape, &mut rng);
    let known = Known {
        canary_pods: shape.canary_pods,
        control_pods: PODS - shape.canary_pods,
        error_rate: shape.error_rate,
        calibration: &learnt,
    };
    let ours = |calibration: Calibration, has_parts: bool| -> Watcher<'_, Scrape> {
        let mut ours = Ours::start(&known, RATIO_MAX, calibration, has_parts);
        Box::new(move |scrape| {
            ours.observe(&Seen::of(scrape));
            ours.is_shown_safe()
        })
    };
    watch_each(
        vec![ours(learnt.clone(), true), ours(learnt.clone(), false), ours(Calibration::untrusted(), true)],
        &scrapes,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_like_control_is_shown_safe_and_what_is_far_worse_is_not() {
        let after = |ratio| {
            let (family, error_rate) = (Family::Independent, ERROR_RATE);
            roll_out(&Shape { family, requests_per_scrape: 2000.0, canary_pods: 5, error_rate, ratio, scrapes: 240 }, 1)
        };
        assert!(after(1.0).iter().all(Option::is_some));
        assert_eq!(after(4.0), [None; 3]);
    }
}
