//! What goes over the wire: paths, headers, bytes, and the parameters that a server turns out not to take.

use sha2::{Digest, Sha256};

use super::*;

#[tokio::test]
async fn a_request_is_the_one_that_openai_documents() {
    let server = ModelServer::start([Script::text("x")]).await;
    ask(&Client::new(config(server.base_url())).unwrap()).await;
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert!(seen.header("user-agent").unwrap().starts_with("tollgate/"));
    for absent in ["api-key", "openai-organization", "openai-project", "cookie"] {
        assert_eq!(seen.header(absent), None);
    }
    let tool = |name: &str, description: &str| {
        json!({"type": "function", "function": {
            "name": name, "description": description, "strict": true, "parameters": schema()
        }})
    };
    let expected = json!({
        "model": "m-1",
        "stream": false,
        "max_tokens": 500,
        "prompt_cache_key": "shop/planner",
        "tools": [tool("look", "Looks at a file."), tool("end", "Ends it.")],
        "tool_choice": "required",
        "messages": [
            {"role": "system", "content": "Be careful."},
            {"role": "user", "content": "What do you see?"}
        ]
    });
    assert_eq!(seen.json(), expected);
}

#[tokio::test]
async fn the_same_question_makes_the_same_bytes_and_its_digest_is_theirs() {
    let server = ModelServer::start([Script::text("a"), Script::new(503, ""), Script::text("b")]).await;
    let first = ask(&Client::new(config(server.base_url())).unwrap()).await;
    let second = ask(&Client::new(config(server.base_url())).unwrap()).await;
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|request| request.body == seen[0].body), "from another client and at another attempt");
    let digest: String = Sha256::digest(&seen[0].body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((first.request.as_str(), second.request.as_str()), (digest.as_str(), digest.as_str()));
}

#[tokio::test]
async fn azure_has_the_deployment_in_the_path_and_the_key_in_a_header_of_its_own() {
    let server = ModelServer::start([Script::text("x")]).await;
    let flavour = Flavour::Azure { api_version: "2024-10-21".into() };
    let root = server.base_url().replace("/v1", "/");
    let client = Client::new(Config { flavour, model: "gpt-4o_eu".into(), ..config(root) }).unwrap();
    assert_eq!(words_of(&ask(&client).await.reply.unwrap()), "x");
    let seen = &server.seen()[0];
    let path = "/openai/deployments/gpt-4o_eu/chat/completions?api-version=2024-10-21";
    assert_eq!(seen.line, format!("POST {path} HTTP/1.1"));
    assert_eq!((seen.header("api-key"), seen.header("authorization")), (Some(KEY), None));
}

#[tokio::test]
async fn without_a_key_none_is_shown() {
    let server = ModelServer::start([Script::text("x")]).await;
    let client = Client::new(Config { key: None, ..config(server.base_url()) }).unwrap();
    ask(&client).await.reply.unwrap();
    let seen = &server.seen()[0];
    assert_eq!((seen.header("authorization"), seen.header("api-key")), (None, None));
}

#[tokio::test]
async fn a_whole_conversation_goes_back_in_the_order_it_was_said() {
    let server = ModelServer::start([Script::text("x")]).await;
    let client = Client::new(config(server.base_url())).unwrap();
    let call = ToolCall { id: "a".into(), name: "look".into(), arguments: "{\"at\":\"x\"}".into() };
    let mut messages = conversation();
    messages.push(Message::Assistant { text: Some("Let me see.".into()), refusal: None, calls: vec![call] });
    messages.push(Message::Tool { id: "a".into(), answer: "{\"status\":\"ok\"}".into() });
    messages.push(Message::Assistant { text: None, refusal: Some("No.".into()), calls: vec![] });
    messages.push(Message::Assistant { text: None, refusal: None, calls: vec![] });
    let question = Question {
        messages: &messages,
        tools: &[],
        must_call: true,
        output_tokens_max: 5,
        tries: &Tries::of(3),
        cache_key: "",
    };
    client.ask(question).await.reply.unwrap();
    let sent = server.seen()[0].json();
    let expected = json!([
        {"role": "assistant", "content": "Let me see.", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{\"at\":\"x\"}"}}
        ]},
        {"role": "tool", "content": "{\"status\":\"ok\"}", "tool_call_id": "a"},
        {"role": "assistant", "content": "No."},
        {"role": "assistant", "content": ""}
    ]);
    assert_eq!(sent["messages"].as_array().unwrap()[2..], *expected.as_array().unwrap());
    for absent in ["tools", "tool_choice", "parallel_tool_calls", "prompt_cache_key"] {
        assert_eq!(sent.get(absent), None, "{absent}");
    }
}

/// As OpenAI complains about a parameter.
fn unsupported(parameter: &str) -> Script {
    let message = format!("Unsupported parameter: '{parameter}' is not supported with this model.");
    let error = json!({"message": message, "type": "invalid_request_error", "param": parameter, "code": "unsupported_parameter"});
    Script::new(400, json!({ "error": error }))
}

#[tokio::test]
async fn a_parameter_that_the_server_does_not_take_is_left_out_from_then_on() {
    let server = ModelServer::start([
        unsupported("max_tokens"),
        Script::new(
            422,
            json!({"detail": [{"loc": ["body", "prompt_cache_key"], "msg": "Extra inputs are not permitted"}]}),
        ),
        Script::new(503, ""),
        Script::text("a"),
        Script::text("b"),
    ])
    .await;
    let client = Client::new(Config { attempts_max: 2, ..config(server.base_url()) }).unwrap();
    let first = ask(&client).await;
    assert_eq!(
        (words(first.reply.as_ref().unwrap()), first.attempts),
        (Some("a"), 4),
        "a refusal is no failed attempt"
    );
    let second = ask(&client).await;
    assert_eq!((words(second.reply.as_ref().unwrap()), second.attempts), (Some("b"), 1), "learnt");
    let sent: Vec<Value> = server.seen().iter().map(|seen| seen.json()).collect();
    assert_eq!((&sent[1]["max_completion_tokens"], sent[1].get("max_tokens")), (&json!(500), None));
    assert_eq!((sent[3].get("prompt_cache_key"), &sent[3]["max_completion_tokens"]), (None, &json!(500)));
    assert_eq!(sent[4], sent[3]);
    assert_eq!(first.request, second.request, "the digest is of the bytes that were answered");
}

#[tokio::test]
async fn a_parameter_that_is_refused_under_every_name_is_an_error_and_is_not_forgotten() {
    let server =
        ModelServer::start([unsupported("max_tokens"), unsupported("max_completion_tokens"), Script::text("never")])
            .await;
    let client = Client::new(config(server.base_url())).unwrap();
    let asked = ask(&client).await;
    assert_eq!(failure(&asked).0, "rejected");
    assert!(failure(&asked).1.contains("Unsupported parameter"), "{asked:?}");
    assert_eq!(server.seen().len(), 2);
    ask(&client).await;
    assert_eq!(server.seen()[2].json()["max_tokens"], 500);
}
