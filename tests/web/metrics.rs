//! The numbers, and the format they are told in.

use std::{collections::BTreeMap, process::Command as Process};

use tollgate::{
    domain::{Outcome, RolloutId, Severity, Stamped},
    rollout::{Event, RolloutView},
};

use crate::{
    fleet::{NOON, fleet, promoted},
    site::{Setup, Site, site},
};

/// A sample of `/metrics`, by its name and labels.
pub(crate) async fn sample(site: &Site, series: &str) -> f64 {
    let text = site.get("/metrics").await.text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).unwrap_or_default();
    line.parse().unwrap_or_else(|_| panic!("{series} is not in\n{text}"))
}

fn woken(count: usize) -> Vec<Stamped<Event>> {
    vec![Stamped { at: NOON, event: Event::WokeUp }; count]
}

#[tokio::test]
async fn the_metrics_tell_what_happened_and_what_is_the_case() {
    let site = site(Setup::default()).await;
    site.metrics.viewed(&fleet(NOON));
    site.metrics.handled(5);
    site.metrics.committed(&woken(3), 0.004);
    site.metrics.committed(&woken(2), 0.3);
    site.metrics.noticed(Severity::Page);
    for (series, expected) in [
        ("tollgate_events_handled_total", 5.0),
        ("tollgate_commits_total", 2.0),
        ("tollgate_journal_entries_total", 5.0),
        ("tollgate_commit_seconds_count", 2.0),
        ("tollgate_commit_seconds_bucket{le=\"0.005\"}", 1.0),
        ("tollgate_notices_total{severity=\"page\"}", 1.0),
        ("tollgate_notices_total{severity=\"info\"}", 0.0),
        ("tollgate_stale_replies_total", 3.0),
        ("tollgate_rollouts{phase=\"baking\"}", 1.0),
        ("tollgate_rollouts{phase=\"done\"}", 2.0),
        ("tollgate_rollouts{phase=\"queued\"}", 0.0),
        ("tollgate_rollouts_open", 2.0),
        ("tollgate_rollouts_ended_total{outcome=\"promoted\"}", 0.0),
        ("tollgate_kill_switch", 0.0),
        ("tollgate_changes_fetching", 1.0),
        (concat!("tollgate_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert_eq!(sample(&site, series).await, expected, "{series}");
    }
}

#[tokio::test]
async fn a_rollout_that_ends_is_counted_once_even_if_it_was_never_seen_open() {
    let site = site(Setup::default()).await;
    sample(&site, "tollgate_rollouts_open").await;
    site.change(|view| {
        view.rollouts[1].outcome = Some(Outcome::RolledBack);
        view.rollouts[1].phase = "done".into();
        view.rollouts.insert(0, RolloutView { id: RolloutId(19), ..promoted(NOON) });
    });
    for _ in 0..2 {
        assert_eq!(sample(&site, "tollgate_rollouts_ended_total{outcome=\"rolled_back\"}").await, 1.0);
        assert_eq!(sample(&site, "tollgate_rollouts_ended_total{outcome=\"promoted\"}").await, 1.0);
        assert_eq!(sample(&site, "tollgate_rollouts_open").await, 1.0);
    }
}

/// The rules of the text format that collectors trip over.
fn check_text_format(text: &str) {
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helped = Vec::new();
    let mut series = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (family, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && !helped.contains(&family), "{line}");
            helped.push(family);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (family, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kind != "counter" || family.ends_with("_total"), "{line}");
            assert!(types.insert(family, kind).is_none() && helped.contains(&family), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?} is no sample"));
            value.parse::<f64>().unwrap_or_else(|_| panic!("{line:?} has no number"));
            let family = name.split('{').next().unwrap();
            let part = ["_bucket", "_sum", "_count"].iter().find_map(|end| family.strip_suffix(end));
            let is_part = part.is_some_and(|part| types.get(part) == Some(&"histogram"));
            assert!(is_part || types.contains_key(family), "{line:?} has no TYPE");
            assert!(!series.contains(&name), "{name} stands twice");
            series.push(name);
        }
    }
    assert!(text.ends_with('\n') && series.len() > 30, "{} series", series.len());
}

#[tokio::test]
async fn the_metrics_keep_the_text_format() {
    let site = site(Setup::default()).await;
    site.metrics.committed(&woken(1), 0.01);
    let response = site.get("/metrics").await;
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text().await.unwrap();
    check_text_format(&text);
    check_with_promtool(&text);
}

/// The collector's own checker, where it is installed.
fn check_with_promtool(text: &str) {
    use std::{io::Write, process::Stdio};
    let spawned =
        Process::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        return;
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
