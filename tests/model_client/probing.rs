//! What the probe finds out about servers of several kinds, and what it costs.

use tollgate::agent::{Capabilities, OutputLimit, Schemas};

use super::*;

async fn probed(script: impl IntoIterator<Item = Script>) -> (Result<Capabilities, CallError>, Vec<Value>) {
    let server = ModelServer::start(script).await;
    let found = Client::new(config(server.base_url())).unwrap().probe().await;
    (found, server.seen().iter().map(|seen| seen.json()).collect())
}

fn say(word: &str) -> Script {
    Script::calls(&[("a", "say", json!({ "word": word }))])
}

#[tokio::test]
async fn a_server_that_heeds_everything_is_known_after_one_question() {
    let (found, sent) = probed([say("pear")]).await;
    let found = found.unwrap();
    assert!(found.calls_tools && found.must_call_is_kept && found.reports_usage && found.takes_cache_key);
    assert_eq!((found.schemas, found.output_limit), (Schemas::Kept, OutputLimit::MaxTokens));
    assert_eq!((found.served_by.as_str(), found.usage.input_tokens), ("scripted-1", 100));
    assert_eq!(sent.len(), 1);
    assert!(sent[0].to_string().len() < 700, "short: {}", sent[0]);
    assert_eq!(sent[0]["tool_choice"], "required");
}

#[tokio::test]
async fn a_server_that_takes_everything_and_heeds_nothing_is_seen_through() {
    let (found, sent) = probed([Script::text("apple"), say("apple")]).await;
    let found = found.unwrap();
    assert!(found.calls_tools && !found.must_call_is_kept);
    assert_eq!((found.schemas, found.usage.input_tokens), (Schemas::Broken, 200));
    assert_eq!((sent.len(), &sent[1]["tool_choice"]), (2, &json!("auto")));
    let (found, _) = probed([Script::text("apple"), Script::text("say(apple)")]).await;
    let found = found.unwrap();
    assert!(!found.calls_tools);
    assert_eq!(found.schemas, Schemas::Unsupported);
}

#[tokio::test]
async fn what_a_server_refuses_is_found_out_on_the_way() {
    let refused = |parameter: &str| Script::new(400, json!({"error": {"message": "no", "param": parameter}}));
    let plain = json!({"choices": [{"message": {"tool_calls": [
        {"function": {"name": "say", "arguments": "{\"word\":\"pear\"}"}}
    ]}}]});
    let (found, sent) = probed([
        refused("max_tokens"),
        refused("tools[0].function.strict"),
        refused("tool_choice"),
        refused("prompt_cache_key"),
        Script::new(200, plain),
    ])
    .await;
    let found = found.unwrap();
    assert!(found.calls_tools && !found.must_call_is_kept && !found.reports_usage && !found.takes_cache_key);
    assert_eq!((found.schemas, found.output_limit), (Schemas::Unsupported, OutputLimit::MaxCompletionTokens));
    assert_eq!(sent.len(), 5);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_told_of_in_the_callers_words() {
    let (found, sent) = probed([Script::error(401, "invalid_api_key", "wrong key")]).await;
    assert!(matches!(found, Err(CallError::Rejected(words)) if words.as_str().contains("wrong key")));
    assert_eq!(sent.len(), 1);
}
