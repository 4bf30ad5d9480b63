//! Holds a parsed file against the schema of what can be written, and keeps what fits.
//!
//! Serde stops at the first thing that does not fit. This walk does not: it names every unknown key, every value of the
//! wrong kind and every unknown word, and hands on the rest, so that its meaning is read too. It knows no setting by
//! name; all it goes by is the schema derived from [`super::written`].
//!
//! No value is ever repeated in a problem of form, unless the schema has a closed list of words for it: what stands in
//! the wrong place may be a secret.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Number, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    key::{Key, shown},
    problem::Problems,
};

/// Most known keys that a fix lists.
const KNOWN_LISTED_MAX: usize = 12;
/// Longest word that is compared with the known ones.
const COMPARED_CHARS_MAX: usize = 64;

/// The JSON Schema of a written struct, without references.
pub(super) fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// The table with everything that fits `schema`; what does not is a problem.
pub(super) fn fitting(table: &DeTable<'_>, schema: &Value, problems: &mut Problems<'_>) -> Value {
    Value::Object(fitting_table(&Key::root(), table, schema, problems))
}

fn fitting_table(parent: &Key, table: &DeTable<'_>, schema: &Value, problems: &mut Problems<'_>) -> Map<String, Value> {
    let mut kept = Map::new();
    for (name, value) in table {
        let (name, key) = (name.get_ref().as_ref(), parent.name(name.get_ref()));
        let known = schema.get("properties").and_then(Value::as_object);
        let expected = known
            .and_then(|known| known.get(name))
            .or_else(|| schema.get("additionalProperties").filter(|any| any.is_object()));
        match expected {
            Some(expected) => {
                if let Some(value) = fitting_value(&key, value, expected, problems) {
                    kept.insert(name.into(), value);
                }
            }
            None => {
                let known: Vec<&str> = known.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                problems.refuse_form(&key, "is no setting", other_word(name, &known));
                if let Some(meant) = closest(name, &known).filter(|meant| !table.contains_key(*meant)) {
                    problems.silence(&parent.name(meant));
                }
            }
        }
    }
    kept
}

fn fitting_value(
    key: &Key,
    value: &Spanned<DeValue<'_>>,
    schema: &Value,
    problems: &mut Problems<'_>,
) -> Option<Value> {
    let branches = branches(schema);
    let of = |kind| branches.iter().find(|branch| kind_of(branch) == kind);
    match value.get_ref() {
        DeValue::Table(table) => {
            if let Some(branch) = of("object") {
                return Some(Value::Object(fitting_table(key, table, branch, problems)));
            }
        }
        DeValue::Array(array) => {
            if let Some(items) = of("array").and_then(|branch| branch.get("items")) {
                // An element that does not fit keeps its place, so that the others keep their numbers.
                let kept = array.iter().enumerate().map(|(place, value)| {
                    fitting_value(&key.at(place), value, items, problems).unwrap_or_else(|| placeholder(items))
                });
                return Some(kept.collect());
            }
        }
        DeValue::String(word) => {
            if let Some(branch) = of("string") {
                return fitting_word(key, word, branch, problems);
            }
        }
        DeValue::Integer(integer) => {
            let parsed = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
            match parsed {
                Some(whole) if of("integer").is_some() && whole >= 0 => return Some(whole.into()),
                Some(whole) if of("number").is_some() => return Some(whole.into()),
                Some(_) | None => {}
            }
        }
        DeValue::Float(float) => {
            let parsed = float.as_str().parse::<f64>().ok().and_then(Number::from_f64);
            if let Some(number) = parsed.filter(|_| of("number").is_some()) {
                return Some(Value::Number(number));
            }
        }
        DeValue::Boolean(answer) => {
            if of("boolean").is_some() {
                return Some((*answer).into());
            }
        }
        DeValue::Datetime(_) => {}
    }
    refuse_kind(key, value.get_ref(), schema, problems);
    None
}

/// A word, held against the closed list of words where there is one.
fn fitting_word(key: &Key, word: &str, schema: &Value, problems: &mut Problems<'_>) -> Option<Value> {
    let words = words(schema);
    if words.is_empty() || words.contains(&word) {
        return Some(word.into());
    }
    problems.refuse_form(key, format!("\"{}\" is not a word for this", shown(word)), other_word(word, &words));
    None
}

fn refuse_kind(key: &Key, value: &DeValue<'_>, schema: &Value, problems: &mut Problems<'_>) {
    let forms: Vec<String> = branches(schema).into_iter().map(form_of).collect();
    let form = extension(schema, "x-form").and_then(Value::as_str).map_or_else(|| forms.join(" or "), str::to_owned);
    let what = match value {
        DeValue::Table(_) => "is a table",
        _ if extension(schema, "x-secret").is_some() => "holds a secret in the open",
        DeValue::String(_) => "is a string",
        DeValue::Integer(whole) if whole.as_str().starts_with('-') => "is a negative number",
        DeValue::Integer(whole) if i64::from_str_radix(whole.as_str(), whole.radix()).is_err() => {
            "is too large a number"
        }
        DeValue::Integer(_) => "is a whole number",
        DeValue::Float(float) if !float.as_str().parse::<f64>().is_ok_and(f64::is_finite) => "is no finite number",
        DeValue::Float(_) => "is a decimal number",
        DeValue::Boolean(_) => "is a boolean",
        DeValue::Datetime(_) => "is a date",
        DeValue::Array(_) => "is a list",
    };
    problems.refuse_form(key, what, format!("write {form}"));
}

/// What to do about an unknown word, given the known ones.
pub(super) fn other_word(word: &str, known: &[&str]) -> String {
    match closest(word, known) {
        Some(close) => format!("did you mean `{close}`?"),
        None if known.is_empty() => "remove it".into(),
        None if known.len() <= KNOWN_LISTED_MAX => format!("write one of {}", known.join(", ")),
        None => "remove it, or look up its name in config.example.toml".into(),
    }
}

/// The known word that `word` is most likely a slip of.
fn closest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let written: Vec<char> = word.to_lowercase().replace('-', "_").chars().collect();
    if written.len() > COMPARED_CHARS_MAX {
        return None;
    }
    let slips = |known: &&str| slips_between(&written, &known.chars().collect::<Vec<char>>());
    let best = known.iter().copied().min_by_key(slips)?;
    (slips(&best) <= (best.chars().count() / 3).max(1)).then_some(best)
}

/// How many letters were added, left out, changed or swapped with their neighbour.
fn slips_between(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let changed = last[j] + usize::from(x != y);
            let mut least = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(a.len())
}

/// The alternatives of a schema, without the absent value.
fn branches(schema: &Value) -> Vec<&Value> {
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(any) => any.iter().flat_map(branches).collect(),
        None if kind_of(schema) == "null" => Vec::new(),
        None => vec![schema],
    }
}

/// The kind of value a schema without alternatives takes, `null` only if it takes nothing else.
fn kind_of(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        // A list of words with a description each has its kind one level down; there are lists of nothing else.
        _ => "string",
    }
}

/// The words of a closed list; empty where every word will do.
fn words(schema: &Value) -> Vec<&str> {
    let one_of = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let constants = one_of.filter_map(|one| one.get("const"));
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    constants.chain(listed).filter_map(Value::as_str).collect()
}

/// How a problem tells people what to write.
fn form_of(schema: &Value) -> String {
    if let Some(form) = schema.get("x-form").and_then(Value::as_str) {
        return form.into();
    }
    let words = words(schema);
    match kind_of(schema) {
        _ if !words.is_empty() => {
            format!("one of {}", words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "))
        }
        "object" => "a table".into(),
        "array" => "a list".into(),
        "integer" => "a whole number from 0".into(),
        "number" => "a number".into(),
        "boolean" => "true or false".into(),
        _ => "a string".into(),
    }
}

/// An extension of a schema, or of the one schema it is an option of.
fn extension<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema.get(name).or_else(|| branches(schema).into_iter().find_map(|branch| branch.get(name)))
}

/// A value of the right kind in the place of one that was refused.
fn placeholder(schema: &Value) -> Value {
    match branches(schema).first().map_or("string", |branch| kind_of(branch)) {
        "object" => Value::Object(Map::new()),
        "array" => Value::Array(Vec::new()),
        "integer" | "number" => 0.into(),
        "boolean" => false.into(),
        _ => "".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word_and_another_word_does_not() {
        let known = ["bake_time", "share", "cohorts"];
        for (word, close) in [
            ("bake_tiem", Some("bake_time")),
            ("bake-time", Some("bake_time")),
            ("Share", Some("share")),
            ("cohort", Some("cohorts")),
            ("weight", None),
            ("", None),
        ] {
            assert_eq!(closest(word, &known), close, "{word}");
        }
        assert_eq!(closest(&"s".repeat(COMPARED_CHARS_MAX + 1), &["s"]), None);
    }

    #[test]
    fn slips_are_counted_one_by_one() {
        let count = |a: &str, b: &str| slips_between(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(
            [count("ab", "ba"), count("", "abc"), count("abc", ""), count("abc", "abd"), count("abc", "abc")],
            [1, 3, 3, 1, 0]
        );
    }
}
