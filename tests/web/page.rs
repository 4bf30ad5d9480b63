//! The page in a real browser. These run where Chromium is installed: `cargo test --test web -- --ignored`.

use std::{env, path::PathBuf, process::Command, sync::Arc, time::Duration};

use axum::{Router, http::header, routing::get};
use tokio::{sync::watch, time::sleep};
use tollgate::domain::Timestamp;

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

/// Now, by the server's clock: the countdowns are to be seen counting.
async fn now(site: &Site) -> Timestamp {
    let response = site.get("/healthz").await;
    let date = response.headers()["date"].to_str().unwrap().to_owned();
    let seconds = jiff::fmt::rfc2822::parse(&date).unwrap().timestamp().as_second();
    Timestamp::from_millis(u64::try_from(seconds).unwrap() * 1000)
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
#[ignore = "needs Chromium"]
async fn a_strangers_title_is_shown_as_text_and_does_nothing() {
    let site = slow_site().await;
    let page = chromium(&site, "/look#r18", &["--dump-dom".into()]).await;
    let escaped = HOSTILE.replace('<', "&lt;").replace('>', "&gt;");
    assert!(page.contains(&escaped), "{page}");
    assert!(!page.contains("<img src=\"x\"") && !page.contains("owned</title>"), "{page}");
    assert!(page.contains("data-state=\"live\""), "the stream is connected\n{page}");
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn the_page_shows_what_a_decision_rests_on() {
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
    ] {
        assert!(page.contains(expected), "{expected:?} is not in\n{page}");
    }
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_lost_connection_can_be_seen() {
    let mut site = slow_site().await;
    // Without a sender the stream ends after its first view, again and again.
    drop(std::mem::replace(&mut site.views, watch::channel(Arc::new(fleet(NOON))).0));
    let page = chromium(&site, "/look", &["--dump-dom".into()]).await;
    assert!(page.contains("data-state=\"lost\"") && page.contains("Connection lost."), "{page}");
    assert!(page.contains("Cache prices for a minute"), "what was known stays\n{page}");
}

/// Views that follow one another, so that the evidence has a course to be drawn.
async fn evidence_grows(site: &Site) {
    let whole = site.views.borrow().clone();
    for step in 1..=60_u16 {
        sleep(Duration::from_millis(50)).await;
        site.change(|view| {
            view.at = whole.at + Duration::from_millis(50) * u32::from(step);
            for (rollout, whole) in view.rollouts.iter_mut().zip(&whole.rollouts) {
                for (check, whole) in rollout.checks.iter_mut().zip(&whole.checks) {
                    let wave = f64::from(step % 9) / 9.0 - 0.5;
                    check.evidence.log_e_value = whole.evidence.log_e_value * (f64::from(step) / 60.0).sqrt() + wave;
                }
            }
        });
    }
    site.views.send_replace(whole);
}

/// Writes pictures of the page into the folder that TOLLGATE_PICTURES names, for people to look at.
#[tokio::test]
#[ignore = "needs Chromium, and a person"]
async fn pictures_of_the_page() {
    let folder = PathBuf::from(env::var("TOLLGATE_PICTURES").unwrap());
    let site = slow_site().await;
    let now = now(&site).await;
    site.change(|view| *view = fleet(now));
    for (name, path, size, dark) in [
        ("baking", "/look#r17", "1280,1500", false),
        ("rolled-back", "/look#r15", "1280,1400", false),
        ("rolled-back-dark", "/look#r15", "1280,1400", true),
        ("promoted-dark", "/look#r14", "1280,1000", true),
        ("narrow", "/look#r17", "400,2900", false),
        ("narrow-dark", "/look#r15", "400,2900", true),
        ("hostile", "/look#r18", "1280,800", false),
    ] {
        let picture = folder.join(format!("{name}.png"));
        let mut flags = vec![format!("--screenshot={}", picture.display()), format!("--window-size={size}")];
        if dark {
            flags.push("--blink-settings=preferredColorScheme=0".into());
        }
        tokio::join!(chromium(&site, path, &flags), evidence_grows(&site));
        assert!(picture.exists(), "{name}");
    }
}
