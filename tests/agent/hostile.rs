//! Models that do whatever they like: a run ends within its limits all the same, and nothing but a closing call that was
//! accepted makes a plan.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use tollgate::{
    agent::{
        Budgets, Limits, RECORD_BYTES_MAX,
        model::{CallError, Finish, Reply},
    },
    domain::{Message, RolloutId, ServiceName, Text, ToolCall, Usage},
};

use crate::house::{House, Script, Step, ToyShop, brief, cache_change};

fn garbage() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        Just("{}".into()),
        Just("null".into()),
        (0_u64..200).prop_map(|n| format!(r#"{{"n":{n}}}"#)),
        Just(r#"{"n":1,"n":2}"#.into()),
        Just("[".repeat(5_000)),
        Just("x".repeat(200_000)),
    ]
}

fn name() -> impl Strategy<Value = String> {
    let known = ["look", "add", "submit", "abstain", "recommend", "compare", "Submit", "submit ", ""];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

fn call() -> impl Strategy<Value = ToolCall> {
    (any::<String>(), name(), garbage()).prop_map(|(id, name, arguments)| ToolCall { id, name, arguments })
}

fn message() -> impl Strategy<Value = Message> {
    let assistant =
        (prop::option::of(garbage()), prop::option::weighted(0.1, garbage()), prop::collection::vec(call(), 0..5))
            .prop_map(|(text, refusal, calls)| Message::Assistant { text, refusal, calls });
    prop_oneof![12 => assistant, 1 => garbage().prop_map(Message::System), 1 => garbage().prop_map(Message::User)]
}

fn step() -> impl Strategy<Value = Step> {
    let finish = prop_oneof![
        4 => Just(Finish::Stop),
        8 => Just(Finish::ToolCalls),
        1 => Just(Finish::Length),
        1 => Just(Finish::ContentFilter),
        1 => any::<String>().prop_map(|word| Finish::Other(Text::new(word))),
    ];
    let usage = (any::<u64>(), any::<u64>(), 0..3_u64).prop_map(|(input_tokens, output_tokens, scale)| Usage {
        input_tokens: if scale == 0 { input_tokens } else { input_tokens % 1_000 },
        output_tokens: if scale == 0 { output_tokens } else { output_tokens % 1_000 },
        cached_tokens: input_tokens,
        micro_dollars: Some(input_tokens),
    });
    let reply = (message(), finish, usage, any::<String>()).prop_map(|(message, finish, usage, served)| {
        Ok(Reply { message, finish, served_by: Text::new(served), usage })
    });
    prop_oneof![15 => reply, 1 => any::<String>().prop_map(|why| Err(CallError::Malformed(Text::new(why))))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_model_answers_a_run_ends_within_its_limits(steps in prop::collection::vec(step(), 12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let script = Script::of(steps);
            let house = House::with(Arc::clone(&script) as _, Limits::default(), ToyShop::default(), Budgets::default());
            let planned = house.agent.plan(RolloutId(1), cache_change()).await;
            let asked = script.put().len();
            assert!(asked <= 6, "{asked} questions");
            let closing = |call: &&String| call.starts_with("submit") || call.starts_with("abstain") || call.starts_with("recommend");
            let ran = house.ran();
            assert!(ran.iter().filter(|call| !closing(call)).count() <= 20);
            let conversation = planned.conversation.unwrap();
            assert_eq!(conversation.exchanges.len(), asked);
            let bytes: usize = conversation.messages.iter().map(|message| format!("{message:?}").len()).sum();
            assert!(bytes <= 8 * RECORD_BYTES_MAX);
            match planned.draft {
                Ok(draft) => {
                    assert!(ran.last().unwrap().starts_with("submit ") && !draft.checks.is_empty());
                    assert_eq!(draft.way_back, tollgate::domain::WayBack::Open);
                }
                Err((_, words)) => assert!(!words.is_empty()),
            }
            let advised = house
                .agent
                .advise(RolloutId(1), &ServiceName::new("checkout"), Arc::new(brief()), Duration::from_secs(1))
                .await;
            assert!(script.put().len() - asked <= 2);
            assert!(advised.advice.is_err() || house.ran().last().unwrap().starts_with("recommend "));
            assert_eq!(house.agent.today().tokens_reserved, 0, "each reservation was settled");
        });
    }
}
