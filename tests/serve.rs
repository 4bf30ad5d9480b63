//! `tollgate serve` and the commands beside it, as they ship, against what comes from outside: strangers' requests, bad
//! files, a second daemon, a broken disk, odd diffs, and a page of metrics that is none.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod house;
#[path = "serve/model.rs"]
mod model;
#[path = "model_server/mod.rs"]
mod model_server;
#[path = "serve/otlp.rs"]
mod otlp;

use std::{
    fs,
    io::Write,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use reqwest::{RequestBuilder, StatusCode};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tollgate::{
    domain::Outcome,
    forge::{stand_in, webhook},
    rollout::FleetView,
};

use house::{API_TOKEN, CANARY, Daemon, Furnishing, House, SECRETS, STABLE, WEBHOOK_SECRET};

/// How long a step of a rollout may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Exit code, standard output and standard error.
fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Sees that a command ends soon with this code and these words, in the manner of a message and not of a panic.
fn assert_refused(output: Output, code: i32, words: &[&str]) {
    let (ended, _, complaint) = told(output);
    assert_eq!(ended, Some(code), "{complaint}");
    for words in words {
        assert!(complaint.contains(words), "no {words:?} in: {complaint}");
    }
    assert!(!complaint.contains("panicked") && !complaint.contains("stack backtrace"), "{complaint}");
}

/// A client that waits for an answer, but not for ever.
fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap()
}

/// Waits until the view is such, and fails after a while with the last one.
async fn wait_until(house: &House, what: &str, is_so: impl Fn(&FleetView) -> bool) -> FleetView {
    let deadline = Instant::now() + SOON;
    loop {
        match house.look().await {
            Some(view) if is_so(&view) => return view,
            view => assert!(Instant::now() < deadline, "not in time: {what}; the last view: {view:#?}"),
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

/// A delivery with this body and signature.
fn delivery(house: &House, body: Vec<u8>, signature: &str) -> RequestBuilder {
    let request = client().post(house.url(webhook_path())).header("content-type", "application/json");
    let request = request.header(webhook::EVENT_HEADER, "pull_request").header(webhook::DELIVERY_HEADER, "odd-1");
    request.header(webhook::SIGNATURE_HEADER, signature).body(body)
}

fn webhook_path() -> &'static str {
    tollgate::web::webhooks::PATH
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_send_is_refused_and_changes_nothing() {
    let house = House::build(Furnishing::default()).await;
    let daemon = Daemon::start(&house).await;
    let secret = SecretString::from(WEBHOOK_SECRET);
    let sign = |body: &[u8]| webhook::sign(&secret, body).unwrap();

    let (_, body) = stand_in::signed_merge_delivery(&house.pull(7), &secret, "odd-1").unwrap();
    let elses = webhook::sign(&SecretString::from("another secret"), &body).unwrap();
    for signature in [elses.as_str(), "sha256=", "", "sha1=00", &sign(b"another body")] {
        assert_eq!(status(delivery(&house, body.clone(), signature)).await, 401, "{signature}");
    }
    for bad in [&b"{"[..], b"[]", b"", b"\xff\xfe", &body[..body.len() / 2], b"{\"action\":\"closed\"}"] {
        assert_eq!(status(delivery(&house, bad.to_vec(), &sign(bad))).await, 400, "{bad:?}");
    }
    let huge = vec![b' '; house::BODY_BYTES_MAX + 1];
    assert_eq!(status(delivery(&house, huge.clone(), &sign(&huge))).await, 413);
    let largest = &huge[1..];
    assert_eq!(status(delivery(&house, largest.to_vec(), &sign(largest))).await, 400);

    let post = |path: &str| client().post(house.url(path));
    let deployed = json!({ "revision": CANARY });
    let told_of = |service: &str| post(&format!("/v1/services/{service}/deployed")).json(&deployed);
    assert_eq!(status(told_of("shop")).await, 401);
    assert_eq!(status(told_of("shop").bearer_auth("token-of-another")).await, 401);
    assert_eq!(status(told_of("elsewhere").bearer_auth(API_TOKEN)).await, 404);
    assert_eq!(status(told_of("../../etc/passwd").bearer_auth(API_TOKEN)).await, 404);
    let unreadable = post("/v1/services/shop/deployed").bearer_auth(API_TOKEN).body("{\"revision\":\"main; drop\"}");
    assert_eq!(status(unreadable).await, 400);
    assert_eq!(status(post("/v1/kill-switch").bearer_auth(API_TOKEN).body("{")).await, 400);
    assert_eq!(status(post("/v1/kill-switch").bearer_auth(API_TOKEN).body(vec![b' '; 70_000])).await, 413);
    assert_eq!(status(post("/v1/rollouts/r1/pause").bearer_auth(API_TOKEN)).await, 404);
    let rebound = client().get(house.url("/v1/rollouts")).header("host", "evil.example");
    assert!(status(rebound).await >= 400);
    assert_eq!(status(post("/ofrep/v1/evaluate/flags/shop").body("{")).await, 400);
    assert_eq!(status(post("/ofrep/v1/evaluate/flags/no-such-flag").json(&json!({}))).await, 404);

    let view = house.look().await.unwrap();
    assert_eq!((view.rollouts.len(), view.fetching, view.kill_switch), (0, 0, false));
    assert!(daemon.terminate().success());
    let (_, export, _) = told(house.run(&["export", "journal"]));
    let events = export.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
    let kinds: Vec<String> = events
        .map(|line| line["payload"]["event"].as_object().map_or("woke_up", |event| event.keys().next().unwrap()).into())
        .filter(|kind| kind != "woke_up")
        .collect();
    assert_eq!(kinds, ["started"], "nothing of it is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_counts_once_however_often_it_comes() {
    let house = House::build(Furnishing::default()).await;
    let _daemon = Daemon::start(&house).await;
    for _ in 0..3 {
        house.merge(7).await;
    }
    // Word of the same merge under another number, as when someone asks GitHub to deliver it again from its page.
    assert_eq!(house.deliver(&house.pull(7), "again").await, Some(StatusCode::ACCEPTED));
    house.merge(8).await;
    let view = wait_until(&house, "a rollout of 8", |view| view.rollouts.iter().any(|r| r.pull_request == 8)).await;
    let numbers: Vec<u64> = view.rollouts.iter().map(|rollout| rollout.pull_request).collect();
    assert_eq!(numbers, [8, 7]);
}

/// Merges and deploys, and waits until users have the new version.
async fn begin_rollout(house: &House) {
    house.tell_deployed(STABLE).await;
    house.merge(7).await;
    house.tell_deployed(CANARY).await;
    wait_until(house, "a first stage", |view| view.rollouts.iter().any(|rollout| rollout.share > 0)).await;
}

fn is_over(view: &FleetView) -> bool {
    view.rollouts.iter().all(|rollout| rollout.outcome.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_act_from_the_terminal_and_no_secret_is_said_anywhere() {
    let ladder = &[("10%", "3s"), ("50%", "1m"), ("100%", "1s")];
    let house = House::build(Furnishing { ladder, ..Furnishing::default() }).await;
    assert_refused(house.run(&["status"]), 1, &["no tollgate answers at", "tollgate serve"]);
    let daemon = Daemon::start(&house).await;
    let mut all = String::new();
    let mut done = |words: &[&str]| {
        let (code, out, err) = told(house.run(words));
        assert_eq!((code, err.as_str()), (Some(0), ""), "{words:?}: {out}");
        all += &out;
        out
    };
    assert!(done(&["deployed", "shop", STABLE, "--by", "pipeline"]).contains("accepted"));
    begin_rollout(&house).await;
    assert!(done(&["pause", "r1", "--by", "mira"]).contains("accepted"));
    assert!(done(&["status"]).contains("acme/shop#7"));
    let paused: Value = serde_json::from_str(&done(&["status", "r1", "--json"])).unwrap();
    assert_eq!(paused["paused"], true);
    assert_refused(house.run(&["pause", "r1"]), 1, &["409", "paused already"]);
    assert_refused(house.run(&["pause", "r9"]), 1, &["404", "no rollout r9"]);
    assert_refused(house.run(&["deployed", "cart", CANARY]), 1, &["404", "no service `cart`", "shop"]);
    done(&["resume", "r1"]);
    done(&["kill-switch", "on"]);
    assert!(done(&["status"]).contains("KILL SWITCH ON"));
    done(&["promote", "r1"]);
    let held = house.look().await.unwrap();
    assert_eq!(held.rollouts[0].share, 1_000, "nobody promotes against the kill switch");
    done(&["kill-switch", "off"]);
    wait_until(&house, "half", |view| view.rollouts[0].share == 5_000).await;
    assert!(done(&["status", "r1"]).contains("50%"));
    done(&["rollback", "r1", "--by", "mira"]);
    let view = wait_until(&house, "the end", is_over).await;
    assert_eq!((view.rollouts[0].outcome, view.rollouts[0].share), (Some(Outcome::RolledBack), 0));
    let timeline: Vec<&str> = view.rollouts[0].timeline.iter().map(|moment| moment.text.as_str()).collect();
    assert!(timeline.iter().any(|text| text.contains("mira asks")), "{timeline:?}");
    assert_refused(house.run(&["promote", "r1"]), 1, &["409", "done"]);
    assert!(!house.ask(1).await.unwrap().is_canary);

    let mut unauthorised = house.command(&["kill-switch", "on"]);
    assert_refused(unauthorised.env("TOLLGATE_TOKEN", "token-of-another").output().unwrap(), 1, &["401"]);
    let mut pages = String::new();
    for path in ["/", "/v1/rollouts", "/v1/rollouts/r1", "/metrics", "/healthz", "/readyz"] {
        pages += &client().get(house.url(path)).send().await.unwrap().text().await.unwrap();
    }
    done(&["check-config", "tollgate.toml"]);
    assert!(daemon.terminate().success(), "SIGTERM is how a service manager asks for a clean end");
    done(&["export", "journal"]);
    let log = house.log();
    assert!(log.lines().count() > 10);
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("no JSON ({why}): {line}"));
        assert!(line["level"].is_string() && line["fields"]["message"].is_string(), "{line}");
    }
    all += &pages;
    all += &log;
    all += &fs::read_to_string(house.at("out")).unwrap();
    all += &fs::read_to_string(house.at("journal/export.jsonl")).unwrap();
    for secret in SECRETS.iter().chain(&["token-of-another"]) {
        assert!(!all.contains(secret), "a secret was said");
    }
    assert!(all.contains("acme/shop"), "there was something to look through");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_asked_to_end_while_it_starts_ends_cleanly() {
    let house = House::build(Furnishing::default()).await;
    for _ in 0..5 {
        let _ = fs::remove_dir_all(house.at("journal"));
        let daemon = Daemon::spawn(&house);
        let deadline = Instant::now() + SOON;
        while !house.at("journal").exists() {
            assert!(Instant::now() < deadline, "it does not begin");
        }
        let ended = daemon.terminate();
        assert!(ended.success(), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_refused_with_everything_that_is_wrong() {
    let house = House::build(Furnishing::default()).await;
    let (code, out, _) = told(house.run(&["check-config", "tollgate.toml"]));
    assert_eq!(code, Some(0), "{out}");
    let bad = fs::read_to_string(house.at("tollgate.toml")).unwrap();
    let bad = bad.replace("samples_min", "sample_min").replace("\"250ms\"", "\"250\"").replace("acme/shop", "shop");
    fs::write(house.at("bad.toml"), bad).unwrap();
    let wrong = ["bad.toml", "sample_min", "measure_every", "repository"];
    assert_refused(house.run(&["check-config", "bad.toml"]), 64, &wrong);
    assert_refused(house.run(&["serve", "--config", "bad.toml"]), 64, &wrong);
    assert_refused(house.run(&["serve", "--config", "none.toml"]), 64, &["none.toml", "No such file"]);
    assert_refused(house.run(&["check-config", "none.toml"]), 64, &["none.toml"]);
    let mut without = house.command(&["serve", "--config", "tollgate.toml"]);
    let without = without.env_remove("TOLLGATE_WEBHOOK_SECRET").output().unwrap();
    assert_refused(without, 64, &["TOLLGATE_WEBHOOK_SECRET", "webhook_secret"]);
    fs::write(house.at("binary.toml"), b"\xff\x00listen").unwrap();
    assert_refused(house.run(&["serve", "--config", "binary.toml"]), 64, &["binary.toml"]);
    assert!(!house.at("journal").exists(), "nothing was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_is_refused_and_does_not_disturb_the_first() {
    let house = House::build(Furnishing::default()).await;
    let daemon = Daemon::start(&house).await;
    let config = fs::read_to_string(house.at("tollgate.toml")).unwrap();
    let address = house.url("").replace("http://", "");
    assert_refused(house.run(&["serve", "--config", "tollgate.toml"]), 1, &[&address, "`listen`"]);
    fs::write(house.at("second.toml"), config.replace(&address, "127.0.0.1:0")).unwrap();
    let in_use = ["another tollgate is using `journal`", "stop it first"];
    assert_refused(house.run(&["serve", "--config", "second.toml"]), 1, &in_use);
    assert_refused(house.run(&["export", "journal"]), 1, &["another tollgate is using"]);
    house.merge(7).await;
    assert!(daemon.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_refused_and_restored_from_its_export() {
    let ladder = &[("10%", "1m"), ("50%", "1s"), ("100%", "1s")];
    let house = House::build(Furnishing { ladder, ..Furnishing::default() }).await;
    let daemon = Daemon::start(&house).await;
    begin_rollout(&house).await;
    daemon.kill();
    let store = house.at("journal/sled/db");
    let mut bytes = fs::read(&store).unwrap();
    // From the first segment's beginning: what is damaged there cannot be taken for a write that was cut short.
    bytes.iter_mut().take(20_000).for_each(|byte| *byte ^= 0x55);
    fs::write(&store, bytes).unwrap();
    let serve = ["serve", "--config", "tollgate.toml"];
    assert_refused(house.run(&serve), 1, &["the journal in `journal`", "tollgate restore --from journal/export.jsonl"]);

    let (code, out, err) = told(house.run(&["restore", "--from", "journal/export.jsonl", "--into", "rebuilt"]));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("restored "), "{out}");
    assert_refused(house.run(&["restore", "--from", "journal", "--into", "rebuilt"]), 1, &["rebuilt", "is not empty"]);
    fs::rename(house.at("journal"), house.at("damaged")).unwrap();
    fs::rename(house.at("rebuilt"), house.at("journal")).unwrap();
    let _daemon = Daemon::start(&house).await;
    let view = house.look().await.unwrap();
    assert_eq!((view.rollouts[0].pull_request, view.rollouts[0].share), (7, 1_000));
    assert_eq!(house.ask(1).await.unwrap().share, Some(1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_no_metrics_page_holds_the_rollout_and_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let page = format!("http://{}/metrics", listener.local_addr().unwrap());
    let html = || async { axum::response::Html("<!doctype html><title>Sign in</title><p>Please sign in.") };
    let router = axum::Router::new().route("/metrics", axum::routing::get(html));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let house = House::build(Furnishing { canary_page: Some(page), ..Furnishing::default() }).await;
    let _daemon = Daemon::start(&house).await;
    begin_rollout(&house).await;
    let is_paged = |view: &FleetView| view.rollouts[0].objections.iter().any(|objection| objection.page);
    let view = wait_until(&house, "a page", is_paged).await;
    let rollout = &view.rollouts[0];
    assert_eq!((rollout.outcome, rollout.share, rollout.stage), (None, 1_000, Some(0)), "held where it was");
    let absent = rollout.checks[0].absent.as_deref().unwrap();
    assert!(absent.contains("canary") && absent.contains("127.0.0.1"), "{absent}");
    let rails: Vec<&str> = rollout.objections.iter().map(|objection| objection.rail.as_str()).collect();
    assert!(rails.contains(&"no_data") && rails.contains(&"telemetry_blackout"), "{rails:?}");
    let (_, out, _) = told(house.run(&["status", "r1"]));
    assert!(out.contains("no_data") && out.contains("telemetry_blackout"), "{out}");
    assert!(house.log().contains("\"page\":true"));
}

/// `tollgate plan` on this diff, given on standard input.
fn plan(house: &House, diff: &[u8], more: &[&str]) -> Output {
    let words = [&["plan", "--config", "tollgate.toml", "--diff", "-"], more].concat();
    let mut command = house.command(&words);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let diff = diff.to_owned();
    // A command that has seen enough may close its end first.
    let writing = std::thread::spawn(move || stdin.write_all(&diff));
    let output = child.wait_with_output().unwrap();
    let _ = writing.join().unwrap();
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_made_for_any_diff_that_git_writes() {
    let house = House::build(Furnishing::default()).await;
    let diff = house.pull(7).diff;
    fs::write(house.at("change.diff"), &diff).unwrap();
    let from_file = told(house.run(&["plan", "--config", "tollgate.toml", "--diff", "change.diff"]));
    assert_eq!(from_file.0, Some(0), "{}", from_file.2);
    for words in ["Plan for shop: 2 checks", "errors on /checkout", "src/routes/checkout.rs:24", "can be rolled back"] {
        assert!(from_file.1.contains(words), "no {words:?} in {}", from_file.1);
    }
    assert_eq!(told(plan(&house, diff.as_bytes(), &[])), from_file);
    let (_, json, _) = told(plan(&house, diff.as_bytes(), &["--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["plan"]["checks"].as_array().unwrap().len(), 2);

    let binary = "diff --git a/logo.png b/logo.png\nindex 8c77e10..41fd2b9 100644\nBinary files a/logo.png and b/logo.png differ\n";
    let renamed = "diff --git a/old.rs b/new.rs\nsimilarity index 100%\nrename from old.rs\nrename to new.rs\n";
    let latin = [diff.as_bytes(), b"-// caf\xe9\n+// \xff\xfe\n"].concat();
    let latin = replaced(&latin, b"-20,5 +20,5", b"-20,6 +20,6");
    let mut long = "diff --git a/src/table.rs b/src/table.rs\nindex 8c77e10..41fd2b9 100644\n--- a/src/table.rs\n+++ b/src/table.rs\n@@ -0,0 +1,50000 @@\n".to_owned();
    (0..50_000).for_each(|number| long += &format!("+    {number},\n"));
    let mixed = [binary, renamed, &diff].concat();
    for (name, odd, checks) in [
        ("binary", binary.as_bytes(), 1),
        ("renamed", renamed.as_bytes(), 1),
        ("mixed", mixed.as_bytes(), 2),
        ("latin", &latin, 2),
        ("long", long.as_bytes(), 1),
    ] {
        let began = Instant::now();
        let (code, out, err) = told(plan(&house, odd, &[]));
        assert_eq!((code, err.as_str()), (Some(0), ""), "{name}");
        assert!(out.starts_with(&format!("Plan for shop: {checks} check")), "{name}: {out}");
        assert!(began.elapsed() < SOON, "{name} took {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_at_a_known_traffic_says_what_each_stage_could_see() {
    let ladder = &[("1%", "10s"), ("10%", "1m"), ("50%", "2m"), ("100%", "1s")];
    let house = House::build(Furnishing { ladder, ..Furnishing::default() }).await;
    let diff = house.pull(7).diff;
    let of = |more: &[&str]| plan(&house, diff.as_bytes(), more);
    let traffic = ["--requests-per-second", "2000", "--requests-per-second", "errors on /checkout=20"];
    let (code, out, err) = told(of(&[&traffic[..], &["--bad-rate", "errors=0.5%"]].concat()));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for words in [
        "errors: 2000 requests/s, 0.5% bad\n",
        "errors on /checkout: 20 requests/s, 0.1% bad, which is assumed",
        "Stage 1: 1% for 10s\n",
        "BLIND to errors 2x in 10s: that takes ",
        "Stage 3: 50% for 2m\n",
        "No control is left",
    ] {
        assert!(out.contains(words), "no {words:?} in {out}");
    }
    let third = out.split("Stage 3").nth(1).unwrap();
    assert!(!third.contains("BLIND to errors 2x"), "{third}");
    let (_, json, _) = told(of(&[&traffic[..], &["--json"]].concat()));
    let json: Value = serde_json::from_str(&json).unwrap();
    let first = &json["stages"][0]["checks"][0];
    assert_eq!((&first["check"], &first["is_assumed"]), (&"errors".into(), &true.into()), "{first}");
    assert!(first["outlook"]["fivefold"]["is"]["secs"].as_u64().is_some(), "{first}");
    assert_eq!(json["stages"][3]["checks"][0]["outlook"]["twice"]["never"], "no_control");

    for (more, code, words) in [
        (&["--requests-per-second", "0"][..], 2, "is no traffic: write a number above 0"),
        (&["--requests-per-second", "many"], 2, "is no traffic"),
        (&["--bad-rate", "0.5%"], 2, "--requests-per-second"),
        (&["--requests-per-second", "9", "--bad-rate", "0.5"], 2, "write per cent above 0%"),
        (&["--requests-per-second", "9", "--bad-rate", "100%"], 1, "write less than 100%"),
        (&["--requests-per-second", "9", "--bad-rate", "typo=1%"], 1, "no check `typo`; its checks are: errors"),
        (&["--requests-per-second", "errors=9"], 1, "say the traffic of `errors on /checkout` too"),
    ] {
        assert_refused(of(more), code, &[words]);
    }
}

/// The bytes with one part replaced, which is there once.
fn replaced(bytes: &[u8], part: &[u8], by: &[u8]) -> Vec<u8> {
    let at = bytes.windows(part.len()).position(|window| window == part).unwrap();
    [&bytes[..at], by, &bytes[at + part.len()..]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_diff_or_names_no_service_is_refused_with_words() {
    let house = House::build(Furnishing::default()).await;
    for garbage in [&b"this is no diff\n"[..], b"\x7fELF\x02\x01\x01\x00\x00", b"diff --git a/x b/x\n@@ -1 +1 @@\n"] {
        assert_refused(plan(&house, garbage, &[]), 1, &["is no unified diff", "line "]);
    }
    let diff = house.pull(7).diff;
    let cut = &diff.as_bytes()[..diff.len() - 80];
    assert_refused(plan(&house, cut, &[]), 1, &["is no unified diff"]);
    assert_refused(plan(&house, diff.as_bytes(), &["--service", "cart"]), 1, &["cart", "not configured", "shop"]);
    let none = house.run(&["plan", "--config", "tollgate.toml", "--diff", "none.diff"]);
    assert_refused(none, 1, &["none.diff", "No such file"]);
    assert_refused(house.run(&["plan", "--config", "tollgate.toml"]), 2, &["--diff", "--pull-request"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_a_command_without_a_word() {
    let house = House::build(Furnishing::default()).await;
    let mut command = house.command(&["check-config", "tollgate.toml"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Gone before anything is written.
    drop(child.stdout.take());
    let (ended, _, complaint) = told(child.wait_with_output().unwrap());
    assert_eq!((ended, complaint.contains("panicked")), (Some(141), false), "{complaint}");
}
