//! Deploys of the past hours whose ends are known, and what is said of each.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::Value;
use tollgate::{
    domain::Timestamp,
    forge::stand_in::{Deployed, StandIn},
};

use super::{
    Desk, GITHUB_TOKEN,
    past::{Ran, open_metrics},
    prometheus,
};

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

/// When each was deployed, in seconds after the beginning.
const HARMLESS: u64 = HOUR;
const FAILING: u64 = 2 * HOUR;
const SLOW: u64 = 3 * HOUR;
const UNUSED: u64 = 4 * HOUR;
const UNSEEN: u64 = 5 * HOUR;
const AT_ONCE: u64 = 6 * HOUR;
const FAILING_AT_ONCE: u64 = 7 * HOUR;
const SLOW_AT_ONCE: u64 = 8 * HOUR;
const CURED: u64 = 9 * HOUR;
const FAILING_LATE: u64 = 10 * HOUR;
const CUT_SHORT: u64 = FAILING_LATE + 30 * MINUTE;
/// How long the old version runs beside the new one where it does.
const BESIDE: u64 = 25 * MINUTE;

/// What happened: 40 hexadecimal digits each, as GitHub names commits.
fn history() -> Vec<Ran> {
    let at_once = Ran::well("a6aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", AT_ONCE, FAILING_AT_ONCE);
    vec![
        Ran::well(REVISIONS[0], 0, HARMLESS + BESIDE),
        Ran::well(REVISIONS[1], HARMLESS, AT_ONCE),
        Ran { failing: 0.05, ..Ran::well(REVISIONS[2], FAILING, FAILING + BESIDE) },
        Ran { slow: 0.3, ..Ran::well(REVISIONS[3], SLOW, SLOW + BESIDE) },
        Ran { rate: 0.0, ..Ran::well(REVISIONS[4], UNUSED, UNUSED + 40 * MINUTE) },
        at_once,
        Ran { failing: 0.2, ..Ran::well(REVISIONS[7], FAILING_AT_ONCE, SLOW_AT_ONCE) },
        Ran { slow: 0.3, ..Ran::well(REVISIONS[8], SLOW_AT_ONCE, CURED + BESIDE) },
        // Everyone has it after 10 minutes, and nothing of the version before is left when it begins to fail.
        Ran::well(REVISIONS[9], CURED, FAILING_LATE + 630),
        Ran::well(REVISIONS[10], FAILING_LATE, FAILING_LATE + 780),
        Ran { failing: 0.3, ..Ran::well(REVISIONS[10], FAILING_LATE + 780, CUT_SHORT + 3 * MINUTE) },
        Ran::well(REVISIONS[11], CUT_SHORT, FAILING_LATE + HOUR),
    ]
}

const REVISIONS: [&str; 12] = [
    "a0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "a1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "a2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "a3aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "a4aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "a5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "a6aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "a7aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "a8aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "a9aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "b0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "b1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// A list of the deploys in the order in which nobody sorted them.
fn list(beginning: u64) -> String {
    let line = |at: u64, revision: usize, stable: usize, outcome: &str| {
        format!("{},{},{},{outcome},\n", beginning + at, REVISIONS[revision], REVISIONS[stable])
    };
    let ago = jiff::Timestamp::from_second(i64::try_from(beginning - 20 * 24 * HOUR).unwrap()).unwrap();
    [
        "time,revision,stable,outcome,end\n".to_owned(),
        line(CURED, 9, 8, ""),
        line(FAILING_LATE, 10, 9, ""),
        format!("{},{},,,{}\n", beginning + CUT_SHORT, REVISIONS[11], beginning + CUT_SHORT + 5 * MINUTE),
        line(SLOW_AT_ONCE, 8, 7, ""),
        line(HARMLESS, 1, 0, "good"),
        line(FAILING, 2, 1, "bad"),
        line(SLOW, 3, 1, "bad"),
        line(UNUSED, 4, 1, ""),
        line(UNSEEN, 5, 1, "good"),
        line(AT_ONCE, 6, 1, "good"),
        line(FAILING_AT_ONCE, 7, 6, "bad"),
        format!("{ago},{},,,\n", REVISIONS[0]),
    ]
    .concat()
}

/// What is said of each, by the second digit of its revision; of the one that is too old under `old`.
fn by_revision(report: &Value) -> BTreeMap<String, Value> {
    let named = |deploy: &Value| {
        let is_old = deploy["verdict"] == "before_retention";
        (if is_old { "old".into() } else { deploy["revision"].as_str().unwrap()[..2].to_owned() }, deploy.clone())
    };
    report["deploys"].as_array().unwrap().iter().map(named).collect()
}

/// A deploy's verdict, the check it rests on, and how many seconds after it.
fn verdict(deploy: &Value) -> (&str, Option<&str>, f64) {
    (deploy["verdict"].as_str().unwrap(), deploy["check"].as_str(), deploy["after_seconds"].as_f64().unwrap_or(0.0))
}

fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_deploy_of_a_real_prometheus_gets_the_verdict_that_its_past_deserves() {
    if !prometheus::is_installed() {
        return;
    }
    let beginning = (now() - 11 * HOUR - 5 * MINUTE) / MINUTE * MINUTE;
    let server = prometheus::start(&open_metrics(beginning, &history()));
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let github = StandIn::with_token(SecretString::from(GITHUB_TOKEN));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let github_url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(github.clone().serve(listener));
    let desk = Desk::new(&server.url, &github_url, "");
    desk.write("deploys.csv", &list(beginning));
    let before = desk.files();
    let (code, told, progress) = desk.backtest(&["--deploys", "deploys.csv", "--json"]);
    assert_eq!(code, Some(0), "{told}{progress}");
    let report: Value = serde_json::from_str(&told).unwrap();
    these_are_the_verdicts(&report);
    this_is_the_summary(&report);
    assert_eq!(progress.lines().count(), 11, "one line for each that was looked at: {progress}");
    for_people(&desk);
    assert_eq!(desk.files(), before, "no journal, no other file");
    from_github(&desk, &github, beginning);
    the_budget_bounds_it(&desk, &server.url, &github_url);
}

fn these_are_the_verdicts(report: &Value) {
    let of = by_revision(report);
    let told = |name: &str| serde_json::to_string_pretty(&of[name]).unwrap();
    let (kind, check, after) = verdict(&of["a1"]);
    // The stages bake 11 minutes and are watched for 4, and no look is later than half a minute.
    assert!((kind, check) == ("promoted", None) && (900.0..1_020.0).contains(&after), "{}", told("a1"));
    assert!(of["a1"]["caution"].as_str().unwrap().is_empty(), "{}", told("a1"));
    for (name, expected, ratio) in [("a2", "errors", 6.0..15.0), ("a3", "slow", 8.0..25.0)] {
        let (kind, check, after) = verdict(&of[name]);
        assert_eq!((kind, check), ("rolled_back", Some(expected)), "{}", told(name));
        // By proof alone, below every limit, and of noise that was hardly learnt: within the time that both ran.
        assert!((30.0..1_200.0).contains(&after), "{}", told(name));
        assert!(ratio.contains(&of[name]["ratio"].as_f64().unwrap()), "{}", told(name));
        let compared = of[name]["compared_seconds"].as_f64().unwrap();
        assert!(compared > 0.0 && compared <= after, "{}", told(name));
    }
    let (kind, ..) = verdict(&of["a4"]);
    assert_eq!(kind, "held", "{}", told("a4"));
    assert!(of["a4"]["why"].as_str().unwrap().contains("not enough traffic"), "{}", told("a4"));
    assert_eq!(verdict(&of["a5"]).0, "no_data", "{}", told("a5"));
    assert!(of["a5"]["why"].as_str().unwrap().contains("those of a1aaaaa were, just before"), "{}", told("a5"));
    // All at once: there is nothing to compare with, so nothing is promoted, and only what breaks a limit is found.
    for name in ["a6", "a8"] {
        assert_eq!(verdict(&of[name]).0, "held", "{}", told(name));
        assert!(of[name]["why"].as_str().unwrap().contains("nothing to compare it with"), "{}", told(name));
    }
    let (kind, check, after) = verdict(&of["a7"]);
    assert_eq!(kind, "rolled_back", "{}", told("a7"));
    assert!(check == Some("errors") && (15.0..180.0).contains(&after), "{}", told("a7"));
    for name in ["a6", "a7", "a8"] {
        let caution = of[name]["caution"].as_str().unwrap();
        assert!(caution.contains("never beside") && caution.contains("only the one absolute limit"), "{}", told(name));
        assert_eq!(of[name]["compared_seconds"], 0.0, "{}", told(name));
    }
    assert_eq!(verdict(&of["a9"]).0, "promoted", "far better than the slow one before it: {}", told("a9"));
    // Harm that is seen when everyone has it and the old version is gone is a person's.
    let (kind, check, after) = verdict(&of["b0"]);
    assert_eq!((kind, check), ("called_person", Some("errors")), "{}", told("b0"));
    assert!((780.0..900.0).contains(&after), "{}", told("b0"));
    assert!(of["b0"]["ratio"].is_null(), "a limit compares nothing: {}", told("b0"));
    // What ended after five minutes, by the list, got no further than that.
    assert_eq!(
        (verdict(&of["b1"]).0, of["b1"]["stable"].as_str()),
        ("unfinished", Some(REVISIONS[10])),
        "{}",
        told("b1")
    );
    assert!(of["b1"]["why"].as_str().unwrap().ends_with("it was at 10% when it ended"), "{}", told("b1"));
    assert!(of["old"]["why"].as_str().unwrap().contains("the 15d for which the server keeps samples"));
}

fn this_is_the_summary(report: &Value) {
    let summary = &report["summary"];
    let number = |name: &str| summary[name].as_u64().unwrap();
    assert_eq!((number("deploys"), number("bad"), number("bad_found")), (12, 3, 3), "{summary}");
    // One that is called good was never seen, and counts for nothing.
    assert_eq!((number("good"), number("good_taken_back"), number("labelled_unseen")), (2, 0, 1), "{summary}");
    assert_eq!(number("never_compared"), 3, "{summary}");
    let queries = report["queries"].as_u64().unwrap();
    // Eleven deploys of up to an hour: a stretch of rounds costs a query for each of three metrics.
    assert!((30..300).contains(&queries), "{queries} queries");
    assert!(report["samples"].as_u64().unwrap() > 10_000);
    let notes = report["notes"].to_string();
    for said in ["`share_tolerance` (the sample ratio) is off", "absolute limits alone", "judged as at autonomy auto"] {
        assert!(notes.contains(said), "{said} in {notes}");
    }
}

fn for_people(desk: &Desk) {
    let (code, told, _) = desk.backtest(&["--service", "shop", "--deploys", "deploys.csv"]);
    assert_eq!(code, Some(0), "{told}");
    let line = |name: &str| told.lines().find(|line| line.contains(name)).unwrap();
    let failing = line("a2aaaaa");
    for said in ["bad ", "would have rolled back at ", " after the deploy, on errors with ", " times the old version's"]
    {
        assert!(failing.contains(said), "{said} in {failing}");
    }
    assert!(line("a4aaaaa").contains("held: not enough traffic"), "{told}");
    assert!(line("a5aaaaa").contains("no data: "), "{told}");
    assert!(told.contains("! never beside a1aaaaa"), "{told}");
    assert!(told.contains("of 12 deploys: "), "{told}");
    assert!(told.contains("by the labels: found 3 of 3 bad ones, 0 of 2 good ones taken back"), "{told}");
}

/// The deployments that began are looked at, from when they began, each beside the one before.
fn from_github(desk: &Desk, github: &StandIn, beginning: u64) {
    let at = |seconds: u64| Timestamp::from_millis((beginning + seconds) * 1_000);
    let deployed = |revision: usize, environment: &str, statuses: Vec<(&'static str, Timestamp)>| Deployed {
        repository: "acme/shop".parse().unwrap(),
        revision: REVISIONS[revision].parse().unwrap(),
        environment: environment.into(),
        created_at: at(0),
        statuses,
    };
    let began = |seconds: u64| vec![("queued", at(0)), ("in_progress", at(seconds)), ("success", at(seconds + 300))];
    github.put_deployment(deployed(0, "production", vec![("success", at(30 * MINUTE))]));
    github.put_deployment(deployed(1, "production", began(HARMLESS)));
    github.put_deployment(deployed(5, "staging", began(HARMLESS + 60)));
    github.put_deployment(deployed(5, "production", vec![("queued", at(HARMLESS + 120)), ("failure", at(FAILING))]));
    github.put_deployment(deployed(2, "production", began(FAILING)));
    let (code, told, progress) = desk.backtest(&["--github", "--environment", "production", "--json"]);
    assert_eq!(code, Some(0), "{told}{progress}");
    let report: Value = serde_json::from_str(&told).unwrap();
    let of = by_revision(&report);
    assert_eq!(of.keys().map(String::as_str).collect::<Vec<_>>(), ["a0", "a1", "a2"]);
    assert_eq!(verdict(&of["a1"]).0, "promoted", "{}", of["a1"]);
    assert_eq!(
        (of["a2"]["stable"].as_str(), verdict(&of["a2"]).0),
        (Some(REVISIONS[1]), "rolled_back"),
        "{}",
        of["a2"]
    );
    assert!(of["a0"]["caution"].as_str().unwrap().contains("what ran before is not known"), "{}", of["a0"]);
    assert!(report["notes"].to_string().contains("1 deployments never began"), "{}", report["notes"]);
    let limited = desk.backtest(&["--github", "--limit", "1", "--json"]);
    let report: Value = serde_json::from_str(&limited.1).unwrap();
    assert_eq!(report["deploys"].as_array().unwrap().len(), 1);
    assert!(report["notes"].to_string().contains("older deployments than the 1 that were looked at"));
    let (code, _, said) = desk.backtest(&["--github", "--limit", "501"]);
    assert!(code == Some(1) && said.contains("--limit 501: write a number from 1 to 500"), "{said}");
}

/// Once the day's samples are used up it says so, and shows what it has.
fn the_budget_bounds_it(desk: &Desk, prometheus: &str, github: &str) {
    let thrifty =
        super::config(prometheus, github, "").replace("timeout = \"2s\"", "timeout = \"2s\"\nsamples_per_day = 20000");
    desk.write("tollgate.toml", &thrifty);
    let (code, told, said) = desk.backtest(&["--deploys", "deploys.csv"]);
    assert_eq!(code, Some(1), "{told}{said}");
    assert!(said.contains("samples a day of samples_per_day are used up"), "{said}");
    assert!(told.contains("a1aaaaa") && !told.contains("a9aaaaa"), "{told}");
}
