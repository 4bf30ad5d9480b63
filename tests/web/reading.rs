//! What can be read, and the shape of what cannot.

use reqwest::{Method, StatusCode};
use tollgate::rollout::{FleetView, RolloutView};

use crate::{
    fleet::{NOON, baking, fleet},
    site::{Setup, refused, site},
};

#[tokio::test]
async fn the_view_and_each_rollout_can_be_read() {
    let site = site(Setup::default()).await;
    let all: FleetView = site.get("/v1/rollouts").await.json().await.unwrap();
    assert_eq!(all, fleet(NOON));
    for id in ["r17", "17"] {
        let one: RolloutView = site.get(&format!("/v1/rollouts/{id}")).await.json().await.unwrap();
        assert_eq!(one, baking(NOON));
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_as_json() {
    let site = site(Setup::default()).await;
    refused(site.get("/v1/rollouts/r99").await, StatusCode::NOT_FOUND, "r99").await;
    refused(site.get("/v1/rollouts/seventeen").await, StatusCode::NOT_FOUND, "seventeen").await;
    refused(site.get(&format!("/v1/rollouts/{}", "9".repeat(2000))).await, StatusCode::NOT_FOUND, "999").await;
    refused(site.get("/v1/rollouts/%ff").await, StatusCode::BAD_REQUEST, "").await;
    refused(site.get("/v2/everything").await, StatusCode::NOT_FOUND, "nothing at this path").await;
    refused(site.ask(Method::DELETE, "/v1/rollouts").send().await.unwrap(), StatusCode::METHOD_NOT_ALLOWED, "").await;
    refused(site.get("/v1/kill-switch").await, StatusCode::METHOD_NOT_ALLOWED, "method").await;
    refused(site.ask(Method::POST, "/").send().await.unwrap(), StatusCode::METHOD_NOT_ALLOWED, "method").await;
}

#[tokio::test]
async fn every_answer_bears_the_security_headers() {
    let others = axum::Router::new().route("/hooks/x", axum::routing::get(|| async { "" }));
    let site = site(Setup { others, ..Setup::default() }).await;
    for path in ["/", "/page.js", "/v1/rollouts", "/v1/events", "/nothing", "/healthz", "/metrics", "/hooks/x"] {
        let response = site.get(path).await;
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
    }
}

#[tokio::test]
async fn health_is_of_the_process_and_readiness_of_the_daemon() {
    let site = site(Setup::default()).await;
    assert_eq!(site.get("/readyz").await.status(), StatusCode::OK);
    site.ready.send_replace(false);
    let response = site.get("/readyz").await;
    assert_eq!(response.headers()["retry-after"], "5");
    refused(response, StatusCode::SERVICE_UNAVAILABLE, "not ready").await;
    assert_eq!(site.get("/healthz").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_page_names_no_other_host() {
    let site = site(Setup::default()).await;
    let mut seen = 0;
    for (path, kind) in [
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/charts.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let response = site.get(path).await;
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with(kind), "{path}");
        let text = response.text().await.unwrap();
        // The one address that stands in the files is the name of a namespace, which nothing fetches.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for sign in ["http://", "https://", "src=\"//", "@import", "url("] {
            assert!(!text.contains(sign), "{sign} in {path}");
        }
        seen += text.len();
    }
    assert!(seen > 10_000, "the files are there: {seen} bytes");
}
