//! The webhook endpoint, from outside: what is taken, what is ignored, what is refused, and what becomes of a merge.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode, header},
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, watch},
};
use tollgate::{
    daemon::{Handle, Message},
    domain::{Text, Timestamp},
    forge::{
        stand_in::{Pull, signed_merge_delivery},
        webhook::sign,
    },
    rollout::{Event, Fleet},
    web::webhooks::{BODY_BYTES_DEFAULT, HEADER_CHARS_MAX, Inlet, PATH, routes},
};
use tower::ServiceExt;

const SECRET: &str = "of the test";

fn secret() -> SecretString {
    SecretString::from(SECRET)
}

/// A handle on a loop that makes every event durable at once, and the events it took.
fn recording() -> (Handle, Arc<Mutex<Vec<Event>>>) {
    let (inbox, mut messages) = mpsc::channel(8);
    let taken = Arc::new(Mutex::new(Vec::new()));
    let record = taken.clone();
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            let Message::Event { event, done } = message else { continue };
            record.lock().unwrap().push(event);
            done.unwrap().send(()).unwrap();
        }
    });
    (handle(inbox), taken)
}

fn handle(inbox: mpsc::Sender<Message>) -> Handle {
    Handle::new(inbox, watch::channel(Arc::new(Fleet::default().view(0))).1, broadcast::channel(1).0)
}

/// A handle on a loop that has ended.
fn closed() -> Handle {
    handle(mpsc::channel(1).0)
}

/// A good delivery of this event, to be spoilt by the tests.
fn delivery(event: &str, body: impl Into<Vec<u8>>) -> Request<Body> {
    let body = body.into();
    Request::post(PATH)
        .header(header::CONTENT_TYPE, "application/json")
        .header("X-GitHub-Event", event)
        .header("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
        .header("X-Hub-Signature-256", sign(&secret(), &body).unwrap())
        .body(Body::from(body))
        .unwrap()
}

fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

fn without(mut request: Request<Body>, name: &str) -> Request<Body> {
    request.headers_mut().remove(name);
    request
}

async fn answer(routes: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
    let response = routes.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or_default())
}

async fn status(routes: &Router, request: Request<Body>) -> (StatusCode, String) {
    let (status, _, body) = answer(routes, request).await;
    (status, body["why"].as_str().unwrap_or_default().to_owned())
}

fn merged_body() -> String {
    json!({
        "action": "closed",
        "pull_request": { "number": 7, "merged": true, "base": { "ref": "main" } },
        "repository": { "full_name": "acme/shop", "default_branch": "main" },
    })
    .to_string()
}

fn merged_event() -> Event {
    Event::PullRequestMerged {
        delivery: Text::new("72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        repository: "acme/shop".parse().unwrap(),
        pull_request: 7,
        branch: "main".into(),
        into_default: true,
    }
}

#[tokio::test]
async fn a_merge_is_accepted_once_it_is_an_event() {
    let (handle, taken) = recording();
    let routes = routes(handle, secret());
    let (status, _, body) = answer(&routes, delivery("pull_request", merged_body())).await;
    let expected = json!({ "status": "accepted", "delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958" });
    assert_eq!((status, body), (StatusCode::ACCEPTED, expected));
    assert_eq!(*taken.lock().unwrap(), [merged_event()]);
}

#[tokio::test]
async fn the_answer_waits_until_the_event_is_durable() {
    let (inbox, mut messages) = mpsc::channel(1);
    let routes = routes(handle(inbox), secret());
    let request = tokio::spawn(async move { answer(&routes, delivery("pull_request", merged_body())).await.0 });
    let Some(Message::Event { event, done }) = messages.recv().await else { panic!("no event") };
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((event, request.is_finished()), (merged_event(), false));
    done.unwrap().send(()).unwrap();
    assert_eq!(request.await.unwrap(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn what_is_no_merge_is_ignored_with_a_reason() {
    let (handle, taken) = recording();
    let routes = routes(handle, secret());
    let unmerged = merged_body().replace("true", "false");
    for (event, body, why) in [
        ("ping", r#"{"zen":"Keep it logically awesome."}"#, "set up"),
        ("push", "{}", "`push` is no pull request"),
        ("pull_request", r#"{"action":"opened"}"#, "`opened` merges nothing"),
        ("pull_request", &unmerged, "pull request 7 was closed without being merged"),
    ] {
        let (status, _, answered) = answer(&routes, delivery(event, body)).await;
        assert_eq!((status, &answered["status"]), (StatusCode::ACCEPTED, &json!("ignored")), "{event}");
        assert!(answered["why"].as_str().unwrap().contains(why), "{answered}");
    }
    assert!(taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_body_without_the_right_signature_is_not_even_parsed() {
    let (handle, taken) = recording();
    let routes = routes(handle, secret());
    let good = || delivery("pull_request", merged_body());
    let other = sign(&SecretString::from("another"), merged_body().as_bytes()).unwrap();
    for request in [
        without(good(), "x-hub-signature-256"),
        with(good(), "x-hub-signature-256", &other),
        with(good(), "x-hub-signature-256", "sha256="),
        with(delivery("pull_request", "{}"), "x-hub-signature-256", &other),
        // Were it parsed first, this would be a 400.
        with(delivery("pull_request", "no JSON"), "x-hub-signature-256", &other),
    ] {
        let (status, why) = status(&routes, request).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert!(why.contains("secret") && !why.contains(SECRET), "{why}");
    }
    assert!(taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_empty_secret_takes_nothing() {
    let empty = SecretString::from("");
    let routes = routes(recording().0, empty.clone());
    let signed = sign(&empty, merged_body().as_bytes()).unwrap();
    let request = with(delivery("pull_request", merged_body()), "x-hub-signature-256", &signed);
    assert_eq!(status(&routes, request).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_is_signed_and_cannot_be_read_is_a_bad_request() {
    let routes = routes(recording().0, secret());
    for (event, body) in [
        ("pull_request", "{"),
        ("pull_request", ""),
        ("pull_request", r#"{"action":"closed"}"#),
        ("ping", "zen"),
        ("pull_request", &merged_body().replace("acme/shop", "acme")),
        ("pull_request", &merged_body().replace("7", "-7")),
    ] {
        let (status, why) = status(&routes, delivery(event, body)).await;
        assert!(status == StatusCode::BAD_REQUEST && why.contains("cannot be read"), "{body}: {status} {why}");
    }
}

#[tokio::test]
async fn headers_must_be_there_and_plain() {
    let routes = routes(recording().0, secret());
    let good = || delivery("pull_request", merged_body());
    let longest = "d".repeat(HEADER_CHARS_MAX);
    let full = with(good(), "x-github-delivery", &longest);
    assert_eq!(status(&routes, full).await.0, StatusCode::ACCEPTED);
    for request in [
        without(good(), "x-github-event"),
        without(good(), "x-github-delivery"),
        with(good(), "x-github-delivery", ""),
        with(good(), "x-github-delivery", &format!("{longest}d")),
        with(good(), "x-github-delivery", "dé"),
        with(good(), "x-github-delivery", "a\tb"),
        with(good(), "x-github-event", &format!("{longest}d")),
    ] {
        let (status, why) = status(&routes, request).await;
        assert!(status == StatusCode::BAD_REQUEST && why.contains("x-github-"), "{status} {why}");
    }
}

#[tokio::test]
async fn a_form_is_refused_with_the_setting_that_mends_it() {
    let routes = routes(recording().0, secret());
    let good = || delivery("pull_request", merged_body());
    let form = with(good(), "content-type", "application/x-www-form-urlencoded");
    for request in [form, without(good(), "content-type"), with(good(), "content-type", "text/plain")] {
        let (status, why) = status(&routes, request).await;
        assert!(status == StatusCode::UNSUPPORTED_MEDIA_TYPE && why.contains("choose application/json"), "{why}");
    }
    let exact = with(good(), "content-type", "Application/JSON; charset=utf-8");
    assert_eq!(status(&routes, exact).await.0, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn only_posts_to_the_path_are_answered() {
    let routes = routes(recording().0, secret());
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let request = Request::builder().method(method).uri(PATH).body(Body::empty()).unwrap();
        let (status, headers, _) = answer(&routes, request).await;
        assert_eq!((status, headers["allow"].to_str().unwrap()), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    }
    let elsewhere = Request::post("/webhooks/gitlab").body(Body::empty()).unwrap();
    assert_eq!(answer(&routes, elsewhere).await.0, StatusCode::NOT_FOUND);
}

/// A delivery that is ignored, of exactly this size.
fn of_size(bytes: usize) -> Request<Body> {
    let frame = r#"{"pad":""}"#;
    delivery("push", format!(r#"{{"pad":"{}"}}"#, "x".repeat(bytes - frame.len())))
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit() {
    let default = routes(recording().0, secret());
    let small = Inlet::new(recording().0, secret()).body_bytes_max(100).routes();
    for (routes, limit) in [(default, BODY_BYTES_DEFAULT), (small, 100)] {
        assert_eq!(status(&routes, of_size(limit)).await.0, StatusCode::ACCEPTED);
        let (status, why) = status(&routes, of_size(limit + 1)).await;
        assert!(status == StatusCode::PAYLOAD_TOO_LARGE && why.contains(&limit.to_string()), "{why}");
    }
    let capped = Inlet::new(recording().0, secret()).body_bytes_max(usize::MAX).routes();
    assert_eq!(status(&capped, of_size(25 << 20)).await.0, StatusCode::ACCEPTED);
    assert_eq!(status(&capped, of_size((25 << 20) + 1)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_daemon_that_stops_asks_to_be_told_again() {
    let routes = routes(closed(), secret());
    let (status, headers, body) = answer(&routes, delivery("pull_request", merged_body())).await;
    assert_eq!((status, &body["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("refused")));
    assert!(headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(answer(&routes, delivery("push", "{}")).await.0, StatusCode::ACCEPTED, "and still ignores the rest");
}

#[tokio::test]
async fn a_slow_journal_and_a_slow_sender_are_not_waited_for_without_end() {
    let (soon, late) = (Duration::from_millis(20), Duration::from_secs(600));
    let (inbox, _kept_and_never_read) = mpsc::channel(1);
    let stuck = Inlet::new(handle(inbox), secret()).within(late, soon).routes();
    assert_eq!(status(&stuck, delivery("pull_request", merged_body())).await.0, StatusCode::SERVICE_UNAVAILABLE);

    let never = Body::from_stream(futures_util::stream::pending::<io::Result<Vec<u8>>>());
    let (parts, _) = delivery("pull_request", merged_body()).into_parts();
    let slow = Inlet::new(recording().0, secret()).within(soon, late).routes();
    assert_eq!(status(&slow, Request::from_parts(parts, never)).await.0, StatusCode::REQUEST_TIMEOUT);
}

fn pull() -> Pull {
    Pull {
        repository: "acme/shop".parse().unwrap(),
        number: 7,
        title: "Charge once".into(),
        author: "ada".into(),
        merged_by: Some("grace".into()),
        branch: "main".into(),
        base: "aaaaaaaaaa".parse().unwrap(),
        head: "bbbbbbbbbb".parse().unwrap(),
        merge_commit_sha: Some("cccccccccc".parse().unwrap()),
        merged_at: Some(Timestamp::from_millis(1_700_000_000_000)),
        diff: String::new(),
    }
}

#[tokio::test]
async fn what_the_stand_in_signs_is_taken_over_a_real_connection() {
    let (handle, taken) = recording();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes(handle, secret())).await });
    let (headers, body) = signed_merge_delivery(&pull(), &secret(), "d-1").unwrap();

    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let request = reqwest::Client::new().post(format!("http://{address}{PATH}")).headers(headers).body(body);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "status": "accepted", "delivery": "d-1" }));

    let Event::PullRequestMerged { delivery, .. } = &taken.lock().unwrap()[0] else { panic!("no merge") };
    assert_eq!(delivery.as_str(), "d-1");
}

/// The payloads that GitHub publishes: the event's name, and each of its examples. `None` where they are not installed.
fn published() -> Option<Vec<(String, Value)>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/github_examples/node_modules/@octokit/webhooks-examples/api.github.com/index.json");
    if !path.exists() {
        assert!(std::env::var("TOLLGATE_REQUIRE_REAL").as_deref() != Ok("1"), "{} is missing", path.display());
        println!("SKIPPED: run tests/github_examples/install for GitHub's own payloads");
        return None;
    }
    let events: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let examples = events.into_iter().flat_map(|event| {
        let name = event["name"].as_str().unwrap().to_owned();
        event["examples"].as_array().unwrap().clone().into_iter().map(move |example| (name.clone(), example))
    });
    Some(examples.collect())
}

#[tokio::test]
async fn every_payload_that_github_publishes_is_answered_and_none_of_them_is_a_merge() {
    let Some(examples) = published() else { return };
    let (handle, taken) = recording();
    let routes = routes(handle, secret());
    assert_eq!(examples.len(), 329);
    for (name, example) in examples {
        let (status, _, body) = answer(&routes, delivery(&name, example.to_string())).await;
        assert_eq!(
            (status, &body["status"]),
            (StatusCode::ACCEPTED, &json!("ignored")),
            "{name} {}",
            example["action"]
        );
        // The kind of event says nothing by itself: as a pull request, too, each is ignored or refused in words.
        let (status, _, body) = answer(&routes, delivery("pull_request", example.to_string())).await;
        assert!(!status.is_server_error() && body["status"] != "accepted", "{name} {}: {body}", example["action"]);
    }
    assert!(taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_published_closed_pull_request_is_a_merge_once_it_says_merged() {
    let Some(examples) = published() else { return };
    let (handle, taken) = recording();
    let routes = routes(handle, secret());
    let closed: Vec<_> =
        examples.into_iter().filter(|(name, body)| name == "pull_request" && body["action"] == "closed").collect();
    assert_eq!(closed.len(), 2);
    for (name, mut body) in closed {
        assert!(body["pull_request"]["merge_commit_sha"].is_string(), "set although nothing was merged");
        body["pull_request"]["merged"] = json!(true);
        let (status, _, answered) = answer(&routes, delivery(&name, body.to_string())).await;
        assert_eq!((status, &answered["status"]), (StatusCode::ACCEPTED, &json!("accepted")));
        let expected = Event::PullRequestMerged {
            delivery: Text::new("72d3162e-cc78-11e3-81ab-4c9367dc0958"),
            repository: body["repository"]["full_name"].as_str().unwrap().parse().unwrap(),
            pull_request: body["number"].as_u64().unwrap(),
            branch: "master".into(),
            into_default: true,
        };
        assert_eq!(taken.lock().unwrap().pop(), Some(expected));
    }
}
