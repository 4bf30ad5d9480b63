//! The client of a language model against a scripted server on loopback: what it sends, what it makes of every kind of
//! answer, how often it asks, when it stops asking. In `gateway` the same against code that is not ours.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it is surprised")]

#[path = "model_client/gateway.rs"]
mod gateway;
mod model_server;
#[path = "model_client/probing.rs"]
mod probing;
#[path = "model_client/wire.rs"]
mod wire;

use std::time::{Duration, Instant};

use model_server::{ModelServer, Script};
use serde_json::{Value, json};
use tollgate::{
    agent::{
        ANSWER_BYTES_MAX, Budgets, Client, Config, FAILURES_MAX, Flavour, Limits, PAUSE_FIRST, Price,
        model::{Asked, CallError, Finish, Model, Offer, Question, Reply, Tries},
    },
    domain::{Message, ModelRole, ToolCall},
    tools::Tool,
};

/// What the server is shown. It may be seen nowhere else.
const KEY: &str = "sk-test-7d1f04e6a4c38b92";

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"at": {"type": "string"}},
        "required": ["at"],
        "additionalProperties": false
    })
}

static LOOK: Tool =
    Tool { name: "look", role: ModelRole::Planner, is_terminal: false, sheet: "Looks at a file.", schema };
static END: Tool = Tool { name: "end", role: ModelRole::Planner, is_terminal: true, sheet: "Ends it.", schema };

fn config(base_url: String) -> Config {
    Config {
        flavour: Flavour::OpenAi,
        base_url,
        model: "m-1".into(),
        key: Some(KEY.into()),
        timeout: Duration::from_secs(30),
        attempts_max: 3,
        price: Some(Price { input: 1_000_000, cached_input: 500_000, output: 2_000_000 }),
        limits: Limits::default(),
        budgets: Budgets::default(),
    }
}

fn conversation() -> Vec<Message> {
    vec![Message::System("Be careful.".into()), Message::User("What do you see?".into())]
}

async fn ask(client: &Client) -> Asked {
    ask_with(client, &Tries::of(3)).await
}

async fn ask_with(client: &Client, tries: &Tries) -> Asked {
    let messages = conversation();
    let question = Question {
        messages: &messages,
        tools: &[Offer::plain(&LOOK), Offer::plain(&END)],
        must_call: true,
        output_tokens_max: 500,
        tries,
        cache_key: "shop/planner",
    };
    let asked = client.ask(question).await;
    assert!(!format!("{asked:?} {client:?}").contains(KEY), "the key is shown: {asked:?}");
    asked
}

/// One question to a server with this script, and how often the server was asked.
async fn asked_once(script: impl IntoIterator<Item = Script>) -> (Asked, usize) {
    let server = ModelServer::start(script).await;
    let asked = ask(&Client::new(config(server.base_url())).unwrap()).await;
    (asked, server.seen().len())
}

async fn reply(script: Script) -> Reply {
    asked_once([script]).await.0.reply.unwrap()
}

/// `unavailable`, `rejected` or `malformed`, and the words.
fn failure(asked: &Asked) -> (&'static str, String) {
    match asked.reply.as_ref().expect_err("no answer was to be had") {
        CallError::Unavailable(words) => ("unavailable", words.to_string()),
        CallError::Rejected(words) => ("rejected", words.to_string()),
        CallError::Malformed(words) => ("malformed", words.to_string()),
    }
}

fn words(reply: &Reply) -> Option<&str> {
    match &reply.message {
        Message::Assistant { text, .. } => text.as_deref(),
        other => panic!("always the model's message: {other:?}"),
    }
}

#[tokio::test]
async fn an_answer_comes_with_what_it_used_and_cost() {
    let (asked, times) = asked_once([Script::text("All is well.")]).await;
    let reply = asked.reply.unwrap();
    assert_eq!(
        (words(&reply), &reply.finish, reply.served_by.as_str()),
        (Some("All is well."), &Finish::Stop, "scripted-1")
    );
    let used = reply.usage;
    assert_eq!((used.input_tokens, used.cached_tokens, used.output_tokens), (100, 64, 20));
    assert_eq!(used.micro_dollars, Some(36 + 32 + 40));
    assert_eq!((asked.attempts, asked.unanswered, times), (1, 0, 1));
}

#[tokio::test]
async fn calls_of_tools_come_as_the_model_wrote_them() {
    let reply = reply(Script::calls(&[("a", "look", json!({"at": "x.rs"})), ("b", "end", json!({}))])).await;
    let call = |id: &str, name: &str, arguments: &str| ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
    };
    let calls = vec![call("a", "look", "{\"at\":\"x.rs\"}"), call("b", "end", "{}")];
    assert_eq!(reply.message, Message::Assistant { text: None, refusal: None, calls });
    assert_eq!(reply.finish, Finish::ToolCalls);
}

#[tokio::test]
async fn answers_of_odd_shapes_are_understood_as_far_as_they_can_be() {
    let parts = json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
    assert_eq!(words(&reply(Script::message(parts, "length")).await), Some("ab"));
    let refused = reply(Script::message(json!({"content": null, "refusal": "I will not."}), "eos")).await;
    let refusal = Some("I will not.".to_owned());
    assert_eq!(refused.message, Message::Assistant { text: None, refusal, calls: vec![] });
    assert_eq!(refused.finish, Finish::Other(tollgate::domain::Text::new("eos")));
    let object = json!({"content": "", "tool_calls": [{"function": {"name": "look", "arguments": {"at": "x"}}}]});
    let called = reply(Script::message(object, "stop")).await;
    let calls = vec![ToolCall { id: "call_0".into(), name: "look".into(), arguments: "{\"at\":\"x\"}".into() }];
    assert_eq!(called.message, Message::Assistant { text: None, refusal: None, calls });
    let several = json!({"choices": [
        {"index": 1, "message": {"content": "second"}}, {"index": 0, "message": {"content": "first"}}
    ]});
    let several = reply(Script::new(200, several)).await;
    assert_eq!((words(&several), several.served_by.as_str()), (Some("first"), ""));
    assert!(several.usage.input_tokens > 100, "reckoned where it is not reported: {:?}", several.usage);
    assert_eq!(several.usage.output_tokens, 2);
    let filtered = reply(Script::error(400, "content_filter", "The prompt was filtered")).await;
    assert_eq!(filtered.finish, Finish::ContentFilter);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_no_more_often_than_allowed() {
    let down = || Script::new(503, "<html>down</html>");
    let (asked, times) = asked_once([down(), Script::error(500, "server_error", "oops"), Script::text("back")]).await;
    assert_eq!((words(asked.reply.as_ref().unwrap()), asked.attempts, times), (Some("back"), 3, 3));
    let (asked, times) = asked_once([down(), down(), down(), Script::text("too late")]).await;
    assert_eq!((failure(&asked).0, asked.attempts, asked.unanswered, times), ("unavailable", 3, 0, 3));
}

#[tokio::test]
async fn no_more_attempts_are_made_than_are_paid_for_and_each_is_counted() {
    for (most, made) in [(1, 1), (2, 2), (9, 3)] {
        let server = ModelServer::start((0..9).map(|_| Script::new(503, "down"))).await;
        let tries = Tries::of(most);
        let asked = ask_with(&Client::new(config(server.base_url())).unwrap(), &tries).await;
        assert_eq!((asked.attempts, server.seen().len(), tries.charged()), (made, made as usize, made));
    }
}

#[tokio::test]
async fn a_rate_limit_is_sat_out_for_as_long_as_the_server_asks() {
    let limited = || Script::error(429, "rate_limit_exceeded", "slow down");
    for (asking, least) in [
        (limited().header("retry-after", "2"), 2_000),
        (limited().header("retry-after-ms", "1200"), 1_200),
        (
            limited()
                .header("date", "Sat, 21 Nov 2026 23:59:59 GMT")
                .header("retry-after", "Sun, 22 Nov 2026 00:00:01 GMT"),
            2_000,
        ),
        (limited(), 0),
    ] {
        let began = Instant::now();
        let (asked, times) = asked_once([asking, Script::text("now")]).await;
        assert_eq!((words(asked.reply.as_ref().unwrap()), times), (Some("now"), 2));
        assert!(began.elapsed() >= Duration::from_millis(least), "{:?} < {least}", began.elapsed());
        assert!(asked.millis >= least);
    }
    let (asked, times) = asked_once([limited().header("retry-after", "3600"), Script::text("never")]).await;
    assert_eq!((failure(&asked).0, times), ("unavailable", 1));
}

#[tokio::test]
async fn what_will_not_pass_is_tried_once() {
    for script in [
        Script::error(429, "insufficient_quota", "You exceeded your current quota"),
        Script::new(402, json!({"error": {"message": "Insufficient credits", "code": 402}})),
        Script::error(400, "invalid_request_error", "messages: too long"),
        Script::error(401, "invalid_api_key", &format!("Incorrect API key provided: {KEY}.")),
        Script::new(403, "<html>forbidden</html>"),
        Script::new(404, json!({"error": {"message": "The model `m-1` does not exist"}})),
        Script::new(200, json!({"error": {"message": "no credits", "code": 402}})),
    ] {
        let (asked, times) = asked_once([script.clone(), Script::text("never")]).await;
        assert_eq!((failure(&asked).0, times, asked.attempts), ("rejected", 1, 1), "{script:?}");
    }
    for script in [
        Script::new(200, "this is no JSON"),
        Script::new(200, "<!doctype html><html>Sign in</html>"),
        Script::new(200, ""),
        Script::new(200, "{}"),
        Script::new(200, json!({"choices": []})),
        Script::new(200, json!({"choices": [{"finish_reason": "stop"}]})),
        Script::new(200, json!({"error": "something went wrong"})),
        Script::new(200, "[".repeat(10_000)),
    ] {
        let (asked, times) = asked_once([script.clone(), Script::text("never")]).await;
        assert_eq!((failure(&asked).0, times), ("malformed", 1), "{script:?}");
    }
}

#[tokio::test]
async fn errors_say_what_the_server_said_and_never_the_key() {
    let echoing = Script::error(401, "invalid_api_key", &format!("{}{KEY} is wrong", "x".repeat(300)));
    let (asked, _) = asked_once([echoing]).await;
    let (_, words) = failure(&asked);
    assert!(words.contains("401") && words.contains("(the key)") && !words.contains(&KEY[..8]), "{words}");
    let page = asked_once([Script::new(200, "<html>Sign in</html>")]).await.0;
    assert!(failure(&page).1.contains("base URL"), "{page:?}");
    let echoed = reply(Script::text(&format!("your key is {KEY}"))).await;
    assert_eq!(words_of(&echoed), "your key is (the key)", "not even in an answer");
}

fn words_of(reply: &Reply) -> &str {
    words(reply).unwrap()
}

#[tokio::test]
async fn an_answer_may_be_as_large_as_the_limit_and_no_larger() {
    let sized = |bytes: usize| {
        let frame = json!({"choices": [{"message": {"content": ""}}]}).to_string().len();
        let answer = json!({"choices": [{"message": {"content": "x".repeat(bytes - frame)}}]}).to_string();
        assert_eq!(answer.len(), bytes);
        Script::new(200, answer)
    };
    assert!(words(&reply(sized(ANSWER_BYTES_MAX)).await).unwrap().len() > ANSWER_BYTES_MAX / 2);
    let (asked, times) = asked_once([sized(ANSWER_BYTES_MAX + 1), Script::text("never")]).await;
    assert_eq!((failure(&asked).0, times), ("malformed", 1));
    assert!(failure(&asked).1.contains("larger than"), "{asked:?}");
    let (asked, times) = asked_once([Script::new(500, "x".repeat(4 << 20)), Script::text("small again")]).await;
    assert_eq!((words(asked.reply.as_ref().unwrap()), times), (Some("small again"), 2));
}

#[tokio::test]
async fn a_slow_hanging_or_broken_server_costs_so_many_attempts_and_no_more_time_than_allowed() {
    let timeout = Duration::from_millis(1_500);
    let slow = Duration::from_secs(20);
    let broken = [
        Script::text("late").delayed(slow),
        Script::hang(),
        Script::text("drop by drop").dripping(5, Duration::from_millis(400)),
        Script::reset(),
        Script::text("cut").cut_off(),
    ];
    let each = broken.into_iter().map(|script| async move {
        let server = ModelServer::start([script.clone(), script.clone()]).await;
        let client = Client::new(Config { timeout, attempts_max: 2, ..config(server.base_url()) }).unwrap();
        let began = Instant::now();
        let asked = ask(&client).await;
        assert_eq!((failure(&asked).0, asked.attempts, asked.unanswered), ("unavailable", 2, 2), "{script:?}");
        assert_eq!(server.seen().len(), 2);
        assert!(began.elapsed() < slow, "{script:?} {:?}", began.elapsed());
        let (_, words) = failure(&asked);
        assert!(!words.contains("127.0.0.1") && words.len() > 5, "{words}");
    });
    futures_util::future::join_all(each).await;
    let (asked, times) = asked_once([Script::reset(), Script::text("cut").cut_off(), Script::text("whole")]).await;
    assert_eq!((words(asked.reply.as_ref().unwrap()), times, asked.unanswered), (Some("whole"), 3, 2));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_costs_nothing() {
    let server = ModelServer::start([]).await;
    let base_url = server.base_url();
    drop(server);
    tokio::task::yield_now().await;
    let asked = ask(&Client::new(config(base_url)).unwrap()).await;
    assert_eq!((failure(&asked).0, asked.attempts, asked.unanswered), ("unavailable", 3, 0));
}

#[tokio::test]
async fn a_question_that_is_dropped_leaves_the_client_as_it_was() {
    let server = ModelServer::start([Script::hang(), Script::text("here")]).await;
    let client = Client::new(config(server.base_url())).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), ask(&client)).await.is_err());
    while server.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(words_of(&ask(&client).await.reply.unwrap()), "here");
}

#[tokio::test]
async fn a_model_that_fails_again_and_again_is_left_alone_then_tried_once() {
    let server = ModelServer::start([]).await;
    let down = || Script::new(503, "");
    server.otherwise(down());
    let client = Client::new(Config { attempts_max: 1, ..config(server.base_url()) }).unwrap();
    for _ in 0..FAILURES_MAX {
        assert_eq!(ask(&client).await.attempts, 1);
    }
    let asked_so_far = server.seen().len();
    let refused = ask(&client).await;
    assert_eq!((failure(&refused).0, refused.attempts, server.seen().len()), ("unavailable", 0, asked_so_far));
    assert!(failure(&refused).1.contains("left alone"), "{refused:?}");
    assert_eq!(refused.request.as_str().len(), 64, "what would have been asked is known all the same");

    past(PAUSE_FIRST).await;
    assert_eq!(ask(&client).await.attempts, 1, "the trial");
    assert_eq!(ask(&client).await.attempts, 0, "which failed");
    past(PAUSE_FIRST).await;
    assert_eq!(ask(&client).await.attempts, 0, "and doubled the pause");
    past(PAUSE_FIRST).await;
    server.otherwise(Script::text("back"));
    assert_eq!(words_of(&ask(&client).await.reply.unwrap()), "back");
    assert_eq!(ask(&client).await.attempts, 1, "and it is asked as before");
}

/// Lets the breaker's clock run ahead; the sockets' is the machine's, so it must not stand still while they work.
async fn past(span: Duration) {
    tokio::time::pause();
    tokio::time::advance(span).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_refusal_or_nonsense_does_not_count_as_failing() {
    let server = ModelServer::start([]).await;
    let client = Client::new(Config { attempts_max: 1, ..config(server.base_url()) }).unwrap();
    for script in [Script::error(401, "invalid_api_key", "no"), Script::new(200, "nonsense")] {
        server.otherwise(script);
        for _ in 0..=FAILURES_MAX {
            assert_eq!(ask(&client).await.attempts, 1);
        }
    }
}

#[tokio::test]
async fn redirects_are_not_followed_and_no_other_host_sees_the_key() {
    let other = ModelServer::start([]).await;
    other.otherwise(Script::text("gotcha"));
    for status in [301, 302, 303, 307, 308] {
        let script = Script::new(status, "").header("location", &format!("{}/chat/completions", other.base_url()));
        let (asked, times) = asked_once([script, Script::text("never")]).await;
        assert_eq!((failure(&asked).0, times), ("rejected", 1), "{status}");
        assert!(failure(&asked).1.contains("redirects"), "{asked:?}");
    }
    assert_eq!(other.seen().len(), 0);
}
