//! The page in a real browser. Without Chromium these are skipped and say so, unless real components are required.

use std::{env, process::Command, sync::Arc, time::Duration};

use axum::{Router, http::header, routing::get};
use tokio::{sync::watch, time::sleep};

use crate::{
    fleet::{HOSTILE, NOON, fleet},
    site::{Setup, Site, site},
};

/// How long the page is watched before its DOM or its picture is taken.
const LOOK_AFTER: Duration = Duration::from_secs(2);

/// A site that also serves the page with an image that takes its time: a browser that dumps or draws a page does so
/// once all of it is loaded, and by then the stream has been heard.
async fn slow_site() -> Site {
    let page = include_str!("../../src/web/page/index.html").replace("</body>", "<img hidden src=\"/slow\"></body>");
    let others = Router::new()
        .route("/look", get(move || async { ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page) }))
        .route("/slow", get(|| async { sleep(LOOK_AFTER).await }));
    site(Setup { others, ..Setup::default() }).await
}

/// Whether Chromium is installed; where real components are required, its absence is a failure.
fn browser_is_there() -> bool {
    let is_there = Command::new("chromium").arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        assert!(env::var_os("TOLLGATE_REQUIRE_REAL").is_none(), "Chromium is required and not installed");
        println!("SKIPPED: the page in a real browser (Debian package chromium)");
    }
    is_there
}

/// Runs Chromium on a page of the site and returns what it prints.
async fn chromium(site: &Site, path: &str, flags: &[String]) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new("timeout");
    command.args(["60", "chromium"]).args(
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
         --disable-component-update --disable-sync --hide-scrollbars --timeout=20000"
            .split_whitespace(),
    );
    command.arg(format!("--user-data-dir={}", profile.path().display())).args(flags).arg(site.url(path));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_strangers_title_is_shown_as_text_and_does_nothing() {
    if !browser_is_there() {
        return;
    }
    let site = slow_site().await;
    let page = chromium(&site, "/look#r18", &["--dump-dom".into()]).await;
    let escaped = HOSTILE.replace('<', "&lt;").replace('>', "&gt;");
    assert!(page.contains(&escaped), "{page}");
    assert!(!page.contains("<img src=\"x\"") && !page.contains("owned</title>"), "{page}");
    assert!(page.contains("In a model's words"), "{page}");
    assert_eq!(page.matches("<script>").count(), 0, "a model's words and a server's are text, too\n{page}");
    assert!(page.contains("data-state=\"live\""), "the stream is connected\n{page}");
}

#[tokio::test]
async fn the_page_shows_what_a_decision_rests_on() {
    if !browser_is_there() {
        return;
    }
    let site = slow_site().await;
    let page = chromium(&site, "/look#r17", &["--dump-dom".into()]).await;
    for expected in [
        "One-way change.",
        "review of stage 3 of 5",
        "bake_time",
        "reversibility",
        "stale-prices",
        "no data; canary: unavailable",
        "src/price/cache.rs:41",
        "<code title=\"abcdef0123456789\">abcdef0</code>",
        "by gpt-5-mini; the model used 9,120 tokens (6,000 cached), $0.012",
        "<dd>medium</dd>",
        "Held by a model's advice",
        "tried: admitted",
        "96 rollouts of nothing",
        "25% sees 1.8×",
        "intended effect",
        "not seen",
        "cold-starts",
        "web/static/vendor.js",
    ] {
        assert!(page.contains(expected), "{expected:?} is not in\n{page}");
    }
}

#[tokio::test]
async fn a_lost_connection_can_be_seen() {
    if !browser_is_there() {
        return;
    }
    let mut site = slow_site().await;
    // Without a sender the stream ends after its first view, again and again.
    drop(std::mem::replace(&mut site.views, watch::channel(Arc::new(fleet(NOON))).0));
    let page = chromium(&site, "/look", &["--dump-dom".into()]).await;
    assert!(page.contains("data-state=\"lost\"") && page.contains("Connection lost."), "{page}");
    assert!(page.contains("Cache prices for a minute"), "what was known stays\n{page}");
}
