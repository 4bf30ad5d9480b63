//! What else of the statistics is public, and what they are judged by.

use std::time::Duration;

use serde_json::Value;
use tollgate::{
    domain::{Counts, Direction, Histogram},
    eval::{
        contender::{Contender, Known, Seen},
        intervals, limit,
        noise::Scrape,
        peers::{BetaBinomial, Kayenta, LikelihoodRatio, ZTest},
    },
    stats::{
        BelowRatio, Calibration, kolmogorov_smirnov, kolmogorov_smirnov_of_samples, multiplicity,
        no_control::{Expectation, Outlook, Past},
        planning::{self, Counted, Load, Pace},
        population_stability_index, quantile,
    },
};

use super::{block, blocks, cases, compare, count, number, numbers, rows, whole_numbers};

#[test]
fn what_is_below_a_bound_is_as_computed_elsewhere() {
    let theta = |(control, canary): &(Counts, Counts)| canary.total as f64 / (control.total + canary.total) as f64;
    compare("below_ratio", 2e-5, |given| {
        let mut test = BelowRatio::for_proof();
        let after = |arms: (Counts, Counts)| {
            let (on_canary, bad) = (arms.1.bad as f64, (arms.0.bad + arms.1.bad) as f64);
            test.observe(on_canary, bad, theta(&arms), number(given, "bound"), number(given, "dispersion"));
            test.log_e()
        };
        blocks(given, "blocks").into_iter().map(after).collect()
    });
    compare("two_by_two", 2e-5, |given| {
        let mut test = BelowRatio::for_proof();
        let (rate, bound, dispersion) = (number(given, "rate"), number(given, "bound"), number(given, "dispersion"));
        let after = |(control, canary)| {
            test.compare(canary, control, rate, bound, dispersion);
            test.log_e()
        };
        blocks(given, "blocks").into_iter().map(after).collect()
    });
}

/// At the bound itself the mean of the e-value over all that a block may show is at most 1.
#[test]
fn what_is_at_the_bound_is_not_shown_to_be_below_it() {
    for (given, law) in cases("below_ratio_null") {
        let (bad, bound, theta) = (number(given, "bad"), number(given, "bound"), number(given, "theta"));
        let mean: f64 = (0..)
            .zip(numbers(law))
            .map(|(on_canary, probability)| {
                let mut test = BelowRatio::for_proof();
                test.observe(f64::from(on_canary), bad, theta, bound, 0.0);
                probability * test.log_e().exp()
            })
            .sum();
        assert!(mean <= 1.0 + 1e-6, "{mean} of {given}");
    }
    for (given, laws) in cases("two_by_two_null") {
        let (control, canary) = (numbers(&laws[0]), numbers(&laws[1]));
        let of = |bad: usize, law: &[f64]| Counts { bad: bad as u64, total: law.len() as u64 - 1 };
        let mut mean = 0.0;
        for (bad, one) in control.iter().enumerate() {
            for (on_canary, other) in canary.iter().enumerate() {
                let mut test = BelowRatio::for_proof();
                let arms = (of(on_canary, &canary), of(bad, &control));
                test.compare(arms.0, arms.1, number(given, "rate"), number(given, "bound"), 0.0);
                mean += one * other * test.log_e().exp();
            }
        }
        assert!(mean <= 1.0 + 1e-6, "{mean} of {given}");
    }
}

#[test]
fn quantiles_are_as_computed_elsewhere() {
    compare("quantile", 1e-8, |given| {
        let histogram = Histogram { bounds: numbers(&given["bounds"]), counts: whole_numbers(&given["counts"]) };
        let found = quantile(&histogram, number(given, "p"), number(given, "alpha")).unwrap();
        [found.estimate, found.low, found.high].map(|end| end.unwrap_or(-1.0)).to_vec()
    });
}

#[test]
fn sizes_of_drift_are_as_computed_elsewhere() {
    let arms = |given: &Value| (numbers(&given["control"]), numbers(&given["canary"]));
    compare("psi", 1e-8, |given| {
        let (control, canary) = arms(given);
        vec![population_stability_index(&control, &canary).unwrap()]
    });
    compare("kolmogorov_smirnov", 1e-8, |given| {
        vec![kolmogorov_smirnov_of_samples(&numbers(&given["x"]), &numbers(&given["y"])).unwrap()]
    });
    compare("kolmogorov_smirnov_buckets", 1e-8, |given| {
        let arm = |name: &str| {
            let counts = whole_numbers(&given[name]);
            Histogram { bounds: (1..counts.len()).map(|bound| bound as f64).collect(), counts }
        };
        vec![kolmogorov_smirnov(&arm("control"), &arm("canary")).unwrap()]
    });
}

#[test]
fn several_tests_at_once_are_as_computed_elsewhere() {
    compare("weighted_average", 1e-8, |given| {
        let parts: Vec<_> = numbers(&given["weights"]).into_iter().zip(numbers(&given["log_e"])).collect();
        vec![multiplicity::combined(&parts)]
    });
    compare("e_benjamini_hochberg", 0.0, |given| {
        let logs = numbers(&given["log_e"]);
        let parts: Vec<_> = logs.iter().map(|log_e| (1.0 / logs.len() as f64, *log_e)).collect();
        let named = multiplicity::listed(&parts, number(given, "alpha"));
        named.into_iter().map(|is_named| f64::from(u8::from(is_named))).collect()
    });
    compare("closed_testing", 1e-8, |given| multiplicity::closed(&numbers(&given["log_e"])));
}

/// The generator of generate.py.
struct Made(u64);

impl Made {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// The metric and two siblings; from `minutes` on the metric is `percent` of what it was.
    fn series(mut self, minutes: u64, watch: u64, percent: u64) -> [Vec<Option<f64>>; 3] {
        let mut series = [Vec::new(), Vec::new(), Vec::new()];
        for minute in 0..minutes + watch {
            let common = 200 + (minute % 1440).abs_diff(720) + self.below(100);
            let mut row = [common + self.below(60), 2 * common + self.below(90), 500 + self.below(200)];
            if minute >= minutes {
                row[0] = row[0] * percent / 100;
            }
            let gap = if self.below(50) == 0 { Some(self.below(3) as usize) } else { None };
            for (at, value) in row.into_iter().enumerate() {
                series[at].push((Some(at) != gap).then_some(value as f64));
            }
        }
        series
    }
}

#[test]
fn what_history_lets_expect_is_as_computed_elsewhere() {
    compare("no_control", 1e-5, |given| {
        let (minutes, watch) = (count(given, "minutes"), count(given, "watch"));
        let [target, one, other] = Made(count(given, "seed")).series(minutes, watch, count(given, "percent"));
        let switched = minutes as usize;
        let past = Past {
            target: &target[..switched],
            siblings: &[&one[..switched], &other[..switched]],
            watch: watch as usize,
            direction: Direction::HigherIsWorse,
            left_out: &[],
        };
        let seen = switched..switched + count(given, "seen") as usize;
        let siblings: [&[_]; 2] = [&one[seen.clone()], &other[seen.clone()]];
        match Expectation::learn(&past).look(&target[seen], &siblings, 0.01) {
            Outlook::NothingUnusual(found) | Outlook::Unusual(found) => {
                let (low, high) = (found.interval.low, found.interval.high);
                vec![found.p_value, found.windows as f64, found.ratio, low, high]
            }
            Outlook::TooLittleHistory(missing) => panic!("{missing:?} of {given}"),
        }
    });
}

fn scrape(control: Counts, canary: Counts, baseline: Counts) -> Scrape {
    Scrape { canary: vec![canary], control: vec![control], baseline: vec![baseline], tenants: Vec::new() }
}

fn rolls_back(mut contender: impl Contender, scrapes: &[Scrape]) -> f64 {
    scrapes.iter().for_each(|scrape| contender.observe(&Seen::of(scrape)));
    f64::from(u8::from(contender.has_rolled_back()))
}

#[test]
fn rivals_decide_as_computed_elsewhere() {
    let calibration = Calibration::untrusted();
    let known = Known { canary_pods: 1, control_pods: 19, error_rate: 0.01, calibration: &calibration };
    compare("peers", 0.0, |given| {
        let (control, canary) = block(&given["block"]);
        let scrapes = [scrape(control, canary, control)];
        vec![
            rolls_back(BetaBinomial::start(&known), &scrapes),
            rolls_back(ZTest::start(&known), &scrapes),
            rolls_back(LikelihoodRatio::start(&known), &scrapes),
        ]
    });
    compare("mann_whitney", 0.0, |given| {
        let points = |name: &str| -> Vec<Counts> {
            rows(&given[name]).map(|point| Counts { bad: point[0] as u64, total: point[1] as u64 }).collect()
        };
        let (canary, baseline) = (points("canary"), points("baseline"));
        let none = Counts::default();
        // A minute is four scrapes, and all of it is in the first one.
        let minute = |(canary, baseline): (&Counts, &Counts)| {
            [*canary, none, none, none]
                .into_iter()
                .zip([*baseline, none, none, none])
                .map(|(canary, baseline)| scrape(none, canary, baseline))
                .collect::<Vec<_>>()
        };
        let scrapes: Vec<Scrape> = canary.iter().zip(&baseline).flat_map(minute).collect();
        vec![rolls_back(Kayenta::start(&known, canary.len() as u32), &scrapes)]
    });
}

#[test]
fn exact_bounds_are_as_computed_elsewhere() {
    compare("clopper_pearson", 1e-8, |given| {
        let (hits, runs, level) = (count(given, "hits"), count(given, "runs"), number(given, "level"));
        vec![intervals::lower_bound(hits, runs, level), intervals::upper_bound(hits, runs, level)]
    });
}

/// No test is faster than the limit in the mean, so a forecast of the median that is much faster is wrong; and one that
/// is much slower is, where a delay has many blocks and the margin costs nothing.
#[test]
fn forecasts_keep_to_the_information_limit() {
    compare("information_limit", 1e-8, |given| {
        let (rate, share) = (number(given, "bad_rate"), number(given, "share"));
        let bad = rate * number(given, "ratio");
        vec![limit::seconds(number(given, "requests_per_second"), share, rate, bad, number(given, "alpha")).unwrap()]
    });
    let mut long = 0;
    for (given, limit) in cases("information_limit") {
        let load = Load {
            counted: Counted::Requests,
            requests_per_second: number(given, "requests_per_second"),
            bad_rate: number(given, "bad_rate"),
            share: number(given, "share"),
            block: Duration::from_secs(1),
            dispersion: 0.0,
            inflation: 1.0,
            pace: Pace::Averaged,
            growth_max: None,
        };
        let (limit, threshold) = (limit.as_f64().unwrap(), -number(given, "alpha").ln());
        let Some(forecast) = planning::time_to_detect(&load, number(given, "ratio"), 1.0, threshold).value() else {
            // What takes more than a year is not foretold.
            assert!(limit > 86_400.0 * 200.0, "{given}");
            continue;
        };
        let times = forecast.as_secs_f64() / limit;
        assert!(times >= 0.95, "{times} times the limit of {given}");
        if limit > 60.0 {
            long += 1;
            assert!(times <= 1.6, "{times} times the limit of {given}");
        }
    }
    assert!(long > 100, "{long}");
}
