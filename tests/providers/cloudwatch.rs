//! CloudWatch's shapes: `GetMetricData` of its API reference, by the JSON protocol.

use std::sync::Arc;

use serde_json::{Value, json};
use tollgate::telemetry::{
    self, Clock, Provider,
    buckets::Setting,
    cloudwatch::{self, Credentials, LatencyUnit},
};

use crate::{
    contract::{Asked, NEW, SECRET, Setup, Vendor, holds, truly},
    server::{Seen, Shows},
};

struct CloudWatch;

fn result(status: &str, times: &[f64], values: &[f64]) -> Value {
    json!({"Id": "q0", "Label": "requests", "StatusCode": status, "Timestamps": times, "Values": values, "Messages": []})
}

fn page(results: &[Value]) -> String {
    json!({"MetricDataResults": results, "Messages": []}).to_string()
}

impl Vendor for CloudWatch {
    fn provider(url: &str, setting: Setting, clock: Clock) -> Arc<dyn Provider> {
        let config = cloudwatch::Config {
            url: url.into(),
            region: "eu-central-1".into(),
            credentials: Credentials::new("AKIDEXAMPLE", SECRET.into(), Some(format!("{SECRET}-token").into())),
            namespace: "Shop".into(),
            latency_unit: LatencyUnit::Seconds,
            setting,
        };
        assert!(!format!("{config:?}").contains(SECRET));
        telemetry::build(telemetry::Config::CloudWatch(config), clock).unwrap()
    }

    fn asked(seen: &Seen) -> Asked {
        assert_eq!(seen.headers["x-amz-target"], "GraniteServiceVersion20100801.GetMetricData");
        assert_eq!(seen.headers["content-type"], "application/x-amz-json-1.0");
        assert_eq!(seen.headers["x-amz-security-token"], format!("{SECRET}-token"));
        let signed = seen.headers["authorization"].to_str().unwrap();
        let begin = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20231114/eu-central-1/monitoring/aws4_request, \
                     SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature=";
        assert!(signed.starts_with(begin), "{signed}");
        let body = seen.json();
        let statistic = &body["MetricDataQueries"][0]["MetricStat"];
        assert_eq!((&statistic["Period"], &statistic["Stat"]), (&json!(60), &json!("Sum")));
        assert_eq!(statistic["Metric"]["Namespace"], "Shop");
        let dimensions = statistic["Metric"]["Dimensions"].as_array().unwrap();
        Asked {
            bad: dimensions.contains(&json!({"Name": "code", "Value": "500"})),
            canary: dimensions.contains(&json!({"Name": "version", "Value": NEW})),
            from: body["StartTime"].as_u64().unwrap() * 1_000,
            to: body["EndTime"].as_u64().unwrap() * 1_000,
        }
    }

    fn data(_: &Asked, buckets: &[(u64, f64)]) -> String {
        let (times, values): (Vec<f64>, Vec<f64>) = buckets.iter().map(|(at, n)| (*at as f64 / 1_000.0, *n)).unzip();
        page(&[result("Complete", &times, &values)])
    }

    fn partial() -> Vec<String> {
        let message = json!({"Code": "MaxMetricsExceeded", "Value": "more than 500 metrics"});
        vec![
            page(&[result("PartialData", &[], &[])]),
            page(&[result("InternalError", &[], &[])]),
            json!({"MetricDataResults": [], "Messages": [message]}).to_string(),
            json!({"MetricDataResults": [result("PartialData", &[], &[])], "NextToken": "on and on"}).to_string(),
        ]
    }

    fn wrong_types() -> Vec<String> {
        let now = 1_700_000_040.0;
        vec![
            page(&[result("Complete", &[now], &[])]),
            page(&[result("Complete", &[now], &[-1.0])]),
            page(&[result("Complete", &[now + 1.0], &[1.0])]),
            page(&[result("Finished", &[], &[])]),
            page(&[json!({"Id": "q0", "StatusCode": "Complete", "Timestamps": [now], "Values": ["1"]})]),
            page(&[json!({"Id": "q0", "StatusCode": "Complete", "Timestamps": ["now"], "Values": [1]})]),
            json!({"MetricDataResults": null}).to_string(),
        ]
    }

    fn expired() -> (u16, String) {
        let message = "The security token included in the request is expired";
        (400, json!({"__type": "com.amazon.coral.service#ExpiredTokenException", "message": message}).to_string())
    }
}

holds!(CloudWatch);

#[tokio::test]
async fn pages_are_read_to_the_last() {
    let setup = Setup::of::<CloudWatch>().await;
    setup.server.shows(truly::<CloudWatch>);
    let soon = std::time::Duration::from_secs(5);
    let whole = setup.window(soon).await;
    setup.server.shows(|seen| {
        let Shows::Body(body) = truly::<CloudWatch>(seen) else { panic!("no body") };
        let mut body: Value = serde_json::from_str(&body).unwrap();
        let first = seen.json()["NextToken"].is_null();
        let result = &mut body["MetricDataResults"][0];
        for list in ["Timestamps", "Values"] {
            let all = result[list].as_array_mut().unwrap();
            if first { all.truncate(1) } else { drop(all.remove(0)) }
        }
        if first {
            result["StatusCode"] = json!("PartialData");
            body["NextToken"] = json!("page 2");
        } else {
            assert_eq!(seen.json()["NextToken"], "page 2");
        }
        Shows::Body(body.to_string())
    });
    assert_eq!(setup.window(soon).await, whole);
}

#[tokio::test]
async fn what_is_throttled_with_status_400_is_tried_again() {
    let setup = Setup::of::<CloudWatch>().await;
    let mut left = 2;
    setup.server.shows(move |seen| {
        left -= 1;
        let body =
            json!({"__type": "com.amazonaws.cloudwatch.v2010_08_01#ThrottlingException", "message": "Rate exceeded"});
        if left >= 0 { Shows::Status(400, Vec::new(), body.to_string()) } else { truly::<CloudWatch>(seen) }
    });
    assert!(setup.window(std::time::Duration::from_secs(10)).await[1].is_ok());
}
