//! The suite for bad requests among all: ours and every rival on the same drawn counts.
//!
//! A rollout is watched for two hours, scrape by scrape. What our test knows of the noise it learnt from an hour of 20
//! stable pods of the same family, drawn afresh for every rollout; so the errors of learning are in the figures.

use std::time::Duration;

use rand::{SeedableRng, rngs::StdRng};

use super::{
    contender::{ALPHA, Known, Ours, Start, watch},
    limit,
    noise::{Family, PODS, SCRAPE_SECONDS, Shape, draw, draw_weighted},
    peers::{Argo, BetaBinomial, Flagger, Kayenta, LikelihoodRatio, ZTest},
    suite::{Case, Exception, Method, Suite, Words},
};
use crate::stats::{Calibration, History};

/// See the head of the file.
pub const SUITE: Suite = Suite {
    name: "counts",
    summary: "failed requests among all, of 20 pods, watched for two hours",
    methods: || ENTRANTS.iter().map(|(method, _)| *method).collect(),
    words: Words::ROLLBACKS,
    runs: 10_000,
    power_runs: 200,
    harmless,
    harmful,
    exceptions: &[Exception {
        method: BLIND,
        family: "split by user",
        reason: "one user who fails all the time and keeps its arm cannot be told from a regression by counters alone",
    }],
};

/// How long a rollout is watched.
const SCRAPES: usize = 480;
/// How long the stable period is from which our test learns.
const LEARNT_SCRAPES: usize = 240;
const BLIND: &str = "tollgate, pods unknown";
/// The margin of a check by default.
const RATIO_MAX: f64 = 1.1;

/// Who watches.
const ENTRANTS: &[(Method, Start)] = &[
    (
        Method::ours(
            "tollgate",
            "as shipped: 1.1 times as bad is tolerated, pods and tenants are told apart",
            Some(ALPHA),
        ),
        |known| Box::new(Ours::start(known, RATIO_MAX, known.calibration.clone(), true)),
    ),
    (Method::ours("tollgate, no margin", "the same, and nothing worse than control is tolerated", None), |known| {
        Box::new(Ours::start(known, 1.0, known.calibration.clone(), true))
    }),
    (Method::ours(BLIND, "as shipped, where telemetry cannot tell pods and tenants apart", Some(ALPHA)), |known| {
        Box::new(Ours::start(known, RATIO_MAX, known.calibration.clone(), false))
    }),
    (Method::ours("tollgate, no history", "as shipped, where there was nothing to learn from", Some(ALPHA)), |known| {
        Box::new(Ours::start(known, RATIO_MAX, Calibration::untrusted(), true))
    }),
    (Method::rival("likelihood ratio", "the plain conditional likelihood ratio, mixed over ratios"), |known| {
        Box::new(LikelihoodRatio::start(known))
    }),
    (Method::rival("beta-binomial", "the sequential test for counts that Netflix describes"), |known| {
        Box::new(BetaBinomial::start(known))
    }),
    (Method::rival("z-test, peeking", "two proportions, looked at after every scrape, p < 0.001"), |known| {
        Box::new(ZTest::start(known))
    }),
    (Method::rival("Kayenta, 5 min", "Mann-Whitney against a baseline of its own, every 5 minutes"), |known| {
        Box::new(Kayenta::start(known, 5))
    }),
    (Method::rival("Kayenta, 10 min", "the same every 10 minutes"), |known| Box::new(Kayenta::start(known, 10))),
    (Method::rival("Kayenta, 30 min", "the same every 30 minutes"), |known| Box::new(Kayenta::start(known, 30))),
    (Method::rival("Argo, limit 0", "5 measurements, a minute apart, bound at twice the true rate"), |known| {
        Box::new(Argo::start(known, 0))
    }),
    (Method::rival("Argo, limit 3", "the same with failureLimit 3, as in its documentation"), |known| {
        Box::new(Argo::start(known, 3))
    }),
    (Method::rival("Flagger", "a check a minute, 5 failed ones in all, bound at twice the true rate"), |known| {
        Box::new(Flagger::start(known))
    }),
];

/// Part of the requests that fail on the old version, in the tables of noise.
const ERROR_RATE: f64 = 0.005;

fn harmless() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::ALL {
        for requests_per_scrape in [200.0, 2000.0] {
            for canary_pods in [1, 3, 5] {
                let shape = Shape {
                    family,
                    requests_per_scrape,
                    canary_pods,
                    error_rate: ERROR_RATE,
                    ratio: 1.0,
                    scrapes: SCRAPES,
                };
                let share = canary_pods as f64 / PODS as f64;
                let setting = vec![
                    ("requests a scrape", format!("{requests_per_scrape}")),
                    ("share", percent(share)),
                    ("canary pods", canary_pods.to_string()),
                ];
                cases.push(case("harmless", shape, share, setting));
            }
        }
    }
    cases
}

/// The grid on independent requests, and a few ratios in every family.
fn harmful() -> Vec<Case> {
    let mut cases = Vec::new();
    for error_rate in [0.0001, 0.001, 0.01] {
        for ratio in [2.0, 5.0, 10.0] {
            for share in [0.01, 0.05, 0.25] {
                for requests_per_second in [10.0, 100.0, 1000.0] {
                    for canary_pods in [5, 1] {
                        let requests_per_scrape = requests_per_second * SCRAPE_SECONDS;
                        let family = Family::Independent;
                        let shape =
                            Shape { family, requests_per_scrape, canary_pods, error_rate, ratio, scrapes: SCRAPES };
                        cases.push(harmful_case("grid", shape, share));
                    }
                }
            }
        }
    }
    for family in Family::ALL {
        for (requests_per_scrape, canary_pods) in [(200.0, 1), (2000.0, 1), (200.0, 5), (2000.0, 5)] {
            for ratio in [2.0, 3.0, 5.0, 10.0] {
                let error_rate = ERROR_RATE;
                let shape = Shape { family, requests_per_scrape, canary_pods, error_rate, ratio, scrapes: SCRAPES };
                cases.push(harmful_case("noise", shape, canary_pods as f64 / PODS as f64));
            }
        }
    }
    cases
}

fn harmful_case(table: &'static str, shape: Shape, share: f64) -> Case {
    let requests_per_second = shape.requests_per_scrape / SCRAPE_SECONDS;
    let setting = vec![
        ("base rate", percent(shape.error_rate)),
        ("ratio", format!("{}x", shape.ratio)),
        ("share", percent(share)),
        ("requests/s", format!("{}", requests_per_second.round())),
        ("canary pods", shape.canary_pods.to_string()),
    ];
    let limit = limit::seconds(requests_per_second, share, shape.error_rate, shape.error_rate * shape.ratio, ALPHA);
    Case { limit_seconds: limit, ..case(table, shape, share, setting) }
}

fn case(table: &'static str, shape: Shape, share: f64, setting: Vec<(&'static str, String)>) -> Case {
    let run = move |seed| roll_out(&shape, share, seed);
    Case { table, family: shape.family.name(), setting, limit_seconds: None, run: Box::new(run) }
}

pub(super) fn percent(share: f64) -> String {
    format!("{}%", (share * 1e4).round() / 100.0)
}

/// Draws one rollout and lets everyone watch.
fn roll_out(shape: &Shape, share: f64, seed: u64) -> Vec<Option<u32>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let calibration = Calibration::learn(&history(shape, &mut rng));
    let scrapes = draw_weighted(shape, share, &mut rng);
    let known = Known {
        canary_pods: shape.canary_pods,
        control_pods: PODS - shape.canary_pods,
        error_rate: shape.error_rate,
        calibration: &calibration,
    };
    let starts: Vec<Start> = ENTRANTS.iter().map(|(_, start)| *start).collect();
    watch(&starts, &known, &scrapes)
}

/// A stable period of the old version alone, under the same noise.
pub(super) fn history(shape: &Shape, rng: &mut StdRng) -> History {
    let stable = Shape { canary_pods: 0, ratio: 1.0, scrapes: LEARNT_SCRAPES, ..*shape };
    let mut pods = vec![Vec::new(); PODS];
    for scrape in draw(&stable, rng) {
        pods.iter_mut().zip(scrape.control).for_each(|(pod, counts)| pod.push(counts));
    }
    History { every: Duration::from_secs_f64(SCRAPE_SECONDS), pods }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(family: Family, ratio: f64) -> Shape {
        Shape { family, requests_per_scrape: 2000.0, canary_pods: 5, error_rate: 0.005, ratio, scrapes: SCRAPES }
    }

    #[test]
    fn history_is_an_hour_of_twenty_pods_alone() {
        for family in Family::ALL {
            let history = history(&shape(family, 5.0), &mut StdRng::seed_from_u64(1));
            assert_eq!((history.pods.len(), history.pods[0].len(), history.pods[19].len()), (20, 240, 240));
            let total: u64 = history.pods.iter().flatten().map(|counts| counts.total).sum();
            assert!((240_000..960_000).contains(&total), "{}: {total}", family.name());
        }
    }

    #[test]
    fn the_canary_gets_its_share_however_many_pods_it_has() {
        for share in [0.01, 0.05, 0.25] {
            let scrapes = draw_weighted(&shape(Family::Independent, 1.0), share, &mut StdRng::seed_from_u64(2));
            let sum = |pods: fn(&crate::eval::noise::Scrape) -> &Vec<crate::domain::Counts>| {
                scrapes.iter().flat_map(pods).map(|counts| counts.total).sum::<u64>() as f64
            };
            let (canary, control, baseline) = (sum(|s| &s.canary), sum(|s| &s.control), sum(|s| &s.baseline));
            assert!((canary / (canary + control) / share - 1.0).abs() < 0.02, "{}", canary / (canary + control));
            assert!((baseline / canary - 1.0).abs() < 0.05);
            assert!(((canary + control) / (480.0 * 2000.0) - 1.0).abs() < 0.02);
        }
    }

    #[test]
    fn a_bad_canary_is_found_by_all_and_a_good_one_kept_by_ours() {
        let bad = roll_out(&shape(Family::Independent, 10.0), 0.25, 3);
        assert_eq!(bad.len(), ENTRANTS.len());
        assert!(bad.iter().all(Option::is_some), "{bad:?}");
        let good = roll_out(&shape(Family::Independent, 1.0), 0.25, 4);
        assert!(good.iter().take(4).all(Option::is_none), "{good:?}");
    }

    #[test]
    fn the_limit_stands_beside_what_is_harmful() {
        let cases = harmful();
        assert_eq!(cases.len(), 162 + 160);
        assert!(cases.iter().all(|case| case.limit_seconds.is_some_and(|limit| limit > 0.0)));
    }
}
