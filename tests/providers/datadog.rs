//! Datadog's shapes: "Query timeseries points" of its API reference.

use std::sync::Arc;

use serde_json::json;
use tollgate::telemetry::{self, Clock, Provider, buckets::Setting, datadog};

use crate::{
    contract::{Asked, NEW, SECRET, Vendor, holds},
    server::Seen,
};

struct Datadog;

impl Vendor for Datadog {
    fn provider(url: &str, setting: Setting, clock: Clock) -> Arc<dyn Provider> {
        let config = datadog::Config {
            url: url.into(),
            api_key: SECRET.into(),
            application_key: format!("{SECRET}-app").into(),
            setting,
        };
        assert!(!format!("{config:?}").contains(SECRET));
        telemetry::build(telemetry::Config::Datadog(config), clock).unwrap()
    }

    fn asked(seen: &Seen) -> Asked {
        assert_eq!(seen.uri.path(), "/api/v1/query");
        assert_eq!(seen.headers["dd-api-key"], SECRET);
        assert!(seen.headers.contains_key("dd-application-key"));
        let parameters = seen.parameters();
        let query = &parameters["query"];
        assert!(query.starts_with("sum:requests{") && query.ends_with("}.as_count().rollup(sum, 60)"), "{query}");
        let millis = |name: &str| parameters[name].parse::<u64>().unwrap() * 1_000;
        Asked {
            bad: query.contains("code:500 AND "),
            canary: query.contains(&format!("version:{NEW}")),
            from: millis("from"),
            to: millis("to"),
        }
    }

    fn data(_: &Asked, buckets: &[(u64, f64)]) -> String {
        let points: Vec<_> = buckets.iter().map(|(at, value)| json!([*at as f64, value])).collect();
        let series = json!({"unit": null, "query_index": 0, "aggr": "sum", "metric": "requests", "tag_set": [],
            "expression": "sum:requests{version:old-1}.as_count()", "scope": "version:old-1", "interval": 60,
            "length": points.len(), "start": 1, "end": 2, "pointlist": points, "display_name": "requests",
            "attributes": {}});
        let series = if buckets.is_empty() { json!([]) } else { json!([series]) };
        json!({"status": "ok", "res_type": "time_series", "resp_version": 1, "query": "q", "from_date": 1,
            "to_date": 2, "series": series, "values": [], "times": [], "message": "", "group_by": []})
        .to_string()
    }

    fn partial() -> Vec<String> {
        let partial = json!({"status": "partial", "res_type": "time_series", "series": [], "message": ""});
        let error = json!({"status": "error", "res_type": "time_series", "series": [], "error": "Query timed out"});
        vec![partial.to_string(), error.to_string()]
    }

    fn wrong_types() -> Vec<String> {
        let of = |points: serde_json::Value| {
            json!({"status": "ok", "res_type": "time_series", "series": [{"pointlist": points}]}).to_string()
        };
        vec![
            of(json!([[1_700_000_040_000.0, "12"]])),
            of(json!([["now", 12.0]])),
            of(json!([[1_700_000_041_000.0, 12.0]])),
            of(json!([[1_700_000_040_000.0, -12.0]])),
            of(json!({})),
            json!({"status": "ok", "res_type": "time_series"}).to_string(),
            json!({"status": 200}).to_string(),
            json!({"status": "ok", "res_type": "scalar", "series": []}).to_string(),
        ]
    }

    fn expired() -> (u16, String) {
        (403, json!({"errors": ["Forbidden"]}).to_string())
    }
}

holds!(Datadog);
