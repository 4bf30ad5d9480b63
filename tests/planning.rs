//! `tollgate plan` with a model, `check-config --online` and `metrics search`, as the binary ships: against a scripted
//! model, a page of metrics and a stand-in for GitHub, all on loopback.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

#[path = "model_server/mod.rs"]
mod model_server;

use std::{
    fs,
    process::{Command, Output},
};

use model_server::{ModelServer, Script};
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tollgate::forge::stand_in::{Pull, StandIn};

const KEY: &str = "sk-test-4f9a1c7e2b8d6035";
const GITHUB_TOKEN: &str = "ghp-7d2e9b41c6a8f035";
const DIFF: &str = "diff --git a/src/routes/checkout.rs b/src/routes/checkout.rs
index 8c77e10..41fd2b9 100644
--- a/src/routes/checkout.rs
+++ b/src/routes/checkout.rs
@@ -20,5 +20,5 @@ pub fn routes() -> Router<State> {
     Router::new().route(\"/checkout\", post(pay))
 }
 
 async fn pay(State(shop): State<Shop>, order: Order) -> Result<Receipt, Error> {
-    shop.payments.charge(order.total()).await
+    shop.payments.charge_once(order.total()).await
";
const PAGE: &str = "# HELP http_requests_total Requests served.\n# TYPE http_requests_total counter\n\
                    http_requests_total{route=\"/checkout\",code=\"200\"} 900\n\
                    http_requests_total{route=\"/checkout\",code=\"500\"} 3\n\
                    # HELP cart_size Things in carts.\n# TYPE cart_size gauge\ncart_size 7\n";

/// A folder with a configuration, and what it names.
struct Desk {
    folder: TempDir,
    model: ModelServer,
}

impl Desk {
    async fn with(script: impl IntoIterator<Item = Script>) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let model = ModelServer::start(script).await;
        let page = axum::Router::new().route("/metrics", axum::routing::get(|| async { PAGE }));
        let (page_url, listener) = listen().await;
        tokio::spawn(async move { axum::serve(listener, page).await });
        let github = StandIn::with_token(SecretString::from(GITHUB_TOKEN));
        github.put(pull());
        let (github_url, listener) = listen().await;
        tokio::spawn(github.serve(listener));
        let (gone_url, _) = listen().await;
        let desk = Self { folder: tempfile::tempdir().unwrap(), model };
        desk.write("tollgate.toml", &config(&desk.model.base_url(), &page_url, &gone_url, &github_url));
        desk.write("change.diff", DIFF);
        desk
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    async fn run(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .env("TOLLGATE_WEBHOOK_SECRET", "whsec-5c1f0a7be2d94c60")
            .env("A_MODEL_KEY", KEY)
            .env("A_GITHUB_TOKEN", GITHUB_TOKEN)
            .env_remove("TOLLGATE_CONFIG");
        let Output { status, stdout, stderr } =
            tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let told = (status.code(), text(stdout), text(stderr));
        assert!(!told.1.contains(KEY) && !told.2.contains(KEY) && !told.1.contains(GITHUB_TOKEN), "{told:?}");
        told
    }

    async fn plan(&self, more: &[&str]) -> (Option<i32>, String, String) {
        self.run(&[&["plan", "--diff", "change.diff", "--title", "Charge once"], more].concat()).await
    }
}

async fn listen() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (format!("http://{}", listener.local_addr().unwrap()), listener)
}

fn pull() -> Pull {
    let revision = |digit: &str| digit.repeat(40).parse().unwrap();
    Pull {
        repository: "acme/shop".parse().unwrap(),
        number: 7,
        title: "Charge once".into(),
        author: "alice".into(),
        merged_by: Some("bob".into()),
        branch: "main".into(),
        base: revision("1"),
        head: revision("2"),
        merge_commit_sha: Some(revision("2")),
        merged_at: Some(tollgate::domain::Timestamp::from_millis(1_700_000_000_000)),
        diff: DIFF.into(),
    }
}

fn config(model: &str, page: &str, gone: &str, github: &str) -> String {
    format!(
        r#"
[github]
api = "{github}"
token = {{ env = "A_GITHUB_TOKEN" }}

[model]
base_url = "{model}"
name = "scripted"
key = {{ env = "A_MODEL_KEY" }}
attempts_max = 1
price = {{ input = 10, cached_input = 1, output = 100 }}

[services.shop]
repository = "acme/shop"

[services.shop.telemetry]
control.urls = ["{page}/metrics"]
canary.urls = ["{gone}/metrics"]

[[services.shop.slis]]
name = "errors"
kind = "ratio"
bad = {{ metric = "http_requests_total", where = {{ code = {{ starts_with = "5" }} }} }}
total = {{ metric = "http_requests_total" }}
route_label = "route"

[[services.shop.slis]]
name = "misses"
kind = "events_per_traffic"
events = {{ metric = "cache_misses_total" }}
traffic = {{ metric = "http_requests_total" }}

[[services.shop.slos]]
sli = "errors"
"#
    )
}

/// A planning: one check on one route, and the plan.
fn planning() -> [Script; 2] {
    let check = json!({
        "sli": "errors", "bad_metric": null, "total_metric": null, "bad_matchers": [],
        "matchers": [{"label": "route", "op": "starts_with", "values": ["/check"]}],
        "name": "failed payments", "role": "guard", "worse": "higher", "largest_ratio": 1.5,
        "rationale": "Charging changed.", "lines": [{"file_id": 0, "line": 24}],
    });
    let plan = json!({
        "risk": "high", "risk_reasons": ["payment"], "rollback_safety": "safe", "rollback_reason": "nothing_stored",
        "uncovered": [], "assumptions": [],
    });
    [Script::calls(&[("a", "add_ratio_check", check)]), Script::calls(&[("b", "submit_plan", plan)])]
}

fn check_names(plan: &Value) -> Vec<&str> {
    plan["plan"]["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_plans_and_its_conversation_is_kept_and_run_again_without_it() {
    let desk = Desk::with(planning()).await;
    let (code, out, err) = desk.plan(&["--record", "said.json", "--json"]).await;
    assert_eq!(code, Some(0), "{err}");
    let planned: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(check_names(&planned), ["errors", "errors on /checkout", "failed payments"], "{out}");
    assert_eq!(planned["plan"]["source"]["model"]["model"], "scripted");
    assert_eq!(planned["plan"]["risk"], "high");
    // Nothing of the past is known yet, and the check says so.
    assert_eq!(planned["plan"]["tried"][0]["reason"], "short_history", "{out}");
    assert_eq!(
        planned["usage"],
        json!({"input_tokens": 200, "cached_tokens": 128, "output_tokens": 40, "micro_dollars": 4_848})
    );
    assert_eq!(desk.model.seen().len(), 2);
    let first = desk.model.seen()[0].json().to_string();
    assert!(first.contains("charge_once") && first.contains("Charge once"), "{first}");

    // The script has ended: whoever asks the model now is refused.
    let (code, out, err) = desk.plan(&["--replay", "said.json", "--json"]).await;
    assert_eq!(code, Some(0), "{err}");
    let again: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&again["plan"]["checks"], &again["plan"]["source"]),
        (&planned["plan"]["checks"], &planned["plan"]["source"])
    );
    assert_eq!(desk.model.seen().len(), 2, "nobody was asked");
    let recorded = fs::read_to_string(desk.folder.path().join("said.json")).unwrap();
    assert!(recorded.contains("submit_plan") && !recorded.contains(KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_told_with_its_source_its_trials_and_its_cost() {
    let desk = Desk::with(planning()).await;
    let (code, out, err) = desk.plan(&[]).await;
    assert_eq!(code, Some(0), "{err}");
    for words in [
        "Plan for shop: 3 checks, high risk",
        "Planned by scripted, 2 turns, 240 tokens (128 cached), $0.005",
        "failed payments (model, ",
        "rests on   src/routes/checkout.rs:24",
        "tried      ",
        "short history",
        "It can be rolled back.",
    ] {
        assert!(out.contains(words), "no {words:?} in {out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_model_the_rules_plan_and_say_why() {
    let desk = Desk::with([]).await;
    desk.model.otherwise(Script::error(401, "invalid_api_key", "no such key"));
    let (code, out, err) = desk.plan(&[]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("Planned by rules, since the model was of no use (rejected): "), "{out}");
    assert!(out.contains("errors on /checkout"), "{out}");
    let asked = desk.model.seen().len();
    let (code, out, _) = desk.plan(&["--no-model"]).await;
    assert_eq!(code, Some(0));
    assert!(out.contains("Planned by rules\n") && out.contains("errors on /checkout"), "{out}");
    assert_eq!(desk.model.seen().len(), asked, "nobody was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_or_replayed_is_refused_with_words() {
    let desk = Desk::with([]).await;
    for (more, code, words) in [
        (&["--no-model", "--record", "x.json"][..], 2, "cannot be used with"),
        (&["--replay", "x.json", "--record", "y.json"], 2, "cannot be used with"),
        (&["--replay", "none.json"], 1, "none.json"),
        (&["--replay", "change.diff"], 1, "it is no recording"),
    ] {
        let (got, _, err) = desk.plan(more).await;
        assert_eq!(got, Some(code), "{more:?}: {err}");
        assert!(err.contains(words), "{more:?}: {err}");
    }
    let text = fs::read_to_string(desk.folder.path().join("tollgate.toml")).unwrap();
    desk.write("tollgate.toml", &text.replace("[services.shop]\n", "[services.shop]\nmodel = { plans = false }\n"));
    let (code, _, err) = desk.plan(&["--record", "x.json"]).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("no model was asked about this change to shop"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_config_online_says_what_can_be_reached_and_what_is_wrong_with_the_rest() {
    let desk = Desk::with([Script::calls(&[("a", "say", json!({"word": "pear"}))])]).await;
    let (code, out, err) = desk.run(&["check-config", "tollgate.toml", "--online"]).await;
    for words in [
        "ok    model scripted: answers as scripted-1, 120 tokens used\n",
        "ok    model scripted: calls tools\n",
        "ok    model scripted: keeps to strict schemas\n",
        "ok    github acme/shop: can be read, 4999 requests are left this hour\n",
        "/metrics: 3 series\n",
        "does not show cache_misses_total, which the SLI misses reads; mend its name, unless nothing was counted yet\n",
        "that is right while no new version runs\n",
    ] {
        assert!(out.contains(words), "no {words:?} in {out}");
    }
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");

    // The script has ended, the token reads another repository only, and the page is gone.
    let text = fs::read_to_string(desk.folder.path().join("tollgate.toml")).unwrap();
    let page = text.split("control.urls = [\"").nth(1).unwrap().split('"').next().unwrap();
    let broken = text.replace("acme/shop", "acme/other").replace(page, &page.replace("/metrics", "/none"));
    desk.write("broken.toml", &broken);
    let (code, out, _) = desk.run(&["check-config", "broken.toml", "--online"]).await;
    assert_eq!(code, Some(1), "{out}");
    for words in ["FAIL  model scripted: ", "FAIL  github acme/other: ", "FAIL  shop control ", "answered status 404"] {
        assert!(out.contains(words), "no {words:?} in {out}");
    }
    let asked = desk.model.seen().len();
    let (code, out, _) = desk.run(&["check-config", "tollgate.toml"]).await;
    assert!(code == Some(0) && out.starts_with("OK: ") && out.lines().count() == 1, "{out}");
    assert_eq!(desk.model.seen().len(), asked, "offline it asks nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_config_online_says_of_each_source_whether_it_can_be_reached() {
    let desk = Desk::with([Script::calls(&[("a", "say", json!({"word": "pear"}))])]).await;
    let answer = json!({"status": "success", "data": {"resultType": "scalar", "result": [1, "1"]}});
    let query = axum::routing::post(move || async move { axum::Json(answer) });
    let (good, listener) = listen().await;
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/api/v1/query", query)).await });
    let (gone, _) = listen().await;
    let (free, _) = listen().await;
    let (taken, _held) = listen().await;
    let (free, taken) = (free.replace("http://", ""), taken.replace("http://", ""));
    let text = fs::read_to_string(desk.folder.path().join("tollgate.toml")).unwrap();
    let arm = "{ labels = { version = \"{revision}\" } }";
    let more = format!(
        r#"
[sources.good]
kind = "prometheus"
url = "{good}"

[sources.gone]
kind = "prometheus"
url = "{gone}"

[sources.pushed]
kind = "otlp"
listen_http = "{free}"
listen_grpc = "{taken}"

[sources.dog]
kind = "datadog"
url = "https://api.example"
api_key = {{ env = "A_MODEL_KEY" }}
application_key = {{ env = "A_MODEL_KEY" }}

[services.till]
repository = "acme/shop"
telemetry = {{ source = "good", control = {arm}, canary = {arm} }}
[[services.till.slis]]
name = "errors"
kind = "ratio"
bad = {{ metric = "bad_total" }}
total = {{ metric = "all_total" }}
[[services.till.slos]]
sli = "errors"
"#
    );
    desk.write("sources.toml", &format!("{text}{more}"));
    let (code, out, err) = desk.run(&["check-config", "sources.toml", "--online"]).await;
    for words in [
        "ok    source good (prometheus) of service till: answers queries\n",
        "FAIL  source gone (prometheus): ",
        "; mend sources.gone, or let this machine reach it; without it nothing is promoted\n",
        &format!("ok    source pushed (otlp): can listen at {free}\n"),
        &format!("look  source pushed (otlp): somebody listens at {taken} already; "),
        "look  source dog (datadog): is named by no service; ",
        "look  source dog (datadog): holds together, and is not checked online; ",
    ] {
        assert!(out.contains(words), "no {words:?} in {out}");
    }
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    let without =
        more.replace("[sources.gone]\nkind = \"prometheus\"\n", "").replace(&format!("url = \"{gone}\"\n"), "");
    desk.write("sources.toml", &format!("{text}{without}"));
    let (_, out, _) = desk.run(&["check-config", "sources.toml", "--online"]).await;
    assert!(!out.contains("FAIL  source"), "{out}");

    let cut = |text: &str| text.replace("source = \"good\"", "source = \"dog\", interval = \"1m\"");
    desk.write(
        "dog.toml",
        &cut(&format!("{text}{more}")).replace("[services.till]\n", "[services.till]\nmeasure_every = \"1m\"\n"),
    );
    let (code, _, err) = desk.run(&["metrics", "search", "--service", "till", "--config", "dog.toml"]).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("till is read from source dog of kind datadog, of which no list of metrics is kept"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_found_by_words_on_the_services_own_page() {
    let desk = Desk::with([]).await;
    let (code, out, err) = desk.run(&["metrics", "search", "cart", "--service", "shop"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, "cart_size (gauge, 1 series): Things in carts.\n1 of 2 metrics\n");
    let (_, out, _) = desk.run(&["metrics", "search", "--service", "shop", "--json"]).await;
    let found: Value = serde_json::from_str(&out).unwrap();
    let names: Vec<&str> = found.as_array().unwrap().iter().map(|metric| metric["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cart_size", "http_requests_total"]);
    let (code, _, err) = desk.run(&["metrics", "search", "cart", "--service", "cart"]).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("service cart is not configured; there are: shop"), "{err}");
}
