//! Planning conversations that a language model held once, run again without it: the same prompts, tools, trials and
//! admission as then, on the same change and the same past, must come to the same words and the same plan.
//!
//! Where a prompt, a tool's sheet or what a tool answers has changed on purpose, a record is no longer what is said now:
//! `TOLLGATE_WRITE_CONVERSATIONS=1 cargo test --test conversations` keeps the model's answers and writes the rest anew, and
//! what has changed shows in the records' diff. To have a model answer anew, see `evals/conversations/README.md`.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod case;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
    time::Instant,
};

use serde_json::Value;
use tollgate::{
    agent::{Client, Difference, Replay, recording},
    domain::{Conversation, Message, Origin, Risk},
    plan::Source,
    untrusted::masked,
};

use case::{Case, Outcome, agent_config, folder};

/// Every kind of change that there must be a conversation about, and the one that must need none.
const KINDS: [&str; 12] = [
    "api_route",
    "auth",
    "cache",
    "config",
    "dependency_upgrade",
    "docs_only",
    "feature_flag",
    "hostile_comment",
    "prompt_or_model",
    "queue_consumer",
    "sql_migration",
    "timeout",
];
const DOCS_ONLY: &str = "docs_only";

fn is_written_anew() -> bool {
    std::env::var_os("TOLLGATE_WRITE_CONVERSATIONS").is_some()
}

fn keep(case: &Case, conversation: Option<&Conversation>, outcome: &Outcome) {
    if let Some(conversation) = conversation {
        recording::write(&case.file("conversation.json"), conversation).unwrap();
    }
    let text = serde_json::to_string_pretty(outcome).unwrap();
    fs::write(case.file("outcome.json"), text + "\n").unwrap();
}

/// Runs a record again, and holds that nothing is different.
async fn again(case: Case) {
    let name = case.name.clone();
    let Some(recorded) = case.recorded() else { panic!("{name} has no record") };
    let on_difference = if is_written_anew() { Difference::GoOn } else { Difference::Refuse };
    let replay = Arc::new(Replay::new(recorded.clone(), on_difference));
    let (admission, said) = case.planned(Arc::clone(&replay) as _).await;
    let outcome = Outcome::of(&admission);
    if is_written_anew() {
        return keep(&case, said.as_ref(), &outcome);
    }
    assert_eq!(replay.differences(), [], "{name} is not as recorded");
    assert_eq!(outcome, case.expected(), "{name}");
    assert_eq!(said.unwrap(), recorded, "{name}: what was said");
}

fn with_records() -> Vec<Case> {
    Case::all().into_iter().filter(|case| case.name != DOCS_ONLY).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_conversation_comes_to_the_same_words_and_the_same_plan_without_the_model() {
    let mut cases = with_records();
    assert!(cases.len() >= KINDS.len() - 1);
    while !cases.is_empty() {
        let two = cases.split_off(cases.len().saturating_sub(2));
        let running: Vec<_> = two.into_iter().map(|case| tokio::spawn(again(case))).collect();
        for run in running {
            run.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_documents_only_asks_no_model() {
    let case = Case::read(DOCS_ONLY);
    let empty = Conversation { messages: Vec::new(), exchanges: Vec::new(), ..Case::read("cache").recorded().unwrap() };
    // It holds no answer: whoever asks is refused, and that would be told as the plan's source.
    let replay = Arc::new(Replay::new(empty, Difference::Refuse));
    let (admission, said) = case.planned(replay).await;
    assert_eq!((admission.plan.source(), said), (&Source::Heuristic, None));
    assert!(case.recorded().is_none());
    let outcome = Outcome::of(&admission);
    if is_written_anew() {
        return keep(&case, None, &outcome);
    }
    assert_eq!(outcome, case.expected());
}

#[test]
fn every_kind_of_change_is_there_with_a_line_on_how_it_was_made() {
    let note = fs::read_to_string(folder().join("README.md")).unwrap();
    let cases = Case::all();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    for kind in KINDS {
        assert!(names.contains(kind), "{kind}");
    }
    let mut languages = BTreeMap::new();
    for case in &cases {
        assert!(note.contains(&format!("| `{}` |", case.name)), "{} is not in the note", case.name);
        let lines = case.text.lines().count();
        assert!((25..=220).contains(&lines), "{}: {lines} lines", case.name);
        for file in &case.diff.files {
            let extension = file.path.rsplit('.').next().unwrap_or_default().to_owned();
            *languages.entry(extension).or_insert(0) += 1;
        }
    }
    for language in ["go", "java", "py", "rs", "sql", "ts", "yaml"] {
        assert!(languages.contains_key(language), "no change to a file of {language}: {languages:?}");
    }
}

#[test]
fn no_record_holds_what_looks_like_a_secret() {
    for case in Case::all() {
        assert_eq!(masked(&case.text).secrets, 0, "{}: the change", case.name);
        let Some(conversation) = case.recorded() else { continue };
        for message in &conversation.messages {
            let texts: Vec<&String> = match message {
                Message::System(text) | Message::User(text) | Message::Tool { answer: text, .. } => vec![text],
                Message::Assistant { text, refusal, calls } => {
                    text.iter().chain(refusal).chain(calls.iter().map(|call| &call.arguments)).collect()
                }
            };
            for text in texts {
                assert_eq!(masked(text).secrets, 0, "{}: {text}", case.name);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_asks_for_is_in_every_plan_whatever_the_change_says() {
    let hostile: Vec<Case> = Case::all().into_iter().filter(|case| case.name.starts_with("hostile")).collect();
    assert!(hostile.len() >= 2);
    for case in hostile {
        let replay = Arc::new(Replay::new(case.recorded().unwrap(), Difference::GoOn));
        let (admission, _) = case.planned(replay).await;
        let (_, service) = case.service();
        let plan = &admission.plan;
        let asked: Vec<_> = service
            .bounds
            .mandatory
            .iter()
            .chain(service.bounds.path_rules.iter().flat_map(|rule| &rule.checks))
            .collect();
        assert!(asked.len() >= 3, "{}: objectives, and what the paths ask for", case.name);
        for check in asked {
            let is_there = plan.checks().iter().any(|kept| {
                kept.sli == check.sli
                    && kept.origin == Origin::Slo
                    && kept.ratio_max <= check.ratio_max
                    && kept.limit == check.limit
            });
            assert!(is_there, "{}: {}", case.name, check.name);
        }
        assert_eq!(plan.risk(), Risk::High, "{}", case.name);
        assert!(matches!(plan.source(), Source::Model { .. } | Source::Fallback { .. }), "{}", case.name);
    }
}

/// What a model was answered to its proposals, in order.
fn answered(conversation: &Conversation) -> Vec<Value> {
    let answers = conversation.messages.iter().filter_map(|message| match message {
        Message::Tool { answer, .. } => Some(serde_json::from_str::<Value>(answer).unwrap()["data"].take()),
        Message::System(_) | Message::User(_) | Message::Assistant { .. } => None,
    });
    answers.filter(|data| data["standing"].is_string()).collect()
}

#[test]
fn what_the_model_was_told_of_a_check_is_what_became_of_it() {
    let (mut standings, mut kinds, mut aims) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for case in with_records() {
        let answers = answered(&case.recorded().unwrap());
        standings.extend(answers.iter().map(|answer| answer["standing"].as_str().unwrap().to_owned()));
        let mut decisive = 0;
        for check in case.expected().checks.iter().filter(|check| check["origin"] == "model") {
            let told = answers.iter().rev().find(|answer| answer["check"] == check["name"]);
            let told = told.unwrap_or_else(|| panic!("{}: {check} was never tried", case.name));
            assert_ne!(told["standing"], "rejected", "{}: {check}", case.name);
            assert_eq!(check["weight"] == "critical", told["is_decisive"] == true, "{}: {check} {told}", case.name);
            decisive += usize::from(check["weight"] == "critical");
            kinds.insert(check["kind"].as_str().unwrap().to_owned());
            aims.insert(check["aim"].as_str().unwrap().to_owned());
        }
        // At a request in eight seconds nothing can be seen in time, and the model is told so.
        assert!(decisive > 0 || case.name == "low_traffic", "{}: nothing of the model's decides", case.name);
    }
    for standing in ["admitted", "demoted"] {
        assert!(standings.contains(standing), "{standings:?}");
    }
    assert!(kinds.len() >= 5 && aims.len() == 2, "{kinds:?} {aims:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks a model: TOLLGATE_RECORD names the case and TOLLGATE_MODEL_URL the server"]
async fn record() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let (name, url) = (std::env::var("TOLLGATE_RECORD").unwrap(), std::env::var("TOLLGATE_MODEL_URL").unwrap());
    let case = Case::read(&name);
    let client = Client::new(agent_config(&url)).unwrap();
    let begun = Instant::now();
    let (admission, said) = case.planned(Arc::new(client)).await;
    let outcome = Outcome::of(&admission);
    println!("{name}: {} s\n{}", begun.elapsed().as_secs(), serde_json::to_string_pretty(&outcome).unwrap());
    keep(&case, said.as_ref(), &outcome);
}
