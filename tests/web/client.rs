//! The client subcommands against a real server.

use std::{
    fs,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use reqwest::StatusCode;
use tokio::{net::TcpListener, time::timeout};
use tollgate::{
    cli::{
        client::{Client, Connection, Error},
        command, status, watch,
    },
    domain::{Command, Outcome, Person, RolloutId, Text},
    rollout::Event,
};

use crate::{
    fleet::{NOON, baking, fleet},
    site::{Setup, Site, TOKEN, site},
};

/// A client that bears the token, from a file.
async fn client(site: &Site) -> Client {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    fs::write(&token_file, TOKEN).unwrap();
    Client::new(&Connection { token_file: Some(token_file), ..site.connection() }).unwrap()
}

#[tokio::test]
async fn the_client_reads_what_the_server_shows_and_learns_the_servers_time() {
    let site = site(Setup::default()).await;
    let client = client(&site).await;
    let all = client.fleet().await.unwrap();
    assert_eq!(all.body, fleet(NOON));
    assert!(all.at.unwrap() > NOON);
    assert_eq!(client.rollout(RolloutId(17)).await.unwrap().body, baking(NOON));
}

#[tokio::test]
async fn a_refusal_is_told_in_the_servers_words() {
    let site = site(Setup::default()).await;
    let unknown = client(&site).await.rollout(RolloutId(99)).await.unwrap_err();
    assert!(matches!(&unknown, Error::Refused { status: StatusCode::NOT_FOUND, .. }), "{unknown:?}");
    assert!(unknown.to_string().contains("there is no rollout r99"), "{unknown}");
    let token_less = Client::new(&site.connection()).unwrap();
    let refused = token_less.act(&["v1", "kill-switch"], &serde_json::json!({"on": true})).await.unwrap_err();
    assert!(refused.to_string().contains("a bearer token is needed"), "{refused}");
    assert_eq!(site.taken(), []);
}

#[tokio::test]
async fn nobody_there_is_told_with_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let client = Client::new(&Connection { url: url.clone(), token_file: None }).unwrap();
    let told = client.fleet().await.unwrap_err().to_string();
    assert!(told.starts_with(&format!("no tollgate answers at {url}; start one with `tollgate serve`")), "{told}");
}

#[tokio::test]
async fn something_else_that_answers_is_not_taken_for_a_tollgate() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/v1/rollouts", axum::routing::get(|| async { "<html>" }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let client = Client::new(&Connection { url, token_file: None }).unwrap();
    for told in [client.fleet().await.unwrap_err(), client.rollout(RolloutId(1)).await.unwrap_err()] {
        assert!(matches!(told, Error::Malformed { .. }), "{told:?}");
    }
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: command::Args,
}

#[tokio::test]
async fn an_order_at_the_command_line_reaches_the_loop() {
    let site = site(Setup::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
    let order = async |words: &[&str]| {
        let (url, file) = (site.url(""), token_file.display().to_string());
        let place = ["--url", &url, "--token-file", &file, "--by", "alice"];
        command::run(Line::parse_from([&["tollgate"], words, &place].concat()).args).await
    };
    let by = || Person(Text::new("api:alice"));
    order(&["rollback", "r17"]).await.unwrap();
    order(&["kill-switch", "on"]).await.unwrap();
    order(&["deployed", "checkout", "abcdef0"]).await.unwrap();
    assert_eq!(
        site.taken(),
        [
            Event::Commanded { rollout: RolloutId(17), command: Command::Rollback, by: by() },
            Event::KillSwitch { on: true, by: by() },
            Event::RevisionDeployed {
                service: tollgate::domain::ServiceName::new("checkout"),
                revision: "abcdef0".parse().unwrap(),
                by: by(),
            },
        ]
    );
    assert!(order(&["promote", "r15"]).await.unwrap_err().to_string().contains("r15 is done: rolled back"));
}

#[tokio::test]
async fn status_fails_for_an_unknown_rollout_only() {
    let site = site(Setup::default()).await;
    let run = |rollout| status::run(status::Args { rollout, json: false, connection: site.connection() });
    assert!(run(None).await.is_ok());
    assert!(run(Some(RolloutId(17))).await.is_ok());
    assert!(run(Some(RolloutId(99))).await.is_err());
}

/// `ExitCode` says what it holds in its `Debug` only.
fn same(one: ExitCode, other: ExitCode) -> bool {
    format!("{one:?}") == format!("{other:?}")
}

#[tokio::test]
async fn watching_one_rollout_ends_with_it_and_its_outcome_is_the_exit_code() {
    for (outcome, code) in [(Outcome::Promoted, ExitCode::SUCCESS), (Outcome::HandedOver, ExitCode::FAILURE)] {
        let site = site(Setup::default()).await;
        let args = watch::Args { rollout: Some(RolloutId(17)), connection: site.connection() };
        let watching = tokio::spawn(watch::run(args));
        // It has connected, and goes on watching while others change.
        while site.views.receiver_count() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        site.change(|view| view.rollouts[0].phase = "baking".into());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!watching.is_finished());
        site.change(|view| view.rollouts[1].outcome = Some(outcome));
        let ended = timeout(Duration::from_secs(5), watching).await.unwrap().unwrap().unwrap();
        assert!(same(ended, code), "{outcome}: {ended:?}");
    }
}

#[tokio::test]
async fn watching_a_rollout_that_is_over_or_unknown_waits_for_nothing() {
    let site = site(Setup::default()).await;
    let run = |id| {
        let args = watch::Args { rollout: Some(RolloutId(id)), connection: site.connection() };
        timeout(Duration::from_secs(5), watch::run(args))
    };
    assert!(same(run(14).await.unwrap().unwrap(), ExitCode::SUCCESS));
    assert!(same(run(15).await.unwrap().unwrap(), ExitCode::FAILURE));
    assert!(run(99).await.unwrap().unwrap_err().to_string().contains("r99"));
}

#[tokio::test]
async fn watching_outlives_a_lost_connection() {
    let bare = site(Setup::default()).await;
    let view = |outcome| {
        let mut view = fleet(NOON);
        view.rollouts[1].outcome = outcome;
        format!("event: view\ndata: {}\n\n", serde_json::to_string(&view).unwrap())
    };
    // Each connection breaks after one view, and the second is refused: the outcome comes with the third.
    let connections = Arc::new(AtomicU64::new(0));
    let (counted, streams) = (Arc::clone(&connections), [view(None), String::new(), view(Some(Outcome::Promoted))]);
    let events = axum::routing::get(move || async move {
        match counted.fetch_add(1, Ordering::Relaxed) {
            1 => Err((StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"busy","fix":"wait"}"#)),
            place => Ok(streams[usize::try_from(place).unwrap()].clone()),
        }
    });
    let one = axum::routing::get(|| async { axum::Json(baking(NOON)) });
    let router = axum::Router::new().route("/v1/events", events).route("/v1/rollouts/{id}", one);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let args = watch::Args { rollout: Some(RolloutId(17)), connection: Connection { url, ..bare.connection() } };
    let ended = timeout(Duration::from_secs(15), watch::run(args)).await.unwrap().unwrap();
    assert!(same(ended, ExitCode::SUCCESS));
    assert_eq!(connections.load(Ordering::Relaxed), 3);
}
