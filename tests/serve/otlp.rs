//! From a file with a source of kind `otlp` to a rollout that is judged by what was exported: nothing is scraped.

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    SOON, begin_rollout, client,
    house::{self, API_TOKEN, CANARY, Daemon, Furnishing, House, STABLE},
    wait_until,
};

/// One export of a process that has counted so many hundreds of requests, two of each hundred bad.
fn export(revision: &str, hundreds: u64) -> Value {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let point = |code: &str, each: u64| {
        json!({
            "attributes": [attribute("code", code)],
            "startTimeUnixNano": "1700000000000000000",
            "timeUnixNano": nanos.to_string(),
            "asInt": (each * hundreds).to_string(),
        })
    };
    let sum =
        json!({"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [point("200", 98), point("500", 2)]});
    let resource = [
        attribute("service.name", "shop"),
        attribute("service.version", revision),
        attribute("service.instance.id", &format!("{revision}-1")),
    ];
    let metrics = json!([{"name": "http.requests", "sum": sum}]);
    json!({"resourceMetrics": [{"resource": {"attributes": resource}, "scopeMetrics": [{"metrics": metrics}]}]})
}

/// Both versions export until this is dropped.
struct Exporting(JoinHandle<()>);

impl Drop for Exporting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn exporting(url: Arc<str>) -> Exporting {
    Exporting(tokio::spawn(async move {
        for hundreds in 1.. {
            for revision in [STABLE, CANARY] {
                let body = export(revision, hundreds);
                let answer = client().post(&*url).bearer_auth(API_TOKEN).json(&body).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                let answer: Value = answer.json().await.unwrap();
                assert!(answer["partialSuccess"]["rejectedDataPoints"].is_null(), "{answer}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_exports_is_judged_by_its_exports() {
    let house =
        House::build(Furnishing { ladder: &[("10%", "1m"), ("60%", "1s"), ("100%", "1s")], ..Furnishing::default() })
            .await;
    let address = house::free_address();
    let text = fs::read_to_string(house.at("tollgate.toml")).unwrap();
    let (before, rest) = text.split_once("[services.shop.telemetry]").unwrap();
    let (_, after) = rest.split_once("[[services.shop.slis]]").unwrap();
    let arm = r#"{ labels = { service_name = "shop", "service.version" = "{revision}" } }"#;
    let text = format!(
        "{before}[services.shop.telemetry]\nsource = \"pushed\"\ninterval = \"250ms\"\ncontrol = {arm}\ncanary = {arm}\n\
         [[services.shop.slis]]{after}\n\
         [sources.pushed]\nkind = \"otlp\"\nlisten_http = \"{address}\"\nbearer = {{ env = \"HOUSE_API_TOKEN\" }}\n"
    );
    fs::write(house.at("tollgate.toml"), text).unwrap();
    let _daemon = Daemon::start(&house).await;

    let url: Arc<str> = format!("http://{address}/v1/metrics").into();
    let stranger = client().post(&*url).json(&export(STABLE, 1)).send().await.unwrap();
    assert_eq!(stranger.status(), 401, "the token of the file is asked for");
    let exporting = exporting(url);
    begin_rollout(&house).await;
    let rates = |view: &tollgate::rollout::FleetView| {
        let check = view.rollouts[0].checks.iter().find(|check| check.name == "errors")?;
        Some((check.control_rate?, check.canary_rate?))
    };
    let view = wait_until(&house, "rates of both arms", |view| rates(view).is_some()).await;
    assert!(!exporting.0.is_finished(), "an export was refused");
    let (control, canary) = rates(&view).unwrap();
    assert!((control - 0.02).abs() < 1e-9 && (canary - 0.02).abs() < 1e-9, "{control} {canary}, within {SOON:?}");
}
