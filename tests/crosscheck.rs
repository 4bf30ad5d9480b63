//! The statistics against values that were computed elsewhere: by scipy, or from the formulas by another route.
//!
//! `crosscheck/generate.py` draws the inputs, computes the values and says what each section of `crosscheck/values.json`
//! holds. To compare one more, name its section in `SECTIONS` and say what computes it here.

#![expect(clippy::unwrap_used, reason = "a value that cannot be read has failed")]

#[path = "crosscheck/others.rs"]
mod others;
#[path = "crosscheck/registered.rs"]
mod registered;

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::Value;
use tollgate::domain::Counts;

/// Fewest inputs of each section.
const INPUTS_MIN: usize = 200;
/// Every section, each compared by one of the tests.
const SECTIONS: [&str; 26] = [
    "null_binomial",
    "null_hypergeometric",
    "null_multivariate",
    "count_test",
    "count_effect",
    "share_process",
    "latency_effect",
    "level_amounts",
    "level_exchanged",
    "mix_window",
    "below_ratio",
    "below_ratio_null",
    "two_by_two",
    "two_by_two_null",
    "quantile",
    "psi",
    "kolmogorov_smirnov",
    "kolmogorov_smirnov_buckets",
    "weighted_average",
    "e_benjamini_hochberg",
    "closed_testing",
    "no_control",
    "mann_whitney",
    "peers",
    "clopper_pearson",
    "information_limit",
];

static VALUES: LazyLock<BTreeMap<String, Vec<Value>>> =
    LazyLock::new(|| serde_json::from_str(include_str!("crosscheck/values.json")).unwrap());

/// Every input of a section, and what must come out.
fn cases(section: &str) -> impl Iterator<Item = (&'static Value, &'static Value)> {
    assert!(SECTIONS.contains(&section), "{section} is not in the list");
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

fn whole_numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

/// The lists in a list.
fn rows(value: &Value) -> impl Iterator<Item = Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers)
}

/// Control and canary of a block.
fn block(block: &Value) -> (Counts, Counts) {
    let [control_bad, control, canary_bad, canary] = serde_json::from_value(block.clone()).unwrap();
    (Counts { bad: control_bad, total: control }, Counts { bad: canary_bad, total: canary })
}

/// Control and canary of each block under this name.
fn blocks(given: &Value, name: &str) -> Vec<(Counts, Counts)> {
    given[name].as_array().unwrap().iter().map(block).collect()
}

#[test]
fn every_section_is_listed_and_has_two_hundred_inputs() {
    assert_eq!(VALUES.len(), SECTIONS.len());
    for section in SECTIONS {
        assert!(
            cases(section).all(|(given, expected)| given.is_object() && !numbers(expected).is_empty()),
            "{section}"
        );
    }
    let compared = [include_str!("crosscheck/registered.rs"), include_str!("crosscheck/others.rs")].concat();
    let lost: Vec<_> = SECTIONS.iter().filter(|section| !compared.contains(&format!("\"{section}\""))).collect();
    assert!(lost.is_empty(), "no test compares {lost:?}");
}
