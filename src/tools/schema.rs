//! Schemas of arguments, in the subset that every server takes as strict, and the check of arguments against them.
//!
//! Servers that say `strict` differ in what they take: some refuse `default`, some `oneOf`, some bounds of numbers, and
//! some promise much and enforce nothing. So a schema here is made of few words only ([`WORDS`]): flat objects of which
//! every property is required and no other is allowed, lists of them, plain values and closed lists of words; what may be
//! left out may be null. What the schema cannot say (lengths, ranges) is in the tool's sheet and is checked by the tool.
//!
//! Arguments are checked against the same schema that the model was given, since a parser of types names the line where
//! it failed and not the field to mend.

use schemars::{
    JsonSchema, Schema,
    generate::SchemaSettings,
    transform::{Transform, transform_subschemas},
};
use serde_json::{Map, Value, json};

/// The only words a schema is made of.
pub const WORDS: [&str; 7] = ["type", "properties", "required", "additionalProperties", "items", "enum", "description"];

/// The strict schema of a type's JSON.
pub(super) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    settings.with_transform(Strict).into_generator().into_root_schema_for::<T>().to_value()
}

/// Brings a schema into the strict subset, from the leaves up.
#[derive(Clone, Debug)]
struct Strict;

impl Transform for Strict {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else { return };
        for choice in ["oneOf", "anyOf"] {
            if let Some(Value::Array(branches)) = object.remove(choice) {
                flatten(object, &branches);
            }
        }
        if let Some(word) = object.remove("const") {
            object.insert("enum".into(), json!([word]));
        }
        if let Some(Value::Object(properties)) = object.get("properties") {
            let names: Vec<Value> = properties.keys().cloned().map(Value::String).collect();
            object.insert("required".into(), Value::Array(names));
        } else if object.get("type") == Some(&json!("object")) {
            object.insert("properties".into(), json!({}));
            object.insert("required".into(), json!([]));
        }
        if object.get("type") == Some(&json!("object")) {
            object.insert("additionalProperties".into(), Value::Bool(false));
        }
        if object.contains_key("enum") && !object.contains_key("type") {
            object.insert("type".into(), json!("string"));
        }
        object.retain(|word, _| WORDS.contains(&word.as_str()));
        if let Some(Value::String(words)) = object.get_mut("description") {
            *words = words.replace('\n', " ");
        }
    }
}

/// Puts branches together where they are closed lists of words, or one thing or nothing; what else they are stays away,
/// which the walk over all schemas finds.
fn flatten(object: &mut Map<String, Value>, branches: &[Value]) {
    let is_null = |branch: &&Value| branch.get("type") == Some(&json!("null"));
    let is_nullable = branches.iter().any(|branch| is_null(&branch));
    let others: Vec<&Value> = branches.iter().filter(|branch| !is_null(branch)).collect();
    let words: Vec<Value> =
        others.iter().filter_map(|branch| branch.get("enum")?.as_array()).flatten().cloned().collect();
    if !words.is_empty() {
        object.insert("enum".into(), Value::Array(words));
        object.insert("type".into(), json!("string"));
    } else if let [Value::Object(only)] = others.as_slice() {
        for (word, value) in only {
            object.entry(word.clone()).or_insert_with(|| value.clone());
        }
    }
    if is_nullable {
        if let Some(Value::Array(words)) = object.get_mut("enum") {
            words.push(Value::Null);
        }
        if let Some(kind) = object.get("type").cloned() {
            object.insert("type".into(), json!([kind, "null"]));
        }
    }
}

/// Most bytes of a stranger's property name that are repeated to it.
const NAME_BYTES_MAX: usize = 60;

/// What is wrong with a value, beginning with the place in it; `None` where it fits. A missing property that may be null
/// is taken for null.
pub(super) fn fault(schema: &Value, value: &Value, place: &str) -> Option<String> {
    let here = || if place.is_empty() { "the arguments".to_owned() } else { place.to_owned() };
    let kinds = kinds(schema);
    if !kinds.iter().any(|kind| is_of_kind(kind, value)) {
        return Some(format!("{}: must be {}", here(), kinds.join(" or ")));
    }
    if let Some(Value::Array(words)) = schema.get("enum")
        && !words.contains(value)
    {
        let words: Vec<&str> = words.iter().map(|word| word.as_str().unwrap_or("null")).collect();
        return Some(format!("{}: must be one of {}", here(), words.join(", ")));
    }
    match value {
        Value::Array(items) => {
            let of_item = schema.get("items")?;
            items.iter().enumerate().find_map(|(at, item)| fault(of_item, item, &format!("{}[{at}]", here())))
        }
        Value::Object(given) => {
            let known = schema.get("properties")?.as_object()?;
            let under = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
            if let Some(unknown) = given.keys().find(|name| !known.contains_key(*name)) {
                let told = crate::untrusted::visible(&crate::untrusted::masked(unknown).text, NAME_BYTES_MAX);
                let names: Vec<&str> = known.keys().map(String::as_str).collect();
                return Some(format!("{}: there is no {told}; there is {}", here(), names.join(", ")));
            }
            known.iter().find_map(|(name, of_property)| match given.get(name) {
                Some(property) => fault(of_property, property, &under(name)),
                None if self::kinds(of_property).contains(&"null") => None,
                None => Some(format!("{}: is missing", under(name))),
            })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn kinds(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        Some(_) | None => Vec::new(),
    }
}

fn is_of_kind(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// A word.
    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        /// One, with a comment, which schemars makes a branch of its own.
        One,
        Two,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Inner {
        n: u16,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Outer {
        /// What it is.
        word: Word,
        maybe: Option<Word>,
        share: Option<f64>,
        list: Vec<Inner>,
    }

    #[test]
    fn a_schema_is_flat_closed_and_of_few_words() {
        let schema = of::<Outer>();
        let expected = json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["list", "maybe", "share", "word"],
            "properties": {
                "word": {"type": "string", "enum": ["two", "one"], "description": "What it is."},
                "maybe": {"type": ["string", "null"], "enum": ["two", "one", null]},
                "share": {"type": ["number", "null"]},
                "list": {"type": "array", "items": {
                    "type": "object", "additionalProperties": false, "required": ["n"],
                    "properties": {"n": {"type": "integer"}},
                }},
            },
        });
        let sorted = |mut value: Value| {
            if let Some(Value::Array(required)) = value.get_mut("required") {
                required.sort_by_key(ToString::to_string);
            }
            value
        };
        assert_eq!(sorted(schema), sorted(expected));
    }

    #[test]
    fn a_fault_names_the_field_and_the_fix() {
        let schema = of::<Outer>();
        let said = |value: Value| fault(&schema, &value, "").unwrap_or_default();
        let fine = json!({"word": "one", "maybe": null, "share": 1, "list": [{"n": 3}]});
        assert_eq!(said(fine), "");
        assert_eq!(said(json!({"word": "one", "list": []})), "", "what may be null may be missing");
        assert_eq!(said(json!([])), "the arguments: must be object");
        assert_eq!(said(json!({"list": []})), "word: is missing");
        assert_eq!(said(json!({"word": "three", "list": []})), "word: must be one of two, one");
        assert_eq!(said(json!({"word": "one", "list": [{"n": 1}, {"n": "x"}]})), "list[1].n: must be integer");
        assert_eq!(
            said(json!({"word": "one", "list": [{"n": 1, "url": "x"}]})),
            "list[0]: there is no url; there is n"
        );
        let long = json!({"word": "one", "list": [], "x".repeat(50_000): 1});
        assert!(said(long).len() < 200);
    }
}
