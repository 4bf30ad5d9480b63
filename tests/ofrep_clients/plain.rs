//! The protocol word by word, asked by a plain HTTP client: forms, codes, limits and entity tags.

use std::net::SocketAddr;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tollgate::{
    domain::Exposure,
    traffic::{FlagValue, Flags},
    web::ofrep::BODY_BYTES_MAX,
};

use crate::{NEW, OLD, at, configured, flags, has_canary, send, serve, shift, with_tier};

struct Answer {
    status: StatusCode,
    etag: Option<String>,
    content_type: Option<String>,
    body: Value,
}

async fn ask(address: SocketAddr, path: &str, body: impl Into<reqwest::Body>, tag: Option<&str>) -> Answer {
    let url = format!("http://{address}/ofrep/v1/evaluate/flags{path}");
    let request = reqwest::Client::new().post(url).header("content-type", "application/json").body(body);
    let request = tag.into_iter().fold(request, |request, tag| request.header("if-none-match", tag));
    let answer = request.send().await.unwrap();
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (status, etag, content_type) = (answer.status(), header("etag"), header("content-type"));
    let bytes = answer.bytes().await.unwrap();
    Answer { status, etag, content_type, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}

fn user(name: &str) -> String {
    json!({"context": {"targetingKey": name}}).to_string()
}

/// A user on this side of `shop` as it stands.
fn somebody(flags: &Flags, canary: bool) -> String {
    (0..1_000).map(|n| format!("user-{n}")).find(|name| has_canary(flags, name) == canary).unwrap()
}

#[tokio::test]
async fn a_flag_is_answered_in_the_protocols_form() {
    let flags = flags();
    let address = serve(&flags).await;
    let before = ask(address, "/new-shop", r#"{"context": {}}"#, None).await;
    assert_eq!((before.status, before.content_type.as_deref()), (StatusCode::OK, Some("application/json")));
    assert_eq!(
        before.body,
        json!({"key": "new-shop", "reason": "STATIC", "variant": "control", "value": false, "metadata": {"version": 0}})
    );
    send(&flags, 1, shift(7, Exposure::none(), with_tier(2_500, "internal"))).await.unwrap();
    let metadata = |revision: &str| json!({"version": 1, "revision": revision, "rollout": "r7", "share": 2_500});
    let answers = [
        (user(&somebody(&flags, false)), "SPLIT", "control", false, OLD),
        (user(&somebody(&flags, true)), "SPLIT", "canary", true, NEW),
        (json!({"context": {"tier": "internal"}}).to_string(), "TARGETING_MATCH", "canary", true, NEW),
    ];
    for (question, reason, variant, value, revision) in answers {
        let answer = ask(address, "/new-shop", question, None).await;
        let metadata = metadata(revision);
        assert_eq!(
            answer.body,
            json!({"key": "new-shop", "reason": reason, "variant": variant, "value": value, "metadata": metadata})
        );
    }
}

#[tokio::test]
async fn every_mistake_has_its_code() {
    let flags = flags();
    send(&flags, 1, shift(7, Exposure::none(), at(5_000))).await.unwrap();
    let address = serve(&flags).await;
    let deep = "[".repeat(10_000);
    for (body, code) in [
        ("", "PARSE_ERROR"),
        ("{", "PARSE_ERROR"),
        ("[]", "PARSE_ERROR"),
        ("\"context\"", "PARSE_ERROR"),
        (&deep, "PARSE_ERROR"),
        (r#"{"context": "alice"}"#, "INVALID_CONTEXT"),
        (r#"{"context": null}"#, "INVALID_CONTEXT"),
        (r#"{"context": [1]}"#, "INVALID_CONTEXT"),
        (r#"{"context": {"targetingKey": 7}}"#, "INVALID_CONTEXT"),
        (r#"{"context": {"targetingKey": null}}"#, "INVALID_CONTEXT"),
        (r#"{"context": {"targetingKey": ""}}"#, "TARGETING_KEY_MISSING"),
        (r#"{"context": {}}"#, "TARGETING_KEY_MISSING"),
        ("{}", "TARGETING_KEY_MISSING"),
    ] {
        let one = ask(address, "/new-shop", body.to_owned(), None).await;
        assert_eq!(one.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!((&one.body["key"], &one.body["errorCode"]), (&json!("new-shop"), &json!(code)), "{body}");
        assert!(one.body["errorDetails"].is_string(), "{body}");

        let all = ask(address, "", body.to_owned(), None).await;
        if code == "TARGETING_KEY_MISSING" {
            assert_eq!((all.status, &all.body["flags"][0]), (StatusCode::OK, &one.body), "other flags may be answered");
        } else {
            assert_eq!(all.status, StatusCode::BAD_REQUEST, "{body}");
            assert_eq!((&all.body["errorCode"], all.body.get("key")), (&json!(code), None), "{body}");
        }
    }
    for path in ["/old-shop", "/%ff", "/new-shop%2f", "/shop"] {
        let unknown = ask(address, path, user("alice"), None).await;
        assert_eq!((unknown.status, &unknown.body["errorCode"]), (StatusCode::NOT_FOUND, &json!("FLAG_NOT_FOUND")));
    }
    let unknown = ask(address, "/old-shop", "not even JSON", None).await;
    assert_eq!(
        unknown.body,
        json!({"key": "old-shop", "errorCode": "FLAG_NOT_FOUND", "errorDetails": "no service has a flag `old-shop`"})
    );
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit() {
    let flags = flags();
    let address = serve(&flags).await;
    let padded = |bytes: usize| {
        let empty = json!({"context": {"targetingKey": "alice", "pad": ""}}).to_string().len();
        json!({"context": {"targetingKey": "alice", "pad": "x".repeat(bytes - empty)}}).to_string()
    };
    assert_eq!(padded(BODY_BYTES_MAX).len(), BODY_BYTES_MAX);
    for path in ["/new-shop", ""] {
        assert_eq!(ask(address, path, padded(BODY_BYTES_MAX), None).await.status, StatusCode::OK);
        let above = ask(address, path, padded(BODY_BYTES_MAX + 1), None).await;
        assert_eq!((above.status, &above.body["errorCode"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("GENERAL")));
    }
}

#[tokio::test]
async fn the_bulk_answer_changes_its_tag_with_the_flags_and_with_the_context() {
    let flags =
        configured(&[("shop", "new-shop", FlagValue::Boolean), ("cart", "a-cart", FlagValue::Revision)]).unwrap();
    send(&flags, 1, shift(7, Exposure::none(), at(2_500))).await.unwrap();
    let address = serve(&flags).await;
    let (alice, bob) = (user(&somebody(&flags, true)), user(&somebody(&flags, false)));

    let first = ask(address, "", alice.clone(), None).await;
    assert_eq!((first.status, first.content_type.as_deref()), (StatusCode::OK, Some("application/json")));
    let keys: Vec<_> = first.body["flags"].as_array().unwrap().iter().map(|flag| &flag["key"]).collect();
    assert_eq!(keys, ["a-cart", "new-shop"]);
    let one = ask(address, "/new-shop", alice.clone(), None).await;
    assert_eq!(first.body["flags"][1], one.body, "one by one and in bulk the answers are the same");

    let tag = first.etag.unwrap();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() == 34, "{tag}");
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), tag.trim_matches('"').to_owned()] {
        let again = ask(address, "", alice.clone(), Some(&known)).await;
        assert_eq!(
            (again.status, again.etag.as_ref(), &again.body),
            (StatusCode::NOT_MODIFIED, Some(&tag), &Value::Null)
        );
    }
    assert_eq!(ask(address, "", alice.clone(), Some("\"other\"")).await.status, StatusCode::OK);
    assert_eq!(ask(address, "", bob, Some(&tag)).await.status, StatusCode::OK, "another context, another tag");

    send(&flags, 2, shift(7, at(2_500), at(5_000))).await.unwrap();
    let moved = ask(address, "", alice.clone(), Some(&tag)).await;
    assert_eq!(moved.status, StatusCode::OK, "another state, another tag");
    assert_ne!(moved.etag.as_ref(), Some(&tag));
    send(&flags, 3, shift(7, at(5_000), at(5_000))).await.unwrap();
    let same = ask(address, "", alice, moved.etag.as_deref()).await;
    assert_eq!(same.status, StatusCode::NOT_MODIFIED, "what is put in force again has not changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_are_read_while_they_move_and_every_answer_is_whole() {
    let flags = configured(&[("shop", "new-shop", FlagValue::Revision)]).unwrap();
    let address = serve(&flags).await;
    let mover = tokio::spawn({
        let flags = flags.clone();
        async move {
            let mut from = Exposure::none();
            for request in 0..500_u16 {
                let to = at(if request % 2 == 0 { 10_000 } else { 0 });
                send(&flags, request.into(), shift(7, from, to.clone())).await.unwrap();
                from = to;
                tokio::task::yield_now().await;
            }
        }
    });
    let client = reqwest::Client::new();
    for _ in 0..300 {
        let url = format!("http://{address}/ofrep/v1/evaluate/flags/new-shop");
        let answer = client.post(url).body(user("alice")).send().await.unwrap().bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&answer).unwrap();
        let told = (body["value"].as_str().unwrap(), body["metadata"]["share"].as_u64());
        assert!([("stable", None), (OLD, Some(0)), (NEW, Some(10_000))].contains(&told), "{body}");
    }
    mover.await.unwrap();
}
