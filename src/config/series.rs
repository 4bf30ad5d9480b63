//! Which series are meant: a metric's name and conditions on its labels.

use std::collections::BTreeMap;

use super::{
    arms::LABEL_VALUE_BYTES_MAX,
    key::Key,
    reading::{Reading, WordForm},
    written::{self, Condition, ConditionTable},
};
use crate::domain::{Match, Matcher, Selector};

/// Most conditions of one selector.
pub const CONDITIONS_MAX: usize = 20;
/// Most values of one `one_of`.
pub const VALUES_MAX: usize = 100;

pub(super) const METRIC: WordForm = WordForm {
    name: "name of a metric",
    fix: "a name of letters, digits, underscores and colons",
    bytes_max: 200,
    is_legal: |word| {
        word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
            && !word.starts_with(|first: char| first.is_ascii_digit())
    },
};

pub(super) const FREE_METRIC: WordForm = WordForm {
    name: "name of a metric",
    fix: "a name of letters, digits and any of . _ : / -",
    bytes_max: 200,
    is_legal: |word| {
        word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte))
            && word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
    },
};

const VALUE: WordForm = WordForm {
    name: "value of a label",
    fix: "text without control characters",
    bytes_max: LABEL_VALUE_BYTES_MAX,
    is_legal: |word| !word.chars().any(char::is_control),
};

impl Reading<'_> {
    /// A selector, as far as it can be read.
    pub(super) fn selector(&mut self, key: &Key, written: &written::Selector) -> Selector {
        let metric_key = key.name("metric");
        match &written.metric {
            Some(metric) => {
                self.word(&metric_key, metric, self.names.metric());
            }
            None => self.missing(&metric_key, "the metric's name, such as \"http_requests_total\""),
        }
        let where_key = key.name("where");
        let conditions: &BTreeMap<_, _> = written.conditions.as_ref().unwrap_or(const { &BTreeMap::new() });
        self.at_most(&where_key, conditions.len(), CONDITIONS_MAX, "conditions");
        let mut matchers = Vec::new();
        for (label, condition) in conditions.iter().take(CONDITIONS_MAX) {
            let key = where_key.name(label);
            self.word(&key, label, self.names.label());
            if let Some(value) = self.condition(&key, condition) {
                matchers.push(Matcher { label: label.clone(), value });
            }
        }
        Selector { metric: written.metric.clone().unwrap_or_default(), matchers }
    }

    fn condition(&mut self, key: &Key, written: &Condition) -> Option<Match> {
        let found = match written {
            Condition::Is(value) => vec![Match::Is(value.clone())],
            Condition::Table(ConditionTable { is, is_not, one_of, starts_with }) => {
                let found = [
                    is.clone().map(Match::Is),
                    is_not.clone().map(Match::IsNot),
                    one_of.clone().map(Match::OneOf),
                    starts_with.clone().map(Match::StartsWith),
                ];
                found.into_iter().flatten().collect()
            }
        };
        if found.is_empty() && !self.are_fine(&[key]) {
            return None;
        }
        let [condition] = <[Match; 1]>::try_from(found)
            .map_err(|found| {
                let fix = "write one of is, is_not, one_of and starts_with";
                self.problems.add(key, format!("says {} ways to compare", found.len()), fix);
            })
            .ok()?;
        match &condition {
            // A missing label is the empty value, so comparing with nothing makes sense; beginning with it does not.
            Match::Is(value) | Match::IsNot(value) if value.is_empty() => {}
            Match::Is(value) | Match::IsNot(value) | Match::StartsWith(value) => {
                self.word(key, value, &VALUE);
            }
            Match::OneOf(values) => {
                if values.is_empty() {
                    self.problems.add(key, "is one of no values", "write the values, or remove the condition");
                }
                self.at_most(key, values.len(), VALUES_MAX, "values");
                for value in values.iter().take(VALUES_MAX) {
                    self.word(key, value, &VALUE);
                }
            }
        }
        Some(condition)
    }
}
