//! The page in a real browser. These run where Chromium is installed: `cargo test --test web -- --ignored`.

use std::{env, path::PathBuf, process::Command};

use tollgate::domain::Timestamp;

use crate::{
    fleet::{HOSTILE, fleet},
    site::{Setup, Site, site},
};

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
         --disable-component-update --disable-sync --hide-scrollbars --timeout=4000"
            .split_whitespace(),
    );
    command.arg(format!("--user-data-dir={}", profile.path().display())).args(flags).arg(site.url(path));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_strangers_title_is_shown_as_text_and_does_nothing() {
    let site = site(Setup::default()).await;
    let page = chromium(&site, "/#r18", &["--dump-dom".into()]).await;
    let escaped = HOSTILE.replace('<', "&lt;").replace('>', "&gt;");
    assert!(page.contains(&escaped), "{page}");
    assert!(!page.contains("<img src=\"x\"") && !page.contains("owned</title>"), "{page}");
    assert!(page.contains("data-state=\"live\""), "the stream is connected\n{page}");
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn the_page_shows_what_a_decision_rests_on() {
    let site = site(Setup::default()).await;
    let page = chromium(&site, "/#r17", &["--dump-dom".into()]).await;
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

/// Writes pictures of the page into the folder that TOLLGATE_PICTURES names, for people to look at.
#[tokio::test]
#[ignore = "needs Chromium, and a person"]
async fn pictures_of_the_page() {
    let folder = PathBuf::from(env::var("TOLLGATE_PICTURES").unwrap());
    let site = site(Setup::default()).await;
    let now = now(&site).await;
    site.change(|view| *view = fleet(now));
    for (name, path, size, dark) in [
        ("baking", "/#r17", "1280,1500", false),
        ("rolled-back", "/#r15", "1280,1400", false),
        ("rolled-back-dark", "/#r15", "1280,1400", true),
        ("promoted-dark", "/#r14", "1280,1000", true),
        ("narrow", "/#r17", "500,2900", false),
        ("narrow-dark", "/#r15", "500,2900", true),
        ("hostile", "/#r18", "1280,800", false),
    ] {
        let picture = folder.join(format!("{name}.png"));
        let mut flags = vec![format!("--screenshot={}", picture.display()), format!("--window-size={size}")];
        if dark {
            flags.push("--blink-settings=preferredColorScheme=0".into());
        }
        chromium(&site, path, &flags).await;
        assert!(picture.exists(), "{name}");
    }
}
