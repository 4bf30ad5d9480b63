//! The limits, each at its edge.

use std::{sync::Arc, time::Duration};

use tollgate::{
    agent::{Budgets, CALLS_EACH_MAX, Limits},
    domain::{RolloutId, ServiceName, Timestamp},
    plan::Fallback,
};

use crate::house::{
    House, Script, Step, ToyShop, USED, advice, brief, cache_change, call, calls, context, file, submit,
};

const ROLLOUT: RolloutId = RolloutId(7);

fn look(n: usize) -> Step {
    call("look", &format!(r#"{{"n":{n}}}"#))
}

fn add() -> Step {
    call("add", r#"{"n":1}"#)
}

#[tokio::test]
async fn the_last_answer_has_closing_tools_only_and_there_is_none_after_it() {
    let script = Script::of([add(), look(1), look(2), look(3), look(4), submit()]);
    let planned = House::new(Arc::clone(&script) as _).agent.plan(ROLLOUT, cache_change()).await;
    assert!(planned.draft.is_ok(), "six answers are allowed");
    let put = script.put();
    assert!(put[..5].iter().all(|put| put.tools.len() == 4 && !put.must_call));
    assert_eq!((put[5].tools.as_slice(), put[5].must_call), (&["submit", "abstain"][..], true));

    let script = Script::of([add(), look(1), look(2), look(3), look(4), look(5), submit()]);
    let house = House::new(Arc::clone(&script) as _);
    let planned = house.agent.plan(ROLLOUT, cache_change()).await;
    assert_eq!(planned.draft.unwrap_err().0, Fallback::Malformed);
    assert_eq!(script.put().len(), 6, "no seventh question");
    assert_eq!(house.ran().len(), 5, "a tool that was not on offer was not run");
}

#[tokio::test]
async fn an_adviser_has_two_answers() {
    let within = Duration::from_secs(5);
    for (steps, expected) in [
        (vec![call("compare", r#"{"n":1}"#), call("recommend", "{}")], Ok(advice())),
        (vec![call("compare", r#"{"n":1}"#), call("compare", r#"{"n":2}"#)], Err(Fallback::Malformed)),
    ] {
        let script = Script::of(steps);
        let agent = House::new(Arc::clone(&script) as _).agent;
        let advised = agent.advise(ROLLOUT, &ServiceName::new("checkout"), Arc::new(brief()), within).await;
        assert_eq!(advised.advice.map_err(|(why, _)| why), expected);
        let put = script.put();
        assert_eq!(put.len(), 2);
        assert_eq!((put[1].tools.as_slice(), put[1].must_call), (&["recommend"][..], true));
    }
}

#[tokio::test]
async fn twenty_calls_run_and_the_next_does_not() {
    let arguments: Vec<String> = (0..30).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    let looks = |range: std::ops::Range<usize>| calls(arguments[range].iter().map(|of| ("look", of.as_str())));
    let script = Script::of([add(), looks(0..21), submit()]);
    let house = House::new(Arc::clone(&script) as _);
    let planned = house.agent.plan(ROLLOUT, cache_change()).await;
    assert!(planned.draft.is_ok());
    assert_eq!(house.ran().iter().filter(|call| !call.starts_with("submit")).count(), 20);
    let put = script.put();
    let denied = put[2].answers().iter().filter(|answer| answer["reason"] == "no_calls_left").count();
    assert_eq!(denied, 2);
    assert_eq!((put[2].tools.as_slice(), put[2].must_call), (&["submit", "abstain"][..], true));
}

#[tokio::test]
async fn an_answer_with_too_many_calls_is_not_looked_into() {
    let arguments: Vec<String> = (0..100).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    let limits = Limits { tool_calls_max: 200, ..Limits::default() };
    for (count, ran) in [(CALLS_EACH_MAX, CALLS_EACH_MAX), (CALLS_EACH_MAX + 1, 0), (100, 0)] {
        let script = Script::of([calls(arguments[..count].iter().map(|of| ("add", of.as_str())))]);
        let house = House::with(
            Arc::clone(&script) as _,
            Limits { plan_within: Duration::from_millis(20), ..limits },
            ToyShop::default(),
            Budgets::default(),
        );
        let planned = house.agent.plan(ROLLOUT, cache_change()).await;
        assert_eq!(house.ran().len(), ran);
        let expected = if ran == 0 { Fallback::Malformed } else { Fallback::Unavailable };
        assert_eq!(planned.draft.unwrap_err().0, expected, "the script hangs at its end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_hangs_is_waited_for_until_the_run_is_over() {
    let house = House::new(Script::of([add()]) as _);
    let started = tokio::time::Instant::now();
    let planned = house.agent.plan(ROLLOUT, cache_change()).await;
    assert_eq!(started.elapsed(), Limits::default().plan_within);
    assert_eq!(planned.draft.unwrap_err().0, Fallback::Unavailable);
    let conversation = planned.conversation.unwrap();
    assert_eq!(conversation.exchanges.len(), 2, "the question that was under way is kept");
    assert!(conversation.exchanges[1].failure.is_some() && conversation.exchanges[1].usage.input_tokens > 0);
    let today = house.agent.today();
    let kept = conversation.usage();
    assert_eq!((today.tokens, today.tokens_reserved), (kept.input_tokens + kept.output_tokens, 0), "and paid for");

    let within = Duration::from_secs(3);
    let started = tokio::time::Instant::now();
    let advised = house.agent.advise(ROLLOUT, &ServiceName::new("checkout"), Arc::new(brief()), within).await;
    assert_eq!((advised.advice.unwrap_err().0, started.elapsed()), (Fallback::Unavailable, within));
}

#[tokio::test]
async fn a_run_ends_before_it_uses_more_tokens_than_it_may() {
    let run = async |run_tokens_max| {
        let script = Script::of([add(), submit()]);
        let limits = Limits { run_tokens_max, ..Limits::default() };
        let house = House::with(Arc::clone(&script) as _, limits, ToyShop::default(), Budgets::default());
        (house.agent.plan(ROLLOUT, cache_change()).await.draft.map_err(|(why, _)| why), script.put().len())
    };
    let (mut least, mut enough) = (0, 200_000);
    while enough - least > 1 {
        let middle = (least + enough) / 2;
        if run(middle).await.0.is_ok() { enough = middle } else { least = middle }
    }
    assert!(enough > u64::from(Limits::default().output_tokens_max) + USED.input_tokens, "{enough}");
    assert_eq!(run(enough - 1).await, (Err(Fallback::OverBudget), 1), "one token less: the second is not asked");
    assert_eq!(run(0).await, (Err(Fallback::OverBudget), 0));
}

#[tokio::test]
async fn a_conversation_does_not_grow_past_its_record() {
    let shop = ToyShop { answer: "x".repeat(100_000), ..ToyShop::default() };
    let limits = Limits { planner_turns_max: 50, tool_calls_max: 500, run_tokens_max: u64::MAX, ..Limits::default() };
    let house = House::with(Script::of((0..50).map(look)) as _, limits, shop, Budgets::default());
    let planned = house.agent.plan(ROLLOUT, cache_change()).await;
    assert_eq!(planned.draft.unwrap_err().0, Fallback::OverBudget);
    let conversation = planned.conversation.unwrap();
    let bytes = serde_json::to_string(&conversation.messages).unwrap().len();
    assert!(bytes < 2 * tollgate::agent::RECORD_BYTES_MAX && bytes > tollgate::agent::RECORD_BYTES_MAX / 2);
    let cut = conversation.messages.iter().filter(|message| format!("{message:?}").contains("[cut:")).count();
    assert!(cut > 5, "long answers are cut and say so");
}

#[tokio::test]
async fn a_run_that_is_called_off_leaves_its_purse_and_its_agent_whole() {
    let script = Script::of([add()]);
    let house = House::new(Arc::clone(&script) as _);
    let run = house.agent.plan(ROLLOUT, cache_change());
    assert!(tokio::time::timeout(Duration::from_millis(20), run).await.is_err(), "it hangs on its second question");
    let today = house.agent.today();
    assert!(
        today.tokens > 1_050 + u64::from(Limits::default().output_tokens_max),
        "the one on its way counts as spent"
    );
    assert_eq!(today.tokens_reserved, 0);
    assert_eq!(house.agent.counts().calls.len(), 0, "what did not end is not counted");
}

#[tokio::test]
async fn runs_of_one_rollout_go_on_its_pull_requests_account() {
    let recommend = || call("recommend", "{}");
    let script = Script::of([add(), submit(), recommend(), recommend(), recommend()]);
    let house = House::new(script as _);
    let service = ServiceName::new("checkout");
    house.agent.seed_spent(&[(Timestamp::from_millis(5), USED)]);
    assert!(house.agent.plan(ROLLOUT, cache_change()).await.draft.is_ok());
    house.agent.remember(RolloutId(6), &service, &cache_change().change);
    for (rollout, accounts) in [(ROLLOUT, 1), (RolloutId(6), 1), (RolloutId(8), 2)] {
        let advised = house.agent.advise(rollout, &service, Arc::new(brief()), Duration::from_secs(1)).await;
        assert!(advised.advice.is_ok());
        assert_eq!(house.agent.today().pull_requests, accounts, "{rollout}");
    }
    assert_eq!(house.agent.today().tokens, 6 * 1_050, "what was used before counts");
}

#[tokio::test]
async fn documents_and_tests_need_no_model() {
    let script = Script::of([]);
    let house = House::new(Arc::clone(&script) as _);
    let nothing = context("Nothing", Vec::new());
    let planned = house.agent.plan(ROLLOUT, nothing).await;
    assert_eq!(planned.draft.unwrap().source, tollgate::plan::Source::Heuristic);
    assert!(script.put().is_empty() && planned.conversation.is_none());
    assert_eq!(house.agent.counts().not_needed, 1);

    let docs = vec![file("docs/cache.md", &["A cache."]), file("tests/cache.rs", &["#[test]"])];
    assert!(house.agent.plan(ROLLOUT, context("Docs", docs.clone())).now_or_asks(&script).await);
    let mut moved = docs;
    moved[0].previous_path = Some("src/cache.rs".into());
    assert!(!house.agent.plan(ROLLOUT, context("Docs", moved)).now_or_asks(&script).await, "code went away");
}

trait NowOrAsks: Future<Output = tollgate::agent::Planned> + Sized {
    /// Whether it is over without a question.
    async fn now_or_asks(self, script: &Script) -> bool {
        let before = script.put().len();
        let over = tokio::time::timeout(Duration::from_millis(10), self).await.is_ok();
        assert_eq!(over, script.put().len() == before);
        over
    }
}

impl<F: Future<Output = tollgate::agent::Planned>> NowOrAsks for F {}
