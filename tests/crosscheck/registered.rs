//! The tests that are registered, as a rollout runs them.

use std::time::Duration;

use serde_json::Value;
use tollgate::{
    domain::{
        Aim, Check, CheckName, Counts, Direction, Histogram, Origin, Reading, Selector, Sli, Tally, Text, Weight,
    },
    stats::{Block, Calibration, CanaryShare, POD_INCIDENT, Running, SequentialTest, Setting, ShareProcess, Stake},
};

use super::{blocks, cases, compare, count, number, numbers, rows, whole_numbers};

/// Of stakes kept in single precision.
const SINGLE: f64 = 2e-5;

/// The test that is registered for a kind of check, with what it must know.
struct Watch {
    check: Check,
    calibration: Calibration,
    safe_ratio: f64,
    test: Running,
}

fn selector() -> Selector {
    Selector::metric("x")
}

fn errors() -> Sli {
    Sli::Ratio { bad: selector(), total: selector() }
}

/// Slow is what is above 0.25 s.
fn latency() -> Sli {
    Sli::Latency { histogram: selector(), slow_above_seconds: 0.25 }
}

fn gauge() -> Sli {
    Sli::Level { gauge: selector() }
}

fn mix() -> Sli {
    Sli::Mix { counter: selector(), by: "by".into() }
}

impl Watch {
    /// With noise that history shows to be independent, and pods that do not differ.
    fn start(sli: Sli, ratio_max: f64, safe_ratio: f64) -> Self {
        let check = Check {
            name: CheckName::new("x"),
            sli,
            direction: Direction::HigherIsWorse,
            ratio_max,
            limit: None,
            aim: Aim::Guard,
            weight: Weight::Critical,
            origin: Origin::Slo,
            rationale: Text::default(),
            lines: Vec::new(),
            split: Default::default(),
        };
        let known = Calibration { is_trusted: true, dispersion: 0.0, pod_log_sd: 0.0, ..Calibration::untrusted() };
        Self { test: Running::start(&check), check, calibration: known, safe_ratio }
    }

    fn observe(&mut self, control: Tally, canary: Tally) {
        let setting = Setting {
            check: &self.check,
            calibration: &self.calibration,
            safe_ratio: self.safe_ratio,
            pod_incident: POD_INCIDENT,
        };
        let (control, canary) = (Reading::whole(control), Reading::whole(canary));
        let block = Block { control: &control, canary: &canary, span: Duration::from_secs(15) };
        self.test.observe(&setting, &block);
    }

    fn values(&self) -> (f64, f64) {
        (self.test.log_e_value(), self.test.log_e_safe())
    }

    /// Both e-values as they would be after one more block.
    fn would_be(&self, control: Tally, canary: Tally) -> (f64, f64) {
        let (check, calibration) = (self.check.clone(), self.calibration.clone());
        let mut next = Self { check, calibration, test: self.test.clone(), ..*self };
        next.observe(control, canary);
        (next.values().0.exp(), next.values().1.exp())
    }

    fn effect(&self) -> Vec<f64> {
        let (estimate, interval) = self.test.effect().unwrap();
        vec![estimate, interval.low, interval.high]
    }
}

/// Fast and slow requests as a histogram of two buckets.
fn two_buckets(counts: Counts) -> Tally {
    Tally::Histogram(Histogram { bounds: vec![0.25], counts: vec![counts.total - counts.bad, counts.bad] })
}

/// A law's mean of both e-values after one more block of which the canary has so many of all the bad ones.
fn means(watch: &Watch, given: &Value, law: &Value) -> (f64, f64) {
    let (control, canary, bad) = (count(given, "control"), count(given, "canary"), count(given, "bad"));
    (0..=bad).zip(numbers(law)).fold((0.0, 0.0), |sum, (on_canary, probability)| {
        let old = Tally::Counts(Counts { bad: bad - on_canary, total: control });
        let (worse, safe) = watch.would_be(old, Tally::Counts(Counts { bad: on_canary, total: canary }));
        (sum.0 + probability * worse, sum.1 + probability * safe)
    })
}

fn after(given: &Value, mut watch: Watch) -> Watch {
    for (control, canary) in blocks(given, "before") {
        watch.observe(Tally::Counts(control), Tally::Counts(canary));
    }
    watch
}

/// The definition of an e-process, exactly: after any beginning, the mean over all that the next block may show of a
/// canary that is as bad as is tolerated is not above what was there before. Of one that is worse it must be.
#[test]
fn the_next_block_of_a_tolerated_canary_adds_nothing_in_the_mean() {
    let mut found = 0;
    for (given, laws) in cases("null_binomial") {
        for calibration in [None, Some(Calibration::untrusted())] {
            let mut watch = Watch::start(errors(), number(given, "m"), number(given, "safe"));
            let is_sharp = calibration.is_none();
            watch.calibration = calibration.unwrap_or(watch.calibration);
            let watch = after(given, watch);
            let before = (watch.values().0.exp(), watch.values().1.exp());
            let (tolerated, unsafe_) = (means(&watch, given, &laws[0]).0, means(&watch, given, &laws[1]).1);
            assert!(tolerated <= before.0 * (1.0 + 1e-6), "{} became {tolerated} in the mean of {given}", before.0);
            assert!(unsafe_ <= before.1 * (1.0 + 1e-6), "safe: {} became {unsafe_} in the mean of {given}", before.1);
            found += u32::from(is_sharp && means(&watch, given, &laws[2]).0 > before.0);
        }
    }
    assert!(found >= 180, "of a worse canary the mean rose {found} times");
    for (given, law) in cases("null_hypergeometric") {
        let watch = after(given, Watch::start(errors(), number(given, "m"), 4.0));
        let (before, mean) = (watch.values().0.exp(), means(&watch, given, law).0);
        assert!(mean <= before * (1.0 + 1e-6), "{before} became {mean} in the mean of {given}");
    }
}

fn three_buckets(counts: &[u64]) -> Tally {
    Tally::Histogram(Histogram { bounds: vec![0.1, 0.25], counts: counts.to_vec() })
}

fn three_categories(counts: &[u64]) -> Tally {
    Tally::Mix(["a", "b", "c"].into_iter().map(String::from).zip(counts.iter().copied()).collect())
}

/// The same where both arms are alike, and either's requests fall into three buckets or categories.
#[test]
fn the_next_block_of_a_like_canary_adds_nothing_in_the_mean_of_latency_and_mix() {
    for (sli, tally) in [(latency(), three_buckets as fn(&[u64]) -> Tally), (mix(), three_categories)] {
        for (given, law) in cases("null_multivariate") {
            let mut watch = Watch::start(sli.clone(), number(given, "m"), 2.0);
            for arms in given["before"].as_array().unwrap() {
                watch.observe(tally(&whole_numbers(&arms[0])), tally(&whole_numbers(&arms[1])));
            }
            let (before, both) = (watch.values().0.exp(), whole_numbers(&given["both"]));
            let mean: f64 = rows(law)
                .map(|outcome| {
                    let canary: Vec<u64> = outcome.iter().take(3).map(|n| *n as u64).collect();
                    let control: Vec<u64> = both.iter().zip(&canary).map(|(both, canary)| both - canary).collect();
                    outcome[3] * watch.would_be(tally(&control), tally(&canary)).0
                })
                .sum();
            assert!(mean <= before * (1.0 + 1e-6), "{before} became {mean} in the mean of {given}");
        }
    }
}

/// Of amounts of single requests any may be the canary's: in the mean over all ways nothing is added.
#[test]
fn exchanging_the_requests_of_both_arms_adds_nothing_in_the_mean() {
    for (given, ways) in cases("level_exchanged") {
        let mut watch = Watch::start(gauge(), 1.0, 2.0);
        for arms in given["before"].as_array().unwrap() {
            watch.observe(Tally::Samples(numbers(&arms[0])), Tally::Samples(numbers(&arms[1])));
        }
        let (before, pooled) = (watch.values().0.exp(), numbers(&given["pooled"]));
        let arm = |picks: u32, wanted: u32| -> Tally {
            let picked = |(i, _): &(usize, &f64)| picks >> i & 1 == wanted;
            Tally::Samples(pooled.iter().enumerate().filter(picked).map(|(_, amount)| *amount).collect())
        };
        let picks: Vec<u32> =
            (0..1_u32 << pooled.len()).filter(|picks| picks.count_ones() as usize * 2 == pooled.len()).collect();
        assert_eq!(picks.len() as u64, ways.as_u64().unwrap());
        let each = picks.iter().map(|picks| watch.would_be(arm(*picks, 0), arm(*picks, 1)).0);
        let mean = each.sum::<f64>() / picks.len() as f64;
        assert!(mean <= before * (1.0 + 1e-9), "{before} became {mean} in the mean of {given}");
    }
}

#[test]
fn counts_are_as_computed_elsewhere() {
    compare("share_process", SINGLE, |given| {
        let (mut process, stake) = (ShareProcess::start(), numbers(&given["stake"]));
        let stake = Stake { inflation: stake[0], supposed_inflation: stake[1], pace: stake[2], seconds: stake[3] };
        let after = |window: Vec<f64>| {
            process.bet(CanaryShare::new(window[0], window[1], window[2], number(given, "m")), &stake);
            [process.log_e(), process.log_e_of_likelihood()]
        };
        rows(&given["windows"]).flat_map(after).collect()
    });
    // The proof of safety is kept below 100; what it would be without that is no longer told once it was.
    let most = 100_f64.ln() - SINGLE;
    for (number_of, (given, expected)) in cases("count_test").enumerate() {
        let mut watch = Watch::start(errors(), number(given, "m"), number(given, "safe"));
        let mut is_capped = false;
        for ((control, canary), expected) in blocks(given, "blocks").into_iter().zip(numbers(expected).chunks(2)) {
            watch.observe(Tally::Counts(control), Tally::Counts(canary));
            let (worse, safe) = watch.values();
            is_capped |= expected[1] >= most;
            let near = |one: f64, other: f64| (one - other).abs() <= SINGLE * other.abs().max(1.0);
            assert!(near(worse, expected[0]), "{number_of}: {worse}, not {}, of {given}", expected[0]);
            assert!(is_capped || near(safe, expected[1]), "{number_of}: {safe}, not {}, of {given}", expected[1]);
        }
    }
    compare("count_effect", 1e-6, |given| {
        let mut watch = Watch::start(errors(), 1.25, 2.0);
        for (control, canary) in blocks(given, "blocks") {
            watch.observe(Tally::Counts(control), Tally::Counts(canary));
        }
        watch.effect()
    });
}

#[test]
fn latency_is_as_computed_elsewhere() {
    compare("latency_effect", 1e-6, |given| {
        let mut watch = Watch::start(latency(), 1.25, 2.0);
        for (control, canary) in blocks(given, "blocks") {
            watch.observe(two_buckets(control), two_buckets(canary));
        }
        watch.effect()
    });
}

#[test]
fn levels_are_as_computed_elsewhere() {
    compare("level_amounts", 1e-7, |given| {
        let mut watch = Watch::start(gauge(), number(given, "m"), 2.0);
        let after = |arms: &Value| {
            watch.observe(Tally::Samples(numbers(&arms[0])), Tally::Samples(numbers(&arms[1])));
            watch.values().0
        };
        given["rows"].as_array().unwrap().iter().map(after).collect()
    });
}

#[test]
fn mixes_are_as_computed_elsewhere() {
    compare("mix_window", SINGLE, |given| {
        let mut watch = Watch::start(mix(), number(given, "m"), number(given, "safe"));
        watch.calibration.dispersion = number(given, "dispersion");
        let arm = |name: &str| {
            let counts = whole_numbers(&given[name]).into_iter().zip('a'..);
            Tally::Mix(counts.map(|(count, name)| (name.to_string(), count)).collect())
        };
        watch.observe(arm("control"), arm("canary"));
        [vec![watch.values().0, watch.values().1], watch.effect()].concat()
    });
}
