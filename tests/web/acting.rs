//! Commands: what reaches the loop, and what is refused on the way.

use std::{future::pending, sync::Arc, time::Duration};

use reqwest::{Client, StatusCode};
use secrecy::SecretString;
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, watch},
    time::timeout,
};
use tollgate::{
    daemon::Handle,
    domain::{Command, Outcome, Person, RolloutId, ServiceName, Text},
    rollout::{Event, RolloutView},
    web::{self, Hosts, Metrics, Parts},
};

use crate::{
    asking::ACTING,
    fleet::{NOON, fleet},
    site::{Setup, TOKEN, refused, site},
};

fn by(name: &str) -> Person {
    Person(Text::new(name))
}

#[tokio::test]
async fn a_command_is_accepted_once_the_loop_has_it() {
    let site = site(Setup::default()).await;
    let accepted = (StatusCode::ACCEPTED, json!({"status": "accepted"}));
    let commands = [("pause", Command::Pause), ("promote", Command::Promote), ("rollback", Command::Rollback)];
    for (word, command) in commands {
        assert_eq!(site.posted(&format!("/v1/rollouts/r17/{word}"), "").await, accepted);
        assert_eq!(site.taken(), [Event::Commanded { rollout: RolloutId(17), command, by: by("api") }]);
    }
    assert_eq!(site.posted("/v1/rollouts/17/pause", r#"{"by": "alice"}"#).await, accepted);
    let event = Event::Commanded { rollout: RolloutId(17), command: Command::Pause, by: by("api:alice") };
    assert_eq!(site.taken(), [event]);
    for on in [true, false] {
        assert_eq!(site.posted("/v1/kill-switch", &json!({"on": on}).to_string()).await, accepted);
        assert_eq!(site.taken(), [Event::KillSwitch { on, by: by("api") }]);
    }
    let body = r#"{"revision": "ABCDEF0123", "by": "ci"}"#;
    assert_eq!(site.posted("/v1/services/checkout/deployed", body).await, accepted);
    let (service, revision) = (ServiceName::new("checkout"), "abcdef0123".parse().unwrap());
    assert_eq!(site.taken(), [Event::RevisionDeployed { service, revision, by: by("api:ci") }]);
}

#[tokio::test]
async fn a_command_that_makes_no_sense_now_is_refused_with_the_reason() {
    let site = site(Setup::default()).await;
    for (path, status, about) in [
        ("/v1/rollouts/r99/pause", StatusCode::NOT_FOUND, "no rollout r99"),
        ("/v1/rollouts/r17/explode", StatusCode::NOT_FOUND, "no such command"),
        ("/v1/rollouts/r14/rollback", StatusCode::CONFLICT, "r14 is done: promoted"),
        ("/v1/rollouts/r15/promote", StatusCode::CONFLICT, "r15 is done: rolled back"),
        ("/v1/rollouts/r17/resume", StatusCode::CONFLICT, "not paused"),
    ] {
        refused(site.post(path, "").send().await.unwrap(), status, about).await;
    }
    let r17 = |change: fn(&mut RolloutView)| site.change(|view| change(&mut view.rollouts[1]));
    r17(|rollout| rollout.paused = true);
    refused(site.post("/v1/rollouts/r17/pause", "").send().await.unwrap(), StatusCode::CONFLICT, "paused already")
        .await;
    assert_eq!(site.taken(), []);
    assert_eq!(site.posted("/v1/rollouts/r17/resume", "").await.0, StatusCode::ACCEPTED);
    r17(|rollout| rollout.phase = "draining".into());
    for word in ["promote", "rollback"] {
        let response = site.post(&format!("/v1/rollouts/r17/{word}"), "").send().await.unwrap();
        refused(response, StatusCode::CONFLICT, "rolled back already").await;
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_meant_is_refused() {
    let site = site(Setup::default()).await;
    for (path, body, status, about) in [
        ("/v1/rollouts/r17/pause", "alice", StatusCode::BAD_REQUEST, "body"),
        ("/v1/rollouts/r17/pause", r#"{"user":"alice"}"#, StatusCode::BAD_REQUEST, "user"),
        ("/v1/kill-switch", "", StatusCode::BAD_REQUEST, "body"),
        ("/v1/kill-switch", r#"{"on":"yes"}"#, StatusCode::BAD_REQUEST, "boolean"),
        ("/v1/services/checkout/deployed", r#"{"revision":"main"}"#, StatusCode::BAD_REQUEST, "main"),
        ("/v1/services/billing/deployed", r#"{"revision":"abcdef0"}"#, StatusCode::NOT_FOUND, "billing"),
    ] {
        refused(site.post(path, body).send().await.unwrap(), status, about).await;
    }
    assert_eq!(site.taken(), []);
}

#[tokio::test]
async fn a_body_is_taken_up_to_the_limit_and_no_further() {
    let site = site(Setup::default()).await;
    let of_length = |length: usize| {
        let mut body = r#"{"on":true}"#.to_owned();
        body.push_str(&" ".repeat(length - body.len()));
        body
    };
    assert_eq!(site.posted("/v1/kill-switch", &of_length(web::BODY_BYTES_MAX)).await.0, StatusCode::ACCEPTED);
    let response = site.post("/v1/kill-switch", of_length(web::BODY_BYTES_MAX + 1)).send().await.unwrap();
    refused(response, StatusCode::PAYLOAD_TOO_LARGE, "too large").await;
    assert_eq!(site.taken().len(), 1);
}

#[tokio::test]
async fn a_length_that_is_not_told_is_limited_as_well() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let site = site(Setup::default()).await;
    let mut socket = tokio::net::TcpStream::connect(site.address).await.unwrap();
    let head = format!(
        "POST /v1/kill-switch HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    let over = web::BODY_BYTES_MAX + 1;
    let request = format!("{head}{over:x}\r\n{}\r\n0\r\n\r\n", " ".repeat(over));
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 64];
    let read = timeout(Duration::from_secs(5), socket.read(&mut answer)).await.unwrap().unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer[..read]));
    assert_eq!(site.taken(), []);
}

#[tokio::test]
async fn a_loop_that_has_stopped_is_told_as_such() {
    let site = site(Setup::default()).await;
    site.loop_task.abort();
    while !site.loop_task.is_finished() {
        tokio::task::yield_now().await;
    }
    for (path, body) in ACTING {
        let response = site.post(path, body).send().await.unwrap();
        assert_eq!(response.headers()["retry-after"], "5");
        refused(response, StatusCode::SERVICE_UNAVAILABLE, "stopping").await;
    }
    assert_eq!(site.get("/v1/rollouts").await.status(), StatusCode::OK, "what was last seen can still be read");
}

#[tokio::test]
async fn a_handler_that_never_answers_is_cut_off() {
    let (inbox, _kept_and_never_read) = mpsc::channel(1);
    let (_views, seen) = watch::channel(Arc::new(fleet(NOON)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = web::router(Parts {
        handle: Handle::new(inbox, seen, broadcast::channel(1).0),
        api_token: Some(SecretString::from(TOKEN)),
        ready: watch::channel(true).1,
        metrics: Arc::new(Metrics::new()),
        others: axum::Router::new(),
        service_names: Vec::new(),
        hosts: Hosts::new(address.ip(), &[]),
    });
    tokio::spawn(web::serve(listener, router, pending()));
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let request = Client::builder().no_proxy().build().unwrap().get(format!("http://{address}/v1/rollouts/r17"));
    let response = timeout(web::ANSWER_WITHIN + Duration::from_secs(5), request.send()).await.unwrap().unwrap();
    refused(response, StatusCode::GATEWAY_TIMEOUT, "no answer in time").await;
}

#[tokio::test]
async fn a_panic_is_one_answer_and_not_the_end() {
    async fn broken() -> &'static str {
        panic!("a mistake, on purpose")
    }
    let others = axum::Router::new().route("/hooks/broken", axum::routing::get(broken));
    let site = site(Setup { others, ..Setup::default() }).await;
    refused(site.get("/hooks/broken").await, StatusCode::INTERNAL_SERVER_ERROR, "mistake inside tollgate").await;
    assert_eq!(site.get("/healthz").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn what_was_handed_over_can_still_be_settled() {
    let site = site(Setup::default()).await;
    site.change(|view| {
        view.rollouts[1].outcome = Some(Outcome::HandedOver);
        view.rollouts[1].share = 5_000;
    });
    for command in ["rollback", "promote"] {
        let answer = site.post(&format!("/v1/rollouts/r17/{command}"), "").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{command}");
    }
    refused(
        site.post("/v1/rollouts/r17/pause", "").send().await.unwrap(),
        StatusCode::CONFLICT,
        "r17 is done: handed over",
    )
    .await;
}
