//! Who may ask, and from where.

use reqwest::{Method, StatusCode};
use tollgate::web;

use crate::site::{Setup, refused, site};

#[tokio::test]
async fn a_strangers_name_for_our_address_is_refused() {
    let site = site(Setup { allowed_hosts: vec!["gate.example".into()], ..Setup::default() }).await;
    let ask = |path: &str, host: &str| site.ask(Method::GET, path).header("host", host).send();
    for path in ["/", "/v1/rollouts", "/v1/events", "/page.js"] {
        refused(ask(path, "evil.example").await.unwrap(), StatusCode::MISDIRECTED_REQUEST, "evil.example").await;
        for own in ["localhost:7420", "127.0.0.1", "gate.example", "GATE.example:443", "[::1]:7420"] {
            assert_eq!(ask(path, own).await.unwrap().status(), StatusCode::OK, "{path} for {own}");
        }
    }
    // Probes and collectors ask by whatever name they have.
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(ask(path, "10.1.2.3:7420").await.unwrap().status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn merged_routes_are_for_machines_under_any_name() {
    let others = axum::Router::new().route("/hooks/x", axum::routing::post(|body: String| async move { body }));
    let site = site(Setup { others, ..Setup::default() }).await;
    let large = "x".repeat(web::BODY_BYTES_MAX + 1);
    let request = site.ask(Method::POST, "/hooks/x").header("host", "hooks.example").body(large.clone());
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.text().await.unwrap().len(), large.len(), "their limits are their own");
}

pub(crate) const ACTING: [(&str, &str); 6] = [
    ("/v1/rollouts/r17/pause", ""),
    ("/v1/rollouts/r17/promote", ""),
    ("/v1/rollouts/r17/rollback", ""),
    ("/v1/rollouts/r99/rollback", ""),
    ("/v1/kill-switch", r#"{"on":true}"#),
    ("/v1/services/checkout/deployed", r#"{"revision":"abcdef0"}"#),
];

#[tokio::test]
async fn nothing_is_done_without_the_token() {
    let site = site(Setup::default()).await;
    for (path, body) in ACTING {
        let ask = || site.ask(Method::POST, path).body(body);
        let response = ask().send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"tollgate\"");
        refused(response, StatusCode::UNAUTHORIZED, "bearer token is needed").await;
        let wrong = ask().bearer_auth("correct-hors").send().await.unwrap();
        refused(wrong, StatusCode::UNAUTHORIZED, "not the one configured").await;
    }
    assert_eq!(site.taken(), []);
}

#[tokio::test]
async fn without_a_configured_token_nothing_can_be_commanded() {
    for token in [None, Some("")] {
        let site = site(Setup { token, ..Setup::default() }).await;
        for (path, body) in ACTING {
            let response = site.post(path, body).send().await.unwrap();
            refused(response, StatusCode::FORBIDDEN, "no API token is configured").await;
            let empty = site.ask(Method::POST, path).header("authorization", "Bearer ").send().await.unwrap();
            assert_eq!(empty.status(), StatusCode::FORBIDDEN);
        }
        assert_eq!(site.taken(), []);
        assert_eq!(site.get("/v1/rollouts").await.status(), StatusCode::OK, "reading needs none");
    }
}

#[tokio::test]
async fn a_page_of_another_site_commands_nothing_even_with_the_token() {
    let site = site(Setup::default()).await;
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        let response = site.post("/v1/rollouts/r17/pause", "").header("origin", origin).send().await.unwrap();
        refused(response, StatusCode::FORBIDDEN, "another site").await;
    }
    assert_eq!(site.taken(), []);
    let own = format!("http://{}", site.address);
    let response = site.post("/v1/rollouts/r17/pause", "").header("origin", own).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
}
