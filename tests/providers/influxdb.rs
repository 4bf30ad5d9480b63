//! InfluxDB's shapes: `/query` of 1.x, whose answers are JSON, and `/api/v2/query` of 2.x, whose answers are annotated CSV.
//! The server gives points of cumulative counters; what they gained is counted by the source.

use std::sync::Arc;

use serde_json::json;
use tollgate::telemetry::{
    self, Clock, Provider,
    buckets::Setting,
    influxdb::{self, Counters, LOOKBACK, Language, Layout},
};

use crate::{
    contract::{Asked, NEW, OLD, SECRET, STEP, Vendor, holds},
    server::Seen,
};

fn config(url: &str, language: Language, counters: Counters, setting: Setting) -> influxdb::Config {
    let layout = Layout::Measurement { counter: "counter".into(), gauge: "gauge".into() };
    let config = influxdb::Config { url: url.into(), language, layout, counters, setting };
    assert!(!format!("{config:?}").contains(SECRET));
    config
}

/// Both codes are in one answer: what is bad is told by the label, here.
fn both(buckets: &[(u64, f64)], bad: &[(u64, f64)]) -> [(&'static str, Vec<(u64, f64)>); 2] {
    let good = buckets.iter().zip(bad).map(|((at, all), (_, bad))| (*at, all - bad)).collect();
    [("200", good), ("500", bad.to_vec())]
}

/// The bad ones in the same buckets.
fn bad_ones(asked: &Asked, buckets: &[(u64, f64)]) -> Vec<(u64, f64)> {
    buckets.iter().map(|(at, _)| (*at, (at / STEP % 3 + u64::from(asked.canary)) as f64)).collect()
}

fn canary(query: &str) -> bool {
    assert!(query.contains(NEW) != query.contains(OLD), "{query}");
    query.contains(NEW)
}

struct InfluxQl;

impl Vendor for InfluxQl {
    const TELLS_BAD_APART: bool = false;

    fn provider(url: &str, setting: Setting, clock: Clock) -> Arc<dyn Provider> {
        let user = Some(("reader".to_owned(), SECRET.into()));
        let language = Language::InfluxQl { database: "telegraf".into(), retention: None, user };
        let config = config(url, language, Counters::Delta, setting);
        telemetry::build(telemetry::Config::InfluxDb(config), clock).unwrap()
    }

    fn asked(seen: &Seen) -> Asked {
        assert_eq!(seen.uri.path(), "/query");
        assert!(seen.headers["authorization"].to_str().unwrap().starts_with("Basic "));
        let parameters = seen.parameters();
        assert_eq!((parameters["db"].as_str(), parameters["epoch"].as_str()), ("telegraf", "ms"));
        let query = &parameters["q"];
        let number = |after: &str| {
            let rest = query.split(after).nth(1).unwrap();
            rest.split("ms").next().unwrap().parse::<u64>().unwrap()
        };
        assert!(query.starts_with("SELECT \"counter\" FROM \"requests\" WHERE time >= "), "{query}");
        Asked { bad: false, canary: canary(query), from: number("time >= "), to: number("time < ") }
    }

    fn data(asked: &Asked, buckets: &[(u64, f64)]) -> String {
        let series: Vec<_> = both(buckets, &bad_ones(asked, buckets))
            .into_iter()
            .filter(|(_, points)| !points.is_empty())
            .map(|(code, points)| {
                json!({"name": "requests", "tags": {"code": code, "host": "", "version": if asked.canary { NEW } else { OLD }}, "columns": ["time", "counter"],
                       "values": points})
            })
            .collect();
        let series =
            if series.is_empty() { json!({"statement_id": 0}) } else { json!({"statement_id": 0, "series": series}) };
        json!({"results": [series]}).to_string()
    }

    fn partial() -> Vec<String> {
        let rows = json!({"name": "requests", "columns": ["time", "counter"], "values": [], "partial": true});
        vec![
            json!({"results": [{"statement_id": 0, "series": [rows]}]}).to_string(),
            json!({"results": [{"statement_id": 0, "series": [], "partial": true}]}).to_string(),
            json!({"results": [{"statement_id": 0, "error": "query interrupted"}]}).to_string(),
        ]
    }

    fn wrong_types() -> Vec<String> {
        let of = |columns: serde_json::Value, values: serde_json::Value| {
            json!({"results": [{"series": [{"columns": columns, "values": values, "tags": {"code": "500", "version": NEW}}]}]})
                .to_string()
        };
        let columns = json!(["time", "counter"]);
        vec![
            of(columns.clone(), json!([["2023-11-14T22:14:00Z", 1]])),
            of(columns.clone(), json!([[1_700_000_040_000_u64, "1"]])),
            of(columns.clone(), json!([[1_700_000_040_000_u64, -1]])),
            of(columns, json!([[1_700_000_040_000_u64, 1, 2]])),
            of(json!(["name", "value"]), json!([[1, 2]])),
            json!({"results": []}).to_string(),
        ]
    }

    fn expired() -> (u16, String) {
        (401, json!({"error": "authorization failed"}).to_string())
    }
}

struct Flux;

impl Vendor for Flux {
    const TELLS_BAD_APART: bool = false;

    fn provider(url: &str, setting: Setting, clock: Clock) -> Arc<dyn Provider> {
        let language = Language::Flux { organisation: "shop".into(), bucket: "m".into(), token: SECRET.into() };
        let config = config(url, language, Counters::Cumulative, setting);
        telemetry::build(telemetry::Config::InfluxDb(config), clock).unwrap()
    }

    fn asked(seen: &Seen) -> Asked {
        assert_eq!((seen.uri.path(), seen.parameters()["org"].as_str()), ("/api/v2/query", "shop"));
        assert_eq!(seen.headers["authorization"], format!("Token {SECRET}"));
        let body = seen.json();
        assert_eq!((&body["type"], &body["dialect"]["header"]), (&json!("flux"), &json!(true)));
        let query = body["query"].as_str().unwrap();
        let time = |after: &str| {
            let rest = query.split(after).nth(1).unwrap();
            let time: jiff::Timestamp = rest.split([',', ')']).next().unwrap().parse().unwrap();
            u64::try_from(time.as_millisecond()).unwrap()
        };
        let (from, to) = (time("start: ") + LOOKBACK.as_millis() as u64, time("stop: "));
        Asked { bad: false, canary: canary(query), from, to }
    }

    fn data(asked: &Asked, buckets: &[(u64, f64)]) -> String {
        let mut csv = String::new();
        for (table, (code, points)) in both(buckets, &bad_ones(asked, buckets)).into_iter().enumerate() {
            if points.is_empty() {
                continue;
            }
            csv += "#datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,dateTime:RFC3339,double,string,string,string,string\r\n\
                    #default,_result,,,,,,,,,\r\n,result,table,_start,_stop,_time,_value,_field,_measurement,code,version\r\n";
            let version = if asked.canary { NEW } else { OLD };
            let mut row = |at: u64, value: f64| {
                let time = jiff::Timestamp::from_millisecond(i64::try_from(at).unwrap()).unwrap();
                csv += &format!(",,{table},{time},{time},{time},{value},counter,requests,{code},{version}\r\n");
            };
            // The point before the window, and a process that starts again in it.
            row(asked.from - 10_000, 5_000.0);
            let mut value = 5_000.0;
            for (nth, (at, gained)) in points.into_iter().enumerate() {
                value = if nth == 1 { gained } else { value + gained };
                row(at + 30_000, value);
            }
            csv += "\r\n";
        }
        if csv.is_empty() { "\r\n".into() } else { csv }
    }

    fn partial() -> Vec<String> {
        vec![
            "#datatype,string,string\r\n#default,,\r\n,error,reference\r\n,query terminated: timeout,897\r\n\r\n"
                .into(),
        ]
    }

    fn wrong_types() -> Vec<String> {
        let of = |kind: &str, time: &str, value: &str| {
            format!(
                "#datatype,string,long,dateTime:RFC3339,{kind},string,string\n#default,_result,,,,,\n\
                 ,result,table,_time,_value,code,version\n,,0,{time},{value},500,{NEW}\n"
            )
        };
        let now = "2023-11-14T22:15:00Z";
        vec![of("string", now, "1"), of("double", now, "one"), of("double", "now", "1"), of("double", now, "-1")]
    }

    fn expired() -> (u16, String) {
        (401, json!({"code": "unauthorized", "message": "unauthorized access"}).to_string())
    }
}

mod influxql {
    crate::contract::holds!(super::InfluxQl);
}
mod flux {
    use super::*;
    holds!(Flux);
}
