//! New Relic's shapes: "Query your data using NRQL" of the NerdGraph tutorials.

use std::sync::Arc;

use serde_json::{Value, json};
use tollgate::telemetry::{self, Clock, Provider, buckets::Setting, newrelic};

use crate::{
    contract::{Asked, NEW, SECRET, STEP, Vendor, holds},
    server::Seen,
};

struct NewRelic;

fn answer(results: &[Value]) -> Value {
    json!({"data": {"actor": {"account": {"nrql": {"results": results}}}}})
}

fn bucket(at: u64, value: Value, points: u64) -> Value {
    json!({"beginTimeSeconds": at / 1_000, "endTimeSeconds": (at + STEP) / 1_000, "n": value, "points": points})
}

impl Vendor for NewRelic {
    fn provider(url: &str, setting: Setting, clock: Clock) -> Arc<dyn Provider> {
        let config = newrelic::Config { url: format!("{url}/graphql"), account: 7, api_key: SECRET.into(), setting };
        assert!(!format!("{config:?}").contains(SECRET));
        telemetry::build(telemetry::Config::NewRelic(config), clock).unwrap()
    }

    fn asked(seen: &Seen) -> Asked {
        assert_eq!((seen.uri.path(), &seen.headers["api-key"]), ("/graphql", &SECRET.parse().unwrap()));
        let body = seen.json();
        assert_eq!(body["variables"]["account"], 7);
        let nrql = body["variables"]["nrql"].as_str().unwrap();
        let number = |after: &str| {
            let rest = nrql.split(after).nth(1).unwrap();
            rest.split(' ').next().unwrap().parse::<u64>().unwrap()
        };
        assert_eq!(number("TIMESERIES "), 60);
        Asked {
            bad: nrql.contains("`code` = '500'"),
            canary: nrql.contains(&format!("`version` = '{NEW}'")),
            from: number("SINCE "),
            to: number("UNTIL "),
        }
    }

    fn data(asked: &Asked, buckets: &[(u64, f64)]) -> String {
        // Buckets in which nothing was recorded are answered too, as zeros.
        let empty = (asked.from / STEP..asked.to / STEP).map(|n| bucket(n * STEP, json!(0), 0));
        let full = buckets.iter().map(|(at, value)| bucket(*at, json!(value), 3));
        let results: Vec<Value> = if buckets.is_empty() { empty.collect() } else { full.collect() };
        answer(&results).to_string()
    }

    fn partial() -> Vec<String> {
        let mut partial = answer(&[bucket(1_700_000_040_000, json!(5), 1)]);
        partial["errors"] = json!([{"message": "NRDB:1100: the query timed out", "path": ["actor", "account", "nrql"],
            "extensions": {"errorClass": "TIMEOUT"}}]);
        let nothing = json!({"data": null, "errors": [{"message": "internal error"}]});
        vec![partial.to_string(), nothing.to_string()]
    }

    fn wrong_types() -> Vec<String> {
        let at = 1_700_000_040_000;
        vec![
            answer(&[bucket(at, json!("5"), 1)]).to_string(),
            answer(&[bucket(at, json!(-5), 1)]).to_string(),
            answer(&[bucket(at + 1_000, json!(5), 1)]).to_string(),
            answer(&[json!({"n": 5, "points": 1})]).to_string(),
            answer(&[json!({"n": 5, "beginTimeSeconds": 1_700_000_040})]).to_string(),
            answer(&[json!(5)]).to_string(),
            json!({"data": {"actor": {"account": null}}}).to_string(),
        ]
    }

    fn expired() -> (u16, String) {
        (401, json!({"errors": [{"message": "Invalid API key"}]}).to_string())
    }
}

holds!(NewRelic);
