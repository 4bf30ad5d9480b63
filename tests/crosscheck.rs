//! The statistics against values that were computed elsewhere: by scipy, or from the formulas by another route.
//!
//! `crosscheck/generate.py` draws the inputs, computes the values and says what each section of `crosscheck/values.json`
//! holds. To compare one more, name its section and what computes it here.

#![expect(clippy::unwrap_used, reason = "a value that cannot be read has failed")]

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use serde_json::Value;
use tollgate::{
    domain::{Check, CheckName, Counts, Direction, Origin, Reading, Selector, Sli, Tally, Text, Weight},
    stats::{
        Block, Calibration, Running, SequentialTest, Setting,
        planning::{self, Counted, Load, Pace},
    },
};

/// Fewest inputs of each section.
const INPUTS_MIN: usize = 200;

static VALUES: LazyLock<BTreeMap<String, Vec<Value>>> =
    LazyLock::new(|| serde_json::from_str(include_str!("crosscheck/values.json")).unwrap());

/// Every input of a section, and what must come out.
fn cases(section: &str) -> impl Iterator<Item = (&'static Value, &'static Value)> {
    let cases = VALUES.get(section).unwrap_or_else(|| panic!("values.json has no section {section}"));
    assert!(cases.len() >= INPUTS_MIN, "{section} has {} inputs", cases.len());
    cases.iter().map(|case| (&case["in"], &case["out"]))
}

/// Compares what is computed from each input of a section with what must come out, to this part of it (and of 1).
fn compare(section: &str, tolerance: f64, computed: impl Fn(&Value) -> Vec<f64>) {
    for (number, (given, expected)) in cases(section).enumerate() {
        let (computed, expected) = (computed(given), numbers(expected));
        assert_eq!(computed.len(), expected.len(), "{section} {number}: {given}");
        for (computed, expected) in computed.into_iter().zip(expected) {
            let far = (computed - expected).abs() > tolerance * expected.abs().max(1.0);
            assert!(!far && computed.is_finite(), "{section} {number}: {computed}, not {expected}, of {given}");
        }
    }
}

/// A number, a truth value or a list of them.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        Value::Bool(is_true) => vec![f64::from(u8::from(*is_true))],
        _ => vec![value.as_f64().unwrap()],
    }
}

fn number(given: &Value, name: &str) -> f64 {
    given[name].as_f64().unwrap()
}

fn count(given: &Value, name: &str) -> u64 {
    given[name].as_u64().unwrap()
}

/// Control and canary of each block under this name.
fn blocks(given: &Value, name: &str) -> Vec<(Counts, Counts)> {
    let block = |block: &Value| {
        let [control_bad, control, canary_bad, canary] = serde_json::from_value(block.clone()).unwrap();
        (Counts { bad: control_bad, total: control }, Counts { bad: canary_bad, total: canary })
    };
    given[name].as_array().unwrap().iter().map(block).collect()
}

/// The test that is registered for a check of errors, with what it must know.
struct Watch {
    check: Check,
    calibration: Calibration,
    test: Running,
}

impl Watch {
    fn errors(ratio_max: f64) -> Self {
        let check = Check {
            name: CheckName::new("errors"),
            sli: Sli::Ratio { bad: Selector::metric("bad"), total: Selector::metric("all") },
            direction: Direction::HigherIsWorse,
            ratio_max,
            limit: None,
            weight: Weight::Critical,
            origin: Origin::Slo,
            rationale: Text::default(),
            lines: Vec::new(),
            split: Default::default(),
        };
        Self { test: Running::start(&check), check, calibration: Calibration::untrusted() }
    }

    fn observe(&mut self, control: Counts, canary: Counts) -> f64 {
        let setting = Setting {
            check: &self.check,
            calibration: &self.calibration,
            safe_ratio: 4.0,
            pod_incident: tollgate::stats::POD_INCIDENT,
        };
        let (control, canary) = (Reading::whole(Tally::Counts(control)), Reading::whole(Tally::Counts(canary)));
        let block = Block { control: &control, canary: &canary, span: Duration::from_secs(15) };
        self.test.observe(&setting, &block);
        self.test.log_e_value()
    }

    fn again(&self) -> Self {
        Self { check: self.check.clone(), calibration: self.calibration.clone(), test: self.test.clone() }
    }
}

#[test]
fn every_section_has_two_hundred_inputs() {
    for section in VALUES.keys() {
        assert!(
            cases(section).all(|(given, expected)| given.is_object() && !numbers(expected).is_empty()),
            "{section}"
        );
    }
}

/// The definition of an e-process, exactly: after any beginning, the mean over all that the next block may show of a
/// canary that is as bad as is tolerated is not above what was there before.
#[test]
fn the_next_block_of_a_tolerated_canary_adds_nothing_in_the_mean() {
    for section in ["null_binomial", "null_hypergeometric"] {
        for (number_of, (given, law)) in cases(section).enumerate() {
            let mut watch = Watch::errors(number(given, "m"));
            let mut before = 1.0_f64;
            for (control, canary) in blocks(given, "before") {
                before = watch.observe(control, canary).exp();
            }
            let (control, canary, bad) = (count(given, "control"), count(given, "canary"), count(given, "bad"));
            let mean: f64 = (0..=bad)
                .zip(numbers(law))
                .map(|(on_canary, probability)| {
                    let old = Counts { bad: bad - on_canary, total: control };
                    let new = Counts { bad: on_canary, total: canary };
                    probability * watch.again().observe(old, new).exp()
                })
                .sum();
            assert!(
                mean <= before * (1.0 + 1e-6),
                "{section} {number_of}: {before} became {mean} in the mean of {given}"
            );
        }
    }
}

#[test]
fn share_betting_is_as_computed_elsewhere() {
    compare("share_betting", 1e-9, |given| {
        let mut watch = Watch::errors(number(given, "m"));
        blocks(given, "blocks").into_iter().map(|(control, canary)| watch.observe(control, canary)).collect()
    });
}

/// No test is faster than the limit in the mean, so a forecast of the median that is much faster is wrong; and one that
/// is much slower is, where a delay has many blocks and the margin costs nothing.
#[test]
fn forecasts_keep_to_the_information_limit() {
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
