//! How tools answer, and how arguments are read: one shape for all, bounded, with errors that name the field and the fix.
//!
//! Two kinds of wrong are kept apart. A call whose shape is wrong (no JSON, no such field, a word that is not in the list)
//! is *malformed*: whoever sends those cannot be worked with, and the loop counts them. A call that is well formed and
//! asks for what cannot be had (an unknown metric, a line outside the diff) is *denied* with a reason: that is part of the
//! conversation.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Envelope, Outcome, Status, schema};
use crate::{
    domain::Text,
    plan::Reason,
    untrusted::{masked, visible},
};

/// Most bytes of one call's arguments that are looked at.
pub const ARGUMENTS_BYTES_MAX: usize = 32 << 10;
/// Most bytes of what one call answers.
pub const ANSWER_BYTES_MAX: usize = 24 << 10;
/// Most bytes of one stranger's word in an answer: a label's value, a metric's help.
pub(super) const WORD_BYTES_MAX: usize = 200;

/// What was asked for.
pub(super) fn ok(data: Value) -> Outcome {
    outcome(Status::Ok, "", data, false)
}

/// A part of what was asked for.
pub(super) fn truncated(reason: &str, data: Value) -> Outcome {
    outcome(Status::Truncated, reason, data, false)
}

/// There is nothing of the kind.
pub(super) fn no_data(reason: &str, detail: &str) -> Outcome {
    outcome(Status::NoData, reason, json!({ "detail": detail }), false)
}

/// Well formed, and not to be had.
pub(super) fn denied(reason: &str, detail: &str) -> Outcome {
    outcome(Status::Denied, reason, json!({ "detail": detail }), false)
}

/// Not well formed.
pub(super) fn malformed(reason: &str, detail: &str) -> Outcome {
    outcome(Status::Error, reason, json!({ "detail": detail }), true)
}

pub(super) fn outcome(status: Status, reason: &str, data: Value, is_malformed: bool) -> Outcome {
    Outcome { envelope: Envelope { status, reason: reason.into(), data }, ended: None, is_malformed }
}

/// Why something well formed cannot be had: a word of the closed list, and what to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

impl Refusal {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    pub(super) fn outcome(&self) -> Outcome {
        denied(self.reason.word(), &self.detail)
    }
}

/// A call's arguments as their type, or what the model is told of them.
pub(super) fn arguments<T: DeserializeOwned>(of: &Value, written: &str) -> Result<T, Box<Outcome>> {
    if written.len() > ARGUMENTS_BYTES_MAX {
        let detail = format!("the arguments have more than {ARGUMENTS_BYTES_MAX} bytes: write less");
        return Err(Box::new(malformed("too_long", &detail)));
    }
    // A tool without arguments is called with nothing by some models.
    let written = if written.trim().is_empty() { "{}" } else { written };
    let value: Value = serde_json::from_str(written).map_err(|error| {
        let detail = format!("line {}, column {}: the arguments must be one JSON object", error.line(), error.column());
        Box::new(malformed("no_json", &detail))
    })?;
    if let Some(fault) = schema::fault(of, &value, "") {
        return Err(Box::new(malformed("wrong_shape", &fault)));
    }
    // What the schema cannot say, such as a number's range.
    serde_json::from_value(value).map_err(|error| Box::new(malformed("wrong_shape", &said(&error.to_string()))))
}

/// A stranger's words, fit to be shown: no secrets, nothing hidden, and not long.
pub(super) fn said(words: &str) -> String {
    // A secret that is cut in two is none that anyone would recognise, so it is masked before.
    let start = cut(words, ARGUMENTS_BYTES_MAX);
    visible(&masked(start).text, WORD_BYTES_MAX)
}

/// The same as a bounded line for records.
pub(super) fn text(words: &str, bytes_max: usize) -> Text {
    let start = cut(words, ARGUMENTS_BYTES_MAX);
    Text::new(visible(&masked(start).text, bytes_max))
}

/// The first bytes, up to the end of a character.
pub(super) fn cut(words: &str, bytes_max: usize) -> &str {
    let mut end = words.len().min(bytes_max);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    words.get(..end).unwrap_or_default()
}

/// The first of these rows that fit into an answer, and whether there were more.
pub(super) fn fitting<T: Serialize>(rows: impl Iterator<Item = T>, bytes_max: usize) -> (Vec<Value>, bool) {
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for row in rows {
        let Ok(row) = serde_json::to_value(row) else { continue };
        bytes += row.to_string().len() + 1;
        if bytes > bytes_max {
            return (kept, true);
        }
        kept.push(row);
    }
    (kept, false)
}

/// A number for a model to read: four digits; nothing where it is none.
pub(super) fn round(number: f64) -> Option<f64> {
    if !number.is_finite() || number == 0.0 {
        return number.is_finite().then_some(0.0);
    }
    format!("{number:.3e}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_where_the_answer_is_full() {
        let rows = || (0..10).map(|_| "12345678");
        assert_eq!(fitting(rows(), 110), (vec![json!("12345678"); 10], false));
        assert_eq!(fitting(rows(), 109), (vec![json!("12345678"); 9], true));
    }

    #[test]
    fn arguments_are_refused_by_length_before_they_are_parsed() {
        let of = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let with = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
        assert!(arguments::<Value>(&of, &with(ARGUMENTS_BYTES_MAX)).is_ok());
        let refused = arguments::<Value>(&of, &with(ARGUMENTS_BYTES_MAX + 1)).unwrap_err();
        assert_eq!((refused.envelope.reason.as_str(), refused.is_malformed), ("too_long", true));
        assert_eq!(arguments::<Value>(&of, "{").unwrap_err().envelope.reason, "no_json");
        assert_eq!(arguments::<Value>(&of, "[1]").unwrap_err().envelope.reason, "wrong_shape");
    }

    #[test]
    fn a_cut_ends_with_a_character_and_numbers_are_short() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(round(0.012_345_678), Some(0.01235));
        assert_eq!((round(f64::NAN), round(0.0), round(f64::INFINITY)), (None, Some(0.0), None));
    }
}
