//! A planning that is run again from its record.

use std::{fs, sync::Arc};

use tollgate::{
    agent::{Agent, Difference, Planned, Replay, model::CallError, recording},
    domain::{Conversation, RolloutId, Text},
    plan::Fallback,
};

use crate::house::{House, Script, Step, cache_change, call, calls, context, cut_off, file, refusal, submit, words};

async fn recorded(steps: impl IntoIterator<Item = Step>) -> Planned {
    House::new(Script::of(steps) as _).agent.plan(RolloutId(1), cache_change()).await
}

async fn again(agent: &Agent, context: tollgate::tools::Context) -> Planned {
    agent.plan(RolloutId(9), context).await
}

fn add() -> Step {
    call("add", r#"{"n":1}"#)
}

#[tokio::test]
async fn a_record_gives_the_same_plan_and_the_same_record() {
    let broken = || Err(CallError::Unavailable(Text::new("503 for 3 attempts")));
    let runs: Vec<Vec<Step>> = vec![
        vec![add(), submit()],
        vec![calls([("look", r#"{"n":1}"#), ("look", r#"{"n":1}"#), ("add", r#"{"n":3}"#)]), submit()],
        vec![refusal("no"), cut_off(), words("let me see"), add(), submit()],
        vec![call("look", "{}"), calls([("submit", "{}"), ("add", "{}")]), add(), submit()],
        vec![add(), broken()],
        vec![call("abstain", "{}")],
        vec![add(), add(), add()],
    ];
    for steps in runs {
        let first = recorded(steps).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        recording::write(&path, first.conversation.as_ref().unwrap()).unwrap();
        let conversation = recording::read(&path).unwrap();
        assert_eq!(Some(&conversation), first.conversation.as_ref());
        let replay = Arc::new(Replay::new(conversation, Difference::Refuse));
        let house = House::new(Arc::clone(&replay) as _);
        assert_eq!(again(&house.agent, cache_change()).await, first);
        assert_eq!(replay.differences(), []);
    }
}

#[tokio::test]
async fn another_change_is_told_as_what_it_is() {
    let conversation = recorded([add(), submit()]).await.conversation.unwrap();
    let other = || context("Add a cache", vec![file("src/cache.rs", &["fn lookup() {", "    CACHE.put(key)"])]);
    let replay = Arc::new(Replay::new(conversation.clone(), Difference::Refuse));
    let planned = again(&House::new(Arc::clone(&replay) as _).agent, other()).await;
    let (why, words) = planned.draft.unwrap_err();
    assert_eq!(why, Fallback::Rejected);
    assert!(words.contains("question 1") && words.contains("message 2 (what it is about)"), "{words}");

    let replay = Arc::new(Replay::new(conversation, Difference::GoOn));
    let planned = again(&House::new(Arc::clone(&replay) as _).agent, other()).await;
    assert!(planned.draft.is_ok());
    assert_eq!(replay.differences().len(), 2, "each question that differs is written down");
}

#[tokio::test]
async fn a_changed_policy_and_changed_tools_are_told_apart() {
    let conversation = recorded([add(), submit()]).await.conversation.unwrap();
    let mut policy = conversation.clone();
    policy.messages[0] = tollgate::domain::Message::System("You are somebody else.".into());
    policy.exchanges[0].question = tollgate::domain::Digest::new("another");
    let mut tools = conversation;
    tools.exchanges[0].question = tollgate::domain::Digest::new("another");
    for (changed, named) in [(policy, "(the policy)"), (tools, "the tools on offer")] {
        let replay = Replay::new(changed, Difference::Refuse);
        let planned = again(&House::new(Arc::new(replay) as _).agent, cache_change()).await;
        let words = planned.draft.unwrap_err().1;
        assert!(words.contains(named), "{words}");
    }
}

#[tokio::test]
async fn a_record_answers_no_more_questions_than_it_holds() {
    let mut conversation = recorded([add(), submit()]).await.conversation.unwrap();
    conversation.exchanges.pop();
    let planned =
        again(&House::new(Arc::new(Replay::new(conversation, Difference::Refuse)) as _).agent, cache_change()).await;
    assert!(planned.draft.unwrap_err().1.contains("holds 1 answers"));
}

#[tokio::test]
async fn a_file_that_is_no_recording_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    let whole = recorded([add(), submit()]).await.conversation.unwrap();
    let file = |conversation: &Conversation| serde_json::json!({ "format": 1, "conversation": conversation });
    let mut other_format = file(&whole);
    other_format["format"] = 2.into();
    let mut extra = file(&whole);
    extra["note"] = "x".into();
    let mut out_of_place = whole.clone();
    out_of_place.exchanges[0].said = 1;
    let mut beyond = whole.clone();
    beyond.exchanges[1].said = 99;
    let mut backwards = whole.clone();
    backwards.exchanges.reverse();
    for (text, named) in [
        ("{".to_owned(), "no recording"),
        ("{}".to_owned(), "format"),
        (other_format.to_string(), "format 2"),
        (extra.to_string(), "note"),
        (file(&out_of_place).to_string(), "exchange 1"),
        (file(&beyond).to_string(), "message 99"),
        (file(&backwards).to_string(), "exchange 2 comes before"),
        (" ".repeat(recording::FILE_BYTES_MAX + 1), "larger than"),
    ] {
        fs::write(&path, text).unwrap();
        let error = recording::read(&path).unwrap_err().to_string();
        assert!(error.contains(named) && error.contains("plan.json"), "{error}");
    }
    assert!(recording::read(&folder.path().join("none.json")).unwrap_err().to_string().contains("none.json"));
    assert!(recording::write(&folder.path().join("no/such/folder.json"), &whole).is_err());
}
