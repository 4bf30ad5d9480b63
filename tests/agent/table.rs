//! The table of failures, row by row.

use std::{sync::Arc, time::Duration};

use tollgate::{
    agent::{Agent, Budgets, Config, Flavour, Limits, Planned, model::CallError},
    domain::{Message, Origin, RolloutId, ServiceName, Story, Text, Timestamp, WayBack},
    plan::{Fallback, Source},
};

use crate::house::{
    House, Script, Step, ToyShop, brief, cache_change, call, calls, context, cut_off, file, filtered, refusal, submit,
    words,
};

const ROLLOUT: RolloutId = RolloutId(7);

async fn plan(steps: impl IntoIterator<Item = Step>) -> (Planned, Arc<Script>, House) {
    let script = Script::of(steps);
    let house = House::new(Arc::clone(&script) as _);
    let planned = house.agent.plan(ROLLOUT, cache_change()).await;
    (planned, script, house)
}

/// The model's checks.
fn names(planned: &Planned) -> Vec<&str> {
    let checks = planned.draft.as_ref().unwrap().checks.iter();
    checks.filter(|check| check.origin == Origin::Model).map(|check| check.name.as_str()).collect()
}

fn fallback(planned: &Planned) -> Fallback {
    planned.draft.as_ref().unwrap_err().0
}

#[tokio::test]
async fn a_plan_is_the_models_checks_under_the_rules_own_words_on_the_way_back() {
    let (planned, script, house) = plan([calls([("look", r#"{"n":1}"#), ("add", r#"{"n":2}"#)]), submit()]).await;
    assert_eq!(names(&planned), ["check 2"]);
    let draft = planned.draft.unwrap();
    let guard = &draft.checks[0];
    assert_eq!(
        (guard.name.as_str(), guard.origin),
        ("errors on all traffic", Origin::Heuristic),
        "the rules' come first"
    );
    assert_eq!(draft.source, Source::Model { model: Text::new("scripted"), is_cached: false });
    assert_eq!(draft.way_back, WayBack::Open, "a model must not stop a rollback");
    assert!(draft.notes.iter().any(|note| note.as_str() == "a note of the model's") && draft.notes.len() > 1);
    let put = script.put();
    assert_eq!(put.len(), 2);
    assert_eq!((put[0].tools.as_slice(), put[0].must_call), (&["look", "add", "submit", "abstain"][..], false));
    let conversation = planned.conversation.unwrap();
    assert_eq!(conversation.messages[..put[1].messages.len()], put[1].messages, "what is kept is what was sent");
    assert_eq!(conversation.exchanges.len(), 2);
    assert_eq!(conversation.usage().input_tokens, 2_000);
    assert_eq!(
        (conversation.model.as_str(), conversation.end.as_str()),
        ("scripted (served as scripted-2026)", "submitted a plan")
    );
    let today = house.agent.today();
    assert_eq!((today.tokens, today.tokens_reserved, today.pull_requests), (2_100, 0, 1));
    let today = house.agent.today();
    assert_eq!((today.tokens, today.tokens_reserved, today.pull_requests), (2_100, 0, 1));
}

#[tokio::test]
async fn a_refusal_is_asked_again_with_names_only_and_a_second_one_ends_it() {
    for refused in [refusal("I cannot help with that"), filtered()] {
        let (planned, script, house) = plan([refused.clone(), call("add", r#"{"n":1}"#), submit()]).await;
        assert_eq!(names(&planned), ["check 1"]);
        let put = script.put();
        assert!(put[1].messages.len() == 2 && put[1].messages != put[0].messages, "begun anew");
        assert!(put[0].text().contains("CACHE.get(key)") && !put[1].text().contains("CACHE.get(key)"));
        assert!(put[1].words(1).contains("src/cache.rs") && put[1].words(1).contains("lookup"), "names only");
        assert_eq!(house.agent.counts().refusals, 1);

        let (planned, script, _) = plan([refused.clone(), refused]).await;
        assert_eq!(fallback(&planned), Fallback::Refused);
        assert_eq!(script.put().len(), 2);
    }
}

#[tokio::test]
async fn an_adviser_that_refuses_has_nothing_to_be_shown_less_of() {
    let script = Script::of([refusal("no")]);
    let house = House::new(Arc::clone(&script) as _);
    let within = Duration::from_secs(5);
    let advised = house.agent.advise(ROLLOUT, &ServiceName::new("checkout"), Arc::new(brief()), within).await;
    assert_eq!(advised.advice.unwrap_err().0, Fallback::Refused);
    assert_eq!(script.put().len(), 1);
}

#[tokio::test]
async fn a_cut_off_answer_is_not_read_and_is_asked_again_with_half_the_change() {
    let (planned, script, house) = plan([cut_off(), call("add", r#"{"n":1}"#), submit()]).await;
    assert_eq!(names(&planned), ["check 1"]);
    assert_eq!(house.ran(), [r#"add {"n":1}"#, "submit {}"], "nothing of the cut answer was run");
    assert_eq!(script.put()[1].messages.len(), 2, "begun anew");

    let lines: Vec<String> = (0..2_000).map(|n| format!("    let value_{n} = read(source, {n})?;")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let script = Script::of([cut_off(), cut_off()]);
    let agent = House::new(Arc::clone(&script) as _).agent;
    let planned = agent.plan(ROLLOUT, context("Long", vec![file("src/long.rs", &lines)])).await;
    assert_eq!((fallback(&planned), script.put().len()), (Fallback::Truncated, 2));
    let shown = |at: usize| script.put()[at].words(1).matches("let value_").count();
    assert!(shown(1) > 100 && (shown(0) / 2).abs_diff(shown(1)) < 100, "{} then {}", shown(0), shown(1));
}

#[tokio::test]
async fn a_wrong_call_is_given_back_with_its_field_twice_and_then_no_more() {
    let wrong = [call("look", "{}"), call("add", "{\"n\":"), call("expand_to_everyone", "{}")];
    let [one, two, three] = wrong;
    let (planned, script, house) = plan([one.clone(), two.clone(), call("add", r#"{"n":1}"#), submit()]).await;
    assert_eq!(names(&planned), ["check 1"]);
    let put = script.put();
    assert_eq!(put[1].answers()[0]["reason"], "field n: missing");
    assert_eq!(put[2].answers()[0]["reason"], "arguments: no JSON");
    assert_eq!(house.agent.counts().repairs, 2);

    let (planned, script, _) = plan([one, two, three]).await;
    assert_eq!((fallback(&planned), script.put().len()), (Fallback::Malformed, 3));
    assert!(planned.draft.unwrap_err().1.contains("expand_to_everyone"), "it is named");
}

#[tokio::test]
async fn a_call_against_the_rules_is_rejected_alone_and_costs_no_repair() {
    let batch = calls([("add", r#"{"n":1}"#), ("add", r#"{"n":999}"#), ("add", r#"{"n":2}"#)]);
    let (planned, script, house) = plan([batch, submit()]).await;
    assert_eq!(names(&planned), ["check 1", "check 2"]);
    let answers: Vec<_> = script.put()[1].answers().iter().map(|answer| answer["status"].clone()).collect();
    assert_eq!(answers, ["ok", "denied", "ok"]);
    assert_eq!(house.agent.counts().repairs, 0);
}

#[tokio::test]
async fn a_repeated_call_is_refused_and_the_second_time_ends_the_run() {
    let look = || call("look", r#"{"n":1}"#);
    let (planned, script, house) =
        plan([look(), call("look", r#"{ "n": 1 }"#), call("add", r#"{"n":1}"#), submit()]).await;
    assert_eq!(names(&planned), ["check 1"]);
    assert_eq!(script.put()[2].answers()[0]["reason"], "repeated_call");
    assert_eq!(house.ran().iter().filter(|call| call.starts_with("look")).count(), 1);

    let (planned, script, _) = plan([look(), look(), look()]).await;
    assert_eq!((fallback(&planned), script.put().len()), (Fallback::Repeating, 3));
}

#[tokio::test]
async fn words_in_place_of_a_call_are_answered_with_one_nudge_and_never_read() {
    let plan_in_words = || words(r#"```json {"tool":"submit","checks":[{"n":1}]}``` I call submit()."#);
    let (planned, script, _) = plan([plan_in_words(), call("add", r#"{"n":1}"#), submit()]).await;
    assert_eq!(names(&planned), ["check 1"]);
    let put = script.put();
    assert!(!put[0].must_call && put[1].must_call && put[1].tools.len() == 4);
    assert!(matches!(put[1].messages.last(), Some(Message::User(text)) if text.contains("calling one of the tools")));

    let (planned, script, house) = plan([plan_in_words(), plan_in_words()]).await;
    assert_eq!((fallback(&planned), script.put().len()), (Fallback::Malformed, 2));
    assert!(house.ran().is_empty());
}

#[tokio::test]
async fn an_empty_answer_is_words_too() {
    let (planned, _, _) = plan([words(" "), words("")]).await;
    assert_eq!(fallback(&planned), Fallback::Malformed);
}

#[tokio::test]
async fn several_closing_calls_or_one_among_others_are_all_rejected() {
    for mixed in [
        calls([("submit", "{}"), ("abstain", "{}")]),
        calls([("submit", "{}"), ("submit", "{}")]),
        calls([("add", r#"{"n":1}"#), ("submit", "{}")]),
    ] {
        let (planned, script, house) = plan([mixed.clone(), call("add", r#"{"n":1}"#), submit()]).await;
        assert_eq!(names(&planned), ["check 1"], "what was rejected with others may be asked for again");
        assert!(script.put()[1].answers().iter().all(|answer| answer["reason"] == "closing_call_not_alone"));
        assert_eq!((house.ran().len(), house.agent.counts().repairs), (2, 1));

        let (planned, script, house) = plan([mixed.clone(), mixed.clone(), mixed]).await;
        assert_eq!((fallback(&planned), script.put().len()), (Fallback::Malformed, 3));
        assert!(house.ran().is_empty());
    }
}

#[tokio::test]
async fn a_model_that_cannot_be_asked_is_told_apart_by_why() {
    for (error, why) in [
        (CallError::Unavailable(Text::new("503")), Fallback::Unavailable),
        (CallError::Rejected(Text::new("401")), Fallback::Rejected),
        (CallError::Malformed(Text::new("no JSON")), Fallback::Malformed),
    ] {
        let (planned, _, house) = plan([Err(error)]).await;
        assert_eq!(fallback(&planned), why);
        let conversation = planned.conversation.unwrap();
        assert!(conversation.exchanges[0].failure.is_some() && conversation.end.as_str().starts_with(why.word()));
        let today = house.agent.today();
        assert_eq!(today.tokens_reserved, 0);
        // An answer that was sent and cannot be read has mostly been charged for.
        assert_eq!(today.tokens > 0, why == Fallback::Malformed);
    }
}

#[tokio::test]
async fn a_run_without_money_asks_nothing() {
    let script = Script::of([submit()]);
    let budgets = Budgets { day_tokens_max: 10, ..Budgets::default() };
    let house = House::with(Arc::clone(&script) as _, Limits::default(), ToyShop::default(), budgets);
    let planned = house.agent.plan(ROLLOUT, cache_change()).await;
    let (why, words) = planned.draft.unwrap_err();
    assert!(why == Fallback::OverBudget && words.contains("day_tokens_max of 10"), "{words}");
    assert!(script.put().is_empty());
    assert_eq!(house.agent.counts().fallbacks.values().sum::<u64>(), 1);
}

#[tokio::test]
async fn an_abstention_is_a_reason_and_no_plan() {
    let (planned, _, _) = plan([call("abstain", "{}")]).await;
    assert_eq!(planned.draft, Err((Fallback::Abstained, "no_matching_telemetry".into())));
}

#[tokio::test]
async fn a_narrators_words_are_bounded_and_anything_else_is_none() {
    let story = || {
        Arc::new(Story {
            service: ServiceName::new("checkout"),
            outcome: tollgate::domain::Outcome::RolledBack,
            reason: Text::new("errors rose"),
            widest_share: 500,
            lasted_seconds: 900,
            brief: brief(),
            names: vec![],
        })
    };
    for (step, expected) in [
        (words("It went back."), Ok("It went back.".to_owned())),
        (call("submit", "{}"), Err(Fallback::Malformed)),
        (words("  "), Err(Fallback::Malformed)),
        (refusal("no"), Err(Fallback::Refused)),
        (cut_off(), Err(Fallback::Truncated)),
    ] {
        let script = Script::of([step]);
        let house = House::new(Arc::clone(&script) as _);
        let narrated = house.agent.narrate(ROLLOUT, story()).await;
        assert_eq!(narrated.words.map(|words| words.as_str().to_owned()).map_err(|(why, _)| why), expected);
        assert!(script.put().len() == 1 && script.put()[0].tools.is_empty());
    }
    let house = House::new(Script::of([words(&"long ".repeat(10_000))]) as _);
    let narrated = house.agent.narrate(ROLLOUT, story()).await;
    assert!(narrated.words.unwrap().as_str().len() <= tollgate::domain::PROSE_BYTES_MAX);
}

#[tokio::test]
async fn a_model_is_sent_only_the_actions_that_are_legal_now() {
    let script = Script::of([call("abstain", "{}")]);
    let agent = Agent::with_model(unreached(), Arc::clone(&script) as _, Arc::new(|| Timestamp::EPOCH)).unwrap();
    agent.advise(ROLLOUT, &ServiceName::new("checkout"), Arc::new(brief()), Duration::from_millis(50)).await;
    let put = &script.put()[0];
    let at = put.tools.iter().position(|name| *name == "recommend").unwrap();
    assert_eq!(put.schemas[at]["properties"]["action"]["enum"], serde_json::json!(["hold", "ask_person"]));
}

fn unreached() -> Config {
    Config {
        flavour: Flavour::OpenAi,
        base_url: "http://127.0.0.1:9/v1".into(),
        model: "scripted".into(),
        key: None,
        timeout: Duration::from_secs(1),
        attempts_max: 1,
        price: None,
        limits: Limits::default(),
        budgets: Budgets::default(),
    }
}

#[tokio::test]
async fn the_tools_that_there_are_are_offered_and_answer() {
    let script = Script::of([call("submit", "{}"), call("abstain", r#"{"reason":"no_matching_telemetry"}"#)]);
    let config = unreached();
    let clock = Arc::new(|| Timestamp::EPOCH);
    let agent = Agent::with_model(config.clone(), Arc::clone(&script) as _, clock.clone()).unwrap();
    let planned = agent.plan(ROLLOUT, cache_change()).await;
    assert_eq!(fallback(&planned), Fallback::Abstained, "{:?}", planned.draft);
    let put = script.put();
    for name in ["get_diff_hunks", "search_metrics", "add_ratio_check", "submit_plan", "abstain"] {
        assert!(put[0].tools.contains(&name), "{name}");
    }
    assert_eq!(put[1].answers()[0]["status"], "error", "a tool that there is not");
    assert!(Agent::new(config.clone(), clock.clone()).is_ok());
    let bad = Config { base_url: "no address".into(), ..config };
    assert!(matches!(Agent::new(bad, clock), Err(tollgate::agent::Error::Model(_))));
}
