//! `tollgate serve` with a language model, as it ships: a merge is planned by the model, rolled out, and explained; and where
//! the model never answers, plain rules plan and the rollout goes on as if there were none.

use std::fs;

use serde_json::{Value, json};
use tollgate::{
    cli::demo::shop::Behaviour,
    domain::{Origin, Outcome, Risk},
    plan::{Fallback, Source},
    rollout::FleetView,
};

use crate::{
    house::{CANARY, Daemon, Furnishing, House, SECRETS, STABLE},
    model_server::{ModelServer, Script},
    wait_until,
};

const KEY: &str = "sk-test-81c9d27e5f3046ab";
const WORDS: &str = "The new version answered as well as the old one at every stage.";

/// A house whose daemon asks this model.
async fn build(model: &ModelServer, limits: &str) -> House {
    let house = House::build(Furnishing { behaviour: Behaviour::healthy(), ..Furnishing::default() }).await;
    fs::write(house.at("model-key"), KEY).unwrap();
    let url = model.base_url();
    let with_model = format!(
        "\n[model]\nbase_url = \"{url}\"\nname = \"scripted\"\nkey = {{ file = \"model-key\" }}\nattempts_max = 1\n{limits}\n"
    );
    let config = fs::read_to_string(house.at("tollgate.toml")).unwrap();
    fs::write(house.at("tollgate.toml"), config + &with_model).unwrap();
    house
}

async fn roll_out(house: &House) {
    house.tell_deployed(STABLE).await;
    house.merge(7).await;
    house.tell_deployed(CANARY).await;
}

/// The value of one line of the daemon's own metrics.
async fn metric(house: &House, line: &str) -> Option<f64> {
    let page = reqwest::get(house.url("/metrics")).await.unwrap().text().await.unwrap();
    page.lines().find_map(|told| told.strip_prefix(line)?.trim().parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_is_planned_by_the_model_rolled_out_and_explained() {
    let check = json!({
        "sli": "errors", "bad_metric": null, "total_metric": null, "bad_matchers": [],
        "matchers": [{"label": "route", "op": "starts_with", "values": ["/check"]}],
        "name": "failed payments", "role": "guard", "worse": "higher", "largest_ratio": 1.5,
        "rationale": "Charging changed.", "lines": [{"file_id": 0, "line": 24}],
    });
    let plan = json!({
        "risk": "medium", "risk_reasons": ["payment"], "rollback_safety": "safe", "rollback_reason": "nothing_stored",
        "uncovered": [], "assumptions": [],
    });
    let script = [Script::calls(&[("a", "add_ratio_check", check)]), Script::calls(&[("b", "submit_plan", plan)])];
    let model = ModelServer::start(script).await;
    model.otherwise(Script::text(WORDS));
    let house = build(&model, "").await;
    let daemon = Daemon::start(&house).await;
    roll_out(&house).await;
    let explained = |view: &FleetView| view.rollouts.iter().any(|rollout| rollout.explanation.is_some());
    let view = wait_until(&house, "an end that is explained", explained).await;

    let rollout = &view.rollouts[0];
    assert_eq!((rollout.outcome, rollout.share), (Some(Outcome::Promoted), 10_000), "{rollout:#?}");
    assert!(matches!(&rollout.source, Some(Source::Model { is_cached: false, .. })), "{:?}", rollout.source);
    assert!(rollout.risk >= Some(Risk::Medium));
    let proposed = rollout.checks.iter().find(|check| check.name == "failed payments").unwrap();
    assert_eq!(
        (proposed.origin, proposed.lines.as_slice()),
        (Origin::Model, &["src/routes/checkout.rs:24".to_owned()][..])
    );
    assert!(rollout.checks.iter().any(|check| check.origin == Origin::Slo), "the objective stands beside it");
    assert_eq!(rollout.explanation.as_ref().unwrap().words.as_str(), WORDS);
    assert!(rollout.usage.is_some_and(|usage| usage.input_tokens >= 300), "{:?}", rollout.usage);
    assert_eq!(metric(&house, "tollgate_plans_total{source=\"model\",reason=\"\"}").await, Some(1.0));

    // What was asked: the diff went out, and no secret with it.
    let asked: String = model.seen().iter().map(|seen| seen.json().to_string()).collect();
    assert!(asked.contains("charge_once"));
    assert!(daemon.terminate().success());
    assert!(house.run(&["export", "journal"]).status.success());
    let journal = fs::read_to_string(house.at("journal/export.jsonl")).unwrap();
    assert!(journal.contains("submit_plan") && journal.contains(WORDS), "every exchange is in the journal");
    for secret in SECRETS.iter().chain(&[KEY]) {
        for (place, told) in [("requests", &asked), ("journal", &journal), ("log", &house.log())] {
            assert!(!told.contains(secret), "a secret was said in {place}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_never_answers_costs_its_time_and_no_rollout() {
    let model = ModelServer::start([]).await;
    model.otherwise(Script::hang());
    let house = build(&model, "timeout = \"1s\"\nplan_within = \"5s\"").await;
    let _daemon = Daemon::start(&house).await;
    roll_out(&house).await;
    let is_over = |view: &FleetView| !view.rollouts.is_empty() && view.rollouts.iter().all(|r| r.outcome.is_some());
    let view = wait_until(&house, "an end", is_over).await;
    let rollout = &view.rollouts[0];
    assert_eq!(rollout.outcome, Some(Outcome::Promoted), "{rollout:#?}");
    let by_rules = |source: &Source| matches!(source, Source::Fallback { why: Fallback::Unavailable, .. });
    assert!(rollout.source.as_ref().is_some_and(by_rules), "{:?}", rollout.source);
    assert!(rollout.checks.iter().any(|check| check.name == "errors on /checkout"), "the rules' check is there");
    let body: Value = reqwest::get(house.url("/v1/rollouts/r1")).await.unwrap().json().await.unwrap();
    assert!(body["source"].to_string().contains("unavailable"), "people are told: {}", body["source"]);
}
