//! The policy's version: a digest of all that decides, so that a journal says under which rules each decision was made.
//!
//! The digest is over canonical JSON: object keys sorted, no blanks. Whitespace, comments, the order of keys and where
//! secrets are found do not change it; every value that reaches a decision does.

use std::{collections::BTreeMap, fmt::Write};

use serde::Serialize;
use serde_json::{Error, Value};
use sha2::{Digest, Sha256};

use crate::{
    domain::{PolicyVersion, ServiceName},
    rollout::ServicePolicy,
};

/// What the version is a digest of.
#[derive(Serialize)]
struct Digested<'a> {
    services: &'a BTreeMap<ServiceName, ServicePolicy>,
    rollouts_max: usize,
    finished_kept: usize,
}

/// The version of a policy with these parts: SHA-256 in hexadecimal.
pub(super) fn of(
    services: &BTreeMap<ServiceName, ServicePolicy>,
    rollouts_max: usize,
    finished_kept: usize,
) -> Result<PolicyVersion, Error> {
    let mut canonical = String::new();
    write_sorted(&serde_json::to_value(Digested { services, rollouts_max, finished_kept })?, &mut canonical)?;
    let mut hexadecimal = String::new();
    for byte in Sha256::digest(canonical.as_bytes()) {
        // Writing to a string does not fail.
        let _ = write!(hexadecimal, "{byte:02x}");
    }
    Ok(PolicyVersion::new(hexadecimal))
}

/// JSON with sorted keys, whatever order the map in memory has.
fn write_sorted(value: &Value, out: &mut String) -> Result<(), Error> {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            out.push('{');
            for (i, (key, value)) in sorted.into_iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                out.push_str(&serde_json::to_string(key)?);
                out.push(':');
                write_sorted(value, out)?;
            }
            out.push('}');
        }
        Value::Array(values) => {
            out.push('[');
            for (i, value) in values.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                write_sorted(value, out)?;
            }
            out.push(']');
        }
        plain => out.push_str(&serde_json::to_string(plain)?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn canonical_json_is_sorted_and_without_blanks() {
        let mut out = String::new();
        write_sorted(&json!({"b": [1, {"d": null, "c": "x\"y"}], "a": 0.5}), &mut out).unwrap();
        assert_eq!(out, r#"{"a":0.5,"b":[1,{"c":"x\"y","d":null}]}"#);
    }

    #[test]
    fn the_version_is_a_digest_of_every_part() {
        let services = BTreeMap::new();
        let version = of(&services, 100, 200).unwrap();
        assert_eq!(version.as_str().len(), 64);
        assert_eq!(version, of(&services, 100, 200).unwrap());
        assert_ne!(version, of(&services, 101, 200).unwrap());
        assert_ne!(version, of(&services, 100, 201).unwrap());
    }
}
