//! Attacks in what a pull request says about itself, through the forge's client.

use std::time::Duration;

use axum::{Json, Router, extract::State, response::IntoResponse, routing::get};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tollgate::{
    domain::FileTouched,
    forge::{Config, GitHub},
};

use super::corpus::{Place, Twin, attacked, attacks, clean};

/// A forge that answers with one pull request, and with what its author wrote about it.
async fn forge(twin: &Twin) -> GitHub {
    let pull = json!({
        "number": 7,
        "title": twin.title,
        "body": twin.body,
        "user": { "login": "mallory" },
        "merged": true,
        "merged_at": "2026-01-01T00:00:00Z",
        "merged_by": { "login": "mira" },
        "merge_commit_sha": "cccccccccc",
        "base": { "sha": "aaaaaaaaaa" },
        "head": { "ref": twin.commit },
        "commits": [{ "message": twin.commit }],
        "changed_files": twin.change.files.len(),
    });
    let file = |file: &FileTouched| json!({ "filename": file.path, "status": "modified", "body": twin.body });
    let files: Value = twin.change.files.iter().map(file).collect();
    let answer = async |State(answer): State<Value>| Json(answer).into_response();
    let router = Router::new()
        .route("/repos/acme/shop/pulls/7", get(answer).with_state(pull))
        .route("/repos/acme/shop/pulls/7/files", get(answer).with_state(files));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    GitHub::new(&Config { api, token: None, timeout: Duration::from_secs(20), attempts_max: 1 }).unwrap()
}

#[tokio::test]
async fn of_title_body_and_commit_only_the_masked_title_comes_in() {
    let clean = clean().swap_remove(0).1;
    for attack in attacks() {
        for place in [Place::Title, Place::Body, Place::Commit] {
            let twin = attacked(&clean, &attack, place);
            let change = forge(&twin).await.change(&clean.change.repository, 7).await.unwrap();
            let expected = if place == Place::Title { &twin.change.title } else { &clean.change.title };
            assert_eq!(change.title, *expected, "{} {place:?}", attack.name);
            let kept = serde_json::to_string(&change).unwrap();
            if place != Place::Title {
                let start: String = attack.parts[0].trim().chars().take(12).collect();
                assert!(!kept.contains(&start), "{} {place:?}: {kept}", attack.name);
            }
            if let Some(secret) = &attack.secret {
                assert!(!kept.contains(secret.as_str()), "{} {place:?}: {kept}", attack.name);
            }
        }
    }
}
