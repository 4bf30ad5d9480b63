//! The example holds what it promises: it is accepted, it shows every key, and each default it states is the default.

use std::{collections::BTreeSet, fs};

use serde_json::Value;
use tollgate::config::{self, Config, Problem};

use super::{SECRET, env};

const EXAMPLE: &str = include_str!("../../config.example.toml");

/// What the comment above a key says of leaving it out.
#[derive(Clone, Debug, PartialEq)]
enum Promise {
    Default(String),
    Required,
    Unset,
    /// Unset, together with the key of the line below.
    BothUnset,
}

/// A key's line in the example with everything switched on.
struct Shown {
    /// Place of its line, from 0.
    line: usize,
    name: String,
    value: String,
    promise: Option<Promise>,
}

/// The example with the keys that are off switched on: their lines begin with `#` and no blank.
fn all_on() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => key.to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(|line| on(line) + "\n").collect()
}

/// Reads it in a folder that holds the file that it names for a secret.
fn read(text: &str) -> Result<Config, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("github-token"), format!("{SECRET}\n")).unwrap();
    for pem in ["ca.pem", "client.pem", "client.key"] {
        fs::write(folder.path().join(pem), "-----BEGIN CERTIFICATE-----\n").unwrap();
    }
    let file = folder.path().join("tollgate.toml");
    let mut read = config::read(text, file.to_str().unwrap(), &env);
    if let Ok(config) = &mut read {
        // The folder has another name each time.
        config.journal.dir = config.journal.dir.strip_prefix(folder.path()).unwrap().to_owned();
        // Nobody minds the file's mode here.
        config.warnings.retain(|warning| !warning.contains("chmod"));
    }
    read
}

/// Every key in the text, with what the comment right above it promises.
fn shown(text: &str) -> Vec<Shown> {
    let mut keys = Vec::new();
    let mut comment = String::new();
    for (line, words) in text.lines().enumerate() {
        if let Some(words) = words.strip_prefix("# ") {
            comment = format!("{comment} {words}");
        } else if let Some((name, value)) = words.split_once(" = ") {
            let promise = promise_of(&comment);
            keys.push(Shown { line, name: name.into(), value: value.into(), promise });
            comment.clear();
        } else {
            comment.clear();
        }
    }
    keys
}

fn promise_of(comment: &str) -> Option<Promise> {
    if let Some((_, value)) = comment.rsplit_once(" Default: ") {
        return value.strip_suffix('.').map(|value| Promise::Default(value.into()));
    }
    let ends = |words| comment.ends_with(words);
    // With everything switched on there is a traffic_metric, so this key may be left out.
    if ends("Required, unless the service has a traffic_metric.") || ends("Unset by default.") {
        return Some(Promise::Unset);
    }
    if ends("Both are unset by default.") {
        return Some(Promise::BothUnset);
    }
    ends("Required.").then_some(Promise::Required)
}

fn without_line(text: &str, line: usize) -> String {
    text.lines().enumerate().filter(|(at, _)| *at != line).map(|(_, words)| format!("{words}\n")).collect()
}

#[test]
fn the_example_is_accepted_as_it_is_and_with_every_key_switched_on() {
    let config = config::read(EXAMPLE, "config.example.toml", &env).expect("as it is");
    assert_eq!(config.policy.services.len(), 1);
    let warned: Vec<&str> = config.warnings.iter().filter_map(|warning| warning.split(':').next()).collect();
    assert_eq!(warned, ["github.token"], "nothing else in the example needs a second look");
    let all = read(&all_on()).expect("with every key switched on");
    assert!(all.api_token.is_some() && all.github.token.is_some());
    assert_eq!(all.warnings, Vec::<String>::new());
}

#[test]
fn each_promise_of_the_example_is_kept() {
    let text = all_on();
    let whole = read(&text).unwrap();
    // Secrets do not print, so that they are set shows and what they are does not matter here.
    let same = |other: &Config| format!("{other:?}") == format!("{whole:?}");
    let mut kept = 0;
    for Shown { line, name, value, promise } in shown(&text) {
        let Some(promise) = promise else { continue };
        let without = read(&without_line(&text, line));
        kept += 1;
        match (promise, without) {
            (Promise::Default(said), Ok(without)) => {
                assert_eq!(said, value, "line {}: the comment and the value differ", line + 1);
                assert!(same(&without), "line {}: {name} has another default", line + 1);
            }
            (Promise::Unset, Ok(without)) => {
                assert!(!same(&without), "line {}: {name} has a default", line + 1);
            }
            (Promise::Required, Err(problems)) => {
                let missing = |problem: &Problem| problem.what == "is missing" && problem.key.ends_with(&name);
                assert!(problems.iter().any(missing), "line {}: {problems:?}", line + 1);
            }
            (Promise::BothUnset, Err(problems)) => {
                let lacks = |problem: &Problem| problem.what == "is missing" && problem.key.ends_with(&name);
                assert!(problems.iter().any(lacks), "line {}: {problems:?}", line + 1);
                let without_both = read(&without_line(&without_line(&text, line + 1), line)).unwrap();
                assert!(!same(&without_both), "line {}: {name} has a default", line + 1);
            }
            (promise, without) => panic!("line {}: {name} {promise:?} without it: {:?}", line + 1, without.err()),
        }
    }
    assert!(kept > 140, "only {kept} promises were found");
}

#[test]
fn the_ladder_of_the_example_is_the_default_one() {
    let start = EXAMPLE.find("[[services.shop.stages]]").unwrap();
    let end = EXAMPLE.find("[services.shop.risk_bake]").unwrap();
    let without = format!("{}{}", &EXAMPLE[..start], &EXAMPLE[end..]);
    let ladder = |text| read(text).unwrap().policy.services.into_values().next().unwrap().stages;
    assert_eq!(ladder(&without), ladder(EXAMPLE));
}

#[test]
fn the_example_shows_every_key_there_is_and_says_what_leaving_it_out_means() {
    let written: Value = toml::from_str(&all_on()).unwrap();
    let mut in_example = BTreeSet::new();
    paths_of_value(&written, &config::schema(), "", &mut in_example);
    let mut in_schema = BTreeSet::new();
    paths_of_schema(&config::schema(), "", &mut in_schema);
    assert!(in_schema.contains("services.*.slis[].bad.where.*.one_of") && in_schema.contains("github.token.file"));
    // Where a kind of table stands in several places, each of its keys is shown in one of them.
    let kind = |path: &String| match path.rsplit_once(".where.*") {
        Some((_, rest)) => format!("where{rest}"),
        None if path.ends_with(".env") || path.ends_with(".file") => path.rsplit('.').next().unwrap().to_owned(),
        None => path.replace(".path_rules[].checks[]", ".slos[]"),
    };
    let (in_example, in_schema) =
        (in_example.iter().map(kind).collect::<BTreeSet<_>>(), in_schema.iter().map(kind).collect::<BTreeSet<_>>());
    let selector = |path: &&String| path.ends_with(".where");
    // What goes only with another choice than the example's is told where that choice is.
    let elsewhere = |path: &&String| path.as_str() == "model.api_version" && EXAMPLE.contains("api_version = \"");
    let missing: Vec<&String> =
        in_schema.difference(&in_example).filter(|path| !selector(path) && !elsewhere(path)).collect();
    assert_eq!(missing, Vec::<&String>::new(), "keys that the example does not show");

    let said: BTreeSet<String> = shown(&all_on()).into_iter().filter(|s| s.promise.is_some()).map(|s| s.name).collect();
    let inline = [
        "metric",
        "where",
        "is",
        "is_not",
        "one_of",
        "starts_with",
        "env",
        "file",
        "api_version",
        "source",
        "client_key_file",
        "password",
        "above",
    ];
    let names = in_schema.iter().filter(|path| !path.ends_with(".*")).filter_map(|path| path.rsplit('.').next());
    let tables = [
        "fleet",
        "journal",
        "github",
        "log",
        "services",
        "telemetry",
        "control",
        "canary",
        "flag",
        "limit",
        "model",
        "price",
        "limits",
        "budget",
        "risk_bake",
        "slos",
        "stages",
        "slis",
        "probes",
        "path_rules",
        "checks",
        "probing",
        "metrics",
        "sources",
    ];
    let silent: BTreeSet<&str> = names
        .filter(|name| !name.ends_with("[]") && !inline.contains(name) && !tables.contains(name))
        .filter(|name| !said.contains(*name))
        .collect();
    assert_eq!(silent, BTreeSet::new(), "keys of which the example does not say what leaving them out means");
}

/// Paths of every key that a schema takes: `*` for any name, `[]` for any place.
fn paths_of_schema(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for branch in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        paths_of_schema(branch, path, found);
    }
    for (name, below) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        found.insert(path.clone());
        paths_of_schema(below, &path, found);
    }
    if let Some(any) = schema.get("additionalProperties").filter(|any| any.is_object()) {
        paths_of_schema(any, &format!("{path}.*"), found);
    }
    if let Some(items) = schema.get("items") {
        paths_of_schema(items, &format!("{path}[]"), found);
    }
}

/// The same of the keys that a file has.
fn paths_of_value(value: &Value, schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let branches: Vec<&Value> = match schema.get("anyOf").and_then(Value::as_array) {
        Some(branches) => branches.iter().collect(),
        None => vec![schema],
    };
    for (name, value) in value.as_object().into_iter().flatten() {
        for branch in &branches {
            if let Some(below) = branch.get("properties").and_then(|known| known.get(name)) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                found.insert(path.clone());
                paths_of_value(value, below, &path, found);
            } else if let Some(any) = branch.get("additionalProperties").filter(|any| any.is_object()) {
                paths_of_value(value, any, &format!("{path}.*"), found);
            }
        }
    }
    for value in value.as_array().into_iter().flatten() {
        for items in branches.iter().filter_map(|branch| branch.get("items")) {
            paths_of_value(value, items, &format!("{path}[]"), found);
        }
    }
}
